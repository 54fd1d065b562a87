"""Recordings that stay in a bucket: listed by version, read by ranges."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from owa_data.errors import ChangedError, DamagedError, EpisodeError
from owa_data.event.build import EventConversion, event_inputs
from owa_data.params import EventParams, RawParams, RuntimeParams
from owa_data.raw.build import build_index
from owa_data.raw.index import UNCHECKED, read_claimed_facts, read_facts
from owa_data.raw.layout import read_layout
from owa_data.raw.payloads import PayloadPool
from owa_data.raw.watch import write_watch_list
from owa_data.store.digest_memory import DigestMemory
from owa_data.store.executors import EpisodesFailedError
from owa_data.store.incremental import build_dataset, plan_build
from owa_data.store.shard_cache import ShardCache
from owa_data.store.source import MemorySource, RemoteSource, open_listed, version_of
from tests.conftest import tree_bytes, write_toy
from tests.versions.conftest import S3Server

RUNTIME = RuntimeParams(num_workers=1, progress=False)


def test_version_prefers_content_over_time() -> None:
    status = {"size": 3, "ETag": '"abc"', "VersionId": "v9", "mtime": 12.5}
    assert version_of("s3://b/a", status) == "abc"
    assert version_of("ssh://b/a", {"size": 3, "mtime": 12.5}) == "3-12.5"
    with pytest.raises(EpisodeError, match="a change would not be noticed"):
        version_of("x://b/a", {"size": 3})


def _build(folder: Path, recordings: str, cache: ShardCache, watch: str) -> dict[str, bytes]:
    raw = RawParams(dir=recordings, watch=watch, metadata=str(folder / "metadata.jsonl"))
    index = build_index(raw, cache, RUNTIME)
    conversion = EventConversion(EventParams())
    plan = plan_build(conversion, event_inputs(index.episodes, recordings), cache)
    build_dataset(plan, folder / "event", cache, RUNTIME)
    return {name: data for name, data in tree_bytes(folder / "event").items() if name.endswith(".arrow")}


def test_a_build_from_a_bucket_equals_one_from_a_folder(s3_server: S3Server, toy_recordings: Path, tmp_path: Path) -> None:
    url = s3_server.make_bucket("recordings") + "/rec"
    s3_server.upload("recordings", toy_recordings, "rec/")
    shards = {}
    for name, recordings in (("local", str(toy_recordings)), ("remote", url)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "metadata.jsonl").write_text("")
        watch = str(folder / "recordings.jsonl")
        cache = ShardCache(folder / "cache")
        write_watch_list(Path(watch), RawParams(dir=recordings, watch=watch), DigestMemory(cache.root, recordings))
        shards[name] = _build(folder, recordings, cache, watch)
    assert shards["local"] == shards["remote"]
    assert len(shards["remote"]) == 4  # three episodes, and the empty test split


def test_facts_by_summary_agree_with_facts_by_reading(toy_recordings: Path) -> None:
    content = (toy_recordings / "a/one.mcap").read_bytes()
    claimed = read_claimed_facts(MemorySource("a", content))
    read = read_facts(MemorySource("a", content))
    assert claimed.condition == UNCHECKED
    assert (claimed.topics, claimed.start_ns, claimed.end_ns, claimed.num_messages) == (
        read.topics,
        read.start_ns,
        read.end_ns,
        read.num_messages,
    )
    assert set(claimed.media) == set(read.media)


def _write_many_chunks(path: Path) -> None:
    """A recording of one topic per chunk: 20 chunks of `mouse`, 20 of `keyboard`, so that half is not wanted."""
    from mcap.writer import CompressionType, Writer

    with path.open("wb") as file:
        writer = Writer(file, chunk_size=50_000, compression=CompressionType.NONE)
        writer.start("owa", "test")
        schema = {
            name: writer.register_schema(kind, "jsonschema", b"{}")
            for name, kind in (("mouse", "desktop/MouseEvent"), ("keyboard", "desktop/KeyboardEvent"))
        }
        channels = {name: writer.register_channel(name, "json", schema[name]) for name in schema}
        for index in range(40):
            name = "mouse" if index < 20 else "keyboard"
            for step in range(500):
                time_ns = 10**18 + (index * 500 + step) * 1_000_000
                data = b'{"event_type": "press", "vk": 65, "timestamp": %d, "note": "%s"}' % (time_ns, b"x" * 60)
                writer.add_message(channels[name], time_ns, data, time_ns)
            writer._Writer__finalize_chunk()  # a chunk ends with its topic
        writer.finish()


def test_only_index_and_wanted_chunks_are_fetched(s3_server: S3Server, tmp_path: Path) -> None:
    path = tmp_path / "long.mcap"
    _write_many_chunks(path)
    s3_server.make_bucket("recordings")
    s3_server.upload("recordings", tmp_path)
    source = RemoteSource("s3://recordings/long.mcap")
    facts = read_claimed_facts(source)
    assert facts.topics["keyboard"].num_messages == 10_000
    assert source.num_bytes_fetched < 0.15 * source.size_bytes  # header, summary, 4 kB of each chunk
    source = RemoteSource("s3://recordings/long.mcap")
    from owa_data.raw.columns import read_columns

    columns, problems = read_columns(source, read_layout(source), {"keyboard"}, PayloadPool(), trust="summary")
    assert not problems
    assert len(columns["keyboard"]) == 10_000
    assert 0.5 * source.size_bytes < source.num_bytes_fetched < 0.65 * source.size_bytes


def test_a_recording_that_changes_is_an_error(s3_server: S3Server, toy_recordings: Path) -> None:
    s3_server.make_bucket("recordings")
    s3_server.upload("recordings", toy_recordings)
    url = "s3://recordings/a/one.mcap"
    listed = f"version:{RemoteSource(url).version}"
    with open_listed(url, listed) as source:
        assert bytes(source.read(0, 5)) == b"\x89MCAP"
    with pytest.raises(ChangedError, match="content changed since it was listed"), open_listed(url, listed):
        s3_server.client.put_object(Bucket="recordings", Key="a/one.mcap", Body=b"other")
    with pytest.raises(ChangedError, match="owa-data scan"), open_listed(url, listed):
        raise AssertionError("not reached")


def test_damage_that_no_one_looked_for_is_an_error(s3_server: S3Server, tmp_path: Path) -> None:
    recordings = tmp_path / "recordings"
    path = write_toy(recordings, "one.mcap", 7)
    content = bytearray(path.read_bytes())
    chunk = read_layout(MemorySource("one", bytes(content))).chunks[0]
    content[chunk.data_offset + chunk.data_bytes // 2] ^= 0xFF
    path.write_bytes(content)
    url = s3_server.make_bucket("recordings")
    s3_server.upload("recordings", recordings)
    folder = tmp_path / "build"
    folder.mkdir()
    (folder / "metadata.jsonl").write_text("")
    cache = ShardCache(folder / "cache")
    watch = folder / "recordings.jsonl"
    write_watch_list(watch, RawParams(dir=url, watch=str(watch)), DigestMemory(cache.root, url))
    start = time.monotonic()
    with pytest.raises(EpisodesFailedError) as failed:
        _build(folder, url, cache, str(watch))
    assert isinstance(failed.value.errors[0], DamagedError)
    assert "copy it to a folder" in str(failed.value)
    assert time.monotonic() - start < 60
