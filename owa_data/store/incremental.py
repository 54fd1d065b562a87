"""Build a dataset from its episodes: reuse the shards that exist, convert the others, put the folder together.

Input: episodes with the digests of their inputs, and a `Conversion`. Output: a dataset folder and its `Lineage`. The folder's bytes are a
function of recordings, params and code; not of what was reused, the number of workers or the order of completion.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import pyarrow as pa
from filelock import FileLock

from owa_data import __version__
from owa_data.errors import ParamsError
from owa_data.params import RuntimeParams
from owa_data.schema import SCHEMA_VERSION
from owa_data.store.code_digest import source_digest
from owa_data.store.dataset_folder import EpisodeLineage, Lineage, check_replaceable, no_files, shard_name, write_dataset
from owa_data.store.digests import FileStamp
from owa_data.store.executors import run_tasks
from owa_data.store.ledger import Counts
from owa_data.store.progress import progress_bar
from owa_data.store.shard_cache import ShardCache, ShardRecord
from owa_data.store.shard_key import shard_key
from owa_data.store.shards import write_shard
from owa_data.store.source import ByteSource, Trust, absolute_path, is_url, open_listed

logger = logging.getLogger(__name__)

# Bytes written per input byte where no shard tells, measured on D2E-shaped recordings at default params.
TYPICAL_GROWTH = {"event": 1.5, "fsl": 2.0, "binned": 1.0}
_VISIBLE_AFTER_S = 60  # network file systems show new files to other machines with a delay


@dataclass(frozen=True)
class EpisodeInput:
    """One episode to convert.

    The content of `input_path` must be that of `input_digest`, see `store/digests.py`; a local file that still has `input_stamp` has it. `trust` is
    what a recording's reader may take for granted.
    `start_ns`, `end_ns` are the times of the recording's first and last message, 0 where nobody looked. `num_messages` are those of each topic by
    the index, empty where nobody counted them. `key_extra` is what else of the episode shapes the shard's bytes; it becomes part
    of the key.
    """

    episode_path: str
    split: str
    group: str
    metadata: dict[str, Any]
    input_path: str
    input_digest: str
    input_bytes: int
    input_stamp: FileStamp | None = None
    trust: Trust = "bytes"
    start_ns: int = 0
    end_ns: int = 0
    num_messages: dict[str, int] = field(default_factory=dict)
    key_extra: dict[str, Any] = field(default_factory=dict)


class Conversion(Protocol):
    """A pure function of one episode; picklable, so that workers can run it."""

    @property
    def kind(self) -> str:
        """Kind of the dataset."""
        ...

    @property
    def key_params(self) -> dict[str, Any]:
        """Everything besides the episode and the code that shapes the shard's bytes, as plain values."""
        ...

    def convert(self, source: ByteSource, episode: EpisodeInput) -> tuple[Iterator[pa.RecordBatch], Counts]:
        """Convert one episode, read from `source`, into record batches and a ledger."""
        ...


@dataclass(frozen=True)
class Plan:
    """What a build would do.

    Attributes:
        conversion: How one episode is converted.
        key_params: Of the conversion, when the plan was made.
        episodes: Sorted by `episode_path`.
        keys: The shard's key of each.
        records: Of the finished shard of each, None where it must be converted.
        facts: Goes to `owa.json` as it is.
        add_files: Puts further files into the dataset, see `write_dataset`.
    """

    conversion: Conversion
    key_params: dict[str, Any]
    episodes: Sequence[EpisodeInput]
    keys: Sequence[str]
    records: Sequence[ShardRecord | None]
    facts: dict[str, Any]
    add_files: Callable[[Path], None]

    @property
    def missing(self) -> list[int]:
        """Episodes to convert, the largest first, so that no worker is left with a large one at the end."""
        todo = [index for index, record in enumerate(self.records) if record is None]
        return sorted(todo, key=lambda index: (-self.episodes[index].input_bytes, self.episodes[index].episode_path))

    def estimate_bytes(self) -> int:
        """Bytes that the missing shards will take, by the growth of those that exist."""
        known = [(record.size_bytes, self.episodes[i].input_bytes) for i, record in enumerate(self.records) if record]
        read = sum(size for _, size in known)
        growth = sum(size for size, _ in known) / read if read else TYPICAL_GROWTH[self.conversion.kind]
        return int(growth * sum(self.episodes[index].input_bytes for index in self.missing))


@dataclass(frozen=True)
class _ShardTask:
    conversion: Conversion
    episode: EpisodeInput
    key: str
    cache_root: Path


def shard_inputs(lineage: Lineage, folder: Path) -> list[EpisodeInput]:
    """Return the shards of a dataset as inputs of the next one; their digests are those that `owa.json` lists."""
    return [
        EpisodeInput(
            episode.episode_path,
            episode.split,
            episode.group,
            episode.metadata,
            f"{folder}/{episode.split}/{shard_name(episode.episode_path)}",
            episode.digest,
            episode.size_bytes,
            start_ns=episode.start_ns,
        )
        for episode in lineage.episodes
    ]


def plan_build(
    conversion: Conversion,
    episodes: Sequence[EpisodeInput],
    cache: ShardCache,
    facts: Mapping[str, Any] = MappingProxyType({}),
    add_files: Callable[[Path], None] = no_files,
) -> Plan:
    """Find out which shards exist. Reads one small file per episode. `plan_event`, `plan_fsl` and `plan_binned` do this for a kind of dataset."""
    ordered = sorted(episodes, key=lambda episode: episode.episode_path)
    params = conversion.key_params
    keys = [
        shard_key(conversion.kind, {**params, **episode.key_extra}, episode.episode_path, episode.input_digest)
        for episode in ordered
    ]
    return Plan(conversion, params, ordered, keys, [cache.find(key) for key in keys], dict(facts), add_files)


def describe_plan(plan: Plan, out_dir: Path) -> str:
    """Say what a build would do, for a dry run."""
    kind, missing = plan.conversion.kind, plan.missing
    parent = next(folder for folder in [out_dir, *out_dir.absolute().parents] if folder.exists())
    free = shutil.disk_usage(parent).free
    lines = [f"{kind}: {len(missing)} of {len(plan.episodes)} episodes to convert, {len(plan.episodes) - len(missing)} to reuse"]
    lines += [f"  {plan.episodes[index].episode_path}" for index in missing[:20]]
    lines += [f"  ... and {len(missing) - 20} more"] if len(missing) > 20 else []
    lines += [f"about {plan.estimate_bytes() / 1e9:.3f} GB to write, {free / 1e9:.1f} GB free"]
    return "\n".join(lines)


def build_dataset(plan: Plan, out_dir: Path, cache: ShardCache, runtime: RuntimeParams) -> Lineage:
    """Convert what is missing and put the dataset together.

    Args:
        plan: From `plan_event`, `plan_fsl` or `plan_binned`.
        out_dir: The dataset's folder; replaced as a whole at the end.
        cache: Where finished shards are; that of the plan.
        runtime: Executor and workers.

    Raises:
        ParamsError: `out_dir` holds anything but a dataset of this kind, nothing is converted then; or what shapes the shards was edited meanwhile.
        EpisodesFailedError: Episodes that could not be converted; nothing is written to `out_dir` then.
    """
    conversion = plan.conversion
    out_dir = out_dir.resolve()  # "." has no name; a link stays, and what it leads to is replaced
    check_replaceable(out_dir, conversion.kind)
    with lock_folder(out_dir), cache.in_use():
        # Shards may have been dropped or made by others since the plan was made; from here on they stay.
        records = [
            record if record is not None and cache.is_there(record) else cache.find(key)
            for key, record in zip(plan.keys, plan.records, strict=True)
        ]
        plan = replace(plan, records=records)
        cache.sweep()
        missing = plan.missing
        tasks = [_task(conversion, plan.episodes[index], plan.keys[index], cache) for index in missing]
        num_bytes = _bytes_of([task.episode for task in tasks])
        with (
            progress_bar(conversion.kind, [task.episode.input_bytes for task in tasks], shown=runtime.progress) as advance,
            closing(
                run_tasks(_make_shard, tasks, runtime, preload=_modules_of(type(conversion)), num_bytes=num_bytes)
            ) as results,
        ):
            for position, record in results:
                if runtime.executor == "dask":
                    _check_shared(cache, record)
                records[missing[position]] = record
                advance(position)
        if conversion.key_params != plan.key_params:
            raise ParamsError(conversion.kind, "was edited while the build ran, such as a function of your own. Run it again")
        lineage = Lineage(
            kind=conversion.kind,
            schema_version=SCHEMA_VERSION[conversion.kind],
            code_version=__version__,
            source_digest=source_digest(conversion.kind),
            params=plan.key_params,
            facts=plan.facts,
            episodes=[_lineage(episode, record) for episode, record in zip(plan.episodes, records, strict=True)],
        )
        write_dataset(out_dir, lineage, cache, plan.add_files)
    logger.info("%s: %d converted, %d reused", conversion.kind, len(missing), len(records) - len(missing))
    return lineage


def _task(conversion: Conversion, episode: EpisodeInput, key: str, cache: ShardCache) -> _ShardTask:
    here = replace(episode, input_path=absolute_path(episode.input_path))
    return _ShardTask(conversion, here, key, cache.root.absolute())


def _bytes_of(episodes: Sequence[EpisodeInput]) -> float:
    """What is read of episodes; unlimited where one lies at a URL, since that waits more than it reads."""
    return sum(math.inf if is_url(episode.input_path) else episode.input_bytes for episode in episodes)


def _modules_of(conversion: type[Conversion]) -> list[str]:
    return [conversion.__module__]


def _check_shared(cache: ShardCache, record: ShardRecord) -> None:
    """Check that a shard that a worker published is seen here too, as late as a network file system may show it."""
    deadline = time.monotonic() + _VISIBLE_AFTER_S
    while cache.find(record.key) is None:
        if time.monotonic() > deadline:
            raise ParamsError(
                "runtime.executor",
                f"a Dask worker published a shard in {cache.root}, but it is not there for this process. Put the shard cache on a path that "
                "all workers and this process share (OWA_DATA_SHARD_CACHE)",
            )
        time.sleep(0.1)


def _lineage(episode: EpisodeInput, record: ShardRecord | None) -> EpisodeLineage:
    assert record is not None, episode.episode_path
    return EpisodeLineage(
        episode_path=episode.episode_path,
        split=episode.split,
        group=episode.group,
        metadata=episode.metadata,
        key=record.key,
        input_digest=episode.input_digest,
        digest=record.digest,
        size_bytes=record.size_bytes,
        num_rows=record.num_rows,
        ledger=record.ledger,
        start_ns=episode.start_ns,
        key_extra=episode.key_extra,
    )


def _make_shard(task: _ShardTask) -> ShardRecord:
    """Convert one episode and publish its shard; runs in a worker."""
    cache = ShardCache(task.cache_root)
    episode = task.episode
    shard = cache.temporary_path(task.key)
    try:
        with open_listed(episode.input_path, episode.input_digest, episode.input_stamp) as source:
            batches, ledger = task.conversion.convert(source, episode)
            digest, num_rows, size_bytes = write_shard(shard, task.conversion.kind, batches)
        record = ShardRecord(task.key, digest, size_bytes, num_rows, ledger)
        cache.publish(record, shard)
    finally:
        shard.unlink(missing_ok=True)
    return record


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold the lock of an output folder: one build at a time. Waits, and says so, while another holds it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    if not _try_lock(lock):
        logger.warning("another build of %s is running; waiting for it to end", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _try_lock(lock: FileLock) -> bool:
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True
