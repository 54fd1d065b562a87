"""What the Qwen-VL families share: an image is resized to multiples of a factor, one token per block of that size.

Source: `Qwen2VLImageProcessor` and `Qwen3VLProcessor` of transformers 5.23.
"""

from __future__ import annotations

from math import ceil, floor, sqrt
from typing import Any

from owa_data.errors import ParamsError
from owa_data.fsl.families.span import Family, ImageSpan, settings_of
from owa_data.params import ImageParams

_PAD = "<|image_pad|>"
_MAX_ASPECT_RATIO = 200


def qwen_family(defaults: dict[str, bool | int]) -> Family:
    """Return a family with these default settings: `patch_size`, `merge_size`, `min_pixels`, `max_pixels`."""

    def span(params: ImageParams) -> ImageSpan:
        settings = settings_of(params, defaults)
        factor = settings["patch_size"] * settings["merge_size"]
        width, height = resized(params.image_size_px, factor, settings["min_pixels"], settings["max_pixels"])
        num_tokens = (width // factor) * (height // factor)
        return ImageSpan((("<|vision_start|>", 1), (_PAD, num_tokens), ("<|vision_end|>", 1)), _PAD)

    return Family(span, r"<\|vision_start\|>(?:<\|image_pad\|>)+<\|vision_end\|>", _count)


def resized(size_px: tuple[int, int], factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Return the width and height, multiples of `factor`, that an image is resized to; about as many pixels as before, within limits.

    Raises:
        ParamsError: An image that the processor refuses.
    """
    if max(size_px) > _MAX_ASPECT_RATIO * min(size_px):
        raise ParamsError("tokenizer.image.image_size_px", f"{size_px}: one side is over {_MAX_ASPECT_RATIO} times the other")
    width, height = (round(side / factor) * factor for side in size_px)
    num_pixels = size_px[0] * size_px[1]
    if width * height > max_pixels:
        shrink = sqrt(num_pixels / max_pixels)
        width, height = (max(factor, floor(side / shrink / factor) * factor) for side in size_px)
    elif width * height < min_pixels:
        grow = sqrt(min_pixels / num_pixels)
        width, height = (ceil(side * grow / factor) * factor for side in size_px)
    return width, height


def _count(processor: Any, size_px: tuple[int, int], images_kwargs: dict[str, Any]) -> int:
    width, height = size_px
    num_patches = processor.image_processor.get_number_of_image_patches(height, width, images_kwargs)
    merge_size = images_kwargs.get("merge_size") or processor.image_processor.merge_size
    return int(num_patches // merge_size**2)
