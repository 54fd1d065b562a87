"""What a trained model makes of a row: its own prediction of every token it was trained on, all before it given.

Input: a model and a collated batch. Output: predicted ids, and how many agree. Decoded, they are the events that the model would have
done (`owa_data.fsl.decode`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from owa_data.training.labels import IGNORED


@dataclass(frozen=True)
class Reproduction:
    """Prediction of a batch.

    Attributes:
        input_ids: The rows with each token that has a label replaced by the model's most likely one, int64 (rows, length).
        num_hits: Labels that were predicted.
        num_labels: Labels in all.
    """

    input_ids: torch.Tensor
    num_hits: int
    num_labels: int


def reproduce(model: Any, batch: dict[str, torch.Tensor]) -> Reproduction:
    """Predict every token of a batch that has a label, given all true ones before it.

    Args:
        model: A model of transformers for image-text input; put into evaluation mode for the call.
        batch: From a collator, on the model's device. The first token of a row has nothing before it and counts as given.
    """
    was_training = model.training
    model.eval()
    with torch.no_grad():
        logits = model(**{name: value for name, value in batch.items() if name != "labels"}).logits
    model.train(was_training)
    predicted, labels = logits[:, :-1].argmax(dim=-1), batch["labels"][:, 1:]
    learned = labels != IGNORED
    input_ids = batch["input_ids"].clone()
    input_ids[:, 1:] = torch.where(learned, predicted, input_ids[:, 1:])
    return Reproduction(input_ids, int((predicted[learned] == labels[learned]).sum()), int(learned.sum()))
