"""What is held down at the end of each bin, from presses and releases."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from owa_data.raw.messages import BUTTON_FLAGS

Int64s = npt.NDArray[np.int64]

# Windows key codes of the mouse buttons (VK_LBUTTON, ...), so that buttons and keys are numbered alike.
BUTTON_VK = {"left": 1, "right": 2, "middle": 4, "x1": 5, "x2": 6}


def held_at_bin_ends(bins: Int64s, codes: Int64s, pressed: npt.NDArray[np.bool_], bin_intervals: Int64s) -> tuple[Int64s, Int64s]:
    """Find what is held at the end of each bin. Nothing is held where an interval begins.

    Args:
        bins: Bin of each press or release, in time order, int64 (n,).
        codes: What is pressed, int64 (n,).
        pressed: bool (n,).
        bin_intervals: Interval of each bin, ascending, int64 (b,).

    Returns:
        `offsets` int64 (b + 1,) and `held` int64: bin i ends with `held[offsets[i]:offsets[i + 1]]`, ascending.

    Example:
        Key 87 pressed in bin 0 and released in bin 2 of three bins is held at the ends of bins 0 and 1.
    """
    num_bins = len(bin_intervals)
    intervals = bin_intervals[bins]
    order = np.lexsort((np.arange(len(bins)), codes, intervals))
    bins, codes, pressed, intervals = bins[order], codes[order], pressed[order], intervals[order]
    same_thing = (codes[1:] == codes[:-1]) & (intervals[1:] == intervals[:-1])
    # Of several changes of one thing in one bin the last one tells how the bin ends.
    is_last = np.append(~same_thing | (bins[1:] != bins[:-1]), np.ones(min(len(bins), 1), np.bool_))
    bins, codes, pressed, intervals = bins[is_last], codes[is_last], pressed[is_last], intervals[is_last]
    until = np.searchsorted(bin_intervals, intervals, side="right")  # the bin after the interval's last one
    changes_again = (codes[1:] == codes[:-1]) & (intervals[1:] == intervals[:-1])
    until[:-1] = np.where(changes_again, bins[1:], until[:-1])
    spans = np.where(pressed, until - bins, 0)
    held = np.repeat(codes, spans)
    at = np.repeat(bins, spans) + np.arange(len(held)) - np.repeat(np.cumsum(spans) - spans, spans)
    order = np.lexsort((held, at))
    return np.concatenate([[0], np.cumsum(np.bincount(at, minlength=num_bins))]), held[order]


def button_changes(flags: Int64s) -> tuple[Int64s, Int64s, npt.NDArray[np.bool_]]:
    """Read the button flags of raw mouse messages.

    Returns:
        For each press and release, in the order of messages: which message, int64; the button, as `BUTTON_VK`; whether it is a press. A message
        that says both of one button counts as press, then release.
    """
    bits = np.array([bit for pair in BUTTON_FLAGS.values() for bit in pair])
    messages, places = np.nonzero(flags[:, None] & bits)
    buttons = np.array([BUTTON_VK[name] for name in BUTTON_FLAGS])
    return messages, buttons[places // 2], places % 2 == 0
