"""A Dask cluster of real processes on this machine: same bytes, also where a worker is killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from owa_data.errors import ParamsError
from owa_data.params import RuntimeParams
from owa_data.store import dask_cluster
from owa_data.store.dask_cluster import OnWorker, OtherCodeError, code_digests
from owa_data.store.shard_cache import ShardCache, ShardRecord
from tests.conftest import ROOT, tree_bytes
from tests.store.test_incremental import ONE_WORKER, build

NUM_EPISODES = 120
DEADLINE_S = 120


def test_a_worker_with_other_code_converts_nothing() -> None:
    assert OnWorker(len, code_digests())([1, 2]) == 2
    with pytest.raises(OtherCodeError, match="another version of owa-data"):
        OnWorker(len, {**code_digests(), "event": "0" * 64})([1, 2])


def test_an_address_without_scheduler_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "_CONNECT_TIMEOUT_S", 1)
    runtime = RuntimeParams(executor="dask", dask_scheduler="tcp://127.0.0.1:9")
    with pytest.raises(ParamsError, match=r"runtime\.dask_scheduler"), dask_cluster.open_dask(runtime, 1):
        pass


def test_a_shard_that_is_not_on_a_shared_path_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from owa_data.store import incremental

    monkeypatch.setattr(incremental, "_VISIBLE_AFTER_S", 0)
    with pytest.raises(ParamsError, match="OWA_DATA_SHARD_CACHE"):
        incremental._check_shared(ShardCache(tmp_path), ShardRecord("0" * 64, "", 1, 1, {}))


@contextmanager
def dask_process(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A `dask` command, ended with the block."""
    # A folder of its own shows that nothing depends on where workers run.
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__WORKER__DAEMON": "false"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments], cwd=folder, env=environment, stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_for(condition: object, what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers, as the command line starts them; its address and the workers."""
    file = tmp_path / "scheduler.json"
    loopback = ("--host", "127.0.0.1")
    worker = ("worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny", "--no-dashboard", *loopback)
    scheduler = ("scheduler", "--scheduler-file", str(file), "--port", "0", "--no-dashboard", *loopback)
    with dask_process(tmp_path / "scheduler", *scheduler):
        wait_for(file.exists, "the scheduler")
        with dask_process(tmp_path / "first", *worker) as first, dask_process(tmp_path / "second", *worker) as second:
            import json

            from distributed import Client

            address = json.loads(file.read_text())["address"]
            with Client(address) as client:
                client.wait_for_workers(2, timeout=DEADLINE_S)
            yield address, [first, second]


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(
    toy_recordings: Path, tmp_path: Path, cluster: tuple[str, list[subprocess.Popen[bytes]]]
) -> None:
    address, (first, second) = cluster
    recordings = tmp_path / "recordings"
    for index in range(NUM_EPISODES):
        path = recordings / f"{'ab'[index % 2]}/{index:03d}.mcap"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(toy_recordings / ("a/one.mcap", "a/two.mcap", "b/three.mcap")[index % 3], path)
    assert build(recordings, tmp_path / "local", tmp_path / "local_cache", ONE_WORKER) == (NUM_EPISODES, 0)

    cache = tmp_path / "cache"
    published_at_kill = []

    def kill_mid_run() -> None:
        def num_shards() -> int:
            return sum(1 for path in cache.glob("??/*") if len(path.name) == 64 and path.stat().st_size)

        wait_for(lambda: num_shards() >= 8, "the first shards")
        first.kill()
        first.wait()
        published_at_kill.append(num_shards())

    killer = threading.Thread(target=kill_mid_run)
    killer.start()
    runtime = RuntimeParams(executor="dask", dask_scheduler=address, progress=False)
    assert build(recordings, tmp_path / "dask", cache, runtime) == (NUM_EPISODES, 0)
    killer.join()
    assert published_at_kill[0] < NUM_EPISODES, "the build was over before the worker was killed"
    assert first.returncode is not None
    assert second.poll() is None
    assert tree_bytes(tmp_path / "dask") == tree_bytes(tmp_path / "local")


@pytest.mark.slow
def test_a_cluster_of_local_processes_gives_the_same_bytes(toy_recordings: Path, tmp_path: Path) -> None:
    build(toy_recordings, tmp_path / "local", tmp_path / "local_cache", ONE_WORKER)
    build(toy_recordings, tmp_path / "dask", tmp_path / "cache", RuntimeParams(executor="dask", num_workers=2, progress=False))
    assert tree_bytes(tmp_path / "dask") == tree_bytes(tmp_path / "local")
