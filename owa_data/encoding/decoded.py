"""What decoding gives: events as columns, where each began, and what was broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from owa_data.encoding.events import EventKind, Events
from owa_data.errors import DecodeError
from owa_data.raw import messages
from owa_data.raw.payloads import PayloadPool, Payloads

Int64s = npt.NDArray[np.int64]
Clock = Literal["wrapped", "since_start", "none", "absolute"]

TOPICS = {
    EventKind.SCREEN: "screen",
    EventKind.KEYBOARD: "keyboard",
    EventKind.RAW_MOUSE: "mouse/raw",
    EventKind.MOUSE: "mouse",
    EventKind.WINDOW: "window",
}
UNKNOWN_SCREEN = '{"media_ref":{"uri":"unknown"}}'
"""Payload of a screen whose image was not given: tokens hold none."""


class BrokenSpan(NamedTuple):
    """A stretch `[start, end)` of what was given that is no whole event, and why."""

    start: int
    end: int
    problem: str


@dataclass(frozen=True)
class Decoded:
    """Decoded events, in the order in which they were written.

    Attributes:
        events: n events; encoders take them again.
        positions: Where each began, in tokens or characters, int64 (n,), ascending.
        broken: Stretches that are no whole event, ascending.
        clock: What the times are: `wrapped` modulo `period_ns`, `since_start` of the episode, or `none` (all zero); `absolute` when done.
        period_ns: Of `wrapped` times.
        doubts: Positions at which a time is not certain, and why.
    """

    events: Events
    positions: Int64s
    broken: list[BrokenSpan]
    clock: Clock
    period_ns: int = 0
    doubts: tuple[tuple[int, str], ...] = ()

    def raise_broken(self) -> None:
        """Raise the first broken span.

        Raises:
            DecodeError: There is one.
        """
        if self.broken:
            raise DecodeError(self.broken[0].start, self.broken[0].problem)


def make_events(
    kinds: npt.NDArray[np.uint8],
    times_ns: Int64s,
    vk: Int64s,
    pressed: npt.NDArray[np.bool_],
    raw_mouse: Int64s,
    payloads: Sequence[bytes] | None = None,
) -> Events:
    """Make events from columns, zero where a field has no meaning. Payloads of mouse and window are given, the others written later."""
    is_key, is_raw = kinds == EventKind.KEYBOARD, kinds == EventKind.RAW_MOUSE
    names = pa.array([TOPICS.get(EventKind(kind), "") for kind in EventKind], pa.string())
    return Events(
        times_ns=times_ns,
        kinds=kinds,
        topics=names.take(pa.array(kinds)).dictionary_encode(),
        interval_index=np.zeros(len(kinds), np.int64),
        vk=np.where(is_key, vk, 0),
        pressed=is_key & pressed,
        raw_mouse=np.where(is_raw[:, None], raw_mouse, 0),
        payloads=Payloads.of([b""] * len(kinds) if payloads is None else payloads),
    )


def at_times(events: Events, times_ns: Int64s, images: Sequence[str]) -> Events:
    """Return events at these times with all payloads written, valid for `owa.msgs`.

    Args:
        events: From a scheme's `decode`.
        times_ns: int64 (n,).
        images: JSON of each screen, in their order.
    """
    payloads = events.payloads.to_pylist()
    keys = np.flatnonzero(events.kinds == EventKind.KEYBOARD)
    mice = np.flatnonzero(events.kinds == EventKind.RAW_MOUSE)
    screens = np.flatnonzero(events.kinds == EventKind.SCREEN)
    pool = PayloadPool()
    written = [
        (keys, messages.write_keyboard(events.vk[keys], events.pressed[keys], times_ns[keys], pool).to_pylist()),
        (mice, messages.write_raw_mouse(events.raw_mouse[mice], times_ns[mice], pool).to_pylist()),
        (screens, [image.encode() for image in images]),
    ]
    for rows, texts in written:
        for row, text in zip(rows.tolist(), texts, strict=True):
            payloads[row] = text
    return replace(events, times_ns=times_ns, payloads=Payloads.of(payloads))
