"""`transformers.Trainer` that finds its weights again."""

from __future__ import annotations

from typing import Any

from transformers import Trainer


class ResumingTrainer(Trainer):  # type: ignore[misc]
    """A `Trainer` that loads a checkpoint as `from_pretrained` does.

    Trainer of transformers 5.23 loads checkpoints of image-text models by other parameter names than it saved them with: it warns of
    missing keys and goes on from the weights it was given (huggingface/transformers#43701). A test shows whether this is still needed.
    """

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        target = self.model if model is None else model
        saved = type(target).from_pretrained(resume_from_checkpoint, dtype=target.dtype)
        target.load_state_dict(saved.state_dict())
