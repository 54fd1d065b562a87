"""Message payloads: the JSON of every OWAMcap generation, decoded into columns or rewritten as the current messages.

Input: `Payloads` of one topic. Output: NumPy columns with a mask of what is valid, or payloads in today's form.

Generations, by what the recorder wrote (real files of each are in the tests):

    0.3.x   owa.env.gst.msg.ScreenEmitted {path, pts, utc_ns}, owa.env.desktop.msg.*
    0.4.x   desktop/* names, ScreenCaptured {path, pts, original_shape, shape, utc_ns}
    0.5.x   ScreenCaptured {media_ref: {uri, pts_ns}, source_shape, shape, utc_ns}; 0.6.x the same
"""

from __future__ import annotations

import itertools
from operator import attrgetter
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from owa_data.raw.decimal import decimal_text
from owa_data.raw.parsing import Alike, AlikePayloads, decode_payloads, split_alike
from owa_data.raw.payloads import PayloadPool, Payloads, Spans
from owa_data.raw.quoted import QuotedPayloads
from owa_data.raw.templates import TemplatePayloads

KEYBOARD = "desktop/KeyboardEvent"
MOUSE = "desktop/MouseEvent"
RAW_MOUSE = "desktop/RawMouseEvent"
SCREEN = "desktop/ScreenCaptured"
WINDOW = "desktop/WindowInfo"

_OLD_SCREEN_TYPES = ("owa.env.gst.msg.ScreenEmitted", "owa.env.gst.msg.ScreenCaptured")
_OLD_DESKTOP_PREFIX = "owa.env.desktop.msg."

MAX_INT32 = (1 << 31) - 1
Int32 = Annotated[int, msgspec.Meta(ge=-MAX_INT32 - 1, le=MAX_INT32)]
Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
MAX_BUTTON_FLAGS = 0xFFF
ButtonFlags = Annotated[int, msgspec.Meta(ge=0, le=MAX_BUTTON_FLAGS)]

MOVE_ABSOLUTE = 0x0001  # bit of us_flags: last_x, last_y are positions, not motion
WHEEL_FLAG, HORIZONTAL_WHEEL_FLAG = 0x400, 0x800
# Windows button flags of a raw mouse message, (down, up) by button name.
BUTTON_FLAGS = {
    "left": (0x001, 0x002),
    "right": (0x004, 0x008),
    "middle": (0x010, 0x020),
    "x1": (0x040, 0x080),
    "x2": (0x100, 0x200),
}
WHEEL_UNIT = 120  # one notch, WHEEL_DELTA of Windows

Bools = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]


class Keyboard(msgspec.Struct, gc=False):
    """`desktop/KeyboardEvent`. `vk` is a Windows virtual key code."""

    event_type: Literal["press", "release"]
    vk: Int32


class RawMouse(msgspec.Struct, gc=False):
    """`desktop/RawMouseEvent`, the fields that carry meaning."""

    last_x: Int32
    last_y: Int32
    us_flags: Int32 = 0
    button_flags: ButtonFlags = 0
    button_data: Int32 = 0


class Mouse(msgspec.Struct, gc=False):
    """`desktop/MouseEvent`: absolute position; `dx`, `dy` are scroll notches, up and right positive."""

    event_type: Literal["move", "click", "scroll"]
    x: Int32
    y: Int32
    button: str | None = None
    pressed: bool | None = None
    dx: Int32 | None = None
    dy: Int32 | None = None


class MediaReference(msgspec.Struct, gc=False, omit_defaults=True):
    """Where a frame lies: a path relative to the recording's folder (or `data:` URI), and its time in a video."""

    uri: str
    pts_ns: Int64 | None = None


class Screen(msgspec.Struct, gc=False):
    """`desktop/ScreenCaptured` as it is today."""

    media_ref: MediaReference
    utc_ns: Int64 | None = None
    source_shape: tuple[int, int] | None = None
    shape: tuple[int, int] | None = None


class _OldScreen(msgspec.Struct, gc=False):
    path: str
    pts: Int64 | None = None
    utc_ns: Int64 | None = None
    original_shape: tuple[int, int] | None = None
    shape: tuple[int, int] | None = None


class _NewScreen(msgspec.Struct, gc=False):
    """Written form of a screen: the fields of today in their order; unknown ones are left out."""

    utc_ns: int | msgspec.UnsetType
    source_shape: tuple[int, int] | msgspec.UnsetType
    shape: tuple[int, int] | msgspec.UnsetType
    media_ref: MediaReference


def current_type(message_type: str) -> str:
    """Return today's name of a message type of any generation; other names are returned as they are."""
    if message_type in _OLD_SCREEN_TYPES:
        return SCREEN
    if message_type.startswith(_OLD_DESKTOP_PREFIX):
        return "desktop/" + message_type.removeprefix(_OLD_DESKTOP_PREFIX)
    return message_type


def keyboard_columns(payloads: Payloads | QuotedPayloads) -> tuple[Int64s, Bools, Bools]:
    """Decode keyboard payloads into `vk` int64 and `pressed` bool of the valid ones, and the mask of valid payloads."""
    vk, pressed, valid, _ = _decode_keyboard(payloads)
    return vk, pressed, valid


def keyboard_rows(payloads: Payloads) -> tuple[Int64s, Bools, Bools, AlikePayloads]:
    """Decode keyboard payloads as `keyboard_columns` does; return besides what is alike in them."""
    vk, pressed, valid, groups = _decode_keyboard(payloads)
    return vk, pressed, valid, AlikePayloads(payloads, groups)


def _decode_keyboard(payloads: Payloads | QuotedPayloads) -> tuple[Int64s, Bools, Bools, list[Alike[Keyboard]]]:
    vk, pressed, valid = np.zeros(len(payloads), np.int64), np.zeros(len(payloads), np.bool_), np.zeros(len(payloads), np.bool_)
    groups, rest = split_alike(payloads, Keyboard, ("vk",))
    for group in groups:
        vk[group.rows] = group.integers.get("vk", group.message.vk)  # one key alone is part of the shape
        pressed[group.rows] = group.message.event_type == "press"
        valid[group.rows] = True
    rows, rest_valid = decode_payloads(payloads.take(rest), Keyboard)
    found = rest[rest_valid]
    vk[found] = np.fromiter((row.vk for row in rows), np.int64, len(rows))
    pressed[found] = np.fromiter((row.event_type == "press" for row in rows), np.bool_, len(rows))
    valid[found] = True
    return vk[valid], pressed[valid], valid, groups


def raw_mouse_columns(payloads: Payloads | QuotedPayloads) -> tuple[Int64s, Bools]:
    """Decode raw mouse payloads.

    Returns:
        int64 (m, 5): last_x, last_y, us_flags, button_flags, button_data of the valid payloads; and the mask of valid payloads.
    """
    table, valid, _ = _decode_raw_mouse(payloads)
    return table, valid


def raw_mouse_rows(payloads: Payloads) -> tuple[Int64s, Bools, AlikePayloads]:
    """Decode raw mouse payloads as `raw_mouse_columns` does; return besides what is alike in them."""
    table, valid, groups = _decode_raw_mouse(payloads)
    return table, valid, AlikePayloads(payloads, groups)


def _decode_raw_mouse(payloads: Payloads | QuotedPayloads) -> tuple[Int64s, Bools, list[Alike[RawMouse]]]:
    names = RawMouse.__struct_fields__
    columns, valid = np.zeros((len(names), len(payloads)), np.int64), np.zeros(len(payloads), np.bool_)
    groups, rest = split_alike(payloads, RawMouse, names)
    for group in groups:
        for column, name in zip(columns, names, strict=True):
            values = group.integers.get(name, getattr(group.message, name))
            if np.any(values):  # most of the time there is no button
                column[group.rows] = values
        flags = group.integers.get("button_flags", group.message.button_flags)
        valid[group.rows] = (flags >= 0) & (flags <= MAX_BUTTON_FLAGS)
    table = columns.T
    rows, rest_valid = decode_payloads(payloads.take(rest), RawMouse)
    fields = itertools.chain.from_iterable(map(attrgetter(*names), rows))
    table[rest[rest_valid]] = np.fromiter(fields, np.int64, len(names) * len(rows)).reshape(-1, len(names))
    valid[rest[rest_valid]] = True
    return (table if valid.all() else table[valid]), valid, groups


def decode_mouse(payloads: Payloads | QuotedPayloads) -> tuple[list[Mouse], Bools]:
    """Decode absolute mouse payloads: the valid ones, and the mask of valid payloads."""
    return decode_payloads(payloads, Mouse)


def write_raw_mouse(table: Int64s, times_ns: Int64s, pool: PayloadPool) -> TemplatePayloads:
    """Write raw mouse payloads as the current `RawMouseEvent` does.

    Args:
        table: int64 (n, 5): last_x, last_y, us_flags, button_flags, button_data.
        times_ns: int64 (n,), for the `timestamp` field.
        pool: Takes the integers.
    """
    texts, slots = ["{"], list[Spans]()
    for column, name in enumerate(RawMouse.__struct_fields__):
        values = table[:, column]
        texts[-1] += f'"{name}":'
        # Buttons are the same in all rows while the mouse only moves: one text for all.
        if len(values) and (values == values[0]).all():
            texts[-1] += f"{values[0]},"
        else:
            slots.append(pool.add_arrow(decimal_text(values)))
            texts.append(",")
    texts[-1] += '"device_handle":null,"timestamp":'
    slots.append(pool.add_arrow(decimal_text(times_ns)))
    return TemplatePayloads.of_one((*texts, "}"), slots, pool)


def write_keyboard(vk: Int64s, pressed: Bools, times_ns: Int64s, pool: PayloadPool) -> TemplatePayloads:
    """Write keyboard payloads as the current `KeyboardEvent` does; the pool takes the integers."""
    templates = tuple((f'{{"event_type":"{kind}","vk":', ',"timestamp":', "}") for kind in ("release", "press"))
    slots = np.array([pool.add_arrow(decimal_text(values)) for values in (vk, times_ns)])
    return TemplatePayloads((("", ""), *templates), 1 + pressed.astype(np.int64), slots, pool)


def normalize_screens(payloads: Payloads, message_type: str, pool: PayloadPool) -> tuple[TemplatePayloads, Bools]:
    """Bring screen payloads of one recorded type, which lie in a pool, into today's form.

    A payload of today's form is returned byte for byte; where its path has the backslashes of a Windows recorder, the path alone is another.

    Returns:
        The valid payloads in order, and the mask of valid payloads: those that reference a frame.
    """
    is_old = message_type in _OLD_SCREEN_TYPES
    if not is_old:
        groups, rest = split_alike(payloads, Screen)
        screens, valid = decode_payloads(payloads.take(rest), Screen)
        screens += [group.message for group in groups]
        if valid.all() and not any(_needs_slashes(screen.media_ref.uri) for screen in screens):
            return AlikePayloads(payloads, groups).as_templates(np.arange(len(payloads)), pool), np.ones(len(payloads), np.bool_)
    # Recorders of any age could write either form, so each payload is what it can be read as.
    forms: tuple[type[Screen | _OldScreen], ...] = (_OldScreen, Screen) if is_old else (Screen, _OldScreen)
    valid = np.zeros(len(payloads), np.bool_)
    rewritten: dict[int, bytes] = {}
    for form in forms:
        rest = np.flatnonzero(~valid)
        found, fits = decode_payloads(payloads.take(rest), form)
        for index, screen in zip(rest[fits].tolist(), found, strict=True):
            if isinstance(screen, _OldScreen):
                rewritten[index] = _write_screen(_from_old(screen))
            elif _needs_slashes(screen.media_ref.uri):
                rewritten[index] = _with_slashes(payloads[index], screen.media_ref.uri)
        valid[rest[fits]] = True
    kept = np.flatnonzero(valid)
    normal = payloads.take(kept)
    if rewritten:
        starts, ends = pool.add(Payloads.of([rewritten.get(index) or payloads[index] for index in kept.tolist()]))
        normal = Payloads(pool.octets, starts, ends)
    return TemplatePayloads.whole(normal, pool), valid


def _needs_slashes(uri: str) -> bool:
    return "\\" in uri and not uri.startswith("data:")


def _with_slashes(payload: bytes, uri: str) -> bytes:
    """Write a screen of today's form with another path; every other value stays as it was recorded, known to this project or not."""
    fields = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    media = msgspec.json.decode(fields["media_ref"], type=dict[str, msgspec.Raw])
    media["uri"] = msgspec.Raw(msgspec.json.encode(uri.replace("\\", "/")))
    fields["media_ref"] = msgspec.Raw(msgspec.json.encode(media))
    return msgspec.json.encode(fields)


def _from_old(screen: _OldScreen) -> Screen:
    return Screen(MediaReference(screen.path, screen.pts), screen.utc_ns, screen.original_shape, screen.shape)


def _write_screen(screen: Screen) -> bytes:
    uri = screen.media_ref.uri
    return msgspec.json.encode(
        _NewScreen(
            utc_ns=msgspec.UNSET if screen.utc_ns is None else screen.utc_ns,
            source_shape=msgspec.UNSET if screen.source_shape is None else screen.source_shape,
            shape=msgspec.UNSET if screen.shape is None else screen.shape,
            media_ref=MediaReference(uri.replace("\\", "/") if _needs_slashes(uri) else uri, screen.media_ref.pts_ns),
        )
    )
