"""`owa-data summary`: which datasets are here, what is in them, and what to set next."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from owa_data.cli.repository import read_params, section_of
from owa_data.errors import SchemaError
from owa_data.schema import SCHEMAS, SPLITS
from owa_data.store.dataset_folder import Lineage, read_lineage, shard_name

BUILT_IN_TOKENIZER = "byte"
SAMPLE_DIR = "data/sample/recordings"


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser("summary", help="say which datasets are here and what is in them", description=__doc__)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table."""
    params = read_params()
    raw, fsl = section_of(params, "raw"), section_of(params, "fsl")
    has_any = False
    print(f"\n{'dataset':<12} {'episodes':>9} {'train rows':>11} {'test rows':>10} {'MB':>9}")
    for kind in SCHEMAS:
        folder = Path("data") / kind
        try:
            lineage = read_lineage(folder, kind)
        except SchemaError:
            continue
        has_any = True
        rows = {split: sum(e.num_rows for e in lineage.episodes if e.split == split) for split in SPLITS}
        size = sum(episode.size_bytes for episode in lineage.episodes)
        print(f"{folder!s:<12} {len(lineage.episodes):>9} {rows['train']:>11,} {rows['test']:>10,} {size / 1e6:>9.1f}")
        _print_tokens(lineage)
        _print_missing(folder, lineage)
    for line in _next_steps(raw, fsl, has_any=has_any):
        print(line)
    return 0


def _print_missing(folder: Path, lineage: Lineage) -> None:
    shards = [folder / episode.split / shard_name(episode.episode_path) for episode in lineage.episodes]
    if num_missing := sum(not shard.is_file() for shard in shards):
        print(
            f"  {num_missing} of {len(shards)} shards are not here: fetch them with `dvc pull {folder}`, or `dvc checkout {folder}`"
        )


def _print_tokens(lineage: Lineage) -> None:
    if lineage.kind == "fsl":
        tokens = sum(episode.ledger["tokens"] for episode in lineage.episodes)
        padding = sum(episode.ledger["padding_tokens"] for episode in lineage.episodes)
        print(
            f"  {tokens:,} tokens in rows of {lineage.params['max_sequence_length']}, {padding / max(tokens + padding, 1):.1%} padding; "
            f"tokenizer {lineage.facts['tokenizer']['name']}"
        )


def _next_steps(raw: dict[str, Any], fsl: dict[str, Any], *, has_any: bool) -> list[str]:
    lines = [] if has_any else ["Nothing is built here yet: `dvc repro fsl` does it."]
    if raw.get("dir") == SAMPLE_DIR:
        lines.append(
            "These are the embedded sample recordings. For yours, set raw.dir and raw.watch in params.yaml to their folder."
        )
    if raw.get("metadata") == "":
        lines.append("raw.metadata is empty, and DVC cannot watch a file without a name. Name a file; it may be empty.")
    if fsl.get("tokenizer") == BUILT_IN_TOKENIZER:
        lines.append(
            "The tokenizer is the embedded one for trying out. For training, set fsl.tokenizer to your model's, such as internvl3."
        )
    return [f"\nNext: {line}" if not index else f"      {line}" for index, line in enumerate(lines)]
