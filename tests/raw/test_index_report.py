"""What is told of an episode index."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from owa_data.params import RawParams, RuntimeParams, SplitParams
from owa_data.raw.build import build_index
from owa_data.store.shard_cache import ShardCache

HERE = RuntimeParams(num_workers=1, progress=False)


def test_copies_are_told_and_where_they_cross_the_split(
    toy_recordings: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recordings = tmp_path / "recordings"
    shutil.copytree(toy_recordings, recordings)
    shutil.copy(recordings / "a/one.mcap", recordings / "a/other.mcap")
    shutil.copy(recordings / "a/one.mcap", recordings / "b/again.mcap")
    params = RawParams(dir=str(recordings), watch=str(recordings), metadata="", split=SplitParams(test_groups=("b",)))
    assert len(build_index(params, ShardCache(tmp_path / "cache"), HERE).episodes) == 5
    assert "2 recordings are copies of others, 1 of them in another split" in caplog.text
    assert "a/other.mcap is a copy of a/one.mcap\n" in caplog.text
    assert "b/again.mcap is a copy of a/one.mcap (train and test)" in caplog.text
