"""What must hold for every broken recording, whatever was done to it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import numpy as np

from owa_data.errors import NotMcapError
from owa_data.event.convert import convert_recording
from owa_data.params import EventParams, IntervalParams, TopicParams
from owa_data.raw.columns import iter_chunks
from owa_data.raw.index import SALVAGED, read_facts
from owa_data.raw.layout import read_layout
from owa_data.raw.records import MAX_TIME_NS
from owa_data.store.source import MemorySource
from tests.damage import MAGIC_BYTES, Broken, expected_messages, plain_records

TOPICS = ("screen", "keyboard", "mouse/raw", "mouse", "window", "keyboard/state", "mouse/state")
PARAMS = EventParams(
    topics={topic.replace("/", "_"): TopicParams(topic=topic) for topic in TOPICS}, intervals=IntervalParams(select="whole_file")
)
MAX_SECONDS = 2.0
UNDECLARED = "that no record declares"


@dataclass(frozen=True)
class Outcome:
    """What became of one broken file: `sound`, `salvaged` or `not_mcap`, messages found, and processor time of the longest step."""

    condition: str
    num_messages: int
    seconds: float


def check_broken(original: bytes, broken: Broken) -> Outcome:
    """Read a broken file as the stages `raw` and `event` do, and compare with the reference.

    Raises:
        AssertionError: A whole chunk's message is missing, changed or extra; a loss that is not told; counts of the stages that
            differ; a step of over `MAX_SECONDS`.
    """
    source = MemorySource("broken.mcap", broken.content)
    start = time.process_time()
    try:
        facts = read_facts(source)
    except NotMcapError:
        assert broken.content[:MAGIC_BYTES] != original[:MAGIC_BYTES], f"{broken.how}: an MCAP file is called none"
        return Outcome("not_mcap", 0, time.process_time() - start)
    indexed_after = time.process_time() - start
    start = time.process_time()
    batches, ledger = convert_recording(
        source, "broken.mcap", PARAMS, trust="nothing" if facts.condition == SALVAGED else "bytes"
    )
    num_rows = sum(batch.num_rows for batch in batches)
    seconds = max(indexed_after, time.process_time() - start)
    assert seconds < MAX_SECONDS, f"{broken.how}: took {seconds:.1f} s"
    assert num_rows == ledger["rows"]
    for topic in TOPICS:
        indexed = facts.topics[topic].num_messages if topic in facts.topics else 0
        assert ledger["topics"][topic]["read"] == indexed, f"{broken.how}: the stages count {topic} differently"
    _check_messages(original, broken, source, facts.num_messages)
    whole = _count_messages(original)
    if facts.num_messages < whole:
        assert facts.condition == SALVAGED, f"{broken.how}: {whole - facts.num_messages} messages lost silently"
    return Outcome(facts.condition, facts.num_messages, seconds)


def _check_messages(original: bytes, broken: Broken, source: MemorySource, num_indexed: int) -> None:
    is_chunked = any(opcode == 6 for _, opcode, _ in plain_records(original))
    layout = read_layout(source)
    problems = []
    found = []
    for chunk in iter_chunks(source, layout, lambda _: True, trust="nothing", damage=problems):
        rows = []
        spans = chunk.spans
        channels = np.repeat(np.array(spans.channel_ids, np.int64), spans.num_messages).tolist()
        for channel_id, first, last, time_ns in zip(channels, spans.starts, spans.ends, spans.times_ns, strict=True):
            rows.append((int(first), (channel_id, int(time_ns), bytes(chunk.content[first:last]))))
        found += [row for _, row in sorted(rows)]
    assert len(found) == num_indexed
    if not is_chunked:
        _check_unchunked(original, broken, found)
        return
    expected, declared = expected_messages(original, broken)
    assert declared <= set(layout.channels), f"{broken.how}: channels {declared - set(layout.channels)} are declared but unknown"
    readable = [row for row in expected if row[0] in layout.channels and row[1] < MAX_TIME_NS]
    assert found == readable, f"{broken.how}: {len(found)} messages found, {len(readable)} in whole chunks"
    undeclared = sum(part.lost_messages for part in problems if UNDECLARED in part.cause)
    assert undeclared == sum(row[0] not in layout.channels for row in expected), broken.how


def _check_unchunked(original: bytes, broken: Broken, found: list[tuple[int, int, bytes]]) -> None:
    """Without chunks there is no CRC: what lies before the first broken byte must be there, message by message."""
    before = [
        body[22:]
        for offset, opcode, body in plain_records(original)
        if opcode == 5 and offset + 9 + len(body) <= broken.first_byte
    ]
    missing = Counter(before) - Counter(payload for _, _, payload in found)
    # The record before the break may be drawn into it where a wrong length follows.
    assert not missing, f"{broken.how}: {sum(missing.values())} messages before the break are missing"


def _count_messages(original: bytes) -> int:
    count = 0
    for _, opcode, body in plain_records(original):
        if opcode == 11:  # statistics
            return int.from_bytes(body[:8], "little")
        count += opcode == 5
    return count or len(expected_messages(original, Broken(original, "whole", len(original)))[0])
