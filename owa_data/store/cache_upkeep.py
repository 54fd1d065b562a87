"""What lies in the shard cache, and which of it can go.

A shard that a build linked has a second name in a dataset folder or in the DVC cache, so its bytes are not freed by dropping it here. What
nothing else links only serves to spare a conversion.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from owa_data.store.shard_cache import FETCHED_FOLDER, UNFINISHED_FOLDER, ShardCache

_KEY_DIGITS = 64
_GONE = ".gone"


@dataclass(frozen=True)
class CachedShard:
    """One finished shard. `num_links` counts its names in all: 1 where only the shard cache has it. `age_s` is since it was made."""

    key: str
    size_bytes: int
    num_links: int
    age_s: float

    @property
    def is_linked_elsewhere(self) -> bool:
        """Whether a dataset folder or the DVC cache has it too."""
        return self.num_links > 1


@dataclass(frozen=True)
class LeftOver:
    """A file of a build that ended before it was finished."""

    path: Path
    size_bytes: int
    age_s: float


@dataclass(frozen=True)
class Contents:
    """What lies in a shard cache.

    Attributes:
        shards: Finished shards, sorted by key; extended tokenizers, which are stored the same way, among them.
        remembered: Results that are a record alone, without a file: facts of recordings.
        leftovers: Unfinished files.
    """

    shards: list[CachedShard]
    remembered: list[CachedShard]
    leftovers: list[LeftOver]


@dataclass(frozen=True)
class Upkeep:
    """What was dropped, or would be. `freed_bytes` leaves out shards that something else still links."""

    shards: list[CachedShard]
    remembered: list[CachedShard]
    leftovers: list[LeftOver]

    @property
    def freed_bytes(self) -> int:
        """Bytes that the disk has more afterwards."""
        alone = sum(shard.size_bytes for shard in self.shards if not shard.is_linked_elsewhere)
        return alone + sum(part.size_bytes for part in self.leftovers)


def read_contents(cache: ShardCache) -> Contents:
    """List a shard cache. Cost: one stat per file."""
    now = time.time()
    contents = Contents([], [], [])
    for path in sorted((cache.root / UNFINISHED_FOLDER).glob("*")):
        with suppress(FileNotFoundError):  # a build finished it meanwhile
            status = path.stat()
            contents.leftovers.append(LeftOver(path, status.st_size, now - status.st_mtime))
    for folder in sorted(path for path in cache.root.glob("??") if path.is_dir()):
        names = {path.name for path in folder.iterdir()}
        for name in sorted(names):
            try:
                status = (folder / name).stat()
            except FileNotFoundError:  # dropped meanwhile
                continue
            age_s = now - status.st_mtime
            is_record = name.endswith(".json") and len(name) == _KEY_DIGITS + 5
            if is_record and name.removesuffix(".json") in names:
                continue  # told with its shard
            if len(name) != _KEY_DIGITS or f"{name}.json" not in names:
                contents.leftovers.append(LeftOver(folder / name, status.st_size, age_s))
                continue
            shard = CachedShard(name, status.st_size, status.st_nlink, age_s)
            (contents.shards if shard.size_bytes else contents.remembered).append(shard)
    return contents


def choose_droppable(
    contents: Contents, *, min_age_s: float, referenced: Collection[str] | None, remembered_too: bool = False
) -> Upkeep:
    """Choose what can go.

    Args:
        contents: From `read_contents`.
        min_age_s: Nothing younger is chosen.
        referenced: Keys to keep, all other shards go; or None: those go that nothing else links.
        remembered_too: Also choose what is remembered of recordings; they are then read again.
    """

    def can_go(shard: CachedShard) -> bool:
        return not shard.is_linked_elsewhere if referenced is None else shard.key not in referenced

    return Upkeep(
        [shard for shard in contents.shards if shard.age_s >= min_age_s and can_go(shard)],
        [part for part in contents.remembered if part.age_s >= min_age_s] if remembered_too else [],
        [part for part in contents.leftovers if part.age_s >= min_age_s],
    )


def drop(cache: ShardCache, upkeep: Upkeep) -> None:
    """Remove what was chosen. Call it within `cache.alone()`. A shard's record goes first: it alone says "finished"."""
    _drop_results(cache, [*upkeep.shards, *upkeep.remembered])
    for part in upkeep.leftovers:
        part.path.unlink(missing_ok=True)


def find_fetched(cache: ShardCache) -> list[Path]:
    """Return the folders of the datasets that were fetched from elsewhere."""
    return sorted(path for path in (cache.root / FETCHED_FOLDER).glob("*") if path.is_dir())


def drop_fetched(cache: ShardCache) -> None:
    """Remove the datasets that were fetched from elsewhere; call it within `cache.alone()`.

    They hold their shards by hard links, so that what is chosen after this can be freed.
    """
    # Moved away first: a folder that was half removed would pass for a dataset. What an earlier call left of some makes place for others.
    for folder in sorted(find_fetched(cache), key=lambda folder: folder.suffix != _GONE):
        gone = folder if folder.suffix == _GONE else folder.rename(f"{folder}{_GONE}")
        shutil.rmtree(gone)


def _drop_results(cache: ShardCache, results: Sequence[CachedShard]) -> None:
    for result in results:
        path = cache.path_of(result.key)
        Path(f"{path}.json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)
