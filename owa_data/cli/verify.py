"""`owa-data verify data/fsl`: read a dataset again and prove what it promises."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import msgspec

from owa_data.cli.repository import PARAMS_FILE, read_raw_params
from owa_data.errors import BROKEN_JSON, ParamsError, SchemaError, TokenizerError
from owa_data.fsl.tokenizer import load_tokenizer
from owa_data.params import TokenizerParams, validate_params
from owa_data.store.dataset_folder import LINEAGE_FILE, Lineage, read_any_lineage, read_lineage
from owa_data.store.source import is_url
from owa_data.store.verify import Fault, Findings, verify_dataset

RECORDINGS_ENVIRONMENT = "OWA_DATA_RECORDINGS"
_MAX_FAULTS_SHOWN = 50


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "verify",
        help="prove that a dataset is what it says",
        description="Read a dataset again and check schema, digests, rows, image spans, counts, keys, inputs and references. Exit status 1 where "
        "anything is not as owa.json says; what is not at hand (recordings, metrics) is named and not checked.",
    )
    parser.add_argument("folder", type=Path, help="dataset folder, such as data/fsl")
    parser.add_argument("--recordings", type=Path, help=f"default: {RECORDINGS_ENVIRONMENT}, else raw.dir of params.yaml")
    parser.add_argument(
        "--metrics", type=Path, help="default: metrics/<kind>.json beside data/, if the dataset is data/<kind>; else none"
    )
    parser.add_argument("--inputs", type=Path, help="the event dataset it was made of; default: event beside it")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Verify and report."""
    folder: Path = options.folder
    for name in ("recordings", "metrics", "inputs"):
        named = getattr(options, name)
        if named is not None and not named.exists():
            raise ParamsError(f"--{name}", f"{named} does not exist, so that nothing would be compared with it")
    lineage = read_any_lineage(folder)
    findings = verify_dataset(
        folder,
        lineage,
        metrics=_read_metrics(options.metrics or _usual_metrics(folder, lineage.kind)),
        inputs=_read_inputs(options.inputs or folder.parent / "event", lineage.kind),
        recordings=options.recordings or _recordings_dir(),
    )
    faults = [*findings.faults, *_check_tokenizer(folder, lineage)]
    _report(folder, lineage, findings, faults)
    return 1 if faults else 0


def _usual_metrics(folder: Path, kind: str) -> Path | None:
    """Where the pipeline writes the metrics of a dataset; None for one that was built elsewhere, whose metrics may be of another."""
    place = folder.absolute()
    is_usual = (place.parent.name, place.name) == ("data", kind)
    return place.parent.parent / "metrics" / f"{kind}.json" if is_usual else None


def _read_metrics(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        content: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except BROKEN_JSON as error:
        raise SchemaError(f"{path} is no JSON ({error}): rebuild it with `dvc repro`") from error
    return content


def _read_inputs(folder: Path, kind: str) -> Lineage | None:
    if kind == "event" or not (folder / LINEAGE_FILE).exists():
        return None
    return read_lineage(folder, "event")


def _recordings_dir() -> Path | None:
    if configured := os.environ.get(RECORDINGS_ENVIRONMENT):
        return Path(configured)
    configured = read_raw_params().dir if PARAMS_FILE.is_file() else ""
    return None if not configured or is_url(configured) else Path(configured)


def _check_tokenizer(folder: Path, lineage: Lineage) -> list[Fault]:
    """Whether the tokenizer that the dataset names still has the content it was made with, where that costs no download."""
    named = lineage.facts.get("tokenizer")
    if not named or named["source"] == "hub":
        return []
    values = {key: named[key] for key in TokenizerParams.model_fields if key != "sha256"}
    try:
        found = load_tokenizer(validate_params(TokenizerParams, values, "tokenizer")).sha256
    except TokenizerError:
        return []  # a folder that is not on this machine
    if found == named["sha256"]:
        return []
    problem = f"made with the tokenizer {named['name']} of sha256 {named['sha256'][:12]}, but at its place there is one of {found[:12]} now"
    return [Fault(str(folder / LINEAGE_FILE), problem)]


def _report(folder: Path, lineage: Lineage, findings: Findings, faults: list[Fault]) -> None:
    for fault in faults[:_MAX_FAULTS_SHOWN]:
        print(f"{fault.path}: {fault.problem}")
    if len(faults) > _MAX_FAULTS_SHOWN:
        print(f"... and {len(faults) - _MAX_FAULTS_SHOWN} more")
    for part in findings.unchecked:
        print(f"not checked: {part}")
    verdict = f"{len(faults)} faults" if faults else "sound"
    print(
        f"{folder}: {verdict}; {lineage.kind} version {lineage.schema_version}, {findings.num_episodes} episodes, {findings.num_rows:,} rows, "
        f"{findings.num_references} media, {findings.num_inputs} inputs compared"
    )
