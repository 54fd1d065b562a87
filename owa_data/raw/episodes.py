"""The episode index `data/episodes.jsonl`: one JSON object per episode, sorted by `episode_path`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from owa_data.errors import BROKEN_JSON, SchemaError
from owa_data.raw.index import SALVAGED, SOUND, UNCHECKED, TopicFacts
from owa_data.raw.layout import Damage
from owa_data.store.dataset_folder import shard_name
from owa_data.store.source import Trust
from owa_data.store.whole_file import write_whole

_TRUST: dict[str, Trust] = {SOUND: "bytes", UNCHECKED: "summary", SALVAGED: "nothing"}


class Media(msgspec.Struct, frozen=True):
    """One referenced file. `uri` is as recorded, with slashes.

    `size_bytes` is -1 where it does not exist or was not looked for (a URL), `num_references` where they were not counted (`unchecked`).
    `outside`: it leads out of the recording's folder (absolute, `..`, a URL), so it was not looked for and loaders refuse it.
    """

    uri: str
    num_references: int
    exists: bool
    size_bytes: int
    outside: bool = False


class Episode(msgspec.Struct, frozen=True):
    """One line of the index.

    Attributes:
        episode_path: POSIX path of the `.mcap` below `raw.dir`.
        size_bytes: Size of the `.mcap`.
        sha256: Digest of the `.mcap`; `version:<id>` for one that is read in place from a URL.
        profile: MCAP profile; `owa` for OWAMcap.
        library: What wrote it, with version.
        start_ns: First log time; 0 without messages.
        end_ns: Last log time.
        num_messages: Messages that can be read.
        topics: By name.
        media: Files that screens reference.
        split: `train` or `test`.
        group: See `raw.group_by`.
        condition: `sound`, `salvaged`, or `unchecked`: read in place from a URL, where its summary is trusted until chunks are read.
        damage: What is wrong, empty if sound.
        metadata: Columns of `raw.metadata`.
    """

    episode_path: str
    size_bytes: int
    sha256: str
    profile: str
    library: str
    start_ns: int
    end_ns: int
    num_messages: int
    topics: dict[str, TopicFacts]
    media: list[Media]
    split: str
    group: str
    condition: str
    damage: list[Damage]
    metadata: dict[str, Any]

    @property
    def trust(self) -> Trust:
        """What who reads the recording again may take for granted."""
        return _TRUST[self.condition]

    @property
    def duration_ns(self) -> int:
        """From the first to the last message, both included."""
        return self.end_ns - self.start_ns + 1 if self.num_messages else 0


def write_episodes(path: Path, episodes: list[Episode]) -> None:
    """Write the index, whole or not at all."""
    lines = [msgspec.json.encode(episode, order="deterministic") for episode in sorted(episodes, key=lambda e: e.episode_path)]
    write_whole(path, b"".join(line + b"\n" for line in lines))


def read_episodes(path: Path) -> list[Episode]:
    """Read the index.

    Raises:
        SchemaError: It is missing or not readable, or names a file outside the folder of the recordings.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError as error:
        raise SchemaError(f"{path} does not exist: build it with `dvc repro raw`") from error
    try:
        episodes = [msgspec.json.decode(line, type=Episode) for line in lines]
    except BROKEN_JSON as error:
        raise SchemaError(f"{path} is not readable ({error}): rebuild it with `dvc repro --force raw`") from error
    for episode in episodes:
        shard_name(episode.episode_path)  # refuses those that lead out of their folder
    return episodes
