"""Image spans per family: literal counts, and the counts of the installed processors over many sizes and settings."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owa_data.errors import ParamsError, TokenizerError
from owa_data.fsl.families import FAMILIES, check_processor, family_of, image_pattern, image_span
from owa_data.fsl.families.span import Family, ImageSpan
from owa_data.params import ImageParams

SIZES = st.tuples(st.integers(28, 4000), st.integers(28, 4000)).filter(lambda size: max(size) < 190 * min(size))
BOUNDED = settings(deadline=None, max_examples=150)


def params(family: str, size: tuple[int, int], **processor: Any) -> ImageParams:
    return ImageParams(family=family, image_size_px=size, processor=processor)


def facts(image: ImageParams) -> dict[str, Any]:
    return {"tokenizer": {"name": "mine", "image": image.model_dump(mode="json")}}


def internvl_processor(**settings: Any) -> Any:
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    processor = GotOcr2ImageProcessorPil(size={"height": 448, "width": 448}, **settings)
    return SimpleNamespace(image_processor=processor, image_seq_length=256)


def smolvlm_processor(**settings: Any) -> Any:
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    processor = SmolVLMImageProcessorPil(size={"longest_edge": 2048}, max_image_size={"longest_edge": 512}, **settings)
    return SimpleNamespace(image_processor=processor, image_seq_len=64)


def qwen_processor(**settings: Any) -> Any:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return SimpleNamespace(image_processor=Qwen2VLImageProcessorPil(**settings))


QWEN2_5 = {"patch_size": 14, "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 16384}}
QWEN3 = {"patch_size": 16, "size": {"shortest_edge": 65536, "longest_edge": 16777216}}


@pytest.mark.parametrize(
    ("family", "size", "processor", "num_tokens"),
    [
        ("internvl", (448, 448), {}, 258),
        ("internvl", (1920, 1080), {}, 258),
        ("internvl", (448, 448), {"crop_to_patches": True}, 258),
        ("internvl", (854, 480), {"crop_to_patches": True}, 770),
        ("internvl", (1920, 1080), {"crop_to_patches": True}, 2306),
        ("smolvlm", (512, 512), {}, 67),
        ("smolvlm", (448, 448), {"do_image_splitting": True}, 1127),
        ("smolvlm", (854, 480), {"do_image_splitting": True}, 862),
        ("smolvlm", (2560, 1440), {"do_image_splitting": True}, 862),
        ("qwen2_5_vl", (448, 448), {}, 258),
        ("qwen2_5_vl", (1280, 720), {"max_pixels": 28 * 28 * 1280}, 1198),
        ("qwen2_5_vl", (1920, 1080), {"max_pixels": 28 * 28 * 1280}, 1224),
        ("qwen3_vl", (448, 448), {}, 198),
        ("qwen3_vl", (1920, 1080), {}, 2042),
        ("qwen3_vl", (2560, 1440), {}, 3602),
        ("plain", (10, 10), {}, 66),
    ],
)
def test_tokens_per_image(family: str, size: tuple[int, int], processor: dict[str, Any], num_tokens: int) -> None:
    assert image_span(params(family, size, **processor)).num_tokens == num_tokens


@BOUNDED
@given(SIZES, st.booleans(), st.integers(1, 3), st.integers(3, 12))
def test_internvl_counts_as_its_processor(size: tuple[int, int], crop: bool, least: int, most: int) -> None:
    kwargs = {"crop_to_patches": crop, "min_patches": least, "max_patches": most}
    check_processor(facts(params("internvl", size, **kwargs)), internvl_processor(**kwargs))


@BOUNDED
@given(SIZES, st.booleans())
def test_smolvlm_counts_as_its_processor(size: tuple[int, int], split: bool) -> None:
    check_processor(facts(params("smolvlm", size, do_image_splitting=split)), smolvlm_processor(do_image_splitting=split))


@BOUNDED
@given(SIZES)
@pytest.mark.parametrize(("family", "kwargs"), [("qwen2_5_vl", QWEN2_5), ("qwen3_vl", QWEN3)])
def test_qwen_counts_as_its_processor(family: str, kwargs: dict[str, Any], size: tuple[int, int]) -> None:
    check_processor(facts(params(family, size)), qwen_processor(**kwargs))


@pytest.mark.parametrize("size", [(448, 448), (854, 480), (480, 854), (1920, 1080)])
def test_smolvlm_layout_is_that_of_its_processor(size: tuple[int, int]) -> None:
    from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

    for split in (True, False):
        processor = smolvlm_processor(do_image_splitting=split)
        _, rows, columns = processor.image_processor.get_number_of_image_patches(size[1], size[0])
        text = get_image_prompt_string(rows, columns, 64, "<fake_token_around_image>", "<image>", "<global-img>")
        assert image_span(params("smolvlm", size, do_image_splitting=split)).text == text


def test_another_count_is_refused_with_both_numbers() -> None:
    image = params("smolvlm", (854, 480))
    with pytest.raises(TokenizerError, match=r"854x480 has 64 <image> in the rows, but .* gives 832"):
        check_processor(facts(image), smolvlm_processor(do_image_splitting=True))
    check_processor(facts(image), smolvlm_processor(do_image_splitting=True), do_image_splitting=False)


def test_unknown_families_and_settings_name_the_known_ones() -> None:
    with pytest.raises(ParamsError, match="Families: plain, internvl, smolvlm, qwen2_5_vl, qwen3_vl"):
        image_span(params("clip", (1, 1)))
    with pytest.raises(ParamsError, match="crop: internvl counts by image_seq_length, crop_to_patches"):
        image_span(params("internvl", (1, 1), crop=True))
    with pytest.raises(ParamsError, match="over 200 times"):
        image_span(params("qwen3_vl", (10, 3000)))


@pytest.mark.parametrize("family", FAMILIES)
def test_each_pattern_takes_its_own_span_and_nothing_more(family: str) -> None:
    for processor in ({}, {"do_image_splitting": True}) if family == "smolvlm" else ({},):
        text = image_span(params(family, (854, 480), **processor)).text
        assert [match.group() for match in image_pattern().finditer(f"a{text}b{text}")] == [text, text]
        assert not re.fullmatch(family_of(params(family, (1, 1))).pattern, text[:-1])


def test_a_new_family_is_one_line_of_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    llava = Family(lambda params: ImageSpan((("<image>", params.image_size_px[0]),), "<image>"), r"(?:<image>)+", lambda *_: 5)
    monkeypatch.setitem(FAMILIES, "llava", llava)
    assert image_span(params("llava", (5, 7))).num_tokens == 5
    check_processor(facts(params("llava", (5, 7))), None)
