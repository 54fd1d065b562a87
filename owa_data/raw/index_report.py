"""What a user is told of an episode index: what in it is an error, and what deserves a warning."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from owa_data.errors import ParamsError
from owa_data.params import RawParams
from owa_data.raw.episodes import Episode
from owa_data.raw.index import UNCHECKED
from owa_data.raw.layout import Damage
from owa_data.raw.split import FOLDER
from owa_data.schema import SPLITS
from owa_data.store.source import is_url

logger = logging.getLogger(__name__)

_MAX_LINES_OF_A_KIND = 10

Metadata = Mapping[str, Mapping[str, Any]]


def check_index(episodes: Sequence[Episode], metadata: Metadata, params: RawParams) -> None:
    """Check that the index holds something and that what params say of metadata, groups and splits is there.

    Raises:
        ParamsError: It is not.
    """
    if not episodes:
        raise ParamsError("raw.on_damaged", "no recording can be used; see the reasons above")
    paths = {episode.episode_path for episode in episodes}
    unmatched = sorted(set(metadata) - paths)
    # The metadata of the sample may stay in params.yaml while other recordings are named.
    if unmatched and not paths & set(metadata) and params.metadata != RawParams().metadata:
        raise ParamsError(
            "raw.metadata",
            f"no row of {params.metadata!r} matches an episode. Rows name {unmatched[0]!r}, episodes are {min(paths)!r} and so on",
        )
    if params.group_by != FOLDER and not any(params.group_by in row for row in metadata.values()):
        raise ParamsError("raw.group_by", f"{params.group_by!r} is no column of raw.metadata = {params.metadata!r}")
    groups = {episode.group for episode in episodes}
    if unknown := sorted(set(params.split.test_groups) - groups):
        raise ParamsError("raw.split.test_groups", f"{unknown} are no groups. Groups: {', '.join(sorted(groups))}")


def log_index(episodes: Sequence[Episode], skipped: Mapping[str, str], metadata: Metadata, params: RawParams) -> None:
    """Log what is damaged, missing or odd, a bounded number of lines for what every episode can have."""
    for path, problem in skipped.items():
        logger.warning("left out %s: %s", path, problem)
    for episode in episodes:
        if episode.damage:
            logger.warning("salvaged %s: %s", episode.episode_path, describe_damage(episode.damage, episode.num_messages))
    _log_media(episodes, params)
    if num_unchecked := sum(episode.condition == UNCHECKED for episode in episodes):
        logger.info(
            "raw: %d recordings are read in place: their summaries are trusted, chunks are checked when read", num_unchecked
        )
    if num_damaged := len(skipped) + sum(bool(episode.damage) for episode in episodes):
        logger.warning(
            "%d recordings are damaged; `owa-data doctor %s` tells everything about them, raw.on_damaged = %s decides what is done",
            num_damaged,
            params.dir,
            params.on_damaged,
        )
    _log_copies(episodes)
    paths = {episode.episode_path for episode in episodes}
    unmatched = sorted(set(metadata) - paths)
    if unmatched and paths & set(metadata):
        logger.warning("%s: %d rows match no episode, such as %r", params.metadata, len(unmatched), unmatched[0])
    for split in SPLITS:
        if not any(episode.split == split for episode in episodes):
            logger.warning(
                "split %s is empty (%d episodes in all). Set raw.split.test_fraction, raw.split.test or raw.split.test_groups",
                split,
                len(episodes),
            )


def _log_media(episodes: Sequence[Episode], params: RawParams) -> None:
    missing = []
    for episode in episodes:
        for media in episode.media:
            if media.outside:
                logger.warning(
                    "%s refers to %r, outside its own folder: loading its images is refused unless you allow it",
                    episode.episode_path,
                    media.uri,
                )
            elif not media.exists and not is_url(params.dir):
                missing.append(f"{episode.episode_path} refers to {media.uri}, which does not exist")
    if missing:
        logger.warning(
            "%d references to media that do not exist; events are converted all the same, loading the images fails. Bring the media beside their "
            "recordings%s, leave these out (raw.exclude), or load with on_image_error='placeholder':",
            len(missing),
            "" if params.watch == params.dir else " (`dvc repro -f raw` counts them anew: a list names no media)",
        )
        _log_some(missing)


def _log_copies(episodes: Sequence[Episode]) -> None:
    """Warn of recordings with the same bytes: they count twice, and in both splits the test would be of what was learned."""
    first: dict[str, Episode] = {}
    copies, num_across = [], 0
    for episode in episodes:
        original = first.setdefault(episode.sha256, episode)
        if original is not episode:
            across = original.split != episode.split
            num_across += across
            note = f" ({original.split} and {episode.split})" if across else ""
            copies.append(f"{episode.episode_path} is a copy of {original.episode_path}{note}")
    if copies:
        logger.warning(
            "%d recordings are copies of others, %d of them in another split. Leave them out with raw.exclude:",
            len(copies),
            num_across,
        )
        _log_some(copies)


def _log_some(lines: Sequence[str]) -> None:
    for line in lines[:_MAX_LINES_OF_A_KIND]:
        logger.warning("  %s", line)
    if len(lines) > _MAX_LINES_OF_A_KIND:
        logger.warning("  ... and %d more", len(lines) - _MAX_LINES_OF_A_KIND)


def describe_damage(damage: Sequence[Damage], num_messages: int) -> str:
    """Say what is left of a recording, and its worst damage."""
    worst = max(damage, key=lambda part: (part.lost_messages != 0, part.lost_bytes, part.lost_messages))
    rest = f" (the worst of {len(damage)} damages)" if len(damage) > 1 else ""
    lost = "an unknown number" if any(part.lost_messages < 0 for part in damage) else "none"
    if known := sum(max(part.lost_messages, 0) for part in damage):
        lost = f"{known:,}" + (" or more" if lost != "none" else "")
    return f"{num_messages:,} messages kept, {lost} lost; at byte {worst.offset}: {worst.cause}{rest}"
