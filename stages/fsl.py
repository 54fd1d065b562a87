"""Stage `fsl`: `data/event` to `data/fsl`, token rows of fixed length."""

from __future__ import annotations

from pathlib import Path

from owa_data.cli.repository import find_shard_cache
from owa_data.params import FslParams, TokenizerParams, validate_params
from stages import Conf, logger, run_stage, runtime_of, take_knobs, warn_of_no_rows, write_json


def build(conf: Conf) -> None:
    """Build the dataset."""
    # Imported here, while DVC is being asked where its cache is.
    from owa_data.fsl.build import plan_fsl
    from owa_data.fsl.report import describe_fsl, fill_plot, fsl_metrics, kind_plot
    from owa_data.store.dataset_folder import read_lineage
    from owa_data.store.incremental import build_dataset, describe_plan

    tokenizer = validate_params(TokenizerParams, conf["tokenizer"], "tokenizer")
    params = take_knobs({**conf, "tokenizer": tokenizer.name}, FslParams, "fsl")
    runtime, out_dir, cache = runtime_of(conf), Path(conf["out_dir"]), find_shard_cache()
    events = read_lineage(conf["in_dir"], "event")
    plan = plan_fsl(params, tokenizer, events, Path(conf["in_dir"]), cache)
    if conf["dry_run"]:
        logger.info("%s", describe_plan(plan, out_dir))
        return
    lineage = build_dataset(plan, out_dir, cache, runtime)
    metrics = fsl_metrics(lineage, events, params)
    logger.info("%s", describe_fsl(metrics))
    warn_of_no_rows("fsl", metrics)
    write_json(conf["metrics_dir"], "fsl", metrics)
    write_json(conf["plots_dir"], "fsl_fill", fill_plot(lineage))
    write_json(conf["plots_dir"], "fsl_tokens", kind_plot(lineage))


if __name__ == "__main__":
    run_stage("fsl", build)
