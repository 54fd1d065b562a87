"""How images stand among the tokens of a dataset, as its `owa.json` and its saved tokenizer say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from owa_data.fsl.saved_tokenizer import load_saved
from owa_data.store.dataset_folder import read_lineage


@dataclass(frozen=True)
class ImageTokens:
    """The tokens of one image.

    Attributes:
        family: Model family, an entry of `fsl/families/`.
        size_px: Width and height that frames are resized to.
        text: The span written out.
        span_ids: Distinct ids of the span: the image token and the markers around it.
        inner_ids: Distinct ids of ordinary text in the span: newlines between the tiles of a split image.
        image_token_id: The id whose embeddings the model replaces by image features.
        num_per_image: How often it stands in one span.
    """

    family: str
    size_px: tuple[int, int]
    text: str
    span_ids: tuple[int, ...]
    inner_ids: tuple[int, ...]
    image_token_id: int
    num_per_image: int


def read_image_tokens(fsl_dir: Path | str) -> ImageTokens:
    """Read the image tokens of an fsl dataset.

    Args:
        fsl_dir: Folder of the dataset, such as `data/fsl`.

    Raises:
        SchemaError: There is no fsl dataset.
        TokenizerError: Its saved tokenizer is missing.
    """
    facts = read_lineage(fsl_dir, "fsl").facts
    tokenizer = load_saved(fsl_dir)
    settings, image = facts["tokenizer"]["image"], facts["image"]
    width, height = settings["image_size_px"]
    # Newlines between the tiles of a split image are ordinary text and no entries of the vocabulary.
    tokens = [token for token, _ in image["span"]]
    text = "".join(token * times for token, times in image["span"])
    span_ids = tuple(dict.fromkeys(id_ for id_ in map(tokenizer.token_to_id, tokens) if id_ is not None))
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return ImageTokens(
        family=settings["family"],
        size_px=(width, height),
        text=text,
        span_ids=span_ids,
        inner_ids=tuple(id_ for id_ in dict.fromkeys(ids) if id_ not in span_ids),
        image_token_id=image["image_token_id"],
        num_per_image=sum(times for token, times in image["span"] if token == image["image_token"]),
    )
