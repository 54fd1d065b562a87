"""What is measured: recordings in the shape of D2E, and the tokenizers."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import yaml

from owa_data.params import TokenizerParams
from owa_data.sample.workload import write_episode

EPISODE_S = 600
EPISODES_PER_HOUR = 3600 // EPISODE_S
HUGE_EPISODE_S = 5400  # about 4 M messages, the largest of D2E
_ROOT = Path(__file__).parent.parent
_SHARED = Path(os.environ.get("OWA_DATA_TEST_SHARED", _ROOT.parent / "shared"))


def prepare_corpus(folder: Path, hours: int) -> Path:
    """Generate hours of recordings; those that exist are kept. Two processes, about 30 s per hour."""
    episodes = folder / f"episodes_{EPISODE_S}s"
    write = partial(write_episode, episodes, duration_s=float(EPISODE_S))
    with ProcessPoolExecutor(2) as executor:
        list(executor.map(write, range(hours * EPISODES_PER_HOUR)))
    return episodes


def prepare_huge(folder: Path) -> Path:
    """Generate one recording of 90 minutes."""
    episodes = folder / f"episodes_{HUGE_EPISODE_S}s"
    write_episode(episodes, 0, float(HUGE_EPISODE_S))
    return episodes


def tokenizers() -> dict[str, TokenizerParams]:
    """Return the tokenizers to measure with: the real ones where they are, else the built-in one with an image of 256 tokens."""
    real = {name: _SHARED / "tokenizers" / name for name in ("internvl3", "smolvlm2")}
    found = {
        name: _configured(name, source="folder", location=str(path), revision="", sha256="")
        for name, path in real.items()
        if path.is_dir()
    }
    image = {"family": "plain", "image_size_px": (448, 448), "processor": {"image_seq_length": 256}}
    return found or {"byte": _configured("byte", image=image)}


def _configured(name: str, **changes: object) -> TokenizerParams:
    conf = yaml.safe_load((_ROOT / "conf/tokenizer" / f"{name}.yaml").read_text())
    return TokenizerParams(**{**conf, **changes})
