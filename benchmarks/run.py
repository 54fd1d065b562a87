"""Measure everything: `python -m benchmarks.run` in under two minutes, `--full` for the numbers of docs/performance.md.

Writes benchmarks/results.json, docs/images/time_by_hours.png, and prints the table.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.baseline import measure_baseline
from benchmarks.corpus import EPISODES_PER_HOUR, prepare_corpus, prepare_huge, tokenizers
from benchmarks.limits import measure_limits
from benchmarks.plot import draw_time_by_hours
from benchmarks.stages import Row, build_datasets, in_own_process, measure_stages
from owa_data.params import TokenizerParams

FOLDER = Path(__file__).parent
_BASELINE_ROUNDS = 5
OTHERS = ("benchmarks.transforms", "benchmarks.loader")


def measure(cache: Path, hours: Sequence[int], *, full: bool) -> dict[str, Any]:
    """Measure the stages, the limits and the baseline on generated recordings below `cache`."""
    work = cache / "work"
    corpus = prepare_corpus(cache, max(hours))
    known = tokenizers()
    first = next(iter(known.values()))
    rows: list[Row] = []
    measure_stages(corpus, 2, 2, first, work)  # files into the page cache, modules into theirs
    for number in hours:
        for num_workers in (1, 2) if full or number == max(hours) else (2,):
            episodes = number * EPISODES_PER_HOUR
            for row in measure_stages(corpus, episodes, num_workers, first, work):
                _say(row)
                rows.append(row)
    variants = []
    for tokenizer, write_texts in [(first, False), *((tokenizer, True) for tokenizer in list(known.values())[1:])]:
        variants.append(measure_stages(corpus, 2, 2, tokenizer, work, write_texts)[-1])
        _say(variants[-1])
    results: dict[str, Any] = {"machine": _machine(), "tokenizer": first.name, "stages": rows, "fsl_variants": variants}
    recordings = sorted(corpus.rglob("*.mcap"))[:2]
    names = [path.relative_to(corpus).as_posix() for path in recordings]
    events = build_datasets(corpus, 2, first, work / "events") / "event"
    results["limits"] = _limits_and_cost(corpus, 12 if full else 4, first, work)
    # The machine's speed changes by the minute: the stages are measured before and after each round of the baseline.
    most = max(hours) * EPISODES_PER_HOUR
    turns = [measure_stages(corpus, most, 2, first, work)]
    baselines = []
    for _ in range(_BASELINE_ROUNDS if full else 1):
        split = _split_of(events, names)
        os.sync()  # as before the stages
        baselines.append(measure_baseline(recordings, split, names, first, work / "baseline", whole=full))
        turns.append(measure_stages(corpus, most, 2, first, work))
    results |= {"baseline": baselines, "beside_baseline": turns}
    if full:
        results["huge_episode"] = measure_stages(prepare_huge(cache), 1, 1, first, work)
        for row in results["huge_episode"]:
            _say(row)
    results["ratios"] = _ratios(results)
    for name in OTHERS:
        if full and (FOLDER / f"{name.rpartition('.')[2]}.py").exists():
            results[name.rpartition(".")[2]] = importlib.import_module(name).main()
    return results


def _limits_and_cost(corpus: Path, num_episodes: int, tokenizer: TokenizerParams, work: Path) -> dict[str, Any]:
    """Seconds of CPU for some episodes in one process: the bounds, and what each stage takes for just these episodes on top of the first ones.

    Start-up and loading the tokenizer fall out of the difference.
    """

    def cost(count: int) -> list[Row]:
        runs = [measure_stages(corpus, count, 1, tokenizer, work) for _ in range(3)]
        return [min(rows, key=lambda row: row["cpu_s"]) for rows in zip(*runs, strict=True)]

    num_few = 2
    num_many = num_few + num_episodes
    recordings = sorted(corpus.rglob("*.mcap"))[num_few:num_many]
    events = build_datasets(corpus, num_many, tokenizer, work / "limits") / "event"
    shards = [path for path in events.rglob("*.arrow") if path.stem in {recording.stem for recording in recordings}]
    limits = in_own_process(measure_limits, recordings, shards, work)
    few, many = cost(num_few), cost(num_many)
    return limits | {
        "episodes": num_episodes,
        "stages_cpu_s": {a["stage"]: b["cpu_s"] - a["cpu_s"] for a, b in zip(few, many, strict=True)},
        "messages_of_topics": many[1]["messages_of_topics"] - few[1]["messages_of_topics"],
        "events": many[1]["events"] - few[1]["events"],
    }


def _split_of(events: Path, names: Sequence[str]) -> Path:
    """The folder of the split that holds these episodes; two by name never lie in both here."""
    return next(
        folder
        for folder in (events / "train", events / "test")
        if all((folder / name).with_suffix(".arrow").exists() for name in names)
    )


def _say(row: Row) -> None:
    print(
        f"{row['stage']:>5} {row['hours']:6.2f} h, {row['workers']} workers: {row['wall_s']:7.2f} s, {row['messages'] / row['wall_s']:12,.0f} messages/s"
    )


def _between(values: list[float]) -> list[float]:
    """The mean of each value and the next one."""
    return [(before + after) / 2 for before, after in itertools.pairwise(values)]


def _over(left: list[float], right: list[float]) -> list[float]:
    return [one / other for one, other in zip(left, right, strict=True)]


def _ratios(results: dict[str, Any]) -> dict[str, Any]:
    """The numbers that are promised; see docs/performance.md."""
    stages, limits, baselines, turns = results["stages"], results["limits"], results["baseline"], results["beside_baseline"]
    _, event, fsl = turns[0]
    walls_s = [[row["wall_s"] for row in turn] for turn in turns]
    event_s, fsl_s = (_between([wall[stage] for wall in walls_s]) for stage in (1, 2))
    event_by_hand_s = [event["messages_of_topics"] / baseline["event_messages_per_s"] for baseline in baselines]
    fsl_by_hand_s = {
        library: [fsl["events"] / baseline[f"fsl_events_per_s_{library}"] for baseline in baselines]
        for library in ("transformers", "tokenizers")
    }
    ours_s = [sum(both) for both in zip(event_s, fsl_s, strict=True)]
    ratios: dict[str, Any] = {}
    for library, by_hand_s in fsl_by_hand_s.items():
        speedups = _over([sum(both) for both in zip(event_by_hand_s, by_hand_s, strict=True)], ours_s)
        ratios |= {f"speedup_over_baseline_{library}": median(speedups), f"speedups_over_baseline_{library}": speedups}
    # The same per second of CPU, one process against one: what remains true on a machine that others use too.
    cpu = limits["stages_cpu_s"]
    messages, events = limits["messages_of_topics"], limits["events"]
    by_hand_cpu_s = median(
        messages / baseline["event_messages_per_cpu_s"] + events / baseline["fsl_events_per_cpu_s_transformers"]
        for baseline in baselines
    )
    return ratios | {
        "speedup_over_baseline_cpu": by_hand_cpu_s / (cpu["event"] + cpu["fsl"]),
        "cpu_s_per_10_minutes": {stage: seconds / limits["episodes"] for stage, seconds in cpu.items()},
        "seconds_of_2_cores_for_300_hours": sum(cpu.values()) / limits["episodes"] * 6 * 300 / 2,
        "event_speedup": median(_over(event_by_hand_s, event_s)),
        "fsl_speedup_transformers": median(_over(fsl_by_hand_s["transformers"], fsl_s)),
        "event_over_decompress_and_decode": limits["event_over_bounds"],
        "raw_over_decompress": limits["decompress_s"] / limits["stages_cpu_s"]["raw"],
        "stage_seconds_for_300_hours": _seconds_for(stages, 300),
        "event_and_fsl_seconds_per_10_minutes": median(ours_s) / event["episodes"],
        "bytes_per_token": fsl["bytes_per_token"],
    }


def _seconds_for(stages: list[Row], hours: float) -> float:
    """Wall seconds of the three stages at two workers, carried on along the line through the fewest and the most hours measured."""
    walls: dict[float, float] = {}
    for row in stages:
        if row["workers"] == 2:
            walls[row["hours"]] = walls.get(row["hours"], 0.0) + row["wall_s"]
    few, many = min(walls), max(walls)
    slope = (walls[many] - walls[few]) / (many - few) if many > few else walls[many] / many
    return walls[many] + slope * (hours - many)


def _machine() -> dict[str, Any]:
    model = [
        line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=FOLDER, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "processor": model[0] if model else platform.processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "commit": commit,
        "load_at_end": os.getloadavg()[0],
    }


def table(results: dict[str, Any]) -> str:
    """Return the stages as a Markdown table."""
    lines = [
        "| stage | hours | workers | seconds | messages/s | events/s | tokens/s | MB/s read | MB/s written | GB per hour | bytes per token | peak MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in [*results["stages"], *results.get("huge_episode", [])]:
        per_s = {key: f"{row[key] / row['wall_s']:,.0f}" if key in row else "" for key in ("messages", "events", "tokens")}
        read, written = (row[key] / 1e6 / row["wall_s"] for key in ("read_bytes", "written_bytes"))
        per_token = f"{row['bytes_per_token']:.2f}" if "bytes_per_token" in row else ""
        memory = f"{row['peak_memory_mb']:.0f}" if row["peak_memory_mb"] else ""
        lines.append(
            f"| {row['stage']} | {row['hours']:g} | {row['workers']} | {row['wall_s']:.2f} | {per_s['messages']} | {per_s['events']} | "
            f"{per_s['tokens']} | {read:.0f} | {written:.0f} | {row['written_gb_per_hour']:.3f} | {per_token} | {memory} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--full", action="store_true", help="1, 3 and 10 hours, a recording of 90 minutes, whole episodes for the baseline"
    )
    parser.add_argument("--hours", type=int, help="hours of recordings, instead of 1 (or 1, 3 and 10)")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(tempfile.gettempdir()) / "owa-data-benchmarks",
        help="folder for generated recordings (0.08 GB per hour)",
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for results.json")
    parser.add_argument("--plot", type=Path, default=FOLDER.parent / "docs/images/time_by_hours.png", help="file for the plot")
    arguments = parser.parse_args()
    hours = [arguments.hours] if arguments.hours else [1, 3, 10] if arguments.full else [1]
    results = measure(arguments.cache, hours, full=arguments.full)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    draw_time_by_hours(results["stages"], arguments.plot)
    print(table(results))
    print(json.dumps({"limits": results["limits"], "baseline": results["baseline"], "ratios": results["ratios"]}, indent=2))


if __name__ == "__main__":
    main()
