"""How even the class accuracies of a run are: spread, lowest class, failed classes."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import statistics
from ..load import AGGREGATES
from ..naming import GROUP
from ..style import (
    ACCURACY,
    GRAY,
    MAX_VECTOR_DOTS,
    color,
    dash,
    how_many,
    legend_columns,
    set_title,
)
from ..tables import column, interval, number, p_value, signed, signed_interval, without_constant
from .balancing_runs import baseline_of
from .differences import difference_columns, with_verdicts

FAILED, POOR = 20, 50  # percent: a class below has failed, or is poor
MEASURES = {
    "sd_over_classes": "sd over classes",
    "lowest_class": "lowest class, %",
    "num_failed": f"classes below {FAILED}%",
    "num_poor": f"classes below {POOR}%",
}


# Classes


def class_measures(table: pd.DataFrame) -> pd.DataFrame:
    """Measures of how even the class accuracies of each run are.

    Args:
        table: `load.metrics`.

    Returns:
        one row per run: experiment, variant, method, label_set, repeat, run_id, and `MEASURES`.
    """
    classes = table[table["order"] >= len(AGGREGATES)]
    names = [*GROUP, "method", "label_set", "repeat", "run_id"]
    low = {"num_failed": classes["percent"] < FAILED, "num_poor": classes["percent"] < POOR}
    of_runs = classes.assign(**low).groupby(names, sort=False)
    measures = {
        "sd_over_classes": of_runs["percent"].std(ddof=1),
        "lowest_class": of_runs["percent"].min(),
        **{name: of_runs[name].sum().astype(float) for name in low},
    }
    return pd.DataFrame(measures).reset_index()


def class_balance(measures: pd.DataFrame) -> pd.DataFrame:
    """Mean of each measure by method, and its difference to FixMatch.

    Args:
        measures: `class_measures`.

    Returns:
        per measure and group: mean over label sets with low, high (Student's 95% interval over
        label sets; interval_over says over what), num_runs, num_label_sets; difference to FixMatch
        over pairs in the columns of `differences.difference_columns`, num_pairs, and
        `differences.with_verdicts`: higher, lower or undecided, all measures together.
    """
    rows = []
    for experiment, block in measures.groupby("experiment", sort=False):
        baseline = baseline_of(block)
        against = block[block["variant"] == baseline]
        for measure in MEASURES:
            for variant, group in block.groupby("variant", sort=False):
                mean = statistics.cluster_mean(group, measure)
                others = against if variant != baseline else against[:0]
                paired = statistics.compare(group, others, measure)
                change = paired.difference
                row = {"experiment": experiment, "measure": measure, "variant": variant}
                row |= {"num_runs": mean.num_runs, "num_label_sets": mean.num_label_sets}
                row |= {"mean": mean.mean, "low": mean.interval.low, "high": mean.interval.high}
                row |= {"interval_over": mean.interval_over, **difference_columns(change)}
                rows.append(row | {"num_pairs": paired.num_pairs})
    return with_verdicts(pd.DataFrame(rows), (statistics.HIGHER, statistics.LOWER))


def class_balance_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per measure and group."""
    text = numbers[["experiment"]].copy()
    text["measure"] = numbers["measure"].map(MEASURES)
    text["variant"] = numbers["variant"]
    text["runs"] = numbers["num_runs"]
    text["label sets"] = numbers["num_label_sets"]
    text["mean"] = column(numbers, number, "mean")
    text["95% interval"] = column(numbers, interval, "low", "high")
    text["difference to fixmatch"] = column(numbers, signed, "difference_points")
    text["95% interval of the difference"] = column(
        numbers, signed_interval, "difference_low", "difference_high"
    )
    text["p (Holm)"] = column(numbers, p_value, "difference_p_holm")
    text["verdict"] = numbers["verdict"].replace("", "-")
    text["pairs"] = numbers["num_pairs"].map(lambda n: str(n) if n else "-")
    return without_constant(text, ("experiment",))


def class_figure(table: pd.DataFrame, title: str) -> Figure:
    """All classes of all runs, and the sorted classes of each run.

    Args:
        table: `load.metrics` of `of_methods`, of one experiment.
    """
    classes = table[table["order"] >= len(AGGREGATES)]
    variants = list(classes["variant"].drop_duplicates())
    names = [textwrap.fill(variant, 14) for variant in variants]
    is_long = max(len(line) for name in names for line in name.split("\n")) * len(variants) > 62
    figure = Figure(figsize=(8.2, 4.2 if is_long else 3.7), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    set_title(
        figure,
        title,
        "Left: one dot per class and run; box: quartiles and median; whiskers: 5% to 95%. Right: "
        "classes of each run from lowest to highest, mean over runs at each rank. Dotted: "
        f"{FAILED}%, below which a class has failed. {how_many(classes)}",
    )
    for position, variant in enumerate(variants):
        part = classes[classes["variant"] == variant]
        values = part["percent"].to_numpy(dtype=float)
        # Fractional parts of multiples of the golden ratio: spread evenly and deterministic.
        jitter = (np.arange(len(values)) * 0.618034) % 1 - 0.5
        alpha = float(np.clip(60 / max(len(values), 1), 0.12, 0.5))
        x = position + 0.2 + 0.26 * jitter
        is_dense = len(values) > MAX_VECTOR_DOTS
        style = {"ms": 2.6, "mew": 0, "alpha": alpha, "color": color(position)}
        left.plot(x, values, "o", **style, rasterized=is_dense)
        left.boxplot(
            values,
            positions=[position - 0.2],
            widths=0.26,
            whis=(5, 95),
            showfliers=False,
            manage_ticks=False,
            boxprops={"color": color(position), "lw": 1.2},
            whiskerprops={"color": color(position)},
            capprops={"color": color(position)},
            medianprops={"color": "black", "lw": 1.4},
        )
        ranks = part.groupby("run_id", sort=False)["percent"].rank(method="first")
        curve = part.groupby(ranks)["percent"].mean()
        right.plot(
            curve.index,
            curve,
            color=color(position),
            ls=dash(position),
            marker="o" if len(curve) <= 20 else "",
            ms=3.5,
            lw=1.5,
        )
    # Where the names do not fit side by side, the legend has them.
    left.set_xticks(range(len(variants)), [""] * len(variants) if is_long else names)
    left.tick_params(axis="x", labelsize=7.5 if any("\n" in name for name in names) else 9)
    left.set_xlim(-0.6, len(variants) - 0.4)
    left.set_ylim(-2, 102)
    left.set_ylabel(f"class {ACCURACY}")
    left.grid(visible=False, axis="x")
    right.set_xlabel("rank of the class in its run, from the lowest")
    for axis in (left, right):
        axis.axhline(FAILED, color=GRAY, lw=1, ls=":")
    method_legend(figure, variants)
    return figure


def method_legend(figure: Figure, variants: list[str]) -> None:
    """The color and dash of each method, below all panels."""
    handles = [
        Line2D([], [], color=color(i), ls=dash(i), lw=1.8, label=variant)
        for i, variant in enumerate(variants)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns(variants))
