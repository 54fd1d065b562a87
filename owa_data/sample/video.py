"""A simulation drawn: frames that show what the input does and carry their own time, as H.264 with variable frame times."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from owa_data.raw.messages import WHEEL_FLAG
from owa_data.sample.simulate import VK_A, VK_D, VK_S, VK_SPACE, VK_W, Simulation

Frame = npt.NDArray[np.uint8]

TICKS_PER_S = 1000  # Matroska keeps milliseconds
CODE_BITS, CODE_CELL_PX = 24, 8
_SPEED_PX_PER_S = 60
_FLASH_NS = 100_000_000


def draw_frames(simulation: Simulation, size_px: tuple[int, int]) -> list[Frame]:
    """Draw every frame: a player moved by W A S D, a crosshair moved by the mouse, a flash on clicks, a level set by the wheel.

    Returns:
        uint8 (height, width, 3) RGB per screen of the simulation.
    """
    width, height = size_px
    times = simulation.screen_ns
    aim = np.cumsum(simulation.raw_table[:, :2], axis=0) // 8
    turns = np.where(simulation.raw_data >= 0x8000, -1, 1) * (simulation.raw_table[:, 2] == WHEEL_FLAG)
    level = np.cumsum(turns)
    buttons = (simulation.raw_table[:, 2] > 0) & (simulation.raw_table[:, 2] < WHEEL_FLAG)
    click_ns = simulation.raw_ns[buttons]
    held = {vk: _held_at(simulation, vk, times) for vk in (VK_W, VK_A, VK_S, VK_D, VK_SPACE)}
    step = np.diff(times, prepend=times[:1]) * (_SPEED_PX_PER_S / 1e9)
    player_x = np.cumsum(step * (held[VK_D].astype(float) - held[VK_A])) + width / 2
    player_y = np.cumsum(step * (held[VK_S].astype(float) - held[VK_W])) + height / 2
    rows = np.searchsorted(simulation.raw_ns, times, side="right") - 1
    last_click = np.searchsorted(click_ns, times, side="right") - 1
    frames = []
    for index, pts_ns in enumerate(simulation.screen_pts_ns.tolist()):
        frame = np.full((height, width, 3), (18, 24, 38), np.uint8)
        frame[:: height // 6, :] = (32, 42, 62)
        frame[:, :: width // 8] = (32, 42, 62)
        color = (250, 210, 90) if held[VK_SPACE][index] else (90, 200, 120)
        _box(frame, player_x[index] % width, player_y[index] % (height - 20), 7, color)
        row = rows[index]
        if row >= 0:
            _cross(frame, (width // 2 + aim[row, 0]) % width, (height // 2 + aim[row, 1]) % (height - 20))
            _box(frame, width - 6, height / 2 - 3 * (level[row] % 15), 4, (120, 150, 250))
        if last_click[index] >= 0 and times[index] - click_ns[last_click[index]] < _FLASH_NS:
            frame[:4, :] = (240, 70, 70)
        write_time_code(frame, pts_ns)
        frames.append(frame)
    return frames


def _held_at(simulation: Simulation, vk: int, times: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    mine = simulation.key_vk == vk
    moments, pressed = simulation.key_ns[mine], simulation.key_pressed[mine]
    row = np.searchsorted(moments, times, side="right") - 1
    return (row >= 0) & pressed[row] if len(moments) else np.zeros(len(times), np.bool_)


def _box(frame: Frame, x: float, y: float, half_px: int, color: tuple[int, int, int]) -> None:
    left, top = max(int(x) - half_px, 0), max(int(y) - half_px, 0)
    frame[top : int(y) + half_px, left : int(x) + half_px] = color


def _cross(frame: Frame, x: int, y: int) -> None:
    frame[max(y - 5, 0) : y + 6, x] = (255, 255, 255)
    frame[y, max(x - 5, 0) : x + 6] = (255, 255, 255)


def write_time_code(frame: Frame, pts_ns: int) -> None:
    """Draw the frame's time, in whole milliseconds, as black and white cells along the lower edge, most significant bit first."""
    bits = (round(pts_ns / 1e6) >> np.arange(CODE_BITS - 1, -1, -1)) & 1
    cells = np.repeat(bits * 255, CODE_CELL_PX).astype(np.uint8)
    frame[-CODE_CELL_PX:, : len(cells)] = cells[None, :, None]


def read_time_code(frame: Frame) -> int:
    """Return the milliseconds that `write_time_code` drew into a frame, RGB or grey, at its own size."""
    grey = frame.reshape(*frame.shape[:2], -1)[..., 0]
    centers = np.arange(CODE_BITS) * CODE_CELL_PX + CODE_CELL_PX // 2
    bits = grey[-CODE_CELL_PX // 2, centers] > 127
    return int((bits * (1 << np.arange(CODE_BITS - 1, -1, -1))).sum())


def write_video(
    path: Path, frames: list[Frame], pts_ns: npt.NDArray[np.int64], *, max_b_frames: int = 0, keyframe_every: int = 60
) -> None:
    """Encode frames at their times. Deterministic (one thread). Odd sizes are stored with full colour, as 4:2:0 needs even ones.

    Args:
        path: The `.mkv` to write.
        frames: uint8 (height, width, 3) RGB.
        pts_ns: Time of each frame; stored in whole milliseconds.
        max_b_frames: B-frames between others; they are stored in another order than shown.
        keyframe_every: Frames from one keyframe to the next.
    """
    # Without `bitexact` Matroska gives each file a random id and names the library's version.
    with av.open(str(path), "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=60)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv444p" if stream.height % 2 or stream.width % 2 else "yuv420p"
        stream.time_base = stream.codec_context.time_base = _tick()
        stream.codec_context.thread_count = 1
        stream.codec_context.gop_size = keyframe_every
        stream.codec_context.max_b_frames = max_b_frames
        stream.options = {"crf": "23", "preset": "veryfast", "flags": "+bitexact"}
        for picture, time_ns in zip(frames, pts_ns.tolist(), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = round(time_ns * TICKS_PER_S / 1e9)
            frame.time_base = _tick()
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _tick() -> object:
    from fractions import Fraction

    return Fraction(1, TICKS_PER_S)
