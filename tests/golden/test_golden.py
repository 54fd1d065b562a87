"""What this version makes of the toy episode is what the golden files say; see `regenerate.py`."""

from __future__ import annotations

import pytest

from owa_data.encoding.registry import ENCODERS
from tests.golden.regenerate import FOLDER, make_all


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return make_all()


@pytest.mark.parametrize("name", ["toy_events.jsonl", *(f"toy_{encoder}.jsonl" for encoder in ENCODERS)])
def test_output_is_as_golden(made: dict[str, str], name: str) -> None:
    assert made[name].splitlines() == (FOLDER / name).read_text().splitlines()
