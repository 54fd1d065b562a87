"""Where the media of an episode lie. Datasets store no absolute path: a reference is relative to its recording's folder.

Looked for, in this order: the transform's argument `recordings`, the environment variable `OWA_DATA_RECORDINGS`, `raw.dir` of `params.yaml`
in the working directory.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, field
from pathlib import Path

from owa_data.errors import MediaError, ParamsError
from owa_data.store.source import is_outside, is_url

ENVIRONMENT = "OWA_DATA_RECORDINGS"


@dataclass
class MediaFinder:
    """Finds referenced files; picklable. What was found is remembered, so that files are looked for once.

    Attributes:
        recordings: Folder or URL of the recordings; empty leaves it to the environment and `params.yaml`.
        allow_outside: Whether a reference may leave its recording's folder: absolute paths, `..`, `file://` and other URLs. Off, since a
            dataset from elsewhere could make a loader read any file or address of the machine.
    """

    recordings: str = ""
    allow_outside: bool = False
    _found: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)

    def locate(self, episode_path: str, uri: str) -> str:
        """Return the path or URL of a reference.

        Raises:
            MediaError: It is in none of the places, or leaves the recording's folder.
            ParamsError: `recordings` names no folder, which is no fault of the reference.
        """
        known = self._found.get((episode_path, uri))
        if known is None:
            known = self._found[episode_path, uri] = self._search(episode_path, uri)
        return known

    def _search(self, episode_path: str, uri: str) -> str:
        leaves = is_outside(uri) or is_outside(episode_path)
        if leaves and not self.allow_outside:
            raise MediaError(
                episode_path,
                f"the reference {uri!r} leaves the recording's folder and is not followed. Pass allow_outside=True if you trust this dataset",
            )
        if uri.startswith("file://"):
            uri = uri.removeprefix("file://")
        if is_url(uri):
            return uri
        if self.recordings and not is_url(self.recordings) and not Path(self.recordings).is_dir():
            raise ParamsError("recordings", f"names {self.recordings!r}, which is no folder")
        places = self.places()
        tried = []
        without_media = ""
        for _, root in places:
            if not root:
                continue
            path = posixpath.join(root, posixpath.dirname(episode_path), uri)
            if is_url(path) or Path(path).is_file():
                return path
            tried.append(path)
            if not without_media and Path(root, episode_path).is_file():
                without_media = root
        named = "".join(f"\n  {name}: {root or 'not set'}" for name, root in places)
        if without_media:
            raise MediaError(
                episode_path,
                f"the reference {uri!r} cannot be followed: the recording is in {without_media}, its video or image is not. Bring it there, "
                'leave the recording out (raw.exclude), or load images with on_image_error="placeholder" (grey) or "skip"',
            )
        missing = f"not found: {', '.join(tried)}" if tried else "no folder of recordings is known"
        raise MediaError(
            episode_path,
            f"the reference {uri!r} cannot be followed, {missing}. Looked in{named}\nSay where the recordings lie in one of these",
        )

    def places(self) -> list[tuple[str, str]]:
        """Return the places that are looked in, as (what names it, folder or URL), in order; empty where it names none."""
        return [
            ("argument recordings", self.recordings),
            (f"environment variable {ENVIRONMENT}", os.environ.get(ENVIRONMENT, "")),
            (f"raw.dir of {Path.cwd() / 'params.yaml'}", _raw_dir()),
        ]


def _raw_dir() -> str:
    import yaml

    try:
        params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return ""  # outside a repository there is none, and the error names all places
    section = params.get("raw") if isinstance(params, dict) else None
    return str(section.get("dir") or "") if isinstance(section, dict) else ""
