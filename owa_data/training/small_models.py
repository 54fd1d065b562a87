"""Small randomly initialised models of the real `transformers` classes, for trying out, tests and the proof in docs/training.md.

Input: how images stand among the tokens of a dataset. Output: a model that takes its batches; a few hundred thousand parameters, made in a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any

from owa_data.errors import ParamsError
from owa_data.training.image_tokens import ImageTokens
from owa_data.training.pixels import PADDED_FAMILIES, VisionProcessor


@dataclass(frozen=True)
class ModelSize:
    """Size of a small model: width of the text and of the vision part, layers of each."""

    hidden_size: int = 128
    num_layers: int = 2
    num_heads: int = 4
    vision_hidden_size: int = 32
    num_vision_layers: int = 1


def create_small_model(
    image: ImageTokens,
    *,
    num_tokens: int,
    pad_token_id: int,
    max_sequence_length: int,
    size: ModelSize = ModelSize(),
    seed: int = 0,
) -> Any:
    """Make a model whose image features are as many as the dataset's image tokens.

    Args:
        image: Image tokens of the dataset; its family decides the class, `plain` is taken as InternVL.
        num_tokens: The highest id of the extended tokenizer and 1.
        pad_token_id: Id that fills rows up.
        max_sequence_length: Ids per row.
        size: Width and layers.
        seed: Of the initial weights; PyTorch's global random numbers are left as they were.

    Raises:
        ParamsError: Image size or number of image tokens that no grid of patches gives: both must be square, and the side in pixels a
            multiple of twice the side in tokens.
    """
    import torch

    side_px, side_tokens = image.size_px[0], isqrt(image.num_per_image)
    if image.size_px[0] != image.size_px[1] or side_tokens**2 != image.num_per_image or side_px % (2 * side_tokens):
        raise ParamsError(
            "tokenizer.image",
            f"no square grid of patches gives {image.num_per_image} tokens for images of {image.size_px[0]}x{image.size_px[1]} px; "
            "choose a square size that is a multiple of twice the square root of the number of tokens",
        )
    text = {
        "vocab_size": num_tokens,
        "hidden_size": size.hidden_size,
        "intermediate_size": 4 * size.hidden_size,
        "num_hidden_layers": size.num_layers,
        "num_attention_heads": size.num_heads,
        "num_key_value_heads": size.num_heads,
        "max_position_embeddings": max_sequence_length,
        "pad_token_id": pad_token_id,
        "bos_token_id": None,
        "eos_token_id": pad_token_id,
    }
    vision = {
        "hidden_size": size.vision_hidden_size,
        "intermediate_size": 4 * size.vision_hidden_size,
        "num_hidden_layers": size.num_vision_layers,
        "num_attention_heads": 2,
        # Both classes join patches two by two.
        "image_size": side_px,
        "patch_size": side_px // (2 * side_tokens),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        create = _create_smolvlm if image.family in PADDED_FAMILIES else _create_internvl
        return create(image, text, vision)


def create_small_processor(image: ImageTokens) -> VisionProcessor:
    """Make the processor for a model of `create_small_model`: one tile of the dataset's image size per frame. Needs no download."""
    from transformers import GotOcr2ImageProcessorPil, SmolVLMImageProcessorPil

    width, height = image.size_px
    if image.family in PADDED_FAMILIES:
        longest = {"longest_edge": width}
        return VisionProcessor(SmolVLMImageProcessorPil(size=longest, max_image_size=longest), image.num_per_image)
    return VisionProcessor(GotOcr2ImageProcessorPil(size={"height": height, "width": width}), image.num_per_image)


def _create_internvl(image: ImageTokens, text: dict[str, Any], vision: dict[str, Any]) -> Any:
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    config = InternVLConfig(
        text_config={"model_type": "qwen2", **text},
        vision_config=vision,
        image_token_id=image.image_token_id,
        image_seq_length=image.num_per_image,
        downsample_ratio=0.5,
    )
    return InternVLForConditionalGeneration(config)


def _create_smolvlm(image: ImageTokens, text: dict[str, Any], vision: dict[str, Any]) -> Any:
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

    config = SmolVLMConfig(
        text_config={"model_type": "llama", **text},
        vision_config=vision,
        image_token_id=image.image_token_id,
        scale_factor=2,
        tie_word_embeddings=True,
    )
    return SmolVLMForConditionalGeneration(config)
