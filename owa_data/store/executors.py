"""Where tasks run: in this process, in local processes, or on a Dask cluster. The results never depend on it."""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from typing import TypeVar

import pyarrow as pa

from owa_data.errors import EpisodeError, OwaDataError
from owa_data.params import RuntimeParams
from owa_data.store.dask_cluster import OnWorker, code_digests, lost_worker_errors, open_dask
from owa_data.store.lean_arrow import spare_pandas
from owa_data.store.lifetime import end_with_parent, is_watch

Task = TypeVar("Task")
Result = TypeVar("Result")

MAX_FAILURES = 10
WORTH_WORKERS_BYTES = 50_000_000
"""Every stage reads about 100 MB/s per process, and starting workers can take half a second."""
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # of malloc.h


class EpisodesFailedError(OwaDataError):
    """Some tasks failed; the others are done and their results kept. `errors` holds each failure."""

    def __init__(self, errors: Sequence[Exception], num_not_run: int) -> None:
        lines = "\n".join(_grouped(errors))
        rest = f"\n  {num_not_run} more were not tried" if num_not_run else ""
        super().__init__(f"{len(errors)} of the episodes failed:\n{lines}{rest}\nWhat was finished is kept: run again to go on.")
        self.errors = list(errors)
        self.num_not_run = num_not_run


def _grouped(errors: Sequence[Exception]) -> Iterator[str]:
    """A line for each error; one line for all that say the same of different files."""
    alike: dict[tuple[type, str], list[Exception]] = {}
    for error in errors:
        alike.setdefault((type(error), getattr(error, "problem", str(error))), []).append(error)
    for (kind, _), group in alike.items():
        such_as = f", such as {group[-1].path}" if isinstance(group[-1], EpisodeError) else ""
        more = f"\n    (and {len(group) - 1} more say the same{such_as})" if len(group) > 1 else ""
        yield f"  {kind.__name__}: {group[0]}{more}"


class WorkerDiedError(OwaDataError):
    """A worker process ended without a word, most often killed for lack of memory."""


def num_local_workers(runtime: RuntimeParams) -> int:
    """Return the number of local processes meant by `runtime.num_workers`: 0 is one per CPU this process may use."""
    if runtime.num_workers:
        return runtime.num_workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has none


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    runtime: RuntimeParams,
    *,
    preload: Sequence[str] = (),
    num_bytes: float = math.inf,
) -> Generator[tuple[int, Result]]:
    """Run a function over tasks, the first ones first, and yield (index, result) as they finish.

    Close the generator (`contextlib.closing`) where it may not be read to its end: workers that still run are then killed.

    Args:
        function: Picklable, without state.
        tasks: In the order in which they are begun; put the largest first.
        runtime: Which executor, how many workers.
        preload: Modules that local workers need; imported once for all of them where they are no copies of this process.
        num_bytes: What all tasks read. So little that it takes less time than to start workers is done in this process, unless their number is set.

    Raises:
        EpisodesFailedError: Tasks raised `OwaDataError` or `OSError`. The others ran all the same, up to `MAX_FAILURES` failures.
        WorkerDiedError: A worker died.
    """
    if _need_no_workers(len(tasks), runtime, num_bytes):
        yield from _run_here(function, tasks)
        return
    if runtime.executor == "dask":
        function = OnWorker(function, code_digests())
    worker_died: tuple[type[BaseException], ...] = (BrokenProcessPool, *lost_worker_errors(runtime))
    with _open_executor(runtime, len(tasks), preload) as executor:
        with _interrupt_afterwards():
            futures = {executor.submit(function, task): index for index, task in enumerate(tasks)}
        failures: list[Exception] = []
        try:
            for future in as_completed(futures):
                try:
                    result = future.result()
                except (OwaDataError, OSError) as error:
                    failures.append(error)
                    if len(failures) >= MAX_FAILURES:
                        break
                    continue
                yield futures[future], result
        except worker_died as error:
            raise WorkerDiedError(
                "a worker process died, most often for lack of memory. Finished episodes are kept: run again, "
                "with fewer workers (runtime.num_workers) if memory is short. A script of your own that builds must do so below "
                "`if __name__ == '__main__':`, since workers import it."
            ) from error
    if failures:
        raise EpisodesFailedError(failures, sum(future.cancelled() or not future.done() for future in futures))


def _need_no_workers(num_tasks: int, runtime: RuntimeParams, num_bytes: float) -> bool:
    is_small = not runtime.num_workers and num_bytes < WORTH_WORKERS_BYTES
    return runtime.executor == "local" and (is_small or min(num_tasks, num_local_workers(runtime)) <= 1)


def _run_here(function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
    failures: list[Exception] = []
    for index, task in enumerate(tasks):
        try:
            result = function(task)
        except (OwaDataError, OSError) as error:
            failures.append(error)
            if len(failures) >= MAX_FAILURES:
                raise EpisodesFailedError(failures, len(tasks) - index - 1) from error
            continue
        yield index, result
    if failures:
        raise EpisodesFailedError(failures, 0)


@contextmanager
def _open_executor(runtime: RuntimeParams, num_tasks: int, preload: Sequence[str]) -> Iterator[Executor]:
    if runtime.executor == "dask":
        with open_dask(runtime, num_local_workers(runtime)) as executor:
            try:
                yield executor
            finally:
                executor.shutdown(wait=False)  # cancels what is not done
        return
    num_workers = min(num_local_workers(runtime), num_tasks)
    executor = ProcessPoolExecutor(num_workers, mp_context=_context_of_workers(preload), initializer=_begin_worker)
    try:
        yield executor
    except BaseException:  # Ctrl-C among others: what still runs is not wanted, and waiting for it could take minutes
        for process in list((executor._processes or {}).values()):
            process.kill()
        raise
    finally:
        # The pool's own thread cancels: a future cancelled from here as a worker ends would end that thread with a traceback.
        executor.shutdown(cancel_futures=True)


def _context_of_workers(preload: Sequence[str]) -> BaseContext:
    """Have workers be copies of this process where that is safe, which takes no time; else of a clean one that has imported what they need, 0.5 s.

    It is safe where no other thread could hold a lock that a copy would wait for: on Linux, with no other thread of Python than the one that
    watches who started this process. The threads of NumPy, Arrow and tokenizers are idle, and these libraries see to it that a copy does not wait for them.
    """
    if sys.platform == "linux" and all(
        thread is threading.current_thread() or is_watch(thread) for thread in threading.enumerate()
    ):
        return multiprocessing.get_context("fork")
    _start_server(preload)
    return multiprocessing.get_context("forkserver")


def _start_server(preload: Sequence[str]) -> None:
    forkserver.set_forkserver_preload(list(preload))
    # Ctrl-C reaches the whole process group; this process alone decides what it means. That a signal is ignored is inherited, so workers
    # ignore it from their first instruction on. A server that runs already was started here too.
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread may set signals; `_begin_worker` does it a moment later
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def _interrupt_afterwards() -> Iterator[None]:
    """Put Ctrl-C off while workers are started: one that is not known yet could not be ended, and would end with a traceback."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if came:
        signal.raise_signal(signal.SIGINT)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    keep_freed_memory()
    spare_pandas()
    # One process per CPU: more threads would wait for each other.
    pa.set_cpu_count(1)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def keep_freed_memory() -> None:
    """Keep large blocks that are freed for the next episode, where the C library is glibc.

    As a rule it gives blocks over 32 MB back at once, and the system hands them out again page by page: a tenth of an episode's time.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
        libc.mallopt(_M_TOP_PAD, 1 << 26)
