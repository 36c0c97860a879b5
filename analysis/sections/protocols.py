"""Three ways to report the same runs: last, median of the last 20, best on test."""

import pandas as pd

from .. import statistics
from ..load import Results
from ..naming import GROUP
from ..page.parts import (
    Part,
    Table,
)
from ..tables import PROTOCOLS, column, plus_minus, signed, signed_interval, without_constant

# Which checkpoint is reported


def protocols_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Per group and label set ("all" = every run of the group): the three ways to report a run.

    Returns:
        for each of last, median_last_20 and best_test: mean_percent and sd_percent over runs;
        optimism = best on test minus last, its mean and 95% interval (`statistics.cluster_mean`;
        interval_over says over what).
    """
    optimism = 100 * (runs["best_test_accuracy"] - runs["last_accuracy"])
    runs = runs[[*GROUP, "label_set", *PROTOCOLS]].assign(optimism=optimism)
    rows = []
    for (experiment, variant), group in runs.groupby(GROUP, sort=False):
        parts = [*group.groupby("label_set", sort=False)]
        for label_set, part in [*parts, *([("all", group)] if len(parts) > 1 else [])]:
            row = {"experiment": experiment, "variant": variant, "label_set": label_set}
            row |= {"n": len(part), "num_label_sets": part["label_set"].nunique()}
            for name in PROTOCOLS:
                short = name.removesuffix("_accuracy")
                row[f"{short}_mean_percent"] = 100 * part[name].mean()
                row[f"{short}_sd_percent"] = 100 * part[name].std(ddof=1)
            mean = statistics.cluster_mean(part, "optimism")
            row |= {"optimism_points": mean.mean, "optimism_low": mean.interval.low}
            row |= {"optimism_high": mean.interval.high, "interval_over": mean.interval_over}
            rows.append(row)
    return pd.DataFrame(rows)


def protocols_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group and label set, one column per protocol."""
    text = numbers[[*GROUP, "label_set", "n"]].copy()
    for name, title in PROTOCOLS.items():
        short = name.removesuffix("_accuracy")
        text[title] = column(
            numbers, plus_minus, f"{short}_mean_percent", f"{short}_sd_percent"
        )  # fmt: skip
    text["best - last"] = column(numbers, signed, "optimism_points")
    text["95% interval"] = column(numbers, signed_interval, "optimism_low", "optimism_high")
    return without_constant(text)


def protocol_parts(found: Results) -> list[Part]:
    """Three ways to report the same runs."""
    numbers = protocols_table(found.runs)
    fewest = int(found.runs["num_evaluations"].min())
    short = f" Runs with fewer than 20 evaluations (here from {fewest}) use all." * (fewest < 20)
    return [
        Table(
            "protocols",
            "Which checkpoint is reported",
            "Percent, mean ± sample standard deviation over n runs. Last: teacher after the last "
            "step. Median: of the teacher's last 20 evaluations (the number of evaluations is in "
            "the settings: 20 of 40 are the second half of the training; FixMatch's own protocol, "
            f"20 of 1,024, is its last 2%).{short} Best on test: maximum over all evaluations of "
            "teacher and student, an oracle. Best - last: what choosing on the test set adds, with "
            "the 95% t interval over repeats (rows of one label set) or over label sets (row "
            '"all", where it is the mean over label sets and the other columns are over runs: '
            "these differ if label sets have different numbers of repeats).",
            numbers,
            protocols_text(numbers),
        )
    ]
