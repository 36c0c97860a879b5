"""The same as the command, from Python: run a study, read its results.

>>> from boss import api                                             # doctest: +SKIP
>>> api.run_study("oneshot_digits", budget="smoke")                  # doctest: +SKIP
>>> api.read_results("oneshot_digits")["last_accuracy"].mean()       # doctest: +SKIP

No torch here: runs train in processes of their own. A script that calls `run_study` needs the usual
`if __name__ == "__main__":`, since these processes import it.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boss.errors import InputError, choose
from boss.folders import bundled
from boss.study.run import BY_GRAPH, Run
from boss.study.select import select
from boss.study.study import RESERVED, Study, load, with_parents
from boss.training.config import LAYOUTS

if TYPE_CHECKING:
    import pandas as pd

    from boss.results.read import Store
    from boss.workers.runtime import Runtime
    from boss.workers.scheduler import Display, Outcome, Stop


def find_study(name: str) -> Study:
    """A study by its name or its .py file.

    Raises:
        InputError: there is no such study, or its file is wrong.
    """
    return load(name, bundled("studies"))


def list_runs(study: Study, budget: str | None = None, only: Sequence[str] = ()) -> list[Run]:
    """The runs of a study, each after its parent.

    Args:
        budget: the default of the study if None.
        only: conditions KEY=VALUE, as of `--only`.

    Raises:
        InputError: no such budget, or no run fulfills the conditions.
    """
    return with_parents(select(study.enumerate(budget), list(only)))


@dataclass(frozen=True)
class Plan:
    """Runs that have been checked: data, labels, networks and algorithms are there."""

    study: Study
    runs: list[Run]
    finished: set[str]  # ids of all runs with a result
    runtime: "Runtime"
    devices: list[str]  # one for each worker
    store: "Store"

    @property
    def done(self) -> set[str]:
        """Ids of the runs of this plan that have a result."""
        return {run.id for run in self.runs} & self.finished

    @property
    def waiting(self) -> list[Run]:
        """Those that have none, in order."""
        return [run for run in self.runs if run.id not in self.finished]


def prepare(
    study: Study,
    runs: list[Run],
    *,
    results: Path = Path("results"),
    data: Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    runs_per_gpu: int | None = None,
    execution: str = "auto",
    layout: str = "auto",
    keep_networks: bool = False,
) -> Plan:
    """Check everything that the runs need, before the first one starts.

    Args:
        data: a folder of data sets, or a custom data set that replaces those of the runs.
        device: "auto", "cpu", "cuda" or "cuda:0,cuda:1".
        workers, runs_per_gpu: how many runs at a time: see `boss.workers.runtime.lease`.
        execution: of a training step: "auto" or one of `boss.training.config.EXECUTIONS`.
        layout: of the memory of images: "auto" or one of `boss.training.config.LAYOUTS`.
        keep_networks: store the last teacher of each run.

    Raises:
        InputError: something is unavailable, wrong, or differs from what the results were made
            with.
    """
    from boss.results.read import Store, refuse_mixtures, refuse_other_options
    from boss.workers import runtime
    from boss.workers.process import in_child

    if not study.name or study.name in RESERVED:
        raise InputError(f"a study needs a name of its own, not {study.name!r}")
    results, data = Path(results), None if data is None else Path(data)
    runs = on_data(runs, data)
    store = Store(results.resolve(), study.name)
    store.check_writable()
    devices = runtime.lease(
        in_child(runtime.find_devices, device), workers, runs_per_gpu, len(runs)
    )
    where = runtime.Runtime(
        results=results.resolve(),
        study=study.name,
        data=data,
        device=devices[0],
        threads=runtime.threads_of(devices),
        execution=execution,
        layout=layout,
        keep_networks=keep_networks,
        versions=runtime.versions(),
        commit=runtime.commit(),
    )
    runtime.execution_of(where)
    choose(layout, dict.fromkeys(("auto", *LAYOUTS)), what="layout")
    fingerprints, labels = in_child(_check, runs, where)
    needed = networks_needed(study, runs, data)
    where = dataclasses.replace(where, fingerprints=fingerprints, networks_needed=needed)
    table = store.finished()
    images = {key: ([*found.indices], [*found.labels]) for key, found in labels.items()}
    refuse_mixtures(store.folder, table.to_dict("records"), fingerprints, images)
    refuse_other_options(store.folder, runs, table)
    plan = Plan(study, runs, set(table["run_id"]), where, devices, store)
    _check_parents(plan)
    return plan


def train(plan: Plan, display: "Display", stop: "Stop") -> "list[Outcome]":
    """Train the runs of a plan that have no result; one outcome for each of these, in order."""
    from boss.results.note import remember
    from boss.workers.scheduler import execute

    remember(plan.study, plan.store.folder)
    return execute(plan.waiting, plan.runtime, plan.devices, display, stop, plan.finished)


def run_study(
    study: Study | str, *, budget: str | None = None, only: Sequence[str] = (), **options: Any
) -> "pd.DataFrame":
    """Train the runs of a study that have no result, with progress on the terminal.

    Args:
        study: a `Study` with a name, the name of one, or its .py file.
        budget, only: as for `list_runs`.
        options: as for `prepare`.

    Returns:
        The rows of `runs` of all these runs that have a result.

    Raises:
        InputError: as `prepare` does.
        RuntimeError: a run failed; the others have been trained.
        KeyboardInterrupt: after Ctrl-C; runs in progress have checkpoints.
    """
    from rich.console import Console

    from boss.study.run import titles
    from boss.workers.progress import StudyDisplay
    from boss.workers.scheduler import Stop

    study = find_study(study) if isinstance(study, str) else study
    plan = prepare(study, list_runs(study, budget, only), **options)
    names = titles(plan.runs)
    num_done = len(plan.runs) - len(plan.waiting)
    display = StudyDisplay(study.name, plan.waiting, num_done, len(plan.devices), Console(), names)
    stop = Stop()
    in_main = threading.current_thread() is threading.main_thread()  # where signals arrive
    with stop.on_signals() if in_main else contextlib.nullcontext(), display:
        outcomes = train(plan, display, stop)
    if stop.signals:
        raise KeyboardInterrupt
    for outcome in outcomes:
        if outcome.state == "failed":
            raise RuntimeError(f"{names[outcome.run.id]}: {outcome.traceback or outcome.error}")
    return plan.store.read("runs", {run.id for run in plan.runs})


def read_results(
    study: str, results: Path = Path("results"), table: str = "runs"
) -> "pd.DataFrame":
    """A table of results (`boss.results.schema.TABLES`) of all finished runs of a study."""
    from boss.results.read import Store
    from boss.results.schema import TABLES

    choose(table, TABLES, what="table of results")
    return Store(Path(results), study).read(table)


def networks_needed(study: Study, runs: list[Run], path: Path | None) -> frozenset[str]:
    """Ids of the runs whose last teacher a run of the study reads, now or when it is asked for."""
    every = [*runs]
    for budget in {run.budget for run in runs} & {*study.budgets}:
        with contextlib.suppress(InputError):  # data that make several runs of the study one
            every += on_data(study.enumerate(budget), path)
    return frozenset(run.parent.id for run in every if run.parent and run.rank_by in BY_GRAPH)


def _check(runs: list[Run], where: "Runtime") -> Any:
    """In a child process: `boss.workers.build.check`."""
    from boss.workers import build

    return build.check(runs, where)


def _check_parents(plan: Plan) -> None:
    """What children read of finished parents must be there before they start: predictions, or the
    network."""
    store = plan.store
    children = [run for run in plan.waiting if run.parent and run.parent.id in plan.finished]
    for run in children:
        if run.rank_by in BY_GRAPH and run.parent and not store.network(run.parent.id).is_file():
            part = store.folder / "runs" / f"{run.parent.id}.parquet"
            mend = (
                f"remove {part} to train it again" if part.exists() else "train in another folder"
            )
            raise InputError(
                f"rank_by={run.rank_by!r} needs the network of {run.parent.title}, which was not"
                f" kept in {store.folder}: {mend}"
            )
    children = [run for run in children if run.rank_by not in BY_GRAPH]
    needed = {(run.parent.id, run.rank_by): run.parent for run in children if run.parent}
    table = store.read("predictions", {run_id for run_id, _ in needed})
    found = table[["run_id", "network"]].drop_duplicates()
    missing = needed.keys() - set(zip(found["run_id"], found["network"], strict=True))
    if not missing:
        return
    parent = needed[min(missing)]
    if not (store.folder / "runs" / f"{parent.id}.parquet").exists():
        raise InputError(
            f"self-training needs predictions of {parent.title}, without which {store.folder}"
            " was published: publish it again with them"
        )
    path = store.folder / "predictions" / f"{parent.id}.parquet"
    reason = store.unreadable.get(path, "they are missing")
    raise InputError(
        f"self-training needs the predictions of {parent.title} in {path}: {reason}; remove"
        f" runs/{parent.id}.parquet to train it again"
    )


def on_data(runs: Iterable[Run], path: Path | None) -> list[Run]:
    """The runs on a custom data set (`boss.data.OWN`), which replaces every named one.

    A file that holds CIFAR-10 counts as cifar10, by its checksum, whatever its name: the same runs
    on it are the same runs.

    Raises:
        InputError: runs that differ in their data set alone would become one.
    """
    from boss import data  # imports numpy

    runs = list(runs)
    if path is None or not data.is_own(str(path)):
        return runs
    name = data.identify(path)
    moved = [run.with_fields(dataset=name) for run in runs]
    if len(set(moved)) < len(moved):
        raise InputError(
            f"on {path}, several runs of the study become one: it trains on more than one data"
            " set, choose with --only dataset=..."
        )
    return moved
