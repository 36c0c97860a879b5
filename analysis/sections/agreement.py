"""Ours against published numbers: the difference, its interval, and a verdict at a margin."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from boss.study.run import BUDGETS

from .. import statistics

SMOKE = BUDGETS[0]
FEW_LABELS = 25  # per class: with fewer, whole classes work in one run and fail in the next
# Points within which ours and a published number count as equivalent: about twice the deviation
# over folds that FixMatch prints for CIFAR-10 with 25 labels per class (0.33 and 0.65).
MARGIN = 1.0
# The same with few labels: half of what one class of ten counts, and about the deviation that is
# printed there (2 to 6 over repeats with 1 label per class, 3.4 over folds with 4).
MARGIN_FEW = 5.0

DIFFERENCE = [
    *("difference_points", "difference_low", "difference_high", "difference_p"),
    *("difference_df", "difference_n", "margin_points"),
]
VERDICT = ["difference_p_holm", "verdict"]


def margin(labels_per_class: float) -> float:
    """Points within which two results with so many labels count as equivalent.

    >>> margin(1), margin(25), margin(400)
    (5.0, 1.0, 1.0)
    """
    return MARGIN_FEW if labels_per_class < FEW_LABELS else MARGIN


def labels_per_class(runs: pd.DataFrame) -> "pd.Series[float]":
    """How many labeled images each run has for a class, without selected ones."""
    num_classes = 1 + runs["label_classes"].map(max)
    return runs["label_set_size"] / num_classes.groupby(runs["dataset"]).transform("max")


def without_smoke(runs: pd.DataFrame, published: str) -> tuple[pd.DataFrame, str]:
    """The runs that may stand beside published numbers, and a sentence if others do not.

    Args:
        published: what they would stand beside.
    """
    is_smoke = runs["budget"] == SMOKE
    if not is_smoke.any():
        return runs, ""
    sentence = (
        f"Runs of the budget {SMOKE} only show that the code runs: they are not compared with "
        f"{published}."
    )
    return runs[~is_smoke], sentence


def difference(
    ours: statistics.Summary, theirs: statistics.Summary, margin_points: float
) -> dict[str, Any]:
    """The columns `DIFFERENCE`: ours minus theirs by `statistics.welch_summary`.

    difference_n: the number of values of the side with fewer.
    """
    found = statistics.welch_summary(ours, theirs)
    values = (found.value, *found.interval, found.p_value, found.df, min(ours.n, theirs.n))
    return dict(zip(DIFFERENCE, (*values, margin_points), strict=True))


def with_verdicts(table: pd.DataFrame, by: list[str] | None = None) -> pd.DataFrame:
    """The rows with `VERDICT`, given `DIFFERENCE`.

    difference_p_holm: adjusted for all differences of a table between at least
    `statistics.MIN_SETS` values on each side. verdict: `statistics.equivalence`, where higher and
    lower also need an adjusted p value of at most 0.05; undecided with fewer values, "" without an
    interval.

    Args:
        by: columns whose values are of different tables; none: all rows are one table.
    """
    is_tested = table["difference_n"] >= statistics.MIN_SETS
    p_values = table["difference_p"].where(is_tested)
    keys = [table[name] for name in by or ()]
    tables = p_values.groupby(keys, sort=False, dropna=False) if keys else [("", p_values)]
    adjusted = pd.Series(np.nan, index=table.index)
    for _, part in tables:
        adjusted[part.index] = statistics.holm(part.to_numpy(dtype=float))
    columns = ("difference_points", "difference_low", "difference_high", "difference_df")
    verdicts = []
    for value, low, high, df, margin_points, tested, p in zip(
        *(table[name] for name in columns), table["margin_points"], is_tested, adjusted, strict=True
    ):
        interval = statistics.Interval(low, high)
        found = statistics.equivalence(value, interval, df, margin_points)
        is_different = found in (statistics.HIGHER, statistics.LOWER)
        if not tested or (is_different and not p <= 1 - statistics.LEVEL):
            found = statistics.UNDECIDED
        verdicts.append("" if np.isnan(low) else found)
    return table.assign(difference_p_holm=adjusted, verdict=verdicts)


def how_decided(margins: Iterable[float], unit: str) -> str:
    """What a caption says of `with_verdicts`.

    Args:
        margins: of the rows of the table.
        unit: what the values of a side are: "label sets".
    """
    found = sorted({value for value in margins if value == value})
    text = " or ".join(f"{value:g}" for value in found) or f"{MARGIN:g}"
    why = (
        f" ({MARGIN:g} with {FEW_LABELS} labels per class or more, otherwise {MARGIN_FEW:g})"
    ) * (len(found) > 1)
    return (
        f"Verdict: equivalent if the 90% interval lies within {text} "
        f"{'point' if text == '1' else 'points'} of 0{why} (two one-sided tests at 5%, not "
        "adjusted); higher or lower if the p value of no difference, adjusted by Holm's method for "
        f"all tested differences of this table, is at most {1 - statistics.LEVEL:.2f}; undecided: "
        f"neither, or fewer than {statistics.MIN_SETS} {unit} on a side."
    )
