"""Benchmarks: how fast each stage is, against a baseline and against what the machine can do. `python -m benchmarks.run`."""
