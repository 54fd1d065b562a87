"""The embedded tokenizer for trying out: `<img>`, a fixed number of `<IMG_CONTEXT>`, `</img>`, as InternVL writes images."""

from __future__ import annotations

from owa_data.errors import ParamsError
from owa_data.fsl.families.internvl import INTERNVL
from owa_data.fsl.families.span import Family, ImageSpan, settings_of
from owa_data.params import ImageParams


def plain_span(params: ImageParams) -> ImageSpan:
    """Return a span of `processor.image_seq_length` image tokens between two markers, whatever the image size."""
    length = settings_of(params, {"image_seq_length": 64})["image_seq_length"]
    return ImageSpan((("<img>", 1), ("<IMG_CONTEXT>", int(length)), ("</img>", 1)), "<IMG_CONTEXT>")


def _count(*_: object) -> int:
    raise ParamsError("tokenizer.image.family", "plain is the embedded tokenizer for trying out; no processor belongs to it")


PLAIN = Family(plain_span, INTERNVL.pattern, _count)
