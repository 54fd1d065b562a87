"""The baseline: the same datasets one row at a time, on the public readers and tokenizers, as one would write it first.

Reading is `OWAMcapReader` with `.decoded`, once for the times by which intervals are chosen and once for the rows; a row is a `McapMessage`; an event
becomes text, and the text goes through the tokenizer. Settings are the defaults of params.yaml. What comes out equals what the stages make, column by
column (tests/test_benchmarks.py), so that it is their reference too. Its cost is linear in messages and events, so that it can be timed on the
first ones of an episode and carried on.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from mcap_owa.highlevel import McapMessage, OWAMcapReader

from owa_data.encoding.pieces import IMAGE_PLACEHOLDER
from owa_data.encoding.registry import create_encoder
from owa_data.fsl.extend import extend_tokenizer
from owa_data.fsl.families import image_span
from owa_data.fsl.tokenizer import load_tokenizer
from owa_data.params import TokenizerParams
from owa_data.schema import EVENT_SCHEMA, FSL_SCHEMA
from owa_data.store.dataset_folder import shard_name

TOPICS = ["screen", "keyboard", "mouse/raw"]
RATE_HZ = 20
NS_PER_S = 1_000_000_000
MAX_GAPS_NS = {"screen": 1 * NS_PER_S, "input": 5 * NS_PER_S}
MAX_SEQUENCE_LENGTH = 4096
KINDS = {"screen": 0, "keyboard": 1, "mouse/raw": 2}

Row = dict[str, Any]
Interval = tuple[int, int]


def write_events(recording: Path, episode_path: str, shard: Path, num_messages: int) -> int:
    """Read, choose intervals, resample, and write event rows: the first `num_messages` of the topics (0 = all). Returns how many were read."""
    times: dict[str, list[int]] = {"screen": [], "input": []}
    with OWAMcapReader(recording) as reader:
        for message in islice(reader.iter_messages(topics=TOPICS), num_messages or None):
            times["screen" if message.topic == "screen" else "input"].append(message.timestamp)
    intervals = list(_overlaps(*(list(_runs(times[role], gap)) for role, gap in MAX_GAPS_NS.items())))
    rows: list[tuple[int, int, Row]] = []
    count, current = 0, 0
    last_screen: tuple[int, int] | None = None
    motion: _Motion | None = None

    def add(place: int, timestamp: int, interval: int, topic: str, message_type: str, content: bytes) -> None:
        wrapped = McapMessage(topic=topic, timestamp=timestamp, message=content, message_type=message_type)
        row = {
            "episode_path": episode_path,
            "topic": topic,
            "timestamp_ns": timestamp,
            "message_type": message_type,
            "mcap_message": wrapped.model_dump_json().encode(),
            "interval_index": interval,
        }
        rows.append((timestamp, place, row))

    with OWAMcapReader(recording) as reader:
        for message in islice(reader.iter_messages(topics=TOPICS), num_messages or None):
            count += 1
            while current < len(intervals) and message.timestamp >= intervals[current][1]:
                current += 1
            if current == len(intervals) or message.timestamp < intervals[current][0]:
                continue
            event = message.decoded
            period = current, (message.timestamp - intervals[current][0]) * RATE_HZ // NS_PER_S
            if message.topic == "screen":
                if period != last_screen:
                    last_screen = period
                    add(count, message.timestamp, current, message.topic, message.message_type, message.message)
                continue
            if message.topic == "keyboard":
                add(count, message.timestamp, current, message.topic, message.message_type, message.message)
                continue
            only_moves = not int(event.button_flags) and not event.button_data and not int(event.us_flags) & 1
            if motion is not None and not (only_moves and motion.period == period):
                motion.write(add)
                motion = None
            if not only_moves:
                add(count, message.timestamp, current, message.topic, message.message_type, message.message)
                continue
            motion = motion or _Motion(period)
            motion.extend(count, message)
    if motion is not None:
        motion.write(add)
    rows.sort(key=lambda row: row[:2])
    _write(pa.Table.from_pylist([row for _, _, row in rows], EVENT_SCHEMA), shard)
    return count


@dataclass
class _Motion:
    """Motion that is added up: messages of one period."""

    period: tuple[int, int]
    dx: int = 0
    dy: int = 0
    last: McapMessage | None = None
    place: int = 0

    def extend(self, place: int, message: McapMessage) -> None:
        self.dx += message.decoded.last_x
        self.dy += message.decoded.last_y
        self.last, self.place = message, place

    def write(self, add: Callable[..., None]) -> None:
        assert self.last is not None
        content, event = self.last.message, self.last.decoded
        if (self.dx, self.dy) != (event.last_x, event.last_y):
            content = (
                f'{{"last_x":{self.dx},"last_y":{self.dy},"us_flags":{int(event.us_flags)},"button_flags":0,"button_data":0,'
                f'"device_handle":null,"timestamp":{self.last.timestamp}}}'
            ).encode()
        add(self.place, self.last.timestamp, self.period[0], self.last.topic, self.last.message_type, content)


def _runs(times: list[int], max_gap: int) -> Iterator[Interval]:
    """Stretches without a longer gap, half-open."""
    start = last = None
    for moment in times:
        if start is None:
            start = moment
        elif moment - last > max_gap:
            yield start, last + 1
            start = moment
        last = moment
    if start is not None and last is not None:
        yield start, last + 1


def _overlaps(left: list[Interval], right: list[Interval]) -> Iterator[Interval]:
    first = second = 0
    while first < len(left) and second < len(right):
        start, end = max(left[first][0], right[second][0]), min(left[first][1], right[second][1])
        if start < end:
            yield start, end
        if left[first][1] <= right[second][1]:
            first += 1
        else:
            second += 1


@dataclass
class _Sequence:
    """One row of token ids while it is filled."""

    ids: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)

    def row(self, episode_path: str, pad_token_id: int) -> Row:
        num_pads = MAX_SEQUENCE_LENGTH - len(self.ids)
        return {
            "input_ids": self.ids + [pad_token_id] * num_pads,
            "attention_mask": [1] * len(self.ids) + [0] * num_pads,
            "texts": "".join(self.texts),
            "images": self.images,
            "episode_path": episode_path,
            "start_ns": min(self.times),
            "end_ns": max(self.times) + 1,
            "num_tokens": len(self.ids),
            "event_offsets": self.offsets,
            "event_timestamps_ns": self.times,
            "event_kinds": self.kinds,
        }


def write_sequences(shard: Path, target: Path, tokenizer: TokenizerParams, num_events: int, library: str) -> dict[str, float]:
    """Parse, encode, tokenize and pack event rows one by one, and write them: the first `num_events` of a shard (0 = all). `tokens` is what came out.

    Loading the tokenizer is not timed.
    """
    extended = extend_tokenizer(load_tokenizer(tokenizer), create_encoder("factorized").vocabulary, image_span(tokenizer.image))
    image = extended.span.text
    if library == "transformers":
        from transformers import PreTrainedTokenizerFast

        fast = PreTrainedTokenizerFast(tokenizer_object=extended.tokenizer)

        def ids_of(text: str) -> list[int]:
            return fast(text, add_special_tokens=False)["input_ids"]
    else:

        def ids_of(text: str) -> list[int]:
            return extended.tokenizer.encode(text, add_special_tokens=False).ids

    start, cpu = time.perf_counter(), time.process_time()
    with pa.memory_map(str(shard)) as file:
        events = pa.ipc.open_stream(file).read_all().select(["episode_path", "mcap_message"]).to_pylist()
    num_tokens, count = 0, 0
    rows: list[Row] = []
    current = _Sequence()
    for event in events[: num_events or None]:
        message = McapMessage.model_validate_json(event["mcap_message"])
        text = _text(message)
        ids = ids_of(text.replace(IMAGE_PLACEHOLDER, image))
        if len(current.ids) + len(ids) > MAX_SEQUENCE_LENGTH:
            rows.append(current.row(event["episode_path"], extended.pad_token_id))
            current = _Sequence()
        current.offsets.append(len(current.ids))
        current.ids += ids
        current.texts.append(text)
        current.times.append(message.timestamp)
        current.kinds.append(KINDS[message.topic])
        if message.topic == "screen":
            current.images.append(message.message.decode())
        num_tokens += len(ids)
        count += 1
    if current.ids:
        rows.append(current.row(event["episode_path"], extended.pad_token_id))
    _write(pa.Table.from_pylist(rows, FSL_SCHEMA), target)
    return {"events": count, "tokens": num_tokens, "seconds": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}


def _write(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def _text(message: McapMessage) -> str:
    """Write an event as `factorized` text."""
    event = message.decoded
    moment = "".join(f"<{digit}>" for digit in f"{message.timestamp // 10_000_000 % 1000:03d}")
    if message.topic == "screen":
        return f"<EVENT_START><SCREEN>{moment}{IMAGE_PLACEHOLDER}<EVENT_END>"
    if message.topic == "keyboard":
        return f"<EVENT_START><KEYBOARD>{moment}<VK_{event.vk}><{event.event_type}><EVENT_END>"
    motion = "".join(_signed(value, 4) for value in (event.last_x, event.last_y))
    flags = "".join(f"<MB_{int(digit, 16)}>" for digit in f"{int(event.button_flags):03x}")
    wheel = ""
    if event.button_data:
        delta = event.button_data - 0x10000 if event.button_data >= 0x8000 else event.button_data
        wheel = _signed(int(delta / 120), 1)
    return f"<EVENT_START><MOUSE>{moment}{motion}{flags}{wheel}<EVENT_END>"


def _signed(value: int, num_digits: int) -> str:
    limit = 1999 if num_digits == 4 else 9
    digits = f"{min(abs(value), limit):0{num_digits}d}"
    return f"<SIGN_{'MINUS' if value < 0 else 'PLUS'}>" + "".join(f"<{digit}>" for digit in digits)


def _time_events(recording: Path, folder: Path, num_messages: int) -> dict[str, float]:
    start, cpu = time.perf_counter(), time.process_time()
    count = write_events(recording, recording.name, folder / f"{recording.stem}.arrow", num_messages)
    return {"messages": count, "seconds": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}


def _time_sequences(shard: Path, folder: Path, tokenizer: TokenizerParams, num_events: int, library: str) -> dict[str, float]:
    return write_sequences(shard, folder / f"{shard.stem}.fsl.arrow", tokenizer, num_events, library)


def measure_baseline(
    recordings: list[Path], events: Path, shards: list[str], tokenizer: TokenizerParams, work: Path, *, whole: bool
) -> dict[str, Any]:
    """Run the baseline on two recordings at once, in two processes.

    Returns:
        Messages/s and events/s of both processes together, and per second of CPU of the faster one.
    """
    num_messages, num_events = (0, 0) if whole else (30_000, 6_000)
    result: dict[str, Any] = {"whole_episodes": whole}
    work.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        time_events = partial(_time_events, folder=work, num_messages=num_messages)
        parts = list(executor.map(time_events, recordings))
        result["event_messages_per_s"] = _rate(parts, "messages")
        result["event_messages_per_cpu_s"] = max(part["messages"] / part["cpu_s"] for part in parts)
        paths = [events / shard_name(shard) for shard in shards]
        for library in ("transformers", "tokenizers"):
            time_sequences = partial(_time_sequences, folder=work, tokenizer=tokenizer, num_events=num_events, library=library)
            parts = list(executor.map(time_sequences, paths))
            result[f"fsl_events_per_s_{library}"] = _rate(parts, "events")
            result[f"fsl_events_per_cpu_s_{library}"] = max(part["events"] / part["cpu_s"] for part in parts)
            result["tokens_per_event"] = sum(part["tokens"] for part in parts) / sum(part["events"] for part in parts)
    return result


def _rate(parts: Iterable[dict[str, float]], what: str) -> float:
    return sum(part[what] / part["seconds"] for part in parts)
