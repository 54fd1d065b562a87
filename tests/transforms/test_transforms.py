"""Stored rows to samples, through plain datasets and through ours."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys

import datasets
import numpy as np
import pytest

import owa_data
from owa_data.encoding.registry import ENCODERS
from owa_data.errors import MediaError, ParamsError, SchemaError
from owa_data.sample.video import read_time_code
from owa_data.transforms import (
    attach,
    auto_set_transform,
    create_binned_dataset_transform,
    create_event_dataset_transform,
    create_fsl_dataset_transform,
    load_from_disk,
)
from tests.conftest import BUILT_SEQUENCE_LENGTH, ROOT, TOY_FRAME_SIZE_PX


@pytest.fixture
def elsewhere(built, tmp_path, monkeypatch):
    """A working directory outside any repository; the environment says where recordings are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OWA_DATA_RECORDINGS", str(built / "recordings"))
    return built


def times_of(screens):
    return [round(screen.media_ref.pts_ns / 1e6) for screen in screens]


def codes_of(images):
    return [read_time_code(np.asarray(image)) for image in images]


def test_fsl_rows_hold_tensors_and_the_frames_of_their_references(elsewhere):
    torch = pytest.importorskip("torch")
    train = load_from_disk(elsewhere / "fsl")["train"]
    references = auto_set_transform(load_from_disk(elsewhere / "fsl")["train"], load_images=False)
    train.auto_set_transform(stage="fsl", load_images=True, image_size_px=None)
    assert len(train) > 3
    for row, plain in zip(train, references, strict=True):
        assert isinstance(row["input_ids"], torch.Tensor)
        assert row["input_ids"].shape == row["attention_mask"].shape == (BUILT_SEQUENCE_LENGTH,)
        assert row["input_ids"].dtype == torch.int64
        assert row["texts"].count("<image_placeholder>") == len(row["images"])
        assert codes_of(row["images"]) == times_of(plain["images"])
    assert train[0:3]["input_ids"].shape == (3, BUILT_SEQUENCE_LENGTH)


def test_fsl_images_have_the_size_that_the_tokenizer_expects(elsewhere):
    row = load_from_disk(elsewhere / "fsl")["train"].auto_set_transform()[0]
    assert {image.size for image in row["images"]} == {(448, 448)}


def test_plain_datasets_do_as_well(elsewhere):
    train = datasets.load_from_disk(str(elsewhere / "fsl"))["train"]
    train.set_transform(create_fsl_dataset_transform(load_images=True))
    assert codes_of(train[1]["images"])[0] > 0
    both = datasets.concatenate_datasets(list(datasets.load_from_disk(str(elsewhere / "fsl")).values()))
    parts = [
        both.select([2, 0]),
        both.shuffle(seed=1),
        both.filter(lambda row: row["num_tokens"] > 3),
        both.train_test_split(0.5, seed=0)["train"],
    ]
    for part in parts:
        assert auto_set_transform(part) is part
        assert part[0]["images"][0].size == (448, 448)


def test_the_method_stays_with_what_is_chosen(elsewhere):
    train = load_from_disk(elsewhere / "fsl")["train"]
    parts = [train.select([1]), train.shuffle(seed=0), train.filter(lambda _: True), *train.train_test_split(0.5).values()]
    for part in parts:
        assert part.auto_set_transform(load_images=False)[0]["images"]
    copy = pickle.loads(pickle.dumps(train.auto_set_transform()))
    assert copy[0]["texts"] == train[0]["texts"]
    assert copy.owa_lineage == train.owa_lineage


def test_rows_that_lead_to_no_lineage_need_an_image_size(elsewhere, tmp_path):
    """Images in their recorded size would not fit the image tokens of the rows."""
    shards = [str(path) for path in (elsewhere / "fsl/train").rglob("*.arrow") if not path.name.startswith("cache-")]
    copied = datasets.load_dataset("arrow", data_files=shards, split="train", cache_dir=str(tmp_path))
    streamed = datasets.load_dataset("arrow", data_files=shards, split="train", streaming=True)
    in_memory = datasets.load_from_disk(str(elsewhere / "fsl"))["train"].map(lambda row: row, keep_in_memory=True)
    for rows in (copied, streamed, in_memory):
        with pytest.raises(
            ParamsError, match=r"^image_size_px: must be given, .* owa\.json\. Pass image_size_px=\(width, height\)"
        ):
            auto_set_transform(rows, stage="fsl")
        sized = next(iter(auto_set_transform(rows, stage="fsl", image_size_px=(40, 20))))
        assert {image.size for image in sized["images"]} == {(40, 20)}
    assert {image.size for image in auto_set_transform(copied, stage="fsl", image_size_px=None)[0]["images"]} == {
        TOY_FRAME_SIZE_PX
    }
    assert auto_set_transform(copied, stage="fsl", load_images=False)[0]["images"]


def test_the_image_size_stays_through_map_and_with_streams(elsewhere):
    train = load_from_disk(elsewhere / "fsl")["train"]
    streamed = load_from_disk(elsewhere / "fsl", streaming=True)["train"]
    changed = {"keep_in_memory": True}
    for rows in (
        train.map(lambda row: {"episode_path": row["episode_path"]}, **changed),
        train.map(lambda row: row, num_proc=2, **changed),
        streamed.shuffle(seed=1, buffer_size=8),
        pickle.loads(pickle.dumps(streamed.shuffle(seed=1))),
        streamed.map(lambda row: row, features=streamed.features).filter(lambda _: True).take(2),
    ):
        row = next(iter(rows.auto_set_transform()))
        assert {image.size for image in row["images"]} == {(448, 448)}

    with pytest.raises(SchemaError, match="the columns of this stream are not known: give `map` its features"):
        streamed.map(lambda row: row).auto_set_transform()


def test_streams_go_to_the_workers_of_a_loader(elsewhere):
    torch = pytest.importorskip("torch")
    rows = load_from_disk(elsewhere / "fsl", streaming=True)["train"].shuffle(seed=1).auto_set_transform()
    expected = sorted(row["start_ns"] for row in rows)
    loader = torch.utils.data.DataLoader(rows, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    assert sorted(row["start_ns"] for row in loader) == expected


def test_joined_datasets_that_give_an_episode_different_instructions_are_refused(elsewhere, tmp_path):
    shutil.copytree(elsewhere / "binned", tmp_path / "binned")
    described = json.loads((tmp_path / "binned/owa.json").read_text())
    for episode in described["episodes"]:
        episode["metadata"]["instruction"] = "Lose the duel"
    (tmp_path / "binned/owa.json").write_text(json.dumps(described))
    both = [load_from_disk(folder)["train"] for folder in (elsewhere / "binned", tmp_path / "binned")]
    with pytest.raises(ParamsError, match="different instructions, 'Win the duel' and 'Lose the duel'"):
        auto_set_transform(datasets.concatenate_datasets(both), load_images=False)
    assert auto_set_transform(both[1], load_images=False)[0]["instruction"] == "Lose the duel"


def test_binned_rows_that_lead_to_no_lineage_warn_once_of_their_instruction(elsewhere, caplog):
    attach._warn_of_instruction.cache_clear()
    rows = datasets.load_from_disk(str(elsewhere / "binned"))["train"]
    assert auto_set_transform(rows, load_images=False)[0]["instruction"] == "Win the duel"
    assert not caplog.records
    rows = rows.map(lambda row: row, keep_in_memory=True)
    for given in ({"instruction": "Walk"}, {"instructions": {}}, {}, {}):
        auto_set_transform(rows, stage="binned", load_images=False, **given)
        assert len(caplog.records) == (not given), given
    assert "every row gets the default instruction" in caplog.text
    assert rows[0]["instruction"] == "Complete the task"


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_event_rows(elsewhere, encoder):
    train = load_from_disk(elsewhere / "event")["train"].auto_set_transform(encoder_type=encoder)
    messages = load_from_disk(elsewhere / "event")["train"].auto_set_transform(load_images=False, encode_actions=False)
    for row, plain in zip(train.select(range(40)), messages, strict=False):
        assert all(isinstance(text, str) for text in row["encoded_events"])
        assert len(row["encoded_events"]) == 1
        assert plain["encoded_events"][0].timestamp == row["timestamp_ns"]
        assert plain["encoded_events"][0].decoded is not None
        assert codes_of(row["images"]) == times_of(plain["images"])
        assert len(row["images"]) == (row["topic"] == "screen")


def test_event_rows_of_the_default_encoding_read_as_specified(elsewhere):
    train = load_from_disk(elsewhere / "event")["train"]
    train.set_transform(create_event_dataset_transform(load_images=False))
    texts = {row["topic"]: row["encoded_events"] for row in train.select(range(60))}
    assert texts["screen"] == ["<EVENT_START>screen_capture<EVENT_END>"]
    assert texts["mouse/raw"][0].startswith("<EVENT_START>mouse_")


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_binned_rows(elsewhere, encoder):
    loaded = load_from_disk(elsewhere / "binned")
    auto_set_transform(loaded, stage="binned", encoder_type=encoder)
    plain = auto_set_transform(load_from_disk(elsewhere / "binned")["train"], load_images=False, encode_actions=False)
    for row, messages in zip(loaded["train"], plain, strict=True):
        assert row["instruction"] == "Win the duel"
        assert len(row["encoded_events"]) == len(messages["encoded_events"])
        assert codes_of(row["images"]) == times_of(messages["images"])
        assert row["bin_idx"] == messages["bin_idx"]
    assert loaded["test"][0]["instruction"] == "Complete the task"


def test_transforms_survive_pickling(elsewhere):
    for create in (create_event_dataset_transform, create_binned_dataset_transform, create_fsl_dataset_transform):
        copy = pickle.loads(pickle.dumps(create(load_images=False)))
        assert copy.counts == {}


@pytest.mark.slow
def test_image_processors(elsewhere):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    train = datasets.load_from_disk(str(elsewhere / "fsl"))["train"]
    processor = transformers.SmolVLMImageProcessorPil(
        do_image_splitting=False, size={"longest_edge": 64}, max_image_size={"longest_edge": 64}
    )
    train.set_transform(create_fsl_dataset_transform(image_processor=processor))
    assert isinstance(train[0]["images"], torch.Tensor)
    train.set_transform(create_fsl_dataset_transform(image_processor=len))
    assert train[0]["images"] == train[0]["texts"].count("<image_placeholder>")


def test_a_missing_video_names_row_reference_and_folders(elsewhere, monkeypatch, tmp_path):
    monkeypatch.setenv("OWA_DATA_RECORDINGS", str(tmp_path))
    train = load_from_disk(elsewhere / "fsl")["train"].auto_set_transform()
    with pytest.raises(MediaError) as caught:
        train[1]
    message = str(caught.value)
    start_ns = datasets.load_from_disk(str(elsewhere / "fsl"))["train"][1]["start_ns"]
    assert message.startswith(f'a/one.mcap: row start_ns {start_ns}, reference {{"uri":"one.mkv","pts_ns":')
    assert f"OWA_DATA_RECORDINGS: {tmp_path}" in message


def test_wrong_uses_are_refused(elsewhere, tmp_path):
    train = datasets.load_from_disk(str(elsewhere / "fsl"))["train"]
    with pytest.raises(ParamsError, match="stage: 'raw' is not known"):
        auto_set_transform(train, stage="raw")
    with pytest.raises(SchemaError, match="no binned dataset: it has no column bin_idx"):
        auto_set_transform(train, stage="binned")
    for size in (448, (0, 3), (448,)):
        with pytest.raises(ParamsError, match=r"^image_size_px: is .*\. Give \(width, height\)"):
            create_fsl_dataset_transform(image_size_px=size)
    with pytest.raises(ParamsError, match=r"encoder_type: 'morse' is not known. Encoders: factorized"):
        create_event_dataset_transform("morse")
    # A misspelt argument would otherwise leave the default without a word.
    for create, option, meant in (
        (create_fsl_dataset_transform, "load_image", "load_images"),
        (create_fsl_dataset_transform, "image_size", "image_size_px"),
        (create_event_dataset_transform, "encodertype", "encoder_type"),
        (create_binned_dataset_transform, "instructon", "instruction"),
    ):
        with pytest.raises(TypeError, match=f"{create.__name__}: unknown argument '{option}'; did you mean '{meant}'"):
            create(**{option: "x"})
    with pytest.raises(TypeError, match="did you mean 'recordings'"):
        auto_set_transform(train, stage="fsl", recordigns="x")
    # A setting that cannot be is no image's fault: not even a policy for images makes grey of it.
    for policy in ("error", "placeholder", "skip"):
        with pytest.raises(ParamsError, match="recordings: names '/nope', which is no folder"):
            _ = auto_set_transform(train, stage="fsl", recordings="/nope", on_image_error=policy)[0]
    with pytest.raises(ParamsError, match="decoder: torchcodec is not installed"):
        create_fsl_dataset_transform(decoder="torchcodec")
    with pytest.raises(SchemaError, match=r"nothing does not exist\. Build it .*dvc pull"):
        load_from_disk(tmp_path / "nothing")
    shutil.copytree(elsewhere / "fsl", tmp_path / "fsl")
    # `datasets` leaves files of its own beside them.
    shard = next(path for path in (tmp_path / "fsl/train").rglob("*.arrow") if not path.name.startswith("cache-"))
    shard.unlink()
    with pytest.raises(SchemaError, match=rf"is not whole: .*{shard.name}.*dvc checkout"):
        load_from_disk(tmp_path / "fsl")
    datasets.Dataset.from_dict({"x": [1]}).save_to_disk(str(tmp_path / "plain"))
    with pytest.raises(SchemaError, match=r"holds no owa\.json"):
        load_from_disk(tmp_path / "plain")


def test_datasets_and_media_behind_a_url(elsewhere, monkeypatch):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(elsewhere / "fsl"), "/fsl", recursive=True)
    memory.put(str(elsewhere / "recordings"), "/recordings", recursive=True)
    monkeypatch.setenv("OWA_DATA_RECORDINGS", "memory://recordings")
    here = load_from_disk(elsewhere / "fsl")["train"].auto_set_transform(load_images=False)
    there = load_from_disk("memory://fsl")["train"].auto_set_transform(image_size_px=None)
    assert codes_of(there[2]["images"]) == times_of(here[2]["images"])


def test_importing_the_package_costs_nothing():
    code = (
        "import sys, owa_data; print([name for name in ('numpy', 'pyarrow', 'datasets', 'torch', 'av') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout == "[]\n"
    code = "import sys, owa_data.transforms; print([name for name in ('datasets', 'torch', 'av', 'transformers', 'mediaref', 'fsspec') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout == "[]\n"
    assert set(owa_data.__all__) <= set(dir(owa_data.transforms))
    with pytest.raises(AttributeError):
        owa_data.nothing  # noqa: B018
