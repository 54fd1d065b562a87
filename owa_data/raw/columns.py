"""Messages of one recording as columns, topic by topic.

Input: a `ByteSource` and the topics wanted. Output: `MessageColumns` per topic. Chunks are decompressed into one buffer, and payloads stay
there; topics that are not wanted are never touched. Memory: the decompressed chunks that hold a wanted topic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from owa_data.raw.chunks import (
    DamagedChunkError,
    MessageSpans,
    decompress,
    decompress_into,
    indexed_messages,
    is_covered,
    read_message_index,
    spans_by_index,
    spans_by_walk,
)
from owa_data.raw.layout import Layout, Problem, count_indexed, find_hidden_chunks
from owa_data.raw.payloads import Payloads
from owa_data.raw.records import MAX_TIME_NS, Channel, Chunk, MalformedRecordError
from owa_data.store.source import ByteSource

Int64s = npt.NDArray[np.int64]
Octets = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class MessageColumns:
    """All messages of one topic, ascending by time, ties in file order.

    Attributes:
        times_ns: Log times, int64 (n,).
        type_codes: Index into `message_types`, int64 (n,). A topic nearly always has one type.
        message_types: Names as recorded, such as `desktop/ScreenCaptured`.
        payloads: Message contents (n,). Their `starts` are in file order, also across the topics of one recording.
        is_json: False where a channel of the topic has another encoding than `json`.
    """

    times_ns: npt.NDArray[np.int64]
    type_codes: npt.NDArray[np.int64]
    message_types: tuple[str, ...]
    payloads: Payloads
    is_json: bool

    def __len__(self) -> int:
        return len(self.times_ns)


@dataclass(frozen=True, slots=True)
class OpenChunk:
    """One sound chunk: its records, and the messages of each channel in it."""

    content: bytes | memoryview
    spans: dict[int, MessageSpans]


def iter_chunks(
    source: ByteSource,
    layout: Layout,
    wants: Callable[[Channel], bool],
    *,
    is_sound: bool,
    problems: list[Problem],
    is_checked: bool = True,
) -> Iterator[OpenChunk]:
    """Open the chunks of a recording one after another.

    Args:
        source: The recording.
        layout: Where its chunks lie. Channels that are met only inside chunks are added to it.
        wants: Whether a channel's messages are wanted. A chunk without any such channel is not decompressed if `is_sound`.
        is_sound: The recording was found sound before and is still the same, so CRCs and coverage are not checked again.
        is_checked: False where it was called sound by its summary alone: the chunks that are opened are then held to their CRC.
        problems: Receives one entry per chunk that is not whole; such a chunk is left out entirely.
    """
    waiting = deque(layout.chunks)
    while waiting:
        chunk = waiting.popleft()
        # Without indexes, or in a file whose statistics were not there, only the records themselves tell.
        indexed = bool(chunk.index_offsets) and set(chunk.index_offsets) <= set(layout.channels)
        wanted = {i for i in chunk.index_offsets if wants(layout.channels[i])} if indexed else set[int]()
        if indexed and is_sound and not wanted:
            yield OpenChunk(b"", {})
            continue
        try:
            check = not (is_sound and is_checked)
            content = decompress(source, chunk, check_crc=check)
            spans = _find_messages(
                source, layout, chunk, content, wanted if indexed else None, is_sound=is_sound, check=check, problems=problems
            )
        except (DamagedChunkError, MalformedRecordError) as error:
            lost = count_indexed(source, chunk.index_offsets)
            problems.append(Problem(chunk.data_offset, f"chunk: {error}", chunk.data_bytes, lost))
            # A broken chunk may have been drawn over whole ones, where bytes are missing in between.
            waiting.extendleft(reversed(find_hidden_chunks(source, chunk, layout)))
            yield OpenChunk(b"", {})
            continue
        if unknown := set(spans) - set(layout.channels):
            lost = sum(len(spans[i].times_ns) for i in unknown)
            problems.append(
                Problem(chunk.data_offset, f"messages of channels {sorted(unknown)} that no record declares", 0, lost)
            )
        found = {i: part for i, part in spans.items() if i not in unknown and wants(layout.channels[i])}
        yield OpenChunk(content, found if is_sound and is_checked else _with_times(chunk, found, problems))


def _find_messages(
    source: ByteSource,
    layout: Layout,
    chunk: Chunk,
    content: bytes | memoryview,
    wanted: AbstractSet[int] | None,
    *,
    is_sound: bool,
    check: bool,
    problems: list[Problem],
) -> dict[int, MessageSpans]:
    """Find the messages of a chunk: those of the channels `wanted` by its message indexes, or all by a walk where it has none (None)."""
    if wanted is None:
        return spans_by_walk(content, layout.declared)
    try:
        spans = spans_by_index(source, chunk, content, wanted if is_sound else chunk.index_offsets, check=check)
        if is_sound or is_covered(content, spans, layout.declared):
            return spans
        cause = "its message indexes do not name every message"
    except MalformedRecordError as error:
        cause = str(error)
    # The records themselves are the truth. It is noted, so that later readers do not take the indexes' word.
    spans = spans_by_walk(content, layout.declared)
    problems.append(Problem(chunk.data_offset, f"chunk: {cause}; its records were read one by one"))
    return spans


def _with_times(chunk: Chunk, spans: dict[int, MessageSpans], problems: list[Problem]) -> dict[int, MessageSpans]:
    """Leave out messages with a log time of `MAX_TIME_NS` or more; those over int64 are negative here."""
    num_lost = sum(int(np.count_nonzero(part.times_ns.view(np.uint64) >= MAX_TIME_NS)) for part in spans.values())
    if not num_lost:
        return spans
    problems.append(Problem(chunk.data_offset, "messages with a log time of 2**62 ns, the year 2116, or more", 0, num_lost))
    timed = {}
    for channel_id, part in spans.items():
        fits = part.times_ns.view(np.uint64) < MAX_TIME_NS
        if fits.any():
            timed[channel_id] = MessageSpans(part.starts[fits], part.ends[fits], part.times_ns[fits])
    return timed


def read_columns(
    source: ByteSource, layout: Layout, topics: AbstractSet[str], *, is_sound: bool = False, is_checked: bool = True
) -> tuple[dict[str, MessageColumns], list[Problem]]:
    """Read the messages of some topics.

    Args:
        source: The recording.
        layout: Its layout, from `read_layout`.
        topics: Topics wanted. One that the recording lacks is absent from the result.
        is_sound: See `iter_chunks`.
        is_checked: See `iter_chunks`.

    Returns:
        Columns by topic, and the problems met in chunks (those of the layout not repeated).
    """
    wanted = {i for i, channel in layout.channels.items() if channel.topic in topics}
    if is_sound and is_checked and all(chunk.index_offsets.keys() <= layout.channels.keys() for chunk in layout.chunks):
        chunks = [chunk for chunk in layout.chunks if not wanted.isdisjoint(chunk.index_offsets) or not chunk.index_offsets]
        if all(chunk.index_offsets for chunk in chunks):
            with suppress(DamagedChunkError, MalformedRecordError):  # not sound after all: what follows says where
                return _join(*_read_by_index(source, chunks, wanted), layout.channels), []
    problems: list[Problem] = []
    contents: list[bytes | memoryview] = []
    parts: list[tuple[int, MessageSpans]] = []
    base = 0
    for chunk in iter_chunks(
        source, layout, lambda channel: channel.topic in topics, is_sound=is_sound, problems=problems, is_checked=is_checked
    ):
        if not chunk.spans:
            continue
        contents.append(chunk.content)
        parts += [
            (channel_id, MessageSpans(spans.starts + base, spans.ends + base, spans.times_ns))
            for channel_id, spans in chunk.spans.items()
        ]
        base += len(chunk.content)
    octets = np.frombuffer(b"".join(contents), np.uint8)
    return _join(octets, parts, layout.channels), problems


def _read_by_index(
    source: ByteSource, chunks: Sequence[Chunk], wanted: AbstractSet[int]
) -> tuple[Octets, list[tuple[int, MessageSpans]]]:
    """Decompress chunks of a sound recording side by side, and find the messages of the channels `wanted` in them all at once."""
    octets = np.empty(sum(chunk.uncompressed_bytes for chunk in chunks), np.uint8)
    view = memoryview(octets)  # type: ignore[arg-type]  # an array has the buffer protocol, numpy's stubs say otherwise
    entries: dict[int, list[Int64s]] = {}
    base = 0
    for chunk in chunks:
        decompress_into(source, chunk, view[base : base + chunk.uncompressed_bytes])
        for channel_id in wanted & chunk.index_offsets.keys():
            table = read_message_index(source, chunk.index_offsets[channel_id], channel_id)
            if len(table):
                entries.setdefault(channel_id, []).append(table + np.array([0, base]))
        base += chunk.uncompressed_bytes
    return octets, [(channel_id, indexed_messages(octets, np.concatenate(tables))) for channel_id, tables in entries.items()]


def _join(
    octets: Octets, parts: Sequence[tuple[int, MessageSpans]], channels: Mapping[int, Channel]
) -> dict[str, MessageColumns]:
    by_topic: dict[str, list[tuple[Channel, MessageSpans]]] = {}
    for channel_id, spans in sorted(parts, key=lambda part: int(part[1].starts[0])):
        by_topic.setdefault(channels[channel_id].topic, []).append((channels[channel_id], spans))
    return {topic: _columns_of(octets, of_topic) for topic, of_topic in by_topic.items()}


def _columns_of(octets: Octets, parts: Sequence[tuple[Channel, MessageSpans]]) -> MessageColumns:
    message_types = tuple(dict.fromkeys(channel.message_type for channel, _ in parts))
    times_ns = np.concatenate([spans.times_ns for _, spans in parts])
    starts = np.concatenate([spans.starts for _, spans in parts])
    ends = np.concatenate([spans.ends for _, spans in parts])
    codes = np.array([message_types.index(channel.message_type) for channel, _ in parts], np.int64)
    type_codes = np.repeat(codes, [len(spans.starts) for _, spans in parts])
    in_order = (times_ns[1:] > times_ns[:-1]) | ((times_ns[1:] == times_ns[:-1]) & (starts[1:] > starts[:-1]))
    if not in_order.all():
        order = np.lexsort((starts, times_ns))
        times_ns, starts, ends, type_codes = times_ns[order], starts[order], ends[order], type_codes[order]
    is_json = all(channel.message_encoding == "json" for channel, _ in parts)
    return MessageColumns(times_ns, type_codes, message_types, Payloads(octets, starts, ends), is_json)
