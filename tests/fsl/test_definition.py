"""Vocabularies made of a definition without its merges are those of the whole tokenizer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models

from owa_data.encoding.registry import ENCODERS, create_encoder
from owa_data.errors import TokenizerError
from owa_data.fsl.definition import Definition
from owa_data.fsl.extend import extend_tokenizer
from owa_data.fsl.families import image_span
from owa_data.fsl.tokenizer import LoadedTokenizer, load_tokenizer
from owa_data.fsl.vocabulary import _make_vocabulary
from owa_data.params import TokenizerParams
from tests.fsl.test_rows_of_all_encodings import REAL, params_of
from tests.fsl.test_tokenizer import BYTE


def check_vocabulary(loaded: LoadedTokenizer, encoder: str) -> None:
    made = create_encoder(encoder)
    span = image_span(loaded.params.image)
    whole = extend_tokenizer(loaded, made.vocabulary, span)
    vocabulary, content = _make_vocabulary(loaded, made, "")
    assert Tokenizer.from_buffer(content).to_str() == whole.tokenizer.to_str()
    assert vocabulary.num_tokens == 1 + max(whole.tokenizer.get_vocab(with_added_tokens=True).values())
    assert [*vocabulary.image_ids] == whole.ids_of([span.text])[0]
    assert [[number] for number in vocabulary.token_ids] == whole.ids_of(made.vocabulary)
    assert vocabulary.pad_token_id == whole.pad_token_id
    assert vocabulary.added == {token: whole.id_of(token) for token in whole.added}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("tokenizer", ["byte", *REAL, "smolvlm2_split"])
def test_vocabularies_are_those_of_the_whole_tokenizer(tokenizer: str, encoder: str) -> None:
    check_vocabulary(load_tokenizer(params_of(tokenizer)), encoder)


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


def test_what_is_not_loaded_are_the_merges() -> None:
    content = loaded_of(Tokenizer(models.BPE(vocab=WORDS, merges=[("a", "b")], unk_token="<unk>"))).content
    bare = json.loads(Definition.read(content).without_merges())
    whole = json.loads(content)
    assert len(whole["model"]["merges"]) == 1
    assert bare == {**whole, "model": {**whole["model"], "merges": []}}
    assert Definition.read(content).highest_id() == 4
    assert Definition.read(b'{"model": {"vocab": {"a": 7, "b": 1}}}').highest_id() == 7
    assert Definition.read(b'{"model": {"vocab": [["a", 0.5], ["b", 0.25]]}}').highest_id() == 1


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"model": {}}', b'{"model": {"vocab": 3}}', b'{"model": {"vocab": {"a": 1}}}', b"\xff"]
)
def test_what_is_no_tokenizer_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    params = BYTE.model_copy(update={"source": "folder", "location": str(tmp_path)})
    with pytest.raises(TokenizerError, match=r"conf/tokenizer/byte\.yaml.*is no tokenizer"):
        _make_vocabulary(load_tokenizer(params), create_encoder("factorized"), "")
    loaded = replace(load_tokenizer(BYTE), content=content)
    with pytest.raises(TokenizerError, match="is no tokenizer"):
        extend_tokenizer(loaded, (), image_span(BYTE.image))
