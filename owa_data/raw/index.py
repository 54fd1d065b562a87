"""What one recording holds, and whether it is sound.

Input: the bytes of an `.mcap`. Output: `RecordingFacts`, a function of these bytes alone. Every chunk is decompressed and checked against its CRC;
payloads are looked at only for media references. Media are not touched here. A recording behind a URL is not downloaded for that: its summary
is trusted, and its condition says so.
"""

from __future__ import annotations

import re
from collections import Counter

import msgspec
import numpy as np

from owa_data.errors import BROKEN_JSON
from owa_data.raw import messages
from owa_data.raw.chunks import MessageSpans
from owa_data.raw.columns import iter_chunks
from owa_data.raw.layout import Damage, Layout, read_layout
from owa_data.raw.payloads import Payloads
from owa_data.store.source import ByteSource

SOUND, SALVAGED, UNCHECKED = "sound", "salvaged", "unchecked"
NOT_COUNTED = -1
EMBEDDED = "data:"
_MAX_PLACES = 8
_URI = re.compile(rb'"(?:uri|path)"\s*:\s*("(?:[^"\\]|\\.)*")')


class TopicFacts(msgspec.Struct, frozen=True):
    """Messages of one topic. `message_types` are named as recorded; `encodings` are MCAP message encodings, `json` in OWAMcap."""

    num_messages: int
    message_types: list[str]
    encodings: list[str]


class RecordingFacts(msgspec.Struct, frozen=True):
    """What the bytes of one recording say.

    `start_ns`, `end_ns` are the first and last log time, 0 where there is no message. `media` counts references by path, as written with
    slashes; references to embedded images are counted under `data:`.
    """

    profile: str
    library: str
    start_ns: int
    end_ns: int
    num_messages: int
    topics: dict[str, TopicFacts]
    media: dict[str, int]
    condition: str
    damage: list[Damage]


def read_facts(source: ByteSource) -> RecordingFacts:
    """Read what a recording holds.

    Raises:
        NotMcapError: It is no MCAP file.
    """
    layout = read_layout(source)
    damage = list(layout.damage)
    counts: Counter[int] = Counter()
    bounds: list[tuple[int, int]] = []
    media = _MediaCounter()
    for chunk in iter_chunks(source, layout, lambda _: True, trust="nothing", damage=damage):
        if not len(chunk.spans):
            continue
        counts.update(dict(zip(chunk.spans.channel_ids, chunk.spans.num_messages, strict=True)))
        bounds.append((int(chunk.spans.times_ns.min()), int(chunk.spans.times_ns.max())))
        screens = {
            i for i in chunk.spans.channel_ids if messages.current_type(layout.channels[i].message_type) == messages.SCREEN
        }
        media.add(_payloads(chunk.content, chunk.spans.of_channels(screens)))
    known = sum(counts.values()) + sum(max(part.lost_messages, 0) for part in damage)
    missing = sum(layout.claimed_counts.values()) - known
    if missing > 0:
        damage.append(Damage(source.size_bytes, "the file's statistics count more messages than were found", 0, missing))
    return RecordingFacts(
        profile=layout.header.profile,
        library=layout.header.library,
        start_ns=min((first for first, _ in bounds), default=0),
        end_ns=max((last for _, last in bounds), default=0),
        num_messages=sum(counts.values()),
        topics=_topics(layout, counts),
        media=media.result(),
        condition=SALVAGED if damage else SOUND,
        damage=damage,
    )


def read_claimed_facts(source: ByteSource) -> RecordingFacts:
    """Read what a recording says of itself: header, summary, and one chunk with screens for its media. Nothing else is fetched.

    Topics, counts and times are those of its statistics; the condition is `unchecked` and references are not counted. A recording without
    a usable summary is read as a whole, as by `read_facts`.

    Raises:
        NotMcapError: It is no MCAP file.
    """
    layout = read_layout(source)
    is_told = layout.claimed_bounds_ns is not None or not any(layout.claimed_counts.values())
    if layout.damage or not layout.claimed_counts or not is_told or not all(chunk.index_offsets for chunk in layout.chunks):
        return read_facts(source)
    start_ns, end_ns = layout.claimed_bounds_ns or (0, 0)
    screens = {i for i, c in layout.channels.items() if messages.current_type(c.message_type) == messages.SCREEN}
    with_screens = [chunk for chunk in layout.chunks if screens & set(chunk.index_offsets)]
    one_chunk = Layout(layout.header, layout.declared, with_screens[:1])
    opened = iter_chunks(source, one_chunk, lambda channel: channel.channel_id in screens, trust="summary", damage=[])
    media = _MediaCounter()
    for chunk in opened:
        media.add(_payloads(chunk.content, chunk.spans))
    return RecordingFacts(
        profile=layout.header.profile,
        library=layout.header.library,
        start_ns=start_ns,
        end_ns=end_ns,
        num_messages=sum(layout.claimed_counts.values()),
        topics=_topics(layout, Counter(layout.claimed_counts)),
        media=dict.fromkeys(media.result(), NOT_COUNTED),
        condition=UNCHECKED,
        damage=[],
    )


def _topics(layout: Layout, counts: Counter[int]) -> dict[str, TopicFacts]:
    topics: dict[str, TopicFacts] = {}
    for channel in sorted(layout.channels.values(), key=lambda channel: (channel.topic, channel.channel_id)):
        seen = topics.get(channel.topic, TopicFacts(0, [], []))
        topics[channel.topic] = TopicFacts(
            seen.num_messages + counts[channel.channel_id],
            list(dict.fromkeys([*seen.message_types, channel.message_type])),
            list(dict.fromkeys([*seen.encodings, channel.message_encoding])),
        )
    return topics


def _payloads(content: bytes | memoryview, spans: MessageSpans) -> Payloads:
    return Payloads(np.frombuffer(content, np.uint8), spans.starts, spans.ends)


class _MediaCounter:
    """Counts media references by path.

    Recordings reference one or a few files thousands of times, at the same place of payloads that are alike: a reference that was found once is
    looked for at its place first, in all payloads at once, and only what has none of the known ones there is searched.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._known: list[tuple[int, bytes, str]] = []  # place in the payload, the reference with its key, the name

    def add(self, payloads: Payloads) -> None:
        """Count the references of some screens."""
        for place, text, name in self._known:
            found = payloads.has_at(place, text)
            self._counts[name] += int(np.count_nonzero(found))
            payloads = payloads.take(~found)
        for _ in range(_MAX_PLACES):
            if not len(payloads):
                return
            match = _URI.search(payloads[0])
            if match is None:
                payloads = payloads.take(slice(1, None))
                continue
            name = _reference_name(match.group(1))
            found = payloads.has_at(match.start(), match.group())
            if name != EMBEDDED and len(self._known) < _MAX_PLACES:
                self._known.append((match.start(), match.group(), name))
            self._counts[name] += int(np.count_nonzero(found))
            payloads = payloads.take(~found)
        for payload in payloads.to_pylist():  # many references, such as a file per frame: each is searched once
            if match := _URI.search(payload):
                self._counts[_reference_name(match.group(1))] += 1

    def result(self) -> dict[str, int]:
        """Return the number of references by path, sorted."""
        return {name: number for name, number in sorted(self._counts.items()) if number}


def _reference_name(quoted: bytes) -> str:
    try:
        uri: str = msgspec.json.decode(quoted)
    except BROKEN_JSON:
        uri = quoted.decode(errors="replace")
    return EMBEDDED if uri.startswith(EMBEDDED) else uri.replace("\\", "/")
