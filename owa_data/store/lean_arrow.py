"""Arrow without pandas: with its first array Arrow imports pandas if it is there, which takes 0.3 s and which no stage uses."""

from __future__ import annotations

import sys

import pyarrow as pa


class _WithoutPandas:
    """An import finder that says there is no pandas."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def spare_pandas() -> None:
    """Have Arrow find no pandas, now and later in this process; what else imports pandas does find it."""
    finder = _WithoutPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)
