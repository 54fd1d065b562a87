r"""The `mcap_message` column: payloads wrapped as the JSON of `mcap_owa.highlevel.McapMessage`, and unwrapped again.

    {"topic":"keyboard","timestamp":17,"message":"{\\"event_type\\":\\"press\\",\\"vk\\":87}","message_type":"desktop/KeyboardEvent"}

Both directions are string kernels over whole columns. Unwrapping relies on this exact form, which only this module writes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from owa_data.raw.decimal import decimal_text
from owa_data.raw.payloads import Payloads, offsets_of
from owa_data.raw.quoted import QuotedPayloads, quote, quote_payloads


def _envelope(topic: str, message_type: str) -> tuple[str, str]:
    return f'{{"topic":{quote(topic)},"timestamp":', f'","message_type":{quote(message_type)}}}'


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
    # Each row is a run of five pieces, and all rows are one `take` from a table of them.
    fixed = [_MIDDLE, *(head for head, _ in envelopes), *(tail for _, tail in envelopes)]
    pieces = pa.concat_arrays([pa.array(fixed, pa.large_string()), decimal_text(times_ns), quote_payloads(payloads)])
    num_rows = len(codes)
    row = len(fixed) + np.arange(num_rows)
    runs = np.zeros((num_rows, 5), np.int64)  # the middle is the first piece
    runs[:, 0] = 1 + codes
    runs[:, 1] = row
    runs[:, 3] = row + num_rows
    runs[:, 4] = 1 + len(kinds) + codes
    taken = pieces.take(pa.array(runs.ravel()))
    offsets = np.ascontiguousarray(offsets_of(taken)[::5])
    rows = pa.Array.from_buffers(pa.large_binary(), num_rows, [None, pa.py_buffer(offsets), taken.buffers()[2]])
    return rows.cast(pa.binary())


def message_column(rows: pa.Table) -> pa.LargeBinaryArray:
    """Return the column `mcap_message` of event rows in one piece, which can be more than the 2 GiB of Arrow binary."""
    chunks = [chunk.cast(pa.large_binary()) for chunk in rows["mcap_message"].chunks]
    return pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_binary())


def unwrap_payloads(
    kinds: list[tuple[str, str]], codes: npt.NDArray[np.int64], times_ns: npt.NDArray[np.int64], messages: pa.LargeBinaryArray
) -> QuotedPayloads:
    """Return the payloads of a `message_column`: the inverse of `wrap_payloads`, with the same arguments; none is copied."""
    if not len(messages):
        return QuotedPayloads(Payloads.of([]))
    envelopes = [_envelope(*kind) for kind in kinds]
    head_bytes = np.array([len(head.encode()) for head, _ in envelopes], np.int64)
    tail_bytes = np.array([len(tail.encode()) for _, tail in envelopes], np.int64)
    offsets = offsets_of(messages)
    starts = offsets[:-1] + head_bytes[codes] + _num_digits(times_ns) + len(_MIDDLE)
    ends = offsets[1:] - tail_bytes[codes]
    return QuotedPayloads(Payloads(np.frombuffer(messages.buffers()[2], np.uint8), starts, ends))


def _num_digits(times_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    if len(times_ns) and times_ns.min() >= 10**18:  # after 2001, as a rule
        return np.full(len(times_ns), 19)
    powers = np.array([10**exponent for exponent in range(1, 19)], np.int64)
    return np.searchsorted(powers, np.abs(times_ns), side="right") + 1 + (times_ns < 0)
