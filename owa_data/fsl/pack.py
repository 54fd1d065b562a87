"""Pack the events of one episode, in time order, into rows of a fixed number of tokens.

Input: tokens per event and event times. Output: `Packing`: which events stand in which row, in which order. Events are never cut, rows
never mix episodes; the result depends on nothing but the events and the params.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from owa_data.event.grid import seconds_to_ns
from owa_data.params import FslParams

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Packing:
    """Rows of events.

    Attributes:
        order: Indices of the packed events, row by row, in the order of their tokens; int64 (m,).
        row_offsets: Row r holds `order[row_offsets[r]:row_offsets[r + 1]]`, at least one event; int64 (r + 1,).
        dropped: Events in no row, by reason.
        dropped_rows: Rows left out, by reason.
    """

    order: Int64s
    row_offsets: Int64s
    dropped: dict[str, int]
    dropped_rows: dict[str, int]


def row_starts(num_tokens: Int64s, max_sequence_length: int, must_begin: Bools) -> Int64s:
    """Cut events into rows, greedily: an event goes to the current row if its tokens fit, else it begins the next.

    Args:
        num_tokens: Tokens per event, int64 (n,), none over `max_sequence_length`.
        max_sequence_length: Tokens per row.
        must_begin: Events that begin a row in any case, bool (n,).

    Returns:
        Index of each row's first event, int64. O(rows log events).

    Example:
        Lengths 3, 3, 3, 3 in rows of 7 begin rows at 0 and 2.
    """
    ends = np.cumsum(num_tokens).tolist()
    bounds = sorted({0, *np.flatnonzero(must_begin).tolist(), len(ends)})
    starts = []
    for first, stop in pairwise(bounds):
        position = first
        while position < stop:
            starts.append(position)
            used = ends[position - 1] if position else 0
            position = bisect_right(ends, used + max_sequence_length, position, stop)
    return np.array(starts, np.int64)


def pack_events(
    num_tokens: Int64s,
    times_ns: Int64s,
    interval_index: Int64s,
    is_action: Bools,
    has_image: Bools,
    params: FslParams,
) -> Packing:
    """Pack events into rows, then apply the options that act within each row.

    Skip first, then shift, then a stable sort by shifted time; `skip_first_t_seconds_for_action` counts from the row's first event that is no
    action, or from its first event where all are actions.

    Args:
        num_tokens: int64 (n,), none over `params.max_sequence_length`.
        times_ns: int64 (n,), ascending.
        interval_index: int64 (n,).
        is_action: Events of `params.action_topics`, bool (n,).
        has_image: bool (n,).
        params: The stage's params.
    """
    num_events = len(num_tokens)
    must_begin = np.zeros(num_events, np.bool_)
    if not params.span_intervals:
        must_begin[1:] = interval_index[1:] != interval_index[:-1]
    starts = row_starts(num_tokens, params.max_sequence_length, must_begin)
    if not len(starts):
        return Packing(starts, np.zeros(1, np.int64), {}, {})
    row = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, num_events)))
    keep = np.ones(num_events, np.bool_)
    dropped, dropped_rows = {}, {}
    if params.rows_without_images == "drop":
        shows = np.logical_or.reduceat(has_image, starts)
        keep &= shows[row]
        dropped["rows_without_images"] = int(num_events - keep.sum())
        dropped_rows["without_images"] = int(len(shows) - shows.sum())
    skip_ns = seconds_to_ns(params.skip_first_t_seconds_for_action)
    if skip_ns:
        first_other = np.minimum.reduceat(np.where(is_action, np.iinfo(np.int64).max, times_ns), starts)
        reference = np.where(first_other == np.iinfo(np.int64).max, times_ns[starts], first_other)
        early = keep & is_action & (times_ns < reference[row] + skip_ns)
        keep &= ~early
        dropped["skipped_first_actions"] = int(early.sum())
        emptied = np.setdiff1d(row[early], row[keep])
        dropped_rows["emptied_by_skip"] = len(emptied)
    order = np.flatnonzero(keep)
    shifted_ns = times_ns + np.where(is_action, seconds_to_ns(params.time_shift_seconds_for_action), 0)
    order = order[np.lexsort((shifted_ns[order], row[order]))]
    kept_rows = row[order]
    begins = np.flatnonzero(np.concatenate([[True], kept_rows[1:] != kept_rows[:-1]])) if len(order) else order
    return Packing(order, np.append(begins, len(order)), dropped, dropped_rows)
