"""Message contents: spans of one buffer, copied only when they are wanted as Arrow.

What is chosen of them, by time or by content, is chosen by index arithmetic alone. Those of a recording are collected chunk by chunk into one buffer
(`PayloadPool`) while the unfolded chunk is still in cache.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Int64s = npt.NDArray[np.int64]
Octets = npt.NDArray[np.uint8]

_COPIED_AT_ONCE = 1 << 13  # payloads


def offsets_of(array: pa.Array) -> Int64s:
    """View where the elements of an Arrow array of large strings or binaries begin in its bytes, and where the last one ends; int64 (n + 1,)."""
    return np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]


def stretches_of(octets: Octets, width: int) -> npt.NDArray[np.void]:
    """View every stretch of `width` bytes, wherever it begins, as one element, so that many are gathered by one index; without a copy."""
    return np.ndarray((max(len(octets) - width + 1, 0),), f"V{width}", octets, strides=(1,))


Spans = tuple[Int64s, Int64s] | Int64s
"""Where stretches of a buffer begin and end: two arrays of int64 (n,), or one of (2, n)."""


def copy_runs(octets: Octets, columns: Sequence[Spans]) -> pa.LargeBinaryArray:
    """Copy n runs of stretches of a buffer: run i is stretch i of the first column, then that of the second, and so on; Arrow large_binary (n,).

    Takes 20 ns per stretch. Arrow reserves half as much as the buffer: address space, and memory only for the stretches themselves.
    """
    num_runs, num_columns = len(columns[0][0]), len(columns)
    if not num_runs:
        return pa.array([], pa.large_binary())
    # The offsets 0, start0, end0, start1, end1, ... make an Arrow array over the buffer in which every second element is a stretch and the
    # others are what lies between; `take` copies just the stretches. What lies between is never looked at, so that it does no harm where
    # the offsets descend.
    num_stretches = num_runs * num_columns
    offsets = np.empty(2 * num_stretches + 2, np.int64)
    offsets[0], offsets[-1] = 0, len(octets)
    bounds = offsets[1:-1].reshape(num_runs, 2 * num_columns)
    for number, column in enumerate(itertools.chain.from_iterable(columns)):
        bounds[:, number] = column
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(octets)]
    between = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 2 * num_stretches + 1, buffers)
    copied = between.take(pa.array(np.arange(1, 2 * num_stretches, 2)))
    if num_columns == 1:
        return copied
    ends = np.ascontiguousarray(offsets_of(copied)[::num_columns])
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), num_runs, [None, pa.py_buffer(ends), copied.buffers()[2]])


@dataclass(frozen=True, slots=True)
class Payloads:
    """Payload i is `octets[starts[i]:ends[i]]`; `starts` and `ends` are int64 (n,) and need not ascend.

    Example:
        >>> Payloads.of([b"{}", b"[1]"]).take(np.array([1])).to_pylist()
        [b'[1]']
    """

    octets: Octets
    starts: Int64s
    ends: Int64s

    @classmethod
    def of(cls, payloads: pa.LargeBinaryArray | Sequence[bytes]) -> Payloads:
        """View an Arrow large_binary array without nulls as payloads, without a copy; or take bytes."""
        array = payloads if isinstance(payloads, pa.Array) else pa.array(payloads, pa.large_binary())
        if not len(array):
            return cls(np.empty(0, np.uint8), np.empty(0, np.int64), np.empty(0, np.int64))
        offsets = offsets_of(array)
        data = array.buffers()[2]
        octets = np.frombuffer(data, np.uint8) if data is not None and data.size else np.empty(0, np.uint8)
        return cls(octets, offsets[:-1], offsets[1:])

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> bytes:
        """Return one payload."""
        return self.octets[self.starts[index] : self.ends[index]].tobytes()

    def has_at(self, place: int, text: bytes) -> npt.NDArray[np.bool_]:
        """Mask bool (n,) of the payloads that hold `text` at `place`."""
        starts = self.starts + place
        found = starts + len(text) <= self.ends
        found[found] = stretches_of(self.octets, len(text))[starts[found]] == np.void(text)
        return found

    def take(self, rows: Int64s | npt.NDArray[np.bool_] | slice) -> Payloads:
        """Choose payloads by index, by mask or by slice; no payload is copied."""
        return Payloads(self.octets, self.starts[rows], self.ends[rows])

    def to_arrow(self) -> pa.LargeBinaryArray:
        """Return the payloads as an Arrow large_binary array, in order: copied, about 10 million/s, or a view of them where they lie side by side.

        For each block of 8,192 Arrow reserves half of what lies between the first payload and the last: address space, and memory only for the
        payloads themselves.
        """
        if len(self) and np.array_equal(self.starts[1:], self.ends[:-1]):
            first, stop = int(self.starts[0]), int(self.ends[-1])
            offsets = np.append(self.starts, stop) - first
            buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self.octets[first:stop])]
            return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(self), buffers)
        blocks = [self.take(slice(first, first + _COPIED_AT_ONCE)) for first in range(0, len(self), _COPIED_AT_ONCE)]
        return pa.concat_arrays([block._copy() for block in blocks]) if blocks else pa.array([], pa.large_binary())

    def _copy(self) -> pa.LargeBinaryArray:
        """Copy at least one payload."""
        low, high = int(self.starts.min()), int(self.ends.max())
        return copy_runs(self.octets[low:high], [(self.starts - low, self.ends - low)])

    @property
    def stored(self) -> Payloads:
        """These: they are not quoted, as those of `raw/quoted.py` are."""
        return self

    def plain(self) -> Payloads:
        """Return these, see `stored`."""
        return self

    def to_pylist(self) -> list[bytes]:
        """Return all payloads as bytes."""
        return [self.octets[start:end].tobytes() for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True)]


class PayloadPool:
    """Payloads copied together into one buffer that grows.

    Copying takes 20 ns per payload, and memory for each as long as the longest of those added with it. That is at most twice the bytes of all: those
    longer than twice their mean are copied by themselves, 100 ns each.
    """

    def __init__(self) -> None:
        self._buffer = np.empty(0, np.uint8)
        self._num_bytes = 0

    def reserve(self, num_bytes: int) -> None:
        """Make room for so much in all; it becomes memory only where it is written to."""
        if num_bytes > len(self._buffer):
            larger = np.empty(num_bytes, np.uint8)
            larger[: self._num_bytes] = self.octets
            self._buffer = larger

    def add(self, payloads: Payloads) -> tuple[Int64s, Int64s]:
        """Copy at least one payload; return where they begin and end in `octets`, int64 (n,)."""
        num_bytes = payloads.ends - payloads.starts
        limit = 2 * int(num_bytes.sum()) // len(num_bytes)
        if 0 < num_bytes.max() <= limit:
            return self._add_stretches(payloads, num_bytes)
        is_short = (num_bytes > 0) & (num_bytes <= limit)
        if not is_short.any():
            return self.add_arrow(payloads.to_arrow())
        starts, ends = np.empty_like(num_bytes), np.empty_like(num_bytes)
        starts[is_short], ends[is_short] = self._add_stretches(payloads.take(is_short), num_bytes[is_short])
        starts[~is_short], ends[~is_short] = self.add_arrow(payloads.take(~is_short).to_arrow())
        return starts, ends

    def _add_stretches(self, payloads: Payloads, num_bytes: Int64s) -> tuple[Int64s, Int64s]:
        """Copy payloads by stretches as long as the longest; one that would reach over the end of its buffer begins before its payload."""
        width = int(num_bytes.max())
        stretches = stretches_of(payloads.octets, width)
        begins = np.minimum(payloads.starts, len(stretches) - 1)
        base = self._append(stretches[begins].view(np.uint8))
        starts = base + np.arange(0, width * len(payloads), width) + (payloads.starts - begins)
        return starts, starts + num_bytes

    def add_arrow(self, payloads: pa.LargeBinaryArray | pa.LargeStringArray) -> tuple[Int64s, Int64s]:
        """Copy the elements of an array without nulls; return where they begin and end in `octets`, int64 (n,)."""
        copied = Payloads.of(payloads)
        if not len(copied):
            return copied.starts, copied.ends
        first = int(copied.starts[0])
        base = self._append(copied.octets[first : int(copied.ends[-1])]) - first
        return base + copied.starts, base + copied.ends

    @contextmanager
    def scratch(self) -> Iterator[None]:
        """Forget at the end what is added meanwhile; what was viewed of it must not be used any more."""
        num_bytes = self._num_bytes
        try:
            yield
        finally:
            self._num_bytes = num_bytes

    @property
    def room_bytes(self) -> int:
        """How much can be added before the buffer grows, which copies it."""
        return len(self._buffer) - self._num_bytes

    def _append(self, octets: Octets) -> int:
        start, end = self._num_bytes, self._num_bytes + len(octets)
        if end > len(self._buffer):
            self.reserve(2 * end)
        self._buffer[start:end] = octets
        self._num_bytes = end
        return start

    @property
    def octets(self) -> Octets:
        """What was copied so far; what is added later does not change it."""
        return self._buffer[: self._num_bytes]
