"""What became of a build of the fsl dataset: metrics, plots, words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from owa_data.fsl.convert import NUM_FILL_BINS
from owa_data.params import FslParams
from owa_data.store.dataset_folder import Lineage
from owa_data.store.ledger import Counts, add_counts
from owa_data.store.metrics import aggregate


def fsl_metrics(lineage: Lineage, events: Lineage, params: FslParams) -> Counts:
    """Return the content of `metrics/fsl.json`: rows, tokens, padding, images, drops, by split and group."""
    active_ns = {episode.episode_path: episode.ledger["active_ns"] for episode in events.episodes}
    episodes = [
        msgspec.structs.replace(episode, ledger={**episode.ledger, "active_ns": active_ns[episode.episode_path]})
        for episode in lineage.episodes
    ]
    return aggregate(msgspec.structs.replace(lineage, episodes=episodes), lambda counts: _finish(counts, params))


def _finish(counts: Counts, params: FslParams) -> Counts:
    counts.pop("fill", None)
    active_hours = counts.pop("active_ns", 0) / 3600e9
    tokens, padding = counts.get("tokens", 0), counts.get("padding_tokens", 0)
    image_tokens = counts.get("by_kind", {}).get("screen", {}).get("tokens", 0)
    counts["max_sequence_length"] = params.max_sequence_length
    counts["padding_ratio"] = round(padding / (tokens + padding), 6) if tokens + padding else 0.0
    counts["image_token_ratio"] = round(image_tokens / tokens, 6) if tokens else 0.0
    counts["tokens_per_active_hour"] = round(tokens / active_hours) if active_hours else 0
    counts["bytes_per_token"] = round(counts.get("size_bytes", 0) / tokens, 3) if tokens else 0.0
    return counts


def fill_plot(lineage: Lineage) -> list[Mapping[str, Any]]:
    """Return the rows of `plots/fsl_fill.json`: how many rows are filled to which share."""
    fill = add_counts(episode.ledger.get("fill", {}) for episode in lineage.episodes)
    return [{"filled_percent": (int(index) + 1) * 100 // NUM_FILL_BINS, "rows": number} for index, number in sorted(fill.items())]


def kind_plot(lineage: Lineage) -> list[Mapping[str, Any]]:
    """Return the rows of `plots/fsl_tokens.json`: tokens per event type."""
    kinds = add_counts(episode.ledger.get("by_kind", {}) for episode in lineage.episodes)
    return [{"event_type": kind, "tokens": counts["tokens"], "events": counts["events"]} for kind, counts in kinds.items()]


def describe_fsl(metrics: Counts) -> str:
    """Return a short summary for people."""
    dropped = [f"{number:,} {reason}" for reason, number in metrics["events"]["dropped"].items()]
    lines = [
        (
            f"fsl: {metrics['episodes']} episodes, {metrics['rows']:,} rows of {metrics['max_sequence_length']}, {metrics['tokens']:,} tokens, "
            f"{metrics['padding_ratio']:.1%} padding, {metrics['images']:,} images, {metrics['size_bytes'] / 1e6:.1f} MB"
        ),
        f"  events: {metrics['events']['read']:,} read, {metrics['events']['kept']:,} kept; dropped: {', '.join(dropped) or 'none'}",
    ]
    lines += [f"  {split}: {counts.get('rows', 0):,} rows" for split, counts in metrics["by_split"].items()]
    return "\n".join(lines)
