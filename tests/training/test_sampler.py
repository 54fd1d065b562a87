"""The order of samples and its division among ranks."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owa_data.errors import ParamsError
from owa_data.training.sampler import RankShare, SampleOrder


def test_order_is_pinned():
    # Literal: a change here breaks the resuming of every training that runs.
    assert SampleOrder((8,), seed=7).epoch_indices(0).tolist() == PINNED[0]
    assert SampleOrder((8,), seed=7).epoch_indices(1).tolist() == PINNED[1]


PINNED = ([4, 3, 6, 2, 1, 0, 5, 7], [3, 6, 5, 0, 1, 4, 2, 7])


def test_without_shuffle_the_stored_order():
    assert SampleOrder((3, 2), shuffle=False).epoch_indices(5).tolist() == [0, 1, 2, 3, 4]


def test_weights_share_out_an_epoch():
    order = SampleOrder((6, 2), (1, 1), seed=3)
    assert order.shares() == (4, 4)
    first, second = order.epoch_indices(0), order.epoch_indices(1)
    assert Counter(first[first >= 6].tolist()) == {6: 2, 7: 2}
    assert len(set(first[first < 6].tolist())) == 4
    # What the first epoch left of the larger dataset comes next.
    assert set(range(6)) - set(first.tolist()) <= set(second.tolist())


def test_largest_remainders():
    assert SampleOrder((5, 5), (1, 2)).shares() == (3, 7)
    assert SampleOrder((5, 5, 0), (1, 1, 0)).shares() == (5, 5, 0)


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=4).filter(sum),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 5),
)
def test_by_length_an_epoch_is_every_sample_once(lengths, seed, epoch):
    indices = SampleOrder(tuple(lengths), seed=seed).epoch_indices(epoch)
    assert sorted(indices.tolist()) == list(range(sum(lengths)))


@given(
    parts=st.lists(st.tuples(st.integers(1, 20), st.floats(0.01, 10)), min_size=1, max_size=4),
    num_epochs=st.integers(1, 6),
    seed=st.integers(0, 99),
)
@settings(max_examples=50)
def test_no_sample_is_drawn_again_before_all_of_its_dataset(parts, num_epochs, seed):
    lengths, weights = zip(*parts, strict=True)
    order = SampleOrder(lengths, weights, seed)
    drawn = np.concatenate([order.epoch_indices(epoch) for epoch in range(num_epochs)])
    assert len(drawn) == num_epochs * sum(lengths)
    times = np.bincount(drawn, minlength=sum(lengths))
    for start, length in zip(np.cumsum([0, *lengths]), lengths, strict=False):
        mine = times[start : start + length]
        assert mine.max() - mine.min() <= 1


def test_epochs_and_seeds_differ():
    order = SampleOrder((50,), seed=1)
    assert order.epoch_indices(0).tolist() != order.epoch_indices(1).tolist()
    assert order.epoch_indices(0).tolist() != SampleOrder((50,), seed=2).epoch_indices(0).tolist()
    assert order.digest != SampleOrder((50,), seed=2).digest


@given(
    num_samples=st.integers(1, 60),
    world_size=st.integers(1, 4),
    batch_size=st.integers(1, 5),
    first=st.integers(0, 60),
    drop_last=st.booleans(),
)
def test_ranks_together_are_the_order(num_samples, world_size, batch_size, first, drop_last):
    indices = SampleOrder((num_samples,), seed=1).epoch_indices(0)
    first = min(first, num_samples)
    shares = [RankShare(batch_size, rank, world_size, drop_last) for rank in range(world_size)]
    ranks = [list(share.iter_batches(indices, first)) for share in shares]
    full = (num_samples - first) // (batch_size * world_size)
    joined = [part for parts in zip(*[rank[:full] for rank in ranks], strict=True) for part in parts]
    rest = [part for rank in ranks for part in rank[full:]]
    expected = indices[first:].tolist()
    assert list(chain(*joined, *rest)) == (expected[: full * batch_size * world_size] if drop_last else expected)
    if not first:
        assert max(len(rank) for rank in ranks) == shares[0].num_batches(num_samples)
    if drop_last:
        assert {len(rank) for rank in ranks} == {full}


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: SampleOrder((0, 0)), "loader.datasets"),
        (lambda: SampleOrder((3,), (1, 1)), "loader.weights"),
        (lambda: SampleOrder((3, 3), (1, -1)), "loader.weights"),
        (lambda: SampleOrder((3, 0), (1, 1)), "loader.weights.1"),
        (lambda: SampleOrder((3,), seed=-1), "loader.seed"),
        (lambda: RankShare(0), "loader.batch_size"),
        (lambda: RankShare(2, 2, 2), "loader.rank"),
    ],
)
def test_what_gives_no_order_is_refused(make, key):
    with pytest.raises(ParamsError) as caught:
        make()
    assert caught.value.key == key
