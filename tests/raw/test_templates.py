"""Payloads as templates: written out they are what they were, byte for byte."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from owa_data.raw import messages
from owa_data.raw.integers import fixed_shape
from owa_data.raw.payloads import PayloadPool, Payloads
from owa_data.raw.templates import WHOLE, TemplatePayloads, concat_payloads, cut_by_shape, place_payloads
from tests.wrapping import pooled


def of_shape(rows: list[bytes], integers: dict[bytes, list[int]]) -> TemplatePayloads:
    payloads, pool = pooled(Payloads.of(rows))
    shape = fixed_shape(rows, set(integers))
    assert shape is not None
    return cut_by_shape(payloads, shape, {key: np.array(values) for key, values in integers.items()}, pool)


def test_literal() -> None:
    rows = [b'{"vk":87,"t":170}', b'{"vk":-9,"t":188}']
    cut = of_shape(rows, {})
    assert cut.templates == (("", ""), ('{"vk":', ',"t":1', "}"))
    assert cut.codes.tolist() == [1, 1]
    assert [[cut.pool.octets[start:end].tobytes() for start, end in slot.T] for slot in cut.slots] == [
        [b"87", b"-9"],
        [b"70", b"88"],
    ]
    assert cut.to_pylist() == rows
    assert cut.num_bytes.tolist() == [17, 17]


def test_two_integers_of_any_length_are_found_where_one_is_known() -> None:
    rows = [b'{"x":1,"y":-222,"z":0}', b'{"x":-33,"y":4,"z":0}']
    assert of_shape(rows, {}).codes.tolist() == [WHOLE, WHOLE]
    for known in ({b"x": [1, -33]}, {b"y": [-222, 4]}, {b"x": [1, -33], b"y": [-222, 4]}):
        cut = of_shape(rows, known)
        assert cut.templates[1] == ('{"x":', ',"y":', ',"z":0}')
        assert cut.to_pylist() == rows


@given(st.data())
def test_any_integers(data: st.DataObject) -> None:
    """However many integers there are and whichever one is not known, all are found."""
    names = data.draw(st.lists(st.sampled_from(["a", "bb", "ccc", "d"]), min_size=1, max_size=4, unique=True))
    number = st.integers(-99_999_999, 99_999_999) | st.integers(-20, 20)
    table = data.draw(st.lists(st.tuples(*[number] * len(names)), min_size=2, max_size=8))
    rows = [
        b"{%s}" % b",".join(b'"%s":%d' % (name.encode(), value) for name, value in zip(names, row, strict=True)) for row in table
    ]
    unknown = data.draw(st.sampled_from([None, *names]))
    known = {name.encode(): list(column) for name, column in zip(names, zip(*table, strict=True), strict=True) if name != unknown}
    # What a sample has in common is taken for fixed; so the sample is all of them.
    assert of_shape(rows, known).to_pylist() == rows


def test_parts_are_put_in_their_places() -> None:
    pool = PayloadPool()
    starts, ends = pool.add(Payloads.of([b"a", b'"b"', b"c"]))
    whole = TemplatePayloads.whole(Payloads(pool.octets, starts, ends), pool)
    keys = messages.write_keyboard(np.array([87, 9]), np.array([True, False]), np.array([5, 6]), pool)
    moves = messages.write_raw_mouse(np.array([[1, 2, 0, 0, 0]]), np.array([7]), pool)
    expected = [*whole.to_pylist(), *keys.to_pylist(), *moves.to_pylist()]
    parts = concat_payloads([whole, keys, moves])
    assert parts.to_pylist() == expected
    assert parts.codes.tolist() == [0, 0, 0, 2, 1, 3]
    assert parts.take(np.array([5, 0])).to_pylist() == [expected[5], expected[0]]
    # What had three slots is whole, with one.
    placed = place_payloads(3, [(slice(None), concat_payloads([moves, moves, moves])), (np.array([1]), whole.take(slice(1, 2)))])
    assert placed.to_pylist() == [expected[5], b'"b"', expected[5]]


def test_none() -> None:
    pool = PayloadPool()
    none = messages.write_raw_mouse(np.zeros((0, 5), np.int64), np.array([], np.int64), pool)
    assert none.to_pylist() == concat_payloads([none, none]).to_pylist() == []
    assert pool.add_arrow(pa.array([], pa.large_string()))[0].tolist() == []


def test_many_slots_are_not_cut() -> None:
    names = [f"k{number}" for number in range(9)]
    rows = [b"{%s}" % b",".join(b'"%s":%d' % (name.encode(), value) for name in names) for value in (1, 22)]
    known = {name.encode(): [1, 22] for name in names}
    assert of_shape(rows, known).codes.tolist() == [WHOLE, WHOLE]
    assert of_shape(rows, known).to_pylist() == rows
