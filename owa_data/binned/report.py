"""What became of a build of the binned dataset: metrics, a plot, words."""

from __future__ import annotations

from owa_data.binned.convert import ACTION_COUNT_ENDS
from owa_data.params import BinnedParams
from owa_data.store.dataset_folder import Lineage
from owa_data.store.ledger import Counts, add_counts
from owa_data.store.metrics import aggregate


def binned_metrics(lineage: Lineage, params: BinnedParams) -> Counts:
    """Return the content of `metrics/binned.json`: bins, actions, empty ones, what became of each topic, by split and group."""
    return aggregate(lineage, lambda counts: _finish(counts, params))


def _finish(counts: Counts, params: BinnedParams) -> Counts:
    counts.pop("actions_per_row", None)
    rows = counts.get("rows", 0)
    counts["fps"] = params.fps
    counts["actions_per_bin"] = round(counts.get("actions", 0) / rows, 3) if rows else 0.0
    counts["empty_ratio"] = round(counts.get("rows_without_actions", 0) / rows, 6) if rows else 0.0
    return counts


def actions_plot(lineage: Lineage) -> list[Counts]:
    """Return the rows of `plots/binned_actions.json`: how many bins hold how many actions."""
    histogram = add_counts(episode.ledger.get("actions_per_row", {}) for episode in lineage.episodes)
    labels = [_label(index) for index in range(len(ACTION_COUNT_ENDS) + 1)]
    return [{"actions": labels[int(index)], "bins": number} for index, number in sorted(histogram.items())]


def _label(index: int) -> str:
    if index == len(ACTION_COUNT_ENDS):
        return f"over {ACTION_COUNT_ENDS[-1]}"
    end = ACTION_COUNT_ENDS[index]
    first = ACTION_COUNT_ENDS[index - 1] + 1 if index else 0
    return str(end) if first == end else f"{first} to {end}"


def describe_binned(metrics: Counts) -> str:
    """Return a short summary for people."""
    lines = [
        (
            f"binned: {metrics['episodes']} episodes, {metrics['rows']:,} bins at {metrics['fps']:g} fps, {metrics['actions']:,} actions, "
            f"{metrics['empty_ratio']:.1%} of the bins without any, {metrics['size_bytes'] / 1e6:.1f} MB"
        )
    ]
    for topic, counts in metrics["topics"].items():
        fates = [f"{number:,} {reason}" for reason, number in counts["dropped"].items()]
        lines.append(f"  {topic}: {counts['read']:,} read, {counts['kept']:,} kept; dropped: {', '.join(fates) or 'none'}")
    return "\n".join(lines)
