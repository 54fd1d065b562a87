"""The embedded tokenizer for trying out: `<img>`, a fixed number of `<IMG_CONTEXT>`, `</img>`, as InternVL writes images."""

from __future__ import annotations

from owa_data.fsl.families.span import ImageSpan, settings_of
from owa_data.params import ImageParams


def plain_span(params: ImageParams) -> ImageSpan:
    """Return a span of `processor.image_seq_length` image tokens between two markers, whatever the image size."""
    length = settings_of(params, {"image_seq_length": 64})["image_seq_length"]
    return ImageSpan((("<img>", 1), ("<IMG_CONTEXT>", int(length)), ("</img>", 1)), "<IMG_CONTEXT>")
