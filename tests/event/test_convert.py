"""Recordings to event rows: golden output, conservation, and what each recorder generation becomes."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from mcap_owa.highlevel import McapMessage, OWAMcapWriter
from owa.msgs.desktop.keyboard import KeyboardEvent
from owa.msgs.desktop.mouse import MouseEvent, RawMouseEvent
from owa.msgs.desktop.window import WindowInfo

from owa_data.encoding.events import read_events
from owa_data.errors import EpisodeError, ParamsError
from owa_data.event import convert as convert_module
from owa_data.event.build import check_params
from owa_data.event.convert import TopicRows, convert_recording
from owa_data.params import EventParams, IntervalParams, RawParams, RuntimeParams, TopicParams
from owa_data.raw.build import build_index
from owa_data.raw.parsing import AlikePayloads
from owa_data.raw.templates import TemplatePayloads
from owa_data.store.shard_cache import ShardCache
from owa_data.store.source import MemorySource, Trust
from tests.conftest import shared_path
from tests.damage import write_mcap

WHOLE = IntervalParams(select="whole_file")
EVERYTHING = {
    "screen": TopicParams(topic="screen"),
    "keyboard": TopicParams(topic="keyboard"),
    "mouse_raw": TopicParams(topic="mouse/raw"),
}


def convert(path: Path, params: EventParams, *, trust: Trust = "nothing") -> tuple[pa.Table, dict]:
    source = MemorySource(str(path), path.read_bytes())
    batches, ledger = convert_recording(source, path.name, params, trust=trust)
    return pa.Table.from_batches(list(batches)), ledger


def decoded(table: pa.Table, topic: str) -> list[tuple[int, object]]:
    rows = [McapMessage.model_validate_json(row) for row in table["mcap_message"].to_pylist()]
    return [(row.timestamp, row.decoded) for row in rows if row.topic == topic]


def test_golden_events_equal_upstreams() -> None:
    table, _ = convert(shared_path("golden/recording.mcap"), EventParams(topics=EVERYTHING, intervals=WHOLE))
    golden = json.loads(gzip.decompress(shared_path("golden/event.json.gz").read_bytes()))
    columns = [table[name].to_pylist() for name in ("topic", "timestamp_ns", "message_type", "mcap_message")]
    ours = [[topic, time, kind, message.decode()] for topic, time, kind, message in zip(*columns, strict=True)]
    assert [row[1] for row in ours] == sorted(row[1] for row in ours)
    # Upstream ends before the last message of the file; everything else is equal, in any order among equal times.
    last = max(row[1] for row in ours)
    assert sorted(row for row in ours if row[1] < last) == sorted(golden)
    assert len(ours) == len(golden) + sum(row[1] == last for row in ours)


@pytest.mark.parametrize("trust", ["nothing", "bytes"])
def test_conservation_and_motion_sums(toy_recordings: Path, trust: Trust) -> None:
    path = toy_recordings / "a/one.mcap"
    full, _ = convert(path, EventParams(topics=EVERYTHING, intervals=WHOLE))
    thin, ledger = convert(path, EventParams(intervals=WHOLE), trust=trust)
    for topic, counts in ledger["topics"].items():
        assert counts["read"] == counts["kept"] + sum(counts["dropped"].values())
        assert counts["kept"] == thin["topic"].to_pylist().count(topic)
    for axis in ("last_x", "last_y"):
        sums = [sum(getattr(message, axis) for _, message in decoded(table, "mouse/raw")) for table in (full, thin)]
        assert sums[0] == sums[1]
    clicks = [[m.button_flags for _, m in decoded(table, "mouse/raw") if m.button_flags] for table in (full, thin)]
    assert clicks[0] == clicks[1]


@pytest.mark.parametrize("name", ["0.3.2", "0.4.2", "0.5.1", "0.5.x-video-missing"])
@pytest.mark.parametrize("as_raw", [False, True])
def test_real_recordings_convert(name: str, as_raw: bool) -> None:
    path = shared_path(f"recordings/{name}.mcap")
    resample = {"resample": "sum_moves", "rate_hz": 20} if as_raw else {}
    topics = {
        "screen": TopicParams(topic="screen", resample="first_per_period", rate_hz=20, activity="screen"),
        "keyboard": TopicParams(topic="keyboard", activity="input"),
        "mouse": TopicParams(topic="mouse", activity="input", as_raw=as_raw, **resample),
        "window": TopicParams(topic="window"),
    }
    table, ledger = convert(path, EventParams(topics=topics))
    assert table.num_rows == ledger["rows"] > 0
    types = set(table["message_type"].to_pylist())
    assert types == {"desktop/ScreenCaptured", "desktop/KeyboardEvent", "desktop/WindowInfo"} | (
        {"desktop/RawMouseEvent"} if as_raw else {"desktop/MouseEvent"}
    )
    for row in table["mcap_message"].to_pylist():
        assert McapMessage.model_validate_json(row).decoded is not None
    assert ledger["topics"]["mouse"]["read"] > 0


def write(path: Path, rows: list[tuple[int, str, object]]) -> Path:
    with OWAMcapWriter(path) as writer:
        for time, topic, message in rows:
            writer.write_message(message, topic=topic, timestamp=time)
    return path


def test_absolute_positions_become_differences_within_an_interval(tmp_path: Path) -> None:
    def at(x: int, y: int, **more: object) -> MouseEvent:
        return MouseEvent(**{"event_type": "move", "x": x, "y": y, **more})

    path = write(
        tmp_path / "m.mcap",
        [
            (0, "mouse", at(10, 10)),
            (10, "mouse", at(13, 9)),
            (20, "mouse", at(13, 9, event_type="click", button="left", pressed=True)),
            (30, "mouse", at(14, 9, event_type="scroll", dx=0, dy=-1)),
            (10_000_000_000, "mouse", at(500, 500)),
            (10_000_000_010, "mouse", at(501, 498)),
        ],
    )
    topics = {"mouse": TopicParams(topic="mouse", as_raw=True, activity="input")}
    table, ledger = convert(path, EventParams(topics=topics))
    fields = [(m.last_x, m.last_y, int(m.button_flags), m.button_data) for _, m in decoded(table, "mouse/raw")]
    assert fields == [(3, -1, 0, 0), (0, 0, 1, 0), (1, 0, 0x400, 65416), (1, -2, 0, 0)]
    assert ledger["topics"]["mouse"] == {"read": 6, "kept": 4, "dropped": {"no_previous_position": 2}}


def test_a_rate_never_drops_clicks_and_keys(tmp_path: Path) -> None:
    rows: list[tuple[int, str, object]] = [(i, "mouse/raw", RawMouseEvent(last_x=1, last_y=0)) for i in range(10)]
    rows += [(i, "mouse/raw", RawMouseEvent(last_x=0, last_y=0, button_flags=1 + i % 2)) for i in range(10, 14)]
    path = write(tmp_path / "m.mcap", rows)
    for kind in ("drop", "first_per_period"):
        topics = {"m": TopicParams(topic="mouse/raw", resample=kind, rate_hz=1)}
        _, ledger = convert(path, EventParams(topics=topics, intervals=WHOLE))
        assert ledger["topics"]["mouse/raw"] == {"read": 14, "kept": 5, "dropped": {"resampled": 9}}


def test_other_json_topics_pass_untouched_whatever_they_hold(tmp_path: Path) -> None:
    title = 'quote " backslash \\ newline \n tab \t nul-ish \x01 emoji \U0001f600 </>'
    path = write(tmp_path / "w.mcap", [(5, "window", WindowInfo(title=title, rect=(0, 0, 1, 1), hWnd=1))])
    table, _ = convert(path, EventParams(topics={"window": TopicParams(topic="window")}, intervals=WHOLE))
    assert [message.title for _, message in decoded(table, "window")] == [title]


def test_ties_keep_file_order(tmp_path: Path) -> None:
    rows = [(7, "window", WindowInfo(title="w", rect=(0, 0, 1, 1), hWnd=1)), (7, "mouse/raw", RawMouseEvent(last_x=1, last_y=0))]
    topics = {"a": TopicParams(topic="mouse/raw"), "b": TopicParams(topic="window")}
    params = EventParams(topics=topics, intervals=WHOLE)
    for order in (rows, rows[::-1]):
        table, _ = convert(write(tmp_path / "t.mcap", order), params)
        assert table["topic"].to_pylist() == [topic for _, topic, _ in order]


def test_sum_moves_on_other_messages_is_an_error_that_names_the_row(tmp_path: Path) -> None:
    path = write(tmp_path / "m.mcap", [(0, "mouse", MouseEvent(event_type="move", x=0, y=0))])
    topics = {"pointer": TopicParams(topic="mouse", resample="sum_moves", rate_hz=20)}
    with pytest.raises(ParamsError, match=r"event\.topics\.pointer\.resample: .*as_raw"):
        convert(path, EventParams(topics=topics, intervals=WHOLE))


def test_the_last_message_is_inside(tmp_path: Path) -> None:
    path = write(tmp_path / "m.mcap", [(time, "mouse/raw", RawMouseEvent(last_x=1, last_y=0)) for time in range(5)])
    topics = {"m": TopicParams(topic="mouse/raw", activity="input")}
    for select in ("whole_file", "inactivity"):
        table, _ = convert(path, EventParams(topics=topics, intervals=IntervalParams(select=select)))
        assert np.array_equal(table["timestamp_ns"].to_numpy(), np.arange(5))


def test_motion_is_not_told_twice(toy_recordings: Path) -> None:
    topics = {**EVERYTHING, "mouse": TopicParams(topic="mouse", as_raw=True)}
    table, ledger = convert(toy_recordings / "a/one.mcap", EventParams(topics=topics, intervals=WHOLE))
    alone, _ = convert(toy_recordings / "a/one.mcap", EventParams(topics=EVERYTHING, intervals=WHOLE))
    assert table.equals(alone)
    counts = ledger["topics"]["mouse"]
    assert counts["dropped"] == {"told_by_mouse_raw": counts["read"]}


def test_a_key_held_for_years_is_told_with_its_recording(tmp_path: Path) -> None:
    path = write(tmp_path / "broken.mcap", [(at, "keyboard", KeyboardEvent(event_type="press", vk=65)) for at in (1, 4 * 10**18)])
    topics = {"keyboard": TopicParams(topic="keyboard", resample="repeat_held_keys", rate_hz=20)}
    with pytest.raises(EpisodeError, match=r"broken\.mcap: topic keyboard: a key held from 1 to .* raw\.exclude"):
        convert(path, EventParams(topics=topics, intervals=IntervalParams(select="whole_file")))


def test_one_key_pressed_all_the_time(tmp_path: Path) -> None:
    path = write(tmp_path / "k.mcap", [(i, "keyboard", KeyboardEvent(event_type="press", vk=87)) for i in range(300)])
    table, ledger = convert(path, EventParams(topics={"k": TopicParams(topic="keyboard")}, intervals=WHOLE))
    assert ledger["topics"]["keyboard"] == {"read": 300, "kept": 300, "dropped": {}}
    assert {message.vk for _, message in decoded(table, "keyboard")} == {87}


def test_what_raw_motion_cannot_say_is_counted(tmp_path: Path) -> None:
    def scroll(dx: int, dy: int) -> MouseEvent:
        return MouseEvent(event_type="scroll", x=1, y=1, dx=dx, dy=dy)

    path = write(tmp_path / "m.mcap", [(0, "mouse", scroll(1, 1)), (1, "mouse", scroll(0, 300)), (2, "mouse", scroll(-2, 0))])
    topics = {"mouse": TopicParams(topic="mouse", as_raw=True)}
    table, ledger = convert(path, EventParams(topics=topics, intervals=WHOLE))
    assert ledger["topics"]["mouse"] == {"read": 3, "kept": 3, "dropped": {}, "second_wheel": 1, "wheel_clamped": 1}
    wheel = [(int(m.button_flags), m.button_data) for _, m in decoded(table, "mouse/raw")]
    assert wheel == [(0x400, 120), (0x400, 0x7FFF), (0x800, 0x10000 - 240)]


def test_whole_file_knows_all_topics(tmp_path: Path) -> None:
    rows: list[tuple[int, str, object]] = [(0, "window", WindowInfo(title="w", rect=(0, 0, 1, 1), hWnd=1))]
    rows += [(30_000_000 + i * 10_000_000, "mouse/raw", RawMouseEvent(last_x=1, last_y=0)) for i in range(10)]
    topics = {"m": TopicParams(topic="mouse/raw", resample="first_per_period", rate_hz=20)}
    table, _ = convert(write(tmp_path / "m.mcap", rows), EventParams(topics=topics, intervals=WHOLE))
    # The grid begins with the window message, which is not read: periods of 50 ms from 0.
    assert table["timestamp_ns"].to_pylist() == [30_000_000, 50_000_000, 100_000_000]


@pytest.mark.parametrize(
    ("topic", "message_type", "field", "values", "kept"),
    [
        ("mouse/raw", "desktop/RawMouseEvent", "last_x", [2**31 - 1, 2**31 - 1], 2**31 - 1),
        ("mouse/raw", "desktop/RawMouseEvent", "last_x", [-(2**31), -(2**31), -5], -(2**31)),
        ("mouse", "desktop/MouseEvent", "x", [-(2**31), 2**31 - 1], 2**31 - 1),
    ],
)
def test_motion_beyond_32_bits_is_clamped_and_counted(topic, message_type, field, values, kept) -> None:
    start_ns = 1_750_000_000_000_000_000
    other = {"event_type": "move", "y": 0} if topic == "mouse" else {"last_y": 0}
    messages = [
        (topic, message_type, start_ns + number, json.dumps({field: value, **other}).encode())
        for number, value in enumerate(values)
    ]
    params = EventParams(
        topics={"m": TopicParams(topic=topic, as_raw=topic == "mouse", resample="sum_moves", rate_hz=20)}, intervals=WHOLE
    )
    batches, ledger = convert_recording(MemorySource("a", write_mcap(messages)), "a", params, trust="bytes")
    table = pa.Table.from_batches(list(batches))
    assert ledger["topics"][topic]["motion_clamped"] == 1
    assert [event.last_x for _, event in decoded(table, "mouse/raw")] == [kept]
    assert read_events(table).raw_mouse[:, 0].tolist() == [kept], "what event writes, fsl and binned can read"


def test_old_recordings_are_told_how_to_take_their_mouse(tmp_path: Path) -> None:
    (tmp_path / "a.mcap").write_bytes(write_mcap([("mouse", "desktop/MouseEvent", 1, b'{"event_type":"move","x":1,"y":2}')]))
    raw = RawParams(dir=str(tmp_path), watch=str(tmp_path), metadata="")
    episodes = build_index(raw, ShardCache(tmp_path / "cache"), RuntimeParams(num_workers=1, progress=False)).episodes
    row = {"m": TopicParams(topic="mouse/raw")}
    with pytest.raises(
        ParamsError, match=r"event\.topics\.m\.topic: .*`mouse: \{topic: mouse, .*as_raw: true\}` in place of the row m\."
    ) as told:
        check_params(EventParams(topics=row), episodes)
    advice = re.search(r"`mouse: ({.*?})`", str(told.value))[1]
    check_params(EventParams(topics={"mouse": TopicParams(**yaml.safe_load(advice))}), episodes)


def test_an_old_name_and_todays_are_one_type() -> None:
    # Screens of both at 20 Hz each are thinned to 20 Hz together; a key pressed under one name is released under the other.
    today = b'{"utc_ns":1,"source_shape":[4,4],"shape":[4,4],"media_ref":{"uri":"a.mkv","pts_ns":7}}'
    old = b'{"path":"a.mkv","pts":7,"utc_ns":1,"original_shape":[4,4],"shape":[4,4]}'
    names = (("desktop/ScreenCaptured", today), ("owa.env.gst.msg.ScreenCaptured", old))
    screens = [("screen", *names[index % 2][:1], index * 25_000_000, names[index % 2][1]) for index in range(40)]
    keys = [
        ("keyboard", "owa.env.desktop.msg.KeyboardEvent", 0, b'{"event_type":"press","vk":87}'),
        ("keyboard", "desktop/KeyboardEvent", 100_000_000, b'{"event_type":"release","vk":87}'),
        ("keyboard", "desktop/KeyboardEvent", 900_000_000, b'{"event_type":"press","vk":65}'),
    ]
    topics = {
        "screen": TopicParams(topic="screen", resample="first_per_period", rate_hz=20),
        "keyboard": TopicParams(topic="keyboard", resample="repeat_held_keys", rate_hz=20),
    }
    params = EventParams.model_validate({"topics": topics, "intervals": {"select": "whole_file"}})
    content = write_mcap(sorted([*screens, *keys], key=lambda row: row[2]))
    batches, ledger = convert_recording(MemorySource("a", content), "a", params, trust="nothing")
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert sum(row["topic"] == "screen" for row in rows) == 20
    assert ledger["topics"]["screen"] == {"read": 40, "kept": 20, "dropped": {"resampled": 20}}
    assert {row["message_type"] for row in rows} == {"desktop/ScreenCaptured", "desktop/KeyboardEvent"}
    pressed = [row["timestamp_ns"] for row in rows if b'\\"vk\\":87' in row["mcap_message"] and b"press" in row["mcap_message"]]
    assert pressed == [0, 50_000_000]


def test_payloads_of_rows_lie_in_their_own_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [
        ("keyboard", "desktop/KeyboardEvent", index * 100_000_000, b'{"event_type":"press","vk":87}') for index in range(5)
    ]
    messages += [("mouse/raw", "desktop/RawMouseEvent", 17 + index, b'{"last_x":1,"last_y":2}') for index in range(5)]
    screen = rb'{"media_ref":{"uri":"a\\b.mkv","pts_ns":7}}'
    messages += [("screen", "desktop/ScreenCaptured", 20 + index * 50_000_000, screen) for index in range(5)]
    topics = {
        "screen": TopicParams(topic="screen", resample="first_per_period", rate_hz=20),
        "keyboard": TopicParams(topic="keyboard", resample="repeat_held_keys", rate_hz=20),
        "mouse": TopicParams(topic="mouse/raw", resample="sum_moves", rate_hz=20),
    }
    seen: dict[str, list[dict]] = {}

    def look(rows: list[TopicRows], *_: object) -> Iterator[pa.RecordBatch]:
        seen.update({part.topic: [json.loads(payload) for payload in part.payloads.to_pylist()] for part in rows})
        return iter(())

    monkeypatch.setattr(convert_module, "_iter_batches", look)
    content = write_mcap(sorted(messages, key=lambda row: row[2]))
    convert_recording(MemorySource("a", content), "a", EventParams(topics=topics, intervals=WHOLE), trust="nothing")
    assert [row["vk"] for row in seen["keyboard"]] == [87] * 9
    assert [(row["last_x"], row["last_y"]) for row in seen["mouse/raw"]] == [(5, 10)]
    assert {row["media_ref"]["uri"] for row in seen["screen"]} == {"a/b.mkv"}


def test_rows_are_the_same_bytes_however_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    raw_mouse = b'{"last_x":%d,"last_y":%d,"us_flags":0,"button_flags":%d,"button_data":0,"device_handle":7,"timestamp":%d}'
    messages = []
    for number in range(6000):
        time_ns = 1_750_000_000_000_000_000 + number * 1_000_003
        key = b'{"event_type":"%s","vk":%d,"timestamp":%d}' % ((b"press", b"release")[number // 3 % 2], number % 120, time_ns)
        screen = b'{"utc_ns":%d,"media_ref":{"uri":"a.mkv","pts_ns":%d}}' % (time_ns, number * 99)
        kinds = [
            ("mouse/raw", "desktop/RawMouseEvent", raw_mouse % (number % 23 - 11, 1400 - number, number % 400 == 0, time_ns)),
            ("keyboard", "desktop/KeyboardEvent", key),
            ("screen", "desktop/ScreenCaptured", screen if number % 500 else b'{ "media_ref":{"uri":"\\u00e4.mkv"}}'),
        ]
        topic, message_type, payload = kinds[number % 3]
        messages.append((topic, message_type, time_ns, payload))
    source = MemorySource("a", write_mcap(messages))
    params = EventParams(topics=EVERYTHING, intervals=WHOLE)

    def written() -> list[pa.RecordBatch]:
        return list(convert_recording(source, "of/odd/length.mcap", params, trust="bytes")[0])

    batches = written()
    assert [batch.num_rows for batch in batches] == [convert_module.ROWS_PER_BATCH, 6000 - convert_module.ROWS_PER_BATCH]
    # Nothing is in the file but the rows: Arrow writes what of a buffer lies around a slice.
    assert all(
        batch.serialize().equals(pa.RecordBatch.from_pylist(batch.to_pylist(), batch.schema).serialize()) for batch in batches
    )
    templates = [len(part.templates) for part in _parts(source, params, monkeypatch)]
    assert templates == [2, 3, 3]
    monkeypatch.setattr(
        AlikePayloads, "as_templates", lambda self, rows, pool: TemplatePayloads.whole(self.payloads.take(rows), pool)
    )
    assert all(batch.serialize().equals(other.serialize()) for batch, other in zip(batches, written(), strict=True))


def _parts(source: MemorySource, params: EventParams, monkeypatch: pytest.MonkeyPatch) -> list[TemplatePayloads]:
    seen: list[TemplatePayloads] = []
    with monkeypatch.context() as patch:
        patch.setattr(convert_module, "_iter_batches", lambda rows, _: iter(seen.extend(part.payloads for part in rows) or ()))
        convert_recording(source, "a", params, trust="bytes")
    return seen
