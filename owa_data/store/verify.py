"""Read a dataset again and prove what it promises.

Input: a dataset folder, and where they are at hand its metrics, its inputs and the recordings. Output: `Findings`: every fault with its place,
and what could not be checked. Nothing is written. Cost: all bytes are read once, one episode in memory at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import pyarrow as pa

from owa_data.errors import BROKEN_JSON
from owa_data.schema import SCHEMAS, SPLITS, huggingface_features, stored_schema
from owa_data.store.dataset_folder import (
    COMPUTED_NAME,
    LINEAGE_FILE,
    NO_EPISODES,
    TOKENIZER_FILES,
    EpisodeLineage,
    Lineage,
    dataset_fingerprint,
    shard_name,
)
from owa_data.store.digests import VERSION_PREFIX, digest_like, shorten_digest
from owa_data.store.ledger import add_counts
from owa_data.store.shard_key import shard_key_of
from owa_data.store.shards import read_shard
from owa_data.store.source import is_outside
from owa_data.store.verify_rows import check_rows, iter_media_uris


@dataclass(frozen=True)
class Fault:
    """One thing that is not as promised: the file, and what is wrong with it."""

    path: str
    problem: str


@dataclass(frozen=True)
class Findings:
    """What a verification found. `unchecked` says what was not at hand; `num_*` count what was read."""

    faults: list[Fault] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    num_episodes: int = 0
    num_rows: int = 0
    num_references: int = 0
    num_inputs: int = 0


def verify_dataset(
    folder: Path, lineage: Lineage, *, metrics: Mapping[str, Any] | None, inputs: Lineage | None, recordings: Path | None
) -> Findings:
    """Verify a dataset.

    Args:
        folder: The dataset's folder.
        lineage: Its `owa.json`.
        metrics: Content of its `metrics/<kind>.json`, None where there is none.
        inputs: For fsl and binned: `owa.json` of the event dataset they were made of, None where it is not at hand.
        recordings: Folder of the recordings, None where it is not at hand.
    """
    faults: list[Fault] = [
        *_check_small_files(folder, lineage),
        *_check_keys(folder, lineage),
        *_check_tokenizer(folder, lineage),
    ]
    unchecked: list[str] = []
    num_rows = num_inputs = 0
    uris: set[tuple[str, str]] = set()
    for episode in lineage.episodes:
        path = folder / episode.split / shard_name(episode.episode_path)
        rows, found = _check_shard(path, lineage.kind, episode)
        faults += found
        if rows is not None:
            num_rows += rows.num_rows
            problems = check_rows(lineage.kind, rows, episode.episode_path, lineage.params, lineage.facts, episode.ledger)
            faults += [Fault(str(path), problem) for problem in problems]
            uris |= {(episode.episode_path, uri) for uri in iter_media_uris(lineage.kind, rows)}
    if metrics is None:
        unchecked.append("metrics: there is no metrics file")
    else:
        faults += [Fault(f"metrics/{lineage.kind}.json", problem) for problem in _compare_metrics(lineage, metrics)]
    if lineage.kind == "event":
        num_inputs, found = _check_recordings(lineage, recordings)
        faults += found
        if num_inputs < len(lineage.episodes):
            unchecked.append(f"recordings: {len(lineage.episodes) - num_inputs} of {len(lineage.episodes)} are not here")
    elif inputs is None:
        unchecked.append("inputs: the event dataset is not here")
    else:
        num_inputs = len(inputs.episodes)
        faults += _compare_inputs(folder, lineage, inputs)
    if recordings is None or not recordings.is_dir():
        unchecked.append("media: the folder of the recordings is not here")
    else:
        faults += _check_media(folder, recordings, sorted(uris))
    return Findings(faults, unchecked, len(lineage.episodes), num_rows, len(uris), num_inputs)


def _check_small_files(folder: Path, lineage: Lineage) -> Iterator[Fault]:
    """The files by which `datasets` finds the shards, and files that none of them names."""
    yield from _compare_json(folder / "dataset_dict.json", {"splits": list(SPLITS)})
    named = {folder / "dataset_dict.json", folder / LINEAGE_FILE}
    for split in SPLITS:
        episodes = [episode for episode in lineage.episodes if episode.split == split]
        names = [shard_name(episode.episode_path) for episode in episodes] or [NO_EPISODES]
        expected = {
            "_data_files": [{"filename": name} for name in names],
            "_fingerprint": dataset_fingerprint(lineage.kind, split, episodes),
        }
        yield from _compare_json(folder / split / "state.json", expected)
        features = {"features": huggingface_features(SCHEMAS[lineage.kind])}
        yield from _compare_json(folder / split / "dataset_info.json", features)
        named |= {folder / split / name for name in ("state.json", "dataset_info.json", *names)}
    if lineage.kind == "fsl":
        named |= {folder / name for name in TOKENIZER_FILES}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in named and not COMPUTED_NAME.fullmatch(path.name):
            yield Fault(str(path), f"{LINEAGE_FILE} does not name this file")


def _compare_json(path: Path, expected: Mapping[str, Any]) -> Iterator[Fault]:
    try:
        content = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        yield Fault(str(path), "missing")
        return
    except BROKEN_JSON as error:
        yield Fault(str(path), f"no JSON: {error}")
        return
    if not isinstance(content, dict):
        yield Fault(str(path), f"is a {type(content).__name__}, not an object")
        return
    for key, value in expected.items():
        if content.get(key) != value:
            yield Fault(str(path), f"stale: {key} is not what {LINEAGE_FILE} says")


def _check_keys(folder: Path, lineage: Lineage) -> Iterator[Fault]:
    """Whether params, code and inputs that `owa.json` names are those that its keys were made of."""
    for episode in lineage.episodes:
        key = shard_key_of(
            lineage.kind,
            lineage.schema_version,
            lineage.source_digest,
            {**lineage.params, **episode.key_extra},
            episode.episode_path,
            episode.input_digest,
        )
        if episode.key != key:
            yield Fault(
                str(folder / LINEAGE_FILE),
                f"the key of {episode.episode_path} is not that of the params, code and input named here: one of them was edited, or the "
                "shard is of another build",
            )


def _check_tokenizer(folder: Path, lineage: Lineage) -> Iterator[Fault]:
    tokenizer = lineage.facts.get("tokenizer")
    if tokenizer and tokenizer["sha256"] != lineage.params.get("tokenizer_sha256"):
        yield Fault(
            str(folder / LINEAGE_FILE),
            f"facts name the tokenizer {tokenizer['name']} with sha256 {tokenizer['sha256'][:12]}, but the rows were made with "
            f"{str(lineage.params.get('tokenizer_sha256'))[:12]}",
        )
    if not tokenizer:
        return
    for name in TOKENIZER_FILES:
        if not (folder / name).is_file():
            yield Fault(str(folder / name), "missing")
    path = folder / TOKENIZER_FILES[0]
    listed = tokenizer.get("saved_digest", "")
    if not listed:
        yield Fault(str(folder / LINEAGE_FILE), "does not say which tokenizer lies beside the rows: build the dataset anew")
    elif path.is_file() and (found := digest_like(listed, path.read_bytes())) != listed:
        yield Fault(
            str(path), f"not the tokenizer that {LINEAGE_FILE} names: {shorten_digest(found)}, listed {shorten_digest(listed)}"
        )


def _check_shard(path: Path, kind: str, episode: EpisodeLineage) -> tuple[pa.Table | None, list[Fault]]:
    """The rows of a shard, None where they cannot be read, and what is wrong with the file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return None, [Fault(str(path), f"missing: {error.strerror}")]
    faults = []
    if (found := digest_like(episode.digest, content)) != episode.digest:
        faults.append(
            Fault(
                str(path),
                f"other bytes than {LINEAGE_FILE} says: {shorten_digest(found)}, listed {shorten_digest(episode.digest)}",
            )
        )
    try:
        rows = read_shard(content)
        rows.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        return None, [*faults, Fault(str(path), f"no readable Arrow stream: {error}")]
    schema = stored_schema(kind)
    if not rows.schema.equals(schema, check_metadata=True):
        faults.append(Fault(str(path), f"its schema is not that of kind {kind}, version as in {LINEAGE_FILE}"))
        return None, faults
    if rows.num_rows != episode.num_rows:
        faults.append(Fault(str(path), f"{rows.num_rows} rows where {LINEAGE_FILE} says {episode.num_rows}"))
    return rows, faults


def _compare_metrics(lineage: Lineage, metrics: Mapping[str, Any]) -> Iterator[str]:
    """Every count of the ledgers that the metrics hold too must be equal."""
    for scope, reported, episodes in [
        ("", metrics, lineage.episodes),
        *(
            (f"by_split.{s}.", metrics.get("by_split", {}).get(s, {}), [e for e in lineage.episodes if e.split == s])
            for s in SPLITS
        ),
    ]:
        sums = add_counts({"episodes": 1, "size_bytes": episode.size_bytes, **episode.ledger} for episode in episodes)
        for key, expected, found in _differences(sums, reported, scope):
            yield f"{key} is {found}, but the episodes of {LINEAGE_FILE} add up to {expected}"


def _differences(sums: Mapping[str, Any], reported: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any, Any]]:
    for key, value in sums.items():
        if key not in reported:
            continue
        if isinstance(value, Mapping) and isinstance(reported[key], Mapping):
            yield from _differences(value, reported[key], f"{prefix}{key}.")
        elif value != reported[key]:
            yield f"{prefix}{key}", value, reported[key]


def _check_recordings(lineage: Lineage, recordings: Path | None) -> tuple[int, list[Fault]]:
    """How many recordings are here, and those whose bytes are others."""
    num_here, faults = 0, []
    for episode in lineage.episodes:
        path = (recordings or Path()) / PurePosixPath(episode.episode_path)
        if recordings is None or episode.input_digest.startswith(VERSION_PREFIX) or not path.is_file():
            continue
        num_here += 1
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != episode.input_digest:
            faults.append(
                Fault(
                    str(path),
                    f"other bytes than its events were made of: sha256 {found[:12]}, listed {episode.input_digest[:12]}",
                )
            )
    return num_here, faults


def _compare_inputs(folder: Path, lineage: Lineage, inputs: Lineage) -> Iterator[Fault]:
    made = {episode.episode_path: episode.digest for episode in inputs.episodes}
    here = {episode.episode_path: episode.input_digest for episode in lineage.episodes}
    for path in sorted(made.keys() - here.keys()):
        yield Fault(str(folder / LINEAGE_FILE), f"{path} is in the event dataset, but not here")
    for path, digest in here.items():
        if made.get(path) != digest:
            problem = "is not in the event dataset" if path not in made else "was made of another version of its event shard"
            yield Fault(str(folder / LINEAGE_FILE), f"{path} {problem}")


def _check_media(folder: Path, recordings: Path, uris: list[tuple[str, str]]) -> Iterator[Fault]:
    for episode_path, uri in uris:
        path = recordings / PurePosixPath(episode_path).parent / PurePosixPath(uri)
        # What leads out of the folder is not looked for, as when images are loaded.
        if not is_outside(uri) and not path.is_file():
            yield Fault(str(folder), f"rows of {episode_path} refer to {uri}, which does not exist in {path.parent}")
