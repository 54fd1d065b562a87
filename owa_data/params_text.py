"""`params.yaml` and `docs/params.md`, written from the models of `params.py`.

    python -m owa_data.params_text          writes both
    python -m owa_data.params_text --check  exits 1 where they are not as they would be written

Values that a user changed in `params.yaml` are kept, sections of other tools too, at the end; comments, order and missing knobs are brought in line.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from owa_data.errors import ParamsError
from owa_data.params import SECTIONS, TopicParams, validate_params

PARAMS_FILE = Path("params.yaml")
DOCS_FILE = Path("docs/params.md")
_HEAD = """\
# The knobs of the pipeline. `dvc repro` rebuilds what a change makes stale; `dvc exp run -S fsl.max_sequence_length=8192` tries one.
# Comments are written from owa_data/params.py (`make params`), values are yours.
"""
_COMMENT_COLUMN = 44


def render_params(values: dict[str, Any]) -> str:
    """Return the text of `params.yaml` with these values, defaults where they are missing.

    Raises:
        ParamsError: A knob that is not known, or a value that cannot be used: nothing is left out silently.
    """
    lines = [_HEAD]
    for name, model in SECTIONS.items():
        validate_params(model, values.get(name) or {}, name)
    for name, model in SECTIONS.items():
        lines.append(f"# {_first_line(model)}")
        lines.append(f"{name}:")
        lines += _render_model(model, values.get(name) or {}, 1)
        lines.append("")
    others = {name: value for name, value in values.items() if name not in SECTIONS}
    if others:
        lines += ["# Not of this pipeline.", yaml.safe_dump(others, sort_keys=False, allow_unicode=True)]
    return "\n".join(lines).rstrip() + "\n"


def _render_model(model: type[BaseModel], values: dict[str, Any], depth: int) -> list[str]:
    lines = []
    for name, field in model.model_fields.items():
        value = values.get(name, _plain(field.get_default()))
        lines += _render_field(name, field, value, depth)
    return lines


def _render_field(name: str, field: FieldInfo, value: Any, depth: int) -> list[str]:
    indent = "  " * depth
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        return [f"{indent}{name}:", *_render_model(field.annotation, value, depth + 1)]
    if name == "topics":
        lines = [f"{indent}# {field.description}:"]
        lines += [f"{indent}#   {knob}: {part.description}" for knob, part in TopicParams.model_fields.items()]
        # Every knob of a row is written out, so that each can be overridden by name.
        rows = [f"{indent}  {row}: {_flow(_full(knobs))}" for row, knobs in value.items()]
        return [*lines, f"{indent}{name}:", *rows]
    text = f"{indent}{name}: {_flow(value)}"
    # One space at least, however long the value: without it YAML takes the comment for a part of the value.
    return [f"{text:<{_COMMENT_COLUMN - 1}} # {field.description}"]


def _full(knobs: dict[str, Any]) -> dict[str, Any]:
    """A row of the topic table with all knobs, in the order of the model."""
    return {
        name: knobs.get(name, None if field.is_required() else _plain(field.get_default()))
        for name, field in TopicParams.model_fields.items()
    }


def _flow(value: Any) -> str:
    if isinstance(value, dict) and value:
        return "{" + ", ".join(f"{key}: {_flow(part)}" for key, part in value.items()) + "}"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def render_docs() -> str:
    """Return the text of `docs/params.md`."""
    lines = [
        "# Params",
        "",
        "Written from `owa_data/params.py` by `make params`. Set a knob in `params.yaml`, for one experiment with",
        "`dvc exp run -S <knob>=<value>`, or by hand with `python -m stages.<stage> <knob without the stage>=<value>`.",
        "",
    ]
    for name, model in SECTIONS.items():
        lines += [f"## {name}", "", _first_line(model), "", "| knob | default | meaning |", "| --- | --- | --- |"]
        lines += [f"| `{knob}` | `{default}` | {_cell(text)} |" for knob, default, text in _knobs(model, name)]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _knobs(model: type[BaseModel], prefix: str) -> list[tuple[str, str, str]]:
    rows = []
    for name, field in model.model_fields.items():
        key = f"{prefix}.{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            rows += _knobs(field.annotation, key)
        elif name == "topics":
            rows.append((key, ", ".join(field.get_default()), field.description or ""))
            for knob, part in TopicParams.model_fields.items():
                default = "required" if part.is_required() else _flow(_plain(part.get_default()))
                rows.append((f"{key}.<name>.{knob}", default, part.description or ""))
        else:
            rows.append((key, _flow(_plain(field.get_default())), field.description or ""))
    return rows


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _read_values() -> dict[str, Any]:
    try:
        values = yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8")) if PARAMS_FILE.exists() else {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(str(PARAMS_FILE), f"is no YAML: {error}") from error
    if not isinstance(values, dict | None):
        raise ParamsError(
            str(PARAMS_FILE), f"is {values!r}, not sections of knobs. Remove it to have it written with the defaults"
        )
    return values or {}


def main() -> None:
    """Command line, see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 where something would change")
    check = parser.parse_args().check
    try:
        params_text = render_params(_read_values())
    except ParamsError as error:
        sys.exit(str(error))
    stale = []
    for path, text in ((PARAMS_FILE, params_text), (DOCS_FILE, render_docs())):
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(path))
        if not check:
            path.write_text(text, encoding="utf-8")
    if stale and check:
        sys.exit(f"not up to date: {', '.join(stale)}. Run `make params`")


if __name__ == "__main__":
    main()
