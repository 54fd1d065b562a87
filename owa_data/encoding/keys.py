"""Names of keys: one table for both directions.

Codes are the virtual key codes of Windows. Letters and digits are themselves in lower case, others have their usual name, and codes
without a name are `vk_<n>`.
"""

from __future__ import annotations

NUM_KEYS = 256

_NAMED = {
    0x08: "backspace",
    0x09: "tab",
    0x0C: "clear",
    0x0D: "enter",
    0x10: "shift",
    0x11: "ctrl",
    0x12: "alt",
    0x13: "pause",
    0x14: "caps_lock",
    0x15: "hangul",
    0x19: "hanja",
    0x1B: "escape",
    0x1C: "convert",
    0x1D: "nonconvert",
    0x20: "space",
    0x21: "page_up",
    0x22: "page_down",
    0x23: "end",
    0x24: "home",
    0x25: "arrow_left",
    0x26: "arrow_up",
    0x27: "arrow_right",
    0x28: "arrow_down",
    0x29: "select",
    0x2A: "print",
    0x2B: "execute",
    0x2C: "print_screen",
    0x2D: "insert",
    0x2E: "delete",
    0x2F: "help",
    0x5B: "left_windows",
    0x5C: "right_windows",
    0x5D: "menu",
    0x5F: "sleep",
    0x6A: "numpad_multiply",
    0x6B: "numpad_add",
    0x6C: "numpad_separator",
    0x6D: "numpad_subtract",
    0x6E: "numpad_decimal",
    0x6F: "numpad_divide",
    0x90: "num_lock",
    0x91: "scroll_lock",
    0xA0: "left_shift",
    0xA1: "right_shift",
    0xA2: "left_ctrl",
    0xA3: "right_ctrl",
    0xA4: "left_alt",
    0xA5: "right_alt",
    0xA6: "browser_back",
    0xA7: "browser_forward",
    0xA8: "browser_refresh",
    0xA9: "browser_stop",
    0xAA: "browser_search",
    0xAB: "browser_favorites",
    0xAC: "browser_home",
    0xAD: "volume_mute",
    0xAE: "volume_down",
    0xAF: "volume_up",
    0xB0: "media_next",
    0xB1: "media_previous",
    0xB2: "media_stop",
    0xB3: "media_play_pause",
    0xB4: "launch_mail",
    0xB5: "launch_media",
    0xB6: "launch_app_1",
    0xB7: "launch_app_2",
    0xBA: "semicolon",
    0xBB: "equals",
    0xBC: "comma",
    0xBD: "minus",
    0xBE: "period",
    0xBF: "slash",
    0xC0: "backquote",
    0xDB: "left_bracket",
    0xDC: "backslash",
    0xDD: "right_bracket",
    0xDE: "quote",
    0xE2: "oem_102",
}


def _name(vk: int) -> str:
    if 0x30 <= vk <= 0x39 or 0x41 <= vk <= 0x5A:
        return chr(vk).lower()
    if 0x60 <= vk <= 0x69:
        return f"numpad_{vk - 0x60}"
    if 0x70 <= vk <= 0x87:
        return f"f{vk - 0x6F}"
    return _NAMED.get(vk, f"vk_{vk}")


KEY_NAMES: tuple[str, ...] = tuple(_name(vk) for vk in range(NUM_KEYS))
"""Name of each key code 0..255; all are distinct."""

KEY_CODES: dict[str, int] = {name: vk for vk, name in enumerate(KEY_NAMES)}
"""Key code of each name: the inverse of `KEY_NAMES`."""
