"""Payloads of every generation, valid and not."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from owa.msgs.desktop.keyboard import KeyboardEvent
from owa.msgs.desktop.mouse import RawMouseEvent
from owa.msgs.desktop.screen import ScreenCaptured

from owa_data.raw import messages
from owa_data.raw.parsing import decode_payloads, is_json
from owa_data.raw.payloads import PayloadPool, Payloads
from owa_data.raw.templates import TemplatePayloads
from tests.wrapping import pooled


def payloads(*rows: bytes) -> Payloads:
    return Payloads.of(rows)


def normalize(recorded: Payloads, message_type: str) -> tuple[TemplatePayloads, messages.Bools]:
    lying, pool = pooled(recorded)
    return messages.normalize_screens(lying, message_type, pool)


def test_invalid_payloads_are_masked_and_the_others_kept() -> None:
    table, valid = messages.raw_mouse_columns(
        payloads(
            b'{"last_x":1,"last_y":-2}',
            b'{"last_x":1}',
            b"not json",
            b"",
            b'{"last_x":3,"last_y":4,"button_flags":4096}',
            b'{"last_x":99999999999999999999,"last_y":0}',
            b'{"last_x":5,\n"last_y":6,"button_data":65416,"button_flags":1024}',
        )
    )
    assert valid.tolist() == [True, False, False, False, False, False, True]
    assert table.tolist() == [[1, -2, 0, 0, 0], [5, 6, 0, 1024, 65416]]


def test_a_payload_cannot_borrow_from_its_neighbours() -> None:
    # Joined by commas these would be two objects; each alone is broken.
    _, valid = decode_payloads(payloads(b'{"event_type":"press","vk":1}\n{"event_type":"press"', b'"vk":2}'), messages.Keyboard)
    assert valid.tolist() == [False, False]


def test_values_that_lie_across_payloads_or_share_one_are_not_taken() -> None:
    # Three values in three lines, of which only one is a payload.
    broken = payloads(
        b'{"event_type":"press",',
        b'"vk":65}',
        b'{"event_type":"press","vk":66}{"event_type":"press","vk":67}',
        b'{"event_type":"press","vk":1}',
    )
    assert decode_payloads(broken, messages.Keyboard)[1].tolist() == [False, False, False, True]
    assert is_json(payloads(b'{"a":', b"1}", b"{}{}")).tolist() == [False, False, False]
    assert is_json(payloads(b'{"a":"}', b'{"}', b"{}{}", b"[1]", b" {} ", b"")).tolist() == [
        False,
        False,
        False,
        True,
        True,
        False,
    ]


def test_written_payloads_are_those_of_the_ecosystem() -> None:
    pool = PayloadPool()
    written = messages.write_raw_mouse(np.array([[1, -2, 0, 1024, 120]]), np.array([77]), pool).to_pylist()
    assert written == [
        RawMouseEvent(last_x=1, last_y=-2, button_flags=1024, button_data=120, timestamp=77).model_dump_json().encode()
    ]
    table = np.array([[1, -2, 0, 0, 0], [30, -2, 0, 0, 0], [-4, -2, 0, 0, 0]])
    rows = messages.write_raw_mouse(table, np.array([5, 6, 7]), pool).to_pylist()
    moves = [RawMouseEvent(last_x=x, last_y=-2, button_flags=0, timestamp=time_ns) for x, time_ns in ((1, 5), (30, 6), (-4, 7))]
    assert rows == [move.model_dump_json().encode() for move in moves]
    assert messages.write_raw_mouse(np.zeros((0, 5), np.int64), np.array([], np.int64), pool).to_pylist() == []
    keys = messages.write_keyboard(np.array([87]), np.array([True]), np.array([5]), pool).to_pylist()
    assert keys == [KeyboardEvent(event_type="press", vk=87, timestamp=5).model_dump_json().encode()]


@pytest.mark.parametrize(
    ("message_type", "payload", "uri", "pts_ns"),
    [
        ("owa.env.gst.msg.ScreenEmitted", b'{"path":"0.3.2.mkv","pts":10000000,"utc_ns":17}', "0.3.2.mkv", 10_000_000),
        (
            "desktop/ScreenCaptured",
            b'{"utc_ns":1,"original_shape":[2,3],"shape":[2,3],"path":"a.mkv","pts":20000000}',
            "a.mkv",
            20_000_000,
        ),
        ("desktop/ScreenCaptured", b'{"media_ref":{"uri":"clips\\\\a.mkv","pts_ns":7}}', "clips/a.mkv", 7),
        ("desktop/ScreenCaptured", b'{"media_ref":{"uri":"data:image/png;base64,QQ=="}}', "data:image/png;base64,QQ==", None),
    ],
)
def test_screens_of_all_generations_become_current(message_type: str, payload: bytes, uri: str, pts_ns: int | None) -> None:
    current, valid = normalize(payloads(payload), message_type)
    assert valid.tolist() == [True]
    screen = ScreenCaptured.model_validate_json(current.to_pylist()[0])
    assert (screen.media_ref.uri, screen.media_ref.pts_ns) == (uri, pts_ns)


def test_a_current_screen_is_kept_byte_for_byte() -> None:
    payload = b'{"utc_ns":1, "media_ref":{"uri":"a.mkv","pts_ns":0},"shape":[1,2]}'
    assert normalize(payloads(payload), "desktop/ScreenCaptured")[0].to_pylist() == [payload]


def test_a_windows_path_is_all_that_is_written_anew() -> None:
    payload = rb'{"utc_ns": 1, "monitor":[2, {"x":1.50}],"media_ref":{"codec":"h264","uri":"clips\\a\u005cb.mkv","pts_ns":null},"shape":null}'
    current = normalize(payloads(payload), "desktop/ScreenCaptured")[0].to_pylist()
    assert current == [
        b'{"utc_ns":1,"monitor":[2, {"x":1.50}],"media_ref":{"codec":"h264","uri":"clips/a/b.mkv","pts_ns":null},"shape":null}'
    ]


def test_type_names_of_all_generations() -> None:
    assert messages.current_type("owa.env.desktop.msg.KeyboardEvent") == "desktop/KeyboardEvent"
    assert messages.current_type("owa.env.gst.msg.ScreenEmitted") == "desktop/ScreenCaptured"
    assert messages.current_type("my/Type") == "my/Type"


def test_json_of_other_kinds() -> None:
    assert is_json(payloads(b'{"a":[1,2]}', b"{", b'"\xff"', b"", b"3")).tolist() == [True, False, False, False, True]


@pytest.mark.parametrize("message_type", [messages.SCREEN, "owa.env.gst.msg.ScreenCaptured"])
def test_screens_of_several_generations_in_one_topic_are_all_read(message_type: str) -> None:
    old, new = b'{"path":"a.mkv","pts":7}', b'{"media_ref":{"uri":"b.mkv","pts_ns":9}}'
    found, valid = normalize(payloads(new, old, b"{}", old, new), message_type)
    assert valid.tolist() == [True, True, False, True, True]
    references = [json.loads(payload)["media_ref"] for payload in found.to_pylist()]
    assert references == [{"uri": uri, "pts_ns": pts} for uri, pts in (("b.mkv", 9), ("a.mkv", 7), ("a.mkv", 7), ("b.mkv", 9))]


@pytest.mark.parametrize(
    "odd", [b"", b"no JSON", b'{\n"event_type": "press", "vk": 3}', b"1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1"]
)
def test_one_odd_payload_in_front_does_not_send_all_to_the_parser(odd: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []
    decode = decode_payloads
    monkeypatch.setattr(messages, "decode_payloads", lambda rows, form: (parsed.append(len(rows)), decode(rows, form))[1])
    rows = [b'{"event_type":"press","vk":%d}' % (number % 90 + 10) for number in range(200)]
    vk, _, valid = messages.keyboard_columns(payloads(odd, *rows))
    assert vk.tolist()[-200:] == [number % 90 + 10 for number in range(200)]
    assert valid.tolist() == [odd.endswith(b"}"), *[True] * 200]
    assert sum(parsed) <= 3


def test_payloads_that_are_no_json_take_no_time() -> None:
    rows = [b"1" + b"-1" * 25, *[b"1" * 60 + b"x"] * 40]
    start = time.perf_counter()
    assert not messages.keyboard_columns(payloads(*rows))[2].any()
    assert time.perf_counter() - start < 5
