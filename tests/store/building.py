"""Index recordings and build their event dataset, as a process of its own that tests can kill.

python -m tests.store.building <recordings> <cache> <out> [slow | blocked]

With `slow` each conversion takes 0.3 s longer, so that there is time to interfere, with `blocked` as good as forever; a line `converting <pid>` says
when one begins.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from owa_data.errors import OwaDataError
from owa_data.event.build import EventConversion, event_inputs
from owa_data.params import EventParams, RawParams, RuntimeParams
from owa_data.raw.build import build_index
from owa_data.store.incremental import build_dataset, plan_build
from owa_data.store.shard_cache import ShardCache

WORKERS = RuntimeParams(num_workers=2, progress=False)


@dataclass(frozen=True)
class SlowConversion(EventConversion):
    """The event conversion, slower; equal keys, equal bytes."""

    delay_s: float = 0.3

    def convert(self, source: Any, episode: Any) -> tuple[Iterator[pa.RecordBatch], dict[str, Any]]:
        os.write(1, f"converting {os.getpid()}\n".encode())
        time.sleep(self.delay_s)
        return super().convert(source, episode)


def build(recordings: Path, cache_root: Path, out_dir: Path, *, delay_s: float = 0) -> int:
    """Build; returns how many episodes were converted."""
    cache = ShardCache(cache_root)
    index = build_index(RawParams(dir=str(recordings), watch=str(recordings), metadata=""), cache, WORKERS)
    conversion = SlowConversion(EventParams(), delay_s=delay_s) if delay_s else EventConversion(EventParams())
    plan = plan_build(conversion, event_inputs(index.episodes, str(recordings)), cache)
    build_dataset(plan, out_dir, cache, WORKERS)
    return len(plan.missing)


if __name__ == "__main__":
    try:
        print(
            "converted", build(*map(Path, sys.argv[1:4]), delay_s={"slow": 0.3, "blocked": 3600}.get(sys.argv[-1], 0)), flush=True
        )
    except OwaDataError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted")
