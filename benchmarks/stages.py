"""The three stages, timed as stages: with their worker processes, the shard cache cold, the page cache warm.

Each stage runs in a process of its own, as it does under DVC, so that its memory and its workers are its own.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import pickle
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from owa_data.event.build import plan_event
from owa_data.event.report import event_metrics
from owa_data.fsl.build import plan_fsl
from owa_data.fsl.report import fsl_metrics
from owa_data.params import EventParams, FslParams, RawParams, RuntimeParams, TokenizerParams
from owa_data.raw.build import build_index, index_metrics
from owa_data.store.dataset_folder import Lineage
from owa_data.store.executors import keep_freed_memory
from owa_data.store.incremental import build_dataset
from owa_data.store.lean_arrow import spare_pandas
from owa_data.store.shard_cache import ShardCache

Row = dict[str, Any]

ROOT = Path(__file__).parent.parent

_HOLE_BYTES = 1 << 42
_SLOW_S_PER_GB = 1.5


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        return executor.submit(function, *arguments).result()


def peak_memory_bytes() -> int:
    """Return the most memory this process has had since `reset_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def reset_peak() -> int:
    """Begin to measure the peak anew; returns the memory in use."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory_bytes()


def fill_free_memory(folder: Path) -> None:
    """On a virtual machine whose host takes free memory back, have the page cache take it; what needs memory then gets the cache's.

    Memory is full of cache on any machine that has worked for a while. From the host each page costs ten times as much the first time, 3 s per
    GB, which is no property of the stages.
    """
    if _first_touch_s_per_gb() < _SLOW_S_PER_GB:
        return
    free_bytes = int(Path("/proc/meminfo").read_text().split("MemFree:")[1].split()[0]) * 1024
    block = bytearray(1 << 24)
    with open(os.open(folder / "hole", os.O_RDWR | os.O_CREAT), "rb+", buffering=0) as file:  # noqa: PTH123 - made if absent, kept if not
        file.truncate(_HOLE_BYTES)  # takes no space on disk
        file.seek(random.randrange(_HOLE_BYTES // 2))  # another part than last time
        for _ in range(free_bytes // len(block)):
            file.readinto(block)


def _first_touch_s_per_gb() -> float:
    with mmap.mmap(-1, 1 << 27) as memory:
        start = time.perf_counter()
        for offset in range(0, len(memory), mmap.PAGESIZE):
            memory[offset] = 1
        return (time.perf_counter() - start) * 1e9 / len(memory)


def measure_stages(
    corpus: Path, num_episodes: int, num_workers: int, tokenizer: TokenizerParams, work: Path, write_texts: bool = True
) -> list[Row]:
    """Run the stages over the first episodes of a corpus; one row each.

    Memory is that of the stage's process, so it is measured with one worker only, which is that process; 0 else.
    """
    work.mkdir(parents=True, exist_ok=True)
    rows = []
    with TemporaryDirectory(dir=work) as folder:
        build = _Build(corpus, num_episodes, num_workers, tokenizer, Path(folder), write_texts)
        for stage in ("raw", "event", "fsl"):
            command = [sys.executable, "-m", "benchmarks.one_stage"]
            result = subprocess.run(command, input=pickle.dumps((build, stage)), stdout=subprocess.PIPE, cwd=ROOT, check=True)
            build, row = pickle.loads(result.stdout)
            rows.append(row)
    return rows


def run_stage(build: _Build, stage: str) -> tuple[_Build, Row]:
    """Run `raw`, `event` or `fsl`; the build knows what came out then."""
    keep_freed_memory()  # as a stage does, and this
    spare_pandas()
    return build, getattr(build, stage)()


class _Build:
    def __init__(
        self, corpus: Path, num_episodes: int, num_workers: int, tokenizer: TokenizerParams, folder: Path, write_texts: bool
    ) -> None:
        self.raw_params = RawParams(dir=str(corpus), watch=str(corpus), metadata="", limit=num_episodes)
        self.runtime = RuntimeParams(num_workers=num_workers, progress=False)
        self.cache = ShardCache(folder / "cache")
        self.folder = folder
        self.tokenizer = tokenizer
        self.write_texts = write_texts
        self.measured: Row = {}

    @contextmanager
    def timed(self, stage: str) -> Any:
        os.sync()  # what was written and deleted before is done with on the disk, too, and does not hold up this
        fill_free_memory(self.folder.parent)
        before = reset_peak()
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.measured = {
            "stage": stage,
            "workers": self.runtime.num_workers,
            "wall_s": time.perf_counter() - wall,
            "cpu_s": time.process_time() - cpu if self.runtime.num_workers == 1 else 0.0,
            "start_memory_mb": before / 1e6,
            "peak_memory_mb": peak_memory_bytes() / 1e6 if self.runtime.num_workers == 1 else 0.0,
        }

    def raw(self) -> Row:
        with self.timed("raw"):
            self.index = build_index(self.raw_params, self.cache, self.runtime)
        counts = index_metrics(self.index)
        self.hours = counts["hours"]
        self.num_messages = sum(counts["messages"].values())
        return self.row(counts["mcap_bytes"], 0, counts["mcap_bytes"])

    def event(self) -> Row:
        present = {topic for episode in self.index.episodes for topic in episode.topics}  # old recordings have no mouse/raw
        params = EventParams(topics={name: row for name, row in EventParams().topics.items() if row.topic in present})
        with self.timed("event"):
            plan = plan_event(params, self.index.episodes, self.raw_params.dir, self.cache)
            self.events: Lineage = build_dataset(plan, self.folder / "event", self.cache, self.runtime)
        metrics = event_metrics(self.events, params)
        read = sum(episode.input_bytes for episode in plan.episodes)
        kept = sum(topic["read"] for topic in metrics["topics"].values())
        rates = {name: [topic["asked_hz"], topic["achieved_hz"]] for name, topic in metrics["topics"].items()}
        more = {"messages_of_topics": kept, "events": metrics["rows"], "asked_achieved_hz": rates}
        return self.row(read, metrics["size_bytes"], read) | more

    def fsl(self) -> Row:
        params = FslParams(tokenizer=self.tokenizer.name, write_texts=self.write_texts)
        with self.timed("fsl"):
            plan = plan_fsl(params, self.tokenizer, self.events, self.folder / "event", self.cache)
            lineage = build_dataset(plan, self.folder / "fsl", self.cache, self.runtime)
        metrics = fsl_metrics(lineage, self.events, params)
        read = sum(episode.size_bytes for episode in self.events.episodes)
        more = {"events": metrics["events"]["read"], "tokens": metrics["tokens"], "bytes_per_token": metrics["bytes_per_token"]}
        return self.row(read, metrics["size_bytes"], read) | more | {"tokenizer": self.tokenizer.name, "texts": self.write_texts}

    def row(self, read: int, written: int, source: int) -> Row:
        return {
            **self.measured,
            "episodes": len(self.index.episodes),
            "hours": round(self.hours, 3),
            "messages": self.num_messages,
            "read_bytes": read,
            "written_bytes": written,
            "written_gb_per_hour": written / 1e9 / self.hours,
        }


def build_datasets(corpus: Path, num_episodes: int, tokenizer: TokenizerParams, folder: Path) -> Path:
    """Build the datasets of the first episodes, `folder/event` and `folder/fsl`, for what is measured or compared row by row."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    build = _Build(corpus, num_episodes, 1, tokenizer, folder, write_texts=True)
    build.raw()
    build.event()
    build.fsl()
    return folder
