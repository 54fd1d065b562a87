"""Generated recordings: a small simulated desktop game, for the embedded sample, tests and benchmarks.

    SimulationParams + seed -> simulate.py (columns of input) -> recording.py (.mcap), video.py (.mkv that shows what the input does)

Everything is a function of the params and the seed.
"""
