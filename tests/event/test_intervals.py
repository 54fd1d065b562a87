"""Interval algebra against sets of integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from owa_data.errors import ParamsError
from owa_data.event import intervals
from owa_data.event.activity import ActivityTimes, parse_selection, select_intervals
from owa_data.params import IntervalParams
from tests.strategies import interval_pairs, sorted_times

SECOND = 1_000_000_000


def as_set(table: np.ndarray) -> set[int]:
    return {moment for start, end in table.tolist() for moment in range(start, end)}


def is_normal(table: np.ndarray) -> bool:
    return bool(np.all(table[:, 0] < table[:, 1]) and np.all(table[1:, 0] > table[:-1, 1]))


def test_touching_intervals_are_one() -> None:
    assert intervals.normalize([(5, 7), (1, 3), (3, 5), (9, 9)]).tolist() == [[1, 7]]


@given(interval_pairs(), interval_pairs())
def test_algebra_equals_sets(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    a, b = intervals.normalize(left), intervals.normalize(right)
    for operation, expected in (
        (intervals.union, as_set(a) | as_set(b)),
        (intervals.intersection, as_set(a) & as_set(b)),
        (intervals.difference, as_set(a) - as_set(b)),
    ):
        result = operation(a, b)
        assert as_set(result) == expected
        assert is_normal(result)


@given(interval_pairs())
def test_index_of_equals_search(pairs: list[tuple[int, int]]) -> None:
    table = intervals.normalize(pairs)
    times = np.arange(70)
    expected = [next((i for i, (start, end) in enumerate(table.tolist()) if start <= time < end), -1) for time in times]
    assert intervals.index_of(table, times).tolist() == expected


def test_runs_end_after_their_last_time() -> None:
    assert intervals.runs_of(np.array([0, 4, 20]), 5).tolist() == [[0, 5], [20, 21]]


@given(sorted_times())
def test_every_time_lies_in_a_run(times: np.ndarray) -> None:
    assert np.all(intervals.index_of(intervals.runs_of(times, SECOND), times) >= 0)


TIMES = ActivityTimes(
    start_ns=0,
    end_ns=100 * SECOND,
    screens=np.arange(0, 60 * SECOND, SECOND // 10),
    inputs=np.array([10, 12, 14, 30, 31]) * SECOND,
    hotkey_releases=np.array([11, 13, 20, 50, 70]) * SECOND,
)


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("whole_file", [[0, 100 * SECOND]]),
        ("inactivity", [[10 * SECOND, 14 * SECOND + 1], [30 * SECOND, 31 * SECOND + 1]]),
        ("hotkey", [[11 * SECOND, 13 * SECOND], [20 * SECOND, 50 * SECOND], [70 * SECOND, 100 * SECOND]]),
        ("inactivity & hotkey", [[11 * SECOND, 13 * SECOND], [30 * SECOND, 31 * SECOND + 1]]),
        ("inactivity - hotkey", [[10 * SECOND, 11 * SECOND], [13 * SECOND, 14 * SECOND + 1]]),
        ("(hotkey | inactivity) - whole_file", []),
    ],
)
def test_selections(select: str, expected: list[list[int]]) -> None:
    assert select_intervals(IntervalParams(select=select), TIMES).tolist() == expected


def test_a_rule_without_topics_does_not_constrain() -> None:
    times = ActivityTimes(0, 100, screens=None, inputs=np.array([5, 6]), hotkey_releases=np.array([], np.int64))
    assert select_intervals(IntervalParams(), times).tolist() == [[5, 7]]


@pytest.mark.parametrize("select", ["nope", "inactivity &", "inactivity + hotkey", "__import__('os')", "1", ""])
def test_bad_selections_are_errors(select: str) -> None:
    with pytest.raises(ParamsError, match=r"event\.intervals\.select"):
        parse_selection(select)
