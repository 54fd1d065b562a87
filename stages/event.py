"""Stage `event`: recordings to `data/event`, one row per event."""

from __future__ import annotations

from pathlib import Path

from owa_data.cli.repository import find_shard_cache
from owa_data.params import EventParams
from stages import Conf, logger, run_stage, runtime_of, take_knobs, warn_of_no_rows, write_json


def build(conf: Conf) -> None:
    """Build the dataset."""
    # Imported here, while DVC is being asked where its cache is.
    from owa_data.event.build import plan_event
    from owa_data.event.report import describe_event, event_metrics, topic_plot
    from owa_data.raw.episodes import read_episodes
    from owa_data.store.incremental import build_dataset, describe_plan

    params = take_knobs(conf, EventParams, "event")
    out_dir, cache = Path(conf["out_dir"]), find_shard_cache()
    plan = plan_event(params, read_episodes(Path(conf["index"])), conf["in_dir"], cache)
    if conf["dry_run"]:
        logger.info("%s", describe_plan(plan, out_dir))
        return
    lineage = build_dataset(plan, out_dir, cache, runtime_of(conf))
    metrics = event_metrics(lineage, params)
    logger.info("%s", describe_event(metrics))
    warn_of_no_rows("event", metrics)
    write_json(conf["metrics_dir"], "event", metrics)
    write_json(conf["plots_dir"], "event_topics", topic_plot(lineage))


if __name__ == "__main__":
    run_stage("event", build)
