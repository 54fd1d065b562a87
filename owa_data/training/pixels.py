"""Images of a batch as the tensors that each model family takes.

Input: lists of PIL images, one per sample, and an image processor. Output: `pixel_values` and what else belongs to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch

from owa_data.errors import ParamsError

Pixels = dict[str, torch.Tensor]
SampleImages = Sequence[Sequence[Any]]


class VisionProcessor(NamedTuple):
    """What a processor of transformers says of images: how they become pixels, and how many image tokens each tile has.

    The whole processor needs packages for video that nothing here uses.
    """

    image_processor: Any
    image_seq_length: int

    @property
    def image_seq_len(self) -> int:
        """The same, as SmolVLM calls it."""
        return self.image_seq_length


@dataclass(frozen=True)
class WholeFrames:
    """Pixels of frames that have the size already that the processor would scale them to: its numbers, in less than half the time.

    Attributes:
        processor: The image processor, for images of another size.
        size_px: Width and height.
        factor: Of the colours, before normalising.
        mean: Of each channel.
        std: Of each channel.
    """

    processor: Callable[..., Any]
    size_px: tuple[int, int]
    factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, *, images: Sequence[Any], return_tensors: str) -> Any:
        """Return `pixel_values` float32 (images, 3, height, width), as the processor does."""
        if any(image.size != self.size_px or image.mode != "RGB" for image in images):
            return self.processor(images=images, return_tensors=return_tensors)
        frames = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
        pixels = frames.to(torch.float32, memory_format=torch.contiguous_format).mul_(self.factor)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return {"pixel_values": pixels.sub_(mean).div_(std)}


def whole_frames(processor: Any, options: Mapping[str, Any], size_px: tuple[int, int]) -> Callable[..., Any]:
    """Return what makes pixels of frames: `WholeFrames` where that is what the processor does with one tile, else the processor itself.

    Args:
        processor: An image processor of transformers.
        options: Of its call, from `split_options`.
        size_px: Width and height of the frames.
    """
    call = partial(processor, **options)
    is_plain = type(processor).__name__.startswith("GotOcr2ImageProcessor") and processor.do_rescale and processor.do_normalize
    if not is_plain or options.get("crop_to_patches", processor.crop_to_patches):
        return call
    if (processor.size["width"], processor.size["height"]) != size_px:
        return call
    return WholeFrames(
        call, size_px, processor.rescale_factor, tuple(map(float, processor.image_mean)), tuple(map(float, processor.image_std))
    )


def flat_pixels(image_processor: Callable[..., Any], images: SampleImages) -> Pixels:
    """Lay out images as InternVL takes them: all of the batch one after another.

    Returns:
        `pixel_values` float32 (images of the batch, 3, height, width), in token order; nothing for a batch without images.
    """
    flat = list(chain.from_iterable(images))
    return {"pixel_values": image_processor(images=flat, return_tensors="pt")["pixel_values"]} if flat else {}


def padded_pixels(image_processor: Callable[..., Any], images: SampleImages) -> Pixels:
    """Lay out images as SmolVLM and Idefics3 take them: by sample, filled up with images of zeros, which the models leave out.

    Returns:
        `pixel_values` float32 (samples, images of the fullest sample, 3, height, width) and `pixel_attention_mask` int64 (samples, images,
        height, width), 1 where a pixel is part of the frame; nothing for a batch without images.
    """
    if not any(images):
        return {}
    made = [image_processor(images=[list(sample)], return_tensors="pt") if sample else None for sample in images]
    return {name: _stack([one and one[name][0] for one in made]) for name in ("pixel_values", "pixel_attention_mask")}


def _stack(parts: Sequence[torch.Tensor | None]) -> torch.Tensor:
    present = [part for part in parts if part is not None]
    shape = [max(sizes) for sizes in zip(*[part.shape for part in present], strict=True)]
    stacked = torch.zeros((len(parts), *shape), dtype=present[0].dtype)
    for row, part in zip(stacked, parts, strict=True):
        if part is not None:
            row[tuple(slice(size) for size in part.shape)] = part
    return stacked


FLAT_FAMILIES = ("plain", "internvl")
PADDED_FAMILIES = ("smolvlm",)  # SmolVLM and Idefics3, which write images alike
# Checkpoints come with one or the other switched on; what counts is how the rows were made.
_UNSPLIT: dict[str, dict[str, Any]] = {"internvl": {"crop_to_patches": False}, "smolvlm": {"do_image_splitting": False}}
_CALL_OPTIONS = ("crop_to_patches", "min_patches", "max_patches", "do_image_splitting")


def split_options(family: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the image processor's call that decide on tiles, as the dataset's tokenizer conf has them.

    Args:
        family: Model family.
        settings: `image.processor` of the conf.
    """
    given = {name: settings[name] for name in _CALL_OPTIONS if name in settings}
    return {**_UNSPLIT.get(family, {}), **given}


def pixel_layout(family: str) -> Callable[[Callable[..., Any], SampleImages], Pixels]:
    """Return the layout of a model family.

    Raises:
        ParamsError: A family without one.
    """
    if family in FLAT_FAMILIES:
        return flat_pixels
    if family in PADDED_FAMILIES:
        return padded_pixels
    known = ", ".join(FLAT_FAMILIES + PADDED_FAMILIES)
    raise ParamsError("tokenizer.image.family", f"{family!r} has no collator. Families with one: {known}")
