"""What a small change costs: `dvc repro fsl` with nothing changed, and with one of many short episodes changed; and what of it is ours.

python -m benchmarks.small_change --episodes 2000
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from owa_data.sample.recording import write_recording
from owa_data.sample.simulate import SimulationParams, simulate

ROOT = Path(__file__).parent.parent
STAGES = ("raw", "event", "fsl")


def measure(num_episodes: int) -> dict[str, float]:
    """Build a repository of short episodes and time commands in it, in seconds.

    Returns:
        `first_s` the first build, `no_op_s` with nothing changed, `one_changed_s` with one episode changed; `ours_<stage>_s` the stage as a process by
        itself, with another episode changed, and `ours_s` their sum.
    """
    with tempfile.TemporaryDirectory() as folder:
        repo = Path(folder) / "repo"
        _make_repo(repo, num_episodes)
        repro = ["dvc", "repro", "-q", "fsl"]
        result = {"episodes": float(num_episodes), "first_s": _time(repo, *repro), "no_op_s": _time(repo, *repro)}
        _write(repo / "recordings/a/0000.mcap", seed=100)
        result["one_changed_s"] = _time(repo, *repro)
        _write(repo / "recordings/a/0001.mcap", seed=101)
        for stage in STAGES:
            result[f"ours_{stage}_s"] = _time(repo, sys.executable, "-m", f"stages.{stage}")
        result["ours_s"] = sum(result[f"ours_{stage}_s"] for stage in STAGES)
        return result


def _make_repo(repo: Path, num_episodes: int) -> None:
    repo.mkdir()
    for entry in ("dvc.yaml", "params.yaml", "conf", "stages", "owa_data", ".gitignore", ".dvcignore"):
        source = ROOT / entry
        if source.is_dir():
            shutil.copytree(source, repo / entry, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, repo / entry)
    tiny = repo / "tiny.mcap"
    _write(tiny, seed=0)
    for index in range(num_episodes):
        path = repo / "recordings" / "abc"[index % 3] / f"{index:04d}.mcap"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny, path)
    params = yaml.safe_load((repo / "params.yaml").read_text())
    params["raw"] |= {"dir": "recordings", "watch": "recordings", "metadata": ""}
    (repo / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    pipeline = yaml.safe_load((repo / "dvc.yaml").read_text())
    pipeline["stages"]["raw"]["deps"].remove("${raw.metadata}")
    (repo / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "config", "cache.type", "hardlink,symlink,copy"]):
        _time(repo, *command)


def _write(path: Path, seed: int) -> None:
    write_recording(path, simulate(SimulationParams(duration_s=2, screen_hz=20), seed), "a.mkv", (64, 48), "Small")


def _time(repo: Path, *command: str) -> float:
    environment = {**os.environ, "PYTHONPATH": str(repo), "DVC_NO_ANALYTICS": "1"}
    environment.pop("OWA_DATA_SHARD_CACHE", None)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else every process compiles the repository's modules anew, 0.1 s
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    start = time.perf_counter()
    result = subprocess.run(
        command, cwd=repo, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{result.stdout}")
    return time.perf_counter() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=2000)
    print(json.dumps(measure(parser.parse_args().episodes), indent=2))
