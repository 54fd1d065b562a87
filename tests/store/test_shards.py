"""Record batches of a shard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from owa_data.binned.bins import bins_at_rate
from owa_data.binned.convert import convert_events as to_bins
from owa_data.encoding.pieces import PieceTable
from owa_data.encoding.registry import create_encoder
from owa_data.event.convert import convert_recording
from owa_data.fsl.convert import convert_events as to_fsl
from owa_data.params import BinnedParams, EventParams, FslParams
from owa_data.sample.recording import write_recording
from owa_data.sample.simulate import SimulationParams, simulate
from owa_data.store import shards
from owa_data.store.shards import batch_bounds
from owa_data.store.source import open_source


def test_rows_and_bytes_both_end_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_BATCH_BYTES", 10)
    sizes = np.array([1, 1, 1, 9, 1, 25, 1, 1])
    assert batch_bounds(sizes, 3) == [(0, 3), (3, 5), (5, 6), (6, 8)]
    assert batch_bounds(sizes[:0], 3) == []


@given(st.lists(st.integers(0, 1 << 30), max_size=40), st.integers(1, 7))
def test_every_row_is_in_one_batch(sizes: list[int], max_rows: int) -> None:
    bounds = batch_bounds(np.array(sizes, np.int64), max_rows)
    assert [row for start, stop in bounds for row in range(start, stop)] == list(range(len(sizes)))
    for start, stop in bounds:
        assert stop - start == 1 or (stop - start <= max_rows and sum(sizes[start:stop]) <= shards.MAX_BATCH_BYTES)


def test_conversions_cut_batches_by_bytes_and_rows_stay_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with embedded images: what would be over 2 GiB in one batch is in several."""
    recording = tmp_path / "a.mcap"
    write_recording(recording, simulate(SimulationParams(duration_s=20, screen_hz=20), 0), "a.mkv", (64, 48), "test")
    encoder = create_encoder("factorized")
    table = PieceTable.from_ids(encoder.pieces, [[number] for number in range(len(encoder.pieces))], 0)

    def convert() -> tuple[pa.Table, pa.Table, pa.Table]:
        with open_source(recording) as source:
            batches, _ = convert_recording(source, "a.mcap", EventParams(), trust="nothing")
            event = pa.Table.from_batches(list(batches))
        batches, _ = to_fsl(event, "a.mcap", FslParams(max_sequence_length=64), encoder, lambda _: table)
        fsl = pa.Table.from_batches(list(batches))
        batches, _ = to_bins(event, "a.mcap", BinnedParams(), bins_at_rate)
        return event, fsl, pa.Table.from_batches(list(batches))

    usual = convert()
    monkeypatch.setattr(shards, "MAX_BATCH_BYTES", 4000)
    for whole, cut in zip(usual, convert(), strict=True):
        assert cut["episode_path"].num_chunks > 2 * whole["episode_path"].num_chunks
        assert cut.combine_chunks().equals(whole.combine_chunks())
