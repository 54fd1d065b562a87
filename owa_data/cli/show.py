"""`owa-data show`: one picture of a stored row or a recording, so that a person sees whether data and video agree."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from owa_data.encoding.events import EventKind, Events, read_events
from owa_data.errors import MediaError, ParamsError
from owa_data.params import EventParams, IntervalParams, TopicParams
from owa_data.schema import EVENT_SCHEMA, SPLITS
from owa_data.store.source import is_url

if TYPE_CHECKING:
    from owa_data.cli.contact_sheet import Step

DEFAULT_OUTPUT = Path("data/show.png")
MAX_FRAMES = 18


@dataclass(frozen=True)
class _Scene:
    """Events to show, of one episode; `labels` by the index of an event say what its frame is."""

    title: str
    episode_path: str
    events: Events
    labels: dict[int, str]
    recordings: str = ""


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "show",
        help="draw the frames and decoded actions of a row or a recording",
        description="Draw one picture: frames in order with their times, and under each the actions until the next. Actions of an fsl row are "
        "decoded from its token ids. For event and binned datasets the row given is the first of those shown.",
    )
    parser.add_argument("source", help="an fsl, event or binned dataset, or an .mcap recording")
    parser.add_argument("row", nargs="?", type=int, default=0, help="row of the split; for a recording the event to begin with")
    parser.add_argument("-o", "--output", type=Path, default=DEFAULT_OUTPUT, help=f"the picture (default: {DEFAULT_OUTPUT})")
    parser.add_argument("--split", choices=SPLITS, default=SPLITS[0])
    parser.add_argument("--recordings", default="", help="folder or URL of the recordings, where params.yaml does not say it")
    parser.add_argument("--max-frames", type=int, default=MAX_FRAMES, help=f"frames to draw at most (default: {MAX_FRAMES})")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Draw the picture."""
    from PIL import Image

    from owa_data.cli.contact_sheet import draw_sheet

    if Image.registered_extensions().get(options.output.suffix.lower()) not in Image.SAVE:
        raise ParamsError("output", f"{options.output}: no picture is written to a file that ends so. Name one that ends in .png")
    if options.max_frames < 1:
        raise ParamsError("max-frames", f"is {options.max_frames}. Draw 1 frame or more")
    if options.recordings and not is_url(options.recordings) and not Path(options.recordings).is_dir():
        raise ParamsError("recordings", f"{options.recordings!r} is no folder. Name the one that holds the recordings")
    source = Path(options.source)
    if source.suffix != ".mcap" and not source.is_dir():
        raise ParamsError("source", f"{source} is neither an .mcap recording nor the folder of a dataset, such as data/fsl")
    scene = _of_recording(source, options.row) if source.suffix == ".mcap" else _of_dataset(source, options)
    scene = replace(scene, recordings=options.recordings or scene.recordings)
    steps, num_hidden = _steps(scene, options.max_frames)
    num_actions = sum(len(step.actions) for step in steps)
    note = f"{scene.episode_path}, from {steps[0].time_ns} ns; {num_actions} actions" if steps else "nothing here"
    num_missing = sum(step.is_missing for step in steps)
    note += f"; {num_missing} frames not loaded" if num_missing else ""
    note += f"; {num_hidden} later frames not drawn" if num_hidden else ""
    options.output.parent.mkdir(parents=True, exist_ok=True)
    draw_sheet(scene.title, note, steps).save(options.output, optimize=True)
    print(
        f"{options.output}: {sum(step.frame is not None for step in steps)} frames, {num_actions} actions of {scene.episode_path}"
    )
    return 0


def _of_dataset(folder: Path, options: argparse.Namespace) -> _Scene:
    from owa_data.transforms.attach import load_from_disk

    if folder.name in SPLITS and not (folder / "owa.json").exists():
        folder, options.split = folder.parent, folder.name
    dataset = load_from_disk(folder)[options.split]
    if not 0 <= options.row < len(dataset):
        raise ParamsError("row", f"{options.row} is not there: {folder} has {len(dataset)} rows in {options.split}")
    kind = dataset.owa_lineage.kind
    title = f"{folder}, {options.split}, row {options.row}"
    return SCENES[kind](folder, dataset, options.row, title, options.max_frames)


def _of_fsl(folder: Path, dataset: Any, index: int, title: str, max_frames: int) -> _Scene:
    from owa_data.fsl.decode import EventDecoder

    row = dataset[index]
    decoded = EventDecoder.from_dataset(folder).decode_row(row)
    title += f": {row['num_tokens']} tokens, decoded from {len(row['input_ids'])} ids"
    return _Scene(title, row["episode_path"], decoded.events, {})


def _of_event(folder: Path, dataset: Any, index: int, title: str, max_frames: int) -> _Scene:
    # Far more rows than frames are drawn; the rest is cut off with them.
    rows = dataset.with_format("arrow")[index : index + 200 * max_frames]
    episode_path = rows["episode_path"][0].as_py()
    rows = rows.filter(pc.equal(rows["episode_path"], episode_path))
    return _Scene(f"{title} and on", episode_path, read_events(rows.select(EVENT_SCHEMA.names)), {})


def _of_binned(folder: Path, dataset: Any, index: int, title: str, max_frames: int) -> _Scene:
    from owa_data.transforms.rows import event_table

    bins = dataset.select(range(index, min(index + max_frames, len(dataset))))
    episode_path = bins[0]["episode_path"]
    stored: list[bytes] = []
    labels: dict[int, str] = {}
    for row in bins:
        if row["episode_path"] != episode_path:
            break
        labels[len(stored)] = f"bin {row['bin_idx']}"
        stored += [*row["state"][-1:], *row["actions"]]
    return _Scene(f"{title} and on (last frame of each bin's state)", episode_path, read_events(event_table(stored)), labels)


SCENES = {"fsl": _of_fsl, "event": _of_event, "binned": _of_binned}


def _of_recording(path: Path, first: int) -> _Scene:
    from owa_data.event.convert import convert_recording
    from owa_data.raw.index import read_facts
    from owa_data.store.source import open_source

    with open_source(path) as source:
        topics = read_facts(source).topics  # a recording that was cut off names its topics in its chunks alone
        table = {
            "screen": TopicParams(topic="screen", resample="first_per_period", rate_hz=5),
            "keyboard": TopicParams(topic="keyboard"),
        }
        is_raw = "mouse/raw" in topics
        table["mouse"] = TopicParams(topic="mouse/raw" if is_raw else "mouse", as_raw=not is_raw)
        params = EventParams(topics=table, intervals=IntervalParams(select="whole_file"))
        batches, _ = convert_recording(source, path.name, params, trust="nothing")
        rows = pa.Table.from_batches(batches, schema=EVENT_SCHEMA)
    if not 0 <= first < max(rows.num_rows, 1):
        raise ParamsError("row", f"{first} is not there: {path} has {rows.num_rows} events")
    return _Scene(f"{path}, 5 frames per second", path.name, read_events(rows.slice(first)), {}, str(path.absolute().parent))


def _steps(scene: _Scene, max_frames: int) -> tuple[list[Step], int]:
    """Cut events into steps that begin with a frame; also the number of frames left out."""
    from owa_data.cli.contact_sheet import Step, actions_of

    events = scene.events
    screens = np.flatnonzero(events.kinds == EventKind.SCREEN).tolist()
    # What was done before the first frame takes a place of its own.
    num_drawn = max_frames - (screens[:1] != [0])
    drawn, hidden = screens[:num_drawn], screens[num_drawn:]
    stop = hidden[0] if hidden else len(events)
    frames = dict(zip(drawn, _load(scene, drawn), strict=True))
    steps: list[Step] = []
    for index in range(stop):
        if index in frames:
            frame = frames[index]
            steps.append(Step(int(events.times_ns[index]), scene.labels.get(index, ""), frame, is_missing=frame is None))
            continue
        if not steps or (index in scene.labels):
            steps.append(Step(int(events.times_ns[index]), scene.labels.get(index, "")))
        steps[-1].actions.extend(actions_of(events, index))
    return steps, len(hidden)


def _load(scene: _Scene, screens: Sequence[int]) -> list[Any]:
    """Load frames; None in place of those that cannot be, with a note on stderr: the actions can be seen all the same."""
    from owa_data.transforms.images import ImageLoader, ImageReference
    from owa_data.transforms.media import MediaFinder

    payloads = scene.events.payloads
    references = [
        ImageReference(scene.episode_path, f"screen at {scene.events.times_ns[index]} ns", payloads[index]) for index in screens
    ]
    finder = MediaFinder(scene.recordings)
    try:
        return [*ImageLoader(finder).load(references)]
    except MediaError as error:
        images = ImageLoader(finder, on_error="skip").load(references)
        print(f"{images.count(None)} of {len(images)} frames cannot be loaded and stay grey. The first: {error}", file=sys.stderr)
        return [*images]
