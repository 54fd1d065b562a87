"""Train or test: by metadata, by globs, by held-out group, or by a stable hash of the episode's path."""

from __future__ import annotations

import hashlib
from typing import Any

from owa_data.errors import ParamsError
from owa_data.params import SplitParams
from owa_data.raw.discover import matches_any
from owa_data.schema import SPLITS

SPLIT_COLUMN = "split"
FOLDER = "folder"
NO_GROUP = "."


def hash_fraction(episode_path: str, salt: str) -> float:
    """Return a number in [0, 1) that depends on the path and the salt alone, so that adding an episode never moves another."""
    digest = hashlib.sha256(f"{salt}\0{episode_path}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def group_of(episode_path: str, metadata: dict[str, Any], group_by: str) -> str:
    """Return the group of an episode: its first folder, or a metadata column; `.` where there is none."""
    if group_by == FOLDER:
        folder, _, rest = episode_path.partition("/")
        return folder if rest else NO_GROUP
    return str(metadata.get(group_by, NO_GROUP))


def split_of(episode_path: str, metadata: dict[str, Any], group: str, params: SplitParams) -> str:
    """Return the split of an episode; see `SplitParams` for what decides first.

    Raises:
        ParamsError: The metadata names another split than train or test.
    """
    if (named := metadata.get(SPLIT_COLUMN)) is not None:
        if named not in SPLITS:
            raise ParamsError("raw.metadata", f"split of {episode_path!r} is {named!r}; possible: {', '.join(SPLITS)}")
        return str(named)
    if params.test or params.test_groups:
        return "test" if matches_any(episode_path, params.test) or group in params.test_groups else "train"
    return "test" if hash_fraction(episode_path, params.salt) < params.test_fraction else "train"
