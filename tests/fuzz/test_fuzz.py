"""A fixed slice of the fuzz run for every test run, and thousands under `slow`. `python -m tests.fuzz` runs as many as you like."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.damage import Broken, break_file, plain_records
from tests.fuzz.check import check_broken
from tests.fuzz.corpus import build_corpus


@pytest.fixture(scope="module")
def corpus() -> dict[str, bytes]:
    return build_corpus()


def test_sound_files_are_sound(corpus):
    for name, content in corpus.items():
        outcome = check_broken(content, Broken(content, "not broken", len(content)))
        assert outcome.condition == "sound", name
        assert outcome.num_messages, name


def test_fixed_slice(corpus):
    names = sorted(corpus)
    for index in range(60):
        content = corpus[names[index % len(names)]]
        check_broken(content, break_file(content, np.random.default_rng([7, index])))


@pytest.mark.parametrize("shape", ["zstd", "no_summary", "unchunked"])
def test_truncated_at_every_record(corpus, shape):
    content = corpus[shape]
    places = [offset for offset, _, _ in plain_records(content)]
    chosen = places if len(places) < 60 else [*places[:12], *places[12:-12:19], *places[-12:]]
    for offset in chosen:
        check_broken(content, Broken(content[:offset], "truncated at a record", offset))


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", ["zstd", "lz4", "uncompressed", "no_summary", "no_index", "no_message_index", "no_repeated_channels"]
)
def test_truncated_at_every_record_of_every_shape(corpus, shape):
    content = corpus[shape]
    for offset, _, _ in plain_records(content):
        check_broken(content, Broken(content[:offset], "truncated at a record", offset))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_bytes_anywhere(corpus, data):
    content = corpus[data.draw(st.sampled_from(sorted(corpus)))]
    at = data.draw(st.integers(0, len(content)))
    drawn = data.draw(st.binary(max_size=200))
    removed = data.draw(st.integers(0, 200))
    check_broken(
        content,
        Broken(content[:at] + drawn + content[at + removed :], "bytes replaced", at, at + removed, len(drawn) - removed),
    )


@pytest.mark.slow
def test_thousands():
    """A process of its own, since it measures the peak memory of the process."""
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "tests.fuzz", "--files", "2500", "--seed", "2"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
