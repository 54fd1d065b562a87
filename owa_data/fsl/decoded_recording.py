"""Decoded events as a recording: an OWAMcap file that the ecosystem's own reader, viewer and replayer take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from owa_data.encoding.decoded import UNKNOWN_SCREEN, Decoded
from owa_data.encoding.events import EventKind


def write_recording(path: Path, parts: Sequence[Decoded]) -> tuple[int, int]:
    """Write decoded events in time order.

    Screens whose image is not known are left out. References to media are relative to the recording's folder, as they were recorded: put the
    file beside the media.

    Args:
        path: The `.mcap` to write; its folder must exist.
        parts: Decoded rows or texts, at absolute times.

    Returns:
        The number of messages written, and of screens left out.
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
                # An action shift may put what no hint says the time of before 0, which a recording cannot hold.
                writer.write_message(message_class.model_validate_json(payload), topic=topic, timestamp=max(time_ns, 0))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return len(known), len(rows) - len(known)
