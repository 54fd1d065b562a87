"""The stages: thin Hydra entry points. Each composes its conf, validates it, calls the library, and writes metrics.

    python -m stages.event                                        as `dvc repro` runs it
    python -m stages.event out_dir=tried/event topics.mouse_raw.rate_hz=60 dry_run=true
    python -m stages.event --help

Conf, params and data are found from the working directory, so that experiments in other folders use their own copies.
"""

from __future__ import annotations

from stages.start import INTERRUPTED, end_at_once  # first of all

# isort: split
import gc
import json
import logging
import logging.config
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from owa_data.cli.repository import PARAMS_FILE, ask_for_shard_cache, check_code
from owa_data.errors import OwaDataError, ParamsError
from owa_data.params import Params, RuntimeParams, validate_params
from owa_data.store.lifetime import end_with_starter
from stages.conf import check_conf, compose_once, register_knobs, run_by_hydra
from stages.remembered import recall, remember
from stages.settings import are_edited, read_settings

STAGE_KEYS = {"runtime", "dry_run", "index", "in_dir", "out_dir", "metrics_dir", "plots_dir"}
"""What a conf holds beside the knobs of its section: the keys of `conf/run.yaml` and of `conf/<stage>.yaml` itself."""

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
    from owa_data.store.executors import keep_freed_memory
    from owa_data.store.lean_arrow import spare_pandas

    spare_pandas()
    keep_freed_memory()  # what is little work is done in this process
    has_overrides = bool(sys.argv[1:])
    try:
        settings = read_settings(conf_dir)
        composed = None if has_overrides else recall(name, settings)
        if composed is None:
            check_conf(conf_dir, name)
            register_knobs()
    except (OwaDataError, OSError) as error:
        sys.exit(str(error))

    def main(conf: Conf) -> None:
        if signal.getsignal(signal.SIGINT) is end_at_once:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            check_code(name)
            build(conf)
            if "DVC_STAGE" in os.environ and are_edited(settings, read_settings(conf_dir), conf_dir, name):
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
    if composed is None and not has_overrides and (composed := compose_once(conf_dir, name)):
        remember(conf_dir, name, settings, composed)
    if composed is not None:
        logging.config.dictConfig(composed.logging)
        main(composed.conf)
    else:
        run_by_hydra(main, conf_dir, name)


def take_knobs(conf: Conf, model: type[P], section: str) -> P:
    """Validate the knobs of a section among the keys of a composed conf.

    Raises:
        ParamsError: A value or key that cannot be used.
    """
    return validate_params(model, {key: value for key, value in conf.items() if key not in STAGE_KEYS}, section)


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
