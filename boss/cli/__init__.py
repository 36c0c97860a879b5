"""`boss-study`: list, run, status, report, publish, data, select, refine, bench. No logic here.

Starts in a fraction of a second: torch is imported only in the processes that train, pandas only by
the commands that read tables.
"""

import argparse
import dataclasses
import importlib
import importlib.util
import io
import os
import re
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from boss.cli import bench
from boss.errors import InputError
from boss.study.run import BUDGETS, Run, titles
from boss.study.select import select
from boss.study.study import Study, find, load, with_parents
from boss.training.config import EXECUTIONS
from boss.units import duration, gigabytes, num_cores
from boss.workers import runtime
from boss.workers.cost import ESTIMATE, gpu_hours, gpu_memory
from boss.workers.runtime import Runtime

if TYPE_CHECKING:
    from boss.results.read import Store

PROGRAM = "boss-study"
DATASETS = (
    "digits, cifar10, cifar100, svhn, svhn_noextra, stl10, a file FILE.npz or image files in"
    " folder:PATH[@SIZE]"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code.

    0: done (also: stopped by --time-limit); 1: runs failed; 2: wrong input, one line says what;
    130 or 143: stopped by Ctrl-C or SIGTERM, checkpoints written.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # the code of a letter without a glyph
            stream.reconfigure(errors="backslashreplace")
    try:
        arguments = _parser().parse_args(argv)
        return int(arguments.command(arguments))
    except InputError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output (head, say) has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:  # a name that is too long, say
        if error.filename is None:
            raise
        print(f"{PROGRAM}: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2


class _Parser(argparse.ArgumentParser):
    """Wrong arguments are wrong input: one line, no usage text."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=PROGRAM, description="Run one-shot learning studies and report them.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = commands.add_parser("list", help="every study: what it reproduces and costs")
    command.set_defaults(command=_list)

    command = commands.add_parser("run", help="train the runs of a study that are not finished")
    command.set_defaults(command=_run)
    _study_arguments(command)
    command.add_argument(
        "--workers", type=_positive, metavar="N", help="runs at a time (default: cores or GPUs)"
    )
    command.add_argument(
        "--runs-per-gpu", type=_positive, metavar="N",
        help="runs at a time on each GPU (default: 1; --workers limits their sum)",
    )  # fmt: skip
    command.add_argument(
        "--device", type=_device, default="auto", metavar="auto|cpu|cuda|cuda:0,cuda:1",
        help="where to train (default: every GPU, or the CPU if there is none)",
    )  # fmt: skip
    command.add_argument(
        "--only", action="append", default=[], metavar="KEY=VALUE",
        help="only the runs with this value, e.g. label_set=boss:3 (repeatable)",
    )  # fmt: skip
    command.add_argument(
        "--time-limit", type=_seconds, metavar="25m", help="stop at a checkpoint after this long"
    )
    command.add_argument(
        "--keep-networks", action="store_true",
        help="keep the last teacher of each run in results/STUDY/networks (for `select`)",
    )  # fmt: skip
    command.add_argument(
        "--step", choices=("auto", *EXECUTIONS), default="auto",
        help="how to execute a training step (default: compiled-graph on a GPU, eager on a CPU)",
    )  # fmt: skip
    command.add_argument("--dry-run", action="store_true", help="print the runs, train none")

    command = commands.add_parser("status", help="the state of every run of a study")
    command.set_defaults(command=_status)
    _study_arguments(command)

    command = commands.add_parser("report", help="tables and figures from the results")
    command.set_defaults(command=_report)
    command.add_argument(
        "study", nargs="?", metavar="STUDY",
        help="(default: all with results, and published numbers beside ours in results/overview)",
    )  # fmt: skip
    command.add_argument(
        "--fill", type=Path, metavar="FILE.md",
        help="also replace what stands in this page between <!-- results: NAME --> and <!-- end of"
        " results --> by tables of these results",
    )  # fmt: skip
    _results_argument(command)

    command = commands.add_parser("publish", help="add finished runs to results/reference")
    command.set_defaults(command=_publish)
    _publish_arguments(command)

    command = commands.add_parser("data", help="check or download a data set")
    command.set_defaults(command=_data)
    command.add_argument("action", choices=("check", "fetch"), metavar="check|fetch")
    command.add_argument("name", metavar="NAME", help=DATASETS)
    command.add_argument("--data", type=Path, metavar="DIR", help="its folder (default: data/)")

    command = commands.add_parser("select", help="choose which image of each class to label")
    command.set_defaults(command=_select)
    _select_arguments(command)

    command = commands.add_parser("refine", help="replace the prototypes of classes that failed")
    command.set_defaults(command=_refine)
    _refine_arguments(command)

    command = commands.add_parser("bench", help=bench.HELP)
    command.set_defaults(command=bench.run)
    bench.add_arguments(command)
    return parser


def _study_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("study", metavar="STUDY", help="a name from `list`, or a .py file")
    command.add_argument("--budget", choices=BUDGETS, help="how long to train (see `list`)")
    command.add_argument(
        "--data", type=Path, metavar="DIR|FILE.npz|folder:PATH[@SIZE]",
        help="folder of data sets (default: $BOSS_DATA or data/), or a data set of your own",
    )  # fmt: skip
    _results_argument(command)


def _publish_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("study", metavar="STUDY", help="a name from `list`, or a .py file")
    command.add_argument(
        "--results", type=Path, action="append", default=[], metavar="DIR",
        help="where finished runs are (repeatable; default: results/)",
    )  # fmt: skip
    command.add_argument(
        "--to", type=Path, default=Path("results/reference"), metavar="DIR",
        help="add them to this folder (default: results/reference), one file per table; runs that"
        " it has are not replaced",
    )  # fmt: skip
    command.add_argument(
        "--predictions", choices=("needed", "last", "all"), default="needed",
        help="which predictions on training images come along, 0.2 MB for a network on CIFAR-10:"
        " those that other runs of the study pick from (default), also those of the last network of"
        " every run (for `refine`), or all",
    )  # fmt: skip
    command.add_argument("--budget", choices=BUDGETS, help="only runs of this one (default: all)")
    command.add_argument(
        "--dry-run", action="store_true", help="say what would come, write nothing"
    )


def _select_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("dataset", metavar="DATASET", help=DATASETS)
    command.add_argument(
        "--embedding", required=True, metavar="E",
        help="kmeans-patches[:CENTROIDS], teacher:FILE, simclr[:STEPS] or torchvision:NAME",
    )  # fmt: skip
    command.add_argument(
        "--method", required=True, action="append", metavar="M",
        help="class-centroid, kmeans-centroid, typiclust, k-medoids or random (repeatable: a file"
        " for each, and one contact sheet to compare them)",
    )  # fmt: skip
    _data_argument(command)
    command.add_argument(
        "--out", type=Path, metavar="FILE.json",
        help="(default: label_sets/DATASET-E-M.json, found as label_set='select:DATASET-E-M')",
    )  # fmt: skip
    command.add_argument(
        "--candidates", type=_positive, default=5, metavar="N",
        help="ranked images of each class or cluster to write down and show (default: 5)",
    )  # fmt: skip
    command.add_argument(
        "--rank", type=_positive, default=1, metavar="R",
        help="label the candidates of this rank: another set, built alike (default: 1, the best)",
    )  # fmt: skip
    command.add_argument(
        "--trim", type=_share, default=0.0, metavar="SHARE",
        help="class-centroid: leave out this share of each class, the atypical images (default: 0)",
    )  # fmt: skip
    command.add_argument(
        "--seed", type=_natural, default=0, metavar="N", help="of all that is random (default: 0)"
    )
    command.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where to embed (default: cpu)"
    )
    command.add_argument(
        "--probe", action="store_true",
        help="also print the accuracy of a linear classifier on the embedding: a diagnostic",
    )  # fmt: skip
    command.add_argument("--force", action="store_true", help="replace files that exist")
    _results_argument(command)


def _data_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data", type=Path, metavar="DIR|FILE.npz",
        help="folder of data sets (default: $BOSS_DATA or data/), or the file with CIFAR-10",
    )  # fmt: skip


def _refine_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "study", metavar="STUDY", help="a study with results on several label sets"
    )
    command.add_argument(
        "--method", default="fixmatch", metavar="M", help="whose runs to read (default: fixmatch)"
    )
    command.add_argument(
        "--rule", default="label-free", metavar="label-free|test-accuracy",
        help="how to tell that a class failed (default: label-free; the other is an oracle)",
    )  # fmt: skip
    command.add_argument(
        "--base", metavar="LABEL_SET", help="the one to refine (default: of the best score)"
    )
    command.add_argument(
        "--label-set", action="append", default=[], metavar="LABEL_SET",
        help="choose among these only (repeatable; default: all that were run)",
    )  # fmt: skip
    command.add_argument(
        "--failed-below", type=_share, default=0.5, metavar="SCORE", help="(default: 0.5)"
    )
    command.add_argument("--budget", choices=BUDGETS, help="of the runs, if there are several")
    _data_argument(command)
    command.add_argument(
        "--out", type=Path, metavar="FILE.json",
        help="(default: label_sets/STUDY-M-refined.json, found as label_set='select:...')",
    )  # fmt: skip
    command.add_argument("--force", action="store_true", help="replace files that exist")
    _results_argument(command)


def _results_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="(default: results/)"
    )


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, not {text!r}")
    return int(text)


def _natural(text: str) -> int:
    if not re.fullmatch(r"0|[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"must be a whole number from 0, not {text!r}")
    return int(text)


def _share(text: str) -> float:
    if not re.fullmatch(r"0|0?\.\d+", text):
        raise argparse.ArgumentTypeError(f"must be a share from 0 to below 1, not {text!r}")
    return float(text)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s?)?", text)
    if not text or not match:
        raise argparse.ArgumentTypeError(f"use a duration such as 90s, 25m or 1h30m, not {text!r}")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 3600.0 * hours + 60 * minutes + seconds


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda|cuda:\d+(,cuda:\d+)*", text):
        raise argparse.ArgumentTypeError(f"use auto, cpu, cuda or cuda:0,cuda:1, not {text!r}")
    return text


def _bundled(name: str) -> Path:
    """A folder of the project: inside the package if installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "bundled" / name
    if inside.is_dir():
        return inside
    return package.parent / ("results/reference" if name == "reference" else name)


def _load(name: str) -> Study:
    return load(name, _bundled("studies"))


def _say(line: str) -> None:
    """Print; if nobody reads any more (`| head`), go on in silence, and on with the training."""
    try:
        print(line, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # until the end of the process


def _list(arguments: argparse.Namespace) -> int:
    for name in find(_bundled("studies")):
        study = _load(name)
        print(f"{name}\n    {study.reproduces}")
        for budget in BUDGETS:
            default = " (default)" if budget == study.default_budget else ""
            print(f"    {budget + default + ':':<17} {_cost(study.enumerate(budget))}")
    print(f"\nTimes are {ESTIMATE}; nothing was measured here.")
    return 0


def _aligned(names: dict[str, str]) -> dict[str, str]:
    """The same texts, all of one width."""
    width = max(32, *map(len, names.values()))
    return {run_id: f"{name:<{width}}" for run_id, name in names.items()}


def _cost(runs: list[Run]) -> str:
    def join(values: list[str]) -> str:
        return ", ".join(dict.fromkeys(values))

    hours = gpu_hours(runs)
    cost = "" if hours is None else f"; about {duration(3600 * hours)} on one GPU (estimate)"
    memory = [gpu_memory(run) for run in runs]
    most = max((sum(parts.values()) for parts in memory if parts is not None), default=0)
    if most > 2**32:
        cost += f" with {gigabytes(most)} of memory a run"
    steps = join([f"{run.num_steps:,}" for run in runs])
    return (
        f"{len(runs)} runs on {join([r.dataset for r in runs])}"
        f" ({join([r.algorithm for r in runs])}), {join([r.network for r in runs])},"
        f" {steps} steps each{cost}"
    )


def _run(arguments: argparse.Namespace) -> int:
    study = _load(arguments.study)
    runs = with_parents(select(study.enumerate(arguments.budget), arguments.only))
    if arguments.dry_run:
        names = _aligned(titles(runs))
        for run in runs:
            settings = f"{run.budget} {run.network} {run.num_steps:,} steps"
            print(f"{run.id}  {names[run.id]} {settings}")
        print(f"{study.name}: {_cost(runs)}")
        return 0

    from rich.console import Console

    from boss.results.read import Store, refuse_mixtures
    from boss.workers.process import in_child
    from boss.workers.progress import StudyDisplay
    from boss.workers.scheduler import Stop, execute, on_data

    stop = Stop(arguments.time_limit)
    runs = on_data(runs, arguments.data)
    store = Store(arguments.results.resolve(), study.name)
    store.check_writable()
    devices = _leases(
        in_child(_devices, arguments.device), arguments.workers, arguments.runs_per_gpu, len(runs)
    )
    where = Runtime(
        results=arguments.results.resolve(),
        study=study.name,
        data=arguments.data,
        device=devices[0],
        threads=runtime.threads_of(devices),
        execution=arguments.step,
        keep_networks=arguments.keep_networks,
        versions=runtime.versions(),
        commit=runtime.commit(),
    )
    runtime.execution_of(where)
    fingerprints, labels = in_child(_check, runs, where)

    where = dataclasses.replace(where, fingerprints=fingerprints)
    finished = store.finished()
    _warn_of_unreadable(store.unreadable)
    images = {key: ([*found.indices], [*found.labels]) for key, found in labels.items()}
    refuse_mixtures(store.folder, finished.to_dict("records"), fingerprints, images)
    done = {run.id for run in runs} & set(finished["run_id"])
    waiting = [run for run in runs if run.id not in done]
    _check_parents(store, waiting, set(finished["run_id"]))
    if arguments.keep_networks:
        without = [i for i in sorted(done) if not (store.folder / "networks" / f"{i}.pt").exists()]
        if without:
            print(
                f"{PROGRAM}: warning: {len(without)} runs finished before their networks were to be"
                f" kept ({without[0]}, for one): remove their files in runs/ to train them again",
                file=sys.stderr,
            )
    if not where.commit or where.commit.endswith("-dirty"):
        state = "has changes" if where.commit else "is not known (see BOSS_COMMIT)"
        print(
            f"{PROGRAM}: warning: the git commit of this code {state}: `{PROGRAM} publish` will"
            " refuse what is trained now",
            file=sys.stderr,
        )
    where_to = runtime.describe_devices(devices, runtime.mps_is_running())
    _say(f"{study.name}: {_cost(runs)}")
    _say(f"{len(done)} finished before, {len(waiting)} to do, on {where_to}")

    console = Console()
    names = titles(runs)
    display = StudyDisplay(study.name, waiting, len(done), len(devices), console, names)
    with stop.on_signals(), display:
        outcomes = execute(waiting, where, devices, display, stop, set(finished["run_id"]))

    states = [outcome.state for outcome in outcomes]
    left = [o for o in outcomes if o.state in ("interrupted", "not started", "busy")]
    failed = [o for o in outcomes if o.state == "failed"]
    num_finished = len(done) + states.count("finished")
    _say(f"{study.name}: {num_finished} of {len(runs)} runs finished in {store.folder}")
    for outcome in failed:
        _say(f"failed: {names[outcome.run.id]} ({outcome.run.id}): {outcome.error}")
        if outcome.traceback:
            print(outcome.traceback.rstrip(), file=sys.stderr)
    for outcome in left:
        if outcome.error:
            _say(f"{outcome.state}: {names[outcome.run.id]} ({outcome.run.id}): {outcome.error}")
    if left:
        why = "Stopped" if stop.signals else "Time limit reached" if stop.time_is_up else "Waiting"
        some = ", ".join(names[o.run.id] for o in left[:3]) + (", ..." if len(left) > 3 else "")
        _say(f"{why}: {len(left)} runs left ({some}). Run the same command to continue.")
    spent = [seconds for took in display.durations.values() for seconds in took]
    if spent:
        _say(f"{len(spent)} runs took {duration(sum(spent) / len(spent))} each on average")
    if stop.signals:
        return 128 + stop.last_signal
    return 1 if failed else 0


def _check_parents(store: "Store", waiting: list[Run], finished: set[str]) -> None:
    """What finished parents predicted must be there before their children start."""
    children = [run for run in waiting if run.parent and run.parent.id in finished]
    needed = {(run.parent.id, run.rank_by): run.parent for run in children if run.parent}
    table = store.read("predictions", {run_id for run_id, _ in needed})
    found = table[["run_id", "network"]].drop_duplicates()
    missing = needed.keys() - set(zip(found["run_id"], found["network"], strict=True))
    if missing:
        parent = needed[min(missing)]
        if not (store.folder / "runs" / f"{parent.id}.parquet").exists():
            raise InputError(
                f"self-training needs predictions of {parent.title}, without which {store.folder}"
                " was published: publish it again from where they are"
            )
        path = store.folder / "predictions" / f"{parent.id}.parquet"
        reason = store.unreadable.get(path, "they are missing")
        raise InputError(
            f"self-training needs the predictions of {parent.title} in {path}: {reason}; remove"
            f" runs/{parent.id}.parquet to train it again"
        )


def _devices(wanted: str) -> list[str]:
    """In a process of its own: the devices to train on."""
    if wanted == "cpu":
        return ["cpu"]
    import torch

    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if wanted == "auto":
        return names or ["cpu"]
    if wanted == "cuda":
        if not names:
            raise InputError("--device cuda: torch sees no CUDA device here")
        return names
    if len(set(wanted.split(","))) < len(wanted.split(",")):
        raise InputError(f"--device {wanted} names a device twice: use --runs-per-gpu")
    for name in wanted.split(","):
        if name not in names:
            have = ", ".join([*names, "cpu"])
            raise InputError(f"--device {name}: there is no such device, choose from {have}")
    return wanted.split(",")


def _check(runs: list[Run], where: Runtime) -> Any:
    """In a process of its own: `boss.workers.build.check`."""
    from boss.workers import build

    return build.check(runs, where)


def _leases(
    devices: list[str], workers: int | None, runs_per_gpu: int | None, num_runs: int
) -> list[str]:
    """One device for each worker, in turns, and no more workers than runs.

    Args:
        workers: how many; by default one on each core, or `runs_per_gpu` on each GPU.
        runs_per_gpu: at most so many on each GPU; if None, `workers` alone says it, or 1.

    Raises:
        InputError: `runs_per_gpu` on a CPU, or more workers than it admits.
    """
    if devices == ["cpu"]:
        if runs_per_gpu is not None:
            raise InputError(
                "--runs-per-gpu is for CUDA devices: on a CPU --workers says how many runs at a"
                " time"
            )
        most = num_cores()
    else:
        most = len(devices) * (runs_per_gpu or 1)
        if runs_per_gpu is not None and workers is not None and workers > most:
            raise InputError(
                f"--workers {workers} is more than --runs-per-gpu {runs_per_gpu} on"
                f" {len(devices)} GPUs admits, which is {most}: leave one of them out"
            )
    return [devices[i % len(devices)] for i in range(min(workers or most, num_runs))]


def _warn_of_unreadable(unreadable: dict[Path, str]) -> None:
    for path, error in unreadable.items():
        print(
            f"{PROGRAM}: warning: cannot read {path} ({error}): its run counts as not finished",
            file=sys.stderr,
        )


def _status(arguments: argparse.Namespace) -> int:
    from boss.results.read import Store
    from boss.workers.scheduler import on_data, states

    study = _load(arguments.study)
    store = Store(arguments.results, study.name)
    rows = states(on_data(study.enumerate(arguments.budget), arguments.data), store)
    _warn_of_unreadable(store.unreadable)
    names = _aligned(titles(run for run, _, _ in rows))
    for run, state, detail in rows:
        print(f"{run.id}  {names[run.id]} {state:<12} {detail}".rstrip())
    counts = {state: 0 for _, state, _ in rows}
    for _, state, _ in rows:
        counts[state] += 1
    print(
        f"{study.name} ({rows[0][0].budget}): " + ", ".join(f"{n} {s}" for s, n in counts.items())
    )
    return 0


def _report(arguments: argparse.Namespace) -> int:
    analysis = _import_analysis()
    reference = _bundled("reference")
    if arguments.study:
        studies = [_load(arguments.study)]
        if not any((arguments.results / studies[0].name / "runs").glob("*.parquet")):
            folder = arguments.results / studies[0].name
            raise InputError(f"no results in {folder}: `{PROGRAM} run {arguments.study}` first")
    else:
        folders = sorted(path.parent for path in arguments.results.glob("*/runs"))
        if not folders:
            raise InputError(f"no results in {arguments.results}: start with `{PROGRAM} run STUDY`")
        known = find(_bundled("studies"))
        # A study of the user's own: its file is not known here, its results are.
        own = Study(reproduces="a study of your own", runs=lambda budget: [])
        studies = [
            _load(path.name) if path.name in known else dataclasses.replace(own, name=path.name)
            for path in folders
        ]
    for study in studies:
        report = analysis.report(
            study.name,
            arguments.results,
            reference=None if _same(reference, arguments.results) else reference,
            published=study.published,
            comparisons=study.comparisons,
            reproduces=study.reproduces,
            description=study.description,
            shows_test=study.shows_test,
        )
        for warning in report.warnings:
            print(f"{PROGRAM}: warning: {warning}", file=sys.stderr)
        print(f"{study.name}: {report.folder / 'report.md'}")
        for path in [*report.tables, *report.figures]:
            print(f"    {path}")
    if not arguments.study:
        overview = _import_analysis("sections.overview")
        written = overview.write(arguments.results, arguments.results / "overview")
        for warning in written.warnings:
            print(f"{PROGRAM}: warning: {warning}", file=sys.stderr)
        for path in written.paths:
            print(path)
    if arguments.fill is not None:
        names = _import_analysis("readme").fill(arguments.fill, arguments.results)
        print(f"{arguments.fill}: {', '.join(names)}")
    return 0


def _publish(arguments: argparse.Namespace) -> int:
    from boss.results.publish import publish

    published = publish(
        _load(arguments.study),
        arguments.results or [Path("results")],
        arguments.to,
        predictions=arguments.predictions,
        budget=arguments.budget,
        dry_run=arguments.dry_run,
    )
    for warning in published.warnings:
        print(f"{PROGRAM}: warning: {warning}", file=sys.stderr)
    for line in published.lines():
        print(line)
    if arguments.dry_run:
        print("nothing was written (--dry-run)")
    return 0


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _import_analysis(name: str = "page.report") -> types.ModuleType:
    """A module of the analysis package, found by its place: it is no part of boss, and no name on
    sys.path."""
    folder = _bundled("analysis")
    if "boss_analysis" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "boss_analysis", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["boss_analysis"] = module
        spec.loader.exec_module(module)
    return importlib.import_module(f"boss_analysis.{name}")


def _data(arguments: argparse.Namespace) -> int:
    function = _fetch_data if arguments.action == "fetch" else _check_data
    return _print_lines(function, arguments.name, arguments.data)


def _print_lines(function: Callable[..., list[str]], *arguments: Any) -> int:
    """Call a function that needs torch in a process of its own and print what it returns."""
    from boss.workers.process import in_child

    for line in in_child(function, *arguments):
        print(line)
    return 0


def _check_data(name: str, folder: Path | None) -> list[str]:
    from boss import data

    return data.check(name, folder)


def _fetch_data(name: str, folder: Path | None) -> list[str]:
    from boss import data

    data.fetch(name, folder)
    return data.check(name, folder)


def _select(arguments: argparse.Namespace) -> int:
    return _print_lines(_make_label_sets, arguments)


def _make_label_sets(arguments: argparse.Namespace) -> list[str]:
    """In a process of its own: `boss.prototypes.select`."""
    from boss.prototypes.select import Request, make_label_sets

    request = Request(
        dataset=arguments.dataset,
        embedding=arguments.embedding,
        methods=tuple(arguments.method),
        data=arguments.data,
        out=arguments.out,
        candidates=arguments.candidates,
        rank=arguments.rank,
        seed=arguments.seed,
        trim=arguments.trim,
        device=_devices(arguments.device)[0],
        results=arguments.results,
        with_probe=arguments.probe,
        overwrite=arguments.force,
    )
    return make_label_sets(request, report=_say)


def _refine(arguments: argparse.Namespace) -> int:
    return _print_lines(_make_refined, arguments)


def _make_refined(arguments: argparse.Namespace) -> list[str]:
    """In a process of its own: `boss.prototypes.refined`."""
    from boss.prototypes.refined import Request, make_refined

    request = Request(
        study=_load(arguments.study).name,
        results=arguments.results,
        data=arguments.data,
        out=arguments.out,
        method=arguments.method,
        rule=arguments.rule,
        base=arguments.base,
        failed_below=arguments.failed_below,
        budget=arguments.budget,
        label_sets=tuple(arguments.label_set),
        overwrite=arguments.force,
    )
    return make_refined(request)
