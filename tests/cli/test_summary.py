"""`owa-data summary` says what to do next."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from owa_data.cli.main import main
from tests.conftest import ROOT


def _summary(capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["summary"])
    told = capsys.readouterr()
    return int(end.value.code or 0), told.out, told.err


def test_where_nothing_is_built_the_next_step_is_to_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    status, out, _ = _summary(capsys)
    assert status == 0
    assert "Next: Nothing is built here yet: `dvc repro fsl`" in out


def test_a_metadata_file_without_a_name_is_told_since_dvc_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("raw: {metadata: ''}\n")
    assert "raw.metadata is empty, and DVC cannot watch a file without a name" in _summary(capsys)[1]
    (tmp_path / "params.yaml").write_text("raw: {metadata: data/metadata.csv}\n")
    assert "raw.metadata" not in _summary(capsys)[1]


@pytest.mark.parametrize("text", [None, "raw: {dir: a\n  b: [", "raw: {dir: J\u00fcrgen}"])
def test_without_readable_params_the_file_is_named_and_nothing_else_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "params.yaml").write_text(text, encoding="latin-1")
    status, out, err = _summary(capsys)
    assert status == 1
    assert out == ""
    assert "params.yaml: " in err
    assert "Traceback" not in err


def test_a_section_left_empty_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("raw:\nfsl: {tokenizer: byte}\n")
    assert _summary(capsys)[0::2] == (
        1,
        "owa-data summary: raw: is None in params.yaml. Write its knobs below it, or leave raw: out, which stands for the defaults\n",
    )


def test_shards_that_are_not_here_are_told(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    shutil.copytree(built / "event", tmp_path / "data/event")
    assert "not here" not in _summary(capsys)[1]
    shutil.rmtree(tmp_path / "data/event/train")
    assert "1 of 2 shards are not here: fetch them with `dvc pull data/event`" in _summary(capsys)[1]
