"""Absolute mouse positions as relative raw motion, for `as_raw: true`.

Input: decoded `mouse` messages, or raw messages flagged absolute, of one topic. Output: the table of raw mouse fields, int64 (n, 5), as
`raw.messages.raw_mouse_columns` gives it. The difference is to the previous position in the same interval.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from owa_data.raw.messages import BUTTON_FLAGS, HORIZONTAL_WHEEL_FLAG, MOVE_ABSOLUTE, WHEEL_FLAG, WHEEL_UNIT, Mouse

MAX_WHEEL_DATA = 0x7FFF

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def differences(positions: Int64s, interval_index: Int64s) -> tuple[Int64s, Bools]:
    """Return the step from the previous position, int64 (n, 2), and where there is one in the same interval, bool (n,); else (0, 0)."""
    known = np.zeros(len(positions), np.bool_)
    known[1:] = interval_index[1:] == interval_index[:-1]
    steps = np.zeros_like(positions)
    steps[1:] = positions[1:] - positions[:-1]
    return np.where(known[:, None], steps, 0), known


def raw_from_mouse(messages: list[Mouse], interval_index: Int64s) -> tuple[Int64s, Bools, dict[str, int]]:
    """Turn `mouse` messages into raw fields.

    Returns:
        int64 (n, 5): last_x, last_y, us_flags, button_flags, button_data; bool (n,) where a row says something: not so for a move that has
        no previous position in its interval; and what raw fields cannot say: `unknown_button` clicks, `second_wheel` scrolls that turn both
        ways at once (the horizontal turn is left out), `wheel_clamped` scrolls beyond 16 bits.
    """
    positions = np.array([(message.x, message.y) for message in messages], np.int64).reshape(-1, 2)
    steps, known = differences(positions, interval_index)
    table = np.zeros((len(messages), 5), np.int64)
    table[:, :2] = steps
    altered = {"unknown_button": 0, "second_wheel": 0, "wheel_clamped": 0}
    says = known.copy()
    for index, message in enumerate(messages):
        if message.event_type == "click":
            down, up = BUTTON_FLAGS.get(message.button or "", (0, 0))
            table[index, 3] = down if message.pressed else up
            altered["unknown_button"] += not down
        elif message.event_type == "scroll":
            vertical, horizontal = message.dy or 0, message.dx or 0
            delta = (vertical or horizontal) * WHEEL_UNIT
            clamped = min(max(delta, -MAX_WHEEL_DATA), MAX_WHEEL_DATA)
            # Windows reports a wheel step as an unsigned 16-bit number.
            table[index, 3:] = WHEEL_FLAG if vertical or not horizontal else HORIZONTAL_WHEEL_FLAG, clamped & 0xFFFF
            altered["second_wheel"] += bool(vertical and horizontal)
            altered["wheel_clamped"] += clamped != delta
        says[index] |= message.event_type != "move"
    return table, says, altered


def raw_from_absolute(table: Int64s, interval_index: Int64s) -> tuple[Int64s, Bools]:
    """Turn the raw rows that are flagged absolute into relative ones; relative rows stay. Arguments and result as `raw_from_mouse`."""
    absolute = np.flatnonzero(table[:, 2] & MOVE_ABSOLUTE)
    says = np.ones(len(table), np.bool_)
    relative = table.copy()
    relative[absolute, :2], known = differences(table[absolute, :2], interval_index[absolute])
    relative[absolute, 2] = 0
    says[absolute] = known | (table[absolute, 3] != 0)
    return relative, says
