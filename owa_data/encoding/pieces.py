"""Pieces: the units in which encoders write.

An encoder turns each event into a run of codes; each code names a piece of text. The ids of each piece are known once, and rows of ids and
rows of text are both one Arrow `take` of the same codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from owa_data.raw.payloads import offsets_of

Int64s = npt.NDArray[np.int64]

IMAGE_PLACEHOLDER = "<image_placeholder>"
# Pads of the longest run. Arrow reserves for a `take` what elements of the table's mean length would need, and moves what it has whenever that was
# too little: with such runs the mean is that of rows with images of 256 tokens, and taking ids takes half the time.
_MAX_RUN = 1024


@dataclass(frozen=True)
class EncodedEvents:
    """Encoded events of one episode.

    Attributes:
        pieces: Text of each piece. The image is the piece `IMAGE_PLACEHOLDER`.
        codes: Piece codes of all events one after another, int64 (k,).
        offsets: Event i has the codes `[offsets[i], offsets[i + 1])`, int64 (m + 1,).
        sources: Which of the given events each encoded one is, int64 (m,), ascending.
        counts: What could not be encoded or was altered: `not_encodable`, `clamped`, `wheel_rounded`, ...
        separator: Stands between pieces where each is an event or its image, but not before the first one of a row.
    """

    pieces: Sequence[str]
    codes: Int64s
    offsets: Int64s
    sources: Int64s
    counts: dict[str, int]
    separator: str = ""

    def texts(self, *, images: bool = True) -> list[str]:
        """Text of each encoded event; join them with `separator`.

        Args:
            images: Whether a screen's text holds `IMAGE_PLACEHOLDER`, as in the rows of `fsl`; without, images are given beside the text.
        """
        used, used_codes = np.unique(self.codes, return_inverse=True)  # a few, of thousands
        pieces = [self.pieces[code] for code in used.tolist()]
        texts = [*pieces, *separated(pieces, self.separator)]
        if not images:
            texts = [text.replace(self.separator + IMAGE_PLACEHOLDER, "").replace(IMAGE_PLACEHOLDER, "") for text in texts]
        codes = used_codes + (len(pieces) if self.separator else 0)
        codes[self.offsets[:-1][np.diff(self.offsets) > 0]] %= max(len(pieces), 1)
        return list(gather(pa.array(texts, pa.large_string()), codes, self.offsets).to_pylist())


def separated(pieces: Sequence[str], separator: str) -> list[str]:
    """Return the pieces as they stand after another one; none where nothing separates them."""
    return [separator + piece for piece in pieces] if separator else []


@dataclass(frozen=True)
class PieceTable:
    """Pieces as a tokenizer sees them.

    Attributes:
        texts: Text of each piece, Arrow large_string (p,).
        ids: Token ids of each piece as the bytes of little-endian int32, Arrow large_binary (p,).
        num_ids: Number of ids of each piece, int64 (p,).
        pad_token_id: The id that fills rows up.
    """

    texts: pa.LargeStringArray
    ids: pa.LargeBinaryArray
    num_ids: Int64s
    pad_token_id: int

    @staticmethod
    def from_ids(texts: Sequence[str], ids: Sequence[Sequence[int]], pad_token_id: int) -> PieceTable:
        """Make a table from ids as lists; a million pieces take half a second."""
        lengths = np.array([len(part) for part in ids], np.int64)
        flat = np.fromiter(chain.from_iterable(ids), "<i4", lengths.sum())
        offsets = 4 * np.concatenate([[0], np.cumsum(lengths)])
        blobs = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(flat)]
        )
        return PieceTable(pa.array(texts, pa.large_string()), blobs, lengths, pad_token_id)

    @staticmethod
    def from_tokens(pieces: Sequence[Sequence[str]], ids: Mapping[str, Sequence[int]], pad_token_id: int) -> PieceTable:
        """Make a table of pieces that are tokens side by side, from the ids of each token."""
        ids_of_pieces = [[*chain.from_iterable(ids[token] for token in tokens)] for tokens in pieces]
        return PieceTable.from_ids(["".join(tokens) for tokens in pieces], ids_of_pieces, pad_token_id)

    @cached_property
    def _ids_and_pads(self) -> pa.LargeBinaryArray:
        """The ids of each piece, then runs of 0 to `_MAX_RUN` pads."""
        offsets = np.concatenate([[0], np.cumsum(np.arange(_MAX_RUN + 1))])
        pads = np.full(offsets[-1], self.pad_token_id, "<i4")
        buffers = [None, pa.py_buffer(4 * offsets), pa.py_buffer(pads)]
        return pa.concat_arrays([self.ids, pa.LargeBinaryArray.from_buffers(pa.large_binary(), _MAX_RUN + 1, buffers)])

    def take_padded_ids(self, codes: Int64s, row_ends: Int64s, num_pads: Int64s) -> npt.NDArray[np.int32]:
        """Return the ids of rows of codes, each row filled up, one after another; int32. Every id is written once.

        Args:
            codes: Of all rows, int64 (k,).
            row_ends: Where in `codes` each row ends, int64 (r,).
            num_pads: How often `pad_token_id` follows each row, int64 (r,).
        """
        # Runs of pads are pieces, too: for 3,000 pads these are the longest one twice and one of 952.
        num_longest, rest = np.divmod(num_pads, _MAX_RUN)
        num_runs = num_longest + 1
        runs = np.full(num_runs.sum(), len(self.ids) + _MAX_RUN)
        runs[np.cumsum(num_runs) - 1] = len(self.ids) + rest
        return _int32s(self._ids_and_pads.take(pa.array(np.insert(codes, np.repeat(row_ends, num_runs), runs))))


def _int32s(blobs: pa.LargeBinaryArray) -> npt.NDArray[np.int32]:
    data = blobs.buffers()[2]
    return np.frombuffer(data, "<i4") if data is not None and data.size else np.empty(0, np.int32)


def take_runs(codes: Int64s, offsets: Int64s, order: Int64s) -> tuple[Int64s, Int64s]:
    """Return a copy of the runs `order` of `codes[offsets[i]:offsets[i + 1]]` one after another, and where each begins, int64 (len(order) + 1,)."""
    if len(order) and np.array_equal(order, np.arange(order[0], order[0] + len(order))):
        # As they are, as a rule.
        bounds = offsets[order[0] : order[-1] + 2]
        return codes[bounds[0] : bounds[-1]].copy(), bounds - bounds[0]
    starts = offsets[order]
    lengths = offsets[order + 1] - starts
    taken = np.concatenate([[0], np.cumsum(lengths)])
    return codes[np.repeat(starts - taken[:-1], lengths) + np.arange(taken[-1])], taken


def gather(table: pa.Array, codes: Int64s, offsets: Int64s) -> pa.Array:
    """Join runs of pieces: element i is the concatenation of `table[codes[offsets[i]:offsets[i + 1]]]`.

    Args:
        table: Pieces, large_string or large_binary.
        codes: int64 (k,).
        offsets: int64 (m + 1,), ascending within `[0, k]`.

    Returns:
        An array (m,) of the table's type. Cost: one copy of the result.
    """
    taken = table.take(pa.array(codes[offsets[0] : offsets[-1]]))
    joined = offsets_of(taken)[offsets - offsets[0]]
    return pa.Array.from_buffers(table.type, len(offsets) - 1, [None, pa.py_buffer(joined), taken.buffers()[2]])
