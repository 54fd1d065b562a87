"""Messages of one recording as columns, topic by topic.

Input: a `ByteSource` and the topics wanted. Output: `MessageColumns` per topic. Chunks are decompressed one after another, and the wanted payloads of
each are copied while they are in cache; topics that are not wanted are never touched. Memory: one chunk, and the wanted payloads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from owa_data.raw.chunks import (
    DamagedChunkError,
    MessageSpans,
    decompress,
    is_covered,
    spans_by_index,
    spans_by_walk,
)
from owa_data.raw.layout import Damage, Layout, count_indexed, find_hidden_chunks
from owa_data.raw.payloads import PayloadPool, Payloads
from owa_data.raw.records import MAX_TIME_NS, Channel, Chunk, MalformedRecordError
from owa_data.store.source import ByteSource, Trust

Int64s = npt.NDArray[np.int64]
Octets = npt.NDArray[np.uint8]

_MAX_RESERVED_BYTES = 1 << 28  # what needs more grows into it


@dataclass(frozen=True)
class MessageColumns:
    """All messages of one topic, ascending by time, ties in file order.

    Attributes:
        times_ns: Log times, int64 (n,).
        type_codes: Index into `message_types`, int64 (n,). A topic nearly always has one type.
        message_types: Names as recorded, such as `desktop/ScreenCaptured`.
        payloads: Message contents (n,).
        places: Order in the file, int64 (n,), comparable across the topics of one recording.
        is_json: False where a channel of the topic has another encoding than `json`.
    """

    times_ns: npt.NDArray[np.int64]
    type_codes: npt.NDArray[np.int64]
    message_types: tuple[str, ...]
    payloads: Payloads
    places: npt.NDArray[np.int64]
    is_json: bool

    def __len__(self) -> int:
        return len(self.times_ns)


@dataclass(slots=True)
class OpenChunk:
    """One sound chunk: its records, until the next chunk is opened, and the messages in it."""

    content: bytes | memoryview
    spans: MessageSpans


def iter_chunks(
    source: ByteSource,
    layout: Layout,
    wants: Callable[[Channel], bool],
    *,
    trust: Trust,
    damage: list[Damage],
) -> Iterator[OpenChunk]:
    """Open the chunks of a recording one after another.

    Args:
        source: The recording.
        layout: Where its chunks lie. Channels that are met only inside chunks are added to it.
        wants: Whether a channel's messages are wanted. A chunk without any such channel is not decompressed, unless `nothing` is trusted.
        trust: Decides whether CRCs and coverage are checked, see `store.source.Trust`.
        damage: Receives one entry per chunk that is not whole; such a chunk is left out entirely.
    """
    waiting = deque(layout.chunks)
    known: set[int] = set()
    while waiting:
        chunk = waiting.popleft()
        # Without indexes, or in a file whose statistics were not there, only the records themselves tell.
        indexed = bool(chunk.index_offsets) and chunk.index_offsets.keys() <= layout.channels.keys()
        wanted = {i for i in chunk.index_offsets if wants(layout.channels[i])} if indexed else set[int]()
        if indexed and trust != "nothing" and not wanted:
            yield OpenChunk(b"", MessageSpans.none())
            continue
        try:
            content = decompress(source, chunk, check_crc=trust != "bytes")
            spans = _find_messages(source, layout, chunk, content, wanted if indexed else None, trust=trust, damage=damage)
        except (DamagedChunkError, MalformedRecordError) as error:
            lost = count_indexed(source, chunk.index_offsets)
            damage.append(Damage(chunk.data_offset, f"chunk: {error}", chunk.data_bytes, lost))
            # A broken chunk may have been drawn over whole ones, where bytes are missing in between.
            known = known or {part.data_offset for part in layout.chunks}
            waiting.extendleft(reversed(find_hidden_chunks(source, chunk, known)))
            yield OpenChunk(b"", MessageSpans.none())
            continue
        if unknown := set(spans.channel_ids) - set(layout.channels):
            lost = len(spans.of_channels(unknown))
            damage.append(Damage(chunk.data_offset, f"messages of channels {sorted(unknown)} that no record declares", 0, lost))
        found = spans.of_channels({i for i in spans.channel_ids if i not in unknown and wants(layout.channels[i])})
        opened = OpenChunk(content, found if trust == "bytes" else _with_times(chunk, found, damage))
        del content
        yield opened
        # Whoever still holds the chunk does not hold its memory: the next one unfolds into it while it is in cache.
        opened.content = b""


def _find_messages(
    source: ByteSource,
    layout: Layout,
    chunk: Chunk,
    content: bytes | memoryview,
    wanted: AbstractSet[int] | None,
    *,
    trust: Trust,
    damage: list[Damage],
) -> MessageSpans:
    """Find the messages of a chunk: those of the channels `wanted` by its message indexes, or all by a walk where it has none (None)."""
    if wanted is None:
        return spans_by_walk(content, layout.declared)
    try:
        channel_ids = chunk.index_offsets if trust == "nothing" else wanted
        spans = spans_by_index(source, chunk, content, channel_ids, check=trust != "bytes")
        if trust != "nothing" or is_covered(content, spans, layout.declared):
            return spans
        cause = "its message indexes do not name every message"
    except MalformedRecordError as error:
        cause = str(error)
    # The records themselves are the truth. It is noted, so that later readers do not take the indexes' word.
    spans = spans_by_walk(content, layout.declared)
    damage.append(Damage(chunk.data_offset, f"chunk: {cause}; its records were read one by one"))
    return spans


def _with_times(chunk: Chunk, spans: MessageSpans, damage: list[Damage]) -> MessageSpans:
    """Leave out messages with a log time of `MAX_TIME_NS` or more; those over int64 are negative here."""
    times = spans.times_ns.view(np.uint64)
    if times.max(initial=0) < MAX_TIME_NS:
        return spans
    fits = times < MAX_TIME_NS
    num_lost = int(np.count_nonzero(~fits))
    damage.append(Damage(chunk.data_offset, "messages with a log time of 2**62 ns, the year 2116, or more", 0, num_lost))
    return spans.take(fits)


def read_columns(
    source: ByteSource, layout: Layout, topics: AbstractSet[str], pool: PayloadPool, *, trust: Trust = "nothing"
) -> tuple[dict[str, MessageColumns], list[Damage]]:
    """Read the messages of some topics.

    Args:
        source: The recording.
        layout: Its layout, from `read_layout`.
        topics: Topics wanted. One that the recording lacks is absent from the result.
        pool: Takes the payloads.
        trust: See `iter_chunks`.

    Returns:
        Columns by topic, and the damage met in chunks (those of the layout not repeated).
    """
    damage: list[Damage] = []
    pool.reserve(_expected_bytes(source, layout, topics))
    parts: list[_Part] = []
    base = 0
    for chunk in iter_chunks(source, layout, lambda channel: channel.topic in topics, trust=trust, damage=damage):
        if spans := chunk.spans:
            starts, ends = pool.add(Payloads(np.frombuffer(chunk.content, np.uint8), spans.starts, spans.ends))
            columns = np.array([spans.times_ns, base + spans.starts, starts, ends])
            parts += [_Part(layout.channels[channel_id], columns[:, rows]) for channel_id, rows in spans.slices()]
        base += len(chunk.content)
    by_topic: dict[str, list[_Part]] = {}
    for part in parts:
        by_topic.setdefault(part.channel.topic, []).append(part)
    return {topic: _columns_of(pool.octets, of_topic) for topic, of_topic in by_topic.items()}, damage


def _expected_bytes(source: ByteSource, layout: Layout, topics: AbstractSet[str]) -> int:
    """About what the payloads of topics take at most; what chunks unfold to is their claim, so the file's size counts too."""
    wanted = {channel_id for channel_id, channel in layout.channels.items() if channel.topic in topics}
    claimed = sum(chunk.uncompressed_bytes for chunk in layout.chunks if wanted & chunk.index_offsets.keys())
    return min(2 * source.size_bytes, claimed, _MAX_RESERVED_BYTES)


@dataclass(frozen=True, slots=True)
class _Part:
    """Messages of one channel in one chunk: times, places, and where the payloads begin and end in what was collected, int64 (4, n)."""

    channel: Channel
    columns: Int64s

    @property
    def first_place(self) -> int:
        _, places, _, _ = self.columns
        return int(places.min())


def _columns_of(octets: Octets, parts: Sequence[_Part]) -> MessageColumns:
    """Put together the parts of one topic."""
    if len({part.channel.channel_id for part in parts}) > 1:
        parts = sorted(parts, key=lambda part: part.first_place)
    columns = np.concatenate([part.columns for part in parts], axis=1)
    message_types = tuple(dict.fromkeys(part.channel.message_type for part in parts))
    codes = [message_types.index(part.channel.message_type) for part in parts]
    type_codes = np.repeat(codes, [part.columns.shape[1] for part in parts])
    times_ns, places, *_ = columns
    in_order = times_ns[1:] > times_ns[:-1]
    if not in_order.all():
        in_order |= (times_ns[1:] == times_ns[:-1]) & (places[1:] > places[:-1])
    if not in_order.all():
        order = np.lexsort((places, times_ns))
        columns, type_codes = columns[:, order], type_codes[order]
    times_ns, places, starts, ends = columns
    is_json = all(part.channel.message_encoding == "json" for part in parts)
    return MessageColumns(times_ns, type_codes, message_types, Payloads(octets, starts, ends), places, is_json)
