"""Load a stored dataset, and attach the transform that fits it.

    from owa_data import load_from_disk
    train = load_from_disk("data/fsl")["train"]
    train.auto_set_transform(stage="fsl", load_images=True)

The same for a plain dataset, in place: `auto_set_transform(dataset, stage="fsl")`. What a transform must know of a dataset (image size, instructions)
stands in its `owa.json`.
"""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from owa_data.errors import ParamsError, SchemaError
from owa_data.store.dataset_folder import LINEAGE_FILE, Lineage, read_any_lineage
from owa_data.store.remote import fetch_dataset, open_remote, stream_dataset
from owa_data.store.source import is_url
from owa_data.transforms.binned import create_binned_dataset_transform
from owa_data.transforms.event import create_event_dataset_transform
from owa_data.transforms.fsl import create_fsl_dataset_transform

CREATE: dict[str, Callable[..., Any]] = {
    "event": create_event_dataset_transform,
    "fsl": create_fsl_dataset_transform,
    "binned": create_binned_dataset_transform,
}
TELLING_COLUMN = {"event": "mcap_message", "fsl": "input_ids", "binned": "bin_idx"}  # only datasets of the kind have it
# Columns that each transform needs: converting the others to Python objects would cost as much as an image per row.
NEEDED_COLUMNS = {
    "fsl": (
        "input_ids",
        "attention_mask",
        "texts",
        "images",
        "episode_path",
        "start_ns",
        "end_ns",
        "num_tokens",
        "event_offsets",
        "event_timestamps_ns",
        "event_kinds",
    )
}

# Rows of a streamed dataset that are transformed together; their images are in memory at once.
_STREAMED_ROWS = 4

# Methods of `Dataset` and `IterableDataset` that give another dataset of rows that were made in the same way.
_SAME_ROWS = ("select", "shuffle", "filter", "sort", "skip", "take", "shard", "train_test_split", "map", "select_columns")

logger = logging.getLogger(__name__)


def auto_set_transform(dataset: Any, stage: str = "", **options: Any) -> Any:
    """Attach the transform of a kind of dataset, in place, as `dataset.set_transform` does.

    Args:
        dataset: Any `datasets.Dataset` of stored rows, also after `select`, `shuffle`, `filter`, `train_test_split` or `concatenate_datasets`; or a
            `DatasetDict`, whose splits all get it. A streamed dataset cannot be changed in place: use the one that is returned.
        stage: `event`, `fsl` or `binned`; empty takes what `owa.json` says.
        **options: Of the stage's `create_*_dataset_transform`. Image size (fsl) and instructions (binned) come from `owa.json` where they are not given;
            `image_size_px=None` keeps the size of the recorded images.

    Returns:
        The dataset itself; for a streamed one, one that applies the transform as it goes.

    Raises:
        ParamsError: An unknown stage, or none given and no `owa.json`; images of an fsl dataset, but no size for them is given or found.
        SchemaError: The dataset lacks the columns of the stage.
    """
    if isinstance(dataset, dict):
        for name, part in dataset.items():
            dataset[name] = auto_set_transform(part, stage, **options)
        return dataset
    lineages = _lineages_of(dataset)
    stage = stage or (lineages[0].kind if lineages else "")
    if not stage:
        raise ParamsError(
            "stage", f"is not given, and no owa.json is known for these rows. Say which they are: {', '.join(CREATE)}"
        )
    if stage not in CREATE:
        raise ParamsError("stage", f"{stage!r} is not known. Stages: {', '.join(CREATE)}")
    if dataset.column_names is None:
        raise SchemaError(
            "the columns of this stream are not known: give `map` its features=..., such as those of the stream before it"
        )
    columns = [name for name in NEEDED_COLUMNS.get(stage, dataset.column_names) if name in dataset.column_names]
    telling = TELLING_COLUMN[stage]
    if telling not in dataset.column_names:
        raise SchemaError(f"this is no {stage} dataset: it has no column {telling}; columns: {', '.join(dataset.column_names)}")
    options = _facts(stage, lineages, options) | options
    transform = CREATE[stage](**options)
    if not hasattr(dataset, "set_transform"):
        needed = dataset.select_columns(columns)
        return needed.map(transform, batched=True, batch_size=_STREAMED_ROWS, remove_columns=columns)
    dataset.set_transform(transform, columns=columns)
    return dataset


def _facts(stage: str, lineages: list[Lineage], options: dict[str, Any]) -> dict[str, Any]:
    """Options that `owa.json` knows and that are not given."""
    if stage == "fsl" and "image_size_px" not in options and options.get("load_images", True):
        return {"image_size_px": _image_size(lineages)}
    if stage == "binned" and "instructions" not in options:
        if not lineages and "instruction" not in options:
            _warn_of_instruction()
        return {"instructions": _instructions(lineages)}
    return {}


def _instructions(lineages: list[Lineage]) -> dict[str, str]:
    """Instruction of each episode that has one."""
    told: dict[str, str] = {}
    for episode in (episode for lineage in lineages for episode in lineage.episodes):
        instruction = str(episode.metadata.get("instruction") or "")
        if told.setdefault(episode.episode_path, instruction) != instruction:
            raise ParamsError(
                "instructions",
                f"the rows are of datasets that give {episode.episode_path} different instructions, {told[episode.episode_path]!r} and "
                f"{instruction!r}: attach to each of them before they are joined",
            )
    return {episode_path: instruction for episode_path, instruction in told.items() if instruction}


def _image_size(lineages: list[Lineage]) -> tuple[int, int]:
    """The size that the image tokens in the rows were made for: images of another one would not fit them."""
    sizes = {tuple(lineage.facts["tokenizer"]["image"]["image_size_px"]) for lineage in lineages if lineage.kind == "fsl"}
    if len(sizes) > 1:
        told = ", ".join(str(size) for size in sorted(sizes))
        raise ParamsError(
            "image_size_px",
            f"the rows are of datasets with different image sizes, {told}: attach to each of them before they are joined",
        )
    if not sizes:
        raise ParamsError(
            "image_size_px",
            f"must be given, as these rows no longer lead to their {LINEAGE_FILE}. Pass image_size_px=(width, height), which stands there under "
            "facts.tokenizer.image; or load by owa_data.load_from_disk and attach before datasets' own functions make another dataset of it. "
            "None keeps the recorded size, which the image tokens of the rows were not made for",
        )
    return sizes.pop()


@cache
def _warn_of_instruction() -> None:
    logger.warning(
        "binned rows that no longer lead to their %s: every row gets the default instruction, also where raw.metadata has one of its own. "
        "Pass instruction or instructions, or load by owa_data.load_from_disk",
        LINEAGE_FILE,
    )


def _lineages_of(dataset: Any) -> list[Lineage]:
    """What the rows were made of: as `load_from_disk` noted it, or `owa.json` above the files that the rows lie in."""
    noted = getattr(dataset, "owa_lineage", None)
    if noted is not None:
        return [noted]
    files = getattr(dataset, "cache_files", [])
    folders = dict.fromkeys(_dataset_folder(Path(file["filename"])) for file in files)
    return [read_any_lineage(folder) for folder in folders if folder is not None]


def _dataset_folder(shard: Path) -> Path | None:
    return next((folder for folder in shard.absolute().parents if (folder / LINEAGE_FILE).is_file()), None)


@cache
def _owa_class(base: type) -> type:
    """`datasets.Dataset` or `IterableDataset` with the method `auto_set_transform`; made on first use, since importing `datasets` takes a second."""

    class OwaDataset(base):  # type: ignore[misc]  # its types are not known
        """A dataset that knows where it comes from."""

        owa_lineage: Lineage | None = None

        def auto_set_transform(self, stage: str = "", **options: Any) -> Any:
            """See `owa_data.transforms.attach.auto_set_transform`."""
            return auto_set_transform(self, stage, **options)

        def __reduce__(self) -> tuple[Any, ...]:
            return _restore, (base, self.__dict__)

    OwaDataset.__name__ = OwaDataset.__qualname__ = f"Owa{base.__name__}"
    for name in _SAME_ROWS:
        if hasattr(base, name):
            setattr(OwaDataset, name, _keeping_class(getattr(base, name)))
    return OwaDataset


def _restore(base: type, state: dict[str, Any]) -> Any:
    kind: Any = _owa_class(base)
    dataset = kind.__new__(kind)
    if hasattr(kind, "__setstate__"):
        dataset.__setstate__(state)
    else:
        dataset.__dict__.update(state)
    return dataset


def _keeping_class(method: Any) -> Any:
    from functools import wraps

    @wraps(method)
    def keeping(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _as_owa_dataset(method(self, *args, **kwargs), self.owa_lineage)

    return keeping


def _as_owa_dataset(dataset: Any, lineage: Lineage | None) -> Any:
    """Note the lineage on a dataset, or on the splits of several, in place."""
    from datasets import Dataset, IterableDataset

    if isinstance(dataset, dict):
        for name, part in dataset.items():
            dataset[name] = _as_owa_dataset(part, lineage)
        return dataset
    # The rows and indices stay where they are: only the class and the note change.
    dataset.__class__ = _owa_class(IterableDataset if isinstance(dataset, IterableDataset) else Dataset)
    dataset.owa_lineage = lineage
    return dataset


def load_from_disk(path: str | Path, *, repo: str = "", rev: str = "", streaming: bool = False, **options: Any) -> Any:
    """Load a stored dataset, as `datasets.load_from_disk` does, with the method `auto_set_transform` on its splits.

    Args:
        path: Folder of a dataset or of one of its splits; or the URL of a dataset, such as `s3://bucket/fsl`, or `dvc://data/fsl` for a path in a
            DVC repository. What a URL names is fetched, only the shards that are not here yet (see `store/remote.py`).
        repo: For `dvc://`: URL or folder of the repository; empty is the working directory.
        rev: For `dvc://`: tag, branch, experiment or commit; empty is the current state.
        streaming: Fetch nothing: rows are read as they are iterated, episode by episode. `auto_set_transform(dataset)` returns the transformed one.
        **options: Of `datasets.load_from_disk`, such as `storage_options`.

    Returns:
        A `DatasetDict` of splits, or a `Dataset` for one split; an `IterableDatasetDict` when streaming.

    Raises:
        SchemaError: There is no dataset, a part of it is missing, or there is no `owa.json`: plain datasets are loaded by `datasets.load_from_disk`.
        ParamsError: `repo` or `rev` for what is no `dvc://` URL.
        ChangedError: What was fetched is not what `owa.json` names.
    """
    from datasets import load_from_disk as load_plain

    folder = str(path).rstrip("/")
    if (repo or rev) and not folder.startswith("dvc://"):
        raise ParamsError("repo, rev", f"name a DVC repository, but {folder!r} is no dvc:// URL, such as dvc://data/fsl")
    if streaming or is_url(folder):
        remote = open_remote(folder, repo=repo, rev=rev, **(options.pop("storage_options", None) or {}))
        if streaming:
            return _as_owa_dataset(stream_dataset(remote), remote.lineage)
        folder = str(fetch_dataset(remote))
    if not Path(folder).exists():
        raise SchemaError(f"{folder} does not exist. Build it (`dvc repro`), or fetch what someone else built (`dvc pull`)")
    places = [place for place in (folder, posixpath.dirname(folder)) if Path(place, LINEAGE_FILE).is_file()]
    if not places:
        raise SchemaError(
            f"{folder} holds no {LINEAGE_FILE}: it is no dataset of this pipeline, such as data/fsl. Other datasets are loaded by "
            "datasets.load_from_disk"
        )
    try:
        loaded = load_plain(folder, **options)
    except FileNotFoundError as error:
        problem = f"{error.filename} is missing" if error.filename else str(error)
        raise SchemaError(f"{folder} is not whole: {problem}. `dvc checkout {folder}` or `dvc repro` brings it back") from error
    return _as_owa_dataset(loaded, read_any_lineage(places[0]))
