"""The watch list: the recordings with size and digest, in a small file that git tracks and DVC watches.

`owa-data scan` rewrites it in seconds: files whose size, times and inode are as remembered are not read again; videos never are. For URLs the
digest is the store's version id or ETag.

    {"dir": "/data/d2e"}
    {"episode_path": "apex/0001.mcap", "size_bytes": 16117342, "sha256": "..."}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

import msgspec

from owa_data.errors import BROKEN_JSON, ParamsError
from owa_data.params import RawParams
from owa_data.raw.discover import FoundRecording, find_recordings, is_chosen, told_if_private
from owa_data.store.digest_memory import DigestMemory
from owa_data.store.digests import VERSION_PREFIX
from owa_data.store.source import is_url
from owa_data.store.whole_file import write_whole


class _Head(msgspec.Struct, frozen=True):
    dir: str


class WatchedRecording(msgspec.Struct, frozen=True):
    """One line of the list. `sha256` is the digest of the `.mcap`, or `version:<id>` for a URL."""

    episode_path: str
    size_bytes: int
    sha256: str


def digest_of(recording: FoundRecording, memory: DigestMemory) -> str:
    """Return the digest by which a recording is known; reads a local file only where it changed since it was last read."""
    if is_url(recording.path):
        return VERSION_PREFIX + recording.version
    with told_if_private(recording.path):
        return memory.sha256_of(Path(recording.path))


def write_watch_list(path: Path, params: RawParams, memory: DigestMemory) -> tuple[int, int, int]:
    """List the recordings of `raw.dir` in a file.

    Returns:
        Number of recordings, of those that are new or changed against the former list, and of those that are gone since.
    """
    former: dict[str, WatchedRecording] = {}
    with suppress(FileNotFoundError, ParamsError):  # no list, or one that cannot be read: it is written anew
        former = {row.episode_path: row for row in _read(path)[1]}
    found = find_recordings(params)
    rows = [WatchedRecording(part.episode_path, part.size_bytes, digest_of(part, memory)) for part in found]
    lines = [msgspec.json.encode(part) for part in (_Head(params.dir), *rows)]
    write_whole(path, b"".join(line + b"\n" for line in lines))
    num_gone = len(former.keys() - {row.episode_path for row in rows})
    return len(rows), sum(former.get(row.episode_path) != row for row in rows), num_gone


def check_watch(params: RawParams) -> list[WatchedRecording] | None:
    """Check that `raw.watch` speaks of `raw.dir`: it is that folder, or a list made for it.

    Returns:
        What the list holds; None where DVC watches the folder itself.

    Raises:
        ParamsError: It is another folder, no list, or a list made for another folder; or `raw.dir` leaves the repository.
    """
    if not is_url(params.dir) and not Path(params.dir).is_absolute() and ".." in PurePosixPath(params.dir).parts:
        raise ParamsError(
            "raw.dir",
            f"{params.dir!r} leaves the repository by a relative path, which experiments in temporary folders cannot follow. "
            "Name an absolute path, or bring the recordings in with `dvc add` or `dvc import-url`",
        )
    if params.watch == params.dir:
        if is_url(params.dir):
            raise ParamsError(
                "raw.watch", "DVC cannot watch a URL; name a list such as data/recordings.jsonl and run `owa-data scan`"
            )
        return None
    path = Path(params.watch)
    if path.is_dir():
        raise ParamsError(
            "raw.watch", f"is the folder {params.watch!r}, but raw.dir is {params.dir!r}. Set both to the same, or name a list"
        )
    if not path.exists():
        raise ParamsError("raw.watch", f"{params.watch!r} does not exist. `owa-data scan` writes the list")
    listed_dir, listed = _read(path)
    if listed_dir != params.dir:
        raise ParamsError(
            "raw.watch", f"{params.watch!r} was made for {listed_dir!r}, but raw.dir is {params.dir!r}. Run `owa-data scan`"
        )
    return listed


def compare_watch(listed: Sequence[WatchedRecording], found: Mapping[str, str], params: RawParams) -> None:
    """Check that the list names just what is there: DVC knows of changes through the list alone.

    Args:
        listed: What `check_watch` returned.
        found: Digests of the chosen recordings by `episode_path`.
        params: The stage's params.

    Raises:
        ParamsError: Recordings are new, changed or gone since the list was written.
    """
    digests = {row.episode_path: row.sha256 for row in listed}
    new = sorted(set(found) - set(digests))
    changed = sorted(path for path in set(found) & set(digests) if found[path] != digests[path])
    chosen = [path for path in digests if is_chosen(path, params)]
    gone = [] if params.limit else sorted(set(chosen) - set(found))
    if new or changed or gone:
        raise ParamsError(
            "raw.watch",
            f"{params.watch!r} is not up to date: {len(new)} new, {len(changed)} changed, {len(gone)} gone, such as "
            f"{(new + changed + gone)[0]!r}. Run `owa-data scan`",
        )


def _read(path: Path) -> tuple[str, list[WatchedRecording]]:
    lines = path.read_bytes().splitlines()
    try:
        head = msgspec.json.decode(lines[0] if lines else b"", type=_Head)
        return head.dir, [msgspec.json.decode(line, type=WatchedRecording) for line in lines[1:]]
    except BROKEN_JSON as error:
        raise ParamsError(
            "raw.watch", f"{path} is no list of recordings ({error}). Run `owa-data scan` to write it anew"
        ) from error
