"""Qwen3-VL: `<|vision_start|>`, one `<|image_pad|>` per 32x32 pixels, `<|vision_end|>`. The limits are those of its checkpoints."""

from __future__ import annotations

from owa_data.fsl.families.qwen_vl import qwen_family

QWEN3_VL = qwen_family({"patch_size": 16, "merge_size": 2, "min_pixels": 256 * 256, "max_pixels": 4096 * 4096})
