"""Stored messages of one batch: to events, texts, references and message objects.

A batch is what `datasets` hands to a transform: a list per column. Lists of messages are handled together, whatever rows they are of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from owa_data.encoding.events import read_events
from owa_data.encoding.registry import Encoder
from owa_data.transforms.images import ImageLoader, ImageReference

Batch = dict[str, list[Any]]
T = TypeVar("T")


class Message(msgspec.Struct):
    """`mcap_message` as stored: the JSON of `mcap_owa.highlevel.McapMessage`."""

    topic: str
    timestamp: int
    message: str
    message_type: str


_parse = msgspec.json.Decoder(Message).decode


def parse_message(stored: bytes | str) -> Message:
    """Read the outer JSON of a stored message; `message` is the payload's JSON."""
    return _parse(stored)


def split_like(values: Sequence[T], lists: Sequence[Sequence[Any]]) -> list[list[T]]:
    """Split values, one per element of `lists`, into lists of the same lengths."""
    bounds = [0, *accumulate(len(part) for part in lists)]
    return [list(values[first:stop]) for first, stop in pairwise(bounds)]


def event_table(stored: Sequence[bytes | str]) -> pa.Table:
    """Return stored messages as rows of an event dataset, all in one interval, for `read_events`."""
    messages = [_parse(part) for part in stored]
    payloads = [part if isinstance(part, bytes) else part.encode() for part in stored]
    return pa.table(
        {
            "topic": pa.array([message.topic for message in messages], pa.string()),
            "timestamp_ns": pa.array(np.array([message.timestamp for message in messages], np.int64)),
            "message_type": pa.array([message.message_type for message in messages], pa.string()),
            "mcap_message": pa.array(payloads, pa.binary()),
            "interval_index": pa.array(np.zeros(len(messages), np.int32)),
        }
    )


def encode_messages(stored: Sequence[bytes | str], encoder: Encoder, counts: Counter[str]) -> list[list[str]]:
    """Encode stored messages: for each a list of its text, empty where the encoding has none for it (counted as `not_encodable`)."""
    encoded = encoder.encode(read_events(event_table(stored)))
    texts: list[list[str]] = [[] for _ in stored]
    # The token schemes have a place for the image inside the event, the text encodings none beside their words.
    written = encoded.texts(images=bool(encoder.pieces))
    for source, text in zip(encoded.sources.tolist(), written, strict=True):
        texts[source].append(text)
    counts.update({name: number for name, number in encoded.counts.items() if number})
    return texts


def as_mcap_messages(stored: Sequence[bytes | str]) -> list[Any]:
    """Return stored messages as `mcap_owa.highlevel.McapMessage`."""
    from mcap_owa.highlevel import McapMessage

    return [McapMessage.model_validate_json(part) for part in stored]


def load_image_lists(
    lists: Sequence[Sequence[str | bytes]], episode_paths: Sequence[str], row_names: Sequence[str], loader: ImageLoader
) -> list[list[Any]]:
    """Load lists of screen payloads, one list per row, all in one go. Images that the loader leaves out are missing in their list.

    Raises:
        MediaError: See `ImageLoader.load`.
    """
    references = [
        ImageReference(episode_path, row_name, payload)
        for part, episode_path, row_name in zip(lists, episode_paths, row_names, strict=True)
        for payload in part
    ]
    images = split_like(loader.load(references), lists)
    return [[image for image in part if image is not None] for part in images]


def as_screens(lists: Sequence[Sequence[str | bytes]]) -> list[list[Any]]:
    """Return lists of screen payloads as lists of `ScreenCaptured`."""
    from owa.msgs.desktop.screen import ScreenCaptured

    return [[ScreenCaptured.model_validate_json(payload) for payload in part] for part in lists]
