"""Build the binned dataset from the event dataset.

Input: the lineage of the event dataset, `BinnedParams`. Output: a `Plan`, which `store.incremental.build_dataset` carries out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from owa_data.binned.bins import find_bin_function
from owa_data.binned.convert import convert_events
from owa_data.errors import ParamsError
from owa_data.params import BinnedParams
from owa_data.store.dataset_folder import Lineage
from owa_data.store.incremental import EpisodeInput, Plan, plan_build, shard_inputs
from owa_data.store.ledger import Counts
from owa_data.store.shard_cache import ShardCache
from owa_data.store.shards import read_shard
from owa_data.store.source import ByteSource


def plan_binned(params: BinnedParams, events: Lineage, event_dir: Path, cache: ShardCache) -> Plan:
    """Plan a build of the binned dataset from the event dataset in `event_dir`; `store.incremental.build_dataset` does it.

    Raises:
        ParamsError: A bin function that is not there.
    """
    return plan_build(BinnedConversion(params), shard_inputs(events, event_dir), cache)


@dataclass(frozen=True)
class BinnedConversion:
    """Conversion of event shards with fixed params; picklable. `bin_function_sha256` is of the source of one's own bin function as it is now."""

    params: BinnedParams
    kind: str = "binned"
    bin_function_sha256: str = field(init=False)

    def __post_init__(self) -> None:
        """Digest the bin function.

        Raises:
            ParamsError: There is no such function.
        """
        object.__setattr__(self, "bin_function_sha256", find_bin_function(self.params.bin_function)[1])

    @property
    def key_params(self) -> dict[str, Any]:
        """See `store.incremental.Conversion`. A bin function of one's own counts by the content of its file, as that is now."""
        return {
            **self.params.model_dump(mode="json"),
            "bin_function_sha256": find_bin_function(self.params.bin_function)[1],
        }

    def convert(self, source: ByteSource, episode: EpisodeInput) -> tuple[Iterator[pa.RecordBatch], Counts]:
        """Convert one event shard.

        Raises:
            ParamsError: The bin function is not the one that the build began with.
        """
        bin_function, sha256 = find_bin_function(self.params.bin_function)
        if sha256 != self.bin_function_sha256:
            raise ParamsError("binned.bin_function", f"{self.params.bin_function!r} was edited while the build ran. Run it again")
        return convert_events(read_shard(source.read(0, source.size_bytes)), episode.episode_path, self.params, bin_function)
