"""Break thousands of recordings and check each: `python -m tests.fuzz --files 5000 --seed 1`.

Prints what was tried and what happened, and the process's peak memory against its limit. Ends with status 1 at the first fault, which it
describes; the same seed finds it again.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import Counter

import numpy as np

from tests.damage import CHUNK, break_file, plain_records
from tests.fuzz.check import check_broken
from tests.fuzz.corpus import build_corpus


def run(num_files: int, seed: int) -> str:
    """Check `num_files` broken files; returns the report."""
    corpus = build_corpus()
    names = sorted(corpus)
    largest = max(len(body) for content in corpus.values() for _, opcode, body in plain_records(content) if opcode == CHUNK)
    unfolded = max(
        int.from_bytes(body[16:24], "little")
        for content in corpus.values()
        for _, opcode, body in plain_records(content)
        if opcode == CHUNK
    )
    outcomes: Counter[tuple[str, str]] = Counter()
    slowest = 0.0
    before = _peak_bytes()
    start = time.monotonic()
    for index in range(num_files):
        rng = np.random.default_rng([seed, index])
        name = names[index % len(names)]
        broken = break_file(corpus[name], rng)
        try:
            outcome = check_broken(corpus[name], broken)
        except Exception as error:
            error.add_note(f"file {index} of seed {seed}: {name}, {broken.how} at byte {broken.first_byte}")
            raise
        outcomes[broken.how, outcome.condition] += 1
        slowest = max(slowest, outcome.seconds)
    grown = _peak_bytes() - before
    limit = 4 * max(largest, unfolded) + 200_000_000
    assert grown <= limit, f"peak memory grew by {grown} bytes, limit {limit}"
    lines = [f"{num_files} broken files from {len(names)} sound ones, seed {seed}, {time.monotonic() - start:.0f} s"]
    conditions = sorted({condition for _, condition in outcomes})
    lines.append(f"{'how':<40}" + "".join(f"{condition:>10}" for condition in conditions))
    lines += [
        f"{how:<40}" + "".join(f"{outcomes[how, condition]:>10}" for condition in conditions)
        for how in sorted({how for how, _ in outcomes})
    ]
    lines.append(
        f"slowest step {slowest:.2f} s of processor time; peak memory grew by {grown / 1e6:.0f} MB, limit {limit / 1e6:.0f} MB"
    )
    return "\n".join(lines)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=5000, help="how many files to break")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.stdout.write(run(options.files, options.seed) + "\n")


if __name__ == "__main__":
    main()
