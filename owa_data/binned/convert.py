"""The events of one episode to its bins.

Input: rows of the event dataset. Output: record batches of `BINNED_SCHEMA` and a ledger. Screens are a bin's state, keyboard and mouse events
its actions; every event lies in exactly one bin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from owa_data.binned.bins import BinFunction, Bins, assign_events, bins_at_rate, call_bin_function
from owa_data.binned.held import button_changes, held_at_bin_ends
from owa_data.encoding.events import ACTION_KINDS, EventKind, Events, read_events, wheel_delta
from owa_data.errors import EpisodeError
from owa_data.event.absolute_mouse import raw_from_absolute, raw_from_mouse
from owa_data.event.rows import message_column
from owa_data.params import BinnedParams
from owa_data.raw.messages import HORIZONTAL_WHEEL_FLAG, MAX_INT32, WHEEL_FLAG, decode_mouse
from owa_data.schema import BINNED_SCHEMA
from owa_data.store.ledger import Counts, topic_counts
from owa_data.store.shards import batch_bounds

Int64s = npt.NDArray[np.int64]

ROWS_PER_BATCH = 1024
MAX_BINS = 100_000_000  # of one interval: half a year at 6 fps
# Upper ends of the histogram of actions per bin: 0, 1, 2, 3-4, 5-8, ...
ACTION_COUNT_ENDS = (0, 1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class _Lists:
    """Rows of lists: row i holds `values[offsets[i]:offsets[i + 1]]`."""

    offsets: Int64s
    values: Int64s

    def of_rows(self, rows: Int64s) -> _Lists:
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return _Lists(offsets, self.values[np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])])

    def sums_of(self, numbers: Int64s) -> Int64s:
        """Sum up, per row, the `numbers` of its values; int64 (rows,)."""
        before = np.concatenate([[0], np.cumsum(numbers[self.values])])
        return before[self.offsets[1:]] - before[self.offsets[:-1]]


@dataclass(frozen=True)
class _Columns:
    """Everything about the bins of one episode besides their payloads; `state` and `actions` name event rows."""

    bins: Bins
    state: _Lists
    actions: _Lists
    keys_down: _Lists
    buttons_down: _Lists
    sums: Int64s  # (b, 3): dx, dy, wheel


def convert_events(
    rows: pa.Table, episode_path: str, params: BinnedParams, bin_function: BinFunction
) -> tuple[Iterator[pa.RecordBatch], Counts]:
    """Bin the event rows of one episode.

    Args:
        rows: All rows of the episode, in time order.
        episode_path: What the rows carry as `episode_path`.
        params: The stage's params.
        bin_function: Where bins begin.

    Returns:
        Record batches of at most `ROWS_PER_BATCH` bins, made as they are asked for, and the ledger.

    Raises:
        ParamsError: Bins of one's own that do not cover every event.
        EpisodeError: More than `MAX_BINS` bins in one interval.
    """
    events = read_events(rows)
    if bin_function is bins_at_rate:
        _check_clock(events, params, episode_path)
    bins = call_bin_function(bin_function, events, params)
    bin_of = assign_events(events, bins, episode_path)
    columns, altered = _make_columns(events, bins, bin_of, params)
    num_actions = np.diff(columns.actions.offsets)
    kept = np.flatnonzero(num_actions > 0) if params.filter_empty_actions else np.arange(len(bins.starts_ns))
    ledger = _ledger(events, columns, kept) | {"altered": {name: number for name, number in altered.items() if number}}
    return _iter_batches(rows, columns, kept, episode_path), ledger


def _check_clock(events: Events, params: BinnedParams, episode_path: str) -> None:
    if not len(events):
        return
    _, firsts = np.unique(events.interval_index, return_index=True)
    lasts = np.append(firsts[1:], len(events)) - 1
    starts_ns, ends_ns = events.times_ns[firsts], events.times_ns[lasts]
    longest = int(np.argmax(ends_ns - starts_ns))
    num_bins = int(float((ends_ns - starts_ns)[longest]) / 1e9 * float(params.fps))
    if num_bins > MAX_BINS:
        raise EpisodeError(
            episode_path,
            f"{num_bins:,} bins of {params.fps:g} fps would reach from {starts_ns[longest]} to {ends_ns[longest]} ns: some of its times are wrong. "
            "Cut such stretches out (event.intervals.select=inactivity), or leave it out with raw.exclude",
        )


def _make_columns(events: Events, bins: Bins, bin_of: Int64s, params: BinnedParams) -> tuple[_Columns, Counts]:
    num_bins = len(bins.starts_ns)
    is_key = events.kinds == EventKind.KEYBOARD
    keys = held_at_bin_ends(bin_of[is_key], events.vk[is_key], events.pressed[is_key], bins.interval_index)
    table, table_bins, unsaid = _raw_mouse(events, bin_of)
    changed, buttons, pressed = button_changes(table[:, 3])
    held = held_at_bin_ends(table_bins[changed], buttons, pressed, bins.interval_index)
    is_wheel = table[:, 3] & WHEEL_FLAG != 0
    motion = np.concatenate([table[:, :2], np.where(is_wheel, wheel_delta(table[:, 4]), 0)[:, None]], axis=1)
    sums = np.zeros((num_bins, 3), np.int64)
    np.add.at(sums, table_bins, motion)
    clamped = np.clip(sums, -MAX_INT32 - 1, MAX_INT32)
    altered = {
        "clamped": int((clamped != sums).sum()),
        "horizontal_wheel": int((table[:, 3] & (WHEEL_FLAG | HORIZONTAL_WHEEL_FLAG) == HORIZONTAL_WHEEL_FLAG).sum()),
        **unsaid,
    }
    actions = np.flatnonzero(np.isin(events.kinds, ACTION_KINDS))
    columns = _Columns(
        bins, _states(events, bins, bin_of, params), _group(actions, bin_of, num_bins), _Lists(*keys), _Lists(*held), clamped
    )
    return columns, altered


def _raw_mouse(events: Events, bin_of: Int64s) -> tuple[Int64s, Int64s, dict[str, int]]:
    """Raw fields of the mouse events, int64 (m, 5), motion relative, the bin of each, and counts of what raw fields cannot say.

    Absolute `mouse` messages tell the same motion once more where `mouse/raw` is there, so they count only where it is not.
    """
    rows = np.flatnonzero(events.kinds == EventKind.RAW_MOUSE)
    if len(rows):
        table, _ = raw_from_absolute(events.raw_mouse[rows], events.interval_index[rows])
        return table, bin_of[rows], {}
    rows = np.flatnonzero(events.kinds == EventKind.MOUSE)
    messages, valid = decode_mouse(events.payloads.take(rows))
    rows = rows[valid]
    table, _, unsaid = raw_from_mouse(messages, events.interval_index[rows])
    return table, bin_of[rows], unsaid


def _group(rows: Int64s, bin_of: Int64s, num_bins: int) -> _Lists:
    return _Lists(np.concatenate([[0], np.cumsum(np.bincount(bin_of[rows], minlength=num_bins))]), rows)


def _states(events: Events, bins: Bins, bin_of: Int64s, params: BinnedParams) -> _Lists:
    """Screens that are each bin's state. Where several screens share the deciding time, the last in file order counts."""
    screens = np.flatnonzero(events.kinds == EventKind.SCREEN)
    num_bins = len(bins.starts_ns)
    if params.state == "before":
        last = np.searchsorted(events.times_ns[screens], bins.starts_ns, side="right") - 1
    else:
        last = np.searchsorted(bin_of[screens], np.arange(num_bins), side="right") - 1
    # A screen of an earlier interval tells nothing about this one.
    found = last >= 0
    found[found] = events.interval_index[screens[last[found]]] == bins.interval_index[found]
    if params.state != "all":
        return _Lists(np.concatenate([[0], np.cumsum(found)]), screens[last[found]])
    own = np.bincount(bin_of[screens], minlength=num_bins)
    # Bins without a screen of their own show the last earlier one.
    shows_earlier = (own == 0) & found
    of_bin = np.concatenate([bin_of[screens], np.flatnonzero(shows_earlier)])
    shown = np.concatenate([screens, screens[last[shows_earlier]]])
    return _Lists(np.concatenate([[0], np.cumsum(np.where(shows_earlier, 1, own))]), shown[np.argsort(of_bin, kind="stable")])


def _iter_batches(rows: pa.Table, columns: _Columns, kept: Int64s, episode_path: str) -> Iterator[pa.RecordBatch]:
    messages = message_column(rows)
    num_bytes = pc.binary_length(messages).to_numpy(zero_copy_only=False)
    row_bytes = np.maximum(*(lists.of_rows(kept).sums_of(num_bytes) for lists in (columns.state, columns.actions)))
    for start, stop in batch_bounds(row_bytes, ROWS_PER_BATCH):
        chosen = kept[start:stop]
        state, actions = columns.state.of_rows(chosen), columns.actions.of_rows(chosen)
        sums = columns.sums[chosen].astype(np.int32)
        arrays = [
            pa.repeat(pa.scalar(episode_path), len(chosen)),
            pa.array(chosen.astype(np.int32)),
            pa.array(columns.bins.starts_ns[chosen]),
            _list_array(state.offsets, messages.take(pa.array(state.values)).cast(pa.binary())),
            _list_array(actions.offsets, messages.take(pa.array(actions.values)).cast(pa.binary())),
            _numbers(columns.keys_down.of_rows(chosen)),
            _numbers(columns.buttons_down.of_rows(chosen)),
            pa.array(sums[:, 0]),
            pa.array(sums[:, 1]),
            pa.array(sums[:, 2]),
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=BINNED_SCHEMA)


def _numbers(lists: _Lists) -> pa.ListArray:
    return _list_array(lists.offsets, pa.array(lists.values.astype(np.int32)))


def _list_array(offsets: Int64s, values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)


def _ledger(events: Events, columns: _Columns, kept: Int64s) -> Counts:
    """Counts of bins and, per topic, of events: kept, or why not in any row."""
    in_row = np.zeros(len(events), np.bool_)
    in_row[columns.actions.of_rows(kept).values] = True
    in_row[columns.state.of_rows(kept).values] = True
    in_bin = np.zeros(len(events), np.bool_)
    in_bin[columns.state.values] = True
    is_screen, is_action = events.kinds == EventKind.SCREEN, np.isin(events.kinds, ACTION_KINDS)
    reasons = {
        "neither_state_nor_action": ~is_screen & ~is_action,
        "not_the_last_screen": is_screen & ~in_bin,
        "empty_bins": is_screen & in_bin & ~in_row,
    }
    names = events.topics
    topic_of = names.indices.to_numpy(zero_copy_only=False)
    topics = {}
    for code, topic in enumerate(names.dictionary.to_pylist()):
        mine = topic_of == code
        dropped = {reason: int((mask & mine).sum()) for reason, mask in reasons.items()}
        topics[topic] = topic_counts(int(mine.sum()), int((mine & in_row).sum()), dropped)
    num_actions = np.diff(columns.actions.offsets)[kept]
    histogram = np.bincount(np.searchsorted(ACTION_COUNT_ENDS, num_actions), minlength=len(ACTION_COUNT_ENDS) + 1)
    return {
        "rows": len(kept),
        "rows_without_actions": int((num_actions == 0).sum()),
        "rows_without_state": int((np.diff(columns.state.offsets)[kept] == 0).sum()),
        "dropped_rows": {"empty_actions": len(columns.bins.starts_ns) - len(kept)},
        "actions": int(num_actions.sum()),
        "actions_per_row": {f"{index:02d}": int(number) for index, number in enumerate(histogram)},
        "topics": topics,
    }
