"""`owa-data doctor <folder>`: the condition of each recording and its media."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from owa_data.errors import ParamsError
from owa_data.params import RawParams
from owa_data.raw.discover import find_recordings
from owa_data.raw.examine import Examination, MediaExamination, examine
from owa_data.store.source import is_url

_NS_PER_S = 1_000_000_000
_NS_PER_HOUR = 3600 * _NS_PER_S


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "doctor",
        help="say in which condition recordings and their media are",
        description="Read every recording below a folder and every packet of its videos, and say what is wrong. Ends with 0 if nothing is, "
        "else with 1. Damaged recordings can be used all the same: raw.on_damaged says how.",
    )
    parser.add_argument("folder", help="folder or URL of recordings")
    parser.add_argument("--json", action="store_true", help="one JSON object per recording and line")
    parser.add_argument("--only-problems", action="store_true", help="leave out recordings with which nothing is wrong")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Examine and print."""
    if not is_url(options.folder) and not Path(options.folder).is_dir():
        problem = "is a file. Name its folder" if Path(options.folder).exists() else "does not exist"
        raise ParamsError("folder", f"{options.folder!r} {problem}")
    found = find_recordings(RawParams(dir=options.folder, watch=options.folder, metadata=""))
    conditions: Counter[str] = Counter()
    num_fine = 0
    for recording in found:
        examination = examine(recording)
        conditions[examination.condition] += 1
        num_fine += examination.is_fine
        if options.only_problems and examination.is_fine:
            continue
        if options.json:
            print(msgspec.json.encode(examination).decode())
        else:
            print("\n".join(_describe(examination)))
        sys.stdout.flush()
    if not options.json:
        told = ", ".join(f"{number} {condition}" for condition, number in sorted(conditions.items()))
        print(f"\n{len(found)} recordings: {told}; {len(found) - num_fine} with problems of their own or of their media")
    return int(num_fine < len(found))


def _describe(examination: Examination) -> list[str]:
    hours, megabytes = examination.duration_ns / _NS_PER_HOUR, examination.size_bytes / 1e6
    name = _printable(examination.episode_path)
    lines = [
        f"{name:<40} {examination.condition:<10} {examination.num_messages:>12,} messages {hours:>9.3f} h {megabytes:>9.1f} MB",
    ]
    lines += [f"  ! {problem}" for problem in examination.problems]
    for media in examination.media:
        lines.append(f"  {_printable(media.uri):<38} {media.state:<10} {_describe_frames(media)}")
        lines += [f"  ! {_printable(media.uri)}: {problem}" for problem in media.problems]
    return lines


def _describe_frames(media: MediaExamination) -> str:
    references = f"{media.num_references:>12,} references"
    if not media.num_frames:
        return references
    rate = "variable rate" if media.variable_rate else "constant rate"
    return (
        f"{references} up to {media.largest_pts_ns / _NS_PER_S:.3f} s of {media.end_ns / _NS_PER_S:.3f} s, {media.num_frames:,} frames, "
        f"{media.num_keyframes:,} keyframes at most {media.longest_keyframe_gap_ns / _NS_PER_S:.2f} s apart, {rate}"
    )


def _printable(name: str) -> str:
    """A name in one line, whatever it holds."""
    return name if name.isprintable() else repr(name)
