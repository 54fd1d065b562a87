"""MCAP records as bytes: opcodes, and one parser for each record this project reads.

Source: the MCAP specification, https://mcap.dev/spec. Every record is `opcode u8, length u64, content`, little-endian; a string
is `length u32, UTF-8`. Parsers take the content alone and raise `MalformedRecordError` where it is too short.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
ATTACHMENT, ATTACHMENT_INDEX, STATISTICS, METADATA, METADATA_INDEX, SUMMARY_OFFSET, DATA_END = range(9, 16)

RECORD_HEAD_BYTES = 9
MESSAGE_HEAD_BYTES = 22  # channel u16, sequence u32, log time u64, publish time u64
MESSAGE_INDEX_HEAD_BYTES = 6  # channel u16, entries' size u32
FOOTER_BYTES = 20
MAX_TIME_NS = 1 << 62
"""Later log times are broken clocks; below it, sums and differences of two times stay in int64."""
TAIL_BYTES = RECORD_HEAD_BYTES + FOOTER_BYTES + len(MAGIC)

Buffer = bytes | memoryview


class MalformedRecordError(ValueError):
    """A record whose content contradicts its own lengths."""


@dataclass(frozen=True, slots=True)
class Header:
    """`profile` is `owa` for OWAMcap; `library` names the writer and its version."""

    profile: str
    library: str


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel. Ids are local to a file: two files use the same id for different topics."""

    channel_id: int
    topic: str
    message_encoding: str
    message_type: str


@dataclass(slots=True)
class Declarations:
    """Channels by id and schema names by id, gathered from all places of one file that declare them.

    A schema may stand in one chunk and a channel that uses it in a later one, or only in the summary.
    """

    channels: dict[int, Channel] = field(default_factory=dict)
    schema_names: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Where a chunk lies and what it says of itself.

    `data_offset` and `data_bytes` are the compressed records; `index_offsets` maps a channel id to the file offset of its
    message index record (empty where there is none). A run of messages outside any chunk is a `Chunk` without compression.
    """

    data_offset: int
    data_bytes: int
    compression: str
    uncompressed_bytes: int
    crc: int
    index_offsets: dict[int, int]


class Cursor:
    """Reads fields one after another from the content of a record."""

    def __init__(self, content: Buffer) -> None:
        self.content = content
        self.offset = 0

    def take(self, length: int) -> Buffer:
        """Return the next `length` bytes."""
        end = self.offset + length
        if end > len(self.content):
            raise MalformedRecordError(f"field of {length} bytes at {self.offset} of a record of {len(self.content)} bytes")
        part = self.content[self.offset : end]
        self.offset = end
        return part

    def unsigned(self, length: int) -> int:
        """Return the next little-endian unsigned integer of `length` bytes."""
        return int.from_bytes(self.take(length), "little")

    def string(self) -> str:
        """Return the next string."""
        raw = bytes(self.take(self.unsigned(4)))
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise MalformedRecordError(f"string that is not UTF-8: {raw[:40]!r}") from error

    def skip_string(self) -> None:
        """Pass over the next string or byte array with a 32-bit length."""
        self.take(self.unsigned(4))


def parse_record_head(head: Buffer) -> tuple[int, int]:
    """Return opcode and content length of the record that begins with these 9 bytes."""
    return head[0], int.from_bytes(head[1:9], "little")


def parse_header(content: Buffer) -> Header:
    """Parse the content of a header record."""
    cursor = Cursor(content)
    return Header(profile=cursor.string(), library=cursor.string())


def parse_footer(content: Buffer) -> tuple[int, int, int]:
    """Return summary start, summary offset start and summary CRC (0 = none) of a footer record."""
    if len(content) < FOOTER_BYTES:
        raise MalformedRecordError(f"footer of {len(content)} bytes")
    summary_start, offset_start, crc = struct.unpack("<QQI", content[:FOOTER_BYTES])
    return summary_start, offset_start, crc


def parse_schema_name(content: Buffer) -> tuple[int, str]:
    """Return id and name of a schema record; the schema's own text is not needed."""
    cursor = Cursor(content)
    return cursor.unsigned(2), cursor.string()


def parse_channel(content: Buffer, schema_names: dict[int, str]) -> Channel:
    """Parse a channel record. A channel without schema (id 0) has the empty message type."""
    cursor = Cursor(content)
    channel_id, schema_id = cursor.unsigned(2), cursor.unsigned(2)
    topic, message_encoding = cursor.string(), cursor.string()
    return Channel(channel_id, topic, message_encoding, schema_names.get(schema_id, ""))


@dataclass(frozen=True, slots=True)
class ChunkIndex:
    """Where a chunk record lies (`offset`, `num_bytes` with its head), its message indexes by channel id, and how long these are together."""

    offset: int
    num_bytes: int
    index_offsets: dict[int, int]
    message_index_bytes: int

    @property
    def end(self) -> int:
        """File offset after the chunk and its message indexes."""
        return self.offset + self.num_bytes + self.message_index_bytes


def parse_chunk_index(content: Buffer) -> ChunkIndex:
    """Parse the content of a chunk index record."""
    cursor = Cursor(content)
    cursor.take(16)  # message start and end time
    chunk_offset, chunk_bytes = cursor.unsigned(8), cursor.unsigned(8)
    index_offsets = _by_channel(cursor)
    return ChunkIndex(chunk_offset, chunk_bytes, index_offsets, cursor.unsigned(8))


def _by_channel(cursor: Cursor) -> dict[int, int]:
    """Read a map from channel ids to numbers of 64 bits."""
    entries = cursor.take(cursor.unsigned(4))
    try:
        return dict(struct.iter_unpack("<HQ", entries))
    except struct.error as error:
        raise MalformedRecordError(f"a map by channel has {len(entries)} bytes, not 10 per channel") from error


def parse_statistics(content: Buffer) -> tuple[dict[int, int], tuple[int, int] | None]:
    """Return what a statistics record claims: the number of messages by channel id, and the first and last log time.

    The times are None where there is no message, or where one of them is of a broken clock.
    """
    cursor = Cursor(content)
    num_messages = cursor.unsigned(8)
    cursor.take(2 + 4 + 4 + 4 + 4)
    first_ns, last_ns = cursor.unsigned(8), cursor.unsigned(8)
    is_sound = num_messages > 0 and first_ns <= last_ns < MAX_TIME_NS
    return _by_channel(cursor), (first_ns, last_ns) if is_sound else None


def parse_chunk(record_offset: int, record_bytes: int, head: Buffer, index_offsets: dict[int, int]) -> Chunk:
    """Parse the first bytes of a chunk record's content.

    Args:
        record_offset: File offset of the record's opcode.
        record_bytes: Length of the content, as the record's head says.
        head: The first bytes of the content; 64 suffice.
        index_offsets: Offsets of the chunk's message indexes, by channel id.
    """
    cursor = Cursor(head)
    cursor.take(16)  # message start and end time
    uncompressed_bytes, crc = cursor.unsigned(8), cursor.unsigned(4)
    compression = cursor.string()
    data_bytes = cursor.unsigned(8)
    if cursor.offset + data_bytes != record_bytes:
        raise MalformedRecordError(f"chunk of {record_bytes} bytes claims {data_bytes} bytes of records")
    return Chunk(
        record_offset + RECORD_HEAD_BYTES + cursor.offset, data_bytes, compression, uncompressed_bytes, crc, index_offsets
    )


def has_exact_length(opcode: int, content: Buffer) -> bool:
    """Whether the fields of a record fill its content exactly: a strong sign that its length is right. False where the record says nothing of it."""
    cursor = Cursor(content)
    try:
        if opcode == MESSAGE_INDEX:
            cursor.take(2)
            cursor.skip_string()
        elif opcode == SCHEMA:
            cursor.take(2)
            for _ in range(3):
                cursor.skip_string()
        elif opcode == CHANNEL:
            cursor.take(4)
            for _ in range(3):
                cursor.skip_string()
        elif opcode == ATTACHMENT:
            cursor.take(16)
            cursor.skip_string()
            cursor.skip_string()
            cursor.take(cursor.unsigned(8))
            cursor.take(4)
        elif opcode == METADATA:
            cursor.skip_string()
            cursor.skip_string()
        elif opcode == DATA_END:
            cursor.take(4)
        else:
            return False
    except MalformedRecordError:
        return False
    return cursor.offset == len(content)
