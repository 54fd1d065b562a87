"""The order in which training samples are drawn, and its division among ranks.

Input: lengths of the datasets, weights, a seed. Output: indices per epoch, batches of indices per rank. The order is a pure function of
(seed, epoch); it knows nothing of workers, and the samples of a global batch do not depend on how many ranks share it.
"""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from math import isfinite

import numpy as np
import numpy.typing as npt

from owa_data.errors import ParamsError

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SampleOrder:
    """Order of the samples of one dataset, or of several mixed by weight, epoch by epoch.

    An epoch has as many samples as the datasets have together. Of each dataset it draws its share, and goes on where the epoch before
    stopped: every sample of a dataset is drawn once before any is drawn again, whatever its weight.

    Attributes:
        lengths: Samples of each dataset.
        weights: Relative share of each dataset in every epoch; empty = by length, so that an epoch is every sample once.
        seed: 0 or more.
        shuffle: False gives the datasets one after another, each in its stored order.

    Raises:
        ParamsError: Lengths, weights or seed that no order follows from.

    Example:
        Datasets of 6 and 2 samples with weights 1 and 1: an epoch draws 4 of the 6 once, and each of the 2 twice. The next epoch begins
        with the other 2 of the 6.
    """

    lengths: tuple[int, ...]
    weights: tuple[float, ...] = ()
    seed: int = 0
    shuffle: bool = True

    def __post_init__(self) -> None:
        # Equal numbers of any type are one order, and can be written into a state.
        object.__setattr__(self, "weights", tuple(map(float, self.weights)))
        object.__setattr__(self, "seed", operator.index(self.seed))
        if not 0 <= self.seed < 1 << 63:
            raise ParamsError("loader.seed", f"must be 0 or more, and less than 2**63 (is {self.seed})")
        if not sum(self.lengths):
            raise ParamsError("loader.datasets", f"hold no samples (lengths {self.lengths}); is the split empty?")
        if not self.weights:
            return
        usable = all(isfinite(weight) and weight >= 0 for weight in self.weights)
        if len(self.weights) != len(self.lengths) or not usable or not sum(self.weights):
            raise ParamsError(
                "loader.weights",
                f"need one finite number of 0 or more per dataset, not all 0 (are {self.weights} for {len(self.lengths)})",
            )
        empty = [
            index for index, (length, weight) in enumerate(zip(self.lengths, self.weights, strict=True)) if weight and not length
        ]
        if empty:
            raise ParamsError(f"loader.weights.{empty[0]}", "is above 0, but the dataset is empty; set 0 or leave it out")

    @property
    def num_samples(self) -> int:
        """Samples of one epoch."""
        return sum(self.lengths)

    @property
    def digest(self) -> str:
        """Identifies the order; equal for equal attributes."""
        return hashlib.sha256(json.dumps([self.lengths, self.weights, self.seed, self.shuffle]).encode()).hexdigest()[:16]

    def shares(self) -> tuple[int, ...]:
        """Return how many samples of each dataset an epoch draws; they add up to `num_samples` (largest remainders)."""
        if not self.weights:
            return self.lengths
        exact = [self.num_samples * weight / sum(self.weights) for weight in self.weights]
        shares = [int(share) for share in exact]
        largest = sorted(range(len(exact)), key=lambda index: (shares[index] - exact[index], index))
        for index in largest[: self.num_samples - sum(shares)]:
            shares[index] += 1
        return tuple(shares)

    def epoch_indices(self, epoch: int) -> Int64s:
        """Return the samples of an epoch in order.

        Args:
            epoch: From 0.

        Returns:
            int64 (num_samples,), indices into the datasets laid one after another. O(n log n) time, 24 bytes per sample.
        """
        shares = self.shares()
        offsets = [0, *accumulate(self.lengths)]
        drawn = [self._draw(dataset, epoch * share, share) + offsets[dataset] for dataset, share in enumerate(shares)]
        if not self.shuffle or len(drawn) == 1:
            return np.concatenate(drawn)
        turns = np.repeat(np.arange(len(shares)), shares)[_permutation(self.num_samples, self.seed, len(shares), epoch)]
        indices = np.empty(self.num_samples, np.int64)
        for dataset, samples in enumerate(drawn):
            indices[turns == dataset] = samples
        return indices

    def _draw(self, dataset: int, first: int, count: int) -> Int64s:
        """Draws `[first, first + count)` of a dataset whose passes, each a permutation, are laid one after another."""
        if not count:
            return np.empty(0, np.int64)
        length = self.lengths[dataset]
        passes = range(first // length, (first + count - 1) // length + 1)
        ordered = np.arange(length)
        laid = [_permutation(length, self.seed, dataset, number) if self.shuffle else ordered for number in passes]
        start = first - passes[0] * length
        return np.concatenate(laid)[start : start + count]


def _permutation(length: int, *seeds: int) -> Int64s:
    # Raw words of a bit generator are the same in every NumPy release, those of `Generator.permutation` need not be.
    words = np.random.Philox(np.random.SeedSequence(seeds)).random_raw(length)
    return np.argsort(words, kind="stable")


@dataclass(frozen=True)
class RankShare:
    """Which part of every global batch a rank gets.

    A global batch is `batch_size * world_size` consecutive samples of the order; rank r gets the r-th part of it.

    Attributes:
        batch_size: Samples per batch of one rank.
        rank: This process, from 0.
        world_size: Processes that share a global batch.
        drop_last: Leave out the samples that do not fill a global batch; other ones every epoch. False divides them among the ranks as
            evenly as possible, so that ranks can get one batch less than others: for evaluation, not for training in step.

    Raises:
        ParamsError: No such share.
    """

    batch_size: int
    rank: int = 0
    world_size: int = 1
    drop_last: bool = True

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ParamsError("loader.batch_size", f"must be 1 or more (is {self.batch_size})")
        if not 0 <= self.rank < self.world_size:
            raise ParamsError("loader.rank", f"must be from 0 to world_size - 1 (is {self.rank} of {self.world_size})")

    @property
    def global_batch_size(self) -> int:
        """Samples of one batch of all ranks together."""
        return self.batch_size * self.world_size

    def num_batches(self, num_samples: int) -> int:
        """Return the global batches that so many samples give."""
        return num_samples // self.global_batch_size if self.drop_last else -(-num_samples // self.global_batch_size)

    def iter_batches(self, indices: Int64s, first: int) -> Iterator[list[int]]:
        """Yield this rank's batches of an epoch.

        Args:
            indices: The epoch's samples, int64 (n,).
            first: Samples of the epoch that all ranks together have consumed already.

        Yields:
            Lists of indices; the same number on every rank if `drop_last`.
        """
        step = self.global_batch_size
        stop = first + (len(indices) - first) // step * step
        for start in range(first, stop, step):
            mine = start + self.rank * self.batch_size
            yield indices[mine : mine + self.batch_size].tolist()
        if not self.drop_last:
            rest = np.array_split(indices[stop:], self.world_size)[self.rank]
            if len(rest):
                yield rest.tolist()
