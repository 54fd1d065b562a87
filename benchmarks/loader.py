"""The training loader: rows per second in shuffled order, against the transform alone in the same run.

python -m benchmarks.loader

Workload: three generated episodes of 15 s, video 854x480 (D2E-480p) at 30 Hz, rows of 4096 ids with 64 tokens per image of 448x448.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from owa_data import load_from_disk
from owa_data.event.build import plan_event
from owa_data.fsl.build import plan_fsl
from owa_data.params import EventParams, FslParams, RawParams, RuntimeParams, SplitParams, TokenizerParams
from owa_data.raw.build import build_index
from owa_data.sample.recording import write_recording
from owa_data.sample.simulate import SimulationParams, simulate
from owa_data.sample.video import draw_frames, write_video
from owa_data.store.incremental import build_dataset
from owa_data.store.shard_cache import ShardCache

FRAME_SIZE_PX = (854, 480)
NUM_EPISODES = 3
DURATION_S = 15
BATCH_SIZE = 2
NUM_WORKERS = (0, 1, 2)
RUNTIME = RuntimeParams(num_workers=1, progress=False)
TOKENIZER = Path(__file__).parent.parent / "conf/tokenizer/byte.yaml"


def write_recordings(folder: Path) -> None:
    """Write the episodes, with video."""
    for seed in range(NUM_EPISODES):
        simulation = simulate(SimulationParams(duration_s=DURATION_S, screen_hz=30, idle_share=0.05, max_idle_s=0.5), seed)
        path = folder / f"episode_{seed}.mcap"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path.with_suffix(".mkv"), draw_frames(simulation, FRAME_SIZE_PX), simulation.screen_pts_ns)
        write_recording(path, simulation, path.with_suffix(".mkv").name, FRAME_SIZE_PX, "benchmark")


def build_fsl(folder: Path, recordings: Path) -> Path:
    """Build event and fsl datasets with default params; returns the fsl folder."""
    cache = ShardCache(folder / "cache")
    raw = RawParams(dir=str(recordings), watch=str(recordings), metadata="", split=SplitParams(test_fraction=0))
    episodes = build_index(raw, cache, RUNTIME).episodes
    events = build_dataset(plan_event(EventParams(), episodes, str(recordings), cache), folder / "event", cache, RUNTIME)
    tokenizer = TokenizerParams.model_validate(yaml.safe_load(TOKENIZER.read_text()))
    build_dataset(plan_fsl(FslParams(), tokenizer, events, folder / "event", cache), folder / "fsl", cache, RUNTIME)
    return folder / "fsl"


def time_transform(dataset: Any, order: list[list[int]]) -> float:
    """Seconds that the transform alone takes for these batches."""
    started = time.perf_counter()
    for indices in order:
        dataset.__getitems__(indices)
    return time.perf_counter() - started


def private_bytes(pid: int) -> int:
    """Memory that a process shares with no other, in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def time_loader(fsl_dir: Path, recordings: Path, num_workers: int) -> dict[str, float]:
    """Time two epochs in shuffled order; the first begins with cold workers, the second is the rate."""
    from owa_data.training.collators import create_fsl_collator
    from owa_data.training.image_tokens import read_image_tokens
    from owa_data.training.loaders import create_loader
    from owa_data.training.small_models import create_small_processor

    dataset = load_from_disk(fsl_dir)["train"].auto_set_transform(stage="fsl", recordings=str(recordings))
    collate = create_fsl_collator(fsl_dir, create_small_processor(read_image_tokens(fsl_dir)))
    loader = create_loader(
        [dataset], batch_size=BATCH_SIZE, collate=collate, seed=1, num_workers=num_workers, persistent_workers=num_workers > 0
    )
    started = time.perf_counter()
    batches = iter(loader)
    next(batches)
    first_s = time.perf_counter() - started
    for _ in batches:
        pass
    started = time.perf_counter()
    num_rows = sum(len(batch["input_ids"]) for batch in loader)
    elapsed_s = time.perf_counter() - started
    workers = [process.pid for process in multiprocessing.active_children() if process.name.startswith("Process-")]
    memory = max((private_bytes(pid) for pid in workers if pid), default=0)
    return {"rows_per_s": num_rows / elapsed_s, "first_batch_s": first_s, "worker_private_mb": memory / 1e6}


def main() -> dict[str, float]:
    """Run the benchmark.

    Returns:
        `transform_rows_per_s`, `transform_images_per_s`, `decode_share` of the loader's time without workers, and per number of workers `rows_per_s`,
        `ratio_to_transform`, `first_batch_s`, `worker_private_mb`.
    """
    import torch

    from owa_data.training.sampler import RankShare, SampleOrder

    torch.set_num_threads(1)
    results: dict[str, float] = {"cpus": len(os.sched_getaffinity(0))}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recordings = folder / "recordings"
        write_recordings(recordings)
        fsl_dir = build_fsl(folder, recordings)
        dataset = load_from_disk(fsl_dir)["train"]
        order = list(RankShare(BATCH_SIZE).iter_batches(SampleOrder((len(dataset),), seed=1).epoch_indices(1), 0))
        num_rows = sum(map(len, order))
        num_images = sum(len(images) for indices in order for images in dataset[indices]["images"])
        with_images = time_transform(dataset.auto_set_transform(stage="fsl", recordings=str(recordings)), order)
        without_images = time_transform(dataset.auto_set_transform(stage="fsl", load_images=False), order)
        results["rows"] = num_rows
        results["transform_rows_per_s"] = num_rows / with_images
        results["transform_images_per_s"] = num_images / with_images
        for num_workers in NUM_WORKERS:
            measured = time_loader(fsl_dir, recordings, num_workers)
            results |= {f"workers_{num_workers}_{key}": value for key, value in measured.items()}
            results[f"workers_{num_workers}_ratio_to_transform"] = measured["rows_per_s"] * with_images / num_rows
        results["decode_share"] = (with_images - without_images) / num_rows * results["workers_0_rows_per_s"]
    return {key: round(value, 3) for key, value in results.items()}


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
