"""Encoders by name. A new encoding is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from owa_data.encoding.events import Events
from owa_data.encoding.factorized import FactorizedEncoder
from owa_data.encoding.pieces import EncodedEvents
from owa_data.errors import ParamsError


class Encoder(Protocol):
    """Turns events into runs of pieces."""

    name: str
    vocabulary: tuple[str, ...]
    """Tokens that a tokenizer must have for this encoding, sorted."""
    pieces: tuple[str, ...]
    """All pieces that it writes; empty where they depend on the events."""

    def encode(self, events: Events) -> EncodedEvents:
        """Encode events in their order."""
        ...


ENCODERS: dict[str, Callable[[], Encoder]] = {
    "factorized": FactorizedEncoder,
}


def create_encoder(name: str) -> Encoder:
    """Return the encoder of a name.

    Raises:
        ParamsError: No such encoding.
    """
    if name not in ENCODERS:
        raise ParamsError("fsl.encoder", f"{name!r} is not known. Encoders: {', '.join(ENCODERS)}")
    return ENCODERS[name]()
