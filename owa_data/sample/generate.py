"""Write the embedded sample: four episodes in two groups, and their metadata. Run by `data/sample/dvc.yaml`.

python -m owa_data.sample.generate data/sample
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from owa_data.sample.recording import write_recording
from owa_data.sample.simulate import SimulationParams, simulate
from owa_data.sample.video import draw_frames, write_video

FRAME_SIZE_PX = (256, 144)

EPISODES = {
    "arena/duel.mcap": (SimulationParams(duration_s=22, screen_hz=30, clicks_hz=2), 11),
    "arena/rush.mcap": (SimulationParams(duration_s=24, screen_hz=30, raw_hz=240, start_ns=1_750_000_100_000_000_000), 12),
    "maze/first.mcap": (SimulationParams(duration_s=20, screen_hz=30, keys_hz=2.5, start_ns=1_750_000_200_000_000_000), 13),
    "maze/second.mcap": (SimulationParams(duration_s=26, screen_hz=30, idle_share=0.45, start_ns=1_750_000_300_000_000_000), 14),
}
TEST_EPISODES = {"maze/second.mcap"}
INSTRUCTIONS = {"arena": "Win the duel", "maze": "Find the way out of the maze"}


def generate_episode(recordings: Path, episode_path: str) -> None:
    """Write one episode of the sample: `.mcap` and `.mkv`."""
    params, seed = EPISODES[episode_path]
    simulation = simulate(params, seed)
    path = recordings / episode_path
    path.parent.mkdir(parents=True, exist_ok=True)
    video = path.with_suffix(".mkv")
    write_video(video, draw_frames(simulation, FRAME_SIZE_PX), simulation.screen_pts_ns)
    write_recording(path, simulation, video.name, FRAME_SIZE_PX, f"Sample game: {path.parent.name}")


def generate_sample(folder: Path) -> None:
    """Write `recordings/` and `metadata.jsonl` below a folder. Takes about ten seconds."""
    for episode_path in EPISODES:
        generate_episode(folder / "recordings", episode_path)
    rows = []
    for episode_path in EPISODES:
        game = episode_path.partition("/")[0]
        split = "test" if episode_path in TEST_EPISODES else "train"
        rows.append({"episode_path": episode_path, "game": game, "instruction": INSTRUCTIONS[game], "split": split})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def main() -> None:
    """Command line: the folder to write to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder that gets recordings/ and metadata.jsonl")
    generate_sample(parser.parse_args().folder)


if __name__ == "__main__":
    main()
