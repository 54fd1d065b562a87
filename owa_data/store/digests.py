"""Digests of local files, remembered by size, mtime and inode, so that an unchanged file is not read again."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import msgspec

# A file written within this time before it was hashed could change once more without a new mtime (coarse clocks).
_SETTLED_NS = 2_000_000_000


class _Remembered(msgspec.Struct, frozen=True, array_like=True):
    size_bytes: int
    mtime_ns: int
    inode: int
    sha256: str


class DigestMemory:
    """Remembered digests of the files below one folder; kept in the shard cache. Losing it costs reading the files again."""

    def __init__(self, cache_root: Path, folder: str) -> None:
        name = hashlib.sha256(str(Path(folder).absolute()).encode()).hexdigest()[:32]
        self._path = cache_root / "digests" / f"{name}.json"
        self._known: dict[str, _Remembered] = {}
        self._fresh: dict[str, _Remembered] = {}
        with suppress(FileNotFoundError, msgspec.DecodeError):  # then nothing is remembered
            self._known = msgspec.json.decode(self._path.read_bytes(), type=dict[str, _Remembered])

    def sha256_of(self, path: Path) -> str:
        """Return the digest of a file, reading it only if it is not as remembered.

        Raises:
            OSError: The file cannot be read.
        """
        status = path.stat()
        known = self._known.get(str(path))
        if known and (known.size_bytes, known.mtime_ns, known.inode) == (status.st_size, status.st_mtime_ns, status.st_ino):
            self._fresh[str(path)] = known
            return known.sha256
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if time.time_ns() - status.st_mtime_ns > _SETTLED_NS:
            self._fresh[str(path)] = _Remembered(status.st_size, status.st_mtime_ns, status.st_ino, sha256)
        return sha256

    def save(self) -> None:
        """Remember the digests asked for since, and forget those of files that were not asked for."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, suffix=".tmp")
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(self._fresh))
        Path(name).replace(self._path)
