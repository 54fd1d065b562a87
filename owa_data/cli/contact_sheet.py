"""Draw what happened: frames in order with their times, and under each frame the actions until the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from owa_data.binned.held import BUTTON_VK, button_changes
from owa_data.encoding.events import EventKind, Events, wheel_delta
from owa_data.encoding.keys import KEY_NAMES
from owa_data.raw.messages import HORIZONTAL_WHEEL_FLAG, WHEEL_FLAG, WHEEL_UNIT

COLUMNS = 6
FRAME_WIDTH_PX, MAX_FRAME_HEIGHT_PX = 236, 190
MARGIN_PX, LINE_PX, NUM_LINES = 14, 17, 5
FONT_PX, TITLE_PX = 13, 17
BACKGROUND, CELL, EMPTY, TEXT, FAINT = "#11151c", "#1b212c", "#242c3a", "#e8ecf3", "#8b95a7"
COLORS = {
    "key down": "#7ee081",
    "key up": "#5f9e66",
    "button": "#ffb454",
    "wheel": "#c99bff",
    "motion": "#69b7ff",
    "other": FAINT,
}
_BUTTON_NAMES = {vk: name for name, vk in BUTTON_VK.items()}


@dataclass(frozen=True)
class Action:
    """One action in words; `kind` is a key of `COLORS`, `motion` its relative motion."""

    kind: str
    text: str
    motion: tuple[int, int] = (0, 0)


@dataclass
class Step:
    """A frame and what was done from then on. Without a frame: what was done before the first one, or `is_missing`: it could not be loaded."""

    time_ns: int
    label: str = ""
    frame: Image.Image | None = None
    actions: list[Action] = field(default_factory=list)
    is_missing: bool = False


def actions_of(events: Events, index: int) -> list[Action]:
    """Say one event in words."""
    kind = events.kinds[index]
    if kind == EventKind.KEYBOARD:
        vk, pressed = int(events.vk[index]), bool(events.pressed[index])
        name = KEY_NAMES[vk] if 0 <= vk < len(KEY_NAMES) else f"vk_{vk}"
        return [Action("key down" if pressed else "key up", f"{name} {'down' if pressed else 'up'}")]
    if kind != EventKind.RAW_MOUSE:
        return [Action("other", events.topics[index].as_py())]
    dx, dy, _, flags, data = events.raw_mouse[index].tolist()
    actions = [Action("motion", "", (dx, dy))] if dx or dy else []
    _, buttons, pressed_buttons = button_changes(np.array([flags]))
    for button, is_press in zip(buttons.tolist(), pressed_buttons.tolist(), strict=True):
        actions.append(Action("button", f"{_BUTTON_NAMES[button]} button {'down' if is_press else 'up'}"))
    if flags & (WHEEL_FLAG | HORIZONTAL_WHEEL_FLAG):
        name = "wheel" if flags & WHEEL_FLAG else "side wheel"
        actions.append(Action("wheel", f"{name} {int(wheel_delta(np.array([data]))[0]) / WHEEL_UNIT:+g}"))
    return actions


def lines_of(actions: Sequence[Action]) -> list[Action]:
    """Shorten a run of actions for a picture: repeats are counted, motion is added up and stands last."""
    named = [action for action in actions if action.kind != "motion"]
    lines = []
    for action, repeats in groupby(named):
        number = len(list(repeats))
        lines.append(Action(action.kind, action.text + (f" x{number}" if number > 1 else "")))
    dx, dy = (sum(action.motion[axis] for action in actions) for axis in (0, 1))
    if len(named) < len(actions):
        lines.append(Action("motion", f"mouse {dx:+d}, {dy:+d}", (dx, dy)))
    return lines


def draw_sheet(title: str, note: str, steps: Sequence[Step]) -> Image.Image:
    """Draw steps, `COLUMNS` in a row."""
    start_ns = min((step.time_ns for step in steps), default=0)
    heights = [_frame_size(step.frame)[1] for step in steps if step.frame is not None]
    frame_height = max(heights, default=60)
    cell_width = FRAME_WIDTH_PX + MARGIN_PX
    cell_height = LINE_PX + 6 + frame_height + NUM_LINES * LINE_PX + 12
    num_columns = max(min(COLUMNS, len(steps)), 3)
    num_rows = -(-len(steps) // num_columns)
    top = MARGIN_PX + TITLE_PX + FONT_PX + 18
    size = (MARGIN_PX + num_columns * cell_width, top + num_rows * (cell_height + MARGIN_PX))
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN_PX, MARGIN_PX), title, TEXT, ImageFont.load_default(TITLE_PX))
    draw.text((MARGIN_PX, MARGIN_PX + TITLE_PX + 6), note, FAINT, ImageFont.load_default(FONT_PX))
    for index, step in enumerate(steps):
        x = MARGIN_PX + index % num_columns * cell_width
        y = top + index // num_columns * (cell_height + MARGIN_PX)
        draw.rounded_rectangle((x, y, x + FRAME_WIDTH_PX, y + cell_height), 5, CELL)
        _draw_step(sheet, draw, (x, y), step, start_ns, frame_height)
    return sheet


def _frame_size(frame: Image.Image) -> tuple[int, int]:
    height = round(frame.height * FRAME_WIDTH_PX / frame.width)
    if height <= MAX_FRAME_HEIGHT_PX:
        return FRAME_WIDTH_PX, height
    return round(frame.width * MAX_FRAME_HEIGHT_PX / frame.height), MAX_FRAME_HEIGHT_PX


def _draw_step(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], step: Step, start_ns: int, frame_height: int
) -> None:
    x, y = corner
    font = ImageFont.load_default(FONT_PX)
    draw.text((x + 6, y + 3), f"{(step.time_ns - start_ns) / 1e9:.3f} s", TEXT, font)
    draw.text((x + FRAME_WIDTH_PX - 6, y + 3), step.label, FAINT, font, anchor="ra")
    y += LINE_PX + 6
    if step.frame is None:
        draw.rectangle((x, y, x + FRAME_WIDTH_PX, y + frame_height), EMPTY)
        reason = "frame not loaded" if step.is_missing else "no frame yet"
        draw.text((x + FRAME_WIDTH_PX // 2, y + frame_height // 2), reason, FAINT, font, anchor="mm")
    else:
        size = _frame_size(step.frame)
        sheet.paste(step.frame.resize(size), (x + (FRAME_WIDTH_PX - size[0]) // 2, y + (frame_height - size[1]) // 2))
    y += frame_height + 6
    lines = lines_of(step.actions)
    shown = (
        lines
        if len(lines) <= NUM_LINES
        else [*lines[: NUM_LINES - 2], Action("other", f"{len(lines) - NUM_LINES + 1} more"), lines[-1]]
    )
    for number, line in enumerate(shown):
        draw.text((x + 6, y + number * LINE_PX), line.text, COLORS[line.kind], font)
    if lines and lines[-1].kind == "motion":
        _draw_arrow(draw, (x + FRAME_WIDTH_PX - 34, y + NUM_LINES * LINE_PX - 34), lines[-1].motion)


def _draw_arrow(draw: ImageDraw.ImageDraw, center: tuple[int, int], motion: tuple[int, int]) -> None:
    """Show where the mouse went: a dial whose hand is the motion, longer for more, 28 pixels at most."""
    x, y = center
    length = float(np.hypot(*motion))
    draw.ellipse((x - 28, y - 28, x + 28, y + 28), outline=EMPTY, width=2)
    if length:
        reach = 28 * min(1.0, np.log1p(length) / np.log1p(400)) / length
        end = (x + motion[0] * reach, y + motion[1] * reach)
        draw.line((center, end), COLORS["motion"], 3)
        draw.ellipse((end[0] - 3, end[1] - 3, end[0] + 3, end[1] + 3), COLORS["motion"])
