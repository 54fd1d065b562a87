"""A dataset on disk: shards and the small files by which plain `datasets.load_from_disk` reads them.

    <folder>/dataset_dict.json  owa.json
    <folder>/<split>/state.json  dataset_info.json  <episode_path without .mcap>.arrow ...

The folder is put together beside its place and appears there by rename, whole or not at all.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from owa_data.errors import BROKEN_JSON, ParamsError, SchemaError
from owa_data.schema import SCHEMA_VERSION, SCHEMAS, SPLITS, huggingface_features
from owa_data.store.shard_cache import ShardCache
from owa_data.store.shards import write_shard

LINEAGE_FILE = "owa.json"
_KEY = re.compile("[0-9a-f]{64}")
NO_EPISODES = "no_episodes.arrow"
STATE_FILES = ("state.json", "dataset_info.json")  # of a split
COMPUTED_NAME = re.compile(
    "cache-[0-9a-f]{16}.*[.]arrow"
)  # what `datasets` writes beside the files of a dataset; also in .dvcignore
TOKENIZER_FILES = ("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json")  # beside the splits of fsl: what made the rows


class EpisodeLineage(msgspec.Struct, frozen=True):
    """Where the rows of one episode come from.

    `input_digest` is that of the `.mcap`, or of the event shard; `start_ns` the time of the recording's first message,
    `key_extra` what else of the episode is part of its key, see `store.incremental.EpisodeInput`.
    """

    episode_path: str
    split: str
    group: str
    metadata: dict[str, Any]
    key: str
    input_digest: str
    digest: str
    size_bytes: int
    num_rows: int
    ledger: dict[str, Any]
    start_ns: int = 0
    key_extra: dict[str, Any] = {}


class Lineage(msgspec.Struct, frozen=True):
    """Content of `owa.json`: what a dataset was made of, and how. `facts` holds what readers need, such as the image span."""

    kind: str
    schema_version: int
    code_version: str
    source_digest: str
    params: dict[str, Any]
    facts: dict[str, Any]
    episodes: list[EpisodeLineage]


class _KindAlone(msgspec.Struct):
    """What tells datasets from other folders, read ten times as fast as all of `owa.json`."""

    kind: str


def shard_name(episode_path: str) -> str:
    """Return the path of an episode's shard below its split's folder.

    Raises:
        SchemaError: The path leads out of that folder: an index or dataset from elsewhere does not decide where files are written or read.
    """
    if episode_path.startswith("/") or ".." in episode_path.split("/"):
        raise SchemaError(
            f"episode_path {episode_path!r} leads out of its folder: whoever wrote this index or dataset cannot be trusted"
        )
    return f"{episode_path.removesuffix('.mcap')}.arrow"


def check_lineage(lineage: Lineage, place: str) -> Lineage:
    """Check what of a lineage decides where files are read and written, since it may come from elsewhere.

    Raises:
        SchemaError: A key, split or path that this pipeline does not write.
    """
    for episode in lineage.episodes:
        shard_name(episode.episode_path)
        if not _KEY.fullmatch(episode.key) or episode.split not in SPLITS:
            raise SchemaError(
                f"{place}: episode {episode.episode_path!r} has key {episode.key[:80]!r} and split {episode.split[:80]!r}, which this pipeline does "
                "not write: whoever wrote it cannot be trusted"
            )
    return lineage


def no_files(folder: Path) -> None:
    """Add nothing."""


def check_replaceable(folder: Path, kind: str) -> None:
    """Check that a build may replace a folder: that it is absent, empty, or holds a dataset of this kind.

    Raises:
        ParamsError: It holds something else, which would be lost.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        found = msgspec.json.decode((folder / LINEAGE_FILE).read_bytes(), type=_KindAlone).kind
    except (FileNotFoundError, NotADirectoryError, *BROKEN_JSON):
        found = "something else"
    if found != kind:
        content = f"a dataset of kind {found}" if found in SCHEMAS else "files that are no dataset"
        raise ParamsError(
            "out_dir",
            f"{folder} holds {content}, and a build replaces the whole folder. Name another one, or move it away if nothing in it is needed",
        )


def write_dataset(
    folder: Path,
    lineage: Lineage,
    cache: ShardCache,
    add_files: Callable[[Path], None] = no_files,
    key_of: Callable[[EpisodeLineage], str] = attrgetter("key"),
) -> None:
    """Put a dataset together from finished shards and move it to `folder`, replacing the dataset that is there.

    Args:
        folder: The dataset's place.
        lineage: Content of `owa.json`.
        cache: Where the shards are.
        add_files: Puts further files into the folder that it is given, before that moves to its place.
        key_of: The key under which the cache has an episode's shard.

    Raises:
        ParamsError: See `check_replaceable`.
    """
    check_replaceable(folder, lineage.kind)
    building = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        for split in SPLITS:
            episodes = [episode for episode in lineage.episodes if episode.split == split]
            _write_split(building / split, split, lineage.kind, episodes, cache, key_of)
        (building / "dataset_dict.json").write_bytes(_json({"splits": list(SPLITS)}))
        (building / LINEAGE_FILE).write_bytes(_json(lineage))
        add_files(building)
        replace_folder(building, folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)  # where the disk is full, it would stay so
        raise


def _write_split(
    folder: Path,
    split: str,
    kind: str,
    episodes: Sequence[EpisodeLineage],
    cache: ShardCache,
    key_of: Callable[[EpisodeLineage], str],
) -> None:
    folder.mkdir()
    names = [shard_name(episode.episode_path) for episode in episodes]
    for parent in {name.rpartition("/")[0] for name in names}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    for episode, name in zip(episodes, names, strict=True):
        cache.link(key_of(episode), f"{folder}/{name}")
    if not names:
        # `load_from_disk` fails on a split without files; a shard of no rows loads as an empty split.
        write_shard(folder / NO_EPISODES, kind, [])
        names.append(NO_EPISODES)
    info = {"citation": "", "description": "", "features": huggingface_features(SCHEMAS[kind]), "homepage": "", "license": ""}
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": dataset_fingerprint(kind, split, episodes),
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    (folder / "dataset_info.json").write_bytes(_json(info))
    (folder / "state.json").write_bytes(_json(state))


def dataset_fingerprint(kind: str, split: str, episodes: Sequence[EpisodeLineage]) -> str:
    """Return the name by which `datasets` caches what is computed from a split: a function of its shards' keys."""
    return hashlib.sha256("".join([kind, split, *(episode.key for episode in episodes)]).encode()).hexdigest()[:16]


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2) + b"\n"


def replace_folder(new: Path, folder: Path) -> None:
    """Move a folder to a place that may be taken; the old content is removed after the new one stands."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def read_any_lineage(folder: Path | str, remedy: str = "dvc repro") -> Lineage:
    """Read `owa.json` of a dataset of any kind and version.

    Raises:
        SchemaError: There is no dataset; the message names `remedy`, a command.
    """
    path = Path(folder) / LINEAGE_FILE
    try:
        return check_lineage(msgspec.json.decode(path.read_bytes(), type=Lineage), str(path))
    except FileNotFoundError as error:
        raise SchemaError(f"{path} does not exist: build the dataset first, `{remedy}`, or fetch it with `dvc pull`") from error
    except BROKEN_JSON as error:
        raise SchemaError(f"{path} is not readable ({error}): rebuild the dataset, `{remedy}`") from error


def read_lineage(folder: Path | str, kind: str) -> Lineage:
    """Read `owa.json` of a dataset.

    Raises:
        SchemaError: There is no dataset of this kind and version.
    """
    lineage = read_any_lineage(folder, f"dvc repro {kind}")
    if lineage.kind != kind:
        raise SchemaError(
            f"{folder} holds a dataset of kind {lineage.kind}; wanted: {kind}. Name the folder of one, such as data/{kind}"
        )
    if lineage.schema_version != SCHEMA_VERSION[kind]:
        raise SchemaError(
            f"{folder} has schema version {lineage.schema_version} of {kind}; wanted: {SCHEMA_VERSION[kind]}. Rebuild it, `dvc repro {kind}`"
        )
    return lineage
