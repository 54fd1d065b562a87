"""Ids of all that a token encoding writes, under one tokenizer; remembered, so that unchanged settings never load the tokenizer again.

Input: `TokenizerParams` and an encoder. Output: `Vocabulary`. Making it takes 0.2 s for a tokenizer of 150,000 entries, reading this
from the shard cache a millisecond.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from owa_data.encoding.registry import Encoder
from owa_data.fsl.definition import Definition
from owa_data.fsl.extend import extend_definition, load_content
from owa_data.fsl.families import image_span
from owa_data.fsl.families.span import ImageSpan
from owa_data.fsl.saved_tokenizer import CONFIG_NAME, FOLDER, tokenizer_config
from owa_data.fsl.tokenizer import FILE_NAME, LoadedTokenizer
from owa_data.params import TokenizerParams
from owa_data.store.code_digest import source_digest
from owa_data.store.digests import SHARD_PREFIX, digest_like
from owa_data.store.shard_cache import ShardCache, ShardRecord
from owa_data.store.shard_key import canonical_json


class Vocabulary(msgspec.Struct, frozen=True):
    """Ids under one extended tokenizer.

    Attributes:
        key: Of the extended tokenizer in the shard cache.
        digest: Of the extended `tokenizer.json`, `xxh3:...`.
        pad_token_id: Fills rows up.
        image_token_id: The id whose embeddings become image features.
        num_tokens: The highest id of the extended tokenizer and 1.
        added: Tokens that the tokenizer lacked, with their ids.
        token_ids: Of `encoder.vocabulary`, in its order: one id each.
        image_ids: Of one image span.
    """

    key: str
    digest: str
    pad_token_id: int
    image_token_id: int
    num_tokens: int
    added: dict[str, int]
    token_ids: tuple[int, ...]
    image_ids: tuple[int, ...]

    @property
    def num_image_tokens(self) -> int:
        """Ids of one image span."""
        return len(self.image_ids)


def load_vocabulary(loaded: LoadedTokenizer, encoder: Encoder, cache: ShardCache) -> Vocabulary:
    """Return the vocabulary of a tokenizer and an encoder, from the cache where it was made before.

    Args:
        loaded: The tokenizer.
        encoder: Its vocabulary counts.
        cache: Where vocabularies are remembered.

    Raises:
        TokenizerError: It is no tokenizer, or lacks its pad token.
        ParamsError: A model family or setting that is not known.
    """
    params = loaded.params
    span = image_span(params.image)
    parts = [
        "vocabulary",
        source_digest("fsl"),
        loaded.sha256,
        params.pad_token,
        encoder.name,
        encoder.vocabulary,
        span.runs,
    ]
    key = hashlib.sha256(canonical_json(parts)).hexdigest()
    with cache.in_use():
        if record := cache.find(key):
            return msgspec.convert(record.ledger, Vocabulary)
        vocabulary, content = _make_vocabulary(loaded, encoder, key)
        saved = cache.temporary_path(key)
        saved.write_bytes(content)
        cache.publish(ShardRecord(key, vocabulary.digest, len(content), 0, msgspec.to_builtins(vocabulary)), saved)
        return vocabulary


def save_tokenizer(folder: Path, loaded: LoadedTokenizer, encoder: Encoder, cache: ShardCache) -> None:
    """Put the extended tokenizer into a dataset's folder; see `fsl/saved_tokenizer.py`. A hard link: it costs no time and no space."""
    vocabulary = load_vocabulary(loaded, encoder, cache)
    target = folder / FOLDER
    target.mkdir()
    cache.link(vocabulary.key, target / FILE_NAME)
    (target / CONFIG_NAME).write_bytes(tokenizer_config(loaded.params.pad_token))


def _make_vocabulary(loaded: LoadedTokenizer, encoder: Encoder, key: str) -> tuple[Vocabulary, bytes]:
    """Return the vocabulary and the extended `tokenizer.json`."""
    span = image_span(loaded.params.image)
    definition, pad_token_id = extend_definition(loaded, encoder.vocabulary, span)
    content = definition.content()
    vocabulary = Vocabulary(
        key=key,
        digest=digest_like(SHARD_PREFIX, content),
        pad_token_id=pad_token_id,
        image_token_id=definition.tokens[span.image_token],
        num_tokens=definition.num_ids,
        added={token: definition.tokens[token] for token in definition.new},
        token_ids=tuple(definition.tokens[token] for token in encoder.vocabulary),
        image_ids=_image_ids(loaded.params, span, definition),
    )
    return vocabulary, content


def _image_ids(params: TokenizerParams, span: ImageSpan, definition: Definition) -> tuple[int, ...]:
    if not span.has_text:
        return tuple(definition.tokens[token] for token, times in span.runs for _ in range(times))
    # Newlines are cut as text is.
    return tuple(load_content(params, definition.content()).encode(span.text, add_special_tokens=False).ids)


def tokenizer_facts(params: TokenizerParams, sha256: str, vocabulary: Vocabulary) -> dict[str, object]:
    """Return what `owa.json` says of the tokenizer: enough to decode rows and to refuse a processor that does not fit."""
    span = image_span(params.image)
    return {
        "tokenizer": {
            **params.model_dump(mode="json"),
            "sha256": sha256,
            "saved_digest": vocabulary.digest,
            "pad_token_id": vocabulary.pad_token_id,
            "num_tokens": vocabulary.num_tokens,
            "added": vocabulary.added,
        },
        "image": {
            "span": [list(run) for run in span.runs],
            "image_token": span.image_token,
            "image_token_id": vocabulary.image_token_id,
            "num_tokens": vocabulary.num_image_tokens,
        },
    }
