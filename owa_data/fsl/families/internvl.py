"""InternVL3 and 3.5: `<img>`, 256 `<IMG_CONTEXT>` per tile, `</img>`.

Source: `InternVLProcessor` of transformers 5.23; 256 is (448 / 14)^2 * 0.5^2.
"""

from __future__ import annotations

from owa_data.errors import ParamsError
from owa_data.fsl.families.span import ImageSpan, settings_of
from owa_data.params import ImageParams


def internvl_span(params: ImageParams) -> ImageSpan:
    """Return the span of one uncropped image: 1 + 256 + 1 tokens."""
    settings = settings_of(params, {"image_seq_length": 256, "crop_to_patches": False})
    if settings["crop_to_patches"]:
        raise ParamsError("tokenizer.image.processor.crop_to_patches", "cropping into tiles is not supported yet; set false")
    length = int(settings["image_seq_length"])
    return ImageSpan((("<img>", 1), ("<IMG_CONTEXT>", length), ("</img>", 1)), "<IMG_CONTEXT>")
