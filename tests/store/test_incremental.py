"""Building: what is reused, what is written, and that the bytes depend on nothing else."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import pytest
from mcap_owa.highlevel import McapMessage

from owa_data.errors import ChangedError, EpisodeError, ParamsError, SchemaError
from owa_data.event.build import EventConversion, event_inputs
from owa_data.params import EventParams, RawParams, RuntimeParams, SplitParams
from owa_data.raw.build import build_index
from owa_data.store import digests
from owa_data.store.dataset_folder import check_replaceable, read_lineage
from owa_data.store.executors import EpisodesFailedError, run_tasks
from owa_data.store.incremental import build_dataset, describe_plan, plan_build
from owa_data.store.shard_cache import ShardCache
from owa_data.store.whole_file import write_whole
from tests.conftest import tree_bytes, write_toy

ONE_WORKER = RuntimeParams(num_workers=1, progress=False)
TWO_WORKERS = RuntimeParams(num_workers=2, progress=False)


def build(
    recordings: Path, out_dir: Path, cache_root: Path, runtime: RuntimeParams = ONE_WORKER, **split: object
) -> tuple[int, int]:
    """Build the event dataset; returns episodes converted and reused."""
    cache = ShardCache(cache_root)
    split_params = SplitParams(**{"test_groups": ("b",), **split})
    params = RawParams(dir=str(recordings), watch=str(recordings), metadata="", split=split_params)
    index = build_index(params, cache, runtime)
    conversion = EventConversion(EventParams())
    plan = plan_build(conversion, event_inputs(index.episodes, str(recordings)), cache)
    num_missing = len(plan.missing)
    build_dataset(plan, out_dir, cache, runtime)
    return num_missing, len(plan.episodes) - num_missing


@pytest.fixture
def recordings(toy_recordings: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_recordings, tmp_path / "recordings"))


def test_change_add_remove_equal_a_build_from_scratch_elsewhere(recordings: Path, tmp_path: Path) -> None:
    out_dir, cache = tmp_path / "event", tmp_path / "cache"
    assert build(recordings, out_dir, cache) == (3, 0)
    assert build(recordings, out_dir, cache) == (0, 3)
    write_toy(recordings, "a/two.mcap", seed=77)
    assert build(recordings, out_dir, cache) == (1, 2)
    write_toy(recordings, "a/four.mcap", seed=78)
    assert build(recordings, out_dir, cache) == (1, 3)
    (recordings / "a/one.mcap").unlink()
    assert build(recordings, out_dir, cache) == (0, 3)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(recordings, elsewhere / "deep/recordings")
    assert build(elsewhere / "deep/recordings", elsewhere / "event", elsewhere / "cache", TWO_WORKERS) == (3, 0)
    assert tree_bytes(out_dir) == tree_bytes(elsewhere / "event")


def test_a_split_is_placement_and_converts_nothing(recordings: Path, tmp_path: Path) -> None:
    build(recordings, tmp_path / "event", tmp_path / "cache")
    assert build(recordings, tmp_path / "event", tmp_path / "cache", test_groups=("a",)) == (0, 3)
    assert sorted(path.name for path in (tmp_path / "event/test/a").iterdir()) == ["one.arrow", "two.arrow"]


def test_plain_datasets_load_it_and_every_message_is_valid(recordings: Path, tmp_path: Path) -> None:
    build(recordings, tmp_path / "event", tmp_path / "cache")
    loaded = datasets.load_from_disk(str(tmp_path / "event"))
    assert {split: set(part["episode_path"]) for split, part in loaded.items()} == {
        "train": {"a/one.mcap", "a/two.mcap"},
        "test": {"b/three.mcap"},
    }
    for row in loaded["train"]:
        message = McapMessage.model_validate_json(row["mcap_message"])
        assert (message.topic, message.timestamp) == (row["topic"], row["timestamp_ns"])


def test_an_empty_split_still_loads(recordings: Path, tmp_path: Path) -> None:
    build(recordings, tmp_path / "event", tmp_path / "cache", test_groups=(), test_fraction=0)
    loaded = datasets.load_from_disk(str(tmp_path / "event"))
    assert (len(loaded["train"]) > 0, len(loaded["test"])) == (True, 0)
    assert loaded["test"].features == loaded["train"].features


def test_a_recording_that_changes_after_it_was_listed_is_an_error(recordings: Path, tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache")
    params = RawParams(dir=str(recordings), watch=str(recordings), metadata="")
    index = build_index(params, cache, ONE_WORKER)
    write_toy(recordings, "a/two.mcap", seed=77)
    conversion = EventConversion(EventParams())
    plan = plan_build(conversion, event_inputs(index.episodes, str(recordings)), cache)
    with pytest.raises(EpisodesFailedError, match=r"a/two\.mcap: its content changed") as caught:
        build_dataset(plan, tmp_path / "event", cache, ONE_WORKER)
    assert isinstance(caught.value.errors[0], ChangedError)
    assert not (tmp_path / "event").exists()
    # The others are finished, and the stale one is not.
    assert [record is not None for record in plan_build(conversion, plan.episodes, cache).records] == [True, False, True]


def test_a_dry_run_says_what_and_how_much(recordings: Path, tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache")
    build(recordings, tmp_path / "event", tmp_path / "cache")
    write_toy(recordings, "a/four.mcap", seed=78)
    index = build_index(RawParams(dir=str(recordings), watch=str(recordings), metadata=""), cache, ONE_WORKER)
    plan = plan_build(EventConversion(EventParams()), event_inputs(index.episodes, str(recordings)), cache)
    text = describe_plan(plan, tmp_path / "event")
    assert "1 of 4 episodes to convert, 3 to reuse\n  a/four.mcap\nabout 0.00" in text
    assert "GB free" in text


def test_shards_are_one_inode_and_read_only(recordings: Path, tmp_path: Path) -> None:
    build(recordings, tmp_path / "event", tmp_path / "cache")
    shard = tmp_path / "event/train/a/one.arrow"
    key = next(e.key for e in read_lineage(tmp_path / "event", "event").episodes if e.episode_path == "a/one.mcap")
    assert shard.samefile(tmp_path / "cache" / key[:2] / key)
    assert shard.stat().st_mode & 0o222 == 0


def test_a_dataset_of_another_kind_is_an_error(recordings: Path, tmp_path: Path) -> None:
    build(recordings, tmp_path / "event", tmp_path / "cache")
    with pytest.raises(SchemaError, match="holds a dataset of kind event"):
        read_lineage(tmp_path / "event", "fsl")
    with pytest.raises(SchemaError, match="dvc repro event"):
        read_lineage(tmp_path / "none", "event")


def test_errors_that_say_the_same_of_many_files_are_one_line_and_a_number() -> None:
    errors = [EpisodeError(f"{name}.mcap", "an event is too long") for name in "abc"] + [EpisodeError("d.mcap", "is gone")]
    told = str(EpisodesFailedError(errors, 2))
    assert told.count("an event is too long") == 1
    assert "(and 2 more say the same, such as c.mcap)" in told
    assert "d.mcap: is gone" in told
    assert told.startswith("4 of the episodes failed")


@pytest.mark.parametrize("content", ["notes.txt", "deep/notes.txt"])
def test_a_folder_that_is_no_dataset_is_not_replaced(recordings: Path, tmp_path: Path, content: str) -> None:
    kept = tmp_path / "mine" / content
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    for out_dir in (tmp_path / "mine", recordings):
        before = tree_bytes(out_dir)
        with pytest.raises(ParamsError, match="files that are no dataset, and a build replaces the whole folder"):
            build(recordings, out_dir, tmp_path / "cache")
        assert tree_bytes(out_dir) == before


def test_a_dataset_of_another_kind_is_not_replaced(recordings: Path, tmp_path: Path) -> None:
    out_dir = tmp_path / "event"
    out_dir.mkdir()  # empty: it may be
    build(recordings, out_dir, tmp_path / "cache")
    check_replaceable(out_dir, "event")
    with pytest.raises(ParamsError, match="holds a dataset of kind event"):
        check_replaceable(out_dir, "fsl")


def test_the_working_directory_is_not_replaced(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match="files that are no dataset"):
        build(recordings, Path(), tmp_path / "cache")


def test_a_flipped_bit_in_what_is_remembered_costs_a_conversion_or_is_told(toy_recordings, tmp_path):
    build(toy_recordings, tmp_path / "event", tmp_path / "cache")
    whole = tree_bytes(tmp_path / "event")
    for path in [*(tmp_path / "cache").glob("??/*.json"), *(tmp_path / "cache/digests").glob("*.json")]:
        content = bytearray(path.read_bytes())
        content[content.index(b'"') + 1] |= 0x80  # text that is no UTF-8
        path.chmod(0o644)
        path.write_bytes(content)
    assert build(toy_recordings, tmp_path / "event", tmp_path / "cache") == (3, 0)
    assert tree_bytes(tmp_path / "event") == whole

    lineage = tmp_path / "event/owa.json"
    lineage.write_bytes(lineage.read_bytes().replace(b"keyboard", b"\xebeyboard"))
    with pytest.raises(SchemaError, match="is not readable"):
        read_lineage(tmp_path / "event", "event")
    check_replaceable(tmp_path / "event", "event")


def test_a_link_as_output_folder_stays(toy_recordings, tmp_path):
    (tmp_path / "big").mkdir()
    (tmp_path / "event").symlink_to("big/event")
    for _ in range(3):
        build(toy_recordings, tmp_path / "event", tmp_path / "cache")
    assert (tmp_path / "event").is_symlink()
    assert read_lineage(tmp_path / "big/event", "event").episodes
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big", "cache", "event"]


def test_recordings_of_the_working_directory_are_remembered(toy_recordings, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(digests, "_SETTLED_NS", -1)
    monkeypatch.chdir(toy_recordings)
    caplog.set_level("INFO")
    for _ in range(2):
        build(Path(), tmp_path / "event", tmp_path / "cache")
    assert [record.getMessage() for record in caplog.records if "known" in record.getMessage()] == [
        "raw: 3 recordings read, 0 known",
        "raw: 0 recordings read, 3 known",
    ]


def test_nothing_is_dropped_from_the_cache_while_recordings_are_read(toy_recordings, tmp_path, monkeypatch):
    cache = ShardCache(tmp_path / "cache")
    seen = []

    def run_tasks_and_look(*arguments, **options):
        with cache.alone() as is_alone:
            seen.append(is_alone)
        yield from run_tasks(*arguments, **options)

    monkeypatch.setattr("owa_data.raw.build.run_tasks", run_tasks_and_look)
    build_index(RawParams(dir=str(toy_recordings), watch=str(toy_recordings), metadata=""), cache, ONE_WORKER)
    assert seen == [False]


def test_files_written_at_once_by_two_are_whole(tmp_path):
    contents = [bytes([letter]) * 100_000 for letter in b"ab"]
    with ThreadPoolExecutor(2) as executor:
        list(executor.map(lambda index: write_whole(tmp_path / "x/file", contents[index % 2]), range(200)))
    assert (tmp_path / "x/file").read_bytes() in contents
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["file"]
