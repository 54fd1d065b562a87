"""Stage `raw`: recordings to the episode index `data/episodes.jsonl`."""

from __future__ import annotations

from pathlib import Path

from owa_data.cli.repository import find_shard_cache
from owa_data.params import RawParams
from stages import Conf, logger, run_stage, runtime_of, take_knobs, write_json


def build(conf: Conf) -> None:
    """Build the index."""
    # Imported here, while DVC is being asked where its cache is.
    from owa_data.raw.build import build_index, describe_index, index_metrics
    from owa_data.raw.episodes import write_episodes

    params = take_knobs(conf, RawParams, "raw")
    index = build_index(params, find_shard_cache(), runtime_of(conf))
    metrics = index_metrics(index)
    logger.info("%s", describe_index(metrics))
    if conf["dry_run"]:
        return
    write_episodes(Path(conf["index"]), index.episodes)
    write_json(conf["metrics_dir"], "raw", metrics)


if __name__ == "__main__":
    run_stage("raw", build)
