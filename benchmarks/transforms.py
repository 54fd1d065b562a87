"""The transforms: images per second of fsl against bare `mediaref.batch_decode` of the same references, rows per second of event and binned.

python -m benchmarks.transforms

Workload: two generated episodes of 40 s, video 448x448 at 60 Hz with a keyframe per second (D2E-480p); fsl rows of 4096 ids with 64 tokens per image.
Rows are taken in shuffled order, and every row is decoded by each way in turn, so that all share whatever else the machine does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loader import RUNTIME, build_fsl
from owa_data import load_from_disk
from owa_data.binned.build import plan_binned
from owa_data.params import BinnedParams
from owa_data.sample.recording import write_recording
from owa_data.sample.simulate import SimulationParams, simulate
from owa_data.sample.video import draw_frames, read_time_code, write_video
from owa_data.store.dataset_folder import read_lineage
from owa_data.store.incremental import build_dataset
from owa_data.store.shard_cache import ShardCache

FRAME_SIZE_PX = (448, 448)
NUM_EPISODES = 2
DURATION_S = 40
NUM_FSL_ROWS = 60
NUM_SMALL_ROWS = 400
BARE_DECODERS = ("pyav", "tensorcodec")
_MS = 1_000_000


def write_recordings(folder: Path) -> None:
    """Write the episodes, with video."""
    folder.mkdir()
    for seed in range(NUM_EPISODES):
        simulation = simulate(SimulationParams(duration_s=DURATION_S, screen_hz=60, idle_share=0.1, max_idle_s=1), seed)
        path = folder / f"episode_{seed}.mcap"
        write_video(path.with_suffix(".mkv"), draw_frames(simulation, FRAME_SIZE_PX), simulation.screen_pts_ns)
        write_recording(path, simulation, path.with_suffix(".mkv").name, FRAME_SIZE_PX, "benchmark")


def _timed(function: Any, *arguments: Any) -> tuple[Any, float, float]:
    """Result, wall seconds and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function(*arguments)
    return result, time.perf_counter() - wall, time.process_time() - cpu


def _bare(references: list[Any], decoder: str) -> Any:
    from mediaref import batch_decode

    return batch_decode(references, decoder=decoder)


def _bare_references(screens: list[Any], episode_path: str, recordings: Path) -> list[Any]:
    """The references as mediaref takes them: absolute, and in the middle of the tick after theirs, since it knows no tick."""
    from mediaref import MediaRef

    video = str((recordings / episode_path).with_suffix(".mkv"))
    return [MediaRef(uri=video, pts_ns=screen.media_ref.pts_ns // _MS * _MS + 3 * _MS // 2) for screen in screens]


def measure_fsl(fsl_dir: Path, recordings: Path) -> dict[str, float]:
    """Whole rows of the transform, ids and all, against bare decoding alone."""
    rows = load_from_disk(fsl_dir)["train"].auto_set_transform(recordings=str(recordings))
    plain = load_from_disk(fsl_dir)["train"].auto_set_transform(load_images=False)
    order = np.random.default_rng(0).permutation(len(rows))[:NUM_FSL_ROWS].tolist()
    num_images, num_wrong = 0, 0
    through_mediaref = load_from_disk(fsl_dir)["train"].auto_set_transform(recordings=str(recordings), decoder="tensorcodec")
    wall: dict[str, float] = dict.fromkeys(("ours", "ours_tensorcodec", *BARE_DECODERS), 0.0)
    cpu = dict(wall)
    for number, index in enumerate([order[0], *order]):
        screens = plain[index]["images"]
        references = _bare_references(screens, plain[index]["episode_path"], recordings)
        ways: dict[str, Any] = {"ours": (rows.__getitem__, index), "ours_tensorcodec": (through_mediaref.__getitem__, index)}
        ways |= {decoder: (_bare, references, decoder) for decoder in BARE_DECODERS}
        # The first row warms all ways up; then the one that goes first changes from row to row.
        names = list(ways)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            result, wall_s, cpu_s = _timed(*ways[name])
            if not number:
                continue
            wall[name] += wall_s
            cpu[name] += cpu_s
            if name == "ours":
                num_images += len(screens)
                times = [round(screen.media_ref.pts_ns / 1e6) for screen in screens]
                num_wrong += sum(
                    read_time_code(np.asarray(image)) != ms for image, ms in zip(result["images"], times, strict=True)
                )
    found: dict[str, float] = {"fsl_images": num_images, "fsl_wrong_frames": num_wrong}
    found |= {f"images_per_s_{name}": num_images / seconds for name, seconds in wall.items()}
    found |= {f"fsl_ratio_to_bare_{name}": wall[name] / wall["ours"] for name in BARE_DECODERS}
    found["fsl_tensorcodec_ratio_to_bare_tensorcodec"] = wall["tensorcodec"] / wall["ours_tensorcodec"]
    found |= {f"fsl_cpu_ratio_to_bare_{name}": cpu[name] / cpu["ours"] for name in BARE_DECODERS}
    return found


def measure_rows(folder: Path, kind: str, recordings: Path) -> dict[str, float]:
    """Rows per second in shuffled order, with images, without, and without encoding."""
    found = {}
    options = {"": {}, "_without_images": {"load_images": False}}
    for name, more in options.items():
        rows = load_from_disk(folder / kind)["train"].auto_set_transform(recordings=str(recordings), **more)
        order = np.random.default_rng(1).permutation(len(rows))[:NUM_SMALL_ROWS].tolist()
        _ = rows[order[0]]
        _, seconds, _ = _timed(lambda rows=rows, order=order: [rows[index] for index in order])
        found[f"{kind}_rows_per_s{name}"] = len(order) / seconds
    rows = load_from_disk(folder / kind)["train"].auto_set_transform(recordings=str(recordings))
    _, seconds, _ = _timed(lambda: [rows[first : first + 32] for first in range(0, NUM_SMALL_ROWS, 32)])
    found[f"{kind}_rows_per_s_in_order"] = NUM_SMALL_ROWS / seconds
    return found


def measure_cached_texts(folder: Path) -> dict[str, float]:
    """What a cache of encoded events would save: encoding a binned row against reading a stored text of the same length."""
    rows = load_from_disk(folder / "binned")["train"].auto_set_transform(load_images=False)
    raw = load_from_disk(folder / "binned")["train"]
    order = np.random.default_rng(2).permutation(len(rows))[:NUM_SMALL_ROWS].tolist()
    _, encoded_s, _ = _timed(lambda: [rows[index]["encoded_events"] for index in order])
    _, stored_s, _ = _timed(lambda: [raw[index]["actions"] for index in order])
    return {"encode_ms_per_row": (encoded_s - stored_s) / len(order) * 1e3, "read_ms_per_row": stored_s / len(order) * 1e3}


def measure_first_row(fsl_dir: Path, recordings: Path) -> dict[str, float]:
    """Seconds of a new process until the first row is there, imports included."""
    code = (
        "import time; started = time.perf_counter(); from owa_data import load_from_disk\n"
        f"rows = load_from_disk({str(fsl_dir)!r})['train'].auto_set_transform(recordings={str(recordings)!r}); rows[0]\n"
        "first = time.perf_counter() - started; started = time.perf_counter(); rows[1]; print(first, time.perf_counter() - started)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return {"first_row_s": float(found[0]), "second_row_s": float(found[1])}


def main() -> dict[str, float]:
    """Run the benchmark.

    Returns:
        `images_per_s_*` of our fsl rows and of bare decoding, their ratios (by wall and by CPU time, over 1 means ours is faster), rows per second of
        event and binned, and the time to the first row.
    """
    warnings.filterwarnings("ignore", message="Sparse timestamp query")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recordings = folder / "recordings"
        write_recordings(recordings)
        fsl_dir = build_fsl(folder, recordings)
        cache = ShardCache(folder / "cache")
        plan = plan_binned(BinnedParams(), read_lineage(folder / "event", "event"), folder / "event", cache)
        build_dataset(plan, folder / "binned", cache, RUNTIME)
        results = measure_fsl(fsl_dir, recordings)
        results |= measure_rows(folder, "event", recordings) | measure_rows(folder, "binned", recordings)
        results |= measure_cached_texts(folder)
        results |= measure_first_row(fsl_dir, recordings)
    return {key: round(value, 3) for key, value in results.items()}


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
