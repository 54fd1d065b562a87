"""One chunk: its records unfolded, and its messages found where its indexes say and nowhere else."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zstandard

from owa_data.raw.chunks import DamagedChunkError, MessageSpans, decompress, spans_by_index, spans_by_walk
from owa_data.raw.records import MESSAGE, MESSAGE_INDEX, Chunk, Declarations, MalformedRecordError
from owa_data.store.source import MemorySource

MESSAGES = [(3, 10, b"a"), (3, 11, b"bb"), (4, 10, b""), (3, 12, b"ccc")]


def message(channel_id: int, time_ns: int, payload: bytes) -> bytes:
    return struct.pack("<BQHIQQ", MESSAGE, 22 + len(payload), channel_id, 0, time_ns, time_ns) + payload


def index(channel_id: int, entries: list[tuple[int, int]]) -> bytes:
    content = b"".join(struct.pack("<Qq", *entry) for entry in entries)
    return struct.pack("<BQHI", MESSAGE_INDEX, 6 + len(content), channel_id, len(content)) + content


RECORDS = b"".join(message(*row) for row in MESSAGES)
OFFSETS = np.cumsum([0, *(len(message(*row)) for row in MESSAGES)])[:-1].tolist()


def find(entries: dict[int, list[tuple[int, int]]], *, check: bool, records: bytes = RECORDS) -> MessageSpans:
    offsets, stored = {}, b""
    for channel_id, of_channel in entries.items():
        offsets[channel_id] = len(stored)
        stored += index(channel_id, of_channel)
    chunk = Chunk(0, 0, "", len(records), 0, offsets)
    return spans_by_index(MemorySource("x", stored), chunk, records, entries, check=check)


def rows(spans: MessageSpans) -> list[tuple[int, int, bytes]]:
    found = []
    for channel_id, place in spans.slices():
        for start, end, time_ns in zip(spans.starts[place], spans.ends[place], spans.times_ns[place], strict=True):
            found.append((channel_id, int(time_ns), RECORDS[start:end]))
    return found


SOUND = {3: [(10, OFFSETS[0]), (11, OFFSETS[1]), (12, OFFSETS[3])], 4: [(10, OFFSETS[2])], 5: list[tuple[int, int]]()}


@pytest.mark.parametrize("check", [False, True])
def test_sound_indexes(check: bool) -> None:
    spans = find(SOUND, check=check)
    assert (spans.channel_ids, spans.num_messages) == ((3, 4), (3, 1))
    assert rows(spans) == [(3, 10, b"a"), (3, 11, b"bb"), (3, 12, b"ccc"), (4, 10, b"")]
    assert rows(spans_by_walk(RECORDS, Declarations({}, {}))) == rows(spans)
    assert rows(spans.of_channels({4, 9})) == [(4, 10, b"")]
    assert rows(spans.of_channels(set())) == []
    assert rows(spans.take(np.array([False, True, True, False]))) == [(3, 11, b"bb"), (3, 12, b"ccc")]
    assert len(find({5: []}, check=check)) == 0


def test_entries_out_of_order_are_put_in_the_records_order() -> None:
    assert rows(find({4: SOUND[4], 3: SOUND[3][::-1]}, check=True)) == [
        (4, 10, b""),
        (3, 10, b"a"),
        (3, 11, b"bb"),
        (3, 12, b"ccc"),
    ]


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("offset", [-1, -(2**63), len(RECORDS) - 30, 2**62, 2**63 - 1])
def test_an_entry_that_points_outside_is_refused(offset: int, check: bool) -> None:
    with pytest.raises(MalformedRecordError, match="outside its chunk"):
        find({3: [(10, OFFSETS[0]), (11, offset)]}, check=check)


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("length", [0, 21, 23 + 10_000, 2**56 - 1])
def test_a_record_of_a_length_that_no_message_has_is_refused(length: int, check: bool) -> None:
    records = struct.pack("<BQHIQQ", MESSAGE, length, 3, 0, 10, 10) + b"abc"
    with pytest.raises(MalformedRecordError, match="does not fit"):
        find({3: [(10, 0)]}, check=check, records=records)


@pytest.mark.parametrize(
    "entries",
    [
        {3: [(11, OFFSETS[0])]},  # another time
        {4: [(10, OFFSETS[0])]},  # another channel
        {3: [(10, OFFSETS[0]), (10, OFFSETS[0])]},  # the same twice
        {3: [(10, OFFSETS[0] + 1)]},  # no record begins there
    ],
)
def test_an_index_that_says_another_thing_than_the_records_is_refused(entries: dict[int, list[tuple[int, int]]]) -> None:
    with pytest.raises(MalformedRecordError):
        find(entries, check=True)


def unfold(data: bytes, num_bytes: int) -> bytes:
    return bytes(decompress(MemorySource("x", data), Chunk(0, len(data), "zstd", num_bytes, 0, {}), check_crc=True))


ZSTD = zstandard.compress(RECORDS)
SKIPPABLE = struct.pack("<II", 0x184D2A50, 3) + b"abc"


@pytest.mark.parametrize("data", [ZSTD, ZSTD + SKIPPABLE, ZSTD + zstandard.compress(b""), SKIPPABLE + ZSTD])
def test_frames_unfold_to_the_records(data: bytes) -> None:
    assert unfold(data, len(RECORDS)) == RECORDS


def test_records_may_be_in_several_frames() -> None:
    assert unfold(ZSTD + zstandard.compress(b"more"), len(RECORDS) + 4) == RECORDS + b"more"


@pytest.mark.parametrize(
    "data", [ZSTD + zstandard.compress(b"more"), ZSTD + b"garbage", ZSTD[:-3], ZSTD[:9] + b"\xff" + ZSTD[10:]]
)
def test_what_is_not_the_records_as_claimed_is_damaged(data: bytes) -> None:
    with pytest.raises(DamagedChunkError):
        unfold(data, len(RECORDS))


def test_threads_unfold_side_by_side() -> None:
    contents = [bytes([number]) * 300_000 + RECORDS for number in range(8)]
    folded = [zstandard.compress(content) for content in contents]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda index: unfold(folded[index % 8], len(contents[0])), range(160)))
    assert all(content == contents[index % 8] for index, content in enumerate(found))
