"""`owa-data init`: set the pipeline up in a git repository of one's own.

The package carries the pipeline's own files as `owa_data/templates/`. In a repository that installs the package there is no code to depend on, so
`code.yaml` stands for it: the installed version and the digest of each stage's sources. Stages depend on it and refuse to run under another code.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from owa_data.cli.repository import CODE_FILE, PARAMS_FILE, code_of, read_params, section_of
from owa_data.errors import OwaDataError
from owa_data.params_text import render_params
from owa_data.store.source import is_url

TEMPLATES = Path(__file__).parent.parent / "templates"
PIPELINE_FILE = Path("dvc.yaml")
METADATA_FILE = Path("data/metadata.csv")
RECORDINGS_DIR = "data/recordings"
_METADATA_HEAD = "episode_path,instruction\n"
_GITIGNORE = (
    ".venv/",
    "/data/show.png",
    "/dvc_plots/",
    ".hydra_multirun/",
    "/data/.*.lock",
    "/data/.*.building/",
    "/data/.*.old/",
    # Outputs of stages. DVC adds such lines itself, but only once a whole run succeeded.
    "/data/episodes.jsonl",
    "/data/event",
    "/data/fsl",
    "/data/binned",
    "__pycache__/",
)
_CODE_HEAD = (
    "# The installed owa-data, by stage. `owa-data init --update` writes it anew after an upgrade; `dvc repro` then rebuilds.\n"
)
_PIPELINE_HEAD = "# The pipeline: one stage per dataset, one directory out each. code.yaml stands for the installed package.\n"


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "init",
        help="set the pipeline up in your own git repository",
        description="Write dvc.yaml, params.yaml, conf/, code.yaml and .dvcignore into the working directory, a git repository or a folder in one, "
        "and `dvc init` it where that was not done. Nothing that exists is replaced without --force.",
    )
    parser.add_argument(
        "--recordings", help=f"raw.dir: folder of the recordings (default: as params.yaml says, else {RECORDINGS_DIR})"
    )
    parser.add_argument(
        "--update", action="store_true", help="after an upgrade: write code.yaml anew, add new knobs to params.yaml"
    )
    parser.add_argument("--force", action="store_true", help="replace files that exist; values in params.yaml are kept")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the files."""
    if _output("git", "rev-parse", "--is-inside-work-tree") != "true":
        raise OwaDataError(f"{Path.cwd()} is no git repository: run `git init` first")
    if Path("stages").exists():
        raise OwaDataError(
            f"{Path.cwd()} has a folder stages/, which would stand before the installed package's. Rename it, or run this in a subfolder"
        )
    files = pipeline_files()
    if options.update:
        return _update(files, options.recordings, force=options.force)
    values = read_params() if PARAMS_FILE.is_file() else {}
    values["raw"] = _raw_section(values, options.recordings)
    files[PARAMS_FILE] = render_params(values)
    taken = [str(path) for path in files if path.exists()]
    if taken and not options.force:
        raise OwaDataError(
            f"already here: {', '.join(taken)}. Bring them up to date with --update, replace them with --force, or run this in a subfolder"
        )
    _init_dvc()
    for path, text in files.items():
        _write(path, text)
    if not METADATA_FILE.exists():
        _write(METADATA_FILE, _METADATA_HEAD)
    _add_lines(Path(".gitignore"), _GITIGNORE)
    _add_lines(Path(".dvcignore"), (TEMPLATES / "dvcignore").read_text(encoding="utf-8").splitlines())
    print(f"wrote {', '.join(map(str, files))}; added lines to .gitignore and .dvcignore")
    recordings = str(values["raw"]["dir"])
    track = (
        ""
        if is_url(recordings) or Path(recordings).is_absolute()
        else f", share them with others if you like (`dvc add {recordings}`)"
    )
    print(f"Next: put recordings into {recordings}{track}, then `dvc repro fsl`")
    return 0


def pipeline_files() -> dict[Path, str]:
    """The files that an own repository gets, except `params.yaml`, with their text."""
    pipeline = _pipeline_without_code((TEMPLATES / "pipeline.yaml").read_text(encoding="utf-8"))
    conf = {
        Path("conf") / path.relative_to(TEMPLATES / "conf"): path.read_text(encoding="utf-8")
        for path in sorted((TEMPLATES / "conf").rglob("*.yaml"))
        if not _is_of_this_machine(path)
    }
    stages = yaml.safe_load(pipeline)["stages"]
    code = _CODE_HEAD + "".join(f"{stage}: {code_of(stage)}\n" for stage in stages)
    return {PIPELINE_FILE: pipeline, CODE_FILE: code, **conf}


def _is_of_this_machine(path: Path) -> bool:
    """Whether a file of the templates is a tokenizer in a folder, which somebody registered in the clone that the package runs from."""
    return path.parent.name == "tokenizer" and (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("source") == "folder"


def _pipeline_without_code(text: str) -> str:
    """`dvc.yaml` with `code.yaml` in place of the deps on this project's source files."""
    lines, stage = [_PIPELINE_HEAD.rstrip("\n")], ""
    for line in text.splitlines():
        if line.startswith("#") or re.match(r" +- (owa_data|stages)/", line):
            continue
        if match := re.match(r"  (\w+):$", line):
            stage = match[1]
        lines.append(line)
        if line == "    params:":
            lines.append(f"      - {CODE_FILE}: [{stage}]")
    return "\n".join(lines) + "\n"


def _raw_section(values: dict[str, Any], recordings: str | None) -> dict[str, Any]:
    """The section `raw` with the recordings that were asked for; without, those that it has."""
    raw = section_of(values, "raw")
    folder = recordings or raw.get("dir", RECORDINGS_DIR)
    watch = raw.get("watch", folder)
    # A list stays: stage raw says when it was made for another folder.
    watch = folder if watch == raw.get("dir") else watch
    return {"metadata": str(METADATA_FILE), **raw, "dir": folder, "watch": watch}


def _update(files: dict[Path, str], recordings: str | None, *, force: bool) -> int:
    values = read_params()
    if recordings:
        values["raw"] = _raw_section(values, recordings)
    before = PARAMS_FILE.read_text(encoding="utf-8")
    params_text = render_params(values)
    if yaml.safe_load(params_text) == yaml.safe_load(before):
        params_text = before  # no new knob: spacing and comments are the owner's
    own = [
        path for path, text in files.items() if path.exists() and path != CODE_FILE and path.read_text(encoding="utf-8") != text
    ]
    written = []
    for path, text in {**files, PARAMS_FILE: params_text}.items():
        if (path in own and not force) or (path.exists() and path.read_text(encoding="utf-8") == text):
            continue
        _write(path, text)
        written.append(str(path))
    print(f"wrote {', '.join(written)}" if written else "everything is as the installed package has it")
    if lost := _comments(before) - _comments(PARAMS_FILE.read_text(encoding="utf-8")):
        print(
            f"{len(lost)} comments are gone from {PARAMS_FILE}, which got new knobs; `git diff {PARAMS_FILE}` shows them, such as {min(lost)}"
        )
    if own and not force:
        print(f"not touched, since they differ from the installed package's: {', '.join(map(str, own))}; --force replaces them")
    return 0


def _comments(text: str) -> set[str]:
    return set(re.findall(r"(?:^|(?<=\s))#.*$", text, re.MULTILINE))


def _init_dvc() -> None:
    dvc = (sys.executable, "-m", "dvc")
    if _output(*dvc, "root") == "":
        is_subfolder = bool(_output("git", "rev-parse", "--show-prefix"))
        subprocess.run([*dvc, "init", "--quiet", *(["--subdir"] if is_subfolder else [])], check=True)
    if _output(*dvc, "config", "cache.type") == "":
        # With another order DVC stores each shard a second time.
        subprocess.run([*dvc, "config", "--quiet", "cache.type", "hardlink,symlink,copy"], check=True)


def _output(*command: str) -> str:
    """Output of a command, empty where it fails."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else ""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _add_lines(path: Path, lines: list[str] | tuple[str, ...]) -> None:
    present = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    path.write_text("\n".join([*present, *(line for line in lines if line not in present)]) + "\n", encoding="utf-8")
