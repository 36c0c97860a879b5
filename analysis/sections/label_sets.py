"""Label sets and classes, and one label set run by run."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import statistics, tables
from ..load import AGGREGATES, ALL, Results, class_curves
from ..naming import GROUP
from ..page.parts import (
    MAX_IN_DETAIL,
    Focus,
    Part,
    Picture,
    Table,
    Text,
    has_picture,
    of_experiment,
    slug,
    with_figures,
    without_rounds,
)
from ..style import (
    ACCURACY,
    DASHES,
    LIGHT,
    MAX_ANNOTATED,
    MAX_HEIGHT,
    MAX_PANELS,
    MAX_ROW_NAME,
    PALETTE,
    class_order,
    class_title,
    color,
    colored_classes,
    dash,
    fits,
    gray_curves,
    how_many,
    images_axis,
    label_ends,
    lowest_and_highest,
    panels,
    row_names,
    set_title,
    shrink_if_wrapped,
)
from ..tables import (
    MAX_CLASSES_ACROSS,
    METRIC,
    across,
    column,
    extreme_classes,
    number,
    plus_minus,
    without_constant,
)

# Accuracy by class (Table 1 of Empirical Perspectives) and of every run (Table 2)


def class_accuracy(metrics: pd.DataFrame) -> pd.DataFrame:
    """Per group, label set and metric: mean_percent, sd_percent, n (repeats)."""
    table = statistics.moments(metrics, [*GROUP, "label_set", *METRIC], "percent")
    return table.rename(columns={"mean": "mean_percent", "sd": "sd_percent"})


def class_accuracy_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group and label set, one column per metric."""
    shown = extreme_classes(numbers, "mean_percent", MAX_CLASSES_ACROSS)
    shown = shown.assign(cell=column(shown, plus_minus, "mean_percent", "sd_percent"))
    rows = [*GROUP, "label_set"]
    counts = numbers[numbers["metric"] == ALL].set_index(rows)["n"]
    text = across(shown, rows, "cell")
    n = counts.reindex(pd.MultiIndex.from_frame(text[rows])).to_numpy()
    text.insert(len(rows), "n", n)
    return without_constant(text)


def runs_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Every number of every run."""
    return metrics[[*GROUP, "label_set", "repeat", "run_id", *METRIC, "percent"]]


def runs_text(metrics: pd.DataFrame) -> pd.DataFrame:
    """One row per run, one column per metric; below them mean ± sample standard deviation."""
    shown = extreme_classes(metrics, "percent", MAX_CLASSES_ACROSS)
    shown = shown.assign(cell=column(shown, number, "percent"))
    text = across(shown, [*GROUP, "label_set", "repeat"], "cell")
    total = statistics.moments(shown, [*GROUP, "label_set", *METRIC], "percent")
    total = total.assign(cell=column(total, plus_minus, "mean", "sd"), repeat="mean ± sd")
    below = across(total, [*GROUP, "label_set", "repeat"], "cell")
    text = pd.concat([text.astype(object), below.astype(object)], ignore_index=True)
    return without_constant(text, (*GROUP, "label_set"))


def widest_spread(numbers: pd.DataFrame) -> tuple[str, str]:
    """Variant and label set with the largest deviation of All over repeats; without any: the first.

    A supervised baseline is chosen only if there is nothing else.

    Args:
        numbers: `class_accuracy` of one experiment.
    """
    table = numbers[numbers["metric"] == ALL]
    others = table[~table["variant"].str.startswith("supervised")]
    table = others if len(others) else table
    row = table.iloc[int(np.argmax(table["sd_percent"].fillna(-1).to_numpy()))]
    return str(row["variant"]), str(row["label_set"])


def run_convergence(classes: pd.DataFrame, title: str) -> Figure:
    """Test accuracy of every class during training, one panel per run (Figures 1 and 2).

    Args:
        classes: teacher rows of `Results.class_evaluations`, of one label set and variant, with
            the column images_seen.
    """
    repeats = list(classes["repeat"].drop_duplicates())
    num_repeats = len(repeats)
    if len(repeats) > MAX_PANELS:  # the first and last ones
        repeats = [*repeats[: MAX_PANELS // 2], *repeats[-(MAX_PANELS // 2) :]]
    figure, axes = panels(len(repeats), ACCURACY, across=2, width=3.9, height=2.8)
    names = class_order(classes).set_index("class_index")["class_name"]
    shown = colored_classes(classes)
    largest = float(classes["images_seen"].max())
    subtitle = "Teacher (averaged weights); one curve per class, named at its end, one panel per "
    subtitle += f"repeat. {how_many(classes)}"
    if len(repeats) < num_repeats:
        subtitle += f" Shown: the first and last {MAX_PANELS // 2} repeats."
    if len(names) > len(shown):
        subtitle += f" Colored: the {len(shown)} classes that end lowest and highest on average."
    set_title(figure, title, subtitle)
    for axis, repeat in zip(axes, repeats, strict=True):
        axis.set_ylim(-2, 102)
        images_axis(axis, largest)
        axis.set_title(f"repeat {repeat}")
        wide = 100 * classes[classes["repeat"] == repeat].pivot(
            index="images_seen", columns="class_index", values="test_accuracy"
        )
        for index in wide.columns.difference(shown):
            axis.plot(wide.index, wide[index], color=LIGHT, lw=0.5)
        for position, index in enumerate(shown):
            axis.plot(wide.index, wide[index], color=color(position), ls=dash(position), lw=1.4)
    for axis, repeat in zip(axes, repeats, strict=True):
        rows = classes[(classes["repeat"] == repeat) & classes["class_index"].isin(shown)]
        last = rows[rows["step"] == rows["step"].max()].set_index("class_index")["test_accuracy"]
        ends = 100 * last.reindex(shown).to_numpy(dtype=float)
        texts = [str(names[index]) for index in shown]
        label_ends(axis, largest, ends, texts, [color(i) for i in range(len(shown))])
    return figure


def class_convergence(classes: pd.DataFrame, title: str) -> Figure:
    """The same curves, one panel per class: what repeats of one label set make of each class."""
    names = class_order(classes).set_index("class_index")["class_name"]
    shown = sorted(colored_classes(classes))
    repeats = list(classes["repeat"].drop_duplicates())
    # Each curve is thinner than the one below it and has gaps that show it.
    styles: list[dict[str, Any]] = [
        {"color": color(i), "ls": DASHES[i % len(DASHES)], "lw": 2.2 - 0.35 * (i % len(DASHES))}
        for i in range(len(repeats))
    ]
    is_many = len(repeats) > len(PALETTE)
    figure, axes = panels(len(shown), ACCURACY, across=5, width=1.65, height=1.5, extra=0.9)
    largest = float(classes["images_seen"].max())
    subtitle = "Teacher (averaged weights); one panel per class, one curve per repeat. "
    subtitle += f"{how_many(classes)}"
    if len(names) > len(shown):
        subtitle += f" Shown: the {len(shown)} classes that end lowest and highest on average."
    set_title(figure, title, subtitle)
    for axis, index in zip(axes, shown, strict=True):
        axis.set_title(class_title(names[index]), fontsize=8.5)
        axis.set_ylim(-3, 103)
        images_axis(axis, largest)
        rows = classes[classes["class_index"] == index]
        if is_many:
            axis.add_collection(gray_curves(rows))
            continue
        for repeat, style in zip(repeats, styles, strict=True):
            curve = rows[rows["repeat"] == repeat]
            axis.plot(curve["images_seen"], 100 * curve["test_accuracy"], **style)
    if not is_many:
        lines = [
            Line2D([], [], label=f"repeat {repeat}", **style)
            for repeat, style in zip(repeats, styles, strict=True)
        ]
        columns = min(len(lines), 5)
        figure.legend(handles=lines, loc="outside lower center", ncols=columns, handlelength=3.2)
    return figure


def class_accuracy_heatmap(metrics: pd.DataFrame, title: str) -> Figure:
    """Mean accuracy of every label set and class, one panel per variant.

    More variants than `MAX_PANELS` are the rows of one panel: mean over label sets. With many
    classes they are sorted by their mean over all runs and not named, and the cells hold no
    numbers.

    Args:
        metrics: `load.metrics` of one experiment.
    """
    table = metrics[metrics["order"] >= len(AGGREGATES)]
    counts_of_runs = how_many(table)
    row_kind, most = "label set", MAX_ROW_NAME
    if table["variant"].nunique() > MAX_PANELS:
        row_kind, most = "variant", 44
        keys = ["variant", "label_set", "order", "metric"]
        of_sets = table.groupby(keys, sort=False, as_index=False)["percent"].mean()
        means = of_sets.groupby("variant", sort=False)["percent"].mean()
        table = of_sets[of_sets["variant"].isin(lowest_and_highest(means, MAX_ANNOTATED[1]))]
        table = table.assign(label_set=table["variant"], variant="")
    order = table.groupby(["order", "metric"])["percent"].mean().reset_index()
    is_many = len(order) > 30
    if is_many:
        order = order.sort_values("percent", kind="stable")
    variants = list(table["variant"].drop_duplicates())
    counts = [table[table["variant"] == v]["label_set"].nunique() for v in variants]
    is_annotated = len(order) <= MAX_ANNOTATED[0] and sum(counts) <= MAX_ANNOTATED[1]
    row_height = min(0.26, (MAX_HEIGHT - 0.75 * len(counts)) / sum(counts))  # inches
    row_texts, more_width = row_names(list(table["label_set"].unique()), most)
    has_names = row_height > (0.2 if any("\n" in text for text in row_texts) else 0.13)
    across = 1 if len(order) > 4 else min(3, len(variants))
    height = sum(row_height * count + 0.75 for count in counts) / across + 1.1
    size = (8.0 + more_width * has_names, max(height, 2.6))
    figure = Figure(figsize=size, layout="constrained")
    shape = (-(-len(variants) // across), across)
    ratios = counts if across == 1 else None
    grid = figure.subplots(*shape, squeeze=False, height_ratios=ratios)
    axes = [axis for row in grid for axis in row]
    over = "label sets" if row_kind == "variant" else "repeats"
    subtitle = f"Mean over {over} of the teacher's test accuracy after the last step, in %. "
    subtitle += counts_of_runs
    if row_kind == "variant" and len(row_texts) < metrics["variant"].nunique():
        subtitle += f" Shown: the {len(row_texts)} lowest and highest variants."
    if is_many:
        low, high = order["metric"].iloc[:10], order["metric"].iloc[-10:]
        subtitle += f" Columns: {len(order)} classes, sorted by their mean over all runs."
        subtitle += f" Lowest: {', '.join(low)}. Highest: {', '.join(high)}."
    set_title(figure, title, subtitle)
    for axis, variant in zip(axes, variants, strict=False):
        part = table[table["variant"] == variant]
        wide = part.pivot_table(index="label_set", columns="order", values="percent", sort=False)
        wide = wide.reindex(columns=order["order"])
        sns.heatmap(
            wide,
            ax=axis,
            vmin=0,
            vmax=100,
            cmap="cividis",
            annot=is_annotated,
            fmt=".0f",
            annot_kws={"fontsize": 7.5},
            cbar=False,
            yticklabels=row_names(list(wide.index), most)[0] if has_names else False,
            xticklabels=False if is_many else list(order["metric"]),
            linewidths=0.4 if is_annotated else 0,
        )
        for text in axis.texts:  # legible on every shade
            text.set_color("black" if float(text.get_text()) > 50 else "white")
        axis.set_title(variant)
        axis.set_xlabel("class")
        axis.set_ylabel(row_kind if has_names else f"{len(wide)} {row_kind}s")
        axis.tick_params(axis="y", rotation=0, length=0)
        shrink_if_wrapped(axis, [label.get_text() for label in axis.get_yticklabels()])
        axis.tick_params(
            axis="x", rotation=0 if fits(order["metric"]) else 90, length=0, labelsize=8
        )
    for unused in axes[len(variants) :]:
        unused.remove()
    bar = figure.colorbar(axes[0].collections[0], ax=axes[: len(variants)], fraction=0.02, pad=0.01)
    bar.set_label(ACCURACY)
    bar.outline.set_visible(False)
    return figure


def class_parts(found: Results, table: pd.DataFrame, experiments: list[str]) -> list[Part]:
    """Every label set and class; data sets with other classes have tables of their own."""
    parts: list[Part] = []
    datasets = table["run_id"].map(found.runs.set_index("run_id")["dataset"])
    for dataset, rows in table.groupby(datasets, sort=False):
        numbers = class_accuracy(rows)
        own = Path(str(dataset)).stem if datasets.nunique() > 1 else ""
        parts.append(
            Table(
                f"class_accuracy_{slug(own)}" if own else "class_accuracy",
                "Test accuracy by label set and class" + f": {own}" * bool(own),
                "Percent, mean ± sample standard deviation over n repeats. All and the classes: "
                "the teacher after the last step. Oracle: maximum over all evaluations of teacher "
                "and student, chosen on the test set; no result, but what some publications call "
                "All. Mean of classes equals All if the test set has equally many images of each "
                "class.",
                numbers,
                class_accuracy_text(numbers),
            )
        )
    for experiment, end in with_figures(found, experiments):
        block, note = without_rounds(of_experiment(table, experiment))
        is_many = block["variant"].nunique() > MAX_PANELS
        what = "variant" if is_many else "label set"
        title = f"Test accuracy by {what} and class: {experiment}"
        parts.append(
            Picture(
                f"class_accuracy_heatmap{end}",
                title,
                f"Mean over {'label sets' if is_many else 'repeats'}, teacher after the last step. "
                f"{tables.counts_text(block)}. "
                f"{note}".strip(),
                lambda block=block, title=title: (  # type: ignore[misc]
                    class_accuracy_heatmap(block, title)
                ),
                is_main=not has_picture(parts),
            )
        )
    return parts


def focus_parts(table: pd.DataFrame, found: Results, focuses: list[Focus]) -> list[Part]:
    """One label set of each experiment, run by run; the CSV has all of them."""
    parts: list[Part] = []
    if len(focuses) > 0 and table["experiment"].nunique() > MAX_IN_DETAIL:
        parts.append(
            Text(
                "Of many experiments one of each data set, that with the fewest labels, is looked "
                "at in detail, here and in the figures of other sections; the tables have all."
            )
        )
    for focus in focuses:
        runs = focus.of(table)
        n = runs["repeat"].nunique()
        parts.append(
            Table(
                f"runs_of_{focus.suffix}",
                f"Runs of {focus.title}",
                "Percent, one row per repeat: the same labeled images, other initial weights and "
                f"order. Teacher after the last step; n = {n}. Last row: mean ± sample standard "
                "deviation. The runs of every label set are in tables/runs.csv.",
                runs_table(runs),
                runs_text(runs),
            )
        )
        curves = class_curves(found, focus.of(found.class_evaluations))
        title = f"{focus.title}. Test accuracy of each class during training"
        parts += [
            Picture(
                f"convergence_{focus.suffix}",
                title,
                f"One panel per repeat, n = {n}; teacher, on all test images of the class.",
                lambda curves=curves, title=title: (  # type: ignore[misc]
                    run_convergence(curves, title)
                ),
            ),
            Picture(
                f"convergence_{focus.suffix}_by_class",
                title,
                f"The same curves, one panel per class, one curve per repeat (n = {n}).",
                lambda curves=curves, title=title: (  # type: ignore[misc]
                    class_convergence(curves, title)
                ),
            ),
        ]
    return parts
