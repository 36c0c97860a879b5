"""The figures: DataFrames of one experiment -> Figure. Numbers come in, none are typed here.

Accuracies are in percent. Colors are seaborn's colorblind palette; where there are more curves
than one can tell apart by color they are also named at their ends. Figures are made without
pyplot: no global state, nothing to close, no display needed.
"""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

from . import statistics
from .load import AGGREGATES, ALL
from .tables import baseline_of, counts_text, plural

Floats = NDArray[np.float64]

Color = tuple[float, float, float]

PALETTE: list[Color] = [tuple(rgb) for rgb in sns.color_palette("colorblind", 10)]
PALETTE[8] = (0.1, 0.1, 0.1)  # its yellow is hard to see on white
DASHES = ["-", "--", ":", "-."]
ACCURACY = "test accuracy (%)"
GRAY, LIGHT = "0.45", "0.8"
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.92",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "pdf.fonttype": 42,  # text stays text
    "savefig.dpi": 170,
}
MAX_CURVES = 10  # classes drawn in color; of more, the lowest and highest
MAX_ROWS = 60  # label sets times variants of a figure; of more, the lowest and highest
MAX_ANNOTATED = (15, 60)  # classes and rows of a heat map whose cells hold numbers
MAX_ROW_NAME = 30  # letters in a line
MAX_HEIGHT = 11.0  # inches, of a figure that grows with its rows
MAX_PANELS = 8
MAX_VECTOR_CURVES, MAX_VECTOR_DOTS = 200, 5000  # of one kind; more are pixels in a PDF, too
MAX_COLORED = 8  # variants told apart by color; more are named one by one
MIN_RANGE = 5.0  # points, of an axis that adapts to the accuracies
MAX_VARIANT_PANELS = 14  # of more variants, those that end lowest and highest


def color(position: int) -> Color:
    """The color of the curve at this position."""
    return PALETTE[position % len(PALETTE)]


def dash(position: int) -> str:
    """The dash pattern of the curve at this position: differs where colors come round again."""
    return DASHES[position // len(PALETTE) % len(DASHES)]


def set_title(
    figure: Figure, title: str, subtitle: str = "", *, inches_above: float | None = None
) -> None:
    """A left-aligned title, and below it what the marks mean, wrapped to the width.

    Args:
        inches_above: distance to the upper edge, for a figure that is not laid out automatically.
    """
    width = int(figure.get_figwidth() * 13.5)
    lines = textwrap.wrap(title, width) + textwrap.wrap(subtitle, width)
    text = "\n".join(lines)
    title_text = figure.suptitle(text, x=0.01, ha="left", fontsize=9.5)
    if inches_above is not None:
        title_text.set_y(1 - inches_above / figure.get_figheight())


def unbroken(text: str) -> str:
    """A text as a sentence that is not wrapped."""
    return text.replace(" ", "\N{NO-BREAK SPACE}") + "."


def how_many(table: pd.DataFrame) -> str:
    """`tables.counts_text` for a subtitle."""
    return unbroken(counts_text(table))


def panels(
    count: int, ylabel: str, *, across: int, width: float, height: float, extra: float = 0.6
) -> tuple[Figure, list[Axes]]:
    """`count` equal panels with shared axes, `across` in a row; the sizes are of one, in inches."""
    columns = min(across, count)
    rows = -(-count // columns)
    size = (max(columns * width, 5.5), rows * height + extra)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    axes = [axis for row in grid for axis in row]
    for unused in axes[count:]:
        unused.remove()
    for axis in axes[:count:columns]:
        axis.set_ylabel(ylabel)
    for axis in axes[max(0, count - columns) : count]:
        # The lowest of its column, also above an empty place.
        axis.tick_params(labelbottom=True)
        axis.set_xlabel("labeled images seen")
    return figure, axes[:count]


def images_axis(axis: Axes, largest: float) -> None:
    """The axis of training time."""
    axis.set_xlim(0, largest)
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))


def spread_out(positions: Floats, gap: float, low: float, high: float) -> Floats:
    """Positions of labels: as near to the wanted ones as leaves `gap` between any two.

    Labels that would touch are moved apart about their common center; the order is kept; all lie
    in [low, high] if there is room.
    """
    order = np.argsort(positions, kind="stable")
    blocks: list[tuple[float, int]] = []  # center, number of labels
    for wanted in positions[order]:
        center, count = float(wanted), 1
        while True:
            half = gap * (count - 1) / 2
            center = min(max(center, low + half), max(high - half, low + half))
            if not blocks:
                break
            below, size = blocks[-1]
            if below + gap * (size - 1) / 2 + gap <= center - half + 1e-9:
                break
            blocks.pop()
            center = (center * count + below * size) / (count + size)
            count += size
        blocks.append((center, count))
    placed = np.empty_like(positions)
    done = 0
    for center, count in blocks:
        placed[order[done : done + count]] = center + gap * (np.arange(count) - (count - 1) / 2)
        done += count
    return placed


def label_ends(axis: Axes, x: float, ends: Floats, names: list[str], colors: list[Color]) -> None:
    """Name curves at their right ends, moved apart where they would overlap."""
    low, high = axis.get_ylim()
    height = axis.get_position().height * axis.figure.get_figheight() * 72  # type: ignore[union-attr]
    gap = (high - low) * 9.5 / height  # of a line of text
    for name, at, end, ink in zip(
        names, spread_out(ends, gap, low - gap, high + gap), ends, colors, strict=True
    ):
        axis.annotate(
            name,
            xy=(x, end),
            xytext=(1.09, at),
            textcoords=axis.get_yaxis_transform(),
            fontsize=7.5,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": ink,
                "lw": 1.0,
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def class_title(name: object) -> str:
    """The name of a class, where a number alone would not say that it is one."""
    return f"class {name}" if str(name).isdigit() else str(name)


def class_order(table: pd.DataFrame) -> pd.DataFrame:
    """The classes of a table of class evaluations: class_index and class_name, in order."""
    names = table[["class_index", "class_name"]].drop_duplicates("class_index")
    return names.sort_values("class_index", ignore_index=True)


def colored_classes(table: pd.DataFrame) -> list[int]:
    """Classes to draw in color: all if there are few, else those that end lowest and highest."""
    last = table[table["step"] == table["step"].max()]
    ends = last.groupby("class_index")["test_accuracy"].mean().sort_values(kind="stable")
    if len(ends) <= MAX_CURVES:
        return sorted(int(i) for i in ends.index)
    half = MAX_CURVES // 2
    return [int(i) for i in [*ends.index[:half], *ends.index[-half:]]]


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


def gray_curves(rows: pd.DataFrame) -> LineCollection:
    """A thin curve of test accuracy per repeat, all in one artist."""
    wide = 100 * rows.pivot(index="images_seen", columns="repeat", values="test_accuracy")
    x = wide.index.to_numpy(dtype=float)
    curves = [np.column_stack([x, wide[repeat].to_numpy(dtype=float)]) for repeat in wide]
    is_dense = len(curves) > MAX_VECTOR_CURVES
    return LineCollection(curves, colors=GRAY, linewidths=0.4, rasterized=is_dense)


def lowest_and_highest(means: "pd.Series[float]", most: int) -> list[str]:
    """The names to show, in their order: of more than `most` the lowest and highest."""
    if len(means) <= most:
        return [str(name) for name in means.index]
    order = means.sort_values(kind="stable").index
    half = most // 2
    kept = {*order[:half], *order[-half:]}
    return [str(name) for name in means.index if name in kept]


def row_names(names: list[str], most: int = MAX_ROW_NAME) -> tuple[list[str], float]:
    """Names of rows, long ones in two lines or more, and the inches that they need beyond usual.

    Args:
        most: letters in a line.
    """
    texts = ["\n".join(textwrap.wrap(name, most)) for name in names]
    longest = max(len(line) for text in texts for line in text.split("\n"))
    return texts, 0.07 * max(0, longest - 14)


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


def difference_marks(axis: Axes, row: int, means: Floats, ink: Color) -> None:
    """Label sets as dots, below them their mean and its 95% t interval.

    Args:
        means: of the label sets.
    """
    axis.plot(means, np.full(len(means), row + 0.12), "o", ms=4, mew=0, alpha=0.6, color=ink)
    ends = statistics.t_interval(means)
    axis.plot(ends, [row - 0.16] * 2, color=ink, lw=1.6, solid_capstyle="butt")
    if len(means):
        axis.plot(means.mean(), row - 0.16, "|", ms=9, mew=2.4, color=ink)


def shrink_if_wrapped(axis: Axes, texts: list[str]) -> None:
    """Smaller names of rows if one of them has several lines."""
    if any("\n" in text for text in texts):
        axis.tick_params(axis="y", labelsize=6.5)


def legend_columns(texts: list[str]) -> int:
    """How many texts of a legend fit beside each other."""
    longest = max(len(text) for text in texts)
    return max(1, min(6, 90 // (longest + 6)))


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


def fits(names: "pd.Series[str]") -> bool:
    """Whether the names of columns fit beside each other."""
    return int(names.str.len().max()) * len(names) <= 105


def variance(
    table: pd.DataFrame, title: str, counts: str, rows: str = "all, then by class"
) -> Figure:
    """Variance between label sets and between repeats, of All and every class, stacked.

    Left in squared points, right the share of the label sets with its 95% interval.

    Args:
        table: `tables.variance` of one variant, at most some 20 classes.
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
        f"label sets with Wald's 95% interval; no dot where it is undefined. {unbroken(counts)}",
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


def over_runs(evaluations: pd.DataFrame, value: str) -> pd.DataFrame:
    """Mean and sample standard deviation over runs at each evaluation, in percent, and n."""
    table = statistics.moments(evaluations.dropna(subset=[value]), ["images_seen"], value)
    table = table.sort_values("images_seen", ignore_index=True)
    return table.assign(mean=100 * table["mean"], sd=100 * table["sd"].fillna(0))


def band(axis: Axes, curve: pd.DataFrame, ink: Color, ls: str = "-") -> None:
    """A mean and the band of one standard deviation on each side, within 0 to 100."""
    x, mean, sd = (curve[c].to_numpy(dtype=float) for c in ("images_seen", "mean", "sd"))
    low, high = np.clip(mean - sd, 0, 100), np.clip(mean + sd, 0, 100)
    axis.fill_between(x, low, high, color=ink, alpha=0.2, lw=0)
    axis.plot(x, mean, color=ink, lw=1.6, ls=ls)


def few_variants(evaluations: pd.DataFrame) -> tuple[list[str], str]:
    """The variants that have a panel, and a sentence that says so if some have none.

    Args:
        evaluations: `Results.evaluations` of one experiment.
    """
    teachers = evaluations[evaluations["network"] == "teacher"]
    last = teachers.groupby("run_id", sort=False, observed=True).tail(1)
    means = last.groupby("variant", sort=False, observed=True)["test_accuracy"].mean()
    shown = lowest_and_highest(means, MAX_VARIANT_PANELS)
    if len(shown) == len(means):
        return shown, ""
    return shown, f" Panels: the {len(shown)} lowest and highest of {len(means)} variants."


def set_variant_title(axis: Axes, variant: str, rows: pd.DataFrame) -> None:
    """Name the panel of a variant, and how many runs it is of; "a = b" stays in one line."""
    space = "\N{NO-BREAK SPACE}"
    name = variant.replace(" = ", f"{space}={space}")
    count = plural(rows["run_id"].nunique(), "run").replace(" ", space)
    text = textwrap.fill(f"{name}: {count}", 33)
    axis.set_title(text.replace(space, " "), fontsize=8.3 if "\n" in text else 9)


def convergence(evaluations: pd.DataFrame, title: str) -> Figure:
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


PSEUDO_LABELS = {"used_share": "used", "pseudo_label_accuracy": "right, of those used"}


def pseudo_labels(evaluations: pd.DataFrame, title: str) -> Figure:
    """Share of the pseudo-labels that is used, and of those that is right, during training.

    Args:
        evaluations: `Results.evaluations` of one experiment, of variants with pseudo-labels.
    """
    rows = evaluations[evaluations["network"] == "teacher"]
    variants, note = few_variants(rows)
    figure, axes = panels(
        len(variants), "pseudo-labels (%)", across=3, width=2.6, height=2.2, extra=1.1
    )
    set_title(
        figure,
        title,
        "Of the unlabeled images since the last evaluation; mean over all runs, band: one sample "
        f"standard deviation over runs on each side. {how_many(rows)}{note}",
    )
    largest = float(rows["images_seen"].max())
    for axis, variant in zip(axes, variants, strict=True):
        axis.set_ylim(0, 100)
        images_axis(axis, largest)
        part = rows[rows["variant"] == variant]
        for position, value in enumerate(PSEUDO_LABELS):
            band(axis, over_runs(part, value), color(position), DASHES[position])
        set_variant_title(axis, variant, part)
    handles = [
        Line2D([], [], color=color(i), ls=DASHES[i], lw=1.6, label=text)
        for i, text in enumerate(PSEUDO_LABELS.values())
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def pseudo_label_classes(classes: pd.DataFrame, title: str) -> Figure:
    """Which classes the pseudo-labels that are used belong to, one panel per run.

    Args:
        classes: teacher rows of `Results.class_evaluations` of one label set and variant with
            pseudo-labels, with the column images_seen.
    """
    repeats = list(classes["repeat"].drop_duplicates())
    more = f" Shown: the first {MAX_PANELS} repeats." * (len(repeats) > MAX_PANELS)
    repeats = repeats[:MAX_PANELS]
    names = class_order(classes)
    across = min(4, len(repeats))
    down = -(-len(repeats) // across)
    height = min(0.2 * len(names), 4.0) + 0.5
    figure = Figure(figsize=(max(2.0 * across + 0.8, 5), height * down + 1.0), layout="constrained")
    axes = [axis for row in figure.subplots(down, across, squeeze=False) for axis in row]
    even = 100 / len(names)
    set_title(
        figure,
        title,
        f"Share of each class in the pseudo-labels used since the last evaluation; "
        f"an even share is {even:.3g}%. White: none was used. One panel per repeat. "
        f"{how_many(classes)}{more}",
    )
    for position, (axis, repeat) in enumerate(zip(axes, repeats, strict=False)):
        rows = classes[classes["repeat"] == repeat]
        wide = rows.pivot(index="class_index", columns="images_seen", values="pseudo_label_count")
        total = wide.sum(axis=0)
        sns.heatmap(
            100 * wide / total.where(total > 0),
            ax=axis,
            vmin=0,
            vmax=min(2.5 * even, 100),
            cmap="cividis",
            cbar=False,
            xticklabels=False,
            yticklabels=list(names["class_name"])
            if position % across == 0 and len(names) <= 20
            else False,
        )
        axis.set_title(f"repeat {repeat}")
        axis.set_ylabel("class" if position % across == 0 else "")
        axis.tick_params(axis="y", rotation=0, length=0)
        axis.set_xticks([0, wide.shape[1]], ["0", EngFormatter(sep="")(float(wide.columns.max()))])
        axis.tick_params(axis="x", rotation=0)
        axis.set_xlabel("labeled images seen")
    for unused in axes[len(repeats) :]:
        unused.remove()
    bar = figure.colorbar(
        axes[0].collections[0], ax=axes[: len(repeats)], fraction=0.03, pad=0.02, extend="max"
    )
    bar.set_label("share (%)")
    return figure
