"""One chunk: its records decompressed and checked, and where in them each message lies.

Input: a `Chunk` of a `Layout`. Output: the records as one buffer and, per channel, message positions, times and payload ends as
arrays. Message indexes are used where they are sound; else the records are walked one by one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import lz4.frame
import numpy as np
import numpy.typing as npt
import zstandard

from owa_data.raw import records
from owa_data.raw.records import Channel, Chunk, MalformedRecordError
from owa_data.store.source import ByteSource

Int64s = npt.NDArray[np.int64]

MAX_CHUNK_BYTES = 1 << 30
"""Chunks that claim to unfold to more are refused: recorders write some MiB, and a bomb of 40 KB unfolds to more than this."""

# Bytes that one byte of data can unfold to: zstd's densest block has 4 bytes for 128 KiB, lz4 adds 255 per byte.
_MAX_GROWTH = {"zstd": 32768, "lz4": 255}
_PREFIX_BYTES = records.RECORD_HEAD_BYTES + records.MESSAGE_HEAD_BYTES


class DamagedChunkError(ValueError):
    """A chunk that cannot be used as a whole."""

    def __init__(self, chunk: Chunk, problem: str) -> None:
        super().__init__(problem)
        self.chunk = chunk
        self.problem = problem


@dataclass(frozen=True, slots=True)
class MessageSpans:
    """Messages of one channel in one chunk, ascending by place.

    `starts` and `ends` are byte positions of the payloads within the chunk's records, `times_ns` the log times; all int64 (n,). A log time of
    2**63 or more comes out negative.
    """

    starts: Int64s
    ends: Int64s
    times_ns: Int64s


def decompress(source: ByteSource, chunk: Chunk, *, check_crc: bool) -> bytes | memoryview:
    """Return the uncompressed records of a chunk.

    No more is allocated than the compressed data really unfolds to, whatever sizes the file claims.

    Raises:
        DamagedChunkError: Unknown compression, broken data, another size than claimed, or a CRC that does not match.
    """
    data = source.read(chunk.data_offset, chunk.data_bytes)
    try:
        content = _unfold(data, chunk)
    except (zstandard.ZstdError, RuntimeError, EOFError, MemoryError) as error:
        # lz4 raises RuntimeError.
        raise DamagedChunkError(chunk, f"{chunk.compression} data is broken: {error}") from error
    if len(content) != chunk.uncompressed_bytes:
        raise DamagedChunkError(chunk, f"{len(content)} bytes of records where {chunk.uncompressed_bytes} are claimed")
    if check_crc and chunk.crc and zlib.crc32(content) != chunk.crc:
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
    # A decompressor may serve one thread at a time only, so each chunk has its own; making one costs microseconds.
    unzstd = zstandard.ZstdDecompressor()
    if zstandard.frame_content_size(data) == limit:
        return unzstd.decompress(data)
    # A frame that does not name its size, names another, or is one of several: unfold at most one byte more than claimed.
    return unzstd.stream_reader(data, read_across_frames=True).read(limit + 1)


def spans_by_index(
    source: ByteSource, chunk: Chunk, content: bytes | memoryview, channel_ids: Iterable[int]
) -> dict[int, MessageSpans]:
    """Find the messages of some channels through the chunk's message indexes: a few array operations per channel.

    Raises:
        MalformedRecordError: An index that does not fit the records. `spans_by_walk` finds the messages all the same.
    """
    spans = {}
    # u64 at every byte position, aligned or not, without a copy.
    words = np.ndarray((max(len(content) - 7, 0),), "<u8", content, strides=(1,))
    octets = np.frombuffer(content, np.uint8)
    for channel_id in channel_ids:
        if channel_id not in chunk.index_offsets:
            continue
        times, offsets = _read_message_index(source, chunk.index_offsets[channel_id], channel_id)
        if not len(offsets):
            continue
        if np.any(offsets[1:] <= offsets[:-1]):
            order = np.argsort(offsets, kind="stable")
            times, offsets = times[order], offsets[order]
        if offsets[0] < 0 or offsets[-1] > len(content) - _PREFIX_BYTES:
            raise MalformedRecordError(f"message index of channel {channel_id} points outside its chunk")
        lengths = words[offsets + 1].view(np.int64)
        starts = offsets + _PREFIX_BYTES
        ends = offsets + records.RECORD_HEAD_BYTES + lengths
        channels = octets[offsets + 9].astype(np.int64) | octets[offsets + 10].astype(np.int64) << 8
        sound = (
            np.all(octets[offsets] == records.MESSAGE)
            and np.all(channels == channel_id)
            and np.all(lengths >= records.MESSAGE_HEAD_BYTES)
            and np.all(lengths <= len(content))
            and np.all(ends[:-1] <= offsets[1:])
            and ends[-1] <= len(content)
            and np.array_equal(words[offsets + 15].view(np.int64), times)
        )
        if not sound:
            raise MalformedRecordError(f"message index of channel {channel_id} does not fit its chunk")
        spans[channel_id] = MessageSpans(starts, ends, times)
    return spans


def _read_message_index(source: ByteSource, offset: int, channel_id: int) -> tuple[Int64s, Int64s]:
    head_bytes = records.RECORD_HEAD_BYTES + records.MESSAGE_INDEX_HEAD_BYTES
    head = source.read(offset, head_bytes)
    if len(head) < head_bytes or head[0] != records.MESSAGE_INDEX or int.from_bytes(head[9:11], "little") != channel_id:
        raise MalformedRecordError(f"no message index of channel {channel_id} at {offset}")
    num_bytes = int.from_bytes(head[11:15], "little")
    entries = source.read(offset + head_bytes, num_bytes)
    if len(entries) != num_bytes or num_bytes % 16:
        raise MalformedRecordError(f"message index at {offset} is cut off")
    table = np.frombuffer(entries, "<i8").reshape(-1, 2)
    return table[:, 0], table[:, 1]


def is_covered(content: bytes | memoryview, spans: dict[int, MessageSpans], channels: dict[int, Channel]) -> bool:
    """Whether every message record of a chunk is among `spans` of all its channels: what lies between must be other records.

    Channels declared there are put into `channels`.
    """
    if not spans:
        return not any(True for _ in _iter_messages(content, channels, 0, len(content)))
    starts = np.concatenate([part.starts for part in spans.values()]) - _PREFIX_BYTES
    ends = np.concatenate([part.ends for part in spans.values()])
    order = np.argsort(starts, kind="stable")
    gap_starts = np.concatenate([[0], ends[order]])
    gap_ends = np.concatenate([starts[order], [len(content)]])
    if np.any(gap_ends < gap_starts):
        return False
    for index in np.flatnonzero(gap_ends > gap_starts):
        gap = int(gap_starts[index]), int(gap_ends[index])
        if any(True for _ in _iter_messages(content, channels, *gap)):
            return False
    return True


def spans_by_walk(content: bytes | memoryview, channels: dict[int, Channel]) -> dict[int, MessageSpans]:
    """Find all messages of a chunk by walking its records, at about 1 M records/s; puts channels met on the way into `channels`.

    Raises:
        MalformedRecordError: A record reaches past the end of the chunk.
    """
    found: dict[int, list[tuple[int, int, int]]] = {}
    for channel_id, start, end, time_ns in _iter_messages(content, channels, 0, len(content)):
        found.setdefault(channel_id, []).append((start, end, time_ns))
    spans = {}
    for channel_id, rows in found.items():
        table = np.array(rows, np.int64)
        spans[channel_id] = MessageSpans(table[:, 0], table[:, 1], table[:, 2])
    return spans


def _iter_messages(
    content: bytes | memoryview, channels: dict[int, Channel], position: int, stop: int
) -> Iterable[tuple[int, int, int, int]]:
    schema_names: dict[int, str] = {}
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
            schema_names[schema_id] = name
        elif opcode == records.CHANNEL:
            channel = records.parse_channel(content[start:end], schema_names)
            channels[channel.channel_id] = channel
        position = end
