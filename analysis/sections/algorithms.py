"""Every algorithm over all label sets, and which differ from the one they are compared with."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import statistics, tables
from ..load import ALL, Results
from ..page.parts import (
    Part,
    Picture,
    Table,
    has_picture,
    of_experiment,
    with_figures,
    without_rounds,
)
from ..style import (
    ACCURACY,
    GRAY,
    LIGHT,
    MAX_COLORED,
    MAX_ROWS,
    MIN_RANGE,
    band,
    color,
    few_variants,
    how_many,
    images_axis,
    legend_columns,
    lowest_and_highest,
    over_runs,
    panels,
    row_names,
    set_title,
    set_variant_title,
    shrink_if_wrapped,
)
from ..tables import (
    baseline_of,
)
from .algorithm_tables import algorithms_table, algorithms_text, verdicts_table, verdicts_text
from .differences import HOLM
from .published import published_means


def accuracy_by_variant(metrics: pd.DataFrame, title: str) -> Figure:
    """A row per variant: every run a dot, the mean and its 95% t interval over label sets.

    For so many variants that colors cannot tell them apart.

    Args:
        metrics: `load.metrics` of one experiment.
    """
    table = metrics[metrics["metric"] == ALL]
    by_variant = table.groupby("variant", sort=False)["percent"].mean()
    variants = lowest_and_highest(by_variant, MAX_ROWS)
    row_texts, more_width = row_names(variants, 60)
    height = max(0.24 * len(variants), 0.13 * sum(text.count("\n") + 1 for text in row_texts))
    figure = Figure(figsize=(6.5 + more_width, height + 1.5), layout="constrained")
    axis = figure.subplots()
    baseline = baseline_of(table)
    subtitle = (
        "Dots: runs, teacher after the last step. Bars: mean over label sets and its 95% t "
        "interval over label sets (over repeats if there is one). Vertical line: the mean of "
        f"{baseline}. {how_many(table)}"
    )
    if len(variants) < len(by_variant):
        subtitle += f" Shown: the {len(variants)} lowest and highest of {len(by_variant)} variants."
    set_title(figure, title, subtitle)
    against = statistics.cluster_mean(table[table["variant"] == baseline], "percent").mean
    axis.axvline(against, color=GRAY, lw=0.9)
    for row, variant in enumerate(variants):
        part = table[table["variant"] == variant]
        values = part["percent"].to_numpy(dtype=float)
        axis.plot(
            values, np.full(len(values), row + 0.12), "o", ms=3.2, mew=0, alpha=0.6, color=color(0)
        )
        mean = statistics.cluster_mean(part, "percent")
        ends = np.clip(mean.interval, 0, 100)
        axis.plot(ends, [row - 0.16] * 2, color=color(0), lw=1.4, solid_capstyle="butt")
        axis.plot(mean.mean, row - 0.16, "|", ms=7, mew=2.2, color=color(0))
        if row % 2:
            axis.axhspan(row - 0.5, row + 0.5, color="0.965", zorder=0, lw=0)
    axis.set_yticks(range(len(variants)), row_texts)
    shrink_if_wrapped(axis, row_texts)
    axis.set_ylim(len(variants) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    low, high = axis.get_xlim()
    space = max(0.0, MIN_RANGE - (high - low)) / 2
    axis.set_xlim(max(low - space, 0), min(high + space, 100))
    axis.set_xlabel(ACCURACY)
    return figure


def accuracy_by_label_set(
    metrics: pd.DataFrame, title: str, published: Mapping[str, float] | None = None
) -> Figure:
    """Every run a dot; the mean and its 95% t interval over repeats; the published mean.

    Args:
        metrics: `load.metrics` of one experiment.
        published: published means (percent) by label set.
    """
    table = metrics[metrics["metric"] == ALL]
    variants = list(table["variant"].drop_duplicates())
    by_set = table.groupby("label_set", sort=False)["percent"].mean()
    label_sets = lowest_and_highest(by_set, max(6, MAX_ROWS // len(variants)))
    marks = {name: mean for name, mean in (published or {}).items() if name in label_sets}
    height = len(label_sets) * max(0.22, 0.15 * len(variants)) + 1.5
    row_texts, more_width = row_names(label_sets)
    figure = Figure(figsize=(7.5 + more_width, max(height, 2.4)), layout="constrained")
    axis = figure.subplots()
    subtitle = (
        "Dots: runs, teacher after the last step. Bars: mean and 95% t interval over repeats. "
        f"{how_many(table)}"
    )
    if len(label_sets) < len(by_set):
        subtitle += f" Shown: the {len(label_sets)} lowest and highest of {len(by_set)} label sets."
    set_title(figure, title, subtitle)
    step = 0.8 / len(variants)
    for position, variant in enumerate(variants):
        offset = (position - (len(variants) - 1) / 2) * step
        part = table[table["variant"] == variant]
        for row, label_set in enumerate(label_sets):
            values = part.loc[part["label_set"] == label_set, "percent"].to_numpy(dtype=float)
            if not len(values):
                continue
            y = row + offset
            axis.plot(
                values,
                np.full(len(values), y),
                "o",
                ms=3.2,
                mew=0,
                alpha=0.6,
                color=color(position),
            )
            interval = statistics.t_interval(values)
            ends = [max(interval.low, 0), min(interval.high, 100)]
            above = y - 0.3 * step  # so that the bar does not hide the dots
            axis.plot(ends, [above, above], color=color(position), lw=1.3, solid_capstyle="butt")
            axis.plot(values.mean(), above, "|", ms=6, mew=2.2, color=color(position))
    for row, label_set in enumerate(label_sets):
        if label_set in marks:
            axis.plot(marks[label_set], row, "D", ms=5, mfc="none", mec="black", mew=1.1, zorder=5)
        if row % 2:
            axis.axhspan(row - 0.5, row + 0.5, color="0.965", zorder=0, lw=0)
    axis.set_yticks(range(len(label_sets)), row_texts)
    shrink_if_wrapped(axis, row_texts)
    axis.set_ylim(len(label_sets) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    axis.set_xlim(0, 100)
    axis.set_xlabel(ACCURACY)
    axis.set_ylabel("label set")
    handles = [Line2D([], [], color=color(i), lw=2, label=v) for i, v in enumerate(variants)]
    if marks:
        handles.append(
            Line2D([], [], color="black", marker="D", mfc="none", ls="", label="published All")
        )
    if len(handles) > 1:
        figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns(variants))
    return figure


def convergence_figure(evaluations: pd.DataFrame, title: str) -> Figure:
    """Mean test accuracy of teacher and student during training, one panel per variant.

    Args:
        evaluations: `Results.evaluations` of one experiment.
    """
    variants, note = few_variants(evaluations)
    figure, axes = panels(len(variants), ACCURACY, across=3, width=2.6, height=2.2, extra=1.1)
    set_title(
        figure,
        title,
        "Mean over all runs; band: one sample standard deviation over runs on each side (teacher). "
        f"Gray: the teachers of all other variants. {how_many(evaluations)}{note}",
    )
    largest = float(evaluations["images_seen"].max())
    teachers = {
        variant: over_runs(rows[rows["network"] == "teacher"], "test_accuracy")
        for variant, rows in evaluations.groupby("variant", sort=False, observed=True)
    }
    for position, (axis, variant) in enumerate(zip(axes, variants, strict=True)):
        axis.set_ylim(0, 100)
        images_axis(axis, largest)
        for other, curve in teachers.items():
            if other != variant:
                axis.plot(curve["images_seen"], curve["mean"], color=LIGHT, lw=1)
        rows = evaluations[evaluations["variant"] == variant]
        band(axis, teachers[variant], color(position))
        student = over_runs(rows[rows["network"] == "student"], "test_accuracy")
        axis.plot(student["images_seen"], student["mean"], color=color(position), ls="--", lw=1.1)
        set_variant_title(axis, variant, rows)
    figure.legend(
        handles=[
            Line2D([], [], color=GRAY, lw=1.6, label="teacher (averaged weights)"),
            Line2D([], [], color=GRAY, lw=1.1, ls="--", label="student (trained weights)"),
        ],
        loc="outside lower center",
        ncols=2,
    )
    return figure


# The sections


def algorithm_parts(
    found: Results, table: pd.DataFrame, theirs: dict[str, pd.DataFrame], experiments: list[str]
) -> list[Part]:
    """Every algorithm over all label sets."""
    numbers = algorithms_table(found.runs)
    verdicts = verdicts_table(numbers)
    parts: list[Part] = [
        Table(
            "algorithms",
            "Algorithms",
            "Mean over label sets of the mean over repeats, in percent; sd over all runs. "
            "95% interval: Student's t over the means of the label sets (over repeats if there is "
            "one label set: then it says nothing about others). Difference: over "
            "pairs of runs with the same label set and repeat, which share their random streams, "
            "with Student's t interval over label sets, since repeats of one label set are not "
            f"independent. {HOLM} Wins: pairs in which the algorithm is better. IQM: mean of the "
            "middle half of all runs, which a few failed runs move less. P(better): probability "
            "that a run is better than one of the other algorithm on the same label set, ties "
            "count half.",
            numbers,
            algorithms_text(numbers),
        )
    ]
    if len(verdicts):
        parts.append(
            Table(
                "verdicts",
                "Which are better than the one they are compared with",
                "Better: the difference in the table above is positive with an adjusted p value of "
                f"at most {1 - statistics.LEVEL:.2f}; worse: negative; undecided: neither, or "
                f"there are fewer than {statistics.MIN_SETS} label sets. All verdicts "
                "together: if none is better or worse, the chance that any is called so is at most "
                "5%.",
                verdicts,
                verdicts_text(verdicts),
            )
        )
    for experiment, end in with_figures(found, experiments):
        block, note = without_rounds(of_experiment(table, experiment))
        curves, _ = without_rounds(of_experiment(found.evaluations, experiment))
        marks = published_marks(found, experiment, theirs)
        caption = (
            "Every run is a dot; the bar is the mean over repeats and its 95% t interval (cut at 0 "
            f"and 100). {tables.counts_text(block)}. {note}".strip()
        )
        if marks:
            caption += (
                " Diamonds: the published All, which is probably the best on the test set; which "
                "label sets the publication used is inferred."
            )
        accuracy = Picture(
            f"accuracy_by_label_set{end}",
            f"Test accuracy by label set: {experiment}",
            caption,
            lambda block=block, marks=marks, experiment=experiment: (  # type: ignore[misc]
                accuracy_by_label_set(block, f"Test accuracy by label set: {experiment}", marks)
            ),
            is_main=not has_picture(parts),
        )
        if block["variant"].nunique() > MAX_COLORED:
            title = f"Test accuracy by variant: {experiment}"
            accuracy = Picture(
                f"accuracy_by_variant{end}",
                title,
                "Every run is a dot; the bar is the mean over label sets and its 95% t interval "
                "over label sets (over repeats if there is one label set), cut at 0 and 100; the "
                f"vertical line is the baseline. {tables.counts_text(block)}. {note}".strip(),
                lambda block=block, title=title: (  # type: ignore[misc]
                    accuracy_by_variant(block, title)
                ),
                is_main=not has_picture(parts),
            )
        parts += [
            accuracy,
            Picture(
                f"convergence{end}",
                f"Test accuracy during training: {experiment}",
                "Mean over all runs of each algorithm. Band: one sample standard deviation over "
                f"runs on each side (teacher). {tables.counts_text(block)}. {note}".strip(),
                lambda curves=curves, experiment=experiment: convergence_figure(  # type: ignore[misc]
                    curves, f"Test accuracy during training: {experiment}"
                ),
            ),
        ]
    return parts


def published_marks(
    found: Results, experiment: str, theirs: dict[str, pd.DataFrame]
) -> dict[str, float]:
    """Published All by label set, if this experiment is on the published data."""
    runs = of_experiment(found.runs, experiment)
    marks: dict[str, float] = {}
    for published in theirs.values():
        if runs["dataset"].isin(published["dataset"]).any():
            marks |= dict(published_means(published))
    return marks
