"""InternVL3 and 3.5: `<img>`, 256 `<IMG_CONTEXT>` per tile, `</img>`.

Source: `InternVLProcessor` and `GotOcr2ImageProcessor` of transformers 5.23; 256 is (448 / 14)^2 * 0.5^2.
"""

from __future__ import annotations

from typing import Any

from owa_data.fsl.families.span import Family, ImageSpan, settings_of
from owa_data.params import ImageParams

_DEFAULTS: dict[str, bool | int] = {
    "image_seq_length": 256,
    "crop_to_patches": False,
    "min_patches": 1,
    "max_patches": 12,
    "tile_size_px": 448,
}


def internvl_span(params: ImageParams) -> ImageSpan:
    """Return the span: one tile, or with `crop_to_patches` as many as the aspect ratio asks for, and one of the whole image."""
    settings = settings_of(params, _DEFAULTS)
    num_tiles = 1
    if settings["crop_to_patches"] and settings["max_patches"] > 1:
        columns, rows = tile_grid(
            params.image_size_px, settings["tile_size_px"], settings["min_patches"], settings["max_patches"]
        )
        num_tiles = columns * rows + (columns * rows > 1)
    length = int(settings["image_seq_length"]) * num_tiles
    return ImageSpan((("<img>", 1), ("<IMG_CONTEXT>", length), ("</img>", 1)), "<IMG_CONTEXT>")


def tile_grid(size_px: tuple[int, int], tile_px: int, min_tiles: int, max_tiles: int) -> tuple[int, int]:
    """Return (columns, rows) of the grid whose aspect ratio is nearest to the image's.

    Grids are tried by ascending number of tiles. Of equally near ones the later is taken while the image has more than half its area.
    """
    width, height = size_px
    grids = sorted(
        {
            (columns, rows)
            for columns in range(1, max_tiles + 1)
            for rows in range(1, max_tiles + 1)
            if min_tiles <= columns * rows <= max_tiles
        },
        key=lambda grid: grid[0] * grid[1],
    )
    chosen, best = (1, 1), float("inf")
    for columns, rows in grids:
        distance = abs(width / height - columns / rows)
        is_covered = width * height > 0.5 * tile_px * tile_px * columns * rows
        if distance < best or (distance == best and is_covered):
            chosen, best = (columns, rows), distance
    return chosen


def _count(processor: Any, size_px: tuple[int, int], images_kwargs: dict[str, Any]) -> int:
    width, height = size_px
    num_tiles = processor.image_processor.get_number_of_image_patches(height, width, images_kwargs)
    return int(num_tiles * processor.image_seq_length)


INTERNVL = Family(internvl_span, r"<img>(?:<IMG_CONTEXT>)+</img>", _count)
