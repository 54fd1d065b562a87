"""Digests: what is unchanged is not read again, and what changed is never taken for it."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
import xxhash

from owa_data.errors import ChangedError, EpisodeError
from owa_data.store import digests
from owa_data.store import source as sources
from owa_data.store.digest_memory import DigestMemory
from owa_data.store.digests import FileStamp, ShardDigest, digest_like
from owa_data.store.source import open_listed, read_stamped

LONG_AGO_NS = 10**18


def write(path: Path, content: bytes, mtime_ns: int = LONG_AGO_NS) -> FileStamp:
    path.write_bytes(content)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return FileStamp.of(path.stat())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_digest_is_of_the_kind_that_is_listed() -> None:
    digest = ShardDigest()
    digest.update(b"ab")
    digest.update(memoryview(b"c"))
    assert digest.text() == "xxh3:" + xxhash.xxh3_128_hexdigest(b"abc")
    assert digest_like(digest.text(), b"abc") == digest.text()
    assert digest_like("0" * 64, b"abc") == sha256(b"abc")


def test_a_file_is_recalled_while_its_stamp_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_SETTLED_NS", -1)
    path = tmp_path / "a.mcap"
    write(path, b"one")
    memory = DigestMemory(tmp_path / "cache", str(tmp_path))
    assert memory.recall(path) is None
    assert memory.sha256_of(path) == sha256(b"one")
    memory.save()
    again = DigestMemory(tmp_path / "cache", str(tmp_path))
    assert again.recall(path) == sha256(b"one")
    assert again.stamp_of(path, sha256(b"one")) == FileStamp.of(path.stat())
    assert again.stamp_of(path, sha256(b"two")) is None
    write(path, b"two", LONG_AGO_NS + 1)
    assert again.recall(path) is None
    assert again.sha256_of(path) == sha256(b"two")


def test_a_run_over_some_files_forgets_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_SETTLED_NS", -1)
    one, two, gone = paths = [tmp_path / f"{name}.mcap" for name in ("one", "two", "gone")]
    memory = DigestMemory(tmp_path / "cache", str(tmp_path))
    for path in paths:
        write(path, b"content")
        memory.sha256_of(path)
    memory.save()
    gone.unlink()
    trial = DigestMemory(tmp_path / "cache", str(tmp_path))
    assert trial.recall(one)
    trial.save()
    after = DigestMemory(tmp_path / "cache", str(tmp_path))
    assert after.recall(two) == sha256(b"content")
    assert after.stamp_of(gone, sha256(b"content")) is None


def test_a_file_written_just_now_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_SETTLED_NS", 10**18)  # however slow this machine is
    path = tmp_path / "a.mcap"
    path.write_bytes(b"one")
    memory = DigestMemory(tmp_path / "cache", str(tmp_path))
    memory.sha256_of(path)
    memory.save()
    assert DigestMemory(tmp_path / "cache", str(tmp_path)).recall(path) is None


def test_a_listed_file_with_its_stamp_is_not_digested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mcap"
    stamp = write(path, b"one")
    digested = []
    monkeypatch.setattr(sources, "digest_like", lambda listed, content: digested.append(bytes(content)) or sha256(content))
    with open_listed(path, sha256(b"one"), stamp) as source:
        assert bytes(source.read(0, 3)) == b"one"
    assert digested == []
    with open_listed(path, sha256(b"one")) as source:
        assert bytes(source.read(0, 3)) == b"one"
    assert digested == [b"one"]


def test_a_changed_file_is_refused_whatever_its_stamp_was(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    stamp = write(path, b"one")
    write(path, b"two", LONG_AGO_NS + 1)
    with pytest.raises(ChangedError, match="content changed"), open_listed(path, sha256(b"one"), stamp):
        pass


def test_a_file_that_changes_while_it_is_read_has_no_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mcap"
    write(path, b"one")
    stamps = iter([FileStamp(3, 1, 1, 1), FileStamp(3, 2, 2, 1)])
    monkeypatch.setattr(FileStamp, "of", classmethod(lambda cls, status: next(stamps)))
    assert read_stamped(path) == (b"one", None)


def test_a_fault_of_this_program_is_an_error_of_its_episode_and_told_with_its_traceback(tmp_path, caplog):
    path = tmp_path / "a.mcap"
    path.write_bytes(b"one")
    with (
        pytest.raises(EpisodeError, match=r"a\.mcap: IndexError: out of range\. This is a fault of owa-data"),
        open_listed(path, sha256(b"one")),
    ):
        raise IndexError("out of range")
    assert "Traceback" in caplog.text


def test_a_change_under_the_same_size_and_modification_time_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    stamp = write(path, b"one")
    time.sleep(0.02)  # a change time has the resolution of the system's clock
    with path.open("r+b") as file:
        file.write(b"two")
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    changed = FileStamp.of(path.stat())
    assert (changed.size_bytes, changed.mtime_ns, changed.inode) == (stamp.size_bytes, stamp.mtime_ns, stamp.inode)
    assert changed != stamp
    with pytest.raises(ChangedError, match="content changed"), open_listed(path, sha256(b"one"), stamp):
        pass


def test_digests_that_cannot_be_read_are_made_again_and_others_may_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_SETTLED_NS", -1)
    path = tmp_path / "a.mcap"
    write(path, b"one")
    memory = DigestMemory(tmp_path / "cache", str(tmp_path))
    memory.sha256_of(path)
    memory.save()
    (kept,) = (tmp_path / "cache/digests").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o644
    kept.unlink()
    kept.mkdir()  # stands for any file that cannot be read, since a superuser can read all
    assert DigestMemory(tmp_path / "cache", str(tmp_path)).sha256_of(path) == sha256(b"one")
