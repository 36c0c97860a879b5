"""`boss-study run`: train the runs of a study that are not finished."""

import argparse
import sys
from typing import TYPE_CHECKING

from boss import api
from boss.cli import arguments as types
from boss.cli.words import PROGRAM, aligned, describe_runs, say, shown, warn, warn_of_unreadable
from boss.study.run import Run, titles
from boss.study.study import Study
from boss.training.config import EXECUTIONS, LAYOUTS
from boss.units import duration
from boss.workers import cost

if TYPE_CHECKING:
    from boss.workers.scheduler import Outcome, Stop

HELP = "train the runs of a study that are not finished"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    types.add_study(parser)
    parser.add_argument(
        "--workers", type=types.positive, metavar="N",
        help="runs at a time (default: cores or GPUs)",
    )  # fmt: skip
    parser.add_argument(
        "--runs-per-gpu", type=types.positive, metavar="N",
        help="runs at a time on each GPU (default: 1; --workers limits their sum)",
    )  # fmt: skip
    parser.add_argument(
        "--device", type=types.devices, default="auto", metavar="auto|cpu|cuda|cuda:0,cuda:1",
        help="where to train (default: every GPU, or the CPU if there is none)",
    )  # fmt: skip
    parser.add_argument(
        "--only", action="append", default=[], metavar="KEY=VALUE",
        help="only the runs with this value, e.g. label_set=boss:3 (repeatable)",
    )  # fmt: skip
    parser.add_argument(
        "--time-limit", type=types.seconds, metavar="25m",
        help="stop at a checkpoint after this long",
    )  # fmt: skip
    parser.add_argument(
        "--keep-networks", action="store_true",
        help="keep the last teacher of each run in results/STUDY/networks (for `select`)",
    )  # fmt: skip
    parser.add_argument(
        "--execution", "--step", dest="execution", choices=("auto", *EXECUTIONS), default="auto",
        help="how to execute a training step (default: compiled-graph on a GPU, eager on a CPU)",
    )  # fmt: skip
    parser.add_argument(
        "--layout", choices=("auto", *LAYOUTS), default="auto",
        help="of the memory of images (default: the faster one, by a probe of some seconds)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the runs, train none")


def run(arguments: argparse.Namespace) -> int:
    """Train; returns the exit code (see `boss.cli.main`)."""
    study = api.find_study(arguments.study)
    runs = api.list_runs(study, arguments.budget, arguments.only)
    if arguments.dry_run:
        return _print_runs(study, runs)

    from rich.console import Console

    from boss.workers.progress import StudyDisplay
    from boss.workers.runtime import describe_devices
    from boss.workers.scheduler import Stop

    stop = Stop(arguments.time_limit)
    plan = api.prepare(
        study,
        runs,
        results=arguments.results,
        data=arguments.data,
        device=arguments.device,
        workers=arguments.workers,
        runs_per_gpu=arguments.runs_per_gpu,
        execution=arguments.execution,
        layout=arguments.layout,
        keep_networks=arguments.keep_networks,
    )
    _warn(plan)
    say(f"{study.name}: {describe_runs(plan.runs, cost.read_cache())}")
    to_do = f"{len(plan.done)} finished before, {len(plan.waiting)} to do"
    say(f"{to_do}, on {describe_devices(plan.devices)}")

    names = titles(plan.runs)
    display = StudyDisplay(
        study.name, plan.waiting, len(plan.done), len(plan.devices), Console(), names
    )
    with stop.on_signals(), display:
        outcomes = api.train(plan, display, stop)

    _print_outcomes(plan, outcomes, stop, names)
    spent = [seconds for took in display.durations.values() for seconds in took]
    if spent:
        say(f"{len(spent)} runs took {duration(sum(spent) / len(spent))} each on average")
    if stop.signals:
        return 128 + stop.last_signal
    return 1 if any(outcome.state == "failed" for outcome in outcomes) else 0


def _print_runs(study: Study, runs: list[Run]) -> int:
    from boss.cli.list import measure

    names = aligned(titles(runs))
    for run in runs:
        settings = f"{run.budget} {run.network} {run.num_steps:,} steps"
        print(f"{run.id}  {names[run.id]} {settings}")
    print(f"{study.name}: {describe_runs(runs, measure(runs, cost.read_cache()))}")
    return 0


def _warn(plan: api.Plan) -> None:
    warn_of_unreadable(plan.store.unreadable)
    if plan.runtime.keep_networks:
        without = [i for i in sorted(plan.done) if not plan.store.network(i).exists()]
        if without:
            warn(
                f"{len(without)} runs finished without --keep-networks ({without[0]}, for"
                " example): remove their files in runs/ to train them again"
            )
    commit = plan.runtime.commit
    if not commit or commit.endswith("-dirty"):
        state = "has changes" if commit else "is unknown (see BOSS_COMMIT)"
        warn(
            f"the git commit of this code {state}: `{PROGRAM} publish` will refuse runs that are"
            " trained now"
        )


def _print_outcomes(
    plan: api.Plan, outcomes: "list[Outcome]", stop: "Stop", names: dict[str, str]
) -> None:
    num_finished = len(plan.done) + sum(outcome.state == "finished" for outcome in outcomes)
    say(f"{plan.study.name}: {num_finished} of {len(plan.runs)} runs finished in"
        f" {shown(plan.store.folder)}")  # fmt: skip
    for outcome in outcomes:
        if outcome.error:
            say(f"{outcome.state}: {names[outcome.run.id]} ({outcome.run.id}): {outcome.error}")
        if outcome.state == "failed" and outcome.traceback:
            print(outcome.traceback.rstrip(), file=sys.stderr)
    left = [o for o in outcomes if o.state in ("interrupted", "not started", "busy")]
    if left:
        why = "Stopped" if stop.signals else "Time limit reached" if stop.time_is_up else "Waiting"
        some = ", ".join(names[o.run.id] for o in left[:3]) + (", ..." if len(left) > 3 else "")
        say(f"{why}: {len(left)} runs left ({some}). Run the same command to continue.")
