"""Token ids or text back to events: rows of the `fsl` dataset, or a model's free output.

Image spans of any family are recognised, wrapped times unwrapped, broken spans reported with their position or raised.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from owa_data.encoding.decoded import UNKNOWN_SCREEN, Decoded, at_times
from owa_data.encoding.events import EventKind
from owa_data.encoding.pieces import IMAGE_PLACEHOLDER
from owa_data.encoding.registry import Encoder, create_encoder
from owa_data.encoding.token_text import TokenText
from owa_data.encoding.unwrap import Doubts, TimeHints, unwrap
from owa_data.errors import TokenizerError
from owa_data.fsl.families import image_pattern, image_run_pattern
from owa_data.fsl.saved_tokenizer import load_saved
from owa_data.store.dataset_folder import read_lineage

Int64s = npt.NDArray[np.int64]

_NO_HINTS = TimeHints()
# Half characters of UTF-8, as they come from ids that were cut.
_HALF_CHARACTERS = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class EventDecoder:
    """Decodes what one encoder writes.

    Attributes:
        encoder: The encoder.
        tokenizer: `tokenizers.Tokenizer` of the ids; None decodes text only.
        num_image_tokens: Ids of a whole image span; 0 takes any number.
        episode_starts_ns: Time of the first message by `episode_path`.
    """

    encoder: Encoder
    tokenizer: Any = None
    num_image_tokens: int = 0
    episode_starts_ns: Mapping[str, int] | None = None

    @staticmethod
    def from_dataset(folder: Path | str) -> EventDecoder:
        """Return the decoder of an `fsl` dataset's rows, with the tokenizer that is saved beside them.

        Raises:
            SchemaError: There is no such dataset.
            TokenizerError: Its tokenizer is missing.
        """
        lineage = read_lineage(folder, "fsl")
        encoder = create_encoder(lineage.params["encoder"], **lineage.params["encoder_options"])
        starts = {episode.episode_path: episode.start_ns for episode in lineage.episodes}
        return EventDecoder(encoder, load_saved(folder), lineage.facts["image"]["num_tokens"], starts)

    def decode_text(
        self, text: str, hints: TimeHints = _NO_HINTS, images: Sequence[str] = (), *, strict: bool = False
    ) -> Decoded:
        """Decode text; positions count its characters.

        Args:
            text: With images as placeholder, as the tokens of any family, or not at all.
            hints: What is known of the times.
            images: JSON of the images, in their order.
            strict: Raise the first broken span.

        Raises:
            DecodeError: A broken span, if `strict`.
        """
        return self._decode(TokenText.of(text), 0, hints, images, strict=strict)

    def decode_ids(
        self, ids: Sequence[int] | Int64s, hints: TimeHints = _NO_HINTS, images: Sequence[str] = (), *, strict: bool = False
    ) -> Decoded:
        """Decode token ids; positions count them. Arguments as `decode_text`.

        Raises:
            DecodeError: A broken span, if `strict`.
            TokenizerError: This decoder has no tokenizer.
        """
        known = np.array([id_ if 0 <= id_ < 1 << 32 else -1 for id_ in np.asarray(ids, object).tolist()], np.int64)
        text = _text_of_ids(self._token_bytes, known)
        return self._decode(text, self.num_image_tokens, hints, images, strict=strict)

    def decode_row(self, row: Mapping[str, Any], *, strict: bool = False) -> Decoded:
        """Decode a row of the `fsl` dataset, with the times that are stored in it.

        Raises:
            DecodeError: A broken span, if `strict`.
        """
        hints = TimeHints(
            start_ns=row["start_ns"],
            end_ns=row["end_ns"],
            positions=np.asarray(row["event_offsets"], np.int64),
            times_ns=np.asarray(row["event_timestamps_ns"], np.int64),
            episode_start_ns=(self.episode_starts_ns or {}).get(row["episode_path"]),
        )
        decoder = self
        kinds = set(row["event_kinds"])
        if self.encoder.name == "flat" and EventKind.MOUSE in kinds and EventKind.RAW_MOUSE not in kinds:
            decoder = replace(self, encoder=create_encoder("flat", absolute=True))
        return decoder.decode_ids(row["input_ids"][: row["num_tokens"]], hints, row["images"], strict=strict)

    def _decode(
        self, text: TokenText, num_image_tokens: int, hints: TimeHints, images: Sequence[str], *, strict: bool
    ) -> Decoded:
        decoded = self.encoder.decode(_collapse_images(text, num_image_tokens))
        if strict:
            decoded.raise_broken()
        times_ns, doubts = _absolute_times(decoded, hints)
        is_screen = decoded.events.kinds == EventKind.SCREEN
        events = at_times(decoded.events, times_ns, _images_of(text, decoded.positions[is_screen], images))
        return replace(decoded, events=events, doubts=doubts, clock="absolute")

    @cached_property
    def _token_bytes(self) -> _TokenBytes:
        if self.tokenizer is None:
            raise TokenizerError("ids need a tokenizer: use EventDecoder.from_dataset(folder), or decode text")
        return _TokenBytes(self.tokenizer)


def _absolute_times(decoded: Decoded, hints: TimeHints) -> tuple[Int64s, Doubts]:
    times_ns, positions = decoded.events.times_ns, decoded.positions
    if decoded.clock == "wrapped":
        return unwrap(times_ns, decoded.period_ns, positions, hints)
    if not len(positions):
        return times_ns, ()
    if decoded.clock == "since_start" and hints.episode_start_ns is not None:
        return times_ns + hints.episode_start_ns, ()
    if decoded.clock == "since_start":
        return times_ns, ((int(positions[0]), "no hint when the episode began: times count from its start"),)
    if len(hints.times_ns):
        return hints.time_at(positions), ()
    start_ns = hints.start_ns or 0
    return np.full(len(positions), start_ns), (
        (int(positions[0]), "the encoding carries no times: all events have the first one"),
    )


def _images_of(text: TokenText, screens: Int64s, images: Sequence[str]) -> list[str]:
    """Return the image of each screen: images belong to the spans in their order, broken ones included; without any span, to the screens."""
    spans = re.finditer(f"{IMAGE_PLACEHOLDER}|{image_run_pattern().pattern}", text.text)
    marks = np.array([text.positions[span.start()] for span in spans], np.int64)
    order = np.searchsorted(marks, screens) if len(marks) else np.arange(len(screens))
    return [images[index] if index < len(images) else UNKNOWN_SCREEN for index in order.tolist()]


def _collapse_images(text: TokenText, num_tokens: int) -> TokenText:
    """Write each image span, of any family, as one placeholder; spans of another length than `num_tokens`, unless 0, are left."""
    parts, positions, done = [], [], 0
    for match in image_pattern().finditer(text.text):
        start, end = text.span(*match.span())
        if num_tokens and end - start != num_tokens:
            continue
        parts += [text.text[done : match.start()], IMAGE_PLACEHOLDER]
        places = np.full(len(IMAGE_PLACEHOLDER), start)
        places[-1] = end - 1
        positions += [text.positions[done : match.start()], places]
        done = match.end()
    if not parts:
        return text
    return TokenText("".join([*parts, text.text[done:]]), np.concatenate([*positions, text.positions[done:]]))


class _TokenBytes:
    """The bytes of single tokens; characters may be spread over several tokens, so text of one token is not enough."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._added = {id_: token.content for id_, token in tokenizer.get_added_tokens_decoder().items()}
        self._is_byte_level = type(tokenizer.decoder).__name__ == "ByteLevel"
        self._known: dict[int, bytes] = {}

    def __getitem__(self, id_: int) -> bytes:
        if id_ not in self._known:
            self._known[id_] = self._bytes_of(id_)
        return self._known[id_]

    def _bytes_of(self, id_: int) -> bytes:
        if id_ in self._added:
            return str(self._added[id_]).encode()
        token = self._tokenizer.id_to_token(id_) if 0 <= id_ < 1 << 32 else None
        if token is None:
            return f"<unknown id {id_}>".encode()
        if not self._is_byte_level:
            return str(self._tokenizer.decode([id_], skip_special_tokens=False)).encode()
        return bytes(_BYTE_OF_CHARACTER.get(character, 0x3F) for character in token)


def _byte_alphabet() -> dict[str, int]:
    """The characters by which byte-level tokenizers write bytes: printable Latin-1 ones are themselves, the others follow U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + index): byte for index, byte in enumerate(others)}


_BYTE_OF_CHARACTER = _byte_alphabet()


def _text_of_ids(token_bytes: _TokenBytes, ids: Int64s) -> TokenText:
    parts = [token_bytes[id_] for id_ in ids.tolist()]
    text = b"".join(parts).decode("utf-8", "surrogateescape")
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    is_half = (points >= 0xDC80) & (points <= 0xDCFF)
    widths = np.where(is_half, 1, 1 + (points >= 0x80) + (points >= 0x800).astype(np.int64) + (points >= 0x10000))
    starts = np.cumsum(widths) - widths
    return TokenText(_HALF_CHARACTERS.sub("\ufffd", text), np.searchsorted(ends, starts, "right"))
