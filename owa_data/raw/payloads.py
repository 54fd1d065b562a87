"""Message contents where they lie: spans of one buffer, copied only when they are wanted as Arrow.

A recording's chunks are unfolded into one buffer, and what is chosen from it, by topic, by time or by content, is chosen by index arithmetic alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Int64s = npt.NDArray[np.int64]
Octets = npt.NDArray[np.uint8]

_COPIED_AT_ONCE = 1 << 13  # payloads


def stretches_of(octets: Octets, width: int) -> npt.NDArray[np.void]:
    """View every stretch of `width` bytes, wherever it begins, as one element, so that many are gathered by one index; without a copy."""
    return np.ndarray((max(len(octets) - width + 1, 0),), f"V{width}", octets, strides=(1,))


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
        offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
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
        """Copy the payloads into an Arrow large_binary array, in order; about 10 million payloads/s."""
        blocks = [self.take(slice(first, first + _COPIED_AT_ONCE)) for first in range(0, len(self), _COPIED_AT_ONCE)]
        return pa.concat_arrays([block._copy() for block in blocks]) if blocks else pa.array([], pa.large_binary())

    def _copy(self) -> pa.LargeBinaryArray:
        """Copy at least one payload. Arrow reserves half of what lies between the first one and the last, hence in blocks."""
        num_payloads = len(self)
        low, high = int(self.starts.min()), int(self.ends.max())
        # The offsets start0, end0, start1, end1, ... make an Arrow array over the buffer in which every second element is a payload and
        # the others are what lies between; `take` of the even ones copies just the payloads. What lies between is never looked at, so
        # that it does no harm where the offsets descend; only the last offset must not lie before the first.
        offsets = np.empty(2 * num_payloads + 1, np.int64)
        offsets[0:-1:2] = self.starts - low
        offsets[1::2] = self.ends - low
        offsets[-1] = high - low
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self.octets[low:high])]
        interleaved = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 2 * num_payloads, buffers)
        return interleaved.take(pa.array(np.arange(0, 2 * num_payloads, 2)))

    def to_pylist(self) -> list[bytes]:
        """Return all payloads as bytes."""
        return [self.octets[start:end].tobytes() for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True)]
