"""`owa-data init`: the pipeline in a repository that has nothing but the installed package."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import datasets
import pytest
import yaml

from owa_data.cli import init
from owa_data.cli.card import render_card
from owa_data.cli.init import TEMPLATES, pipeline_files
from owa_data.cli.repository import code_of
from owa_data.store.dataset_folder import read_any_lineage
from tests.conftest import ROOT, Repo


def _own_repo(root: Path, package: Path) -> Repo:
    root.mkdir()
    repo = Repo(root)
    repo.environment["PYTHONPATH"] = str(package)
    repo.run("git", "init", "-q")
    return repo


def _owa_data(repo: Repo, *arguments: str, check: bool = True) -> str:
    return repo.run(sys.executable, "-m", "owa_data.cli.main", *arguments, check=check)


def test_the_templates_are_the_pipelines_own_files() -> None:
    for name, source in (("conf", "conf"), ("pipeline.yaml", "dvc.yaml"), ("dvcignore", ".dvcignore")):
        assert (TEMPLATES / name).resolve() == (ROOT / source).resolve()


def test_tokenizers_registered_in_the_clone_stay_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("conf", "pipeline.yaml", "dvcignore"):
        source = (TEMPLATES / name).resolve()
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, tmp_path / name)
    monkeypatch.setattr(init, "TEMPLATES", tmp_path)
    shipped = pipeline_files().keys()
    (tmp_path / "conf/tokenizer/mine.yaml").write_text("name: mine\nsource: folder\nlocation: /home/me/model\n")
    assert pipeline_files().keys() == shipped
    assert Path("conf/tokenizer/byte.yaml") in shipped


def test_the_written_pipeline_depends_on_code_yaml_instead_of_sources() -> None:
    files = {str(path): text for path, text in pipeline_files().items()}
    own = yaml.safe_load(files["dvc.yaml"])["stages"]
    here = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert own.keys() == here.keys()
    for stage, definition in own.items():
        assert not [dep for dep in definition["deps"] if dep.startswith(("owa_data/", "stages/"))]
        assert definition["params"][0] == {"code.yaml": [stage]}
        assert definition["params"][1:] == here[stage]["params"]
        assert definition["outs"] == here[stage]["outs"]
        assert yaml.safe_load(files["code.yaml"])[stage] == code_of(stage)
    assert files["conf/tokenizer/byte.yaml"] == (ROOT / "conf/tokenizer/byte.yaml").read_text()


def test_nothing_that_exists_is_replaced(tmp_path: Path) -> None:
    repo = Repo(tmp_path)
    assert "run `git init` first" in _owa_data(repo, "init", check=False)
    repo.run("git", "init", "-q")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    output = _owa_data(repo, "init", check=False)
    assert "already here: dvc.yaml" in output
    assert (tmp_path / "dvc.yaml").read_text() == "stages: {}\n"
    assert not (tmp_path / "params.yaml").exists()


@pytest.mark.slow
def test_outputs_stay_out_of_git_when_the_first_build_fails(tmp_path: Path, toy_recordings: Path) -> None:
    repo = Repo(tmp_path)
    repo.run("git", "init", "-q")
    _owa_data(repo, "init", "--recordings", str(toy_recordings))
    repo.set_params(fsl__encoder="nope")
    assert "fsl.encoder: 'nope' is not known" in repo.run("dvc", "repro", "fsl", check=False)
    assert (tmp_path / "data/event/owa.json").exists()
    repo.commit()
    tracked = repo.run("git", "ls-files").split()
    assert {name for name in tracked if name.startswith("data/")} <= {"data/.gitignore", "data/metadata.csv"}


@pytest.mark.slow
def test_the_pipeline_runs_in_an_own_repository_from_a_wheel(tmp_path: Path, toy_recordings: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(
        ROOT,
        source,
        symlinks=True,
        ignore=shutil.ignore_patterns(".git", ".venv*", ".dvc", "data", "tests", "docs", "__pycache__", "*.egg-info", "build"),
    )
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(source),
    ]
    subprocess.run(command, check=True, timeout=240)
    (wheel,) = tmp_path.glob("*.whl")
    package = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(package)

    repo = _own_repo(tmp_path / "own", package)
    assert "Next: put recordings into data/recordings" in _owa_data(repo, "init")
    assert f"installed{'/'}owa_data" in repo.run(sys.executable, "-c", "import owa_data; print(owa_data.__file__)")
    assert "hardlink,symlink,copy" in repo.run("dvc", "config", "cache.type")
    shutil.copytree(toy_recordings, repo.root / "data/recordings")
    repo.set_params(raw__split__test_groups=["b"])
    repo.run("dvc", "add", "-q", "data/recordings")
    repo.run("dvc", "repro", "fsl")
    repo.commit("built")
    assert "Data and pipelines are up to date" in repo.run("dvc", "repro", "fsl")
    assert repo.run("git", "status", "--porcelain") == ""
    rows = datasets.load_from_disk(str(repo.root / "data/fsl"))
    assert rows["train"].num_rows > 0
    assert rows["test"].num_rows > 0
    output = repo.run("dvc", "exp", "run", "--temp", "-S", "fsl.max_sequence_length=1024", "--name", "short")
    assert "fsl: 3 converted" in output

    # An upgrade: the installed sources differ from what code.yaml names.
    installed = package / "owa_data/fsl/pack.py"
    installed.write_text(installed.read_text() + "# another version\n")
    assert "Data and pipelines are up to date" in repo.run("dvc", "repro", "fsl")
    output = repo.run("dvc", "repro", "--force", "fsl", check=False)
    assert "Run `owa-data init --update`, then `dvc repro`" in output
    assert "wrote code.yaml" in _owa_data(repo, "init", "--update")
    output = repo.run("dvc", "repro", "fsl")
    assert "Stage 'event' didn't change" in output
    assert "fsl: 3 converted, 0 reused" in output
    assert "everything is as the installed package has it" in _owa_data(repo, "init", "--update")

    card = _owa_data(repo, "card", "data/fsl")
    assert card == render_card(read_any_lineage(repo.root / "data/fsl"), "fsl")
    assert "lies in the dataset" in _owa_data(repo, "card", "data/fsl", "-o", "data/fsl/README.md", check=False)
    head = yaml.safe_load(card.split("---")[1])
    assert head["configs"][0]["data_files"][0] == {"split": "train", "path": "train/**/*.arrow"}
    assert "| train | 2 |" in card


def test_params_of_other_tools_are_kept_and_unknown_knobs_refused(tmp_path: Path) -> None:
    repo = Repo(tmp_path)
    repo.run("git", "init", "-q")
    _owa_data(repo, "init")
    params = tmp_path / "params.yaml"
    fresh = params.read_text()
    params.write_text(fresh.replace("max_sequence_length: 4096", "max_sequence_length: 512") + "train:\n  lr: 0.1\n")
    _owa_data(repo, "init", "--update")
    kept = yaml.safe_load(params.read_text())
    assert kept["train"] == {"lr": 0.1}
    assert kept["fsl"]["max_sequence_length"] == 512
    text = params.read_text()
    _owa_data(repo, "init", "--update")
    assert params.read_text() == text
    own = text.replace("  limit: 0", "  limit: 0   # mine").replace("\nfsl:", "\n# agreed on\nfsl:")
    params.write_text(own)
    assert "everything is as" in _owa_data(repo, "init", "--update")
    assert params.read_text() == own
    params.write_text(own.replace("  max_sequence_length: 512", ""))
    assert "2 comments are gone from params.yaml" in _owa_data(repo, "init", "--update")
    params.write_text(text)
    wrong = text.replace("fsl:\n", "fsl:\n  my_old_knob: 7\n")
    params.write_text(wrong)
    assert "fsl.my_old_knob" in _owa_data(repo, "init", "--update", check=False)
    assert params.read_text() == wrong
    params.write_text("- fsl\n")
    assert "params.yaml: is a list, not sections of knobs" in _owa_data(repo, "init", "--update", check=False)
    assert params.read_text() == "- fsl\n"


@pytest.mark.parametrize("flag", ["--force", "--update"])
def test_recordings_that_are_named_stand_in_place_of_those_in_params(tmp_path: Path, flag: str) -> None:
    repo = Repo(tmp_path)
    repo.run("git", "init", "-q")
    assert "put recordings into data/recordings" in _owa_data(repo, "init")
    repo.set_params(raw__limit=7)
    output = _owa_data(repo, "init", flag, "--recordings", "/data/d2e")
    assert "data/recordings" not in output
    raw = yaml.safe_load((tmp_path / "params.yaml").read_text())["raw"]
    assert (raw["dir"], raw["watch"], raw["limit"]) == ("/data/d2e", "/data/d2e", 7)
    repo.set_params(raw__watch="data/list.jsonl")
    _owa_data(repo, "init", flag, "--recordings", "/data/other")
    raw = yaml.safe_load((tmp_path / "params.yaml").read_text())["raw"]
    assert (raw["dir"], raw["watch"]) == ("/data/other", "data/list.jsonl")
    _owa_data(repo, "init", flag)
    assert yaml.safe_load((tmp_path / "params.yaml").read_text())["raw"] == raw
