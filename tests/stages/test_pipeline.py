"""The pipeline under real DVC: reuse in repro, experiments, temporary folders and the queue."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
import yaml

from owa_data.fsl.tokenizer import byte_tokenizer_json
from tests.conftest import Repo, repository, shared_path, tree_bytes, write_toy

pytestmark = pytest.mark.slow


def converted(output: str) -> dict[str, tuple[int, int]]:
    """Episodes converted and reused by stage, read from the log."""
    counts = {}
    for line in output.splitlines():
        words = line.split()
        if len(words) == 5 and words[2:5:2] == ["converted,", "reused"]:
            counts[words[0].rstrip(":")] = (int(words[1]), int(words[3]))
    return counts


def test_repro_converts_what_changed_and_equals_a_build_from_scratch(make_repo: Callable[..., Repo]) -> None:
    repo = make_repo()
    assert converted(repo.run("dvc", "repro", "fsl")) == {"event": (3, 0), "fsl": (3, 0)}
    assert "Data and pipelines are up to date" in repo.run("dvc", "repro", "fsl")
    row = datasets.load_from_disk(str(repo.root / "data/fsl"))["train"][0]
    assert len(row["input_ids"]) == len(row["attention_mask"]) == 4096
    repo.commit("built")

    write_toy(repo.root / "recordings", "a/two.mcap", seed=77)
    repo.run("dvc", "add", "-q", "recordings")
    assert converted(repo.run("dvc", "repro", "fsl")) == {"event": (1, 2), "fsl": (1, 2)}
    write_toy(repo.root / "recordings", "c/new.mcap", seed=78)
    (repo.root / "recordings/a/one.mcap").unlink()
    repo.run("dvc", "add", "-q", "recordings")
    assert converted(repo.run("dvc", "repro", "fsl")) == {"event": (1, 2), "fsl": (1, 2)}

    scratch = make_repo("scratch", repo.root / "recordings")
    scratch.set_params(runtime__num_workers=1)
    assert converted(scratch.run("dvc", "repro", "fsl")) == {"event": (3, 0), "fsl": (3, 0)}
    for kind in ("event", "fsl"):
        assert tree_bytes(repo.root / "data" / kind) == tree_bytes(scratch.root / "data" / kind)
    assert (repo.root / "metrics/fsl.json").read_bytes() == (scratch.root / "metrics/fsl.json").read_bytes()


def test_experiments_by_name_in_temp_folders_and_in_the_queue(make_repo: Callable[..., Repo]) -> None:
    repo = make_repo()
    repo.run("dvc", "repro")
    repo.commit("built")
    output = repo.run("dvc", "exp", "run", "-S", "fsl.max_sequence_length=2048", "--name", "short")
    assert converted(output) == {"fsl": (3, 0)}
    assert len(datasets.load_from_disk(str(repo.root / "data/fsl"))["train"][0]["input_ids"]) == 2048
    # Back to former params: DVC's run-cache serves them, nothing runs.
    back = repo.run("dvc", "exp", "run", "-S", "fsl.max_sequence_length=4096", "--name", "back")
    assert "is cached - skipping run" in back
    assert converted(back) == {}

    write_toy(repo.root / "recordings", "a/two.mcap", seed=77)
    repo.run("dvc", "add", "-q", "recordings")
    temp = repo.run("dvc", "exp", "run", "--temp", "--name", "changed")
    assert converted(temp) == {"event": (1, 2), "fsl": (1, 2), "binned": (1, 2)}
    repo.run("dvc", "exp", "run", "--queue", "-S", "event.topics.mouse_raw.rate_hz=60", "--name", "fast")
    repo.run("dvc", "queue", "start")
    repo.run("dvc", "queue", "logs", "--follow", "fast", check=False)
    status = repo.run("dvc", "queue", "status")
    assert "Success" in status, status + repo.run("dvc", "queue", "logs", "fast", check=False)
    shown = json.loads(repo.run("dvc", "exp", "show", "--json"))
    text = json.dumps(shown)
    assert all(name in text for name in ("short", "changed", "fast"))
    difference = repo.run("dvc", "metrics", "diff", "HEAD", "short")
    assert "padding_ratio" in difference


def test_a_local_tokenizer_by_name(make_repo: Callable[..., Repo], tmp_path: Path) -> None:
    repo = make_repo()
    (tmp_path / "model").mkdir()
    (tmp_path / "model/tokenizer.json").write_bytes(byte_tokenizer_json())
    (tmp_path / "model/tokenizer_config.json").write_text('{"pad_token": "<|endoftext|>"}')
    add = ("python", "-m", "owa_data.cli.main", "tokenizer", "add", str(tmp_path / "model"), "--name", "mine")
    told = repo.run(*add)
    assert "wrote conf/tokenizer/mine.yaml (internvl)" in told
    assert "`git add conf/tokenizer/mine.yaml` and commit it" in told
    assert "exists" in repo.run(*add, check=False)
    repo.run("dvc", "repro")
    repo.commit("built")
    output = repo.run("dvc", "exp", "run", "-S", "fsl.tokenizer=mine", "--name", "mine")
    assert converted(output) == {"fsl": (3, 0)}
    lineage = json.loads((repo.root / "data/fsl/owa.json").read_text())
    assert lineage["facts"]["image"]["num_tokens"] == 258
    (tmp_path / "model/tokenizer.json").write_bytes(byte_tokenizer_json() + b" ")
    assert "as pinned" in repo.run("dvc", "repro", "--force", "fsl", check=False)


def test_real_recordings_of_three_generations(make_repo: Callable[..., Repo]) -> None:
    repo = make_repo("real", shared_path("recordings"))
    topics = {
        "screen": {"topic": "screen", "resample": "first_per_period", "rate_hz": 20, "activity": "screen"},
        "keyboard": {"topic": "keyboard", "activity": "input"},
        "mouse": {"topic": "mouse", "resample": "sum_moves", "rate_hz": 20, "activity": "input", "as_raw": True},
    }
    repo.set_params(raw__split__test_groups=[], event__topics=topics)
    output = repo.run("dvc", "repro", "fsl")
    assert converted(output) == {"event": (4, 0), "fsl": (4, 0)}
    assert "0.5.x-video-missing.mcap refers to example.mkv, which does not exist" in output
    index = [json.loads(line) for line in (repo.root / "data/episodes.jsonl").read_text().splitlines()]
    assert {e["episode_path"]: [media["exists"] for media in e["media"]] for e in index} == {
        "0.3.2.mcap": [True],
        "0.4.2.mcap": [True],
        "0.5.1.mcap": [True],
        "0.5.x-video-missing.mcap": [False],
    }
    rows = datasets.load_from_disk(str(repo.root / "data/fsl"))
    kinds = {kind for split in rows.values() for row in split for kind in row["event_kinds"]}
    assert kinds == {0, 1, 2}


def test_by_hand_with_overrides_and_a_dry_run(make_repo: Callable[..., Repo], tmp_path: Path) -> None:
    repo = make_repo()
    repo.run("dvc", "repro", "fsl")
    elsewhere = str(tmp_path / "out")
    repo.run(
        "python",
        "-m",
        "stages.fsl",
        f"out_dir={elsewhere}",
        f"metrics_dir={tmp_path}",
        f"plots_dir={tmp_path}",
        "max_sequence_length=1024",
    )
    assert len(datasets.load_from_disk(elsewhere)["train"][0]["input_ids"]) == 1024
    dry = repo.run("python", "-m", "stages.event", "topics.mouse_raw.rate_hz=60", "dry_run=true")
    assert "event: 3 of 3 episodes to convert, 0 to reuse" in dry
    assert "GB free" in dry
    assert repo.run("git", "status", "--porcelain", "--ignored").count("outputs") == 0


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("-m", "stages.fsl", "max_sequence_lenght=1"), "max_sequence_lenght"),
        (("-m", "stages.event", "topics.mouse_raw.rate=1"), "rate"),
        (("-m", "stages.event", "+topics.mouse_raw.rate=1"), "event.topics.mouse_raw.rate: unknown key"),
        (("-m", "stages.event", "topics.mouse_raw.rate_hz=-1"), "event.topics.mouse_raw.rate_hz"),
        (("-m", "stages.event", "topics.screen.topic=scren"), "no recording has the topic 'scren'. Topics: keyboard"),
        (("-m", "stages.event", "intervals.select=idle"), "event.intervals.select"),
        (("-m", "stages.fsl", "tokenizer=nope"), "nope"),
        (("-m", "stages.fsl", "encoder=nope"), "fsl.encoder: 'nope' is not known. Encoders: factorized"),
    ],
)
def test_mistakes_are_errors_that_name_them(toy_repo: Repo, arguments: tuple[str, ...], names: str) -> None:
    output = toy_repo.run("python", *arguments, check=False)
    assert names in output, output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"fsl__tokenizer": "nope"}, "Could not find 'tokenizer/nope'"),
        ({"fsl__encoder": "nope"}, "fsl.encoder: 'nope' is not known"),
        ({"fsl": {}}, "fsl.tokenizer"),
    ],
)
def test_mistakes_in_params_are_named_as_dvc_runs_a_stage(toy_repo: Repo, knobs: dict[str, object], told: str) -> None:
    before = (toy_repo.root / "params.yaml").read_text()
    try:
        toy_repo.set_params(**knobs)
        output = toy_repo.run("python", "-m", "stages.fsl", check=False)  # no arguments, so that the conf is composed once
    finally:
        (toy_repo.root / "params.yaml").write_text(before)
    assert told in output, output
    assert "Traceback" not in output


@pytest.fixture(scope="module")
def toy_repo(tmp_path_factory: pytest.TempPathFactory, toy_recordings: Path) -> Repo:
    """A repository whose stages raw and event are built."""
    repo = repository(tmp_path_factory.mktemp("mistakes") / "repo", toy_recordings)
    repo.run("dvc", "repro", "event")
    return repo


def test_where_no_row_is_left_it_is_told(toy_repo: Repo) -> None:
    tried = ("out_dir=tried/event", "metrics_dir=tried", "plots_dir=tried")
    output = toy_repo.run("python", "-m", "stages.event", "intervals.select=hotkey", *tried)
    assert "event: not one row is left" in output


def test_conf_may_ask_for_more_of_hydra(toy_repo: Repo) -> None:
    conf = toy_repo.root / "conf/raw.yaml"
    before = conf.read_text()
    try:
        for name, line in (("one", ""), ("two", "hydra: {job: {env_set: {WHERE: two}}}\n")):
            conf.write_text(f"{before}index: ${{hydra:runtime.cwd}}/tried/{name}.jsonl\nmetrics_dir: tried\n{line}")
            assert "raw: 3 episodes" in toy_repo.run("python", "-m", "stages.raw")
    finally:
        conf.write_text(before)
    assert (toy_repo.root / "tried/one.jsonl").read_bytes() == (toy_repo.root / "tried/two.jsonl").read_bytes()


def test_a_misspelt_key_is_refused_by_experiments(toy_repo: Repo) -> None:
    output = toy_repo.run("dvc", "exp", "run", "-S", "fsl.max_sequence_lenght=1", "--temp", check=False)
    assert "max_sequence_lenght" in output


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("params.yaml", "fsl: {tokenizer: byte\n", "params.yaml: is no YAML: "),
        ("params.yaml", "[1]\n", "params.yaml: is a list, not sections of knobs"),
        ("params.yaml", "fsl: 3\n", "fsl: is 3 in params.yaml. Write its knobs below it"),
        (
            "params.yaml",
            "fsl: {encoder: '${nope}'}\n",
            "fsl: cannot be read from params.yaml: Interpolation key 'nope' not found",
        ),
        ("conf/fsl.yaml", "defaults: [\n", "conf/fsl.yaml: is no YAML: "),
        ("conf/run.yaml", "hydra: {\n", "conf/run.yaml: is no YAML: "),
        ("conf/fsl.yaml", "in_dir: a\nin_dir: b\n", "conf/fsl.yaml: is no YAML: the key 'in_dir' stands there twice"),
        ("conf/tokenizer/byte.yaml", "name: 'byte\n", "conf/tokenizer/byte.yaml: is no YAML: "),
    ],
)
def test_a_file_that_is_no_yaml_is_named(toy_repo: Repo, name: str, text: str, told: str) -> None:
    file = toy_repo.root / name
    before = file.read_text()
    try:
        file.write_text(text)
        output = toy_repo.run("python", "-m", "stages.fsl", "dry_run=true", check=False)
    finally:
        file.write_text(before)
    assert output.startswith(told), output
    assert "Traceback" not in output


def test_a_tokenizer_file_that_is_not_used_stops_no_stage(toy_repo: Repo) -> None:
    file = toy_repo.root / "conf/tokenizer/mine.yaml"
    file.write_text("name: 'mine\n")
    try:
        for stage in ("raw", "fsl"):
            toy_repo.run("python", "-m", f"stages.{stage}", "dry_run=true")
        output = toy_repo.run("python", "-m", "stages.fsl", "tokenizer=mine", "dry_run=true", check=False)
    finally:
        file.unlink()
    assert output.startswith("conf/tokenizer/mine.yaml: is no YAML: ")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raw: {dir: a\n", "params.yaml: is no YAML: "),
        ("raw: {dri: a}\n", "raw.dri: unknown key. Known here: dir, "),
        ("raw: 3\n", "raw: "),
        ("[1]\n", "params.yaml: is [1], not sections of knobs"),
    ],
)
def test_comments_are_not_written_over_a_typing_error(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    output = Repo(tmp_path).run("python", "-m", "owa_data.params_text", check=False)
    assert output.startswith(told), output
    assert "Traceback" not in output
    assert (tmp_path / "params.yaml").read_text() == text


def test_a_row_of_the_topic_table_is_taken_out_as_the_message_says(toy_repo: Repo) -> None:
    add = "+topics.other={topic: other, resample: keep_all, rate_hz: 0, activity: none, as_raw: false}"
    output = toy_repo.run("python", "-m", "stages.event", add, "dry_run=true", check=False)
    assert "dvc exp run -S '~event.topics.other'; by hand: python -m stages.event '~topics.other'" in output
    before = (toy_repo.root / "params.yaml").read_text()
    try:
        topics = yaml.safe_load(before)["event"]["topics"]
        toy_repo.set_params(event__topics={**topics, "other": {**topics["keyboard"], "topic": "other"}})
        assert "no recording has the topic 'other'" in toy_repo.run("python", "-m", "stages.event", "dry_run=true", check=False)
        dry = toy_repo.run("python", "-m", "stages.event", "~topics.other", "dry_run=true")
        assert "event: 0 of 3 episodes to convert, 3 to reuse" in dry
        toy_repo.run("dvc", "exp", "run", "event", "--temp", "-S", "~event.topics.other")
    finally:
        (toy_repo.root / "params.yaml").write_text(before)


def test_without_a_metadata_file_the_stage_runs_by_hand_and_dvc_has_nothing_to_watch(toy_repo: Repo) -> None:
    before = (toy_repo.root / "params.yaml").read_text()
    try:
        toy_repo.set_params(raw__metadata="")
        assert "ERROR" in toy_repo.run("dvc", "repro", "raw", check=False)
        toy_repo.run("python", "-m", "stages.raw", "dry_run=true")
    finally:
        (toy_repo.root / "params.yaml").write_text(before)


def test_watch_lists(toy_repo: Repo, tmp_path: Path) -> None:
    repo = toy_repo
    before = (repo.root / "params.yaml").read_text()
    try:
        repo.set_params(raw__watch="data/list.jsonl")
        assert "owa-data scan` writes the list" in repo.run("python", "-m", "stages.raw", check=False)
        told = repo.run("python", "-m", "owa_data.cli.main", "scan")
        assert "3 recordings of recordings, 3 new" in told
        assert "`git add data/list.jsonl` and commit it" in told
        assert "3 recordings of recordings, 0 new" in repo.run("python", "-m", "owa_data.cli.main", "scan")
        repo.run("python", "-m", "stages.raw", "dry_run=true")
        repo.set_params(raw__dir=str(tmp_path))
        assert "was made for 'recordings'" in repo.run("python", "-m", "stages.raw", check=False)
        repo.set_params(raw__dir="../elsewhere", raw__watch="../elsewhere")
        assert "leaves the repository" in repo.run("python", "-m", "stages.raw", check=False)
    finally:
        (repo.root / "params.yaml").write_text(before)
    assert yaml.safe_load(before)["raw"]["watch"] == "recordings"
