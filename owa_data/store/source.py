"""Bytes of one recording: a local file read once, anything else by ranged reads through fsspec."""

from __future__ import annotations

import logging
import os
import posixpath
import re
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

from owa_data.errors import ChangedError, EpisodeError, OwaDataError
from owa_data.store.digests import SHARD_PREFIX, VERSION_PREFIX, FileStamp, digest_like, shorten_digest

logger = logging.getLogger(__name__)

# A request costs more than some bytes: small reads are widened to this, and the last few are kept, since a chunk's parts lie together.
_MIN_REQUEST_BYTES = 4096
_NUM_KEPT = 4
# What object stores say of a file's content or version, by preference; content digests first, so that an equal upload changes nothing.
_VERSION_FIELDS = ("md5Hash", "ETag", "etag", "VersionId", "version_id", "generation")
_TIME_FIELDS = ("mtime", "LastModified", "last_modified", "created")

Trust = Literal["bytes", "summary", "nothing"]
"""What is taken for granted of a recording. `bytes`: every byte was looked at before, nothing was found wrong, and they are the same still.
`summary`: nobody looked, its summary is taken at its word, and chunks are held to their CRC when they are read. `nothing`: all is checked, and
what is whole is salvaged."""


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
    """A recording behind an fsspec URL: a `read` is at most one ranged request, and nothing else is fetched.

    `version` is what the store says of the content that `path` has now; see `version_of`.
    """

    def __init__(self, path: str) -> None:
        import fsspec

        self.path = path
        self._filesystem, self._name = fsspec.core.url_to_fs(path)
        status = self._status()
        self.size_bytes = int(status["size"])
        self.version = version_of(path, status)
        self.num_bytes_fetched = 0
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=_NUM_KEPT)

    def read(self, offset: int, length: int) -> memoryview:
        """Return the bytes `[offset, offset + length)`, fewer where the file ends."""
        offset = max(offset, 0)
        end = min(offset + length, self.size_bytes)
        if end <= offset:
            return memoryview(b"")
        for start, data in self._kept:
            if start <= offset and end <= start + len(data):
                return memoryview(data)[offset - start : end - start]
        upto = min(max(end, offset + _MIN_REQUEST_BYTES), self.size_bytes)
        data = self._filesystem.cat_file(self._name, start=offset, end=upto)
        self.num_bytes_fetched += len(data)
        self._kept.append((offset, data))
        return memoryview(data)[: end - offset]

    def current_version(self) -> str:
        """Ask the store anew which version the file has."""
        self._filesystem.invalidate_cache()
        return version_of(self.path, self._status())

    def _status(self) -> Mapping[str, Any]:
        status: Mapping[str, Any] = self._filesystem.info(self._name)
        return status


def version_of(path: str, status: Mapping[str, Any]) -> str:
    """Return what tells one content of a remote file from another without reading it: content digest, ETag, version id, or time.

    Args:
        path: The file's URL, for the error.
        status: What fsspec's `info` or `find` tell of it.

    Raises:
        EpisodeError: The store tells none of these.
    """
    for field in _VERSION_FIELDS:
        if status.get(field):
            return str(status[field]).strip('"')
    for field in _TIME_FIELDS:
        if status.get(field):
            return f"{status['size']}-{status[field]}"
    raise EpisodeError(
        path, "the store tells neither version, ETag nor time of change, so a change would not be noticed. Copy it to a folder."
    )


def is_url(path: str) -> bool:
    """Whether `path` names something fsspec must open, such as `s3://bucket/a.mcap`."""
    return "://" in path


def is_outside(uri: str) -> bool:
    """Whether a media reference leads out of the folder that it is relative to: absolute, of another drive, upwards, or a URL.

    Links in the file system are not looked at: they are the work of who owns the disk, not of who made the recording.
    """
    path = uri.replace("\\", "/")
    if is_url(path) or path.startswith("/") or re.match(r"(?:[A-Za-z]|file):", path):
        return True
    return posixpath.normpath(path).split("/")[0] == ".."


def absolute_path(path: str) -> str:
    """Return a path as workers in other folders find it too; a URL as it is."""
    return path if is_url(path) else str(Path(path).absolute())


@contextmanager
def open_source(path: str | Path) -> Iterator[ByteSource]:
    """Open a recording for random access; closed when the `with` block ends.

    A local file is read into memory as a whole: what is hashed, checked and converted are then the very same bytes, whatever happens to the
    file meanwhile. A URL is read by ranges.

    Raises:
        OSError: The file is missing or unreadable.
    """
    text = str(path)
    if is_url(text):
        yield RemoteSource(text)
    else:
        yield MemorySource(text, Path(path).read_bytes())


def read_stamped(path: Path) -> tuple[bytes, FileStamp | None]:
    """Read a local file; with it the stamp that it had before and after, None where it changed meanwhile.

    Raises:
        OSError: The file is missing or unreadable.
    """
    with path.open("rb", buffering=0) as file:
        before = FileStamp.of(os.fstat(file.fileno()))
        content = file.read()
        after = FileStamp.of(path.stat())
    return content, before if before == after else None


@contextmanager
def open_listed(path: str | Path, digest: str, stamp: FileStamp | None = None) -> Iterator[ByteSource]:
    """Open a file whose content must be the listed one, at the start and at the end of the `with` block.

    Args:
        path: Local path or URL.
        digest: Of the bytes, see `store/digests.py`; or `version:<id>`, which is compared with what the store says before and after.
        stamp: The stamp under which a local file had this digest. While it has it still, it is not digested again.

    Raises:
        ChangedError: It is another content, or gone.
        OSError: The file is unreadable.
    """
    if not digest.startswith(VERSION_PREFIX):
        try:
            content, found = read_stamped(Path(path))
        except FileNotFoundError as error:
            raise ChangedError(
                path,
                "is gone since it was listed. Bring it back, or run `dvc repro` again (after `owa-data scan` where raw.watch is a list)",
            ) from error
        with _naming(path):
            # The file is in memory now: what was compared is what is read.
            if stamp is None or found != stamp:
                _compare(path, "digest", digest_like(digest, content), digest)
            yield MemorySource(str(path), content)
        return
    with open_source(path) as source, _naming(path):
        assert isinstance(source, RemoteSource), path
        listed = digest.removeprefix(VERSION_PREFIX)
        _compare(path, "version", source.version, listed)
        yield source
        _compare(path, "version", source.current_version(), listed)


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Name the file in whatever goes wrong while it is read."""
    try:
        yield
    except (OwaDataError, OSError):
        raise
    except MemoryError as error:
        raise EpisodeError(path, "not enough memory to convert it. Set runtime.num_workers lower, or leave it out") from error
    except (
        Exception
    ) as error:  # a fault of this program in one episode: it is told with its traceback, and the other episodes go on
        logger.exception("%s", path)
        raise EpisodeError(
            path,
            f"{type(error).__name__}: {error}. This is a fault of owa-data: please report it with the traceback above. The recording can be left "
            "out with raw.exclude until then",
        ) from error


def _compare(path: str | Path, name: str, found: str, listed: str) -> None:
    if found == listed:
        return
    differs = f"({name} {shorten_digest(found)}..., listed {shorten_digest(listed)}...)"
    if listed.startswith(SHARD_PREFIX):
        raise ChangedError(
            path,
            f"it is not what was written {differs}: the disk or another program damaged it. Drop it with `owa-data cache verify`, then make it again "
            "with `dvc repro --force`.",
        )
    raise ChangedError(
        path,
        f"its content changed since it was listed, or while it was read {differs}. Wait until it is complete, then run `dvc repro --force raw` (after "
        "`owa-data scan` where raw.watch is a list).",
    )
