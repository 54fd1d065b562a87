"""References to images: videos read once each, embedded and single images decoded, failures by policy.

Input: `ScreenCaptured` payloads as stored, with the episode they are of. Output: Pillow images in the same order.
"""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from owa_data.errors import MediaError, ParamsError
from owa_data.raw.messages import Screen
from owa_data.store.source import is_url
from owa_data.transforms.media import MediaFinder
from owa_data.transforms.video import open_video, rgb_image

if TYPE_CHECKING:
    from PIL.Image import Image

Decoder = Literal["pyav", "tensorcodec", "torchcodec"]
OnImageError = Literal["error", "skip", "placeholder"]

DECODERS = ("pyav", "tensorcodec", "torchcodec")
POLICIES = ("error", "skip", "placeholder")
PLACEHOLDER_COLOR = (127, 127, 127)
DEFAULT_SIZE_PX = (448, 448)
MAX_SIDE_PX = 16384  # of a placeholder, whatever a recording says of its screens
# mediaref takes seconds; the middle of the tick after the reference's is beyond any rounding. Matroska, in ns.
_TICK_NS = 1_000_000

_parse = msgspec.json.Decoder(Screen).decode


@dataclass(frozen=True)
class ImageReference:
    """One image of one row. `row` says which row that is, for messages."""

    episode_path: str
    row: str
    payload: str | bytes


@dataclass
class ImageLoader:
    """Loads images; picklable, cheap to make.

    Attributes:
        finder: Where media lie.
        size_px: Width and height that images are scaled to (bicubic); None keeps theirs.
        decoder: `pyav` is exact for every video; `tensorcodec` and `torchcodec` (where installed) are those of mediaref and need sound keyframe
            flags.
        on_error: What to do with an image that cannot be loaded: stop | leave it out | grey in its place.
        counts: `loaded`, `skipped`, `placeholders` so far in this process.
    """

    finder: MediaFinder
    size_px: tuple[int, int] | None = None
    decoder: Decoder = "pyav"
    on_error: OnImageError = "error"
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.decoder not in DECODERS:
            raise ParamsError("decoder", f"{self.decoder!r} is not known. Decoders: {', '.join(DECODERS)}")
        if self.decoder != "pyav" and find_spec(self.decoder) is None:
            raise ParamsError("decoder", f"{self.decoder} is not installed: pip install {self.decoder}, or take pyav")
        if self.on_error not in POLICIES:
            raise ParamsError("on_image_error", f"{self.on_error!r} is not known. Policies: {', '.join(POLICIES)}")

    def load(self, references: Sequence[ImageReference]) -> list[Image | None]:
        """Load images in the order of their references; None where one is left out.

        Raises:
            MediaError: One cannot be loaded and `on_error` is `error`; names the row, the reference and where it was looked for.
        """
        images: list[Image | None] = [None] * len(references)
        placeholders_before = self.counts["placeholders"]
        screens = [_parse(reference.payload) for reference in references]
        by_video: dict[str, list[int]] = defaultdict(list)
        for index, (reference, screen) in enumerate(zip(references, screens, strict=True)):
            uri, pts_ns = screen.media_ref.uri, screen.media_ref.pts_ns
            try:
                location = uri if uri.startswith("data:") else self.finder.locate(reference.episode_path, uri)
                if pts_ns is not None and not uri.startswith("data:"):
                    by_video[location].append(index)
                else:
                    images[index] = self._read_image(location)
            except (MediaError, OSError, ValueError) as error:
                images[index] = self._failed(reference, screen, error)
        for location, indices in by_video.items():
            times_ns = [screens[index].media_ref.pts_ns or 0 for index in indices]
            try:
                for index, image in zip(indices, self._read_frames(location, times_ns), strict=True):
                    images[index] = image
            except (MediaError, OSError):
                self._read_one_by_one(location, indices, references, screens, images)
        num_placeholders = self.counts["placeholders"] - placeholders_before
        self.counts["loaded"] += sum(image is not None for image in images) - num_placeholders
        return images

    def _read_one_by_one(
        self,
        location: str,
        indices: list[int],
        references: Sequence[ImageReference],
        screens: list[Screen],
        images: list[Image | None],
    ) -> None:
        """Find out which frames of a video fail; the first that does stops all where `on_error` is `error`, by its own name."""
        for index in indices:
            try:
                images[index] = self._read_frames(location, [screens[index].media_ref.pts_ns or 0])[0]
            except (MediaError, OSError) as error:
                images[index] = self._failed(references[index], screens[index], error)

    def _read_frames(self, location: str, times_ns: list[int]) -> list[Image]:
        if self.decoder == "pyav":
            with open_video(location) as video:
                return video.read(times_ns, self.size_px)
        return self._read_through_mediaref(location, times_ns)

    def _read_through_mediaref(self, location: str, times_ns: list[int]) -> list[Image]:
        from mediaref import MediaRef, batch_decode

        references = [MediaRef(uri=location, pts_ns=time_ns // _TICK_NS * _TICK_NS + 3 * _TICK_NS // 2) for time_ns in times_ns]
        try:
            frames = batch_decode(references, decoder=self.decoder)
        except (ValueError, ImportError) as error:
            raise MediaError(location, str(error)) from error
        return [
            self._scaled(rgb_image((frame.shape[1], frame.shape[0]), frame.data.cast("B"), frame.strides[0]))
            for frame in map(np.ascontiguousarray, frames)
        ]

    def _read_image(self, location: str) -> Image:
        from PIL import Image

        if location.startswith("data:"):
            from mediaref import DataURI

            content = DataURI.from_uri(location).decoded_data
        elif is_url(location):
            import fsspec

            with fsspec.open(location, "rb") as file:
                content = file.read()
        else:
            with open(location, "rb") as file:  # noqa: PTH123 a path or what fsspec calls one
                content = file.read()
        try:
            image = Image.open(io.BytesIO(content)).convert("RGB")
        except MemoryError:
            raise  # says nothing of the image, and must not become a grey one
        except Exception as error:  # damaged bytes lead Pillow's decoders to anything, from SyntaxError to TypeError
            named = f"{location[:40]}..." if location.startswith("data:") else location
            raise MediaError(named, f"is no image that Pillow can read ({type(error).__name__}: {error})") from error
        return self._scaled(image)

    def _scaled(self, image: Image) -> Image:
        return image if self.size_px in (None, image.size) else image.resize(self.size_px)

    def _failed(self, reference: ImageReference, screen: Screen, error: Exception) -> Image | None:
        if self.on_error == "error":
            raise self._explained(reference, screen, error) from error
        if self.on_error == "skip":
            self.counts["skipped"] += 1
            return None
        from PIL import Image

        self.counts["placeholders"] += 1
        return Image.new("RGB", self.size_px or _believable(screen.shape) or DEFAULT_SIZE_PX, PLACEHOLDER_COLOR)

    def _explained(self, reference: ImageReference, screen: Screen, error: Exception) -> MediaError:
        media: Any = msgspec.json.encode(screen.media_ref)[:200].decode(errors="replace")
        cause = error.problem if isinstance(error, MediaError) and error.path == reference.episode_path else error
        return MediaError(reference.episode_path, f"{reference.row}, reference {media}: {cause}")


def _believable(shape: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return a recorded size, None where there is none that a screen could have."""
    return shape if shape is not None and all(0 < side <= MAX_SIDE_PX for side in shape) else None
