"""Event rows made by hand: a list of tuples to a table of the event dataset."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from owa_data.raw import messages
from owa_data.raw.payloads import Payloads
from owa_data.schema import EVENT_SCHEMA
from tests.wrapping import wrap_payloads

EPISODE = "a/one.mcap"
TOPICS = {
    "screen": messages.SCREEN,
    "keyboard": messages.KEYBOARD,
    "mouse/raw": messages.RAW_MOUSE,
    "mouse": messages.MOUSE,
    "window": messages.WINDOW,
}

Row = tuple[int, int, str, dict]  # time_ns, interval, topic, payload


def screen(time_ns: int, interval: int = 0) -> Row:
    return time_ns, interval, "screen", {"media_ref": {"uri": "one.mkv", "pts_ns": time_ns}}


def key(time_ns: int, vk: int, event_type: str, interval: int = 0) -> Row:
    return time_ns, interval, "keyboard", {"event_type": event_type, "vk": vk}


def raw_mouse(time_ns: int, dx: int = 0, dy: int = 0, flags: int = 0, data: int = 0, interval: int = 0) -> Row:
    payload = {"last_x": dx, "last_y": dy, "us_flags": 0, "button_flags": flags, "button_data": data}
    return time_ns, interval, "mouse/raw", payload


def event_rows(rows: list[Row]) -> pa.Table:
    """Rows as the event dataset holds them; times must ascend."""
    kinds = list(TOPICS.items())
    codes = np.array([list(TOPICS).index(topic) for _, _, topic, _ in rows], np.int64)
    times_ns = np.array([time_ns for time_ns, _, _, _ in rows], np.int64)
    payloads = pa.array([json.dumps(payload) for *_, payload in rows], pa.large_string())
    columns = [
        pa.array([EPISODE] * len(rows), pa.string()),
        pa.array([topic for _, _, topic, _ in rows], pa.string()),
        pa.array(times_ns),
        pa.array([TOPICS[topic] for _, _, topic, _ in rows], pa.string()),
        wrap_payloads(kinds, codes, times_ns, Payloads.of(payloads)) if rows else pa.array([], pa.binary()),
        pa.array([interval for _, interval, _, _ in rows], pa.int32()),
    ]
    return pa.Table.from_arrays(columns, schema=EVENT_SCHEMA)
