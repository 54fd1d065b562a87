"""Thin out one topic's messages, interval by interval. One function per kind of `event.topics.<name>.resample`.

Input: times, interval and content columns of the messages of one topic that lie in some interval. Output: which of them make rows, and
what those rows say instead where their content is new. State never crosses from one interval into the next.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from owa_data.event.grid import NS_PER_S, period_of, period_start_ns
from owa_data.event.intervals import Intervals

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MAX_REPEATS = 1 << 24
"""Of one held key; at 30 Hz a key held for six days. More come of a clock that is wrong by years, and would take all memory."""


class BrokenClockError(ValueError):
    """A key would be held, from `start_ns` to `end_ns`, for longer than any key is."""

    def __init__(self, start_ns: int, end_ns: int, num_repeats: int) -> None:
        super().__init__(
            f"a key held from {start_ns} to {end_ns} ns would be repeated {num_repeats:,} times: some of the times are wrong"
        )
        self.start_ns = start_ns
        self.end_ns = end_ns
        self.num_repeats = num_repeats


@dataclass(frozen=True)
class Resampled:
    """Rows that a topic's messages become.

    Attributes:
        sources: Index of the message each row stems from, int64 (m,).
        times_ns: Time of each row, int64 (m,), ascending.
        is_added: Rows that no message stands for, bool (m,): repeats of a held key.
        dropped: Messages without a row, by reason.
        altered: Other counts, such as `summed`.
    """

    sources: Int64s
    times_ns: Int64s
    is_added: Bools
    dropped: dict[str, int]
    altered: dict[str, int] = field(default_factory=dict)


def _kept(times_ns: Int64s, mask: Bools, reason: str) -> Resampled:
    sources = np.flatnonzero(mask)
    return Resampled(sources, times_ns[sources], np.zeros(len(sources), np.bool_), {reason: len(mask) - len(sources)})


def keep_all(times_ns: Int64s) -> Resampled:
    """Every message makes a row."""
    return _kept(times_ns, np.ones(len(times_ns), np.bool_), "resampled")


def first_per_period(
    times_ns: Int64s, interval_index: Int64s, intervals: Intervals, rate: Fraction, can_drop: Bools
) -> Resampled:
    """Keep the first message of each period of a grid that begins with the interval, and every message that must not be dropped.

    Args:
        times_ns: int64 (n,), ascending.
        interval_index: Interval of each message, int64 (n,), none -1.
        intervals: int64 (k, 2).
        rate: Periods per second.
        can_drop: bool (n,): motion and frames. Others (clicks, keys) are kept and do not count as a period's first.
    """
    period = period_of(times_ns - intervals[interval_index, 0], rate)
    candidates = np.flatnonzero(can_drop)
    keep = ~can_drop
    keep[candidates] = _changes(interval_index[candidates], period[candidates])
    return _kept(times_ns, keep, "resampled")


def drop(times_ns: Int64s, interval_index: Int64s, rate: Fraction, can_drop: Bools) -> Resampled:
    """Keep a message when at least 1/rate has passed since the last kept one (upstream's rule), and all that must not be dropped.

    On a jittering source this stays below the rate: 60 Hz screens at 20 Hz give 16.8 Hz. Arguments as `first_per_period`.
    """
    min_gap_ns = -(-NS_PER_S * rate.denominator // rate.numerator)
    candidates = np.flatnonzero(can_drop)
    keep = ~can_drop
    moments = times_ns[candidates].tolist()
    bounds = np.flatnonzero(np.diff(interval_index[candidates])) + 1
    for first, stop in zip([0, *bounds.tolist()], [*bounds.tolist(), len(moments)], strict=True):
        position = first
        while position < stop:
            keep[candidates[position]] = True
            position = bisect_left(moments, moments[position] + min_gap_ns, position + 1, stop)
    return _kept(times_ns, keep, "resampled")


def sum_moves(
    times_ns: Int64s, interval_index: Int64s, intervals: Intervals, rate: Fraction, motion: Int64s, is_motion: Bools
) -> tuple[Resampled, Int64s]:
    """Add up relative motion within each period of a grid that begins with the interval.

    The sum stands at the last motion message of the period, and before any message that is not motion (button, wheel): such a message ends
    a sum. So the sums of dx and dy and the order of motion against clicks are preserved, and no motion is later than recorded by more than a period.

    Args:
        times_ns: int64 (n,), ascending.
        interval_index: Interval of each message, int64 (n,), none -1.
        intervals: int64 (k, 2).
        rate: Periods per second.
        motion: dx, dy, int64 (n, 2).
        is_motion: bool (n,): messages of motion alone, which may be added up.

    Returns:
        The rows, and dx, dy of each row, int64 (m, 2).

    Example:
        Motion 1, 2 | click | 3 within one period gives 3, click, 3.
    """
    period = period_of(times_ns - intervals[interval_index, 0], rate)
    if not len(times_ns):
        return Resampled(period, times_ns, np.zeros(0, np.bool_), {}), motion
    # A group: motion of one interval and period with nothing else in between; each other message is a group of its own.
    firsts = np.flatnonzero(_changes(interval_index, period, is_motion) | ~is_motion)
    lasts = np.append(firsts[1:], len(times_ns)) - 1
    sums = np.stack([np.add.reduceat(column, firsts) for column in motion.T], axis=1)
    dropped = {"summed_into_later": len(times_ns) - len(lasts)}
    return Resampled(lasts, times_ns[lasts], np.zeros(len(lasts), np.bool_), dropped), sums


def repeat_held_keys(
    times_ns: Int64s, interval_index: Int64s, intervals: Intervals, rate: Fraction, vk: Int64s, pressed: Bools
) -> Resampled:
    """Replace a recorder's own key repeats by uniform ones: a press every 1/rate from the first press until release or the interval's end.

    A key that is held across an interval's end is not held in the next one until a press is seen there; how many were held so is
    counted as `held_at_interval_end`.

    Args:
        times_ns: int64 (n,), ascending.
        interval_index: Interval of each message, int64 (n,), none -1.
        intervals: int64 (k, 2).
        rate: Presses per second while held.
        vk: Key codes, int64 (n,).
        pressed: bool (n,).

    Raises:
        BrokenClockError: One key would be repeated more than `MAX_REPEATS` times.
    """
    order = np.lexsort((np.arange(len(times_ns)), vk, interval_index))  # per interval and key, in time order
    starts_key = _changes(interval_index[order], vk[order])
    was_pressed = np.concatenate([[False], pressed[order][:-1]]) & ~starts_key
    begins_hold = pressed[order] & ~was_pressed
    kept = np.sort(order[~pressed[order] | begins_hold])
    holds = order[begins_hold]
    # A hold ends with the next release of its key in the interval, else with the interval.
    marks = np.flatnonzero(~pressed[order] | begins_hold)
    following = np.searchsorted(marks, np.flatnonzero(begins_hold), side="right")
    next_mark = marks[np.minimum(following, len(marks) - 1)] if len(marks) else marks
    released = (following < len(marks)) & ~_other_key_begins(starts_key, np.flatnonzero(begins_hold), next_mark)
    ends_ns = np.where(released, times_ns[order[next_mark]], intervals[interval_index[holds], 1]) if len(holds) else holds
    held_ns = ends_ns - times_ns[holds]
    # Repeat k = 1, 2, ... at ceil(k / rate), strictly before the end.
    num_repeats = period_of(np.maximum(held_ns - 1, 0), rate)
    if num_repeats.max(initial=0) > MAX_REPEATS:
        longest = int(np.argmax(num_repeats))
        raise BrokenClockError(int(times_ns[holds[longest]]), int(ends_ns[longest]), int(num_repeats[longest]))
    sources = np.repeat(holds, num_repeats)
    nth = np.arange(len(sources)) - np.repeat(np.cumsum(num_repeats) - num_repeats, num_repeats) + 1
    added_ns = times_ns[sources] + period_start_ns(nth, rate)
    all_sources = np.concatenate([kept, sources])
    all_times = np.concatenate([times_ns[kept], added_ns])
    is_added = np.arange(len(all_sources)) >= len(kept)
    by_time = np.lexsort((is_added, all_times))
    return Resampled(
        all_sources[by_time],
        all_times[by_time],
        is_added[by_time],
        {"own_repeats": len(times_ns) - len(kept)},
        {"added": len(sources), "held_at_interval_end": int(len(holds) - released.sum())},
    )


def _other_key_begins(starts_key: Bools, first: Int64s, last: Int64s) -> Bools:
    """Whether another key's messages begin in `(first, last]` of an array that is sorted by key."""
    num_starts = np.cumsum(starts_key)
    return num_starts[last] > num_starts[first] if len(first) else np.zeros(0, np.bool_)


def _changes(*columns: npt.NDArray[np.generic]) -> Bools:
    """Where a row differs from the one before in any column, the first row included; bool (n,)."""
    begins = np.zeros(len(columns[0]), np.bool_)
    begins[:1] = True
    for column in columns:
        begins[1:] |= column[1:] != column[:-1]
    return begins
