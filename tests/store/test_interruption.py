"""Killed, interrupted, out of space, two at once: the next build gives the same bytes and reuses what was finished."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from owa_data.errors import ChangedError
from owa_data.event.build import plan_event
from owa_data.params import EventParams, RawParams, RuntimeParams
from owa_data.raw.build import build_index
from owa_data.store.executors import EpisodesFailedError, WorkerDiedError, run_tasks
from owa_data.store.incremental import build_dataset, lock_folder
from owa_data.store.shard_cache import ShardCache
from owa_data.store.source import is_outside
from tests.conftest import ROOT, tree_bytes, write_toy
from tests.store.building import build

HERE = RuntimeParams(num_workers=1, progress=False)
TWO = RuntimeParams(num_workers=2, progress=False)
NUM_EPISODES = 4


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interruption") / "recordings"
    for seed in range(NUM_EPISODES):
        write_toy(folder, f"g{seed % 2}/{seed}.mcap", seed)
    return folder


@pytest.fixture(scope="module")
def whole(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The dataset of an undisturbed build."""
    folder = tmp_path_factory.mktemp("whole")
    build(recordings, folder / "cache", folder / "event")
    return tree_bytes(folder / "event")


def start_as_from_terminal(command: list[str], **kwargs) -> subprocess.Popen:
    """Start a process group of its own that Ctrl-C reaches, even where the tests were started with it ignored, as in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, start_new_session=True, **kwargs)
    finally:
        signal.signal(signal.SIGINT, before)


def start(recordings: Path, folder: Path, *options: str, **kwargs) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "tests.store.building",
        str(recordings),
        str(folder / "cache"),
        str(folder / "event"),
        *options,
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return start_as_from_terminal(command, cwd=ROOT, **pipes, **kwargs)


def wait_for_conversion(process: subprocess.Popen) -> int:
    """Pid of the first worker that says that it converts."""
    line = process.stdout.readline()
    assert line.startswith("converting"), line + process.stderr.read()
    return int(line.split()[1])


def group_is_empty(group: int, within_s: float) -> bool:
    """Whether every process of a group ends in time."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not any(_group_of(int(path.name)) == group for path in Path("/proc").iterdir() if path.name.isdigit()):
            return True
        time.sleep(0.05)
    return False


def _group_of(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] == "Z" else int(fields[2])


def finished_shards(folder: Path) -> dict[Path, int]:
    """Inode of each finished shard of rows."""
    shards = (Path(str(record).removesuffix(".json")) for record in (folder / "cache").glob("??/*.json"))
    return {shard: shard.stat().st_ino for shard in shards if shard.stat().st_size}


def check_next_build(recordings: Path, folder: Path, whole: dict[str, bytes]) -> None:
    before = finished_shards(folder)
    converted = build(recordings, folder / "cache", folder / "event")
    assert tree_bytes(folder / "event") == whole
    assert converted == NUM_EPISODES - len(before)
    assert before.items() <= finished_shards(folder).items()


def check_kill(recordings: Path, folder: Path, whole: dict[str, bytes], moment: random.Random) -> None:
    process = start(recordings, folder, "slow")
    wait_for_conversion(process)
    time.sleep(moment.uniform(0, 1.2))
    process.kill()
    process.communicate()
    assert group_is_empty(process.pid, within_s=60)
    dataset = folder / "event"
    assert not dataset.exists() or tree_bytes(dataset) == whole  # never half
    check_next_build(recordings, folder, whole)


def test_killed_at_random_moments(recordings, whole, tmp_path):
    for number in range(2):
        check_kill(recordings, tmp_path / str(number), whole, random.Random(number))


@pytest.mark.slow
def test_killed_at_thirty_random_moments(recordings, whole, tmp_path):
    for number in range(30):
        check_kill(recordings, tmp_path / str(number), whole, random.Random(100 + number))


def test_interrupted_by_the_terminal(recordings, whole, tmp_path):
    process = start(recordings, tmp_path, "blocked")
    wait_for_conversion(process)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)  # it does not wait for the conversions
    assert process.returncode == 1
    assert "Traceback" not in errors, errors
    assert errors.splitlines()[-1] == "interrupted"
    assert group_is_empty(process.pid, within_s=60)
    check_next_build(recordings, tmp_path, whole)


def test_a_killed_worker_ends_the_build_with_its_cause(recordings, whole, tmp_path):
    process = start(recordings, tmp_path, "blocked")
    os.kill(wait_for_conversion(process), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a worker process died, most often for lack of memory" in errors
    check_next_build(recordings, tmp_path, whole)


def _die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_worker_died_is_typed():
    with pytest.raises(WorkerDiedError, match=r"runtime\.num_workers"):
        list(run_tasks(_die, [1, 2], TWO))


STARTER = """
import subprocess, sys
code = "import os, time; from owa_data.store.lifetime import end_with_starter; end_with_starter('DVC'); print(os.getpid(), flush=True); time.sleep(3600)"
subprocess.run(["sh", "-c", "%s -c \\"$CODE\\"; true" % sys.executable], env={**__import__("os").environ, "CODE": code})
"""


def test_a_stage_ends_with_the_dvc_that_started_it():
    process = subprocess.Popen(
        [sys.executable, "-c", STARTER],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    process.stdout.readline()
    process.kill()
    assert group_is_empty(process.pid, within_s=60)  # the shell between them too


def test_file_size_limit_as_a_full_disk(recordings, whole, tmp_path):
    limit = max(len(content) for name, content in whole.items() if name.endswith(".arrow")) - 1
    process = start(recordings, tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"[Errno {errno.EFBIG}]" in errors
    assert str(tmp_path / "cache") in errors  # the place
    assert "What was finished is kept" in errors
    assert not (tmp_path / "event").exists()
    assert not list((tmp_path / "cache").rglob("*.tmp"))
    check_next_build(recordings, tmp_path, whole)


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 300 KB; skipped where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_full_disk(recordings, whole, tmp_path, small_disk):
    process = start(recordings, small_disk)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "No space left on device" in errors
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert len(finished_shards(small_disk)) >= 1
    check_next_build(recordings, small_disk, whole)


def test_read_only_output(recordings, whole, tmp_path, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OSError, match="Read-only file system"):
        build(recordings, tmp_path / "cache", small_disk / "event")
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_cache_on_another_file_system(recordings, whole, tmp_path, small_disk):
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    build(recordings, small_disk / "cache", tmp_path / "event")
    assert tree_bytes(tmp_path / "event") == whole


def test_no_hard_links(recordings, whole, tmp_path, monkeypatch):
    refused = []

    def refuse(source, target):
        refused.append(target)
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    build(recordings, tmp_path / "cache", tmp_path / "event")
    assert tree_bytes(tmp_path / "event") == whole
    assert refused


def test_two_builds_at_once_share_the_cache(recordings, whole, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "cache").symlink_to(tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    processes = [start(recordings, tmp_path, "slow"), start(recordings, tmp_path / "b", "slow")]
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, output + errors
    assert tree_bytes(tmp_path / "event") == whole
    assert tree_bytes(tmp_path / "b" / "event") == whole


def test_two_builds_of_one_folder_take_turns(recordings, whole, tmp_path):
    with lock_folder(tmp_path / "event"):
        process = start(recordings, tmp_path, "slow")
        while "waiting for it to end" not in (line := process.stderr.readline()):
            assert line, "the second build did not wait"
        build(recordings, tmp_path / "cache", tmp_path / "elsewhere")  # what the first makes meanwhile
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, output + errors
    assert "converting" not in output  # what the first made, the second reuses
    assert tree_bytes(tmp_path / "event") == whole


def test_leftovers_of_killed_builds_are_swept_after_a_day(tmp_path):
    cache = ShardCache(tmp_path)
    old, young = cache.temporary_path("ab" * 32), cache.temporary_path("cd" * 32)
    os.utime(old, (time.time() - 100_000,) * 2)
    cache.sweep()
    assert not old.exists()
    assert young.exists()


def index_and_plan(folder: Path):
    cache = ShardCache(folder / "cache")
    params = RawParams(dir=str(folder / "in"), watch=str(folder / "in"), metadata="")
    index = build_index(params, cache, HERE)
    return plan_event(EventParams(), index.episodes, params.dir, cache), cache


def test_a_recording_that_changes_after_it_was_listed_is_an_error_for_that_episode(recordings, whole, tmp_path):
    shutil.copytree(recordings, tmp_path / "in")
    plan, cache = index_and_plan(tmp_path)
    changed = tmp_path / "in" / "g0" / "0.mcap"
    changed.write_bytes((tmp_path / "in" / "g1" / "1.mcap").read_bytes())
    with pytest.raises(EpisodesFailedError, match="its content changed since it was listed") as caught:
        build_dataset(plan, tmp_path / "event", cache, HERE)
    (error,) = caught.value.errors
    assert isinstance(error, ChangedError)
    assert error.path == str(changed)
    assert cache.find(plan.keys[0]) is None
    assert sum(cache.find(key) is not None for key in plan.keys) == NUM_EPISODES - 1
    shutil.copy(recordings / "g0" / "0.mcap", changed)
    check_next_build(tmp_path / "in", tmp_path, whole)


def test_a_recording_that_vanishes_is_an_error_for_that_episode(recordings, tmp_path):
    shutil.copytree(recordings, tmp_path / "in")
    plan, cache = index_and_plan(tmp_path)
    (tmp_path / "in" / "g0" / "0.mcap").unlink()
    with pytest.raises(EpisodesFailedError, match=r"0\.mcap: is gone since it was listed.*owa-data scan"):
        build_dataset(plan, tmp_path / "event", cache, TWO)
    assert not (tmp_path / "event").exists()
    assert sum(cache.find(key) is not None for key in plan.keys) == NUM_EPISODES - 1


@pytest.mark.parametrize(
    ("uri", "outside"),
    [
        ("a.mkv", False),
        ("videos/a b 'c' \"d\".mkv", False),
        ("sub/../a.mkv", False),
        ("2024-01-01 12:30:00.mkv", False),
        ("..a.mkv", False),
        ("../a.mkv", True),
        ("sub/../../a.mkv", True),
        ("..\\a.mkv", True),
        ("/etc/passwd", True),
        ("C:\\videos\\a.mkv", True),
        ("\\\\server\\share\\a.mkv", True),
        ("file:///etc/passwd", True),
        ("file:/etc/passwd", True),
        ("https://example.org/a.mkv", True),
    ],
)
def test_references_that_lead_outside(uri, outside):
    assert is_outside(uri) is outside
