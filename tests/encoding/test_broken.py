"""Broken streams: cut, shuffled, with foreign tokens. Whole events are recovered, each broken span is reported, nothing crashes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owa_data.encoding.events import read_events
from owa_data.encoding.registry import ENCODERS, create_encoder
from owa_data.encoding.token_text import TokenText, split_tokens
from tests.strategies import all_messages, event_tables

BOUNDED = settings(deadline=None, max_examples=40)
NAMES = list(ENCODERS)


def texts_of(name: str, table) -> list[str]:
    """The text of each statement or event."""
    encoder = create_encoder(name)
    encoded = encoder.encode(read_events(table))
    joined = encoder.separator.join(encoded.texts())
    if name == "flat":
        return joined.replace(" <image_placeholder>", "").split(" ") if joined else []
    return [f"{part}<EVENT_END>" for part in joined.split("<EVENT_END>")[:-1]]


def decode(name: str, text: str):
    return create_encoder(name).decode(TokenText.of(text))


@pytest.mark.parametrize(
    ("name", "text", "starts", "problem"),
    [
        ("factorized", "<EVENT_START><KEYBOARD><2><3><VK_87><press><EVENT_END>", [0], "expected a digit of the time as token 4"),
        (
            "factorized",
            "<EVENT_START><KEYBOARD><2><3><4><VK_87>",
            [0],
            "expected press or release as token 6 of the event, found the end",
        ),
        ("factorized", "<EVENT_START><press><EVENT_END>", [0], "expected an event type as token 1 of the event, found '<press>'"),
        ("factorized", "<EVENT_START><SCREEN><2><3><4><EVENT_END>", [0], "expected an image"),
        ("factorized", "hello <EVENT_END>", [0], "outside an event: 'hello <EVENT_END>'"),
        ("factorized", "<EVENT_START>", [0], "found the end"),
        ("hierarchical_tokens", "<EVENT_START><KEYBOARD><16><3><4><87><press><EVENT_END>", [0], "a digit of the time as token 2"),
        (
            "hierarchical",
            "<EVENT_START>key_press:w<EVENT_START>key_press:w<EVENT_END>",
            [0],
            "expected <EVENT_END>, found <EVENT_START>",
        ),
        ("hierarchical", "<EVENT_START>key_press:dax<EVENT_END>", [0], "'dax' is no key"),
        ("hierarchical", "key_press:w<EVENT_END>", [0, 11], "outside an event"),
        ("hierarchical", "<EVENT_START>key_press:w", [0], "<EVENT_START> without <EVENT_END>"),
        ("hierarchical", "<EVENT_START>mouse_move:1,-2<EVENT_END>", [0], "no position and no motion"),
        ("json", '<EVENT_START>{"type": "key_press"}<EVENT_END>', [0], "key_press has key"),
        ("json", '<EVENT_START>{"type": "mouse_move", "x": 1.5, "y": 2}<EVENT_END>', [0], "x is no whole number"),
        ("json", '<EVENT_START>{"type": "key_pr<EVENT_END>', [0], "is no JSON"),
        ("json", '<EVENT_START>{"type": "key_press", "key": "a"}<image_placeholder><EVENT_END>', [0], "1 images in"),
        ("flat", "KEY_PRESS_A KEY_PRESS KEY_PRESS_B", [12], "'KEY_PRESS' is no event"),
        ("flat", "KEY_PRESS_A <image_placeholder>", [12], "an image without its screen"),
        ("flat", "MOUSE_MOVE_1", [0], "is no whole number"),
    ],
)
def test_broken_spans_have_position_and_reason(name: str, text: str, starts: list[int], problem: str) -> None:
    broken = decode(name, text).broken
    assert [span.start for span in broken] == starts
    assert problem in broken[0].problem


@pytest.mark.parametrize("name", NAMES)
def test_end_markers_of_chat_models_are_not_broken(name: str) -> None:
    assert decode(name, " <|im_end|>\n<|endoftext|>").broken == []


@pytest.mark.parametrize("name", NAMES)
@BOUNDED
@given(table=event_tables(all_messages(), max_size=6), seed=st.integers(0, 999))
def test_whole_events_survive_what_is_between_them(name: str, table, seed: int) -> None:
    rng = random.Random(seed)
    texts = texts_of(name, table)
    rng.shuffle(texts)
    junk = ["<VK_999>", "hello", "{", "KEY_", "<EVENT_END>" if name != "flat" else "x"]
    parts = [part for text in texts for part in ([rng.choice(junk), text] if rng.random() < 0.4 else [text])]
    separator = " " if name == "flat" else ""
    decoded = decode(name, separator.join(parts))
    assert len(decoded.positions) == len(texts)
    starts, at = [], 0
    for part in parts:
        starts.append(at)
        at += len(part) + len(separator)
    whole = [start for start, part in zip(starts, parts, strict=True) if part not in junk]
    broken = [start for start, part in zip(starts, parts, strict=True) if part in junk]
    assert decoded.positions.tolist() == whole
    assert [span.start for span in decoded.broken] == broken


@pytest.mark.parametrize("name", NAMES)
@BOUNDED
@given(table=event_tables(all_messages(), max_size=5), data=st.data())
def test_a_cut_costs_one_event(name: str, table, data) -> None:
    """Take out the tokens `[start, end)` of one event: the others stay whole."""
    texts = texts_of(name, table)
    if not texts:
        return
    index = data.draw(st.integers(0, len(texts) - 1))
    tokens, _, _ = split_tokens(TokenText.of(texts[index]))
    if name == "flat":
        tokens = list(texts[index])
    start = data.draw(st.integers(0, len(tokens) - 1))
    end = data.draw(st.integers(start + 1, len(tokens)))
    cut = "".join(tokens[:start] + tokens[end:])
    separator = " " if name == "flat" else ""
    decoded = decode(name, separator.join([*texts[:index], cut, *texts[index + 1 :]]))
    assert len(decoded.positions) in (len(texts) - 1, len(texts))
    if name in ("factorized", "hierarchical_tokens") and cut and len(tokens) - (end - start):
        # A mouse event without its wheel is still one.
        assert len(decoded.broken) == (len(decoded.positions) < len(texts))


@pytest.mark.parametrize("name", NAMES)
@BOUNDED
@given(data=st.data())
def test_random_tokens_never_crash(name: str, data) -> None:
    vocabulary = [
        *create_encoder(name).vocabulary,
        "<image_placeholder>",
        "<EVENT_START>",
        "<EVENT_END>",
        "key_press:w",
        "SCREEN_CAPTURE",
        " ",
    ]
    parts = data.draw(st.lists(st.one_of(st.sampled_from(vocabulary), st.text(max_size=4)), max_size=40))
    decoded = decode(name, "".join(parts))
    edges = [span.start for span in decoded.broken] + [span.end for span in decoded.broken]
    assert all(0 <= edge <= len("".join(parts)) for edge in edges)
    assert decoded.broken == sorted(decoded.broken)
    assert all(before.end <= after.start for before, after in zip(decoded.broken, decoded.broken[1:], strict=False))
    assert not any(span.start <= position < span.end for span in decoded.broken for position in decoded.positions.tolist())
