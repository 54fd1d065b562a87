"""Composed confs, remembered by the content of the files they are made of: Hydra takes 0.3 s to be imported and to compose.

They lie in `.dvc/tmp/owa-data`, DVC's place for what may be deleted; one file per stage.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from owa_data.cli.repository import dvc_root
from owa_data.params import SECTIONS
from stages.settings import Settings, read_settings


class Composed(msgspec.Struct, frozen=True):
    """A composed conf.

    Attributes:
        conf: Plain values, every `${...}` resolved.
        logging: For `logging.config.dictConfig`.
        of_files_alone: Whether it says nothing that is not in the settings, such as the value of an environment variable.
    """

    conf: dict[str, Any]
    logging: dict[str, Any]
    of_files_alone: bool = True


class _Remembered(msgspec.Struct, frozen=True):
    key: str
    digest: str
    content: bytes


def recall(name: str, settings: Settings) -> Composed | None:
    """Return what Hydra made of these very settings before, None where that is not known. Cost: 1 ms."""
    try:
        remembered = msgspec.msgpack.decode(_place(name).read_bytes(), type=_Remembered)
        if remembered.key != _key(name, settings) or remembered.digest != _digest(remembered.content):
            return None
        return msgspec.msgpack.decode(remembered.content, type=Composed)
    except (OSError, msgspec.MsgspecError):
        return None


def remember(conf_dir: Path, name: str, settings: Settings, composed: Composed) -> None:
    """Remember a conf for `recall`, where it is one of files alone and there is a DVC repository.

    Args:
        conf_dir: Where Hydra composed it from.
        name: The stage.
        settings: As they were before that; what Hydra read may be others, where they are edited just then.
        composed: The conf.
    """
    if dvc_root() is None or not composed.of_files_alone or read_settings(conf_dir) != settings:
        return
    try:
        content = msgspec.msgpack.encode(composed)
    except (OverflowError, TypeError):  # an integer beyond 64 bits: whoever asked for that is told by the params' model
        return
    if msgspec.msgpack.decode(content, type=Composed) != composed:
        return
    place = _place(name)
    beside = place.with_suffix(f".{os.getpid()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(msgspec.msgpack.encode(_Remembered(_key(name, settings), _digest(content), content)))
        beside.replace(place)
    except OSError:  # not ours to write to: Hydra composes next time
        with suppress(OSError):
            beside.unlink()


def _place(name: str) -> Path:
    return (dvc_root() or Path()) / ".dvc" / "tmp" / "owa-data" / f"{name}.conf"


def _key(name: str, settings: Settings) -> str:
    """All that a composed conf depends on: the settings, this code, and Hydra's."""
    packages = [Path(place) for package in ("hydra", "omegaconf") for place in _places_of(package)]
    code = [
        *sorted(Path(__file__).parent.glob("*.py")),
        *(path for package in packages for path in (package / "__init__.py", package / "version.py")),
    ]
    contents = [path.read_bytes() for path in code if path.is_file()]  # with the versions
    parts = [name, list(SECTIONS), str(Path.cwd()), sys.version, contents, sorted(settings.items())]
    return _digest(msgspec.msgpack.encode(parts))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _places_of(package: str) -> list[str]:
    """Where a package lies; it is not imported."""
    spec = find_spec(package)
    return list(spec.submodule_search_locations or []) if spec else []
