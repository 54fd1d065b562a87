"""Numbers as digits of mixed bases, most significant first, over whole arrays; and notches of the wheel."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]


def from_digits(digits: Int64s, bases: Sequence[int]) -> Int64s:
    """Return the values in `[0, prod(bases))` of digits int64 (..., len(bases)).

    Example:
        >>> from_digits(np.array([1, 2, 3, 4]), (2, 10, 10, 10)).item()
        1234
    """
    weights = [prod(bases[place + 1 :]) for place in range(len(bases))]
    return (digits * np.array(weights)).sum(axis=-1)


def to_notches(delta: Int64s, unit: int) -> tuple[Int64s, npt.NDArray[np.bool_]]:
    """Return wheel steps in whole notches, rounded towards zero both ways, and where something was left over."""
    notches = np.sign(delta) * (np.abs(delta) // unit)
    return notches, notches * unit != delta
