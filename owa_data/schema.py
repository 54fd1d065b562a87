"""Columns of the stored datasets and the version of each kind.

The version is part of every shard's key: raise it when the meaning or form of a column changes, and say so under Data in CHANGELOG.md.
"""

from __future__ import annotations

import msgspec
import pyarrow as pa

SCHEMA_VERSION: dict[str, int] = {"index": 1, "event": 1, "fsl": 1, "binned": 1}

EVENT_SCHEMA = pa.schema(
    [
        ("episode_path", pa.string()),
        ("topic", pa.string()),
        ("timestamp_ns", pa.int64()),
        ("message_type", pa.string()),
        ("mcap_message", pa.binary()),
        ("interval_index", pa.int32()),
    ]
)

FSL_SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("attention_mask", pa.list_(pa.uint8())),
        ("texts", pa.string()),
        ("images", pa.list_(pa.string())),
        ("episode_path", pa.string()),
        ("start_ns", pa.int64()),
        ("end_ns", pa.int64()),
        ("num_tokens", pa.int32()),
        ("event_offsets", pa.list_(pa.int32())),
        ("event_timestamps_ns", pa.list_(pa.int64())),
        ("event_kinds", pa.list_(pa.uint8())),
    ]
)

BINNED_SCHEMA = pa.schema(
    [
        ("episode_path", pa.string()),
        ("bin_idx", pa.int32()),
        ("timestamp_ns", pa.int64()),
        ("state", pa.list_(pa.binary())),
        ("actions", pa.list_(pa.binary())),
        ("keys_down", pa.list_(pa.int32())),
        ("buttons_down", pa.list_(pa.int32())),
        ("dx", pa.int32()),
        ("dy", pa.int32()),
        ("wheel", pa.int32()),
    ]
)

SCHEMAS: dict[str, pa.Schema] = {"event": EVENT_SCHEMA, "fsl": FSL_SCHEMA, "binned": BINNED_SCHEMA}

SPLITS = ("train", "test")


def huggingface_features(schema: pa.Schema) -> dict[str, object]:
    """Return the `features` entry of `dataset_info.json` for a schema, as `datasets` writes it."""
    return {field.name: _feature(field.type) for field in schema}


def _feature(dtype: pa.DataType) -> dict[str, object]:
    if pa.types.is_list(dtype):
        return {"feature": _feature(dtype.value_type), "_type": "List"}
    return {"dtype": str(dtype), "_type": "Value"}


def stored_schema(kind: str) -> pa.Schema:
    """Return the schema of a kind with the metadata by which `datasets` knows its features."""
    schema = SCHEMAS[kind]
    info = msgspec.json.encode({"info": {"features": huggingface_features(schema)}})
    return schema.with_metadata({"huggingface": info})
