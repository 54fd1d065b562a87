r"""Payloads as templates: text that many share, and slots in it that stretches of one buffer fill.

    {"event_type":"press","vk":  ,"timestamp":  }     87     1750000000860711823

So many payloads are written, quoted or wrapped by looking at their few texts alone, and each is copied once, with what goes around it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from owa_data.raw.decimal import num_characters
from owa_data.raw.integers import DIGIT, Shape
from owa_data.raw.payloads import PayloadPool, Payloads, Spans, copy_runs

Int64s = npt.NDArray[np.int64]

Texts = tuple[str, ...]
"""A template: what stands before, between and after its slots, one text more than it has slots."""

WHOLE = 0
"""Code of the template `("", "")`, whose slot holds the whole payload, whatever that is. What fills other templates' slots are integers."""

_MAX_SLOTS = 8  # all payloads take memory for as many slots as the template with the most
_DIGITS = re.compile(re.escape(DIGIT) + b"+")


@dataclass(frozen=True, slots=True)
class TemplatePayloads:
    """Payload i is the template `templates[codes[i]]`, its slots filled.

    Attributes:
        templates: That of `WHOLE`, and others.
        codes: int64 (n,).
        slots: Where in the pool what fills each slot begins and ends, int64 (num_slots, 2, n); nothing, [0, 0), for slots that a template lacks.
        pool: Holds what fills the slots.

    Example:
        >>> pool = PayloadPool()
        >>> vk = pool.add_arrow(pa.array(["87", "9"], pa.large_string()))
        >>> TemplatePayloads.of_one(('{"vk":', "}"), [vk], pool).to_pylist()
        [b'{"vk":87}', b'{"vk":9}']
    """

    templates: tuple[Texts, ...]
    codes: Int64s
    slots: Int64s
    pool: PayloadPool

    @classmethod
    def whole(cls, payloads: Payloads, pool: PayloadPool) -> TemplatePayloads:
        """View payloads that lie in the pool; none is copied."""
        return cls((("", ""),), np.full(len(payloads), WHOLE), np.array([[payloads.starts, payloads.ends]]), pool)

    @classmethod
    def of_one(cls, texts: Texts, slots: Sequence[Spans], pool: PayloadPool) -> TemplatePayloads:
        """Fill the slots of one template, at least one, with integers in the pool."""
        return cls((("", ""), texts), np.full(len(slots[0][0]), 1), np.array(slots), pool)

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def num_bytes(self) -> Int64s:
        """Bytes of each payload, int64 (n,)."""
        of_template = np.array([len("".join(texts).encode()) for texts in self.templates])
        return of_template[self.codes] + (self.slots[:, 1] - self.slots[:, 0]).sum(axis=0)

    def take(self, rows: Int64s | npt.NDArray[np.bool_] | slice) -> TemplatePayloads:
        """Choose payloads by index, by mask or by slice; none is copied."""
        return TemplatePayloads(self.templates, self.codes[rows], self.slots[:, :, rows], self.pool)

    def to_payloads(self) -> Payloads:
        """Return the payloads written out, in order: 100 to 200 ns each. The pool takes the templates' texts."""
        texts = text_spans(self.templates, len(self.slots), self.pool)
        return Payloads.of(fill(texts, self.codes, list(self.slots), self.pool))

    def to_pylist(self) -> list[bytes]:
        """Return all payloads as bytes, see `to_payloads`."""
        return self.to_payloads().to_pylist()


def place_payloads(num_payloads: int, parts: Sequence[tuple[Int64s | slice, TemplatePayloads]]) -> TemplatePayloads:
    """Put parts, at least one, all of one pool, in their places among so many payloads; a later part takes the place of an earlier one."""
    assert all(part.pool is parts[0][1].pool for _, part in parts)
    templates: list[Texts] = [("", "")]
    codes = np.empty(num_payloads, np.int64)
    slots = np.zeros((max(len(part.slots) for _, part in parts), 2, num_payloads), np.int64)
    for rows, part in parts:
        renumbered = np.arange(len(templates) - 1, len(templates) - 1 + len(part.templates))
        renumbered[WHOLE] = WHOLE
        codes[rows] = renumbered[part.codes]
        slots[: len(part.slots), :, rows] = part.slots
        slots[len(part.slots) :, :, rows] = 0
        templates += part.templates[1:]
    return TemplatePayloads(tuple(templates), codes, slots, parts[0][1].pool)


def concat_payloads(parts: Sequence[TemplatePayloads]) -> TemplatePayloads:
    """Put parts, at least one, all of one pool, one after another."""
    ends = np.cumsum([len(part) for part in parts]).tolist()
    return place_payloads(ends[-1], [(slice(end - len(part), end), part) for end, part in zip(ends, parts, strict=True)])


def cut_by_shape(payloads: Payloads, shape: Shape, integers: Mapping[bytes, Int64s], pool: PayloadPool) -> TemplatePayloads:
    """View payloads of one shape, which lie in a pool, as one template.

    They are `WHOLE` ones where it cannot be told where all their integers are, or where these are many.

    Args:
        payloads: n of them.
        shape: Their shape.
        integers: Values of some of the shape's integers by key, int64 (n,).
        pool: The pool.
    """
    unknown = [number for number, key in enumerate(shape.keys) if key not in integers]
    if len(unknown) > 1:
        return TemplatePayloads.whole(payloads, pool)
    # Literals before the one integer of unknown length are found from the payload's start, those behind it from its end.
    last = len(shape.keys)
    last_known = unknown[0] if unknown else last
    begins = [payloads.starts] * (last + 1)
    for number in range(last_known):
        begins[number + 1] = begins[number] + len(shape.literals[number]) + num_characters(integers[shape.keys[number]])
    end = payloads.ends
    for number in range(last, last_known, -1):
        begins[number] = end - len(shape.literals[number])
        if number > last_known + 1:
            end = begins[number] - num_characters(integers[shape.keys[number - 1]])

    texts, slots = [""], list[Spans]()

    def cut(starts: Int64s, ends: Int64s) -> None:
        slots.append((starts, ends))
        texts.append("")

    for number, (literal, begin) in enumerate(zip(shape.literals, begins, strict=True)):
        if number:
            cut(begins[number - 1] + len(shape.literals[number - 1]), begin)
        position = 0
        for digits in _DIGITS.finditer(literal):
            texts[-1] += literal[position : digits.start()].decode()
            cut(begin + digits.start(), begin + digits.end())
            position = digits.end()
        texts[-1] += literal[position:].decode()
    if not 0 < len(slots) <= _MAX_SLOTS:
        return TemplatePayloads.whole(payloads, pool)
    return TemplatePayloads.of_one(tuple(texts), slots, pool)


def text_spans(templates: Sequence[Texts], num_slots: int, pool: PayloadPool) -> Int64s:
    """Add the texts of templates to a pool; return where each begins and ends, int64 (num_slots + 1, 2, num_templates), for `fill`."""
    columns = zip(*((*texts, *[""] * (num_slots + 1 - len(texts))) for texts in templates), strict=True)
    return np.array([pool.add_arrow(pa.array(column, pa.large_string())) for column in columns])


def fill(texts: Int64s, codes: Int64s, slots: Sequence[Spans], pool: PayloadPool) -> pa.LargeBinaryArray:
    """Write templates, their slots filled.

    Args:
        texts: Where in the pool the templates' texts are, from `text_spans`.
        codes: Index of the template of each row, int64 (n,).
        slots: Where in the pool what fills each slot is, n of each.
        pool: The pool.

    Returns:
        Arrow large_binary (n,). 20 ns for each text and slot.
    """
    first, *rest = [bounds.take(codes, axis=1) for bounds in texts]
    return copy_runs(pool.octets, [first, *itertools.chain.from_iterable(zip(slots, rest, strict=True))])
