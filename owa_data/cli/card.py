"""`owa-data card data/fsl`: a dataset card for the Hugging Face Hub, written from `owa.json`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from owa_data.store.card import render_card
from owa_data.store.dataset_folder import read_any_lineage


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
    if options.output:
        options.output.write_text(text)
    else:
        print(text, end="")
    return 0
