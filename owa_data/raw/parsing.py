"""JSON payloads, many at a time: decoded in one call, or found to be alike but for their integers and not parsed at all.

Input: `Payloads` of one topic, and the form they should have. Output: decoded messages with a mask of what is valid; or groups of payloads that say
the same, and their integers as NumPy columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from owa_data.raw.integers import Shape, fixed_shape, match_shape
from owa_data.raw.payloads import PayloadPool, Payloads, offsets_of
from owa_data.raw.quoted import QuotedPayloads
from owa_data.raw.templates import TemplatePayloads, cut_by_shape, place_payloads

Bools = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]

_MAX_SHAPES = 6  # of one topic: presses and releases; moves, clicks and wheel, as recorded and as written by `write_raw_mouse`
_MIN_ALIKE = 32  # for fewer payloads a parser is as fast
_NUM_SAMPLES = 8

# JSON nested a thousand deep ends in RecursionError.
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

S = TypeVar("S")


def decode_payloads(payloads: Payloads | QuotedPayloads, form: type[S]) -> tuple[list[S], Bools]:
    """Decode JSON payloads of one form.

    Returns:
        The decoded messages of the valid payloads, in order, and a mask bool (n,) of which payloads are valid: JSON of this form, and UTF-8 as a
        whole (parsers do not look into strings that they skip).
    """
    num_payloads = len(payloads)
    if not num_payloads:
        return [], np.zeros(0, np.bool_)
    payloads = payloads.plain()
    decoder = msgspec.json.Decoder(form)
    # One call for all. The parser does not insist on one value per line. But where each payload begins and ends as an object does, and none holds a
    # newline, no value reaches over two of them, so that n values are one of each.
    if _look_like_objects(payloads) and (joined := _join_lines(payloads)).count(b"\n") == num_payloads and _is_utf8(joined):
        try:
            rows = decoder.decode_lines(joined)
        except _UNDECODABLE:
            rows = []
        if len(rows) == num_payloads:
            return rows, np.ones(num_payloads, np.bool_)
    valid = np.zeros(num_payloads, np.bool_)
    rows = []
    for index, payload in enumerate(payloads.to_pylist()):
        try:
            row = decoder.decode(payload)
            payload.decode()
        except _UNDECODABLE:
            continue
        rows.append(row)
        valid[index] = True
    return rows, valid


def _look_like_objects(payloads: Payloads) -> bool:
    octets, starts, ends = payloads.octets, payloads.starts, payloads.ends
    return bool(np.all(ends > starts) and np.all(octets[starts] == ord("{")) and np.all(octets[ends - 1] == ord("}")))


def _join_lines(payloads: Payloads) -> bytes:
    import pyarrow.compute as pc  # takes 40 ms, which stage raw does without

    nothing, newline = (pa.scalar(separator, pa.large_binary()) for separator in (b"", b"\n"))
    lines = pc.binary_join_element_wise(payloads.to_arrow(), nothing, newline)
    offsets = offsets_of(lines)
    return memoryview(lines.buffers()[2])[offsets[0] : offsets[-1]].tobytes()


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_json(payloads: Payloads) -> Bools:
    """Mask bool (n,) of the payloads that are JSON in UTF-8."""
    return decode_payloads(payloads, msgspec.Raw)[1]


@dataclass(frozen=True)
class Alike(Generic[S]):
    """Payloads that say what `message` says, but for some of their integers.

    Attributes:
        rows: Which payloads, int64 (m,), ascending.
        message: One of them, decoded.
        shape: That of all of them.
        integers: Those integers that were asked for and vary, by field, int64 (m,) each.
    """

    rows: Int64s
    message: S
    shape: Shape
    integers: dict[str, Int64s]


@dataclass(frozen=True)
class AlikePayloads:
    """Payloads, and what is alike in them."""

    payloads: Payloads
    groups: Sequence[Alike[Any]]

    def as_templates(self, rows: Int64s, pool: PayloadPool) -> TemplatePayloads:
        """View the payloads `rows`, int64 (k,), all of which lie in the pool: those that are alike as templates, the others as `WHOLE` ones."""
        parts: list[tuple[Int64s, TemplatePayloads]] = []
        group_of, place = np.full(len(self.payloads), -1, np.int8), np.empty(len(self.payloads), np.int64)
        for number, group in enumerate(self.groups):
            group_of[group.rows], place[group.rows] = number, np.arange(len(group.rows))
        for number, group in enumerate(self.groups):
            found = np.flatnonzero(group_of[rows] == number)
            integers = {name.encode(): values[place[rows[found]]] for name, values in group.integers.items()}
            parts.append((found, cut_by_shape(self.payloads.take(rows[found]), group.shape, integers, pool)))
            if len(found) == len(rows):
                return parts[-1][1]
        whole = np.flatnonzero(group_of[rows] < 0)
        return place_payloads(len(rows), [*parts, (whole, TemplatePayloads.whole(self.payloads.take(rows[whole]), pool))])


def split_alike(payloads: Payloads | QuotedPayloads, form: type[S], names: Sequence[str] = ()) -> tuple[list[Alike[S]], Int64s]:
    """Find payloads that are alike but for their integers, without parsing each.

    Args:
        payloads: n of them.
        form: What they should be.
        names: Integer fields whose values are wanted, where they vary. Only flat objects are matched where there are any.

    Returns:
        The groups found, all of valid messages where the values of `names` are within the form's bounds; and the other payloads,
        int64, of which nothing is known.
    """
    groups: list[Alike[S]] = []
    others: list[Int64s] = []
    rest = np.arange(len(payloads))
    wanted = {name.encode() for name in names}
    for _ in range(_MAX_SHAPES):
        if len(rest) < _MIN_ALIKE:
            break
        samples = payloads.take(rest[:: len(rest) // _NUM_SAMPLES]).to_pylist()
        try:
            message = msgspec.json.decode(samples[0], type=form)
        except _UNDECODABLE:
            shape = None
        else:
            shape = fixed_shape(samples, wanted)
        if shape is None or (names and not (shape.is_flat and len(set(shape.keys)) == len(shape.keys))):
            others.append(rest[:1])  # one odd payload says nothing of the rest
            rest = rest[1:]
            continue
        keys = [name for name in names if name.encode() in shape.keys]
        stored = shape.quoted() if isinstance(payloads, QuotedPayloads) else shape
        matches, values = match_shape(payloads.stored.take(rest), stored, tuple(key.encode() for key in keys))
        if matches.any():
            groups.append(Alike(rest[matches], message, shape, dict(zip(keys, values, strict=True))))
        else:  # as at the very end of the buffer
            others.append(rest[:1])
            matches[0] = True
        rest = rest[~matches]
    return groups, np.concatenate([*others, rest])
