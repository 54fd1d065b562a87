"""Which source files shape the bytes of each kind of dataset, and their digest.

The list is part of every shard's key: an edit to one of these files makes the shards of that kind stale, an edit to any other (executors,
progress, reports, command line) does not. A test holds it to what the conversion really imports and to the deps in `dvc.yaml`.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_PAYLOADS = (
    "raw/decimal.py",
    "raw/integers.py",
    "raw/messages.py",
    "raw/parsing.py",
    "raw/payloads.py",
    "raw/quoted.py",
    "raw/templates.py",
)
_RECORDINGS = (
    *_PAYLOADS,
    "raw/records.py",
    "raw/layout.py",
    "raw/chunks.py",
    "raw/columns.py",
    "store/source.py",
    "store/digests.py",
)
_WRITING = ("schema.py", "store/ledger.py", "store/shards.py", "store/digests.py")
_EVENT_ROWS = (*_PAYLOADS, "event/rows.py", "event/grid.py", *_WRITING)

SOURCES: dict[str, tuple[str, ...]] = {
    "index": (*_RECORDINGS, "raw/index.py"),
    "event": (
        *_RECORDINGS,
        "raw/index.py",
        "event/absolute_mouse.py",
        "event/activity.py",
        "event/build.py",
        "event/convert.py",
        "event/grid.py",
        "event/intervals.py",
        "event/resample.py",
        "event/rows.py",
        *_WRITING,
    ),
    "fsl": (
        *_EVENT_ROWS,
        "encoding",
        "fsl/build.py",
        "fsl/convert.py",
        "fsl/definition.py",
        "fsl/extend.py",
        "fsl/families",
        "fsl/pack.py",
        "fsl/tokenizer.py",
        "fsl/vocabulary.py",
    ),
    "binned": (
        *_EVENT_ROWS,
        "event/absolute_mouse.py",
        "encoding/events.py",
        "binned/bins.py",
        "binned/build.py",
        "binned/convert.py",
        "binned/held.py",
    ),
}
"""Files and folders below `owa_data/`, by kind. `params.py` is not among them: the values of params are in the key themselves."""


def source_files(kind: str) -> list[str]:
    """Return the files of a kind below `owa_data/`, sorted, folders opened."""
    root = Path(__file__).parent.parent
    files = set()
    for name in SOURCES[kind]:
        path = root / name
        files |= {file.relative_to(root).as_posix() for file in path.rglob("*.py")} if path.is_dir() else {name}
    return sorted(files)


@cache
def source_digest(kind: str) -> str:
    """Return the sha256 over names and contents of a kind's source files."""
    digest = hashlib.sha256()
    for name in source_files(kind):
        content = (Path(__file__).parent.parent / name).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
