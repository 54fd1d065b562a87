"""`owa-data decode`: rows of an fsl dataset, token ids or text back to a recording."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from owa_data.encoding.decoded import Decoded
from owa_data.encoding.registry import ENCODERS, create_encoder
from owa_data.encoding.unwrap import TimeHints
from owa_data.errors import BROKEN_JSON, OwaDataError
from owa_data.fsl.decode import EventDecoder
from owa_data.fsl.decoded_recording import write_recording
from owa_data.raw.records import MAX_TIME_NS
from owa_data.schema import SPLITS
from owa_data.store.dataset_folder import read_lineage, shard_name
from owa_data.store.shards import read_shard

MAX_LISTED = 20


class DecodeUsageError(OwaDataError):
    """Arguments that do not fit together."""


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "decode",
        help="turn dataset rows, token ids or text back into a recording",
        description="Decode rows of an fsl dataset, a JSON file with a list of token ids, or a text file, such as a model's output, to an OWAMcap "
        "file. Broken spans are listed and left out. Media references stay relative: put the file beside the recording's media to view it.",
    )
    parser.add_argument("source", type=Path, help="an fsl dataset, a .json file with a list of ids, or a text file")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .mcap to write; one that exists is kept")
    parser.add_argument("--force", action="store_true", help="replace the output if it exists")
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--row", type=int, help="row of the dataset's split, from 0")
    rows.add_argument("--episode", help="all rows of an episode_path")
    parser.add_argument("--split", choices=SPLITS, default=SPLITS[0], help="split that --row counts in (default: %(default)s)")
    parser.add_argument("--dataset", type=Path, help="fsl dataset whose encoder and tokenizer made the ids or text")
    parser.add_argument("--encoder", choices=sorted(ENCODERS), help="encoder of a text, where no --dataset tells it")
    parser.add_argument(
        "--option", action="append", default=[], help="option of the encoder, such as timestamps; can be repeated"
    )
    parser.add_argument("--start-ns", type=_time_ns, help="time of the first event of ids or text, ns since 1970")
    parser.add_argument("--strict", action="store_true", help="stop at the first broken span")
    parser.set_defaults(run=run)


def _time_ns(text: str) -> int:
    if not 0 <= (time_ns := int(text)) < MAX_TIME_NS:
        raise argparse.ArgumentTypeError(f"{text} is not a time from 1970 to 2116")
    return time_ns


def run(options: argparse.Namespace) -> int:
    """Decode and write."""
    if options.output.suffix != ".mcap":
        raise DecodeUsageError(f"{options.output}: a recording is written. Name a file that ends in .mcap")
    if options.output.exists() and not options.force:
        raise DecodeUsageError(f"{options.output} exists. Name another file, or replace it with --force")
    parts = _decode_rows(options) if options.source.is_dir() else [_decode_file(options)]
    if not any(len(part.events) for part in parts):
        problems = [line for part in parts for line in _problems(part)]
        raise DecodeUsageError(
            f"{options.source} holds no event, so nothing is written{': ' if problems else ''}{'; '.join(problems[:3])}"
        )
    written = write_recording(options.output, parts)
    num_broken = sum(len(part.broken) for part in parts)
    left_out = f", {written.num_left_out} screens without an image left out" if written.num_left_out else ""
    moved = f", {written.num_moved} from before time 0 put at 0" if written.num_moved else ""
    print(f"{options.output}: {written.num_messages} messages, {num_broken} broken spans{left_out}{moved}")
    problems = [
        f"{f'row {index} of these, ' if len(parts) > 1 else ''}{line}"
        for index, part in enumerate(parts)
        for line in _problems(part)
    ]
    for line in problems[:MAX_LISTED]:
        print(line, file=sys.stderr)
    if len(problems) > MAX_LISTED:
        print(f"... and {len(problems) - MAX_LISTED} more", file=sys.stderr)
    return 0


def _problems(part: Decoded) -> list[str]:
    broken = [f"{span.start}..{span.end}: broken: {span.problem}" for span in part.broken]
    return broken + [f"{position}: time is not certain: {reason}" for position, reason in part.doubts]


def _decode_rows(options: argparse.Namespace) -> list[Decoded]:
    decoder = EventDecoder.from_dataset(options.source)
    table = _read_rows(options)
    return [decoder.decode_row(row, strict=options.strict) for row in table.to_pylist()]


def _read_rows(options: argparse.Namespace) -> pa.Table:
    folder: Path = options.source
    episodes = read_lineage(folder, "fsl").episodes
    if options.row is None and options.episode is None:
        raise DecodeUsageError(f"{folder} is a dataset: say --row <number> or --episode <episode_path>")
    row = 0 if options.row is None else options.row
    for episode in episodes:
        path = folder / episode.split / shard_name(episode.episode_path)
        if options.episode is not None:
            if episode.episode_path == options.episode:
                return read_shard(path.read_bytes())
        elif episode.split == options.split:
            if 0 <= row < episode.num_rows:
                return read_shard(path.read_bytes()).slice(row, 1)
            row -= episode.num_rows
    if options.episode is not None:
        raise DecodeUsageError(f"{folder} has no episode {options.episode}")
    num_rows = sum(episode.num_rows for episode in episodes if episode.split == options.split)
    raise DecodeUsageError(f"{folder} has {num_rows} rows in {options.split}; there is no row {options.row}")


def _decode_file(options: argparse.Namespace) -> Decoded:
    if not options.source.exists() or options.source.is_dir():  # a pipe is as good as a file
        raise DecodeUsageError(f"{options.source} does not exist, or is a folder without a dataset")
    if options.dataset is not None:
        decoder = EventDecoder.from_dataset(options.dataset)
    elif options.encoder is not None:
        decoder = EventDecoder(create_encoder(options.encoder, **dict.fromkeys(options.option, True)))
    else:
        raise DecodeUsageError(
            f"{options.source} does not tell how it is encoded: say --dataset <fsl dataset> or --encoder <name>"
        )
    hints = TimeHints(start_ns=options.start_ns, episode_start_ns=options.start_ns)
    if options.source.suffix == ".json":
        try:
            ids = msgspec.json.decode(options.source.read_bytes(), type=list[int])
        except BROKEN_JSON as error:
            raise DecodeUsageError(f"{options.source} is no JSON list of token ids: {error}") from error
        return decoder.decode_ids(ids, hints, strict=options.strict)
    text = options.source.read_text("utf-8", errors="replace")
    return decoder.decode_text(text, hints, strict=options.strict)
