"""What became of a build of the event dataset: metrics, a plot, words."""

from __future__ import annotations

from owa_data.params import EventParams
from owa_data.store.dataset_folder import Lineage
from owa_data.store.ledger import Counts, add_counts
from owa_data.store.metrics import aggregate


def event_metrics(lineage: Lineage, params: EventParams) -> Counts:
    """Return the content of `metrics/event.json`: counts per topic, asked and achieved rates, by split and group."""
    return aggregate(lineage, lambda counts: _finish(counts, params))


def _finish(counts: Counts, params: EventParams) -> Counts:
    active_s = counts.pop("active_ns", 0) / 1e9
    counts["active_hours"] = round(active_s / 3600, 6)
    for row in params.topics.values():
        topic = counts.get("topics", {}).get(row.topic)
        if topic is not None:
            topic["asked_hz"] = row.rate_hz
            topic["achieved_hz"] = round((topic["kept"] + topic.get("added", 0)) / active_s, 3) if active_s else 0.0
    return counts


def topic_plot(lineage: Lineage) -> list[Counts]:
    """Return the rows of `plots/event_topics.json`: what became of each topic's messages."""
    topics = add_counts(episode.ledger["topics"] for episode in lineage.episodes)
    rows = []
    for topic, counts in topics.items():
        rows.append({"topic": topic, "fate": "kept", "messages": counts["kept"]})
        rows += [{"topic": topic, "fate": f"dropped: {reason}", "messages": n} for reason, n in counts["dropped"].items()]
    return rows


def describe_event(metrics: Counts) -> str:
    """Return a short summary for people."""
    lines = [
        (
            f"event: {metrics['episodes']} episodes, {metrics['active_hours']:.3f} active hours, {metrics['rows']:,} rows, "
            f"{metrics['size_bytes'] / 1e6:.1f} MB"
        )
    ]
    for topic, counts in metrics["topics"].items():
        fates = [f"{number:,} {reason}" for reason, number in counts["dropped"].items()]
        asked, achieved = counts["asked_hz"], counts["achieved_hz"]
        rate = f", {achieved:.1f} Hz" + (f" of {asked:g}" if asked else "")
        if asked and achieved > asked * 1.01:
            rate += " and what is never thinned out"  # clicks, wheel
        lines.append(f"  {topic}: {counts['read']:,} read, {counts['kept']:,} kept{rate}; dropped: {', '.join(fates) or 'none'}")
    return "\n".join(lines)
