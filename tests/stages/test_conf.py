"""A stage's conf: what Hydra composed is remembered for the same files, and only for them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from stages import remembered
from stages.conf import compose_once, register_knobs
from stages.remembered import Composed, recall, remember
from stages.settings import Settings, read_settings

ROOT = Path(__file__).parent.parent.parent
COMPOSED = Composed({"rate_hz": 20}, {"version": 1})


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings() -> Settings:
    return read_settings(Path.cwd() / "conf")


@pytest.mark.parametrize("stage", ["raw", "event", "fsl", "binned"])
def test_a_remembered_conf_is_what_hydra_composes(repository: Path, stage: str) -> None:
    assert recall(stage, settings()) is None
    register_knobs()
    composed = compose_once(repository / "conf", stage)
    assert composed is not None
    assert composed.conf["runtime"]["executor"] == "local"
    remember(repository / "conf", stage, settings(), composed)
    assert recall(stage, settings()) == composed
    assert recall("other", settings()) is None


@pytest.mark.parametrize(
    "file", ["params.yaml", "conf/run.yaml", "conf/event.yaml", "conf/tokenizer/byte.yaml", "conf/new/group.yaml"]
)
def test_another_setting_is_composed_anew(repository: Path, file: str) -> None:
    remember(repository / "conf", "event", settings(), COMPOSED)
    assert recall("event", settings()) == COMPOSED
    Path(file).parent.mkdir(exist_ok=True)
    with Path(file).open("a") as opened:
        opened.write("\n")
    assert recall("event", settings()) is None


@pytest.mark.parametrize("package", ["hydra", "omegaconf"])
def test_another_hydra_composes_anew(repository: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    remember(repository / "conf", "event", settings(), COMPOSED)
    other = repository / "upgraded" / package
    shutil.copytree(remembered._places_of(package)[0], other, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(
        remembered, "_places_of", lambda name: [str(other)] if name == package else find_spec(name).submodule_search_locations
    )
    assert recall("event", settings()) == COMPOSED
    file = other / ("__init__.py" if package == "hydra" else "version.py")
    file.write_text(file.read_text().replace("__version__ = ", "__version__ = '99' + "))
    assert recall("event", settings()) is None


def test_another_folder_composes_anew(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(repository / "conf", "event", settings(), COMPOSED)
    of_here = settings()
    (repository / "below").mkdir()
    monkeypatch.chdir(repository / "below")
    assert recall("event", of_here) is None


def composed_now(stage: str = "event") -> Composed:
    register_knobs()
    composed = compose_once(Path.cwd() / "conf", stage)
    assert composed is not None
    return composed


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("conf/event.yaml", "more: ${oc.env:HOME}"),
        ("conf/event.yaml", 'more: "\\x24{oc.env:HOME}"'),
        ("conf/event.yaml", 'more: "${oc\\\n  .env:HOME}"'),
        ("conf/event.yaml", "more: ${oc.env:${params:event.intervals.select},home}"),
        ("conf/event.yaml", "more: ${now:%Y}"),
        ("conf/event.yaml", "more: ${ hydra:runtime.cwd }"),
        ("conf/event.yaml", "hydra: {job_logging: {formatters: {simple: {datefmt: '${hydra.run.dir}'}}}}"),
        ("params.yaml", "more: [{raw: '${oc.env:HOME}'}]"),
    ],
)
def test_what_is_not_in_the_files_is_not_remembered(repository: Path, file: str, text: str) -> None:
    with Path(file).open("a") as opened:
        opened.write(f"{text}\n")
    composed = composed_now()
    assert not composed.of_files_alone
    remember(repository / "conf", "event", settings(), composed)
    assert recall("event", settings()) is None


def test_a_file_outside_conf_is_not_remembered(repository: Path) -> None:
    (repository / "team.yaml").write_text("fps: 25\n")
    conf = Path("conf/binned.yaml")
    conf.write_text(conf.read_text().replace("knobs/runtime,", "knobs/runtime, ../team@_global_,"))
    composed = composed_now("binned")
    assert composed.conf["fps"] == 25
    assert not composed.of_files_alone


def test_references_within_the_files_are_remembered(repository: Path) -> None:
    with Path("conf/event.yaml").open("a") as opened:
        opened.write("more: ${out_dir}/${params:raw.dir}\n")
    composed = composed_now()
    assert composed.conf["more"] == "data/event/data/sample/recordings"
    remember(repository / "conf", "event", settings(), composed)
    assert recall("event", settings()) == composed


@pytest.mark.parametrize("value", [(20, 60), 10**30, Path("a")])
def test_values_that_would_come_back_as_others_are_not_remembered(repository: Path, value: object) -> None:
    remember(repository / "conf", "event", settings(), Composed({"rates": value}, {}))
    assert recall("event", settings()) is None


def test_a_conf_of_files_that_were_edited_meanwhile_is_not_remembered(repository: Path) -> None:
    before = settings()
    edited = Path("params.yaml").read_text().replace("rate_hz: 20", "rate_hz: 60")
    Path("params.yaml").write_text(edited)  # after the stage has looked at it, before Hydra does
    remember(repository / "conf", "event", before, COMPOSED)
    assert recall("event", before) is None
    assert recall("event", settings()) is None


def test_a_place_that_cannot_be_written_to_stops_nothing(repository: Path) -> None:
    (repository / ".dvc/tmp").write_text("a file")
    remember(repository / "conf", "event", settings(), COMPOSED)
    assert recall("event", settings()) is None


@pytest.mark.parametrize("content", [b"", b"\x00", b"\x82\xa3key", b"\x82\xa3key\xc0\xa8composed\xc0"])
def test_a_damaged_memory_counts_as_none(repository: Path, content: bytes) -> None:
    remember(repository / "conf", "event", settings(), COMPOSED)
    (repository / ".dvc/tmp/owa-data/event.conf").write_bytes(content)
    assert recall("event", settings()) is None


def test_one_flipped_bit_is_noticed(repository: Path) -> None:
    remember(repository / "conf", "event", settings(), COMPOSED)
    place = repository / ".dvc/tmp/owa-data/event.conf"
    content = place.read_bytes()
    assert b"rate_hz\x14" in content
    place.write_bytes(content.replace(b"rate_hz\x14", b"rate_hz\x15"))
    assert recall("event", settings()) is None


def test_without_a_repository_nothing_is_remembered(repository: Path) -> None:
    shutil.rmtree(repository / ".dvc")
    remember(repository / "conf", "event", settings(), COMPOSED)
    assert recall("event", settings()) is None
    assert not (repository / ".dvc").exists()


@pytest.mark.parametrize(
    "setting", ["output_subdir: .hydra", "verbose: true", "job: {chdir: true}", "run: {dir: outputs}", "searchpath: [file:///]"]
)
def test_what_asks_for_more_of_hydra_is_left_to_hydra(repository: Path, setting: str) -> None:
    with Path("conf/event.yaml").open("a") as opened:
        opened.write(f"hydra: {{{setting}}}\n")
    register_knobs()
    assert compose_once(repository / "conf", "event") is None


def run_raw(*arguments: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, "-m", "stages.raw", *arguments]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [[], ["dry_run=true"]])
def test_a_reference_to_nothing_is_told_in_one_line(repository: Path, arguments: list[str]) -> None:
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("salt: ''", "salt: ${oc.env:NOT_THERE}"))
    done = run_raw(*arguments)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "params.yaml, conf/raw.yaml: split.salt cannot be resolved: \"Environment variable 'NOT_THERE' not found\""
    ]


def test_an_unreadable_file_that_is_not_used_stops_nothing(repository: Path) -> None:
    (repository / "conf/tokenizer/internvl3.yaml").unlink()
    (repository / "conf/tokenizer/internvl3.yaml").symlink_to("/proc/1/mem")  # unreadable for root, too
    assert settings()[str(repository / "conf/tokenizer/internvl3.yaml")].startswith(b"[Errno")
    assert composed_now().conf["out_dir"] == "data/event"


def test_a_stage_run_again_does_not_import_hydra(repository: Path) -> None:
    def modules_of_a_run() -> tuple[bool, str]:
        done = run_raw(python=("-X", "importtime"))
        return " hydra.main" in done.stderr, done.stdout

    first, second = modules_of_a_run(), modules_of_a_run()
    assert (first[0], second[0]) == (True, False)
    assert first[1] == second[1]
    assert "data/sample/metadata.jsonl" in first[1]
