"""Decoded events as a recording: an OWAMcap file that the ecosystem's own reader, viewer and replayer take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from owa_data.encoding.decoded import UNKNOWN_SCREEN, Decoded
from owa_data.encoding.events import EventKind


class Written(NamedTuple):
    """Messages written, screens without a known image left out, and of the messages those with a time before 0 that were put at 0."""

    num_messages: int
    num_left_out: int
    num_moved: int


def write_recording(path: Path, parts: Sequence[Decoded]) -> Written:
    """Write decoded events in time order.

    Screens whose image is not known are left out. References to media are relative to the recording's folder, as they were recorded: put the
    file beside the media.

    Args:
        path: The `.mcap` to write; its folder must exist.
        parts: Decoded rows or texts, at absolute times.

    Returns:
        Counts of what became of the events.
    """
    from mcap_owa.highlevel import OWAMcapWriter
    from owa.msgs.desktop.keyboard import KeyboardEvent
    from owa.msgs.desktop.mouse import MouseEvent, RawMouseEvent
    from owa.msgs.desktop.screen import ScreenCaptured
    from owa.msgs.desktop.window import WindowInfo

    classes = {
        EventKind.SCREEN: ScreenCaptured,
        EventKind.KEYBOARD: KeyboardEvent,
        EventKind.RAW_MOUSE: RawMouseEvent,
        EventKind.MOUSE: MouseEvent,
        EventKind.WINDOW: WindowInfo,
    }
    rows = [
        (time_ns, topic, classes[EventKind(kind)], payload)
        for part in parts
        for time_ns, topic, kind, payload in zip(
            part.events.times_ns.tolist(),
            part.events.topics.to_pylist(),
            part.events.kinds.tolist(),
            part.events.payloads.to_pylist(),
            strict=True,
        )
    ]
    known = [row for row in rows if row[3] != UNKNOWN_SCREEN.encode()]
    order = np.argsort(np.array([time_ns for time_ns, *_ in known], np.int64), kind="stable")
    # Written beside its place and moved there: what stands there may be a hard link into the DVC cache.
    part = path.with_name(f".{path.name}.part.mcap")
    try:
        with OWAMcapWriter(part) as writer:
            for index in order.tolist():
                time_ns, topic, message_class, payload = known[index]
                writer.write_message(message_class.model_validate_json(payload), topic=topic, timestamp=max(time_ns, 0))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    # An action shift may put what no hint says the time of before 0, which a recording cannot hold.
    num_moved = sum(time_ns < 0 for time_ns, *_ in known)
    return Written(len(known), len(rows) - len(known), num_moved)
