"""`boss-study status`: the state of every run of a study."""

import argparse
from collections import Counter

from boss import api
from boss.cli.arguments import add_study
from boss.cli.words import aligned, warn_of_unreadable
from boss.study.run import titles

HELP = "the state of every run of a study"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_study(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print a line for each run, and how many there are of each state."""
    from boss.results.read import Store
    from boss.workers.states import states

    study = api.find_study(arguments.study)
    store = Store(arguments.results, study.name)
    rows = states(api.on_data(study.enumerate(arguments.budget), arguments.data), store)
    warn_of_unreadable(store.unreadable)
    names = aligned(titles(run for run, _, _ in rows))
    for run, state, detail in rows:
        print(f"{run.id}  {names[run.id]} {state:<12} {detail}".rstrip())
    counts = Counter(state for _, state, _ in rows)
    budget = rows[0][0].budget
    print(f"{study.name} ({budget}): " + ", ".join(f"{n} {s}" for s, n in counts.items()))
    return 0
