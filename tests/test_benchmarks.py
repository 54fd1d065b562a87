"""The benchmarks compare like with like: the row-at-a-time baseline makes the same tokens as the stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.baseline import time_event, time_fsl
from benchmarks.corpus import tokenizers
from benchmarks.limits import measure_limits
from benchmarks.plot import draw_time_by_hours
from benchmarks.stages import measure_stages
from owa_data.sample.workload import write_episode


@pytest.mark.slow
def test_baseline_and_stages_do_the_same_work(tmp_path: Path) -> None:
    recording = write_episode(tmp_path / "corpus", 0, 12.0)
    tokenizer = next(iter(tokenizers().values()))
    raw, event, fsl = measure_stages(tmp_path / "corpus", 1, 1, tokenizer, tmp_path / "work")
    assert raw["messages"] > event["messages_of_topics"] > event["events"] > 0
    assert time_event(recording, 0)["messages"] == event["messages_of_topics"]

    from benchmarks.stages import make_event_dataset

    events = make_event_dataset(tmp_path / "corpus", 1, tmp_path / "events")
    shard = next(path for path in events.rglob("0000.arrow"))
    for library in ("tokenizers", "transformers"):
        by_hand = time_fsl(shard, tokenizer, 0, library)
        assert (by_hand["events"], by_hand["tokens"]) == (fsl["events"], fsl["tokens"])
    limits = measure_limits([recording], [shard], tmp_path)
    assert set(limits) == {"decompress_s", "decode_s", "write_s"}
    draw_time_by_hours([raw, event, fsl], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size
