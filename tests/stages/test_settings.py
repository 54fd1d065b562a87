"""Settings that were edited while a stage ran: those of its own count, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.settings import are_edited, read_settings

PARAMS = "raw:\n  dir: a\nevent:\n  rate: 1\nfsl:\n  tokenizer: byte\n"


@pytest.mark.parametrize(
    ("file", "text", "edited"),
    [
        ("params.yaml", PARAMS + "# a comment\n", set()),
        ("params.yaml", PARAMS.replace("rate: 1", "rate: 2"), {"event"}),
        ("params.yaml", PARAMS.replace("dir: a", "dir: b"), {"event"}),
        ("params.yaml", PARAMS.replace("tokenizer: byte", "tokenizer: other"), {"fsl"}),
        ("params.yaml", "raw: {dir", {"event", "fsl"}),
        ("params.yaml", "- raw\n", {"event", "fsl"}),
        ("conf/run.yaml", "dry_run: true\n", {"event", "fsl"}),
        ("conf/event.yaml", "in_dir: c\n", {"event"}),
        ("conf/tokenizer/byte.yaml", "name: b\n", {"fsl"}),
        ("conf/tokenizer/other.yaml", "name: o\n", set()),
    ],
)
def test_what_a_stage_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str, edited: set[str]) -> None:
    monkeypatch.chdir(tmp_path)
    conf = tmp_path / "conf"
    (conf / "tokenizer").mkdir(parents=True)
    for name in ("run.yaml", "event.yaml", "fsl.yaml", "tokenizer/byte.yaml"):
        (conf / name).write_text("")
    Path("params.yaml").write_text(PARAMS)
    before = read_settings(conf)
    assert not any(are_edited(before, read_settings(conf), conf, stage) for stage in ("event", "fsl"))
    Path(file).write_text(text)
    assert {stage for stage in ("event", "fsl") if are_edited(before, read_settings(conf), conf, stage)} == edited
