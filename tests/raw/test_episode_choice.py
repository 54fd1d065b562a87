"""Which recordings are chosen, what metadata says of them, and in which split they fall."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from owa_data.errors import EpisodeError, ParamsError
from owa_data.params import RawParams, SplitParams
from owa_data.raw.discover import find_recordings, matches_any, told_if_private
from owa_data.raw.metadata import read_metadata
from owa_data.raw.split import group_of, hash_fraction, split_of


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("**/*.mcap", "a.mcap", True),
        ("**/*.mcap", "x/y/a.mcap", True),
        ("*.mcap", "x/a.mcap", False),
        ("x/**", "x/y/a.mcap", True),
        ("x/?.mcap", "x/a.mcap", True),
        ("x/?.mcap", "x/ab.mcap", False),
        ("[a].mcap", "a.mcap", False),
        ("[a].mcap", "[a].mcap", True),
    ],
)
def test_globs(glob: str, path: str, matches: bool) -> None:
    assert matches_any(path, [glob]) is matches


def test_include_exclude_and_limit(tmp_path: Path) -> None:
    for name in ("b/2.mcap", "a/1.mcap", "a/3.mcap", "a/1.mkv", "c/4.mcap"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    params = RawParams(dir=str(tmp_path), exclude=("c/**",))
    assert [found.episode_path for found in find_recordings(params)] == ["a/1.mcap", "a/3.mcap", "b/2.mcap"]
    assert len(find_recordings(params.model_copy(update={"limit": 2}))) == 2


def test_nothing_chosen_is_an_error_that_says_what_was_there(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"there is no file ending in \.mcap below"):
        find_recordings(RawParams(dir=str(tmp_path)))
    (tmp_path / "a.mcap").touch()
    with pytest.raises(ParamsError, match="there are 1 files"):
        find_recordings(RawParams(dir=str(tmp_path), include=("x/*.mcap",)))


def test_a_misspelt_glob_is_never_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("arena/1.mcap", "field/2.mcap"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    find_recordings(RawParams(dir=str(tmp_path), split=SplitParams(test=("arena/**", "field/?.mcap"))))
    assert caplog.text == ""
    find_recordings(RawParams(dir=str(tmp_path), include=("**/*.mcap", "aren/*"), exclude=("field/**", "feild/**")))
    assert [record.getMessage().partition(" matches none of 2 files")[0] for record in caplog.records] == [
        "raw.include: 'aren/*'",
        "raw.exclude: 'feild/**'",
    ]
    with pytest.raises(ParamsError, match=r"raw\.split\.test: \['arean/\*\*'\] match no episode"):
        find_recordings(RawParams(dir=str(tmp_path), split=SplitParams(test=("arena/**", "arean/**"))))
    with pytest.raises(ParamsError, match=r"\['field/\*\*'\] match no episode"):
        find_recordings(RawParams(dir=str(tmp_path), exclude=("field/**",), split=SplitParams(test=("field/**",))))


def test_a_glob_of_what_a_limit_leaves_out_is_none_of_a_mistake(tmp_path: Path) -> None:
    for name in ("1.mcap", "2.mcap"):
        (tmp_path / name).touch()
    params = RawParams(dir=str(tmp_path), limit=1, split=SplitParams(test=("2.mcap",)))
    assert [found.episode_path for found in find_recordings(params)] == ["1.mcap"]


def test_metadata_forms(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("episode_path,game,player\na.mcap,apex,\nb.mcap,doom,kim\n")
    assert read_metadata(str(tmp_path / "m.csv")) == {"a.mcap": {"game": "apex"}, "b.mcap": {"game": "doom", "player": "kim"}}
    (tmp_path / "m.jsonl").write_text('{"episode_path": "x\\\\a.mcap", "n": 1}\n\n')
    assert read_metadata(str(tmp_path / "m.jsonl")) == {"x/a.mcap": {"n": 1}}
    (tmp_path / "m.jsonl").write_text('{"episode_path": "a.mcap", "n": 2}\n', encoding="utf-8-sig")  # as Windows saves it
    assert read_metadata(str(tmp_path / "m.jsonl")) == {"a.mcap": {"n": 2}}


@pytest.mark.parametrize(("text", "line"), [("game\nx\n", 2), ("episode_path\na\na\n", 3), ("episode_path,game\n\n\na,x,y\n", 4)])
def test_bad_metadata_names_file_and_line(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ParamsError, match=rf"m\.csv, line {line}:"):
        read_metadata(str(tmp_path / "m.csv"))


@pytest.mark.parametrize("value", ["[" * 100_000, "1" * 5000, '"\\ud800"', "{"])
def test_json_that_cannot_be_read_or_written_names_file_and_line(tmp_path: Path, value: str) -> None:
    (tmp_path / "m.jsonl").write_text(f'{{"episode_path": "a", "n": {value}}}\n')
    with pytest.raises(ParamsError, match=r"m\.jsonl, line 1: not JSON"):
        read_metadata(str(tmp_path / "m.jsonl"))


def test_hash_split_never_moves_an_episode_and_hits_the_fraction() -> None:
    paths = [f"game/{index}.mcap" for index in range(4000)]
    splits = {path: split_of(path, {}, "game", SplitParams(test_fraction=0.1)) for path in paths}
    assert 0.08 < sum(split == "test" for split in splits.values()) / len(paths) < 0.12
    assert hash_fraction("game/1.mcap", "") == hash_fraction("game/1.mcap", "") != hash_fraction("game/1.mcap", "x")


def test_what_decides_first() -> None:
    params = SplitParams(test_fraction=1, test=("x/**",), test_groups=("g",))
    assert split_of("x/a.mcap", {"split": "train"}, "g", params) == "train"
    assert split_of("x/a.mcap", {}, "h", params) == "test"
    assert split_of("y/a.mcap", {}, "g", params) == "test"
    assert split_of("y/a.mcap", {}, "h", params) == "train"
    assert split_of("y/a.mcap", {}, "h", SplitParams(test_fraction=1)) == "test"
    with pytest.raises(ParamsError, match="validation"):
        split_of("y/a.mcap", {"split": "validation"}, "h", params)


def test_groups() -> None:
    assert group_of("apex/1.mcap", {}, "folder") == "apex"
    assert group_of("1.mcap", {}, "folder") == "."
    assert group_of("1.mcap", {"game": "apex"}, "game") == "apex"


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_metadata_that_is_not_utf8_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes("episode_path,player\na.mcap,J\u00fcrgen\n".encode("cp1252"))
    with pytest.raises(ParamsError, match=rf"raw\.metadata: .*{name} is no.* UTF-8"):
        read_metadata(str(tmp_path / name))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("a.mcap", "a.arrow/b.mcap"), "the shard of 'a.mcap' would stand where the folder of 'a.arrow/b.mcap' must be"),
        (("a.mcap", "state.json/b.mcap"), "the folder of 'state.json/b.mcap' has the name of a dataset's own file"),
        (("a.mcap", "x" * 250 + ".mcap"), "is too long for its shard"),
        (("x/cache-0123456789abcdef.mcap",), "would have the name of a cache file of `datasets`"),
    ],
)
def test_recordings_without_a_place_for_their_shard_are_refused(tmp_path: Path, names: tuple[str, ...], told: str) -> None:
    for name in ("b.arrow/c.mcap", *names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ParamsError, match=re.escape(told)):
        find_recordings(RawParams(dir=str(tmp_path)))
    assert len(find_recordings(RawParams(dir=str(tmp_path), exclude=names[-1:]))) == len(names)


def test_a_folder_that_cannot_be_listed_is_an_error_and_a_private_one_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a/1.mcap", "b/2.mcap"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    scandir = os.scandir

    def fail_with(number: int) -> Callable[[str], Iterator[os.DirEntry[str]]]:
        def broken(path: str) -> Iterator[os.DirEntry[str]]:
            if Path(path).name == "b":
                raise OSError(number, os.strerror(number), path)
            return scandir(path)

        return broken

    monkeypatch.setattr(os, "scandir", fail_with(errno.EIO))
    with pytest.raises(OSError, match=r"Input/output error.*b'"):
        find_recordings(RawParams(dir=str(tmp_path)))
    monkeypatch.setattr(os, "scandir", fail_with(errno.EACCES))
    assert [found.episode_path for found in find_recordings(RawParams(dir=str(tmp_path)))] == ["a/1.mcap"]
    assert "/b may not be looked into: left out" in caplog.text


def test_a_link_to_nothing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.mcap").touch()
    (tmp_path / "b.mcap").symlink_to("nowhere")
    assert [found.episode_path for found in find_recordings(RawParams(dir=str(tmp_path)))] == ["a.mcap"]
    assert "b.mcap is a link to nothing: left out" in caplog.text


def test_a_recording_that_may_not_be_looked_at_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # As in a folder that may be listed but not entered.
    for name in ("a.mcap", "b.mcap"):
        (tmp_path / name).touch()
    (tmp_path / "folder.mcap").mkdir()
    stat = os.stat

    def closed(path: str, **options: Any) -> os.stat_result:
        if Path(path).name == "b.mcap":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", closed)
    assert [found.episode_path for found in find_recordings(RawParams(dir=str(tmp_path)))] == ["a.mcap"]
    assert "b.mcap may not be looked into: left out" in caplog.text


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("m.csv", "episode_path,game,game\na.mcap,x,y\n", "the columns game stand there twice"),
        ("m.jsonl", '{"episode_path": "a.mcap", "rank": NaN}\n', "line 1: not JSON"),
        ("m.jsonl", '{"episode_path": "a.mcap", "rank": 1e400}\n', "line 1: not JSON"),
    ],
)
def test_metadata_that_would_be_lost_is_refused(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ParamsError, match=told):
        read_metadata(str(tmp_path / name))


def test_who_may_not_read_a_recording_is_told_what_to_do() -> None:
    with pytest.raises(EpisodeError, match=r"a\.mcap: it may not be read\. Let it be read"), told_if_private("a.mcap"):
        raise PermissionError(errno.EACCES, "Permission denied", "a.mcap")
    with pytest.raises(PermissionError), told_if_private("a.mcap"):
        raise PermissionError(errno.EACCES, "Permission denied", "cache/b.tmp")


@pytest.mark.parametrize("url", ["nosuchstore://x", "memory-not-installed://"])
def test_urls_that_no_store_answers_are_told(url: str) -> None:
    with pytest.raises(ParamsError, match=r"raw\.dir: .* cannot be listed"):
        find_recordings(RawParams(dir=url, watch="list.jsonl", metadata=""))
