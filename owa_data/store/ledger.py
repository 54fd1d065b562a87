"""Counts of one conversion: what was read, kept, dropped and altered. Ledgers of episodes add up to a stage's metrics.

A ledger is a tree of plain dicts with integer leaves, so that it is stored as JSON beside its shard and added key by key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Counts = dict[str, Any]


def topic_counts(read: int, kept: int, dropped: Mapping[str, int], **altered: int) -> Counts:
    """Make the entry of one topic.

    Args:
        read: Messages that the reader found.
        kept: Messages that are in the result.
        dropped: Messages that are not, by reason.
        **altered: What happened to kept ones, or was added: `added`, `summed`, ...

    Raises:
        AssertionError: `read != kept + sum(dropped)`: a message got lost in this program.
    """
    reasons = {reason: int(number) for reason, number in dropped.items() if number}
    if read != kept + sum(reasons.values()):
        raise AssertionError(f"ledger does not balance: {read = }, {kept = }, dropped = {reasons}")
    return {"read": int(read), "kept": int(kept), "dropped": reasons, **{k: int(v) for k, v in altered.items() if v}}


def add_counts(ledgers: Iterable[Mapping[str, Any]]) -> Counts:
    """Add ledgers leaf by leaf; a key that some lack counts as 0 there. Keys come out sorted.

    Example:
        >>> add_counts([{"a": 1, "b": {"x": 2}}, {"b": {"x": 3, "y": 1}}])
        {'a': 1, 'b': {'x': 5, 'y': 1}}
    """
    total: Counts = {}
    for ledger in ledgers:
        _add_into(total, ledger)
    return _sorted(total)


def add_by_split_and_group(
    ledgers: Iterable[tuple[str, str, Mapping[str, Any]]],
) -> tuple[Counts, dict[str, Counts], dict[str, Counts]]:
    """Add ledgers, each given with its split and its group.

    Returns:
        The sum of all, the sums by split and by group. Each ledger is gone through once: these are sums of sums.
    """
    cells: dict[tuple[str, str], Counts] = {}
    for split, group, ledger in ledgers:
        _add_into(cells.setdefault((split, group), {}), ledger)
    by_split: dict[str, list[Counts]] = {}
    by_group: dict[str, list[Counts]] = {}
    for (split, group), counts in cells.items():
        by_split.setdefault(split, []).append(counts)
        by_group.setdefault(group, []).append(counts)
    splits = {split: add_counts(parts) for split, parts in sorted(by_split.items())}
    groups = {group: add_counts(parts) for group, parts in sorted(by_group.items())}
    return add_counts(splits.values()), splits, groups


def _add_into(total: Counts, ledger: Mapping[str, Any]) -> None:
    for key, value in ledger.items():
        if isinstance(value, dict):  # plain dicts, as the keys of `total` become: `Mapping` takes three times as long to ask for
            _add_into(total.setdefault(key, {}), value)
        else:
            total[key] = total.get(key, 0) + value


def _sorted(tree: Counts) -> Counts:
    return {key: _sorted(value) if isinstance(value, dict) else value for key, value in sorted(tree.items())}
