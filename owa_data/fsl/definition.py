"""A `tokenizer.json` in parts: what of it must be loaded to know the ids of tokens, and what is only handed on.

A tokenizer of 150,000 entries takes 0.5 s to load, two thirds of it for the merges: how text is cut that is no token of its own. Whoever asks for the
ids of such tokens alone, as for event tokens and images, needs none of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

Parts = dict[str, msgspec.Raw]


@dataclass(frozen=True)
class Definition:
    """The parts of a `tokenizer.json`, and of its model, as they are written."""

    parts: Parts
    model: Parts

    @classmethod
    def read(cls, content: bytes) -> Definition:
        """Take a definition apart; nothing within its parts is looked at.

        Raises:
            msgspec.DecodeError: It is no JSON object with a model.
        """
        parts = msgspec.json.decode(content, type=Parts)
        return cls(parts, msgspec.json.decode(parts.get("model", b""), type=Parts))

    def without_merges(self) -> bytes:
        """Return a definition under which tokens of their own have the same ids; other text is cut into more of them."""
        if "merges" not in self.model:
            return msgspec.json.encode(self.parts)
        return msgspec.json.encode({**self.parts, "model": {**self.model, "merges": []}})

    def with_parts_of(self, content: bytes) -> bytes:
        """Return another definition with the model of this one."""
        parts = {**msgspec.json.decode(content, type=Parts), "model": self.model}
        return msgspec.json.format(msgspec.json.encode(parts), indent=-1)

    def highest_id(self) -> int:
        """Return the highest id of the model's vocabulary, which may leave ids out."""
        # A list holds tokens with their scores; their places are their ids.
        vocabulary = msgspec.json.decode(self.model["vocab"], type=dict[str, int] | list[msgspec.Raw])
        return len(vocabulary) - 1 if isinstance(vocabulary, list) else max(vocabulary.values(), default=-1)
