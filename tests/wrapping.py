"""Payloads wrapped as rows of the event dataset, for tests that begin with payloads."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from owa_data.event.rows import WrappedRows
from owa_data.raw.payloads import Int64s, PayloadPool, Payloads
from owa_data.raw.templates import TemplatePayloads


def pooled(payloads: Payloads) -> tuple[Payloads, PayloadPool]:
    """Copy payloads, at least one, into a pool of their own."""
    pool = PayloadPool()
    starts, ends = pool.add(payloads)
    return Payloads(pool.octets, starts, ends), pool


def wrap_payloads(kinds: list[tuple[str, str]], codes: Int64s, times_ns: Int64s, payloads: Payloads) -> pa.BinaryArray:
    """Write the column `mcap_message` of payloads of any form."""
    rows = WrappedRows(kinds, codes, times_ns, TemplatePayloads.whole(*pooled(payloads)))
    return rows.write(np.arange(len(codes)))
