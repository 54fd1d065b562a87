"""Finished shards by key: published by atomic rename, read-only, hard-linked into datasets.

    <root>/<first two digits>/<key>         the shard
    <root>/<first two digits>/<key>.json    its record: digest, rows, ledger; written after the shard, so it alone says "finished"

Any number of builds share a cache: equal keys have equal bytes, so the last one to publish changes nothing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import msgspec
import platformdirs

from owa_data.errors import BROKEN_JSON

ENVIRONMENT = "OWA_DATA_SHARD_CACHE"
FOLDER = "owa-shards"
FETCHED_FOLDER = "fetched"  # datasets from elsewhere, see store/remote.py
LOCK_FILE = ".lock"
UNFINISHED_FOLDER = "unfinished"  # one folder for all, so that what killed builds left is found without a look at every shard
_LEFTOVER_AGE_S = 24 * 3600


class ShardRecord(msgspec.Struct, frozen=True):
    """What is known of a finished shard. `digest` and `size_bytes` are of the file.

    `ledger` is the conversion's; where the cache remembers something else than a shard, it is that: the facts of a recording, a vocabulary.
    """

    key: str
    digest: str
    size_bytes: int
    num_rows: int
    ledger: dict[str, Any]


def default_cache_root(dvc_cache_dir: Path | None) -> Path:
    """Return where the shard cache lies: `OWA_DATA_SHARD_CACHE`, else inside the DVC cache, else the user's cache folder."""
    if configured := os.environ.get(ENVIRONMENT):
        return Path(configured)
    return dvc_cache_dir / FOLDER if dvc_cache_dir else platformdirs.user_cache_path("owa-data") / FOLDER


_RECORD_DECODER = msgspec.json.Decoder(ShardRecord)


class ShardCache:
    """Shards and other results by key, below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root_name = str(root)

    def path_of(self, key: str) -> Path:
        """Where the shard of a key lies, finished or not."""
        return Path(self._name_of(key))

    def _name_of(self, key: str) -> str:
        # Asked for every episode of every build: joining text takes a tenth of the time that `Path` does.
        return f"{self._root_name}/{key[:2]}/{key}"

    def find(self, key: str) -> ShardRecord | None:
        """Return the record of a finished shard, None where there is none."""
        name = self._name_of(key)
        try:
            with open(f"{name}.json", "rb", buffering=0) as file:  # noqa: PTH123 - see `_name_of`
                record = _RECORD_DECODER.decode(file.read())
        except (FileNotFoundError, *BROKEN_JSON):
            return None
        return record if self.is_there(record) else None

    def is_there(self, record: ShardRecord) -> bool:
        """Whether the shard of a record is in the cache; one look at the file's status."""
        try:
            return os.stat(self._name_of(record.key)).st_size == record.size_bytes  # noqa: PTH116 - see `_name_of`
        except FileNotFoundError:
            return False

    def temporary_path(self, key: str) -> Path:
        """Return a new empty file for a shard to be written to, on the same file system as its place."""
        folder = self.root / UNFINISHED_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=f"{key[:16]}.", suffix=".tmp")
        os.close(descriptor)
        return Path(name)

    def publish(self, record: ShardRecord, shard: Path) -> None:
        """Put a written shard, made by `temporary_path`, in its place together with its record."""
        path = self.path_of(record.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        shard.chmod(0o444)
        shard.replace(path)
        sidecar = self.temporary_path(record.key)
        sidecar.write_bytes(msgspec.json.encode(record, order="deterministic"))
        sidecar.chmod(0o444)
        sidecar.replace(f"{path}.json")

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep shards from being dropped: any number of builds hold this at once, `store/cache_upkeep.py` only when none does.

        Waits while shards are being dropped, which takes seconds.
        """
        with _open_lock(self.root) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Give True and keep builds waiting, or give False where one holds `in_use` now."""
        with _open_lock(self.root) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_alone = True
            except BlockingIOError:
                is_alone = False
            yield is_alone

    def sweep(self) -> None:
        """Remove unfinished files of builds that were killed: those older than a day."""
        oldest = time.time() - _LEFTOVER_AGE_S
        for path in (self.root / UNFINISHED_FOLDER).glob("*"):
            with suppress(OSError):  # another build swept it
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def link(self, key: str, target: Path | str) -> None:
        """Make `target` the shard: a hard link, or a copy where the file system has none."""
        link_or_copy(self._name_of(key), target)


def _open_lock(root: Path) -> IO[bytes]:
    # A lock on it is given back when the file is closed, by a killed process too.
    root.mkdir(parents=True, exist_ok=True)
    return (root / LOCK_FILE).open("ab")


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """Hard-link a file, or copy it where that is not possible (another file system, no permission, too many links)."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)
