"""Tasks on a Dask cluster: what is different there from local processes.

Workers run on other machines, at times of other ages. A task that a dying worker took with it is run again elsewhere by Dask; since a shard is
published whole or not at all and equal keys have equal bytes, that changes nothing. What is checked here is that a worker has the same
code as the process that planned the build: it would else publish other bytes under the same key.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from owa_data.errors import OwaDataError, ParamsError
from owa_data.params import RuntimeParams
from owa_data.store.code_digest import SOURCES, source_digest

Task = TypeVar("Task")
Result = TypeVar("Result")

_CONNECT_TIMEOUT_S = 30


class OtherCodeError(OwaDataError):
    """A worker runs another version of this package."""


def code_digests() -> dict[str, str]:
    """Return the digest of the source files that shape each kind of dataset, in this process."""
    return {kind: source_digest(kind) for kind in SOURCES}


@dataclass(frozen=True)
class OnWorker(Generic[Task, Result]):
    """A function that first checks that the worker's code is the planner's; picklable."""

    function: Callable[[Task], Result]
    digests: dict[str, str]

    def __call__(self, task: Task) -> Result:
        """Run the function.

        Raises:
            OtherCodeError: The worker has other code.
        """
        if code_digests() != self.digests:
            raise OtherCodeError(
                f"the Dask worker on {socket.gethostname()} runs another version of owa-data. Install the same one there, or start the "
                "workers from the same environment on a shared disk, and restart them."
            )
        return self.function(task)


@contextmanager
def open_dask(runtime: RuntimeParams, num_workers: int) -> Iterator[Executor]:
    """Open the scheduler at `runtime.dask_scheduler`, or start a cluster of local processes where that is empty; closed with the block.

    Raises:
        ParamsError: Dask is not installed, or no scheduler answers at the address.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ParamsError("runtime.executor", "dask is not installed: pip install 'owa-data[dask]'") from error
    if not runtime.dask_scheduler:
        cluster = LocalCluster(n_workers=num_workers, threads_per_worker=1, dashboard_address=None)
        with cluster, Client(cluster) as client:
            yield client.get_executor(pure=False)
        return
    try:
        client = Client(runtime.dask_scheduler, timeout=_CONNECT_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise ParamsError("runtime.dask_scheduler", f"no scheduler at {runtime.dask_scheduler!r}: {error}") from error
    with client:
        yield client.get_executor(pure=False)


def lost_worker_errors(runtime: RuntimeParams) -> tuple[type[BaseException], ...]:
    """Return the exceptions by which Dask says that workers died over and over on one task, or that the cluster is gone."""
    if runtime.executor != "dask":
        return ()
    from concurrent.futures import CancelledError

    from distributed.scheduler import KilledWorker

    return (KilledWorker, CancelledError)
