"""The name of a shard: a digest over everything that shapes its bytes, and nothing else."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from owa_data.schema import SCHEMA_VERSION
from owa_data.store.code_digest import source_digest

_ENCODER = msgspec.json.Encoder(order="sorted")


def canonical_json(value: Any) -> bytes:
    """Return JSON with sorted keys and no spaces: equal values give equal bytes."""
    return _ENCODER.encode(value)


def shard_key(kind: str, params: dict[str, Any], episode_path: str, input_digest: str) -> str:
    """Return the key of a shard, 64 hex digits.

    Args:
        kind: Dataset kind.
        params: The stage's params as plain values, and whatever else shapes the bytes (the tokenizer's digest).
        episode_path: It is a column of the rows.
        input_digest: Digest of the input's bytes: the recording, or the event shard.
    """
    return shard_key_of(kind, SCHEMA_VERSION[kind], source_digest(kind), params, episode_path, input_digest)


def shard_key_of(
    kind: str, schema_version: int, code_digest: str, params: dict[str, Any], episode_path: str, input_digest: str
) -> str:
    """Return the key that a shard had under given code; see `shard_key`, which is for the code that runs."""
    parts = [kind, schema_version, code_digest, params, episode_path, input_digest]
    return hashlib.sha256(canonical_json(parts)).hexdigest()
