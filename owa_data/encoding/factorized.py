"""The `factorized` encoding: the tokens of the D2E and Generalist-IDM models.

    <EVENT_START> <TYPE> t t t payload <EVENT_END>

`t` are the decimal digits of the time in 10 ms units modulo 1000, so time wraps every 10 s. Vocabulary: 291 tokens.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from owa_data.encoding.digits import clamp, to_digits, to_notches
from owa_data.encoding.events import EventKind, Events, wheel_delta
from owa_data.encoding.pieces import IMAGE_PLACEHOLDER, EncodedEvents
from owa_data.encoding.token_matrix import TOKEN_KINDS, TokenMatrix
from owa_data.raw.messages import MOVE_ABSOLUTE, WHEEL_UNIT

Int64s = npt.NDArray[np.int64]

TIME_UNIT_NS = 10_000_000
TIME_BASES = (10, 10, 10)
MOTION_BASES = (2, 10, 10, 10)
MAX_MOTION = 1999
FLAG_BASES = (16, 16, 16)
MAX_NOTCHES = 9
MAX_VK = 255

VOCABULARY = tuple(
    sorted(
        [f"<{digit}>" for digit in range(10)]
        + [f"<VK_{vk}>" for vk in range(256)]
        + [f"<MB_{digit}>" for digit in range(16)]
        + ["<EVENT_START>", "<EVENT_END>", "<KEYBOARD>", "<MOUSE>", "<SCREEN>"]
        + ["<press>", "<release>", "<SIGN_PLUS>", "<SIGN_MINUS>"]
    )
)
_PIECES = (*VOCABULARY, IMAGE_PLACEHOLDER)
_CODE = {piece: code for code, piece in enumerate(_PIECES)}
_DIGIT = np.array([_CODE[f"<{digit}>"] for digit in range(10)])
_VK = np.array([_CODE[f"<VK_{vk}>"] for vk in range(256)])
_FLAG = np.array([_CODE[f"<MB_{digit}>"] for digit in range(16)])
_SIGN = np.array([_CODE["<SIGN_PLUS>"], _CODE["<SIGN_MINUS>"]])
_PRESSED = np.array([_CODE["<release>"], _CODE["<press>"]])
_WIDTH = 21  # the widest event: mouse with wheel


class FactorizedEncoder:
    """Encoder of the `factorized` tokens; see the module."""

    name = "factorized"
    vocabulary = VOCABULARY
    pieces = _PIECES

    def encode(self, events: Events) -> EncodedEvents:
        """Encode events by table lookup.

        Counts: `not_encodable` events (absolute mouse, window, states, others, and keys beyond 0..255), `clamped` mouse events (motion over
        1999 or wheel over 9 notches), `wheel_rounded` ones (no multiple of a notch).
        """
        encodable = np.isin(events.kinds, TOKEN_KINDS)
        encodable &= (events.kinds != EventKind.KEYBOARD) | ((events.vk >= 0) & (events.vk <= MAX_VK))
        encodable &= events.raw_mouse[:, 2] & MOVE_ABSOLUTE == 0
        matrix = TokenMatrix(events, encodable, _WIDTH)
        counts = {"not_encodable": len(events) - len(matrix.sources)}
        everything = np.arange(len(matrix.sources))
        column = matrix.put(everything, 0, _CODE["<EVENT_START>"])
        for kind, token in ((EventKind.KEYBOARD, "<KEYBOARD>"), (EventKind.RAW_MOUSE, "<MOUSE>"), (EventKind.SCREEN, "<SCREEN>")):
            matrix.put(matrix.rows_of(kind), column, _CODE[token])
        units = events.times_ns[matrix.sources] // TIME_UNIT_NS
        column = matrix.put(everything, column + 1, _DIGIT[to_digits(units, TIME_BASES)])
        self._put_keyboard(matrix, column, events)
        counts |= self._put_mouse(matrix, column, events)
        screens = matrix.rows_of(EventKind.SCREEN)
        matrix.put(screens, matrix.put(screens, column, _CODE[IMAGE_PLACEHOLDER]), _CODE["<EVENT_END>"])
        return matrix.encoded(_PIECES, counts)

    def _put_keyboard(self, matrix: TokenMatrix, column: int, events: Events) -> None:
        rows = matrix.rows_of(EventKind.KEYBOARD)
        keys = matrix.sources[rows]
        column = matrix.put(rows, column, _VK[events.vk[keys]])
        column = matrix.put(rows, column, _PRESSED[events.pressed[keys].astype(np.int64)])
        matrix.put(rows, column, _CODE["<EVENT_END>"])

    def _put_mouse(self, matrix: TokenMatrix, column: int, events: Events) -> dict[str, int]:
        rows = matrix.rows_of(EventKind.RAW_MOUSE)
        fields = events.raw_mouse[matrix.sources[rows]]
        motion, is_clamped = clamp(fields[:, :2], MAX_MOTION)
        for axis in (0, 1):
            column = matrix.put(rows, column, _SIGN[(motion[:, axis] < 0).astype(np.int64)])
            column = matrix.put(rows, column, _DIGIT[to_digits(np.abs(motion[:, axis]), MOTION_BASES)])
        column = matrix.put(rows, column, _FLAG[to_digits(fields[:, 3], FLAG_BASES)])
        notches, is_rounded = to_notches(wheel_delta(fields[:, 4]), WHEEL_UNIT)
        notches, is_fast = clamp(notches, MAX_NOTCHES)
        turns = fields[:, 4] != 0
        wheel_end = matrix.put(rows[turns], column, _SIGN[(notches[turns] < 0).astype(np.int64)])
        wheel_end = matrix.put(rows[turns], wheel_end, _DIGIT[np.abs(notches[turns])])
        matrix.put(rows[turns], wheel_end, _CODE["<EVENT_END>"])
        matrix.put(rows[~turns], column, _CODE["<EVENT_END>"])
        return {"clamped": int((is_clamped.any(axis=1) | is_fast).sum()), "wheel_rounded": int(is_rounded.sum())}
