"""Ids and texts of runs of pieces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from owa_data.encoding.events import read_events
from owa_data.encoding.hierarchical_tokens import hierarchical_tokens
from owa_data.encoding.pieces import IMAGE_PLACEHOLDER, PieceTable
from owa_data.encoding.registry import ENCODERS, create_encoder
from owa_data.encoding.token_scheme import Number
from owa_data.encoding.token_text import TokenText
from owa_data.raw.messages import RAW_MOUSE
from tests.strategies import event_table

KNOWN = [name for name in ENCODERS if create_encoder(name).pieces]

TABLE = PieceTable.from_ids(["a", "bb", "none"], [[1], [2, 3], []], pad_token_id=9)


def test_rows_are_filled_up() -> None:
    ids = TABLE.take_padded_ids(np.array([0, 1, 1]), np.array([1, 3]), np.array([2, 0]))
    assert ids.dtype == np.int32
    assert ids.tolist() == [1, 9, 9, 2, 3, 2, 3]


@given(st.lists(st.tuples(st.lists(st.integers(0, 2), max_size=5), st.integers(0, 4) | st.integers(1022, 3000)), max_size=6))
def test_each_row_is_its_pieces_and_its_pads(rows: list[tuple[list[int], int]]) -> None:
    ids = [[1], [2, 3], []]
    codes = np.array([code for row, _ in rows for code in row], np.int64)
    ends = np.cumsum([len(row) for row, _ in rows], dtype=np.int64)
    pads = np.array([num_pads for _, num_pads in rows], np.int64)
    expected = [number for row, num_pads in rows for number in [*(n for code in row for n in ids[code]), *[9] * num_pads]]
    assert TABLE.take_padded_ids(codes, ends, pads).tolist() == expected


def test_numbers_that_are_written_alike_share_their_pieces() -> None:
    scheme = replace(hierarchical_tokens(), wheel=replace(hierarchical_tokens().motion))
    events = read_events(
        event_table([(17, "mouse/raw", RAW_MOUSE, {"last_x": 12, "last_y": -7, "button_flags": 1024, "button_data": 120})])
    )
    (text,) = scheme.encode(events).texts()
    assert scheme.decode(TokenText.of(text)).events.raw_mouse.tolist() == [[12, -7, 0, 1024, 120]]


def test_a_table_of_tokens_side_by_side() -> None:
    table = PieceTable.from_tokens([("a", "b"), ("image",), ()], {"a": [7], "b": [300], "image": [1, 2, 3]}, 0)
    assert table.texts.to_pylist() == ["ab", "image", ""]
    assert table.num_ids.tolist() == [2, 3, 0]
    assert [np.frombuffer(part, "<i4").tolist() for part in table.ids.to_pylist()] == [[7, 300], [1, 2, 3], []]


@pytest.mark.parametrize("name", KNOWN)
def test_pieces_are_tokens_of_the_vocabulary_side_by_side(name: str) -> None:
    encoder = create_encoder(name)
    assert encoder.pieces == tuple("".join(tokens) for tokens in encoder.piece_tokens)
    assert {token for tokens in encoder.piece_tokens for token in tokens} == {*encoder.vocabulary, IMAGE_PLACEHOLDER}


@pytest.mark.parametrize(
    ("signedness", "value", "rank"), [("sign", -3, 13), ("sign", 3, 3), ("complement", -1, 19), ("no", 25, 5), ("no", 19, 19)]
)
def test_ranks_of_numbers(signedness: str, value: int, rank: int) -> None:
    number = Number("a number", (("+", "-"), tuple("0123456789")), signedness)
    assert number.ranks_of(np.array([value])).tolist() == [rank]
    assert number.value_of(np.array([[rank // 10, rank % 10]])).tolist() == [value % 20 if signedness == "no" else value]
