"""The integers of many JSON payloads of one shape, parsed column by column.

Input: `Payloads`. Output: the rows that share a shape, and their integers as NumPy columns.

A shape is a payload with its integers taken out. Recorders write one topic's messages by one routine, so that a million payloads have one
shape or two, and what holds for one payload of a shape (valid JSON, keys, types) holds for all of them:

    {"last_x":12,"last_y":-7,"timestamp":1750000000012345678}   ->   {"last_x":  ,"last_y":  ,"timestamp":  }

All payloads are walked side by side: at each step the literal bytes are compared, and the integer after them is read by word arithmetic. A payload that differs in one byte, or has an integer in any other than its plain form, is not matched; it is for a JSON parser then.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from owa_data.raw.payloads import Payloads, stretches_of

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Octets = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

WORD_BYTES = 8
_OVERREAD_BYTES = 4 * WORD_BYTES  # behind a payload: a word at its end, and three to read an integer that is not there
DIGIT = b"\0"  # stands for any digit in a literal; no payload that has a shape holds it
MAX_DIGITS = 19  # up to 8,999,999,999,999,999,999, so that it fits int64
MAX_SHAPE_BYTES = 1 << 10  # longer payloads, such as embedded images, are for a parser
BYTES_PER_BLOCK = 1 << 21  # of payloads that are looked at together: what one step reads is in cache for the next

_TOKEN = re.compile(rb'(?P<integer>-?\d+)(?![\d.eE])|"[^"\\\x00-\x1f]*"|[{}\[\]:,]|true|false|null')
_KEY = re.compile(rb'"([^"\\\x00-\x1f]*)":$')
_KEYS = re.compile(rb'"([^"]*)":')


def _word(octets: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(octets, "little"))


_ALL = _word(b"\xff" * 8)
_HIGH_HALVES = _word(b"\xf0" * 8)
_LOW_HALVES = _word(b"\x0f" * 8)
_ZEROS = _word(b"0" * 8)
_SIXES = _word(b"\x06" * 8)
_ZERO, _NINE, _MINUS, _LOW_BYTE = np.uint64(ord("0")), np.uint64(ord("9")), np.uint64(ord("-")), np.uint64(0xFF)
_ONE, _THREE, _EIGHT = np.uint64(1), np.uint64(3), np.uint64(8)
# Pairs of digits, then of pairs, then of fours, are added up within the word: (step's factor, shift, mask).
_STEPS = (
    (np.uint64(10 * (1 << 8) + 1), np.uint64(8), _word(b"\xff\x00" * 4)),
    (np.uint64(100 * (1 << 16) + 1), np.uint64(16), _word(b"\xff\xff\x00\x00" * 2)),
    (np.uint64(10_000 * (1 << 32) + 1), np.uint64(32), _word(b"\xff\xff\xff\xff\x00\x00\x00\x00")),
)
_ABOVE = (np.uint64(48), np.uint64(32), np.uint64(0))  # where the sum of the last 2, 4, 8 digits stands after so many steps


@dataclass(frozen=True)
class Shape:
    """One payload with its integers taken out: `literals` stand before, between and after the integers, `keys` name those that have a key."""

    literals: tuple[bytes, ...]
    keys: tuple[bytes, ...]

    @property
    def is_flat(self) -> bool:
        """Whether it is one object without objects or arrays inside and no key twice, so that `keys` are that object's own."""
        text = b"".join(self.literals)
        keys = _KEYS.findall(text)
        return text.count(b"{") == 1 and b"[" not in text and len(set(keys)) == len(keys)

    @cached_property
    def literal_words(self) -> list[list[_LiteralWord]]:
        """The literals as words, at least one each."""
        return [
            [_LiteralWord.of(literal[first : first + WORD_BYTES]) for first in range(0, max(len(literal), 1), WORD_BYTES)]
            for literal in self.literals
        ]

    def quoted(self) -> Shape:
        r"""Return the shape of the same payloads inside JSON strings, where `"` is `\"`; a shape has no other character that is escaped."""
        return Shape(tuple(literal.replace(b'"', b'\\"') for literal in self.literals), self.keys)

    @property
    def max_bytes(self) -> int:
        """Bytes of a payload of this shape, at most."""
        return sum(map(len, self.literals)) + len(self.keys) * (MAX_DIGITS + 1)


def shape_of(payload: bytes) -> Shape | None:
    """Return the shape of a payload: compact JSON in UTF-8, without escapes, of at most `MAX_SHAPE_BYTES`; None where it is anything else.

    Example:
        >>> shape_of(b'{"vk":87}')
        Shape(literals=(b'{"vk":', b'}'), keys=(b'vk',))
    """
    literals: list[bytes] = []
    keys: list[bytes] = []
    literal_start = position = 0
    if len(payload) > MAX_SHAPE_BYTES:
        return None
    try:
        payload.decode()
    except UnicodeDecodeError:
        return None
    while position < len(payload):
        token = _TOKEN.match(payload, position)
        if token is None:
            return None
        if token["integer"] is not None:
            literal = payload[literal_start:position]
            if literals and not literal:
                return None  # two integers side by side are one; and no pattern may be matched in more than one way
            key = _KEY.search(literal)
            literals.append(literal)
            keys.append(key[1] if key else b"")
            literal_start = token.end()
        position = token.end()
    shape = Shape((*literals, payload[literal_start:]), tuple(keys))
    return shape if shape.max_bytes <= MAX_SHAPE_BYTES else None


def fixed_shape(payloads: Sequence[bytes], names: Collection[bytes] = ()) -> Shape | None:
    r"""Return the shape of the first payload with all that hardly varies among the given ones in its literals; a sample of a few suffices.

    Integers that are the same in all of them are literals, and those that always begin with the same digit and have as many, unless they are
    among `names`, become that digit and a `DIGIT` for each other one. It makes matching faster: such are compared, not parsed.

    Example:
        >>> fixed_shape([b'{"dx":1,"flags":0,"t":170}', b'{"dx":2,"flags":0,"t":188}']).literals
        (b'{"dx":', b',"flags":0,"t":1\x00\x00}')
    """
    shape = shape_of(payloads[0])
    if shape is None:
        return None
    pattern = re.compile(rb"(-?\d+)".join(map(re.escape, shape.literals)))
    values = [match.groups() for match in map(pattern.fullmatch, payloads) if match]
    literals, keys = [shape.literals[0]], []
    for key, literal, column in zip(shape.keys, shape.literals[1:], zip(*values, strict=True), strict=True):
        if len(values) > 1 and len(set(column)) == 1:
            literals[-1] += column[0] + literal
        elif key not in names and (digits := _alike(column)):
            literals[-1] += digits + literal
        else:
            keys.append(key)
            literals.append(literal)
    return Shape(tuple(literals), tuple(keys))


def _alike(integers: Sequence[bytes]) -> bytes:
    """Return what integers have in common that begin with the same digit and have as many, all of which fit int64; else nothing."""
    first = integers[0]
    in_range = len(first) < MAX_DIGITS or (len(first) == MAX_DIGITS and first < b"9")
    if len({(text[:1], len(text)) for text in integers}) > 1 or first[:1] in b"-0" or not in_range:
        return b""
    return first[:1] + DIGIT * (len(first) - 1)


def match_shape(payloads: Payloads, shape: Shape, names: tuple[bytes, ...]) -> tuple[Bools, Int64s]:
    """Find the payloads of a shape and read some of their integers.

    Args:
        payloads: n of them.
        shape: The shape.
        names: Keys whose integers are wanted; each is among `shape.keys` once.

    Returns:
        Which payloads have the shape, bool (n,), and the wanted integers of these, int64 (len(names), m), all within +-99,999,999. Payloads that
        have the shape can be missing, never the other way round: wanted integers of more than 8 characters, others beyond int64, `-0`,
        and payloads at the very end of their buffer.
    """
    columns = [shape.keys.index(name) for name in names]
    num_bytes = payloads.ends - payloads.starts
    # Whatever a payload turns out to be, nothing is read past the buffer's end.
    can_match = (num_bytes <= shape.max_bytes) & (payloads.starts <= len(payloads.octets) - shape.max_bytes - _OVERREAD_BYTES)
    if not can_match.any():
        return can_match, np.empty((len(names), 0), np.int64)
    if not can_match.all():
        matches, values = match_shape(payloads.take(can_match), shape, names)
        can_match[can_match] = matches
        return can_match, values
    rows_per_block = max(1, BYTES_PER_BLOCK // shape.max_bytes)
    parts = [
        _match_block(payloads.take(slice(first, first + rows_per_block)), shape, columns)
        for first in range(0, len(payloads), rows_per_block)
    ]
    matches = np.concatenate([found for found, _ in parts])
    values = np.concatenate([block for _, block in parts], axis=1)
    return matches, values if matches.all() else values.take(np.flatnonzero(matches), axis=1)  # a fifth of a mask's time


def _match_block(payloads: Payloads, shape: Shape, columns: list[int]) -> tuple[Bools, Int64s]:
    """Return which payloads have the shape, and the integers of all."""
    octets = payloads.octets
    words = np.ndarray((len(octets) - WORD_BYTES + 1,), "<u8", octets, strides=(1,))
    matches = np.ones(len(payloads), np.bool_)
    values = np.zeros((len(columns), len(payloads)), np.int64)
    cursor = payloads.starts.copy()
    for number, (literal, literal_words) in enumerate(zip(shape.literals, shape.literal_words, strict=True)):
        _match_literal(octets, cursor, literal_words, matches)
        cursor += len(literal)
        if number == len(shape.keys):
            break
        np.minimum(cursor, len(octets) - _OVERREAD_BYTES, out=cursor)  # what does not match does not lead out of the buffer
        if number in columns:
            values[columns.index(number)] = _read_integer(words, cursor, matches)
        else:
            _pass_integer(words, cursor, matches)
    matches &= cursor == payloads.ends
    return matches, values


@dataclass(frozen=True)
class _LiteralWord:
    """Eight octets of a literal, those of which count.

    An octet of the data differs from a literal one where any bit does, from a digit where its difference from "0" is over 9: then that
    difference, or it plus 6, has a bit in the high half. `word` has "0" for digits, `sixes` a 6, `counts` the bits that must be clear.
    """

    word: np.uint64
    sixes: np.uint64
    counts: np.uint64

    @classmethod
    @lru_cache(maxsize=4096)  # recordings of one recorder share their literals
    def of(cls, octets: bytes) -> _LiteralWord:
        return cls(
            _word(octets.replace(DIGIT, b"0").ljust(WORD_BYTES)),
            _word(bytes(6 * (octet == DIGIT[0]) for octet in octets)),
            _word(bytes(0xF0 if octet == DIGIT[0] else 0xFF for octet in octets)),
        )

    def clear(self, matches: Bools, found: UInt64s) -> None:
        """Clear `matches` where the data's words are not this one."""
        if self.sixes:
            found = found ^ self.word
            matches &= (found | (found + self.sixes)) & self.counts == 0
        elif self.counts == _ALL:
            matches &= found == self.word
        else:
            matches &= (found ^ self.word) & self.counts == 0


def _match_literal(octets: Octets, places: Int64s, words: Sequence[_LiteralWord], matches: Bools) -> None:
    """Clear `matches` where the octets at `places` are not those of a literal."""
    stretches = stretches_of(octets, len(words) * WORD_BYTES)
    found = stretches[np.minimum(places, len(stretches) - 1)].view("<u8").reshape(-1, len(words))
    # Word by word: NumPy compares elements of many bytes one byte at a time, and is slow along short axes.
    for column, word in zip(found.T, words, strict=True):
        word.clear(matches, column)


def _take_sign(words: UInt64s, cursor: Int64s) -> tuple[UInt64s, UInt64s]:
    """Pass over a minus at `cursor`; return the word after it, its last byte cleared, and 1 where there was one, else 0."""
    found = words[cursor]
    negative = (found & _LOW_BYTE == _MINUS).astype(np.uint64)
    if negative.any():
        cursor += negative.view(np.int64)
        found >>= negative << _THREE
    return found, negative


def _num_digits(found: UInt64s) -> UInt64s:
    """Return how many of a word's first bytes are digits, 0 to 8."""
    # A byte is a digit if, with the bits of "0" flipped, it is below 10: neither it nor it plus 6 has a bit in the high half.
    others = found ^ _ZEROS
    others |= others + _SIXES
    others &= _HIGH_HALVES
    # The number of bits below the lowest set one, 64 where there is none.
    return np.bitwise_count((others - _ONE) & ~others).astype(np.uint64) >> _THREE


def _is_plain(found: UInt64s, negative: UInt64s, num_digits: UInt64s) -> Bools:
    """Whether a word begins with an integer in JSON's form: at least one digit, and no zero before others or after a minus."""
    return (num_digits > 0) & ((found & _LOW_BYTE != _ZERO) | (num_digits + negative == _ONE))


def _read_integer(words: UInt64s, cursor: Int64s, matches: Bools) -> Int64s:
    """Read an integer of at most 8 characters and pass over it; clear `matches` where there is none in its plain form."""
    found, negative = _take_sign(words, cursor)
    num_digits = _num_digits(found)
    matches &= _is_plain(found, negative, num_digits)
    # The digits as the word's last bytes, zeros before them.
    value = (found & _LOW_HALVES) << ((_EIGHT - num_digits) << _THREE)
    num_steps = 3 if (longest := int(num_digits.max(initial=0))) > 4 else 2 if longest > 2 else 1
    for factor, shift, mask in _STEPS[:num_steps]:
        value *= factor
        value >>= shift
        value &= mask
    value >>= _ABOVE[num_steps - 1]
    cursor += num_digits.view(np.int64)
    sign = negative.view(np.int64)
    return (value.view(np.int64) ^ -sign) + sign


def _pass_integer(words: UInt64s, cursor: Int64s, matches: Bools) -> None:
    """Pass over an integer that fits int64; clear `matches` where there is none in its plain form."""
    first, negative = _take_sign(words, cursor)
    num_digits = _num_digits(first)
    matches &= _is_plain(first, negative, num_digits)
    total = num_digits.view(np.int64).copy()
    # A word holds 8 digits, the first one 7 where a minus was shifted out.
    full = _EIGHT - negative
    for _ in range(2):
        goes_on = num_digits == full
        if not goes_on.any():
            break
        num_digits = np.where(goes_on, _num_digits(words[cursor + total]), np.uint64(0))
        full = np.full_like(full, _EIGHT)
        total += num_digits.view(np.int64)
    matches &= (total < MAX_DIGITS) | ((total == MAX_DIGITS) & (first & _LOW_BYTE < _NINE))
    cursor += total
