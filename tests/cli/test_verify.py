"""`owa-data verify` finds each planted fault and names it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from owa_data.cli.main import main
from owa_data.schema import stored_schema
from owa_data.store.shards import read_shard, write_shard
from tests.versions.build import build_toy_datasets, tokenizer_params

SHARD = "train/a/one.arrow"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, toy_recordings: Path) -> Path:
    """Datasets of the toy recordings, the videos of which all exist. Do not write to them."""
    root = tmp_path_factory.mktemp("verify")
    recordings = root / "recordings"
    shutil.copytree(toy_recordings, recordings)
    for name in ("a/two.mkv", "b/three.mkv"):
        (recordings / name).write_bytes(b"a video")
    return build_toy_datasets(root, recordings, tokenizer_params())


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    for name in ("data", "metrics", "recordings"):
        shutil.copytree(built / name, tmp_path / name)
    return tmp_path


def _verify(root: Path, capsys: pytest.CaptureFixture[str], kind: str = "fsl") -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(["verify", str(root / "data" / kind), "--recordings", str(root / "recordings")])
    return int(end.value.code or 0), capsys.readouterr().out


@pytest.mark.parametrize("kind", ["event", "fsl", "binned"])
def test_a_sound_dataset_passes(built: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    status, report = _verify(built, capsys, kind)
    assert status == 0, report
    assert f"sound; {kind} version 1, 3 episodes" in report
    assert "3 media, 3 inputs compared" in report
    assert "not checked" not in report


def _flip_byte(root: Path) -> None:
    path = root / "data/fsl" / SHARD
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _remove_shard(root: Path) -> None:
    (root / "data/fsl" / SHARD).unlink()


def _state(root: Path) -> None:
    path = root / "data/fsl/train/state.json"
    state = json.loads(path.read_text())
    del state["_data_files"][0]
    path.write_text(json.dumps(state))


def _rewrite(root: Path, change: Callable[[pa.Table], pa.Table], *, forge_digest: bool = True, kind: str = "fsl") -> None:
    """Write a shard with other rows; `owa.json` gets its digest, so that only the rows themselves tell."""
    path = root / "data" / kind / SHARD
    rows = change(read_shard(path.read_bytes()))
    path.unlink()  # it may be the shard cache's too
    digest, _, size_bytes = write_shard(path, kind, rows.to_batches())
    if forge_digest:
        lineage = root / "data" / kind / "owa.json"
        content = json.loads(lineage.read_text())
        content["episodes"][0].update(digest=digest, size_bytes=size_bytes)
        lineage.write_text(json.dumps(content))


def _drop_row(root: Path) -> None:
    _rewrite(root, lambda rows: rows.slice(1))


def _replace_column(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), stored_schema("fsl").field(name), values)


def _drop_image(root: Path) -> None:
    def change(rows: pa.Table) -> pa.Table:
        images = rows["images"].to_pylist()
        images[0] = images[0][1:]
        return _replace_column(rows, "images", pa.array(images, pa.list_(pa.string())))

    _rewrite(root, change)


def _mix_episodes(root: Path) -> None:
    def change(rows: pa.Table) -> pa.Table:
        return _replace_column(rows, "episode_path", pa.array(["a/other.mcap", *["a/one.mcap"] * (rows.num_rows - 1)]))

    _rewrite(root, change)


def _shorten_row(root: Path) -> None:
    def change(rows: pa.Table) -> pa.Table:
        ids = rows["input_ids"].to_pylist()
        ids[1] = ids[1][:-1]
        return _replace_column(rows, "input_ids", pa.array(ids, pa.list_(pa.int32())))

    _rewrite(root, change)


def _change_metrics(root: Path) -> None:
    path = root / "metrics/fsl.json"
    metrics = json.loads(path.read_text())
    metrics["by_split"]["train"]["images"] += 1
    path.write_text(json.dumps(metrics))


def _change_params(root: Path) -> None:
    path = root / "data/fsl/owa.json"
    path.write_text(path.read_text().replace('"rows_without_images": "keep"', '"rows_without_images": "drop"'))


def _other_facts(root: Path) -> None:
    path = root / "data/fsl/owa.json"
    content = json.loads(path.read_text())
    content["facts"]["tokenizer"]["sha256"] = "0" * 64
    path.write_text(json.dumps(content))


def _remove_video(root: Path) -> None:
    (root / "recordings/a/one.mkv").unlink()


def _other_tokenizer(root: Path) -> None:
    path = root / "data/fsl/tokenizer/tokenizer.json"
    definition = json.loads(path.read_text())
    vocab = definition["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    path.write_text(json.dumps(definition))


def _state_of_another_form(root: Path) -> None:
    (root / "data/fsl/train/state.json").write_text("[]")


def _metrics_of_another_form(root: Path) -> None:
    path = root / "metrics/fsl.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"events": 3}))


def _add_file(root: Path) -> None:
    (root / "data/fsl/train/a/old.arrow").write_bytes(b"")


@pytest.mark.parametrize(
    ("plant", "place", "problem"),
    [
        (_flip_byte, SHARD, "other bytes than owa.json says: xxh3"),
        (_remove_shard, SHARD, "missing: No such file"),
        (_state, "train/state.json", "stale: _data_files is not what owa.json says"),
        (_drop_row, SHARD, "rows where owa.json says"),
        (_drop_image, SHARD, "row 0 (and 0 more): image tokens (id 259) are not 64 for each of its images"),
        (_mix_episodes, SHARD, "rows of another episode: a/other.mcap"),
        (_shorten_row, SHARD, "row 1: input_ids has 511 entries"),
        (_change_metrics, "metrics/fsl.json", "by_split.train.images is "),
        (_change_params, "owa.json", "the key of a/one.mcap is not that of the params, code and input named here"),
        (_other_facts, "owa.json", "facts name the tokenizer byte with sha256 000000000000, but the rows were made with"),
        (_remove_video, "data/fsl", "rows of a/one.mcap refer to one.mkv, which does not exist"),
        (_other_tokenizer, "tokenizer/tokenizer.json", "not the tokenizer that owa.json names"),
        (_add_file, "train/a/old.arrow", "owa.json does not name this file"),
        (_state_of_another_form, "train/state.json", "is a list, not an object"),
        (_metrics_of_another_form, "metrics/fsl.json", "events is 3, but the episodes of owa.json add up to"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_planted_fault_is_named(
    copy: Path, capsys: pytest.CaptureFixture[str], plant: Callable[[Path], None], place: str, problem: str
) -> None:
    plant(copy)
    status, report = _verify(copy, capsys)
    assert status == 1
    assert [line for line in report.splitlines() if place in line.partition(": ")[0] and problem in line], report


def test_bins_out_of_order_are_named(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _rewrite(copy, lambda rows: rows.take(list(range(rows.num_rows))[::-1]), kind="binned")
    status, report = _verify(copy, capsys, "binned")
    assert status == 1
    assert "bins are not in order" in report


def test_a_shard_of_another_tokenizer_is_named(
    copy: Path, toy_recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = {"family": "plain", "image_size_px": [448, 448], "processor": {"image_seq_length": 32}}
    other = build_toy_datasets(tmp_path / "other", toy_recordings, tokenizer_params(image=image))
    shutil.copyfile(other / "data/fsl" / SHARD, copy / "data/fsl" / SHARD)
    status, report = _verify(copy, capsys)
    assert status == 1
    assert "are not 64 for each of its images: another tokenizer, or spans are cut" in report
    # The other dataset's own description instead of this one's: its shards then do not fit.
    shutil.copyfile(other / "data/fsl/owa.json", copy / "data/fsl/owa.json")
    status, report = _verify(copy, capsys)
    assert status == 1
    assert "are not 32 for each of its images: another tokenizer, or spans are cut" in report


def test_a_changed_recording_is_named(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / "recordings/a/two.mcap"
    path.write_bytes(path.read_bytes() + b"\0")
    status, report = _verify(copy, capsys, "event")
    assert status == 1
    assert "two.mcap: other bytes than its events were made of" in report


def test_fsl_of_another_event_dataset_is_named(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / "data/event/owa.json"
    content = json.loads(path.read_text())
    content["episodes"][2]["digest"] = "xxh3:" + "0" * 32
    path.write_text(json.dumps(content))
    status, report = _verify(copy, capsys)
    assert status == 1
    assert "b/three.mcap was made of another version of its event shard" in report


def test_what_is_not_at_hand_is_said(copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(copy / "recordings")
    shutil.rmtree(copy / "metrics")
    shutil.rmtree(copy / "data/event")
    monkeypatch.chdir(copy)
    with pytest.raises(SystemExit) as end:
        main(["verify", "data/fsl"])
    report = capsys.readouterr().out
    assert not end.value.code, report
    assert [line.partition(":")[0] for line in report.splitlines() if line.startswith("not checked: ")] == ["not checked"] * 3


@pytest.mark.parametrize("name", ["recordings", "metrics", "inputs"])
def test_what_is_named_must_be_there(copy: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["verify", str(copy / "data/fsl"), f"--{name}", str(copy / "nope")])
    assert end.value.code == 1
    assert f"--{name}: {copy}/nope does not exist" in capsys.readouterr().err


def test_metrics_of_another_dataset_are_not_compared(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "tried").mkdir()
    (copy / "data/event").rename(copy / "tried/event")
    (copy / "metrics/event.json").write_text("{}")
    with pytest.raises(SystemExit) as end:
        main(["verify", str(copy / "tried/event"), "--recordings", str(copy / "recordings")])
    report = capsys.readouterr().out
    assert not end.value.code, report
    assert "not checked: " in report
