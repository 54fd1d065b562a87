"""What the machine can do with the same bytes, one process, episode by episode: bounds on any implementation, and `event` beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
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
_ROUNDS = 3


def measure_limits(recordings: Sequence[Path], written: Sequence[Path], work: Path) -> dict[str, float]:
    """Time the bounds over some recordings; the best of three rounds over all of them, seconds of CPU.

    A round takes each recording once, as a stage does, so that no recording is still in the processor's cache from the time before. Rounds of what is
    compared take turns, since the machine's speed changes by the minute.

    Args:
        recordings: MCAP files.
        written: Shards that the stages made of them.
        work: Folder for what is written.

    Returns:
        `decompress_s`: reading the files and unfolding every chunk. `decode_s`: typed decoding of the messages of the kept topics (msgspec), their
        payloads given as bytes. `event_s`: converting them to event rows and writing these, without digesting the recording. `write_s`: writing the same bytes as the stages.
    """
    payloads = [_payloads(path) for path in recordings]
    contents = [path.read_bytes() for path in written]
    target = work / "written"
    rounds: dict[str, Callable[[], object]] = {
        "decompress_s": lambda: [_decompress(path) for path in recordings],
        "decode_s": lambda: [_decode(of_recording) for of_recording in payloads],
        "event_s": lambda: [_convert(path, target) for path in recordings],
        "write_s": lambda: [_write(content, target) for content in contents],
    }
    keep_freed_memory()  # as a stage does
    times = [{name: _cpu_s(function) for name, function in rounds.items()} for _ in range(_ROUNDS)]
    return {name: min(of_round[name] for of_round in times) for name in rounds}


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
