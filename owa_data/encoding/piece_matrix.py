"""Token schemes write each event as one row of a matrix of piece codes, unused places -1; read row by row it is the stream of pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from owa_data.encoding.events import EventKind, Events
from owa_data.encoding.pieces import EncodedEvents

Int64s = npt.NDArray[np.int64]

UNUSED = -1
TOKEN_KINDS = (EventKind.SCREEN, EventKind.KEYBOARD, EventKind.RAW_MOUSE)


class PieceMatrix:
    """Rows of piece codes, one per event that a token scheme can encode.

    Attributes:
        sources: The events that have a row, int64 (m,).
        kinds: Their kinds, uint8 (m,).
        codes: int64 (m, width), filled by `put`.
    """

    def __init__(self, events: Events, encodable: npt.NDArray[np.bool_], width: int) -> None:
        self.sources = np.flatnonzero(encodable)
        self.kinds = events.kinds[self.sources]
        self.codes = np.full((len(self.sources), width), UNUSED, np.int64)

    def rows_of(self, kind: EventKind) -> Int64s:
        """Rows that hold events of a kind, int64."""
        return np.flatnonzero(self.kinds == kind)

    def put(self, rows: Int64s, column: int, codes: Int64s | int) -> int:
        """Write codes, one for all or (r,), into a column; return the next one."""
        self.codes[rows, column] = codes
        return column + 1

    def encoded(self, pieces: Sequence[str], counts: Mapping[str, int]) -> EncodedEvents:
        """Return the rows as a stream."""
        used = self.codes != UNUSED
        # Column by column, and by index: NumPy is slow along short axes, and with masks.
        num_pieces = sum(used.T, start=np.zeros(len(used), np.int64))
        offsets = np.concatenate([[0], np.cumsum(num_pieces)])
        return EncodedEvents(pieces, self.codes.take(np.flatnonzero(used)), offsets, self.sources, dict(counts))
