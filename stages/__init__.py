"""The stages: thin Hydra entry points. Each composes its conf, validates it, calls the library, and writes metrics.

    python -m stages.event                                        as `dvc repro` runs it
    python -m stages.event out_dir=tried/event topics.mouse_raw.rate_hz=60 dry_run=true
    python -m stages.event --help

Conf, params and data are found from the working directory, so that experiments in other folders use their own copies.
"""

from __future__ import annotations

import gc
import os
import signal
import sys

INTERRUPTED = "interrupted. What was finished is kept: run again to go on."


def end_at_once(number: int, frame: object) -> None:
    """Answer Ctrl-C while a stage starts: nothing is there to be put in order, and an exception in the midst of imports would be a traceback."""
    os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(1)


if sys.argv[0] == "-m":  # Python looks for this package to run a stage of it: not in tests, not in a worker
    # Starting makes some hundred thousand objects, and most of them stay: to look through them again and again takes a sixth of a small build.
    gc.set_threshold(200_000)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_at_once)

# ruff: noqa: E402 - the above comes before all that takes time to import
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from owa_data.cli.repository import PARAMS_FILE, ask_for_shard_cache, check_code, read_params, section_of
from owa_data.errors import OwaDataError, ParamsError
from owa_data.params import SECTIONS, Params, RuntimeParams, validate_params
from owa_data.store.lifetime import end_with_starter

if TYPE_CHECKING:
    from omegaconf import DictConfig

Conf = dict[str, Any]
P = TypeVar("P", bound=Params)

logger = logging.getLogger("stages")


def run_stage(name: str, build: Callable[[Conf], None]) -> None:
    """Compose `conf/<name>.yaml` with the command line's overrides and call `build` with the plain result.

    Errors that this project raises on purpose, those of the operating system and Ctrl-C end the process with status 1 and a message
    alone. Under DVC the process ends when DVC does.
    """
    try:
        _run(name, build)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    gc.freeze()  # else Python looks through everything once more before it ends, 0.1 s


def _run(name: str, build: Callable[[Conf], None]) -> None:
    conf_dir = Path.cwd() / "conf"
    if not conf_dir.is_dir() or not PARAMS_FILE.is_file():
        sys.exit(f"there is no conf/ and {PARAMS_FILE} in {Path.cwd()}: run stages from the root of the repository")
    ask_for_shard_cache()
    # Hydra is imported here: worker processes import the stage's module anew and need none of it.
    import hydra
    from omegaconf import OmegaConf

    from owa_data.store.executors import keep_freed_memory
    from owa_data.store.lean_arrow import spare_pandas

    spare_pandas()
    keep_freed_memory()  # what is little work is done in this process
    try:
        check_conf(conf_dir, name)
        register_knobs()
        noted = _settings(conf_dir, name) if "DVC_STAGE" in os.environ else None
    except (OwaDataError, OSError) as error:
        sys.exit(str(error))

    def main(cfg: Any) -> None:
        conf = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        assert isinstance(conf, dict)
        if signal.getsignal(signal.SIGINT) is end_at_once:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            check_code(name)
            build({str(key): value for key, value in conf.items()})
            if noted is not None and _settings(conf_dir, name) != noted:
                raise ParamsError(
                    f"{PARAMS_FILE}, conf/",
                    f"settings of {name} were edited while it ran, and DVC would note the new ones. Run it again: what was "
                    "converted is kept",
                )
        except (OwaDataError, OSError) as error:
            logger.error("%s", error)
            raise SystemExit(1) from error

    if "DVC_STAGE" in os.environ:
        end_with_starter("DVC")
    cfg = None if sys.argv[1:] else compose_once(conf_dir, name)
    hydra.main(version_base="1.3", config_path=str(conf_dir), config_name=name)(main)(cfg)


def _settings(conf_dir: Path, name: str) -> tuple[object, ...]:
    """What DVC notes of a stage's settings when it has ended; it must be what the stage began with."""
    params = read_params()
    files = (conf_dir / f"{name}.yaml", conf_dir / "run.yaml", *_tokenizer_file(conf_dir, name))
    recordings = section_of(params, "raw").get("dir") if name == "event" else ""
    return section_of(params, name), recordings, [path.read_bytes() for path in files if path.is_file()]


def compose_once(conf_dir: Path, name: str) -> DictConfig | None:
    """Compose a conf that no command line changes, as `dvc repro` does: Hydra's own main composes twice, 0.1 s each.

    Returns:
        The conf; None where it cannot be composed, which Hydra's main tells without a traceback, or where conf asks for more of Hydra.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.utils import configure_log
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(conf_dir), job_name=name, version_base="1.3"):
            cfg = compose(name, return_hydra_config=True)
        hydra_conf = cfg.hydra
        if hydra_conf.callbacks or hydra_conf.job.env_set or hydra_conf.mode == RunMode.MULTIRUN:
            return None
        HydraConfig.instance().set_config(cfg)  # for ${hydra:...}
        with open_dict(cfg):
            del cfg["hydra"]
        OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException):
        return None
    configure_log(hydra_conf.job_logging, hydra_conf.verbose)
    return cfg


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


def take_knobs(conf: Conf, model: type[P], section: str) -> P:
    """Validate the knobs of a section among the keys of a composed conf.

    Raises:
        ParamsError: A value or key that cannot be used.
    """
    known = {"runtime", "dry_run", "index", "in_dir", "out_dir", "metrics_dir", "plots_dir"}
    return validate_params(model, {key: value for key, value in conf.items() if key not in known}, section)


def runtime_of(conf: Conf) -> RuntimeParams:
    """Validate the runtime settings."""
    return validate_params(RuntimeParams, conf["runtime"], "runtime")


def warn_of_no_rows(kind: str, metrics: Conf) -> None:
    """Warn where nothing was left of all that was read."""
    if not metrics["rows"]:
        logger.warning(
            "%s: not one row is left. What was dropped, and why, stands above; event.intervals.select chooses the stretches", kind
        )


def write_json(folder: str, name: str, content: Any) -> None:
    """Write a metrics or plot file; equal content gives equal bytes."""
    path = Path(folder) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
