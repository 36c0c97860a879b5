"""What class balancing changes: the methods of BOSS against FixMatch, which is method 0.

Beside them FlexMatch and FreeMatch, which also let thresholds depend on the class. Other algorithms
have no such rule and stand in section Algorithms alone. Runs of round 0 only; self-training has a
section of its own. Every difference is to FixMatch, over pairs of runs with the same label set and
repeat.
"""

import textwrap

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from .. import statistics
from ..figures import (
    ACCURACY,
    GRAY,
    MAX_VECTOR_DOTS,
    class_order,
    color,
    dash,
    difference_marks,
    how_many,
    images_axis,
    legend_columns,
    panels,
    set_title,
)
from ..load import AGGREGATES, GROUP, Results, class_curves, natural, variant_order
from ..page.parts import Focus, Part, Picture, Table, by_experiment
from ..tables import (
    column,
    counts_text,
    difference_to,
    interval,
    number,
    plus_minus,
    signed,
    signed_interval,
    wins,
    without_constant,
)

Floats = NDArray[np.float64]

BASELINE = "fixmatch"
BALANCED = ("flexmatch", "freematch")  # and the methods of BOSS
FAILED, POOR = 20, 50  # percent: a class below has failed, or is poor
MEASURES = {
    "sd_over_classes": "sd over classes",
    "lowest_class": "lowest class, %",
    "num_failed": f"classes below {FAILED}%",
    "num_poor": f"classes below {POOR}%",
}
COUNTS = {"predicted_count": "all pseudo-labels", "pseudo_label_count": "those used"}
MAX_REPEATS = 4  # panels beside each other


# Which rows


def of_methods(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of round 0 of FixMatch and of what keeps its classes in balance.

    Only of experiments in which two such methods or more ran.

    Args:
        table: any rows with experiment, method and round.
    """
    is_method = table["method"].isin([BASELINE, *BALANCED])
    is_method |= table["method"].str.match(r"boss\b")
    rows = table[(table["round"] == 0) & is_method]
    methods = rows[["experiment", "method"]].drop_duplicates()["experiment"].value_counts()
    return rows[rows["experiment"].isin(methods.index[methods > 1])]


def baseline_of(block: pd.DataFrame) -> str:
    """The first variant of FixMatch in one experiment (`load.sort_runs`), "" if it was not run."""
    variants = block.loc[block["method"] == BASELINE, "variant"]
    return str(variants.iloc[0]) if len(variants) else ""


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
        `tables.difference_to` and num_label_sets.
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
            sets = set(group["label_set"]) & set(against["label_set"])
            counts = {"num_label_sets": len(sets)}
            rows.append(names | difference_to(group, against, baseline) | counts)
    return pd.DataFrame(rows)


def difference_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group."""
    text = numbers[[*GROUP]].copy()
    text["compared with"] = numbers["baseline"]
    text["label sets"] = numbers["num_label_sets"]
    text["difference"] = column(numbers, signed, "difference_points")
    text["95% interval"] = column(numbers, signed_interval, "difference_low", "difference_high")
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


# Classes


def class_measures(table: pd.DataFrame) -> pd.DataFrame:
    """How even the classes of every run are.

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
    """How even the classes are, by method.

    Args:
        measures: `class_measures`.

    Returns:
        per measure and group: mean over label sets with low, high (Student's 95% interval over
        label sets; interval_over says over what), num_runs, num_label_sets; difference to FixMatch
        over pairs with difference_low, difference_high, num_pairs.
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
                row |= {"interval_over": mean.interval_over, "difference": change.mean}
                row |= {"difference_low": change.interval.low}
                row |= {"difference_high": change.interval.high, "num_pairs": paired.num_pairs}
                rows.append(row)
    return pd.DataFrame(rows)


def class_balance_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per measure and group."""
    text = numbers[["experiment"]].copy()
    text["measure"] = numbers["measure"].map(MEASURES)
    text["variant"] = numbers["variant"]
    text["runs"] = numbers["num_runs"]
    text["label sets"] = numbers["num_label_sets"]
    text["mean"] = column(numbers, number, "mean")
    text["95% interval"] = column(numbers, interval, "low", "high")
    text["difference to fixmatch"] = column(numbers, signed, "difference")
    text["95% interval of the difference"] = column(
        numbers, signed_interval, "difference_low", "difference_high"
    )
    text["pairs"] = numbers["num_pairs"].map(lambda n: str(n) if n else "-")
    return without_constant(text, ("experiment",))


def class_figure(table: pd.DataFrame, title: str) -> Figure:
    """Every class of every run, and the classes of each run sorted.

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
        "Left: a dot is one class of one run; box: quartiles and median, whiskers: 5% to 95%. "
        "Right: the classes of each run from lowest to highest, mean over runs of the accuracy at "
        f"each place. Dotted: {FAILED}%, below which a class has failed. {how_many(classes)}",
    )
    for position, variant in enumerate(variants):
        part = classes[classes["variant"] == variant]
        values = part["percent"].to_numpy(dtype=float)
        # The fractional parts of multiples of the golden ratio: spread evenly, without chance.
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
    # Where names do not fit beside each other, colors tell: the legend has them.
    left.set_xticks(range(len(variants)), [""] * len(variants) if is_long else names)
    left.tick_params(axis="x", labelsize=7.5 if any("\n" in name for name in names) else 9)
    left.set_xlim(-0.6, len(variants) - 0.4)
    left.set_ylim(-2, 102)
    left.set_ylabel(f"class {ACCURACY}")
    left.grid(visible=False, axis="x")
    right.set_xlabel("place of the class in its run, from the lowest")
    for axis in (left, right):
        axis.axhline(FAILED, color=GRAY, lw=1, ls=":")
    method_legend(figure, variants)
    return figure


# Pseudo-labels


def effective_classes(curves: pd.DataFrame) -> pd.DataFrame:
    """How many classes the pseudo-labels of every run are spread over, during training.

    Args:
        curves: `load.class_curves`.

    Returns:
        experiment, variant, run_id, label_set, repeat, images_seen, and of each of `COUNTS` the
        `statistics.effective_number` since the last evaluation, NaN if there was none.
    """
    names = [*GROUP, "run_id", "label_set", "repeat", "images_seen"]
    keys = curves.groupby(["run_id", "images_seen"], sort=False, observed=True, dropna=False)
    row = keys.ngroup().to_numpy()
    column, classes = pd.factorize(curves["class_index"])
    table = curves.loc[~pd.Series(row, index=curves.index).duplicated(), names]
    for name in COUNTS:
        counts = np.full((len(table), len(classes)), np.nan)
        counts[row, column] = curves[name].to_numpy(dtype=float)
        table[name] = statistics.effective_number(counts)
    return table.reset_index(drop=True)


def method_legend(figure: Figure, variants: list[str]) -> None:
    """The color and dash of each method, below all panels."""
    handles = [
        Line2D([], [], color=color(i), ls=dash(i), lw=1.8, label=variant)
        for i, variant in enumerate(variants)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns(variants))


def effective_figure(table: pd.DataFrame, num_classes: int, title: str) -> Figure:
    """The effective number of classes during training, by method.

    Args:
        table: `effective_classes` of one experiment.
    """
    variants = list(table["variant"].drop_duplicates())
    figure, axes = panels(
        len(COUNTS), "effective number of classes", across=2, width=3.9, height=2.6, extra=1.2
    )
    set_title(
        figure,
        title,
        "exp of the entropy of the class shares, since the last evaluation, images counted without "
        "weights: equal shares give the number of classes (dashed). Mean over runs; band: one "
        f"sample standard deviation on each side. {how_many(table)}",
    )
    largest = float(table["images_seen"].max())
    for axis, (name, text) in zip(axes, COUNTS.items(), strict=True):
        axis.set_title(text)
        axis.set_ylim(0, 1.06 * num_classes)
        images_axis(axis, largest)
        axis.axhline(num_classes, color=GRAY, lw=1, ls="--")
        for position, variant in enumerate(variants):
            rows = table[(table["variant"] == variant) & table[name].notna()]
            curve = statistics.moments(rows, ["images_seen"], name).sort_values("images_seen")
            x, mean = (curve[c].to_numpy(dtype=float) for c in ("images_seen", "mean"))
            sd = curve["sd"].fillna(0.0).to_numpy(dtype=float)
            low, high = np.maximum(mean - sd, 1), np.minimum(mean + sd, num_classes)
            axis.fill_between(x, low, high, color=color(position), alpha=0.13, lw=0)
            axis.plot(x, mean, color=color(position), ls=dash(position), lw=1.5)
    method_legend(figure, variants)
    return figure


def share_figure(curves: pd.DataFrame, title: str) -> Figure:
    """Share of each class in the pseudo-labels used: a row of panels per method, repeats across.

    Args:
        curves: `load.class_curves` of one label set, of the methods.
    """
    variants = list(curves["variant"].drop_duplicates())
    repeats = sorted(curves["repeat"].unique())
    more = f" Shown: the first {MAX_REPEATS} repeats." * (len(repeats) > MAX_REPEATS)
    repeats = repeats[:MAX_REPEATS]
    classes = class_order(curves)
    even = 100 / len(classes)
    height = min(0.15 * len(classes), 2.5) + 0.35
    size = (max(1.75 * len(repeats) + 1.6, 6), height * len(variants) + 1.2)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(variants), len(repeats), squeeze=False)
    set_title(
        figure,
        title,
        "Share of each class in the pseudo-labels used since the last evaluation, images counted "
        f"without weights; an even share is {even:.3g}%. White: none was used. {how_many(curves)}"
        f"{more}",
    )
    drawn: list[Axes] = []
    for axes, variant in zip(grid, variants, strict=True):
        for axis, repeat in zip(axes, repeats, strict=True):
            rows = curves[(curves["variant"] == variant) & (curves["repeat"] == repeat)]
            if not len(rows):
                axis.set_axis_off()
                continue
            wide = rows.pivot(
                index="class_index", columns="images_seen", values="pseudo_label_count"
            )
            total = wide.sum(axis=0)
            has_names = axis is axes[0] and len(classes) <= 20
            sns.heatmap(
                100 * wide / total.where(total > 0),
                ax=axis,
                vmin=0,
                vmax=min(2.5 * even, 100),
                cmap="cividis",
                cbar=False,
                xticklabels=False,
                yticklabels=list(classes["class_name"]) if has_names else False,
            )
            drawn.append(axis)
            is_first, is_last = variant == variants[0], variant == variants[-1]
            axis.set_title(f"repeat {repeat}" if is_first else "")
            axis.set_ylabel(textwrap.fill(variant, 20) if axis is axes[0] else "")
            axis.set_xlabel("")
            axis.tick_params(axis="y", rotation=0, length=0, labelsize=7)
            if is_last:
                end = EngFormatter(sep="")(float(wide.columns.max()))
                axis.set_xticks([0, wide.shape[1]], ["0", end])
                axis.tick_params(axis="x", rotation=0)
                axis.set_xlabel("labeled images seen")
    bar = figure.colorbar(drawn[0].collections[0], ax=list(grid.flat), fraction=0.03, extend="max")
    bar.set_label("share (%)")
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
            "Percent, teacher after the last step, mean ± sample standard deviation over n "
            'repeats. Row "mean": over the means of n label sets.',
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
                "Percentage points, over pairs of runs with the same label set and repeat: mean, "
                "95% t interval over label sets (over repeats if there is one label set: then it "
                "says nothing about others); wins: pairs in which the method is better.",
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
                "A dot is the mean difference of one label set, over pairs of runs with the same "
                "repeat; the bar is the mean of the label sets and its 95% t interval. "
                f"{counts_text(block)}.",
                lambda block=block, title=title: (  # type: ignore[misc]
                    difference_figure(block, title)
                ),
            )
        )
    balance = class_balance(class_measures(table))
    made.append(
        Table(
            "class_balance",
            "How even the classes are",
            "Of the test accuracies of the classes in each run: their sample standard deviation, "
            f"the lowest, and how many are below {FAILED}% (failed) and below {POOR}%. Mean over "
            "label sets of the mean over repeats, with Student's 95% interval over label sets "
            "(over repeats if there is one label set); the difference is over pairs of runs with "
            "the same label set and repeat, its interval over label sets.",
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
                f"Every class of every run, and the classes of each run sorted. "
                f"{counts_text(block)}.",
                lambda block=block, title=title: class_figure(block, title),  # type: ignore[misc]
            )
        )
    return made + pseudo_label_parts(found, focuses, experiments)


def pseudo_label_parts(found: Results, focuses: list[Focus], experiments: list[str]) -> list[Part]:
    """Which classes the pseudo-labels belong to."""
    made: list[Part] = []
    classes = of_methods(found.class_evaluations)
    ends = {focus.experiment: focus for focus in focuses}
    for experiment, end, block in by_experiment(classes, experiments):
        focus = ends.get(experiment)
        if focus is None:
            continue
        title = f"Classes of the pseudo-labels by method: {experiment}"
        block = class_curves(found, block)
        spread = effective_classes(block)
        num_classes = int(block["class_index"].nunique())
        if spread[list(COUNTS)].notna().any(axis=None):
            made.append(
                Picture(
                    f"effective_classes{end}",
                    title,
                    f"Effective number of the {num_classes} classes: exp of the entropy of their "
                    "shares in the pseudo-labels since the last evaluation. Mean over all runs of "
                    "a method; band: one sample standard deviation over runs on each side. "
                    f"{counts_text(block)}.",
                    lambda spread=spread, k=num_classes, title=title: (  # type: ignore[misc]
                        effective_figure(spread, k, title)
                    ),
                )
            )
        rows = block[block["label_set"] == focus.label_set]
        if not rows["pseudo_label_count"].sum() > 0:
            continue
        name = f"{focus.label_set}: {experiment}"
        made.append(
            Picture(
                f"pseudo_label_shares_{focus.suffix}",
                f"Classes of the pseudo-labels used, by method, label set {name}",
                "Share of each class in the pseudo-labels used since the last evaluation, a row "
                "of panels per method, a column per repeat; the color scale ends at 2.5 times the "
                f"even share. {counts_text(rows)}.",
                lambda rows=rows, name=name: share_figure(  # type: ignore[misc]
                    rows, f"Classes of the pseudo-labels used, label set {name}"
                ),
            )
        )
    return made
