"""README is run as a newcomer would: its commands and snippets in order, in a clone, on the embedded sample.

A block after `<!-- needs ... -->` is not run: it needs the network, or recordings or a tokenizer of the reader's own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from owa_data.params import SECTIONS, validate_params
from tests.conftest import ROOT, Repo

README = (ROOT / "README.md").read_text()


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    runs: bool


def blocks(text: str) -> list[Block]:
    """Fenced blocks in order."""
    found = re.finditer(r"(<!-- needs [^\n]*-->\n)?^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(match[2], match[3], match[1] is None) for match in found]


def test_yaml_blocks_set_knobs_that_exist() -> None:
    sections = [yaml.safe_load(block.text) for block in blocks(README) if block.language == "yaml"]
    assert len(sections) == 2
    for section in sections:
        for name, values in section.items():
            validate_params(SECTIONS[name], values, name)


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """A clone with the working tree's content and this environment in place of a new one."""
    root = tmp_path_factory.mktemp("readme") / "clone"
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file() and Path(name).parts[0] not in ("metrics", "plots") and not name.endswith("dvc.lock"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    (root / ".venv").symlink_to(sys.prefix)
    repo = Repo(root)
    repo.environment["PYTHONPATH"] = str(root)
    # The environment stands already: make must not install into it.
    repo.environment["MAKEFLAGS"] = "RUNTIME= INSTALLED="
    repo.run("git", "init", "-q")
    repo.commit("clone")
    return repo


@pytest.mark.slow
def test_every_command_and_snippet_runs(clone: Repo) -> None:
    pytest.importorskip("torch")
    for block in blocks(README):
        if not block.runs or block.language not in ("bash", "python"):
            continue
        if block.language == "python":
            print(clone.run(sys.executable, "-c", block.text))
            continue
        # `make test` would run this test again.
        script = "\n".join(line for line in block.text.splitlines() if line != "make test")
        print(clone.run("bash", "-euo", "pipefail", "-c", script))
    output = clone.run("make", "repro")
    assert "Data and pipelines are up to date" in output or "didn't change" in output
    assert "data/fsl" in output
