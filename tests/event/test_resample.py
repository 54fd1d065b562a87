"""Resampling: literal cases, then what holds for any times."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from owa_data.event import intervals, resample
from owa_data.event.grid import as_rate, period_of, period_start_ns
from tests.strategies import sorted_times

MS = 1_000_000
ONE = intervals.normalize([(0, 10_000 * MS)])
RATES = st.sampled_from([1, 7, 20, 29.97, 60, 1000])


def times(*ms: float) -> np.ndarray:
    return np.array([int(m * MS) for m in ms], np.int64)


def zeros(moments: np.ndarray) -> np.ndarray:
    return np.zeros(len(moments), np.int64)


def yes(moments: np.ndarray) -> np.ndarray:
    return np.ones(len(moments), np.bool_)


def test_first_per_period_takes_the_first_of_each_50_ms() -> None:
    moments = times(0, 16, 33, 50, 66, 99, 100, 190)
    kept = resample.first_per_period(moments, zeros(moments), ONE, as_rate(20), yes(moments))
    assert kept.sources.tolist() == [0, 3, 6, 7]
    assert kept.dropped == {"resampled": 4}


def test_grids_start_at_the_intervals_start() -> None:
    moments = times(30, 60, 90)
    table = intervals.normalize([(30 * MS, 1000 * MS)])
    assert resample.first_per_period(moments, zeros(moments), table, as_rate(20), yes(moments)).sources.tolist() == [0, 2]


def test_drop_is_upstreams_rule() -> None:
    moments = times(0, 16.7, 33.4, 49.9, 66.6, 99.9, 116.6)
    assert resample.drop(moments, zeros(moments), as_rate(20), yes(moments)).sources.tolist() == [0, 4, 6]


def test_a_jittering_60_hz_screen_at_20_hz() -> None:
    rng = np.random.default_rng(0)
    moments = np.sort(np.arange(6000) * 16_666_667 + rng.integers(0, 3_000_000, 6000))
    table = intervals.normalize([(0, int(moments[-1]) + 1)])
    seconds = moments[-1] / 1e9
    first = resample.first_per_period(moments, zeros(moments), table, as_rate(20), yes(moments))
    dropped = resample.drop(moments, zeros(moments), as_rate(20), yes(moments))
    assert len(first.sources) / seconds == pytest.approx(20, rel=0.01)
    assert len(dropped.sources) / seconds < 19


def test_what_must_not_be_dropped_is_kept_and_counts_for_nothing() -> None:
    moments = times(0, 10, 20, 60)
    can_drop = np.array([True, False, True, True])
    kept = resample.first_per_period(moments, zeros(moments), ONE, as_rate(20), can_drop)
    assert kept.sources.tolist() == [0, 1, 3]


def test_sums_stand_at_the_last_motion_and_before_a_click() -> None:
    moments = times(0, 10, 20, 30, 60)
    motion = np.array([[1, 0], [2, 0], [0, 0], [3, 1], [4, 0]])
    is_motion = np.array([True, True, False, True, True])
    rows, sums = resample.sum_moves(moments, zeros(moments), ONE, as_rate(20), motion, is_motion)
    assert rows.sources.tolist() == [1, 2, 3, 4]
    assert sums.tolist() == [[3, 0], [0, 0], [3, 1], [4, 0]]
    assert rows.dropped == {"summed_into_later": 1}


@given(sorted_times(), RATES, st.data())
def test_sum_moves_preserves_motion_and_order(moments: np.ndarray, rate_hz: float, data: st.DataObject) -> None:
    n = len(moments)
    motion = np.array(data.draw(st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=n, max_size=n)))
    motion = motion.reshape(-1, 2).astype(np.int64)
    is_motion = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), np.bool_)
    table = intervals.normalize([(0, 1_200_000_000), (1_500_000_000, 3_000_000_001)])
    index = intervals.index_of(table, moments)
    moments, motion, is_motion, index = (part[index >= 0] for part in (moments, motion, is_motion, index))
    rows, sums = resample.sum_moves(moments, index, table, as_rate(rate_hz), motion, is_motion)
    assert sums.sum(axis=0).tolist() == motion.sum(axis=0).tolist()
    assert len(moments) == len(rows.sources) + rows.dropped.get("summed_into_later", 0)
    assert np.all(np.diff(rows.sources) > 0)
    # Before every message that is not motion, all motion of its interval recorded before it has been emitted, and no other.
    for source in np.flatnonzero(~is_motion):
        before = rows.sources < source
        mine = index[rows.sources] == index[source]
        assert sums[before & mine].sum(axis=0).tolist() == motion[:source][index[:source] == index[source]].sum(axis=0).tolist()


@given(sorted_times(), RATES)
def test_first_per_period_and_drop_against_a_plain_loop(moments: np.ndarray, rate_hz: float) -> None:
    table = intervals.normalize([(0, 3_000_000_001)])
    rate = as_rate(rate_hz)
    seen: set[int] = set()
    expected = []
    for i, moment in enumerate(moments.tolist()):
        period = int(Fraction(moment) * rate / 10**9)
        if period not in seen:
            expected.append(i)
            seen.add(period)
    assert resample.first_per_period(moments, zeros(moments), table, rate, yes(moments)).sources.tolist() == expected
    last, expected = None, []
    for i, moment in enumerate(moments.tolist()):
        if last is None or (moment - last) * rate >= 10**9:
            expected.append(i)
            last = moment
    assert resample.drop(moments, zeros(moments), rate, yes(moments)).sources.tolist() == expected


def held(rows: resample.Resampled, pressed: np.ndarray) -> list[tuple[float, str]]:
    return [
        (time / MS, "press" if pressed[source] else "release")
        for time, source in zip(rows.times_ns.tolist(), rows.sources, strict=True)
    ]


def test_a_held_key_repeats_uniformly_until_release() -> None:
    moments = times(0, 500, 533, 566, 610)  # the recorder's own repeats begin after half a second
    pressed = np.array([True, True, True, True, False])
    vk = np.full(5, 87)
    rows = resample.repeat_held_keys(moments, zeros(moments), ONE, as_rate(5), vk, pressed)
    assert held(rows, pressed) == [(0, "press"), (200, "press"), (400, "press"), (600, "press"), (610, "release")]
    assert rows.dropped == {"own_repeats": 3}
    assert rows.altered == {"added": 3, "held_at_interval_end": 0}


def test_times_of_repeats_stay_in_int64_at_any_rate() -> None:
    rate = as_rate(0.333333)  # 333,333 in a million seconds
    end_ns = 40_000 * 10**9
    rows = resample.repeat_held_keys(
        np.array([0, end_ns]),
        np.zeros(2, np.int64),
        intervals.normalize([(0, end_ns + 1)]),
        rate,
        np.array([65, 65]),
        np.array([True, False]),
    )
    assert rows.times_ns[-2:].tolist() == [-(-13_333 * 10**9 * rate.denominator // rate.numerator), end_ns]
    assert (np.diff(rows.times_ns) > 0).all()


def test_a_key_held_for_years_is_a_broken_clock() -> None:
    moments = np.array([17, 10**18], np.int64)
    pressed = np.array([True, False])
    table = intervals.normalize([(0, 10**18 + 1)])
    with pytest.raises(resample.BrokenClockError, match="held from 17 to 1000000000000000000 ns") as broken:
        resample.repeat_held_keys(moments, zeros(moments), table, as_rate(30), np.array([65, 65]), pressed)
    assert broken.value.num_repeats > 10**10


def test_a_key_held_over_the_intervals_end_stops_there() -> None:
    table = intervals.normalize([(0, 450 * MS), (1000 * MS, 2000 * MS)])
    moments = times(0, 1100, 1150)
    pressed = np.array([True, False, True])
    rows = resample.repeat_held_keys(moments, intervals.index_of(table, moments), table, as_rate(5), np.full(3, 65), pressed)
    assert held(rows, pressed)[:4] == [(0, "press"), (200, "press"), (400, "press"), (1100, "release")]
    assert rows.altered["held_at_interval_end"] == 2


@given(sorted_times(max_size=40), st.data())
def test_repeats_against_a_plain_replay(moments: np.ndarray, data: st.DataObject) -> None:
    n = len(moments)
    vk = np.array(data.draw(st.lists(st.integers(65, 67), min_size=n, max_size=n)), np.int64)
    pressed = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), np.bool_)
    end, period = 3_000_000_001, 100 * MS
    rows = resample.repeat_held_keys(moments, zeros(moments), intervals.normalize([(0, end)]), as_rate(10), vk, pressed)
    expected, down = [], {}
    for key in (65, 66, 67):
        for moment, is_press in [(m, p) for m, v, p in zip(moments.tolist(), vk, pressed.tolist(), strict=True) if v == key] + [
            (end, None)
        ]:
            if key in down and (is_press is None or not is_press):
                expected += [(t, key, True) for t in range(down[key] + period, moment, period)]
                del down[key]
            if is_press and key not in down:
                down[key] = moment
                expected.append((moment, key, True))
            elif is_press is False:
                expected.append((moment, key, False))
    found = [(t, int(vk[s]), bool(pressed[s])) for t, s in zip(rows.times_ns.tolist(), rows.sources, strict=True)]
    assert sorted(found) == sorted(expected)


@given(st.integers(0, 10**16), st.sampled_from([1, 7, 29.97, 60, 0.1, 0.001, 59.94, 123.456, 1000]))
def test_periods_are_exact(moment: int, rate_hz: float) -> None:
    rate = as_rate(rate_hz)
    period = int(period_of(np.array([moment]), rate)[0])
    assert period == moment * rate // 10**9
    start = int(period_start_ns(np.array([period]), rate)[0])
    assert start == -(-period * 10**9 // rate)
    assert start <= moment < int(period_start_ns(np.array([period + 1]), rate)[0])
