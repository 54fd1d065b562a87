r"""Payloads as they stand inside JSON strings, there and back.

    {"event_type":"press","vk":87}   <->   {\"event_type\":\"press\",\"vk\":87}

Both directions are a few operations over all payloads together. What is read of quoted payloads by their shape (`raw/integers.py`) is read where it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from owa_data.errors import BROKEN_JSON, SchemaError
from owa_data.raw.payloads import Int64s, Payloads, offsets_of

_SPACE, _QUOTE, _BACKSLASH = b' "\\'


@dataclass(frozen=True, slots=True)
class QuotedPayloads:
    r"""Payloads of which `stored` are the quoted forms. To unquote one that is no JSON string is a `SchemaError`.

    Example:
        >>> QuotedPayloads(Payloads.of([rb"{\"vk\":87}"])).to_pylist()
        [b'{"vk":87}']
    """

    stored: Payloads

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: int) -> bytes:
        """Return one payload."""
        return _unquote_each([self.stored[index]])[0]

    def take(self, rows: Int64s | npt.NDArray[np.bool_] | slice) -> QuotedPayloads:
        """Choose payloads by index, by mask or by slice; no payload is copied."""
        return QuotedPayloads(self.stored.take(rows))

    def plain(self) -> Payloads:
        """Return them unquoted; 2 copies."""
        return _unquote(self.stored.to_arrow())

    def to_pylist(self) -> list[bytes]:
        """Return all payloads as bytes, unquoted."""
        # As a list first: for a few of many that is far less than Arrow reserves for a copy.
        return _unquote(pa.array(self.stored.to_pylist(), pa.large_binary())).to_pylist()


def quote(text: str) -> str:
    """Write a text as a JSON string, quotes included."""
    return msgspec.json.encode(text).decode()


def quote_payloads(payloads: Payloads) -> pa.LargeStringArray:
    """Return payloads in UTF-8 in their quoted form, in order."""
    copied = payloads.to_arrow().view(pa.large_string())
    octets = _values(copied)
    if octets.min(initial=_SPACE) < _SPACE:
        # Control characters, such as the newlines of pretty-printed JSON: rare, and JSON has many forms for them.
        return pa.array([quote(payload)[1:-1] for payload in copied.to_pylist()], pa.large_string())
    # All payloads at once: each quote and backslash becomes two bytes, nothing else changes.
    text = str(octets.data, "utf-8")
    is_doubled = octets == _QUOTE
    if "\\" in text:
        is_doubled |= octets == _BACKSLASH
    quoted = memoryview(msgspec.json.encode(text))[1:-1]
    offsets = _offsets(copied)
    offsets = offsets + _count_before(is_doubled, offsets)
    return pa.Array.from_buffers(pa.large_string(), len(copied), [None, pa.py_buffer(offsets), pa.py_buffer(quoted)])


def _unquote(quoted: pa.LargeBinaryArray) -> Payloads:
    octets = _values(quoted)
    is_backslash = octets == _BACKSLASH
    if not (is_backslash[:-1] & (octets[1:] != _QUOTE)).any() and not is_backslash[-1:].any():
        # Only quotes are escaped, so that all payloads can be cleared of backslashes at once.
        offsets = _offsets(quoted)
        offsets = offsets - _count_before(is_backslash, offsets)
        plain = octets.tobytes().translate(None, b"\\")
        return Payloads(np.frombuffer(plain, np.uint8), offsets[:-1], offsets[1:])
    return Payloads.of(_unquote_each(quoted.to_pylist()))


def _unquote_each(quoted: Sequence[bytes]) -> list[bytes]:
    decode = msgspec.json.Decoder(str).decode
    try:
        return [decode(b'"%s"' % payload).encode() for payload in quoted]
    except BROKEN_JSON as error:
        raise SchemaError(f"event rows hold a message that is no JSON string ({error}); rebuild the event dataset") from error


def _offsets(array: pa.Array) -> Int64s:
    """Where the elements of a large string array begin, and where the last one ends, counted from the first; int64 (n + 1,)."""
    offsets = offsets_of(array)
    return offsets - offsets[0]


def _values(array: pa.Array) -> npt.NDArray[np.uint8]:
    """The bytes of a large string array's elements, one after another."""
    offsets = offsets_of(array)
    data = array.buffers()[2]
    return np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]] if data is not None and len(array) else np.empty(0, np.uint8)


def _count_before(mask: npt.NDArray[np.bool_], places: Int64s) -> Int64s:
    """Count the true elements before each place, int64 like `places`, which are 0 to `len(mask)`; far less work than a sum over all."""
    words = np.zeros(len(mask) // 64 + 1, "<u8")  # 64 elements each, the first one in the lowest bit
    bits = np.packbits(mask, bitorder="little")
    words.view(np.uint8)[: len(bits)] = bits
    before_word = np.concatenate([[0], np.cumsum(np.bitwise_count(words), dtype=np.int64)])
    word, bit = places >> 6, (places & 63).astype(np.uint64)
    in_word = words[word] & ((np.uint64(1) << bit) - np.uint64(1))
    return before_word[word] + np.bitwise_count(in_word)
