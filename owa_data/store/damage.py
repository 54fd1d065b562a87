"""Shards whose bytes are no longer those that were written: found by their digests, and dropped wherever the pipeline would take them from.

A shard has several names: in the shard cache, in the DVC cache and in datasets. Where these are hard links, one bad block or one write by another
program damages all of them, and a build takes the shard by its name without reading it. Cost: all bytes are read once.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from owa_data.store.cache_upkeep import read_contents
from owa_data.store.dataset_folder import read_any_lineage, shard_name
from owa_data.store.digests import ShardDigest
from owa_data.store.shard_cache import ShardCache

_Inode = tuple[int, int]  # device and number
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class StoredShard:
    """One file and its names, that in the shard cache first. `key` is "" where the shard cache has it not; its bytes should have `digest`, "" where they cannot."""

    paths: tuple[Path, ...]
    key: str
    digest: str
    size_bytes: int


def list_shards(cache: ShardCache, datasets: Sequence[Path]) -> list[StoredShard]:
    """List the shards of the shard cache and of dataset folders; a file that both have, once. What is missing is not listed.

    Raises:
        SchemaError: A folder of `datasets` is none.
    """
    files: dict[_Inode, StoredShard] = {}
    for cached in read_contents(cache).shards:
        path, record = cache.path_of(cached.key), cache.find(cached.key)
        # Without a record it has not even the size that was written. Extended tokenizers are held to their digest as well.
        digest = record.digest if record is not None else ""
        files[_inode_of(path)] = StoredShard((path,), cached.key, digest, cached.size_bytes)
    for folder in datasets:
        for episode in read_any_lineage(folder).episodes:
            path = folder / episode.split / shard_name(episode.episode_path)
            if path.is_file():
                inode = _inode_of(path)
                known = files.get(inode, StoredShard((), "", episode.digest, episode.size_bytes))
                files[inode] = replace(known, paths=(*known.paths, path))
    return list(files.values())


def find_damaged(shards: Sequence[StoredShard], advance: Callable[[int], None]) -> Iterator[StoredShard]:
    """Read shards and give those whose bytes are not those of their digest, or that the disk cannot read; calls `advance` with the index of each."""
    for index, shard in enumerate(shards):
        if not shard.digest or _digest_of(shard) != shard.digest:
            yield shard
        advance(index)


def drop_damaged(damaged: Sequence[StoredShard], cache: ShardCache, stores: Sequence[Path]) -> list[Path]:
    """Remove damaged shards from the shard cache, and every file below `stores` that is the same file. Call it within `cache.alone()`.

    Dataset folders keep theirs: DVC replaces those.

    Returns:
        The names that were removed.
    """
    inodes = {_inode_of(shard.paths[0]) for shard in damaged}
    dropped = []
    for store in stores:
        for path in sorted(path for path in store.rglob("*") if path.is_file() and _inode_of(path) in inodes):
            path.unlink()
            dropped.append(path)
    for shard in damaged:
        if shard.key:
            path = cache.path_of(shard.key)
            Path(f"{path}.json").unlink(missing_ok=True)  # first: it alone says "finished"
            path.unlink(missing_ok=True)
            dropped.append(path)
    return dropped


def _inode_of(path: Path) -> _Inode:
    status = path.stat()
    return status.st_dev, status.st_ino


def _digest_of(shard: StoredShard) -> str:
    """Digest of the file as it is now, "" where the disk has a bad block. Not by `mmap`, in which a bad block ends the process."""
    digest = ShardDigest()
    with shard.paths[0].open("rb", buffering=0) as file:
        try:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return ""
    return digest.text()
