"""What a run costs beyond its training: a study of many trivial runs.

    python benchmarks/study.py            # 1,000 runs, by two workers and by one
    python benchmarks/study.py --quick    # 50 runs

Each run trains the smallest network on the digits for two steps and is stored like any other. Its
cost beyond the training is

    wall clock x workers / runs - mean of the column `seconds` (training and evaluation),

and likewise of the processor time of all processes of the study, which other work on the machine
touches less. Starting the fork server, which imports torch, is left out and printed for itself. The
parts are those of `boss.perform.perform` called again and again in one process.
"""

import argparse
import functools
import gc
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from boss import place
from boss.display import StudyDisplay
from boss.execute import Stop, execute, in_child
from boss.place import Place
from boss.store import Store
from boss.study import Run

# Part of a run -> the names in boss.perform that do it.
PARTS = {
    "data set and label set": ("labeled_images", "Workbench.dataset"),
    "network, optimizer, views": ("start_run",),
    "images": ("training_data",),
    "training and evaluation": ("train",),
    "predictions": ("_prediction_rows",),
    "other rows": ("_run_row", "_label_rows"),
    "lock, clearing up": ("_lock", "shutil.rmtree", "Workbench.clear_up"),
    "writing, flushed to disk": ("Store.write",),
}


def runs_of(num: int) -> list[Run]:
    """Trivial runs that differ in their repeat."""
    return [
        Run(
            dataset="digits",
            algorithm="fixmatch",
            label_set=f"fixmatch:{i % 4}@10",
            repeat=i // 4,
            network="wrn-7-1",
            num_images=8,
            batch_size=4,
            unlabeled_ratio=1,
            num_evaluations=1,
            max_eval_images=20,
        )
        for i in range(num)
    ]


def processor_seconds() -> float:
    """Of this process and of its living children, with all of theirs that have ended (Linux)."""
    total = sum(os.times()[:2])
    ticks = os.sysconf("SC_CLK_TCK")
    for listed in Path("/proc/self/task").glob("*/children"):
        for child in listed.read_text().split():
            fields = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()
            total += sum(map(int, fields[11:15])) / ticks  # user, system, and of ended children
    return total


def measure_study(num_runs: int, workers: int, folder: Path) -> None:
    """Print what the runs cost, through `execute` with its display."""
    runs = runs_of(num_runs)
    where = Place(
        results=folder, study=f"by-{workers}", versions=place.versions(), commit=place.commit()
    )
    console = Console(file=io.StringIO())
    display = StudyDisplay(where.study, runs, 0, workers, console)
    cpu, began = processor_seconds(), time.perf_counter()
    with display:
        outcomes = execute(runs, where, ["cpu"] * workers, display, Stop())
    wall = time.perf_counter() - began
    time.sleep(0.5)  # until the fork server has counted its children
    cpu = processor_seconds() - cpu
    assert {outcome.state for outcome in outcomes} == {"finished"}, outcomes[0]
    seconds = Store(folder, where.study).read("runs")["seconds"]
    per_run, trained = 1e3 * wall * workers / num_runs, 1e3 * seconds.mean()
    print(
        f"| {num_runs:,} | {workers} | {wall:.1f} | {per_run:.1f} | {trained:.1f}"
        f" | {per_run - trained:.1f} | {1e3 * cpu / num_runs:.1f} |"
        f" {1e3 * cpu / num_runs - trained:.1f} |"
    )


def timed(function: Callable[..., Any], times: list[float]) -> Callable[..., Any]:
    """The function; each call also appends its milliseconds."""

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            times.append(1e3 * (time.perf_counter() - began))

    return call


def measure_parts(num_runs: int, folder: Path) -> list[str]:
    """In a process of its own: lines of a table."""
    from boss import perform

    perform.limit_threads(1)
    gc.freeze()
    times: dict[str, list[float]] = {part: [] for part in PARTS}
    whole: list[float] = []
    where = Place(results=folder, study="parts", versions=place.versions())
    for part, names in PARTS.items():
        for name in names:
            *holders, attribute = name.split(".")
            owner = functools.reduce(getattr, holders, perform)
            setattr(owner, attribute, timed(getattr(owner, attribute), times[part]))
    workbench = perform.Workbench()

    def once(run: Run) -> None:
        perform.perform(run, where, workbench=workbench)
        workbench.clear_up()

    for run in runs_of(num_runs):
        timed(once, whole)(run)
    lines = ["| part of a run | ms, median (quartiles) |", "| --- | --: |"]
    rest = list(whole)
    for part, spent in times.items():
        per_run = len(spent) // num_runs or 1
        sums = [sum(spent[i : i + per_run]) for i in range(0, len(spent), per_run)]
        rest = [r - s for r, s in zip(rest, sums, strict=True)]
        lines.append(f"| {part} | {quartiles(sums)} |")
    lines.append(f"| everything else | {quartiles(rest)} |")
    return [*lines, f"| together | {quartiles(whole)} |"]


def quartiles(values: list[float]) -> str:
    """The median, and the quartiles in brackets."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def main(argv: list[str] | None = None) -> None:
    """Print a line for each number of workers, then the parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="50 runs")
    parser.add_argument("--workers", type=int, nargs="*", default=[2, 1])
    parser.add_argument("--folder", help="where to write, removed afterwards (default: temporary)")
    arguments = parser.parse_args(argv)
    num_runs = 50 if arguments.quick else arguments.runs
    began = time.perf_counter()
    in_child(place.num_cores)
    print(f"fork server with torch: {time.perf_counter() - began:.1f} s, once per command\n")
    print("| runs | workers | wall, s | ms per run | trained | beyond | CPU ms | beyond |")
    print("| --: | --: | --: | --: | --: | --: | --: | --: |")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for workers in arguments.workers:
            measure_study(num_runs, workers, Path(folder))
        print()
        print("\n".join(in_child(measure_parts, min(num_runs, 100), Path(folder))))


if __name__ == "__main__":
    main()
