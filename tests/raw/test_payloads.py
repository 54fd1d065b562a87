"""Payloads as spans: every choice is what a list of bytes would give."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from owa_data.raw.payloads import PayloadPool, Payloads, copy_runs


def test_literal() -> None:
    payloads = Payloads.of([b"ab", b"c", b"", b"defg"])
    assert len(payloads) == 4
    assert payloads[3] == b"defg"
    assert payloads.take(np.array([3, 0, 0, 2])).to_pylist() == [b"defg", b"ab", b"ab", b""]
    assert payloads.take(np.array([True, False, False, True])).to_arrow().to_pylist() == [b"ab", b"defg"]
    assert payloads.take(slice(1, None)).to_pylist() == [b"c", b"", b"defg"]
    assert payloads.has_at(1, b"ef").tolist() == [False, False, False, True]
    # Not even where the next payload goes on with it.
    assert payloads.has_at(1, b"bc").tolist() == [False] * 4


def test_a_slice_of_an_array_is_viewed_where_it_begins() -> None:
    array = pa.array([b"one", b"two", b"three"], pa.large_binary())
    assert Payloads.of(array.slice(1)).to_pylist() == [b"two", b"three"]
    assert Payloads.of(array.slice(3)).to_arrow().to_pylist() == []


@given(st.data())
def test_any_choice_is_that_of_a_list(data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.binary(max_size=20), min_size=1, max_size=30))
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=40))
    payloads = Payloads.of(rows).take(np.array(chosen, np.int64))
    expected = [rows[index] for index in chosen]
    assert payloads.to_pylist() == expected
    arrow = payloads.to_arrow()
    arrow.validate(full=True)
    assert arrow.to_pylist() == expected
    assert Payloads.of(arrow).to_pylist() == expected
    place, text = data.draw(st.integers(0, 5)), data.draw(st.binary(min_size=1, max_size=3))
    assert payloads.has_at(place, text).tolist() == [row[place : place + len(text)] == text for row in expected]


def test_more_than_are_copied_at_once() -> None:
    rows = [b"%d" % number for number in range(20_000)]
    payloads = Payloads.of(rows).take(slice(None, None, -1))
    arrow = payloads.to_arrow()
    arrow.validate(full=True)
    assert arrow.to_pylist() == rows[::-1]
    assert Payloads.of([b"", b""]).to_arrow().to_pylist() == [b"", b""]


def test_collected_payloads_outlast_their_buffers() -> None:
    pool = PayloadPool()
    buffer = bytearray(b"xx{1}{22}y")
    octets = np.frombuffer(buffer, np.uint8)
    first = pool.add(Payloads(octets, np.array([2, 5]), np.array([5, 9])))
    last = pool.add(Payloads(octets, np.array([9]), np.array([10])))  # where no longer stretch fits
    buffer[:] = b"-" * len(buffer)
    assert Payloads(pool.octets, *first).to_pylist() == [b"{1}", b"{22}"]
    assert Payloads(pool.octets, *last).to_pylist() == [b"y"]


@given(st.data())
def test_any_payloads_can_be_collected(data: st.DataObject) -> None:
    pool = PayloadPool()
    expected, starts, ends = [], [], []
    for _ in range(data.draw(st.integers(1, 4))):
        # Alike in length and not: both ways of copying.
        rows = data.draw(st.lists(st.one_of(st.binary(max_size=3), st.binary(min_size=8, max_size=60)), min_size=1, max_size=30))
        chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=40))
        begin, end = pool.add(Payloads.of(rows).take(np.array(chosen, np.int64)))
        starts.append(begin)
        ends.append(end)
        expected += [rows[index] for index in chosen]
    assert Payloads(pool.octets, np.concatenate(starts), np.concatenate(ends)).to_pylist() == expected


def test_a_pool_grows_and_earlier_views_stay() -> None:
    pool = PayloadPool()
    pool.reserve(4)
    starts, ends = pool.add_arrow(pa.array(["skipped", "ab", "", "c"], pa.large_string())[1:])
    early = Payloads(pool.octets, starts, ends)
    pool.reserve(2)  # less than there is
    more = pool.add(Payloads.of([b"0123456789"]))
    assert early.to_pylist() == Payloads(pool.octets, starts, ends).to_pylist() == [b"ab", b"", b"c"]
    assert Payloads(pool.octets, *more).to_pylist() == [b"0123456789"]
    assert [len(places) for places in pool.add_arrow(pa.array([], pa.large_binary()))] == [0, 0]


def test_runs_are_copied_in_order_wherever_they_lie() -> None:
    octets = np.frombuffer(b"0123456789", np.uint8)
    one, two = (np.array([7, 0, 2]), np.array([10, 0, 3])), (np.array([3, 1, 2]), np.array([5, 2, 2]))
    assert copy_runs(octets, [one]).to_pylist() == [b"789", b"", b"2"]
    assert copy_runs(octets, [one, two, one]).to_pylist() == [b"78934789", b"1", b"22"]
    assert copy_runs(octets[:0], [(np.zeros(2, np.int64), np.zeros(2, np.int64))]).to_pylist() == [b"", b""]
    assert copy_runs(octets, [(one[0][:0], one[1][:0])] * 2).to_pylist() == []


def test_a_scratch_is_forgotten() -> None:
    pool = PayloadPool()
    pool.add(Payloads.of([b"abc"]))
    with pool.scratch():
        pool.add_arrow(pa.array(["longer than before"], pa.large_string()))
    assert pool.octets.tobytes() == b"abc"
    pool.reserve(10)
    assert pool.room_bytes >= 7
    assert pool.octets.tobytes() == b"abc"
