"""What the machine can do with the same bytes, one process, episode by episode: bounds on any implementation, and `event` beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import zstandard

from owa_data.event.convert import convert_recording
from owa_data.params import EventParams
from owa_data.raw import messages
from owa_data.raw.columns import read_columns
from owa_data.raw.layout import read_layout
from owa_data.raw.payloads import PayloadPool
from owa_data.store.executors import keep_freed_memory
from owa_data.store.shards import write_shard
from owa_data.store.source import open_source

FORMS = {"screen": messages.Screen, "keyboard": messages.Keyboard, "mouse/raw": messages.RawMouse}
_ROUNDS = 7


def measure_limits(recordings: Sequence[Path], written: Sequence[Path], work: Path) -> dict[str, float]:
    """Time the bounds over some recordings, and `event` beside them, in seconds of CPU.

    The machine's speed changes from one second to the next, so what is compared is timed recording by recording, one right after the other, in an
    order that changes every round.

    Args:
        recordings: MCAP files.
        written: Shards that the stages made of them.
        work: Folder for what is written.

    Returns:
        Sums over the recordings, of each the best round: `decompress_s`, reading the files and unfolding every chunk; `decode_s`, typed decoding of
        the messages of the kept topics (msgspec), their payloads given as bytes; `event_s`, converting them to event rows and writing these,
        without digesting the recording; `write_s`, writing the same bytes as the stages. And `event_over_bounds`: of all rounds and recordings,
        the median of unfolding plus decoding over `event`, with its quartiles `event_over_bounds_q1` and `_q3`.
    """
    payloads = [_payloads(path) for path in recordings]
    contents = [path.read_bytes() for path in written]
    target = work / "written"
    keep_freed_memory()  # as a stage does
    times = np.zeros((_ROUNDS, len(recordings), 3))
    for number in range(_ROUNDS):
        for place, (path, of_recording) in enumerate(zip(recordings, payloads, strict=True)):
            timed: list[Callable[[], object]] = [
                partial(_decompress, path),
                partial(_decode, of_recording),
                partial(_convert, path, target),
            ]
            for offset in range(3):
                which = (number + offset) % 3
                times[number, place, which] = _cpu_s(timed[which])
    over_bounds = (times[:, :, 0] + times[:, :, 1]) / times[:, :, 2]
    first, median, third = np.quantile(over_bounds, [0.25, 0.5, 0.75]).tolist()
    sums = dict(zip(("decompress_s", "decode_s", "event_s"), times.min(axis=0).sum(axis=0).tolist(), strict=True))
    sums["write_s"] = min(_cpu_s(lambda: [_write(content, target) for content in contents]) for _ in range(_ROUNDS))
    return sums | {"event_over_bounds": median, "event_over_bounds_q1": first, "event_over_bounds_q3": third}


def _cpu_s(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def _decompress(path: Path) -> None:
    decompressor = zstandard.ZstdDecompressor()
    with open_source(path) as source:
        for chunk in read_layout(source).chunks:
            decompressor.decompress(source.read(chunk.data_offset, chunk.data_bytes))


def _payloads(path: Path) -> dict[str, list[bytes]]:
    with open_source(path) as source:
        columns, _ = read_columns(source, read_layout(source), set(FORMS), PayloadPool())
    return {topic: part.payloads.to_pylist() for topic, part in columns.items()}


def _decode(payloads: dict[str, list[bytes]]) -> None:
    for topic, rows in payloads.items():
        decode = msgspec.json.Decoder(FORMS[topic]).decode
        for row in rows:
            decode(row)


def _convert(path: Path, target: Path) -> None:
    with open_source(path) as source:
        batches, _ = convert_recording(source, path.name, EventParams(), trust="bytes")
        write_shard(target, "event", batches)
    target.unlink()


def _write(content: bytes, path: Path) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.unlink()
