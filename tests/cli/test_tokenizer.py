"""`owa-data tokenizer add` of folders that hold no whole tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from owa_data.cli.main import main
from owa_data.fsl.tokenizer import byte_tokenizer_json


@pytest.mark.parametrize("name", ["../../evil", "two words", "", "123", "null", "true", "\u00fcn\u00ef"])
def test_a_name_that_is_no_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["tokenizer", "add", str(tmp_path), "--name", name])
    assert end.value.code == 1
    assert f"--name: is {name!r}. Use a letter" in capsys.readouterr().err


def test_outside_a_repository_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "run this in the root of the repository" in _add(capsys, tmp_path)[1]
    assert not list(tmp_path.iterdir())


def _add(capsys: pytest.CaptureFixture[str], folder: Path) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(["tokenizer", "add", str(folder), "--name", "mine"])
    return int(end.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", byte_tokenizer_json()[:-100]),
        ("tokenizer.json", b"[1]"),
        ("tokenizer.json", b'{"added_tokens": [1]}'),
        ("tokenizer.json", b""),
        ("tokenizer_config.json", b'{"pad_token": 1}'),
        ("tokenizer_config.json", b'{"pad_token": "\xff"}'),
    ],
)
def test_a_broken_file_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/tokenizer").mkdir(parents=True)
    (tmp_path / "tokenizer.json").write_bytes(byte_tokenizer_json())
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": {"content": "<|endoftext|>"}}')
    (tmp_path / name).write_bytes(content)
    status, err = _add(capsys, tmp_path)
    assert status == 1
    assert f"{tmp_path / name}: cut off, or no file of a tokenizer (" in err
    assert "save_pretrained(folder)" in err
    assert not list((tmp_path / "conf/tokenizer").iterdir())


def test_a_pad_token_with_settings_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/tokenizer").mkdir(parents=True)
    (tmp_path / "tokenizer.json").write_bytes(byte_tokenizer_json())
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": {"content": "<|endoftext|>", "lstrip": false}}')
    assert _add(capsys, tmp_path) == (0, "")
    assert "pad_token: <|endoftext|>" in (tmp_path / "conf/tokenizer/mine.yaml").read_text()
