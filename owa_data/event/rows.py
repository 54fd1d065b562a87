r"""The `mcap_message` column: payloads wrapped as the JSON of `mcap_owa.highlevel.McapMessage`, and unwrapped again.

    {"topic":"keyboard","timestamp":17,"message":"{\\"event_type\\":\\"press\\",\\"vk\\":87}","message_type":"desktop/KeyboardEvent"}

Rows are wrapped as templates, by batches; unwrapping is index arithmetic, and relies on this exact form, which only this module writes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from owa_data.errors import SchemaError
from owa_data.raw.decimal import decimal_text, num_characters
from owa_data.raw.payloads import PayloadPool, Payloads, copy_runs, offsets_of
from owa_data.raw.quoted import QuotedPayloads, quote, quote_payloads
from owa_data.raw.templates import WHOLE, TemplatePayloads, fill, text_spans

Int64s = npt.NDArray[np.int64]


def _envelope(kind: tuple[str, str]) -> tuple[str, str]:
    topic, message_type = kind
    return f'{{"topic":{quote(topic)},"timestamp":', f'","message_type":{quote(message_type)}}}'


_MIDDLE = ',"message":"'


class WrappedRows:
    """The `mcap_message` column of event rows, written batch by batch.

    The envelope around a payload makes of the payload's template another one, whose first slot is the time.

    Args:
        kinds: Topic and message type of each code, at least one.
        codes: Index into `kinds`, int64 (n,).
        times_ns: int64 (n,).
        payloads: JSON payloads in UTF-8 (n,); their pool takes the times and the templates' texts.
    """

    def __init__(self, kinds: Sequence[tuple[str, str]], codes: Int64s, times_ns: Int64s, payloads: TemplatePayloads) -> None:
        self._payloads = payloads
        self._codes = codes * len(payloads.templates) + payloads.codes
        self._templates = [_wrap(kind, [quote(text)[1:-1] for text in texts]) for kind in kinds for texts in payloads.templates]
        self._texts = text_spans(self._templates, 1 + len(payloads.slots), payloads.pool)
        self._times = np.array(payloads.pool.add_arrow(decimal_text(times_ns)))

    def write(self, rows: Int64s) -> pa.BinaryArray:
        """Write some rows: Arrow binary. About 150 ns each, 500 for payloads of no known shape, whose quotes must be found."""
        pool, texts = self._payloads.pool, self._texts
        slots = [self._times.take(rows, axis=1), *self._payloads.slots[:, :, rows]]
        whole = np.flatnonzero(self._payloads.codes[rows] == WHOLE)
        if not len(whole):
            return fill(texts, self._codes[rows], slots, pool).cast(pa.binary())
        starts, ends = slots[1][:, whole]
        quoted = quote_payloads(Payloads(pool.octets, starts, ends))
        slots[1][:, whole] = 0
        if quoted.nbytes > pool.room_bytes:
            # As where images are embedded. All that is in the rows is put in a pool of their own, so that the recording's need not grow.
            apart = PayloadPool()
            slots = [np.array(apart.add_arrow(copy_runs(pool.octets, [spans]))) for spans in slots]
            texts, pool = text_spans(self._templates, len(slots), apart), apart
        with pool.scratch():
            slots[1][:, whole] = pool.add_arrow(quoted)
            return fill(texts, self._codes[rows], slots, pool).cast(pa.binary())


def _wrap(kind: tuple[str, str], texts: list[str]) -> tuple[str, ...]:
    """Return the template of a row around a quoted payload's."""
    head, tail = _envelope(kind)
    inside = [_MIDDLE + texts[0], *texts[1:]]
    return (head, *inside[:-1], inside[-1] + tail)


def message_column(rows: pa.Table) -> pa.LargeBinaryArray:
    """Return the column `mcap_message` of event rows in one piece, which can be more than the 2 GiB of Arrow binary."""
    chunks = [chunk.cast(pa.large_binary()) for chunk in rows["mcap_message"].chunks]
    return pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_binary())


def message_spans(rows: pa.Table) -> Payloads:
    """View the column `mcap_message` of event rows where it stands in the file that they were read from; of other rows, copy it."""
    chunks = [chunk.cast(pa.large_binary()) for chunk in rows["mcap_message"].chunks if len(chunk)]
    blocks = [chunk.buffers()[2] for chunk in chunks]
    files = [_whole_of(block) for block in blocks if block is not None]
    if len({file.address for file in files}) != 1 or len(files) < len(blocks):
        return Payloads.of(message_column(rows))
    begins = [block.address - files[0].address for block in blocks]
    offsets = [offsets_of(chunk) + begin for chunk, begin in zip(chunks, begins, strict=True)]
    starts, ends = (np.concatenate([part[which] for part in offsets]) for which in (slice(None, -1), slice(1, None)))
    return Payloads(np.frombuffer(files[0], np.uint8), starts, ends)


def _whole_of(block: pa.Buffer) -> pa.Buffer:
    """Return the buffer that a block was cut from."""
    while block.parent is not None:
        block = block.parent
    return block


def unwrap_payloads(kinds: list[tuple[str, str]], codes: Int64s, times_ns: Int64s, messages: Payloads) -> QuotedPayloads:
    """Return the payloads of `message_spans`: the inverse of `WrappedRows`, with the same arguments; none is copied.

    Raises:
        SchemaError: A message is shorter than its envelope: another program wrote it.
    """
    if not len(messages):
        return QuotedPayloads(messages)
    envelopes = [_envelope(kind) for kind in kinds]
    head_bytes = np.array([len(head.encode()) for head, _ in envelopes], np.int64)
    tail_bytes = np.array([len(tail.encode()) for _, tail in envelopes], np.int64)
    starts = messages.starts + head_bytes[codes] + num_characters(times_ns) + len(_MIDDLE)
    ends = messages.ends - tail_bytes[codes]
    if (starts > ends).any():
        raise SchemaError(
            "event rows hold messages that are not in the form in which `event` writes them; rebuild the event dataset"
        )
    return QuotedPayloads(Payloads(messages.octets, starts, ends))
