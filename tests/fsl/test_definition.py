"""Definitions extended without loading them are those that the library makes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models

from owa_data.encoding.registry import ENCODERS, create_encoder
from owa_data.errors import TokenizerError
from owa_data.fsl.definition import read_definition
from owa_data.fsl.extend import extend_tokenizer
from owa_data.fsl.families import image_span
from owa_data.fsl.tokenizer import LoadedTokenizer, load_tokenizer
from owa_data.fsl.vocabulary import _make_vocabulary
from owa_data.params import TokenizerParams
from tests.fsl.test_rows_of_all_encodings import REAL, params_of
from tests.fsl.test_tokenizer import BYTE


def extended_by_the_library(loaded: LoadedTokenizer, tokens: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer.from_buffer(loaded.content)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in sorted({*tokens} - known)])
    return tokenizer


def check_vocabulary(loaded: LoadedTokenizer, encoder: str) -> None:
    made = create_encoder(encoder)
    span = image_span(loaded.params.image)
    library = extended_by_the_library(loaded, [*made.vocabulary, *span.tokens])
    before = Tokenizer.from_buffer(loaded.content).get_vocab(with_added_tokens=True)
    vocabulary, content = _make_vocabulary(loaded, made, "")
    assert Tokenizer.from_buffer(content).to_str() == library.to_str()
    entries = library.get_vocab(with_added_tokens=True)
    assert vocabulary.num_tokens == 1 + max(entries.values())
    assert [*vocabulary.image_ids] == library.encode(span.text, add_special_tokens=False).ids
    assert [*vocabulary.token_ids] == library.encode("".join(made.vocabulary), add_special_tokens=False).ids
    assert vocabulary.pad_token_id == entries[loaded.params.pad_token]
    assert vocabulary.added == {token: number for token, number in entries.items() if token not in before}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("tokenizer", ["byte", *REAL, "smolvlm2_split"])
def test_vocabularies_are_those_of_the_library(tokenizer: str, encoder: str) -> None:
    loaded = load_tokenizer(params_of(tokenizer))
    assert read_definition(loaded).is_plain
    check_vocabulary(loaded, encoder)


def loaded_of(tokenizer: Tokenizer, *tokens: str, params: TokenizerParams = BYTE) -> LoadedTokenizer:
    tokenizer.add_special_tokens([AddedToken(token) for token in ("<|endoftext|>", "<img>", "</img>", "<IMG_CONTEXT>", *tokens)])
    return LoadedTokenizer(params, tokenizer.to_str().encode(), "")


WORDS = {"a": 0, "b": 1, "ab": 2, "<MOUSE>": 4, "<unk>": 3}  # <MOUSE> is a word, but no token of its own


@pytest.mark.parametrize(
    "model",
    [
        models.BPE(vocab=WORDS, merges=[("a", "b")], unk_token="<unk>"),
        models.WordLevel(vocab=WORDS, unk_token="<unk>"),
        models.WordPiece(vocab=WORDS, unk_token="<unk>"),
        models.Unigram([("<unk>", 0.0), ("a", -1.0), ("<MOUSE>", -2.0)], unk_id=0, byte_fallback=False),
    ],
)
def test_models_of_all_kinds(model: models.Model) -> None:
    check_vocabulary(loaded_of(Tokenizer(model), "<SCREEN>"), "factorized")


def test_literal() -> None:
    content = b"""{"padding": {"direction": "Left"}, "added_tokens": [{"id": 2, "content": "<a>", "special": true}],
        "model": {"vocab": {"x": 0, "y": 1}, "merges": []}}"""
    definition = read_definition(LoadedTokenizer(BYTE, content, "")).extended(["z", "b", "y", "<a>"])
    assert definition.is_plain
    assert definition.tokens == {"<a>": 2, "b": 3, "y": 1, "z": 4}
    assert (definition.new, definition.num_ids, definition.id_of("x"), definition.id_of("?")) == (("b", "z"), 5, 0, None)
    written = json.loads(definition.content())
    assert written["model"] == {"vocab": {"x": 0, "y": 1}, "merges": []}
    assert (written["padding"], written["truncation"]) == (None, None)
    assert [token["content"] for token in written["added_tokens"]] == ["<a>", "b", "y", "z"]
    assert b" " not in definition.content()


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"model": {}}', b'{"model": {"vocab": 3}}', b'{"model": {"vocab": {"<|endoftext|>": 1}}}', b"\xff"],
)
def test_what_is_no_tokenizer_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    params = BYTE.model_copy(update={"source": "folder", "location": str(tmp_path)})
    if b"endoftext" not in content:  # which only loading it tells
        with pytest.raises(TokenizerError, match=r"conf/tokenizer/byte\.yaml.*is no tokenizer"):
            _make_vocabulary(load_tokenizer(params), create_encoder("factorized"), "")
    loaded = replace(load_tokenizer(BYTE), content=content)
    with pytest.raises(TokenizerError, match="is no tokenizer"):
        extend_tokenizer(loaded, (), image_span(BYTE.image))


PAD = "<|endoftext|>"
SPAN = ["<img>", "</img>", "<IMG_CONTEXT>"]


def odd(vocab: dict[str, int], *tokens: tuple[str, int]) -> LoadedTokenizer:
    """A tokenizer whose file names ids that the library may not give when it loads it."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    content = json.loads(Tokenizer(models.WordLevel(vocab=vocab, unk_token="a")).to_str())
    return LoadedTokenizer(
        BYTE, json.dumps({**content, "added_tokens": [{"id": i, "content": token, **flags} for token, i in tokens]}).encode(), ""
    )


@pytest.mark.parametrize(
    "loaded",
    [
        odd({"a": 0, "b": 1, "c": 2}, (PAD, 3), ("<x>", 10)),
        odd({"a": 0, "b": 1, "c": 2}, (PAD, 10)),
        odd({"a": 0, "b": 1, "c": 2}, (PAD, 3), (PAD, 4)),
        odd({"a": 0, "b": 1, "c": 2}, (PAD, 3), ("", 4)),
        odd({"a": 0, "b": 1, "c": 2}, ("c", 9), (PAD, 3)),
        odd({"a": 0, "b": 1, "c": 2}, (PAD, 3), ("<x>", 3)),
        odd({"a": 0, "<KEYBOARD>": 5000}, (PAD, 2)),
        odd({"a": 0, "b": 7}, (PAD, 2)),
        odd({"a": 0, "b": 0, "c": 2}, (PAD, 3)),
    ],
)
def test_ids_are_those_that_the_saved_tokenizer_has_once_loaded(loaded: LoadedTokenizer) -> None:
    encoder = create_encoder("factorized")
    try:
        vocabulary, content = _make_vocabulary(loaded, encoder, "")
    except TokenizerError as error:
        assert "leaves ids out" in str(error)  # noqa: PT017 - either is right, and which one is the library's matter
        return
    saved = Tokenizer.from_buffer(content)
    assert [*vocabulary.token_ids] == [saved.token_to_id(token) for token in encoder.vocabulary]
    assert vocabulary.pad_token_id == saved.token_to_id(PAD)
    assert {*vocabulary.image_ids} == {saved.token_to_id(token) for token in SPAN}
    assert vocabulary.num_tokens == 1 + max(saved.get_vocab(with_added_tokens=True).values())
    assert len({*vocabulary.token_ids}) == len(encoder.vocabulary)
