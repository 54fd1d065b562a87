"""The stage under real DVC: left out of `dvc repro fsl`, rebuilt one shard at a time, equal to a build from scratch."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import py_compile
import shutil

import datasets
import pytest

from owa_data.binned.bins import call_bin_function, find_bin_function
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


def test_what_runs_is_what_was_digested(tmp_path, monkeypatch):
    # Python takes a compiled file for the source where size and second are the same.
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "same_second_bins.py"
    found = []
    for number in (1, 2):
        file.write_text(f"def bins(events, params): return {number}")
        os.utime(file, (1, 1))
        py_compile.compile(str(file))
        function, sha256 = find_bin_function("same_second_bins:bins")
        found.append((function(None, None), sha256 == hashlib.sha256(file.read_bytes()).hexdigest()))
    assert found == [(1, True), (2, True)]


def test_a_function_edited_while_the_build_runs_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "edited_bins.py").write_text(MY_BINS)
    conversion = pickle.loads(pickle.dumps(BinnedConversion(BinnedParams(bin_function="edited_bins:by_interval"))))
    before = conversion.key_params
    (tmp_path / "edited_bins.py").write_text(MY_BINS + "\n")
    with pytest.raises(ParamsError, match="was edited while the build ran"):
        conversion.convert(None, None)
    assert conversion.key_params != before  # by which a build that converted nothing sees it


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("5", "returned 5, not `owa_data.binned.bins.Bins`"),
        ("Bins([1], np.zeros(1, np.int64))", "returned Bins whose starts_ns is a list"),
        ("Bins(np.zeros(2, np.int64), np.zeros(1, np.int64))", r"returned Bins whose interval_index is int64 \(1,\)"),
        ("Bins(np.zeros(1), np.zeros(1, np.int64))", r"returned Bins whose starts_ns is float64 \(1,\)"),
        ("exit(3)", "ended the program with status 3"),
        ("1 / 0", "raised ZeroDivisionError"),
    ],
)
def test_what_a_function_may_not_return_is_told(tmp_path, monkeypatch, returned, told):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "wrong_bins.py").write_text(f"{MY_BINS}\ndef wrong(events, params): return {returned}\n")
    params = BinnedParams(bin_function="wrong_bins:wrong")
    with pytest.raises(ParamsError, match=f"'wrong_bins:wrong' {told}"):
        call_bin_function(find_bin_function(params.bin_function)[0], None, params)


@pytest.mark.slow
def test_settings_edited_while_a_stage_runs_are_not_noted_as_done(make_repo):
    repo = make_repo()
    edit = "\n    import pathlib; p = pathlib.Path('params.yaml'); p.write_text(p.read_text().replace('fps: 10', 'fps: 33'))"
    (repo.root / "my_bins.py").write_text(MY_BINS.replace("(events, params):", f"(events, params):{edit}"))
    repo.set_params(binned__bin_function="my_bins:by_interval")
    output = repo.run("dvc", "repro", "binned", check=False)
    assert "settings of binned were edited while it ran" in output
    assert "binned: 0 converted, 3 reused" not in output
    assert "binned: 3 converted, 0 reused" in repo.run("dvc", "repro", "binned")


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


def test_a_module_that_fails_to_load_is_loaded_anew(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "half_bins.py").write_text("raise RuntimeError('half')")
    with pytest.raises(ParamsError, match="RuntimeError: half"):
        find_bin_function("half_bins:by_interval")
    (tmp_path / "half_bins.py").write_text(MY_BINS)
    assert find_bin_function("half_bins:by_interval")[1]
