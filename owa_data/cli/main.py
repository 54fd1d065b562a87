"""`owa-data`: look after recordings, tokenizers and datasets from the shell."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from owa_data.cli import cache, card, decode, doctor, init, scan, show, summary, tokenizer, verify
from owa_data.errors import OwaDataError

# A new subcommand is one module and one name here.
COMMANDS = (init, scan, doctor, tokenizer, summary, show, decode, verify, card, cache)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    parser = argparse.ArgumentParser(prog="owa-data", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="command")
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one subcommand. Errors raised on purpose end with status 1 and their message alone."""
    options = make_parser().parse_args(arguments)
    try:
        status = options.run(options)
        if sys.stdout is not None:
            sys.stdout.flush()  # what cannot be written is told here, not by Python as it ends
    except BrokenPipeError:
        status = 0  # the reader, such as `head`, has seen enough
        _write_nowhere()
    except (OwaDataError, OSError) as error:
        print(f"owa-data {options.command}: {error}", file=sys.stderr)
        status = 1
        if isinstance(error, OSError) and error.filename is None:
            _write_nowhere()  # as on a full disk
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status or 0)


def _write_nowhere() -> None:
    """Send what is still to be written to nowhere: Python would try once more as it ends, and complain."""
    with suppress(OSError, ValueError):  # a standard output that is no file, as in tests
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
