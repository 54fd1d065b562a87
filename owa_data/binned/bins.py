"""Where bins begin, and which bin an event lies in.

Input: `Events` of one episode. Output: `Bins`. A bin reaches to the start of the next one in its interval; bins never cross intervals, so
that time that was cut out is not filled with bins and nothing held in one interval counts in the next.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import numpy as np
import numpy.typing as npt

from owa_data.encoding.events import Events
from owa_data.errors import OwaDataError, ParamsError
from owa_data.event.grid import as_rate, period_of, period_start_ns
from owa_data.params import BinnedParams

logger = logging.getLogger(__name__)

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bins:
    """Bins of one episode, b of them, in order.

    Attributes:
        starts_ns: First nanosecond of each, int64 (b,), ascending.
        interval_index: The interval that each lies in, int64 (b,), ascending.
    """

    starts_ns: Int64s
    interval_index: Int64s


BinFunction = Callable[[Events, BinnedParams], Bins]


def bins_at_rate(events: Events, params: BinnedParams) -> Bins:
    """Make bins of 1/fps: bin i of an interval begins at `ceil(start_ns + i * 10**9 / fps)`, `start_ns` being the interval's first event.

    All bins up to the interval's last event are there, empty ones too.

    Example:
        Events at 0, 50 and 250 ms and 10 fps make bins at 0, 100 and 200 ms; the second holds no event.
    """
    rate = as_rate(params.fps)
    intervals, firsts = np.unique(events.interval_index, return_index=True)
    if not len(intervals):
        return Bins(firsts.astype(np.int64), intervals)
    lasts = np.append(firsts[1:], len(events)) - 1
    starts_ns = events.times_ns[firsts]
    num_bins = period_of(events.times_ns[lasts] - starts_ns, rate) + 1
    place = np.arange(num_bins.sum()) - np.repeat(np.cumsum(num_bins) - num_bins, num_bins)
    return Bins(np.repeat(starts_ns, num_bins) + period_start_ns(place, rate), np.repeat(intervals, num_bins))


def assign_events(events: Events, bins: Bins, episode_path: str) -> Int64s:
    """Return the bin of each event, int64 (n,): the last that begins at or before it.

    Raises:
        ParamsError: Bins of one's own that do not cover every event, or are out of order.
    """
    if not len(events):
        return np.empty(0, np.int64)
    place = np.searchsorted(bins.starts_ns, events.times_ns, side="right") - 1
    in_order = bool(np.all(np.diff(bins.starts_ns) > 0) and np.all(np.diff(bins.interval_index) >= 0))
    outside = (place < 0) | (bins.interval_index[place] != events.interval_index) if len(bins.starts_ns) else place < 0
    if not in_order or outside.any():
        where = (
            "starts_ns must ascend, and interval_index must not descend"
            if not in_order
            else f"no bin of its interval holds the event at {events.times_ns[outside][0]} ns"
        )
        raise ParamsError("binned.bin_function", f"{episode_path}: {where}. Begin a bin at or before each interval's first event")
    return place


def find_bin_function(name: str) -> tuple[BinFunction, str]:
    """Return the function that `binned.bin_function` names, and the sha256 of its module's source; `bins_at_rate` and "" for an empty name.

    What runs is what was digested: the source is read once and run as it is. An import could run what Python compiled of another version in the
    same second, or what a worker that lives long imported before. Modules that this one imports are not looked at.

    Raises:
        ParamsError: There is no such function, or its module is no source file.
    """
    if not name:
        return bins_at_rate, ""
    module_name, _, function_name = name.partition(":")
    try:
        module, sha256 = _load_module(module_name)
        function = getattr(module, function_name)
    except (Exception, SystemExit) as error:  # whatever one's own module does while it is imported
        raise ParamsError(
            "binned.bin_function",
            f"{name!r} cannot be imported ({type(error).__name__}: {error}). Write module:function, the module in the working directory",
        ) from error
    if not callable(function):
        raise ParamsError("binned.bin_function", f"{name!r} is no function but {function!r}")
    return function, sha256


_modules: dict[tuple[str, str], ModuleType] = {}  # by name and sha256 of the source


class _LoaderOf(SourceFileLoader):
    """Loads a module from source that was read before, and looks at no compiled file."""

    def __init__(self, source: bytes, name: str, path: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        """Compile the source."""
        return self.source_to_code(self._source, self.path)


def _load_module(name: str) -> tuple[ModuleType, str]:
    if name.startswith("owa_data."):  # part of what the sources' digest speaks of, and to be had once only
        return importlib.import_module(name), ""
    if sys.modules.get(name) in _modules.values():
        del sys.modules[name]  # else it is found where it was
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}")
    if not (spec.origin or "").endswith(".py"):
        raise ImportError("it is no .py file, so that nobody could tell when it changes")
    source = Path(str(spec.origin)).read_bytes()
    sha256 = hashlib.sha256(source).hexdigest()
    if (name, sha256) not in _modules:
        spec.loader = loader = _LoaderOf(source, name, str(spec.origin))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # where dataclasses and others look for it
        try:
            loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)  # as an import does
            raise
        _modules[name, sha256] = module
    return _modules[name, sha256], sha256


def call_bin_function(function: BinFunction, events: Events, params: BinnedParams) -> Bins:
    """Call a bin function.

    Raises:
        ParamsError: One's own raised something, or returned something else.
        MemoryError: There is too little.
    """
    try:
        bins = function(events, params)
    except SystemExit as error:
        raise ParamsError("binned.bin_function", f"{params.bin_function!r} ended the program with status {error.code}") from error
    except (OwaDataError, MemoryError):
        raise  # these say what they are; a lack of memory is no fault of the function
    except Exception as error:  # whatever one's own function does; the traceback shows where
        logger.exception("%s", params.bin_function)
        raise ParamsError("binned.bin_function", f"{params.bin_function!r} raised {type(error).__name__}: {error}") from error
    if not isinstance(bins, Bins):
        raise ParamsError(
            "binned.bin_function", f"{params.bin_function!r} returned {bins!r:.80}, not `owa_data.binned.bins.Bins`"
        )
    for name in ("starts_ns", "interval_index"):
        column = getattr(bins, name)
        if not isinstance(column, np.ndarray) or column.dtype.kind != "i" or column.shape != (len(bins.starts_ns),):
            found = f"{column.dtype} {column.shape}" if isinstance(column, np.ndarray) else f"a {type(column).__name__}"
            raise ParamsError(
                "binned.bin_function",
                f"{params.bin_function!r} returned Bins whose {name} is {found}; both are arrays int64 (bins,)",
            )
    return bins
