"""Token schemes: encodings in which an event is a few tokens of a fixed vocabulary, read and written by table lookup over arrays.

    <EVENT_START> <TYPE> time payload <EVENT_END>

A scheme is a declaration: which alphabet each place of a number is written in. `TokenScheme` encodes and decodes any of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, product
from math import prod
from typing import Literal

import numpy as np
import numpy.typing as npt

from owa_data.encoding.decoded import BrokenSpan, Decoded, make_events
from owa_data.encoding.digits import from_digits, to_notches
from owa_data.encoding.events import EventKind, Events, wheel_delta
from owa_data.encoding.keys import NUM_KEYS
from owa_data.encoding.piece_matrix import TOKEN_KINDS, UNUSED, PieceMatrix
from owa_data.encoding.pieces import IMAGE_PLACEHOLDER, EncodedEvents
from owa_data.encoding.token_text import TokenText, is_silent, shorten, split_tokens
from owa_data.raw.messages import MOVE_ABSOLUTE, WHEEL_UNIT

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

START, END = "<EVENT_START>", "<EVENT_END>"
TYPE_TOKENS = {EventKind.KEYBOARD: "<KEYBOARD>", EventKind.RAW_MOUSE: "<MOUSE>", EventKind.SCREEN: "<SCREEN>"}
FRAME_TOKENS = (START, END, *TYPE_TOKENS.values())
TIME_UNIT_NS = 10_000_000
FLAG_BASES = (16, 16, 16)

_FRAME_PIECES = ((IMAGE_PLACEHOLDER, END), (END,))
_IMAGE_CODE, _END_CODE = range(2)


@dataclass(frozen=True)
class Number:
    """How a number is written: one token per place, most significant first.

    Attributes:
        meaning: What it is, for messages.
        alphabets: The tokens of each place; digit d of a place is `alphabets[place][d]`.
        signedness: `sign`: the first place is plus or minus, the others the absolute value; `complement`: negative values count from
            the top, as in two's complement; `no`: there are none.
    """

    meaning: str
    alphabets: tuple[tuple[str, ...], ...]
    signedness: Literal["sign", "complement", "no"] = "no"

    @property
    def bases(self) -> tuple[int, ...]:
        """Number of digits of each place."""
        return tuple(len(alphabet) for alphabet in self.alphabets)

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest value; beyond them values saturate."""
        size = prod(self.bases)
        if self.signedness == "complement":
            return -size // 2, size // 2 - 1
        return (1 - size // 2, size // 2 - 1) if self.signedness == "sign" else (0, size - 1)

    def ranks_of(self, values: Int64s) -> Int64s:
        """Return the digits of values within the limits, read as one plain number; numbers without a sign wrap.

        Example:
            With a sign and one decimal digit, -3 has the digits 1, 3 and the rank 13.
        """
        size = prod(self.bases)
        if self.signedness == "sign":
            return np.abs(values) + (values < 0) * (size // 2)
        return values % size

    def value_of(self, digits: Int64s) -> Int64s:
        """Return the values of digits int64 (n, places): the inverse of `ranks_of`, place by place."""
        if self.signedness == "sign":
            return np.where(digits[:, 0] == 1, -1, 1) * from_digits(digits[:, 1:], self.bases[1:])
        values = from_digits(digits, self.bases)
        return np.where(values > self.limits[1], values - prod(self.bases), values)


@dataclass(frozen=True)
class _Field:
    """Places of a number that are written as one piece: code `first + i` for rank i of these places.

    Attributes:
        number: The number.
        places: Which of its places.
        first: The first code.
        before: Tokens of the frame that always stand before it and are of its piece.
        after: Those that always stand behind it.
    """

    number: Number
    places: slice
    first: int
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @cached_property
    def size(self) -> int:
        """Number of pieces."""
        return prod(self.number.bases[self.places])

    @cached_property
    def _weight(self) -> int:
        return prod(self.number.bases[self.places.stop :])

    def tokens(self) -> Iterator[tuple[str, ...]]:
        """Yield the tokens of each piece."""
        return ((*self.before, *digits, *self.after) for digits in product(*self.number.alphabets[self.places]))

    def codes_of(self, ranks: Int64s) -> Int64s:
        """Return the codes that show these places of a number's ranks."""
        return self.first + (ranks if self.size == prod(self.number.bases) else ranks // self._weight % self.size)


@dataclass(frozen=True)
class _Place:
    """One token of an event that is read: which digit it shows, and in which alphabet (codes of tokens)."""

    number: Number
    place: int
    codes: Int64s


@dataclass(frozen=True)
class TokenScheme:
    """Encoder of a token scheme; see the module.

    Attributes:
        name: As in the registry.
        vocabulary: Its tokens, sorted.
        time: Of `timestamp_ns // 10_000_000`.
        key: Of the key code.
        pressed: One place: release, press.
        motion: Of dx and of dy.
        flags: Of the button flags.
        wheel: Of the wheel's notches.
        is_interleaved: The digits of dx and dy alternate, the most significant ones first.
    """

    name: str
    vocabulary: tuple[str, ...]
    time: Number
    key: Number
    pressed: Number
    motion: Number
    flags: Number
    wheel: Number
    is_interleaved: bool
    separator: str = field(default="", init=False)

    @cached_property
    def _fields(self) -> dict[EventKind | str, tuple[_Field, ...]]:
        """How each number is written, by its name: as one piece, or place by place where two of them alternate; the time by the kind of event."""
        fields: dict[EventKind | str, tuple[_Field, ...]] = {}
        first = len(_FRAME_PIECES)

        def add(key: EventKind | str, number: Number, before: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> None:
            nonlocal first
            num_places = len(number.bases)
            step = 1 if self.is_interleaved and key == "motion" else num_places
            for place in range(0, num_places, step):
                field_ = _Field(number, slice(place, place + step), first, before, after)
                fields[key] = (*fields.get(key, ()), field_)
                first += field_.size

        for kind, token in TYPE_TOKENS.items():
            add(kind, self.time, before=(START, token))
        add("key", self.key)
        add("pressed", self.pressed, after=(END,))
        add("motion", self.motion)
        add("flags", self.flags)
        add("wheel", self.wheel, after=(END,))
        return fields

    @cached_property
    def piece_tokens(self) -> tuple[tuple[str, ...], ...]:
        """The tokens of each piece, by its code: the frame's, and of each number every one that can be written."""
        fields = chain.from_iterable(self._fields.values())
        return (*_FRAME_PIECES, *chain.from_iterable(field_.tokens() for field_ in fields))

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """All pieces that it writes."""
        return tuple(map("".join, self.piece_tokens))

    @property
    def period_ns(self) -> int:
        """Times are known modulo this, ns."""
        return prod(self.time.bases) * TIME_UNIT_NS

    @cached_property
    def _code(self) -> dict[str, int]:
        """Codes of tokens, for reading."""
        return {token: code for code, token in enumerate((*self.vocabulary, IMAGE_PLACEHOLDER))}

    def _places(self, number: Number) -> list[_Place]:
        codes = [np.array([self._code[token] for token in alphabet]) for alphabet in number.alphabets]
        return [_Place(number, place, codes[place]) for place in range(len(codes))]

    @cached_property
    def _motion_places(self) -> list[tuple[int, _Place]]:
        """Places of dx and dy with their axis, in the order of their columns."""
        places = self._places(self.motion)
        if self.is_interleaved:
            return [(axis, place) for place in places for axis in (0, 1)]
        return [(axis, place) for axis in (0, 1) for place in places]

    @cached_property
    def _max_tokens(self) -> int:
        """Tokens of the longest event: mouse with wheel."""
        longest = (self.time, self.motion, self.motion, self.flags, self.wheel)
        return 3 + sum(len(number.bases) for number in longest)

    @cached_property
    def _max_pieces(self) -> int:
        longest = (EventKind.RAW_MOUSE, "motion", "motion", "flags", "wheel")
        return sum(len(self._fields[key]) for key in longest)

    def encode(self, events: Events) -> EncodedEvents:
        """Encode events by table lookup.

        Counts: `not_encodable` events (absolute mouse, window, states, others, and keys beyond 0..255), `clamped` mouse events (motion or
        wheel beyond the limits), `wheel_rounded` ones (no multiple of a notch).
        """
        encodable = np.isin(events.kinds, TOKEN_KINDS)
        encodable &= (events.kinds != EventKind.KEYBOARD) | ((events.vk >= 0) & (events.vk < NUM_KEYS))
        encodable &= events.raw_mouse[:, 2] & MOVE_ABSOLUTE == 0
        matrix = PieceMatrix(events, encodable, self._max_pieces)
        counts = {"not_encodable": len(events) - len(matrix.sources)}
        times = events.times_ns[matrix.sources] // TIME_UNIT_NS
        for kind in TYPE_TOKENS:
            rows = matrix.rows_of(kind)
            self._put(matrix, rows, 0, kind, times[rows])
        column = len(self._fields[EventKind.SCREEN])  # the time's, as in events of any kind
        matrix.put(matrix.rows_of(EventKind.SCREEN), column, _IMAGE_CODE)
        self._put_keyboard(matrix, column, events)
        counts |= self._put_mouse(matrix, column, events)
        return matrix.encoded(self.pieces, counts)

    def _put(self, matrix: PieceMatrix, rows: Int64s, column: int, key: EventKind | str, *values: Int64s) -> int:
        """Write a number, or several of its kind, from a column on; return the column after them."""
        fields = self._fields[key]
        ranks = [fields[0].number.ranks_of(of_one) for of_one in values]
        for field_ in fields:
            for of_one in ranks:
                column = matrix.put(rows, column, field_.codes_of(of_one))
        return column

    def _put_keyboard(self, matrix: PieceMatrix, column: int, events: Events) -> None:
        rows = matrix.rows_of(EventKind.KEYBOARD)
        keys = matrix.sources[rows]
        column = self._put(matrix, rows, column, "key", events.vk[keys])
        self._put(matrix, rows, column, "pressed", events.pressed[keys].astype(np.int64))

    def _put_mouse(self, matrix: PieceMatrix, column: int, events: Events) -> dict[str, int]:
        rows = matrix.rows_of(EventKind.RAW_MOUSE)
        fields = events.raw_mouse[matrix.sources[rows]]
        motion = np.clip(fields[:, :2], *self.motion.limits)
        column = self._put(matrix, rows, column, "motion", motion[:, 0], motion[:, 1])
        column = self._put(matrix, rows, column, "flags", fields[:, 3])
        turns = fields[:, 4] != 0
        whole, is_rounded = to_notches(wheel_delta(fields[turns, 4]), WHEEL_UNIT)
        notches = np.clip(whole, *self.wheel.limits)
        self._put(matrix, rows[turns], column, "wheel", notches)
        matrix.put(rows[~turns], column, _END_CODE)
        is_clamped = (motion[:, 0] != fields[:, 0]) | (motion[:, 1] != fields[:, 1])
        is_clamped[turns] |= notches != whole
        return {"clamped": int(is_clamped.sum()), "wheel_rounded": int(is_rounded.sum())}

    def decode(self, text: TokenText) -> Decoded:
        """Decode tokens to events; their times are wrapped, in `[0, period_ns)`. See `encoding/decoded.py`.

        A turn of the wheel by less than a notch comes back as the least turn, 1, so that it stays a turn.
        """
        tokens, starts, ends = split_tokens(text)
        code = np.array([self._code.get(token, -2) for token in tokens], np.int64)
        begins = np.flatnonzero(code == self._code[START])
        stops = np.append(begins[1:], len(code)) if len(begins) else begins
        columns = begins[:, None] + np.arange(self._max_tokens)
        inside = columns < stops[:, None]
        matrix = np.where(inside, code[np.minimum(columns, max(len(code) - 1, 0))], UNUSED) if len(code) else columns
        reader = _EventReader(self, matrix)
        ok, kinds, lengths = reader.check()
        broken = [
            BrokenSpan(int(starts[begins[row]]), int(ends[stops[row] - 1]), reader.problem(row, tokens[begins[row] : stops[row]]))
            for row in np.flatnonzero(~ok).tolist()
        ]
        used = np.zeros(len(code), np.bool_)
        for row in range(len(begins)):
            used[begins[row] : begins[row] + lengths[row] if ok[row] else stops[row]] = True
        broken += list(_runs_outside(used, tokens, starts, ends))
        table = reader.fields(ok)
        events = make_events(kinds[ok], table["time"] * TIME_UNIT_NS, table["vk"], table["pressed"] == 1, table["raw_mouse"])
        return Decoded(events, starts[begins[ok]], sorted(broken), "wrapped", self.period_ns)


def _runs_outside(used: Bools, tokens: Sequence[str], starts: Int64s, ends: Int64s) -> Iterator[BrokenSpan]:
    outside = np.flatnonzero(~used)
    if not len(outside):
        return
    for run in np.split(outside, np.flatnonzero(np.diff(outside) != 1) + 1):
        text = "".join(tokens[index] for index in run)
        if not is_silent(text):
            yield BrokenSpan(int(starts[run[0]]), int(ends[run[-1]]), f"outside an event: {shorten(text)}")


class _EventReader:
    """Reads events off a matrix of codes (n, width), one row per `<EVENT_START>`; checks every place against its alphabet."""

    def __init__(self, scheme: TokenScheme, matrix: Int64s) -> None:
        self.scheme = scheme
        self.matrix = matrix
        self.digits: dict[tuple[int, str, int], Int64s] = {}  # by the number's identity: two may be written alike
        self.first_wrong = np.full(len(matrix), -1, np.int64)
        self.expected = np.full(len(matrix), "", object)

    def check(self) -> tuple[Bools, npt.NDArray[np.uint8], Int64s]:
        """Return which rows begin with a whole event, its kind and its number of tokens."""
        scheme, matrix = self.scheme, self.matrix
        num_rows = len(matrix)
        kinds = np.full(num_rows, EventKind.OTHER, np.uint8)
        lengths = np.zeros(num_rows, np.int64)
        for kind, token in TYPE_TOKENS.items():
            kinds[matrix[:, 1] == scheme._code[token]] = kind
        self._fail(kinds == EventKind.OTHER, 1, "an event type")
        everything = np.ones(num_rows, np.bool_)
        column = self._read(everything, 2, scheme._places(scheme.time))
        keys = kinds == EventKind.KEYBOARD
        key_end = self._read(keys, column, [*scheme._places(scheme.key), *scheme._places(scheme.pressed)])
        self._end(keys, key_end, lengths)
        screens = kinds == EventKind.SCREEN
        self._fail(screens & (matrix[:, column] != scheme._code[IMAGE_PLACEHOLDER]), column, "an image")
        self._end(screens, column + 1, lengths)
        mice = kinds == EventKind.RAW_MOUSE
        for axis, place in scheme._motion_places:
            column = self._read(mice, column, [place], suffix="xy"[axis])
        column = self._read(mice, column, scheme._places(scheme.flags))
        turns = mice & (matrix[:, column] != scheme._code[END])
        self._end(mice & ~turns, column, lengths)
        self._end(turns, self._read(turns, column, scheme._places(scheme.wheel)), lengths)
        self.turns = turns
        return self.first_wrong < 0, kinds, lengths

    def _fail(self, rows: Bools, column: int, expected: str) -> None:
        rows = rows & (self.first_wrong < 0)
        self.first_wrong[rows] = column
        self.expected[rows] = expected

    def _end(self, rows: Bools, column: int, lengths: Int64s) -> None:
        self._fail(rows & (self.matrix[:, column] != self.scheme._code[END]), column, END)
        lengths[rows] = column + 1

    def _read(self, rows: Bools, column: int, places: Sequence[_Place], suffix: str = "") -> int:
        for place in places:
            digit_of = np.full(len(self.scheme._code) + 2, -1, np.int64)  # codes -2 and -1 look up the last two entries
            digit_of[place.codes] = np.arange(len(place.codes))
            digits = digit_of[self.matrix[:, column]]
            self._fail(rows & (digits < 0), column, place.number.meaning)
            self.digits[id(place.number), suffix, place.place] = digits
            column += 1
        return column

    def _value(self, number: Number, ok: Bools, suffix: str = "") -> Int64s:
        columns = [self.digits[id(number), suffix, place][ok] for place in range(len(number.bases))]
        return number.value_of(np.column_stack(columns))

    def fields(self, ok: Bools) -> dict[str, Int64s]:
        """Return the values of the rows `ok`; those of another kind than a field's are without meaning."""
        scheme = self.scheme
        wheel = self._value(scheme.wheel, ok) * WHEEL_UNIT
        data = np.where(self.turns[ok], np.where(wheel == 0, 1, wheel & 0xFFFF), 0)
        motion = [self._value(scheme.motion, ok, axis) for axis in "xy"]
        raw_mouse = np.column_stack([*motion, np.zeros_like(data), self._value(scheme.flags, ok), data])
        return {
            "time": self._value(scheme.time, ok),
            "vk": self._value(scheme.key, ok),
            "pressed": self._value(scheme.pressed, ok),
            "raw_mouse": raw_mouse,
        }

    def problem(self, row: int, tokens: Sequence[str]) -> str:
        """Say what is wrong with a broken row."""
        column = int(self.first_wrong[row])
        found = shorten(tokens[column]) if column < len(tokens) else "the end"
        return f"expected {self.expected[row]} as token {column} of the event, found {found}"
