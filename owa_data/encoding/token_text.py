"""Text to decode, with the place of each character in what was given: a string, or token ids."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]

_TOKEN = re.compile(r"<[^<>]*>|[^<]+|<")
# What may stand between events: space, and the end markers of chat models.
_SILENT = re.compile(r"(?:\s|<\|(?:endoftext|end_of_text|im_start|im_end|eot_id)\|>|<end_of_utterance>|</?s>)*")


@dataclass(frozen=True)
class TokenText:
    """Text in which every image span stands as one image placeholder.

    Attributes:
        text: n characters.
        positions: Place of each character in what was given, counted in characters or tokens, int64 (n,), ascending.
    """

    text: str
    positions: Int64s

    @staticmethod
    def of(text: str) -> TokenText:
        """Take text as it is."""
        return TokenText(text, np.arange(len(text)))

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the places `[start, end)` of the characters `[start, end)`, of which there is at least one."""
        return int(self.positions[start]), int(self.positions[end - 1]) + 1


def is_silent(text: str) -> bool:
    """Whether this may stand between events without being broken: space and end markers."""
    return _SILENT.fullmatch(text) is not None


def shorten(text: str) -> str:
    """Return text as it stands in messages: quoted, at most 40 characters."""
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def split_tokens(text: TokenText) -> tuple[list[str], Int64s, Int64s]:
    """Split text into `<...>` tokens and what stands between them.

    Returns:
        The tokens, and the places `[start, end)` of each, int64 (k,).
    """
    matches = list(_TOKEN.finditer(text.text))
    bounds = np.array([match.span() for match in matches], np.int64).reshape(-1, 2)
    if not matches:
        return [], bounds[:, 0], bounds[:, 1]
    return [match.group() for match in matches], text.positions[bounds[:, 0]], text.positions[bounds[:, 1] - 1] + 1
