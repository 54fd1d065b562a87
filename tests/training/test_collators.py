"""Batches: every tensor of both families, against the stored rows."""

import dataclasses
import pickle

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from owa_data import load_from_disk
from owa_data.encoding.events import EventKind
from owa_data.errors import ParamsError, SchemaError, TokenizerError
from owa_data.training.collators import create_fsl_collator
from owa_data.training.image_tokens import read_image_tokens
from owa_data.training.pixels import WholeFrames, flat_pixels, padded_pixels, pixel_layout, whole_frames
from owa_data.training.small_models import create_small_model, create_small_processor

FAMILIES = ("internvl", "smolvlm")


@pytest.fixture(params=FAMILIES)
def built(request):
    return request.getfixturevalue(f"{request.param}_built")


def samples_of(built):
    dataset = load_from_disk(built.fsl)["train"]
    rows = list(dataset)
    dataset.auto_set_transform(stage="fsl", recordings=str(built.recordings))
    return rows, list(dataset)


def collator_of(built, **options):
    return create_fsl_collator(built.fsl, create_small_processor(read_image_tokens(built.fsl)), **options)


def test_ids_mask_and_labels(built):
    rows, samples = samples_of(built)
    batch = collator_of(built)(samples)
    image = read_image_tokens(built.fsl)
    assert batch["input_ids"].tolist() == [row["input_ids"] for row in rows]
    assert batch["attention_mask"].tolist() == [row["attention_mask"] for row in rows]
    assert {batch[name].dtype for name in ("input_ids", "attention_mask", "labels")} == {torch.int64}
    for row, labels in zip(rows, batch["labels"].tolist(), strict=True):
        for position, (id_, label) in enumerate(zip(row["input_ids"], labels, strict=True)):
            learned = position < row["num_tokens"] and id_ not in image.span_ids
            assert label == (id_ if learned else -100)


def test_labels_of_actions_alone(built):
    rows, samples = samples_of(built)
    labels = collator_of(built, loss_on="actions")(samples)["labels"].tolist()
    for row, found in zip(rows, labels, strict=True):
        expected = [-100] * len(row["input_ids"])
        ends = [*row["event_offsets"][1:], row["num_tokens"]]
        for start, end, kind in zip(row["event_offsets"], ends, row["event_kinds"], strict=True):
            if kind != EventKind.SCREEN:
                expected[start:end] = row["input_ids"][start:end]
        assert found == expected
    assert any(label != -100 for found in labels for label in found)


def test_both_families_have_the_same_pixels_in_their_own_layout(internvl_built, smolvlm_built):
    _, samples = samples_of(internvl_built)
    batch = collator_of(internvl_built)(samples)
    counts = [len(sample["images"]) for sample in samples]
    assert len(set(counts)) > 1, "rows with different numbers of images are what the layouts are about"
    assert batch["pixel_values"].shape == (sum(counts), 3, 56, 56)
    _, samples = samples_of(smolvlm_built)
    batch = collator_of(smolvlm_built)(samples)
    counts = [len(sample["images"]) for sample in samples]
    assert batch["pixel_values"].shape == (len(samples), max(counts), 3, 56, 56)
    assert batch["pixel_attention_mask"].shape == (len(samples), max(counts), 56, 56)
    for row, count in enumerate(counts):
        assert batch["pixel_attention_mask"][row].flatten(1).any(dim=1).tolist() == [True] * count + [False] * (
            max(counts) - count
        )
        assert not batch["pixel_values"][row, count:].any()


def test_models_of_the_real_classes_take_the_batches(built):
    _, samples = samples_of(built)
    batch = collator_of(built)(samples)
    image = read_image_tokens(built.fsl)
    model = create_small_model(image, num_tokens=600, pad_token_id=256, max_sequence_length=256)
    state = torch.get_rng_state()
    again = create_small_model(image, num_tokens=600, pad_token_id=256, max_sequence_length=256)
    assert torch.equal(state, torch.get_rng_state())
    loss = model(**batch).loss
    assert 5 < loss.item() < 8  # log(600) = 6.4
    assert torch.equal(loss, again(**batch).loss)
    loss.backward()
    # Images count: the vision part learns.
    grads = [p.grad.abs().sum().item() for name, p in model.named_parameters() if "vision" in name and p.grad is not None]
    assert max(grads) > 0


def test_idefics3_takes_the_batches_of_smolvlm(smolvlm_built):
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    _, samples = samples_of(smolvlm_built)
    image = read_image_tokens(smolvlm_built.fsl)
    small = create_small_model(image, num_tokens=600, pad_token_id=256, max_sequence_length=256).config
    config = Idefics3Config(
        text_config=small.text_config.to_dict(),
        vision_config=small.vision_config.to_dict() | {"model_type": "idefics3_vision"},
        image_token_id=image.image_token_id,
        scale_factor=2,
    )
    model = Idefics3ForConditionalGeneration(config)
    assert 5 < model(**collator_of(smolvlm_built)(samples)).loss.item() < 8


def test_a_batch_without_images_has_no_pixels(built):
    _, samples = samples_of(built)
    image = read_image_tokens(built.fsl)
    bare = {
        **samples[0],
        "images": [],
        "input_ids": torch.where(torch.isin(samples[0]["input_ids"], torch.tensor(image.span_ids)), 1, 2),
    }
    batch = collator_of(built)([bare, bare])
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    mixed = collator_of(built)([bare, samples[1]])
    assert "pixel_values" in mixed


def test_images_left_out_are_noticed(built):
    _, samples = samples_of(built)
    short = {**samples[0], "images": samples[0]["images"][1:]}
    with pytest.raises(SchemaError, match="sample 1 of the batch has"):
        collator_of(built)([samples[1], short])


def test_samples_without_a_transform_are_told(built):
    _, samples = samples_of(built)
    with pytest.raises(SchemaError, match="a sample has no images: attach the transform first"):
        collator_of(built)([{name: value for name, value in samples[0].items() if name != "images"}])
    with pytest.raises(SchemaError, match="a sample's images are str, not pictures"):
        collator_of(built)([{**samples[0], "images": ["{}"]}])


def test_collators_are_picklable(built):
    _, samples = samples_of(built)
    collator = collator_of(built)
    copy = pickle.loads(pickle.dumps(collator))
    for name, value in collator(samples[:2]).items():
        assert torch.equal(copy(samples[:2])[name], value)


def test_a_processor_with_other_image_tokens_is_refused(built):
    processor = create_small_processor(read_image_tokens(built.fsl))
    with pytest.raises(TokenizerError, match=r"has 4 <.*> in the rows, but .* gives\s+9"):
        create_fsl_collator(built.fsl, processor._replace(image_seq_length=9))


def test_a_processor_that_would_split_images_is_set_not_to(built):
    _, samples = samples_of(built)
    processor = create_small_processor(read_image_tokens(built.fsl))
    processor.image_processor.crop_to_patches = processor.image_processor.do_image_splitting = True
    batch = create_fsl_collator(built.fsl, processor)(samples)
    assert torch.equal(batch["pixel_values"], collator_of(built)(samples)["pixel_values"])


def test_choices_are_checked(internvl_built):
    with pytest.raises(ParamsError, match="choose events or actions"):
        collator_of(internvl_built, loss_on="keys")
    with pytest.raises(ParamsError, match="has no collator"):
        pixel_layout("mystery")
    image = dataclasses.replace(read_image_tokens(internvl_built.fsl), num_per_image=5)
    with pytest.raises(ParamsError, match="no square grid"):
        create_small_model(image, num_tokens=600, pad_token_id=0, max_sequence_length=256)


def test_pixels_of_whole_frames_are_those_of_the_processor(internvl_built):
    from PIL import Image

    processor = create_small_processor(read_image_tokens(internvl_built.fsl)).image_processor
    options = {"crop_to_patches": False}
    fast = whole_frames(processor, options, (56, 56))
    assert isinstance(fast, WholeFrames)
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (56, 56, 3), np.uint8)) for _ in range(3)]
    expected = processor(images=frames, return_tensors="pt", **options)["pixel_values"]
    found = fast(images=frames, return_tensors="pt")["pixel_values"]
    assert found.dtype == expected.dtype
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    # Another size goes through the processor.
    larger = [frame.resize((80, 60)) for frame in frames]
    assert torch.equal(
        fast(images=larger, return_tensors="pt")["pixel_values"],
        processor(images=larger, return_tensors="pt", **options)["pixel_values"],
    )
    assert not isinstance(whole_frames(processor, options, (80, 60)), WholeFrames)
    assert not isinstance(whole_frames(processor, {"crop_to_patches": True}, (56, 56)), WholeFrames)


def test_layouts_on_literal_images():
    from PIL import Image

    def processor(images, return_tensors):
        nested = images if isinstance(images[0], list) else [images]
        values = torch.stack([torch.tensor(np.asarray(image)[..., 0]) for image in nested[0]])
        if isinstance(images[0], list):
            return {"pixel_values": values[None], "pixel_attention_mask": torch.ones_like(values)[None]}
        return {"pixel_values": values}

    shades = [Image.new("RGB", (1, 1), (shade, 0, 0)) for shade in (1, 2, 3)]
    images = [[shades[0]], [], shades[1:]]
    assert flat_pixels(processor, images)["pixel_values"].flatten().tolist() == [1, 2, 3]
    padded = padded_pixels(processor, images)
    assert padded["pixel_values"].flatten(1).tolist() == [[1, 0], [0, 0], [2, 3]]
    assert padded["pixel_attention_mask"].flatten(1).tolist() == [[1, 0], [0, 0], [1, 1]]
    assert flat_pixels(processor, [[], []]) == padded_pixels(processor, [[]]) == {}
