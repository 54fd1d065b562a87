"""Datasets of the toy recordings, built by the library alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

from owa_data.binned.build import plan_binned
from owa_data.binned.report import binned_metrics
from owa_data.event.build import plan_event
from owa_data.event.report import event_metrics
from owa_data.fsl.build import plan_fsl
from owa_data.fsl.report import fsl_metrics
from owa_data.params import BinnedParams, EventParams, FslParams, RawParams, RuntimeParams, SplitParams, TokenizerParams
from owa_data.raw.build import build_index
from owa_data.store.incremental import build_dataset
from owa_data.store.shard_cache import ShardCache
from tests.conftest import ROOT

RUNTIME = RuntimeParams(num_workers=1, progress=False)


def tokenizer_params(**changes: Any) -> TokenizerParams:
    """The embedded tokenizer, with changes."""
    return TokenizerParams.model_validate({**yaml.safe_load((ROOT / "conf/tokenizer/byte.yaml").read_text()), **changes})


def build_toy_datasets(folder: Path, recordings: Path, tokenizer: TokenizerParams, **fsl_params: Any) -> Path:
    """Build `data/event`, `data/fsl`, `data/binned` and their metrics below a folder; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.jsonl").write_text("")
    cache = ShardCache(folder / "cache")
    raw = RawParams(
        dir=str(recordings),
        watch=str(recordings),
        metadata=str(folder / "metadata.jsonl"),
        split=SplitParams(test_groups=("b",)),
    )
    episodes = build_index(raw, cache, RUNTIME).episodes
    events = build_dataset(plan_event(EventParams(), episodes, str(recordings), cache), folder / "data/event", cache, RUNTIME)
    params = FslParams(tokenizer=tokenizer.name, **{"max_sequence_length": 512, **fsl_params})
    plan = plan_fsl(params, tokenizer, events, folder / "data/event", cache)
    lineage = build_dataset(plan, folder / "data/fsl", cache, RUNTIME)
    plan = plan_binned(BinnedParams(), events, folder / "data/event", cache)
    binned = build_dataset(plan, folder / "data/binned", cache, RUNTIME)
    (folder / "metrics").mkdir(exist_ok=True)
    (folder / "metrics/binned.json").write_bytes(msgspec.json.encode(binned_metrics(binned, BinnedParams())))
    (folder / "metrics/event.json").write_bytes(msgspec.json.encode(event_metrics(events, EventParams())))
    (folder / "metrics/fsl.json").write_bytes(msgspec.json.encode(fsl_metrics(lineage, events, params)))
    return folder
