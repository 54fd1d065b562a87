"""The baseline: the same work one row at a time, on the public readers and tokenizers, as one would write it first.

Reading is `OWAMcapReader` with `.decoded`; a row is a `McapMessage`; an event becomes text, and the text goes through the tokenizer. Its cost is linear
in messages and events, so that it is timed on the first ones of an episode and carried on.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from mcap_owa.highlevel import McapMessage, OWAMcapReader

from owa_data.encoding.registry import create_encoder
from owa_data.fsl.extend import extend_tokenizer
from owa_data.fsl.families import image_span
from owa_data.fsl.tokenizer import load_tokenizer
from owa_data.params import TokenizerParams
from owa_data.store.dataset_folder import shard_name

TOPICS = ["screen", "keyboard", "mouse/raw"]
PERIOD_NS = 50_000_000  # 20 Hz


def time_event(recording: Path, num_messages: int) -> dict[str, float]:
    """Read, decode, resample and write rows, message by message: the first `num_messages` of the topics (0 = all)."""
    start, cpu = time.perf_counter(), time.process_time()
    last = dict.fromkeys(TOPICS, 0)
    rows, count = [], 0
    with OWAMcapReader(recording) as reader:
        for message in islice(reader.iter_messages(topics=TOPICS), num_messages or None):
            count += 1
            decoded = message.decoded
            if message.topic == "keyboard" or message.timestamp - last[message.topic] >= PERIOD_NS:
                last[message.topic] = message.timestamp
                rows.append({"topic": message.topic, "type": type(decoded).__name__, "mcap_message": message.model_dump_json()})
    pa.Table.from_pylist(rows)
    return {"messages": count, "seconds": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}


def time_fsl(shard: Path, tokenizer: TokenizerParams, num_events: int, library: str) -> dict[str, float]:
    """Parse, encode and tokenize event rows one by one: the first `num_events` of a shard (0 = all). `tokens` is what came out."""
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

    with pa.memory_map(str(shard)) as file:
        rows = pa.ipc.open_stream(file).read_all().column("mcap_message").to_pylist()
    start, cpu = time.perf_counter(), time.process_time()
    num_tokens, count = 0, 0
    for row in rows[: num_events or None]:
        message = McapMessage.model_validate_json(row)
        ids = ids_of(_text(message).replace("<image>", image))
        num_tokens += len(ids)
        count += 1
    return {"events": count, "tokens": num_tokens, "seconds": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}


def _text(message: McapMessage) -> str:
    """Write an event as `factorized` text."""
    event = message.decoded
    moment = "".join(f"<{digit}>" for digit in f"{message.timestamp // 10_000_000 % 1000:03d}")
    if message.topic == "screen":
        return f"<EVENT_START><SCREEN>{moment}<image><EVENT_END>"
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


def measure_baseline(
    recordings: list[Path], events: Path, shards: list[str], tokenizer: TokenizerParams, *, whole: bool
) -> dict[str, Any]:
    """Run the baseline on two recordings at once, in two processes.

    Returns:
        Messages/s and events/s of both processes together, and per second of CPU of the faster one.
    """
    num_messages, num_events = (0, 0) if whole else (30_000, 6_000)
    result: dict[str, Any] = {"whole_episodes": whole}
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        parts = list(executor.map(time_event, recordings, [num_messages] * 2))
        result["event_messages_per_s"] = sum(part["messages"] / part["seconds"] for part in parts)
        result["event_messages_per_cpu_s"] = max(part["messages"] / part["cpu_s"] for part in parts)
        paths = [events / shard_name(shard) for shard in shards]
        for library in ("transformers", "tokenizers"):
            parts = list(executor.map(time_fsl, paths, [tokenizer] * 2, [num_events] * 2, [library] * 2))
            result[f"fsl_events_per_s_{library}"] = sum(part["events"] / part["seconds"] for part in parts)
            result[f"fsl_events_per_cpu_s_{library}"] = max(part["events"] / part["cpu_s"] for part in parts)
            result["tokens_per_event"] = sum(part["tokens"] for part in parts) / sum(part["events"] for part in parts)
    return result
