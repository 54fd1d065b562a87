"""Models to train: small ones, and pretrained ones from a folder."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from owa_data import load_from_disk
from owa_data.errors import TokenizerError
from owa_data.training.collators import create_fsl_collator
from owa_data.training.image_tokens import read_image_tokens
from owa_data.training.models import load_model
from owa_data.training.small_models import create_small_model, create_small_processor


def save_pretrained(built, folder):
    """A checkpoint of the dataset's family that does not know the event tokens."""
    image = read_image_tokens(built.fsl)
    # The embedded tokenizer has 260 entries of its own; those of SmolVLM's images are new to it.
    num_tokens = max(260, image.image_token_id + 1)
    create_small_model(image, num_tokens=num_tokens, pad_token_id=256, max_sequence_length=256).save_pretrained(folder)
    create_small_processor(image).image_processor.save_pretrained(folder)


@pytest.mark.parametrize("family", ["internvl", "smolvlm"])
def test_pretrained_model_gets_room_for_the_event_tokens(request, tmp_path, family):
    built = request.getfixturevalue(f"{family}_built")
    save_pretrained(built, tmp_path)
    loaded = load_model(built.fsl, str(tmp_path))
    assert loaded.model.get_input_embeddings().weight.shape[0] >= len(loaded.tokenizer)
    dataset = load_from_disk(built.fsl)["train"].auto_set_transform(stage="fsl", recordings=str(built.recordings))
    collator = create_fsl_collator(built.fsl, loaded.processor)
    assert loaded.model(**collator([dataset[0], dataset[1]])).loss.item() > 0


def test_model_of_other_image_tokens_is_refused(internvl_built, tmp_path):
    save_pretrained(internvl_built, tmp_path)
    loaded = load_model(internvl_built.fsl, str(tmp_path))
    other = loaded.processor._replace(image_seq_length=256)
    with pytest.raises(TokenizerError, match="256"):
        create_fsl_collator(internvl_built.fsl, other)


def test_small_model_fits_the_tokenizer(internvl_built):
    loaded = load_model(internvl_built.fsl)
    assert loaded.model.get_input_embeddings().weight.shape[0] == len(loaded.tokenizer)
    assert loaded.tokenizer.pad_token == "<|endoftext|>"
