"""A tokenizer extended by the event tokens and image tokens that it lacks.

Input: a loaded tokenizer. Output: a new one; the given one is not touched. Only the `tokenizers` library is used, which loads five times as
fast as `transformers`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from owa_data.encoding.pieces import IMAGE_PLACEHOLDER
from owa_data.errors import TokenizerError
from owa_data.fsl.definition import Definition, not_a_tokenizer, read_definition
from owa_data.fsl.families.span import ImageSpan
from owa_data.fsl.tokenizer import LoadedTokenizer
from owa_data.params import TokenizerParams

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class ExtendedTokenizer:
    """A tokenizer with the event tokens and the image tokens that it lacked.

    Attributes:
        tokenizer: A new object; the loaded one is not touched.
        added: The tokens that were added, in order of their ids.
        pad_token_id: Id of the pad token.
        span: The tokens of one image.
    """

    tokenizer: Tokenizer
    added: tuple[str, ...]
    pad_token_id: int
    span: ImageSpan

    def id_of(self, token: str) -> int:
        """Return the id of a token of the extended vocabulary."""
        found = self.tokenizer.token_to_id(token)
        assert found is not None, token
        return found

    def ids_of(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text; no special tokens are put around it."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def ids_of_pieces(self, pieces: Sequence[str]) -> list[list[int]]:
        """Return the ids of each piece; the image placeholder stands for the whole image span."""
        return self.ids_of([piece.replace(IMAGE_PLACEHOLDER, self.span.text) for piece in pieces])

    def check_cuts(self, pieces: Sequence[str], ids: Sequence[Sequence[int]]) -> None:
        """Check that the ids of pieces, one after another, are those of their text as a whole.

        Raises:
            TokenizerError: They are not: the tokenizer joins tokens across the ends of pieces, so that it cannot be used by pieces.
        """
        joined = list(itertools.chain.from_iterable(ids))
        if self.ids_of_pieces(["".join(pieces)])[0] != joined:
            raise TokenizerError(
                f"the tokenizer gives the text {''.join(pieces[:3])[:80]!r}... other ids as a whole than by its parts; "
                "choose a token encoding for it, fsl.encoder=factorized"
            )


def extend_definition(loaded: LoadedTokenizer, vocabulary: Sequence[str], span: ImageSpan) -> tuple[Definition, int]:
    """Add the tokens that a tokenizer lacks to its definition; returns also the id of its pad token.

    Args:
        loaded: The tokenizer.
        vocabulary: Event tokens of the encoder.
        span: The image's tokens.

    Raises:
        TokenizerError: It is no tokenizer, one whose ids cannot be kept, or the pad token is not in its vocabulary.
    """
    wanted = {*vocabulary, *span.tokens}
    definition = read_definition(loaded)
    definition = definition.extended(wanted) if definition.is_plain else _extended_by_library(loaded, wanted)
    pad_token_id = definition.id_of(loaded.params.pad_token)
    if pad_token_id is None:
        raise TokenizerError(
            f"conf/tokenizer/{loaded.params.name}.yaml: pad_token {loaded.params.pad_token!r} is not in the tokenizer's vocabulary"
        )
    return definition, pad_token_id


def _extended_by_library(loaded: LoadedTokenizer, tokens: AbstractSet[str]) -> Definition:
    """Do as `Definition.extended` for any definition; a second."""
    from tokenizers import AddedToken

    tokenizer = load_content(loaded.params, loaded.content)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    lacking = sorted(tokens - {token.content for token in tokenizer.get_added_tokens_decoder().values()})
    new = tuple(token for token in lacking if tokenizer.token_to_id(token) is None)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in lacking])
    content = tokenizer.to_str().encode()
    again = load_content(loaded.params, content)
    if again.get_vocab(with_added_tokens=True) != tokenizer.get_vocab(with_added_tokens=True):
        raise TokenizerError(
            f"conf/tokenizer/{loaded.params.name}.yaml: its vocabulary leaves ids out, and event tokens would have others each time it is loaded. "
            "Choose another tokenizer, or add the tokens of fsl.encoder to it and save it with consecutive ids"
        )
    ids = {token.content: number for number, token in again.get_added_tokens_decoder().items()}
    return replace(read_definition(replace(loaded, content=content)), tokens=ids, new=new)


def load_content(params: TokenizerParams, content: bytes) -> Tokenizer:
    """Load a definition.

    Raises:
        TokenizerError: It is none.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_buffer(content)
    except ValueError as error:
        raise not_a_tokenizer(params, error) from error


def extend_tokenizer(loaded: LoadedTokenizer, vocabulary: Sequence[str], span: ImageSpan) -> ExtendedTokenizer:
    """Load a tokenizer with the tokens that it lacks; arguments and errors as `extend_definition`, but half a second and more."""
    definition, pad_token_id = extend_definition(loaded, vocabulary, span)
    return ExtendedTokenizer(load_content(loaded.params, definition.content()), definition.new, pad_token_id, span)
