"""Tokenizers: content checks, extension, and ids that agree with tokenizing the text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from owa_data.encoding.events import read_events
from owa_data.encoding.factorized import factorized
from owa_data.encoding.pieces import PieceTable
from owa_data.errors import TokenizerError
from owa_data.fsl.extend import extend_tokenizer
from owa_data.fsl.families import image_span
from owa_data.fsl.saved_tokenizer import load_saved
from owa_data.fsl.tokenizer import load_tokenizer
from owa_data.fsl.vocabulary import load_vocabulary
from owa_data.params import ImageParams, TokenizerParams
from owa_data.store.shard_cache import ShardCache
from tests.conftest import shared_path
from tests.strategies import event_tables, keyboard_messages, raw_mouse_messages, screen_messages

BYTE = TokenizerParams(
    name="byte",
    source="built_in",
    pad_token="<|endoftext|>",
    image=ImageParams(family="plain", image_size_px=(448, 448), processor={"image_seq_length": 64}),
)


def internvl3() -> TokenizerParams:
    return TokenizerParams(
        name="internvl3",
        source="folder",
        location=str(shared_path("tokenizers/internvl3")),
        pad_token="<|endoftext|>",
        image=ImageParams(family="internvl", image_size_px=(448, 448)),
    )


def test_extension_adds_sorted_tokens_and_touches_nothing() -> None:
    loaded = load_tokenizer(BYTE)
    extended = extend_tokenizer(loaded, factorized().vocabulary, image_span(BYTE.image))
    assert extended.added == factorized().vocabulary
    assert [extended.id_of(token) for token in factorized().vocabulary] == list(range(260, 260 + 291))
    assert load_tokenizer(BYTE).content == loaded.content
    assert extended.ids_of(["<img>a"]) == [[extended.id_of("<img>"), extended.id_of("a")]]


def test_another_content_is_an_error_that_names_both(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(load_tokenizer(BYTE).content)
    params = BYTE.model_copy(update={"source": "folder", "location": str(tmp_path), "sha256": "0" * 64})
    with pytest.raises(TokenizerError, match=r"0{64} as pinned"):
        load_tokenizer(params)


def test_a_missing_folder_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    params = BYTE.model_copy(update={"source": "folder", "location": str(tmp_path / "none")})
    with pytest.raises(TokenizerError, match="save_pretrained"):
        load_tokenizer(params)


def test_no_network_is_an_error_that_names_the_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    params = BYTE.model_copy(update={"source": "hub", "location": "nobody/nothing", "revision": "main"})
    with pytest.raises(TokenizerError, match=r"conf/tokenizer/byte\.yaml.*tokenizer add"):
        load_tokenizer(params)


def test_the_vocabulary_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ShardCache(tmp_path)
    first = load_vocabulary(load_tokenizer(BYTE), factorized(), cache)
    monkeypatch.setattr("owa_data.fsl.vocabulary._make_vocabulary", lambda *_: pytest.fail("made again"))
    assert load_vocabulary(load_tokenizer(BYTE), factorized(), cache) == first
    assert first.num_image_tokens == 66


@pytest.fixture(scope="module")
def real_tokenizer():
    """InternVL3's tokenizer through `transformers`, extended as upstream does."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared_path("tokenizers/internvl3"))
    tokenizer.add_tokens(sorted(factorized().vocabulary))
    return tokenizer


@pytest.fixture(scope="module")
def real_pieces() -> PieceTable:
    params = internvl3()
    extended = extend_tokenizer(load_tokenizer(params), factorized().vocabulary, image_span(params.image))
    return PieceTable.from_ids(factorized().pieces, extended.ids_of_pieces(factorized().pieces), extended.pad_token_id)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(table=event_tables(keyboard_messages() | raw_mouse_messages() | screen_messages(), max_size=8))
def test_ids_equal_tokenizing_the_text_event_by_event(real_tokenizer, real_pieces: PieceTable, table) -> None:
    encoded = factorized().encode(read_events(table))
    span = image_span(internvl3().image).text
    for index, text in enumerate(encoded.texts()):
        codes = encoded.codes[encoded.offsets[index] : encoded.offsets[index + 1]]
        ours = real_pieces.take_padded_ids(codes, np.array([len(codes)]), np.array([0]))
        assert ours.tolist() == real_tokenizer(text.replace("<image_placeholder>", span), add_special_tokens=False)["input_ids"]


def test_a_damaged_saved_tokenizer_is_named(tmp_path):
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer/tokenizer.json").write_text('{"model": ')
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is no tokenizer"):
        load_saved(tmp_path)
