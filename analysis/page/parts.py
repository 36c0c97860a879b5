"""What the page of a report is made of, and what all its sections share."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from ..load import Results
from ..titles import variant_title


@dataclass(frozen=True)
class Table:
    """A table of the page: numbers for the CSV, text for Markdown and LaTeX."""

    name: str
    title: str
    caption: str
    numbers: pd.DataFrame
    text: pd.DataFrame


@dataclass(frozen=True)
class Picture:
    """A figure of the page, drawn when it is written.

    A page opens with the first `MAX_MAIN` of those that are main; the rest are behind "more".
    """

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]
    is_main: bool = False


@dataclass(frozen=True)
class Focus:
    """The one label set of an experiment that is looked at run by run."""

    experiment: str
    variant: str
    label_set: str
    suffix: str  # of file names: the label set, and the experiment if there are several

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of this label set, experiment and variant."""
        same = table["experiment"] == self.experiment
        same &= table["variant"] == self.variant
        return table[same & (table["label_set"] == self.label_set)]

    @property
    def title(self) -> str:
        """What a person calls it."""
        return f"{variant_title(self.variant)}, label set {self.label_set}: {self.experiment}"


@dataclass(frozen=True)
class Text:
    """A paragraph of the page."""

    text: str


Part = Table | Picture | Text
MAX_MAIN = 6  # figures with which a page opens


def has_picture(parts: Sequence[Part]) -> bool:
    """Whether there is a figure yet: of several experiments the figure of the first is main."""
    return any(isinstance(part, Picture) for part in parts)


def slug(text: str) -> str:
    """A text as part of a file name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")


def suffixes(names: list[str]) -> dict[str, str]:
    """What tells the files of each name apart: nothing if there is one name only."""
    if len(names) == 1:
        return {names[0]: ""}
    common = set.intersection(*(set(name.split(", ")) for name in names))
    found: dict[str, str] = {}
    for name in names:
        text = "_" + slug(" ".join(part for part in name.split(", ") if part not in common))
        while text in found.values():  # names that differ in signs only
            text += "-2"
        found[name] = text
    return found


def of_experiment(table: pd.DataFrame, experiment: str) -> pd.DataFrame:
    """The rows of one experiment."""
    return table[table["experiment"] == experiment]


def by_experiment(
    table: pd.DataFrame, experiments: list[str]
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Name, ending of file names, and rows of every experiment that a table has rows of.

    Args:
        experiments: all there are, which determine the endings.
    """
    for experiment, end in suffixes(experiments).items():
        block = of_experiment(table, experiment)
        if len(block):
            yield experiment, end, block


def without_rounds(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of round 0, if there are any, and a sentence that says if others are left out.

    For figures with a panel or a color per variant: self-training has figures of its own.
    """
    first = table[table["round"] == 0]
    if len(first) in (0, len(table)):
        return table, ""
    return first, "Without self-training."


MAX_IN_DETAIL = 4  # experiments; of more, one of each data set


def with_figures(found: Results, experiments: list[str]) -> list[tuple[str, str]]:
    """Name and ending of file names of the experiments that have figures.

    Of many, those that hold nothing but full supervision have none.
    """
    ends = [*suffixes(experiments).items()]
    if len(experiments) <= MAX_IN_DETAIL:
        return ends
    full = found.runs.groupby("experiment")["is_full"].all()
    return [(name, end) for name, end in ends if not full[name]]
