"""The tables: DataFrame -> DataFrame.

Each comes twice: `NAME(...)` holds numbers in full precision, one statistic per column (the CSV),
`NAME_text(...)` the same for human eyes ("63.1 ± 5.0": mean and SAMPLE standard deviation over
repeats, in percent). Accuracies are in percent, differences in percentage points.
"""

import math
from collections.abc import Callable

import pandas as pd

from .load import AGGREGATES
from .naming import GROUP, ORACLE_MARK

MAX_CLASSES_ACROSS = 12  # more do not fit on a page: the lowest and highest are shown


MAX_CLASSES_DOWN = 20


BASELINES = (
    "supervised",
    "fixmatch",
)  # the first one that was run is what others are compared with


METRIC = ["metric", "order"]


PROTOCOLS = {
    "last_accuracy": "last",
    "median_last_20_accuracy": "median of the last 20",
    "best_test_accuracy": "best on test (oracle)",
}


# How numbers are written


def number(value: float, digits: int = 1) -> str:
    """A number with fixed digits, or - if undefined; never minus zero."""
    if math.isnan(value):
        return "-"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def plus_minus(mean: float, sd: float, digits: int = 1) -> str:
    """Mean ± standard deviation; the number alone if there is none, as of a single value.

    >>> plus_minus(63.12, 5.0), plus_minus(63.12, float("nan")), plus_minus(float("nan"), 5.0)
    ('63.1 ± 5.0', '63.1', '-')
    """
    text = number(mean, digits)
    return text if math.isnan(mean) or math.isnan(sd) else f"{text} ± {number(sd, digits)}"


def signed(value: float, digits: int = 1) -> str:
    """A difference with its sign."""
    text = number(value, digits)
    return f"+{text}" if value > 0 and float(text) > 0 else text


def interval(low: float, high: float, write: Callable[[float], str] = number) -> str:
    """An interval in brackets."""
    return "-" if math.isnan(low) else f"[{write(low)}, {write(high)}]"


def signed_interval(low: float, high: float, digits: int = 1) -> str:
    """An interval of a difference, with its signs."""
    return interval(low, high, lambda value: signed(value, digits))


def p_value(value: float) -> str:
    """A p value with two significant digits; small ones as a bound.

    >>> p_value(0.0312), p_value(0.5), p_value(1e-7), p_value(float("nan"))
    ('0.031', '0.50', '< 0.0001', '-')
    """
    if math.isnan(value):
        return "-"
    if value < 1e-4:
        return "< 0.0001"
    return f"{value:#.2g}".rstrip(".")


def wins(num_wins: int, num_pairs: int) -> str:
    """How many of the pairs were won."""
    return f"{num_wins} / {num_pairs}" if num_pairs else "-"


def column(table: pd.DataFrame, write: Callable[..., str], *names: str) -> list[str]:
    """One text per row, written from the named columns."""
    return [write(*row) for row in zip(*(table[name] for name in names), strict=True)]


def plural(count: int, name: str) -> str:
    """A count and its noun."""
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def counts_text(table: pd.DataFrame) -> str:
    """How many runs, label sets and repeats a table is of: "24 runs, 6 label sets, n = 4 repeats".

    Args:
        table: any rows of the runs, with variant, label_set, repeat and run_id.
    """
    runs = table[["variant", "label_set", "repeat", "run_id"]].drop_duplicates()
    by_set = runs.groupby(["variant", "label_set"], sort=False, observed=True)
    counts = by_set["repeat"].nunique()
    low, high = int(counts.min()), int(counts.max())
    n = plural(high, "repeat") if low == high else f"{low} to {high} repeats"
    sets = runs["label_set"].nunique()
    each = " of each" if len(counts) > 1 else ""
    return f"{plural(len(runs), 'run')}, {plural(sets, 'label set')}, n = {n}{each}"


def without_constant(text: pd.DataFrame, names: tuple[str, ...] = (*GROUP,)) -> pd.DataFrame:
    """Drop those of the naming columns that say the same in every row, but no mark of an oracle."""
    same = [c for c in names if c in text and text[c].nunique(dropna=False) <= 1]
    same = [c for c in same if not text[c].str.contains(ORACLE_MARK, regex=False).any()]
    return text.drop(columns=same)


def across(table: pd.DataFrame, rows: list[str], cell: str) -> pd.DataFrame:
    """Metrics side by side: one row per `rows`, one column per metric, both in their order."""
    keys = pd.MultiIndex.from_frame(table[rows].drop_duplicates())
    metrics = table[METRIC].drop_duplicates().sort_values("order", kind="stable")["metric"].unique()
    wide = table.pivot_table(
        index=rows, columns="metric", values=cell, aggfunc="first", dropna=False, observed=True
    )
    wide = wide.reindex(index=keys, columns=list(metrics)).fillna("-")
    wide.columns.name = None
    return wide.reset_index()


def extreme_classes(table: pd.DataFrame, value: str, most: int) -> pd.DataFrame:
    """The rows of all metrics if there are at most `most` classes, else of the lowest and highest.

    Half of the classes that are kept have the lowest mean of `value`, half the highest; they
    stay in class order.
    """
    is_class = table["order"] >= len(AGGREGATES)
    means = table[is_class].groupby("order")[value].mean().sort_values(kind="stable")
    if len(means) <= most:
        return table
    kept = [*means.index[: most // 2], *means.index[len(means) - most // 2 :]]
    return table[~is_class | table["order"].isin(kept)]


# Algorithms


def baseline_of(experiment: pd.DataFrame) -> str:
    """The variant that the others of an experiment are compared with; none of self-training."""
    for method in BASELINES:
        runs = experiment[(experiment["method"] == method) & (experiment["round"] == 0)]
        if len(runs):
            return str(runs["variant"].iloc[0])
    return str(experiment["variant"].iloc[0])
