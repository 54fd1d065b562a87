"""Build the event dataset from the episode index.

Input: episodes, `EventParams`. Output: a `Plan`, which `store.incremental.build_dataset` carries out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from owa_data.errors import EpisodeError, ParamsError
from owa_data.event.activity import parse_selection, uses_hotkey
from owa_data.event.convert import ABSOLUTE_TOPIC, KEYBOARD_TOPIC, RAW_TOPIC, check_kind, convert_recording
from owa_data.params import EventParams, TopicParams
from owa_data.raw.episodes import Episode
from owa_data.raw.messages import current_type
from owa_data.store.digest_memory import DigestMemory
from owa_data.store.incremental import EpisodeInput, Plan, plan_build
from owa_data.store.ledger import Counts
from owa_data.store.shard_cache import ShardCache
from owa_data.store.source import ByteSource, is_url


@dataclass(frozen=True)
class EventConversion:
    """Conversion of recordings with fixed params; picklable."""

    params: EventParams
    kind: str = "event"

    @property
    def key_params(self) -> dict[str, Any]:
        """See `store.incremental.Conversion`. The names of the topic table's rows are among them; its order is not."""
        return self.params.model_dump(mode="json")

    def convert(self, source: ByteSource, episode: EpisodeInput) -> tuple[Iterator[pa.RecordBatch], Counts]:
        """Convert one recording."""
        batches, ledger = convert_recording(
            source,
            episode.episode_path,
            self.params,
            trust=episode.trust,
            bounds_ns=(episode.start_ns, episode.end_ns) if episode.end_ns else None,
        )
        for topic, counts in ledger["topics"].items():
            listed = episode.num_messages.get(topic, 0)
            if episode.num_messages and counts["read"] != listed:
                raise EpisodeError(
                    episode.input_path,
                    f"the index says {listed} messages of {topic!r}, {counts['read']} were read. Rebuild the index with "
                    "`dvc repro --force raw`; if that does not help, `owa-data doctor` looks at the recording",
                )
        return batches, ledger


def plan_event(params: EventParams, episodes: Sequence[Episode], recordings_dir: str, cache: ShardCache) -> Plan:
    """Plan a build of the event dataset; `store.incremental.build_dataset` does it.

    Args:
        params: Knobs of `event`.
        episodes: Those of the index.
        recordings_dir: Folder or URL that holds them, `raw.dir`.
        cache: Where finished shards are.

    Raises:
        ParamsError: See `check_params`.
    """
    check_params(params, episodes)
    inputs = event_inputs(episodes, recordings_dir, DigestMemory(cache.root, recordings_dir))
    return plan_build(EventConversion(params), inputs, cache)


def event_inputs(episodes: Sequence[Episode], recordings_dir: str, memory: DigestMemory | None = None) -> list[EpisodeInput]:
    """Return what `event` converts: each recording of the index. Those that `memory` knows by their digest are not digested again."""
    root = recordings_dir.rstrip("/") if is_url(recordings_dir) else str(Path(recordings_dir))

    def input_of(episode: Episode) -> EpisodeInput:
        path = f"{root}/{episode.episode_path}"
        return EpisodeInput(
            episode.episode_path,
            episode.split,
            episode.group,
            episode.metadata,
            path,
            episode.sha256,
            episode.size_bytes,
            memory.stamp_of(path, episode.sha256) if memory else None,
            trust=episode.trust,
            start_ns=episode.start_ns,
            end_ns=episode.end_ns,
            num_messages={name: topic.num_messages for name, topic in episode.topics.items()},
            # A version id of a store says which version of one object, not which object.
            key_extra={"url": path} if is_url(path) else {},
        )

    return [input_of(episode) for episode in episodes]


def _remedy(name: str, row: TopicParams, present: Sequence[str]) -> str:
    others = (
        f"Name another one, or take the row {name} out of event.topics in params.yaml "
        f"(dvc exp run -S '~event.topics.{name}'; by hand: python -m stages.event '~topics.{name}')"
    )
    if row.topic != RAW_TOPIC or ABSOLUTE_TOPIC not in present:
        return others
    old = f"{{topic: {ABSOLUTE_TOPIC}, resample: sum_moves, rate_hz: 20, activity: input, as_raw: true}}"
    return f"These are recordings of OWAMcap 0.3 to 0.5: in params.yaml, put `mouse: {old}` in place of the row {name}. {others}"


def check_params(params: EventParams, episodes: Sequence[Episode]) -> None:
    """Check params against what the recordings hold, before any work.

    Raises:
        ParamsError: A topic that no recording has, a resampling that does not fit its messages, or a malformed selection.
    """
    parse_selection(params.intervals.select)
    present = sorted({topic for episode in episodes for topic in episode.topics})
    if uses_hotkey(params.intervals) and KEYBOARD_TOPIC not in present:
        raise ParamsError("event.intervals.select", f"hotkey needs the topic {KEYBOARD_TOPIC!r}. Topics: {', '.join(present)}")
    for name, row in params.topics.items():
        if row.topic not in present:
            raise ParamsError(
                f"event.topics.{name}.topic",
                f"no recording has the topic {row.topic!r}. Topics: {', '.join(present)}. {_remedy(name, row, present)}",
            )
        for message_type in {
            t for episode in episodes if row.topic in episode.topics for t in episode.topics[row.topic].message_types
        }:
            check_kind(name, row, current_type(message_type))
