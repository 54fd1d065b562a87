"""The console command as a process: what reaches the terminal where its output or its user goes away."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
COMMAND = (sys.executable, "-c", "from owa_data.cli.start import main; main()")


def run_into(output: int, *arguments: str) -> tuple[int, str]:
    result = subprocess.run(
        [*COMMAND, *arguments], stdout=output, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, timeout=120, check=False
    )
    return result.returncode, result.stderr


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert run_into(writer, "cache", "status") == (0, "")
    finally:
        os.close(writer)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a disk that is always full")  # noqa: PTH110 - no file of ours
def test_a_full_disk_is_told_in_one_line() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        status, errors = run_into(full, "cache", "status")
    finally:
        os.close(full)
    assert status == 1
    assert errors.splitlines() == ["owa-data cache: [Errno 28] No space left on device"]


_INTERRUPTED_IN_AN_IMPORT = """
import os, signal, sys, types
from owa_data.cli import start

class Interrupted(types.ModuleType):
    def __getattr__(self, name):
        os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.modules["owa_data.cli.main"] = Interrupted("owa_data.cli.main")
start.main()
"""


def test_ctrl_c_while_it_starts_is_no_traceback() -> None:
    command = [sys.executable, "-c", _INTERRUPTED_IN_AN_IMPORT]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stderr) == (130, "interrupted\n")
