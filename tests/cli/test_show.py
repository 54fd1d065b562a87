"""Pictures of rows and recordings: the right frames are in them, and the words under them are right."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from owa_data.cli.contact_sheet import Action, Step, actions_of, draw_sheet, lines_of
from owa_data.cli.main import main
from owa_data.encoding.events import read_events
from tests.binned.event_rows import event_rows, key, raw_mouse, screen
from tests.conftest import shared_path


def show(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["show", *map(str, arguments)])
    return ended.value.code


def test_events_in_words():
    rows = [key(1, 87, "press"), key(2, 32, "release"), raw_mouse(3, 4, -5, 0x001 | 0x008), raw_mouse(4, flags=0x400, data=65416)]
    events = read_events(event_rows(rows))
    words = [[action.text for action in actions_of(events, index)] for index in range(4)]
    assert words == [["w down"], ["space up"], ["", "left button down", "right button up"], ["wheel -1"]]


def test_repeats_are_counted_and_motion_added_up():
    down, move = Action("key down", "w down"), Action("motion", "", (3, -1))
    lines = lines_of([move, down, down, move, Action("key up", "w up")])
    assert [line.text for line in lines] == ["w down x2", "w up", "mouse +6, -2"]
    assert lines[-1].motion == (6, -2)
    assert lines_of([]) == []


def test_frames_stand_in_order():
    colors = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    steps = [Step(index * 10**8, frame=Image.new("RGB", (40, 30), color)) for index, color in enumerate(colors)]
    sheet = np.asarray(draw_sheet("title", "note", steps))
    columns = [int(np.argwhere((sheet == color).all(axis=2))[:, 1].mean()) for color in colors]
    assert columns == sorted(columns)


@pytest.mark.parametrize("kind", ["fsl", "event", "binned"])
def test_rows_of_every_dataset(built, tmp_path, capsys, kind):
    assert show(built / kind, 1, "-o", tmp_path / "x.png", "--recordings", built / "recordings", "--max-frames", 7) == 0
    frames, actions = (int(word) for word in capsys.readouterr().out.split() if word.isdigit())
    assert 3 <= frames <= 7
    assert actions > 0
    assert Image.open(tmp_path / "x.png").width > 1000


def test_recordings_old_and_new(built, tmp_path):
    assert show(built / "recordings" / "a" / "one.mcap", "-o", tmp_path / "new.png") == 0
    assert show(shared_path("recordings/0.3.2.mcap"), "-o", tmp_path / "old.png") == 0


def test_a_recording_that_was_cut_off_shows_its_motion(built, tmp_path, capsys):
    recording = built / "recordings" / "a" / "one.mcap"
    whole = recording.read_bytes()
    (tmp_path / "cut.mcap").write_bytes(whole[: whole.rindex(b"mouse/raw")])  # within the summary, so that no message is lost
    for path in (recording, tmp_path / "cut.mcap"):
        assert show(path, "-o", tmp_path / "x.png") == 0
    actions = re.findall(r"(\d+) actions", capsys.readouterr().out)
    assert actions[0] == actions[1]


def test_what_is_not_there_is_said(built, tmp_path, capsys):
    assert show(built / "fsl", 9999, "-o", tmp_path / "x.png") == 1
    assert "9999 is not there" in capsys.readouterr().err
    assert show(built / "fsl", 0, "-o", tmp_path / "x.png", "--recordings", tmp_path / "none") == 1
    assert "none' is no folder" in capsys.readouterr().err
    for source in (tmp_path / "none", built / "recordings/a/one.mkv"):
        assert show(source, 0, "-o", tmp_path / "x.png") == 1
        assert "is neither an .mcap recording nor the folder of a dataset" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("number", [0, -3])
def test_there_is_no_picture_without_a_frame(built, tmp_path, capsys, number):
    assert show(built / "event", "-o", tmp_path / "x.png", "--max-frames", number) == 1
    assert f"max-frames: is {number}. Draw 1 frame or more" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


def test_actions_are_drawn_where_the_video_is_missing(built, tmp_path, capsys):
    recording = shutil.copy(built / "recordings" / "a" / "one.mcap", tmp_path)
    assert show(recording, "-o", tmp_path / "x.png", "--max-frames", 3) == 0
    told = capsys.readouterr()
    assert "x.png: 0 frames, " in told.out
    assert ": 0 frames, 0 actions" not in told.out
    assert told.err.startswith("3 of 3 frames cannot be loaded and stay grey. The first: one.mcap: screen at ")
    assert (tmp_path / "x.png").is_file()


def test_a_frame_that_is_missing_is_not_drawn_as_one_that_is_yet_to_come():
    yet_to_come, missing = (draw_sheet("", "", [Step(0, is_missing=is_missing)]) for is_missing in (False, True))
    assert yet_to_come.tobytes() != missing.tobytes()


def test_a_file_name_that_is_no_picture_is_refused_before_any_work(tmp_path, capsys):
    assert show("nowhere.mcap", "-o", tmp_path / "x.foo") == 1
    assert "x.foo: no picture is written to a file that ends so. Name one that ends in .png" in capsys.readouterr().err


def test_a_screen_alone_is_a_step():
    assert actions_of(read_events(event_rows([screen(1)])), 0)[0].text == "screen"
