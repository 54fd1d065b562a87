"""The console command: Ctrl-C answered without a traceback from the first moment, also while libraries are imported."""

from __future__ import annotations

import os
import signal


def _end_at_once(number: int, frame: object) -> None:
    """Answer Ctrl-C while the command starts: an exception in the midst of imports would be a traceback."""
    os.write(2, b"interrupted\n")
    os._exit(130)


def main() -> None:
    """Run `owa-data`."""
    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_usual:
        signal.signal(signal.SIGINT, _end_at_once)
    from owa_data.cli.main import main as run

    if is_usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()
