"""Model families: how many tokens an image takes, and which. One file per family, one line here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from owa_data.errors import ParamsError, TokenizerError
from owa_data.fsl.families.internvl import INTERNVL
from owa_data.fsl.families.plain import PLAIN
from owa_data.fsl.families.qwen2_5_vl import QWEN2_5_VL
from owa_data.fsl.families.qwen3_vl import QWEN3_VL
from owa_data.fsl.families.smolvlm import SMOLVLM
from owa_data.fsl.families.span import Family, ImageSpan
from owa_data.params import ImageParams

FAMILIES: dict[str, Family] = {
    "plain": PLAIN,
    "internvl": INTERNVL,
    "smolvlm": SMOLVLM,
    "qwen2_5_vl": QWEN2_5_VL,
    "qwen3_vl": QWEN3_VL,
}


def family_of(params: ImageParams) -> Family:
    """Return the family that params name.

    Raises:
        ParamsError: Unknown family.
    """
    if params.family not in FAMILIES:
        raise ParamsError("tokenizer.image.family", f"{params.family!r} is not known. Families: {', '.join(FAMILIES)}")
    return FAMILIES[params.family]


def image_span(params: ImageParams) -> ImageSpan:
    """Return the tokens that one image of `params.image_size_px` takes.

    Raises:
        ParamsError: Unknown family, or a processor setting that it does not know.
    """
    return family_of(params).span(params)


@cache
def image_pattern() -> re.Pattern[str]:
    """Return what matches the text of one image of any family."""
    return re.compile("|".join(dict.fromkeys(family.pattern for family in FAMILIES.values())))


@cache
def image_run_pattern() -> re.Pattern[str]:
    """Return what matches a run of image tokens of any family, whole images and remains of them."""
    patterns = "".join(family.pattern for family in FAMILIES.values())
    tokens = dict.fromkeys(re.findall(r"<(?:\\.|[^<>\\])+>", patterns))
    return re.compile(rf"(?:(?:{'|'.join(tokens)})\n*)+")


def check_processor(facts: Mapping[str, Any], processor: Any, **images_kwargs: Any) -> None:
    """Refuse a processor of `transformers` that gives images another number of tokens than the rows have.

    Args:
        facts: `facts` of the fsl dataset's `owa.json`.
        processor: As from `AutoProcessor.from_pretrained`.
        images_kwargs: What its image processor is called with, such as `do_image_splitting=False`.

    Raises:
        TokenizerError: Both numbers, and what to do.
    """
    params = ImageParams.model_validate(facts["tokenizer"]["image"])
    span = image_span(params)
    found = family_of(params).count(processor, params.image_size_px, images_kwargs)
    if found != span.num_image_tokens:
        width, height = params.image_size_px
        raise TokenizerError(
            f"an image of {width}x{height} has {span.num_image_tokens} {span.image_token} in the rows, but {type(processor).__name__} gives "
            f"{found}. Give the processor the settings {dict(params.processor)}, or set those of the processor under image.processor in "
            f"conf/tokenizer/{facts['tokenizer']['name']}.yaml and rebuild, `dvc repro fsl`"
        )
