"""Fixtures: a toy recording with its video, the real inputs where they are present, and a temporary repository with the pipeline."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from owa_data.binned.build import plan_binned
from owa_data.event.build import plan_event
from owa_data.params import BinnedParams, EventParams, RawParams, RuntimeParams, SplitParams
from owa_data.raw.build import build_index
from owa_data.sample.generate import generate_sample
from owa_data.sample.recording import write_recording
from owa_data.sample.simulate import SimulationParams, simulate
from owa_data.sample.video import draw_frames, write_video
from owa_data.store.incremental import build_dataset
from owa_data.store.shard_cache import ShardCache

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("OWA_DATA_TEST_SHARED", ROOT.parent / "shared"))

TOY_PARAMS = SimulationParams(duration_s=4, screen_hz=30, clicks_hz=4, wheel_hz=2, keys_hz=4, idle_share=0.05, max_idle_s=0.5)
TOY_FRAME_SIZE_PX = (200, 80)
BUILT_SEQUENCE_LENGTH = 512

# How long an example takes is the machine's affair: first imports alone can take longer than the usual 200 ms.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def shared_path(name: str) -> Path:
    """A path of the real inputs; the test is skipped where they are absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the real inputs ({name}) are not here")
    return path


def write_toy(folder: Path, episode_path: str, seed: int, *, video: bool = False) -> Path:
    """Write a toy episode of 4 s."""
    simulation = simulate(TOY_PARAMS, seed)
    path = folder / episode_path
    path.parent.mkdir(parents=True, exist_ok=True)
    if video:
        write_video(path.with_suffix(".mkv"), draw_frames(simulation, TOY_FRAME_SIZE_PX), simulation.screen_pts_ns)
    write_recording(path, simulation, path.with_suffix(".mkv").name, TOY_FRAME_SIZE_PX, "Toy")
    return path


@pytest.fixture(autouse=True)
def environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give `os.environ` back after each test: `datasets.Dataset.map(num_proc=)` leaves a copy there, with all that the test had set."""
    monkeypatch.setattr(os, "environ", os.environ)


@pytest.fixture(scope="session")
def toy_recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three toy episodes in two groups, the first with its video. Do not write to it."""
    folder = tmp_path_factory.mktemp("toy") / "recordings"
    for seed, episode_path in enumerate(("a/one.mcap", "a/two.mcap", "b/three.mcap")):
        write_toy(folder, episode_path, seed, video=seed == 0)
    return folder


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded sample: `recordings/` and `metadata.jsonl`. Do not write to it."""
    folder = tmp_path_factory.mktemp("sample")
    generate_sample(folder)
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Event, binned and fsl datasets of two toy episodes with their videos; `recordings/` beside them."""
    root = tmp_path_factory.mktemp("built")
    for seed, episode_path in enumerate(("a/one.mcap", "b/two.mcap")):
        write_toy(root / "recordings", episode_path, seed, video=True)
    metadata = root / "metadata.jsonl"
    metadata.write_text('{"episode_path": "a/one.mcap", "instruction": "Win the duel"}\n')
    recordings = str(root / "recordings")
    raw = RawParams(dir=recordings, watch=recordings, metadata=str(metadata), split=SplitParams(test_groups=("b",)))
    runtime, cache = RuntimeParams(num_workers=1, progress=False), ShardCache(root / "cache")
    episodes = build_index(raw, cache, runtime).episodes
    lineage = build_dataset(plan_event(EventParams(), episodes, recordings, cache), root / "event", cache, runtime)
    build_dataset(plan_binned(BinnedParams(), lineage, root / "event", cache), root / "binned", cache, runtime)
    arguments = [f"in_dir={root}/event", f"out_dir={root}/fsl", f"metrics_dir={root}/m", f"plots_dir={root}/p"]
    subprocess.run(
        [sys.executable, "-m", "stages.fsl", *arguments, f"max_sequence_length={BUILT_SEQUENCE_LENGTH}", "runtime.num_workers=1"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OWA_DATA_SHARD_CACHE": str(root / "cache")},
        check=True,
        capture_output=True,
    )
    return root


class Repo:
    """A temporary git and DVC repository with the pipeline, its stages run from this checkout's code."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_AUTHOR_NAME": "t",
            "GIT_AUTHOR_EMAIL": "t@example.org",
            "GIT_COMMITTER_NAME": "t",
            "GIT_COMMITTER_EMAIL": "t@example.org",
            "DVC_NO_ANALYTICS": "1",
        }
        self.environment.pop("OWA_DATA_SHARD_CACHE", None)

    def run(self, *command: str, check: bool = True, timeout_s: float = 240) -> str:
        """Run a command in the repository; returns stdout and stderr together."""
        result = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        if check and result.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {result.returncode}:\n{result.stdout}")
        return result.stdout

    def set_params(self, **values: object) -> None:
        """Set knobs by dotted key (dots written as double underscores)."""
        import yaml

        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for key, value in values.items():
            *sections, name = key.split("__")
            node = params
            for section in sections:
                node = node[section]
            node[name] = value
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def commit(self, message: str = "state") -> None:
        """Commit everything."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", message)


def repository(root: Path, recordings: Path) -> Repo:
    """Make a repository over a copy of some recordings, tracked by DVC, at `recordings/`; group `b` is for test."""
    root.mkdir()
    for entry in ("dvc.yaml", "params.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / entry, root / entry)
    # Code deps of dvc.yaml are looked for in the repository.
    for entry in ("conf", "stages", "owa_data"):
        shutil.copytree(ROOT / entry, root / entry, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(recordings, root / "recordings")
    repo = Repo(root)
    repo.environment["PYTHONPATH"] = str(root)
    repo.run("git", "init", "-q")
    repo.run("dvc", "init", "-q")
    repo.run("dvc", "config", "cache.type", "hardlink,symlink,copy")
    repo.run("dvc", "config", "core.analytics", "false")
    repo.run("dvc", "add", "-q", "recordings")
    (root / "metadata.jsonl").write_text("")
    repo.set_params(raw__dir="recordings", raw__watch="recordings", raw__metadata="metadata.jsonl", raw__split__test_groups=["b"])
    repo.commit("start")
    return repo


@pytest.fixture
def make_repo(tmp_path: Path, toy_recordings: Path) -> Callable[..., Repo]:
    """Make a repository over a copy of the toy recordings; see `repository`."""

    def make(name: str = "repo", recordings: Path = toy_recordings) -> Repo:
        return repository(tmp_path / name, recordings)

    return make


def tree_bytes(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
