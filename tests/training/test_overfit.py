"""The proof: small models of both families learn a sample episode by heart, and what they predict is the episode."""

from collections import Counter

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from mcap_owa.highlevel import OWAMcapReader

from owa_data.encoding.events import EventKind
from owa_data.fsl.decode import EventDecoder
from owa_data.fsl.decoded_recording import write_recording
from tests.training.overfit import NUM_STEPS, overfit

TIME_UNIT_NS = 10_000_000


def actions_of(decoded_rows):
    """Keyboard and mouse events as (time in units of 10 ms, kind, key, pressed, motion and buttons), counted."""
    return Counter(
        (time_ns // TIME_UNIT_NS, kind, vk, pressed, tuple(mouse))
        for decoded in decoded_rows
        for time_ns, kind, vk, pressed, mouse in zip(
            decoded.events.times_ns.tolist(),
            decoded.events.kinds.tolist(),
            decoded.events.vk.tolist(),
            decoded.events.pressed.tolist(),
            decoded.events.raw_mouse.tolist(),
            strict=True,
        )
        if kind != EventKind.SCREEN
    )


@pytest.fixture
def one_thread():
    # Two threads that wait for each other take many times as long on a machine that is shared.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("family", list(NUM_STEPS))
def test_learned_by_heart(family, tmp_path, one_thread):
    learned = overfit(tmp_path, family)
    shares = [share for _, _, share in learned.curve]
    print(f"{family}: {learned.curve}")
    assert shares[-1] >= 0.95
    assert shares[0] < 0.8, "what is known from the start proves nothing"

    decoder = EventDecoder.from_dataset(learned.built.fsl)
    predicted_ids = torch.cat([one.input_ids for one in learned.predictions]).tolist()
    recorded = [decoder.decode_row(row, strict=True) for row in learned.rows]
    predicted = [decoder.decode_row({**row, "input_ids": ids}) for row, ids in zip(learned.rows, predicted_ids, strict=True)]
    truth, found = actions_of(recorded), actions_of(predicted)
    share_of_events = (truth & found).total() / truth.total()
    print(f"{family}: {share_of_events:.3f} of {truth.total()} events, {sum(len(one.broken) for one in predicted)} broken spans")
    assert share_of_events >= 0.8

    path = tmp_path / "recordings/arena/predicted.mcap"
    num_written, num_left_out, _ = write_recording(path, predicted)
    assert num_left_out == 0
    with OWAMcapReader(path) as reader:
        messages = list(reader.iter_messages())
    assert len(messages) == num_written
    topics = Counter(message.topic for message in messages)
    assert topics["screen"] == sum(len(row["images"]) for row in learned.rows)
    keys = [message.decoded for message in messages if message.topic == "keyboard"]
    assert {key.event_type for key in keys} == {"press", "release"}
    first_screen = next(message.decoded for message in messages if message.topic == "screen")
    assert (path.parent / first_screen.media_ref.uri).is_file()
