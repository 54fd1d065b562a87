"""The three stages, timed as stages: with their worker processes, the shard cache cold, the page cache warm.

Each measurement runs in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import mmap
import multiprocessing
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from owa_data.event.build import EventConversion, event_inputs, event_metrics
from owa_data.fsl.build import fsl_inputs, fsl_metrics, prepare_fsl
from owa_data.params import EventParams, FslParams, RawParams, RuntimeParams, TokenizerParams
from owa_data.raw.build import build_index, index_metrics
from owa_data.store.dataset_folder import Lineage
from owa_data.store.digest_memory import DigestMemory
from owa_data.store.executors import keep_freed_memory
from owa_data.store.incremental import build_dataset, plan_build
from owa_data.store.shard_cache import ShardCache

Row = dict[str, Any]

_TOUCHED_BYTES, _TOUCHED_BYTES_PER_EPISODE = 1_000_000_000, 40_000_000


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


def touch_memory(num_bytes: int) -> None:
    """Have the system hand out memory once, so that what follows finds it there.

    A virtual machine may give free memory back to its host, and then each page costs ten times as much the first time: 3 s per GB here, which is no
    property of the stages. Where free memory stays, this changes nothing.
    """
    with mmap.mmap(-1, num_bytes) as memory:
        for offset in range(0, num_bytes, mmap.PAGESIZE):
            memory[offset] = 1


def measure_stages(
    corpus: Path, num_episodes: int, num_workers: int, tokenizer: TokenizerParams, work: Path, write_texts: bool = True
) -> list[Row]:
    """Run the stages over the first episodes of a corpus; one row each.

    Memory is that of this process, so it is measured with one worker only, which is this process; 0 else.
    """
    work.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()  # as a stage does
    with TemporaryDirectory(dir=work) as folder:
        build = _Build(corpus, num_episodes, num_workers, tokenizer, Path(folder), write_texts)
        return [build.raw(), build.event(), build.fsl()]


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
    def timed(self, stage: str, num_episodes: int) -> Any:
        in_own_process(touch_memory, _TOUCHED_BYTES + num_episodes * _TOUCHED_BYTES_PER_EPISODE)
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
        with self.timed("raw", self.raw_params.limit):
            self.index = build_index(self.raw_params, self.cache, self.runtime)
        counts = index_metrics(self.index)
        self.hours = counts["hours"]
        self.num_messages = sum(counts["messages"].values())
        return self.row(counts["mcap_bytes"], 0, counts["mcap_bytes"])

    def event(self) -> Row:
        params = EventParams()
        conversion = EventConversion(params)
        with self.timed("event", len(self.index.episodes)):
            inputs = event_inputs(self.index.episodes, self.raw_params.dir, DigestMemory(self.cache.root, self.raw_params.dir))
            plan = plan_build(conversion, inputs, self.cache)
            self.events: Lineage = build_dataset(
                conversion, plan, self.folder / "event", self.cache, self.runtime, {}, preload=["owa_data.event.build"]
            )
        metrics = event_metrics(self.events, params)
        read = sum(episode.input_bytes for episode in inputs)
        kept = sum(topic["read"] for topic in metrics["topics"].values())
        rates = {name: [topic["asked_hz"], topic["achieved_hz"]] for name, topic in metrics["topics"].items()}
        more = {"messages_of_topics": kept, "events": metrics["rows"], "asked_achieved_hz": rates}
        return self.row(read, metrics["size_bytes"], read) | more

    def fsl(self) -> Row:
        params = FslParams(tokenizer=self.tokenizer.name, write_texts=self.write_texts)
        with self.timed("fsl", len(self.events.episodes)):
            prepared = prepare_fsl(params, self.tokenizer, self.cache)
            plan = plan_build(prepared.conversion, fsl_inputs(self.events, self.folder / "event", params), self.cache)
            lineage = build_dataset(
                prepared.conversion,
                plan,
                self.folder / "fsl",
                self.cache,
                self.runtime,
                prepared.facts,
                preload=["owa_data.fsl.build"],
                add_files=prepared.add_files,
            )
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
