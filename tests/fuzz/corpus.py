"""Sound files to break: every MCAP shape, and the real recordings where they are present."""

from __future__ import annotations

import tempfile
from pathlib import Path

from owa_data.sample.recording import write_recording
from owa_data.sample.simulate import SimulationParams, simulate
from tests.conftest import SHARED
from tests.damage import SHAPES, messages_of, write_mcap

_PLAYED = SimulationParams(duration_s=2, screen_hz=30, raw_hz=60, clicks_hz=4, wheel_hz=2, keys_hz=4, idle_share=0)


def build_corpus() -> dict[str, bytes]:
    """Return files by name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "played.mcap"
        write_recording(path, simulate(_PLAYED, 1), "played.mkv", (64, 48), "Fuzz")
        messages = messages_of(path)
        files = {"recorder": path.read_bytes()}
    few = messages[::5]  # small files in small chunks: more breaks per second
    files |= {shape: write_mcap(few, **options) for shape, options in SHAPES.items()}
    files |= {path.stem: path.read_bytes() for path in sorted((SHARED / "recordings").glob("*.mcap"))}
    return files
