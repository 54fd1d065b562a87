"""Transform of the binned dataset: bins to images of their state and encoded actions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Unpack

from owa_data.encoding.registry import check_name, create_encoder
from owa_data.transforms.images import ImageLoader
from owa_data.transforms.options import ImageOptions, check_options, make_loader
from owa_data.transforms.rows import (
    Batch,
    as_mcap_messages,
    as_screens,
    encode_messages,
    load_image_lists,
    parse_message,
    split_like,
)


@dataclass
class BinnedTransform:
    """See `create_binned_dataset_transform`. Picklable; `counts` as in `EventTransform`."""

    encoder_type: str
    instruction: str
    instructions: Mapping[str, str]
    load_images: bool
    encode_actions: bool
    loader: ImageLoader

    @property
    def counts(self) -> Counter[str]:
        """Counts so far, by what happened."""
        return self.loader.counts

    def __call__(self, batch: Batch) -> dict[str, list[Any]]:
        """Transform a batch."""
        screens = [[parse_message(part).message for part in state] for state in batch["state"]]
        rows = [f"row bin_idx {index}" for index in batch["bin_idx"]]
        images = load_image_lists(screens, batch["episode_path"], rows, self.loader) if self.load_images else as_screens(screens)
        stored = [part for actions in batch["actions"] for part in actions]
        events: list[list[Any]]
        if self.encode_actions:
            texts = encode_messages(stored, create_encoder(self.encoder_type), self.counts)
            events = [[text for part in parts for text in part] for parts in split_like(texts, batch["actions"])]
        else:
            events = split_like(as_mcap_messages(stored), batch["actions"])
        kept = {name: values for name, values in batch.items() if name not in ("state", "actions")}
        instructions = [self.instructions.get(path, self.instruction) for path in batch["episode_path"]]
        encoders = [self.encoder_type if self.encode_actions else ""] * len(events)
        return {**kept, "images": images, "encoded_events": events, "encoder_type": encoders, "instruction": instructions}


def create_binned_dataset_transform(
    encoder_type: str = "hierarchical",
    instruction: str = "Complete the task",
    *,
    load_images: bool = True,
    encode_actions: bool = True,
    instructions: Mapping[str, str] | None = None,
    **options: Unpack[ImageOptions],
) -> BinnedTransform:
    """Make a transform for `dataset.set_transform` of a binned dataset.

    Args:
        encoder_type: Name of the encoding.
        instruction: For episodes without one of their own.
        load_images: False gives references, as `ScreenCaptured`.
        encode_actions: False gives messages, as `McapMessage`.
        instructions: Instruction by `episode_path`; `auto_set_transform` fills it from the dataset's metadata.
        **options: See `ImageOptions`.

    Returns:
        A transform that gives `images` (list of Pillow images), `encoded_events` (list of str), `encoder_type` (of these; empty for messages) and
        `instruction` per row, beside the numeric columns.

    Raises:
        TypeError: An unknown argument.
        ParamsError: An unknown encoding, decoder or policy.
    """
    check_options(create_binned_dataset_transform, options)
    check_name(encoder_type, "encoder_type")
    return BinnedTransform(
        encoder_type, instruction, dict(instructions or {}), load_images, encode_actions, make_loader(**options)
    )
