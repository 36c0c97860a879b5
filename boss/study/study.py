"""`Study` and `grid`: which runs a study has; finding and loading study files."""

import dataclasses
import importlib.util
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boss.errors import InputError, choose
from boss.study.run import Run

# Folders of results/ that are no study's.
RESERVED = {
    "reference": "results/reference holds others' results",
    "overview": "results/overview holds what is told of all studies",
    "embeddings": "results/embeddings holds those of all studies",
}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A published table or figure by settings of the runs, and how to draw ours beside it.

    A setting is a column of the table of runs (`boss.results.schema`) or an option of the
    algorithm.
    """

    published: str  # file of analysis/published whose columns name settings
    axis: tuple[str, ...]  # the setting along the axis; several: a category for each combination
    by: tuple[str, ...] = ()  # settings that make series of their own, told apart by color
    panels: tuple[str, ...] = ()  # settings that make panels of their own
    scale: str = "category"  # of the axis: "category", "linear" or "log"

    def __post_init__(self) -> None:
        choose(self.scale, dict.fromkeys(("category", "linear", "log")), what="scale")


@dataclass(frozen=True, kw_only=True)
class Study:
    """A list of runs per budget, and what they are for. A study file defines one as STUDY."""

    reproduces: str  # the published table or figure, or what is shown
    runs: Callable[[str], list[Run]]  # budget -> runs
    default_budget: str = "paper"
    budgets: tuple[str, ...] = ("smoke", "short", "paper")
    name: str = ""  # the name of its file, filled in by `load`
    published: tuple[str, ...] = ()  # files of analysis/published by label set, shown beside ours
    comparisons: tuple[Comparison, ...] = ()  # the same by settings of the runs
    # Whether its report may show test accuracies: not if something is chosen by its runs.
    shows_test: bool = True
    description: str = ""  # the docstring of its file, filled in by `load`

    def enumerate(self, budget: str | None = None) -> list[Run]:
        """The runs of a budget (the study's default if None), in the order they are started.

        A parent that the study does not list itself comes before its first child.

        Raises:
            InputError: no such budget, the study lists no run or one twice, or fails to list them.
        """
        budget = budget or self.default_budget
        choose(budget, dict.fromkeys(self.budgets), what=f"budget of {self.name or 'the study'}")
        try:
            listed = list(self.runs(budget))
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"study {self.name}: its runs cannot be listed: {_line(error)}"
            ) from error
        if not listed or not all(isinstance(run, Run) for run in listed):
            raise InputError(f"study {self.name} must list one or more boss.study.run.Run")
        runs = [r if r.budget == budget else r.with_fields(budget=budget) for r in listed]
        if len({run.id for run in runs}) < len(runs):
            raise InputError(f"study {self.name} lists a run twice at budget {budget}")
        return with_parents(runs)


def with_parents(runs: Iterable[Run]) -> list[Run]:
    """Every run once, each after its parent; parents that are missing are added."""
    ordered: dict[str, Run] = {}

    def place(run: Run) -> None:
        if run.parent is not None and run.parent.id not in ordered:
            place(run.parent)
        ordered.setdefault(run.id, run)

    for run in runs:
        place(run)
    return list(ordered.values())


def grid(**axes: Any) -> Iterator[dict[str, Any]]:
    """Every combination of the axes, the last one varying fastest.

    A list or tuple is an axis, anything else a constant:

    >>> list(grid(dataset="digits", repeat=[0, 1]))
    [{'dataset': 'digits', 'repeat': 0}, {'dataset': 'digits', 'repeat': 1}]
    """
    values = [v if isinstance(v, list | tuple | range) else [v] for v in axes.values()]
    for combination in itertools.product(*values):
        yield dict(zip(axes, combination, strict=True))


def find(folder: Path) -> dict[str, Path]:
    """The study files in a folder, by name, in alphabetical order."""
    return {p.stem: p for p in sorted(folder.glob("*.py")) if not p.stem.startswith("_")}


def load(name: str, folder: Path) -> Study:
    """The study called `name` in `folder`, or in the file `name` if that ends in .py.

    Raises:
        InputError: no such study or file, or the file does not define STUDY.
    """
    path = Path(name) if name.endswith(".py") else choose(name, find(folder), what="study")
    if not path.is_file():
        raise InputError(f"no study file {path}")
    spec = importlib.util.spec_from_file_location(f"boss_study_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"study file {path}: {_line(error)}") from error
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study):
        raise InputError(f"study file {path} does not define STUDY, a boss.study.study.Study")
    if path.stem in RESERVED:
        raise InputError(f"a study cannot be called {path.stem}: {RESERVED[path.stem]}")
    return dataclasses.replace(study, name=path.stem, description=module.__doc__ or "")


def _line(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
