"""Options that all transforms share, and the image loader that they make."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsIndex, TypedDict, Unpack

from owa_data.errors import ParamsError
from owa_data.transforms.images import Decoder, ImageLoader, OnImageError
from owa_data.transforms.media import MediaFinder


class ImageOptions(TypedDict, total=False):
    """Keyword arguments of every transform.

    recordings: Folder or URL of the recordings; default: `OWA_DATA_RECORDINGS`, then `raw.dir` of `params.yaml`.
    image_size_px: Width and height that images are scaled to; default: theirs, for `fsl` those of the dataset's tokenizer.
    decoder: `pyav` (default), `tensorcodec` or `torchcodec`.
    on_image_error: `error` (default), `skip` or `placeholder`; counted in `transform.counts`.
    allow_outside: Follow references that leave the recording's folder; default False.
    """

    recordings: str
    image_size_px: tuple[int, int] | None
    decoder: Decoder
    on_image_error: OnImageError
    allow_outside: bool


def check_options(function: Callable[..., Any], options: Mapping[str, object]) -> None:
    """Check the keyword arguments that a transform's `**options` took, since whoever misspells one would get the default without a word.

    Raises:
        TypeError: One that neither `function` nor `ImageOptions` names.
    """
    named = [name for name, part in inspect.signature(function).parameters.items() if part.kind is not part.VAR_KEYWORD]
    known = [*named, *ImageOptions.__annotations__]
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, 1)
            meant = f"did you mean {near[0]!r}? " if near else ""
            raise TypeError(f"{function.__name__}: unknown argument {option!r}; {meant}Known: {', '.join(known)}")


def _is_size(size_px: object) -> bool:
    return (
        isinstance(size_px, Sequence)
        and len(size_px) == 2
        and all(isinstance(side, SupportsIndex) and int(side) > 0 for side in size_px)
    )


def make_loader(**options: Unpack[ImageOptions]) -> ImageLoader:
    """Make the image loader of a transform.

    Raises:
        ParamsError: An unknown decoder or policy, or no image size.
    """
    size_px = options.get("image_size_px")
    if size_px is not None and not _is_size(size_px):
        raise ParamsError("image_size_px", f"is {size_px!r}. Give (width, height), whole numbers above 0, such as (448, 448)")
    return ImageLoader(
        MediaFinder(str(options.get("recordings") or ""), options.get("allow_outside", False)),
        (int(size_px[0]), int(size_px[1])) if size_px else None,
        options.get("decoder", "pyav"),
        options.get("on_image_error", "error"),
    )
