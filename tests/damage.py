"""Damaged recordings: files of every MCAP shape, ways to break them, and a plain reference that says what must survive.

The reference is slow and straight: it knows from the unbroken file where each chunk lies, and looks whether the broken file still has a
whole chunk there.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import lz4.frame
import numpy as np
import zstandard
from mcap.reader import make_reader
from mcap.writer import CompressionType, IndexType, Writer

MAGIC_BYTES = 8
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
ABSURD = (0, 1, 0xFFFF, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)

Timed = tuple[str, str, int, bytes]  # topic, message type, log time, payload

SHAPES = {
    "zstd": {},
    "lz4": {"compression": CompressionType.LZ4},
    "uncompressed": {"compression": CompressionType.NONE},
    "no_summary": {"summary": False},
    "no_index": {"index_types": IndexType.NONE},
    "no_message_index": {"index_types": IndexType.CHUNK},
    "no_crc": {"enable_crcs": False},
    "no_repeated_channels": {"repeat_channels": False, "repeat_schemas": False},
    "unchunked": {"use_chunking": False},
}


def write_mcap(
    messages: list[Timed],
    *,
    profile: str = "owa",
    encoding: str = "json",
    chunk_size: int = 2048,
    summary: bool = True,
    **options,
) -> bytes:
    """Write messages through the reference writer. Without `summary` the file ends after its data, as old streaming writers end it."""
    stream = io.BytesIO()
    writer = Writer(stream, chunk_size=chunk_size, **options)
    writer.start(profile, "tests")
    channels: dict[tuple[str, str], int] = {}
    for topic, message_type, time_ns, payload in messages:
        if (topic, message_type) not in channels:
            schema = writer.register_schema(message_type, "jsonschema", b"{}")
            channels[topic, message_type] = writer.register_channel(topic, encoding, schema)
        writer.add_message(channels[topic, message_type], time_ns, payload, time_ns)
    writer.finish()
    content = stream.getvalue()
    return content if summary else without_summary(content)


def without_summary(content: bytes) -> bytes:
    """Cut the summary out; the footer says that there is none."""
    end = next(offset + 9 + len(body) for offset, opcode, body in plain_records(content) if opcode == 15)
    return content[:end] + bytes([FOOTER]) + struct.pack("<QQQI", 20, 0, 0, 0) + content[:MAGIC_BYTES]


def messages_of(path: Path) -> list[Timed]:
    """All messages of a sound recording, by the reference reader."""
    with path.open("rb") as stream:
        rows = make_reader(stream).iter_messages(log_time_order=False)
        return [(channel.topic, schema.name, message.log_time, message.data) for schema, channel, message in rows]


def plain_records(content: bytes) -> list[tuple[int, int, bytes]]:
    """Offset, opcode and content of the records of a sound file."""
    rows, position = [], MAGIC_BYTES
    while position < len(content) - MAGIC_BYTES:
        opcode, length = struct.unpack_from("<BQ", content, position)
        rows.append((position, opcode, content[position + 9 : position + 9 + length]))
        position += 9 + length
    return rows


def read_whole_chunk(record: bytes) -> list[tuple[int, bytes]] | None:
    """Opcode and content of the records in one chunk record; None if it is not whole."""
    try:
        opcode, length = struct.unpack_from("<BQ", record)
        if opcode != CHUNK or length != len(record) - 9:
            return None
        size, crc, name_bytes = struct.unpack_from("<QII", record, 25)
        name = record[41 : 41 + name_bytes]
        (data_bytes,) = struct.unpack_from("<Q", record, 41 + name_bytes)
        data = record[49 + name_bytes :]
        if len(data) != data_bytes or size > 1 << 24:
            return None
        unfold = {b"": bytes, b"zstd": _unzstd, b"lz4": lz4.frame.decompress}[name]
        content = unfold(data)
        if len(content) != size or (crc and zlib.crc32(content) != crc):
            return None
        rows, position = [], 0
        while position < size:
            inner, length = struct.unpack_from("<BQ", content, position)
            body = content[position + 9 : position + 9 + length]
            if len(body) != length or (inner == MESSAGE and length < 22):
                return None
            rows.append((inner, body))
            position += 9 + length
    except (struct.error, KeyError, RuntimeError, zstandard.ZstdError):
        return None
    return rows


def _unzstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read(1 << 24)


@dataclass(frozen=True)
class Broken:
    """A broken file: its bytes, how it was broken, and where the records of the unbroken file lie in it now."""

    content: bytes
    how: str
    first_byte: int  # the first byte that differs
    shifts_from: int = 1 << 62
    shift: int = 0

    def place(self, offset: int) -> int:
        """Where the byte at `offset` of the unbroken file lies."""
        return offset + self.shift if offset >= self.shifts_from else offset


def expected_messages(original: bytes, broken: Broken) -> tuple[list[tuple[int, int, bytes]], set[int]]:
    """Channel id, log time and payload of the messages in whole chunks, in file order; and the channels declared in whole chunks."""
    messages, declared = [], set()
    for offset, opcode, body in plain_records(original):
        if opcode != CHUNK:
            continue
        start = broken.place(offset)
        for inner, content in read_whole_chunk(broken.content[start : start + 9 + len(body)]) or []:
            if inner == MESSAGE:
                channel_id, _, time_ns, _ = struct.unpack_from("<HIQQ", content)
                messages.append((channel_id, time_ns, content[22:]))
            elif inner == CHANNEL:
                declared.add(struct.unpack_from("<H", content)[0])
    return messages, declared


def break_file(original: bytes, rng: np.random.Generator) -> Broken:
    """Break a file in one of many ways."""
    return WAYS[int(rng.integers(len(WAYS)))](original, rng)


def _place(original: bytes, rng: np.random.Generator) -> int:
    return int(rng.integers(len(original)))


def _truncate(original: bytes, rng: np.random.Generator) -> Broken:
    stop = _place(original, rng)
    return Broken(original[:stop], "truncated", stop)


def _truncate_at_record(original: bytes, rng: np.random.Generator) -> Broken:
    rows = plain_records(original)
    stop = rows[int(rng.integers(len(rows)))][0]
    return Broken(original[:stop], "truncated at a record", stop)


def _overwrite(original: bytes, at: int, new: bytes, how: str) -> Broken:
    content = original[:at] + new[: len(original) - at] + original[at + len(new) :]
    return Broken(content, how, at)


def _flip_bit(original: bytes, rng: np.random.Generator) -> Broken:
    at = _place(original, rng)
    return _overwrite(original, at, bytes([original[at] ^ 1 << int(rng.integers(8))]), "one bit flipped")


def _flip_bit_of_form(original: bytes, rng: np.random.Generator) -> Broken:
    """Flip a bit among the first bytes of a record, where the form stands."""
    rows = plain_records(original)
    offset, _, body = rows[int(rng.integers(len(rows)))]
    at = offset + int(rng.integers(min(len(body) + 9, 64)))
    return _overwrite(original, at, bytes([original[at] ^ 1 << int(rng.integers(8))]), "one bit of a record's form flipped")


def _random_bytes(original: bytes, rng: np.random.Generator) -> Broken:
    return _overwrite(original, _place(original, rng), rng.bytes(int(rng.integers(1, 64))), "bytes overwritten")


def _zeros(original: bytes, rng: np.random.Generator) -> Broken:
    return _overwrite(original, _place(original, rng), bytes(int(rng.integers(1, 8192))), "zeros, as a lost disk block")


def _absurd_length(original: bytes, rng: np.random.Generator) -> Broken:
    rows = plain_records(original)
    offset = rows[int(rng.integers(len(rows)))][0]
    value = int(rng.choice(len(ABSURD)))
    return _overwrite(original, offset + 1, struct.pack("<Q", ABSURD[value]), "absurd record length")


def _absurd_field(original: bytes, rng: np.random.Generator) -> Broken:
    """An absurd number somewhere in the fields of a record: sizes, counts, offsets, times."""
    rows = plain_records(original)
    offset, _, body = rows[int(rng.integers(len(rows)))]
    at = offset + 9 + int(rng.integers(min(len(body), 64) + 1))
    width = int(rng.choice([4, 8]))
    return _overwrite(original, at, struct.pack("<Q", ABSURD[int(rng.integers(len(ABSURD)))])[:width], "absurd field")


def _delete(original: bytes, rng: np.random.Generator) -> Broken:
    at, length = _place(original, rng), int(rng.integers(1, 3000))
    return Broken(original[:at] + original[at + length :], "bytes missing", at, at + length, -length)


def _insert(original: bytes, rng: np.random.Generator) -> Broken:
    at, length = _place(original, rng), int(rng.integers(1, 3000))
    return Broken(original[:at] + rng.bytes(length) + original[at:], "bytes inserted", at, at, length)


def _append(original: bytes, rng: np.random.Generator) -> Broken:
    return Broken(original + rng.bytes(int(rng.integers(1, 3000))), "garbage after the end", len(original))


def _many(original: bytes, rng: np.random.Generator) -> Broken:
    """Several bytes far from each other."""
    places = np.sort(rng.integers(MAGIC_BYTES, len(original), int(rng.integers(2, 20))))
    octets = np.frombuffer(original, np.uint8).copy()
    octets[places] = rng.integers(0, 256, len(places))
    return Broken(octets.tobytes(), "bytes overwritten in many places", int(places[0]))


WAYS = (
    _truncate,
    _truncate_at_record,
    _flip_bit,
    _flip_bit_of_form,
    _random_bytes,
    _zeros,
    _absurd_length,
    _absurd_field,
    _delete,
    _insert,
    _append,
    _many,
)
