"""The condition of one recording and of the media it refers to, for people; the pipeline itself never opens a video.

Input: a found recording. Output: `Examination`. Videos are read packet by packet, not decoded, so an hour takes about a second.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import msgspec
import numpy as np
import numpy.typing as npt

from owa_data.errors import NotMcapError
from owa_data.raw import messages
from owa_data.raw.columns import read_columns
from owa_data.raw.discover import FoundRecording
from owa_data.raw.index import EMBEDDED, SOUND, RecordingFacts, read_facts
from owa_data.raw.layout import Damage, read_layout
from owa_data.raw.parsing import decode_payloads
from owa_data.raw.payloads import PayloadPool
from owa_data.store.source import ByteSource, is_outside, is_url, open_source

NOT_MCAP, UNREADABLE = "not_mcap", "unreadable"
_NS_PER_S = 1_000_000_000
_VARIABLE_SHARE = 0.1  # of the usual frame interval: more than rounding to milliseconds explains at 60 Hz and below


class MediaExamination(msgspec.Struct, frozen=True):
    """One referenced file.

    Attributes:
        uri: As recorded, with slashes.
        num_references: Screens that refer to it.
        largest_pts_ns: The latest frame asked for; -1 where no reference has a time (a still image).
        state: `ok`, `missing`, `outside` (not looked for), `remote` (a recording behind a URL; not looked for) or `unreadable`.
        size_bytes: -1 where it was not found.
        num_frames: Packets of the video stream.
        num_keyframes: Those from which decoding can start.
        longest_keyframe_gap_ns: What a random access may have to decode.
        first_pts_ns: Time of the first frame.
        end_ns: End of the last frame.
        variable_rate: Whether frames are unevenly spaced, so that frame numbers are no times.
        problems: What is wrong, for people.
    """

    uri: str
    num_references: int
    largest_pts_ns: int
    state: str
    size_bytes: int = -1
    num_frames: int = 0
    num_keyframes: int = 0
    longest_keyframe_gap_ns: int = 0
    first_pts_ns: int = 0
    end_ns: int = 0
    variable_rate: bool = False
    problems: tuple[str, ...] = ()


class Examination(msgspec.Struct, frozen=True):
    """One recording: `condition` is `sound`, `salvaged`, `not_mcap` or `unreadable`; `problems` say why, for people."""

    episode_path: str
    condition: str
    size_bytes: int
    num_messages: int = 0
    duration_ns: int = 0
    damage: tuple[Damage, ...] = ()
    media: tuple[MediaExamination, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def is_fine(self) -> bool:
        """Whether nothing is wrong with it or its media."""
        return self.condition == SOUND and not self.problems and not any(media.problems for media in self.media)


def examine(recording: FoundRecording) -> Examination:
    """Look at one recording and its media. What is wrong is in the result; nothing is raised for it."""
    try:
        with open_source(recording.path) as source:
            facts = read_facts(source)
            references = _references(source, facts)
    except NotMcapError as error:
        return Examination(recording.episode_path, NOT_MCAP, recording.size_bytes, problems=(error.problem,))
    except OSError as error:
        return Examination(recording.episode_path, UNREADABLE, recording.size_bytes, problems=(str(error),))
    return Examination(
        episode_path=recording.episode_path,
        condition=facts.condition,
        size_bytes=recording.size_bytes,
        num_messages=facts.num_messages,
        duration_ns=facts.end_ns - facts.start_ns + 1 if facts.num_messages else 0,
        damage=tuple(facts.damage),
        media=tuple(_examine_media(recording, uri, pts_ns) for uri, pts_ns in sorted(references.items())),
        problems=_describe_damage(facts),
    )


def _describe_damage(facts: RecordingFacts) -> tuple[str, ...]:
    lines = []
    for part in facts.damage:
        lost = "an unknown number of" if part.lost_messages < 0 else f"{part.lost_messages:,}"
        what = f"; {lost} messages lost" if part.lost_messages else ""
        lines.append(f"at byte {part.offset:,}: {part.cause}{what}")
    return tuple(lines)


def _references(source: ByteSource, facts: RecordingFacts) -> dict[str, npt.NDArray[np.int64]]:
    """Return the times asked of each referenced file, int64 (n,), -1 where a reference has none."""
    topics = {name for name, topic in facts.topics.items() if messages.SCREEN in map(messages.current_type, topic.message_types)}
    pool = PayloadPool()
    columns, _ = read_columns(source, read_layout(source), topics, pool)
    found: dict[str, list[int]] = {}
    for part in columns.values():
        for code, recorded_type in enumerate(part.message_types):
            if messages.current_type(recorded_type) != messages.SCREEN:
                continue
            payloads = part.payloads.take(part.type_codes == code)
            normal, _ = messages.normalize_screens(payloads, recorded_type, pool)
            for screen in decode_payloads(normal.to_payloads(), messages.Screen)[0]:
                reference = screen.media_ref
                if not reference.uri.startswith(EMBEDDED):
                    found.setdefault(reference.uri, []).append(-1 if reference.pts_ns is None else reference.pts_ns)
    return {uri: np.array(times, np.int64) for uri, times in found.items()}


def _examine_media(recording: FoundRecording, uri: str, pts_ns: npt.NDArray[np.int64]) -> MediaExamination:
    seen = MediaExamination(uri, len(pts_ns), int(pts_ns.max()), "ok")
    if is_outside(uri):
        problem = "leads out of the recording's folder; not looked for, and loading its images is refused unless you allow it"
        return msgspec.structs.replace(seen, state="outside", problems=(problem,))
    if is_url(recording.path):
        return msgspec.structs.replace(seen, state="remote")
    path = Path(recording.path).parent / PurePosixPath(uri)
    try:
        size_bytes = path.stat().st_size
    except (OSError, ValueError):
        return msgspec.structs.replace(seen, state="missing", problems=(f"{path} does not exist",))
    seen = msgspec.structs.replace(seen, size_bytes=size_bytes)
    return seen if seen.largest_pts_ns < 0 else _examine_video(path, seen, pts_ns[pts_ns >= 0])


def _examine_video(path: Path, seen: MediaExamination, asked_ns: npt.NDArray[np.int64]) -> MediaExamination:
    import av

    times, is_key = [], []
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = container.streams.video[0]
            tick_ns = float(stream.time_base) * _NS_PER_S
            for packet in container.demux(stream):
                if packet.pts is not None:
                    times.append(packet.pts)
                    is_key.append(packet.is_keyframe)
    except (av.error.FFmpegError, OSError, IndexError) as error:
        return msgspec.structs.replace(seen, state="unreadable", problems=(f"cannot be read as a video: {error}",))
    if not times:
        return msgspec.structs.replace(seen, state="unreadable", problems=("it has no frames",))
    order = np.argsort(times, kind="stable")  # packets come in decoding order
    frames_ns = np.round(np.array(times)[order] * tick_ns).astype(np.int64)
    intervals_ns = np.diff(frames_ns)
    usual_ns = int(np.median(intervals_ns)) if len(intervals_ns) else 0
    keys_ns = frames_ns[np.array(is_key)[order]]
    end_ns = int(frames_ns[-1]) + max(usual_ns, int(tick_ns))
    gaps_ns = np.diff(np.append(keys_ns, end_ns)) if len(keys_ns) else np.array([end_ns])
    rounding_ns = 2 * tick_ns + _VARIABLE_SHARE * usual_ns
    problems = []
    if seen.largest_pts_ns >= end_ns + tick_ns:
        late_s, end_s = seen.largest_pts_ns / _NS_PER_S, end_ns / _NS_PER_S
        problems.append(f"screens refer to {late_s:.3f} s, but it ends at {end_s:.3f} s: cut off, or of another recording")
    if not len(keys_ns) or keys_ns[0] > frames_ns[0]:
        problems.append("it does not begin with a keyframe: its first frames cannot be decoded")
    problems += _missing_frames(asked_ns[asked_ns < end_ns], frames_ns, usual_ns + int(tick_ns), int(tick_ns))
    return msgspec.structs.replace(
        seen,
        num_frames=len(frames_ns),
        num_keyframes=len(keys_ns),
        longest_keyframe_gap_ns=int(gaps_ns.max()),
        first_pts_ns=int(frames_ns[0]),
        end_ns=end_ns,
        variable_rate=bool(len(intervals_ns) and np.any(np.abs(intervals_ns - usual_ns) > rounding_ns)),
        problems=tuple(problems),
    )


def _missing_frames(
    asked_ns: npt.NDArray[np.int64], frames_ns: npt.NDArray[np.int64], near_ns: int, tick_ns: int
) -> tuple[str, ...]:
    """Tell screens without a frame near them. A gap alone is no fault, since a screen may not change for long.

    Recorders refer to a frame by its own time. One that refers to any time, as most references then show, means the frame that is on the screen.
    """
    if not len(asked_ns):
        return ()
    shown = np.maximum(np.searchsorted(frames_ns, asked_ns + tick_ns, side="right") - 1, 0)
    late_ns = np.abs(asked_ns - frames_ns[shown])
    far = late_ns > near_ns
    if not far.any() or np.median(late_ns) > tick_ns:
        return ()
    first_s, last_s, most_s = (time_ns / _NS_PER_S for time_ns in (asked_ns[far].min(), asked_ns[far].max(), late_ns.max()))
    lacks = f"{int(far.sum()):,} screens refer to frames that it lacks, from {first_s:.3f} s to {last_s:.3f} s"
    return (f"{lacks}; up to {most_s:.3f} s after the frame before: damaged, or of another recording",)
