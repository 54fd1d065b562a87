"""The watch list must say just what is there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from owa_data.errors import ChangedError, ParamsError
from owa_data.params import RawParams, RuntimeParams
from owa_data.raw import build
from owa_data.raw.build import build_index, index_metrics
from owa_data.raw.watch import write_watch_list
from owa_data.store.digest_memory import DigestMemory
from owa_data.store.shard_cache import ShardCache
from tests.conftest import write_toy

RUNTIME = RuntimeParams(num_workers=1, progress=False)


@pytest.fixture
def listed(toy_recordings: Path, tmp_path: Path) -> RawParams:
    """Recordings and an up to date list of them."""
    shutil.copytree(toy_recordings, tmp_path / "recordings")
    params = RawParams(dir=str(tmp_path / "recordings"), watch=str(tmp_path / "list.jsonl"), metadata="")
    assert write_watch_list(Path(params.watch), params, DigestMemory(tmp_path / "cache", params.dir)) == (3, 3, 0)
    return params


def test_a_list_that_is_up_to_date_is_fine(listed: RawParams, tmp_path: Path) -> None:
    assert len(build_index(listed, ShardCache(tmp_path / "cache"), RUNTIME).episodes) == 3
    some = listed.model_copy(update={"exclude": ("b/**",), "limit": 1})
    assert len(build_index(some, ShardCache(tmp_path / "cache"), RUNTIME).episodes) == 1


@pytest.mark.parametrize(("change", "says"), [("new", "1 new"), ("changed", "1 changed"), ("gone", "1 gone")])
def test_a_stale_list_is_an_error_that_says_what_to_do(listed: RawParams, tmp_path: Path, change: str, says: str) -> None:
    if change == "gone":
        (Path(listed.dir) / "a/one.mcap").unlink()
    else:
        write_toy(Path(listed.dir), "a/four.mcap" if change == "new" else "a/one.mcap", seed=99)
    with pytest.raises(ParamsError, match=rf"{says}.*owa-data scan"):
        build_index(listed, ShardCache(tmp_path / "cache"), RUNTIME)


def test_metadata_that_matches_nothing_is_an_error(toy_recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("episode_path,split\na/one,test\n")
    params = RawParams(dir=str(toy_recordings), watch=str(toy_recordings), metadata=str(tmp_path / "m.csv"))
    with pytest.raises(ParamsError, match=r"no row of .* matches an episode. Rows name 'a/one', episodes are 'a/one\.mcap'"):
        build_index(params, ShardCache(tmp_path / "cache"), RUNTIME)


def test_what_is_left_out_is_counted_by_reason(toy_recordings: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(toy_recordings, tmp_path / "recordings"))
    (folder / "text.mcap").write_text("no recording")
    (folder / "cut.mcap").write_bytes((folder / "a/one.mcap").read_bytes()[:-100])
    params = RawParams(dir=str(folder), watch=str(folder), metadata="", on_damaged="skip")
    index = build_index(params, ShardCache(tmp_path / "cache"), RUNTIME)
    assert index_metrics(index)["skipped"] == {"damaged": 1, "not_mcap": 1}


def test_a_list_that_cannot_be_read_is_written_anew(listed: RawParams, tmp_path: Path) -> None:
    good = Path(listed.watch).read_bytes()
    Path(listed.watch).write_bytes(b"<<<<<<< HEAD\n" + good)
    with pytest.raises(ParamsError, match=r"is no list of recordings.*owa-data scan"):
        build_index(listed, ShardCache(tmp_path / "cache"), RUNTIME)
    write_watch_list(Path(listed.watch), listed, DigestMemory(tmp_path / "cache", listed.dir))
    assert Path(listed.watch).read_bytes() == good


def test_what_changes_while_recordings_are_read_is_in_the_index(
    toy_recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(toy_recordings, tmp_path / "recordings")
    metadata = tmp_path / "metadata.csv"
    metadata.write_text("episode_path,split\n")
    params = RawParams(dir=str(tmp_path / "recordings"), watch=str(tmp_path / "recordings"), metadata=str(metadata))
    rounds: list[int] = []

    def change(*arguments: Any) -> Any:
        known = read_all(*arguments)
        if not rounds:
            write_toy(tmp_path / "recordings", "a/late.mcap", 5)
            write_toy(tmp_path / "recordings", "a/one.mcap", 77)
            metadata.write_text("episode_path,split\na/two.mcap,test\n")
        rounds.append(len(known))
        return known

    read_all = build._read_all
    monkeypatch.setattr(build, "_read_all", change)
    changed = build_index(params, ShardCache(tmp_path / "cache"), RUNTIME)
    assert rounds == [3, 4]
    monkeypatch.undo()
    assert changed == build_index(params, ShardCache(tmp_path / "cold"), RUNTIME)
    assert {episode.episode_path: episode.split for episode in changed.episodes}["a/two.mcap"] == "test"


def test_recordings_that_change_all_the_time_are_told(
    toy_recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(toy_recordings, tmp_path / "recordings")
    params = RawParams(dir=str(tmp_path / "recordings"), watch=str(tmp_path / "recordings"), metadata="")
    read_all = build._read_all

    def change(*arguments: Any) -> Any:
        shutil.copy(tmp_path / "recordings/a/one.mcap", tmp_path / f"recordings/{len(list(tmp_path.rglob('*.mcap')))}.mcap")
        return read_all(*arguments)

    monkeypatch.setattr(build, "_read_all", change)
    with pytest.raises(ChangedError, match="change while they are read"):
        build_index(params, ShardCache(tmp_path / "cache"), RUNTIME)
