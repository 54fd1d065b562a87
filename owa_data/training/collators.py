"""Samples to batches: ids, mask, labels, and pixels in the layout of the model family.

FslCollator     samples of the fsl transform: token rows, ready but for stacking
BinnedCollator  samples of the binned transform: images and instruction as prompt, encoded actions as answer
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from owa_data.encoding.registry import check_name, create_encoder
from owa_data.errors import ParamsError, SchemaError
from owa_data.fsl.families import check_processor
from owa_data.store.dataset_folder import read_lineage
from owa_data.training.image_tokens import ImageTokens, read_image_tokens
from owa_data.training.labels import IGNORED, LossOn, is_action_token, make_labels
from owa_data.training.pixels import pixel_layout, split_options, whole_frames

Batch = dict[str, torch.Tensor]
Sample = Mapping[str, Any]


@dataclass(frozen=True)
class FslCollator:
    """Collator of fsl samples; picklable. Make it with `create_fsl_collator`.

    Attributes:
        image: Image tokens of the dataset.
        image_processor: Makes pixels of PIL images, from `checked_image_processor`.
        loss_on: `events` = every token but padding and images; `actions` = of these, tokens of keyboard and mouse events alone.
    """

    image: ImageTokens
    image_processor: Callable[..., Any]
    loss_on: LossOn = "events"

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Make a batch.

        Args:
            samples: Each with `input_ids`, `attention_mask`, `images` (PIL), and for `loss_on = actions` also `event_offsets` and
                `event_kinds`.

        Returns:
            `input_ids`, `attention_mask`, `labels` int64 (samples, max_sequence_length), and the pixels of `pixels.py`.

        Raises:
            SchemaError: A row whose images are not as many as its image spans, or a sample without what the transform gives.
        """
        _check_samples(samples, ("input_ids", "attention_mask", "images"))
        ids = torch.stack([torch.as_tensor(sample["input_ids"]) for sample in samples]).long()
        mask = torch.stack([torch.as_tensor(sample["attention_mask"]) for sample in samples]).long()
        images = [sample["images"] for sample in samples]
        _check_images(ids, images, self.image)
        labels = make_labels(ids, mask, self.image.span_ids, self.image.inner_ids)
        if self.loss_on == "actions":
            length = ids.shape[1]
            acted = [is_action_token(sample["event_offsets"], sample["event_kinds"], length) for sample in samples]
            labels = labels.masked_fill(~torch.stack(acted), IGNORED)
        pixels = pixel_layout(self.image.family)(self.image_processor, images)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels, **pixels}


def _check_samples(samples: Sequence[Sample], names: Sequence[str]) -> None:
    remedy = "attach the transform first: auto_set_transform(dataset), with load_images=True"
    for sample in samples:
        if missing := [name for name in names if name not in sample]:
            raise SchemaError(f"a sample has no {', '.join(missing)}: {remedy}")
        if others := [image for image in sample["images"] if not hasattr(image, "size")]:
            raise SchemaError(f"a sample's images are {type(others[0]).__name__}, not pictures: {remedy}")


def _check_images(ids: torch.Tensor, images: Sequence[Sequence[Any]], image: ImageTokens) -> None:
    spans = (ids == image.image_token_id).sum(dim=1).tolist()
    for row, (num_tokens, shown) in enumerate(zip(spans, images, strict=True)):
        if num_tokens != len(shown) * image.num_per_image:
            raise SchemaError(
                f"sample {row} of the batch has {len(shown)} images and {num_tokens} image tokens of {image.num_per_image} per image: "
                "load images (load_images=True), do not leave out those that cannot be decoded (on_image_error=skip), and keep image tokens out "
                "of instructions"
            )


def create_fsl_collator(fsl_dir: Path | str, processor: Any, *, loss_on: LossOn = "events") -> FslCollator:
    """Make a collator for an fsl dataset.

    Args:
        fsl_dir: Folder of the dataset, such as `data/fsl`.
        processor: A processor of transformers, as from `AutoProcessor.from_pretrained`.
        loss_on: See `FslCollator`.

    Raises:
        TokenizerError: The processor gives images another number of tokens than the dataset has.
        ParamsError: The family has no collator.
    """
    if loss_on not in ("events", "actions"):
        raise ParamsError("collator.loss_on", f"is {loss_on!r}; choose events or actions")
    return FslCollator(read_image_tokens(fsl_dir), checked_image_processor(fsl_dir, processor), loss_on)


def checked_image_processor(fsl_dir: Path | str, processor: Any) -> Callable[..., Any]:
    """Return the image processor of a processor, set to make the tiles that the rows of a dataset have tokens for.

    Raises:
        TokenizerError: It gives images another number of tokens than the rows have; names both.
        ParamsError: The family has no collator.
    """
    facts = read_lineage(fsl_dir, "fsl").facts
    settings = facts["tokenizer"]["image"]
    pixel_layout(settings["family"])
    options = split_options(settings["family"], settings["processor"])
    if settings["family"] != "plain":  # for trying out: no real processor belongs to it
        check_processor(facts, processor, **options)
    width, height = settings["image_size_px"]
    return whole_frames(processor.image_processor, options, (width, height))


@dataclass(frozen=True)
class BinnedCollator:
    """Collator of binned samples: images, instruction and a newline are the prompt, the encoded events and an end token the answer.

    Attributes:
        image: Image tokens, as an fsl dataset of the same tokenizer has them.
        image_processor: Makes pixels of PIL images, from `checked_image_processor`.
        tokenizer: The extended tokenizer, saved beside that dataset, as transformers loads it. The answer ends with its end-of-text token, or
            where it has none with its pad token.
        encoder_type: The encoding of `encoded_events`, as the binned transform was given it: what stands between events depends on it.
        max_sequence_length: A longer sample is an error; choose fewer images per bin or a higher `binned.fps`.
    """

    image: ImageTokens
    image_processor: Callable[..., Any]
    tokenizer: Any
    encoder_type: str
    max_sequence_length: int = 4096

    def __post_init__(self) -> None:
        """Check the name.

        Raises:
            ParamsError: There is no such encoding.
        """
        check_name(self.encoder_type, "collator.encoder_type")

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Make a batch of samples, each with `images` (PIL), `instruction`, `encoded_events`.

        Returns:
            `input_ids`, `attention_mask`, `labels` int64 (samples, longest sample), padded right, and the pixels of `pixels.py`. Labels are
            those of the answer alone.

        Raises:
            ParamsError: A sample has more ids than `max_sequence_length`, or is of another encoding.
            SchemaError: A sample without what the transform gives, or with image tokens in its texts.
        """
        _check_samples(samples, ("images", "instruction", "encoded_events"))
        for sample in samples:
            if (encoder_type := sample.get("encoder_type", self.encoder_type)) != self.encoder_type:
                raise ParamsError(
                    "collator.encoder_type",
                    f"is {self.encoder_type!r}, but a sample is {f'of {encoder_type!r}' if encoder_type else 'not encoded'}: give the collator and the "
                    "transform the same encoder_type, and leave encode_actions=True",
                )
        prompts = [f"{self.image.text * len(sample['images'])}{sample['instruction']}\n" for sample in samples]
        end = self.tokenizer.eos_token or self.tokenizer.pad_token
        separator = create_encoder(self.encoder_type).separator
        answers = [separator.join(sample["encoded_events"]) + end for sample in samples]
        prompt_ids, answer_ids = (self.tokenizer(texts, add_special_tokens=False)["input_ids"] for texts in (prompts, answers))
        longest = max(len(prompt) + len(answer) for prompt, answer in zip(prompt_ids, answer_ids, strict=True))
        if longest > self.max_sequence_length:
            raise ParamsError(
                "collator.max_sequence_length", f"is {self.max_sequence_length}, a sample has {longest} ids; raise it"
            )
        ids = torch.full((len(samples), longest), self.tokenizer.pad_token_id, dtype=torch.int64)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
        for row, (prompt, answer) in enumerate(zip(prompt_ids, answer_ids, strict=True)):
            start, stop = len(prompt), len(prompt) + len(answer)
            ids[row, :stop] = torch.tensor(prompt + answer)
            mask[row, :stop] = 1
            labels[row, start:stop] = ids[row, start:stop]
        images = [sample["images"] for sample in samples]
        _check_images(ids, images, self.image)
        pixels = pixel_layout(self.image.family)(self.image_processor, images)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels, **pixels}
