"""Where everything lies in one MCAP file: by its summary, or where that is missing or wrong by a walk over all records.

Input: a `ByteSource`. Output: a `Layout`. No chunk is decompressed here.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

from owa_data.errors import NotMcapError
from owa_data.raw import records
from owa_data.raw.records import Channel, Chunk, Header, MalformedRecordError
from owa_data.store.source import ByteSource

CHUNK_HEAD_BYTES = 64  # times, size, crc, compression name and data size; names are "", "zstd" or "lz4"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a recording: where (file offset in bytes), what, and what it cost.

    `lost_messages` is -1 where the number cannot be known.
    """

    offset: int
    cause: str
    lost_bytes: int = 0
    lost_messages: int = 0


@dataclass(slots=True)
class Layout:
    """Where the parts of one recording lie.

    `channels` is by id. `problems` lists what is wrong with the file so far; chunks that are cut off are not in `chunks`.
    `claimed_counts` is the number of messages by channel id that the file's statistics claim, empty where it has none;
    `claimed_bounds_ns` the first and last log time by them.
    """

    header: Header
    channels: dict[int, Channel] = field(default_factory=dict)
    chunks: list[Chunk] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    claimed_counts: dict[int, int] = field(default_factory=dict)
    claimed_bounds_ns: tuple[int, int] = (0, 0)


def read_layout(source: ByteSource) -> Layout:
    """Find header, channels and chunks of a recording.

    Raises:
        NotMcapError: The file does not begin with MCAP's magic bytes and a header.
    """
    header, data_start = _read_header(source)
    layout = Layout(header)
    try:
        if _read_summary(source, layout):
            return layout
        cause = "no summary: the records were read one by one"
    except MalformedRecordError as error:
        cause = f"the summary cannot be used ({error}): the records were read one by one"
    layout = Layout(header)
    _walk_file(source, layout, data_start)
    # A file that was written without a summary on purpose is whole; one that ends without a footer was cut off.
    if layout.problems or not _ends_well(source):
        layout.problems.insert(0, Problem(source.size_bytes, cause))
    return layout


def _read_header(source: ByteSource) -> tuple[Header, int]:
    magic = bytes(source.read(0, len(records.MAGIC)))
    if not source.size_bytes:
        raise NotMcapError(source.path, "the file is empty. Record it again, or leave it out with raw.exclude.")
    if magic != records.MAGIC:
        raise NotMcapError(
            source.path, f"not an MCAP file: it begins with {magic!r}, not {records.MAGIC!r}. Leave it out with raw.exclude."
        )
    head = source.read(len(magic), records.RECORD_HEAD_BYTES)
    if len(head) == records.RECORD_HEAD_BYTES:
        opcode, length = records.parse_record_head(head)
        start = len(magic) + records.RECORD_HEAD_BYTES
        if opcode == records.HEADER and start + length <= source.size_bytes:
            try:
                return records.parse_header(source.read(start, length)), start + length
            except MalformedRecordError:
                pass  # told below, together with a missing header
    raise NotMcapError(source.path, "the file has no MCAP header after its magic bytes. Leave it out with raw.exclude.")


def _ends_well(source: ByteSource) -> bool:
    tail = source.read(source.size_bytes - records.TAIL_BYTES, records.TAIL_BYTES)
    return (
        len(tail) == records.TAIL_BYTES
        and bytes(tail[-len(records.MAGIC) :]) == records.MAGIC
        and records.parse_record_head(tail) == (records.FOOTER, records.FOOTER_BYTES)
    )


def _read_summary(source: ByteSource, layout: Layout) -> bool:
    """Fill `layout` from the summary section. False where the file has none, or none that names every message."""
    if not _ends_well(source):
        return False
    footer_offset = source.size_bytes - records.TAIL_BYTES
    footer = source.read(footer_offset + records.RECORD_HEAD_BYTES, records.FOOTER_BYTES)
    summary_start, offset_start, crc = records.parse_footer(footer)
    if not summary_start:
        return False
    if not len(records.MAGIC) <= summary_start <= footer_offset:
        raise MalformedRecordError(f"summary start {summary_start} outside the file")
    summary = source.read(summary_start, footer_offset - summary_start)
    if crc and zlib.crc32(footer[:16], zlib.crc32(bytes(_footer_head()), zlib.crc32(summary))) != crc:
        raise MalformedRecordError("summary CRC does not match")
    end = offset_start - summary_start if offset_start else len(summary)
    schema_names: dict[int, str] = {}
    chunk_indexes = []
    position = 0
    while position < min(end, len(summary)):
        opcode, length = records.parse_record_head(_exactly(summary, position, records.RECORD_HEAD_BYTES))
        content = _exactly(summary, position + records.RECORD_HEAD_BYTES, length)
        position += records.RECORD_HEAD_BYTES + length
        if opcode == records.SCHEMA:
            schema_id, name = records.parse_schema_name(content)
            schema_names[schema_id] = name
        elif opcode == records.CHANNEL:
            channel = records.parse_channel(content, schema_names)
            layout.channels[channel.channel_id] = channel
        elif opcode == records.CHUNK_INDEX:
            chunk_indexes.append(records.parse_chunk_index(content))
        elif opcode == records.STATISTICS:
            layout.claimed_counts = records.parse_statistics(content)
            layout.claimed_bounds_ns = records.parse_statistics_bounds(content)
    if not chunk_indexes and (not layout.claimed_counts or any(layout.claimed_counts.values())):
        return False  # messages outside chunks, or no way to tell: only a walk finds them
    if set(layout.claimed_counts) - set(layout.channels):
        return False  # the summary does not repeat its channels
    layout.chunks = [_read_chunk(source, *entry) for entry in sorted(chunk_indexes, key=lambda entry: entry[0])]
    return True


def _footer_head() -> bytes:
    # The summary CRC covers the footer up to the CRC itself, its opcode and length included.
    return bytes([records.FOOTER]) + records.FOOTER_BYTES.to_bytes(8, "little")


def _exactly(buffer: records.Buffer, offset: int, length: int) -> records.Buffer:
    part = buffer[offset : offset + length]
    if len(part) != length:
        raise MalformedRecordError(f"record at {offset} reaches {length - len(part)} bytes past the end")
    return part


def _read_chunk(source: ByteSource, chunk_offset: int, chunk_bytes: int, index_offsets: dict[int, int]) -> Chunk:
    if chunk_offset + chunk_bytes > source.size_bytes or chunk_bytes < records.RECORD_HEAD_BYTES:
        raise MalformedRecordError(f"chunk index names {chunk_bytes} bytes at {chunk_offset}, outside the file")
    head = source.read(chunk_offset, records.RECORD_HEAD_BYTES + CHUNK_HEAD_BYTES)
    opcode, length = records.parse_record_head(head)
    if opcode != records.CHUNK or length + records.RECORD_HEAD_BYTES != chunk_bytes:
        raise MalformedRecordError(f"no chunk of {chunk_bytes} bytes at {chunk_offset}")
    return records.parse_chunk(chunk_offset, length, head[records.RECORD_HEAD_BYTES :], index_offsets)


def _walk_file(source: ByteSource, layout: Layout, position: int) -> None:
    """Fill `layout` from the records themselves, up to the data end, the footer, or where the file breaks off."""
    schema_names: dict[int, str] = {}
    loose_start = -1  # start of the current run of messages outside chunks
    while position < source.size_bytes:
        head = source.read(position, records.RECORD_HEAD_BYTES)
        opcode, length = records.parse_record_head(head) if len(head) == records.RECORD_HEAD_BYTES else (0, 0)
        end = position + records.RECORD_HEAD_BYTES + length
        if opcode == 0 or end > source.size_bytes:
            # Only a record with the length it claims can be kept; what follows a broken length cannot be found.
            lost = source.size_bytes - position
            layout.problems.append(Problem(position, _describe_cut(opcode, length), lost, -1))
            break
        if opcode == records.MESSAGE:
            loose_start = position if loose_start < 0 else loose_start
        elif loose_start >= 0:
            layout.chunks.append(_loose_messages(loose_start, position))
            loose_start = -1
        if opcode in (records.DATA_END, records.FOOTER):
            break
        try:
            _walk_record(source, layout, schema_names, position, opcode, length)
        except MalformedRecordError as error:
            layout.problems.append(Problem(position, f"malformed record: {error}", end - position, -1))
        position = end
    if loose_start >= 0:
        layout.chunks.append(_loose_messages(loose_start, position))


def _walk_record(
    source: ByteSource, layout: Layout, schema_names: dict[int, str], position: int, opcode: int, length: int
) -> None:
    content_start = position + records.RECORD_HEAD_BYTES
    if opcode == records.CHUNK:
        head = source.read(content_start, min(CHUNK_HEAD_BYTES, length))
        layout.chunks.append(records.parse_chunk(position, length, head, {}))
    elif opcode == records.SCHEMA:
        schema_id, name = records.parse_schema_name(source.read(content_start, length))
        schema_names[schema_id] = name
    elif opcode == records.CHANNEL:
        channel = records.parse_channel(source.read(content_start, length), schema_names)
        layout.channels[channel.channel_id] = channel
    elif opcode == records.MESSAGE_INDEX and layout.chunks:
        head = source.read(content_start, records.MESSAGE_INDEX_HEAD_BYTES)
        if len(head) == records.MESSAGE_INDEX_HEAD_BYTES:
            layout.chunks[-1].index_offsets[int.from_bytes(head[:2], "little")] = position


def _loose_messages(start: int, end: int) -> Chunk:
    return Chunk(start, end - start, "", end - start, 0, {})


def _describe_cut(opcode: int, length: int) -> str:
    if opcode == 0:
        return "the file breaks off within a record's head"
    return f"the file breaks off within a record (opcode {opcode}, {length} bytes claimed)"
