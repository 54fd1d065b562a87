"""All encodings: the spec's examples literally, round trips on events of any form, what is counted."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from owa_data.encoding.events import EventKind, Events, read_events
from owa_data.encoding.keys import KEY_CODES, KEY_NAMES
from owa_data.encoding.registry import ENCODERS, Encoder, create_encoder
from owa_data.encoding.token_text import TokenText
from owa_data.errors import ParamsError
from owa_data.raw.messages import KEYBOARD, MOUSE, RAW_MOUSE, SCREEN, WINDOW
from tests.conftest import ROOT
from tests.strategies import all_messages, event_table, event_tables, keyboard_messages, raw_mouse_messages, screen_messages

TIME_NS = 1_750_000_012_345_678_901
SETTINGS = settings(deadline=None, max_examples=30)


def key(event_type: str, vk: int) -> tuple[str, str, dict]:
    return "keyboard", KEYBOARD, {"event_type": event_type, "vk": vk}


def raw(dx: int = 0, dy: int = 0, flags: int = 0, data: int = 0, us_flags: int = 0) -> tuple[str, str, dict]:
    fields = {"last_x": dx, "last_y": dy, "us_flags": us_flags, "button_flags": flags, "button_data": data}
    return "mouse/raw", RAW_MOUSE, fields


def mouse(**fields: object) -> tuple[str, str, dict]:
    return "mouse", MOUSE, fields


def window(title: str) -> tuple[str, str, dict]:
    return "window", WINDOW, {"title": title, "rect": [0, 0, 1, 1], "hWnd": 1}


SCREENSHOT = ("screen", SCREEN, {"media_ref": {"uri": "a.mkv", "pts_ns": 0}})
W_DOWN, W_UP, A_DOWN = key("press", 87), key("release", 87), key("press", 65)
MOTION, LEFT_DOWN = raw(12, -7), raw(flags=0x001)
WHEEL_UP, WHEEL_DOWN = raw(flags=0x400, data=120), raw(flags=0x400, data=65416)
EVERYTHING_AT_ONCE = raw(3, -4, 0x001 | 0x008 | 0x400, 240)


def events_of(*messages: tuple[str, str, dict], start_ns: int = TIME_NS - 12_345_000_000) -> Events:
    return read_events(event_table([(TIME_NS, *message) for message in messages]), start_ns)


def text_of(name: str, *messages: tuple[str, str, dict], images: bool = True, **options: bool) -> str:
    encoded = create_encoder(name, **options).encode(events_of(*messages))
    return encoded.separator.join(encoded.texts(images=images))


FACTORIZED = "<EVENT_START><MOUSE><2><3><4><SIGN_PLUS><0><0><0><0><SIGN_PLUS><0><0><0><0>"
COMPLEMENT = "<EVENT_START><MOUSE><12><3><4>"


@pytest.mark.parametrize(
    ("name", "message", "text"),
    [
        ("factorized", W_DOWN, "<EVENT_START><KEYBOARD><2><3><4><VK_87><press><EVENT_END>"),
        ("factorized", W_UP, "<EVENT_START><KEYBOARD><2><3><4><VK_87><release><EVENT_END>"),
        (
            "factorized",
            MOTION,
            "<EVENT_START><MOUSE><2><3><4><SIGN_PLUS><0><0><1><2><SIGN_MINUS><0><0><0><7><MB_0><MB_0><MB_0><EVENT_END>",
        ),
        ("factorized", LEFT_DOWN, f"{FACTORIZED}<MB_0><MB_0><MB_1><EVENT_END>"),
        ("factorized", WHEEL_UP, f"{FACTORIZED}<MB_4><MB_0><MB_0><SIGN_PLUS><1><EVENT_END>"),
        ("factorized", WHEEL_DOWN, f"{FACTORIZED}<MB_4><MB_0><MB_0><SIGN_MINUS><1><EVENT_END>"),
        ("factorized", SCREENSHOT, "<EVENT_START><SCREEN><2><3><4><image_placeholder><EVENT_END>"),
        ("hierarchical_tokens", W_DOWN, "<EVENT_START><KEYBOARD><12><3><4><87><press><EVENT_END>"),
        ("hierarchical_tokens", MOTION, f"{COMPLEMENT}<0><1><0><19><1><9><2><3><0><0><0><EVENT_END>"),
        ("hierarchical_tokens", WHEEL_DOWN, f"{COMPLEMENT}<0><0><0><0><0><0><0><0><4><0><0><1><9><EVENT_END>"),
        ("hierarchical_tokens", SCREENSHOT, "<EVENT_START><SCREEN><12><3><4><image_placeholder><EVENT_END>"),
        ("hierarchical", MOTION, "<EVENT_START>mouse_move<EVENT_END>"),
        ("hierarchical", W_DOWN, "<EVENT_START>key_press:w<EVENT_END>"),
        ("hierarchical", W_UP, "<EVENT_START>key_release:w<EVENT_END>"),
        ("hierarchical", LEFT_DOWN, "<EVENT_START>mouse_click:left<EVENT_END>"),
        ("hierarchical", raw(flags=0x010), "<EVENT_START>mouse_click:middle<EVENT_END>"),
        ("hierarchical", raw(flags=0x200), "<EVENT_START>mouse_release:x2<EVENT_END>"),
        ("hierarchical", WHEEL_DOWN, "<EVENT_START>mouse_scroll:down<EVENT_END>"),
        ("hierarchical", raw(flags=0x800, data=120), "<EVENT_START>mouse_scroll:right<EVENT_END>"),
        ("hierarchical", SCREENSHOT, "<EVENT_START>screen_capture<image_placeholder><EVENT_END>"),
        ("hierarchical", window('a <b>\n"c"@1 100% d\'e'), "<EVENT_START>window:a %3Cb%3E%0A%22c%22%401 100%25 d%27e<EVENT_END>"),
        ("json", mouse(event_type="move", x=450, y=300), '<EVENT_START>{"type": "mouse_move", "x": 450, "y": 300}<EVENT_END>'),
        ("json", A_DOWN, '<EVENT_START>{"type": "key_press", "key": "a"}<EVENT_END>'),
        ("json", MOTION, '<EVENT_START>{"type": "mouse_move", "dx": 12, "dy": -7}<EVENT_END>'),
        ("json", LEFT_DOWN, '<EVENT_START>{"type": "mouse_click", "button": "left"}<EVENT_END>'),
        (
            "json",
            mouse(event_type="click", x=4, y=-3, button="right", pressed=False),
            '<EVENT_START>{"type": "mouse_release", "button": "right", "x": 4, "y": -3}<EVENT_END>',
        ),
        ("json", WHEEL_DOWN, '<EVENT_START>{"type": "mouse_scroll", "direction": "down", "amount": 1}<EVENT_END>'),
        ("json", window('<"ü\n'), '<EVENT_START>{"type": "window", "title": "\\u003c\\"ü\\n"}<EVENT_END>'),
        ("json", SCREENSHOT, '<EVENT_START>{"type": "screen_capture"}<image_placeholder><EVENT_END>'),
        ("flat", mouse(event_type="move", x=450, y=300), "MOUSE_MOVE_450_300"),
        ("flat", raw(7, -7), "MOUSE_MOVE_7_N7"),
        ("flat", A_DOWN, "KEY_PRESS_A"),
        ("flat", key("release", 65), "KEY_RELEASE_A"),
        ("flat", key("press", 0xA0), "KEY_PRESS_LEFT_SHIFT"),
        ("flat", LEFT_DOWN, "MOUSE_CLICK_LEFT"),
        ("flat", WHEEL_UP, "MOUSE_SCROLL_UP_1"),
        ("flat", window("A b_c"), "WINDOW_A%20b_c"),
        ("flat", SCREENSHOT, "SCREEN_CAPTURE <image_placeholder>"),
    ],
)
def test_examples_of_the_spec(name: str, message: tuple[str, str, dict], text: str) -> None:
    assert text_of(name, message) == text


@pytest.mark.parametrize(
    ("options", "message", "text"),
    [
        ({"coordinates": True}, mouse(event_type="move", x=450, y=300), "mouse_move:450,300"),
        ({"coordinates": True}, mouse(event_type="move", x=-450, y=0), "mouse_move:N450,0"),
        ({"coordinates": True}, MOTION, "mouse_move:+12,-7"),
        ({"timestamps": True}, W_DOWN, "key_press:w@12.345"),
        ({"timestamps": True, "coordinates": True}, MOTION, "mouse_move:+12,-7@12.345"),
        ({"timestamps": True}, SCREENSHOT, "screen_capture@12.345<image_placeholder>"),
    ],
)
def test_options_of_hierarchical(options: dict[str, bool], message: tuple[str, str, dict], text: str) -> None:
    assert text_of("hierarchical", message, **options) == f"<EVENT_START>{text}<EVENT_END>"


def test_flat_events_are_joined_by_one_space() -> None:
    messages = [mouse(event_type="move", x=450, y=300), A_DOWN, SCREENSHOT]
    assert text_of("flat", *messages, images=False) == "MOUSE_MOVE_450_300 KEY_PRESS_A SCREEN_CAPTURE"
    assert text_of("flat", EVERYTHING_AT_ONCE) == "MOUSE_MOVE_3_N4 MOUSE_CLICK_LEFT MOUSE_RELEASE_RIGHT MOUSE_SCROLL_UP_2"


def test_one_raw_message_is_several_texts_of_one_event() -> None:
    encoded = create_encoder("hierarchical").encode(events_of(EVERYTHING_AT_ONCE, W_DOWN))
    said = ("mouse_move", "mouse_click:left", "mouse_release:right", "mouse_scroll:up")
    assert encoded.texts()[0] == "".join(f"<EVENT_START>{text}<EVENT_END>" for text in said)
    assert encoded.sources.tolist() == [0, 1]


def test_images_can_be_left_out_of_the_texts() -> None:
    assert text_of("hierarchical", SCREENSHOT, images=False) == "<EVENT_START>screen_capture<EVENT_END>"
    assert text_of("json", SCREENSHOT, images=False) == '<EVENT_START>{"type": "screen_capture"}<EVENT_END>'


@pytest.mark.parametrize(
    ("name", "size"), [("factorized", 291), ("hierarchical_tokens", 263), ("hierarchical", 2), ("json", 2), ("flat", 0)]
)
def test_vocabularies(name: str, size: int) -> None:
    vocabulary = create_encoder(name).vocabulary
    assert len(set(vocabulary)) == size
    assert list(vocabulary) == sorted(vocabulary)


def test_key_names_are_distinct_and_go_both_ways() -> None:
    assert len(KEY_CODES) == len(KEY_NAMES) == 256
    assert [KEY_NAMES[vk] for vk in (87, 55, 13, 32, 0xA0, 0x74, 0x26, 7)] == [
        *("w", "7", "enter", "space", "left_shift", "f5", "arrow_up", "vk_7")
    ]
    assert all(KEY_CODES[name] == vk and name == name.lower() for vk, name in enumerate(KEY_NAMES))


def test_what_cannot_be_encoded_or_is_altered_is_counted() -> None:
    state = ("keyboard/state", "desktop/KeyboardState", {"buttons": []})
    messages = [
        raw(2500, 0),
        raw(flags=0x400, data=120 * 12),
        raw(flags=0x400, data=60),
        raw(1, 1, us_flags=1),
        window("a"),
        state,
    ]
    for name in ("factorized", "hierarchical_tokens"):
        counts = create_encoder(name).encode(events_of(*messages)).counts
        assert counts == {"not_encodable": 3, "clamped": 2, "wheel_rounded": 1}
    for name in ("hierarchical", "json", "flat"):
        fast = mouse(event_type="scroll", x=0, y=0, dx=0, dy=400)
        counts = create_encoder(name).encode(events_of(*messages, fast)).counts
        assert counts == {"not_encodable": 1, "clamped": 1, "wheel_rounded": 1}


def test_unknown_encodings_and_options_name_the_known_ones() -> None:
    with pytest.raises(ParamsError, match="Encoders: factorized, hierarchical_tokens, hierarchical, json, flat"):
        create_encoder("morse")
    with pytest.raises(ParamsError, match="json has no such option"):
        create_encoder("json", timestamps=True)
    assert create_encoder("json", timestamps=False).name == "json"


def terse_of_contributing() -> Callable[[], Encoder]:
    block = re.search(r"```python\n(from urllib.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert block is not None
    scope: dict[str, Any] = {}
    exec(block[1], scope)
    return scope["terse"]


def test_a_new_encoding_is_one_line_of_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS, "terse", terse_of_contributing())
    key, image = "<EVENT_START>1:87:0:0:0:0:<EVENT_END>", "<EVENT_START>0:0:0:0:0:0:<image_placeholder><EVENT_END>"
    assert text_of("terse", W_DOWN, SCREENSHOT) == key + image


@SETTINGS
@given(event_tables(all_messages()))
def test_the_encoding_of_contributing_comes_back(table) -> None:
    check_stable(terse_of_contributing()(), table)


@SETTINGS
@given(event_tables(keyboard_messages() | raw_mouse_messages() | screen_messages()))
@pytest.mark.parametrize(
    ("name", "limits", "notches"), [("factorized", (-1999, 1999), (-9, 9)), ("hierarchical_tokens", (-2000, 1999), (-10, 9))]
)
def test_token_schemes_round_trip_within_their_quantisation(name: str, limits, notches, table) -> None:
    encoder = create_encoder(name)
    events = read_events(table)
    decoded = encoder.decode(TokenText.of("".join(encoder.encode(events).texts())))
    assert not decoded.broken
    assert np.array_equal(decoded.events.kinds, events.kinds)
    assert np.array_equal(decoded.events.times_ns, events.times_ns % encoder.period_ns // 10_000_000 * 10_000_000)
    assert np.array_equal(decoded.events.vk, events.vk)
    assert np.array_equal(decoded.events.pressed, events.pressed)
    ours, theirs = decoded.events.raw_mouse, events.raw_mouse
    assert np.array_equal(ours[:, :2], np.clip(theirs[:, :2], *limits))
    assert np.array_equal(ours[:, 3], theirs[:, 3])
    signed = np.where(theirs[:, 4] >= 0x8000, theirs[:, 4] - 0x10000, theirs[:, 4])
    whole = np.clip(np.sign(signed) * (np.abs(signed) // 120), *notches)
    turned = np.where(ours[:, 4] >= 0x8000, ours[:, 4] - 0x10000, ours[:, 4])
    assert np.array_equal(turned, np.where((whole == 0) & (signed != 0), 1, whole * 120))


@SETTINGS
@given(event_tables(all_messages()))
@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in ENCODERS), ("hierarchical", {"coordinates": True, "timestamps": True})],
    ids=[*ENCODERS, "hierarchical+options"],
)
def test_encode_decode_encode_is_stable(name: str, options: dict[str, bool], table) -> None:
    check_stable(create_encoder(name, **options), table)


def check_stable(encoder: Encoder, table) -> None:
    """Check that what an encoder writes, it reads back and writes the same again."""
    encoded = encoder.encode(read_events(table, 1_750_000_000_000_000_000))
    text = encoded.separator.join(encoded.texts())
    decoded = encoder.decode(TokenText.of(text))
    assert not decoded.broken
    again = encoder.encode(decoded.events)
    assert again.separator.join(again.texts()) == text
    assert again.counts["not_encodable"] == 0
    assert len(encoded.sources) + encoded.counts["not_encodable"] == table.num_rows


@SETTINGS
@given(event_tables(all_messages()))
def test_json_carries_everything_but_times(table) -> None:
    encoder = create_encoder("json")
    events = read_events(table)
    back = encoder.decode(TokenText.of("".join(encoder.encode(events).texts()))).events
    for kind in (EventKind.KEYBOARD, EventKind.SCREEN, EventKind.WINDOW):
        assert (back.kinds == kind).sum() == (events.kinds == kind).sum()
    titles = [
        [msgspec.json.decode(payload)["title"] for payload in of.payloads.take(of.kinds == EventKind.WINDOW).to_pylist()]
        for of in (events, back)
    ]
    assert titles[0] == titles[1]
    assert back.raw_mouse[:, :2].sum() == events.raw_mouse[:, :2].sum()


@pytest.mark.parametrize(("name", "options"), [("json", {}), ("hierarchical", {"coordinates": True})])
def test_the_least_motion_of_32_bits_comes_back(name: str, options: dict[str, bool]) -> None:
    decoded = create_encoder(name, **options).decode(TokenText.of(text_of(name, raw(-(2**31), 2**31 - 1), **options)))
    assert not decoded.broken
    assert decoded.events.raw_mouse[0, :2].tolist() == [-(2**31), 2**31 - 1]
