"""Data, configuration and datasets from elsewhere run no code and reach no file outside their folders."""

from __future__ import annotations

import ast
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import datasets
import msgspec
import pyarrow as pa
import pytest

from owa_data import load_from_disk
from owa_data.errors import ParamsError, SchemaError
from owa_data.params import RawParams
from owa_data.raw.discover import find_recordings
from owa_data.raw.episodes import read_episodes
from owa_data.schema import EVENT_SCHEMA, SCHEMA_VERSION
from owa_data.store import remote
from owa_data.store.cache_upkeep import drop_fetched, find_fetched, read_contents
from owa_data.store.dataset_folder import EpisodeLineage, Lineage, read_any_lineage, shard_name, write_dataset
from owa_data.store.remote import fetch_dataset, open_remote, stream_dataset
from owa_data.store.shard_cache import ShardCache, ShardRecord
from owa_data.store.shards import write_shard
from tests.conftest import ROOT
from tests.damage import write_mcap

FILES = [*sorted((ROOT / "owa_data").rglob("*.py")), *sorted((ROOT / "stages").rglob("*.py"))]
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
FUNCTIONS = {
    "eval",
    "exec",
    "compile",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "torch.load",
    "numpy.load",
    "np.load",
}
SETTINGS = {"shell", "trust_remote_code", "allow_pickle", "weights_only"}


def make_dataset(root, key, time_ns, names=("one",)):
    """An event dataset of one row per episode, the first one's shard under `key`."""
    cache = ShardCache(root / "cache")
    episodes = []
    for number, name in enumerate(sorted(names)):
        episode_path = f"folder/{name}.mcap"
        row = {
            "episode_path": episode_path,
            "topic": "k",
            "timestamp_ns": time_ns,
            "message_type": "t",
            "mcap_message": b"x",
            "interval_index": 0,
        }
        here = key if not number else f"{number:064x}"
        shard = cache.temporary_path(here)
        digest, num_rows, size_bytes = write_shard(shard, "event", [pa.RecordBatch.from_pylist([row], schema=EVENT_SCHEMA)])
        cache.publish(ShardRecord(here, digest, size_bytes, num_rows, {}), shard)
        episodes.append(EpisodeLineage(episode_path, "train", "", {}, here, "0" * 64, digest, size_bytes, num_rows, {}))
    write_dataset(root / "data/event", Lineage("event", SCHEMA_VERSION["event"], "0", "0", {}, {}, episodes), cache)
    return root / "data/event"


def findings(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            found.append(node.module)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            safe = any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords)
            if name in FUNCTIONS and not safe:
                found.append(name)
            found += [
                f"{name}({word.arg}=...)"
                for word in node.keywords
                if word.arg in SETTINGS and ast.unparse(word.value) != ("True" if word.arg == "weights_only" else "False")
            ]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_runs_code_from_data(path: Path) -> None:
    assert findings(path.read_text()) == []


def test_the_search_finds_what_it_looks_for() -> None:
    bad = "import pickle\nfrom dill import loads\neval('1')\nyaml.load(x)\nsubprocess.run(c, shell=True)\nf(trust_remote_code=True)\n"
    assert len(findings(bad)) == 6
    assert findings("yaml.safe_load(x)\nsubprocess.run(c)\nmodel.eval()\nre.compile('a')\n") == []


@pytest.mark.parametrize("path", ["../a.mcap", "/etc/a.mcap", "a/../../b.mcap"])
def test_an_index_from_elsewhere_cannot_lead_out_of_the_folders(path, tmp_path):
    with pytest.raises(SchemaError, match="leads out of its folder"):
        shard_name(path)
    index = tmp_path / "episodes.jsonl"
    fields = {
        "size_bytes": 0,
        "sha256": "",
        "profile": "",
        "library": "",
        "start_ns": 0,
        "end_ns": 0,
        "num_messages": 0,
        "topics": {},
    }
    rest = {"media": [], "split": "train", "group": "", "condition": "sound", "damage": [], "metadata": {}}
    index.write_bytes(msgspec.json.encode({"episode_path": path, **fields, **rest}))
    with pytest.raises(SchemaError, match="leads out of its folder"):
        read_episodes(index)


def test_a_name_that_is_not_utf8_is_refused_with_its_remedy(tmp_path):
    content = write_mcap([])
    (tmp_path / "good.mcap").write_bytes(content)
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mcap")).write_bytes(content)
    except OSError:
        pytest.skip("this file system refuses such names itself")
    params = RawParams(dir=str(tmp_path), watch=str(tmp_path), metadata="")
    with pytest.raises(ParamsError, match=r"is not UTF-8.*raw\.exclude"):
        find_recordings(params)
    assert len(find_recordings(params.model_copy(update={"exclude": ("?.mcap",)}))) == 1


@pytest.mark.parametrize(
    "wrong", [{"key": "../../../planted"}, {"key": "a" * 63 + "/"}, {"split": "../train"}, {"episode_path": "../a.mcap"}]
)
def test_a_dataset_does_not_decide_which_files_are_touched(tmp_path, wrong):
    folder = make_dataset(tmp_path / "there", "ab" + "0" * 62, 1)
    lineage = json.loads((folder / "owa.json").read_text())
    lineage["episodes"][0] |= wrong
    (folder / "owa.json").write_text(json.dumps(lineage))
    for read in (read_any_lineage, lambda folder: open_remote(folder.as_uri()), load_from_disk):
        with pytest.raises(SchemaError, match="cannot be trusted"):
            read(folder)


def test_what_was_fetched_is_held_to_its_digest_and_never_taken_for_what_was_built(tmp_path):
    key = "ab" + "0" * 62
    cache = ShardCache(tmp_path / "cache")
    folders = [
        fetch_dataset(open_remote(make_dataset(tmp_path / name, key, time_ns).as_uri()), cache)
        for name, time_ns in (("a", 1), ("b", 2))
    ]
    assert [datasets.load_from_disk(str(folder))["train"]["timestamp_ns"][0] for folder in folders] == [1, 2]
    assert cache.find(key) is None
    # They go when asked, and their shards with them.
    assert len(find_fetched(cache)) == 2
    with cache.alone():
        drop_fetched(cache)
    assert find_fetched(cache) == []
    assert not any(shard.is_linked_elsewhere for shard in read_contents(cache).shards)
    # What was built here to the same bytes is not fetched again.
    built = ShardCache(tmp_path / "there" / "cache")
    remote = open_remote(make_dataset(tmp_path / "there", key, 3).as_uri())
    shutil.rmtree(tmp_path / "there" / "data" / "event" / "train" / "folder")
    assert datasets.load_from_disk(str(fetch_dataset(remote, built)))["train"]["timestamp_ns"][0] == 3


def test_a_dataset_that_another_process_brought_meanwhile_stays(tmp_path, monkeypatch):
    cache = ShardCache(tmp_path / "cache")
    opened = open_remote(make_dataset(tmp_path / "a", "ab" + "0" * 62, 1).as_uri())
    brought = []

    @contextmanager
    def wait_for_the_other(folder):
        if not brought:
            brought.append(None)
            fetch_dataset(opened, cache)
            brought.append((folder / "owa.json").stat().st_ino)
        yield

    monkeypatch.setattr(remote, "lock_folder", wait_for_the_other)
    folder = fetch_dataset(opened, cache)
    assert brought[1] == (folder / "owa.json").stat().st_ino


def test_any_file_name_is_streamed_once(tmp_path):
    names = ["plain", "run [1]", "what?", "whatx", "a#b", "50%20", "a*", "[!x]"]
    folder = make_dataset(tmp_path, "ab" + "0" * 62, 1, names)
    streamed = stream_dataset(open_remote(folder.as_uri()))["train"]
    assert [row["episode_path"] for row in streamed] == [f"folder/{name}.mcap" for name in sorted(names)]
