"""`owa-data decode`: rows, ids and text to a recording that the ecosystem's reader takes; the tokenizer beside the dataset."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from owa_data.cli.main import main
from owa_data.encoding.registry import ENCODERS, create_encoder
from owa_data.encoding.unwrap import TimeHints
from owa_data.event.build import plan_event
from owa_data.fsl.build import plan_fsl
from owa_data.fsl.decode import EventDecoder
from owa_data.params import EventParams, FslParams, RawParams, RuntimeParams, SplitParams
from owa_data.raw.build import build_index
from owa_data.store.dataset_folder import read_lineage
from owa_data.store.incremental import build_dataset
from owa_data.store.shard_cache import ShardCache
from tests.conftest import tree_bytes
from tests.fsl.test_tokenizer import BYTE

RUNTIME = RuntimeParams(num_workers=1, progress=False)


def build(folder: Path, recordings: Path, encoder_name: str, cache: ShardCache, **options: bool) -> Path:
    params = RawParams(dir=str(recordings), watch=str(recordings), metadata="", split=SplitParams(test_groups=("b",)))
    index = build_index(params, cache, RUNTIME)
    event_dir, fsl_dir = folder / "event", folder / "fsl"
    events = build_dataset(plan_event(EventParams(), index.episodes, str(recordings), cache), event_dir, cache, RUNTIME)
    fsl = FslParams(encoder=encoder_name, encoder_options=options)
    build_dataset(plan_fsl(fsl, BYTE, events, event_dir, cache), fsl_dir, cache, RUNTIME)
    return fsl_dir


@pytest.fixture(scope="module")
def factorized_dataset(tmp_path_factory: pytest.TempPathFactory, toy_recordings: Path) -> Path:
    folder = tmp_path_factory.mktemp("decode")
    return build(folder, toy_recordings, "factorized", ShardCache(folder / "cache"))


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["decode", *map(str, arguments)])
    return int(ended.value.code or 0)


def messages_of(path: Path) -> list[tuple[int, str, object]]:
    from mcap_owa.highlevel import OWAMcapReader

    with OWAMcapReader(path) as reader:
        return [(message.timestamp, message.topic, message.decoded) for message in reader.iter_messages()]


def rows_of(folder: Path, split: str = "train") -> list[dict]:
    import datasets

    return datasets.load_from_disk(str(folder))[split].to_list()


def test_a_source_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "nope.json", "--encoder", "json", "-o", tmp_path / "out.mcap") == 1
    assert "nope.json does not exist" in capsys.readouterr().err


def test_a_pipe_is_read_as_a_file_is(tmp_path: Path) -> None:
    pipe = tmp_path / "output.txt"
    os.mkfifo(pipe)
    text = "<EVENT_START>{}<EVENT_END>".format('{"type":"key_press","key":"w"}')
    writer = threading.Thread(target=pipe.write_text, args=(text,), daemon=True)
    writer.start()
    assert run(pipe, "--encoder", "json", "-o", tmp_path / "out.mcap") == 0
    writer.join(timeout=10)
    assert len(messages_of(tmp_path / "out.mcap")) == 1


def test_a_row_becomes_a_recording(factorized_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = rows_of(factorized_dataset)[1]
    assert run(factorized_dataset, "--row", 1, "-o", tmp_path / "out.mcap") == 0
    messages = messages_of(tmp_path / "out.mcap")
    assert f"{len(row['event_timestamps_ns'])} messages, 0 broken spans" in capsys.readouterr().out
    assert len(messages) == len(row["event_timestamps_ns"])
    assert all(0 <= stored - time < 10_000_000 for (time, *_), stored in zip(messages, row["event_timestamps_ns"], strict=True))
    screens = [json.loads(image)["media_ref"] for image in row["images"]]
    assert [message.media_ref.pts_ns for _, topic, message in messages if topic == "screen"] == [ref["pts_ns"] for ref in screens]


def test_an_episode_and_rows_of_the_other_split(
    factorized_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    num_events = {e.episode_path: e.ledger["events"]["kept"] for e in read_lineage(factorized_dataset, "fsl").episodes}
    assert run(factorized_dataset, "--episode", "a/two.mcap", "-o", tmp_path / "two.mcap") == 0
    assert len(messages_of(tmp_path / "two.mcap")) == num_events["a/two.mcap"]
    assert run(factorized_dataset, "--row", 0, "--split", "test", "-o", tmp_path / "b.mcap") == 0
    assert run(factorized_dataset, "--row", 99, "-o", tmp_path / "x.mcap") == 1
    assert "there is no row 99" in capsys.readouterr().err
    assert run(factorized_dataset, "-o", tmp_path / "x.mcap") == 1
    assert run(factorized_dataset, "--episode", "none", "-o", tmp_path / "x.mcap") == 1


def test_a_models_output_as_ids_and_as_text(factorized_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = rows_of(factorized_dataset)[0]
    ids = row["input_ids"][: row["num_tokens"]]
    (tmp_path / "ids.json").write_text(json.dumps([*ids[5:], 99]))
    start = row["start_ns"]
    assert run(tmp_path / "ids.json", "--dataset", factorized_dataset, "--start-ns", start, "-o", tmp_path / "ids.mcap") == 0
    printed = capsys.readouterr()
    assert "2 broken spans" in printed.out
    assert "0.." in printed.err
    (tmp_path / "text.txt").write_text("<EVENT_START><KEYBOARD><2><3><4><VK_87><press><EVENT_END> and <EVENT_START>")
    assert run(tmp_path / "text.txt", "--encoder", "factorized", "--start-ns", 2_000_000_000, "-o", tmp_path / "text.mcap") == 0
    ((time, topic, message),) = messages_of(tmp_path / "text.mcap")
    assert (time, topic, message.vk, message.event_type) == (2_340_000_000, "keyboard", 87, "press")
    capsys.readouterr()
    assert run(tmp_path / "text.txt", "--encoder", "factorized", "--strict", "-o", tmp_path / "strict.mcap") == 1
    assert "at 57: outside an event: ' and '" in capsys.readouterr().err
    assert run(tmp_path / "text.txt", "-o", tmp_path / "none.mcap") == 1
    assert "--encoder <name>" in capsys.readouterr().err
    (tmp_path / "bad.json").write_text("{}")
    assert run(tmp_path / "bad.json", "--dataset", factorized_dataset, "-o", tmp_path / "x.mcap") == 1


@pytest.mark.parametrize(
    ("encoder", "options"), [*((name, {}) for name in ENCODERS if name != "factorized"), ("hierarchical", {"timestamps": True})]
)
def test_every_encoding_through_the_pipeline(
    encoder: str, options: dict[str, bool], toy_recordings: Path, tmp_path: Path
) -> None:
    cache = ShardCache(tmp_path / "cache")
    folder = build(tmp_path / "one", toy_recordings, encoder, cache, **options)
    assert run(folder, "--row", 0, "--strict", "-o", tmp_path / "out.mcap") == 0
    row = rows_of(folder)[0]
    stored = set(row["event_timestamps_ns"])
    assert all(any(0 <= time - got < 10_000_000 for time in stored) for got, *_ in messages_of(tmp_path / "out.mcap"))
    for each in rows_of(folder):
        assert each["texts"].count("<image_placeholder>") == len(each["images"])


def test_the_saved_tokenizer_is_the_one_that_made_the_rows(
    factorized_dataset: Path, toy_recordings: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(factorized_dataset / "tokenizer")
    row, facts = rows_of(factorized_dataset)[0], read_lineage(factorized_dataset, "fsl").facts
    span = "".join(token * times for token, times in facts["image"]["span"])
    text = row["texts"].replace("<image_placeholder>", span)
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == row["input_ids"][: row["num_tokens"]]
    assert tokenizer.pad_token_id == facts["tokenizer"]["pad_token_id"]
    assert len(tokenizer) == facts["tokenizer"]["num_tokens"]
    again = build(tmp_path, toy_recordings, "factorized", ShardCache(tmp_path / "cache"))
    assert tree_bytes(again / "tokenizer") == tree_bytes(factorized_dataset / "tokenizer")


def test_nothing_that_exists_is_replaced_and_nothing_empty_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording, linked = tmp_path / "out.mcap", tmp_path / "in_the_cache"
    recording.write_bytes(b"a recording")
    os.link(recording, linked)
    (tmp_path / "text.txt").write_text("<EVENT_START><KEYBOARD><2><3><4><VK_87><press><EVENT_END>")
    assert run(tmp_path / "text.txt", "--encoder", "factorized", "-o", recording) == 1
    assert "out.mcap exists" in capsys.readouterr().err
    assert recording.read_bytes() == b"a recording"
    assert run(tmp_path / "text.txt", "--encoder", "factorized", "-o", recording, "--force") == 0
    assert len(messages_of(recording)) == 1
    assert linked.read_bytes() == b"a recording"
    assert run(tmp_path / "text.txt", "--encoder", "json", "-o", tmp_path / "x.mcap") == 1
    assert "holds no event" in capsys.readouterr().err
    assert run(tmp_path / "text.txt", "--encoder", "factorized", "-o", tmp_path / "x.txt") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"out.mcap", "in_the_cache", "text.txt"}


def test_times_and_ids_beyond_all_bounds(factorized_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = "<EVENT_START><KEYBOARD><{}><{}><{}><VK_87><press><EVENT_END>"
    (tmp_path / "back.txt").write_text(key.format(0, 0, 0) + key.format(9, 9, 9))
    assert run(tmp_path / "back.txt", "--encoder", "factorized", "--start-ns", 0, "-o", tmp_path / "back.mcap") == 0
    assert [time for time, *_ in messages_of(tmp_path / "back.mcap")] == [0, 0]
    assert "2 messages, 0 broken spans, 1 from before time 0 put at 0" in capsys.readouterr().out
    row = rows_of(factorized_dataset)[0]
    (tmp_path / "ids.json").write_text(json.dumps([2**70, -(2**70), *row["input_ids"][: row["num_tokens"]]]))
    assert run(tmp_path / "ids.json", "--dataset", factorized_dataset, "-o", tmp_path / "ids.mcap") == 0
    assert "1 broken spans" in capsys.readouterr().out
    assert run(tmp_path / "back.txt", "--encoder", "factorized", "--start-ns", 10**20, "-o", tmp_path / "x.mcap") == 2
    window = EventDecoder(create_encoder("hierarchical")).decode_text("<EVENT_START>window:\ud800<EVENT_END>")
    assert json.loads(window.events.payloads[0])["title"] == "?"
    late = EventDecoder(create_encoder("hierarchical", timestamps=True)).decode_text(
        "<EVENT_START>key_press:w@999999999999.999<EVENT_END>", TimeHints(episode_start_ns=1_750_000_000_000_000_000)
    )
    assert (len(late.events), len(late.broken)) == (0, 1)
