"""A person plays: keys, mouse and screens over time, as columns.

Input: `SimulationParams` and a seed. Output: `Simulation`. Vectorized, so that hours are made in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from owa_data.raw.messages import BUTTON_FLAGS, WHEEL_FLAG, WHEEL_UNIT

Int64s = npt.NDArray[np.int64]

NS_PER_S = 1_000_000_000
VK_W, VK_A, VK_S, VK_D, VK_SPACE, VK_SHIFT = 0x57, 0x41, 0x53, 0x44, 0x20, 0xA0
PLAYED_KEYS = np.array([VK_W, VK_A, VK_S, VK_D, VK_SPACE, VK_SHIFT])
_REPEAT_DELAY_NS, _REPEAT_PERIOD_NS = 500_000_000, 33_000_000  # as Windows repeats held keys


@dataclass(frozen=True)
class SimulationParams:
    """How much is played, and what the recorder sees of it. Rates are while active, in Hz.

    `mouse_per_raw` absolute `mouse` messages are recorded per raw one (4.4 in D2E). `idle_share` of the time nothing is pressed or moved, in
    gaps of up to `max_idle_s`. `num_bursts` stretches of half a second have raw motion at 1 kHz.
    """

    duration_s: float = 22.0
    start_ns: int = 1_750_000_000_000_000_000
    screen_hz: float = 60.0
    raw_hz: float = 120.0
    mouse_per_raw: float = 1.0
    keys_hz: float = 1.2
    clicks_hz: float = 1.0
    wheel_hz: float = 0.4
    idle_share: float = 0.25
    max_idle_s: float = 6.5
    num_bursts: int = 1
    state_hz: float = 1.0


@dataclass(frozen=True)
class Simulation:
    """What was played; all times are int64 ns and ascending within a topic.

    Attributes:
        screen_ns: When each frame was captured.
        screen_pts_ns: Its time in the video; truncated to whole ns as recorders do.
        key_ns: When each key message was seen, with `key_vk` and `key_pressed`.
        raw_ns: When each raw mouse message was seen; `raw_table` int64 (n, 3): dx, dy, button flags, and `raw_data` the wheel's data.
        mouse_ns: When each absolute mouse message was seen; `mouse_xy` its position.
        state_ns: When window and device states were sampled.
    """

    screen_ns: Int64s
    screen_pts_ns: Int64s
    key_ns: Int64s
    key_vk: Int64s
    key_pressed: npt.NDArray[np.bool_]
    raw_ns: Int64s
    raw_table: Int64s
    raw_data: Int64s
    mouse_ns: Int64s
    mouse_xy: Int64s
    state_ns: Int64s


def simulate(params: SimulationParams, seed: int) -> Simulation:
    """Play one episode."""
    rng = np.random.default_rng(seed)
    active = _active_stretches(rng, params)
    screen_pts_ns = _frame_times(rng, params)
    key_ns, key_vk, key_pressed = _keys(rng, params, active)
    raw_ns, raw_table, raw_data = _raw_mouse(rng, params, active)
    mouse_ns, mouse_xy = _absolute_mouse(params, raw_ns, raw_table)
    start = params.start_ns
    return Simulation(
        screen_ns=start + screen_pts_ns + rng.integers(50_000, 900_000, len(screen_pts_ns)),
        screen_pts_ns=screen_pts_ns,
        key_ns=start + key_ns,
        key_vk=key_vk,
        key_pressed=key_pressed,
        raw_ns=start + raw_ns,
        raw_table=raw_table,
        raw_data=raw_data,
        mouse_ns=start + mouse_ns,
        mouse_xy=mouse_xy,
        state_ns=start + np.arange(0, int(params.duration_s * NS_PER_S), int(NS_PER_S / params.state_hz)),
    )


def _active_stretches(rng: np.random.Generator, params: SimulationParams) -> Int64s:
    """Half-open stretches of play, int64 (k, 2), in ns from the start; the gaps between them are idle."""
    mean_idle_s = 0.3 + params.max_idle_s / 2
    mean_active_s = mean_idle_s * (1 - params.idle_share) / max(params.idle_share, 1e-3)
    count = int(params.duration_s / (mean_idle_s + mean_active_s)) + 2
    lengths = np.empty(2 * count)
    lengths[0::2] = rng.uniform(0.5, 1.5, count) * mean_active_s
    lengths[1::2] = rng.uniform(0.3, params.max_idle_s, count)
    edges = np.concatenate([[0], np.cumsum(lengths)])
    stretches = (np.stack([edges[0:-1:2], edges[1::2]], axis=1) * NS_PER_S).astype(np.int64)
    stretches = np.minimum(stretches, int(params.duration_s * NS_PER_S))
    return stretches[stretches[:, 0] < stretches[:, 1]]


def _is_inside(times_ns: Int64s, stretches: Int64s) -> npt.NDArray[np.bool_]:
    index = np.searchsorted(stretches[:, 0], times_ns, side="right") - 1
    return (index >= 0) & (times_ns < stretches[index, 1])


def _frame_times(rng: np.random.Generator, params: SimulationParams) -> Int64s:
    """Variable frame times: multiples of the display's period, some frames dropped."""
    number = np.arange(int(params.duration_s * params.screen_hz))
    shown = np.concatenate([[True], rng.random(len(number) - 1) > 0.04])
    return (number[shown] * int(NS_PER_S * 1000 / params.screen_hz)) // 1000


def _poisson(rng: np.random.Generator, rate_hz: float, params: SimulationParams, active: Int64s) -> Int64s:
    count = rng.poisson(rate_hz * params.duration_s)
    times = np.sort(rng.integers(0, int(params.duration_s * NS_PER_S), count))
    return times[_is_inside(times, active)]


def _keys(rng: np.random.Generator, params: SimulationParams, active: Int64s) -> tuple[Int64s, Int64s, npt.NDArray[np.bool_]]:
    presses = _poisson(rng, params.keys_hz, params, active)
    vk = PLAYED_KEYS[rng.integers(0, len(PLAYED_KEYS), len(presses))]
    held_ns = (rng.lognormal(-1.2, 0.9, len(presses)) * NS_PER_S).astype(np.int64) + 30_000_000
    releases = np.minimum(presses + held_ns, int(params.duration_s * NS_PER_S) - 1)
    # One key cannot be pressed again before it is released.
    for key in PLAYED_KEYS:
        mine = np.flatnonzero(vk == key)
        releases[mine[:-1]] = np.minimum(releases[mine[:-1]], presses[mine[1:]] - 1)
    num_repeats = np.maximum((releases - presses - _REPEAT_DELAY_NS) // _REPEAT_PERIOD_NS, 0)
    source = np.repeat(np.arange(len(presses)), num_repeats)
    nth = np.arange(len(source)) - np.repeat(np.cumsum(num_repeats) - num_repeats, num_repeats)
    repeats = presses[source] + _REPEAT_DELAY_NS + nth * _REPEAT_PERIOD_NS
    times = np.concatenate([presses, repeats, releases])
    keys = np.concatenate([vk, vk[source], vk])
    pressed = np.arange(len(times)) < len(presses) + len(repeats)
    order = np.lexsort((~pressed, times))
    return times[order], keys[order], pressed[order]


def _raw_mouse(rng: np.random.Generator, params: SimulationParams, active: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    period_ns = int(NS_PER_S / params.raw_hz)
    steady = np.arange(0, int(params.duration_s * NS_PER_S), period_ns)
    steady = steady + rng.integers(0, period_ns // 2, len(steady))
    steady = steady[_is_inside(steady, active) & (rng.random(len(steady)) < 0.85)]
    starts = rng.integers(0, max(int((params.duration_s - 1) * NS_PER_S), 1), params.num_bursts)
    bursts = (starts[:, None] + np.arange(500) * 1_000_000).ravel()
    moves = np.unique(np.concatenate([steady, bursts]))
    swing = np.sin(moves / (0.7 * NS_PER_S)) * 6
    motion = np.stack(
        [swing + rng.normal(0, 4, len(moves)), np.cos(moves / (1.1 * NS_PER_S)) * 3 + rng.normal(0, 2, len(moves))], 1
    )
    clicks = _poisson(rng, params.clicks_hz, params, active)
    down, up = np.array([BUTTON_FLAGS["left"], BUTTON_FLAGS["right"]])[(rng.random(len(clicks)) < 0.2).astype(np.int64)].T
    wheels = _poisson(rng, params.wheel_hz, params, active)
    data = np.where(rng.random(len(wheels)) < 0.5, WHEEL_UNIT, 0x10000 - WHEEL_UNIT)
    times = np.concatenate([moves, clicks, clicks + rng.integers(40_000_000, 160_000_000, len(clicks)), wheels])
    table = np.zeros((len(times), 4), np.int64)
    table[: len(moves), :2] = np.rint(motion)
    ends = np.cumsum([len(moves), len(clicks), len(clicks), len(wheels)])
    table[ends[0] : ends[1], 2], table[ends[1] : ends[2], 2], table[ends[2] :, 2] = down, up, WHEEL_FLAG
    table[ends[2] :, 3] = data
    order = np.argsort(times, kind="stable")
    return times[order], table[order, :3], table[order, 3]


def _absolute_mouse(params: SimulationParams, raw_ns: Int64s, raw_table: Int64s) -> tuple[Int64s, Int64s]:
    """Positions that follow the raw motion, folded back at the desktop's edges."""
    copies = int(np.ceil(params.mouse_per_raw)) if params.mouse_per_raw else 0
    if not copies:
        return np.empty(0, np.int64), np.empty((0, 2), np.int64)
    position = np.cumsum(raw_table[:, :2], axis=0) + np.array([960, 540])
    size = np.array([1920, 1080])
    folded = np.abs((position + size) % (2 * size) - size)
    source = np.flatnonzero(np.diff(np.floor(np.arange(len(raw_ns) + 1) * params.mouse_per_raw)) > 0)
    repeats = np.diff(np.floor(np.arange(len(raw_ns) + 1) * params.mouse_per_raw)).astype(np.int64)[source]
    nth = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    rows = np.repeat(source, repeats)
    return raw_ns[rows] + 20_000 + nth * 150_000, np.minimum(folded[rows], size - 1)
