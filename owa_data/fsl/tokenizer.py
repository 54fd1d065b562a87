"""Tokenizers: found, and checked against their pinned content.

Input: `TokenizerParams`. Output: the bytes of `tokenizer.json` and their digest. They are not parsed here; see `extend.py`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from owa_data.errors import TokenizerError
from owa_data.params import TokenizerParams

FILE_NAME = "tokenizer.json"


@dataclass(frozen=True)
class LoadedTokenizer:
    """A tokenizer as configured, not extended. `content` is its `tokenizer.json`, `sha256` the digest of that."""

    params: TokenizerParams
    content: bytes
    sha256: str


def load_tokenizer(params: TokenizerParams) -> LoadedTokenizer:
    """Find a tokenizer's definition and check it. Cost: reading the file, up to 11 MB; it is not parsed.

    Raises:
        TokenizerError: It cannot be had, or its content is not the pinned one.
    """
    if params.source == "built_in":
        content = byte_tokenizer_json()
    elif params.source == "folder":
        content = _read_folder(params)
    else:
        content = _read_hub(params)
    sha256 = hashlib.sha256(content).hexdigest()
    if params.sha256 and sha256 != params.sha256:
        raise TokenizerError(
            f"conf/tokenizer/{params.name}.yaml: {FILE_NAME} of {params.location or 'the built-in tokenizer'} has sha256 {sha256}, "
            f"not {params.sha256} as pinned. If the change is meant, pin it anew with "
            f"`owa-data tokenizer add <folder> --name {params.name} --force`."
        )
    return LoadedTokenizer(params, content, sha256)


def _read_folder(params: TokenizerParams) -> bytes:
    path = Path(params.location).expanduser() / FILE_NAME
    try:
        return path.read_bytes()
    except OSError as error:
        raise TokenizerError(
            f"conf/tokenizer/{params.name}.yaml: cannot read {path} ({error.strerror}). `location` must be a folder with a {FILE_NAME}; "
            f"`AutoTokenizer.from_pretrained(...).save_pretrained(folder)` makes one."
        ) from error


def _read_hub(params: TokenizerParams) -> bytes:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        path = huggingface_hub.hf_hub_download(params.location, FILE_NAME, revision=params.revision or None)
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError, ValueError) as error:
        raise TokenizerError(
            f"conf/tokenizer/{params.name}.yaml: cannot load {params.location!r} (revision {params.revision or 'main'}) from the hub: "
            f"{type(error).__name__}. Without network, download it elsewhere and register the folder: "
            f"`owa-data tokenizer add <folder> --name {params.name}_local`, then set fsl.tokenizer to {params.name}_local."
        ) from error
    return Path(path).read_bytes()


@lru_cache(maxsize=1)
def byte_tokenizer_json() -> bytes:
    """Return the embedded tokenizer: one token per byte, and markers for padding and images. It needs no download."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: code for code, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<img>", "</img>", "<IMG_CONTEXT>"])
    return tokenizer.to_str().encode()
