"""A dataset card, as the Hugging Face Hub shows it, from `owa.json` alone: equal datasets give equal cards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from owa_data.schema import SCHEMAS, SPLITS
from owa_data.store.dataset_folder import EpisodeLineage, Lineage

_SIZES = (("n<1K", 10**3), ("1K<n<10K", 10**4), ("10K<n<100K", 10**5), ("100K<n<1M", 10**6), ("1M<n<10M", 10**7))
ROW_IS = {"event": "one recorded event", "fsl": "a token sequence of fixed length", "binned": "one time bin"}


def render_card(lineage: Lineage, name: str) -> str:
    """Return a `README.md`: YAML head for the Hub, then what the rows are, how they were made and of what."""
    return "\n".join([*_head(lineage, name), "", *_body(lineage, name)]) + "\n"


def _head(lineage: Lineage, name: str) -> list[str]:
    num_rows = sum(episode.num_rows for episode in lineage.episodes)
    data_files = [{"split": split, "path": f"{split}/**/*.arrow"} for split in SPLITS]
    values = {
        "pretty_name": name,
        "tags": ["owa", "desktop", "vision-language-action", lineage.kind],
        "size_categories": [next((label for label, limit in _SIZES if num_rows < limit), "n>10M")],
        "configs": [{"config_name": "default", "data_files": data_files}],
    }
    return ["---", yaml.safe_dump(values, sort_keys=False).rstrip(), "---"]


def _body(lineage: Lineage, name: str) -> Iterator[str]:
    yield f"# {name}"
    yield ""
    yield f"Desktop recordings (OWAMcap) as an `{lineage.kind}` dataset; each row is {ROW_IS[lineage.kind]}."
    yield ""
    yield "```python"
    yield "import datasets"
    yield ""
    yield 'dataset = datasets.load_from_disk("path/to/this/folder")'
    yield "```"
    yield ""
    yield from _table("split", [(split, [e for e in lineage.episodes if e.split == split]) for split in SPLITS])
    groups = sorted({episode.group for episode in lineage.episodes})
    if len(groups) > 1:
        yield ""
        yield from _table("group", [(group, [e for e in lineage.episodes if e.group == group]) for group in groups])
    yield ""
    yield "## Columns"
    yield ""
    yield "| column | type |"
    yield "| --- | --- |"
    yield from (f"| `{field.name}` | {field.type} |" for field in SCHEMAS[lineage.kind])
    yield ""
    yield "## How it was made"
    yield ""
    yield f"By owa-data {lineage.code_version}, schema version {lineage.schema_version}, sources `{lineage.source_digest}`."
    tokenizer: dict[str, Any] = lineage.facts.get("tokenizer", {})
    if tokenizer:
        place = " ".join(part for part in (tokenizer["location"], tokenizer["revision"]) if part) or "built in"
        yield (
            f"Tokenizer: {tokenizer['name']} ({place}), sha256 `{tokenizer['sha256']}`, extended to {tokenizer['num_tokens']} entries by "
            f"{len(tokenizer['added'])} tokens; {lineage.facts['image']['num_tokens']} tokens per image."
        )
    yield ""
    yield "```yaml"
    yield yaml.safe_dump(lineage.params, sort_keys=True, default_flow_style=None).rstrip()
    yield "```"
    yield ""
    yield "`owa.json` names for every episode the digest of its input and of its shard; `owa-data verify` checks them. Frames are referenced by"
    yield "`(uri, pts_ns)` relative to the recording's folder and are not part of this dataset."


def _table(title: str, parts: Sequence[tuple[str, Sequence[EpisodeLineage]]]) -> Iterator[str]:
    yield f"| {title} | episodes | rows | MB |"
    yield "| --- | --- | --- | --- |"
    for name, episodes in parts:
        size_bytes = sum(episode.size_bytes for episode in episodes)
        yield f"| {name} | {len(episodes)} | {sum(episode.num_rows for episode in episodes)} | {size_bytes / 1e6:.1f} |"
