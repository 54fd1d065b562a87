"""Packing: literal rows, then what holds for any events."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from owa_data.fsl.pack import pack_events, row_starts
from owa_data.params import FslParams

S = 1_000_000_000


def pack(
    lengths: list[int],
    times: list[int],
    actions: list[bool],
    images: list[bool],
    intervals: list[int] | None = None,
    **knobs: object,
):
    params = FslParams(**{"max_sequence_length": 16, **knobs})
    return pack_events(
        np.array(lengths, np.int64),
        np.array(times, np.int64),
        np.array(intervals or [0] * len(lengths), np.int64),
        np.array(actions, np.bool_),
        np.array(images, np.bool_),
        params,
    )


def rows(packing) -> list[list[int]]:
    return [packing.order[a:b].tolist() for a, b in zip(packing.row_offsets[:-1], packing.row_offsets[1:], strict=True)]


@pytest.mark.parametrize(
    ("lengths", "starts"),
    [([3, 3, 3, 3], [0, 2]), ([7], [0]), ([7, 7], [0, 1]), ([1] * 8, [0, 7]), ([], []), ([4, 4, 3, 4], [0, 1, 3])],
)
def test_greedy_rows_of_7(lengths: list[int], starts: list[int]) -> None:
    assert row_starts(np.array(lengths, np.int64), 7, np.zeros(len(lengths), np.bool_)).tolist() == starts


def test_rows_may_span_intervals_or_end_with_them() -> None:
    arguments = ([2, 2, 2], [0, 1, 2], [True] * 3, [False] * 3, [0, 0, 1])
    assert rows(pack(*arguments)) == [[0, 1, 2]]
    assert rows(pack(*arguments, span_intervals=False)) == [[0, 1], [2]]


def test_a_row_of_early_actions_alone_is_emptied_and_counted() -> None:
    # Rows of 16: two actions, then an image with an action soon after it.
    packing = pack(
        [8, 8, 8, 8],
        [0, 1, 2 * S, 3 * S],
        [True, True, False, True],
        [False, False, True, False],
        skip_first_t_seconds_for_action=0.5,
    )
    assert rows(packing) == [[2, 3]]
    assert packing.dropped == {"skipped_first_actions": 2}
    assert packing.dropped_rows == {"emptied_by_skip": 1}


def test_rows_without_images_are_dropped_and_counted() -> None:
    packing = pack([10, 10, 10], [0, 1, 2], [True, False, True], [False, True, False], rows_without_images="drop")
    assert rows(packing) == [[1]]
    assert packing.dropped == {"rows_without_images": 2}
    assert packing.dropped_rows == {"without_images": 2}


def test_shift_moves_actions_within_their_row_alone() -> None:
    # Screen at 0, action at 0.05, screen at 0.1 | action at 0.12 in the next row.
    packing = pack(
        [5, 5, 5, 5], [0, 50_000_000, 100_000_000, 120_000_000], [False, True, False, True], [True, False, True, False],
        time_shift_seconds_for_action=0.1,
    )  # fmt: skip
    assert rows(packing) == [[0, 2, 1], [3]]


def test_skip_comes_first_and_counts_from_the_first_other_event() -> None:
    packing = pack(
        [2, 2, 2, 2, 2], [0, S, 2 * S, 3 * S, 4 * S], [True, False, True, True, False], [False, True, False, False, True],
        skip_first_t_seconds_for_action=1.5, time_shift_seconds_for_action=10,
    )  # fmt: skip
    assert rows(packing) == [[1, 4, 3]]  # actions before 1 s + 1.5 s are left out, the rest shifted behind
    assert packing.dropped == {"skipped_first_actions": 2}


def test_equal_shifted_times_keep_their_order() -> None:
    packing = pack([1, 1, 1], [0, 0, S], [True, True, False], [False] * 3, time_shift_seconds_for_action=1)
    assert rows(packing) == [[0, 1, 2]]


@given(
    st.lists(st.tuples(st.integers(1, 16), st.integers(0, S), st.booleans(), st.integers(0, 1)), max_size=60),
    st.booleans(),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([0.0, 0.3]),
)
def test_properties(events: list[tuple[int, int, bool, int]], span: bool, shift: float, skip: float) -> None:
    lengths = [length for length, *_ in events]
    times = np.cumsum([gap for _, gap, *_ in events]).tolist() if events else []
    actions = [action for *_, action, _ in events]
    interval = np.cumsum([step for *_, step in events]).tolist() if events else []
    packing = pack(
        lengths, times, actions, [not action for action in actions], interval,
        span_intervals=span, time_shift_seconds_for_action=shift, skip_first_t_seconds_for_action=skip,
    )  # fmt: skip
    packed = rows(packing)
    assert all(packed)
    assert sorted(event for row in packed for event in row) == sorted(set(packing.order.tolist()))
    assert len(packing.order) + sum(packing.dropped.values()) == len(events)
    for row in packed:
        assert sum(lengths[i] for i in row) <= 16
        assert span or len({interval[i] for i in row}) == 1
        shifted = [times[i] + (int(shift * S) if actions[i] else 0) for i in row]
        assert shifted == sorted(shifted)
    # Rows follow each other in time: no event of a later row comes before one of an earlier row.
    assert all(max(a) < min(b) for a, b in pairwise(packed))
