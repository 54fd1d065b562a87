"""Datasets of another repository, read at a tag: fetched, streamed, imported, pulled in part."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
import yaml

from owa_data import load_from_disk
from owa_data.errors import ChangedError, SchemaError
from owa_data.store.dataset_folder import read_lineage
from owa_data.store.remote import fetch_dataset, open_remote, stream_dataset
from owa_data.store.shard_cache import ShardCache
from tests.conftest import Repo, tree_bytes, write_toy
from tests.versions.conftest import S3Server

pytestmark = pytest.mark.slow


def add_tokenizer(repo: Repo, name: str, tokens_per_image: int) -> None:
    """Write a conf file for the embedded tokenizer with another image span."""
    conf = yaml.safe_load((repo.root / "conf/tokenizer/byte.yaml").read_text())
    conf["name"] = name
    conf["image"]["processor"]["image_seq_length"] = tokens_per_image
    (repo.root / f"conf/tokenizer/{name}.yaml").write_text(yaml.safe_dump(conf))


def build_two_tags(repo: Repo) -> dict[str, dict[str, bytes]]:
    """Tags v1 and v2 with different tokenizers, both pushed; returns the bytes of `data/fsl` at each."""
    add_tokenizer(repo, "byte16", 16)
    built = {}
    for tag, tokenizer in (("v1", "byte"), ("v2", "byte16")):
        repo.set_params(fsl__tokenizer=tokenizer)
        repo.run("dvc", "repro", "fsl")
        repo.commit(tag)
        repo.run("git", "tag", tag)
        repo.run("dvc", "push", "-q")
        built[tag] = tree_bytes(repo.root / "data/fsl")
    return built


def test_two_tags_are_fetched_and_streamed_at_once(
    make_repo: Callable[..., Repo], tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = make_repo()
    s3_server.use_as_remote(repo, s3_server.make_bucket("dvc"))
    built = build_two_tags(repo)
    # The consumer has neither the workspace's files nor its cache.
    consumer = tmp_path / "clone"
    repo.run("git", "clone", "-q", str(repo.root), str(consumer))
    cache = ShardCache(tmp_path / "consumer-cache")
    remotes = {tag: open_remote("dvc://data/fsl", repo=str(consumer), rev=tag) for tag in ("v1", "v2")}
    folders = {tag: fetch_dataset(remote, cache) for tag, remote in remotes.items()}
    for tag, folder in folders.items():
        assert tree_bytes(folder) == built[tag]
    loaded = {tag: datasets.load_from_disk(str(folder))["train"] for tag, folder in folders.items()}
    spans = {tag: read_lineage(folder, "fsl").facts["image"]["num_tokens"] for tag, folder in folders.items()}
    assert spans == {"v1": 66, "v2": 18}
    assert loaded["v1"][0]["input_ids"] != loaded["v2"][0]["input_ids"]
    monkeypatch.setenv("OWA_DATA_SHARD_CACHE", str(cache.root))
    for tag, rows in loaded.items():
        assert load_from_disk("dvc://data/fsl", repo=str(consumer), rev=tag)["train"].to_list() == rows.to_list()
    # Once more: nothing is asked of the remote but owa.json.
    assert fetch_dataset(remotes["v1"], cache) == folders["v1"]

    for tag, remote in remotes.items():
        streamed = stream_dataset(remote)["train"]
        assert streamed.num_shards == 2
        assert list(streamed) == loaded[tag].to_list()
    assert not (consumer / ".dvc/cache").exists()
    with pytest.raises(SchemaError, match="was it pushed"):
        open_remote("dvc://data/fsl", repo=str(consumer), rev="v1~1")


def test_a_dataset_in_a_bucket_is_fetched_and_streamed(
    make_repo: Callable[..., Repo], tmp_path: Path, s3_server: S3Server
) -> None:
    repo = make_repo()
    repo.run("dvc", "repro", "fsl")
    s3_server.make_bucket("public")
    s3_server.upload("public", repo.root / "data/fsl", "fsl/")
    remote = open_remote("s3://public/fsl/")
    cache = ShardCache(tmp_path / "consumer-cache")
    assert tree_bytes(fetch_dataset(remote, cache)) == tree_bytes(repo.root / "data/fsl")
    streamed = stream_dataset(remote)
    expected = datasets.load_from_disk(str(repo.root / "data/fsl"))
    assert {split: list(rows) for split, rows in streamed.items()} == {split: rows.to_list() for split, rows in expected.items()}
    # The unit for workers is the episode.
    parts = [list(streamed["train"].shard(num_shards=2, index=index)) for index in range(2)]
    assert [{row["episode_path"] for row in part} for part in parts] == [{"a/one.mcap"}, {"a/two.mcap"}]

    tokenizer = (repo.root / "data/fsl/tokenizer/tokenizer.json").read_bytes()
    s3_server.client.put_object(
        Bucket="public", Key="fsl/tokenizer/tokenizer.json", Body=tokenizer.replace(b"<press>", b"<prexs>")
    )
    with pytest.raises(ChangedError, match=r"tokenizer\.json: is not the tokenizer that owa\.json names"):
        fetch_dataset(remote, ShardCache(tmp_path / "third-cache"))
    s3_server.client.put_object(Bucket="public", Key="fsl/train/a/one.arrow", Body=b"other")
    with pytest.raises(ChangedError, match=r"a/one\.arrow: is not the shard"):
        fetch_dataset(remote, ShardCache(tmp_path / "other-cache"))


def test_parts_are_pulled_and_nothing_is_rebuilt_by_accident(make_repo: Callable[..., Repo], tmp_path: Path) -> None:
    repo = make_repo()
    repo.run("dvc", "remote", "add", "-d", "storage", str(tmp_path / "storage"))
    repo.run("dvc", "repro", "fsl")
    repo.commit("built")
    repo.run("dvc", "push", "-q")
    clone = Repo(tmp_path / "clone")
    repo.run("git", "clone", "-q", str(repo.root), str(clone.root))
    clone.environment["PYTHONPATH"] = str(clone.root)
    # One split, then one episode of the other.
    clone.run("dvc", "pull", "-q", "data/fsl/test")
    assert sorted(path.name for path in (clone.root / "data/fsl").rglob("*.arrow")) == ["three.arrow"]
    clone.run("dvc", "pull", "-q", "data/fsl/train/a/one.arrow")
    pulled = {path.relative_to(clone.root).as_posix() for path in (clone.root / "data").rglob("*.arrow")}
    assert pulled == {"data/fsl/test/b/three.arrow", "data/fsl/train/a/one.arrow"}
    # A partial folder looks changed, but is told from a changed one and neither rebuilt nor deleted.
    output = clone.run("dvc", "repro", "--allow-missing", "fsl")
    assert "Running stage" not in output
    assert pulled <= {path.relative_to(clone.root).as_posix() for path in (clone.root / "data").rglob("*.arrow")}
    # The rest comes from the remote, still without a run.
    output = clone.run("dvc", "repro", "--pull", "--allow-missing", "fsl")
    assert "Running stage" not in output, output
    clone.run("dvc", "pull", "-q", "fsl")
    assert tree_bytes(clone.root / "data/fsl") == tree_bytes(repo.root / "data/fsl")


def test_get_import_and_update_from_a_training_repository(make_repo: Callable[..., Repo], tmp_path: Path) -> None:
    repo = make_repo()
    repo.run("dvc", "remote", "add", "-d", "storage", str(tmp_path / "storage"))
    built = build_two_tags(repo)
    training = Repo(tmp_path / "training")
    training.root.mkdir()
    training.run("git", "init", "-q")
    training.run("dvc", "init", "-q")
    training.run("dvc", "get", "-q", str(repo.root), "data/fsl/owa.json", "--rev", "v1", "-o", "owa.json")
    assert json.loads((training.root / "owa.json").read_text())["facts"]["tokenizer"]["name"] == "byte"
    training.run("dvc", "import", "-q", str(repo.root), "data/fsl", "--rev", "v1", "-o", "fsl")
    assert tree_bytes(training.root / "fsl") == built["v1"]
    training.run("dvc", "update", "-q", "fsl.dvc", "--rev", "v2")
    assert tree_bytes(training.root / "fsl") == built["v2"]
    assert "rev: v2" in (training.root / "fsl.dvc").read_text()


def test_first_push_then_one_changed_episode(make_repo: Callable[..., Repo], tmp_path: Path, s3_server: S3Server) -> None:
    repo = make_repo()
    s3_server.use_as_remote(repo, s3_server.make_bucket("dvc"))
    repo.run("dvc", "repro", "fsl")
    repo.commit("first")
    repo.run("dvc", "push", "-q")
    first = s3_server.objects("dvc")
    before = {kind: tree_bytes(repo.root / "data" / kind) for kind in ("event", "fsl")}

    write_toy(repo.root / "recordings", "a/two.mcap", seed=77)
    repo.run("dvc", "add", "-q", "recordings")
    repo.run("dvc", "repro", "fsl")
    repo.commit("second")
    repo.run("dvc", "push", "-q")
    second = s3_server.objects("dvc")
    after = {kind: tree_bytes(repo.root / "data" / kind) for kind in ("event", "fsl")}
    changed = {
        f"{kind}/{name}" for kind, files in after.items() for name, content in files.items() if content != before[kind].get(name)
    }
    assert changed == {
        *(f"{kind}/{name}" for kind in ("event", "fsl") for name in ("owa.json", "train/state.json", "train/a/two.arrow"))
    }
    uploaded = sorted(size for key, size in second.items() if key not in first)
    directories = sorted(size for key, size in second.items() if key not in first and key.endswith(".dir"))
    expected = [len(after[kind.partition("/")[0]][kind.partition("/")[2]]) for kind in changed]
    expected.append((repo.root / "recordings/a/two.mcap").stat().st_size)
    expected.append((repo.root / "data/episodes.jsonl").stat().st_size)
    # Three directory objects: recordings, event, fsl. Nothing else, and nothing is taken away.
    assert len(directories) == 3
    assert uploaded == sorted([*expected, *directories])
    assert first.items() <= second.items()

    clone = Repo(tmp_path / "clone")
    repo.run("git", "clone", "-q", str(repo.root), str(clone.root))
    clone.environment.update(repo.environment, PYTHONPATH=str(clone.root))
    clone.run("dvc", "pull", "-q", "recordings", "raw", "event", "fsl")
    for name in ("a/two.mkv", "b/three.mkv"):  # the toy episodes reference videos that were never there
        (clone.root / "recordings" / name).write_bytes(b"a video")
    assert "sound; fsl" in clone.run("python", "-m", "owa_data.cli.main", "verify", "data/fsl")
    assert "sound; event" in clone.run("python", "-m", "owa_data.cli.main", "verify", "data/event")
    assert tree_bytes(clone.root / "data/fsl") == after["fsl"]
    assert datasets.load_from_disk(str(clone.root / "data/fsl"))["train"].num_rows > 0
    shutil.rmtree(clone.root)
