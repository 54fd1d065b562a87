"""SmolVLM2 and Idefics3: `<fake_token_around_image><global-img>`, 64 `<image>`, `<fake_token_around_image>`.

With `do_image_splitting` the image is enlarged and cut into tiles; each has a marker of its row and column, and the whole image follows.
Source: `SmolVLMProcessor` of transformers 5.23. The prefix is two tokens of the tokenizer's own, never one composite entry.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from owa_data.fsl.families.span import Family, ImageSpan, settings_of
from owa_data.params import ImageParams

_FAKE, _GLOBAL, _IMAGE = "<fake_token_around_image>", "<global-img>", "<image>"
_DEFAULTS: dict[str, bool | int] = {
    "image_seq_len": 64,
    "do_image_splitting": False,
    "longest_edge_px": 2048,
    "tile_size_px": 512,
}
_MAX_EDGE_PX = 4096  # MAX_IMAGE_SIZE of the processor


def smolvlm_span(params: ImageParams) -> ImageSpan:
    """Return the span: 2 + 64 + 1 tokens of an unsplit image, or the tiles row by row and the whole image."""
    settings = settings_of(params, _DEFAULTS)
    length = int(settings["image_seq_len"])
    whole = ((_FAKE, 1), (_GLOBAL, 1), (_IMAGE, length), (_FAKE, 1))
    columns, rows = (0, 0)
    if settings["do_image_splitting"]:
        columns, rows = tile_grid(params.image_size_px, settings["longest_edge_px"], settings["tile_size_px"])
    if not columns:
        return ImageSpan(whole, _IMAGE)
    runs: list[tuple[str, int]] = []
    for row in range(1, rows + 1):
        for column in range(1, columns + 1):
            runs += [(_FAKE, 1), (f"<row_{row}_col_{column}>", 1), (_IMAGE, length)]
        # The newline that ends the last row and the one before the whole image are one token.
        runs.append(("\n" if row < rows else "\n\n", 1))
    return ImageSpan((*runs, *whole), _IMAGE)


def tile_grid(size_px: tuple[int, int], longest_edge_px: int, tile_px: int) -> tuple[int, int]:
    """Return (columns, rows) of the tiles; (0, 0) where the enlarged image is a single one."""
    width, height = _with_longest_edge(*size_px, longest_edge_px)
    if max(width, height) > _MAX_EDGE_PX:
        ratio = width / height
        width, height = (
            (_MAX_EDGE_PX, int(_MAX_EDGE_PX / ratio)) if width >= height else (int(_MAX_EDGE_PX * ratio), _MAX_EDGE_PX)
        )
    columns, rows = ceil(max(width, 1) / tile_px), ceil(max(height, 1) / tile_px)
    return (columns, rows) if columns * rows > 1 else (0, 0)


def _with_longest_edge(width: int, height: int, edge: int) -> tuple[int, int]:
    ratio = width / height
    if width >= height:
        shorter = int(edge / ratio)
        return edge, max(shorter + shorter % 2, 1)
    shorter = int(edge * ratio)
    return max(shorter + shorter % 2, 1), edge


def _count(processor: Any, size_px: tuple[int, int], images_kwargs: dict[str, Any]) -> int:
    width, height = size_px
    num_tiles, _, _ = processor.image_processor.get_number_of_image_patches(height, width, images_kwargs)
    return int(max(num_tiles, 1) * processor.image_seq_len)


SMOLVLM = Family(
    smolvlm_span,
    rf"(?:(?:(?:{_FAKE}<row_\d+_col_\d+>(?:{_IMAGE})+)+\n)+\n)?{_FAKE}{_GLOBAL}(?:{_IMAGE})+{_FAKE}",
    _count,
)
