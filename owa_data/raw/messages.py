"""Message payloads: the JSON of every OWAMcap generation, decoded into columns or rewritten as the current messages.

Input: `Payloads` of one topic. Output: NumPy columns with a mask of what is valid, or payloads in today's form.

Generations, by what the recorder wrote (real files of each are in the tests):

    0.3.x   owa.env.gst.msg.ScreenEmitted {path, pts, utc_ns}, owa.env.desktop.msg.*
    0.4.x   desktop/* names, ScreenCaptured {path, pts, original_shape, shape, utc_ns}
    0.5.x   ScreenCaptured {media_ref: {uri, pts_ns}, source_shape, shape, utc_ns}; 0.6.x the same
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from owa_data.raw.decimal import decimal_text
from owa_data.raw.integers import fixed_shape, match_shape
from owa_data.raw.payloads import Payloads, offsets_of
from owa_data.raw.quoted import QuotedPayloads

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


_MAX_SHAPES = 6  # of one topic: presses and releases; moves, clicks and wheel, as recorded and as written by `write_raw_mouse`
_MIN_ALIKE = 32  # for fewer payloads a parser is as fast
_NUM_SAMPLES = 8

# JSON nested a thousand deep ends in RecursionError.
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

S = TypeVar("S")


def current_type(message_type: str) -> str:
    """Return today's name of a message type of any generation; other names are returned as they are."""
    if message_type in _OLD_SCREEN_TYPES:
        return SCREEN
    if message_type.startswith(_OLD_DESKTOP_PREFIX):
        return "desktop/" + message_type.removeprefix(_OLD_DESKTOP_PREFIX)
    return message_type


def decode_payloads(payloads: Payloads | QuotedPayloads, form: type[S]) -> tuple[list[S], Bools]:
    """Decode JSON payloads of one form.

    Returns:
        The decoded messages of the valid payloads, in order, and a mask bool (n,) of which payloads are valid: JSON of this form, and UTF-8 as a
        whole (parsers do not look into strings that they skip).
    """
    num_payloads = len(payloads)
    if not num_payloads:
        return [], np.zeros(0, np.bool_)
    payloads = payloads.plain()
    decoder = msgspec.json.Decoder(form)
    # One call for all. The parser does not insist on one value per line. But where each payload begins and ends as an object does, and none holds a
    # newline, no value reaches over two of them, so that n values are one of each.
    if _look_like_objects(payloads) and (joined := _join_lines(payloads)).count(b"\n") == num_payloads and _is_utf8(joined):
        try:
            rows = decoder.decode_lines(joined)
        except _UNDECODABLE:
            rows = []
        if len(rows) == num_payloads:
            return rows, np.ones(num_payloads, np.bool_)
    valid = np.zeros(num_payloads, np.bool_)
    rows = []
    for index, payload in enumerate(payloads.to_pylist()):
        try:
            row = decoder.decode(payload)
            payload.decode()
        except _UNDECODABLE:
            continue
        rows.append(row)
        valid[index] = True
    return rows, valid


def _look_like_objects(payloads: Payloads) -> bool:
    octets, starts, ends = payloads.octets, payloads.starts, payloads.ends
    return bool(np.all(ends > starts) and np.all(octets[starts] == ord("{")) and np.all(octets[ends - 1] == ord("}")))


def _join_lines(payloads: Payloads) -> bytes:
    import pyarrow.compute as pc  # takes 40 ms, which stage raw does without

    nothing, newline = (pa.scalar(separator, pa.large_binary()) for separator in (b"", b"\n"))
    lines = pc.binary_join_element_wise(payloads.to_arrow(), nothing, newline)
    offsets = offsets_of(lines)
    return memoryview(lines.buffers()[2])[offsets[0] : offsets[-1]].tobytes()


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_json(payloads: Payloads) -> Bools:
    """Mask bool (n,) of the payloads that are JSON in UTF-8."""
    return decode_payloads(payloads, msgspec.Raw)[1]


@dataclass(frozen=True)
class _Alike(Generic[S]):
    """Payloads `rows`, int64 (m,), that say what `message` says, but for the integers of the fields that vary, int64 (m,) each."""

    rows: Int64s
    message: S
    integers: dict[str, Int64s]


def _split_alike(payloads: Payloads | QuotedPayloads, form: type[S], names: Sequence[str] = ()) -> tuple[list[_Alike[S]], Int64s]:
    """Find payloads that are alike but for their integers, without parsing each.

    Args:
        payloads: n of them.
        form: What they should be.
        names: Integer fields whose values are wanted, where they vary. Only flat objects are matched where there are any.

    Returns:
        The groups found, all of valid messages where the values of `names` are within the form's bounds; and the other payloads,
        int64, of which nothing is known.
    """
    groups: list[_Alike[S]] = []
    others: list[Int64s] = []
    rest = np.arange(len(payloads))
    wanted = {name.encode() for name in names}
    for _ in range(_MAX_SHAPES):
        if len(rest) < _MIN_ALIKE:
            break
        samples = payloads.take(rest[:: len(rest) // _NUM_SAMPLES]).to_pylist()
        try:
            message = msgspec.json.decode(samples[0], type=form)
        except _UNDECODABLE:
            shape = None
        else:
            shape = fixed_shape(samples, wanted)
        if shape is None or (names and not (shape.is_flat and len(set(shape.keys)) == len(shape.keys))):
            others.append(rest[:1])  # one odd payload says nothing of the rest
            rest = rest[1:]
            continue
        keys = [name for name in names if name.encode() in shape.keys]
        stored = shape.quoted() if isinstance(payloads, QuotedPayloads) else shape
        matches, values = match_shape(payloads.stored.take(rest), stored, tuple(key.encode() for key in keys))
        if matches.any():
            groups.append(_Alike(rest[matches], message, dict(zip(keys, values, strict=True))))
        else:  # as at the very end of the buffer
            others.append(rest[:1])
            matches[0] = True
        rest = rest[~matches]
    return groups, np.concatenate([*others, rest])


def keyboard_columns(payloads: Payloads | QuotedPayloads) -> tuple[Int64s, Bools, Bools]:
    """Decode keyboard payloads into `vk` int64 and `pressed` bool of the valid ones, and the mask of valid payloads."""
    vk, pressed, valid = np.zeros(len(payloads), np.int64), np.zeros(len(payloads), np.bool_), np.zeros(len(payloads), np.bool_)
    groups, rest = _split_alike(payloads, Keyboard, ("vk",))
    for group in groups:
        vk[group.rows] = group.integers.get("vk", group.message.vk)  # one key alone is part of the shape
        pressed[group.rows] = group.message.event_type == "press"
        valid[group.rows] = True
    rows, rest_valid = decode_payloads(payloads.take(rest), Keyboard)
    found = rest[rest_valid]
    vk[found] = np.fromiter((row.vk for row in rows), np.int64, len(rows))
    pressed[found] = np.fromiter((row.event_type == "press" for row in rows), np.bool_, len(rows))
    valid[found] = True
    return vk[valid], pressed[valid], valid


def raw_mouse_columns(payloads: Payloads | QuotedPayloads) -> tuple[Int64s, Bools]:
    """Decode raw mouse payloads.

    Returns:
        int64 (m, 5): last_x, last_y, us_flags, button_flags, button_data of the valid payloads; and the mask of valid payloads.
    """
    names = RawMouse.__struct_fields__
    columns, valid = np.zeros((len(names), len(payloads)), np.int64), np.zeros(len(payloads), np.bool_)
    groups, rest = _split_alike(payloads, RawMouse, names)
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
    return (table if valid.all() else table[valid]), valid


def decode_mouse(payloads: Payloads | QuotedPayloads) -> tuple[list[Mouse], Bools]:
    """Decode absolute mouse payloads: the valid ones, and the mask of valid payloads."""
    return decode_payloads(payloads, Mouse)


def write_raw_mouse(table: Int64s, times_ns: Int64s) -> pa.LargeStringArray:
    """Write raw mouse payloads as the current `RawMouseEvent` does.

    Args:
        table: int64 (n, 5): last_x, last_y, us_flags, button_flags, button_data.
        times_ns: int64 (n,), for the `timestamp` field.
    """
    parts: list[Any] = []
    for column, name in enumerate(RawMouse.__struct_fields__):
        values = table[:, column]
        # Buttons are the same in all rows while the mouse only moves: one text for all.
        is_constant = len(values) > 0 and bool((values == values[0]).all())
        parts += [f'{"," if column else "{"}"{name}":', str(values[0]) if is_constant else decimal_text(values)]
    parts += [',"device_handle":null,"timestamp":', decimal_text(times_ns), "}"]
    return _joined(parts)


def write_keyboard(vk: Int64s, pressed: Bools, times_ns: Int64s) -> pa.LargeStringArray:
    """Write keyboard payloads as the current `KeyboardEvent` does."""
    kinds = pa.array(["release", "press"], pa.large_string()).take(pa.array(pressed.astype(np.int64)))
    parts = ['{"event_type":"', kinds, '","vk":', decimal_text(vk), ',"timestamp":', decimal_text(times_ns), "}"]
    return _joined(parts)


def _joined(parts: Sequence[str | pa.LargeStringArray]) -> pa.LargeStringArray:
    import pyarrow.compute as pc  # see _join_lines

    merged: list[Any] = []
    for is_text, run in itertools.groupby(parts, key=lambda part: isinstance(part, str)):
        columns = list(run)
        merged += [pa.scalar("".join(columns), pa.large_string())] if is_text else columns  # each takes 10 ns per row
    return pc.binary_join_element_wise(*merged, pa.scalar("", pa.large_string()))


def normalize_screens(payloads: Payloads, message_type: str) -> tuple[Payloads, Bools]:
    """Bring screen payloads of one recorded type into today's form.

    A payload of today's form is returned byte for byte; where its path has the backslashes of a Windows recorder, the path alone is another.

    Returns:
        The valid payloads in order, and the mask of valid payloads: those that reference a frame.
    """
    is_old = message_type in _OLD_SCREEN_TYPES
    if not is_old:
        groups, rest = _split_alike(payloads, Screen)
        screens, valid = decode_payloads(payloads.take(rest), Screen)
        screens += [group.message for group in groups]
        if valid.all() and not any(_needs_slashes(screen.media_ref.uri) for screen in screens):
            return payloads, np.ones(len(payloads), np.bool_)
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
    if not rewritten:
        return payloads.take(kept), valid
    return Payloads.of([rewritten.get(index) or payloads[index] for index in kept.tolist()]), valid


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
