"""Payloads inside JSON strings, there and back; their integers read where they stand."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from owa_data.raw import messages
from owa_data.raw.integers import shape_of
from owa_data.raw.payloads import Payloads
from owa_data.raw.quoted import QuotedPayloads, quote_payloads

KEYS = [b'{"event_type":"%s","vk":%d}' % (kind, vk) for vk in range(60) for kind in (b"press", b"release")]
MICE = [b'{"last_x":%d,"last_y":%d,"button_flags":0,"timestamp":17%017d}' % (i, -i, i * 12_345) for i in range(99)]
ODD = [rb'{"event_type":"press","vk":7,"note":"a\"\\b"}', b"{}", "{'é\n'}".encode(), b""]


def quoted(payloads: list[bytes]) -> QuotedPayloads:
    return QuotedPayloads(Payloads.of(quote_payloads(Payloads.of(payloads)).view("large_binary")))


def test_literal() -> None:
    assert quote_payloads(Payloads.of([b'{"vk":87}', b"\\\n"])).to_pylist() == [r"{\"vk\":87}", r"\\\n"]
    assert QuotedPayloads(Payloads.of([rb"{\"vk\":87}"])).to_pylist() == [b'{"vk":87}']
    shape = shape_of(b'{"vk":87}')
    assert shape is not None
    assert shape.quoted().literals == (rb"{\"vk\":", b"}")


@given(st.lists(st.text(max_size=20)))
def test_quoting_is_that_of_json_and_is_undone(texts: list[str]) -> None:
    payloads = [text.encode() for text in texts]
    stored = quoted(payloads)
    assert [b'"%s"' % part for part in stored.stored.to_pylist()] == [
        json.dumps(text, ensure_ascii=False).encode() for text in texts
    ]
    assert stored.to_pylist() == payloads
    assert [stored[index] for index in range(len(stored))] == payloads
    assert stored.take(slice(1, None)).to_pylist() == payloads[1:]


@given(st.permutations(KEYS + ODD), st.permutations(MICE + ODD))
def test_what_is_read_of_quoted_payloads_is_what_is_read_of_plain_ones(keys: list[bytes], mice: list[bytes]) -> None:
    for of_plain, of_quoted in zip(
        messages.keyboard_columns(Payloads.of(keys)), messages.keyboard_columns(quoted(keys)), strict=True
    ):
        assert np.array_equal(of_plain, of_quoted)
    for of_plain, of_quoted in zip(
        messages.raw_mouse_columns(Payloads.of(mice)), messages.raw_mouse_columns(quoted(mice)), strict=True
    ):
        assert np.array_equal(of_plain, of_quoted)


def test_common_payloads_are_not_unquoted(monkeypatch) -> None:
    unquoted: list[int] = []
    plain = QuotedPayloads.plain
    monkeypatch.setattr(QuotedPayloads, "plain", lambda self: unquoted.append(len(self)) or plain(self))
    vk, pressed, valid = messages.keyboard_columns(quoted(KEYS * 5))
    assert vk.tolist() == [vk for vk in range(60) for _ in range(2)] * 5
    assert pressed.tolist() == [True, False] * 300
    assert valid.all()
    assert sum(unquoted) < 100  # samples, and what lies at the buffer's end
