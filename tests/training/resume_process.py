"""One rank of a training that only counts samples; started, killed and started again by `test_killed_and_resumed.py`.

python -m tests.training.resume_process FOLDER RANK WORLD_SIZE NUM_WORKERS

Rank 0 writes `FOLDER/checkpoint.json` after every step: the loader's state, and the samples that all ranks have trained on, step by step.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path

import torch.distributed

from owa_data.training.loaders import create_loader

NUM_EPOCHS = 2
LENGTHS = (37, 6)
WEIGHTS = (2, 1)
GLOBAL_BATCH_SIZE = 4
STEP_S = 0.02


def keep(samples: list[int]) -> list[int]:
    """Collate nothing."""
    return samples


def main() -> None:
    folder, rank, world_size, num_workers = Path(sys.argv[1]), *map(int, sys.argv[2:])
    warnings.filterwarnings("ignore", "This DataLoader will create")
    torch.set_num_threads(1)
    # A file of this run's own: the ranks meet there.
    meeting = f"file://{folder.absolute()}/meeting-{os.environ['RUN']}"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world_size)
    loader = create_loader(
        [list(range(LENGTHS[0])), list(range(100, 100 + LENGTHS[1]))],
        batch_size=GLOBAL_BATCH_SIZE // world_size,
        collate=keep,
        weights=WEIGHTS,
        seed=9,
        rank=rank,
        world_size=world_size,
        num_workers=num_workers,
    )
    checkpoint, seen = folder / "checkpoint.json", []
    if checkpoint.exists():
        saved = json.loads(checkpoint.read_text())
        loader.load_state_dict(saved["state"])
        seen = saved["seen"]
    for _ in range(loader.epoch, NUM_EPOCHS):
        for batch in loader:
            parts: list[list[int]] = [[] for _ in range(world_size)]
            torch.distributed.all_gather_object(parts, batch)
            seen.append([sample for part in parts for sample in part])
            if rank == 0:
                folder.joinpath("new.json").write_text(json.dumps({"state": loader.state_dict(), "seen": seen}))
                folder.joinpath("new.json").replace(checkpoint)
            time.sleep(STEP_S)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
