"""Which tokens a model learns to predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from owa_data.encoding.events import ACTION_KINDS

IGNORED = -100
"""Label of a token without loss, as PyTorch and transformers have it."""

LossOn = Literal["events", "actions"]


def make_labels(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, span_ids: Sequence[int], inner_ids: Sequence[int] = ()
) -> torch.Tensor:
    """Return the ids as labels, with padding and image spans ignored.

    Args:
        input_ids: int64 (rows, length).
        attention_mask: (rows, length), 0 = padding.
        span_ids: Ids of the image span: image tokens are no text, and the markers around them say nothing.
        inner_ids: Ids of ordinary text within a span, such as newlines between the tiles of a split image; ignored where the next other
            ids on both sides are of a span.

    Returns:
        int64 (rows, length). Models of transformers shift them by one themselves.
    """
    in_span = torch.isin(input_ids, torch.tensor(span_ids))
    if inner_ids:
        is_inner = torch.isin(input_ids, torch.tensor(inner_ids))
        in_span |= is_inner & _after_span(in_span, is_inner) & _after_span(in_span.flip(1), is_inner.flip(1)).flip(1)
    return input_ids.masked_fill((attention_mask == 0) | in_span, IGNORED)


def _after_span(in_span: torch.Tensor, is_inner: torch.Tensor) -> torch.Tensor:
    """Where the last id before that is not inner is one of a span; bool (rows, length)."""
    places = torch.arange(1, in_span.shape[1] + 1).expand(in_span.shape)
    last_other = places.masked_fill(is_inner, 0).cummax(1).values  # counted from 1, 0 where there is none
    padded = torch.nn.functional.pad(in_span, (1, 0))
    return padded.gather(1, last_other)


def is_action_token(event_offsets: Any, event_kinds: Any, length: int) -> torch.Tensor:
    """Return which tokens of a row belong to actions.

    Args:
        event_offsets: Token at which each event starts, ascending from 0, int (n,).
        event_kinds: `EventKind` of each, int (n,).
        length: Ids per row.

    Returns:
        bool (length,). Padding counts as part of the last event; the attention mask says where it is.

    Example:
        Events at 0 (screen) and 3 (key) in a row of 5: tokens 3 and 4 are action tokens.
    """
    starts = np.asarray(event_offsets, np.int64)
    action = np.isin(np.asarray(event_kinds), ACTION_KINDS)
    return torch.from_numpy(np.repeat(action, np.diff(starts, append=length)))
