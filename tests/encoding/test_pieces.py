"""Ids and texts of runs of pieces."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from owa_data.encoding.pieces import PieceTable

TABLE = PieceTable.from_ids(["a", "bb", "none"], [[1], [2, 3], []])


def test_rows_are_filled_up() -> None:
    ids = TABLE.take_padded_ids(np.array([0, 1, 1]), np.array([1, 3]), np.array([2, 0]), pad_token_id=9)
    assert ids.dtype == np.int32
    assert ids.tolist() == [1, 9, 9, 2, 3, 2, 3]


@given(st.lists(st.tuples(st.lists(st.integers(0, 2), max_size=5), st.integers(0, 4)), max_size=6))
def test_each_row_is_its_pieces_and_its_pads(rows: list[tuple[list[int], int]]) -> None:
    ids = [[1], [2, 3], []]
    codes = np.array([code for row, _ in rows for code in row], np.int64)
    ends = np.cumsum([len(row) for row, _ in rows], dtype=np.int64)
    pads = np.array([num_pads for _, num_pads in rows], np.int64)
    expected = [number for row, num_pads in rows for number in [*(n for code in row for n in ids[code]), *[9] * num_pads]]
    assert TABLE.take_padded_ids(codes, ends, pads, pad_token_id=9).tolist() == expected
