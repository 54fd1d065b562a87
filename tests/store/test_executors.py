"""Where tasks run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from owa_data.params import RuntimeParams
from owa_data.store.executors import WORTH_WORKERS_BYTES, run_tasks


def _process_of(task: int) -> tuple[int, int]:
    return task, os.getpid()


@pytest.mark.parametrize(
    ("num_workers", "num_bytes", "here"),
    [(0, WORTH_WORKERS_BYTES - 1, True), (2, WORTH_WORKERS_BYTES - 1, False), (2, float("inf"), False), (1, float("inf"), True)],
)
def test_little_work_is_done_here_unless_the_number_of_workers_is_set(num_workers: int, num_bytes: float, here: bool) -> None:
    runtime = RuntimeParams(num_workers=num_workers, progress=False)
    results = dict(run_tasks(_process_of, [10, 20, 30], runtime, num_bytes=num_bytes))
    assert sorted(results) == [0, 1, 2]
    assert [results[index][0] for index in range(3)] == [10, 20, 30]
    assert {process == os.getpid() for _, process in results.values()} == {here}


@pytest.mark.parametrize(
    ("num_workers", "num_bytes", "starts"), [(0, WORTH_WORKERS_BYTES - 1, False), (2, 0.0, True), (1, 0.0, False)]
)
def test_expected_tasks_start_what_workers_come_from_where_they_need_any(
    num_workers: int, num_bytes: float, starts: bool
) -> None:
    script = (
        "from multiprocessing import forkserver\n"
        "from owa_data.params import RuntimeParams\n"
        "from owa_data.store.executors import expect_tasks\n"
        f"expect_tasks(3, RuntimeParams(num_workers={num_workers}), num_bytes={num_bytes})\n"
        "print(forkserver._forkserver._forkserver_pid is not None)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str(starts)
