"""Media are found as promised, and references cannot lead anywhere else."""

from __future__ import annotations

import pytest

from owa_data.errors import MediaError
from owa_data.store.source import is_outside
from owa_data.transforms.media import ENVIRONMENT, MediaFinder


@pytest.fixture(autouse=True)
def empty_working_directory(tmp_path, monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def put(folder):
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "one.mkv").write_bytes(b"")
    return folder


def test_places_are_tried_in_order(tmp_path, monkeypatch):
    argument, environment, params = (put(tmp_path / name) for name in ("argument", "environment", "params"))
    (tmp_path / "cwd" / "params.yaml").write_text(f"raw: {{dir: {params}}}\n")
    assert MediaFinder().locate("a/one.mcap", "one.mkv") == f"{params}/a/one.mkv"
    monkeypatch.setenv(ENVIRONMENT, str(environment))
    assert MediaFinder().locate("a/one.mcap", "one.mkv") == f"{environment}/a/one.mkv"
    assert MediaFinder(str(argument)).locate("a/one.mcap", "one.mkv") == f"{argument}/a/one.mkv"
    (argument / "a" / "one.mkv").unlink()
    assert MediaFinder(str(argument)).locate("a/one.mcap", "one.mkv") == f"{environment}/a/one.mkv"


def test_the_error_names_all_places(tmp_path, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, "/elsewhere")
    with pytest.raises(MediaError) as caught:
        MediaFinder(str(tmp_path)).locate("a/one.mcap", "gone.mkv")
    message = str(caught.value)
    assert message.startswith("a/one.mcap: the reference 'gone.mkv'")
    assert f"not found: {tmp_path}/a/gone.mkv, /elsewhere/a/gone.mkv" in message
    assert f"argument recordings: {tmp_path}" in message
    assert f"{ENVIRONMENT}: /elsewhere" in message
    assert f"raw.dir of {tmp_path / 'cwd' / 'params.yaml'}: not set" in message


def test_params_that_cannot_be_read_hinder_no_other_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes("raw:\n  dir: \u00fc\n".encode("latin-1"))
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "v.mkv").touch()
    assert MediaFinder("here").locate("a.mcap", "v.mkv") == "here/v.mkv"


def test_recordings_at_a_url():
    assert MediaFinder("s3://bucket/r").locate("a/one.mcap", "one.mkv") == "s3://bucket/r/a/one.mkv"


OUTSIDE = [
    "../one.mkv",
    "x/../../one.mkv",
    "/etc/passwd",
    "file:///etc/passwd",
    "http://host/x",
    "C:/x.mkv",
    "\\\\host\\x",
    "..",
    "..\\x",
]


@pytest.mark.parametrize("uri", OUTSIDE)
def test_references_that_leave_the_folder_are_refused(tmp_path, uri):
    with pytest.raises(MediaError, match="leaves the recording's folder"):
        MediaFinder(str(tmp_path)).locate("a/one.mcap", uri)


def test_episodes_that_leave_the_folder_are_refused(tmp_path):
    with pytest.raises(MediaError, match="leaves the recording's folder"):
        MediaFinder(str(tmp_path)).locate("../a/one.mcap", "one.mkv")


def test_leaving_the_folder_can_be_allowed(tmp_path):
    put(tmp_path / "r")
    (tmp_path / "r" / "b").mkdir()
    finder = MediaFinder(str(tmp_path / "r"), allow_outside=True)
    assert finder.locate("b/two.mcap", "../a/one.mkv") == f"{tmp_path}/r/b/../a/one.mkv"
    assert finder.locate("b/two.mcap", f"{tmp_path}/r/a/one.mkv") == f"{tmp_path}/r/a/one.mkv"
    assert finder.locate("b/two.mcap", f"file://{tmp_path}/r/a/one.mkv") == f"{tmp_path}/r/a/one.mkv"
    assert finder.locate("b/two.mcap", "https://host/x.mkv") == "https://host/x.mkv"


@pytest.mark.parametrize("path", ["one.mkv", "media/one.mkv", "x/../one.mkv", "./one.mkv", "..one.mkv"])
def test_what_stays_inside_is_inside(path):
    assert not is_outside(path)
