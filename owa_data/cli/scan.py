"""`owa-data scan`: write the list of recordings that `raw.watch` names."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from owa_data.cli.repository import ask_to_commit, find_shard_cache, read_raw_params
from owa_data.errors import ParamsError
from owa_data.raw.watch import write_watch_list
from owa_data.store.digest_memory import DigestMemory


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "scan",
        help="write the list of recordings that raw.watch names",
        description="List the .mcap files of raw.dir with size and sha256 in the file that raw.watch names. Files that are as they were are not "
        "read again; videos never are. Commit the list, then run `dvc repro`.",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the list."""
    params = read_raw_params()
    if params.watch == params.dir and not Path(params.dir).exists():
        raise ParamsError(
            "raw.dir", f"{params.dir!r} does not exist, and raw.watch names it too. Name the folder of your recordings"
        )
    if params.watch == params.dir or Path(params.watch).is_dir():
        raise ParamsError(
            "raw.watch", f"is the folder {params.watch!r}: DVC watches it itself. Name a file, such as data/recordings.jsonl"
        )
    memory = DigestMemory(find_shard_cache().root, params.dir)
    num_recordings, num_changed, num_gone = write_watch_list(Path(params.watch), params, memory)
    memory.save()
    print(f"{params.watch}: {num_recordings} recordings of {params.dir}, {num_changed} new or changed, {num_gone} gone")
    print(ask_to_commit(Path(params.watch)))
    return 0
