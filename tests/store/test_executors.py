"""Where tasks run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest

from owa_data.errors import EpisodeError
from owa_data.params import RuntimeParams
from owa_data.store import executors
from owa_data.store.executors import MAX_FAILURES, WORTH_WORKERS_BYTES, EpisodesFailedError, run_tasks


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


_SCRIPT = """
import multiprocessing, threading
from owa_data.params import RuntimeParams
from owa_data.store.executors import run_tasks

def kind_of_process(task):
    return type(multiprocessing.current_process()).__name__

if __name__ == "__main__":
    ended = threading.Event()
    for name in NAMES:
        threading.Thread(target=ended.wait, name=name).start()
    print({kind for _, kind in run_tasks(kind_of_process, [0, 1], RuntimeParams(num_workers=2, progress=False))})
    ended.set()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are never copied")
@pytest.mark.parametrize(
    ("names", "kind"), [([], "ForkProcess"), (["lifetime"], "ForkProcess"), (["another"], "ForkServerProcess")]
)
def test_workers_are_copies_of_a_process_that_is_safe_to_copy(names: list[str], kind: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT.replace("NAMES", repr(names)))
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert (result.stdout.strip(), result.stderr) == (str({kind}), "")


def _fails(task: int) -> int:
    if task >= 2:
        raise EpisodeError(f"{task}.mcap", "is broken")
    return task


def _fails_and_is_noted(task: Path) -> None:
    task.touch()
    raise EpisodeError(task, "is broken")


@pytest.mark.parametrize("num_workers", [1, 2])
def test_after_many_failures_the_rest_is_not_tried(num_workers: int, tmp_path: Path) -> None:
    runtime = RuntimeParams(num_workers=num_workers, progress=False)
    with pytest.raises(EpisodesFailedError) as failed:
        list(run_tasks(_fails_and_is_noted, [tmp_path / str(number) for number in range(400)], runtime))
    num_tried = len(list(tmp_path.iterdir()))
    assert len(failed.value.errors) == MAX_FAILURES
    assert MAX_FAILURES <= num_tried < 400
    assert failed.value.num_not_run == 400 - num_tried
    assert f"{failed.value.num_not_run} more were not tried" in str(failed.value)


@pytest.mark.parametrize(("answer", "interrupts"), [(signal.default_int_handler, True), (signal.SIG_IGN, False)])
def test_ctrl_c_while_workers_start_comes_afterwards(answer: Any, interrupts: bool) -> None:
    before = signal.signal(signal.SIGINT, answer)
    started = False
    try:
        with pytest.raises(KeyboardInterrupt) if interrupts else nullcontext():
            with executors._interrupt_afterwards():
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)
                started = True
            assert not interrupts
    finally:
        signal.signal(signal.SIGINT, before)
    assert started


def test_few_failures_leave_the_rest_to_run() -> None:
    runtime = RuntimeParams(num_workers=1, progress=False)
    with pytest.raises(EpisodesFailedError) as failed:
        list(run_tasks(_fails, range(5), runtime))
    assert (len(failed.value.errors), failed.value.num_not_run) == (3, 0)


@pytest.fixture
def ended_threads(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """What ended a thread by an exception while the test ran; each would be a traceback on the terminal."""
    errors: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: errors.append(args.exc_value))
    return errors


def _takes_a_moment(task: int) -> int:
    time.sleep(0.02)
    return task


class _LateShutdown(ProcessPoolExecutor):
    """Its thread sees that the workers were killed before it hears that it is to end: otherwise a matter of chance."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        time.sleep(0.2)
        super().shutdown(wait, cancel_futures=cancel_futures)


def test_tasks_left_in_the_middle_end_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, ended_threads: list[BaseException | None]
) -> None:
    monkeypatch.setattr(executors, "ProcessPoolExecutor", _LateShutdown)
    runtime = RuntimeParams(num_workers=2, progress=False)
    with closing(run_tasks(_takes_a_moment, range(100), runtime)) as results:
        next(results)
    assert ended_threads == []
