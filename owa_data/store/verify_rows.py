"""What the rows of one shard must satisfy, by kind.

Input: the rows of one episode. Output: problems as sentences, none where all is well. Array operations only, except for media references.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from owa_data.errors import BROKEN_JSON

_EMBEDDED = "data:"


def check_rows(
    kind: str, rows: pa.Table, episode_path: str, params: Mapping[str, Any], facts: Mapping[str, Any], ledger: Mapping[str, Any]
) -> Iterator[str]:
    """Yield what is wrong with the rows of an episode.

    Args:
        kind: Dataset kind.
        rows: All rows of the episode's shard.
        episode_path: The episode's.
        params: The stage's params, from `owa.json`.
        facts: The dataset's facts, from `owa.json`.
        ledger: The episode's ledger, from `owa.json`.
    """
    others = set(pc.unique(rows["episode_path"]).to_pylist()) - {episode_path}
    if others:
        yield f"rows of another episode: {min(map(str, others))}"
    if "rows" in ledger and ledger["rows"] != rows.num_rows:
        yield f"{rows.num_rows} rows where its ledger says {ledger['rows']}"
    if kind == "event":
        yield from _check_event(rows, ledger)
    elif kind == "fsl" and rows.num_rows:
        yield from _check_fsl(rows, params, facts, ledger)
    elif kind == "binned":
        yield from _check_binned(rows)


def _check_event(rows: pa.Table, ledger: Mapping[str, Any]) -> Iterator[str]:
    if not _is_ascending(rows["timestamp_ns"]):
        yield "rows are not in time order"
    found = rows.num_rows
    kept = sum(topic["kept"] + topic.get("added", 0) for topic in ledger.get("topics", {}).values())
    if found != kept:
        yield f"{found} rows where the ledger's topics kept {kept}"


def _check_binned(rows: pa.Table) -> Iterator[str]:
    if not _is_ascending(rows["bin_idx"]) or not _is_ascending(rows["timestamp_ns"]):
        yield "bins are not in order"


def _check_fsl(rows: pa.Table, params: Mapping[str, Any], facts: Mapping[str, Any], ledger: Mapping[str, Any]) -> Iterator[str]:
    length = int(params["max_sequence_length"])
    for column in ("input_ids", "attention_mask"):
        lengths = pc.list_value_length(rows[column])
        wrong = pc.index(pc.not_equal(lengths, length), value=True).as_py()
        if wrong >= 0:
            yield f"row {wrong}: {column} has {lengths[wrong].as_py()} entries, not fsl.max_sequence_length = {length}"
            return
    ids, mask = (_matrix(rows[column], length) for column in ("input_ids", "attention_mask"))
    num_tokens = rows["num_tokens"].to_numpy()
    real = np.arange(length) < num_tokens[:, None]
    tokenizer, image = facts["tokenizer"], facts["image"]
    yield from _first_row(mask.astype(bool) != real, "attention_mask does not mark the first num_tokens ids")
    yield from _first_row(
        (ids != tokenizer["pad_token_id"]) & ~real, f"padding is not the pad token, id {tokenizer['pad_token_id']}"
    )
    yield from _first_row((ids < 0) | (ids >= tokenizer["num_tokens"]), f"ids outside the tokenizer's {tokenizer['num_tokens']}")
    num_images = pc.list_value_length(rows["images"]).to_numpy()
    image_ids = ((ids == image["image_token_id"]) & real).sum(axis=1)
    per_image = sum(times for token, times in image["span"] if token == image["image_token"])
    yield from _first_row(
        (image_ids != num_images * per_image)[:, None],
        f"image tokens (id {image['image_token_id']}) are not {per_image} for each of its images: another tokenizer, or spans are cut",
    )
    num_events = pc.list_value_length(rows["event_offsets"])
    if not num_events.equals(pc.list_value_length(rows["event_timestamps_ns"])):
        yield "event_offsets and event_timestamps_ns have different lengths"
    for key, found in (("tokens", int(num_tokens.sum())), ("images", int(num_images.sum()))):
        if key in ledger and ledger[key] != found:
            yield f"{found} {key} where its ledger says {ledger[key]}"


def _first_row(is_wrong: np.ndarray[Any, np.dtype[np.bool_]], problem: str) -> Iterator[str]:
    wrong = np.flatnonzero(is_wrong.any(axis=1))
    if len(wrong):
        yield f"row {wrong[0]} (and {len(wrong) - 1} more): {problem}"


def _matrix(column: pa.ChunkedArray, length: int) -> np.ndarray[Any, np.dtype[Any]]:
    values = pa.chunked_array([chunk.flatten() for chunk in column.chunks])
    return values.to_numpy().reshape(-1, length)


def _is_ascending(column: pa.ChunkedArray) -> bool:
    values = column.to_numpy()
    return bool((values[1:] >= values[:-1]).all())


def iter_media_uris(kind: str, rows: pa.Table) -> Iterator[str]:
    """Yield the distinct media that the rows of an episode refer to, as recorded; embedded images left out."""
    seen = set()
    for message in _screens(kind, rows):
        uri = _uri_of(message)
        if uri and not uri.startswith(_EMBEDDED) and uri not in seen:
            seen.add(uri)
            yield uri


def _screens(kind: str, rows: pa.Table) -> Iterator[bytes | str]:
    """All screens of the rows, as JSON."""
    if kind == "event":
        is_screen = pc.match_substring(rows["message_type"], "ScreenCaptured")
        yield from rows["mcap_message"].filter(is_screen).to_pylist()
    elif kind == "fsl":
        for chunk in rows["images"].chunks:
            yield from chunk.flatten().to_pylist()
    elif kind == "binned":
        for chunk in rows["state"].chunks:
            yield from chunk.flatten().to_pylist()
    else:
        raise AssertionError(f"no columns of screens are known for {kind}")


class _Reference(msgspec.Struct):
    uri: str = ""
    path: str = ""


class _Screen(msgspec.Struct):
    media_ref: _Reference | None = None
    path: str = ""


class _Message(msgspec.Struct):
    message: str = ""


def _uri_of(content: bytes | str) -> str:
    """The media reference of a screen, or of a message that holds one; empty where it has none."""
    try:
        inner = msgspec.json.decode(content, type=_Message).message or content
        screen = msgspec.json.decode(inner, type=_Screen)
    except BROKEN_JSON:
        return ""
    reference = screen.media_ref
    return ((reference.uri or reference.path) if reference else screen.path).replace("\\", "/")
