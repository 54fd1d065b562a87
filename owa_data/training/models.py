"""The model to train on a dataset, with the tokenizer that made its rows and the processor of its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from owa_data.fsl.saved_tokenizer import FOLDER
from owa_data.store.dataset_folder import read_lineage
from owa_data.training.image_tokens import read_image_tokens
from owa_data.training.pixels import VisionProcessor
from owa_data.training.prepare_model import prepare_model
from owa_data.training.small_models import create_small_model, create_small_processor


class LoadedModel(NamedTuple):
    """A model of transformers, its processor of images, and the extended tokenizer of the dataset."""

    model: Any
    processor: VisionProcessor
    tokenizer: Any


def load_model(fsl_dir: Path | str, name: str = "", revision: str = "", *, seed: int = 0) -> LoadedModel:
    """Load a pretrained model, made ready for the event tokens of a dataset; or a small random one, for trying out.

    Args:
        fsl_dir: Folder of the fsl dataset. Its saved tokenizer is the one that is returned.
        name: Hub repository or folder of a pretrained model of the dataset's family, with its image processor; its rows of event tokens are begun
            anew (`prepare_model`). Empty makes a small random model, which needs no download.
        revision: Commit of the hub repository; empty = the newest.
        seed: Of a random model's weights.

    Raises:
        SchemaError: `fsl_dir` holds no fsl dataset of this version.
    """
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

    lineage = read_lineage(fsl_dir, "fsl")
    tokenizer = AutoTokenizer.from_pretrained(Path(fsl_dir) / FOLDER)
    if name:
        model = AutoModelForImageTextToText.from_pretrained(name, revision=revision or None)
        prepare_model(model, tokenizer)
        image_processor = AutoImageProcessor.from_pretrained(name, revision=revision or None)
        return LoadedModel(model, VisionProcessor(image_processor, _tokens_per_tile(model)), tokenizer)
    image = read_image_tokens(fsl_dir)
    model = create_small_model(
        image,
        num_tokens=lineage.facts["tokenizer"]["num_tokens"],
        pad_token_id=lineage.facts["tokenizer"]["pad_token_id"],
        max_sequence_length=lineage.params["max_sequence_length"],
        seed=seed,
    )
    return LoadedModel(model, create_small_processor(image), tokenizer)


def _tokens_per_tile(model: Any) -> int:
    """Image tokens that a model makes of one tile: InternVL has them in its config, SmolVLM and Idefics3 count them from it."""
    in_config = getattr(model.config, "image_seq_length", None)
    return int(model.model.image_seq_len if in_config is None else in_config)
