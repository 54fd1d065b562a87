"""PyTorch loaders that resume exactly.

Input: map-style datasets with a transform set, a collator. Output: a `torch.utils.data.DataLoader` whose state counts the samples that
training has consumed, not those that workers have prefetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from owa_data.errors import ParamsError
from owa_data.training.sampler import RankShare, SampleOrder


class Mixture(Dataset[Any]):  # type: ignore[misc]
    """Several map-style datasets laid one after another; a batch asks each of them once, so that images decode together."""

    def __init__(self, datasets: Sequence[Any]) -> None:
        self.datasets = list(datasets)
        self.starts = np.array([0, *accumulate(len(dataset) for dataset in datasets)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Return the samples of some indices, in their order. PyTorch asks for whole batches by this method."""
        places = np.asarray(indices)
        owners = np.searchsorted(self.starts, places, side="right") - 1
        samples: list[Any] = [None] * len(indices)
        for owner in np.unique(owners).tolist():
            mine = np.flatnonzero(owners == owner)
            found = _samples_of(self.datasets[owner], (places[mine] - self.starts[owner]).tolist())
            for place, sample in zip(mine.tolist(), found, strict=True):
                samples[place] = sample
        return samples


def _samples_of(dataset: Any, indices: list[int]) -> list[Any]:
    if hasattr(dataset, "__getitems__"):
        return list(dataset.__getitems__(indices))
    return [dataset[index] for index in indices]


class _Batches:
    """Batch sampler from where the loader stands; asked in the main process alone, once per epoch."""

    def __init__(self, order: SampleOrder, share: RankShare) -> None:
        self.order = order
        self.share = share
        self.epoch = 0
        self.samples = 0

    def __len__(self) -> int:
        return self.share.num_batches(self.order.num_samples)

    def __iter__(self) -> Iterator[list[int]]:
        return self.share.iter_batches(self.order.epoch_indices(self.epoch), self.samples)


class ResumableLoader(DataLoader[Any]):  # type: ignore[misc]
    """A `DataLoader` with an epoch and a state. Each pass over it is the rest of the current epoch; the next one begins after it.

        loader = create_loader([dataset], batch_size=4, collate=collator, seed=1, num_workers=2)
        for epoch in range(loader.epoch, 3):
            for batch in loader:
                ...
                save(loader.state_dict())     # at any time; a batch counts once it was handed out

    `len(loader)` is the number of batches of a whole epoch. It shards by rank itself: do not pass it to `Accelerator.prepare`.
    """

    def __init__(self, dataset: Any, order: SampleOrder, share: RankShare, **settings: Any) -> None:
        self._batches = _Batches(order, share)
        # A generator of its own: a pass takes nothing from PyTorch's global random numbers.
        generator = torch.Generator().manual_seed(order.seed)
        super().__init__(dataset, batch_sampler=self._batches, generator=generator, **settings)

    @property
    def epoch(self) -> int:
        """The epoch that the next batch belongs to, from 0."""
        return self._batches.epoch

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch, unless the loader stands in it."""
        if epoch != self.epoch:
            self._batches.epoch, self._batches.samples = epoch, 0

    def __iter__(self) -> Iterator[Any]:
        batches = self._batches
        for batch in super().__iter__():
            batches.samples = min(batches.samples + batches.share.global_batch_size, batches.order.num_samples)
            yield batch
        batches.epoch, batches.samples = batches.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Return where training stands: `epoch`, `samples` of it consumed by all ranks together, and which `order` they belong to.

        The same on every rank, if all have consumed the same number of batches. Valid for any number of workers, and for any batch size and
        number of ranks.
        """
        return {"epoch": self.epoch, "samples": self._batches.samples, "order": self._batches.order.digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` was taken: the next batch begins with the first sample that was not consumed.

        Raises:
            ParamsError: A state of other datasets, weights or another seed; or what is none.
        """
        if missing := [name for name in ("epoch", "samples", "order") if name not in state]:
            raise ParamsError("loader.state", f"has no {', '.join(missing)}: it is not what `state_dict` returned")
        if state["order"] != self._batches.order.digest:
            raise ParamsError(
                "loader.state",
                f"belongs to another order of samples ({state['order']}) than this loader's ({self._batches.order.digest}): "
                "lengths of the datasets, weights, seed and shuffle must be those it was saved with",
            )
        self._batches.epoch, self._batches.samples = int(state["epoch"]), int(state["samples"])


def create_loader(
    datasets: Sequence[Any],
    *,
    batch_size: int,
    collate: Callable[[list[Any]], Any],
    weights: Sequence[float] = (),
    seed: int = 0,
    shuffle: bool = True,
    rank: int = 0,
    world_size: int = 1,
    drop_last: bool = True,
    num_workers: int = 0,
    **settings: Any,
) -> ResumableLoader:
    """Make a loader over one dataset, or several mixed by weight.

    Args:
        datasets: Map-style datasets, such as `load_from_disk("data/fsl")["train"]` with a transform set.
        batch_size: Samples per batch of one rank.
        collate: Makes a batch of a list of samples; runs in the workers.
        weights: Share of each dataset in an epoch; empty = by length. See `SampleOrder`.
        seed: The order is a pure function of the seed and the epoch.
        shuffle: False keeps the stored order.
        rank: This process among those that train together, from 0.
        world_size: Number of those processes.
        drop_last: See `RankShare`.
        num_workers: Processes that load ahead; 0 loads in this one. The batches are the same for any number.
        settings: More settings of `torch.utils.data.DataLoader`, such as `pin_memory`, `prefetch_factor`, `persistent_workers`.

    Raises:
        ParamsError: A setting that cannot be used; `drop_last`, but fewer samples than one global batch, of which no batch would ever come.
    """
    if hasattr(datasets, "column_names") or not isinstance(datasets, Sequence):
        raise ParamsError("loader.datasets", f"is a {type(datasets).__name__}, not a list of datasets: write [dataset]")
    if not settings.get("in_order", True):
        raise ParamsError("loader.in_order", "must stay True: where training stands is counted in batches, in their order")
    order = SampleOrder(tuple(len(dataset) for dataset in datasets), tuple(weights), seed, shuffle)
    share = RankShare(batch_size, rank, world_size, drop_last)
    if not share.num_batches(order.num_samples):
        raise ParamsError(
            "loader.batch_size",
            f"the {order.num_samples:,} samples do not fill one global batch of {share.global_batch_size:,} ({batch_size} for each of {world_size} "
            "ranks), so that no batch would come: use a smaller batch_size, fewer ranks, more data, or drop_last=False (for evaluation)",
        )
    dataset = datasets[0] if len(datasets) == 1 else Mixture(datasets)
    return ResumableLoader(dataset, order, share, collate_fn=collate, num_workers=num_workers, **settings)
