"""Every Python block of docs/training.md runs as printed."""

import re

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.conftest import ROOT


def test_python_blocks_run(internvl_built, tmp_path, monkeypatch):
    (tmp_path / "data").symlink_to(internvl_built.fsl.parent)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OWA_DATA_RECORDINGS", str(internvl_built.recordings))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/training.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        scope: dict[str, object] = {}
        exec(compile(block, "docs/training.md", "exec"), scope)
        if "loader" in scope:
            assert any(parameter.grad is not None for parameter in scope["model"].parameters())
        if "images" in scope:
            assert len(scope["images"]) == len(scope["events"]) == len(scope["instructions"]) == 4
