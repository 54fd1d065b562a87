"""Small datasets to train on, built by the library alone: one episode of the sample, few tokens per image, little motion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from owa_data.binned.build import plan_binned
from owa_data.event.build import plan_event
from owa_data.fsl.build import plan_fsl
from owa_data.params import (
    BinnedParams,
    EventParams,
    FslParams,
    ImageParams,
    RawParams,
    RuntimeParams,
    SplitParams,
    TokenizerParams,
)
from owa_data.raw.build import build_index
from owa_data.store.incremental import build_dataset
from owa_data.store.shard_cache import ShardCache

RUNTIME = RuntimeParams(num_workers=1, progress=False)
IMAGE_SIZE_PX = (56, 56)
NUM_IMAGE_TOKENS = 4
# 5 Hz in place of 20: an episode of 22 s is then a few thousand tokens, which a small model learns by heart in minutes.
TOPICS = {
    "screen": {"topic": "screen", "resample": "first_per_period", "rate_hz": 5, "activity": "screen"},
    "keyboard": {"topic": "keyboard", "activity": "input"},
    "mouse_raw": {"topic": "mouse/raw", "resample": "sum_moves", "rate_hz": 5, "activity": "input"},
}
_LENGTH_SETTING = {"internvl": "image_seq_length", "smolvlm": "image_seq_len"}


def small_tokenizer(family: str) -> TokenizerParams:
    """The embedded tokenizer with images as a family has them, but few tokens of each."""
    image = ImageParams(family=family, image_size_px=IMAGE_SIZE_PX, processor={_LENGTH_SETTING[family]: NUM_IMAGE_TOKENS})
    return TokenizerParams(name="small", source="built_in", pad_token="<|endoftext|>", image=image)


@dataclass(frozen=True)
class Built:
    """Datasets and where their media lie."""

    recordings: Path
    event: Path
    fsl: Path
    binned: Path


def build_small(
    folder: Path, recordings: Path, family: str, include: tuple[str, ...] = ("**/*.mcap",), max_sequence_length: int = 512
) -> Built:
    """Build event, fsl and binned datasets below a folder; all episodes are for training."""
    cache = ShardCache(folder / "cache")
    raw = RawParams(dir=str(recordings), watch=str(recordings), metadata="", include=include, split=SplitParams(test_fraction=0))
    episodes = build_index(raw, cache, RUNTIME).episodes
    built = Built(recordings, folder / "event", folder / "fsl", folder / "binned")
    plan = plan_event(EventParams.model_validate({"topics": TOPICS}), episodes, str(recordings), cache)
    events = build_dataset(plan, built.event, cache, RUNTIME)
    plan = plan_binned(BinnedParams(fps=5, state="before"), events, built.event, cache)
    build_dataset(plan, built.binned, cache, RUNTIME)
    tokenizer = small_tokenizer(family)
    params = FslParams(tokenizer=tokenizer.name, max_sequence_length=max_sequence_length)
    build_dataset(plan_fsl(params, tokenizer, events, built.event, cache), built.fsl, cache, RUNTIME)
    return built
