r"""The `json` encoding: one JSON object per event.

    <EVENT_START>{"type": "mouse_move", "x": 450, "y": 300}<EVENT_END>

Relative motion has `dx`, `dy`. Besides what JSON escapes, `<` is written `\u003c`, so that no text can hold a special token.
"""

from __future__ import annotations

import json
from typing import Any

from owa_data.encoding.keys import KEY_CODES, KEY_NAMES
from owa_data.encoding.statements import BUTTONS, DIRECTIONS, MAX_AMOUNT, Statement, Verb
from owa_data.encoding.text_scheme import MAX_NUMBER, FramedText, ReadError, choice
from owa_data.encoding.token_text import shorten

_TYPES = {
    Verb.SCREEN: "screen_capture",
    Verb.KEY_PRESS: "key_press",
    Verb.KEY_RELEASE: "key_release",
    Verb.MOVE_TO: "mouse_move",
    Verb.MOVE_BY: "mouse_move",
    Verb.CLICK: "mouse_click",
    Verb.RELEASE: "mouse_release",
    Verb.SCROLL: "mouse_scroll",
    Verb.WINDOW: "window",
}
_KEYS_OF = {
    "screen_capture": ((),),
    "key_press": (("key",),),
    "key_release": (("key",),),
    "mouse_move": (("x", "y"), ("dx", "dy")),
    "mouse_click": (("button",), ("button", "x", "y")),
    "mouse_release": (("button",), ("button", "x", "y")),
    "mouse_scroll": (("direction", "amount"),),
    "window": (("title",),),
}
# Line separators of Unicode are newlines to some readers of text; JSON leaves them as they are.
_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "\x7f": "\\u007f", "\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def json_text() -> FramedText:
    """Return the encoder."""
    return FramedText("json", _write, _read)


def _write(statement: Statement) -> str:
    return json.dumps({"type": _TYPES[statement.verb], **_detail(statement)}, ensure_ascii=False).translate(_ESCAPES)


def _detail(statement: Statement) -> dict[str, Any]:
    match statement.verb:
        case Verb.KEY_PRESS | Verb.KEY_RELEASE:
            return {"key": KEY_NAMES[statement.detail]}
        case Verb.MOVE_TO:
            return {"x": statement.x, "y": statement.y}
        case Verb.MOVE_BY:
            return {"dx": statement.x, "dy": statement.y}
        case Verb.CLICK | Verb.RELEASE:
            place = {"x": statement.x, "y": statement.y} if statement.is_placed else {}
            return {"button": BUTTONS[statement.detail], **place}
        case Verb.SCROLL:
            return {"direction": DIRECTIONS[statement.detail], "amount": statement.amount}
        case Verb.WINDOW:
            return {"title": statement.title}
        case _:
            return {}


def _read(text: str) -> Statement:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReadError(f"{shorten(text)} is no JSON") from error
    name = said.pop("type", None) if isinstance(said, dict) else None
    if not isinstance(name, str) or name not in _KEYS_OF:
        raise ReadError(f"{shorten(text)} has no known type")
    if not any(set(keys) == set(said) for keys in _KEYS_OF[name]):
        raise ReadError(f"{shorten(text)}: {name} has {' or '.join(', '.join(keys) or 'no detail' for keys in _KEYS_OF[name])}")
    numbers = {key: _number(said, key) for key in ("x", "y", "dx", "dy", "amount") if key in said}
    words = {key: _word(said, key) for key in ("key", "button", "direction", "title") if key in said}
    match name:
        case "key_press" | "key_release":
            if words["key"] not in KEY_CODES:
                raise ReadError(f"{shorten(words['key'])} is no key")
            return Statement(Verb.KEY_PRESS if name == "key_press" else Verb.KEY_RELEASE, KEY_CODES[words["key"]])
        case "mouse_move" if "dx" in said:
            return Statement(Verb.MOVE_BY, x=numbers["dx"], y=numbers["dy"])
        case "mouse_move":
            return Statement(Verb.MOVE_TO, x=numbers["x"], y=numbers["y"])
        case "mouse_click" | "mouse_release":
            verb = Verb.CLICK if name == "mouse_click" else Verb.RELEASE
            button = choice(words["button"], BUTTONS, "button")
            return Statement(verb, button, numbers.get("x", 0), numbers.get("y", 0), is_placed="x" in said)
        case "mouse_scroll":
            if not 1 <= numbers["amount"] <= MAX_AMOUNT:
                raise ReadError(f"amount {numbers['amount']} is not in 1..{MAX_AMOUNT}")
            return Statement(Verb.SCROLL, choice(words["direction"], DIRECTIONS, "direction"), amount=numbers["amount"])
        case "window":
            return Statement(Verb.WINDOW, title=words["title"])
        case _:
            return Statement(Verb.SCREEN)


def _number(said: dict[str, Any], key: str) -> int:
    value = said[key]
    if type(value) is not int or not -MAX_NUMBER - 1 <= value <= MAX_NUMBER:
        raise ReadError(f"{key} is no whole number up to {MAX_NUMBER}: {shorten(str(value))}")
    return value


def _word(said: dict[str, Any], key: str) -> str:
    value = said[key]
    if not isinstance(value, str):
        raise ReadError(f"{key} is no text: {shorten(str(value))}")
    return value.encode(errors="replace").decode()  # half a surrogate pair is no text
