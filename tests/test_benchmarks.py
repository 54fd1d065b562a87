"""The benchmarks compare like with like: the row-at-a-time baseline makes the same datasets as the stages, column by column."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks.baseline import write_events, write_sequences
from benchmarks.corpus import tokenizers
from benchmarks.limits import measure_limits
from benchmarks.plot import draw_time_by_hours
from benchmarks.stages import build_datasets, measure_stages
from owa_data.sample.workload import write_episode
from tests.conftest import shared_path


def rows_of(shard: Path) -> pa.Table:
    with pa.memory_map(str(shard)) as file:
        return pa.ipc.open_stream(file).read_all()


def check_against_the_baseline(recording: Path, work: Path, library: str = "tokenizers") -> None:
    tokenizer = next(iter(tokenizers().values()))
    folder = build_datasets(recording.parent, 1, tokenizer, work)
    event, fsl = (next((folder / kind).rglob(f"{recording.stem}.arrow")) for kind in ("event", "fsl"))
    assert write_events(recording, recording.name, work / "event.arrow", 0)
    assert rows_of(work / "event.arrow").to_pylist() == rows_of(event).to_pylist()
    write_sequences(event, work / "fsl.arrow", tokenizer, 0, library)
    by_hand, ours = rows_of(work / "fsl.arrow"), rows_of(fsl)
    assert by_hand.num_rows == ours.num_rows
    for name in ours.column_names:
        assert by_hand[name].to_pylist() == ours[name].to_pylist(), name


def test_one_row_at_a_time_gives_the_same_datasets(tmp_path: Path) -> None:
    recording = write_episode(tmp_path / "corpus", 0, 20.0)
    check_against_the_baseline(recording, tmp_path / "work")


@pytest.mark.filterwarnings("ignore:Reader version")
def test_one_row_at_a_time_gives_the_same_datasets_of_a_real_recording(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    recording = Path(shutil.copy(shared_path("recordings/0.5.1.mcap"), tmp_path / "corpus"))
    check_against_the_baseline(recording, tmp_path / "work")


@pytest.mark.slow
def test_transformers_gives_the_same_ids(tmp_path: Path) -> None:
    check_against_the_baseline(write_episode(tmp_path / "corpus", 0, 5.0), tmp_path / "work", "transformers")


@pytest.mark.slow
def test_stages_and_limits_are_measured(tmp_path: Path) -> None:
    recording = write_episode(tmp_path / "corpus", 0, 12.0)
    raw, event, fsl = measure_stages(tmp_path / "corpus", 1, 1, next(iter(tokenizers().values())), tmp_path / "work")
    assert raw["messages"] > event["messages_of_topics"] > event["events"] > 0
    limits = measure_limits([recording], [recording], tmp_path)
    assert 0 < limits["event_over_bounds_q1"] <= limits["event_over_bounds"] <= limits["event_over_bounds_q3"]
    assert min(limits[f"{name}_s"] for name in ("decompress", "decode", "event", "write")) > 0
    draw_time_by_hours([raw, event, fsl], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size
