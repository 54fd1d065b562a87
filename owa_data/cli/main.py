"""`owa-data`: look after recordings, tokenizers and datasets from the shell."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

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
    except BrokenPipeError:
        status = 0  # the reader, such as `head`, has seen enough
    except (OwaDataError, OSError) as error:
        print(f"owa-data {options.command}: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(_end_output(options.command, status or 0))


def _end_output(command: str, status: int) -> int:
    """Write what is still to be written and return the exit status. What cannot be written is told here, not by Python as it ends."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python tries once more
        if status == 0 and not isinstance(error, BrokenPipeError):
            print(f"owa-data {command}: {error}", file=sys.stderr)
            return 1
    return status


if __name__ == "__main__":
    main()
