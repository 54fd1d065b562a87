"""Stage time against hours of recordings, as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

_WIDTH, _HEIGHT = 640, 400
_LEFT, _TOP, _RIGHT, _BOTTOM = 60, 30, 20, 45
_COLORS = {"raw": "#1b6ca8", "event": "#c0392b", "fsl": "#27864b", "all": "#333333"}


def draw_time_by_hours(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw one line per stage and one for their sum, at the largest number of workers measured."""
    num_workers = max(row["workers"] for row in rows)
    chosen = [row for row in rows if row["workers"] == num_workers]
    hours = sorted({row["hours"] for row in chosen})
    lines = {
        stage: [next(r["wall_s"] for r in chosen if (r["stage"], r["hours"]) == (stage, h)) for h in hours]
        for stage in ("raw", "event", "fsl")
    }
    lines["all"] = [sum(times) for times in zip(*lines.values(), strict=True)]
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    most_h, most_s = max(hours), max(lines["all"]) * 1.05

    def place(hour: float, second: float) -> tuple[float, float]:
        return (
            _LEFT + hour / most_h * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - second / most_s * (_HEIGHT - _TOP - _BOTTOM),
        )

    draw.line([place(0, most_s), place(0, 0), place(most_h, 0)], fill="black")
    draw.text((_LEFT, 8), f"stage time in seconds against hours of recordings, {num_workers} workers", fill="black")
    for hour in hours:
        x, y = place(hour, 0)
        draw.text((x - 8, y + 6), f"{hour:g}", fill="black")
    for part in range(5):
        x, y = place(0, most_s * part / 5)
        draw.text((8, y - 6), f"{most_s * part / 5:.1f}", fill="black")
    for number, (stage, times) in enumerate(lines.items()):
        points = [place(hour, second) for hour, second in zip(hours, times, strict=True)]
        draw.line([place(0, 0), *points], fill=_COLORS[stage], width=2)
        for x, y in points:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_COLORS[stage])
        draw.text((_LEFT + 20, _TOP + 5 + 14 * number), stage, fill=_COLORS[stage])
    image.save(path)
