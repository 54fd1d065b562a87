"""Numbers as digits of mixed bases, most significant first, over whole arrays; both directions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]


def to_digits(values: Int64s, bases: Sequence[int]) -> Int64s:
    """Return digits int64 (n, len(bases)) of values in `[0, prod(bases))`; greater values wrap.

    Example:
        >>> to_digits(np.array([1234]), (2, 10, 10, 10)).tolist()
        [[1, 2, 3, 4]]
    """
    digits = np.empty((*values.shape, len(bases)), np.int64)
    rest = values
    for place in range(len(bases) - 1, -1, -1):
        # By one number at a time: division by a scalar is a multiplication.
        rest, digits[..., place] = np.divmod(rest, bases[place])
    return digits


def from_digits(digits: Int64s, bases: Sequence[int]) -> Int64s:
    """Return the values of digits int64 (..., len(bases)): the inverse of `to_digits`."""
    weights = [prod(bases[place + 1 :]) for place in range(len(bases))]
    return (digits * np.array(weights)).sum(axis=-1)


def to_notches(delta: Int64s, unit: int) -> tuple[Int64s, npt.NDArray[np.bool_]]:
    """Return wheel steps in whole notches, rounded towards zero both ways, and where something was left over."""
    notches = np.sign(delta) * (np.abs(delta) // unit)
    return notches, notches * unit != delta
