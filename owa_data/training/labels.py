"""Which tokens a model learns to predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from owa_data.encoding.events import EventKind

IGNORED = -100
"""Label of a token without loss, as PyTorch and transformers have it."""

LossOn = Literal["events", "actions"]

ACTION_KINDS = (EventKind.KEYBOARD, EventKind.RAW_MOUSE, EventKind.MOUSE)
"""Kinds of events that somebody did; screens and windows are what they saw."""


def make_labels(input_ids: torch.Tensor, attention_mask: torch.Tensor, span_ids: Sequence[int]) -> torch.Tensor:
    """Return the ids as labels, with padding and image spans ignored.

    Args:
        input_ids: int64 (rows, length).
        attention_mask: (rows, length), 0 = padding.
        span_ids: Ids of the image span: image tokens are no text, and the markers around them say nothing.

    Returns:
        int64 (rows, length). Models of transformers shift them by one themselves.
    """
    ignored = (attention_mask == 0) | torch.isin(input_ids, torch.tensor(span_ids))
    return input_ids.masked_fill(ignored, IGNORED)


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
