"""Parsing by shape: whatever it says, a JSON parser says too."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owa_data.raw import integers, messages
from owa_data.raw.integers import fixed_shape, match_shape, shape_of
from owa_data.raw.parsing import decode_payloads
from owa_data.raw.payloads import Payloads

USUAL = b'{"last_x":1,"last_y":-2,"us_flags":0,"button_flags":0,"button_data":0,"device_handle":65599,"timestamp":1750000000012345678}'
# What stands where an integer should: plain, and nasty in every way known.
INTEGERS = st.one_of(
    st.integers(-(10**9), 10**9).map(str),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(
        [
            *[
                "0",
                "-0",
                "00",
                "007",
                "-",
                "--1",
                "-01",
                "+1",
                "1.0",
                "1e3",
                "1E-2",
                "0x1",
                "null",
                "true",
                "1,2",
                "1}",
                "[1]",
                "4095",
                "4096",
                "-1",
                "99999999",
                "-9999999",
                "-99999999",
                "100000000",
            ],
            *["9223372036854775807", "9223372036854775808", "8999999999999999999", "9000000000000000000", "-8999999999999999999"],
            *("1" * length for length in (17, 23, 24, 25)),
            *('"1"', '{"last_x":1}', "", " 1", "1 "),
        ]
    ),
)
KEYS = ["last_x", "last_y", "us_flags", "button_flags", "button_data", "device_handle", "timestamp"]


@st.composite
def raw_mouse_payloads(draw: st.DrawFn) -> bytes:
    """Raw mouse payloads, nearly right: one or two values nasty, keys left out, doubled, swapped or spaced."""
    values = {key: draw(st.integers(-50, 50)) for key in KEYS}
    texts = {key: str(value if key != "button_flags" else abs(value)) for key, value in values.items()}
    texts["timestamp"] = str(1_750_000_000_000_000_000 + draw(st.integers(0, 10**12)))
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=2)):
        texts[key] = draw(INTEGERS)
    order = draw(st.sampled_from([KEYS, KEYS, KEYS, KEYS[1:], KEYS[:5], KEYS[::-1], [*KEYS, "last_x"], ["us_flags", *KEYS]]))
    comma = draw(st.sampled_from([",", ",", ",", ", ", ",,"]))
    payload = "{" + comma.join(f'"{key}":{texts[key]}' for key in order) + "}"
    return draw(st.sampled_from([payload, payload, payload, payload + " ", payload[:-1], payload + "}"])).encode()


def by_parser(payloads: list[bytes]) -> tuple[list[list[int]], list[bool]]:
    rows, valid = [], []
    for payload in payloads:
        try:
            message = msgspec.json.decode(payload, type=messages.RawMouse)
        except (msgspec.DecodeError, UnicodeDecodeError):
            valid.append(False)
            continue
        rows.append([getattr(message, name) for name in messages.RawMouse.__struct_fields__])
        valid.append(True)
    return rows, valid


def test_a_shape_is_a_payload_without_its_integers() -> None:
    shape = shape_of(b'{"a":-12,"b":"x1","c":[3,4],"d":null}')
    assert shape is not None
    assert shape.literals == (b'{"a":', b',"b":"x1","c":[', b",", b'],"d":null}')
    assert shape.keys == (b"a", b"", b"")
    assert not shape.is_flat


@pytest.mark.parametrize("payload", [b'{"a": 1}', b'{"a":1.5}', b'{"a":1e3}', b'{"a":"\\u0031"}', b"{'a':1}", b'{"a":"\n"}'])
def test_other_json_has_no_shape(payload: bytes) -> None:
    assert shape_of(payload) is None


def test_integers_that_do_not_vary_are_literals() -> None:
    shape = fixed_shape([b'{"a":1,"b":2,"c":3}', b'{"a":1,"b":7,"c":3}', b'{"b":9}'])
    assert shape is not None
    assert shape.literals == (b'{"a":1,"b":', b',"c":3}')
    assert shape.keys == (b"b",)


def test_integers_of_as_many_digits_are_any_digits_unless_they_are_wanted() -> None:
    payloads = [b'{"t":170,"v":10}', b'{"t":188,"v":11}']
    shape = fixed_shape(payloads, {b"v"})
    assert shape is not None
    assert shape.literals == (b'{"t":1\0\0,"v":', b"}")
    alike = [b'{"t":100,"v":1}', b'{"t":199,"v":-22}']
    # Another first digit, another number of digits, and what is next to the digits in ASCII, or is one but for its high half.
    others = [
        b'{"t":%b,"v":1}' % text for text in (b"200", b"17", b"1000", b"1/9", b"19:", b"1\x00\x09", b"1\xb0\xb9", b"1 9", b"-17")
    ]
    padding = [b'{"t":100,"v":1}' + b" " * 100]  # nothing is matched at the very end
    matches, values = match_shape(Payloads.of([*alike, *others, *padding]), shape, (b"v",))
    assert np.flatnonzero(matches).tolist() == [0, 1]
    assert values.tolist() == [[1, -22]]


@pytest.mark.parametrize(
    ("texts", "literal"),
    [
        ([b"8999999999999999998", b"8999999999999999999"], b"8" + b"\0" * 18),
        ([b"9000000000000000001", b"9000000000000000002"], None),
        ([b"10000000000000000000", b"10000000000000000001"], None),
        ([b"-17", b"-18"], None),
        ([b"017", b"018"], None),
        ([b"1", b"2"], None),
        ([b"19", b"20"], None),
    ],
)
def test_integers_that_could_leave_int64_or_are_not_plain_are_read_one_by_one(texts: list[bytes], literal: bytes | None) -> None:
    shape = fixed_shape([b"[%b]" % text for text in texts])
    assert shape is not None
    assert shape.literals == ((b"[", b"]") if literal is None else (b"[" + literal + b"]",))


def test_plain_integers_are_read() -> None:
    texts = ["0", "7", "-7", "10", "-1234567", "12345678", "99999999"]
    others = ["-0", "00", "-12345678", "123456789", "", "-", "1x", "1.5"]
    payloads = [b'{"v":%b,"t":%d}' % (text.encode(), 10**18) for text in [*texts, *others]] + [b'{"v":5,"t":1}' + b" " * 100]
    shape = shape_of(payloads[0])
    assert shape is not None
    matches, values = match_shape(Payloads.of(payloads), shape, (b"v",))
    assert np.flatnonzero(matches).tolist() == list(range(len(texts)))
    assert values[0].tolist() == [int(text) for text in texts]


@settings(max_examples=300, deadline=None)
@given(payloads=st.lists(raw_mouse_payloads(), min_size=1, max_size=12), usual_first=st.booleans())
def test_raw_mouse_columns_are_those_of_the_parser(payloads: list[bytes], usual_first: bool) -> None:
    # Enough usual payloads that the shape is worth matching, and some at the end, where no word may be read past the data.
    usual = [USUAL, USUAL.replace(b"-2", b"33"), USUAL.replace(b"65599", b"null")] * 16
    # Time goes on, so that most digits of it are any digits; in the first sample or not at all.
    usual = [payload.replace(b"345678}", b"%d}" % (345678 + 1001 * number)) for number, payload in enumerate(usual)]
    everything = [*usual, *payloads, *usual] if usual_first else [*payloads, *usual, *usual, *payloads]
    table, valid = messages.raw_mouse_columns(Payloads.of(everything))
    rows, is_valid = by_parser(everything)
    assert valid.tolist() == is_valid
    assert table.tolist() == rows


@settings(max_examples=100, deadline=None)
@given(
    keys=st.lists(
        st.tuples(st.sampled_from(["press", "release", "hold"]), st.one_of(st.just("87"), INTEGERS)), min_size=1, max_size=8
    ),
    num_usual=st.sampled_from([0, 1, 60]),
)
def test_keyboard_columns_are_those_of_the_parser(keys: list[tuple[str, str]], num_usual: int) -> None:
    payloads = [b'{"event_type":"press","vk":87,"timestamp":%d}' % number for number in range(num_usual)]
    payloads += [f'{{"event_type":"{kind}","vk":{vk},"timestamp":17}}'.encode() for kind, vk in keys]
    payloads += [b'{"event_type":"release","vk":87,"timestamp":%d}' % number for number in range(num_usual)]
    vk, pressed, valid = messages.keyboard_columns(Payloads.of(payloads))
    rows = []
    for payload, is_valid in zip(payloads, valid.tolist(), strict=True):
        try:
            message = msgspec.json.decode(payload, type=messages.Keyboard)
        except msgspec.DecodeError:
            assert not is_valid
            continue
        assert is_valid
        rows.append((message.vk, message.event_type == "press"))
    assert list(zip(vk.tolist(), pressed.tolist(), strict=True)) == rows


def test_the_shape_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []
    decode = decode_payloads

    def counted(payloads: pa.LargeBinaryArray, form: type) -> object:
        parsed.append(len(payloads))
        return decode(payloads, form)

    monkeypatch.setattr(messages, "decode_payloads", counted)
    monkeypatch.setattr(integers, "BYTES_PER_BLOCK", 20_000)
    payloads = [USUAL.replace(b"-2", str(number).encode()) for number in range(-500, 500)]
    table, valid = messages.raw_mouse_columns(Payloads.of(payloads))
    assert valid.all()
    assert table[:, 1].tolist() == list(range(-500, 500))
    assert sum(parsed) <= 3


def test_a_slice_of_an_array_is_read_from_its_own_start() -> None:
    payloads = pa.array([USUAL.replace(b"-2", str(number).encode()) for number in range(200)], pa.large_binary()).slice(50, 100)
    table, _ = messages.raw_mouse_columns(Payloads.of(payloads))
    assert table[:, 1].tolist() == list(range(50, 150))


def test_long_payloads_are_for_a_parser() -> None:
    long = b'{"event_type":"press","vk":65,"note":"%s"}' % (b"a" * 60_000)
    short = [b'{"event_type":"press","vk":%d}' % number for number in range(100)]
    assert shape_of(long) is None
    assert shape_of(b"[" + b",".join([b"1"] * 400) + b"]") is None, "it could become 20 times as long"
    vk, _, valid = messages.keyboard_columns(Payloads.of([long, *short]))
    assert vk.tolist() == [65, *range(100)]
    assert valid.all()


def test_a_sample_at_the_end_of_the_buffer_whose_shape_is_longer_than_all_others() -> None:
    # In time the last of the file comes first, as after a clock was set back.
    sample = b'{"event_type":"press","vk":65,"note":"%s"}' % (b"a" * 300)
    parts = [b'{"event_type":"press","vk":65}', *[b'{"event_type":"press","vk":65,"note":"%s"}' % (b"b" * 400)] * 40, sample]
    ends = np.cumsum([len(part) for part in parts])
    order = [len(parts) - 1, *range(len(parts) - 1)]
    starts = ends - [len(part) for part in parts]
    payloads = Payloads(np.frombuffer(b"".join(parts), np.uint8), starts[order], ends[order])
    vk, _, valid = messages.keyboard_columns(payloads)
    assert valid.all()
    assert set(vk.tolist()) == {65}


def test_a_key_that_stands_twice_is_read_as_the_parser_reads_it() -> None:
    payloads = [b'{"event_type":"press","vk":%d,"vk":7}' % number for number in range(100)]
    vk, _, _ = messages.keyboard_columns(Payloads.of(payloads))
    assert set(vk.tolist()) == {7} == {decode_payloads(Payloads.of(payloads), messages.Keyboard)[0][0].vk}
