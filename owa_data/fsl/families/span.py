"""The tokens of one image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from owa_data.errors import ParamsError
from owa_data.params import ImageParams


@dataclass(frozen=True)
class ImageSpan:
    """Tokens of one image, as runs of (token, times).

    Attributes:
        runs: In order; each token is one entry of the tokenizer's vocabulary, or newlines.
        image_token: The token whose embeddings the model replaces by image features.
    """

    runs: tuple[tuple[str, int], ...]
    image_token: str

    @property
    def tokens(self) -> tuple[str, ...]:
        """Distinct tokens of the span that are entries of their own; newlines are ordinary text."""
        return tuple(dict.fromkeys(token for token, _ in self.runs if not token.isspace()))

    @property
    def has_text(self) -> bool:
        """Whether newlines, which are no entries of their own, are among its tokens."""
        return any(token.isspace() for token, _ in self.runs)

    @property
    def num_tokens(self) -> int:
        """Tokens per image."""
        return sum(times for _, times in self.runs)

    @property
    def num_image_tokens(self) -> int:
        """How many of them are the image token."""
        return sum(times for token, times in self.runs if token == self.image_token)

    @property
    def text(self) -> str:
        """The span written out."""
        return "".join(token * times for token, times in self.runs)


@dataclass(frozen=True)
class Family:
    """How one family of models writes images.

    Attributes:
        span: The tokens of an image of `params.image_size_px` under `params.processor`.
        pattern: Regular expression of an image's text with any number of image tokens.
        count: How many image tokens a processor of `transformers` gives an image of (width, height); arguments: the processor, the size,
            and the keyword arguments that the image processor is called with.
    """

    span: Callable[[ImageParams], ImageSpan]
    pattern: str
    count: Callable[[Any, tuple[int, int], dict[str, Any]], int]


def settings_of(params: ImageParams, defaults: dict[str, bool | int]) -> dict[str, bool | int]:
    """Return the processor settings over their defaults.

    Raises:
        ParamsError: A setting that the family's count does not depend on.
    """
    unknown = sorted(set(params.processor) - set(defaults))
    if unknown:
        raise ParamsError(
            f"tokenizer.image.processor.{unknown[0]}", f"{params.family} counts by {', '.join(defaults) or 'no setting'}"
        )
    return {key: type(value)(params.processor.get(key, value)) for key, value in defaults.items()}
