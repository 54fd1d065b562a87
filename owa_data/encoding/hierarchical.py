"""The `hierarchical` encoding: readable text, type then detail.

    <EVENT_START>key_press:w<EVENT_END>      with timestamps: <EVENT_START>key_press:w@12.345<EVENT_END>
    <EVENT_START>mouse_move<EVENT_END>       with coordinates: mouse_move:450,300; relative motion has signs: mouse_move:+12,-7

Positions left of or above the first screen are written `N7`, since a sign means relative motion. In a window's title `% < > " ' @` and
control characters are written `%` and the two hexadecimal digits of each byte.
"""

from __future__ import annotations

import re
from functools import partial
from urllib.parse import quote, unquote

from owa_data.encoding.keys import KEY_CODES, KEY_NAMES
from owa_data.encoding.statements import BUTTONS, DIRECTIONS, Statement, Verb
from owa_data.encoding.text_scheme import FramedText, ReadError, checked_number, choice
from owa_data.encoding.token_text import shorten

_ESCAPED = re.compile(r"[%<>\"'@\x00-\x1f\x7f-\x9f\u2028\u2029]")


def hierarchical(*, coordinates: bool = False, timestamps: bool = False) -> FramedText:
    """Return the encoder.

    Args:
        coordinates: Whether a motion says where to or by how much.
        timestamps: Whether each event ends with its time since the episode's first message, seconds.
    """
    return FramedText("hierarchical", partial(_write, coordinates), _read, timestamps)


def escape(title: str, escaped: re.Pattern[str] = _ESCAPED) -> str:
    """Write a title so that the characters of a class stand as `%XX` per byte of their UTF-8."""
    return escaped.sub(lambda match: quote(match.group(), safe="", errors="replace"), title)


def _write(coordinates: bool, statement: Statement) -> str:  # noqa: FBT001 - bound by name above
    verb, detail, x, y = statement.verb, statement.detail, statement.x, statement.y
    if verb in (Verb.KEY_PRESS, Verb.KEY_RELEASE):
        return f"{'key_press' if verb == Verb.KEY_PRESS else 'key_release'}:{KEY_NAMES[detail]}"
    if verb == Verb.MOVE_TO:
        return f"mouse_move:{signless(x)},{signless(y)}" if coordinates else "mouse_move"
    if verb == Verb.MOVE_BY:
        return f"mouse_move:{x:+d},{y:+d}" if coordinates else "mouse_move"
    if verb in (Verb.CLICK, Verb.RELEASE):
        return f"{'mouse_click' if verb == Verb.CLICK else 'mouse_release'}:{BUTTONS[detail]}"
    if verb == Verb.SCROLL:
        return f"mouse_scroll:{DIRECTIONS[detail]}"
    return f"window:{escape(statement.title)}" if verb == Verb.WINDOW else "screen_capture"


def signless(number: int) -> str:
    """Write a number without a sign: negative ones as `N7`."""
    return f"N{-number}" if number < 0 else str(number)


def read_signless(text: str) -> int:
    """Read a number that `signless` wrote.

    Raises:
        ReadError: It is none.
    """
    return checked_number(f"-{text[1:]}" if text.startswith("N") else text)


def _read(text: str) -> Statement:
    name, _, detail = text.partition(":")
    match name:
        case "key_press" | "key_release":
            if detail not in KEY_CODES:
                raise ReadError(f"{shorten(detail)} is no key")
            return Statement(Verb.KEY_PRESS if name == "key_press" else Verb.KEY_RELEASE, KEY_CODES[detail])
        case "mouse_click" | "mouse_release":
            return Statement(Verb.CLICK if name == "mouse_click" else Verb.RELEASE, choice(detail, BUTTONS, "button"))
        case "mouse_scroll":
            return Statement(Verb.SCROLL, choice(detail, DIRECTIONS, "direction"), amount=1)
        case "window":
            return Statement(Verb.WINDOW, title=unquote(detail, errors="replace"))
        case "mouse_move" if not detail:
            return Statement(Verb.MOVE_BY)
        case "mouse_move":
            return _read_move(detail)
        case "screen_capture" if not detail:
            return Statement(Verb.SCREEN)
    raise ReadError(f"{shorten(text)} is no event")


def _read_move(detail: str) -> Statement:
    x, comma, y = detail.partition(",")
    is_signed = [number[:1] in "+-" for number in (x, y)]
    if not comma or is_signed[0] != is_signed[1]:
        raise ReadError(f"{shorten(detail)} is no position and no motion")
    if is_signed[0]:
        return Statement(Verb.MOVE_BY, x=checked_number(x), y=checked_number(y))
    return Statement(Verb.MOVE_TO, x=read_signless(x), y=read_signless(y))
