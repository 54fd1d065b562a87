"""Model families: how many tokens an image takes, and which. One file per family, one line here."""

from __future__ import annotations

from collections.abc import Callable

from owa_data.errors import ParamsError
from owa_data.fsl.families.internvl import internvl_span
from owa_data.fsl.families.plain import plain_span
from owa_data.fsl.families.smolvlm import smolvlm_span
from owa_data.fsl.families.span import ImageSpan
from owa_data.params import ImageParams

FAMILIES: dict[str, Callable[[ImageParams], ImageSpan]] = {
    "plain": plain_span,
    "internvl": internvl_span,
    "smolvlm": smolvlm_span,
}


def image_span(params: ImageParams) -> ImageSpan:
    """Return the tokens that one image of `params.image_size_px` takes.

    Raises:
        ParamsError: Unknown family, or a processor setting that it does not know.
    """
    if params.family not in FAMILIES:
        raise ParamsError("tokenizer.image.family", f"{params.family!r} is not known. Families: {', '.join(FAMILIES)}")
    return FAMILIES[params.family](params)
