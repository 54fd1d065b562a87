"""The `mcap_message` column, there and back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcap_owa.highlevel import McapMessage

from owa_data.event.rows import WrappedRows, message_spans, unwrap_payloads
from owa_data.raw import messages
from owa_data.raw.payloads import PayloadPool, Payloads
from owa_data.raw.templates import TemplatePayloads, concat_payloads
from tests.wrapping import wrap_payloads

KINDS = [("screen", "desktop/ScreenCaptured"), ('od"d\\to pic', "x/Ü"), ("keyboard", "desktop/KeyboardEvent")]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2**63 - 1), st.text(max_size=30)), max_size=12))
def test_wrapping_is_the_ecosystems_form_and_unwrapping_undoes_it(rows: list[tuple[int, int, str]]) -> None:
    codes = np.array([code for code, _, _ in rows], np.int64)
    times = np.array([time for _, time, _ in rows], np.int64)
    texts = pa.array([text for _, _, text in rows], pa.large_string())
    if not rows:
        return
    wrapped = wrap_payloads(KINDS, codes, times, Payloads.of(texts))
    for (code, time, text), message in zip(rows, wrapped.to_pylist(), strict=True):
        parsed = McapMessage.model_validate_json(message)
        assert (parsed.topic, parsed.message_type, parsed.timestamp, parsed.message.decode()) == (*KINDS[code], time, text)
    assert unwrap_payloads(KINDS, codes, times, Payloads.of(wrapped.cast(pa.large_binary()))).to_pylist() == [
        text.encode() for _, _, text in rows
    ]
    half = Payloads.of(wrapped.slice(len(rows) // 2).cast(pa.large_binary()))
    assert unwrap_payloads(KINDS, codes[len(rows) // 2 :], times[len(rows) // 2 :], half).to_pylist() == [
        text.encode() for _, _, text in rows[len(rows) // 2 :]
    ]


def test_literal() -> None:
    wrapped = wrap_payloads([("keyboard", "K")], np.array([0]), np.array([17]), Payloads.of([b'{"vk":87}']))
    assert wrapped.to_pylist() == [b'{"topic":"keyboard","timestamp":17,"message":"{\\"vk\\":87}","message_type":"K"}']
    message = McapMessage(topic="keyboard", timestamp=17, message=b'{"vk":87}', message_type="K")
    assert wrapped.to_pylist() == [message.model_dump_json().encode()]


@pytest.mark.parametrize("room_bytes", [0, 10_000])
def test_templates_are_wrapped_as_their_payloads_are(room_bytes: int) -> None:
    pool = PayloadPool()
    keys = messages.write_keyboard(np.array([87, 9]), np.array([True, False]), np.array([5, 6]), pool)
    odd = Payloads.of([b'{"utc_ns":1, "media_ref":{"uri":"\\u00fc.mkv","pts_ns":0}}', b'{\n"vk":\t3}', "ü\\".encode()])
    starts, ends = pool.add(odd)
    payloads = concat_payloads([TemplatePayloads.whole(Payloads(pool.octets, starts, ends), pool), keys])
    codes, times = np.array([1, 2, 0, 2, 2]), np.array([7, 10**18, 3, 8, 10**18 + 5])
    wrapped = WrappedRows(KINDS, codes, times, payloads)
    plain = Payloads.of(payloads.to_pylist())
    pool.reserve(len(pool.octets) + room_bytes)  # what is quoted finds room, or is put in a pool of its own
    pool._buffer = pool._buffer[: len(pool.octets) + room_bytes]
    num_bytes = len(pool.octets)
    for chosen in ([0, 1, 2, 3, 4], [4, 2, 0], [1], [3, 4], []):
        rows = np.array(chosen, np.int64)
        expected = wrap_payloads(KINDS, codes[rows], times[rows], plain.take(rows)) if chosen else pa.array([], pa.binary())
        assert wrapped.write(rows).equals(expected)
        assert len(pool.octets) == num_bytes, "a batch leaves nothing behind"


def column_table(*chunks: list[bytes]) -> pa.Table:
    return pa.table({"mcap_message": pa.chunked_array([pa.array(chunk, pa.binary()) for chunk in chunks], pa.binary())})


def in_a_file(table: pa.Table) -> pa.Table:
    with pa.BufferOutputStream() as stream:
        with pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
        return pa.ipc.open_stream(stream.getvalue()).read_all()


@pytest.mark.parametrize("chunks", [[[b"a", b"bb"], [], [b"", b"ccc"]], [[b"", b""]], [[b"a"], [b"", b""]], [[]], []])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_messages_are_seen_as_they_are_in_files_and_in_memory(chunks: list[list[bytes]], start: int) -> None:
    table = column_table(*chunks)
    for rows in (table, in_a_file(table)):
        expected = [message for chunk in chunks for message in chunk][start:]
        assert message_spans(rows.slice(start)).to_pylist() == expected


def test_messages_of_a_file_are_not_copied() -> None:
    rows = in_a_file(column_table([b"a" * 100], [b"b" * 100]))
    spans = message_spans(rows)
    places = [chunk.buffers()[2].address for chunk in rows["mcap_message"].chunks]
    assert (spans.octets.ctypes.data + spans.starts).tolist() == places
