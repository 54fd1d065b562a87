"""Qwen2.5-VL: `<|vision_start|>`, one `<|image_pad|>` per 28x28 pixels, `<|vision_end|>`. The limits are those of its checkpoints."""

from __future__ import annotations

from owa_data.fsl.families.qwen_vl import qwen_family

QWEN2_5_VL = qwen_family({"patch_size": 14, "merge_size": 2, "min_pixels": 56 * 56, "max_pixels": 28 * 28 * 16384})
