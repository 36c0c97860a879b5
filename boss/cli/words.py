"""What several commands print: lines, warnings, runs in words."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from boss.study.run import Run
from boss.units import duration, gigabytes
from boss.workers.cost import Cost, gpu_hours, gpu_memory

PROGRAM = "boss-study"
LARGE_MEMORY = 2**32  # bytes of a run from which they are shown


def say(line: str) -> None:
    """Print a line; if the reader has gone (`| head`), continue in silence."""
    try:
        print(line, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # until the end of the process


def warn(line: str) -> None:
    """Print a warning to stderr."""
    print(f"{PROGRAM}: warning: {line}", file=sys.stderr)


def warn_of_unreadable(unreadable: Mapping[Path, str]) -> None:
    """A warning for each file of results that cannot be read."""
    for path, error in unreadable.items():
        warn(f"cannot read {path} ({error}): its run counts as not finished")


def aligned(names: Mapping[str, str]) -> dict[str, str]:
    """The same strings, padded to one width."""
    width = max(32, *map(len, names.values()))
    return {run_id: f"{name:<{width}}" for run_id, name in names.items()}


def describe_runs(runs: list[Run], costs: Mapping[str, Cost]) -> str:
    """Number of runs, data set, algorithms, network, steps and, as far as it is known, the cost."""
    names = titles_of_algorithms()

    def join(values: list[str]) -> str:
        return ", ".join(dict.fromkeys(values))

    steps = join([f"{run.num_steps:,}" for run in runs])
    cost = describe_cost(runs, costs)
    return (
        f"{len(runs)} {'run' if len(runs) == 1 else 'runs'} on {join([r.dataset for r in runs])}"
        f" ({join([names.get(r.algorithm, r.algorithm) for r in runs])}),"
        f" {join([r.network for r in runs])}, {steps} steps each{cost and f'; {cost}'}"
    )


def describe_cost(runs: list[Run], costs: Mapping[str, Cost]) -> str:
    """Hours on a GPU and, if it is large, the memory of a run: estimates; empty if unknown."""
    hours = gpu_hours(runs, costs)
    if hours is None:
        return ""
    memory = max((gpu_memory(run, costs) or 0 for run in runs), default=0)
    large = f" with {gigabytes(memory)} of memory per run" if memory > LARGE_MEMORY else ""
    return f"about {duration(3600 * hours)} on one GPU{large} (estimate)"


def shown(path: Path) -> str:
    """A path below the working directory as a person would type it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def titles_of_algorithms() -> dict[str, str]:
    """The title of each algorithm by its name."""
    from boss.study.catalog import ALGORITHMS

    return {name: facts.title for name, facts in ALGORITHMS.items()}
