"""The files that a stage's settings stand in, as bytes: what it began with, and whether that was edited while it ran."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from owa_data.cli.repository import PARAMS_FILE

Settings = dict[str, bytes]
"""Content of `params.yaml` and of each YAML file below `conf/`, by path."""


def read_settings(conf_dir: Path) -> Settings:
    """Return all that a stage's settings may stand in, as it is now; nothing is parsed."""
    files = [PARAMS_FILE, *(path for path in _files_below(conf_dir) if path.suffix == ".yaml")]
    return {str(path): _content(path) for path in sorted(files) if path.is_file()}


def _files_below(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """All files below a folder; links are followed, but not to a folder that they lie in."""
    real = os.path.realpath(folder)
    if real in above or not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files_below(path, (*above, real))
        else:
            yield path


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:  # such as another's tokenizer: whoever needs it says so
        return str(error).encode()


def are_edited(before: Settings, now: Settings, conf_dir: Path, name: str) -> bool:
    """Whether what DVC notes of a stage's settings when it has ended is not what the stage began with."""
    return before != now and _noted(before, conf_dir, name) != _noted(now, conf_dir, name)


def _noted(settings: Settings, conf_dir: Path, name: str) -> object:
    """What of settings `dvc.yaml` names for a stage: its section of `params.yaml`, and its files."""
    try:
        params = yaml.safe_load(settings.get(str(PARAMS_FILE), b"")) or {}
        section = params.get(name, {})
        recordings = params.get("raw", {}).get("dir") if name == "event" else ""
        files = [conf_dir / f"{name}.yaml", conf_dir / "run.yaml"]
        files += [conf_dir / "tokenizer" / f"{section.get('tokenizer')}.yaml"] if name == "fsl" else []
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError):  # half written, or something else than sections of knobs
        return settings
    return section, recordings, [settings.get(str(path)) for path in files]
