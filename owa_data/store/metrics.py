"""Ledgers of a dataset added up for `metrics/<stage>.json`: in all, by split, by group."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from owa_data.schema import SPLITS
from owa_data.store.dataset_folder import EpisodeLineage, Lineage
from owa_data.store.ledger import Counts, add_counts


def aggregate(lineage: Lineage, finish: Callable[[Counts], Counts]) -> Counts:
    """Add up the episodes' ledgers.

    Args:
        lineage: The dataset's.
        finish: Adds derived numbers, such as ratios, to a sum of ledgers.

    Returns:
        The sum over all episodes, with `by_split` and `by_group` beside it.
    """
    groups = sorted({episode.group for episode in lineage.episodes})
    return {
        **finish(_sum(lineage.episodes)),
        "by_split": {split: finish(_sum(e for e in lineage.episodes if e.split == split)) for split in SPLITS},
        "by_group": {group: finish(_sum(e for e in lineage.episodes if e.group == group)) for group in groups},
    }


def _sum(episodes: Iterable[EpisodeLineage]) -> Counts:
    return add_counts({"episodes": 1, "size_bytes": episode.size_bytes, **episode.ledger} for episode in episodes)
