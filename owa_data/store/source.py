"""Bytes of one recording: a local file read once, anything else by ranged reads through fsspec."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

READ_BYTES = 1 << 24


class ByteSource(Protocol):
    """Random access to the bytes of one file."""

    path: str
    size_bytes: int

    def read(self, offset: int, length: int) -> memoryview | bytes:
        """Return the bytes `[offset, offset + length)`, fewer where the file ends. No copy for a local file."""
        ...


class MemorySource:
    """A recording in memory."""

    def __init__(self, path: str, buffer: bytes | memoryview) -> None:
        self.path = path
        self._view = memoryview(buffer)
        self.size_bytes = len(self._view)

    def read(self, offset: int, length: int) -> memoryview:
        """Return a view of `[offset, offset + length)`, shorter where the buffer ends."""
        return self._view[offset : offset + max(length, 0)]


class RemoteSource:
    """A recording behind an fsspec URL: each `read` is one ranged request."""

    def __init__(self, path: str, file: Any, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self._file = file

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes `[offset, offset + length)`, fewer where the file ends."""
        self._file.seek(offset)
        data: bytes = self._file.read(max(min(length, self.size_bytes - offset), 0))
        return data


def is_url(path: str) -> bool:
    """Whether `path` names something fsspec must open, such as `s3://bucket/a.mcap`."""
    return "://" in path


@contextmanager
def open_source(path: str | Path) -> Iterator[ByteSource]:
    """Open a recording for random access; closed when the `with` block ends.

    A local file is read into memory as a whole: what is hashed, checked and converted are then the very same bytes, whatever happens to the
    file meanwhile. A URL is read by ranges.

    Raises:
        OSError: The file is missing or unreadable.
    """
    text = str(path)
    if not is_url(text):
        yield MemorySource(text, Path(path).read_bytes())
        return
    import fsspec

    with fsspec.open(text, "rb") as file:
        yield RemoteSource(text, file, int(file.size))


def sha256_of(source: ByteSource) -> str:
    """Digest of all bytes, as 64 hex digits, at about 1.5 GB/s."""
    digest = hashlib.sha256()
    for offset in range(0, source.size_bytes, READ_BYTES):
        digest.update(source.read(offset, READ_BYTES))
    return digest.hexdigest()
