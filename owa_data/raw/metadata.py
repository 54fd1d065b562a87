"""What people know about episodes: a CSV or JSONL with a column `episode_path` and any others (game, instruction, player, split)."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from owa_data.errors import ParamsError

KEY = "episode_path"


def read_metadata(path: str) -> dict[str, dict[str, Any]]:
    """Return the other columns by `episode_path`; empty where `path` is empty. Empty cells are left out.

    Raises:
        ParamsError: The file is missing, not UTF-8, has another ending, lacks the column, or names an episode twice.
    """
    if not path:
        return {}
    file = Path(path)
    if not file.is_file():
        raise ParamsError(
            "raw.metadata", f"{path!r} does not exist. Set it to your file; an empty file says nothing of any episode"
        )
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl}
    if file.suffix not in readers:
        raise ParamsError("raw.metadata", f"{path!r} must end in {' or '.join(readers)}")
    table: dict[str, dict[str, Any]] = {}
    for line, row in readers[file.suffix](file):
        if None in row:
            raise ParamsError("raw.metadata", f"{path}, line {line}: more cells than columns")
        if KEY not in row:
            raise ParamsError("raw.metadata", f"{path}, line {line}: there is no {KEY}; columns: {', '.join(row)}")
        episode_path = str(row.pop(KEY)).replace("\\", "/")
        if episode_path in table:
            raise ParamsError("raw.metadata", f"{path}, line {line}: {episode_path!r} is named twice")
        table[episode_path] = {key: value for key, value in row.items() if value not in ("", None)}
    return table


def _read_csv(file: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            names = list(reader.fieldnames or [])
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ParamsError("raw.metadata", f"{file}: the columns {', '.join(twice)} stand there twice")
            return [(reader.line_num, dict(row)) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ParamsError("raw.metadata", f"{file} is no CSV in UTF-8 ({error}). Save it as CSV UTF-8") from error


def _read_jsonl(file: Path) -> list[tuple[int, dict[str, Any]]]:
    rows = []
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ParamsError("raw.metadata", f"{file} is not UTF-8 ({error})") from error
    for line, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
            json.dumps(
                row, ensure_ascii=False, allow_nan=False
            ).encode()  # half a surrogate pair and what is no number cannot be written
        except (ValueError, RecursionError) as error:  # ValueError: no JSON, or a number too long to be one
            raise ParamsError("raw.metadata", f"{file}, line {line}: not JSON in UTF-8 ({error})") from error
        if not isinstance(row, dict):
            raise ParamsError("raw.metadata", f"{file}, line {line}: not a JSON object")
        rows.append((line, row))
    return rows
