"""Transform of the event dataset: rows to images and encoded events."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Unpack

from owa_data.encoding.registry import check_name, create_encoder
from owa_data.raw.messages import SCREEN
from owa_data.transforms.images import ImageLoader
from owa_data.transforms.options import ImageOptions, check_options, make_loader
from owa_data.transforms.rows import Batch, as_mcap_messages, as_screens, encode_messages, load_image_lists, parse_message


@dataclass
class EventTransform:
    """See `create_event_dataset_transform`. Picklable; `counts` holds what this process loaded, left out and could not encode."""

    encoder_type: str
    load_images: bool
    encode_actions: bool
    loader: ImageLoader

    @property
    def counts(self) -> Counter[str]:
        """Counts so far, by what happened."""
        return self.loader.counts

    def __call__(self, batch: Batch) -> dict[str, list[Any]]:
        """Transform a batch; a row without a screen has no images."""
        stored = batch["mcap_message"]
        screens = [
            [parse_message(part).message] if message_type == SCREEN else []
            for part, message_type in zip(stored, batch["message_type"], strict=True)
        ]
        rows = [f"row at {time_ns} ns" for time_ns in batch["timestamp_ns"]]
        images = load_image_lists(screens, batch["episode_path"], rows, self.loader) if self.load_images else as_screens(screens)
        if self.encode_actions:
            events = encode_messages(stored, create_encoder(self.encoder_type), self.counts)
        else:
            events = [[message] for message in as_mcap_messages(stored)]
        kept = {name: values for name, values in batch.items() if name != "mcap_message"}
        return {**kept, "images": images, "encoded_events": events}


def create_event_dataset_transform(
    encoder_type: str = "hierarchical",
    *,
    load_images: bool = True,
    encode_actions: bool = True,
    **options: Unpack[ImageOptions],
) -> EventTransform:
    """Make a transform for `dataset.set_transform` of an event dataset.

    Args:
        encoder_type: Name of the encoding.
        load_images: False gives references, as `ScreenCaptured`.
        encode_actions: False gives messages, as `McapMessage`.
        **options: See `ImageOptions`.

    Returns:
        A transform that gives `images` (list of Pillow images, empty for rows that are no screen) and `encoded_events` (list of str) per row, beside the
        other columns.

    Raises:
        TypeError: An unknown argument.
        ParamsError: An unknown encoding, decoder or policy.
    """
    check_options(create_event_dataset_transform, options)
    check_name(encoder_type, "encoder_type")
    return EventTransform(encoder_type, load_images, encode_actions, make_loader(**options))
