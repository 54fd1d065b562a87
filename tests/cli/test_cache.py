"""`owa-data cache`: what can go, goes; what is in use, stays."""

from __future__ import annotations

import errno
import io
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.exceptions import DvcException

from owa_data.cli.cache import _read_at
from owa_data.cli.main import main
from owa_data.store.cache_upkeep import choose_droppable, drop, drop_fetched, find_fetched, read_contents
from owa_data.store.damage import StoredShard, find_damaged
from owa_data.store.digests import SHARD_PREFIX, digest_like
from owa_data.store.shard_cache import ShardCache, ShardRecord
from tests.conftest import Repo
from tests.versions.build import build_toy_datasets, tokenizer_params

KEYS = tuple(f"{digit}" * 64 for digit in "abc")


def _publish(cache: ShardCache, key: str, content: bytes) -> None:
    shard = cache.temporary_path(key)
    shard.write_bytes(content)
    cache.publish(ShardRecord(key, "", len(content), 0, {}), shard)


@pytest.fixture
def cache(tmp_path: Path) -> ShardCache:
    """Two shards, the first one linked by a dataset, a remembered fact, and two unfinished files, one of them old."""
    cache = ShardCache(tmp_path / "cache")
    _publish(cache, KEYS[0], b"one")
    _publish(cache, KEYS[1], b"two!")
    _publish(cache, KEYS[2], b"")
    cache.link(KEYS[0], tmp_path / "linked.arrow")
    old = cache.temporary_path(KEYS[0])
    old.write_bytes(b"12345")
    os.utime(old, (time.time() - 7200,) * 2)
    cache.path_of("d" * 64).parent.mkdir()
    cache.path_of("d" * 64).write_bytes(b"a shard without its record")
    return cache


def test_contents(cache: ShardCache) -> None:
    contents = read_contents(cache)
    assert [(shard.key, shard.size_bytes, shard.is_linked_elsewhere) for shard in contents.shards] == [
        (KEYS[0], 3, True),
        (KEYS[1], 4, False),
    ]
    assert [part.key for part in contents.remembered] == [KEYS[2]]
    assert sorted(part.size_bytes for part in contents.leftovers) == [5, 26]


def test_what_nothing_else_links_goes(cache: ShardCache) -> None:
    chosen = choose_droppable(read_contents(cache), min_age_s=0, referenced=None)
    assert [shard.key for shard in chosen.shards] == [KEYS[1]]
    assert chosen.remembered == []
    assert chosen.freed_bytes == 4 + 5 + 26
    drop(cache, chosen)
    assert cache.find(KEYS[0])
    assert cache.find(KEYS[1]) is None
    assert cache.find(KEYS[2])
    assert read_contents(cache).leftovers == []


def test_what_nothing_references_goes_and_only_then_frees_space_when_it_was_alone(cache: ShardCache) -> None:
    chosen = choose_droppable(read_contents(cache), min_age_s=0, referenced={KEYS[1]}, remembered_too=True)
    assert [shard.key for shard in chosen.shards] == [KEYS[0]]
    assert [part.key for part in chosen.remembered] == [KEYS[2]]
    assert chosen.freed_bytes == 5 + 26


def test_what_is_young_stays(cache: ShardCache) -> None:
    chosen = choose_droppable(read_contents(cache), min_age_s=3600, referenced=set())
    assert chosen.shards == []
    assert [part.size_bytes for part in chosen.leftovers] == [5]


def test_a_running_build_keeps_everything(
    cache: ShardCache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OWA_DATA_SHARD_CACHE", str(cache.root))
    with cache.in_use(), cache.in_use(), pytest.raises(SystemExit) as end:
        main(["cache", "gc", "--min-age-hours", "0"])
    assert end.value.code == 1
    assert "a build is using the shard cache now" in capsys.readouterr().err
    assert cache.find(KEYS[1])
    with pytest.raises(SystemExit) as end:
        main(["cache", "gc", "--min-age-hours", "0"])
    assert end.value.code == 0
    assert "dropped 1 shards (0.0 MB), 0 remembered facts, 2 unfinished files" in capsys.readouterr().out
    assert cache.find(KEYS[1]) is None


def test_a_build_whose_shards_went_after_it_was_planned_makes_them_again(toy_recordings: Path, tmp_path: Path) -> None:
    from owa_data.event.build import EventConversion, event_inputs
    from owa_data.params import EventParams, RawParams
    from owa_data.raw.build import build_index
    from owa_data.store.incremental import build_dataset, plan_build
    from tests.versions.build import RUNTIME

    folder = build_toy_datasets(tmp_path / "first", toy_recordings, tokenizer_params())
    cache = ShardCache(folder / "cache")
    raw = RawParams(dir=str(toy_recordings), watch=str(toy_recordings), metadata="")
    conversion = EventConversion(EventParams())
    plan = plan_build(conversion, event_inputs(build_index(raw, cache, RUNTIME).episodes, str(toy_recordings)), cache)
    assert plan.missing == []
    shutil.rmtree(folder / "data")
    with cache.alone() as is_alone:
        assert is_alone
        drop(cache, choose_droppable(read_contents(cache), min_age_s=0, referenced=None))
    assert read_contents(cache).shards == []
    lineage = build_dataset(plan, tmp_path / "event", cache, RUNTIME)
    assert len(lineage.episodes) == 3
    assert len(read_contents(cache).shards) == 3


@pytest.mark.slow
def test_scopes_over_tags_and_experiments(make_repo: Callable[..., Repo]) -> None:
    repo = make_repo()
    owa_data = ("python", "-m", "owa_data.cli.main", "cache")
    gc = (*owa_data, "gc", "--min-age-hours", "0")
    repo.set_params(fsl__max_sequence_length=512)
    repo.run("dvc", "repro", "fsl")
    repo.commit("v1")
    repo.run("git", "tag", "-a", "v1", "-m", "v1")
    repo.run("dvc", "exp", "run", "fsl", "-S", "fsl.max_sequence_length=1024", "--name", "longer")
    repo.run("git", "checkout", "-q", ".")
    repo.set_params(fsl__max_sequence_length=2048)
    repo.run("dvc", "repro", "fsl")
    repo.commit("v2")
    # Event shards and the tokenizer are shared by all three; fsl shards of three episodes are not.
    assert "13 shards" in repo.run(*owa_data, "status")
    assert "would drop 0 shards" in repo.run(*gc, "--dry-run")
    # No dataset's owa.json names the tokenizer; dropped, it is made again within a second.
    assert "would drop 1 shards" in repo.run(*gc, "--dry-run", "-T", "-e")
    output = repo.run(*gc, "--dry-run", "-w", "-e")
    assert "would drop 4 shards" in output
    assert "`dvc gc` frees" in output
    assert "would drop 7 shards" in repo.run(*gc, "--dry-run", "-w")
    # `dvc gc` forgets the tag and the experiment, but frees nothing of what the shard cache has; then this does.
    repo.run("dvc", "gc", "-w", "-f", "-q")
    assert "6 shards" in repo.run(*owa_data, "status").splitlines()[2]
    output = repo.run(*gc)
    assert "dropped 6 shards" in output
    assert "Data and pipelines are up to date" in repo.run("dvc", "repro", "fsl")


def test_the_usual_dvc_cache_is_known_without_asking_dvc(tmp_path, monkeypatch):
    from owa_data.cli.repository import usual_dvc_cache

    for name in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    inside = tmp_path / "repo" / "inside"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert usual_dvc_cache() is None
    config = tmp_path / "repo" / ".dvc" / "config"
    config.parent.mkdir()
    config.write_text("[cache]\n    type = hardlink\n")
    assert usual_dvc_cache() == tmp_path / "repo" / ".dvc" / "cache"
    config.with_name("config.local").write_text("[cache]\n    dir = /elsewhere\n")
    assert usual_dvc_cache() is None
    config.with_name("config.local").unlink()
    (tmp_path / "DVC_GLOBAL_CONFIG_DIR").mkdir()
    (tmp_path / "DVC_GLOBAL_CONFIG_DIR" / "config").write_text("[cache]\ndir=/mine\n")
    assert usual_dvc_cache() is None


def test_revisions_that_git_does_not_tell_are_no_reason_to_drop_all(
    cache: ShardCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OWA_DATA_SHARD_CACHE", str(cache.root))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").touch()
    with pytest.raises(SystemExit) as end:
        main(["cache", "gc", "-a", "--min-age-hours", "0"])
    assert end.value.code == 1
    assert "git knows no repository" in capsys.readouterr().err
    assert len(read_contents(cache).shards) == 2


def test_a_dataset_that_cannot_be_read_is_no_reason_to_drop_its_shards(
    cache: ShardCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OWA_DATA_SHARD_CACHE", str(cache.root))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").touch()
    (tmp_path / "data/event").mkdir(parents=True)
    (tmp_path / "data/event/owa.json").write_text('{"kind": "eve')
    with pytest.raises(SystemExit) as end:
        main(["cache", "gc", "-w", "--min-age-hours", "0"])
    assert end.value.code == 1
    assert "data/event/owa.json is not readable" in capsys.readouterr().err
    assert len(read_contents(cache).shards) == 2


def test_outside_a_repository_no_dataset_is_found_and_nothing_dropped(
    cache: ShardCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OWA_DATA_SHARD_CACHE", str(cache.root))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["cache", "gc", "-w", "--min-age-hours", "0"])
    assert end.value.code == 1
    assert "Run this from the root of the repository" in capsys.readouterr().err
    assert len(read_contents(cache).shards) == 2


def test_a_bad_block_is_damage_and_is_not_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound, bad = tmp_path / "sound", tmp_path / "bad"
    for path in (sound, bad):
        path.write_bytes(b"content")
    shards = [StoredShard((path,), "", digest_like(SHARD_PREFIX, b"content"), 7) for path in (bad, sound)]
    assert list(find_damaged(shards, lambda index: None)) == []

    class BadBlock(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args, **kwargs: BadBlock() if self == bad else opened(self, *args, **kwargs))
    assert list(find_damaged(shards, lambda index: None)) == shards[:1]


@pytest.mark.slow
def test_a_damaged_shard_is_dropped_from_a_dvc_cache_that_lies_elsewhere(make_repo: Callable[..., Repo]) -> None:
    repo = make_repo()
    repo.run("dvc", "config", "--local", "cache.dir", str(repo.root / "elsewhere"))
    repo.environment["OWA_DATA_SHARD_CACHE"] = str(repo.root / "shards")
    repo.run("dvc", "repro", "event")
    shard = next((repo.root / "data/event/train").rglob("*.arrow"))
    sound = shard.read_bytes()
    shard.chmod(0o644)
    with shard.open("r+b") as file:
        file.seek(len(sound) // 2)
        file.write(b"\xff")
    assert "dropped 2 files" in repo.run("python", "-m", "owa_data.cli.main", "cache", "verify", check=False)


@pytest.mark.slow
def test_a_damaged_shard_is_found_dropped_everywhere_and_made_again(make_repo: Callable[..., Repo]) -> None:
    repo = make_repo()
    owa_data = ("python", "-m", "owa_data.cli.main")
    repo.run("dvc", "repro", "fsl")
    assert "all are as they were written" in repo.run(*owa_data, "cache", "verify")
    shard = next((repo.root / "data/event/train").rglob("*.arrow"))
    sound = shard.read_bytes()
    shard.chmod(0o644)
    with shard.open("r+b") as file:  # all names of it: in the dataset, in the shard cache, in the DVC cache
        file.seek(len(sound) // 2)
        file.write(b"\xff")
    shard.chmod(0o444)
    error = repo.run("python", "-m", "stages.fsl", "max_sequence_length=2048", check=False)
    assert "owa-data cache verify" in error
    name = shard.relative_to(repo.root)
    assert f"damaged: {name}" in repo.run(*owa_data, "cache", "verify", "--dry-run", check=False)
    output = repo.run(*owa_data, "cache", "verify", check=False)
    assert "1 of " in output
    assert "dropped 2 files" in output
    assert "dvc repro --force event" in output
    assert "event: 1 converted" in repo.run("dvc", "repro", "--force", "event")
    assert shard.read_bytes() == sound
    assert "all are as they were written" in repo.run(*owa_data, "cache", "verify")
    repo.run("dvc", "checkout", "--force", "event")
    assert shard.read_bytes() == sound
    # What `datasets` writes beside the shards is none of DVC's and no fault.
    repo.run("python", "-c", "import datasets; datasets.load_from_disk('data/fsl')['train'].shuffle(seed=0)")
    assert list((repo.root / "data/fsl").rglob("cache-*.arrow"))
    assert "Data and pipelines are up to date." in repo.run("dvc", "status", "fsl")
    repo.run("dvc", "checkout", "fsl")
    repo.environment["OWA_DATA_RECORDINGS"] = "none"  # the toy episodes reference videos that were never there
    repo.run(*owa_data, "verify", "data/fsl")


def test_what_vanishes_while_the_cache_is_listed_is_left_out(cache: ShardCache) -> None:
    before = read_contents(cache)
    for folder in (cache.root / "unfinished", cache.path_of(KEYS[0]).parent):
        (folder / "gone").symlink_to("nowhere")
    after = read_contents(cache)
    assert [len(part) for part in (after.shards, after.remembered, after.leftovers)] == [
        len(part) for part in (before.shards, before.remembered, before.leftovers)
    ]


def test_a_revision_that_dvc_cannot_read_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise DvcException("a broken dvc.yaml")

    monkeypatch.setattr("dvc.api.DVCFileSystem", refuse)
    assert _read_at("HEAD", "data/event/owa.json") is None


def test_what_is_left_of_a_fetched_dataset_goes_with_the_next_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ShardCache(tmp_path)
    (tmp_path / "fetched/name/fsl").mkdir(parents=True)

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            drop_fetched(cache)
    assert not (tmp_path / "fetched/name").exists()
    (tmp_path / "fetched/name.gone/fsl").mkdir(parents=True, exist_ok=True)
    (tmp_path / "fetched/name/fsl").mkdir(parents=True)  # fetched again before the rest was dropped
    drop_fetched(cache)
    assert find_fetched(cache) == []
