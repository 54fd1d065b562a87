"""Encoders by name. A new encoding is one file and one line here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Protocol

from owa_data.encoding.decoded import Decoded
from owa_data.encoding.events import Events
from owa_data.encoding.factorized import factorized
from owa_data.encoding.flat import flat
from owa_data.encoding.hierarchical import hierarchical
from owa_data.encoding.hierarchical_tokens import hierarchical_tokens
from owa_data.encoding.json_text import json_text
from owa_data.encoding.pieces import EncodedEvents
from owa_data.encoding.token_text import TokenText
from owa_data.errors import ParamsError


class Encoder(Protocol):
    """Turns events into runs of pieces, and text back into events."""

    @property
    def name(self) -> str:
        """As in the registry."""
        ...

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Tokens that a tokenizer must have for this encoding, sorted."""
        ...

    @property
    def pieces(self) -> tuple[str, ...]:
        """All pieces that it writes; empty where they depend on the events."""
        ...

    @property
    def piece_tokens(self) -> tuple[tuple[str, ...], ...]:
        """The tokens of each of `pieces`: of the vocabulary, or `IMAGE_PLACEHOLDER`."""
        ...

    @property
    def separator(self) -> str:
        """Stands between events."""
        ...

    def encode(self, events: Events) -> EncodedEvents:
        """Encode events in their order."""
        ...

    def decode(self, text: TokenText) -> Decoded:
        """Decode the whole events of a text and list what is broken; never raises on content."""
        ...


ENCODERS: dict[str, Callable[..., Encoder]] = {
    "factorized": factorized,
    "hierarchical_tokens": hierarchical_tokens,
    "hierarchical": hierarchical,
    "json": json_text,
    "flat": flat,
}


def check_name(name: str, key: str = "fsl.encoder") -> None:
    """Check that there is an encoder of a name, which the user calls `key`.

    Raises:
        ParamsError: There is none.
    """
    if name not in ENCODERS:
        raise ParamsError(key, f"{name!r} is not known. Encoders: {', '.join(ENCODERS)}")


def create_encoder(name: str, **options: bool) -> Encoder:
    """Return the encoder of a name.

    Args:
        name: A key of `ENCODERS`.
        options: Options of the encoding that are on. One that is off need not be known to it.

    Raises:
        ParamsError: No such encoding, or an option that it does not have.
    """
    check_name(name)
    known = list(inspect.signature(ENCODERS[name]).parameters)
    wanted = [option for option, is_on in options.items() if is_on]
    for option in wanted:
        if option not in known:
            raise ParamsError(f"fsl.encoder_options.{option}", f"{name} has no such option. It has: {', '.join(known) or 'none'}")
    return ENCODERS[name](**dict.fromkeys(wanted, True))
