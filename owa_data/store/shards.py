"""One shard: an Arrow stream file with the rows of one episode, as `datasets` memory-maps it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from owa_data.schema import stored_schema
from owa_data.store.digests import ShardDigest

MAX_BATCH_BYTES = 1 << 29
"""Offsets within a record batch are 32 bits, so that a column of one holds less than 2 GiB; JSON in JSON takes up to twice its length."""


class _HashingFile:
    """A file that digests what is written to it."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self.digest = ShardDigest()
        self.num_bytes = 0
        self._file = file

    def write(self, data: pa.Buffer | bytes) -> int:
        """Write and digest a block."""
        self.digest.update(data)
        self._file.write(data)
        size = data.size if isinstance(data, pa.Buffer) else len(data)
        self.num_bytes += size
        return size

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        """The owner closes the file."""


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Name the file where writing to it fails: a full disk says only that it is full."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def batch_bounds(row_bytes: npt.NDArray[np.int64], max_rows: int) -> list[tuple[int, int]]:
    """Cut rows into record batches: `[start, stop)` of each, at most `max_rows` rows and `MAX_BATCH_BYTES` bytes, but at least one row.

    Args:
        row_bytes: Bytes of each row's longest column, int64 (n,). They matter where images are embedded in the recording.
        max_rows: Rows per batch.
    """
    ends = np.cumsum(row_bytes)
    bounds = []
    start = 0
    while start < len(row_bytes):
        limit = (int(ends[start - 1]) if start else 0) + MAX_BATCH_BYTES
        stop = min(start + max_rows, max(int(np.searchsorted(ends, limit, side="right")), start + 1))
        bounds.append((start, stop))
        start = stop
    return bounds


def write_shard(path: Path, kind: str, batches: Iterable[pa.RecordBatch]) -> tuple[str, int, int]:
    """Write record batches as they come.

    Returns:
        Digest of the file, number of rows, size in bytes.
    """
    schema = stored_schema(kind)
    num_rows = 0
    with naming_file(path), path.open("wb") as file:
        hashing = _HashingFile(file)
        with pa.ipc.new_stream(pa.PythonFile(hashing, "w"), schema) as writer:
            for batch in batches:
                writer.write_batch(batch.replace_schema_metadata(schema.metadata))
                num_rows += batch.num_rows
    return hashing.digest.text(), num_rows, hashing.num_bytes


def read_shard(content: bytes | memoryview) -> pa.Table:
    """Return the rows of a shard that is in memory; columns are views of it."""
    with pa.ipc.open_stream(pa.py_buffer(content)) as reader:
        return reader.read_all()
