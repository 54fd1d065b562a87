"""Wrapped times to absolute ones.

A token scheme writes a time modulo its period (10 s or 16 s). Each time is taken to be the one nearest to the time before it, within half a
period either way, since with an action shift times step back a little. A gap of more than half a period cannot be seen from the tokens:
that takes a hint, which rows of the `fsl` dataset carry.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]

PLAUSIBLE_STEP_BACK_NS = 1_000_000_000
"""Times that step back by more than this are no action shift but a gap of more than half a period."""

Doubts = tuple[tuple[int, str], ...]


def _none() -> Int64s:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class TimeHints:
    """What is known of the times besides the tokens.

    Attributes:
        start_ns: The first event is within half a period of it.
        end_ns: The last event is within half a period of it.
        positions: Positions at which events of known time begin, ascending, int64 (k,).
        times_ns: Their times, int64 (k,).
        episode_start_ns: Time of the episode's first message, for times that count from it.
    """

    start_ns: int | None = None
    end_ns: int | None = None
    positions: Int64s = field(default_factory=_none)
    times_ns: Int64s = field(default_factory=_none)
    episode_start_ns: int | None = None

    def time_at(self, positions: Int64s) -> Int64s:
        """Return the known time of the event that begins at or before each position, else of the first one."""
        return self.times_ns[np.maximum(np.searchsorted(self.positions, positions, "right") - 1, 0)]


def nearest(wrapped_ns: Int64s, reference_ns: Int64s | int, period_ns: int) -> Int64s:
    """Return the times nearest to a reference, within half a period, that are `wrapped_ns` modulo the period."""
    return reference_ns - centred(reference_ns - wrapped_ns, period_ns)


def centred(differences_ns: Int64s, period_ns: int) -> Int64s:
    """Return differences modulo the period in `[-period / 2, period / 2)`."""
    half = period_ns // 2
    return (differences_ns + half) % period_ns - half


def unwrap(wrapped_ns: Int64s, period_ns: int, positions: Int64s, hints: TimeHints) -> tuple[Int64s, Doubts]:
    """Return absolute times of events in the order in which they were written.

    Args:
        wrapped_ns: int64 (n,), in `[0, period_ns)`.
        period_ns: Of the encoding.
        positions: Where each event begins, int64 (n,).
        hints: What else is known.

    Returns:
        int64 (n,), and the positions at which a time is not certain, with the reason.

    Example:
        >>> times, _ = unwrap(np.array([9, 1, 8]), 10, np.arange(3), TimeHints(start_ns=29))
        >>> times.tolist()
        [29, 31, 28]
    """
    if not len(wrapped_ns):
        return wrapped_ns, ()
    if len(hints.times_ns):
        return nearest(wrapped_ns, hints.time_at(positions), period_ns), ()
    steps = -centred(-np.diff(wrapped_ns), period_ns)
    doubts: list[tuple[int, str]] = []
    first = int(wrapped_ns[0])
    if hints.start_ns is None:
        doubts.append((int(positions[0]), "no hint of the absolute time: times count from a multiple of the period"))
    else:
        first = int(nearest(wrapped_ns[:1], hints.start_ns, period_ns)[0])
    back = np.flatnonzero(steps < -PLAUSIBLE_STEP_BACK_NS)
    if hints.start_ns is not None and hints.end_ns is not None:
        last = first + int(steps.sum())
        missing = max(round((hints.end_ns - last) / period_ns), 0)
        # The hints say how many periods the gaps swallowed. Where is certain if each step back took one, or a single one all.
        if missing and missing == len(back):
            steps[back] += period_ns
            back = back[:0]
        elif missing and len(steps):
            place = int(np.argmin(steps)) if len(back) else int(np.argmax(steps))
            steps[place] += missing * period_ns
            if len(back) != 1:
                doubts.append((int(positions[place + 1]), f"{missing} periods of {period_ns / 1e9:g} s are missing; placed here"))
            back = back[back != place]
    doubts += [
        (
            int(positions[step + 1]),
            f"time steps back by {-steps[step] / 1e9:.2f} s: a gap of more than half a period, without a hint",
        )
        for step in back.tolist()
    ]
    return first + np.concatenate([[0], np.cumsum(steps)]), tuple(sorted(doubts))
