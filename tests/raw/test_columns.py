"""Columnar reading equals the ecosystem's own reader, message by message, however the file was written."""

from __future__ import annotations

from pathlib import Path

import pytest
from mcap.writer import CompressionType, IndexType, Writer
from mcap_owa.highlevel import OWAMcapReader

from owa_data.raw import columns as columns_module
from owa_data.raw.columns import read_columns
from owa_data.raw.layout import read_layout
from owa_data.raw.payloads import PayloadPool
from owa_data.store.source import MemorySource, Trust
from tests.conftest import shared_path
from tests.damage import write_mcap

TOPICS = {"screen", "keyboard", "mouse/raw", "mouse", "window", "keyboard/state", "mouse/state"}


def read(path: Path, topics: set[str] = TOPICS, *, trust: Trust = "nothing") -> dict[str, list[tuple[int, bytes, str]]]:
    source = MemorySource(str(path), path.read_bytes())
    columns, problems = read_columns(source, read_layout(source), topics, PayloadPool(), trust=trust)
    assert problems == []
    return {
        topic: [
            (time, payload, part.message_types[code])
            for time, payload, code in zip(part.times_ns.tolist(), part.payloads.to_pylist(), part.type_codes, strict=True)
        ]
        for topic, part in columns.items()
    }


def read_by_ecosystem(path: Path, topics: set[str] = TOPICS) -> dict[str, list[tuple[int, bytes, str]]]:
    found: dict[str, list[tuple[int, bytes, str]]] = {}
    with OWAMcapReader(path) as reader:
        for message in reader.iter_messages(topics=list(topics)):
            found.setdefault(message.topic, []).append((message.timestamp, message.message, message.message_type))
    return found


@pytest.mark.parametrize("trust", ["nothing", "bytes"])
def test_equals_the_ecosystems_reader(toy_recordings: Path, trust: Trust) -> None:
    path = toy_recordings / "a/one.mcap"
    assert read(path, trust=trust) == read_by_ecosystem(path)


@pytest.mark.parametrize("name", ["0.3.2", "0.4.2", "0.5.1", "0.5.x-video-missing"])
def test_equals_the_ecosystems_reader_on_real_recordings(name: str) -> None:
    path = shared_path(f"recordings/{name}.mcap")
    assert read(path) == read_by_ecosystem(path)


def rewrite(source: Path, target: Path, **options: object) -> None:
    """Write the messages of a recording with another layout of the file."""
    with target.open("wb") as stream:
        writer = Writer(stream, **options)
        writer.start(profile="owa", library="test")
        channels: dict[str, int] = {}
        with OWAMcapReader(source) as reader:
            for message in reader.iter_messages():
                if message.topic not in channels:
                    schema = writer.register_schema(message.message_type, "jsonschema", b"{}")
                    channels[message.topic] = writer.register_channel(message.topic, "json", schema)
                writer.add_message(channels[message.topic], message.timestamp, message.message, message.timestamp)
        writer.finish()


LAYOUTS: dict[str, dict[str, object]] = {
    "zstd": {"compression": CompressionType.ZSTD, "chunk_size": 20_000},
    "lz4": {"compression": CompressionType.LZ4, "chunk_size": 20_000},
    "uncompressed": {"compression": CompressionType.NONE, "chunk_size": 20_000},
    "no indexes": {"index_types": IndexType.NONE, "chunk_size": 20_000},
    "no message indexes": {"index_types": IndexType.CHUNK, "chunk_size": 20_000},
    "no chunk indexes": {"index_types": IndexType.MESSAGE, "chunk_size": 20_000},
    "no statistics": {"use_statistics": False, "chunk_size": 20_000},
    "no repeated channels": {"repeat_channels": False, "repeat_schemas": False, "chunk_size": 20_000},
    "no chunks": {"use_chunking": False},
    "no crcs": {"enable_crcs": False, "chunk_size": 20_000},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_the_file_gives_the_same(toy_recordings: Path, tmp_path: Path, layout: str) -> None:
    rewrite(toy_recordings / "a/two.mcap", tmp_path / "x.mcap", **LAYOUTS[layout])
    expected = read_by_ecosystem(toy_recordings / "a/two.mcap")
    assert read(tmp_path / "x.mcap") == expected
    assert read(tmp_path / "x.mcap", trust="bytes") == expected


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("trust", ["bytes", "summary", "nothing"])
def test_only_wanted_topics_are_read(toy_recordings: Path, tmp_path: Path, layout: str, trust: Trust) -> None:
    rewrite(toy_recordings / "a/two.mcap", tmp_path / "x.mcap", **LAYOUTS[layout])
    expected = read_by_ecosystem(toy_recordings / "a/two.mcap")
    assert read(tmp_path / "x.mcap", {"screen", "absent"}, trust=trust) == {"screen": expected["screen"]}


def test_times_out_of_order_are_sorted_and_ties_keep_file_order(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start(profile="owa", library="test")
        channel = writer.register_channel("t", "json", writer.register_schema("T", "jsonschema", b"{}"))
        for time, payload in [(5, b"1"), (3, b"2"), (5, b"3"), (3, b"4")]:
            writer.add_message(channel, time, payload, time)
        writer.finish()
    assert [(time, payload) for time, payload, _ in read(path, {"t"})["t"]] == [(3, b"2"), (3, b"4"), (5, b"1"), (5, b"3")]


def test_a_channel_keeps_its_type_whatever_declares_its_schema(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=200)
        writer.start(profile="owa", library="test")
        schema = writer.register_schema("desktop/WindowInfo", "jsonschema", b"{}")
        first = writer.register_channel("first", "json", schema)
        for time in range(20):
            writer.add_message(first, time, b'{"a": 1}', time)
        second = writer.register_channel("second", "json", schema)  # its schema stands in an earlier chunk
        for time in range(20, 40):
            writer.add_message(second, time, b'{"b": 2}', time)
        writer.finish()
    content = path.read_bytes()
    for name, part in {"whole": content, "cut": content[: content.rindex(b'"b": 2') - 60]}.items():
        source = MemorySource(name, part)
        columns, _ = read_columns(source, read_layout(source), {"first", "second"}, PayloadPool())
        assert {topic: rows.message_types for topic, rows in columns.items()} == {
            "first": ("desktop/WindowInfo",),
            "second": ("desktop/WindowInfo",),
        }


def test_room_is_made_for_the_topics_asked_for_alone() -> None:
    rows = [("rare", "x/Rare", time, b"{}") for time in range(10)] + [
        ("often", "x/Often", 100 + time, b"[%0999d]" % 0) for time in range(5000)
    ]
    source = MemorySource("x", write_mcap(rows, chunk_size=1000))
    for topic, at_most in (("rare", 3000), ("often", 2 * source.size_bytes)):
        pool = PayloadPool()
        layout = read_layout(source)
        pool.reserve(columns_module._expected_bytes(source, layout, {topic}))
        assert pool._buffer.nbytes <= at_most
        columns, _ = read_columns(source, layout, {topic}, pool)
        assert len(columns[topic]) == sum(row[0] == topic for row in rows)
