"""Digests of recordings, remembered by size, times and inode, so that an unchanged file is not read again."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from owa_data.errors import BROKEN_JSON
from owa_data.store.digests import FileStamp
from owa_data.store.whole_file import write_whole


class _Remembered(msgspec.Struct, frozen=True, array_like=True):
    stamp: FileStamp
    sha256: str


class DigestMemory:
    """Remembered digests of the files below one folder; kept in the shard cache. Losing it costs reading the files again."""

    def __init__(self, cache_root: Path, folder: str) -> None:
        name = hashlib.sha256(str(Path(folder).absolute()).encode()).hexdigest()[:32]
        self._path = cache_root / "digests" / f"{name}.json"
        self._known: dict[str, _Remembered] = {}
        self._fresh: dict[str, _Remembered] = {}
        with suppress(OSError, *BROKEN_JSON):  # then nothing is remembered
            self._known = msgspec.json.decode(self._path.read_bytes(), type=dict[str, _Remembered])

    def recall(self, path: Path | str) -> str | None:
        """Return the digest of a file that is as remembered; None for another.

        Raises:
            OSError: The file cannot be looked at.
        """
        known = self._known.get(str(path))
        if known is None or known.stamp != FileStamp.of(os.stat(path)):  # noqa: PTH116 - may be text
            return None
        self._fresh[str(path)] = known
        return known.sha256

    def remember(self, path: Path | str, stamp: FileStamp, sha256: str) -> None:
        """Note the digest of a file whose stamp was this one before and after it was read, and settled when that began."""
        self._fresh[str(path)] = _Remembered(stamp, sha256)

    def stamp_of(self, path: Path | str, sha256: str) -> FileStamp | None:
        """Return the stamp under which a file had this digest; None where that is not remembered."""
        known = self._known.get(str(path))
        return known.stamp if known is not None and known.sha256 == sha256 else None

    def sha256_of(self, path: Path) -> str:
        """Return the digest of a file, reading it only if it is not as remembered.

        Raises:
            OSError: The file cannot be read.
        """
        if (known := self.recall(path)) is not None:
            return known
        begun_ns = time.time_ns()
        stamp = FileStamp.of(path.stat())
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if stamp.was_settled(begun_ns) and FileStamp.of(path.stat()) == stamp:
            self.remember(path, stamp, sha256)
        return sha256

    def save(self) -> None:
        """Remember the digests asked for since, and forget those of files that are gone; a trial of a few recordings costs the others nothing."""
        others = {path: known for path, known in self._known.items() if path in self._fresh or os.path.exists(path)}  # noqa: PTH110 - text
        if (content := others | self._fresh) != self._known:
            write_whole(self._path, msgspec.json.encode(content))
