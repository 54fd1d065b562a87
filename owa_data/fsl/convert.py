"""The events of one episode to its token rows.

Input: rows of the event dataset. Output: record batches of `FSL_SCHEMA` and a ledger. Ids and texts are both one `take` of the same piece
codes; ids are made batch by batch, so that they are never held as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from owa_data.encoding.events import EventKind, Events, read_events
from owa_data.encoding.pieces import EncodedEvents, PieceTable, gather, separated, take_runs
from owa_data.encoding.registry import Encoder
from owa_data.errors import EpisodeError
from owa_data.fsl.pack import Packing, pack_events
from owa_data.params import FslParams
from owa_data.schema import FSL_SCHEMA
from owa_data.store.ledger import Counts, topic_counts
from owa_data.store.shards import batch_bounds

Int64s = npt.NDArray[np.int64]

IDS_PER_BATCH = 1 << 20
NUM_FILL_BINS = 20


@dataclass(frozen=True)
class EncodedEpisode:
    """Everything that rows are cut from.

    Attributes:
        events: All events.
        encoded: Their pieces, as they stand after another one.
        table: Ids of the pieces.
        num_tokens: Per encoded event, int64 (m,).
        first_shift: A row's first piece has the code that stands in `encoded` minus this: no separator comes before it.
    """

    events: Events
    encoded: EncodedEvents
    table: PieceTable
    num_tokens: Int64s
    first_shift: int


def convert_events(
    rows: pa.Table,
    episode_path: str,
    params: FslParams,
    encoder: Encoder,
    table_of: Callable[[Sequence[str]], PieceTable],
    start_ns: int = 0,
) -> tuple[Iterator[pa.RecordBatch], Counts]:
    """Convert the event rows of one episode.

    Args:
        rows: All rows of the episode, in time order.
        episode_path: What the rows carry as `episode_path`.
        params: The stage's params.
        encoder: The encoder that `params.encoder` names.
        table_of: Gives the ids of pieces; asked once.
        start_ns: Time of the episode's first message.

    Returns:
        Record batches, made as they are asked for, and the ledger.

    Raises:
        EpisodeError: An event is longer than a row and `params.on_too_long` is `error`.
    """
    events = read_events(rows, start_ns)
    encoded = encoder.encode(events)
    num_pieces = len(encoded.pieces)
    table = table_of([*encoded.pieces, *separated(encoded.pieces, encoded.separator)])
    first_shift, capacity = 0, params.max_sequence_length
    if encoded.separator:
        # A piece can have more ids without the separator before it (" KEY" is one token, "KEY" two): a row keeps that much free.
        first_shift = num_pieces
        encoded = replace(encoded, codes=encoded.codes + first_shift)
        capacity -= max(0, int((table.num_ids[:num_pieces] - table.num_ids[num_pieces:]).max(initial=0)))
    ids_before = np.concatenate([[0], np.cumsum(table.num_ids[encoded.codes])])
    num_tokens = np.diff(ids_before[encoded.offsets])
    fits = num_tokens <= capacity
    if not fits.all() and params.on_too_long == "error":
        longest = int(num_tokens.max())
        raise EpisodeError(
            episode_path,
            f"an event has {longest} tokens, more than fsl.max_sequence_length = {params.max_sequence_length}. "
            "Raise it, choose a tokenizer with a shorter image span, or set fsl.on_too_long=drop to leave such events out.",
        )
    fitting = np.flatnonzero(fits)
    sources = encoded.sources[fitting]
    is_action = _are_of_topics(events, params.action_topics)[sources]
    packing = pack_events(
        num_tokens[fitting],
        events.times_ns[sources],
        events.interval_index[sources],
        is_action,
        events.kinds[sources] == EventKind.SCREEN,
        params.model_copy(update={"max_sequence_length": capacity}),
    )
    # From here on events are named by their place among the encoded ones.
    packing = Packing(fitting[packing.order], packing.row_offsets, packing.dropped, packing.dropped_rows)
    episode = EncodedEpisode(events, encoded, table, num_tokens, first_shift)
    ledger = _ledger(episode, packing, params, too_long=len(fits) - len(fitting))
    return _iter_batches(episode, packing, episode_path, params), ledger


def _are_of_topics(events: Events, topics: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    wanted = np.array([name in topics for name in events.topics.dictionary.to_pylist()], np.bool_)
    return wanted[events.topics.indices.to_numpy()]


def _iter_batches(episode: EncodedEpisode, packing: Packing, episode_path: str, params: FslParams) -> Iterator[pa.RecordBatch]:
    sources = episode.encoded.sources[packing.order]
    payloads = episode.events.payloads.stored
    image_bytes = np.where(episode.events.kinds == EventKind.SCREEN, payloads.ends - payloads.starts, 0)[sources]
    before = np.concatenate([[0], np.cumsum(image_bytes)])[packing.row_offsets]
    for first, stop in batch_bounds(np.diff(before), max(1, IDS_PER_BATCH // params.max_sequence_length)):
        offsets = packing.row_offsets[first : stop + 1]
        order = packing.order[offsets[0] : offsets[-1]]
        yield _make_batch(episode, order, offsets - offsets[0], episode_path, params)


def _make_batch(
    episode: EncodedEpisode, order: Int64s, row_offsets: Int64s, episode_path: str, params: FslParams
) -> pa.RecordBatch:
    """Make rows of the events `order`; row r holds `order[row_offsets[r]:row_offsets[r + 1]]`."""
    num_rows, length = len(row_offsets) - 1, params.max_sequence_length
    codes, code_offsets = take_runs(episode.encoded.codes, episode.encoded.offsets, order)
    codes[code_offsets[row_offsets[:-1]]] -= episode.first_shift
    ids_before = np.concatenate([[0], np.cumsum(_num_tokens_in_rows(episode, order, row_offsets))])
    row_ids = ids_before[row_offsets]
    num_tokens = np.diff(row_ids)
    input_ids = episode.table.take_padded_ids(codes, code_offsets[row_offsets[1:]], length - num_tokens)
    attention_mask = (np.arange(length, dtype=np.int32) < num_tokens.astype(np.int32)[:, None]).view(np.uint8)
    if params.write_texts:
        texts = gather(episode.table.texts, codes, code_offsets[row_offsets]).cast(pa.string())
    else:
        texts = pa.repeat(pa.scalar("", pa.string()), num_rows)
    sources = episode.encoded.sources[order]
    times_ns, kinds = episode.events.times_ns[sources], episode.events.kinds[sources]
    is_screen = kinds == EventKind.SCREEN
    images = episode.events.payloads.take(sources[is_screen]).plain().to_arrow().view(pa.large_string()).cast(pa.string())
    images_before = np.concatenate([[0], np.cumsum(is_screen)])
    event_offsets = ids_before[:-1] - np.repeat(row_ids[:-1], np.diff(row_offsets))
    arrays = [
        _lists(np.arange(num_rows + 1) * length, input_ids),
        _lists(np.arange(num_rows + 1) * length, attention_mask.ravel()),
        texts,
        _lists(images_before[row_offsets], images),
        pa.repeat(pa.scalar(episode_path), num_rows),
        pa.array(np.minimum.reduceat(times_ns, row_offsets[:-1])),
        pa.array(np.maximum.reduceat(times_ns, row_offsets[:-1]) + 1),
        pa.array(num_tokens.astype(np.int32)),
        _lists(row_offsets, event_offsets.astype(np.int32)),
        _lists(row_offsets, times_ns),
        _lists(row_offsets, kinds),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=FSL_SCHEMA)


def _num_tokens_in_rows(episode: EncodedEpisode, order: Int64s, row_offsets: Int64s) -> Int64s:
    """Return the tokens of each event as it stands in its row: of a row's first one, no separator comes before it."""
    num_tokens = episode.num_tokens[order]
    if episode.first_shift:
        firsts = row_offsets[:-1]
        codes = episode.encoded.codes[episode.encoded.offsets[order[firsts]]]
        num_tokens[firsts] += episode.table.num_ids[codes - episode.first_shift] - episode.table.num_ids[codes]
    return num_tokens


def _lists(offsets: Int64s, values: npt.NDArray[np.generic] | pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))


def _ledger(episode: EncodedEpisode, packing: Packing, params: FslParams, *, too_long: int) -> Counts:
    num_rows = len(packing.row_offsets) - 1
    packed_tokens = _num_tokens_in_rows(episode, packing.order, packing.row_offsets)
    packed_kinds = episode.events.kinds[episode.encoded.sources[packing.order]]
    row_tokens = np.add.reduceat(packed_tokens, packing.row_offsets[:-1]) if num_rows else np.empty(0, np.int64)
    fill = np.minimum((row_tokens - 1) * NUM_FILL_BINS // params.max_sequence_length, NUM_FILL_BINS - 1)
    not_encodable = episode.encoded.counts["not_encodable"]
    dropped = {"not_encodable": not_encodable, "too_long": too_long, **packing.dropped}
    altered = {key: value for key, value in episode.encoded.counts.items() if key != "not_encodable"}
    read, kept = len(episode.events), len(packing.order)
    num_events = np.bincount(packed_kinds, minlength=len(EventKind)).tolist()
    tokens = np.bincount(packed_kinds, packed_tokens, len(EventKind)).tolist()  # as float64: exact below 2**53
    by_kind = {
        kind.name.lower(): {"events": num_events[kind], "tokens": int(tokens[kind])} for kind in EventKind if num_events[kind]
    }
    return {
        "rows": num_rows,
        "tokens": int(packed_tokens.sum()),
        "padding_tokens": int(num_rows * params.max_sequence_length - packed_tokens.sum()),
        "images": num_events[EventKind.SCREEN],
        "events": {**topic_counts(read, kept, dropped), "altered": altered},
        "dropped_rows": {k: v for k, v in packing.dropped_rows.items() if v},
        "by_kind": by_kind,
        "fill": {f"{index:02d}": int((fill == index).sum()) for index in range(NUM_FILL_BINS)},
    }
