"""The pipeline under real DVC: killed, interrupted, and over recordings with odd names."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import Repo, tree_bytes
from tests.store.test_interruption import group_is_empty, start_as_from_terminal


@pytest.fixture
def slow_repo(make_repo) -> Repo:
    """A repository whose event conversions wait while there is a file `blocked`, with `raw` built and a reference build at `reference/`."""
    repo = make_repo()
    source = repo.root / "owa_data" / "event" / "build.py"
    text = source.read_text()
    call = "        batches, ledger = convert_recording("
    assert text.count(call) == 1
    blocked = str(repo.root / "blocked")
    wait = f"        while __import__('os').path.exists({blocked!r}):\n            __import__('time').sleep(0.05)\n"
    source.write_text(text.replace(call, wait + call))
    repo.set_params(runtime__num_workers=2)
    repo.run("dvc", "repro", "raw")
    reference = repo.root / "reference"
    repo.environment["OWA_DATA_SHARD_CACHE"] = str(repo.root / "reference_cache")
    repo.run("python", "-m", "stages.event", f"out_dir={reference}/event", f"metrics_dir={reference}", f"plots_dir={reference}")
    del repo.environment["OWA_DATA_SHARD_CACHE"]
    return repo


def start_event(repo: Repo) -> tuple[subprocess.Popen, Path]:
    """Start `dvc repro event` and wait until a shard is being written or is there."""
    (repo.root / "blocked").touch()
    log = repo.root / "repro.log"
    with log.open("wb") as stream:
        process = start_as_from_terminal(
            ["dvc", "repro", "event"], cwd=repo.root, env=repo.environment, stdout=stream, stderr=stream
        )
    cache = repo.root / ".dvc" / "cache" / "owa-shards"
    end = time.monotonic() + 60
    while not list(cache.glob("unfinished/*.tmp")):
        assert time.monotonic() < end, log.read_text()
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    return process, log


def check_next_run(repo: Repo) -> None:
    (repo.root / "blocked").unlink()
    repo.run("dvc", "repro", "event")
    assert tree_bytes(repo.root / "data" / "event") == tree_bytes(repo.root / "reference" / "event")
    assert "up to date" in repo.run("dvc", "status", "event")


@pytest.mark.slow
def test_dvc_killed_while_the_stage_lives_on(slow_repo):
    process, log = start_event(slow_repo)
    process.kill()
    process.wait()
    assert group_is_empty(process.pid, within_s=60), log.read_text()
    assert "DVC has ended, so this ends too" in log.read_text()
    assert not (slow_repo.root / "data" / "event").exists()
    check_next_run(slow_repo)


@pytest.mark.slow
def test_ctrl_c_ends_everything_with_a_line(slow_repo):
    process, log = start_event(slow_repo)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=60)  # it does not wait for the conversions
    assert group_is_empty(process.pid, within_s=60)
    text = log.read_text()
    assert process.returncode
    assert "interrupted. What was finished is kept: run again to go on." in text
    assert "Traceback" not in text
    check_next_run(slow_repo)


@pytest.mark.slow
@pytest.mark.parametrize("moment_s", [0, 0.3, 0.7, 1.2])
def test_ctrl_c_while_a_stage_starts_is_no_traceback(slow_repo, moment_s, tmp_path):
    (slow_repo.root / "blocked").touch()
    log = slow_repo.root / "stage.log"
    command = ["python", "-m", "stages.event", "runtime.num_workers=2"]
    environment = {**slow_repo.environment, "OWA_DATA_SHARD_CACHE": str(tmp_path)}  # so that nothing is finished before
    with log.open("wb") as stream:
        process = start_as_from_terminal(command, cwd=slow_repo.root, env=environment, stdout=stream, stderr=stream)
    # Before it runs anything of ours, Python answers Ctrl-C itself: wait until the first library is loaded.
    end = time.monotonic() + 30
    while b"site-packages" not in Path(f"/proc/{process.pid}/maps").read_bytes():
        assert time.monotonic() < end
        time.sleep(0.001)
    time.sleep(moment_s)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=30)
    assert group_is_empty(process.pid, within_s=60)
    assert process.returncode
    assert log.read_text().endswith("interrupted. What was finished is kept: run again to go on.\n")
    assert "Traceback" not in log.read_text()


ODD_NAMES = (
    "with space.mcap",
    'quo\'te "d".mcap',
    "\u00fcn\u00efc\u00f6de \u6e38\u620f.mcap",
    "new\nline.mcap",
    "a$HOME;`id`&.mcap",
    "%41+#?.mcap",
)


@pytest.mark.slow
def test_odd_file_names_go_through_the_pipeline(make_repo, toy_recordings, tmp_path):
    from datasets import load_from_disk

    recordings = tmp_path / "odd"
    (recordings / "b").mkdir(parents=True)
    for name in ODD_NAMES:
        shutil.copy(toy_recordings / "a" / "two.mcap", recordings / "b" / name)
        shutil.copy(toy_recordings / "a" / "two.mcap", recordings / name)
    repo = make_repo(recordings=recordings)
    repo.run("dvc", "repro", "fsl")
    for kind in ("event", "fsl"):
        dataset = load_from_disk(str(repo.root / "data" / kind))
        for split, folder in (("train", ""), ("test", "b/")):
            assert set(dataset[split]["episode_path"]) == {folder + name for name in ODD_NAMES}
    shutil.rmtree(repo.root / "data")
    repo.run("dvc", "checkout", "data/event", "data/fsl")
    assert set(load_from_disk(str(repo.root / "data" / "fsl"))["train"]["episode_path"]) == set(ODD_NAMES)
