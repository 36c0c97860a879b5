"""How the choice of the labeled images moves each class."""

import math

import pandas as pd

from ..load import AGGREGATES
from ..naming import GROUP
from ..page.parts import Part, Table
from ..tables import column, number, without_constant


def class_effects(metrics: pd.DataFrame) -> pd.DataFrame:
    """The means of each class over label sets, their spread, and that of repeats.

    Args:
        metrics: `load.metrics`.

    Returns:
        per group with two label sets or more and class: num_label_sets, num_runs; mean_percent
        over label sets; sd_of_sets, the sample standard deviation of the means of the label sets;
        sd_of_repeats, pooled over label sets: sqrt(sum_j (n_j - 1) sd_j^2 / sum_j (n_j - 1)), NaN
        without repeats; lowest and highest: the label sets with these means, _percent.
    """
    classes = metrics[metrics["order"] >= len(AGGREGATES)]
    names = [*GROUP, "order", "metric"]
    sets = classes.groupby([*names, "label_set"], sort=False, observed=True)["percent"]
    table = pd.DataFrame(
        {"mean": sets.mean(), "squares": sets.var(ddof=1) * (sets.count() - 1), "n": sets.count()}
    ).reset_index()
    rows = []
    for keys, group in table.groupby(names, sort=False, observed=True):
        if len(group) < 2:
            continue
        row: dict[str, object] = dict(zip(names, keys, strict=True))
        row |= {"num_label_sets": len(group), "num_runs": int(group["n"].sum())}
        row |= {"mean_percent": group["mean"].mean(), "sd_of_sets": group["mean"].std(ddof=1)}
        df = int((group["n"] - 1).sum())
        row |= {"sd_of_repeats": math.sqrt(group["squares"].sum() / df) if df else math.nan}
        ordered = group.sort_values("mean", kind="stable")
        for name, at in (("lowest", 0), ("highest", -1)):
            row |= {
                name: ordered["label_set"].iloc[at],
                f"{name}_percent": ordered["mean"].iloc[at],
            }
        rows.append(row)
    return pd.DataFrame(rows)


def class_effects_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group and class."""
    text = numbers[[*GROUP]].copy()
    text["class"] = numbers["metric"]
    text["label sets"] = numbers["num_label_sets"]
    text["mean"] = column(numbers, number, "mean_percent")
    text["sd between label sets"] = column(numbers, number, "sd_of_sets")
    text["sd between repeats"] = column(numbers, number, "sd_of_repeats")
    for name in ("lowest", "highest"):
        text[f"{name} label set"] = column(
            numbers, lambda percent, which: f"{number(percent)} ({which})",
            f"{name}_percent", name,
        )  # fmt: skip
    return without_constant(text)


def parts(metrics: pd.DataFrame) -> list[Part]:
    """The table, if any group has two label sets."""
    numbers = class_effects(metrics)
    if not len(numbers):
        return []
    return [
        Table(
            "class_effects",
            "Effect of the label set on each class",
            "Test accuracy of the class in percent, teacher after the last step. Mean: of the "
            "means of the label sets. Sd between label sets: sample standard deviation of these "
            "means, which hold part of the variance between repeats. Sd between repeats: of the "
            "repeats of one label set, pooled. Lowest and highest: the means of these label sets.",
            numbers,
            class_effects_text(numbers),
        )
    ]
