"""Which recordings are there: files below a folder or URL, chosen by globs."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath

from owa_data.errors import EpisodeError, ParamsError
from owa_data.params import RawParams
from owa_data.store.dataset_folder import COMPUTED_NAME, NO_EPISODES, STATE_FILES, shard_name
from owa_data.store.source import is_url, version_of

logger = logging.getLogger(__name__)

SUFFIX = ".mcap"
_MAX_NAME_BYTES = 255  # of a file, on all usual file systems


@dataclass(frozen=True)
class FoundRecording:
    """One recording below `raw.dir`.

    `version` is what tells one content from another without reading: of a URL its version id or ETag, of a file its time and inode.
    """

    episode_path: str
    path: str
    size_bytes: int
    version: str


def find_recordings(params: RawParams, warn: Callable[..., None] = logger.warning) -> list[FoundRecording]:
    """List the recordings that `raw.include`, `raw.exclude` and `raw.limit` choose, sorted by `episode_path`.

    Args:
        params: Knobs of `raw`.
        warn: Is told, as a logger is, of what may hold recordings but cannot be looked into.

    Raises:
        ParamsError: The folder does not exist, nothing in it is chosen, or a glob of `raw.split.test` matches nothing that is chosen.
    """
    found = _list_url(params.dir) if is_url(params.dir) else _list_folder(params.dir, warn)
    if not found:
        raise ParamsError(
            "raw.dir", f"there is no file ending in {SUFFIX} below {params.dir!r}. Name the folder of your recordings"
        )
    chosen = sorted(choose(found, params), key=lambda recording: recording.episode_path)
    if not chosen:
        raise ParamsError(
            "raw.dir",
            f"no recording in {params.dir!r} is chosen by raw.include = {list(params.include)} and "
            f"raw.exclude = {list(params.exclude)}; there are {len(found)} files ending in {SUFFIX}",
        )
    paths = [recording.episode_path for recording in found]
    for key, globs in (("raw.include", params.include), ("raw.exclude", params.exclude)):
        for glob in unmatched_globs(globs, paths):
            logger.warning("%s: %r matches none of %d files ending in %s in %s", key, glob, len(paths), SUFFIX, params.dir)
    # Held against what stands before raw.limit: a trial with few episodes needs no other split.
    if unmatched := unmatched_globs(params.split.test, [recording.episode_path for recording in chosen]):
        raise ParamsError(
            "raw.split.test",
            f"{unmatched} match no episode, so that what was to be held out would be in train. Episodes are "
            f"{chosen[0].episode_path!r} and so on; correct the glob, `**/` crosses folders",
        )
    for recording in chosen:
        try:
            recording.episode_path.encode()
        except UnicodeEncodeError as error:
            raise ParamsError(
                "raw.dir", f"the file name {recording.episode_path!r} is not UTF-8. Rename it, or leave it out with raw.exclude"
            ) from error
    _check_names([recording.episode_path for recording in chosen])
    return chosen[: params.limit or None]


def _check_names(episode_paths: Sequence[str]) -> None:
    """Check that each recording can have its shard: `a.mcap` becomes `a.arrow`."""
    known = set(episode_paths)
    for path in episode_paths:
        if COMPUTED_NAME.fullmatch(shard_name(path).rpartition("/")[2]):
            raise ParamsError(
                "raw.dir",
                f"the shard of {path!r} would have the name of a cache file of `datasets`, which DVC leaves out. Rename the recording, or leave "
                "it out with raw.exclude",
            )
        first, _, rest = path.partition("/")
        if rest and first in (*STATE_FILES, NO_EPISODES):
            raise ParamsError(
                "raw.dir",
                f"the folder of {path!r} has the name of a dataset's own file. Rename it, or leave it out with raw.exclude",
            )
        if len(os.fsencode(shard_name(path).rpartition("/")[2])) > _MAX_NAME_BYTES:
            raise ParamsError(
                "raw.dir", f"the name of {path!r} is too long for its shard. Rename it, or leave it out with raw.exclude"
            )
        for parent in PurePosixPath(path).parents if ".arrow/" in path else ():
            if parent.suffix == ".arrow" and (other := str(parent.with_suffix(SUFFIX))) in known:
                raise ParamsError(
                    "raw.dir",
                    f"the shard of {other!r} would stand where the folder of {path!r} must be. Rename one, or leave it out with raw.exclude",
                )


def choose(found: Iterable[FoundRecording], params: RawParams) -> list[FoundRecording]:
    """Apply `raw.include` and `raw.exclude`."""
    return [recording for recording in found if is_chosen(recording.episode_path, params)]


def is_chosen(episode_path: str, params: RawParams) -> bool:
    """Whether `raw.include` and `raw.exclude` let a recording be used."""
    return matches_any(episode_path, params.include) and not matches_any(episode_path, params.exclude)


def unmatched_globs(globs: Iterable[str], paths: Sequence[str]) -> list[str]:
    """Return the globs that match none of the paths."""
    return [glob for glob in globs if not any(matches_any(path, (glob,)) for path in paths)]


def matches_any(path: str, globs: Iterable[str]) -> bool:
    """Whether a POSIX path matches any glob: `*` and `?` stay within a folder, `**/` crosses any number of them, none included."""
    return any(_glob_pattern(glob).fullmatch(path) for glob in globs)


@lru_cache(maxsize=256)
def _glob_pattern(glob: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    forms = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(forms.get(part, re.escape(part)) for part in parts), re.DOTALL)


def _list_folder(folder: str, warn: Callable[..., None]) -> list[FoundRecording]:
    root = Path(folder)
    if not root.is_dir():
        raise ParamsError(
            "raw.dir",
            f"{folder!r} is no folder. Build the sample with `dvc repro data/sample/dvc.yaml`, or name yours (written out, `~` means nothing here)",
        )
    found = []
    prefix = os.path.join(root, "")  # noqa: PTH118 - text takes a fifth of the time that `Path` does, which shows with thousands of recordings
    for parent, _, names in os.walk(root, onerror=partial(_tell, warn)):
        for name in names:
            path = os.path.join(parent, name)  # noqa: PTH118
            if not name.endswith(SUFFIX):
                continue
            try:
                status = os.stat(path)  # noqa: PTH116
            except OSError as error:
                if os.path.islink(path):  # noqa: PTH114
                    warn("%s is a link to nothing: left out", path)
                else:
                    _tell(warn, error)
                continue
            if not stat.S_ISREG(status.st_mode):
                continue
            version = f"{status.st_mtime_ns}-{status.st_ino}"
            found.append(FoundRecording(path.removeprefix(prefix), path, status.st_size, version))
    return found


def _tell(warn: Callable[..., None], error: OSError) -> None:
    """Raise what goes wrong while a folder is listed, since it may hold recordings; one that is not ours to look into is told of."""
    if not isinstance(error, PermissionError):
        raise error
    warn("%s may not be looked into: left out, with what it holds", error.filename)


@contextmanager
def told_if_private(path: str) -> Iterator[None]:
    """Name the remedy where a recording may not be read.

    Raises:
        EpisodeError: It may not.
    """
    try:
        yield
    except PermissionError as error:
        if str(error.filename) != path:
            raise  # of something else, such as the shard cache
        raise EpisodeError(path, "it may not be read. Let it be read (`chmod +r`), or leave it out with raw.exclude") from error


def _list_url(url: str) -> list[FoundRecording]:
    import fsspec

    try:
        filesystem, root = fsspec.core.url_to_fs(url)
        root = root.rstrip("/")
        filesystem.invalidate_cache()
        files = filesystem.find(root, detail=True)
    except (ValueError, ImportError) as error:  # no such kind of store, none installed for it, or no bucket
        raise ParamsError("raw.dir", f"{url!r} cannot be listed: {error}") from error
    found = []
    for name, info in files.items():
        if name.endswith(SUFFIX):
            path = filesystem.unstrip_protocol(name)
            found.append(FoundRecording(name[len(root) + 1 :], path, int(info["size"]), version_of(path, info)))
    return found
