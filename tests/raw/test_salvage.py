"""Damaged and odd recordings, one fault at a time: what is kept, what is told, what is counted."""

from __future__ import annotations

import json
import re
import struct
import time

import numpy as np
import pytest
from mcap.writer import CompressionType

from owa_data.errors import DamagedError, NotMcapError, ParamsError
from owa_data.event.build import EventConversion, event_inputs
from owa_data.event.convert import convert_recording
from owa_data.event.report import event_metrics
from owa_data.params import EventParams, IntervalParams, RawParams, RuntimeParams, SplitParams, TopicParams
from owa_data.raw import records
from owa_data.raw.build import build_index, index_metrics
from owa_data.raw.chunks import MAX_CHUNK_BYTES
from owa_data.raw.index import SALVAGED, SOUND, read_facts
from owa_data.raw.layout import find_chunk, read_layout
from owa_data.store.incremental import build_dataset, plan_build
from owa_data.store.shard_cache import ShardCache
from owa_data.store.source import MemorySource
from tests.damage import CHUNK, CHUNK_INDEX, FOOTER, HEADER, MESSAGE_INDEX, SHAPES, plain_records, write_mcap

HERE = RuntimeParams(num_workers=1, progress=False)
WHOLE = IntervalParams(select="whole_file")


def keys(number: int, *, start_ns: int = 1000) -> list[tuple[str, str, int, bytes]]:
    return [
        ("keyboard", "desktop/KeyboardEvent", start_ns + i, json.dumps({"event_type": "press", "vk": 65 + i % 20}).encode())
        for i in range(number)
    ]


def record(content: bytes, opcode: int, number: int = 0) -> tuple[int, bytes]:
    """Offset and content of the n-th record of a type."""
    return [(offset, body) for offset, found, body in plain_records(content) if found == opcode][number]


def facts_of(content: bytes):
    return read_facts(MemorySource("a.mcap", content))


def put(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


@pytest.fixture
def content() -> bytes:
    """Four chunks of 10 messages and more."""
    content = write_mcap(keys(50), chunk_size=900)
    assert sum(opcode == CHUNK for _, opcode, _ in plain_records(content)) == 4
    return content


def test_a_broken_chunk_costs_its_own_messages_and_its_index_says_how_many(content):
    offset, _ = record(content, CHUNK, 1)
    facts = facts_of(put(content, offset + 80, b"\xff\xff"))
    assert facts.condition == SALVAGED
    (damage,) = facts.damage
    assert damage.lost_messages == 50 - facts.num_messages > 5
    assert damage.lost_bytes > 0


def test_a_broken_chunk_head_costs_only_that_chunk_when_the_summary_is_good(content):
    offset, _ = record(content, CHUNK, 1)
    facts = facts_of(put(content, offset + 1, struct.pack("<Q", 1 << 62)))
    assert 30 < facts.num_messages < 45
    assert len(facts.damage) == 1


@pytest.mark.parametrize("length", [0, 7, 100_000, 1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_reading_goes_on_after_an_absurd_length_without_a_summary(content, length):
    cut = content[: record(content, 15)[0]]  # before the data end
    offset, _ = record(content, CHUNK, 1)
    facts = facts_of(put(cut, offset + 1, struct.pack("<Q", length)))
    assert facts.num_messages == facts_of(put(content, offset + 1, struct.pack("<Q", length))).num_messages


def test_a_flipped_type_of_a_chunk_is_no_silent_loss(content):
    cut = content[: record(content, 15)[0]]
    offset, _ = record(content, CHUNK, 1)
    for opcode in (0x46, 0x86, MESSAGE_INDEX, 5, 2, 15, 1, 0):
        facts = facts_of(put(cut, offset, bytes([opcode])))
        assert 30 < facts.num_messages < 45, opcode
        assert facts.condition == SALVAGED, opcode


def test_wrong_sizes_are_refused_before_anything_is_allocated(content):
    offset, body = record(content, CHUNK, 0)
    for claimed in (1 << 62, MAX_CHUNK_BYTES + 1, len(body) * 40000):
        facts = facts_of(put(content, offset + 9 + 16, struct.pack("<Q", claimed)))
        assert "claim to unfold" in facts.damage[0].cause


def test_a_lying_chunk_index_falls_back_to_the_records(content):
    """The summary's CRC is right again after the lie: only the records themselves tell."""
    without_crc = write_mcap(keys(50), chunk_size=900, enable_crcs=False)
    offset, body = record(without_crc, CHUNK_INDEX, 1)
    duplicate = record(without_crc, CHUNK_INDEX, 0)[1]
    lying = put(without_crc, offset + 9, duplicate[: len(body)])
    assert facts_of(lying).num_messages == 50


def test_a_message_index_that_hides_messages_is_not_believed(content):
    offset, body = record(content, MESSAGE_INDEX, 1)
    entries = struct.unpack_from("<I", body, 2)[0] // 16
    # The last entry becomes a copy of the first but one: as many entries, one message hidden.
    hidden = put(content, offset + 9 + 6 + 16 * (entries - 1), body[6 + 16 : 6 + 32])
    facts = facts_of(hidden)
    assert facts.num_messages == 50
    assert facts.condition == SALVAGED
    _, ledger = convert_recording(
        MemorySource("a.mcap", hidden),
        "a.mcap",
        EventParams(topics={"k": TopicParams(topic="keyboard")}, intervals=WHOLE),
        trust="nothing",
    )
    assert ledger["topics"]["keyboard"]["kept"] == 50


def test_summary_missing_on_purpose_is_sound_and_cut_off_is_not():
    assert facts_of(write_mcap(keys(50), chunk_size=900, summary=False)).condition == SOUND
    content = write_mcap(keys(50), chunk_size=900)
    facts = facts_of(content[: record(content, FOOTER)[0]])
    assert (facts.condition, facts.num_messages) == (SALVAGED, 50)
    assert "no summary" in facts.damage[0].cause


def test_channels_come_from_the_summary_when_the_chunk_that_declares_them_is_broken(content):
    offset, _ = record(content, CHUNK, 0)
    cut = put(content, offset + 80, b"\xff\xff")[:-1]
    facts = facts_of(cut)
    assert 30 < facts.num_messages < 45
    assert list(facts.topics) == ["keyboard"]


def test_undeclared_channels_are_counted():
    content = write_mcap(keys(50), chunk_size=900, repeat_channels=False, repeat_schemas=False, summary=False)
    offset, _ = record(content, CHUNK, 0)
    facts = facts_of(put(content, offset + 80, b"\xff\xff"))
    assert facts.num_messages == 0
    assert sum(part.lost_messages for part in facts.damage if "no record declares" in part.cause) > 30


def test_a_broken_header_record_loses_nothing_else(content):
    offset, _ = record(content, HEADER)
    facts = facts_of(put(content, offset + 1, struct.pack("<Q", 1 << 50)))
    assert (facts.num_messages, facts.profile, facts.condition) == (50, "", SALVAGED)


@pytest.mark.parametrize(
    "bad", [b"", b"\x00" * 100, b"not an mcap", b"\x89MCAP1\r\n" + bytes(50), b"\x1a\x45\xdf\xa3" + bytes(500)]
)
def test_what_is_no_mcap(bad):
    with pytest.raises(NotMcapError, match=r"raw\.exclude"):
        facts_of(bad)


@pytest.mark.parametrize("time_ns", [1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_log_times_of_broken_clocks_are_left_out_and_counted(time_ns):
    messages = keys(20)
    messages[7] = (*messages[7][:2], time_ns, messages[7][3])
    cause = "messages with a log time of 2**62 ns, the year 2116, or more"
    for options in ({}, {"summary": False}):
        facts = facts_of(write_mcap(messages, chunk_size=900, **options))
        assert facts.num_messages == 19
        assert [(part.cause, part.lost_messages) for part in facts.damage] == [(cause, 1)]


@pytest.mark.parametrize("select", ["whole_file", "inactivity"])
@pytest.mark.parametrize("time_ns", [1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_broken_clock_does_not_stretch_the_recording(time_ns, select):
    params = EventParams(topics={"keyboard": TopicParams(topic="keyboard")}, intervals=IntervalParams(select=select))
    sound = keys(20)
    broken = [*sound, ("keyboard", "desktop/KeyboardEvent", time_ns, b'{"event_type":"press","vk":65}')]
    expected = convert_recording(MemorySource("a", write_mcap(sound)), "a", params, trust="bytes")[1]
    found = convert_recording(MemorySource("a", write_mcap(broken)), "a", params, trust="nothing")[1]
    assert (found["rows"], found["active_ns"]) == (expected["rows"], expected["active_ns"])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_recording_is_as_long_in_every_container_shape(shape):
    params = EventParams(topics={"keyboard": TopicParams(topic="keyboard")}, intervals=IntervalParams(select="whole_file"))
    start_ns = 1_750_000_000_000_000_000
    # Another topic begins and ends the recording.
    messages = [
        ("window", "desktop/WindowInfo", start_ns, b"{}"),
        *[(topic, kind, start_ns + 1000 + time_ns % 10**9, payload) for topic, kind, time_ns, payload in keys(20)],
        ("window", "desktop/WindowInfo", start_ns + 5 * 10**9, b"{}"),
    ]
    content = write_mcap(messages, **SHAPES[shape])
    facts = facts_of(content)
    bounds_ns = facts.start_ns, facts.end_ns
    ledger = convert_recording(MemorySource("a", content), "a", params, trust="nothing", bounds_ns=bounds_ns)[1]
    assert ledger["active_ns"] == 5 * 10**9 + 1
    assert ledger["rows"] == 20


@pytest.mark.parametrize("select", ["whole_file", "inactivity", "hotkey"])
@pytest.mark.parametrize("keyboard", ["keep_all", "repeat_held_keys"])
@pytest.mark.parametrize("screen", ["first_per_period", "drop"])
def test_the_widest_times_overflow_nothing(select, keyboard, screen):
    last = (1 << 62) - 1
    messages = []
    for time_ns in (0, 1, last - 1, last):
        frame = {"utc_ns": time_ns, "media_ref": {"uri": "a.mkv", "pts_ns": (1 << 63) - 1}}
        moved = {"last_x": (1 << 31) - 1, "last_y": -(1 << 31)}
        messages += [
            # Released at once: held for a century, a key would be repeated so often.
            ("keyboard", "desktop/KeyboardEvent", time_ns, b'{"event_type":"press","vk":65}'),
            ("keyboard", "desktop/KeyboardEvent", time_ns, b'{"event_type":"release","vk":65}'),
            ("mouse/raw", "desktop/RawMouseEvent", time_ns, json.dumps(moved).encode()),
            ("screen", "desktop/ScreenCaptured", time_ns, json.dumps(frame).encode()),
        ]
    params = EventParams(
        topics={
            "k": TopicParams(topic="keyboard", resample=keyboard, rate_hz=30 * (keyboard != "keep_all"), activity="input"),
            "m": TopicParams(topic="mouse/raw", resample="sum_moves", rate_hz=20, activity="input"),
            "s": TopicParams(topic="screen", resample=screen, rate_hz=20, activity="screen"),
        },
        intervals=IntervalParams(select=select),
    )
    batches, ledger = convert_recording(MemorySource("a", write_mcap(messages)), "a", params, trust="bytes")
    assert sum(batch.num_rows for batch in batches) == ledger["rows"]
    assert 0 <= ledger["active_ns"] <= 1 << 62


def test_no_message_one_message_and_other_profiles():
    assert (facts_of(write_mcap([])).num_messages, facts_of(write_mcap([])).condition) == (0, SOUND)
    one = facts_of(write_mcap(keys(1)))
    assert (one.num_messages, one.start_ns, one.end_ns) == (1, 1000, 1000)
    ros = facts_of(write_mcap([("/imu", "sensor_msgs/msg/Imu", 5, b"\x00\x01\xff")] * 3, profile="ros2", encoding="cdr"))
    assert (ros.profile, ros.topics["/imu"].encodings, ros.num_messages) == ("ros2", ["cdr"], 3)


def test_duplicate_and_backward_times_keep_every_message_in_file_order_of_ties():
    messages = [(topic, kind, time_ns, body) for (topic, kind, _, body), time_ns in zip(keys(6), [9, 5, 5, 9, 1, 5], strict=True)]
    params = EventParams(topics={"k": TopicParams(topic="keyboard")}, intervals=WHOLE)
    batches, _ = convert_recording(MemorySource("a.mcap", write_mcap(messages)), "a.mcap", params, trust="bytes")
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert [row["timestamp_ns"] for row in rows] == [1, 5, 5, 5, 9, 9]
    vks = [json.loads(json.loads(row["mcap_message"])["message"])["vk"] for row in rows]
    assert vks == [69, 66, 67, 70, 65, 68]


BAD_KEYS = {
    "not JSON": b"{",
    "empty": b"",
    "another type": b'{"event_type":"press","vk":"A"}',
    "field missing": b'{"vk":65}',
    "unknown action": b'{"event_type":"hold","vk":65}',
    "over 32 bits": b'{"event_type":"press","vk":4294967296}',
    "huge": b'{"event_type":"press","vk":1e400}',
    "nan": b'{"event_type":"press","vk":NaN}',
    "array": b"[]",
    "null": b"null",
    "two values": b'{"event_type":"press","vk":65}{"event_type":"press","vk":66}',
    "not UTF-8 where parsers do not look": b'{"event_type":"press","vk":65,"note":"\xff"}',
    "deep": b'{"event_type":"press","vk":65,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "zeros": bytes(30),
}


@pytest.mark.parametrize("why", BAD_KEYS)
def test_invalid_payloads_are_counted_and_the_others_kept(why):
    messages = keys(40)
    messages[3] = (*messages[3][:3], BAD_KEYS[why])
    content = write_mcap(messages)
    params = EventParams(topics={"k": TopicParams(topic="keyboard")}, intervals=WHOLE)
    batches, ledger = convert_recording(MemorySource("a.mcap", content), "a.mcap", params, trust="bytes")
    assert sum(batch.num_rows for batch in batches) == 39
    assert ledger["topics"]["keyboard"] == {"read": 40, "kept": 39, "dropped": {"invalid_payload": 1}}


def test_a_topic_of_another_encoding_is_counted_not_converted():
    content = write_mcap([("keyboard", "desktop/KeyboardEvent", 5, b"\x00\xff")] * 3, encoding="protobuf")
    params = EventParams(topics={"k": TopicParams(topic="keyboard")}, intervals=WHOLE)
    batches, ledger = convert_recording(MemorySource("a.mcap", content), "a.mcap", params, trust="bytes")
    assert not list(batches)
    assert ledger["topics"]["keyboard"]["dropped"] == {"not_json": 3}


def test_unknown_message_types_pass_through():
    content = write_mcap([("gamepad", "other/Pad", 5 + i, b'{"axis":[0.5,-1]}') for i in range(3)])
    params = EventParams(topics={"pad": TopicParams(topic="gamepad")}, intervals=WHOLE)
    batches, _ = convert_recording(MemorySource("a.mcap", content), "a.mcap", params, trust="bytes")
    assert [row["message_type"] for batch in batches for row in batch.to_pylist()] == ["other/Pad"] * 3


def test_find_chunk_finds_the_first_whole_form_across_block_borders(content):
    offset, _ = record(content, CHUNK, 0)
    for filler in (0, 1, (1 << 20) - 20, (1 << 20) + 5):
        source = MemorySource("a", bytes([CHUNK]) * filler + content[offset:])
        assert find_chunk(source, 0) == filler
    assert find_chunk(MemorySource("a", np.random.default_rng(0).bytes(3_000_000)), 0) == -1


def damaged_folder(folder):
    content = write_mcap(keys(50), chunk_size=900)
    broken = put(content, record(content, CHUNK, 1)[0] + 80, b"\xff\xff")
    folder.mkdir()
    for name, data in (
        ("cut.mcap", content[: record(content, 15)[0]]),
        ("broken.mcap", broken),
        ("empty.mcap", b""),
        ("good.mcap", content),
    ):
        (folder / name).write_bytes(data)
    return RawParams(dir=str(folder), watch=str(folder), metadata="", split=SplitParams(test=("good.mcap",)))


def test_salvage_is_told_and_the_counts_of_raw_and_event_agree(tmp_path, caplog):
    params = damaged_folder(tmp_path / "in")
    cache = ShardCache(tmp_path / "cache")
    index = build_index(params, cache, HERE)
    metrics = index_metrics(index)
    assert (metrics["episodes"], metrics["salvaged"], sum(metrics["skipped"].values())) == (3, 2, 1)
    assert "left out empty.mcap: the file is empty" in caplog.text
    assert "salvaged broken.mcap: 35 messages kept, 15 lost; at byte 586: chunk: CRC does not match" in caplog.text
    assert "salvaged cut.mcap: 50 messages kept, none lost; at byte 1783" in caplog.text
    event_params = EventParams(topics={"k": TopicParams(topic="keyboard")}, intervals=WHOLE)
    conversion = EventConversion(event_params)
    plan = plan_build(conversion, event_inputs(index.episodes, params.dir), cache)
    lineage = build_dataset(plan, tmp_path / "event", cache, HERE)
    read = event_metrics(lineage, event_params)["topics"]["keyboard"]["read"]
    assert read == metrics["messages"]["keyboard"]
    assert read + metrics["lost_messages_known"] == 150


def test_a_recording_of_which_nothing_is_left_is_told_so(tmp_path, caplog):
    (tmp_path / "in").mkdir()
    content = write_mcap(keys(50), chunk_size=1 << 20)
    (tmp_path / "in" / "good.mcap").write_bytes(content)
    (tmp_path / "in" / "cut.mcap").write_bytes(content[:400])
    params = RawParams(dir=str(tmp_path / "in"), watch=str(tmp_path / "in"), metadata="")
    build_index(params, ShardCache(tmp_path / "cache"), HERE)
    assert "salvaged cut.mcap: 0 messages kept, an unknown number lost; at byte" in caplog.text
    assert "breaks off within a record" in caplog.text


def test_skip_leaves_damaged_ones_out_and_error_stops(tmp_path):
    params = damaged_folder(tmp_path / "in")
    cache = ShardCache(tmp_path / "cache")
    index = build_index(params.model_copy(update={"on_damaged": "skip"}), cache, HERE)
    assert [episode.episode_path for episode in index.episodes] == ["good.mcap"]
    assert sorted(index.skipped) == ["broken.mcap", "cut.mcap", "empty.mcap"]
    with pytest.raises(DamagedError, match=r"broken\.mcap: 35 messages kept, 15 lost; at byte \d+.*raw\.on_damaged"):
        build_index(params.model_copy(update={"on_damaged": "error"}), cache, HERE)


def test_nothing_usable_is_an_error(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mcap").write_bytes(b"")
    params = RawParams(dir=str(tmp_path / "in"), watch=str(tmp_path / "in"), metadata="")
    with pytest.raises(ParamsError, match="no recording can be used"):
        build_index(params, ShardCache(tmp_path / "cache"), HERE)


def test_references_are_counted_by_file_however_many_there_are():
    names = [f"frame {number}.png" for number in range(300)] + ["a.mkv"] * 500
    messages = [
        (
            "screen",
            "desktop/ScreenCaptured",
            1000 + number,
            json.dumps({"media_ref": {"uri": name}}, separators=(",", ":")).encode(),
        )
        for number, name in enumerate(names)
    ]
    for chunk_size in (1 << 20, 2048):
        assert facts_of(write_mcap(messages, chunk_size=chunk_size)).media == {
            **dict.fromkeys(sorted(set(names) - {"a.mkv"}), 1),
            "a.mkv": 500,
        }


def test_statistics_that_lie_of_the_time_do_not_stretch_a_recording(tmp_path):
    start_ns = 1_750_000_000_000_000_000
    content = write_mcap(keys(20, start_ns=start_ns), enable_crcs=False)
    # In the chunk, in the statistics, in the chunk index.
    places = [found.start() for found in re.finditer(re.escape(struct.pack("<QQ", start_ns, start_ns + 19)), content)]
    content = put(content, places[1], bytes(8))
    assert read_layout(MemorySource("a", content)).claimed_bounds_ns == (0, start_ns + 19)
    (tmp_path / "a.mcap").write_bytes(content)
    raw = RawParams(dir=str(tmp_path), watch=str(tmp_path), metadata="")
    runtime = RuntimeParams(num_workers=1, progress=False)
    [episode] = event_inputs(build_index(raw, ShardCache(tmp_path / "cache"), runtime).episodes, str(tmp_path))
    params = EventParams(topics={"keyboard": TopicParams(topic="keyboard")}, intervals=IntervalParams(select="whole_file"))
    _, ledger = EventConversion(params).convert(MemorySource("a", content), episode)
    assert ledger["active_ns"] == 20


def test_a_message_that_reaches_out_of_its_chunk_is_damage_even_where_the_index_was_believed():
    content = bytearray(write_mcap(keys(40), chunk_size=1 << 20, compression=CompressionType.NONE, enable_crcs=False))
    params = EventParams(topics={"keyboard": TopicParams(topic="keyboard")})
    place = content.find(b'{"event_type"') - records.MESSAGE_HEAD_BYTES - 8  # the length of the first message
    for length in (3, 1 << 40):
        content[place : place + 8] = length.to_bytes(8, "little")
        with pytest.raises(DamagedError, match="It was sound when it was indexed: index it anew with `dvc repro --force raw`"):
            convert_recording(MemorySource("a", bytes(content)), "a", params, trust="bytes")


def test_many_broken_chunks_take_no_longer_each_than_few():
    def seconds(num_messages):
        content = write_mcap(keys(num_messages), chunk_size=64, compression=CompressionType.NONE)
        content = content.replace(b"event_type", b"event_typo")  # no CRC fits any more
        start = time.perf_counter()
        assert len(facts_of(content).damage) > num_messages / 4
        return time.perf_counter() - start

    few, many = min(seconds(500) for _ in range(3)), seconds(4000)
    assert many < 8 * few * 4
