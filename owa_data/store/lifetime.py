"""Processes that end together: a worker with the stage that started it, a stage with the DVC that started it.

A killed process cannot tell anyone, so each watches from below. Linux can send a signal at a parent's death instead, but it means the
parent's thread, and not the one before a shell in between; a thread that looks twice a second needs neither.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

POLL_S = 0.5
_WATCH = "lifetime"  # name of its threads
_SHELLS = {"sh", "bash", "dash", "zsh", "fish", "ksh", "busybox"}


def end_with_parent() -> None:
    """End this worker process as soon as the process that started it has ended, however it ended."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if os.getppid() == parent.pid:
        # A copy of it. Copies made later hold its end of the pipe too, so that this one would hear nothing until they have ended.
        _end_after(lambda: _wait_while(lambda: os.getppid() == parent.pid))
    else:
        _end_after(parent.join)


def end_with_starter(name: str) -> None:
    """End this process as soon as the process that started it has ended; a shell in between is looked through.

    Args:
        name: Who started it, for the message.
    """
    starters = _starters()

    def wait() -> None:
        _wait_while(lambda: _starters() == starters)
        sys.stderr.write(f"{name} has ended, so this ends too. What was finished is kept: run again to go on.\n")

    _end_after(wait)


def _wait_while(condition: Callable[[], bool]) -> None:
    while condition():
        time.sleep(POLL_S)


def _end_after(wait: Callable[[], object]) -> None:
    def run() -> None:
        wait()
        # Nothing to clean up that a later build would miss: unfinished files are never taken for finished ones.
        os._exit(1)

    threading.Thread(target=run, name=_WATCH, daemon=True).start()


def is_watch(thread: threading.Thread) -> bool:
    """Whether a thread is one of this module's; they hold no lock that another process could need."""
    return thread.name == _WATCH


def _starters() -> tuple[int, ...]:
    """Return the parent, and the parent's parent where the parent is a shell."""
    parent = os.getppid()
    try:
        # "<pid> (<name>) <state> <parent> ...", where the name may hold anything.
        name, _, rest = os.fsdecode(Path(f"/proc/{parent}/stat").read_bytes()).partition("(")[2].rpartition(")")
    except OSError:
        return (parent,)  # no /proc
    return (parent, int(rest.split()[1])) if name in _SHELLS else (parent,)
