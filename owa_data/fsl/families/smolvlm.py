"""SmolVLM2 and Idefics3: `<fake_token_around_image><global-img>`, 64 `<image>`, `<fake_token_around_image>`.

Source: `SmolVLMProcessor` of transformers 5.23. The prefix is two tokens of the tokenizer's own, never one composite entry.
"""

from __future__ import annotations

from owa_data.errors import ParamsError
from owa_data.fsl.families.span import ImageSpan, settings_of
from owa_data.params import ImageParams


def smolvlm_span(params: ImageParams) -> ImageSpan:
    """Return the span of one unsplit image: 2 + 64 + 1 tokens."""
    settings = settings_of(params, {"image_seq_len": 64, "do_image_splitting": False})
    if settings["do_image_splitting"]:
        raise ParamsError("tokenizer.image.processor.do_image_splitting", "splitting is not supported yet; set false")
    fake = "<fake_token_around_image>"
    return ImageSpan(((fake, 1), ("<global-img>", 1), ("<image>", int(settings["image_seq_len"])), (fake, 1)), "<image>")
