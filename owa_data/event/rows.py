r"""The `mcap_message` column: payloads wrapped as the JSON of `mcap_owa.highlevel.McapMessage`, and unwrapped again.

    {"topic":"keyboard","timestamp":17,"message":"{\\"event_type\\":\\"press\\",\\"vk\\":87}","message_type":"desktop/KeyboardEvent"}

Both directions are string kernels over whole columns. Unwrapping relies on this exact form, which only this module writes.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from owa_data.raw.decimal import decimal_text
from owa_data.raw.payloads import Payloads, offsets_of

_SPACE, _QUOTE, _BACKSLASH = b' "\\'


def _quote(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _envelope(topic: str, message_type: str) -> tuple[str, str]:
    return f'{{"topic":{_quote(topic)},"timestamp":', f'","message_type":{_quote(message_type)}}}'


_MIDDLE = ',"message":"'


def wrap_payloads(
    kinds: list[tuple[str, str]], codes: npt.NDArray[np.int64], times_ns: npt.NDArray[np.int64], payloads: Payloads
) -> pa.BinaryArray:
    """Write the `mcap_message` column.

    Args:
        kinds: Topic and message type of each code.
        codes: Index into `kinds`, int64 (n,).
        times_ns: int64 (n,).
        payloads: JSON payloads in UTF-8 (n,).

    Returns:
        Arrow binary (n,).
    """
    envelopes = [_envelope(*kind) for kind in kinds]
    rows = pa.array(codes)
    heads = pa.array([head for head, _ in envelopes], pa.large_string()).take(rows)
    tails = pa.array([tail for _, tail in envelopes], pa.large_string()).take(rows)
    times = decimal_text(times_ns)
    middle, nothing = pa.scalar(_MIDDLE, pa.large_string()), pa.scalar("", pa.large_string())
    wrapped = pc.binary_join_element_wise(
        heads, times, middle, _escape(payloads.to_arrow().view(pa.large_string())), tails, nothing
    )
    return wrapped.cast(pa.large_binary()).cast(pa.binary())


def _offsets(array: pa.Array) -> npt.NDArray[np.int64]:
    """Where the elements of a large string array begin, and where the last one ends, counted from the first; int64 (n + 1,)."""
    offsets = offsets_of(array)
    return offsets - offsets[0]


def _values(array: pa.Array) -> npt.NDArray[np.uint8]:
    """The bytes of a large string array's elements, one after another."""
    offsets = offsets_of(array)
    data = array.buffers()[2]
    return np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]] if data is not None and len(array) else np.empty(0, np.uint8)


def _array_of(dtype: pa.DataType, offsets: npt.NDArray[np.int64], values: bytes | memoryview) -> pa.Array:
    return pa.Array.from_buffers(dtype, len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(values)])


def _escape(payloads: pa.LargeStringArray) -> pa.LargeStringArray:
    octets = _values(payloads)
    if octets.min(initial=_SPACE) < _SPACE:
        # Control characters, such as the newlines of pretty-printed JSON: rare, and JSON has many forms for them.
        return pa.array([_quote(payload)[1:-1] for payload in payloads.to_pylist()], pa.large_string())
    # All payloads at once: each quote and backslash becomes two bytes, nothing else changes.
    text = str(octets.data, "utf-8")
    is_doubled = octets == _QUOTE
    if "\\" in text:
        is_doubled |= octets == _BACKSLASH
    escaped = memoryview(msgspec.json.encode(text))[1:-1]
    offsets = _offsets(payloads)
    return _array_of(pa.large_string(), offsets + _count_before(is_doubled, offsets), escaped)


def _count_before(mask: npt.NDArray[np.bool_], places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Count the true elements before each place, int64 like `places`, which are 0 to `len(mask)`; a third of the time of a sum over all."""
    words = np.zeros(len(mask) // 8 + 1, np.uint64)  # eight elements each, the first one in the lowest byte
    words.view(np.bool_)[: len(mask)] = mask
    before_word = np.cumsum(np.bitwise_count(words), dtype=np.int64)
    before_word = np.concatenate([[0], before_word[:-1]])
    word, num_bits = places >> 3, (places & 7).astype(np.uint64) << np.uint64(3)
    in_word = words[word] & ((np.uint64(1) << num_bits) - np.uint64(1))
    return before_word[word] + np.bitwise_count(in_word)


def message_column(rows: pa.Table) -> pa.LargeBinaryArray:
    """Return the column `mcap_message` of event rows in one piece, which can be more than the 2 GiB of Arrow binary."""
    chunks = [chunk.cast(pa.large_binary()) for chunk in rows["mcap_message"].chunks]
    return pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_binary())


def unwrap_payloads(
    kinds: list[tuple[str, str]], codes: npt.NDArray[np.int64], times_ns: npt.NDArray[np.int64], messages: pa.LargeBinaryArray
) -> Payloads:
    """Return the payloads of a `message_column`: the inverse of `wrap_payloads`, with the same arguments."""
    if not len(messages):
        return Payloads.of([])
    envelopes = [_envelope(*kind) for kind in kinds]
    head_bytes = np.array([len(head.encode()) for head, _ in envelopes], np.int64)
    tail_bytes = np.array([len(tail.encode()) for _, tail in envelopes], np.int64)
    offsets = offsets_of(messages)
    starts = offsets[:-1] + head_bytes[codes] + _num_digits(times_ns) + len(_MIDDLE)
    ends = offsets[1:] - tail_bytes[codes]
    return _unescape(Payloads(np.frombuffer(messages.buffers()[2], np.uint8), starts, ends).to_arrow())


def _num_digits(times_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    powers = np.array([10**exponent for exponent in range(1, 19)], np.int64)
    return np.searchsorted(powers, np.abs(times_ns), side="right") + 1 + (times_ns < 0)


def _unescape(escaped: pa.LargeBinaryArray) -> Payloads:
    octets = _values(escaped)
    is_backslash = octets == _BACKSLASH
    if not (is_backslash[:-1] & (octets[1:] != _QUOTE)).any() and not is_backslash[-1:].any():
        # Only quotes are escaped, so that all payloads can be cleared of backslashes at once.
        offsets = _offsets(escaped)
        offsets = offsets - _count_before(is_backslash, offsets)
        unescaped = octets.tobytes().translate(None, b"\\")
        return Payloads(np.frombuffer(unescaped, np.uint8), offsets[:-1], offsets[1:])
    decode = msgspec.json.Decoder(str).decode
    return Payloads.of([decode(b'"%s"' % payload).encode() for payload in escaped.to_pylist()])
