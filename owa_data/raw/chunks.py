"""One chunk: its records decompressed and checked, and where in them each message lies.

Input: a `Chunk` of a `Layout`. Output: the records as one buffer and, per channel, message positions, times and payload ends as
arrays. Message indexes are used where they are sound; else the records are walked one by one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import lz4.frame
import numpy as np
import numpy.typing as npt
import zstandard
from zlib_ng import zlib_ng

from owa_data.raw import records
from owa_data.raw.payloads import stretches_of
from owa_data.raw.records import Chunk, Declarations, MalformedRecordError
from owa_data.store.source import ByteSource

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
UInt64s = npt.NDArray[np.uint64]

MAX_CHUNK_BYTES = 1 << 30
"""Chunks that claim to unfold to more are refused: recorders write some MiB, and a bomb of 40 KB unfolds to more than this."""

# Bytes that one byte of data can unfold to: zstd's densest block has 4 bytes for 128 KiB, lz4 adds 255 per byte.
_MAX_GROWTH = {"zstd": 32768, "lz4": 255}
_PREFIX_BYTES = records.RECORD_HEAD_BYTES + records.MESSAGE_HEAD_BYTES


class _PerThread(threading.local):
    """A decompressor is made once, and used by one thread at a time."""

    def __init__(self) -> None:
        self.zstd = zstandard.ZstdDecompressor()


_PER_THREAD = _PerThread()


class DamagedChunkError(ValueError):
    """A chunk that cannot be used as a whole."""

    def __init__(self, chunk: Chunk, problem: str) -> None:
        super().__init__(problem)
        self.chunk = chunk
        self.problem = problem


@dataclass(frozen=True, slots=True)
class MessageSpans:
    """Messages of some channels in one chunk, channel by channel.

    Attributes:
        channel_ids: The channels, each with at least one message.
        num_messages: Of each channel.
        starts: Where payloads begin within the chunk's records, int64 (n,). Those of a channel ascend where they were checked.
        ends: Where they end, int64 (n,).
        times_ns: Log times, int64 (n,). One of 2**63 or more comes out negative.
    """

    channel_ids: tuple[int, ...]
    num_messages: tuple[int, ...]
    starts: Int64s
    ends: Int64s
    times_ns: Int64s

    @classmethod
    def none(cls) -> MessageSpans:
        """No messages."""
        return cls((), (), *np.empty((3, 0), np.int64))

    def __len__(self) -> int:
        return len(self.starts)

    def slices(self) -> Iterator[tuple[int, slice]]:
        """Yield each channel and where its messages stand."""
        stop = 0
        for channel_id, num_messages in zip(self.channel_ids, self.num_messages, strict=True):
            yield channel_id, slice(stop, stop := stop + num_messages)

    def take(self, mask: Bools) -> MessageSpans:
        """Choose messages by a mask, bool (n,)."""
        counts = {channel_id: int(np.count_nonzero(mask[rows])) for channel_id, rows in self.slices()}
        counts = {channel_id: num_messages for channel_id, num_messages in counts.items() if num_messages}
        return MessageSpans(tuple(counts), tuple(counts.values()), self.starts[mask], self.ends[mask], self.times_ns[mask])

    def of_channels(self, channel_ids: AbstractSet[int]) -> MessageSpans:
        """Choose the messages of some channels."""
        if channel_ids >= set(self.channel_ids):
            return self
        chosen = {channel_id: rows for channel_id, rows in self.slices() if channel_id in channel_ids}
        if not chosen:
            return MessageSpans.none()
        starts, ends, times_ns = (
            np.concatenate([column[rows] for rows in chosen.values()]) for column in (self.starts, self.ends, self.times_ns)
        )
        return MessageSpans(tuple(chosen), tuple(rows.stop - rows.start for rows in chosen.values()), starts, ends, times_ns)


def decompress(source: ByteSource, chunk: Chunk, *, check_crc: bool) -> bytes | memoryview:
    """Return the uncompressed records of a chunk.

    No more is allocated than the compressed data really unfolds to, whatever sizes the file claims.

    Raises:
        DamagedChunkError: Unknown compression, broken data, another size than claimed, or a CRC that does not match.
    """
    data = source.read(chunk.data_offset, chunk.data_bytes)
    try:
        content = _unfold(data, chunk)
    except (zstandard.ZstdError, RuntimeError, OSError, EOFError, MemoryError) as error:
        # lz4 raises RuntimeError, Arrow OSError.
        raise DamagedChunkError(chunk, f"{chunk.compression} data is broken: {error}") from error
    if len(content) != chunk.uncompressed_bytes:
        raise DamagedChunkError(chunk, f"{len(content)} bytes of records where {chunk.uncompressed_bytes} are claimed")
    if check_crc and chunk.crc and zlib_ng.crc32(content) != chunk.crc:
        raise DamagedChunkError(chunk, "CRC does not match")
    return content


def _unfold(data: records.Buffer, chunk: Chunk) -> bytes | memoryview:
    if not chunk.compression:
        return data
    if chunk.compression not in _MAX_GROWTH:
        raise DamagedChunkError(chunk, f"unknown compression {chunk.compression!r}")
    # Sizes are claims: nothing is allocated before they are held against what the data can unfold to.
    if chunk.uncompressed_bytes > min(len(data) * _MAX_GROWTH[chunk.compression] + 65536, MAX_CHUNK_BYTES):
        problem = f"{len(data)} bytes of {chunk.compression} data claim to unfold to {chunk.uncompressed_bytes}; at most {MAX_CHUNK_BYTES} are read"
        raise DamagedChunkError(chunk, problem)
    limit = chunk.uncompressed_bytes
    if chunk.compression == "lz4":
        return bytes(lz4.frame.LZ4FrameDecompressor().decompress(bytes(data), max_length=limit + 1))
    if zstandard.frame_content_size(data) == limit:
        try:
            return _PER_THREAD.zstd.decompress(data, allow_extra_data=False)
        except zstandard.ZstdError:
            pass  # broken, or not the only frame: told below
    # A frame that does not name its size, names another, or is one of several: unfold at most one byte more than claimed.
    return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read(limit + 1)


def spans_by_index(
    source: ByteSource, chunk: Chunk, content: bytes | memoryview, channel_ids: Iterable[int], *, check: bool = True
) -> MessageSpans:
    """Find the messages of some channels through the chunk's message indexes: a few array operations for all channels together.

    Args:
        source: The recording.
        chunk: The chunk.
        content: Its records.
        channel_ids: Channels wanted; those without messages are absent from the result.
        check: Hold the indexes against the records. Where that was done before, on the same bytes, only that no message reaches out of the chunk.

    Raises:
        MalformedRecordError: An index that does not fit the records. `spans_by_walk` finds the messages all the same.
    """
    tables = {i: read_message_index(source, chunk.index_offsets[i], i) for i in channel_ids if i in chunk.index_offsets}
    tables = {channel_id: table for channel_id, table in tables.items() if len(table)}
    if not tables:
        return MessageSpans.none()
    indexed, num_messages = tuple(tables), tuple(map(len, tables.values()))
    times_ns, offsets = np.ascontiguousarray(np.concatenate(list(tables.values())).T)
    if int(offsets.view(np.uint64).max()) + _PREFIX_BYTES > len(content):  # a negative one is far outside, too
        raise MalformedRecordError("a message index points outside its chunk")
    # A message record: opcode u8, length u64, channel u16, sequence u32, log time u64; the first 24 bytes as three words.
    heads = stretches_of(np.frombuffer(content, np.uint8), 24)[offsets].view("<u8").reshape(-1, 3).T
    num_bytes = (heads[0] >> 8) - records.MESSAGE_HEAD_BYTES  # the highest byte of a length stands in the next word
    starts = offsets + _PREFIX_BYTES
    ends = starts + num_bytes.view(np.int64)
    if num_bytes.max() > len(content) or ends.max() > len(content):  # of fewer bytes than a message has, a huge number remains
        raise MalformedRecordError("a message index does not fit its chunk")
    spans = MessageSpans(indexed, num_messages, starts, ends, times_ns)
    return _checked(spans, heads) if check else spans


def _checked(spans: MessageSpans, heads: UInt64s) -> MessageSpans:
    """Hold messages against the first 24 bytes of the records that they are said to be, uint64 (3, n); return them in the records' order.

    Raises:
        MalformedRecordError: There are others, or they overlap.
    """
    channels = np.repeat(np.array(spans.channel_ids, np.uint64), spans.num_messages)
    sound = (
        np.all(heads[0] & 0xFF == records.MESSAGE)
        and np.all(heads[1] & 0xFFFFFF == channels << 8)
        and np.all((heads[1] >> 56) | (heads[2] << 8) == spans.times_ns.view(np.uint64))
    )
    if not sound:
        raise MalformedRecordError("a message index does not fit its chunk")
    is_same_channel = channels[1:] == channels[:-1]
    if np.any(is_same_channel & (spans.starts[1:] <= spans.starts[:-1])):
        order = np.lexsort((spans.starts, np.repeat(np.arange(len(spans.channel_ids)), spans.num_messages)))
        spans = replace(spans, starts=spans.starts[order], ends=spans.ends[order], times_ns=spans.times_ns[order])
    overlaps = is_same_channel & (spans.ends[:-1] > spans.starts[1:] - _PREFIX_BYTES)
    if overlaps.any():
        raise MalformedRecordError(f"messages of channel {channels[:-1][overlaps][0]} overlap by their index")
    return spans


def read_message_index(source: ByteSource, offset: int, channel_id: int) -> Int64s:
    """Return the entries of a message index, int64 (n, 2): log time and place in the chunk.

    Raises:
        MalformedRecordError: There is none of this channel.
    """
    head_bytes = records.RECORD_HEAD_BYTES + records.MESSAGE_INDEX_HEAD_BYTES
    head = source.read(offset, head_bytes)
    if len(head) < head_bytes or head[0] != records.MESSAGE_INDEX or int.from_bytes(head[9:11], "little") != channel_id:
        raise MalformedRecordError(f"no message index of channel {channel_id} at {offset}")
    num_bytes = int.from_bytes(head[11:15], "little")
    entries = source.read(offset + head_bytes, num_bytes)
    if len(entries) != num_bytes or num_bytes % 16:
        raise MalformedRecordError(f"message index at {offset} is cut off")
    return np.frombuffer(entries, "<i8").reshape(-1, 2)


def is_covered(content: bytes | memoryview, spans: MessageSpans, declared: Declarations) -> bool:
    """Whether every message record of a chunk is among `spans` of all its channels: what lies between must be other records.

    Channels declared there are put into `declared`.
    """
    order = np.argsort(spans.starts, kind="stable")
    gap_starts = np.concatenate([[0], spans.ends[order]])
    gap_ends = np.concatenate([spans.starts[order] - _PREFIX_BYTES, [len(content)]])
    if np.any(gap_ends < gap_starts):
        return False
    for index in np.flatnonzero(gap_ends > gap_starts):
        gap = int(gap_starts[index]), int(gap_ends[index])
        if any(True for _ in _iter_messages(content, declared, *gap)):
            return False
    return True


def spans_by_walk(content: bytes | memoryview, declared: Declarations) -> MessageSpans:
    """Find all messages of a chunk by walking its records, at about 1 M records/s; puts channels met on the way into `declared`.

    Raises:
        MalformedRecordError: A record reaches past the end of the chunk.
    """
    found: dict[int, list[tuple[int, int, int]]] = {}
    for channel_id, start, end, time_ns in _iter_messages(content, declared, 0, len(content)):
        found.setdefault(channel_id, []).append((start, end, time_ns))
    if not found:
        return MessageSpans.none()
    starts, ends, times_ns = np.concatenate([np.array(rows, np.int64) for rows in found.values()]).T
    return MessageSpans(tuple(found), tuple(map(len, found.values())), starts, ends, times_ns)


def _iter_messages(
    content: bytes | memoryview, declared: Declarations, position: int, stop: int
) -> Iterable[tuple[int, int, int, int]]:
    from_bytes = int.from_bytes
    while position < stop:
        start = position + records.RECORD_HEAD_BYTES
        end = start + from_bytes(content[position + 1 : start], "little")
        if end > stop or start > stop:
            raise MalformedRecordError(f"record at {position} of the chunk reaches past its end")
        opcode = content[position]
        if opcode == records.MESSAGE:
            if end - start < records.MESSAGE_HEAD_BYTES:
                raise MalformedRecordError(f"message at {position} of the chunk is too short")
            channel_id = content[start] | content[start + 1] << 8
            time_ns = from_bytes(content[start + 6 : start + 14], "little", signed=True)
            yield channel_id, start + records.MESSAGE_HEAD_BYTES, end, time_ns
        elif opcode == records.SCHEMA:
            schema_id, name = records.parse_schema_name(content[start:end])
            declared.schema_names[schema_id] = name
        elif opcode == records.CHANNEL:
            channel = records.parse_channel(content[start:end], declared.schema_names)
            declared.channels[channel.channel_id] = channel
        position = end
