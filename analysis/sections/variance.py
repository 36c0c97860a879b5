"""How much of the variance lies between label sets, and how much between repeats."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .. import statistics, tables
from ..load import AGGREGATES, ALL, CLASS_MEAN
from ..naming import GROUP
from ..page.parts import (
    Part,
    Picture,
    Table,
    of_experiment,
    suffixes,
    without_rounds,
)
from ..style import PALETTE, row_names, set_title, shrink_if_wrapped, unbroken
from ..tables import (
    MAX_CLASSES_DOWN,
    METRIC,
    column,
    extreme_classes,
    interval,
    number,
    without_constant,
)

# Where the variance comes from


def variance_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Per group and metric: the variance between label sets and between repeats of one.

    Returns:
        label_set_variance, repeat_variance (squared points) and their roots ..._sd; share of the
        label sets in [0, 1] with its 95% interval; is_clipped; num_runs, num_label_sets.
        See `statistics.variance_components`.
    """
    metrics = metrics[metrics["metric"] != CLASS_MEAN]
    rows = []
    for keys, group in metrics.groupby([*GROUP, *METRIC], sort=False):
        parts = statistics.variance_components(group, "percent")
        row: dict[str, object] = dict(zip([*GROUP, *METRIC], keys, strict=True))
        row |= {"num_runs": parts.num_runs, "num_label_sets": parts.num_label_sets}
        row |= {"label_set_variance": parts.label_set, "repeat_variance": parts.repeat}
        row |= {"label_set_sd": parts.label_set**0.5, "repeat_sd": parts.repeat**0.5}
        row |= {"share": parts.share, "share_low": parts.share_interval.low}
        row |= {"share_high": parts.share_interval.high, "is_clipped": parts.is_clipped}
        rows.append(row)
    return pd.DataFrame(rows)


def variance_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group and metric; * marks a negative estimate that was set to 0.

    Of a group without repeats, of which nothing is known, only the row of All.
    """
    is_known = numbers["repeat_variance"].notna() | (numbers["metric"] == ALL)
    shown = extreme_classes(numbers[is_known], "repeat_variance", MAX_CLASSES_DOWN)
    text = shown[[*GROUP, "metric"]].copy()
    text["runs"] = shown["num_runs"]
    text["label sets"] = shown["num_label_sets"]
    text["sd between label sets"] = column(
        shown, lambda sd, clipped: number(sd) + "*" * clipped, "label_set_sd", "is_clipped"
    )
    text["sd between repeats"] = column(shown, number, "repeat_sd")
    text["share of label sets, %"] = column(shown, lambda x: number(100 * x, 0), "share")
    text["95% interval, %"] = column(
        shown, lambda a, b: interval(a, b, lambda x: number(100 * x, 0)), "share_low", "share_high"
    )
    return without_constant(text)


def spread_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Per group and label set, and their mean: class-wise spread against total spread.

    Returns:
        the fields of `statistics.ClassSpread` in points, n and ratio = mean_class_sd / sd_of_mean.
        In the row "mean" the fields are means over label sets, n is the number of runs, and the
        ratio is that of the means.
    """
    classes = metrics[metrics["order"] >= len(AGGREGATES)]
    rows = []
    for (experiment, variant), group in classes.groupby(GROUP, sort=False):
        names: dict[str, object] = {"experiment": experiment, "variant": variant}
        parts: list[dict[str, object]] = []
        for label_set, part in group.groupby("label_set", sort=False):
            wide = part.pivot(index="run_id", columns="order", values="percent")
            result = statistics.class_spread(wide.to_numpy(dtype=float))
            parts.append(names | {"label_set": label_set, "n": len(wide)} | result._asdict())
        rows += parts
        if len(parts) > 1:
            mean = pd.DataFrame(parts)[list(statistics.ClassSpread._fields)].mean()
            total = {"label_set": "mean", "n": group["run_id"].nunique()}
            rows.append(names | total | {str(name): value for name, value in mean.items()})
    table = pd.DataFrame(rows)
    ratio = table["mean_class_sd"] / table["sd_of_mean"].replace(0, math.nan)
    return table.assign(ratio=ratio)


def spread_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group and label set."""
    text = numbers[[*GROUP, "label_set", "n"]].copy()
    text["sd of the mean"] = column(numbers, number, "sd_of_mean")
    text["mean sd of a class"] = column(numbers, number, "mean_class_sd")
    text["ratio"] = column(numbers, number, "ratio")
    text["sd of the mean, if classes were independent"] = column(
        numbers, number, "sd_of_mean_if_independent"
    )
    text["sd over classes within a run"] = column(numbers, number, "sd_within_run")
    return without_constant(text)


def variance_figure(
    table: pd.DataFrame, title: str, counts: str, rows: str = "all, then by class"
) -> Figure:
    """Variance between label sets and between repeats, of All and every class, stacked.

    Left in squared points, right the share of the label sets with its 95% interval.

    Args:
        table: `variance_table` of one variant, at most some 20 classes.
        counts: how many runs it is of.
        rows: what the rows are, whose names are in the column metric.
    """
    names, more_width = row_names(list(table["metric"]), 44)
    height = 0.24 * len(names) + 1.6
    figure = Figure(figsize=(7.5 + more_width, height), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    set_title(
        figure,
        title,
        "One-way random effects over runs. Left: the two variance components. Right: share of the "
        f"label sets with its 95% interval; no dot where it is undefined. {unbroken(counts)}",
    )
    y = np.arange(len(names))
    between = table["label_set_variance"].fillna(0).to_numpy(dtype=float)
    within = table["repeat_variance"].fillna(0).to_numpy(dtype=float)
    left.barh(y, between, color=PALETTE[0], height=0.7)
    left.barh(y, within, left=between, color=PALETTE[1], height=0.7)
    left.set_xlabel("variance (percentage points²)")
    left.set_yticks(y, names)
    left.set_ylim(len(names) - 0.4, -0.6)
    left.set_ylabel(rows)
    shrink_if_wrapped(left, names)
    share = 100 * table[["share", "share_low", "share_high"]].to_numpy(dtype=float)
    right.hlines(y, share[:, 1], share[:, 2], color=PALETTE[0], lw=1.5)
    right.plot(share[:, 0], y, "o", ms=4.5, color=PALETTE[0])
    right.set_xlim(-3, 103)
    right.set_xlabel("share of the label sets (%)")
    for axis in (left, right):
        axis.grid(visible=False, axis="y")
    figure.legend(
        handles=[
            Patch(color=PALETTE[0], label="between label sets"),
            Patch(color=PALETTE[1], label="between repeats of one label set"),
        ],
        loc="outside lower center",
        ncols=2,
    )
    return figure


MAX_VARIANTS_DRAWN = 8  # variance figures of one experiment; of more variants, one of all


def variance_parts(table: pd.DataFrame, experiments: list[str]) -> list[Part]:
    """Label sets against repeats, classes against their mean."""
    numbers = variance_table(table)
    spread = spread_table(table)
    drawn = set(without_rounds(table)[0][GROUP].itertuples(index=False, name=None))
    parts: list[Part] = [
        Table(
            "variance",
            "Variance between label sets and between repeats",
            "One-way random effects over runs, analysis-of-variance estimates, in percentage "
            "points (their squares add up). Share: variance between label sets of the total, with "
            "its 95% jackknife interval over label sets (needs three). *: the estimate between "
            "label sets was negative and is set to 0. -: undefined (needs two label sets, and "
            "repeats of one).",
            numbers,
            variance_text(numbers),
        )
    ]
    for experiment, end in suffixes(experiments).items():
        block = of_experiment(numbers, experiment)
        block = block[block["label_set_variance"].notna()]
        block = block[pd.MultiIndex.from_frame(block[GROUP]).isin(drawn)]
        names = list(block["variant"].drop_duplicates())
        if len(names) > MAX_VARIANTS_DRAWN:
            parts.append(variance_of_variants(block, table, experiment, end))
            continue
        for variant, ending in suffixes(names).items() if names else ():
            part = tables.extreme_classes(
                block[block["variant"] == variant], "repeat_variance", tables.MAX_CLASSES_DOWN
            )
            title = f"Variance of {variant}: {experiment}"
            of_variant = table["variant"] == variant
            counts = tables.counts_text(of_experiment(table[of_variant], experiment))
            parts.append(
                Picture(
                    f"variance{ending}{end}",
                    title,
                    f"{counts}. Components as in the table above; share of the label sets with "
                    "its 95% jackknife interval over label sets.",
                    lambda part=part, title=title, counts=counts: (  # type: ignore[misc]
                        variance_figure(part, title, counts)
                    ),
                )
            )
    parts.append(
        Table(
            "spread",
            "Class-wise spread against total spread",
            "Percentage points. Over the n repeats of a label set: standard deviation of the mean "
            "of the classes, mean of the standard deviations of the classes, their ratio. A mean "
            "of K classes varies less than a class in any case (K equal, independent classes: by "
            "the root of K), so compare with the column for independent classes: a larger "
            "deviation of the mean says that classes rise and fall together, a smaller one that "
            "they gain at each other's cost. Last column: standard deviation over classes, mean "
            "over runs.",
            spread,
            spread_text(spread),
        )
    )
    return parts


def variance_of_variants(
    block: pd.DataFrame, table: pd.DataFrame, experiment: str, end: str
) -> Picture:
    """The variance of All of many variants, in one figure.

    Args:
        block: `variance_table` of one experiment.
        table: `load.metrics`.
    """
    part = block[block["metric"] == ALL]
    part = part.assign(metric=part["variant"])
    title = f"Variance by variant: {experiment}"
    drawn = of_experiment(table, experiment)
    counts = tables.counts_text(drawn[drawn["variant"].isin(part["variant"])])
    return Picture(
        f"variance{end}",
        title,
        f"Of All. {counts}. Components as in the table above; share of the label sets with its "
        "95% jackknife interval over label sets.",
        lambda: variance_figure(part, title, counts, rows="variant"),
    )
