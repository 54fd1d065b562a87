"""`owa-data card data/fsl`: a dataset card for the Hugging Face Hub, written from `owa.json`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from owa_data.errors import ParamsError
from owa_data.store.card import render_card
from owa_data.store.dataset_folder import COMPUTED_NAME, read_any_lineage
from owa_data.store.whole_file import write_whole


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser("card", help="write a Hugging Face dataset card", description=__doc__)
    parser.add_argument("folder", type=Path, help="dataset folder, such as data/fsl")
    parser.add_argument("-o", "--output", type=Path, help="file to write, such as README.md (default: standard output)")
    parser.add_argument("--name", default="", help="the card's title (default: the folder's name)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the card."""
    text = render_card(read_any_lineage(options.folder), options.name or options.folder.absolute().name)
    if options.output and options.output.resolve().is_relative_to(options.folder.resolve()):
        raise ParamsError(
            "output",
            f"{options.output} lies in the dataset, which DVC and `owa-data verify` hold to what was built. Write it beside the folder, and put it "
            "there once both are uploaded",
        )
    if computed := [path for path in options.folder.rglob("*.arrow") if COMPUTED_NAME.fullmatch(path.name)]:
        print(
            f"{options.folder} also holds {len(computed)} files that `datasets` computed from it, such as {computed[0]}: do not upload them, the "
            "card's patterns would take them for rows",
            file=sys.stderr,
        )
    if options.output:
        write_whole(options.output, text.encode())
    else:
        print(text, end="")
    return 0
