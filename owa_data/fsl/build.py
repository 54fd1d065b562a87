"""Build the fsl dataset from the event dataset.

Input: the lineage of the event dataset, `FslParams`, a tokenizer. Output: the dataset folder and the counts for `metrics/fsl.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from owa_data.encoding.pieces import PieceTable
from owa_data.encoding.registry import Encoder, create_encoder
from owa_data.errors import ParamsError
from owa_data.fsl.convert import NUM_FILL_BINS, convert_events
from owa_data.fsl.families import image_span
from owa_data.fsl.tokenizer import load_tokenizer
from owa_data.fsl.vocabulary import Vocabulary, do_nothing, load_vocabulary, save_tokenizer, tokenizer_facts
from owa_data.params import FslParams, TokenizerParams
from owa_data.store.dataset_folder import Lineage
from owa_data.store.incremental import EpisodeInput, shard_inputs
from owa_data.store.ledger import Counts, add_counts
from owa_data.store.metrics import aggregate
from owa_data.store.shard_cache import ShardCache
from owa_data.store.shards import read_shard
from owa_data.store.source import ByteSource

PIECES_TO_CHECK = 256


@dataclass(frozen=True)
class FslConversion:
    """Conversion of event shards with fixed params and tokenizer; picklable, and small: workers get ids, not the tokenizer."""

    params: FslParams
    tokenizer: TokenizerParams
    tokenizer_sha256: str
    vocabulary: Vocabulary
    kind: str = "fsl"

    @property
    def key_params(self) -> dict[str, Any]:
        """See `store.incremental.Conversion`. A tokenizer counts by its content, not by its name or place."""
        span = image_span(self.tokenizer.image)
        return {
            **self.params.model_dump(mode="json", exclude={"tokenizer"}),
            "tokenizer_sha256": self.tokenizer_sha256,
            "pad_token": self.tokenizer.pad_token,
            "image_span": [list(run) for run in span.runs],
        }

    def convert(self, source: ByteSource, episode: EpisodeInput) -> tuple[Iterator[pa.RecordBatch], Counts]:
        """Convert one event shard."""
        rows = read_shard(source.read(0, source.size_bytes))
        encoder = create_encoder(self.params.encoder, **self.params.encoder_options.model_dump())
        table_of = partial(_piece_table, self, encoder)
        return convert_events(
            rows, episode.episode_path, self.params, encoder, table_of, self.vocabulary.pad_token_id, episode.start_ns
        )


@dataclass(frozen=True)
class PreparedFsl:
    """What `store.incremental.build_dataset` is given for `fsl`: the conversion, `facts`, and `add_files`, which adds the tokenizer."""

    conversion: FslConversion
    facts: dict[str, object]
    add_files: Callable[[Path], None]


def prepare_fsl(
    params: FslParams, tokenizer: TokenizerParams, cache: ShardCache, when_new: Callable[[], None] = do_nothing
) -> PreparedFsl:
    """Load what a build of `fsl` needs once. Cost: a second for a tokenizer of 150,000 entries that is new to the cache, else 20 ms.

    Args:
        params: Knobs of `fsl`.
        tokenizer: The tokenizer.
        cache: Where ids under known tokenizers are remembered.
        when_new: Called before the second that a new tokenizer takes: every shard is to be made then.

    Raises:
        TokenizerError: The tokenizer cannot be had, is not the pinned one, or lacks its pad token.
        ParamsError: An encoder, option or model family that is not known.
    """
    encoder = create_encoder(params.encoder, **params.encoder_options.model_dump())
    loaded = load_tokenizer(tokenizer)
    vocabulary = load_vocabulary(loaded, encoder, cache, when_new)
    # Workers may run in another folder.
    place = str(Path(tokenizer.location).expanduser().absolute()) if tokenizer.source == "folder" else tokenizer.location
    return PreparedFsl(
        FslConversion(params, tokenizer.model_copy(update={"location": place}), loaded.sha256, vocabulary),
        tokenizer_facts(tokenizer, loaded.sha256, vocabulary),
        partial(save_tokenizer, loaded=loaded, encoder=encoder, cache=cache),
    )


def _piece_table(conversion: FslConversion, encoder: Encoder, pieces: Sequence[str]) -> PieceTable:
    if encoder.pieces:
        return PieceTable.from_ids(encoder.pieces, conversion.vocabulary.piece_ids)
    # Texts that depend on the events: this worker needs the tokenizer itself.
    extended = _extended(conversion.tokenizer.model_dump_json(), conversion.tokenizer_sha256, encoder.vocabulary)
    ids = extended.ids_of_pieces(pieces)
    # With a separator, the second half are the pieces as they stand after another one.
    num_checked = min(PIECES_TO_CHECK, len(pieces) // 2 if encoder.separator else len(pieces))
    first = len(pieces) - num_checked
    extended.check_cuts(pieces[first:], ids[first:])
    return PieceTable.from_ids(pieces, ids)


@lru_cache(maxsize=1)
def _extended(tokenizer_json: str, sha256: str, vocabulary: tuple[str, ...]) -> Any:
    from owa_data.fsl.extend import extend_tokenizer

    params = TokenizerParams.model_validate_json(tokenizer_json)
    loaded = load_tokenizer(params.model_copy(update={"sha256": sha256}))
    return extend_tokenizer(loaded, vocabulary, image_span(params.image))


def check_params(params: FslParams, events: Lineage) -> None:
    """Check params against the event dataset, before any work.

    Raises:
        ParamsError: `action_topics` that take effect name a topic that the events cannot have.
    """
    if not (params.time_shift_seconds_for_action or params.skip_first_t_seconds_for_action):
        return
    rows = events.params["topics"].values()
    present = {"mouse/raw" if row["as_raw"] else row["topic"] for row in rows}
    if not present & set(params.action_topics):
        raise ParamsError(
            "fsl.action_topics", f"none of {list(params.action_topics)} is a topic of the events: {', '.join(sorted(present))}"
        )


def fsl_inputs(events: Lineage, event_dir: Path, params: FslParams) -> list[EpisodeInput]:
    """Return what `fsl` converts: each shard of the event dataset."""
    inputs = shard_inputs(events, event_dir)
    if not params.encoder_options.timestamps:
        return inputs
    # Texts with times depend on when the recording began.
    return [replace(episode, key_extra={"start_ns": episode.start_ns}) for episode in inputs]


def fsl_metrics(lineage: Lineage, events: Lineage, params: FslParams) -> Counts:
    """Return the content of `metrics/fsl.json`: rows, tokens, padding, images, drops, by split and group."""
    active_ns = {episode.episode_path: episode.ledger["active_ns"] for episode in events.episodes}
    episodes = [
        msgspec.structs.replace(episode, ledger={**episode.ledger, "active_ns": active_ns[episode.episode_path]})
        for episode in lineage.episodes
    ]
    return aggregate(msgspec.structs.replace(lineage, episodes=episodes), lambda counts: _finish(counts, params))


def _finish(counts: Counts, params: FslParams) -> Counts:
    counts.pop("fill", None)
    active_hours = counts.pop("active_ns", 0) / 3600e9
    tokens, padding = counts.get("tokens", 0), counts.get("padding_tokens", 0)
    image_tokens = counts.get("by_kind", {}).get("screen", {}).get("tokens", 0)
    counts["max_sequence_length"] = params.max_sequence_length
    counts["padding_ratio"] = round(padding / (tokens + padding), 6) if tokens + padding else 0.0
    counts["image_token_ratio"] = round(image_tokens / tokens, 6) if tokens else 0.0
    counts["tokens_per_active_hour"] = round(tokens / active_hours) if active_hours else 0
    counts["bytes_per_token"] = round(counts.get("size_bytes", 0) / tokens, 3) if tokens else 0.0
    return counts


def fill_plot(lineage: Lineage) -> list[Mapping[str, Any]]:
    """Return the rows of `plots/fsl_fill.json`: how many rows are filled to which share."""
    fill = add_counts(episode.ledger.get("fill", {}) for episode in lineage.episodes)
    return [{"filled_percent": (int(index) + 1) * 100 // NUM_FILL_BINS, "rows": number} for index, number in sorted(fill.items())]


def kind_plot(lineage: Lineage) -> list[Mapping[str, Any]]:
    """Return the rows of `plots/fsl_tokens.json`: tokens per event type."""
    kinds = add_counts(episode.ledger.get("by_kind", {}) for episode in lineage.episodes)
    return [{"event_type": kind, "tokens": counts["tokens"], "events": counts["events"]} for kind, counts in kinds.items()]


def describe_fsl(metrics: Counts) -> str:
    """Return a short summary for people."""
    dropped = [f"{number:,} {reason}" for reason, number in metrics["events"]["dropped"].items()]
    lines = [
        (
            f"fsl: {metrics['episodes']} episodes, {metrics['rows']:,} rows of {metrics['max_sequence_length']}, {metrics['tokens']:,} tokens, "
            f"{metrics['padding_ratio']:.1%} padding, {metrics['images']:,} images, {metrics['size_bytes'] / 1e6:.1f} MB"
        ),
        f"  events: {metrics['events']['read']:,} read, {metrics['events']['kept']:,} kept; dropped: {', '.join(dropped) or 'none'}",
    ]
    lines += [f"  {split}: {counts.get('rows', 0):,} rows" for split, counts in metrics["by_split"].items()]
    return "\n".join(lines)
