"""What console commands and stages find in the repository in the working directory: `params.yaml`, `code.yaml`, and the shard cache."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import platformdirs
import yaml

from owa_data import __version__
from owa_data.errors import ParamsError
from owa_data.params import RawParams, validate_params
from owa_data.store.code_digest import source_digest
from owa_data.store.shard_cache import ENVIRONMENT, ShardCache, default_cache_root

PARAMS_FILE = Path("params.yaml")
CODE_FILE = Path("code.yaml")


def check_in_root() -> None:
    """Check that the working directory is the root of a repository.

    Raises:
        ParamsError: It has no `params.yaml`.
    """
    if not PARAMS_FILE.is_file():
        raise ParamsError(str(PARAMS_FILE), f"not found in {Path.cwd()}. Run this from the root of the repository")


def read_params() -> dict[str, Any]:
    """Return `params.yaml` of the working directory.

    Raises:
        ParamsError: There is none, it is no YAML, or it holds something else than sections.
    """
    check_in_root()
    try:
        values = yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(str(PARAMS_FILE), f"is no YAML: {error}") from error
    if not isinstance(values, dict | None):
        raise ParamsError(str(PARAMS_FILE), f"is a {type(values).__name__}, not sections of knobs such as `raw:`")
    return values or {}


def read_raw_params() -> RawParams:
    """Return the validated section `raw`."""
    return validate_params(RawParams, section_of(read_params(), "raw"), "raw")


def section_of(params: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a section of `params.yaml` as it stands there, empty where there is none.

    Raises:
        ParamsError: It holds something else than knobs, or nothing.
    """
    section = params.get(name, {})
    if not isinstance(section, dict):
        raise ParamsError(
            name,
            f"is {section!r} in {PARAMS_FILE}. Write its knobs below it, or leave {name}: out, which stands for the defaults",
        )
    return section


def ask_to_commit(path: Path) -> str:
    """Return what to tell about a file of settings that was just written: without it an experiment in another folder ends with an error."""
    return f"`git add {path}` and commit it: experiments in other folders see only what git tracks"


def code_of(stage: str) -> str:
    """Return what stands for the installed code of a stage: version and digest of the sources that shape its bytes."""
    return f"{__version__} {source_digest('index' if stage == 'raw' else stage)[:16]}"


def check_code(stage: str) -> None:
    """Check that `code.yaml`, where there is one, names the installed code, so that `dvc.lock` never claims another.

    Raises:
        ParamsError: The package was upgraded since `code.yaml` was written, or that is not what `owa-data init` writes.
    """
    if not CODE_FILE.is_file():
        return
    try:
        versions = yaml.safe_load(CODE_FILE.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(str(CODE_FILE), f"is no YAML: {error}. `owa-data init --update` writes it anew") from error
    listed = versions.get(stage) if isinstance(versions, dict) else versions
    if listed != code_of(stage):
        raise ParamsError(
            f"{CODE_FILE}: {stage}",
            f"is {listed}, but installed is {code_of(stage)}. Run `owa-data init --update`, then `dvc repro`",
        )


# Questions to DVC that run, by the folder they are asked in.
_asked: dict[Path, subprocess.Popen[str]] = {}


def dvc_root() -> Path | None:
    """Return the root of the DVC repository that holds the working directory, None where there is none."""
    return next((folder for folder in [Path.cwd(), *Path.cwd().parents] if (folder / ".dvc").is_dir()), None)


def usual_dvc_cache() -> Path | None:
    """Return DVC's cache folder where no setting moves it: `.dvc/cache` of the repository that holds the working directory.

    None where there is no repository, or where any of DVC's config files says something of the cache's place: then DVC must be asked.
    """
    root = dvc_root()
    if root is None:
        return None
    # The files that DVC reads, see `dvc config --help`: of the repository, of the user, of the system.
    files = [
        root / ".dvc" / "config",
        root / ".dvc" / "config.local",
        Path(os.environ.get("DVC_GLOBAL_CONFIG_DIR") or platformdirs.user_config_path("dvc", "iterative")) / "config",
        Path(os.environ.get("DVC_SYSTEM_CONFIG_DIR") or platformdirs.site_config_path("dvc", "iterative")) / "config",
    ]
    for file in files:
        if file.is_file() and re.search(r"^\s*dir\s*=", file.read_text(errors="replace"), re.MULTILINE):
            return None
    return root / ".dvc" / "cache"


def ask_for_shard_cache() -> None:
    """Begin to find the shard cache of the working directory: DVC takes 0.4 s to say where its cache is, in which other things can be done."""
    if not os.environ.get(ENVIRONMENT) and usual_dvc_cache() is None:
        _ask_for_dvc_cache()


def _ask_for_dvc_cache() -> None:
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    _asked[Path.cwd()] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def find_shard_cache() -> ShardCache:
    """Return the shard cache that builds in the working directory use; asks DVC where its cache is unless that was begun before."""
    return ShardCache(default_cache_root(None if os.environ.get(ENVIRONMENT) else find_dvc_cache()))


def find_dvc_cache() -> Path | None:
    """Return DVC's cache folder, None outside its repositories.

    Raises:
        ParamsError: There is a repository, but DVC does not say where its cache is.
    """
    if Path.cwd() not in _asked and (usual := usual_dvc_cache()) is not None:
        return usual
    if Path.cwd() not in _asked:
        _ask_for_dvc_cache()
    process = _asked.pop(Path.cwd())
    output, errors = process.communicate()
    lines = output.strip().splitlines()
    if process.returncode == 0 and lines:
        return Path(lines[-1])
    if dvc_root() is None:
        return None
    raise ParamsError(".dvc/config", f"`dvc cache dir` does not say where the cache is: {errors.strip()}")
