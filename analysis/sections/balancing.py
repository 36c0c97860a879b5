"""Class balancing: FixMatch against the algorithms that set thresholds or weights by class.

Runs of round 0 only; self-training has a section of its own. Every difference is to FixMatch, over
pairs of runs with the same label set and repeat.
"""

import textwrap

import pandas as pd
from matplotlib.figure import Figure

from .. import statistics
from ..load import Results
from ..naming import GROUP, natural, variant_order
from ..page.parts import Focus, Part, Picture, Table, by_experiment, has_picture
from ..style import GRAY, color, difference_marks, how_many, set_title
from ..tables import (
    column,
    counts_text,
    p_value,
    plus_minus,
    signed,
    signed_interval,
    wins,
    without_constant,
)
from .balancing_runs import baseline_of, of_methods
from .class_balance import (
    FAILED,
    POOR,
    class_balance,
    class_balance_text,
    class_figure,
    class_measures,
)
from .differences import HOLM, difference_to, with_verdicts
from .pseudo_labels import pseudo_label_parts

# Accuracy


def accuracy(runs: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by label set and method.

    Args:
        runs: `of_methods`.

    Returns:
        per group and label set: mean_percent and sd_percent over its n repeats. In the row "mean"
        they are over the means of the label sets, n of them.
    """
    runs = runs.assign(percent=100 * runs["last_accuracy"])
    by_set = statistics.moments(runs, [*GROUP, "label_set"], "percent")
    total = statistics.moments(by_set, GROUP, "mean").assign(label_set="mean")
    table = pd.concat([by_set, total[total["n"] > 1]], ignore_index=True)
    table = table.rename(columns={"mean": "mean_percent", "sd": "sd_percent"})
    return table[[*GROUP, "label_set", "mean_percent", "sd_percent", "n"]]


def accuracy_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per experiment and label set, one column per method."""
    rows = []
    for experiment, block in numbers.groupby("experiment", sort=False):
        label_sets = sorted(block["label_set"].unique(), key=lambda s: (s == "mean", natural(s)))
        for label_set in label_sets:
            part = block[block["label_set"] == label_set]
            low, high = int(part["n"].min()), int(part["n"].max())
            n = str(low) if low == high else f"{low} to {high}"
            cells = column(part, plus_minus, "mean_percent", "sd_percent")
            row = {"experiment": experiment, "label_set": label_set, "n": n}
            rows.append(row | dict(zip(part["variant"], cells, strict=True)))
    text = pd.DataFrame(rows).fillna("-")
    variants = sorted(numbers["variant"].unique(), key=variant_order)
    return without_constant(text[["experiment", "label_set", "n", *variants]])


def difference(runs: pd.DataFrame) -> pd.DataFrame:
    """Every method against FixMatch.

    Args:
        runs: `of_methods`.

    Returns:
        per group but FixMatch's, and only where that was run: the columns of
        `differences.difference_to` and of `differences.with_verdicts`.
    """
    runs = runs.assign(percent=100 * runs["last_accuracy"])
    rows = []
    for experiment, block in runs.groupby("experiment", sort=False):
        baseline = baseline_of(block)
        against = block[block["variant"] == baseline]
        for variant, group in block.groupby("variant", sort=False):
            if not baseline or variant == baseline:
                continue
            names = {"experiment": experiment, "variant": variant}
            rows.append(names | difference_to(group, against, baseline))
    return with_verdicts(pd.DataFrame(rows)) if rows else pd.DataFrame()


def difference_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group."""
    text = numbers[[*GROUP]].copy()
    text["compared with"] = numbers["baseline"]
    text["label sets"] = numbers["num_difference_sets"]
    text["difference"] = column(numbers, signed, "difference_points")
    text["95% interval"] = column(numbers, signed_interval, "difference_low", "difference_high")
    text["p (Holm)"] = column(numbers, p_value, "difference_p_holm")
    text["verdict"] = numbers["verdict"]
    text["wins / pairs"] = column(numbers, wins, "num_wins", "num_pairs")
    return without_constant(text, ("experiment",))


def difference_figure(runs: pd.DataFrame, title: str) -> Figure:
    """The mean difference to FixMatch of every label set, their mean and its interval.

    Args:
        runs: `of_methods`, of one experiment in which FixMatch was run.
    """
    runs = runs.assign(percent=100 * runs["last_accuracy"])
    baseline = baseline_of(runs)
    against = runs[runs["variant"] == baseline]
    variants = [v for v in runs["variant"].drop_duplicates() if v != baseline]
    figure = Figure(figsize=(7.0, 0.42 * len(variants) + 1.5), layout="constrained")
    axis = figure.subplots()
    set_title(
        figure,
        title,
        f"Dots: label sets, mean over pairs of runs with the same repeat; bar: their mean and its "
        f"95% t interval over label sets. {how_many(runs)}",
    )
    axis.axvline(0, color=GRAY, lw=1)
    for row, variant in enumerate(variants):
        both = statistics.pairs(runs[runs["variant"] == variant], against, "percent")
        means = both.groupby("label_set", sort=False)["difference"].mean().to_numpy(dtype=float)
        difference_marks(axis, row, means, color(row + 1))
    axis.set_yticks(range(len(variants)), variants)
    axis.set_ylim(len(variants) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    axis.set_xlabel(textwrap.fill(f"difference to {baseline} (percentage points)", 55))
    return figure


# The section


def parts(
    found: Results, table: pd.DataFrame, focuses: list[Focus], experiments: list[str]
) -> list[Part]:
    """The methods against FixMatch: accuracy, classes, pseudo-labels.

    Args:
        table: `load.metrics`.
        focuses: their experiments have figures.
    """
    runs = of_methods(found.runs)
    if not len(runs):
        return []
    table = of_methods(table)
    numbers = accuracy(runs)
    made: list[Part] = [
        Table(
            "balancing",
            "Test accuracy by label set and balancing method",
            "Accuracy of the teacher after the last step, in percent: mean ± sample standard "
            'deviation over n repeats. Row "mean": over the means of n label sets.',
            numbers,
            accuracy_text(numbers),
        )
    ]
    differences = difference(runs)
    if len(differences):
        made.append(
            Table(
                "balancing_difference",
                "Balancing methods against FixMatch",
                "Mean difference in percentage points over pairs of runs with the same label set "
                "and repeat. The 95% t interval is over label sets. With only one label set it is "
                f"over repeats and does not extend to other label sets. {HOLM} Verdict: better or "
                "worse where it is at most 0.05. Wins: pairs in which the method is better.",
                differences,
                difference_text(differences),
            )
        )
    looked_at = {focus.experiment for focus in focuses}
    for experiment, end, block in by_experiment(runs, experiments):
        if experiment not in looked_at or not baseline_of(block):
            continue
        title = f"Difference to FixMatch: {experiment}"
        made.append(
            Picture(
                f"balancing_difference{end}",
                title,
                "Dots: label sets, mean over pairs of runs with the same repeat. Bar: mean of the "
                "label sets and its 95% t interval. "
                f"{counts_text(block)}.",
                lambda block=block, title=title: (  # type: ignore[misc]
                    difference_figure(block, title)
                ),
                is_main=not has_picture(made),
            )
        )
    balance = class_balance(class_measures(table))
    made.append(
        Table(
            "class_balance",
            "Evenness of the class accuracies",
            "Measures of the class accuracies of each run: sample standard deviation, lowest "
            f"class, and number of classes below {FAILED}% (failed) and below {POOR}%. Means over "
            "label sets of the means over repeats, with Student's 95% interval over label sets "
            "(over repeats if there is only one). Differences are over pairs of runs with the "
            f"same label set and repeat, with an interval over label sets. {HOLM} Verdict: higher "
            "or lower where it is at most 0.05.",
            balance,
            class_balance_text(balance),
        )
    )
    for experiment, end, block in by_experiment(table, experiments):
        if experiment not in looked_at:
            continue
        title = f"Test accuracy of the classes by method: {experiment}"
        made.append(
            Picture(
                f"class_balance{end}",
                title,
                f"All classes of all runs, and the sorted classes of each run. "
                f"{counts_text(block)}.",
                lambda block=block, title=title: class_figure(block, title),  # type: ignore[misc]
            )
        )
    return made + pseudo_label_parts(found, focuses, experiments)
