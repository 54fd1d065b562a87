"""Build the binned dataset from the event dataset.

Input: the lineage of the event dataset, `BinnedParams`. Output: the dataset folder and the counts for `metrics/binned.json`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from owa_data.binned.bins import BinFunction, find_bin_function
from owa_data.binned.convert import ACTION_COUNT_ENDS, convert_events
from owa_data.errors import ParamsError
from owa_data.params import BinnedParams
from owa_data.store.dataset_folder import Lineage
from owa_data.store.incremental import EpisodeInput
from owa_data.store.ledger import Counts, add_counts
from owa_data.store.metrics import aggregate
from owa_data.store.shards import read_shard
from owa_data.store.source import ByteSource


@dataclass(frozen=True)
class BinnedConversion:
    """Conversion of event shards with fixed params; picklable. `bin_function_sha256` is of the source of one's own bin function as it is now."""

    params: BinnedParams
    kind: str = "binned"
    bin_function_sha256: str = field(init=False)

    def __post_init__(self) -> None:
        """Digest the bin function.

        Raises:
            ParamsError: There is no such function.
        """
        object.__setattr__(self, "bin_function_sha256", find_bin_function(self.params.bin_function)[1])

    @property
    def key_params(self) -> dict[str, Any]:
        """See `store.incremental.Conversion`. A bin function of one's own counts by the content of its file."""
        return {
            **self.params.model_dump(mode="json"),
            "bin_function_sha256": self.bin_function_sha256,
        }

    def convert(self, source: ByteSource, episode: EpisodeInput) -> tuple[Iterator[pa.RecordBatch], Counts]:
        """Convert one event shard."""
        rows = read_shard(source.read(0, source.size_bytes))
        return convert_events(rows, episode.episode_path, self.params, self.same_bin_function())

    def same_bin_function(self) -> BinFunction:
        """Return the bin function.

        Raises:
            ParamsError: It is not the one that the build began with.
        """
        bin_function, sha256 = find_bin_function(self.params.bin_function)
        if sha256 != self.bin_function_sha256:
            raise ParamsError("binned.bin_function", f"{self.params.bin_function!r} was edited while the build ran. Run it again")
        return bin_function


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
