"""Settings that were edited while a stage ran: those of its own count, and no others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from stages.settings import are_edited, read_settings

ROOT = Path(__file__).parent.parent.parent
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


def test_links_that_lead_back_are_followed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "inner").mkdir(parents=True)
    (tmp_path / "conf" / "event.yaml").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.yaml").touch()
    for name, target in (("up", "conf"), ("again", "conf"), ("inner/more", "elsewhere")):
        (tmp_path / "conf" / name).symlink_to(tmp_path / target)
    names = [str(Path(path).relative_to(tmp_path / "conf")) for path in read_settings(tmp_path / "conf")]
    assert names == ["event.yaml", "inner/more/mine.yaml"]


def listed_params() -> list[tuple[str, str]]:
    """Each stage with each of its params in `dvc.yaml`: a key of `params.yaml`, or a file."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return [
        (stage, name if isinstance(name, str) else next(iter(name)))
        for stage, definition in stages.items()
        for name in definition["params"]
    ]


@pytest.mark.parametrize(("stage", "name"), listed_params())
def test_what_dvc_notes_of_a_stage_is_what_it_must_not_lose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, name: str
) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    before = read_settings(tmp_path / "conf")
    params = yaml.safe_load(Path("params.yaml").read_text())
    if name.endswith(".yaml"):
        path = Path(name.replace("${fsl.tokenizer}", params["fsl"]["tokenizer"]))
        path.write_text(path.read_text() + "more: 1\n")
    else:
        section, _, key = name.partition(".")
        params[section][key or "more"] = "other"
        Path("params.yaml").write_text(yaml.safe_dump(params))
    assert are_edited(before, read_settings(tmp_path / "conf"), tmp_path / "conf", stage)
