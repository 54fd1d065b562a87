"""What docs/datasets.md and docs/loading.md print works as printed."""

from __future__ import annotations

import json
import re
import shlex

import datasets
import pyarrow as pa
import pytest

from owa_data.binned.convert import convert_events
from owa_data.params import BinnedParams
from owa_data.schema import BINNED_SCHEMA
from tests.binned.event_rows import EPISODE, event_rows, key, raw_mouse, screen
from tests.conftest import ROOT, shared_path


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("code", blocks("loading.md"))
def test_loading(built, tmp_path, monkeypatch, code):
    (tmp_path / "data").symlink_to(built)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OWA_DATA_RECORDINGS", str(built / "recordings"))
    namespace: dict = {}
    exec(code, namespace)
    assert namespace["train"][0]["images"][0].size == (448, 448)


def test_decoding(built, tmp_path, monkeypatch):
    (tmp_path / "data").symlink_to(built)
    monkeypatch.chdir(tmp_path)
    row = datasets.load_from_disk("data/fsl")["train"][0]
    namespace = {"row": row, "generated_ids": row["input_ids"], "generated_text": row["texts"]}
    exec(blocks("encodings.md")[0], namespace)  # the other one takes a processor from the hub
    assert len(namespace["decoded"].events) > 0
    assert namespace["decoded"].broken == []


def test_bins_of_ones_own():
    namespace: dict = {}
    exec(blocks("datasets.md")[0], namespace)
    rows = [
        screen(0),
        raw_mouse(10, flags=1),
        raw_mouse(10, flags=1),
        key(11, 65, "press"),
        raw_mouse(70, flags=1, interval=1),
        key(71, 66, "press", interval=1),
    ]
    batches, _ = convert_events(event_rows(rows), EPISODE, BinnedParams(), namespace["by_click"])
    bins = pa.Table.from_batches(list(batches), schema=BINNED_SCHEMA).to_pylist()
    assert [row["timestamp_ns"] for row in bins] == [0, 10, 70]
    assert [len(row["actions"]) for row in bins] == [0, 3, 2]
    assert not list(convert_events(event_rows([]), EPISODE, BinnedParams(), namespace["by_click"])[0])


@pytest.mark.slow
def test_settings_of_the_d2e_paper(make_repo):
    tokenizer = shared_path("tokenizers/internvl3")
    line = re.search(r"^    (dvc exp run -S fsl\.tokenizer=internvl3 .*)$", (ROOT / "docs/datasets.md").read_text(), re.MULTILINE)
    repo = make_repo()
    repo.run("owa-data", "tokenizer", "add", str(tokenizer), "--name", "internvl3", "--force")
    repo.commit("tokenizer")
    repo.run(*shlex.split(line.group(1)))
    metrics = json.loads((repo.root / "metrics" / "fsl.json").read_text())
    lineage = json.loads((repo.root / "data" / "fsl" / "owa.json").read_text())
    assert lineage["params"]["max_sequence_length"] == metrics["max_sequence_length"] == 8192
    assert lineage["params"]["encoder"] == "factorized"
    assert lineage["params"]["rows_without_images"] == "drop"
    assert lineage["params"]["time_shift_seconds_for_action"] == 0.1
    assert lineage["facts"]["tokenizer"]["name"] == "internvl3"
    assert lineage["facts"]["image"]["num_tokens"] == 258
    assert metrics["rows"] > 0
    assert not (repo.root / "data" / "binned").exists()
