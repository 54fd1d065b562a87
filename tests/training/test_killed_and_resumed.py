"""Training processes killed from outside at any moment and started again: gloo on the loopback, several loader workers and ranks."""

import json
import os
import subprocess
import sys
import time
from itertools import pairwise

import pytest

pytest.importorskip("torch")

from owa_data.training.sampler import RankShare, SampleOrder
from tests.conftest import ROOT
from tests.training.resume_process import GLOBAL_BATCH_SIZE, LENGTHS, NUM_EPOCHS, WEIGHTS

LIMIT_S = 120


def start(folder, run, world_size, num_workers):
    environment = {**os.environ, "RUN": run, "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.training.resume_process", str(folder)]
    return [
        subprocess.Popen([*command, str(rank), str(world_size), str(num_workers)], cwd=ROOT, env=environment)
        for rank in range(world_size)
    ]


def steps_done(folder):
    path = folder / "checkpoint.json"
    return len(json.loads(path.read_text())["seen"]) if path.exists() else 0


def expected():
    order = SampleOrder(LENGTHS, WEIGHTS, seed=9)
    # Samples of the second dataset are the numbers from 100 on.
    epochs = [order.epoch_indices(epoch) for epoch in range(NUM_EPOCHS)]
    numbers = [[n if n < LENGTHS[0] else 100 + n - LENGTHS[0] for n in epoch.tolist()] for epoch in epochs]
    starts = range(0, order.num_samples // GLOBAL_BATCH_SIZE * GLOBAL_BATCH_SIZE + 1, GLOBAL_BATCH_SIZE)
    return [epoch[first:stop] for epoch in numbers for first, stop in pairwise(starts)]


def test_expectation_is_that_of_the_sampler():
    order = SampleOrder(LENGTHS, WEIGHTS, seed=9)
    assert len(expected()) == NUM_EPOCHS * RankShare(GLOBAL_BATCH_SIZE).num_batches(order.num_samples)


def kill_after(folder, num_steps, world_size, num_workers):
    """Start all ranks and kill them when so many steps are done."""
    processes = start(folder, "first", world_size, num_workers)
    deadline = time.monotonic() + LIMIT_S
    try:
        while steps_done(folder) < num_steps:
            assert time.monotonic() < deadline, "no progress"
            assert all(process.poll() is None for process in processes), "ended before it was killed"
            time.sleep(0.005)
    finally:
        kill(processes)


def run_to_end(folder, world_size, num_workers):
    """Start all ranks anew; returns the batches of the whole training, as the last checkpoint has them."""
    processes = start(folder, "second", world_size, num_workers)
    try:
        assert [process.wait(timeout=LIMIT_S) for process in processes] == [0] * world_size
    finally:
        kill(processes)
    return json.loads((folder / "checkpoint.json").read_text())["seen"]


def kill(processes):
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 1, 3])
@pytest.mark.parametrize("world_size", [1, 2])
def test_killed_and_resumed(tmp_path, world_size, num_workers):
    kill_after(tmp_path, 4 + num_workers, world_size, num_workers)
    assert steps_done(tmp_path) < len(expected())
    assert run_to_end(tmp_path, world_size, num_workers) == expected()


@pytest.mark.slow
def test_resumed_on_another_number_of_ranks_and_workers(tmp_path):
    kill_after(tmp_path, 5, 2, 1)
    assert run_to_end(tmp_path, 1, 3) == expected()
