"""Event rows as columns: what encoders work on.

Input: rows of the event dataset (Arrow). Output: `Events`, one NumPy array per field. No Python object per event.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from owa_data.errors import SchemaError
from owa_data.event.rows import message_spans, unwrap_payloads
from owa_data.raw import messages
from owa_data.raw.payloads import Payloads
from owa_data.raw.quoted import QuotedPayloads

Int64s = npt.NDArray[np.int64]


class EventKind(IntEnum):
    """What an event is; the numbers of the column `event_kinds`."""

    SCREEN = 0
    KEYBOARD = 1
    RAW_MOUSE = 2  # relative motion, buttons, wheel
    MOUSE = 3  # absolute position
    WINDOW = 4
    OTHER = 5


ACTION_KINDS = (EventKind.KEYBOARD, EventKind.RAW_MOUSE, EventKind.MOUSE)
"""Kinds of events that somebody did; screens and windows are what they saw."""

_KIND_OF_TYPE = {
    messages.SCREEN: EventKind.SCREEN,
    messages.KEYBOARD: EventKind.KEYBOARD,
    messages.RAW_MOUSE: EventKind.RAW_MOUSE,
    messages.MOUSE: EventKind.MOUSE,
    messages.WINDOW: EventKind.WINDOW,
}


@dataclass(frozen=True)
class Events:
    """Events of one episode in time order, n of them.

    Attributes:
        times_ns: int64 (n,).
        kinds: `EventKind` of each, uint8 (n,).
        topics: Topic of each, Arrow dictionary of string (n,).
        interval_index: int64 (n,).
        vk: Key code, int64 (n,); 0 where the event is no key.
        pressed: bool (n,); false where the event is no key.
        raw_mouse: last_x, last_y, us_flags, button_flags, button_data as recorded, int64 (n, 5); 0 where the event is no raw mouse.
        payloads: JSON of the message (n,); as they stand in event rows, or plain.
        start_ns: Time of the episode's first message, from which `timestamps` of the encoding `hierarchical` count.
    """

    times_ns: Int64s
    kinds: npt.NDArray[np.uint8]
    topics: pa.DictionaryArray
    interval_index: Int64s
    vk: Int64s
    pressed: npt.NDArray[np.bool_]
    raw_mouse: Int64s
    payloads: Payloads | QuotedPayloads
    start_ns: int = 0

    def __len__(self) -> int:
        return len(self.times_ns)


def wheel_delta(button_data: Int64s) -> Int64s:
    """Return the signed wheel step of a raw mouse event: Windows reports an unsigned 16-bit number, so 65416 is -120."""
    return np.where((button_data >= 0x8000) & (button_data <= 0xFFFF), button_data - 0x10000, button_data)


def read_events(rows: pa.Table, start_ns: int = 0) -> Events:
    """Read rows of the event dataset into columns.

    Args:
        rows: With the columns `topic`, `timestamp_ns`, `message_type`, `mcap_message` and `interval_index` of `EVENT_SCHEMA`.
        start_ns: See `Events`.

    Raises:
        SchemaError: A payload that is not what its message type promises; `event` writes none.
    """
    num_events = rows.num_rows
    times_ns = _column(rows, "timestamp_ns").to_numpy(zero_copy_only=False)
    topics, types = (_column(rows, name).dictionary_encode() for name in ("topic", "message_type"))
    topic_names, type_names = topics.dictionary.to_pylist(), types.dictionary.to_pylist()
    type_index = types.indices.to_numpy().astype(np.int64)
    pair = topics.indices.to_numpy().astype(np.int64) * max(len(type_names), 1) + type_index
    pairs = [(topic, message_type) for topic in topic_names for message_type in type_names]
    payloads = unwrap_payloads(pairs, pair, times_ns, message_spans(rows))
    kind_of_code = np.array([_KIND_OF_TYPE.get(name, EventKind.OTHER) for name in type_names], np.uint8)
    kinds = kind_of_code[type_index]
    vk, pressed = np.zeros(num_events, np.int64), np.zeros(num_events, np.bool_)
    keys = np.flatnonzero(kinds == EventKind.KEYBOARD)
    found_vk, found_pressed, sound_keys = messages.keyboard_columns(payloads.take(keys))
    raw_mouse = np.zeros((num_events, 5), np.int64)
    mice = np.flatnonzero(kinds == EventKind.RAW_MOUSE)
    found_mouse, sound_mice = messages.raw_mouse_columns(payloads.take(mice))
    if not (sound_keys.all() and sound_mice.all()):
        raise SchemaError("event rows hold keyboard or mouse payloads that do not parse; rebuild the event dataset")
    vk[keys], pressed[keys], raw_mouse[mice] = found_vk, found_pressed, found_mouse
    for column in (kinds, vk, pressed, raw_mouse):
        column.setflags(write=False)  # encoders and bin functions, also ones of others, are given it
    intervals = _column(rows, "interval_index").to_numpy(zero_copy_only=False).astype(np.int64)
    return Events(times_ns, kinds, topics, intervals, vk, pressed, raw_mouse, payloads, start_ns)


def _column(rows: pa.Table, name: str) -> pa.Array:
    return rows[name].combine_chunks()
