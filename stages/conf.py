"""The conf of a stage: `conf/<stage>.yaml` composed by Hydra with the knobs of `params.yaml`.

Hydra takes 0.3 s to be imported and to compose, and what it makes of the same files is the same, so it is remembered in DVC's folder for
what may be deleted. Hydra is imported where it is needed: not for remembered confs, nor by worker processes, which import the stage's module anew.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import yaml

from owa_data.cli.repository import PARAMS_FILE, dvc_root, read_params, section_of
from owa_data.errors import ParamsError
from owa_data.params import SECTIONS
from stages.settings import Settings, read_settings

# A value that is not in the files, such as ${oc.env:HOME}, ${now:...} or ${hydra:...}. `}:` ends a name that is itself looked up.
_FROM_ELSEWHERE = re.compile(rb"\$\{\s*(?!params:)[^}\s:]*\s*:|\}:")


class Composed(msgspec.Struct, frozen=True):
    """A composed conf.

    Attributes:
        conf: Plain values, every `${...}` resolved.
        logging: For `logging.config.dictConfig`.
    """

    conf: dict[str, Any]
    logging: dict[str, Any]


class _Remembered(msgspec.Struct, frozen=True):
    key: str
    composed: Composed


def recall(name: str, settings: Settings) -> Composed | None:
    """Return what Hydra made of these very settings before, None where that is not known. Cost: 1 ms."""
    try:
        remembered = msgspec.msgpack.decode(_place(name).read_bytes(), type=_Remembered)
    except (OSError, msgspec.MsgspecError):
        return None
    return remembered.composed if remembered.key == _key(name, settings) else None


def remember(conf_dir: Path, name: str, settings: Settings, composed: Composed) -> None:
    """Remember a conf for `recall`; not where it holds more than what the settings say, nor where there is no DVC repository.

    Args:
        conf_dir: Where Hydra composed it from.
        name: The stage.
        settings: As they were before that; what Hydra read may be others, where they are edited just then.
        composed: The conf.
    """
    if read_settings(conf_dir) != settings:
        return
    content = msgspec.msgpack.encode(_Remembered(_key(name, settings), composed))
    if (
        any(map(_FROM_ELSEWHERE.search, settings.values()))
        or msgspec.msgpack.decode(content, type=_Remembered).composed != composed
    ):
        return
    place = _place(name)
    beside = place.with_suffix(f".{os.getpid()}")
    try:
        place.parent.mkdir(exist_ok=True)
        beside.write_bytes(content)
        beside.replace(place)
    except OSError:  # no repository, or not ours to write to: Hydra composes next time
        with suppress(OSError):
            beside.unlink()


def _place(name: str) -> Path:
    return (dvc_root() or Path()) / ".dvc" / "tmp" / "owa-data" / f"{name}.conf"


def _key(name: str, settings: Settings) -> str:
    """All that a composed conf depends on: the settings, this code, and Hydra's."""
    packages = [Path(place) for package in ("hydra", "omegaconf") for place in _places_of(package)]
    code = [Path(__file__), *(path for package in packages for path in (package / "__init__.py", package / "version.py"))]
    contents = [path.read_bytes() for path in code if path.is_file()]  # with the versions
    parts = [name, list(SECTIONS), str(Path.cwd()), sys.version, contents, sorted(settings.items())]
    return hashlib.sha256(msgspec.msgpack.encode(parts)).hexdigest()


def _places_of(package: str) -> list[str]:
    """Where a package lies; it is not imported."""
    spec = find_spec(package)
    return list(spec.submodule_search_locations or []) if spec else []


def compose_once(conf_dir: Path, name: str) -> Composed | None:
    """Compose a conf that no command line changes, as `dvc repro` does: Hydra's own main composes twice, 0.1 s each.

    Returns:
        The conf; None where it cannot be composed, which Hydra's main tells without a traceback, or where conf asks for more of Hydra.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import open_dict
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(conf_dir), job_name=name, version_base="1.3"):
            cfg = compose(name, return_hydra_config=True)
        hydra_conf = cfg.hydra
        if hydra_conf.callbacks or hydra_conf.job.env_set or hydra_conf.mode == RunMode.MULTIRUN:
            return None
        if hydra_conf.verbose or hydra_conf.searchpath:
            return None
        HydraConfig.instance().set_config(cfg)  # for ${hydra:...}
        log_conf = plain(hydra_conf.job_logging)
        with open_dict(cfg):
            del cfg["hydra"]
        return Composed(plain(cfg), log_conf)
    except (HydraException, OmegaConfBaseException):
        return None


def plain(cfg: Any) -> dict[str, Any]:
    """Return a conf of Hydra's as plain values, every `${...}` resolved."""
    from omegaconf import OmegaConf

    conf = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(conf, dict)
    return {str(key): value for key, value in conf.items()}


def check_conf(conf_dir: Path, name: str) -> None:
    """Check that the files in `conf/` that a stage composes are YAML without a key twice: Hydra would show a typing error as a traceback.

    Raises:
        ParamsError: One is not.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # five times as fast, 1 ms for all files
    for path in (conf_dir / f"{name}.yaml", conf_dir / "run.yaml", *_tokenizer_file(conf_dir, name)):
        if path.is_file():
            try:
                _check_keys(yaml.compose(path.read_bytes(), Loader=loader))
            except yaml.YAMLError as error:
                raise ParamsError(str(path.relative_to(conf_dir.parent)), f"is no YAML: {error}") from error


def _tokenizer_file(conf_dir: Path, name: str) -> list[Path]:
    """The file of the tokenizer that `fsl` is told to use; one that is not used stops nothing."""
    if name != "fsl":
        return []
    told = [argument.partition("=")[2] for argument in sys.argv[1:] if argument.startswith("tokenizer=")]
    chosen = told[-1] if told else section_of(read_params(), "fsl").get("tokenizer", "")
    return [conf_dir / "tokenizer" / f"{chosen}.yaml"]


def _check_keys(node: yaml.Node | None) -> None:
    if isinstance(node, yaml.MappingNode):
        known: set[str] = set()
        for key, value in node.value:
            if key.value in known:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands there twice", problem_mark=key.start_mark)
            known.add(key.value)
            _check_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value)


def register_knobs() -> None:
    """Make `params.yaml` known to Hydra: each section as `knobs/<section>`, single values as `${params:...}`.

    Raises:
        ParamsError: The file is no YAML, or has something else than knobs in a section.
    """
    from hydra.core.config_store import ConfigStore
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        params = OmegaConf.load(PARAMS_FILE)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(str(PARAMS_FILE), f"is no YAML: {error}") from error
    if not isinstance(params, DictConfig):
        raise ParamsError(
            str(PARAMS_FILE),
            f"is a list, not sections of knobs ({', '.join(SECTIONS)}). Write each as `raw:` with its knobs below it",
        )

    def select(key: str) -> Any:
        value = OmegaConf.select(params, key)
        if value is None:
            raise ParamsError(key, f"missing in {PARAMS_FILE}")
        return value

    OmegaConf.register_new_resolver("params", select, replace=True)
    for section in SECTIONS:
        node = params.get(section) or {}
        if not isinstance(node, DictConfig | dict):
            raise ParamsError(section, f"is {node!r} in {PARAMS_FILE}. Write its knobs below it")
        try:
            # fsl.tokenizer names a file of the group conf/tokenizer/, whose content stands in its place.
            values = {key: value for key, value in node.items() if (section, key) != ("fsl", "tokenizer")}
        except OmegaConfBaseException as error:
            raise ParamsError(section, f"cannot be read from {PARAMS_FILE}: {str(error).splitlines()[0]}") from error
        package = "runtime" if section == "runtime" else "_global_"
        ConfigStore.instance().store(group="knobs", package=package, name=section, node=OmegaConf.create(values))
