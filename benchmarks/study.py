"""What a run costs beyond its training: a study of many trivial runs.

    python -m benchmarks.study            # 1,000 runs, by two workers and by one
    python -m benchmarks.study --quick    # 50 runs

Each run trains the smallest network on the digits for two steps and is stored like any other. Its
cost beyond the training is

    wall clock x workers / runs - mean of the column `seconds` (training and evaluation).

Other work on the machine lengthens that, and hardly the processor time of all processes of the
study, from which that of the training loop in the second table is taken away. Starting the fork
server, which imports torch, is left out and printed for itself. The parts are those of
`boss.workers.worker.train_run`, called again and again in one process.
"""

import argparse
import functools
import gc
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from boss.results.read import Store
from boss.study.run import Run
from boss.units import num_cores
from boss.workers import runtime
from boss.workers.process import in_child
from boss.workers.progress import StudyDisplay
from boss.workers.runtime import Runtime
from boss.workers.scheduler import Stop, execute

# Part of a run -> the names in boss.workers.worker that do it.
PARTS = {
    "data set and label set": ("labeled_images", "Workbench.dataset"),
    "network, optimizer, views": ("start_run",),
    "images": ("training_data",),
    "training and evaluation": ("train",),
    "rows": ("tables_of",),
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


def measure_study(num_runs: int, workers: int, trained_cpu: float, folder: Path) -> None:
    """Print what the runs cost, through `execute` with its display.

    Args:
        trained_cpu: processor ms of one training.
    """
    runs = runs_of(num_runs)
    where = Runtime(
        results=folder, study=f"by-{workers}", versions=runtime.versions(), commit=runtime.commit()
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
        f" {1e3 * cpu / num_runs - trained_cpu:.1f} |"
    )


def timed(function: Callable[..., Any], times: list[tuple[float, float]]) -> Callable[..., Any]:
    """The function; each call also appends its milliseconds, of the clock and of the processor."""

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter(), time.process_time()
        try:
            return function(*arguments, **named)
        finally:
            spent = time.perf_counter() - began[0], time.process_time() - began[1]
            times.append((1e3 * spent[0], 1e3 * spent[1]))

    return call


def measure_parts(num_runs: int, folder: Path) -> tuple[float, list[str]]:
    """In a process of its own: processor ms of a training (median), lines of a table."""
    from boss.workers import worker

    worker.limit_threads(1)
    gc.freeze()
    calls: dict[str, list[tuple[float, float]]] = {part: [] for part in PARTS}
    for part, names in PARTS.items():
        for name in names:
            *holders, attribute = name.split(".")
            owner = functools.reduce(getattr, holders, worker)
            setattr(owner, attribute, timed(getattr(owner, attribute), calls[part]))
    where = Runtime(results=folder, study="parts", versions=runtime.versions())
    workbench = worker.Workbench()
    wholes: list[tuple[float, float]] = []
    times: dict[str, list[tuple[float, float]]] = {part: [] for part in PARTS}

    def once(run: Run) -> None:
        worker.train_run(run, where, workbench=workbench)
        workbench.clear_up()

    for run in runs_of(num_runs):
        timed(once, wholes)(run)
        for part, spent in calls.items():
            times[part].append((sum(s[0] for s in spent), sum(s[1] for s in spent)))
            spent.clear()
    parts = zip(*times.values(), strict=True)
    times["everything else"] = [
        (whole[0] - sum(s[0] for s in run), whole[1] - sum(s[1] for s in run))
        for whole, run in zip(wholes, parts, strict=True)
    ]
    times["together"] = wholes
    lines = ["| part of a run | ms, median (quartiles) | CPU ms |", "| --- | --: | --: |"]
    for part, spent in times.items():
        clock, processor = zip(*spent, strict=True)
        lines.append(f"| {part} | {quartiles(clock)} | {quartiles(processor)} |")
    return statistics.median(s[1] for s in times["training and evaluation"]), lines


def quartiles(values: Sequence[float]) -> str:
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
    in_child(num_cores)
    print(f"fork server with torch: {time.perf_counter() - began:.1f} s, once per command\n")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        trained, lines = in_child(measure_parts, min(num_runs, 100), Path(folder))
        print("| runs | workers | wall, s | ms per run | trained | beyond | CPU ms | beyond |")
        print("| --: | --: | --: | --: | --: | --: | --: | --: |")
        for workers in arguments.workers:
            measure_study(num_runs, workers, trained, Path(folder))
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
