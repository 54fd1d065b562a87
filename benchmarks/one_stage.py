"""Time one stage in a process of its own: `python -m benchmarks.one_stage`, a pickled build on stdin, the build and its row on stdout.

Worker processes import this module anew, as they do a stage's; hence nothing is imported above.
"""

if __name__ == "__main__":
    import pickle
    import sys

    from stages.start import start_lean

    start_lean()  # as a stage does, before Arrow is imported
    from benchmarks.stages import run_stage

    build, stage = pickle.load(sys.stdin.buffer)
    pickle.dump(run_stage(build, stage), sys.stdout.buffer)
