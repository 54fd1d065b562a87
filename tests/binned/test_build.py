"""The stage under real DVC: left out of `dvc repro fsl`, rebuilt one shard at a time, equal to a build from scratch."""

from __future__ import annotations

import json
import shutil

import datasets
import pytest

from owa_data.binned.build import BinnedConversion
from owa_data.errors import ParamsError
from owa_data.params import BinnedParams
from tests.conftest import tree_bytes, write_toy

MY_BINS = """
import numpy as np
from owa_data.binned.bins import Bins

def by_interval(events, params):
    intervals, firsts = np.unique(events.interval_index, return_index=True)
    return Bins(events.times_ns[firsts], intervals)
"""


def test_a_function_of_ones_own_is_part_of_the_key_by_its_content(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "key_bins.py").write_text(MY_BINS)
    key = BinnedConversion(BinnedParams(bin_function="key_bins:by_interval")).key_params
    assert key != BinnedConversion(BinnedParams()).key_params
    (tmp_path / "key_bins.py").write_text(MY_BINS + "\n")
    assert BinnedConversion(BinnedParams(bin_function="key_bins:by_interval")).key_params != key
    for name in ("key_bins:__name__", "raising_bins:f", ".bins:f"):
        with pytest.raises(ParamsError, match=r"binned\.bin_function: .*(no function|cannot be imported)"):
            _ = BinnedConversion(BinnedParams(bin_function=name)).key_params
    with pytest.raises(ParamsError, match=r"binned\.bin_function: 'key_bins:gone' cannot be imported"):
        _ = BinnedConversion(BinnedParams(bin_function="key_bins:gone")).key_params


@pytest.mark.slow
def test_binned_under_dvc(make_repo):
    repo = make_repo()
    repo.run("dvc", "repro", "-q", "fsl")
    assert not (repo.root / "data" / "binned").exists()
    assert "3 converted, 0 reused" in repo.run("dvc", "repro")
    rows = datasets.load_from_disk(str(repo.root / "data" / "binned"))
    metrics = json.loads((repo.root / "metrics" / "binned.json").read_text())
    assert metrics["rows"] == sum(len(split) for split in rows.values()) > 50
    for counts in metrics["topics"].values():
        assert counts["read"] == counts["kept"] + sum(counts["dropped"].values())
    repo.commit("built")

    repo.run("dvc", "unprotect", "recordings")
    write_toy(repo.root / "recordings", "a/one.mcap", 77)
    repo.run("dvc", "commit", "-q", "-f", "recordings.dvc")
    assert "binned: 1 converted, 2 reused" in repo.run("dvc", "repro")
    incremental = tree_bytes(repo.root / "data" / "binned")
    shutil.rmtree(repo.root / ".dvc" / "cache" / "owa-shards")
    repo.run("dvc", "repro", "-f")
    assert tree_bytes(repo.root / "data" / "binned") == incremental

    (repo.root / "my_bins.py").write_text(MY_BINS)
    repo.set_params(binned__bin_function="my_bins:by_interval")
    assert "binned: 3 converted, 0 reused" in repo.run("dvc", "repro", "binned")
