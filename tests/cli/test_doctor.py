"""`owa-data doctor` on recordings with known faults."""

from __future__ import annotations

import json
import re
import shutil

import av
import pytest

from owa_data.cli.main import main
from tests.conftest import shared_path, write_toy
from tests.damage import write_mcap


def doctor(capsys, *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *arguments])
    return ended.value.code, capsys.readouterr().out


def screens(uri: str, pts_ns: int = 0) -> bytes:
    payload = json.dumps({"utc_ns": 1, "media_ref": {"uri": uri, "pts_ns": pts_ns}}).encode()
    return write_mcap([("screen", "desktop/ScreenCaptured", 1000 + i, payload) for i in range(3)])


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doctor")
    write_toy(folder, "a/one.mcap", 0, video=True)
    return folder


def test_nothing_wrong(sound, capsys):
    status, output = doctor(capsys, str(sound))
    assert status == 0
    assert "a/one.mcap" in output
    assert "1 recordings: 1 sound; 0 with problems" in output
    status, output = doctor(capsys, str(sound), "--json")
    (row,) = map(json.loads, output.splitlines())
    (media,) = row["media"]
    assert (row["condition"], media["state"], media["problems"]) == ("sound", "ok", [])
    assert media["num_frames"] >= media["num_references"] > 100
    assert 0 < media["num_keyframes"] <= media["num_frames"]
    assert media["largest_pts_ns"] < media["end_ns"] < 5_000_000_000


def test_each_fault_is_found(sound, tmp_path, capsys):
    whole = (sound / "a" / "one.mcap").read_bytes()
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(sound / "a" / "one.mkv", folder / "one.mkv")
    (folder / "cut.mcap").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.mcap").write_bytes(b"")
    (folder / "late.mcap").write_bytes(screens("one.mkv", pts_ns=60_000_000_000))
    (folder / "missing.mcap").write_bytes(screens("none.mkv"))
    (folder / "outside.mcap").write_bytes(screens("../../etc/passwd"))
    (folder / "nul.mcap").write_bytes(screens("a\0b.mkv"))
    (folder / "no_video.mcap").write_bytes(screens("notes.mkv"))
    (folder / "notes.mkv").write_text("no video at all")
    (folder / "new\nline 'quoted' \u00fc.mcap").write_bytes(screens("one.mkv"))
    status, output = doctor(capsys, str(folder), "--json")
    assert status == 1
    rows = {row["episode_path"]: row for row in map(json.loads, output.splitlines())}
    assert rows["cut.mcap"]["condition"] == "salvaged"
    assert rows["cut.mcap"]["damage"]
    assert rows["empty.mcap"]["condition"] == "not_mcap"
    assert "screens refer to 60.000 s, but it ends at" in rows["late.mcap"]["media"][0]["problems"][0]
    states = {name: row["media"][0]["state"] for name, row in rows.items() if row["media"]}
    assert states == {
        "cut.mcap": "ok",
        "late.mcap": "ok",
        "missing.mcap": "missing",
        "outside.mcap": "outside",
        "nul.mcap": "missing",
        "no_video.mcap": "unreadable",
        "new\nline 'quoted' \u00fc.mcap": "ok",
    }
    status, output = doctor(capsys, str(folder), "--only-problems")
    assert status == 1
    assert "new\\nline" not in output
    assert "8 recordings: 1 not_mcap, 1 salvaged, 6 sound; 7 with problems of their own or of their media" in output


def test_frames_missing_in_the_middle(sound, tmp_path, capsys):
    shutil.copy(sound / "a" / "one.mcap", tmp_path / "one.mcap")
    with av.open(str(sound / "a" / "one.mkv")) as old, av.open(str(tmp_path / "one.mkv"), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.pts is not None]
        missing_s = [packet.pts / 1000 for packet in packets[40:90]]
        for packet in packets[:40] + packets[90:]:
            packet.stream = stream
            new.mux(packet)
    status, output = doctor(capsys, str(tmp_path))
    assert status == 1
    # The first of them is as near to the frame before as any frame is.
    found = re.search(r"! one\.mkv: (\d+) screens refer to frames that it lacks, from ([\d.]+) s to ([\d.]+) s; up to", output)
    assert 48 <= int(found[1]) <= 50
    assert missing_s[0] <= float(found[2]) <= missing_s[4]
    assert abs(float(found[3]) - missing_s[-1]) < 0.002


def test_a_screen_that_does_not_change_lacks_no_frames(sound, tmp_path, capsys):
    """Screens 16 ms apart, of a video whose frames are up to 100 ms apart."""
    payloads = [
        json.dumps({"utc_ns": 1, "media_ref": {"uri": "one.mkv", "pts_ns": i * 16_000_000}}).encode() for i in range(1, 120)
    ]
    content = write_mcap([("screen", "desktop/ScreenCaptured", 1000 + i, payload) for i, payload in enumerate(payloads)])
    (tmp_path / "one.mcap").write_bytes(content)
    shutil.copy(sound / "a" / "one.mkv", tmp_path / "one.mkv")
    status, output = doctor(capsys, str(tmp_path))
    assert status == 0, output


def test_real_recordings(capsys):
    status, output = doctor(capsys, str(shared_path("recordings")), "--json")
    assert status == 1  # one of them lacks its video
    rows = {row["episode_path"]: row for row in map(json.loads, output.splitlines())}
    media = rows["0.3.2.mcap"]["media"][0]
    assert (media["num_frames"], media["num_references"], media["variable_rate"]) == (49, 49, True)
    whole = [rows[f"{name}.mcap"]["media"][0]["problems"] for name in ("0.3.2", "0.4.2", "0.5.1")]
    assert whole == [[], [], []]
    assert rows["0.5.x-video-missing.mcap"]["media"][0]["state"] == "missing"


def test_a_folder_that_is_not_there(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["doctor", str(tmp_path / "none")])
    assert ended.value.code == 1
    assert "does not exist" in capsys.readouterr().err
