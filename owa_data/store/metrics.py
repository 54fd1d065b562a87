"""Ledgers of a dataset added up for `metrics/<stage>.json`: in all, by split, by group."""

from __future__ import annotations

from collections.abc import Callable

from owa_data.schema import SPLITS
from owa_data.store.dataset_folder import Lineage
from owa_data.store.ledger import Counts, add_by_split_and_group


def aggregate(lineage: Lineage, finish: Callable[[Counts], Counts]) -> Counts:
    """Add up the episodes' ledgers.

    Args:
        lineage: The dataset's.
        finish: Adds derived numbers, such as ratios, to a sum of ledgers.

    Returns:
        The sum over all episodes, with `by_split` and `by_group` beside it.
    """
    total, by_split, by_group = add_by_split_and_group(
        (episode.split, episode.group, {"episodes": 1, "size_bytes": episode.size_bytes, **episode.ledger})
        for episode in lineage.episodes
    )
    return {
        **finish(total),
        "by_split": {split: finish(by_split.get(split, {})) for split in SPLITS},
        "by_group": {group: finish(counts) for group, counts in by_group.items()},
    }
