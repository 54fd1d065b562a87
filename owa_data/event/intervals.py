"""Sets of half-open time intervals `[start_ns, end_ns)` and their algebra.

A set is an int64 array (n, 2), sorted, disjoint and not touching, none empty. All operations run in O(n log n) and are exact.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Intervals = npt.NDArray[np.int64]

NONE: Intervals = np.empty((0, 2), np.int64)


def normalize(pairs: npt.ArrayLike) -> Intervals:
    """Make a set from any pairs: sort, drop empty ones, unite those that overlap or touch."""
    table = np.asarray(pairs, np.int64).reshape(-1, 2)
    table = table[table[:, 0] < table[:, 1]]
    if not len(table):
        return NONE
    table = table[np.argsort(table[:, 0], kind="stable")]
    ends = np.maximum.accumulate(table[:, 1])
    begins = np.concatenate([[True], table[1:, 0] > ends[:-1]])
    firsts = np.flatnonzero(begins)
    lasts = np.concatenate([firsts[1:] - 1, [len(table) - 1]])
    return np.stack([table[firsts, 0], ends[lasts]], axis=1)


def union(left: Intervals, right: Intervals) -> Intervals:
    """Times in either set."""
    return normalize(np.concatenate([left, right]))


def intersection(left: Intervals, right: Intervals) -> Intervals:
    """Times in both sets."""
    # One sweep over all ends: inside both sets two intervals are open.
    times = np.concatenate([left[:, 0], right[:, 0], left[:, 1], right[:, 1]])
    steps = np.repeat([1, -1], len(left) + len(right))
    order = np.lexsort((steps, times))
    times, num_open = times[order], np.cumsum(steps[order])
    return normalize(np.stack([times[:-1], times[1:]], axis=1)[num_open[:-1] == 2])


def difference(left: Intervals, right: Intervals) -> Intervals:
    """Times in `left` but not in `right`."""
    if not len(left):
        return NONE
    bounds = np.array([[min(left[0, 0], right[0, 0]), max(left[-1, 1], right[-1, 1])]]) if len(right) else left
    outside = np.concatenate([bounds[:, 0], right.ravel(), bounds[:, 1]]).reshape(-1, 2) if len(right) else bounds
    return intersection(left, normalize(outside))


def runs_of(times_ns: npt.NDArray[np.int64], max_gap_ns: int) -> Intervals:
    """Stretches of sorted times without a gap over `max_gap_ns`; each ends 1 ns after its last time, so that this is inside.

    Example: times 0, 4, 20 with a largest gap of 5 give [0, 5) and [20, 21).
    """
    if not len(times_ns):
        return NONE
    breaks = np.flatnonzero(np.diff(times_ns) > max_gap_ns)
    starts = times_ns[np.concatenate([[0], breaks + 1])]
    ends = times_ns[np.concatenate([breaks, [len(times_ns) - 1]])] + 1
    return normalize(np.stack([starts, ends], axis=1))


def index_of(intervals: Intervals, times_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return for each of ascending times the index of the interval it lies in, -1 where it lies in none; int64 (n,)."""
    # As many times lie before the first start, between it and the first end, and so on, as these bounds are apart.
    bounds = np.searchsorted(times_ns, intervals.ravel())
    labels = np.full(2 * len(intervals) + 1, -1, np.int64)
    labels[1::2] = np.arange(len(intervals))
    return np.repeat(labels, np.diff(bounds, prepend=0, append=len(times_ns)))
