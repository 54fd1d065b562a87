"""The `factorized` encoding: the tokens of the D2E and Generalist-IDM models.

`t` are the decimal digits of the time in 10 ms units modulo 1000, so time wraps every 10 s. Vocabulary: 291 tokens.

    <EVENT_START><KEYBOARD> t t t <VK_87><press><EVENT_END>
"""

from __future__ import annotations

from owa_data.encoding.token_scheme import FLAG_BASES, FRAME_TOKENS, Number, TokenScheme

_DIGITS = tuple(f"<{digit}>" for digit in range(10))
_KEYS = tuple(f"<VK_{vk}>" for vk in range(256))
_FLAGS = tuple(f"<MB_{digit}>" for digit in range(16))
_SIGNS = ("<SIGN_PLUS>", "<SIGN_MINUS>")
_PRESSED = ("<release>", "<press>")

_SCHEME = TokenScheme(
    name="factorized",
    vocabulary=tuple(sorted([*_DIGITS, *_KEYS, *_FLAGS, *_SIGNS, *_PRESSED, *FRAME_TOKENS])),
    time=Number("a digit of the time", (_DIGITS,) * 3),
    key=Number("a key", (_KEYS,)),
    pressed=Number("press or release", (_PRESSED,)),
    motion=Number("a digit of the motion", (_SIGNS, _DIGITS[:2], _DIGITS, _DIGITS, _DIGITS), "sign"),
    flags=Number("a digit of the button flags", tuple(_FLAGS[:base] for base in FLAG_BASES)),
    wheel=Number("a digit of the wheel", (_SIGNS, _DIGITS), "sign"),
    is_interleaved=False,
)


def factorized() -> TokenScheme:
    """Return the encoder."""
    return _SCHEME
