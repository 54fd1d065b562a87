"""Every knob of the pipeline: name, default, unit and meaning. The only place that holds them.

`params.yaml` (its comments) and `docs/params.md` are written from these models by `python -m owa_data.params_text`, and a test compares
them. Models are frozen and refuse unknown keys.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from owa_data.errors import ParamsError


class Params(BaseModel):
    """Frozen params that refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, defer_build=True)


Seconds = Annotated[float, Field(ge=0, le=1e9)]
PositiveSeconds = Annotated[float, Field(gt=0, le=1e9)]


class SplitParams(Params):
    """Which episodes are for testing. A `split` column of `raw.metadata` decides first, then `test`, then `test_groups`, then the hash."""

    test_fraction: float = Field(
        0.1, ge=0, le=1, description="share of episodes in test, by a stable hash of episode_path; 0 = none by hash"
    )
    test: tuple[str, ...] = Field(
        (), description='globs of episode_path that are test, such as ["arena/**"]; each must match one; rest is train'
    )
    test_groups: tuple[str, ...] = Field((), description="whole groups held out for test; the rest is train")
    salt: str = Field("", description="another value deals another hash split")


class RawParams(Params):
    """Which recordings are there, are they sound, and which split are they in."""

    dir: str = Field("data/sample/recordings", description="folder or URL of the recordings")
    watch: str = Field(
        "data/sample/recordings",
        description="what DVC watches: the same folder, or a list that `owa-data scan` writes",
    )
    include: tuple[str, ...] = Field(("**/*.mcap",), description="globs below raw.dir; `**` crosses folders")
    exclude: tuple[str, ...] = Field((), description="globs that take episodes out again")
    limit: int = Field(0, ge=0, description="use only the first n episodes by path; 0 = all")
    metadata: str = Field(
        "data/sample/metadata.jsonl",
        description="CSV or JSONL joined by episode_path (game, instruction, player, split, ...). The file may be empty, its name may "
        "not: DVC watches the file",
    )
    group_by: str = Field("folder", description="what a group is: `folder` (first folder of episode_path) or a metadata column")
    on_damaged: Literal["salvage", "skip", "error"] = Field(
        "salvage", description="cut-off or corrupt recordings: salvage (keep every whole chunk) | skip (leave out) | error (stop)"
    )
    split: SplitParams = Field(SplitParams(), description="train and test")


ResampleKind = Literal["keep_all", "first_per_period", "drop", "sum_moves", "repeat_held_keys"]
_KINDS_WITHOUT_RATE = ("keep_all",)
MIN_RATE_HZ = 0.001


class TopicParams(Params):
    """One row of the topic table. A topic that is not in the table is not read."""

    topic: str = Field(description="topic as recorded, such as mouse/raw")
    resample: ResampleKind = Field(
        "keep_all", description="keep_all | first_per_period | drop | sum_moves | repeat_held_keys, see docs/datasets.md"
    )
    rate_hz: float = Field(0, ge=0, le=1000, description="target rate, from 0.001; 0 only with keep_all")
    activity: Literal["none", "screen", "input"] = Field(
        "none", description="which inactivity rule its messages count for: none | screen | input"
    )
    as_raw: bool = Field(False, description="absolute positions of this topic become relative mouse/raw messages")

    @model_validator(mode="after")
    def _rate_fits_kind(self) -> TopicParams:
        if self.resample in _KINDS_WITHOUT_RATE and self.rate_hz:
            raise ValueError(f"rate_hz = {self.rate_hz} has no effect with resample = {self.resample}; choose another kind")
        if self.resample not in _KINDS_WITHOUT_RATE and self.rate_hz < MIN_RATE_HZ:
            raise ValueError(f"resample = {self.resample} needs a rate_hz of {MIN_RATE_HZ} or more")
        return self


class IntervalParams(Params):
    """Which stretches of a recording are used."""

    select: str = Field(
        "inactivity", description="whole_file | inactivity | hotkey, or a combination with & | - ( ), such as inactivity & hotkey"
    )
    max_screen_gap_s: PositiveSeconds = Field(1.0, description="longer gaps between screens are cut out, seconds")
    max_input_gap_s: PositiveSeconds = Field(5.0, description="longer gaps between inputs are cut out, seconds")
    hotkey_vk: int = Field(120, ge=0, le=255, description="Windows key code whose releases start and stop; 120 = F9")


DEFAULT_TOPICS = {
    "screen": TopicParams(topic="screen", resample="first_per_period", rate_hz=20, activity="screen"),
    "keyboard": TopicParams(topic="keyboard", resample="keep_all", activity="input"),
    "mouse_raw": TopicParams(topic="mouse/raw", resample="sum_moves", rate_hz=20, activity="input"),
}


class EventParams(Params):
    """From recordings to one row per event."""

    topics: dict[str, TopicParams] = Field(
        DEFAULT_TOPICS, min_length=1, description="the topic table; add a row to read another topic"
    )
    intervals: IntervalParams = Field(IntervalParams(), description="which stretches of a recording are used")

    @model_validator(mode="after")
    def _topics_are_distinct(self) -> EventParams:
        names = [topic.topic for topic in self.topics.values()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"topics: {', '.join(twice)} stands in more than one row")
        if sum(topic.as_raw for topic in self.topics.values()) > 1:
            raise ValueError("topics: as_raw stands in more than one row, so that motion would count twice")
        return self


class EncoderOptions(Params):
    """What an encoding adds; of those that datasets are built with, only `hierarchical` has options."""

    coordinates: bool = Field(False, description="hierarchical: a mouse move says where to or by how much, mouse_move:+12,-7")
    timestamps: bool = Field(
        False, description="hierarchical: events end with seconds since the first message, key_press:w@12.345"
    )


class FslParams(Params):
    """From events to token rows of fixed length. `tokenizer` names a file of conf/tokenizer/."""

    tokenizer: str = Field(
        "byte",
        description="a file of conf/tokenizer/: byte | internvl3 | internvl3_5 | smolvlm2 | qwen2_5_vl | qwen3_vl | your own",
    )
    encoder: str = Field("factorized", description="factorized | hierarchical_tokens | hierarchical | json | flat")
    encoder_options: EncoderOptions = Field(EncoderOptions(), description="what an encoding adds")
    max_sequence_length: int = Field(4096, ge=16, le=1 << 24, description="ids per row; shorter rows are padded right")
    rows_without_images: Literal["keep", "drop"] = Field("keep", description="rows in which no screen falls: keep | drop")
    span_intervals: bool = Field(True, description="a row may hold events of several intervals; false ends it with each")
    on_too_long: Literal["error", "drop"] = Field("error", description="an event with more ids than a row holds: error | drop")
    write_texts: bool = Field(True, description="false leaves the texts column empty, which saves about 0.4 bytes per token")
    action_topics: tuple[str, ...] = Field(("keyboard", "mouse/raw"), description="topics that the next two act on")
    skip_first_t_seconds_for_action: Seconds = Field(
        0.0, description="leave out actions this long after a row's first other event, seconds"
    )
    time_shift_seconds_for_action: float = Field(
        0.0, ge=-1e6, le=1e6, description="move actions later within their row, seconds; 0.1 in D2E"
    )


class BinnedParams(Params):
    """From events to one row per time bin."""

    fps: float = Field(10, ge=0.001, le=1000, description="bins per second")
    filter_empty_actions: bool = Field(False, description="leave out bins without any action")
    state: Literal["all", "last", "before"] = Field(
        "all", description="screens of a bin: all in it | last before its end | last at or before its start"
    )
    bin_function: str = Field(
        "",
        pattern=r"^([\w.]+:\w+)?$",
        description="your own binning as module:function, see docs/datasets.md; empty = bins of 1/fps",
    )


class RuntimeParams(Params):
    """How the work is done. No stage lists these under `params:`, since the result does not depend on them."""

    executor: Literal["local", "dask"] = Field("local", description="local (processes of this machine) | dask (a cluster)")
    num_workers: int = Field(0, ge=0, description="worker processes; 0 = one per CPU, none for what takes under half a second")
    dask_scheduler: str = Field("", description="address such as tcp://host:8786; empty starts a local cluster")
    progress: bool = Field(True, description="show a progress bar")


SECTIONS: dict[str, type[Params]] = {
    "raw": RawParams,
    "event": EventParams,
    "fsl": FslParams,
    "binned": BinnedParams,
    "runtime": RuntimeParams,
}

P = TypeVar("P", bound=Params)


def validate_params(model: type[P], values: dict[str, Any], section: str) -> P:
    """Make a model from plain values.

    Raises:
        ParamsError: The first unknown key with the known ones, else the first thing that is wrong, with its dotted key.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        errors = error.errors()
        first = next(
            (each for each in errors if each["type"] == "extra_forbidden"), errors[0]
        )  # a misspelt key is also a missing one
        key = ".".join([section, *map(str, first["loc"])])
        problem = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            known = _known_keys(model, first["loc"][:-1])
            problem = f"unknown key. Known here: {', '.join(known)}"
        elif first["type"] == "tuple_type":
            problem = f"should be a list, such as [{first['input']}] (is {first['input']!r})"
        elif first["type"] not in ("missing", "value_error"):
            problem += f" (is {first['input']!r})"
        raise ParamsError(key, problem) from error


def _known_keys(model: type[Params], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        if str(part) not in model.model_fields:
            return list(TopicParams.model_fields)  # the only open table
        annotation = model.model_fields[str(part)].annotation
        model = annotation if isinstance(annotation, type) and issubclass(annotation, Params) else TopicParams
    return list(model.model_fields)


class ImageParams(Params):
    """How an image stands among the tokens of a model family. `family` names an entry of `fsl/families/`."""

    family: str = Field(description="internvl | smolvlm | ...: who counts the tokens of an image")
    image_size_px: tuple[int, int] = Field(description="width and height that the loader resizes frames to")
    processor: dict[str, bool | int | float | str] = Field(
        {}, description="settings of the image processor that the count depends on"
    )


class TokenizerParams(Params):
    """A file of conf/tokenizer/: where a tokenizer is, and what it must be."""

    name: str = Field(description="name of the file, without .yaml")
    source: Literal["built_in", "hub", "folder"] = Field(description="built_in | hub (a repository) | folder (a local one)")
    location: str = Field("", description="hub repository or folder that holds tokenizer.json")
    revision: str = Field("", description="commit of the hub repository")
    sha256: str = Field("", description="digest of tokenizer.json; another content is an error; empty = not checked")
    pad_token: str = Field(description="token that fills rows up")
    image: ImageParams = Field(description="how an image stands among the tokens")
