"""Fixed time grids in exact integer arithmetic: which period does a time fall into, and where does a period begin.

Period i of a grid that starts at 0 is the half-open `[ceil(i * 10**9 / rate), ceil((i + 1) * 10**9 / rate))` in whole nanoseconds.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

NS_PER_S = 1_000_000_000
MAX_DENOMINATOR = 1001  # so that 30000 / 1001 is exact


def seconds_to_ns(seconds: float) -> int:
    """Convert seconds to whole nanoseconds, exactly for any multiple of a microsecond."""
    return round(seconds * 1_000_000) * 1000


def as_rate(rate_hz: float) -> Fraction:
    """Return a rate as the fraction meant: 29.97 is 2997/100, 0.1 is 1/10."""
    return Fraction(str(rate_hz)).limit_denominator(MAX_DENOMINATOR)


def period_of(elapsed_ns: npt.NDArray[np.int64], rate: Fraction) -> npt.NDArray[np.int64]:
    """Return the period of each time, `floor(elapsed_ns * rate / 10**9)`, for times >= 0; no product leaves int64 for rates up to 1000 Hz."""
    # Split off whole blocks of `denominator` seconds, which hold `numerator` periods each, so that the product stays in int64.
    block_ns = rate.denominator * NS_PER_S
    blocks = elapsed_ns // block_ns
    rest = elapsed_ns - blocks * block_ns  # half the time of divmod
    return blocks * rate.numerator + rest * rate.numerator // block_ns


def period_start_ns(period: npt.NDArray[np.int64], rate: Fraction) -> npt.NDArray[np.int64]:
    """Return the first whole nanosecond of each period: `ceil(period * 10**9 / rate)`."""
    blocks, rest = np.divmod(period, rate.numerator)
    block_ns = rate.denominator * NS_PER_S
    return blocks * block_ns - (-rest * block_ns // rate.numerator)
