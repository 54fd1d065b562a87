"""Transform of the fsl dataset: rows of ids to tensors, and their images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Unpack

import numpy as np

from owa_data.transforms.images import ImageLoader
from owa_data.transforms.options import ImageOptions, check_options, make_loader
from owa_data.transforms.rows import Batch, as_screens, load_image_lists

ImageProcessor = Callable[..., Any]


@dataclass
class FslTransform:
    """See `create_fsl_dataset_transform`. Picklable; `counts` as in `EventTransform`."""

    load_images: bool
    image_processor: ImageProcessor | None
    loader: ImageLoader

    @property
    def counts(self) -> Counter[str]:
        """Counts so far, by what happened."""
        return self.loader.counts

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """Transform a batch."""
        starts = batch.get("start_ns", [None] * len(batch["images"]))
        rows = ["row" if start_ns is None else f"row start_ns {start_ns}" for start_ns in starts]
        images: list[Any]
        if self.load_images:
            images = load_image_lists(batch["images"], batch["episode_path"], rows, self.loader)
            if self.image_processor is not None:
                images = [_process(self.image_processor, part) for part in images]
        else:
            images = as_screens(batch["images"])
        return {
            **batch,
            "input_ids": _as_tensor(batch["input_ids"]),
            "attention_mask": _as_tensor(batch["attention_mask"]),
            "images": images,
        }


@cache
def has_torch() -> bool:
    """Whether PyTorch is installed."""
    return find_spec("torch") is not None


def _as_tensor(rows: Sequence[Sequence[int]]) -> Any:
    """Rows of equal length as one tensor int64 (rows, ids), or a NumPy array without PyTorch."""
    array = np.array(rows, np.int64)
    if not has_torch():
        return array
    import torch

    return torch.from_numpy(array)


def _process(processor: ImageProcessor, images: list[Any]) -> Any:
    """Run an image processor over the images of one row: one of Hugging Face, or any function of a list of images."""
    if not images:
        return images
    if not hasattr(processor, "preprocess"):
        return processor(images)
    processed = processor(images=images, return_tensors="pt" if has_torch() else "np")
    return processed["pixel_values"] if isinstance(processed, Mapping) or hasattr(processed, "pixel_values") else processed


def create_fsl_dataset_transform(
    *,
    load_images: bool = True,
    image_processor: ImageProcessor | None = None,
    **options: Unpack[ImageOptions],
) -> FslTransform:
    """Make a transform for `dataset.set_transform` of an fsl dataset.

    Args:
        load_images: False gives references, as `ScreenCaptured`.
        image_processor: A Hugging Face image processor, or any function of a list of Pillow images; called once per row that has images.
        **options: See `ImageOptions`.

    Returns:
        A transform that gives `input_ids` and `attention_mask` as `torch.Tensor` int64 (NumPy where torch is not installed), `texts`, and `images`: a
        list of Pillow images, or what the image processor returns (its `pixel_values` where it has them).

    Raises:
        TypeError: An unknown argument.
        ParamsError: An unknown decoder or policy.
    """
    check_options(create_fsl_dataset_transform, options)
    return FslTransform(load_images, image_processor, make_loader(**options))
