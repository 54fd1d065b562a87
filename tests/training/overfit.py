"""The proof that the datasets can be learned from: a small random model learns one sample episode by heart.

Run by `test_overfit.py`. By hand it draws the curves anew: python -m tests.training.overfit docs/images/overfit.png
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from owa_data import load_from_disk
from owa_data.sample.generate import generate_episode
from owa_data.store.dataset_folder import read_lineage
from owa_data.training.collators import create_fsl_collator
from owa_data.training.image_tokens import read_image_tokens
from owa_data.training.loaders import create_loader
from owa_data.training.reproduce import Reproduction, reproduce
from owa_data.training.small_models import create_small_model, create_small_processor
from tests.training.build import Built, build_small

EPISODE = "arena/duel.mcap"
MAX_SEQUENCE_LENGTH = 512
BATCH_SIZE = 4
NUM_STEPS = {"internvl": 400, "smolvlm": 500}
LEARNING_RATE = 3e-3
SCORE_EVERY = 40
ENOUGH = 0.99


@dataclass(frozen=True)
class Learned:
    """A model that has learned a dataset. `curve` holds (step, loss, share of action tokens reproduced)."""

    built: Built
    rows: list[dict[str, Any]]
    predictions: list[Reproduction]
    curve: list[tuple[int, float, float]]

    @property
    def share(self) -> float:
        """Share of the action tokens that the model reproduces."""
        return sum(one.num_hits for one in self.predictions) / sum(one.num_labels for one in self.predictions)


def overfit(folder: Path, family: str) -> Learned:
    """Build a dataset of one sample episode and train until it is learned, or the steps are used up."""
    generate_episode(folder / "recordings", EPISODE)
    built = build_small(folder, folder / "recordings", family, max_sequence_length=MAX_SEQUENCE_LENGTH)
    dataset = load_from_disk(built.fsl)["train"]
    rows = list(dataset)
    dataset.auto_set_transform(stage="fsl", recordings=str(built.recordings))
    image, lineage = read_image_tokens(built.fsl), read_lineage(built.fsl, "fsl")
    collator = create_fsl_collator(built.fsl, create_small_processor(image), loss_on="actions")
    tokenizer = lineage.facts["tokenizer"]
    model = create_small_model(
        image,
        num_tokens=tokenizer["num_tokens"],
        pad_token_id=tokenizer["pad_token_id"],
        max_sequence_length=MAX_SEQUENCE_LENGTH,
    )
    samples = list(dataset)  # decoded once: the model sees them a hundred times
    all_batches = [collator(samples[first : first + BATCH_SIZE]) for first in range(0, len(samples), BATCH_SIZE)]
    num_steps = NUM_STEPS[family]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=num_steps, pct_start=0.05)
    loader = create_loader([samples], batch_size=BATCH_SIZE, collate=collator, seed=0)
    curve: list[tuple[int, float, float]] = []
    predictions = [reproduce(model, batch) for batch in all_batches]
    step = 0
    while step < num_steps:
        for batch in loader:
            loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1
            if step % SCORE_EVERY == 0 or step == num_steps:
                predictions = [reproduce(model, one) for one in all_batches]
                learned = Learned(built, rows, predictions, curve)
                curve.append((step, loss.item(), learned.share))
                if learned.share >= ENOUGH:
                    return learned
            if step == num_steps:
                break
    return Learned(built, rows, predictions, curve)


def draw(curves: dict[str, list[tuple[int, float, float]]], path: Path) -> None:
    """Draw the share of reproduced action tokens over the steps."""
    from PIL import Image, ImageDraw

    width, height, left, bottom = 640, 320, 60, 40
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    last = max(step for curve in curves.values() for step, _, _ in curve)

    def place(step: float, share: float) -> tuple[float, float]:
        return left + step / last * (width - left - 20), height - bottom - share * (height - bottom - 20)

    for share in (0, 0.25, 0.5, 0.75, 0.95):
        pen.line([place(0, share), place(last, share)], fill=(220, 60, 60) if share == 0.95 else (225, 225, 225))
        pen.text((left - 36, place(0, share)[1] - 6), f"{share:.0%}", fill="black")
    for step in range(0, last + 1, 100):
        pen.text((place(step, 0)[0] - 8, height - bottom + 6), str(step), fill="black")
    pen.text((width // 2 - 20, height - 18), "training steps", fill="black")
    pen.text((left + 4, 2), "action tokens reproduced", fill="black")
    for row, ((family, curve), color) in enumerate(zip(curves.items(), [(30, 90, 200), (20, 150, 90)], strict=False)):
        pen.line([place(step, share) for step, _, share in curve], fill=color, width=2)
        pen.text((width - 100, height - bottom - 40 + 14 * row), family, fill=color)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(16).save(path, optimize=True)


def main() -> None:
    torch.set_num_threads(1)
    curves = {}
    for family in NUM_STEPS:
        with tempfile.TemporaryDirectory() as folder:
            curves[family] = overfit(Path(folder), family).curve
        print(family, curves[family][-1])
    draw(curves, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
