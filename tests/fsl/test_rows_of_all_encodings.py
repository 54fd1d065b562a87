"""Rows of every encoding under every tokenizer: ids are those of the text as a whole, spans are images, and rows decode."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owa_data.encoding.events import EventKind, read_events
from owa_data.encoding.pieces import PieceTable
from owa_data.encoding.registry import ENCODERS, create_encoder
from owa_data.encoding.token_text import TokenText
from owa_data.encoding.unwrap import TimeHints
from owa_data.errors import DecodeError, TokenizerError
from owa_data.fsl.convert import convert_events
from owa_data.fsl.decode import EventDecoder
from owa_data.fsl.extend import ExtendedTokenizer, extend_tokenizer
from owa_data.fsl.families import image_span
from owa_data.fsl.tokenizer import load_tokenizer
from owa_data.fsl.vocabulary import Vocabulary, _make_vocabulary
from owa_data.params import FslParams, ImageParams, TokenizerParams
from owa_data.schema import FSL_SCHEMA
from tests.conftest import shared_path
from tests.fsl.test_tokenizer import BYTE, internvl3
from tests.strategies import START_NS, all_messages, event_table, event_tables

BOUNDED = settings(max_examples=6)
REAL = ["internvl3", "smolvlm2"]


def params_of(name: str) -> TokenizerParams:
    if name == "byte":
        return BYTE
    if name == "internvl3":
        return internvl3()
    return TokenizerParams(
        name=name,
        source="folder",
        location=str(shared_path("tokenizers/smolvlm2")),
        pad_token="<|im_end|>",
        image=ImageParams(family="smolvlm", image_size_px=(512, 512), processor={"do_image_splitting": name == "smolvlm2_split"}),
    )


@cache
def prepared(tokenizer: str, encoder: str) -> tuple[ExtendedTokenizer, Vocabulary]:
    loaded = load_tokenizer(params_of(tokenizer))
    made = create_encoder(encoder)
    extended = extend_tokenizer(loaded, made.vocabulary, image_span(params_of(tokenizer).image))
    return extended, _make_vocabulary(loaded, made, "")[0]


def convert(table: pa.Table, tokenizer: str, encoder: str, start_ns: int = 0, **knobs: object) -> list[dict]:
    params = FslParams(encoder=encoder, **knobs)
    made = create_encoder(encoder, **params.encoder_options.model_dump())
    extended = prepared(tokenizer, encoder)[0]

    def table_of(pieces: Sequence[str]) -> PieceTable:
        return PieceTable.from_ids(pieces, extended.ids_of_pieces(pieces), extended.pad_token_id)

    batches, ledger = convert_events(table, "a.mcap", params, made, table_of, start_ns)
    rows = pa.Table.from_batches(list(batches), FSL_SCHEMA).to_pylist()
    assert ledger["tokens"] == sum(row["num_tokens"] for row in rows)
    assert ledger["rows"] == len(rows)
    return rows


def decoder_of(tokenizer: str, encoder: str, **options: bool) -> EventDecoder:
    extended, vocabulary = prepared(tokenizer, encoder)
    starts = {"a.mcap": START_NS}
    return EventDecoder(create_encoder(encoder, **options), extended.tokenizer, vocabulary.num_image_tokens, starts)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("tokenizer", ["byte", *REAL, "smolvlm2_split"])
@BOUNDED
@given(table=event_tables(all_messages(), max_size=12), length=st.sampled_from([1400, 4096]), shift=st.sampled_from([0.0, 0.1]))
def test_ids_are_those_of_the_text_and_spans_are_images(tokenizer: str, encoder: str, table, length: int, shift: float) -> None:
    extended, _ = prepared(tokenizer, encoder)
    image_id = extended.id_of(extended.span.image_token)
    rows = convert(table, tokenizer, encoder, max_sequence_length=length, time_shift_seconds_for_action=shift)
    for row in rows:
        ids = row["input_ids"][: row["num_tokens"]]
        assert ids == extended.ids_of_pieces([row["texts"]])[0]
        assert len(row["input_ids"]) == length
        num_images = len(row["images"])
        assert ids.count(image_id) == num_images * extended.span.num_image_tokens
        assert row["texts"].count("<image_placeholder>") == num_images == row["event_kinds"].count(EventKind.SCREEN)
        assert row["texts"] == row["texts"].strip()


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("tokenizer", ["byte", *REAL, "smolvlm2_split"])
@BOUNDED
@given(table=event_tables(all_messages(), max_size=12), shift=st.sampled_from([0.0, 0.1]))
def test_rows_decode_to_what_the_text_says_at_the_stored_times(tokenizer: str, encoder: str, table, shift: float) -> None:
    decoder = decoder_of(tokenizer, encoder)
    for row in convert(table, tokenizer, encoder, time_shift_seconds_for_action=shift):
        decoded = decoder.decode_row(row, strict=True)
        stored = np.array(row["event_timestamps_ns"])[np.searchsorted(row["event_offsets"], decoded.positions, "right") - 1]
        assert np.all(np.abs(decoded.events.times_ns - stored) <= 10_000_000)
        assert decoded.doubts == ()
        screens = decoded.events.payloads.take(decoded.events.kinds == EventKind.SCREEN).to_pylist()
        assert [payload.decode() for payload in screens] == row["images"]
        again = decoder.encoder.encode(decoded.events)
        # Tokenizers lose some characters (InternVL's composes accents, SmolVLM's lacks some bytes); only titles can hold them.
        titles = re.compile(
            "" if tokenizer == "byte" else r"(?<=window:)[^<]*|(?<=WINDOW_)\S*|(?<=\"title\": ).*?(?=}<)", re.DOTALL
        )
        assert titles.sub("", again.separator.join(again.texts())) == titles.sub("", row["texts"])


@pytest.mark.parametrize(("tokenizer", "num_tokens", "num_entries"), [("internvl3", 258, 151_674), ("smolvlm2", 67, 49_280)])
def test_real_image_spans_and_no_dead_entry(tokenizer: str, num_tokens: int, num_entries: int) -> None:
    for encoder in ENCODERS:
        extended, vocabulary = prepared(tokenizer, encoder)
        assert vocabulary.num_image_tokens == num_tokens == extended.span.num_tokens
        lacked = [token for token in create_encoder(encoder).vocabulary if token in extended.added]
        assert vocabulary.num_tokens == num_entries + len(lacked)
        assert list(extended.added) == lacked
        for token in extended.added:
            assert extended.ids_of([token]) == [[extended.id_of(token)]]


def test_split_smolvlm_spans_hold_the_newlines_and_nothing_is_added_for_them() -> None:
    extended, vocabulary = prepared("smolvlm2_split", "factorized")
    assert vocabulary.num_image_tokens == extended.span.num_tokens == 1127
    assert "\n" not in extended.added


@pytest.mark.parametrize("encoder", ["factorized", "hierarchical_tokens"])
def test_rows_of_the_d2e_setting_have_no_phantom_wraps(encoder: str) -> None:
    """Action shift 0.1 s and gaps of any length: each event within 10 ms of its recorded time, in the order of the tokens."""
    rng = np.random.default_rng(1)
    gaps = np.where(rng.random(400) < 0.03, rng.integers(5, 5000, 400) * 10**9, rng.integers(0, 60_000_000, 400))
    times = START_NS + np.cumsum(gaps)
    screen = ("screen", "desktop/ScreenCaptured", {"media_ref": {"uri": "a.mkv", "pts_ns": 0}})
    key = ("keyboard", "desktop/KeyboardEvent", {"event_type": "press", "vk": 65})
    table = event_table([(int(time), *(screen if rng.random() < 0.5 else key)) for time in times])
    decoder = decoder_of("byte", encoder)
    num_steps_back = 0
    for row in convert(table, "byte", encoder, time_shift_seconds_for_action=0.1):
        decoded = decoder.decode_row(row)
        recorded = np.array(row["event_timestamps_ns"])
        assert np.all((recorded - decoded.events.times_ns >= 0) & (recorded - decoded.events.times_ns < 10_000_000))
        num_steps_back += int((np.diff(recorded) < 0).sum())
    assert num_steps_back > 10
    # Without the stored times: no gap over half a period within the row is needed.
    quiet = event_table([(int(START_NS + i * 7_000_000), *(screen if i % 3 else key)) for i in range(300)])
    for row in convert(quiet, "byte", encoder, time_shift_seconds_for_action=0.1):
        decoded = decoder.decode_ids(row["input_ids"][: row["num_tokens"]], TimeHints(row["start_ns"], row["end_ns"]))
        recorded = np.array(row["event_timestamps_ns"])
        assert np.all((recorded - decoded.events.times_ns >= 0) & (recorded - decoded.events.times_ns < 10_000_000))
        assert decoded.doubts == ()


def test_timestamps_of_hierarchical_count_from_the_first_message() -> None:
    key = ("keyboard", "desktop/KeyboardEvent", {"event_type": "press", "vk": 65})
    table = event_table([(START_NS + 12_345_678_901, *key), (START_NS + 99_000_000_000, *key)])
    rows = convert(table, "byte", "hierarchical", START_NS, encoder_options={"timestamps": True})
    assert rows[0]["texts"] == "<EVENT_START>key_press:a@12.345<EVENT_END><EVENT_START>key_press:a@99.000<EVENT_END>"
    decoded = decoder_of("byte", "hierarchical", timestamps=True).decode_row(rows[0])
    assert (decoded.events.times_ns - START_NS).tolist() == [12_345_000_000, 99_000_000_000]


@pytest.mark.parametrize("tokenizer", ["byte", *REAL])
@settings(max_examples=25)
@given(data=st.data())
def test_fuzzed_ids(tokenizer: str, data) -> None:
    """Whole events of a stream with random ids between them are all recovered; every broken span lies where the ids were put."""
    encoder = data.draw(st.sampled_from(["factorized", "hierarchical_tokens", "hierarchical", "json"]))
    decoder = decoder_of(tokenizer, encoder)
    extended, vocabulary = prepared(tokenizer, encoder)
    table = data.draw(event_tables(all_messages(), max_size=6))
    encoded = decoder.encoder.encode(read_events(table))
    parts = extended.ids_of_pieces(encoded.texts())
    framing = {extended.id_of("<EVENT_START>"), extended.id_of("<EVENT_END>")}
    junk = data.draw(
        st.lists(st.lists(st.integers(0, vocabulary.num_tokens + 5), max_size=5), min_size=len(parts), max_size=len(parts))
    )
    ids, places, foreign = [], [], set()
    for part, drawn in zip(parts, junk, strict=True):
        noise = [id_ for id_ in drawn if id_ not in framing]
        foreign |= set(range(len(ids), len(ids) + len(noise)))
        ids += noise
        places.append(len(ids))
        ids += part
    decoded = decoder.decode_ids(ids)
    assert set(places) <= set(decoded.positions.tolist())
    assert all(set(range(span.start, span.end)) <= foreign for span in decoded.broken)
    shuffled = data.draw(st.permutations(ids)) if len(ids) < 300 else ids[:: data.draw(st.integers(2, 5))]
    for stream in (shuffled, ids[: data.draw(st.integers(0, len(ids)))]):
        decoded = decoder.decode_ids(stream)
        assert all(0 <= span.start < span.end <= len(stream) for span in decoded.broken)


def test_a_cut_image_span_breaks_its_event_and_no_later_image_moves() -> None:
    screens = [("screen", "desktop/ScreenCaptured", {"media_ref": {"uri": "a.mkv", "pts_ns": index}}) for index in range(3)]
    rows = convert(event_table([(START_NS + i * 10**8, *screen) for i, screen in enumerate(screens)]), "byte", "factorized")
    decoder = decoder_of("byte", "factorized")
    ids = rows[0]["input_ids"][: rows[0]["num_tokens"]]
    cut = [*ids[:40], *ids[50:]]
    decoded = decoder.decode_ids(cut, TimeHints(rows[0]["start_ns"], rows[0]["end_ns"]), rows[0]["images"])
    assert [(span.start, "expected an image" in span.problem) for span in decoded.broken] == [(0, True)]
    uris = [json.loads(payload)["media_ref"]["pts_ns"] for payload in decoded.events.payloads.to_pylist()]
    assert uris == [1, 2]
    with pytest.raises(DecodeError, match="at 0: expected an image"):
        decoder.decode_ids(cut, strict=True)


def test_text_takes_images_of_any_family() -> None:
    decoder = EventDecoder(create_encoder("factorized"))
    for family, size in (("internvl", (448, 448)), ("smolvlm", (512, 512)), ("qwen2_5_vl", (448, 448)), ("qwen3_vl", (99, 99))):
        span = image_span(ImageParams(family=family, image_size_px=size)).text
        text = f"<EVENT_START><SCREEN><2><3><4>{span}<EVENT_END><EVENT_START><KEYBOARD><2><3><4><VK_1><press><EVENT_END>"
        decoded = decoder.decode_text(text, TimeHints(START_NS), ['{"media_ref":{"uri":"x"}}'], strict=True)
        assert decoded.positions.tolist() == [0, text.index("<KEYBOARD>") - len("<EVENT_START>")]
        assert decoded.events.payloads[0] == b'{"media_ref":{"uri":"x"}}'
    with pytest.raises(TokenizerError, match="from_dataset"):
        decoder.decode_ids([1])


def test_payloads_are_valid_for_the_ecosystem() -> None:
    from owa.msgs.desktop.keyboard import KeyboardEvent
    from owa.msgs.desktop.mouse import MouseEvent, RawMouseEvent
    from owa.msgs.desktop.screen import ScreenCaptured
    from owa.msgs.desktop.window import WindowInfo

    classes = {0: ScreenCaptured, 1: KeyboardEvent, 2: RawMouseEvent, 3: MouseEvent, 4: WindowInfo}
    text = (
        '{"type": "key_press", "key": "a"}|{"type": "mouse_move", "dx": 1, "dy": -2}|{"type": "mouse_move", "x": 1, "y": -2}|'
        '{"type": "mouse_click", "button": "x1", "x": 1, "y": 2}|{"type": "mouse_scroll", "direction": "left", "amount": 2}|'
        '{"type": "window", "title": "t"}|{"type": "screen_capture"}'
    )
    framed = "".join(f"<EVENT_START>{part}<EVENT_END>" for part in text.split("|"))
    decoded = EventDecoder(create_encoder("json")).decode_text(framed, TimeHints(START_NS), strict=True)
    for kind, payload in zip(decoded.events.kinds.tolist(), decoded.events.payloads.to_pylist(), strict=True):
        classes[kind].model_validate_json(payload)
    assert decoded.events.kinds.tolist() == [1, 2, 3, 3, 2, 4, 0]
    assert decoded.doubts[0][1].startswith("the encoding carries no times")


def test_a_tokenizer_that_joins_over_pieces_is_refused() -> None:
    extended, _ = prepared("byte", "flat")
    with pytest.raises(TokenizerError, match="other ids as a whole"):
        extended.check_cuts(["a", "b"], [[71], [73]])


def test_flat_words_are_read_by_the_kinds_that_the_row_stores() -> None:
    move = ("mouse", "desktop/MouseEvent", {"event_type": "move", "x": 4, "y": -5})
    rows = convert(event_table([(START_NS, *move)]), "byte", "flat")
    decoded = decoder_of("byte", "flat").decode_row(rows[0])
    assert decoded.events.topics.to_pylist() == ["mouse"]
    assert TokenText.of(rows[0]["texts"]).text == "MOUSE_MOVE_4_N5"
