"""A `tokenizer.json`, extended by tokens as the `tokenizers` library does it, without loading it.

Loading a tokenizer of 150,000 entries takes half a second and more, most of it for what says how text is cut. Event tokens and image tokens are tokens of
their own: their ids follow from the vocabulary alone, and the extended definition is the given one with more `added_tokens`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec

from owa_data.errors import BROKEN_JSON, TokenizerError
from owa_data.fsl.tokenizer import FILE_NAME, LoadedTokenizer
from owa_data.params import TokenizerParams

_Parts = dict[str, msgspec.Raw]
_NULL = msgspec.Raw(b"null")


class _Token(msgspec.Struct):
    id: int
    content: str


class _AddedToken(_Token):
    """A token as `AddedToken(content, normalized=False)` is written."""

    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    special: bool = False


@dataclass(frozen=True)
class Definition:
    """A `tokenizer.json`.

    Attributes:
        parts: Its parts as they are written.
        vocabulary: Ids of the model's entries, which may leave ids out.
        tokens: Ids of the tokens of their own, in the order in which they are written.
        new: Those of them that had no id before they were added.
        is_plain: Whether no id is left out, and tokens have the ids that they are given when they are added one after another. Of others,
            only `tokenizers` can say which ids they have once loaded.
    """

    parts: dict[str, msgspec.Raw]
    vocabulary: dict[str, int]
    tokens: dict[str, int]
    new: tuple[str, ...] = ()
    is_plain: bool = True

    def id_of(self, token: str) -> int | None:
        """Return the id of a token or entry, None where there is none."""
        return self.tokens.get(token, self.vocabulary.get(token))

    @property
    def num_ids(self) -> int:
        """The highest id and 1."""
        return 1 + max(max(self.vocabulary.values(), default=-1), max(self.tokens.values(), default=-1))

    def extended(self, tokens: Iterable[str]) -> Definition:
        """Return a definition in which these are tokens of their own; ids in sorted order, as tokenizers extended for D2E have them.

        An entry of the vocabulary keeps its id, others get the ids that follow the highest one: the rule of `tokenizers`
        (`AddedVocabulary::add_tokens`) for definitions that are plain, by which it finds the same ids when it loads this one.
        """
        ids, new = dict(self.tokens), []
        next_id = self.num_ids
        for token in sorted(set(tokens) - set(ids)):
            ids[token] = self.vocabulary.get(token, next_id)
            if token not in self.vocabulary:
                new.append(token)
                next_id += 1
        written = msgspec.json.decode(self.parts["added_tokens"], type=list[msgspec.Raw])
        written += [msgspec.Raw(msgspec.json.encode(_AddedToken(ids[token], token))) for token in [*ids][len(self.tokens) :]]
        return replace(
            self, parts={**self.parts, "added_tokens": msgspec.Raw(msgspec.json.encode(written))}, tokens=ids, new=(*new,)
        )

    def content(self) -> bytes:
        """Return it as a file, which neither pads nor truncates."""
        return msgspec.json.format(msgspec.json.encode({**self.parts, "truncation": _NULL, "padding": _NULL}), indent=-1)


def read_definition(loaded: LoadedTokenizer) -> Definition:
    """Read a tokenizer's definition; 0.2 s for 150,000 entries.

    Raises:
        TokenizerError: It is none.
    """
    try:
        parts = msgspec.json.decode(loaded.content, type=_Parts)
        parts.setdefault("added_tokens", msgspec.Raw(b"[]"))
        tokens = msgspec.json.decode(parts["added_tokens"], type=list[_Token])
        model = msgspec.json.decode(parts["model"], type=_Parts)
        entries = msgspec.json.decode(model["vocab"], type=dict[str, int] | list[tuple[str, float]])
    except (*BROKEN_JSON, KeyError) as error:
        raise not_a_tokenizer(loaded.params, error) from error
    # A list holds entries with their scores; their places are their ids.
    vocabulary = entries if isinstance(entries, dict) else {entry: number for number, (entry, _) in enumerate(entries)}
    ids = {token.content: token.id for token in tokens}
    is_plain = len(ids) == len(tokens) and _is_plain(vocabulary, len(entries), ids)
    return Definition(parts, vocabulary, ids, is_plain=is_plain)


def _is_plain(vocabulary: dict[str, int], num_entries: int, tokens: dict[str, int]) -> bool:
    if "" in tokens or not len(vocabulary) == num_entries == 1 + max(vocabulary.values(), default=-1):
        return False
    ids = [vocabulary.get(token) for token in tokens]
    added = iter(range(num_entries, num_entries + ids.count(None)))
    return [*tokens.values()] == [next(added) if number is None else number for number in ids]


def not_a_tokenizer(params: TokenizerParams, cause: Exception) -> TokenizerError:
    """Return the error to raise where the content cannot be used."""
    return TokenizerError(
        f"conf/tokenizer/{params.name}.yaml: {FILE_NAME} of {params.location or 'the built-in tokenizer'} is no tokenizer ({cause}). "
        "Write it anew: `AutoTokenizer.from_pretrained(...).save_pretrained(folder)`"
    )
