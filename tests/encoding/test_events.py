"""Event rows read into columns: what another program wrote is refused with a word, whatever it is."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from owa_data.encoding.events import read_events
from owa_data.errors import SchemaError

KEY = ("keyboard", "desktop/KeyboardEvent")
SCREEN = ("screen", "desktop/ScreenCaptured")


def rows_of(messages: list[bytes], kind: tuple[str, str]) -> pa.Table:
    count = len(messages)
    return pa.table(
        {
            "episode_path": pa.array(["a.mcap"] * count),
            "topic": pa.array([kind[0]] * count),
            "timestamp_ns": pa.array([17] * count, pa.int64()),
            "message_type": pa.array([kind[1]] * count),
            "mcap_message": pa.array(messages, pa.binary()),
            "interval_index": pa.array([0] * count, pa.int32()),
        }
    )


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize(
    "message",
    [
        rb'{"topic": "keyboard", "timestamp": 17, "message": "{\"event_type\": \"press\", \"vk\": 87}", "message_type": "desktop/KeyboardEvent"}',
        b'{"topic":"keyboard","timestamp":17,"message":"{"vk":1}","message_type":"desktop/KeyboardEvent"}',
        b"",
        b"{}",
        b"x" * 200,
        b"\xff" * 200,
        b"\n" * 200,
        b"\\x" * 100,
    ],
)
def test_messages_of_another_form_are_refused(message: bytes, count: int) -> None:
    with pytest.raises(SchemaError):
        read_events(rows_of([message] * count, KEY))


@given(
    st.lists(
        st.binary(max_size=120) | st.binary(min_size=100, max_size=200).map(lambda part: part + b"\\"), min_size=1, max_size=20
    )
)
def test_any_bytes_are_read_or_refused(messages: list[bytes]) -> None:
    try:
        payloads = read_events(rows_of(messages, SCREEN)).payloads
        assert len(payloads.to_pylist()) == len(messages)
        assert payloads.plain().to_pylist() == payloads.to_pylist()
    except SchemaError:
        pass
