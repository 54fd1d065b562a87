"""Stage `binned`: `data/event` to `data/binned`, one row per time bin."""

from __future__ import annotations

from pathlib import Path

from owa_data.cli.repository import find_shard_cache
from owa_data.params import BinnedParams
from stages import Conf, logger, run_stage, runtime_of, take_knobs, warn_of_no_rows, write_json


def build(conf: Conf) -> None:
    """Build the dataset."""
    # Imported here, while DVC is being asked where its cache is.
    from owa_data.binned.build import plan_binned
    from owa_data.binned.report import actions_plot, binned_metrics, describe_binned
    from owa_data.store.dataset_folder import read_lineage
    from owa_data.store.incremental import build_dataset, describe_plan

    params = take_knobs(conf, BinnedParams, "binned")
    out_dir, cache = Path(conf["out_dir"]), find_shard_cache()
    plan = plan_binned(params, read_lineage(conf["in_dir"], "event"), Path(conf["in_dir"]), cache)
    if conf["dry_run"]:
        logger.info("%s", describe_plan(plan, out_dir))
        return
    lineage = build_dataset(plan, out_dir, cache, runtime_of(conf))
    metrics = binned_metrics(lineage, params)
    logger.info("%s", describe_binned(metrics))
    warn_of_no_rows("binned", metrics)
    write_json(conf["metrics_dir"], "binned", metrics)
    write_json(conf["plots_dir"], "binned_actions", actions_plot(lineage))


if __name__ == "__main__":
    run_stage("binned", build)
