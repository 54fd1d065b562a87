"""Recordings in the shape of D2E, for benchmarks: topic mix and rates of its 459 recordings, without video.

Source of the figures: D2E-480p as measured by an independent user of the whole corpus: 265 h, 197 kept events/s (60 Hz screens), `mouse` 70 % of
messages, `mouse/raw` 16 %, `screen` 12 %, `keyboard` 1.6 %.
"""

from __future__ import annotations

from pathlib import Path

from owa_data.sample.recording import write_recording
from owa_data.sample.simulate import SimulationParams, simulate

FRAME_SIZE_PX = (448, 448)


def d2e_params(duration_s: float, index: int) -> SimulationParams:
    """Return the params of one D2E-shaped episode."""
    return SimulationParams(
        duration_s=duration_s,
        start_ns=1_750_000_000_000_000_000 + index * 7_200_000_000_000,
        screen_hz=60,
        raw_hz=140,
        mouse_per_raw=4.4,
        keys_hz=4,
        clicks_hz=1.5,
        wheel_hz=0.2,
        idle_share=0.1,
        max_idle_s=8,
        num_bursts=max(int(duration_s / 60), 1),
    )


def write_episode(folder: Path, index: int, duration_s: float) -> Path:
    """Write episode `game_<n>/<index>.mcap`; one that exists is kept. Takes about 6 s per 10 minutes."""
    path = folder / f"game_{index % 3}" / f"{index:04d}.mcap"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        simulation = simulate(d2e_params(duration_s, index), index)
        write_recording(temporary, simulation, f"{index:04d}.mkv", FRAME_SIZE_PX, "Benchmark")
        temporary.rename(path)
    return path
