"""Event rows to token rows: golden ids, columns that agree with each other."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owa_data.encoding.factorized import factorized
from owa_data.encoding.pieces import PieceTable
from owa_data.errors import EpisodeError
from owa_data.fsl.convert import convert_events
from owa_data.fsl.extend import extend_tokenizer
from owa_data.fsl.families import image_span
from owa_data.fsl.tokenizer import load_tokenizer
from owa_data.params import EventParams, FslParams, IntervalParams
from owa_data.schema import FSL_SCHEMA
from tests.conftest import shared_path
from tests.event.test_convert import EVERYTHING
from tests.event.test_convert import convert as convert_recording
from tests.fsl.test_tokenizer import BYTE, internvl3
from tests.strategies import event_tables

BYTE_EXTENDED = extend_tokenizer(load_tokenizer(BYTE), factorized().vocabulary, image_span(BYTE.image))
BYTE_TABLE = PieceTable.from_ids(factorized().pieces, BYTE_EXTENDED.ids_of_pieces(factorized().pieces), 256)


def convert(table: pa.Table, pieces: PieceTable = BYTE_TABLE, **knobs: object) -> tuple[pa.Table, dict]:
    params = FslParams(**knobs)
    batches, ledger = convert_events(table, "a.mcap", params, factorized(), lambda _: pieces)
    return pa.Table.from_batches(list(batches), FSL_SCHEMA), ledger


def test_golden_rows_equal_upstreams() -> None:
    events, _ = convert_recording(
        shared_path("golden/recording.mcap"), EventParams(topics=EVERYTHING, intervals=IntervalParams(select="whole_file"))
    )
    params = internvl3()
    extended = extend_tokenizer(load_tokenizer(params), factorized().vocabulary, image_span(params.image))
    pieces = PieceTable.from_ids(factorized().pieces, extended.ids_of_pieces(factorized().pieces), extended.pad_token_id)
    rows, _ = convert(events, pieces)
    golden = np.load(shared_path("golden/fsl.npz"))
    ids = np.array(rows["input_ids"].to_pylist())
    mask = np.array(rows["attention_mask"].to_pylist())
    assert ids.shape == golden["input_ids"].shape
    assert np.array_equal(ids[:-1], golden["input_ids"][:-1])
    assert np.array_equal(mask[:-1], golden["attention_mask"][:-1])
    # The last row goes on where upstream's ends: with the message at the file's last time.
    length = int(golden["attention_mask"][-1].sum())
    assert np.array_equal(ids[-1, :length], golden["input_ids"][-1, :length])
    assert int(mask[-1].sum()) == length + 8
    assert rows["images"].to_pylist() == json.loads(gzip.decompress(shared_path("golden/images.json.gz").read_bytes()))


@settings(max_examples=60)
@given(event_tables(), st.sampled_from([100, 256, 4096]), st.sampled_from([0.0, 0.1]), st.booleans())
def test_columns_agree_with_each_other(table: pa.Table, length: int, shift: float, texts: bool) -> None:
    rows, ledger = convert(table, max_sequence_length=length, time_shift_seconds_for_action=shift, write_texts=texts)
    image_id = BYTE_EXTENDED.id_of("<IMG_CONTEXT>")
    num_events = 0
    for row in rows.to_pylist():
        ids, mask = np.array(row["input_ids"]), np.array(row["attention_mask"])
        assert len(ids) == len(mask) == length
        assert mask.tolist() == [1] * row["num_tokens"] + [0] * (length - row["num_tokens"])
        assert np.all(ids[row["num_tokens"] :] == 256)
        assert (ids == image_id).sum() == 64 * len(row["images"]) == 64 * row["event_kinds"].count(0)
        starts = np.flatnonzero(ids[: row["num_tokens"]] == BYTE_EXTENDED.id_of("<EVENT_START>"))
        assert starts.tolist() == row["event_offsets"]
        assert row["start_ns"] == min(row["event_timestamps_ns"])
        assert row["end_ns"] == max(row["event_timestamps_ns"]) + 1
        if texts:
            assert row["texts"].count("<image_placeholder>") == len(row["images"])
            text = row["texts"].replace("<image_placeholder>", BYTE_EXTENDED.span.text)
            assert BYTE_EXTENDED.ids_of([text]) == [ids[: row["num_tokens"]].tolist()]
        else:
            assert row["texts"] == ""
        num_events += len(row["event_offsets"])
    assert ledger["events"]["kept"] == num_events
    assert ledger["events"]["read"] == table.num_rows == num_events + sum(ledger["events"]["dropped"].values())
    assert ledger["rows"] * length == ledger["tokens"] + ledger["padding_tokens"]


@given(event_tables())
@settings(max_examples=30)
def test_batching_changes_nothing(table: pa.Table) -> None:
    from owa_data.fsl import convert as module

    whole, _ = convert(table, max_sequence_length=100)
    before = module.IDS_PER_BATCH
    module.IDS_PER_BATCH = 100
    try:
        assert convert(table, max_sequence_length=100)[0].equals(whole)
    finally:
        module.IDS_PER_BATCH = before


def test_too_long_events_are_an_error_or_counted() -> None:
    from tests.strategies import event_table

    table = event_table([(0, "screen", "desktop/ScreenCaptured", {"media_ref": {"uri": "a.mkv", "pts_ns": 0}})])
    with pytest.raises(EpisodeError, match=r"72 tokens, more than fsl\.max_sequence_length = 50"):
        convert(table, max_sequence_length=50)
    rows, ledger = convert(table, max_sequence_length=50, on_too_long="drop")
    assert rows.num_rows == 0
    assert ledger["events"]["dropped"] == {"too_long": 1}
