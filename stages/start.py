"""What comes before all that takes time to import: Ctrl-C answered without a traceback, and what is spared of garbage collection and the like.

This is of use to the process of a stage alone, and so it is done there alone: Python looks for this package to run a stage of it, and then
`sys.argv[0]` is `-m`; not so in tests. Workers that are copies of it keep it.
"""

from __future__ import annotations

import gc
import os
import signal
import sys

INTERRUPTED = "interrupted. What was finished is kept: run again to go on."


def end_at_once(number: int, frame: object) -> None:
    """Answer Ctrl-C while a stage starts: nothing is there to be put in order, and an exception in the midst of imports would be a traceback."""
    os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(1)


def start_lean() -> None:
    """Have this process, and workers that it starts, do without what a stage does not need. Of use before Arrow and pydantic are imported."""
    # Starting makes some hundred thousand objects, and most of them stay: to look through them again and again takes a sixth of a small build.
    gc.set_threshold(200_000)
    # To look for plugins, pydantic reads the metadata of every installed package, 20 ms.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Arrow's allocator gives back what was freed 10 ms ago, and the next batch has it handed out again page by page: a 30th of an episode's time.
    os.environ.setdefault("MIMALLOC_PURGE_DELAY", "-1")


if sys.argv[0] == "-m":
    start_lean()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_at_once)
