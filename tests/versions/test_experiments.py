"""A queued sweep: four results, each as if built by hand, and shards that two of them share stored once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from owa_data.store.cache_upkeep import read_contents
from owa_data.store.remote import fetch_dataset, open_remote
from owa_data.store.shard_cache import ShardCache
from tests.conftest import Repo, tree_bytes
from tests.versions.test_consumers import add_tokenizer

pytestmark = pytest.mark.slow

TOKENIZERS = ("byte", "byte16")
LIMITS = (2, 3)


def _wait_for_queue(repo: Repo, num_tasks: int) -> None:
    end = time.monotonic() + 400
    status = ""
    while time.monotonic() < end:
        status = repo.run("dvc", "queue", "status")
        if status.count("Success") == num_tasks:
            return
        assert "Failed" not in status, status
        time.sleep(3)
    raise AssertionError(status)


def test_a_queued_sweep_over_tokenizers_and_episodes(make_repo: Callable[..., Repo], tmp_path: Path) -> None:
    repo = make_repo()
    add_tokenizer(repo, "byte16", 16)
    repo.set_params(raw__split__test_groups=[], raw__split__test=["a/two.mcap"], fsl__max_sequence_length=1024)
    repo.commit("two tokenizers")
    sweep = (f"fsl.tokenizer={','.join(TOKENIZERS)}", f"raw.limit={','.join(map(str, LIMITS))}")
    repo.run("dvc", "exp", "run", "fsl", "--queue", *(part for knob in sweep for part in ("-S", knob)))
    repo.run("dvc", "queue", "start", "-j", "1")
    _wait_for_queue(repo, 4)

    # What the experiments made, each read at its own revision.
    rows = [
        line.split() for line in repo.run("git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps").splitlines()
    ]
    commits = [commit for name, commit in rows if len(name.split("/")[2]) == 2]
    fetched_cache = ShardCache(tmp_path / "fetched")
    results = {}
    keys = set()
    for commit in commits:
        remote = open_remote("dvc://data/fsl", repo=str(repo.root), rev=commit)
        keys |= {episode.key for episode in remote.lineage.episodes}
        key = (remote.lineage.facts["tokenizer"]["name"], len(remote.lineage.episodes))
        results[key] = tree_bytes(fetch_dataset(remote, fetched_cache))
    assert set(results) == {(tokenizer, limit) for tokenizer in TOKENIZERS for limit in LIMITS}

    # Stored once: four results of ten episodes in all name six fsl shards, each with one inode for shard cache and DVC cache. Besides these the
    # shard cache has three event shards and the two tokenizers.
    shards = ShardCache(repo.root / ".dvc/cache/owa-shards")
    assert len(keys) == 3 * len(TOKENIZERS)
    assert len(read_contents(shards).shards) == len(keys) + 3 + len(TOKENIZERS)
    objects = {path.stat().st_ino for path in (repo.root / ".dvc/cache/files").rglob("*") if path.is_file()}
    assert {shards.path_of(key).stat().st_ino for key in keys} <= objects

    # The same by hand, without any cache.
    repo.environment["OWA_DATA_SHARD_CACHE"] = str(tmp_path / "scratch")
    for limit in LIMITS:
        knobs = (f"index={tmp_path}/{limit}.jsonl", f"metrics_dir={tmp_path}/metrics", f"plots_dir={tmp_path}/plots")
        repo.run("python", "-m", "stages.raw", f"limit={limit}", *knobs)
        repo.run("python", "-m", "stages.event", f"out_dir={tmp_path}/event{limit}", *knobs)
        for tokenizer in TOKENIZERS:
            out_dir = tmp_path / f"fsl-{tokenizer}-{limit}"
            places = (f"in_dir={tmp_path}/event{limit}", f"out_dir={out_dir}")
            repo.run("python", "-m", "stages.fsl", f"tokenizer={tokenizer}", *places, *knobs)
            assert tree_bytes(out_dir) == results[tokenizer, limit]
