"""Integers as text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from owa_data.raw.decimal import decimal_text, num_characters


@pytest.mark.parametrize("values", [[], [0], [-1, 10**18], [10**18, 2**63 - 1], [10**18 - 1, 10**18], [-(2**63)]])
def test_integers_are_written_in_their_plain_form(values: list[int]) -> None:
    texts = decimal_text(np.array(values, np.int64))
    texts.validate(full=True)
    assert texts.to_pylist() == [str(value) for value in values]


@given(st.lists(st.integers(10**18, 2**63 - 1), min_size=1))
def test_times_are_written_in_their_plain_form(values: list[int]) -> None:
    assert decimal_text(np.array(values, np.int64)).to_pylist() == [str(value) for value in values]


EDGES = [edge for power in range(19) for edge in (10**power - 1, 10**power, -(10**power) + 1, -(10**power))]


@pytest.mark.parametrize("values", [EDGES, [10**18, 2**63 - 1], [5, 10**18], []])
def test_characters_are_counted(values: list[int]) -> None:
    assert num_characters(np.array(values, np.int64)).tolist() == [len(str(value)) for value in values]
    assert decimal_text(np.array(values, np.int64)).to_pylist() == [str(value) for value in values]
