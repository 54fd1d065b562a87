"""Data, configuration and datasets from elsewhere run no code and reach no file outside their folders."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import msgspec
import pytest

from owa_data.errors import ParamsError, SchemaError
from owa_data.params import RawParams
from owa_data.raw.discover import find_recordings
from owa_data.raw.episodes import read_episodes
from owa_data.store.dataset_folder import shard_name
from tests.conftest import ROOT
from tests.damage import write_mcap

FILES = [*sorted((ROOT / "owa_data").rglob("*.py")), *sorted((ROOT / "stages").rglob("*.py"))]
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
FUNCTIONS = {
    "eval",
    "exec",
    "compile",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "torch.load",
    "numpy.load",
    "np.load",
}
SETTINGS = {"shell", "trust_remote_code", "allow_pickle", "weights_only"}


def findings(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            found.append(node.module)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            safe = any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords)
            if name in FUNCTIONS and not safe:
                found.append(name)
            found += [
                f"{name}({word.arg}=...)"
                for word in node.keywords
                if word.arg in SETTINGS and ast.unparse(word.value) != ("True" if word.arg == "weights_only" else "False")
            ]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_runs_code_from_data(path: Path) -> None:
    assert findings(path.read_text()) == []


def test_the_search_finds_what_it_looks_for() -> None:
    bad = "import pickle\nfrom dill import loads\neval('1')\nyaml.load(x)\nsubprocess.run(c, shell=True)\nf(trust_remote_code=True)\n"
    assert len(findings(bad)) == 6
    assert findings("yaml.safe_load(x)\nsubprocess.run(c)\nmodel.eval()\nre.compile('a')\n") == []


@pytest.mark.parametrize("path", ["../a.mcap", "/etc/a.mcap", "a/../../b.mcap"])
def test_an_index_from_elsewhere_cannot_lead_out_of_the_folders(path, tmp_path):
    with pytest.raises(SchemaError, match="leads out of its folder"):
        shard_name(path)
    index = tmp_path / "episodes.jsonl"
    fields = {
        "size_bytes": 0,
        "sha256": "",
        "profile": "",
        "library": "",
        "start_ns": 0,
        "end_ns": 0,
        "num_messages": 0,
        "topics": {},
    }
    rest = {"media": [], "split": "train", "group": "", "condition": "sound", "damage": [], "metadata": {}}
    index.write_bytes(msgspec.json.encode({"episode_path": path, **fields, **rest}))
    with pytest.raises(SchemaError, match="leads out of its folder"):
        read_episodes(index)


def test_a_name_that_is_not_utf8_is_refused_with_its_remedy(tmp_path):
    content = write_mcap([])
    (tmp_path / "good.mcap").write_bytes(content)
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mcap")).write_bytes(content)
    except OSError:
        pytest.skip("this file system refuses such names itself")
    params = RawParams(dir=str(tmp_path), watch=str(tmp_path), metadata="")
    with pytest.raises(ParamsError, match=r"is not UTF-8.*raw\.exclude"):
        find_recordings(params)
    assert len(find_recordings(params.model_copy(update={"exclude": ("?.mcap",)}))) == 1
