"""Where everything lies in one MCAP file: by its summary, or where that is missing or wrong by a walk over all records.

Input: a `ByteSource`. Output: a `Layout`. No chunk is decompressed here.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import msgspec
import numpy as np

from owa_data.errors import NotMcapError
from owa_data.raw import records
from owa_data.raw.records import Channel, Chunk, ChunkIndex, Declarations, Header, MalformedRecordError
from owa_data.store.source import ByteSource

CHUNK_HEAD_BYTES = 64  # times, size, crc, compression name and data size; names are "", "zstd" or "lz4"
COMPRESSIONS = ("", "zstd", "lz4")

_EXACT = (records.MESSAGE_INDEX, records.SCHEMA, records.CHANNEL, records.ATTACHMENT, records.METADATA, records.DATA_END)
_OF_SUMMARY = (
    records.CHUNK_INDEX,
    records.ATTACHMENT_INDEX,
    records.STATISTICS,
    records.METADATA_INDEX,
    records.SUMMARY_OFFSET,
)
_PRIVATE = 0x80  # opcodes from here on belong to applications
_FIRST_SEARCH_BYTES, _SEARCH_BYTES = 1 << 12, 1 << 20  # mostly the next chunk is near
_CHUNK_FIELDS_BYTES = 40  # of a chunk's content, besides compression name and data
_MAX_NAME_BYTES = 4


class Damage(msgspec.Struct, frozen=True):
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

    `channels` is by id. `damage` lists what is wrong with the file so far; chunks that are cut off are not in `chunks`.
    `claimed_counts` is the number of messages by channel id that the file's statistics claim, empty where it has none;
    `claimed_bounds_ns` the first and last log time by them, None where they cannot be used.
    """

    header: Header
    declared: Declarations = field(default_factory=Declarations)
    chunks: list[Chunk] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    claimed_counts: dict[int, int] = field(default_factory=dict)
    claimed_bounds_ns: tuple[int, int] | None = None

    @property
    def channels(self) -> dict[int, Channel]:
        """Channels by id, of all that declare them."""
        return self.declared.channels


def read_layout(source: ByteSource) -> Layout:
    """Find header, channels and chunks of a recording.

    Raises:
        NotMcapError: The file does not begin with MCAP's magic bytes.
    """
    header, data_start, damage = _read_header(source)
    layout = Layout(header, damage=list(damage))
    cause = "no summary: the records were read one by one"
    try:
        if _read_summary(source, layout, data_start):
            return layout
        # A file that was written without a summary on purpose is whole; one that ends without a footer was cut off.
        is_whole = _ends_well(source)
    except MalformedRecordError as error:
        cause, is_whole = f"the summary cannot be used ({error}): the records were read one by one", False
        layout.claimed_counts, layout.claimed_bounds_ns = {}, None
    # A summary that does not say where the messages are can still say how many there should be, and from when to when.
    layout = Layout(header, damage=list(damage), claimed_counts=layout.claimed_counts, claimed_bounds_ns=layout.claimed_bounds_ns)
    _Walk(source, layout, data_start).run()
    if layout.damage or not is_whole:
        layout.damage.insert(0, Damage(source.size_bytes, cause))
    return layout


def _read_header(source: ByteSource) -> tuple[Header, int, list[Damage]]:
    """Return the header, the offset of the record after it, and what is wrong with it."""
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
                return records.parse_header(source.read(start, length)), start + length, []
            except MalformedRecordError:
                pass  # told below, together with a missing header
    return Header("", ""), len(magic), [Damage(len(magic), "the header record is damaged or missing")]


def _ends_well(source: ByteSource) -> bool:
    if source.size_bytes < records.TAIL_BYTES:
        return False
    tail = source.read(source.size_bytes - records.TAIL_BYTES, records.TAIL_BYTES)
    return bytes(tail[-len(records.MAGIC) :]) == records.MAGIC and records.parse_record_head(tail) == (
        records.FOOTER,
        records.FOOTER_BYTES,
    )


def _read_summary(source: ByteSource, layout: Layout, data_start: int) -> bool:
    """Fill `layout` from the summary section. False where the file has none, or none that names every message.

    Raises:
        MalformedRecordError: The summary contradicts itself, its CRC or the file.
    """
    if not _ends_well(source):
        return False
    footer_offset = source.size_bytes - records.TAIL_BYTES
    footer = source.read(footer_offset + records.RECORD_HEAD_BYTES, records.FOOTER_BYTES)
    summary_start, offset_start, crc = records.parse_footer(footer)
    if not summary_start:
        return False
    if not data_start <= summary_start <= footer_offset:
        raise MalformedRecordError(f"summary start {summary_start} outside the file")
    summary = source.read(summary_start, footer_offset - summary_start)
    if crc and zlib.crc32(footer[:16], zlib.crc32(bytes(_footer_head()), zlib.crc32(summary))) != crc:
        raise MalformedRecordError("summary CRC does not match")
    end = offset_start - summary_start if offset_start else len(summary)
    schema_names = layout.declared.schema_names
    chunk_indexes: list[ChunkIndex] = []
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
            layout.claimed_counts, layout.claimed_bounds_ns = records.parse_statistics(content)
    if not chunk_indexes and (not layout.claimed_counts or any(layout.claimed_counts.values())):
        return False  # messages outside chunks, or no way to tell: only a walk finds them
    if set(layout.claimed_counts) - set(layout.channels):
        return False  # the summary does not repeat its channels
    chunk_indexes.sort(key=lambda entry: entry.offset)
    if not _names_everything(source, chunk_indexes, data_start, summary_start):
        return False
    for entry in chunk_indexes:
        try:
            layout.chunks.append(_read_chunk(source, entry))
        except MalformedRecordError as error:
            if not crc:
                raise  # nothing vouches for the index itself
            lost = count_indexed(source, entry.index_offsets)
            layout.damage.append(Damage(entry.offset, f"chunk: {error}", entry.num_bytes, lost))
    return True


def _footer_head() -> bytes:
    # The summary CRC covers the footer up to the CRC itself, its opcode and length included.
    return bytes([records.FOOTER]) + records.FOOTER_BYTES.to_bytes(8, "little")


def _exactly(buffer: records.Buffer, offset: int, length: int) -> records.Buffer:
    part = buffer[offset : offset + length]
    if len(part) != length:
        raise MalformedRecordError(f"record at {offset} reaches {length - len(part)} bytes past the end")
    return part


def _names_everything(source: ByteSource, chunk_indexes: Iterable[ChunkIndex], start: int, stop: int) -> bool:
    """Whether no message lies between the chunks that a summary names. Costs nothing where chunks and their indexes follow each other.

    Raises:
        MalformedRecordError: The index entries overlap or leave the data section.
    """
    for entry in chunk_indexes:
        if not start <= entry.offset <= entry.end <= stop:
            raise MalformedRecordError(
                f"chunk index names bytes {entry.offset} to {entry.end}, in another chunk or outside the file"
            )
        if _holds_messages(source, start, entry.offset):
            return False
        start = entry.end
    return not _holds_messages(source, start, stop)


def _holds_messages(source: ByteSource, position: int, stop: int) -> bool:
    while position < stop:
        head = source.read(position, records.RECORD_HEAD_BYTES)
        opcode, length = records.parse_record_head(head)
        position += records.RECORD_HEAD_BYTES + length
        if opcode in (records.CHUNK, records.MESSAGE) or position > stop:
            return True
    return False


def _read_chunk(source: ByteSource, entry: ChunkIndex) -> Chunk:
    head = source.read(entry.offset, records.RECORD_HEAD_BYTES + CHUNK_HEAD_BYTES)
    opcode, length = records.parse_record_head(head)
    if opcode != records.CHUNK or length + records.RECORD_HEAD_BYTES != entry.num_bytes:
        raise MalformedRecordError(f"no chunk of {entry.num_bytes} bytes at {entry.offset}")
    return records.parse_chunk(entry.offset, length, head[records.RECORD_HEAD_BYTES :], entry.index_offsets)


def count_indexed(source: ByteSource, index_offsets: Mapping[int, int]) -> int:
    """Return how many messages the message indexes of a chunk name, -1 where they do not tell."""
    total = 0
    head_bytes = records.RECORD_HEAD_BYTES + records.MESSAGE_INDEX_HEAD_BYTES
    for channel_id, offset in index_offsets.items():
        head = source.read(offset, head_bytes) if offset <= source.size_bytes else b""
        if len(head) < head_bytes or head[0] != records.MESSAGE_INDEX or int.from_bytes(head[9:11], "little") != channel_id:
            return -1
        num_bytes = int.from_bytes(head[11:15], "little")
        if num_bytes % 16 or num_bytes > source.size_bytes:
            return -1
        total += num_bytes // 16
    return total if index_offsets else -1


class _Walk:
    """A pass over all records of a file without a usable summary.

    A record is believed if its form fits its length. Where one is not, the pass goes on at the next bytes that have the form of a whole
    chunk, searched from within the last record of proven form (`anchor`): where bytes are missing, its length leads past the next one's start.
    """

    def __init__(self, source: ByteSource, layout: Layout, start: int) -> None:
        self.source = source
        self.layout = layout
        self.position = start
        self.anchor = start
        self.last_start = start
        self.loose_start = -1  # start of the current run of messages outside chunks
        self.schema_names = layout.declared.schema_names
        self.indexed_chunk: Chunk | None = None  # the chunk that message indexes met now belong to
        self.in_summary = False
        self.late_channels: dict[int, Channel] = {}  # of the summary: believed where the data section declares none

    def run(self) -> None:
        while self.position < self.source.size_bytes:
            head = self.source.read(self.position, records.RECORD_HEAD_BYTES)
            opcode, length = records.parse_record_head(head) if len(head) == records.RECORD_HEAD_BYTES else (0, 0)
            end = self.position + records.RECORD_HEAD_BYTES + length
            if end > self.source.size_bytes or not self._take(opcode, length):
                if self.in_summary or not self._resume(opcode, length):
                    break
                continue
            if opcode == records.FOOTER:
                break
            self.last_start, self.position = self.position, end
        self._end_loose(self.position)
        for channel_id, channel in self.late_channels.items():
            self.layout.channels.setdefault(channel_id, channel)

    def _take(self, opcode: int, length: int) -> bool:
        """Take the record at `position` in. False where it cannot be believed."""
        start = self.position + records.RECORD_HEAD_BYTES
        if self.in_summary and opcode in (records.MESSAGE, records.CHUNK):
            return False
        if opcode != records.MESSAGE:
            self._end_loose(self.position)
        if opcode == records.CHUNK:
            chunk = _parse_chunk(self.source, self.position, length)
            if chunk is None:
                return False
            self.layout.chunks.append(chunk)
            self.indexed_chunk = chunk
            self.anchor = start
            return True
        mislabelled = _parse_chunk(self.source, self.position, length)
        if opcode in (0, records.HEADER) or (mislabelled and mislabelled.compression in COMPRESSIONS):
            return False
        if opcode == records.FOOTER:
            return self.position + records.TAIL_BYTES >= self.source.size_bytes
        if opcode == records.MESSAGE:
            is_index = self.indexed_chunk and records.has_exact_length(records.MESSAGE_INDEX, self.source.read(start, length))
            if length < records.MESSAGE_HEAD_BYTES or is_index:
                return False
            self.loose_start = self.position if self.loose_start < 0 else self.loose_start
        if opcode in _EXACT:
            content = self.source.read(start, length)
            if not records.has_exact_length(opcode, content):
                return False
            self._take_exact(opcode, content)
            # An attachment may hold another recording, whose chunks are not this one's.
            self.anchor = start + length if opcode == records.ATTACHMENT else start
        elif opcode < _PRIVATE and opcode not in (records.MESSAGE, *_OF_SUMMARY):
            # The specification lets readers skip what they do not know, but a flipped bit looks the same.
            self._lose(self.position, f"record of unknown type {opcode}", records.RECORD_HEAD_BYTES + length, -1)
        return True

    def _take_exact(self, opcode: int, content: records.Buffer) -> None:
        try:
            if opcode == records.SCHEMA:
                schema_id, name = records.parse_schema_name(content)
                self.schema_names[schema_id] = name
            elif opcode == records.CHANNEL:
                channel = records.parse_channel(content, self.schema_names)
                (self.late_channels if self.in_summary else self.layout.channels)[channel.channel_id] = channel
            elif opcode == records.MESSAGE_INDEX and self.indexed_chunk:
                self.indexed_chunk.index_offsets[int.from_bytes(content[:2], "little")] = self.position
            elif opcode == records.DATA_END:
                self.in_summary = True
        except MalformedRecordError as error:  # a string that is not UTF-8
            self._lose(self.position, f"malformed record: {error}", records.RECORD_HEAD_BYTES + len(content), -1)

    def _resume(self, opcode: int, length: int) -> bool:
        """Go on at the next chunk; tell what lies between. False where there is none."""
        found = find_chunk(self.source, self.anchor)
        lost_from = self.position if found < 0 or found > self.position else self.last_start
        if self.loose_start >= 0:
            self._end_loose(lost_from)
        if found < 0:
            cause = _describe_cut(self.source.size_bytes - lost_from, opcode, length)
            self._lose(lost_from, cause, self.source.size_bytes - lost_from, -1)
            return False
        cause = f"what should be a record is none (opcode {opcode}, {length} bytes claimed)"
        self._lose(self.position, cause, found - self.position, -1)
        self.position = self.anchor = self.last_start = found
        return True

    def _lose(self, offset: int, cause: str, lost_bytes: int, lost_messages: int) -> None:
        self.indexed_chunk = None
        self.layout.damage.append(Damage(offset, cause, max(lost_bytes, 0), lost_messages))

    def _end_loose(self, stop: int) -> None:
        if 0 <= self.loose_start < stop:
            self.layout.chunks.append(Chunk(self.loose_start, stop - self.loose_start, "", stop - self.loose_start, 0, {}))
        self.loose_start = -1


def find_chunk(source: ByteSource, start: int) -> int:
    """Return the offset, at or after `start`, of the first bytes that have the form of a whole chunk record; -1 where there are none.

    The form is over 20 bytes that must agree with each other, so that chance matches do not occur. About 1 GB/s.
    """
    smallest = records.RECORD_HEAD_BYTES + _CHUNK_FIELDS_BYTES
    first_stop = min(start + _FIRST_SEARCH_BYTES, source.size_bytes)
    block_starts = itertools.chain(
        [start] if start < source.size_bytes else [], range(first_stop, source.size_bytes, _SEARCH_BYTES)
    )
    for block_start in block_starts:
        num_places = _FIRST_SEARCH_BYTES if block_start == start else _SEARCH_BYTES
        block = bytes(source.read(block_start, num_places + CHUNK_HEAD_BYTES))
        octets = np.frombuffer(block, np.uint8)
        # u64 at every byte position, aligned or not, without a copy.
        words = np.ndarray((max(len(block) - 7, 0),), "<u8", block, strides=(1,))
        places = np.flatnonzero(octets[:num_places] == records.CHUNK)
        places = places[places + smallest + _MAX_NAME_BYTES <= len(block)]
        lengths = words[places + 1]
        name_bytes = words[places + records.RECORD_HEAD_BYTES + 28] & 0xFFFFFFFF
        fits = (lengths <= source.size_bytes - block_start - places) & (name_bytes <= _MAX_NAME_BYTES)
        places, lengths, name_bytes = places[fits], lengths[fits], name_bytes[fits]
        data_bytes = words[places + (name_bytes + records.RECORD_HEAD_BYTES + 32).astype(np.int64)]
        fits = data_bytes + name_bytes + _CHUNK_FIELDS_BYTES == lengths
        for place, length in zip(places[fits].tolist(), lengths[fits].tolist(), strict=True):
            chunk = _parse_chunk(source, block_start + place, length)
            end = block_start + place + records.RECORD_HEAD_BYTES + length
            if chunk and chunk.compression in COMPRESSIONS and end <= source.size_bytes:
                return block_start + place
    return -1


def find_hidden_chunks(source: ByteSource, broken: Chunk, known: AbstractSet[int]) -> list[Chunk]:
    """Return the chunks that begin inside a broken one, but for those whose `data_offset` is among `known`."""
    found = []
    position = find_chunk(source, broken.data_offset)
    while 0 <= position < broken.data_offset + broken.data_bytes:
        _, length = records.parse_record_head(source.read(position, records.RECORD_HEAD_BYTES))
        chunk = _parse_chunk(source, position, length)
        assert chunk is not None, position  # `find_chunk` parsed it
        if chunk.data_offset not in known:
            found.append(chunk)
        position = find_chunk(source, chunk.data_offset + chunk.data_bytes)
    return found


def _parse_chunk(source: ByteSource, position: int, length: int) -> Chunk | None:
    """Parse what lies at `position` as a chunk record, whatever its opcode says. None where it has another form."""
    head = source.read(position + records.RECORD_HEAD_BYTES, min(CHUNK_HEAD_BYTES, length))
    if len(head) < _CHUNK_FIELDS_BYTES or int.from_bytes(head[28:32], "little") > CHUNK_HEAD_BYTES:
        return None
    try:
        return records.parse_chunk(position, length, head, {})
    except MalformedRecordError:
        return None


def _describe_cut(num_bytes: int, opcode: int, length: int) -> str:
    if num_bytes < records.RECORD_HEAD_BYTES:
        return "the file breaks off within a record's head"
    return f"the file breaks off within a record (opcode {opcode}, {length} bytes claimed)"
