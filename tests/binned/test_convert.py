"""Bins of one episode: literal cases, then every event and every number against a plain replay."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from owa_data.binned.bins import Bins, assign_events, bins_at_rate
from owa_data.binned.convert import convert_events
from owa_data.encoding.events import read_events
from owa_data.errors import EpisodeError, ParamsError
from owa_data.params import BinnedParams
from owa_data.schema import BINNED_SCHEMA
from tests.binned.event_rows import EPISODE, event_rows, key, raw_mouse, screen

MS = 1_000_000
VK_W = 87


def convert(rows, bin_function=bins_at_rate, **params):
    batches, ledger = convert_events(event_rows(rows), EPISODE, BinnedParams(**params), bin_function)
    return pa.Table.from_batches(list(batches), schema=BINNED_SCHEMA).to_pylist(), ledger


def times_of(messages):
    return [json.loads(message)["timestamp"] for message in messages]


def test_bins_hold_their_events_and_what_is_held_at_their_ends():
    rows = [
        screen(5 * MS),
        key(10 * MS, VK_W, "press"),
        raw_mouse(20 * MS, 3, -2, flags=0x001),
        raw_mouse(104 * MS, 4, 1),
        raw_mouse(110 * MS, 0, 0, flags=0x400, data=65416),
        key(230 * MS, VK_W, "release"),
        raw_mouse(231 * MS, 0, 0, flags=0x002),
        screen(300 * MS),
    ]
    bins, ledger = convert(rows)
    assert [row["timestamp_ns"] for row in bins] == [5 * MS, 105 * MS, 205 * MS]
    assert [row["bin_idx"] for row in bins] == [0, 1, 2]
    assert [times_of(row["actions"]) for row in bins] == [[10 * MS, 20 * MS, 104 * MS], [110 * MS], [230 * MS, 231 * MS]]
    assert [times_of(row["state"]) for row in bins] == [[5 * MS], [5 * MS], [300 * MS]]
    assert [row["keys_down"] for row in bins] == [[VK_W], [VK_W], []]
    assert [row["buttons_down"] for row in bins] == [[1], [1], []]
    assert [(row["dx"], row["dy"], row["wheel"]) for row in bins] == [(7, -1, 0), (0, 0, -120), (0, 0, 0)]
    assert ledger["topics"]["screen"] == {"read": 2, "kept": 2, "dropped": {}}
    assert {row["episode_path"] for row in bins} == {EPISODE}


@pytest.mark.parametrize(
    ("state", "expected"),
    [("all", [[0], [100, 150], [150], [300]]), ("last", [[0], [150], [150], [300]]), ("before", [[0], [100], [150], [300]])],
)
def test_state_is_what_the_setting_says(state, expected):
    rows = [screen(0), screen(100 * MS), screen(150 * MS), screen(300 * MS)]
    bins, ledger = convert(rows, state=state)
    assert [[time // MS for time in times_of(row["state"])] for row in bins] == expected
    counts = ledger["topics"]["screen"]
    assert counts["read"] == counts["kept"] + sum(counts["dropped"].values()) == 4


def test_before_has_no_state_where_no_screen_came_yet():
    bins, _ = convert([key(0, 65, "press"), screen(10 * MS), key(110 * MS, 65, "release")], state="before")
    assert [times_of(row["state"]) for row in bins] == [[], [10 * MS]]


def test_nothing_crosses_from_one_interval_into_the_next():
    rows = [
        screen(0),
        key(1, VK_W, "press"),
        raw_mouse(2, flags=0x004),
        key(900 * MS, 65, "press", interval=1),
        key(1_050 * MS, VK_W, "release", interval=1),
    ]
    bins, _ = convert(rows)
    assert [row["timestamp_ns"] for row in bins] == [0, 900 * MS, 1_000 * MS]
    assert [row["keys_down"] for row in bins] == [[VK_W], [65], [65]]
    assert [row["buttons_down"] for row in bins] == [[2], [], []]
    assert [len(row["state"]) for row in bins] == [1, 0, 0]


def test_bins_without_actions_are_left_out_and_counted():
    rows = [key(0, VK_W, "press"), screen(150 * MS), key(350 * MS, VK_W, "release")]
    bins, ledger = convert(rows, filter_empty_actions=True, state="last")
    assert [row["bin_idx"] for row in bins] == [0, 3]
    assert bins[1]["keys_down"] == []
    assert times_of(bins[1]["state"]) == [150 * MS]
    assert ledger["dropped_rows"] == {"empty_actions": 2}


def test_absolute_positions_become_motion_only_where_there_is_no_raw_motion():
    def mouse(time_ns, x, y, **more):
        return time_ns, 0, "mouse", {"event_type": "move", "x": x, "y": y, **more}

    moves = [mouse(0, 10, 10), mouse(1, 14, 7), (2, 0, "mouse", {"event_type": "scroll", "x": 14, "y": 7, "dx": 0, "dy": -1})]
    bins, _ = convert(moves)
    assert (bins[0]["dx"], bins[0]["dy"], bins[0]["wheel"]) == (4, -3, -120)
    bins, _ = convert([*moves, raw_mouse(3, 1, 1)])
    assert (bins[0]["dx"], bins[0]["dy"], bins[0]["wheel"]) == (1, 1, 0)
    assert len(bins[0]["actions"]) == 4


def test_an_episode_without_events_has_no_bins():
    assert convert([])[0] == []


def test_other_topics_are_counted():
    _, ledger = convert([(0, 0, "window", {"title": "x", "rect": [0, 0, 1, 1], "hWnd": 1})])
    assert ledger["topics"]["window"]["dropped"] == {"neither_state_nor_action": 1}


def by_click(events, params):
    """Bins that begin with each interval and at each press of the left button."""
    begins = np.flatnonzero(np.append(True, np.diff(events.interval_index) > 0) | (events.raw_mouse[:, 3] & 1 > 0))
    return Bins(events.times_ns[begins], events.interval_index[begins])


def test_bins_of_ones_own():
    rows = [screen(0), raw_mouse(10, flags=1), key(11, 65, "press"), raw_mouse(50, flags=2), raw_mouse(70, flags=1)]
    bins, _ = convert(rows, by_click)
    assert [row["timestamp_ns"] for row in bins] == [0, 10, 70]
    assert [row["keys_down"] for row in bins] == [[], [65], [65]]


def test_bins_of_ones_own_must_cover_every_event():
    with pytest.raises(ParamsError, match=r"binned\.bin_function: a/one\.mcap: no bin of its interval holds the event at 3 ns"):
        convert([screen(3), screen(5)], lambda events, params: Bins(np.array([4]), np.array([0])))
    with pytest.raises(ParamsError, match="must ascend"):
        convert([screen(3), screen(5)], lambda events, params: Bins(np.array([3, 3]), np.array([0, 0])))
    with pytest.raises(ParamsError, match="interval_index must not descend"):
        convert([screen(3), screen(5)], lambda events, params: Bins(np.array([3, 9]), np.array([0, -1])))


def test_a_bin_function_of_ones_own_cannot_change_the_events():
    def zeroing(events, params):
        events.raw_mouse[:] = 0
        return bins_at_rate(events, params)

    with pytest.raises(ParamsError, match="read-only"):
        convert([screen(0), raw_mouse(10, 5, 5)], zeroing)


steps_ns = st.one_of(st.integers(0, 3), st.integers(0, 400 * MS))
actions = st.one_of(
    st.just(("screen",)),
    st.tuples(st.just("key"), st.sampled_from([65, 66]), st.sampled_from(["press", "release"])),
    st.tuples(
        st.just("raw"),
        st.integers(-2000, 2000),
        st.integers(-2000, 2000),
        st.sampled_from([0, 0x1, 0x2, 0x3, 0x4, 0x8, 0x11, 0x402, 0x400, 0x800]),
        st.sampled_from([0, 120, 65416, 60]),
    ),
)
MAKERS = {"screen": screen, "key": key, "raw": raw_mouse}


@st.composite
def episodes(draw):
    """Rows in time order, in one to three intervals."""
    rows, time_ns = [], draw(st.integers(0, 2_000_000_000_000_000_000))
    for interval in range(draw(st.integers(1, 3))):
        for step, (kind, *arguments) in draw(st.lists(st.tuples(steps_ns, actions), max_size=25)):
            time_ns += step
            rows.append(MAKERS[kind](time_ns, *arguments, interval=interval))
        time_ns += 1 + draw(steps_ns)
    return rows


RATES = {10: Fraction(10), 29.97: Fraction(2997, 100), 7: Fraction(7), 0.3: Fraction(3, 10), 1000: Fraction(1000)}


@given(episodes(), st.sampled_from(sorted(RATES)))
def test_each_event_is_in_exactly_one_bin_whose_edges_are_exact(rows, fps):
    events = read_events(event_rows(rows))
    bins = bins_at_rate(events, BinnedParams(fps=fps))
    place = assign_events(events, bins, EPISODE)
    starts = {interval: time_ns for time_ns, interval, *_ in reversed(rows)}
    for (time_ns, interval, *_), index in zip(rows, place.tolist(), strict=True):
        assert bins.interval_index[index] == interval
        first = int(np.flatnonzero(bins.interval_index == interval)[0])
        lower = starts[interval] + (index - first) / RATES[fps] * 10**9
        assert lower <= time_ns < lower + 10**9 / RATES[fps]
        assert bins.starts_ns[index] == -(-lower // 1)
    found, ledger = convert(rows, fps=fps)
    binned_actions = [message for row in found for message in row["actions"]]
    assert len(binned_actions) == sum(topic != "screen" for _, _, topic, _ in rows)
    assert len(set(binned_actions)) == len({json.dumps(row) for row in rows if row[2] != "screen"})
    for counts in ledger["topics"].values():
        assert counts["read"] == counts["kept"] + sum(counts["dropped"].values())


def replay(rows, starts_ns, intervals):
    """What the numbers of each bin must be, event by event."""
    bins = [{"keys": set(), "buttons": set(), "dx": 0, "dy": 0, "wheel": 0} for _ in starts_ns]
    for index, (start_ns, interval) in enumerate(zip(starts_ns, intervals, strict=True)):
        is_first = index == 0 or intervals[index - 1] != interval
        now = bins[index]
        if not is_first:
            now["keys"], now["buttons"] = set(bins[index - 1]["keys"]), set(bins[index - 1]["buttons"])
        is_last = index + 1 == len(starts_ns) or intervals[index + 1] != interval
        for time_ns, of_interval, topic, payload in rows:
            if of_interval != interval or time_ns < start_ns or (not is_last and time_ns >= starts_ns[index + 1]):
                continue
            if topic == "keyboard":
                (now["keys"].add if payload["event_type"] == "press" else now["keys"].discard)(payload["vk"])
            if topic == "mouse/raw":
                now["dx"] += payload["last_x"]
                now["dy"] += payload["last_y"]
                flags, data = payload["button_flags"], payload["button_data"]
                if flags & 0x400:
                    now["wheel"] += data - 65536 if data >= 32768 else data
                for button, (down, up) in {1: (1, 2), 2: (4, 8), 4: (16, 32)}.items():
                    if flags & down:
                        now["buttons"].add(button)
                    if flags & up:
                        now["buttons"].discard(button)
    return bins


@given(episodes(), st.sampled_from([3, 7, 29.97]))
def test_numbers_equal_a_plain_replay(rows, fps):
    found, _ = convert(rows, fps=fps)
    bins = bins_at_rate(read_events(event_rows(rows)), BinnedParams(fps=fps))
    expected = replay(rows, bins.starts_ns.tolist(), bins.interval_index.tolist())
    assert [
        {"keys": set(row["keys_down"]), "buttons": set(row["buttons_down"])} | {name: row[name] for name in ("dx", "dy", "wheel")}
        for row in found
    ] == expected
    assert all(row["keys_down"] == sorted(set(row["keys_down"])) for row in found)


@given(episodes(), st.sampled_from([7, 29.97]), st.sampled_from(["all", "last", "before"]))
def test_state_equals_a_plain_search(rows, fps, state):
    found, _ = convert(rows, fps=fps, state=state)
    bins = bins_at_rate(read_events(event_rows(rows)), BinnedParams(fps=fps))
    ends = np.append(bins.starts_ns, np.iinfo(np.int64).max)[1:]
    for row, start, end, interval in zip(found, bins.starts_ns, ends[: len(found)], bins.interval_index, strict=True):
        times = [time_ns for time_ns, of_interval, topic, _ in rows if topic == "screen" and of_interval == interval]
        own = [time_ns for time_ns in times if start <= time_ns < end]
        before = [time_ns for time_ns in times if time_ns < end][-1:]
        expected = {"all": own or before, "last": before, "before": [t for t in times if t <= start][-1:]}[state]
        assert times_of(row["state"]) == expected


def test_what_a_bin_function_of_ones_own_raises_is_its_fault():
    def broken(events, params):
        raise ValueError("my own mistake")

    with pytest.raises(ParamsError, match=r"binned\.bin_function: 'mine:broken' raised ValueError: my own mistake"):
        convert_events(event_rows([screen(0)]), EPISODE, BinnedParams(bin_function="mine:broken"), broken)

    def huge(events, params):
        raise MemoryError

    with pytest.raises(MemoryError):
        convert_events(event_rows([screen(0)]), EPISODE, BinnedParams(bin_function="mine:huge"), huge)


def test_what_raw_fields_cannot_say_of_absolute_positions_is_counted():
    click = {"event_type": "click", "x": 1, "y": 1, "button": "x9", "pressed": True}
    _, ledger = convert([screen(0), (1, 0, "mouse", click)])
    assert ledger["altered"] == {"unknown_button": 1}


def test_what_bins_cannot_hold_is_counted():
    wide = 2**31 - 1
    rows = [
        key(0, VK_W, "press"),
        raw_mouse(10 * MS, wide, 1),
        raw_mouse(20 * MS, 5, -(2**31)),
        raw_mouse(30 * MS, 0, 0, flags=0x800, data=120),
        raw_mouse(40 * MS, 0, 0, flags=0x400, data=120),
        screen(150 * MS),
    ]
    bins, ledger = convert(rows, state="before")
    assert [(row["dx"], row["dy"], row["wheel"]) for row in bins] == [(wide, -wide, 120), (0, 0, 0)]
    assert ledger["altered"] == {"clamped": 1, "horizontal_wheel": 1}
    assert (ledger["rows"], ledger["rows_without_state"], ledger["rows_without_actions"]) == (2, 2, 1)


def test_screens_that_are_in_no_row_are_told_apart():
    rows = [
        key(0, VK_W, "press"),
        screen(10 * MS),
        screen(20 * MS),
        screen(150 * MS),
        screen(160 * MS),
        key(250 * MS, VK_W, "release"),
    ]
    bins, ledger = convert(rows, state="last", filter_empty_actions=True)
    assert [row["bin_idx"] for row in bins] == [0, 2]
    # Of bin 0 the last is kept; that of bin 1 is the state of bin 2 too, the one before it of none.
    assert [times_of(row["state"]) for row in bins] == [[20 * MS], [160 * MS]]
    assert ledger["topics"]["screen"] == {"read": 4, "kept": 2, "dropped": {"not_the_last_screen": 2}}
    assert ledger["dropped_rows"] == {"empty_actions": 1}
    bins, ledger = convert(rows[:-1], state="last", filter_empty_actions=True)
    assert ledger["topics"]["screen"] == {"read": 4, "kept": 1, "dropped": {"not_the_last_screen": 2, "empty_bins": 1}}


def test_a_clock_that_is_wrong_by_years_is_told_before_bins_are_made():
    with pytest.raises(EpisodeError, match=rf"{EPISODE}.*17,499,999,999 bins .* from 1000 to 1750000000000000000 ns"):
        convert([key(1000, VK_W, "press"), key(1_750_000_000_000_000_000, VK_W, "release")])
