"""Exceptions of the package; those about a setting or a file carry it as data.

    OwaDataError
    |-- ParamsError            a setting that cannot be used
    |-- EpisodeError           one recording or shard that cannot be used
    |   |-- NotMcapError       the file is no MCAP file at all
    |   |-- DamagedError       damage, and the policy is `error`
    |   |-- ChangedError       the file changed while it was read
    |   `-- MediaError         a referenced video or image that cannot be read
    |-- SchemaError            a dataset on disk of another kind or version
    |-- TokenizerError         a tokenizer that cannot be loaded or is not the expected one
    |-- DecodeError            tokens or text that are no whole event
    `-- EpisodesFailedError, WorkerDiedError (store/executors.py), OtherCodeError (store/dask_cluster.py): how a build can fail as a whole;
        DecodeUsageError (cli/decode.py): arguments that do not fit

A message names the file, the place, the value and the remedy, in this order.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

BROKEN_JSON = (msgspec.DecodeError, UnicodeDecodeError)
"""What `msgspec.json.decode` raises on content; the second where a string is no UTF-8, as after one flipped bit."""


class OwaDataError(Exception):
    """Root of all errors this package raises on purpose."""


class ParamsError(OwaDataError):
    """A setting that cannot be used. `key` is its dotted path, such as `event.topics.screen.rate_hz`."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key
        self.problem = problem

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.key, self.problem)


class EpisodeError(OwaDataError):
    """One recording or shard that cannot be used. `path` is the file, `problem` what is wrong and what to do."""

    def __init__(self, path: str | Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = str(path)
        self.problem = problem

    # Exceptions cross process borders: rebuild them from their data, not from the formatted message.
    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.path, self.problem)


class NotMcapError(EpisodeError):
    """The file does not begin as an MCAP file does."""


class DamagedError(EpisodeError):
    """The recording is damaged and `raw.on_damaged` is `error`."""


class ChangedError(EpisodeError):
    """The file's bytes are not those that its digest promised: it changed since it was listed or while it was read."""


class MediaError(EpisodeError):
    """A referenced video or image that does not exist or cannot be decoded."""


class SchemaError(OwaDataError):
    """A dataset on disk that is of another kind, version or shape than asked for."""


class TokenizerError(OwaDataError):
    """A tokenizer that cannot be loaded, or whose content is not the pinned one."""


class DecodeError(OwaDataError):
    """Tokens or text that are no whole event. `position` counts tokens, or characters of text, from 0."""

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(f"at {position}: {problem}")
        self.position = position
        self.problem = problem

    def __reduce__(self) -> tuple[type, tuple[int, str]]:
        return type(self), (self.position, self.problem)
