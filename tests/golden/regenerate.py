"""Golden output of one toy episode, from recording to token rows.

    python -m tests.golden.regenerate     (make golden)

Rerun it when output bytes are meant to change, look at the diff, and say so under Data in CHANGELOG.md.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pyarrow as pa

from owa_data.encoding.pieces import PieceTable
from owa_data.encoding.registry import ENCODERS, create_encoder
from owa_data.event.convert import convert_recording
from owa_data.fsl.convert import convert_events
from owa_data.fsl.extend import extend_tokenizer
from owa_data.fsl.families import image_span
from owa_data.fsl.tokenizer import load_tokenizer
from owa_data.params import EventParams, FslParams, ImageParams, TokenizerParams
from owa_data.store.source import MemorySource
from tests.conftest import write_toy

FOLDER = Path(__file__).parent
SEED = 5
TOKENIZER = TokenizerParams(
    name="byte",
    source="built_in",
    pad_token="<|endoftext|>",
    image=ImageParams(family="plain", image_size_px=(448, 448), processor={"image_seq_length": 4}),
)


def make_events() -> pa.Table:
    """Event rows of the toy episode at default params."""
    with tempfile.TemporaryDirectory() as folder:
        content = write_toy(Path(folder), "toy.mcap", SEED).read_bytes()
    batches, _ = convert_recording(MemorySource("toy.mcap", content), "toy.mcap", EventParams(), trust="nothing")
    return pa.Table.from_batches(list(batches))


def describe_events(events: pa.Table) -> str:
    """One line per event."""
    names = ("topic", "timestamp_ns", "message_type", "mcap_message", "interval_index")
    rows = zip(*(events[name].to_pylist() for name in names), strict=True)
    return "".join(json.dumps([part.decode() if isinstance(part, bytes) else part for part in row]) + "\n" for row in rows)


def describe_rows(events: pa.Table, encoder_name: str) -> str:
    """One line per token row: its ids without padding, and its text."""
    encoder = create_encoder(encoder_name)
    extended = extend_tokenizer(load_tokenizer(TOKENIZER), encoder.vocabulary, image_span(TOKENIZER.image))
    params = FslParams(max_sequence_length=512, encoder=encoder_name, time_shift_seconds_for_action=0.1)
    batches, _ = convert_events(
        events,
        "toy.mcap",
        params,
        encoder,
        lambda pieces: PieceTable.from_ids(pieces, extended.ids_of_pieces(pieces), extended.pad_token_id),
    )
    rows = pa.Table.from_batches(list(batches)).to_pylist()
    return "".join(json.dumps([row["texts"], row["input_ids"][: row["num_tokens"]]]) + "\n" for row in rows[:6])


def make_all() -> dict[str, str]:
    """Content of every golden file, by name."""
    events = make_events()
    return {
        "toy_events.jsonl": describe_events(events),
        **{f"toy_{name}.jsonl": describe_rows(events, name) for name in ENCODERS},
    }


if __name__ == "__main__":
    for name, content in make_all().items():
        (FOLDER / name).write_text(content)
