"""Hypothesis strategies: sorted times, interval sets, and events of every form."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from owa_data.raw.messages import KEYBOARD, MOUSE, RAW_MOUSE, SCREEN, WINDOW
from owa_data.raw.payloads import Payloads
from owa_data.schema import EVENT_SCHEMA
from tests.wrapping import wrap_payloads

START_NS = 1_750_000_000_000_000_000


def sorted_times(max_ns: int = 3_000_000_000, max_size: int = 60) -> st.SearchStrategy[np.ndarray]:
    """Ascending int64 times from 0, ties included."""
    return st.lists(st.integers(0, max_ns), max_size=max_size).map(lambda times: np.array(sorted(times), np.int64))


def interval_pairs(max_value: int = 60) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Any pairs, empty and overlapping ones included."""
    return st.lists(st.tuples(st.integers(0, max_value), st.integers(0, max_value)), max_size=8)


def keyboard_messages() -> st.SearchStrategy[tuple[str, str, dict[str, object]]]:
    """Keys that the token schemes can write."""
    return st.tuples(st.integers(0, 255), st.booleans()).map(
        lambda key: ("keyboard", KEYBOARD, {"event_type": "press" if key[1] else "release", "vk": key[0], "timestamp": None})
    )


def raw_mouse_messages(max_motion: int = 2500) -> st.SearchStrategy[tuple[str, str, dict[str, object]]]:
    """Raw mouse messages: any motion, any buttons at once, wheel both ways in either form."""
    wheel = st.one_of(st.just(0), st.integers(-1300, 1300), st.integers(0xFFFF - 1300, 0xFFFF))
    motion = st.integers(-max_motion, max_motion)
    return st.tuples(motion, motion, st.integers(0, 0xFFF), wheel).map(
        lambda row: (
            "mouse/raw",
            RAW_MOUSE,
            {"last_x": row[0], "last_y": row[1], "us_flags": 0, "button_flags": row[2], "button_data": row[3]},
        )
    )


def screen_messages() -> st.SearchStrategy[tuple[str, str, dict[str, object]]]:
    """Screens that reference a video."""
    return st.integers(0, 10**12).map(lambda pts: ("screen", SCREEN, {"media_ref": {"uri": "a.mkv", "pts_ns": pts}}))


def window_messages() -> st.SearchStrategy[tuple[str, str, dict[str, object]]]:
    """Windows with any title."""
    return st.text(max_size=20).map(lambda title: ("window", WINDOW, {"title": title, "rect": [0, 0, 1, 1], "hWnd": 1}))


def event_messages() -> st.SearchStrategy[tuple[str, str, dict[str, object]]]:
    """Messages of all kinds: topic, type, payload."""
    return st.one_of(keyboard_messages(), raw_mouse_messages(), screen_messages(), window_messages())


def event_tables(messages: st.SearchStrategy | None = None, max_size: int = 30) -> st.SearchStrategy[pa.Table]:
    """Tables of the event dataset, in time order."""
    gaps = st.integers(0, 400_000_000)
    return st.lists(st.tuples(gaps, event_messages() if messages is None else messages), max_size=max_size).map(
        lambda rows: event_table(
            [(START_NS + sum(gap for gap, _ in rows[: i + 1]), *message) for i, (_, message) in enumerate(rows)]
        )
    )


def event_table(rows: list[tuple[int, str, str, dict[str, object]]]) -> pa.Table:
    """Make a table of the event dataset from (time, topic, type, payload)."""
    kinds = list(dict.fromkeys((topic, message_type) for _, topic, message_type, _ in rows))
    codes = np.array([kinds.index((topic, message_type)) for _, topic, message_type, _ in rows], np.int64)
    times = np.array([time for time, *_ in rows], np.int64)
    payloads = pa.array(
        [json.dumps(payload, separators=(",", ":"), ensure_ascii=False) for *_, payload in rows], pa.large_string()
    )
    wrapped = wrap_payloads(kinds, codes, times, Payloads.of(payloads)) if rows else pa.array([], pa.binary())
    arrays = [
        pa.array(["a.mcap"] * len(rows), pa.string()),
        pa.array([topic for _, topic, _, _ in rows], pa.string()),
        pa.array(times),
        pa.array([message_type for _, _, message_type, _ in rows], pa.string()),
        wrapped,
        pa.array(np.zeros(len(rows), np.int32)),
    ]
    return pa.Table.from_arrays(arrays, schema=EVENT_SCHEMA)


def mouse_messages() -> st.SearchStrategy[tuple[str, str, dict[str, object]]]:
    """Absolute mouse messages: moves, clicks and scrolls, on screens to the left too."""
    place = st.tuples(st.integers(-3000, 3000), st.integers(-3000, 3000))
    move = place.map(lambda at: {"event_type": "move", "x": at[0], "y": at[1]})
    click = st.tuples(place, st.sampled_from(["left", "right", "middle", "x1", "x2"]), st.booleans()).map(
        lambda row: {"event_type": "click", "x": row[0][0], "y": row[0][1], "button": row[1], "pressed": row[2]}
    )
    scroll = st.tuples(place, st.integers(-3, 3), st.integers(-3, 3)).map(
        lambda row: {"event_type": "scroll", "x": row[0][0], "y": row[0][1], "dx": row[1], "dy": row[2]}
    )
    return st.one_of(move, click, scroll).map(lambda payload: ("mouse", MOUSE, payload))


def all_messages() -> st.SearchStrategy[tuple[str, str, dict[str, object]]]:
    """Messages of all kinds, absolute mouse included."""
    return st.one_of(event_messages(), mouse_messages())
