"""`boss-study list`: every study, what it reproduces and what it costs."""

import argparse
import sys

from boss.cli.words import describe_runs
from boss.folders import bundled
from boss.study.run import Run
from boss.study.study import find, load
from boss.workers import cost

HELP = "every study: what it reproduces and costs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--cost", action="store_true",
        help="measure the cost of a step where it is unknown (takes about a second each)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Print each study with its runs at each budget."""
    folder = bundled("studies")
    studies = {name: load(name, folder) for name in find(folder)}
    runs = {
        (name, budget): study.enumerate(budget)
        for name, study in studies.items()
        for budget in study.budgets
    }
    costs = cost.read_cache()
    every = [run for some in runs.values() for run in some]
    if arguments.cost:
        costs = measure(every, costs)
    for name, study in studies.items():
        print(f"{name}\n    {study.reproduces}")
        for budget in study.budgets:
            default = " (default)" if budget == study.default_budget else ""
            line = describe_runs(runs[name, budget], costs)
            print(f"    {budget + default + ':':<17} {line}")
    unknown = cost.missing(every, costs)
    hint = f" `{COMMAND}` measures the {len(unknown)} that are unknown." if unknown else ""
    print(f"\nCosts are {cost.ESTIMATE}.{hint}")
    return 0


COMMAND = "boss-study list --cost"


def measure(runs: list[Run], costs: dict[str, cost.Cost]) -> dict[str, cost.Cost]:
    """The costs and those that were missing, unless measuring fails; progress on stderr."""
    waiting = cost.missing(runs, costs)
    for number, run in enumerate(waiting, start=1):
        line = f"measuring a step of {run.algorithm} with {run.network}"
        print(f"{line} ({number} of {len(waiting)})", file=sys.stderr)
        costs = costs | cost.measure(run)
    return costs
