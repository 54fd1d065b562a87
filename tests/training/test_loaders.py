"""Loaders: exact resuming, in this process and killed from outside."""

import itertools

import numpy as np
import pytest
from datasets import Dataset

from owa_data.errors import ParamsError

pytest.importorskip("torch")

from owa_data.training.loaders import create_loader
from owa_data.training.sampler import SampleOrder

# PyTorch advises against more workers than CPUs.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


class Numbers:
    """A map-style dataset of consecutive numbers."""

    def __init__(self, start, stop):
        self.numbers = range(start, stop)

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        return self.numbers[index]


DATASETS = (Numbers(0, 23), Numbers(100, 107))


def flatten(batches):
    return list(itertools.chain.from_iterable(batches))


def keep(samples):
    return samples


def loader_of(num_workers=0, batch_size=4, **settings):
    weights = settings.pop("weights", (2, 1))
    return create_loader(
        DATASETS, batch_size=batch_size, collate=keep, weights=weights, seed=5, num_workers=num_workers, **settings
    )


@pytest.fixture(scope="module")
def straight():
    """Two epochs, never interrupted, batch by batch."""
    loader = loader_of()
    return [batch for _ in range(2) for batch in loader]


def test_length_and_epochs(straight):
    loader = loader_of()
    assert len(loader) == 7
    assert len(straight) == 14
    assert straight[:7] != straight[7:]
    list(loader)
    assert loader.epoch == 1
    loader.set_epoch(1)
    assert list(loader) == straight[7:]
    loader.set_epoch(0)
    assert list(loader) == straight[:7]


# Taken: nothing, some, a whole epoch, some of the second one.
@pytest.mark.parametrize(("num_workers", "num_taken"), [(0, 0), (0, 3), (0, 7), (0, 9), (1, 3), (1, 7), (3, 9)])
@pytest.mark.parametrize("world_size", [1, 2])
def test_resumed_gives_exactly_the_rest(straight, num_workers, world_size, num_taken):
    taken, rest = [], []
    for rank in range(world_size):
        settings = {"num_workers": num_workers, "batch_size": 4 // world_size, "rank": rank, "world_size": world_size}
        loader = loader_of(**settings)
        batches = itertools.chain.from_iterable(iter(loader) for _ in range(2))
        taken.append(list(itertools.islice(batches, num_taken)))
        state = loader.state_dict()
        resumed = loader_of(**settings)
        resumed.load_state_dict(state)
        rest.append([batch for _ in range(resumed.epoch, 2) for batch in resumed])
    together = [flatten(parts) for part in (taken, rest) for parts in zip(*part, strict=True)]
    assert together == straight


def test_state_fits_another_world_size_batch_size_and_worker_count(straight):
    loader = loader_of()
    list(itertools.islice(loader, 2))
    flat = flatten(straight[2:7])
    resumed = [loader_of(num_workers=rank, batch_size=1, rank=rank, world_size=2) for rank in range(2)]
    for one in resumed:
        one.load_state_dict(loader.state_dict())
    assert [sample for pair in zip(*resumed, strict=True) for part in pair for sample in part][: len(flat)] == flat


def test_persistent_workers_start_anew_where_the_state_says(straight):
    loader = loader_of(num_workers=1, persistent_workers=True)
    state = loader.state_dict()
    assert list(itertools.islice(loader, 3)) == straight[:3]
    loader.load_state_dict(state)
    assert list(loader) == straight[:7]


def test_without_drop_last_every_sample_comes():
    loader = loader_of(drop_last=False, weights=())
    assert sorted(flatten(loader)) == [*range(23), *range(100, 107)]
    assert loader.state_dict()["epoch"] == 1


def test_too_few_samples_for_one_batch_are_refused():
    assert len(list(loader_of(batch_size=15, world_size=2))) == 1
    told = r"^loader\.batch_size: the 30 samples do not fill one global batch of 32 \(16 for each of 2 ranks\), .* smaller batch_size"
    with pytest.raises(ParamsError, match=told):
        loader_of(batch_size=16, world_size=2)
    assert len(list(loader_of(batch_size=16, world_size=2, drop_last=False))) == 1


def test_a_pass_leaves_the_global_random_numbers_alone():
    import torch

    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(loader_of())
    assert torch.equal(before, torch.get_rng_state())


def test_state_of_another_order_is_refused():
    state = loader_of(weights=()).state_dict()
    with pytest.raises(ParamsError, match="belongs to another order"):
        loader_of().load_state_dict(state)
    with pytest.raises(ParamsError, match="has no samples, order"):
        loader_of().load_state_dict({"epoch": 0})


@pytest.mark.parametrize("weights", [(2, 1), [2.0, 1.0], np.array([2, 1]), np.array([2, 1], np.float32)])
def test_equal_weights_of_any_type_are_one_order(weights):
    assert loader_of(weights=weights).state_dict() == loader_of().state_dict()


def test_equal_orders_have_equal_digests():
    whole, broken = SampleOrder((4, 4), (2, 1), seed=np.int64(5)), SampleOrder((4, 4), (2.0, 1.0), seed=5)
    assert whole == broken
    assert whole.digest == broken.digest


def test_settings_under_which_a_state_would_not_be_exact_are_refused():
    with pytest.raises(ParamsError, match="in_order: must stay True"):
        loader_of(num_workers=2, in_order=False)
    for weights in ((float("nan"), 1), (float("inf"), 1), (-1, 2), (0, 0)):
        with pytest.raises(ParamsError, match="one finite number of 0 or more"):
            loader_of(weights=weights)


def test_a_batch_asks_each_dataset_once():
    asked = []

    class Batched(Numbers):
        def __getitems__(self, indices):
            asked.append(indices)
            return [self[index] for index in indices]

    loader = create_loader([Batched(0, 6), Numbers(10, 16)], batch_size=12, collate=keep, seed=2)
    assert sorted(next(iter(loader))) == [*range(6), *range(10, 16)]
    assert sorted(asked[0]) == list(range(6))
    assert len(asked) == 1


def test_one_dataset_is_no_list_of_them():
    with pytest.raises(ParamsError, match=r"loader\.datasets: is a .*write \[dataset\]"):
        create_loader(Dataset.from_dict({"x": [1]}), batch_size=1, collate=list)
