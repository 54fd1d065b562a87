"""Build the fsl dataset from the event dataset.

Input: the lineage of the event dataset, `FslParams`, a tokenizer. Output: a `Plan`, which `store.incremental.build_dataset` carries out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from owa_data.encoding.pieces import IMAGE_PLACEHOLDER, PieceTable
from owa_data.encoding.registry import Encoder, create_encoder
from owa_data.errors import ParamsError
from owa_data.fsl.convert import convert_events
from owa_data.fsl.families import image_span
from owa_data.fsl.tokenizer import load_tokenizer
from owa_data.fsl.vocabulary import Vocabulary, load_vocabulary, save_tokenizer, tokenizer_facts
from owa_data.params import FslParams, TokenizerParams
from owa_data.store.dataset_folder import Lineage
from owa_data.store.incremental import EpisodeInput, Plan, plan_build, shard_inputs
from owa_data.store.ledger import Counts
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
        return convert_events(rows, episode.episode_path, self.params, encoder, table_of, episode.start_ns)


def plan_fsl(params: FslParams, tokenizer: TokenizerParams, events: Lineage, event_dir: Path, cache: ShardCache) -> Plan:
    """Plan a build of the fsl dataset; `store.incremental.build_dataset` does it.

    Cost: 0.2 s for a tokenizer of 150,000 entries that is new to the cache, a second where images hold newlines; else 20 ms.

    Args:
        params: Knobs of `fsl`.
        tokenizer: The tokenizer.
        events: Lineage of the event dataset.
        event_dir: Its folder.
        cache: Where finished shards, and the ids under known tokenizers, are.

    Raises:
        TokenizerError: The tokenizer cannot be had, is not the pinned one, or lacks its pad token.
        ParamsError: An encoder, option or model family that is not known; or see `check_params`.
    """
    check_params(params, events)
    inputs = fsl_inputs(events, event_dir, params)
    encoder = create_encoder(params.encoder, **params.encoder_options.model_dump())
    loaded = load_tokenizer(tokenizer)
    vocabulary = load_vocabulary(loaded, encoder, cache)
    # Workers may run in another folder.
    place = str(Path(tokenizer.location).expanduser().absolute()) if tokenizer.source == "folder" else tokenizer.location
    conversion = FslConversion(params, tokenizer.model_copy(update={"location": place}), loaded.sha256, vocabulary)
    facts = tokenizer_facts(tokenizer, loaded.sha256, vocabulary)
    return plan_build(conversion, inputs, cache, facts, partial(save_tokenizer, loaded=loaded, encoder=encoder, cache=cache))


def _piece_table(conversion: FslConversion, encoder: Encoder, pieces: Sequence[str]) -> PieceTable:
    vocabulary = conversion.vocabulary
    if encoder.pieces:
        return _token_table(encoder.name, vocabulary.token_ids, vocabulary.image_ids, vocabulary.pad_token_id)
    # Texts that depend on the events: this worker needs the tokenizer itself.
    extended = _extended(conversion.tokenizer.model_dump_json(), conversion.tokenizer_sha256, encoder.vocabulary)
    ids = extended.ids_of_pieces(pieces)
    # With a separator, the second half are the pieces as they stand after another one.
    num_checked = min(PIECES_TO_CHECK, len(pieces) // 2 if encoder.separator else len(pieces))
    first = len(pieces) - num_checked
    extended.check_cuts(pieces[first:], ids[first:])
    return PieceTable.from_ids(pieces, ids, vocabulary.pad_token_id)


@lru_cache(maxsize=1)
def _token_table(encoder_name: str, token_ids: tuple[int, ...], image_ids: tuple[int, ...], pad_token_id: int) -> PieceTable:
    encoder = create_encoder(encoder_name)  # one that writes known pieces has no options
    ids: dict[str, Sequence[int]] = {token: (number,) for token, number in zip(encoder.vocabulary, token_ids, strict=True)}
    return PieceTable.from_tokens(encoder.piece_tokens, {**ids, IMAGE_PLACEHOLDER: image_ids}, pad_token_id)


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
