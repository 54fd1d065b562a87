"""The `hierarchical_tokens` encoding: plain numbers as tokens `<0>`..`<255>`. Vocabulary: 263 tokens. Time wraps every 16 s.

<EVENT_START><KEYBOARD> t t t <87><press><EVENT_END>
"""

from __future__ import annotations

from owa_data.encoding.token_scheme import FLAG_BASES, FRAME_TOKENS, Number, TokenScheme

_NUMBERS = tuple(f"<{number}>" for number in range(256))
_PRESSED = ("<release>", "<press>")


def _places(*bases: int) -> tuple[tuple[str, ...], ...]:
    return tuple(_NUMBERS[:base] for base in bases)


_SCHEME = TokenScheme(
    name="hierarchical_tokens",
    vocabulary=tuple(sorted([*_NUMBERS, *_PRESSED, *FRAME_TOKENS])),
    time=Number("a digit of the time", _places(16, 10, 10)),
    key=Number("a key", _places(256)),
    pressed=Number("press or release", (_PRESSED,)),
    motion=Number("a digit of the motion", _places(2, 20, 10, 10), "complement"),
    flags=Number("a digit of the button flags", _places(*FLAG_BASES)),
    wheel=Number("a digit of the wheel", _places(2, 10), "complement"),
    is_interleaved=True,
)


def hierarchical_tokens() -> TokenScheme:
    """Return the encoder."""
    return _SCHEME
