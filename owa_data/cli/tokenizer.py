"""`owa-data tokenizer add <folder> --name <name>`: register a local tokenizer as `conf/tokenizer/<name>.yaml`."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from owa_data.cli.repository import ask_to_commit
from owa_data.errors import BROKEN_JSON, ParamsError, TokenizerError
from owa_data.fsl.tokenizer import FILE_NAME

CONF_DIR = Path("conf/tokenizer")
# Which family a tokenizer is of, by a token that no family above it has: InternVL and Qwen3-VL build on older tokenizers of Qwen.
_FAMILY_OF_TOKEN = {
    "<IMG_CONTEXT>": ("internvl", [448, 448], {"image_seq_length": 256, "crop_to_patches": False}),
    "<fake_token_around_image>": ("smolvlm", [512, 512], {"image_seq_len": 64, "do_image_splitting": False}),
    "<tool_response>": ("qwen3_vl", [448, 448], {"patch_size": 16, "merge_size": 2, "min_pixels": 65536, "max_pixels": 16777216}),
    "<|image_pad|>": ("qwen2_5_vl", [448, 448], {"patch_size": 14, "merge_size": 2, "min_pixels": 3136, "max_pixels": 12845056}),
}

S = TypeVar("S", bound=msgspec.Struct)


class _Token(msgspec.Struct, frozen=True):
    content: str


class _Definition(msgspec.Struct, frozen=True):
    """What is read of `tokenizer.json`."""

    added_tokens: list[_Token] = []


class _Config(msgspec.Struct, frozen=True):
    """What is read of `tokenizer_config.json`."""

    pad_token: str | _Token | None = None


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser("tokenizer", help="register a local tokenizer", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    add = actions.add_parser(
        "add",
        help="write conf/tokenizer/<name>.yaml for a folder with a tokenizer.json",
        description="Write conf/tokenizer/<name>.yaml with place, sha256, pad token and image family of a local tokenizer. "
        "`AutoTokenizer.from_pretrained(...).save_pretrained(folder)` makes such a folder.",
    )
    add.add_argument("folder", type=Path, help=f"folder with a {FILE_NAME}")
    add.add_argument("--name", required=True, help="name for fsl.tokenizer")
    add.add_argument(
        "--family", choices=sorted({family for family, _, _ in _FAMILY_OF_TOKEN.values()}), help="default: by its tokens"
    )
    add.add_argument("--pad-token", help="default: the one of tokenizer_config.json")
    add.add_argument("--force", action="store_true", help="replace a file of that name")
    add.set_defaults(run=run_add)


def run_add(options: argparse.Namespace) -> int:
    """Write the file."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", options.name) or not isinstance(yaml.safe_load(options.name), str):
        raise ParamsError(
            "--name",
            f"is {options.name!r}. Use a letter, then letters of English, digits, `_ - .`, and no word of YAML such as null: it is the name of a "
            "file and stands in commands",
        )
    if not CONF_DIR.is_dir():
        raise ParamsError("--name", f"there is no {CONF_DIR} in {Path.cwd()}: run this in the root of the repository")
    target = CONF_DIR / f"{options.name}.yaml"
    if target.exists() and not options.force:
        raise TokenizerError(f"{target} exists. Choose another --name, or replace it with --force")
    try:
        content = (options.folder / FILE_NAME).read_bytes()
    except OSError as error:
        raise TokenizerError(f"cannot read {options.folder / FILE_NAME}: {error.strerror}") from error
    _check_loads(options.folder / FILE_NAME, content)
    added = [token.content for token in _decode(options.folder / FILE_NAME, content, _Definition).added_tokens]
    family, image_size_px, processor = _family(options.family, added, options.folder)
    conf = {
        "name": options.name,
        "source": "folder",
        "location": _location(options.folder),
        "sha256": hashlib.sha256(content).hexdigest(),
        "pad_token": options.pad_token or _pad_token(options.folder),
        "image": {"family": family, "image_size_px": image_size_px, "processor": processor},
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(yaml.safe_dump(conf, sort_keys=False, default_flow_style=None))
    print(
        f"wrote {target} ({family}). Use it: set fsl.tokenizer to {options.name}, or `dvc exp run -S fsl.tokenizer={options.name}`"
    )
    print(ask_to_commit(target))
    return 0


def _check_loads(path: Path, content: bytes) -> None:
    """Builds do not load the whole of a tokenizer; so that a damaged one is not found out in training, this does."""
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_buffer(content)
    except ValueError as error:
        raise _damaged(path, error) from error


def _location(folder: Path) -> str:
    """The folder as other clones and experiments in other folders find it: relative within the repository, else absolute."""
    path = Path(os.path.normpath(folder.absolute()))
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else str(path)


def _family(named: str | None, added: list[str], folder: Path) -> tuple[str, list[int], dict[str, Any]]:
    for token, entry in _FAMILY_OF_TOKEN.items():
        if entry[0] == named or (named is None and token in added):
            return entry
    raise TokenizerError(f"{folder}: no known image token ({', '.join(_FAMILY_OF_TOKEN)}) in {FILE_NAME}. Say --family")


def _pad_token(folder: Path) -> str:
    path = folder / "tokenizer_config.json"
    token = _decode(path, path.read_bytes(), _Config).pad_token if path.exists() else None
    if token is None:
        raise TokenizerError(f"{path} names no pad_token. Say --pad-token")
    return token if isinstance(token, str) else token.content


def _decode(path: Path, content: bytes, kind: type[S]) -> S:
    try:
        return msgspec.json.decode(content, type=kind)
    except BROKEN_JSON as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, cause: Exception) -> TokenizerError:
    return TokenizerError(
        f"{path}: cut off, or no file of a tokenizer ({cause}). Write the folder anew: "
        "`AutoTokenizer.from_pretrained(...).save_pretrained(folder)`"
    )
