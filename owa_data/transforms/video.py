"""Frames of one video by exact time, decoded forward once and straight to RGB.

The frame of a reference is the one with the greatest time at or before `pts_ns` plus one tick of the container's clock. Times are compared as
whole ticks, never as float seconds.

Why not `mediaref.batch_decode` as it is: its PyAV decoder takes float seconds without the tick, opens the file anew for each call and goes
from ARGB through three copies to RGB; its TensorCodec decoder shows grey or torn frames where a recorder flagged every packet as a keyframe, as
the HEVC recordings of OWAMcap 0.3 are. This reader keeps its cache and its rule of seeking: step back until a frame comes out in time.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from owa_data.errors import MediaError
from owa_data.store.source import is_url

if TYPE_CHECKING:
    import av
    from mediaref.resource_cache import ResourceCache
    from PIL.Image import Image

MAX_OPEN_VIDEOS = 16
# Memory of images that are gone, in blocks of 1 MB, that Pillow keeps for the next ones: getting fresh pages from the system takes as long as decoding.
KEPT_IMAGE_BLOCKS = 128
_NS_PER_S = 1_000_000_000
# Decode on rather than seek where the next frame asked for is nearer than this.
_SEEK_BEYOND_S = 2
_SHARED_FORMATS = ("yuv420p", "yuvj420p")
_SHARED_WIDTH_PX = 16
_MAX_REORDERED_FRAMES = 32  # H.264 and HEVC reorder 16 at most
# Of other formats a packet may be no frame, such as the hidden reference frames of VP8.
_FRAME_PER_PACKET = ("h264", "hevc")
_B_FRAME = 3  # AV_PICTURE_TYPE_B
_EBML = b"\x1a\x45\xdf\xa3"  # Matroska and WebM begin with it
_HEAD_BYTES = 4096


class VideoReader:
    """An open video. Reading on from where the last call ended costs no seek."""

    def __init__(self, location: str) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        self.location = location
        self.lock = threading.Lock()
        self._file = _open_remote(location) if is_url(location) else None
        try:
            self._container = av.open(self._file or location, metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:
            self._close_file()
            raise MediaError(location, f"cannot be opened as a video ({error})") from error
        if not self._container.streams.video:
            self.close()
            raise MediaError(location, "holds no video stream")
        self._stream = self._container.streams.video[0]
        self._stream.codec_context.thread_count = 1  # loaders run many processes
        self._tick = Fraction(self._stream.time_base)
        self._seek_beyond = int(_SEEK_BEYOND_S / self._tick)
        self._reformatter = VideoReformatter()
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._bounds: list[int] = []
        self._shown: av.VideoFrame | None = None
        self._next: av.VideoFrame | None = None
        self._missing: int | None = None
        self._lost: list[int] = []  # packets between `_shown` and `_next` of which the decoder made no frame
        self._damaged: set[int] = set()  # frames, by time
        self._spreads = False

    def read(self, times_ns: Sequence[int], size_px: tuple[int, int] | None) -> list[Image]:
        """Return the frames at some times, in the order asked.

        Args:
            times_ns: `pts_ns` of the references.
            size_px: Width and height to scale to; None keeps the video's.

        Raises:
            MediaError: No frame is that early, the video ends before, or it is damaged there.
        """
        import av

        images: list[Image | None] = [None] * len(times_ns)
        latest: tuple[int, Image] | None = None
        order = sorted(range(len(times_ns)), key=times_ns.__getitem__)
        # Whole ticks at or before each time, and one more.
        num_ticks, num_ns = self._tick.denominator, self._tick.numerator * _NS_PER_S
        self._bounds = [times_ns[index] * num_ticks // num_ns + 1 for index in order]
        for index, bound in zip(order, self._bounds, strict=True):
            try:
                frame = self._frame_at(bound, times_ns[index])
            except av.FFmpegError as error:
                self._shown = None
                raise MediaError(self.location, f"cannot be decoded at {times_ns[index]} ns ({error})") from error
            if latest is None or latest[0] != frame.pts:
                latest = (int(frame.pts or 0), self._to_image(frame, size_px))
                images[index] = latest[1]
            else:
                images[index] = latest[1].copy()
        return [image for image in images if image is not None]

    def close(self) -> None:
        """Close the file."""
        self._frames, self._shown, self._next = iter(()), None, None
        self._container.close()
        self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()

    def _frame_at(self, bound: int, time_ns: int) -> av.VideoFrame:
        shown = self._shown
        if shown is None or shown.pts > bound or bound - shown.pts > self._seek_beyond:
            shown = self._seek(bound, time_ns)
        while self._next is not None and self._next.pts <= bound:
            shown, self._next = self._next, self._advance()
        self._shown = shown
        if self._next is None:
            self._check_end(shown, bound, time_ns)
        self._check_sound(shown, bound, time_ns)
        return shown

    def _seek(self, bound: int, time_ns: int) -> av.VideoFrame:
        """Go to a frame at or before `bound` from which decoding is sound.

        Not every packet flagged as a keyframe is one; the decoder gives nothing until the next real one, so step back, twice as far each time.
        """
        start = self._stream.start_time or 0
        target, step = bound, int(1 / self._tick)
        while True:
            at_start = target <= start
            self._container.seek(max(target, start), stream=self._stream)
            self._frames, self._spreads = self._decode(), False
            first = self._advance()
            if first is not None and first.pts <= bound and (at_start or not first.is_corrupt):
                self._next = self._advance()
                return first
            if at_start:
                self._shown = None
                raise MediaError(self.location, f"has no frame at or before {time_ns} ns")
            target, step = target - step, step * 2

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Decode from where the container stands, in order of time; frames that cannot be asked for may be left out.

        A frame is the one of no reference if another comes between it and the next bound. Packets stand in the order of decoding, in which
        frames that others refer to come before those that are shown earlier, so that this is often known from the packets before. The decoder
        then leaves such a frame out if none refers to it: about half of all where an encoder uses B-frames.
        """
        import av

        context = self._stream.codec_context
        earlier: deque[int] = deque(maxlen=_MAX_REORDERED_FRAMES)
        waiting: list[int] = []  # a heap: packets of which no frame came yet
        refused: set[int] = set()
        is_frame_each = context.name in _FRAME_PER_PACKET
        may_skip = False
        highest = -1
        context.skip_frame = "DEFAULT"
        for packet in self._container.demux(self._stream):
            pts = packet.pts
            if pts is not None:
                can_skip = pts < highest and self._is_passed(pts, earlier)
                if can_skip != may_skip:
                    may_skip = can_skip
                    context.skip_frame = "NONREF" if may_skip else "DEFAULT"
                earlier.append(pts)
                highest = max(highest, pts)
                if is_frame_each and not packet.is_discard:
                    heappush(waiting, pts)
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                # Those before it may still be sound, and so are those from the next keyframe on.
                if pts is not None:
                    refused.add(pts)
                    if not is_frame_each:
                        heappush(waiting, pts)
                continue
            for frame in frames:
                if frame.pts is None:
                    continue
                self._lost = []
                while waiting and waiting[0] <= frame.pts:
                    pts = heappop(waiting)
                    if pts < frame.pts:
                        self._lost.append(pts)
                        self._spreads = self._spreads or pts in refused
                yield frame
        self._lost = waiting

    def _is_passed(self, pts: int, earlier: Iterable[int]) -> bool:
        """Whether one of the packets `earlier` is shown after `pts`, and not after the first bound that `pts` is within."""
        position = bisect_left(self._bounds, pts)
        return position < len(self._bounds) and any(pts < other <= self._bounds[position] for other in earlier)

    def _advance(self) -> av.VideoFrame | None:
        frame = next(self._frames, None)
        if frame is not None:
            self._note_damage(frame)
        return frame

    def _note_damage(self, frame: av.VideoFrame) -> None:
        """Remember a frame that the decoder mended, or that is drawn over such a one or over a lost one.

        Damage spreads up to the next keyframe; that of B-frames does not, as most encoders refer to none of them.
        """
        if frame.is_corrupt:
            self._damaged.add(frame.pts)
            self._spreads = self._spreads or frame.pict_type != _B_FRAME
        elif frame.key_frame:
            self._spreads = False
        elif self._spreads:
            self._damaged.add(frame.pts)

    def _check_sound(self, shown: av.VideoFrame, bound: int, time_ns: int) -> None:
        """Refuse a frame that is damaged, or that shows only because the right one could not be decoded."""
        if shown.pts in self._damaged:
            raise MediaError(self.location, f"is damaged at {time_ns} ns, or at a frame before that this one is drawn over")
        # What was left out on purpose is passed by now: another frame came after it.
        if any(shown.pts < pts <= bound for pts in self._lost):
            raise MediaError(
                self.location, f"is damaged at {time_ns} ns: no frame can be decoded after {_to_ns(shown.pts, self._tick)} ns"
            )

    def _check_end(self, last: av.VideoFrame, bound: int, time_ns: int) -> None:
        """Refuse a time after the end. The last frame shows until the header says, which of screens that do not change can be long.

        The header of a cut-off file still says when the whole one ended: of such a file the last frame shows no longer than any other.
        """
        if bound <= last.pts + max(last.duration or 0, 1) + 1:
            return
        num_missing = self._num_missing()
        if bound <= self._stated_end() and not num_missing:
            return
        cut = f"; the file is cut off, {num_missing:,} bytes are missing: copy it anew" if num_missing else ""
        raise MediaError(self.location, f"ends before {time_ns} ns: its last frame is at {_to_ns(last.pts, self._tick)} ns{cut}")

    def _stated_end(self) -> int:
        """Tick at which the video ends, as its header says.

        Some recorders count the stated duration from 0, some from the first frame; the later end is taken.
        """
        import av

        stated = self._stream.duration
        if stated is None and self._container.duration is not None:
            stated = int(Fraction(self._container.duration, av.time_base) / self._tick) + 1
        return (self._stream.start_time or 0) + (stated or 0) + 1

    def _num_missing(self) -> int:
        """Bytes that the file lacks of those it says it has: in the length of a Matroska segment, or in the index of an MP4 file."""
        if self._missing is None:
            index = self._stream.index_entries
            indexed = index[-1].pos + index[-1].size if len(index) else 0
            head, size_bytes = self._head_and_size()
            self._missing = max(_stated_bytes(head) - size_bytes, indexed - size_bytes, 0)
        return self._missing

    def _head_and_size(self) -> tuple[bytes, int]:
        if self._file is None:
            with open(self.location, "rb") as file:  # noqa: PTH123 a path, as FFmpeg took it
                return file.read(_HEAD_BYTES), os.fstat(file.fileno()).st_size
        position = self._file.tell()  # FFmpeg reads on from here
        size_bytes = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        head = self._file.read(_HEAD_BYTES)
        self._file.seek(position)
        return head, size_bytes

    def _to_image(self, frame: av.VideoFrame, size_px: tuple[int, int] | None) -> Image:
        size = width, height = size_px or (frame.width, frame.height)
        can_share = size == (frame.width, frame.height) and _has_equal_pixels(frame)
        pixel_format = "rgb0" if can_share else "rgb24"
        # One thread: the frames are small, and waking others takes longer than the work.
        plane = self._reformatter.reformat(frame, width, height, pixel_format, interpolation="BICUBIC", threads=1).planes[0]
        if can_share and plane.line_size == 4 * width:
            return shared_image(size, plane)
        return rgb_image(size, memoryview(plane), plane.line_size, "RGBX" if can_share else "RGB")


def _stated_bytes(head: bytes) -> int:
    """Size of a Matroska file by its first bytes; 0 if it is none, or was written without going back to note its size.

    It is two elements, EBML header and segment. Each is a name of four bytes, a length, and that many bytes. The zero bits that a length begins
    with tell how many bytes follow its first; after them and a one it is big-endian, all ones where it is not known.
    """
    if not head.startswith(_EBML):
        return 0
    end = 0
    for _ in ("header", "segment"):
        start = end + len(_EBML)
        length = 9 - int.from_bytes(head[start : start + 1]).bit_length()
        unknown = (1 << 7 * length) - 1
        size = int.from_bytes(head[start : start + length]) & unknown
        if size == unknown:
            return 0
        end = start + length + size
    return end


def _has_equal_pixels(frame: av.VideoFrame) -> bool:
    """Whether FFmpeg 8 turns a frame into four bytes per pixel with the very values of three.

    Three are right at every size. Four are a fifth faster in all, but wrong in the last columns of widths such as 1026, and rounded otherwise
    where FFmpeg takes its general way: for other formats, odd heights, or scaling.
    """
    return frame.format.name in _SHARED_FORMATS and frame.width % _SHARED_WIDTH_PX == 0 and frame.height % 2 == 0


def shared_image(size_px: tuple[int, int], octets: Any) -> Image:
    """Return an image over the memory of packed RGB bytes with one byte more per pixel, which is how Pillow itself holds images: nothing is copied.

    Pillow copies such an image before it changes it.
    """
    from PIL import Image

    values = pa.Array.from_buffers(pa.uint8(), 4 * size_px[0] * size_px[1], [None, pa.py_buffer(octets)])
    return Image.fromarrow(pa.FixedSizeListArray.from_arrays(values, 4), "RGB", size_px)


def rgb_image(size_px: tuple[int, int], octets: memoryview, line_bytes: int, order: str = "RGB") -> Image:
    """Return an image of packed bytes in the order `RGB` or `RGBX`, copied once. `Image.frombytes` blackens it first, which takes as long as the copy."""
    from PIL import Image

    image = Image.new("RGB", size_px, None)
    image.frombytes(octets, "raw", order, line_bytes, 1)
    return image


def _to_ns(pts: int, tick: Fraction) -> int:
    return int(pts * tick * _NS_PER_S)


def _open_remote(location: str) -> Any:
    import fsspec

    return fsspec.open(location, "rb").open()


@cache
def _open_videos() -> ResourceCache[VideoReader]:
    """The videos that this process holds open, least recently used closed first; emptied before a fork."""
    from mediaref.resource_cache import ResourceCache
    from PIL import Image

    memory: Any = vars(Image)["core"]  # documented, but not in Pillow's types
    if not memory.get_blocks_max():  # else the user has chosen, by PILLOW_BLOCKS_MAX
        memory.set_blocks_max(KEPT_IMAGE_BLOCKS)
    return ResourceCache(max_size=MAX_OPEN_VIDEOS)


@contextmanager
def open_video(location: str) -> Iterator[VideoReader]:
    """Lend the reader of a video, exclusively; it stays open for the next one who asks, `MAX_OPEN_VIDEOS` at most per process.

    Raises:
        MediaError: It cannot be opened.
        OSError: It does not exist.
    """
    videos = _open_videos()
    # A file that was replaced is another file.
    status = None if is_url(location) else os.stat(location)  # noqa: PTH116 one of many per row, and Path costs as much as the call
    key = location if status is None else f"{location}#{status.st_mtime_ns}#{status.st_size}"
    reader = videos.try_acquire(key)
    if reader is None:
        opened = VideoReader(location)
        reader, is_mine = videos.try_insert_or_acquire(key, opened, opened.close)
        if not is_mine:
            opened.close()
    try:
        with reader.lock:
            yield reader
    finally:
        videos.release_if(key, reader)


def num_open_videos() -> int:
    """Return how many videos this process holds open."""
    return len(_open_videos())


def close_videos() -> None:
    """Close all videos that this process holds open."""
    _open_videos().clear()
