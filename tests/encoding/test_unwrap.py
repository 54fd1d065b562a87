"""Wrapped times: literal cases, a whole day, gaps with and without hints."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from owa_data.encoding.unwrap import TimeHints, centred, nearest, unwrap

S = 1_000_000_000
PERIODS_NS = [10 * S, 16 * S]


def unwrapped(times_s: list[float], period_s: int, **hints: float) -> tuple[list[float], list[int]]:
    times_ns = np.array([round(time * S) for time in times_s], np.int64)
    known = TimeHints(**{name: round(value * S) for name, value in hints.items()})
    found, doubts = unwrap(times_ns % (period_s * S), period_s * S, np.arange(len(times_s)) * 8, known)
    return (found / S).tolist(), [position for position, _ in doubts]


def test_steps_over_and_back_over_the_wrap() -> None:
    assert unwrapped([109.9, 110.1, 110.0, 109.8, 114.0, 118.5, 123.4], 10, start_ns=110) == (
        [109.9, 110.1, 110.0, 109.8, 114.0, 118.5, 123.4],
        [],
    )


def test_without_a_hint_times_count_from_zero_and_it_says_so() -> None:
    assert unwrapped([109.9, 110.1], 10) == ([9.9, 10.1], [0])


def test_a_gap_over_half_a_period_without_an_end_is_said() -> None:
    assert unwrapped([100, 107, 108], 10, start_ns=100) == ([100, 97, 98], [8])


def test_a_gap_is_placed_by_the_end_of_the_row() -> None:
    assert unwrapped([100, 107, 108], 10, start_ns=100, end_ns=108) == ([100, 107, 108], [])
    assert unwrapped([100, 106, 112, 113], 10, start_ns=100, end_ns=113) == ([100, 106, 112, 113], [])
    assert unwrapped([100, 137, 138], 10, start_ns=100, end_ns=138) == ([100, 137, 138], [])


def test_a_gap_that_could_be_anywhere_is_said() -> None:
    # 101 -> 113 looks like a step of 2 s.
    assert unwrapped([100, 101, 113], 10, start_ns=100, end_ns=113) == ([100, 101, 113], [16])


def test_stored_times_settle_any_gap() -> None:
    times_ns = np.array([5, 400, 399, 3600 * 30]) * S + 7
    hints = TimeHints(positions=np.arange(4) * 10, times_ns=times_ns)
    found, doubts = unwrap(times_ns // 10_000_000 * 10_000_000 % (10 * S), 10 * S, np.array([0, 10, 20, 30]), hints)
    assert doubts == ()
    assert np.all((times_ns - found >= 0) & (times_ns - found < 10_000_000))


@pytest.mark.parametrize("period_ns", PERIODS_NS)
def test_a_day_of_wrapped_times(period_ns: int) -> None:
    """No gap over half a period, an action shift now and then: order and absolute time to 10 ms."""
    rng = np.random.default_rng(0)
    steps = rng.integers(0, period_ns // 2, 40_000)
    steps[rng.random(len(steps)) < 0.1] = -100_000_000
    times_ns = 1_750_000_012_345_678_901 + np.cumsum(steps)
    assert times_ns[-1] - times_ns[0] > 24 * 3600 * S
    units = times_ns // 10_000_000 * 10_000_000
    found, doubts = unwrap(units % period_ns, period_ns, np.arange(len(units)), TimeHints(start_ns=int(times_ns[0])))
    assert np.array_equal(found, units)
    assert doubts == ()


@given(st.integers(-(10**18), 10**18), st.integers(0, 10 * S - 1))
def test_the_nearest_time_is_within_half_a_period(reference: int, wrapped: int) -> None:
    found = int(nearest(np.array([wrapped]), reference, 10 * S)[0])
    assert found % (10 * S) == wrapped
    assert abs(found - reference) <= 5 * S


@given(st.integers(-(10**18), 10**18))
def test_centred_differences(difference: int) -> None:
    found = int(centred(np.array([difference]), 10 * S)[0])
    assert -5 * S <= found < 5 * S
    assert (found - difference) % (10 * S) == 0
