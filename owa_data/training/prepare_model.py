"""A model made ready for event tokens: room for them among its embeddings, and rows that begin near what the tokens mean.

A row of a new token is the mean of the embeddings of a short description: `<VK_87>` begins as "key w", `<press>` as "press". So a
pretrained model starts from what it knows of keys and numbers instead of noise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from owa_data.encoding.keys import KEY_NAMES
from owa_data.encoding.registry import ENCODERS
from owa_data.errors import TokenizerError

# Tokens whose descriptions have the same parts, such as 12 and 21, differ by this share of the embeddings' spread.
NOISE_SHARE = 0.02


def describe_token(token: str) -> str:
    """Return what a token means, in ordinary words.

    Example:
        >>> [describe_token(token) for token in ("<VK_160>", "<MB_4>", "<7>", "<SIGN_MINUS>", "<EVENT_START>")]
        ['key left shift', 'mouse button flags 4', '7', 'sign minus', 'event start']
    """
    name = token.strip("<>|")
    if match := re.fullmatch(r"VK_(\d+)", name):
        return f"key {KEY_NAMES[int(match[1])].replace('_', ' ')}"
    if match := re.fullmatch(r"MB_(\d+)", name):
        return f"mouse button flags {match[1]}"
    return re.sub(r"[_\W]+", " ", name).strip().lower() or "token"


def event_tokens(tokenizer: Any) -> list[str]:
    """Return the event tokens of any encoding that a tokenizer of `transformers` has as added tokens, sorted by id."""
    added = tokenizer.get_added_vocab()
    known = {token for create in ENCODERS.values() for token in create().vocabulary}
    return sorted(known & set(added), key=added.__getitem__)


def prepare_model(model: Any, tokenizer: Any, tokens: Sequence[str] | None = None) -> list[str]:
    """Make room for all ids of a tokenizer in a model's embeddings and begin the rows of new tokens near their meaning.

    The embeddings never shrink. Deterministic; PyTorch's global random numbers are left as they were.

    Args:
        model: A `transformers` model; changed in place, output embeddings included.
        tokenizer: The extended tokenizer, `AutoTokenizer.from_pretrained("data/fsl/tokenizer")`.
        tokens: Tokens to begin anew; by default the event tokens and all whose ids the model has no row for. Give `[]` for a model that was
            trained on event tokens already.

    Returns:
        The tokens that were begun anew.

    Raises:
        TokenizerError: A token that the tokenizer does not have.
    """
    import torch

    num_before = model.get_input_embeddings().weight.shape[0]
    added = tokenizer.get_added_vocab()
    beyond = {token for token, id_ in added.items() if id_ >= num_before}
    chosen = [*event_tokens(tokenizer), *sorted(beyond, key=added.__getitem__)] if tokens is None else list(tokens)
    chosen = list(dict.fromkeys(chosen))
    missing = [token for token in chosen if token not in added]
    if missing:
        raise TokenizerError(f"the tokenizer has no token {missing[0]!r}; load the one beside the dataset, data/fsl/tokenizer")
    if len(tokenizer) > num_before:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    new_ids = [added[token] for token in chosen]
    parts = [_parts(tokenizer, token, {*new_ids, *range(num_before, len(tokenizer))}) for token in chosen]
    done = set()
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        if layer is None or not chosen or layer.weight.data_ptr() in done:
            continue
        done.add(layer.weight.data_ptr())
        _begin_rows(layer, new_ids, parts, num_before, torch.Generator().manual_seed(0))
    return chosen


def _parts(tokenizer: Any, token: str, new_ids: set[int]) -> list[int]:
    """Ids of a token's description that the model knows."""
    return [id_ for id_ in tokenizer(describe_token(token), add_special_tokens=False)["input_ids"] if id_ not in new_ids]


def _begin_rows(layer: Any, new_ids: Sequence[int], parts: Sequence[Sequence[int]], num_before: int, generator: Any) -> None:
    import torch

    weight = layer.weight
    with torch.no_grad():
        known = weight[:num_before].float()
        mean, spread = known.mean(dim=0), known.std()
        rows = torch.stack([known[list(ids)].mean(dim=0) if ids else mean for ids in parts])
        noise = torch.randn(rows.shape, generator=generator) * NOISE_SHARE * spread.cpu()
        weight[list(new_ids)] = (rows + noise.to(rows.device)).to(weight.dtype)
        if (bias := getattr(layer, "bias", None)) is not None:
            bias[list(new_ids)] = bias[:num_before].mean()
