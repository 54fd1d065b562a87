"""`owa-data cache status | verify | gc`: what the shard cache holds, whether it is sound, and dropping what is no longer needed."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import yaml

from owa_data.cli.repository import check_in_root, find_dvc_cache, find_shard_cache
from owa_data.errors import BROKEN_JSON, OwaDataError
from owa_data.schema import SCHEMAS
from owa_data.store.cache_upkeep import Upkeep, choose_droppable, drop, drop_fetched, find_fetched, read_contents
from owa_data.store.damage import drop_damaged, find_damaged, list_shards
from owa_data.store.dataset_folder import LINEAGE_FILE
from owa_data.store.progress import progress_bar

_GC = """Drop shards from the shard cache. Without a scope: those that nothing else links, neither a dataset folder nor the DVC cache. With a scope:
those that no dataset within it was made of. Only conversion time is ever lost: a shard that is needed again is made again. `dvc gc` removes
dataset versions from the DVC cache but leaves the shard cache alone; run it first, then this, to free their space."""

_VERIFY = """Read every shard of the shard cache and of data/, hold it to the digest of what was written, and drop what differs from the shard cache and
from the DVC cache, so that no build and no checkout takes it again. Exit status 1 where anything is damaged."""
_DATA = Path("data")


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser("cache", help="look after the shard cache", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    status = actions.add_parser("status", help="say what the shard cache holds")
    status.set_defaults(run=run_status)
    verify = actions.add_parser("verify", help="find shards that were damaged on disk, and drop them", description=_VERIFY)
    verify.add_argument("--dry-run", action="store_true", help="only say what is damaged")
    verify.set_defaults(run=run_verify)
    gc = actions.add_parser("gc", help="drop shards that are no longer needed", description=_GC)
    gc.add_argument("-w", "--workspace", action="store_true", help="keep what the datasets of the workspace were made of")
    gc.add_argument("-a", "--all-branches", action="store_true", help="and those of all branches")
    gc.add_argument("-T", "--all-tags", action="store_true", help="and those of all tags")
    gc.add_argument("-A", "--all-commits", action="store_true", help="and those of all commits")
    gc.add_argument("-e", "--all-experiments", action="store_true", help="and those of all experiments")
    gc.add_argument("--fetched", action="store_true", help="drop also datasets fetched from elsewhere (`dvc://`, `s3://`, ...)")
    gc.add_argument("--remembered", action="store_true", help="drop also what is remembered of recordings")
    gc.add_argument("--min-age-hours", type=_hours, default=24.0, help="keep what is younger (default: %(default)s)")
    gc.add_argument("--dry-run", action="store_true", help="only say what would be dropped")
    gc.set_defaults(run=run_gc)


def _hours(text: str) -> float:
    hours = float(text)
    if not hours >= 0:
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return hours


def run_status(options: argparse.Namespace) -> int:
    """Print what the cache holds."""
    cache = find_shard_cache()
    contents = read_contents(cache)
    linked = [shard for shard in contents.shards if shard.is_linked_elsewhere]
    alone = [shard for shard in contents.shards if not shard.is_linked_elsewhere]
    print(f"shard cache: {cache.root}")
    print(f"  {_describe(linked)} that a dataset folder or the DVC cache links too")
    print(f"  {_describe(alone)} that nothing else links; `owa-data cache gc` frees them")
    print(f"  {len(contents.remembered)} remembered facts of recordings")
    print(
        f"  {len(contents.leftovers)} unfinished files, {sum(part.size_bytes for part in contents.leftovers) / 1e6:.1f} MB, "
        "of running builds or of some that broke off"
    )
    return 0


def run_verify(options: argparse.Namespace) -> int:
    """Read all shards and drop damaged ones, unless a build is running."""
    cache = find_shard_cache()
    dvc_cache = find_dvc_cache()
    folders = [_DATA / kind for kind in SCHEMAS if (_DATA / kind / LINEAGE_FILE).is_file()]
    with cache.alone() as is_alone:
        if not is_alone and not options.dry_run:
            raise OwaDataError("a build is using the shard cache now: run this again when it has ended")
        shards = list_shards(cache, folders)
        with progress_bar("verify", [shard.size_bytes for shard in shards], shown=True) as advance:
            damaged = list(find_damaged(shards, advance))
        for shard in damaged:
            print(f"damaged: {shard.paths[-1]}")
        if not damaged:
            print(f"{len(shards)} shards, {sum(shard.size_bytes for shard in shards) / 1e6:.1f} MB: all are as they were written")
            return 0
        if options.dry_run:
            print(f"{len(damaged)} of {len(shards)} shards are damaged; without --dry-run they are dropped from the caches")
            return 1
        dropped = drop_damaged(damaged, cache, [dvc_cache / "files"] if dvc_cache is not None else [])
    print(f"{len(damaged)} of {len(shards)} shards were damaged; dropped {len(dropped)} files from the caches")
    in_use = [folder.name for folder in folders if any(path.is_relative_to(folder) for shard in damaged for path in shard.paths)]
    if in_use:
        print(
            f"make {' and '.join(in_use)} again with `dvc repro --force {' '.join(in_use)}`, which converts only what is missing"
        )
    return 1


def run_gc(options: argparse.Namespace) -> int:
    """Drop what is not needed, unless a build is running."""
    cache = find_shard_cache()
    scopes = ("workspace", "all_branches", "all_tags", "all_commits", "all_experiments")
    is_scoped = any(getattr(options, scope) for scope in scopes)
    if is_scoped:
        check_in_root()  # elsewhere no dataset would be found, and every shard dropped
    referenced = _referenced_keys(options) if is_scoped else None
    with cache.alone() as is_alone:
        if not is_alone and not options.dry_run:
            raise OwaDataError("a build is using the shard cache now: run this again when it has ended")
        if options.fetched:
            print(
                f"{'would drop' if options.dry_run else 'dropping'} {len(find_fetched(cache))} datasets that were fetched from elsewhere"
            )
            if not options.dry_run:
                drop_fetched(cache)
        chosen = choose_droppable(
            read_contents(cache),
            min_age_s=options.min_age_hours * 3600,
            referenced=referenced,
            remembered_too=options.remembered,
        )
        if not options.dry_run:
            drop(cache, chosen)
    _report(chosen, would=options.dry_run)
    return 0


def _report(chosen: Upkeep, *, would: bool) -> None:
    still_linked = [shard for shard in chosen.shards if shard.is_linked_elsewhere]
    print(
        f"{'would drop' if would else 'dropped'} {_describe(chosen.shards)}, {len(chosen.remembered)} remembered facts, "
        f"{len(chosen.leftovers)} unfinished files; {'would free' if would else 'freed'} {chosen.freed_bytes / 1e6:.1f} MB"
    )
    if still_linked:
        print(
            f"{_describe(still_linked)} of these are also in a dataset folder or in the DVC cache, which keep their space: `dvc gc` frees "
            "what the DVC cache alone holds"
        )


def _describe(shards: list[Any]) -> str:
    return f"{len(shards)} shards ({sum(shard.size_bytes for shard in shards) / 1e6:.1f} MB)"


def _referenced_keys(options: argparse.Namespace) -> set[str]:
    """Keys of all shards that the datasets of the workspace and of the chosen revisions were made of.

    Raises:
        OwaDataError: git says nothing of revisions, so that it is not known what they need; or what a dataset was made of cannot be read.
    """
    revisions_matter = any((options.all_branches, options.all_tags, options.all_commits, options.all_experiments))
    if revisions_matter and not _git("rev-parse", "--git-dir"):
        raise OwaDataError(
            f"git knows no repository in {Path.cwd()} (`git status` says why), so nothing can be said of its revisions"
        )
    keys: set[str] = set()
    for kind in SCHEMAS:
        path = Path("data") / kind / LINEAGE_FILE
        if path.is_file():
            keys |= _keys_of(path.read_bytes(), str(path))
    seen: set[tuple[str, str]] = set()
    unknown = []
    for revision in _revisions(options):
        for out, digest in _dataset_outs(revision):
            if (out, digest) in seen:
                continue
            seen.add((out, digest))
            content = _read_at(revision, f"{out}/{LINEAGE_FILE}")
            if content is None:
                unknown.append(f"{out} at {revision[:12]}")
            else:
                keys |= _keys_of(content, f"{out}/{LINEAGE_FILE} at {revision[:12]}")
    if unknown:
        print(
            f"{len(unknown)} dataset versions are neither in the DVC cache nor on the remote, such as {unknown[0]}; what only they "
            "were made of is not kept"
        )
    return keys


class _Key(msgspec.Struct):
    key: str


class _Keys(msgspec.Struct):
    """What of `owa.json` of any version says which shards it was made of."""

    episodes: list[_Key]


def _keys_of(lineage: bytes, place: str) -> set[str]:
    try:
        return {episode.key for episode in msgspec.json.decode(lineage, type=_Keys).episodes}
    except BROKEN_JSON as error:
        raise OwaDataError(
            f"{place} is not readable ({error}), so it is not known which shards it needs. Nothing was dropped; build the dataset anew, or "
            "remove its folder"
        ) from error


def _revisions(options: argparse.Namespace) -> list[str]:
    """Commits within the chosen scopes, the current one included."""
    found: list[str] = []
    if options.all_branches:
        found += _git("rev-list", "--no-walk", "--branches").split()
    if options.all_tags:
        found += _git("rev-list", "--no-walk", "--tags").split()
    if options.all_commits:
        found += _git("rev-list", "--branches", "--tags").split()
    if options.all_experiments:
        # refs/exps/<two digits>/<baseline>/<name> are results; others there are DVC's own bookkeeping and queued ones.
        rows = [line.split() for line in _git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps").splitlines()]
        found += [commit for name, commit in rows if len(name.split("/")[2]) == 2]
    head = _git("rev-parse", "--verify", "--quiet", "HEAD").split()
    return list(dict.fromkeys([*head, *found]))


def _dataset_outs(revision: str) -> list[tuple[str, str]]:
    """The dataset folders in `dvc.lock` of a revision, with their digests."""
    text = _git("show", f"{revision}:./dvc.lock")
    stages = (yaml.safe_load(text) or {}).get("stages", {}) if text else {}
    outs = [out for stage in stages.values() for out in stage.get("outs", [])]
    return [(out["path"], out["md5"]) for out in outs if Path(out["path"]).name in SCHEMAS and out.get("md5")]


def _read_at(revision: str, path: str) -> bytes | None:
    """A file of a DVC output at a revision, from the DVC cache or else the remote; None where neither has it or DVC cannot read that revision."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException

    try:
        with DVCFileSystem(".", rev=revision).open(path, "rb") as file:
            content: bytes = file.read()
    except (OSError, DvcException):
        return None
    return content


def _git(*arguments: str) -> str:
    """Output of a git command; empty where it fails, as in a repository without commits."""
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout
