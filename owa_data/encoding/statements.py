"""What text encodings say of an event: one or more statements, as columns.

A raw mouse message can carry motion, several buttons and the wheel at once: it makes one statement each, in this order. Each text
encoding writes statements in its own words and reads them back; which statements there are stands here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from owa_data.encoding.digits import to_notches
from owa_data.encoding.events import EventKind, Events, wheel_delta
from owa_data.encoding.keys import NUM_KEYS
from owa_data.raw import messages
from owa_data.raw.messages import BUTTON_FLAGS, HORIZONTAL_WHEEL_FLAG, MOVE_ABSOLUTE, WHEEL_FLAG, WHEEL_UNIT
from owa_data.raw.parsing import decode_payloads
from owa_data.raw.payloads import Payloads

Int64s = npt.NDArray[np.int64]

BUTTONS = tuple(BUTTON_FLAGS)
DIRECTIONS = ("up", "down", "left", "right")
MAX_AMOUNT = 0x7FFF // WHEEL_UNIT  # notches that the 16 bits of a raw mouse message hold


class Verb(IntEnum):
    """What a statement says."""

    SCREEN = 0
    KEY_PRESS = 1
    KEY_RELEASE = 2
    MOVE_TO = 3
    MOVE_BY = 4
    CLICK = 5
    RELEASE = 6
    SCROLL = 7
    WINDOW = 8


class Statement(NamedTuple):
    """One statement.

    Attributes:
        verb: What it says.
        detail: Key code, index into `BUTTONS` or `DIRECTIONS`.
        x: Position or motion, pixels or counts of the mouse.
        y: Likewise.
        is_placed: Whether `x` and `y` of a click or release are known.
        amount: Notches of the wheel, above 0.
        title: Of a window.
    """

    verb: Verb
    detail: int = 0
    x: int = 0
    y: int = 0
    is_placed: bool = False
    amount: int = 0
    title: str = ""


@dataclass(frozen=True)
class Statements:
    """Statements of many events.

    Attributes:
        distinct: The different ones.
        codes: Index into `distinct` of each statement, int64 (k,).
        sources: The event that each belongs to, int64 (k,), ascending.
        counts: `not_encodable` events, `clamped` ones (the wheel by over 273 notches), and `wheel_rounded` ones.
    """

    distinct: list[Statement]
    codes: Int64s
    sources: Int64s
    counts: dict[str, int]


_NUM_COLUMNS = 8  # event, rank, verb, detail, x, y, is_placed, amount


class _Window(msgspec.Struct):
    title: str


@dataclass
class _Columns:
    """Statements as they are collected: parts of equal columns, to be sorted by event and rank."""

    parts: list[Int64s]

    def add(self, rows: Int64s, rank: int, verb: Verb | Int64s, **fields: Int64s | int) -> None:
        """Add one statement for each of the events `rows`; `rank` orders those of one event."""
        if not len(rows):
            return  # most kinds are absent from the few events of one row, where what an encoding costs counts
        part = np.empty((len(rows), _NUM_COLUMNS), np.int64)
        values = [fields.get(name, 0) for name in ("detail", "x", "y", "is_placed", "amount")]
        for column, value in enumerate([rows, rank, verb, *values]):
            part[:, column] = value
        self.parts.append(part)


def statements_of(events: Events) -> Statements:
    """Return what there is to say of events; equal statements are made once."""
    columns = _Columns([np.empty((0, _NUM_COLUMNS), np.int64)])
    columns.add(np.flatnonzero(events.kinds == EventKind.SCREEN), 0, Verb.SCREEN)
    keys = np.flatnonzero((events.kinds == EventKind.KEYBOARD) & (events.vk >= 0) & (events.vk < NUM_KEYS))
    columns.add(keys, 0, np.where(events.pressed[keys], Verb.KEY_PRESS, Verb.KEY_RELEASE), detail=events.vk[keys])
    wheel_rounded = _add_raw_mouse(columns, events)
    _add_mouse(columns, events)
    titles = _add_windows(columns, events)
    table = np.concatenate(columns.parts)
    num_clamped = len(np.unique(table[table[:, -1] > MAX_AMOUNT, 0]))
    table[:, -1] = np.minimum(table[:, -1], MAX_AMOUNT)
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    first, codes = _distinct_rows(table[:, 2:])
    distinct = [_statement(row, titles) for row in table[first, 2:].tolist()]
    said = np.zeros(len(events), np.bool_)
    said[table[:, 0]] = True
    counts = {"not_encodable": int(len(events) - said.sum()), "clamped": num_clamped, "wheel_rounded": wheel_rounded}
    return Statements(distinct, codes, table[:, 0], counts)


def _statement(row: list[int], titles: Sequence[str]) -> Statement:
    verb, detail, x, y, is_placed, amount = row
    if verb == Verb.WINDOW:
        return Statement(Verb.WINDOW, title=titles[detail])
    return Statement(Verb(verb), detail, x, y, bool(is_placed), amount)


def _distinct_rows(table: Int64s) -> tuple[Int64s, Int64s]:
    """Return where each distinct row first stands, and which distinct row each is."""
    codes = np.zeros(len(table), np.int64)
    for column in table.T:
        values, inverse = np.unique(column, return_inverse=True)
        _, codes = np.unique(codes * len(values) + inverse, return_inverse=True)
    _, first, codes = np.unique(codes, return_index=True, return_inverse=True)
    return first, codes


def _add_raw_mouse(columns: _Columns, events: Events) -> int:
    rows = np.flatnonzero(events.kinds == EventKind.RAW_MOUSE)
    dx, dy, us_flags, flags, data = events.raw_mouse[rows].T
    is_absolute = us_flags & MOVE_ABSOLUTE != 0
    notches, is_rounded = to_notches(wheel_delta(data), WHEEL_UNIT)
    is_wheel = flags & (WHEEL_FLAG | HORIZONTAL_WHEEL_FLAG) != 0
    turns = is_wheel & (notches != 0)
    buttons = flags & sum(down | up for down, up in BUTTON_FLAGS.values()) != 0
    # A message that says nothing else is a motion by nothing, so that it is not lost.
    moves = ~is_absolute & ((dx != 0) | (dy != 0) | ~(buttons | turns))
    columns.add(rows[is_absolute], 0, Verb.MOVE_TO, x=dx[is_absolute], y=dy[is_absolute])
    columns.add(rows[moves], 0, Verb.MOVE_BY, x=dx[moves], y=dy[moves])
    for index, (down, up) in enumerate(BUTTON_FLAGS.values()):
        columns.add(rows[flags & down != 0], 1 + 2 * index, Verb.CLICK, detail=index)
        columns.add(rows[flags & up != 0], 2 + 2 * index, Verb.RELEASE, detail=index)
    directions = np.where(flags & WHEEL_FLAG != 0, np.where(notches > 0, 0, 1), np.where(notches > 0, 3, 2))
    columns.add(rows[turns], 11, Verb.SCROLL, detail=directions[turns], amount=np.abs(notches)[turns])
    return int((is_rounded & is_wheel).sum())


def _add_mouse(columns: _Columns, events: Events) -> None:
    rows = np.flatnonzero(events.kinds == EventKind.MOUSE)
    mice, valid = messages.decode_mouse(events.payloads.take(rows))
    rows = rows[valid]
    num_mice = len(mice)
    types = np.array([mouse.event_type for mouse in mice], object)
    x, y = (np.fromiter((getattr(mouse, name) for mouse in mice), np.int64, num_mice) for name in "xy")
    dx, dy = (np.fromiter((getattr(mouse, name) or 0 for mouse in mice), np.int64, num_mice) for name in ("dx", "dy"))
    button = np.fromiter((BUTTONS.index(mouse.button) if mouse.button in BUTTONS else -1 for mouse in mice), np.int64, num_mice)
    pressed = np.fromiter((mouse.pressed is True for mouse in mice), np.bool_, num_mice)
    clicks = (types == "click") & (button >= 0)
    scrolls = types == "scroll"
    moves = (types == "move") | (scrolls & (dx == 0) & (dy == 0))
    columns.add(rows[moves], 0, Verb.MOVE_TO, x=x[moves], y=y[moves])
    for is_down, verb in ((True, Verb.CLICK), (False, Verb.RELEASE)):
        chosen = clicks & (pressed == is_down)
        columns.add(rows[chosen], 0, verb, detail=button[chosen], x=x[chosen], y=y[chosen], is_placed=1)
    for rank, amount, (positive, negative) in ((0, dy, (0, 1)), (1, dx, (3, 2))):
        chosen = scrolls & (amount != 0)
        direction = np.where(amount[chosen] > 0, positive, negative)
        columns.add(rows[chosen], rank, Verb.SCROLL, detail=direction, amount=np.abs(amount[chosen]))


def _add_windows(columns: _Columns, events: Events) -> list[str]:
    rows = np.flatnonzero(events.kinds == EventKind.WINDOW)
    payloads = events.payloads.take(rows).plain().to_arrow().dictionary_encode()
    windows, valid = decode_payloads(Payloads.of(payloads.dictionary), _Window)
    title_of = np.cumsum(valid) - 1
    indices = payloads.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    is_valid = valid[indices]
    columns.add(rows[is_valid], 0, Verb.WINDOW, detail=title_of[indices[is_valid]])
    return [window.title for window in windows]
