"""Digests of files: of recordings sha256, of shards XXH3; and the stamp that tells whether a file is as it was.

A recording's sha256 is its name in the index, so that anyone can check it with common tools. A shard is only ever held to what was written
here, so its digest is the fastest that finds damage: 128-bit XXH3, about 20 GB/s, against 1.5 GB/s of sha256.
"""

from __future__ import annotations

import hashlib
import os

import msgspec
import xxhash

SHARD_PREFIX = "xxh3:"
VERSION_PREFIX = "version:"  # a digest that names a store's version of a file, not its bytes
# A file written within this time before it was hashed could change once more without new times (coarse clocks).
_SETTLED_NS = 2_000_000_000


class FileStamp(msgspec.Struct, frozen=True, array_like=True):
    """What a local file's status says of its content.

    While all four stay, so do the bytes, unless the disk itself changes them: the change time cannot be set back, as the modification time can
    by `rsync -t` or `cp -p`.
    """

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileStamp:
        """Take the stamp of a status."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def was_settled(self, at_ns: int) -> bool:
        """Whether the file had been written long enough before a moment for a change after it to show; `at_ns` as `time.time_ns()` then was."""
        return at_ns - max(self.mtime_ns, self.ctime_ns) > _SETTLED_NS


class ShardDigest:
    """Digest of a shard, made while its bytes pass."""

    def __init__(self) -> None:
        self._state = xxhash.xxh3_128()

    def update(self, data: object) -> None:
        """Add a block of bytes."""
        self._state.update(data)  # type: ignore[arg-type]  # any buffer

    def text(self) -> str:
        """Return the digest as `xxh3:` and 32 hex digits."""
        return SHARD_PREFIX + self._state.hexdigest()


def digest_like(listed: str, content: bytes | memoryview) -> str:
    """Return the digest of `content`, of the kind that `listed` is: `xxh3:` and 32 hex digits, or the 64 of sha256."""
    if listed.startswith(SHARD_PREFIX):
        return SHARD_PREFIX + xxhash.xxh3_128_hexdigest(content)
    return sha256_of(content)


def sha256_of(content: bytes | memoryview) -> str:
    """Return the digest of a recording's bytes, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def shorten_digest(digest: str) -> str:
    """Return the first characters of a digest, for messages."""
    return digest[: len(SHARD_PREFIX) + 12] if digest.startswith(SHARD_PREFIX) else digest[:12]
