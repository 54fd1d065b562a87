"""One recording to the event rows of one episode.

Input: an open recording and `EventParams`. Output: record batches of `EVENT_SCHEMA`, ascending by time, ties in file order, and a ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from owa_data.errors import DamagedError, EpisodeError, ParamsError
from owa_data.event import activity, intervals, resample
from owa_data.event.absolute_mouse import raw_from_absolute, raw_from_mouse
from owa_data.event.grid import as_rate
from owa_data.event.intervals import Intervals
from owa_data.event.resample import Resampled
from owa_data.event.rows import WrappedRows
from owa_data.params import EventParams, TopicParams
from owa_data.raw import messages
from owa_data.raw.columns import MessageColumns, read_columns
from owa_data.raw.layout import read_layout
from owa_data.raw.parsing import AlikePayloads, is_json
from owa_data.raw.payloads import PayloadPool, Payloads
from owa_data.raw.templates import TemplatePayloads, concat_payloads, place_payloads
from owa_data.schema import EVENT_SCHEMA
from owa_data.store.ledger import Counts, add_counts, topic_counts
from owa_data.store.shards import batch_bounds
from owa_data.store.source import ByteSource, Trust

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ROWS_PER_BATCH = 4096
INVALID = "invalid_payload"  # why a message was dropped: not JSON of its type
RAW_TOPIC = "mouse/raw"
ABSOLUTE_TOPIC = "mouse"
KEYBOARD_TOPIC = "keyboard"  # where the hotkey is looked for


@dataclass(frozen=True)
class TopicRows:
    """Event rows of one topic and type: times and places int64 (m,), payloads (m,), and the counts of its messages."""

    topic: str
    message_type: str
    times_ns: Int64s
    places: Int64s
    interval_index: Int64s
    payloads: TemplatePayloads
    counts: Counts


@dataclass(frozen=True)
class _Inside:
    """Messages of one topic and type that lie in an interval."""

    times_ns: Int64s
    interval_index: Int64s
    payloads: Payloads
    intervals: Intervals
    pool: PayloadPool


def convert_recording(
    source: ByteSource,
    episode_path: str,
    params: EventParams,
    *,
    trust: Trust,
    bounds_ns: tuple[int, int] | None = None,
) -> tuple[Iterator[pa.RecordBatch], Counts]:
    """Convert one recording.

    Args:
        source: The recording.
        episode_path: What the rows carry as `episode_path`.
        params: The stage's params.
        trust: What the index takes for granted of it; damage is an error unless that is `nothing`.
        bounds_ns: First and last log time of all its messages, which the index knows. Without them those that the recording claims count, or else
            those of the topics read.

    Returns:
        Record batches of at most `ROWS_PER_BATCH` rows, made as they are asked for, and the ledger.

    Raises:
        ParamsError: A resampling that does not fit the topic's messages.
        DamagedError: A recording that was sound, or was not checked before, is damaged where it was read.
        EpisodeError: Its times are such that held keys would be repeated for years.
    """
    topics = {row.topic for row in params.topics.values()}
    hotkey = {KEYBOARD_TOPIC} if activity.uses_hotkey(params.intervals) else set()
    layout = read_layout(source)
    pool = PayloadPool()
    columns, damage = read_columns(source, layout, topics | hotkey, pool, trust=trust)
    if damage and trust != "nothing":
        remedy = (
            "It was sound when it was indexed: index it anew with `dvc repro --force raw`"
            if trust == "bytes"
            else "It is read in place, which cannot salvage: copy it to a folder, or leave it out with raw.exclude"
        )
        raise DamagedError(source.path, f"at byte {damage[0].offset}: {damage[0].cause}. {remedy}")
    selected = activity.select_intervals(
        params.intervals, _activity_times(columns, params, bounds_ns or layout.claimed_bounds_ns)
    )
    rows: list[TopicRows] = []
    ledger: Counts = {"topics": {}}
    for name, topic in params.topics.items():
        parts: list[TopicRows] = []
        counts = [topic_counts(0, 0, {})]
        if topic.topic in columns and topic.as_raw and topic.topic != RAW_TOPIC and RAW_TOPIC in columns:
            # Both tell the same motion: taken together it would count twice.
            num_messages = len(columns[topic.topic])
            counts.append(topic_counts(num_messages, 0, {"told_by_mouse_raw": num_messages}))
        elif topic.topic in columns:
            try:
                parts = list(_convert_topic(name, topic, columns[topic.topic], selected, pool))
            except resample.BrokenClockError as error:
                remedy = "Cut such stretches out (event.intervals.select=inactivity), or leave it out with raw.exclude"
                raise EpisodeError(source.path, f"topic {topic.topic}: {error}. {remedy}") from error
        rows += parts
        ledger["topics"][topic.topic] = add_counts([*counts, *(part.counts for part in parts)])
    ledger["num_intervals"] = len(selected)
    ledger["active_ns"] = int((selected[:, 1] - selected[:, 0]).sum())
    ledger["rows"] = sum(len(part.times_ns) for part in rows)
    return _iter_batches(rows, episode_path), ledger


def _activity_times(
    columns: Mapping[str, MessageColumns], params: EventParams, bounds_ns: tuple[int, int] | None
) -> activity.ActivityTimes:
    """Collect what the selections look at; without `bounds_ns` the recording begins and ends with the topics read."""

    def times_of(role: str) -> Int64s | None:
        names = [row.topic for row in params.topics.values() if row.activity == role]
        if not names:
            return None
        moments = [columns[name].times_ns for name in names if name in columns]
        return np.sort(np.concatenate([np.empty(0, np.int64), *moments]), kind="stable")

    bounds = (
        [(part.times_ns[0], part.times_ns[-1]) for part in columns.values() if len(part)] if bounds_ns is None else [bounds_ns]
    )
    releases = np.empty(0, np.int64)
    if activity.uses_hotkey(params.intervals) and KEYBOARD_TOPIC in columns:
        vk, pressed, valid = messages.keyboard_columns(columns[KEYBOARD_TOPIC].payloads)
        releases = columns[KEYBOARD_TOPIC].times_ns[valid][(vk == params.intervals.hotkey_vk) & ~pressed]
    return activity.ActivityTimes(
        start_ns=int(min((first for first, _ in bounds), default=0)),
        end_ns=int(max((last + 1 for _, last in bounds), default=0)),
        screens=times_of("screen"),
        inputs=times_of("input"),
        hotkey_releases=releases,
    )


def _convert_topic(
    name: str, topic: TopicParams, columns: MessageColumns, selected: Intervals, pool: PayloadPool
) -> Iterator[TopicRows]:
    codes_of: dict[str, list[int]] = {}
    for code, recorded_type in enumerate(columns.message_types):
        codes_of.setdefault(messages.current_type(recorded_type), []).append(code)
    of_interval = intervals.index_of(selected, columns.times_ns)
    for message_type, codes in codes_of.items():
        # An old name and today's are one type: screens of both are thinned together, a key pressed under one is released under the other.
        is_inside = of_interval >= 0
        num_messages = len(columns)
        if len(codes) < len(columns.message_types):
            is_of_type = np.isin(columns.type_codes, codes)
            is_inside &= is_of_type
            num_messages = int(is_of_type.sum())
        recorded_type = columns.message_types[codes[0]]
        inside = np.flatnonzero(is_inside)
        interval_index = of_interval[inside]
        dropped = {"inactive": num_messages - len(inside)}
        if not columns.is_json:
            dropped["not_json"] = len(inside)
            inside, interval_index = inside[:0], interval_index[:0]
        messages_in = _Inside(columns.times_ns[inside], interval_index, columns.payloads.take(inside), selected, pool)
        resampled, payloads, sources = _resample(name, topic, recorded_type, message_type, messages_in)
        for reason, number in resampled.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + number
        num_added = int(resampled.is_added.sum())
        yield TopicRows(
            RAW_TOPIC if topic.as_raw else topic.topic,
            messages.RAW_MOUSE if topic.as_raw else message_type,
            resampled.times_ns,
            columns.places[inside[sources]],
            interval_index[sources],
            payloads,
            topic_counts(num_messages, len(resampled.sources) - num_added, dropped, **resampled.altered),
        )


def _resample(
    name: str, topic: TopicParams, recorded_type: str, message_type: str, inside: _Inside
) -> tuple[Resampled, TemplatePayloads, Int64s]:
    """Resample by what the messages are. Returns the rows, their payloads, and for each row its message among `inside`."""
    check_kind(name, topic, message_type)
    if topic.as_raw or message_type == messages.RAW_MOUSE:
        return _resample_mouse(topic, message_type, inside)
    if message_type == messages.KEYBOARD:
        return _resample_keyboard(topic, inside)
    if message_type == messages.SCREEN:
        return _resample_screens(topic, recorded_type, inside)
    if message_type == messages.MOUSE:
        rows, valid = messages.decode_mouse(inside.payloads)
        can_drop = np.array([row.event_type == "move" for row in rows], np.bool_)
    else:
        valid = is_json(inside.payloads)
        can_drop = np.ones(int(valid.sum()), np.bool_)
    sound = _only(inside, valid)
    resampled = _thin(topic, sound, can_drop)
    payloads = TemplatePayloads.whole(sound.payloads.take(resampled.sources), inside.pool)
    return _finish(resampled, payloads, (INVALID, valid))


def check_kind(name: str, topic: TopicParams, message_type: str) -> None:
    """Check that a row of the topic table fits messages of a type.

    Raises:
        ParamsError: It does not.
    """
    key = f"event.topics.{name}"
    if topic.as_raw and message_type not in (messages.MOUSE, messages.RAW_MOUSE):
        raise ParamsError(f"{key}.as_raw", f"topic {topic.topic!r} has {message_type} messages, not mouse positions")
    if topic.resample == "sum_moves" and not topic.as_raw and message_type != messages.RAW_MOUSE:
        raise ParamsError(
            f"{key}.resample", f"sum_moves needs relative motion; {topic.topic!r} has {message_type}. Set as_raw: true"
        )
    if topic.resample == "repeat_held_keys" and message_type != messages.KEYBOARD:
        raise ParamsError(f"{key}.resample", f"repeat_held_keys needs keys; {topic.topic!r} has {message_type}")
    if topic.resample in ("drop", "first_per_period") and message_type == messages.KEYBOARD:
        raise ParamsError(
            f"{key}.resample", "keys are never thinned out; choose keep_all, or repeat_held_keys for uniform repeats"
        )


def _resample_mouse(topic: TopicParams, message_type: str, inside: _Inside) -> tuple[Resampled, TemplatePayloads, Int64s]:
    if message_type == messages.MOUSE:
        rows, valid = messages.decode_mouse(inside.payloads)
        sound = _only(inside, valid)
        table, says, altered = raw_from_mouse(rows, sound.interval_index)
        recorded = AlikePayloads(inside.payloads, [])  # of which no row is: all are written anew
    else:
        table, valid, recorded = messages.raw_mouse_rows(inside.payloads)
        sound = _only(inside, valid)
        says, altered = np.ones(len(table), np.bool_), {}
        if topic.as_raw:
            table, says = raw_from_absolute(table, sound.interval_index)
    if not says.all():
        sound, table = _only(sound, says), table[says]
    only_moves = (table[:, 3] == 0) & (table[:, 4] == 0)
    if topic.resample == "sum_moves":
        rate = as_rate(topic.rate_hz)
        resampled, motion = resample.sum_moves(
            sound.times_ns,
            sound.interval_index,
            sound.intervals,
            rate,
            table[:, :2],
            only_moves & (table[:, 2] & messages.MOVE_ABSOLUTE == 0),
        )
        written = table[resampled.sources]
        is_new = (motion[:, 0] != written[:, 0]) | (motion[:, 1] != written[:, 1])
        altered["summed"] = int(is_new.sum())
        written[:, :2] = motion
    else:
        resampled = _thin(topic, sound, only_moves)
        written = table[resampled.sources]
        is_new = np.zeros(len(written), np.bool_)
    if topic.as_raw:
        is_new[:] = True
    altered["motion_clamped"] = 0
    if len(written) and np.abs(written[:, :2]).max() > messages.MAX_INT32:
        fitting = np.clip(written[:, :2], -messages.MAX_INT32 - 1, messages.MAX_INT32)
        altered["motion_clamped"] = int(np.any(fitting != written[:, :2], axis=1).sum())
        written[:, :2] = fitting
    kept, new = np.flatnonzero(~is_new), np.flatnonzero(is_new)
    among_all = np.flatnonzero(valid)[says][resampled.sources[kept]]
    payloads = place_payloads(
        len(is_new),
        [
            (kept, recorded.as_templates(among_all, inside.pool)),
            (new, messages.write_raw_mouse(written[new], resampled.times_ns[new], inside.pool)),
        ],
    )
    resampled = replace(resampled, altered={**resampled.altered, **altered})
    return _finish(resampled, payloads, (INVALID, valid), ("no_previous_position", says))


def _resample_keyboard(topic: TopicParams, inside: _Inside) -> tuple[Resampled, TemplatePayloads, Int64s]:
    vk, pressed, valid, alike = messages.keyboard_rows(inside.payloads)
    recorded = alike.as_templates(np.flatnonzero(valid), inside.pool)
    sound = _only(inside, valid)
    if topic.resample != "repeat_held_keys":
        # Keys are never thinned out: a rate limits motion and frames alone.
        return _finish(resample.keep_all(sound.times_ns), recorded, (INVALID, valid))
    rate = as_rate(topic.rate_hz)
    resampled = resample.repeat_held_keys(sound.times_ns, sound.interval_index, sound.intervals, rate, vk, pressed)
    added = np.flatnonzero(resampled.is_added)
    of_added = resampled.sources[added]
    written = messages.write_keyboard(vk[of_added], pressed[of_added], resampled.times_ns[added], inside.pool)
    payloads = place_payloads(len(resampled.sources), [(slice(None), recorded.take(resampled.sources)), (added, written)])
    return _finish(resampled, payloads, (INVALID, valid))


def _resample_screens(topic: TopicParams, recorded_type: str, inside: _Inside) -> tuple[Resampled, TemplatePayloads, Int64s]:
    # Screens are chosen by time and only the chosen ones are parsed: leaving out others first would not change which
    # are chosen. Where a chosen one is unusable, all are parsed and the choice is made among the usable ones.
    resampled = _thin(topic, inside, np.ones(len(inside.times_ns), np.bool_))
    payloads, valid = messages.normalize_screens(inside.payloads.take(resampled.sources), recorded_type, inside.pool)
    if valid.all():
        return _finish(resampled, payloads, (INVALID, np.ones(len(inside.times_ns), np.bool_)))
    payloads, usable = messages.normalize_screens(inside.payloads, recorded_type, inside.pool)
    sound = _only(inside, usable)
    resampled = _thin(topic, sound, np.ones(len(sound.times_ns), np.bool_))
    return _finish(resampled, payloads.take(resampled.sources), (INVALID, usable))


def _thin(topic: TopicParams, inside: _Inside, can_drop: Bools) -> Resampled:
    if topic.resample == "keep_all":
        return resample.keep_all(inside.times_ns)
    rate = as_rate(topic.rate_hz)
    if topic.resample == "drop":
        return resample.drop(inside.times_ns, inside.interval_index, rate, can_drop)
    return resample.first_per_period(inside.times_ns, inside.interval_index, inside.intervals, rate, can_drop)


def _only(inside: _Inside, mask: Bools) -> _Inside:
    if mask.all():
        return inside
    return _Inside(inside.times_ns[mask], inside.interval_index[mask], inside.payloads.take(mask), inside.intervals, inside.pool)


def _finish(
    resampled: Resampled, payloads: TemplatePayloads, *filters: tuple[str, Bools]
) -> tuple[Resampled, TemplatePayloads, Int64s]:
    """Count what was filtered out before resampling, and name each row's message among all that came in.

    Args:
        resampled: Rows of the messages that passed all filters.
        payloads: Their payloads.
        *filters: Reason and mask of each filter in turn; a mask is over what the one before let through.
    """
    dropped = dict(resampled.dropped)
    passed = np.arange(len(filters[0][1]))
    for reason, mask in filters:
        dropped[reason] = int(len(mask) - mask.sum())
        passed = passed[mask]
    return replace(resampled, dropped=dropped), payloads, passed[resampled.sources]


def _iter_batches(rows: list[TopicRows], episode_path: str) -> Iterator[pa.RecordBatch]:
    if not rows:
        return
    kinds = [(part.topic, part.message_type) for part in rows]
    codes = np.repeat(np.arange(len(rows)), [len(part.times_ns) for part in rows])
    times_ns = np.concatenate([part.times_ns for part in rows])
    interval_index = np.concatenate([part.interval_index for part in rows]).astype(np.int32)
    payloads = concat_payloads([part.payloads for part in rows])
    places = np.concatenate([part.places for part in rows])
    del rows  # what they hold is in the columns by now
    wrapped = WrappedRows(kinds, codes, times_ns, payloads)
    order = _order_of(times_ns, places)
    topics, types = (pa.array(names) for names in zip(*kinds, strict=True))
    path = pa.scalar(episode_path)
    for start, stop in batch_bounds(payloads.num_bytes[order], ROWS_PER_BATCH):
        chosen = order[start:stop]
        kind = pa.array(codes[chosen])
        arrays = [
            pa.repeat(path, len(chosen)),  # not a slice of a longer one, of which Arrow would write more than the slice
            topics.take(kind),
            pa.array(times_ns[chosen]),
            types.take(kind),
            wrapped.write(chosen),
            pa.array(interval_index[chosen]),
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=EVENT_SCHEMA)


def _order_of(times_ns: Int64s, places: Int64s) -> Int64s:
    """Return the order by time, ties by place; a quarter of the time where there are none."""
    order = np.argsort(times_ns, kind="stable")
    in_order = times_ns[order]
    return order if (in_order[1:] > in_order[:-1]).all() else np.lexsort((places, times_ns))
