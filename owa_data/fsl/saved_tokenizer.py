"""The extended tokenizer beside the dataset: `data/fsl/tokenizer/`, so that training loads exactly the one that made the rows.

AutoTokenizer.from_pretrained("data/fsl/tokenizer")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from owa_data.errors import TokenizerError
from owa_data.fsl.tokenizer import FILE_NAME
from owa_data.store.shard_key import canonical_json

FOLDER = "tokenizer"
CONFIG_NAME = "tokenizer_config.json"


def tokenizer_config(pad_token: str) -> bytes:
    """Return `tokenizer_config.json`: everything else stands in `tokenizer.json`."""
    config = {
        "clean_up_tokenization_spaces": False,
        "model_max_length": 10**30,
        "pad_token": pad_token,
        "padding_side": "right",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    return canonical_json(config)


def load_saved(folder: Path | str) -> Any:
    """Return the `tokenizers.Tokenizer` of a dataset.

    Raises:
        TokenizerError: There is none, or it is damaged.
    """
    from tokenizers import Tokenizer

    path = Path(folder) / FOLDER / FILE_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise TokenizerError(f"{path} does not exist: rebuild the dataset, `dvc repro fsl`") from error
    try:
        return Tokenizer.from_buffer(content)
    except ValueError as error:
        raise TokenizerError(
            f"{path} is no tokenizer ({error}): bring the dataset anew, or rebuild it, `dvc repro fsl`"
        ) from error
