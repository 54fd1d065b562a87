"""Datasets that lie elsewhere: in another repository at some revision (`dvc://`), or in a bucket.

`fetch_dataset` brings one here, shard by shard and only those that are not here yet; `stream_dataset` reads rows as they are asked for and keeps
nothing. Either gives what was built, since `owa.json` names the digest of every shard.
"""

from __future__ import annotations

import glob
import hashlib
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from owa_data.errors import BROKEN_JSON, ChangedError, SchemaError
from owa_data.schema import SCHEMA_VERSION, SPLITS, stored_schema
from owa_data.store.dataset_folder import (
    LINEAGE_FILE,
    NO_EPISODES,
    TOKENIZER_FILES,
    EpisodeLineage,
    Lineage,
    check_lineage,
    shard_name,
    write_dataset,
)
from owa_data.store.digests import digest_like, shorten_digest
from owa_data.store.incremental import lock_folder
from owa_data.store.shard_cache import FETCHED_FOLDER, ShardCache, ShardRecord, default_cache_root

if TYPE_CHECKING:
    import datasets

_COPY_BYTES = 1 << 22


@dataclass(frozen=True)
class RemoteDataset:
    """A dataset that lies elsewhere. `storage_options` is what fsspec needs besides the URL."""

    url: str
    storage_options: dict[str, Any]
    lineage: Lineage

    def shard_urls(self, split: str) -> list[str]:
        """URL patterns of a split's shards, each of one file, one per episode, in the order of the rows; one shard of no rows where there is none."""
        names = [shard_name(episode.episode_path) for episode in self.lineage.episodes if episode.split == split]
        # `datasets` takes them as patterns.
        return [f"{self.url}/{split}/{glob.escape(name)}" for name in names or [NO_EPISODES]]


def open_remote(url: str, *, repo: str = "", rev: str = "", **storage_options: Any) -> RemoteDataset:
    """Read `owa.json` of a dataset that lies elsewhere.

    Args:
        url: `dvc://data/fsl`: a path in a DVC repository. Or any other fsspec URL of a dataset folder, such as `s3://bucket/fsl`.
        repo: For `dvc://`: the repository's URL or folder; empty is the working directory.
        rev: For `dvc://`: tag, branch, experiment or commit; empty is the repository's current state.
        **storage_options: For fsspec, such as `key` and `secret` of a bucket.

    Raises:
        SchemaError: There is no dataset there, or one of another version.
    """
    import fsspec

    options = {**storage_options, **({"repo": repo} if repo else {}), **({"rev": rev} if rev else {})}
    url = url.rstrip("/")
    # A branch may have moved since this process opened it last.
    filesystem, root = fsspec.core.url_to_fs(url, skip_instance_cache=True, **options)
    place = f"{url}/{LINEAGE_FILE}" + (f" (repo {repo or '.'}, rev {rev or 'current'})" if url.startswith("dvc://") else "")
    try:
        lineage = check_lineage(msgspec.json.decode(filesystem.cat_file(f"{root}/{LINEAGE_FILE}"), type=Lineage), place)
    except FileNotFoundError as error:
        raise SchemaError(f"{place} does not exist. Is the revision right, and was it pushed (`dvc push`)?") from error
    except BROKEN_JSON as error:
        raise SchemaError(f"{place} is no description of a dataset: {error}") from error
    if SCHEMA_VERSION.get(lineage.kind) != lineage.schema_version:
        raise SchemaError(
            f"{place} is a {lineage.kind} dataset of schema version {lineage.schema_version}; this package reads version "
            f"{SCHEMA_VERSION.get(lineage.kind)}. Install owa-data {lineage.code_version} to read it"
        )
    return RemoteDataset(url, options, lineage)


def fetch_dataset(remote: RemoteDataset, cache: ShardCache | None = None) -> Path:
    """Bring a dataset here and return its folder, which plain `datasets.load_from_disk` reads. Do not write to it.

    Shards go to the shard cache by digest, so that another revision brings only those that differ; every one is held to its digest. Builds here
    never take a fetched shard for one of their own, which is known by its key: what a key says is the word of whoever wrote it.

    Args:
        remote: From `open_remote`.
        cache: Where shards are kept; default: the user's.

    Raises:
        ChangedError: A shard or the tokenizer is not the one that `owa.json` names.
        SchemaError: `owa.json` names no tokenizer for rows of tokens.
    """
    cache = cache or ShardCache(default_cache_root(None))
    name = hashlib.sha256(msgspec.json.encode(remote.lineage)).hexdigest()
    folder = cache.root / FETCHED_FOLDER / name / remote.lineage.kind
    if (folder / LINEAGE_FILE).is_file():
        return folder
    with lock_folder(folder), cache.in_use():
        if (folder / LINEAGE_FILE).is_file():
            return folder  # another process brought it meanwhile, and may be reading it
        key_of = partial(_key_here, cache)
        missing = [episode for episode in remote.lineage.episodes if cache.find(key_of(episode)) is None]
        _fetch_shards(remote, missing, cache)
        write_dataset(folder, remote.lineage, cache, partial(_fetch_tokenizer, remote), key_of)
    return folder


def _key_here(cache: ShardCache, episode: EpisodeLineage) -> str:
    """The key under which the cache has a shard: its own where it was built here to the same bytes, else one for what was fetched."""
    built = cache.find(episode.key)
    return episode.key if built is not None and built.digest == episode.digest else _fetched_key(episode)


def _fetched_key(episode: EpisodeLineage) -> str:
    return hashlib.sha256(f"fetched {episode.digest}".encode()).hexdigest()


def _fetch_tokenizer(remote: RemoteDataset, folder: Path) -> None:
    import fsspec

    if remote.lineage.kind != "fsl":
        return
    filesystem, root = fsspec.core.url_to_fs(remote.url, **remote.storage_options)
    for name in TOKENIZER_FILES:
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(filesystem.cat_file(f"{root}/{name}"))
    listed = remote.lineage.facts.get("tokenizer", {}).get("saved_digest", "")
    if not listed:
        raise SchemaError(
            f"{remote.url}/{LINEAGE_FILE} does not say which tokenizer lies beside the rows: build the dataset anew"
        )
    saved = folder / TOKENIZER_FILES[0]
    if (found := digest_like(listed, saved.read_bytes())) != listed:
        raise ChangedError(
            f"{remote.url}/{TOKENIZER_FILES[0]}",
            f"is not the tokenizer that {LINEAGE_FILE} names: {shorten_digest(found)}, not {shorten_digest(listed)}",
        )


def _fetch_shards(remote: RemoteDataset, episodes: list[EpisodeLineage], cache: ShardCache) -> None:
    import fsspec

    filesystem, root = fsspec.core.url_to_fs(remote.url, **remote.storage_options)
    for episode in episodes:
        name = f"{episode.split}/{shard_name(episode.episode_path)}"
        key = _fetched_key(episode)
        part = cache.temporary_path(key)
        try:
            # Copied as bytes: `get` of a local DVC repository may leave a link to its cache instead.
            with filesystem.open(f"{root}/{name}", "rb") as source, part.open("wb") as target:
                shutil.copyfileobj(source, target, _COPY_BYTES)
            with part.open("rb") as file:
                found = digest_like(episode.digest, file.read())
            if found != episode.digest:
                raise ChangedError(
                    f"{remote.url}/{name}",
                    f"is not the shard that {LINEAGE_FILE} names: {shorten_digest(found)}, not {shorten_digest(episode.digest)}",
                )
            record = ShardRecord(key, episode.digest, episode.size_bytes, episode.num_rows, episode.ledger)
            cache.publish(record, part)
        finally:
            part.unlink(missing_ok=True)


def stream_dataset(remote: RemoteDataset) -> datasets.IterableDatasetDict:
    """Return splits that read rows as they are iterated, downloading nothing else.

    A shard is an episode and the unit that `datasets` deals to loader workers and nodes: `num_shards` is the number of episodes.
    """
    import datasets

    return datasets.load_dataset(
        "arrow",
        data_files={split: remote.shard_urls(split) for split in SPLITS},
        features=datasets.Features.from_arrow_schema(stored_schema(remote.lineage.kind)),
        storage_options=remote.storage_options,
        streaming=True,
    )
