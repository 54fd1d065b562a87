"""A progress bar over episodes, weighted by their size, so that the time left means something."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

_SECONDS_BETWEEN_LINES = 10  # where the output is a log file, not a terminal


@contextmanager
def progress_bar(name: str, sizes_bytes: Sequence[int], *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show episodes done, rate and time left on stderr; nothing of a single one, which has no part that is done.

    Yields:
        A function to call with the index of each finished episode.
    """
    if not shown or len(sizes_bytes) <= 1:
        yield lambda index: None
        return
    from tqdm import tqdm  # takes 30 ms

    class Bar(tqdm):  # type: ignore[type-arg]
        monitor_interval = 0  # no thread beside: this process may be copied

    interval = 0.1 if sys.stderr.isatty() else _SECONDS_BETWEEN_LINES
    bar = Bar(total=sum(sizes_bytes), desc=name, unit="B", unit_scale=True, mininterval=interval)
    num_done = 0

    def advance(index: int) -> None:
        nonlocal num_done
        num_done += 1
        bar.set_postfix_str(f"{num_done}/{len(sizes_bytes)} episodes", refresh=False)
        bar.update(sizes_bytes[index])

    with bar:
        yield advance
