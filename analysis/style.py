"""What all figures share: style, colors, titles, axes, labels."""

import textwrap

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

from . import statistics
from .tables import counts_text, plural

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
    "text.parse_math": False,  # a dollar in a name is a dollar
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


def fits(names: "pd.Series[str]") -> bool:
    """Whether the names of columns fit beside each other."""
    return int(names.str.len().max()) * len(names) <= 105


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
