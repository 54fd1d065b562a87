"""Text encodings: an event is one or more statements, each written as a short text.

`FramedText` puts each statement between `<EVENT_START>` and `<EVENT_END>`, `WordText` writes one word per statement. How a statement reads
stands in the encoding's own file, as a pair of functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from owa_data.encoding.decoded import BrokenSpan, Decoded, make_events
from owa_data.encoding.events import EventKind, Events
from owa_data.encoding.pieces import IMAGE_PLACEHOLDER, EncodedEvents, take_runs
from owa_data.encoding.statements import BUTTONS, MAX_AMOUNT, Statement, Statements, Verb, statements_of
from owa_data.encoding.token_text import TokenText, is_silent, shorten
from owa_data.raw.messages import BUTTON_FLAGS, HORIZONTAL_WHEEL_FLAG, WHEEL_FLAG, WHEEL_UNIT, Mouse

Int64s = npt.NDArray[np.int64]

START, END = "<EVENT_START>", "<EVENT_END>"
NS_PER_MS = 1_000_000
MAX_NUMBER = (1 << 31) - 1
_MARKER = re.compile(f"{START}|{END}")
_TIME = re.compile(r"@(-?)([0-9]{1,9})\.([0-9]{3})$")  # up to 31 years, so that it fits int64 beside an episode's start
_WORD = re.compile(r"\S+")

# What each text says: a statement, and its time since the episode's first message where it says one, ms.
Said = tuple[Statement, int | None]


class ReadError(ValueError):
    """A text that says nothing; its message says why."""


def checked_number(text: str, *, limit: int = MAX_NUMBER) -> int:
    """Return an integer of decimal text in `[-limit - 1, limit]`, as 32 bits hold them.

    Raises:
        ReadError: It is none.
    """
    if not re.fullmatch(r"[+-]?[0-9]{1,12}", text) or not -limit - 1 <= int(text) <= limit:
        raise ReadError(f"{shorten(text)} is no whole number up to {limit}")
    return int(text)


def choice(text: str, choices: Sequence[str], what: str) -> int:
    """Return the place of a word among choices.

    Raises:
        ReadError: It is not among them.
    """
    if text not in choices:
        raise ReadError(f"{shorten(text)} is no {what}")
    return choices.index(text)


@dataclass(frozen=True)
class FramedText:
    """Encoder that writes `<EVENT_START>statement<EVENT_END>`, the image of a screen before the end.

    Attributes:
        name: As in the registry.
        write: Writes a statement.
        read: Reads it back; raises `ReadError`.
        timestamps: Whether `@<seconds>` since the episode's first message stands before the end.
    """

    name: str
    write: Callable[[Statement], str]
    read: Callable[[str], Statement]
    timestamps: bool = False
    vocabulary: tuple[str, ...] = field(default=(END, START), init=False)
    pieces: tuple[str, ...] = field(default=(), init=False)
    piece_tokens: tuple[tuple[str, ...], ...] = field(default=(), init=False)
    separator: str = field(default="", init=False)

    def encode(self, events: Events) -> EncodedEvents:
        """Encode events; equal texts are one piece.

        Counts: `not_encodable` events (states, other topics, payloads that do not parse), `clamped` and `wheel_rounded` ones.
        """
        said = statements_of(events)
        texts = [self.write(statement) for statement in said.distinct]
        if not self.timestamps:
            return _encoded(
                said, said.codes, [self._pieces(text, text_of) for text, text_of in zip(texts, said.distinct, strict=True)]
            )
        times_ms = (events.times_ns[said.sources] - events.start_ns) // NS_PER_MS
        pairs, codes = np.unique(np.stack([said.codes, times_ms], axis=1), axis=0, return_inverse=True)
        runs = [self._pieces(f"{texts[code]}@{_seconds(ms)}", said.distinct[code]) for code, ms in pairs.tolist()]
        return _encoded(said, codes.ravel(), runs)

    def _pieces(self, text: str, statement: Statement) -> tuple[str, ...]:
        if statement.verb == Verb.SCREEN:
            return f"{START}{text}", IMAGE_PLACEHOLDER, END
        return (f"{START}{text}{END}",)

    def decode(self, text: TokenText) -> Decoded:
        """Decode text to events. See `encoding/decoded.py`."""
        return _decode(text, self._iter_said(text), "since_start" if self.timestamps else "none")

    def _iter_said(self, text: TokenText) -> Iterator[tuple[int, int, Said | str]]:
        """Yield the characters `[start, end)` of each event or broken span, and what it says or why it is broken."""
        markers = [*_MARKER.finditer(text.text)]
        outside, index = 0, 0
        while index < len(markers):
            begin, start = markers[index], markers[index].start()
            yield from _outside(text.text, outside, start)
            closing = markers[index + 1] if index + 1 < len(markers) else None
            if begin.group() == START and closing is not None and closing.group() == END:
                yield start, closing.end(), self._said(text.text[begin.end() : closing.start()])
                outside = closing.end()
                index += 2
                continue
            outside = closing.start() if begin.group() == START and closing is not None else begin.end()
            if begin.group() == START and closing is None:
                outside = len(text.text)
            yield (
                start,
                outside,
                f"expected {END}, found {START}" if begin.group() == START and closing else _unpaired(begin.group()),
            )
            index += 1
        yield from _outside(text.text, outside, len(text.text))

    def _said(self, body: str) -> Said | str:
        num_images = body.count(IMAGE_PLACEHOLDER)
        body = body.replace(IMAGE_PLACEHOLDER, "", 1)
        time_ms = None
        if self.timestamps and (match := _TIME.search(body)):
            sign, seconds, ms = match.groups()
            time_ms = (int(seconds) * 1000 + int(ms)) * (-1 if sign else 1)
            body = body[: match.start()]
        try:
            statement = self.read(body)
        except ReadError as error:
            return str(error)
        if num_images and (statement.verb != Verb.SCREEN or num_images > 1):
            return f"{num_images} images in {shorten(body)}"
        return statement, time_ms


def _unpaired(marker: str) -> str:
    return f"{END} without {START}" if marker == END else f"{START} without {END}"


def _outside(text: str, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    if start < end and not is_silent(text[start:end]):
        yield start, end, f"outside an event: {shorten(text[start:end])}"


def _seconds(ms: int) -> str:
    return f"{'-' if ms < 0 else ''}{abs(ms) // 1000}.{abs(ms) % 1000:03d}"


@dataclass(frozen=True)
class WordText:
    """Encoder that writes one word per statement, joined by spaces; the image follows the word of its screen.

    Attributes:
        name: As in the registry.
        write: Writes a statement as a word without spaces.
        read: Reads it back; raises `ReadError`.
    """

    name: str
    write: Callable[[Statement], str]
    read: Callable[[str], Statement]
    vocabulary: tuple[str, ...] = field(default=(), init=False)
    pieces: tuple[str, ...] = field(default=(), init=False)
    piece_tokens: tuple[tuple[str, ...], ...] = field(default=(), init=False)
    separator: str = field(default=" ", init=False)

    def encode(self, events: Events) -> EncodedEvents:
        """Encode events; equal words are one piece. Counts as `FramedText.encode`."""
        said = statements_of(events)
        runs = [
            (self.write(statement), IMAGE_PLACEHOLDER) if statement.verb == Verb.SCREEN else (self.write(statement),)
            for statement in said.distinct
        ]
        return _encoded(said, said.codes, runs, self.separator)

    def decode(self, text: TokenText) -> Decoded:
        """Decode text to events. See `encoding/decoded.py`."""
        return _decode(text, self._iter_said(text), "none")

    def _iter_said(self, text: TokenText) -> Iterator[tuple[int, int, Said | str]]:
        screen_ended = False
        for match in _WORD.finditer(text.text):
            word, (start, end) = match.group(), match.span()
            if word == IMAGE_PLACEHOLDER:
                if not screen_ended:
                    yield start, end, "an image without its screen"
                screen_ended = False
                continue
            screen_ended = False
            if is_silent(word):
                continue
            try:
                statement = self.read(word)
            except ReadError as error:
                yield start, end, str(error)
                continue
            screen_ended = statement.verb == Verb.SCREEN
            yield start, end, (statement, None)


def _encoded(said: Statements, codes: Int64s, runs: Sequence[tuple[str, ...]], separator: str = "") -> EncodedEvents:
    """Put the pieces of statements together; `runs[codes[k]]` are those of statement k."""
    code_of: dict[str, int] = {}
    flat = [code_of.setdefault(piece, len(code_of)) for run in runs for piece in run]
    run_offsets = np.concatenate([[0], np.cumsum([len(run) for run in runs], dtype=np.int64)]).astype(np.int64)
    piece_codes, offsets = take_runs(np.array(flat, np.int64), run_offsets, codes)
    is_first = np.ones(len(said.sources), np.bool_)
    is_first[1:] = said.sources[1:] != said.sources[:-1]
    firsts = np.flatnonzero(is_first)
    event_offsets = np.append(offsets[firsts], offsets[-1])
    return EncodedEvents(tuple(code_of), piece_codes, event_offsets, said.sources[firsts], dict(said.counts), separator)


def _decode(text: TokenText, spans: Iterator[tuple[int, int, Said | str]], clock: str) -> Decoded:
    positions, kinds, times_ms, vk, pressed, raw_mouse, payloads = [], [], [], [], [], [], []
    broken = []
    last_ms = 0
    for start, end, said in spans:
        if isinstance(said, str):
            broken.append(BrokenSpan(*text.span(start, end), said))
            continue
        statement, time_ms = said
        last_ms = last_ms if time_ms is None else time_ms
        kind, raw, payload = _event_of(statement)
        positions.append(text.span(start, end)[0])
        kinds.append(kind)
        times_ms.append(last_ms)
        vk.append(statement.detail if kind == EventKind.KEYBOARD else 0)
        pressed.append(statement.verb == Verb.KEY_PRESS)
        raw_mouse.append(raw)
        payloads.append(payload)
    events = make_events(
        np.array(kinds, np.uint8),
        np.array(times_ms, np.int64) * NS_PER_MS,
        np.array(vk, np.int64),
        np.array(pressed, np.bool_),
        np.array(raw_mouse, np.int64).reshape(-1, 5),
        payloads,
    )
    return Decoded(events, np.array(positions, np.int64), broken, "since_start" if clock == "since_start" else "none")


def _event_of(statement: Statement) -> tuple[EventKind, tuple[int, int, int, int, int], bytes]:
    """Return kind, raw mouse fields and payload (of mouse and window) of the event that a statement comes back as."""
    verb, nothing = statement.verb, (0, 0, 0, 0, 0)
    if verb == Verb.SCREEN:
        return EventKind.SCREEN, nothing, b""
    if verb in (Verb.KEY_PRESS, Verb.KEY_RELEASE):
        return EventKind.KEYBOARD, nothing, b""
    if verb == Verb.WINDOW:
        title = statement.title.encode(errors="replace").decode()  # half a surrogate pair is no text
        return EventKind.WINDOW, nothing, msgspec.json.encode({"title": title, "rect": [0, 0, 0, 0], "hWnd": 0})
    if verb == Verb.MOVE_BY:
        return EventKind.RAW_MOUSE, (statement.x, statement.y, 0, 0, 0), b""
    if verb == Verb.SCROLL:
        is_vertical, sign = statement.detail in (0, 1), 1 if statement.detail in (0, 3) else -1
        flag = WHEEL_FLAG if is_vertical else HORIZONTAL_WHEEL_FLAG
        return EventKind.RAW_MOUSE, (0, 0, 0, flag, sign * min(statement.amount, MAX_AMOUNT) * WHEEL_UNIT & 0xFFFF), b""
    if verb == Verb.MOVE_TO:
        return EventKind.MOUSE, nothing, msgspec.json.encode(Mouse("move", statement.x, statement.y))
    button = BUTTONS[statement.detail]
    if statement.is_placed:
        return EventKind.MOUSE, nothing, msgspec.json.encode(Mouse("click", statement.x, statement.y, button, verb == Verb.CLICK))
    return EventKind.RAW_MOUSE, (0, 0, 0, BUTTON_FLAGS[button][verb == Verb.RELEASE], 0), b""
