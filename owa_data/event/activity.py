"""Which stretches of a recording are used: a small expression over named selections.

Input: the times of each topic. Output: `Intervals`. The names:

    whole_file   from the first to the last message of the recording
    inactivity   where screens follow each other within max_screen_gap_s and inputs within max_input_gap_s
    hotkey       from each odd release of hotkey_vk to the next one, the last one to the end of the recording
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from owa_data.errors import ParamsError
from owa_data.event import intervals
from owa_data.event.grid import seconds_to_ns
from owa_data.event.intervals import Intervals
from owa_data.params import IntervalParams

SELECTIONS = ("whole_file", "inactivity", "hotkey")


@dataclass(frozen=True)
class ActivityTimes:
    """What the selections look at; all times int64, sorted.

    `screens` and `inputs` are those of the topics with that `activity`; None where the topic table has no such topic, and then the rule
    does not constrain. `hotkey_releases` are releases of the hotkey. `start_ns`, `end_ns` bound the recording, end open.
    """

    start_ns: int
    end_ns: int
    screens: npt.NDArray[np.int64] | None
    inputs: npt.NDArray[np.int64] | None
    hotkey_releases: npt.NDArray[np.int64]


def select_intervals(params: IntervalParams, times: ActivityTimes) -> Intervals:
    """Evaluate `event.intervals.select` on one recording.

    Raises:
        ParamsError: The expression is malformed or names an unknown selection.
    """
    selections: Mapping[str, Callable[[], Intervals]] = {
        "whole_file": lambda: intervals.normalize([[times.start_ns, times.end_ns]]),
        "inactivity": lambda: _inactivity(params, times),
        "hotkey": lambda: _pairs(times.hotkey_releases, times.end_ns),
    }
    return _evaluate(parse_selection(params.select), selections)


def uses_hotkey(params: IntervalParams) -> bool:
    """Whether the selection looks at the hotkey, so that keyboard messages must be read."""
    return any(isinstance(node, ast.Name) and node.id == "hotkey" for node in ast.walk(parse_selection(params.select)))


def parse_selection(select: str) -> ast.expr:
    """Parse a selection into a tree of names and `& | -`. Python's grammar is borrowed; nothing is executed.

    Raises:
        ParamsError: As for `select_intervals`.
    """
    try:
        tree = ast.parse(select.strip(), mode="eval").body
        _check(tree, select)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the latter ones for what is nested too deeply
        raise ParamsError("event.intervals.select", f"{select[:200]!r} is no expression of names with & | - and ( )") from error
    return tree


def _check(node: ast.expr, select: str) -> None:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr | ast.Sub):
        _check(node.left, select)
        _check(node.right, select)
    elif not isinstance(node, ast.Name) or node.id not in SELECTIONS:
        raise ParamsError(
            "event.intervals.select",
            f"{ast.unparse(node)!r} in {select!r} is not known. Names: {', '.join(SELECTIONS)}; operators: & | - ( )",
        )


def _evaluate(node: ast.expr, selections: Mapping[str, Callable[[], Intervals]]) -> Intervals:
    if isinstance(node, ast.BinOp):
        left, right = _evaluate(node.left, selections), _evaluate(node.right, selections)
        if isinstance(node.op, ast.BitAnd):
            return intervals.intersection(left, right)
        return intervals.union(left, right) if isinstance(node.op, ast.BitOr) else intervals.difference(left, right)
    assert isinstance(node, ast.Name)
    return selections[node.id]()


def _inactivity(params: IntervalParams, times: ActivityTimes) -> Intervals:
    active = intervals.normalize([[times.start_ns, times.end_ns]])
    for moments, max_gap_s in ((times.screens, params.max_screen_gap_s), (times.inputs, params.max_input_gap_s)):
        if moments is not None:
            active = intervals.intersection(active, intervals.runs_of(moments, seconds_to_ns(max_gap_s)))
    return active


def _pairs(times_ns: npt.NDArray[np.int64], end_ns: int) -> Intervals:
    stops = np.append(times_ns, end_ns) if len(times_ns) % 2 else times_ns
    return intervals.normalize(stops.reshape(-1, 2))
