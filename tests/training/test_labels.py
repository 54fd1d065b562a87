"""Which tokens are learned."""

import pytest

pytest.importorskip("torch")

import torch

from owa_data.encoding.events import EventKind
from owa_data.training.labels import is_action_token, make_labels


def test_padding_and_image_spans_have_no_label():
    ids = torch.tensor([[7, 1, 2, 2, 3, 8, 9, 9]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0]])
    # 9 is the pad token here and would be a label, were it not padding.
    assert make_labels(ids, mask, (1, 2, 3)).tolist() == [[7, -100, -100, -100, -100, 8, -100, -100]]
    assert ids.tolist() == [[7, 1, 2, 2, 3, 8, 9, 9]]


def test_text_between_the_tiles_of_an_image_has_no_label():
    ids = torch.tensor([[9, 1, 2, 9, 9, 2, 3, 9, 8, 9], [9, 9, 8, 1, 9, 3, 9, 1, 3, 9]])
    labels = make_labels(ids, torch.ones_like(ids), (1, 2, 3), (9,))
    assert labels.tolist() == [
        [9, -100, -100, -100, -100, -100, -100, 9, 8, 9],
        [9, 9, 8, -100, -100, -100, -100, -100, -100, 9],
    ]


def test_action_tokens():
    kinds = [EventKind.SCREEN, EventKind.KEYBOARD, EventKind.WINDOW, EventKind.RAW_MOUSE, EventKind.MOUSE]
    assert is_action_token([0, 2, 3, 5, 6], kinds, 8).tolist() == [False, False, True, False, False, True, True, True]
    assert is_action_token([0], [EventKind.SCREEN], 3).tolist() == [False] * 3
    assert is_action_token([], [], 0).tolist() == []
