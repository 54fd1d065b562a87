"""`load_from_disk` of what lies elsewhere, and streams: the same rows, and their images resolve."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from owa_data import auto_set_transform, load_from_disk
from owa_data.errors import ParamsError, SchemaError
from tests.versions.build import build_toy_datasets, tokenizer_params
from tests.versions.conftest import S3Server


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, toy_recordings: Path) -> Path:
    root = build_toy_datasets(tmp_path_factory.mktemp("streams"), toy_recordings, tokenizer_params())
    return root / "data"


def test_a_stream_gives_the_rows_of_the_folder(built: Path) -> None:
    streamed = load_from_disk(built / "fsl", streaming=True)
    expected = datasets.load_from_disk(str(built / "fsl"))
    assert {split: list(rows) for split, rows in streamed.items()} == {split: rows.to_list() for split, rows in expected.items()}
    assert streamed["train"].num_shards == 2


@pytest.mark.parametrize("kind", ["event", "fsl"])
def test_images_of_a_stream_resolve(built: Path, toy_recordings: Path, kind: str) -> None:
    options = {"recordings": str(toy_recordings), "image_size_px": (40, 20)}
    streamed = auto_set_transform(load_from_disk(built / kind, streaming=True), **options)["train"]
    stored = auto_set_transform(load_from_disk(built / kind), **options)["train"]
    column = "images"
    count = 0
    for index, (mine, other) in enumerate(zip(streamed, stored, strict=False)):
        assert mine.keys() == other.keys()
        assert _bytes(mine[column]) == _bytes(other[column])
        count += len(other[column])
        if index == 2:
            break
    assert count > 0


def _bytes(images: object) -> list[bytes]:
    return [image.tobytes() for image in images]  # type: ignore[attr-defined]


def test_a_dataset_in_a_bucket(built: Path, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWA_DATA_SHARD_CACHE", str(tmp_path / "cache"))
    s3_server.make_bucket("public")
    s3_server.upload("public", built / "fsl", "fsl/")
    expected = datasets.load_from_disk(str(built / "fsl"))["train"].to_list()
    assert load_from_disk("s3://public/fsl")["train"].to_list() == expected
    rows = load_from_disk("s3://public/fsl", streaming=True)["train"]
    parts = [list(rows.shard(num_shards=2, index=index)) for index in range(2)]
    assert [row for part in parts for row in part] == expected
    assert [{row["episode_path"] for row in part} for part in parts] == [{"a/one.mcap"}, {"a/two.mcap"}]
    with pytest.raises(SchemaError, match="does not exist"):
        load_from_disk("s3://public/nothing")


def test_a_revision_needs_a_dvc_url(built: Path) -> None:
    with pytest.raises(ParamsError, match="no dvc:// URL"):
        load_from_disk(built / "fsl", rev="v1")
