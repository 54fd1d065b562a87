"""The shape of the project: import directions, code deps, conf files, params, schema tables in the docs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
import yaml

from owa_data.cli.show import SCENES
from owa_data.params import SECTIONS, Params, TokenizerParams, TopicParams
from owa_data.params_text import render_docs, render_params
from owa_data.schema import SCHEMA_VERSION, SCHEMAS
from owa_data.store.card import ROW_IS
from owa_data.store.code_digest import SOURCES, source_files
from owa_data.store.incremental import TYPICAL_GROWTH
from owa_data.transforms.attach import CREATE, TELLING_COLUMN
from tests.conftest import ROOT

PACKAGE = ROOT / "owa_data"

# Each room may import itself and those named. What is not named here (cli) may import anything.
BENEATH = {"errors", "params", "schema", "store"}
ALLOWED = {
    "errors": set(),
    "params": {"errors"},
    "params_text": {"errors", "params"},
    "schema": set(),
    "store": {"errors", "params", "schema"},
    "raw": BENEATH,
    "event": BENEATH | {"raw"},
    "encoding": BENEATH | {"raw", "event"},
    "fsl": BENEATH | {"raw", "event", "encoding"},
    "binned": BENEATH | {"raw", "event", "encoding"},
    "transforms": BENEATH | {"raw", "event", "encoding", "fsl", "binned"},
    "training": BENEATH | {"raw", "event", "encoding", "fsl", "binned", "transforms"},
    "sample": BENEATH | {"raw"},
}


def imports_of(path: Path) -> set[str]:
    """Modules of this package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_data_flows_one_way(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room not in ALLOWED:
        return
    others = {name.split(".")[1] for name in imports_of(path) if name.startswith("owa_data.")} - {
        room,
        "load_from_disk",
        "__version__",
    }
    assert others <= ALLOWED[room], f"{room} must not import {others - ALLOWED[room]}"
    assert not {name.split(".")[0] for name in imports_of(path)} & {"hydra", "omegaconf"}


def test_file_names_say_a_job_and_files_are_short() -> None:
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "stages").rglob("*.py")]:
        assert path.stem not in {"utils", "helpers", "common", "base", "misc", "manager"}
        assert len(path.read_text().splitlines()) <= 450, path


_CONVERSIONS = {"event": "owa_data.event.build", "fsl": "owa_data.fsl.build", "binned": "owa_data.binned.build"}


@pytest.mark.parametrize("kind", ["index", *sorted(_CONVERSIONS)])
def test_the_source_list_covers_what_the_conversion_imports(kind: str) -> None:
    module = _CONVERSIONS.get(kind, "owa_data.raw.index")
    script = (
        f"import sys, {module}\n"
        "for name, module in sorted(sys.modules.items()):\n"
        "    if name.startswith('owa_data') and getattr(module, '__file__', None): print(module.__file__)"
    )
    output = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    imported = {Path(line).relative_to(PACKAGE).as_posix() for line in output.splitlines()}
    # These do not shape bytes: they run, show, store, name or refuse. A package's own __init__ holds a docstring.
    harmless = {
        "errors.py", "params.py", "raw/episodes.py", "raw/index.py", "store/lifetime.py", "store/lean_arrow.py", "store/digest_memory.py", "store/incremental.py", "store/executors.py", "store/dask_cluster.py", "store/progress.py", "store/whole_file.py",
        "fsl/saved_tokenizer.py",
        "store/shard_cache.py", "store/source.py", "store/shard_key.py", "store/code_digest.py", "store/dataset_folder.py", "store/metrics.py",
    }  # fmt: skip
    missing = {name for name in imported - set(source_files(kind)) - harmless if not name.endswith("__init__.py")}
    assert not missing
    # Nor does it list what a conversion has no use for, which would make shards stale for nothing.
    unused = {name for name in set(source_files(kind)) - imported if not name.endswith("__init__.py")}
    # The first is imported late, the second decodes, and the third finds the first and last message that `event` is given.
    assert unused <= {"fsl/extend.py", "encoding/unwrap.py", "raw/index.py"}


def test_long_values_come_back_from_the_written_params() -> None:
    for length in range(20, 60):
        values = {"raw": {"dir": "/" + "d" * length, "watch": "w" * length}}
        written = yaml.safe_load(render_params(values))
        assert {key: written["raw"][key] for key in ("dir", "watch")} == values["raw"]


def test_every_table_by_kind_has_all_kinds() -> None:
    tables = (CREATE, TELLING_COLUMN, SCENES, TYPICAL_GROWTH, ROW_IS, _CONVERSIONS)
    assert [set(table) for table in tables] == [set(SCHEMAS)] * len(tables)
    assert set(SOURCES) == set(SCHEMA_VERSION) == {"index", *SCHEMAS}
    assert set(SECTIONS) == {"raw", "runtime", *SCHEMAS}


def test_choices_are_named_in_the_description_of_a_knob() -> None:
    def check(model: type[Params]) -> None:
        for name, field in model.model_fields.items():
            if get_origin(field.annotation) is Literal:
                assert all(re.search(rf"\b{choice}\b", field.description) for choice in get_args(field.annotation)), name
            elif isinstance(field.annotation, type) and issubclass(field.annotation, Params):
                check(field.annotation)

    for model in (*SECTIONS.values(), TopicParams, TokenizerParams):
        check(model)


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_source_files_exist_and_are_deps_of_their_stage(kind: str) -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    stage = stages[{"index": "raw"}.get(kind, kind)]
    for name in source_files(kind):
        assert (PACKAGE / name).is_file()
        assert any(f"owa_data/{name}" == dep or f"owa_data/{name}".startswith(f"{dep}/") for dep in stage["deps"]), name


def conf_files(stage: str) -> set[str]:
    """Conf files that Hydra loads for a stage."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    from stages.conf import register_knobs

    register_knobs()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        entries = loader.compute_defaults_list(stage, [], RunMode.RUN).defaults
        compose(stage)
    return {f"conf/{entry.config_path}.yaml" for entry in entries if (ROOT / f"conf/{entry.config_path}.yaml").exists()}


@pytest.mark.parametrize("stage", ["raw", "event", "fsl", "binned"])
def test_every_conf_file_a_stage_loads_is_among_its_params(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    definition = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    tokenizer = yaml.safe_load((ROOT / "params.yaml").read_text())["fsl"]["tokenizer"]
    listed = {
        name.replace("${fsl.tokenizer}", tokenizer) for entry in definition["params"] if isinstance(entry, dict) for name in entry
    }
    assert conf_files(stage) == listed
    assert "runtime" not in definition["params"]


@pytest.mark.parametrize("path", sorted((ROOT / "conf/tokenizer").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_tokenizer_conf_validates(path: Path) -> None:
    from owa_data.fsl.families import image_span
    from owa_data.params import TokenizerParams, validate_params

    params = validate_params(TokenizerParams, yaml.safe_load(path.read_text()), "tokenizer")
    assert params.name == path.stem
    assert image_span(params.image).num_tokens > 0


def test_params_yaml_and_its_docs_are_as_written_from_the_models() -> None:
    text = (ROOT / "params.yaml").read_text()
    assert text == render_params(yaml.safe_load(text)) == render_params({})
    assert (ROOT / "docs/params.md").read_text() == render_docs()


@pytest.mark.parametrize("kind", sorted(SCHEMAS))
def test_the_docs_table_of_columns_is_the_schema(kind: str) -> None:
    text = (ROOT / "docs/format.md").read_text()
    section = text.split(f"\n## {kind}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", section, re.MULTILINE)
    assert rows == [(field.name, str(field.type).replace("element: ", "").replace("item: ", "")) for field in SCHEMAS[kind]]


def test_importing_the_package_is_light() -> None:
    script = (
        "import sys, owa_data; print([m for m in ('torch', 'transformers', 'datasets', 'pyarrow', 'hydra') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("stage", ["raw", "event", "binned", "fsl"])
def test_workers_import_no_pandas(stage: str) -> None:
    # Arrow imports it with its first value, so none is made while a module is imported: it would double the time that workers take to start.
    script = f"import sys, owa_data.{stage}.build; print('pandas' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
