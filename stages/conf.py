"""The conf of a stage: `conf/<stage>.yaml` composed by Hydra with the knobs of `params.yaml`.

Hydra is imported where it is needed: not for remembered confs (`stages/remembered.py`), nor by worker processes, which import the stage's module anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from owa_data.cli.repository import PARAMS_FILE, read_params, section_of
from owa_data.errors import ParamsError
from owa_data.params import SECTIONS
from stages.remembered import Composed

# References to other values of the conf, or to params.yaml; all others bring in what is in no file of settings, as ${oc.env:HOME} or ${now:%Y} do.
_REFERENCE = re.compile(r"\$\{(params:)?(?!hydra\b)[\w.]+\}")


def compose_once(conf_dir: Path, name: str) -> Composed | None:
    """Compose a conf that no command line changes, as `dvc repro` does: Hydra's own main composes twice, 0.1 s each.

    Returns:
        The conf; None where it cannot be composed, which Hydra's main tells without a traceback, or where conf asks for more of Hydra.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(conf_dir), job_name=name, version_base="1.3"):
            cfg = compose(name, return_hydra_config=True)
            loaded = GlobalHydra.instance().config_loader().compute_defaults_list(name, [], RunMode.RUN).defaults
        hydra_conf = cfg.hydra
        if hydra_conf.callbacks or hydra_conf.job.env_set or hydra_conf.mode == RunMode.MULTIRUN:
            return None
        if hydra_conf.verbose or hydra_conf.searchpath or hydra_conf.output_subdir is not None:
            return None
        if hydra_conf.job.chdir or hydra_conf.run.dir != ".":
            return None
        HydraConfig.instance().set_config(cfg)  # for ${hydra:...}
        log_conf = plain(hydra_conf.job_logging)
        unresolved: list[Any] = [
            OmegaConf.to_container(hydra_conf.job_logging),
            OmegaConf.to_container(OmegaConf.load(PARAMS_FILE)),
        ]
        with open_dict(cfg):
            del cfg["hydra"]
        unresolved.append(OmegaConf.to_container(cfg))
        is_below = all(".." not in Path(str(entry.config_path)).parts for entry in loaded)
        return Composed(
            plain(cfg), log_conf, is_below and not any("${" in _REFERENCE.sub("", text) for text in _texts(unresolved))
        )
    except (HydraException, OmegaConfBaseException):
        return None


def _texts(tree: Any) -> Iterator[str]:
    """Every text in nested lists and dicts, keys included."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _texts(key)
            yield from _texts(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _texts(value)
    elif isinstance(tree, str):
        yield tree


def run_by_hydra(main: Callable[[dict[str, Any]], None], conf_dir: Path, name: str) -> None:
    """Have Hydra's own main compose the conf, with what the command line asks for, and call `main` with the plain result."""
    import hydra
    from omegaconf.errors import OmegaConfBaseException

    def resolve_and_run(cfg: Any) -> None:
        try:
            conf = plain(cfg)
        except OmegaConfBaseException as error:
            key = getattr(error, "full_key", None) or "a value"
            problem = str(error).splitlines()[0].replace("KeyError raised while resolving interpolation: ", "")
            raise SystemExit(f"{PARAMS_FILE}, conf/{name}.yaml: {key} cannot be resolved: {problem}") from error
        main(conf)

    hydra.main(version_base="1.3", config_path=str(conf_dir), config_name=name)(resolve_and_run)()


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
