"""The `flat` encoding: one word per event, in upper case.

    MOUSE_MOVE_450_300 KEY_PRESS_A SCREEN_CAPTURE

Negative numbers are `N7`. A word does not say whether a motion is relative; the option `absolute` says how decoding reads it. A window's
title keeps its case; what is no letter, digit or `_ - .` of ASCII and no letter beyond it is `%` and two hexadecimal digits per byte.
"""

from __future__ import annotations

import re
from functools import partial
from urllib.parse import unquote

from owa_data.encoding.hierarchical import escape, read_signless, signless
from owa_data.encoding.keys import KEY_CODES, KEY_NAMES
from owa_data.encoding.statements import BUTTONS, DIRECTIONS, MAX_AMOUNT, Statement, Verb
from owa_data.encoding.text_scheme import ReadError, WordText, checked_number, choice
from owa_data.encoding.token_text import shorten

_ESCAPED = re.compile(r"[^\w.-]")


def flat(*, absolute: bool = False) -> WordText:
    """Return the encoder.

    Args:
        absolute: Whether decoding reads the numbers of `MOUSE_MOVE` as a position rather than a relative motion.
    """
    return WordText("flat", _write, partial(_read, absolute))


def _write(statement: Statement) -> str:
    verb, detail, x, y = statement.verb, statement.detail, statement.x, statement.y
    if verb in (Verb.KEY_PRESS, Verb.KEY_RELEASE):
        return f"{'KEY_PRESS' if verb == Verb.KEY_PRESS else 'KEY_RELEASE'}_{KEY_NAMES[detail].upper()}"
    if verb in (Verb.MOVE_TO, Verb.MOVE_BY):
        return f"MOUSE_MOVE_{signless(x)}_{signless(y)}"
    if verb in (Verb.CLICK, Verb.RELEASE):
        return f"{'MOUSE_CLICK' if verb == Verb.CLICK else 'MOUSE_RELEASE'}_{BUTTONS[detail].upper()}"
    if verb == Verb.SCROLL:
        return f"MOUSE_SCROLL_{DIRECTIONS[detail].upper()}_{statement.amount}"
    return f"WINDOW_{escape(statement.title, _ESCAPED)}" if verb == Verb.WINDOW else "SCREEN_CAPTURE"


def _read(absolute: bool, word: str) -> Statement:  # noqa: FBT001 - bound by name above
    match word.split("_", 2):
        case ["KEY", "PRESS" | "RELEASE" as action, name]:
            if name != name.upper() or name.lower() not in KEY_CODES:
                raise ReadError(f"{shorten(name)} is no key")
            return Statement(Verb.KEY_PRESS if action == "PRESS" else Verb.KEY_RELEASE, KEY_CODES[name.lower()])
        case ["MOUSE", "MOVE", numbers]:
            x, _, y = numbers.partition("_")
            return Statement(Verb.MOVE_TO if absolute else Verb.MOVE_BY, x=read_signless(x), y=read_signless(y))
        case ["MOUSE", "CLICK" | "RELEASE" as action, name]:
            buttons = [button.upper() for button in BUTTONS]
            return Statement(Verb.CLICK if action == "CLICK" else Verb.RELEASE, choice(name, buttons, "button"))
        case ["MOUSE", "SCROLL", detail]:
            direction, _, amount = detail.partition("_")
            index = choice(direction, [name.upper() for name in DIRECTIONS], "direction")
            number = checked_number(amount, limit=MAX_AMOUNT)
            if number < 1:
                raise ReadError(f"{shorten(word)} turns the wheel by nothing")
            return Statement(Verb.SCROLL, index, amount=number)
        case ["SCREEN", "CAPTURE"]:
            return Statement(Verb.SCREEN)
        case ["WINDOW", *title] if title:
            return Statement(Verb.WINDOW, title=unquote("_".join(title), errors="replace"))
    raise ReadError(f"{shorten(word)} is no event")
