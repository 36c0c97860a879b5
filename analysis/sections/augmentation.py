"""The rates that CTAugment learned: at which strengths the network still recognizes an image.

Each parameter of an operation has bins of its level, from 0 to 1. Each bin has a rate: a moving
average of the teacher's probability of the true class on labeled images distorted at that level.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from .. import statistics
from ..load import Results, augmentation_rates
from ..naming import GROUP
from ..page.parts import Focus, Part, Picture, Table, by_experiment
from ..statistics import Floats
from ..style import how_many, images_axis, panels, set_title
from ..tables import plus_minus, without_constant

# How training images are distorted (boss.augment.ctaugment): of p = rate + (1 - DECAY), those below
# THRESHOLD times the largest of the parameter are not drawn.
DECAY, THRESHOLD = 0.99, 0.80
EDGE: dict[str, Any] = {  # white with a black rim, to be seen on every color
    "color": "white",
    "linewidth": 1.1,
    "path_effects": [patheffects.withStroke(linewidth=2.4, foreground="black")],
}
PARAMETER = ["operation", "parameter"]


def is_drawn(rates: Floats) -> NDArray[np.bool_]:
    """Which bins are drawn for training images.

        p = rate + (1 - decay)        p / max p >= threshold

    Args:
        rates: of the bins of one parameter (bins, ...).
    """
    p = rates + (1 - DECAY)
    drawn: NDArray[np.bool_] = p / p.max(axis=0) >= THRESHOLD
    return drawn


def operation_title(operation: str, parameter: int, num_parameters: int) -> str:
    """The name of a parameter: that of its operation, with a number where that has several.

    >>> operation_title("rescale", 1, 2), operation_title("shear_x", 0, 1)
    ('rescale (2)', 'shear x')
    """
    name = operation.replace("_", " ")
    return f"{name} ({parameter + 1})" if num_parameters > 1 else name


def with_titles(rates: pd.DataFrame) -> pd.DataFrame:
    """The rates with the column title: `operation_title`."""
    keys = rates[PARAMETER].drop_duplicates()
    count = keys.groupby("operation", observed=True)["parameter"].transform("size")
    titles = [
        operation_title(*row)
        for row in zip(keys["operation"], keys["parameter"], count, strict=True)
    ]
    return rates.merge(keys.assign(title=titles), on=PARAMETER)


def final_rates(rates: pd.DataFrame) -> pd.DataFrame:
    """The rates after the last step.

    Args:
        rates: `load.augmentation_rates`, at least those after the last step.

    Returns:
        per group, operation and parameter: mean and sd (sample) over n runs of the mean rate over
        bins, and drawn_share, the mean over runs of the share of bins that are drawn.
    """
    last = rates[rates["step"] == rates.groupby("run_id", observed=True)["step"].transform("max")]
    rows = []
    for keys, bins in last.groupby([*GROUP, *PARAMETER], sort=False, observed=True):
        num_bins = bins.groupby("run_id", observed=True)["rate"].transform("size")
        for count in num_bins.unique():  # one, unless runs differ in their bins
            same = bins[num_bins == count]
            values = same["rate"].to_numpy(dtype=float).reshape(-1, count)
            row = dict(zip([*GROUP, *PARAMETER], keys, strict=True))
            row |= {"rate": values.mean(axis=1), "drawn": is_drawn(values.T).mean(axis=0)}
            rows.append(pd.DataFrame(row, index=same.index[::count]))
    by_run = pd.concat(rows).sort_index()  # as the runs come
    table = statistics.moments(by_run, [*GROUP, *PARAMETER], "rate")
    drawn = statistics.moments(by_run, [*GROUP, *PARAMETER], "drawn")
    return table.assign(drawn_share=drawn["mean"])


def final_rates_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group, one column per parameter."""
    numbers = with_titles(numbers)
    rows = []
    for keys, group in numbers.groupby(GROUP, sort=False):
        row = dict(zip(GROUP, keys, strict=True)) | {"n": str(group["n"].iloc[0])}
        cells = zip(group["title"], group["mean"], group["sd"], strict=True)
        rows.append(row | {title: plus_minus(mean, sd, 2) for title, mean, sd in cells})
    return without_constant(pd.DataFrame(rows).fillna("-"), ("experiment",))


def rates_figure(rates: pd.DataFrame, title: str) -> Figure:
    """The rates of one run during training, one panel per parameter.

    Args:
        rates: of one run, with images_seen.
    """
    rates = with_titles(rates)
    names = list(rates["title"].drop_duplicates())
    figure, axes = panels(len(names), "level", across=5, width=1.75, height=1.5, extra=1.3)
    set_title(
        figure,
        title,
        "One panel per parameter of an operation, its level from 0 to 1 in bins; color: the rate "
        "of a bin. Line: edge of the bins drawn for training images, with at least "
        f"{THRESHOLD:.0%} of the largest rate. {how_many(rates)}",
    )
    largest = float(rates["images_seen"].max())
    for axis, name in zip(axes, names, strict=True):
        wide = rates[rates["title"] == name].pivot(
            index="bin", columns="images_seen", values="rate"
        )
        times = edges(wide.columns.to_numpy(dtype=float))
        levels = np.linspace(0, 1, len(wide) + 1)
        values = wide.to_numpy(dtype=float)
        mesh = axis.pcolormesh(times, levels, values, vmin=0, vmax=1, cmap="viridis")
        mesh.set_rasterized(True)
        draw_borders(axis, times, levels, is_drawn(values))
        axis.set_title(name, fontsize=8.5)
        axis.set_ylim(0, 1)
        axis.grid(visible=False)
        images_axis(axis, largest)
    bar = figure.colorbar(axes[0].collections[0], ax=axes, fraction=0.02, pad=0.01)
    bar.set_label("rate")
    line = Line2D([], [], **EDGE, label="edge of the bins drawn")
    figure.legend(handles=[line], loc="outside lower center")
    return figure


def edges(times: Floats) -> Floats:
    """Where the cells of values measured at `times` begin and end: from each to the one before."""
    return np.concatenate([[0.0], times])


def draw_borders(axis: Axes, x: Floats, y: Floats, inside: NDArray[np.bool_]) -> None:
    """A line between the cells that are inside and those that are not.

    Args:
        x, y: edges of the cells.
        inside: of the cells (rows, columns).
    """
    rows, columns = np.nonzero(inside[1:] != inside[:-1])
    level = [[(x[c], y[r + 1]), (x[c + 1], y[r + 1])] for r, c in zip(rows, columns, strict=True)]
    rows, columns = np.nonzero(inside[:, 1:] != inside[:, :-1])
    upright = [[(x[c + 1], y[r]), (x[c + 1], y[r + 1])] for r, c in zip(rows, columns, strict=True)]
    axis.add_collection(LineCollection([*level, *upright], **EDGE))


# The section


def parts(
    found: Results, focuses: list[Focus], experiments: list[str]
) -> tuple[list[Part], list[str]]:
    """The final rates of all groups; for each focus those of one run during training."""
    rates, warnings = augmentation_rates(found, only_last=True)
    if not len(rates):
        return [], warnings
    numbers = final_rates(rates)
    made: list[Part] = [
        Table(
            "augmentation_rates",
            "Rates of CTAugment after the last step",
            "For each parameter of an operation, the mean rate over its bins: mean ± sample "
            "standard deviation over n runs. A rate is a moving average of the teacher's "
            "probability of the true class on distorted labeled images. Near 1 the network "
            "recognizes them at all strengths. In the CSV, drawn_share is the share of bins drawn "
            f"for training images: those whose rate + {1 - DECAY:.2g} is at least {THRESHOLD:.0%} "
            "of the largest.",
            numbers,
            final_rates_text(numbers),
        )
    ]
    wanted = {focus.experiment: focus for focus in focuses}
    for experiment, end, block in by_experiment(rates, experiments):
        if experiment not in wanted:
            continue
        run_id = one_run(block, wanted[experiment])
        rows, _ = augmentation_rates(found, [run_id])
        first = rows.iloc[0]
        name = f"{first['variant']}, label set {first['label_set']}, repeat {first['repeat']}"
        title = f"Rates of CTAugment during training: {name}: {experiment}"
        made.append(
            Picture(
                f"augmentation_rates{end}",
                title,
                "Levels 0 to 1 span the range of the parameter. x: labeled images seen, "
                "repetitions counted. The white line bounds the bins drawn for training images: "
                f"those whose rate + {1 - DECAY:.2g} is at least {THRESHOLD:.0%} of the largest of "
                "their parameter. One run, n = 1.",
                lambda rows=rows, title=title: rates_figure(rows, title),  # type: ignore[misc]
            )
        )
    return made, warnings


def one_run(rates: pd.DataFrame, focus: Focus) -> str:
    """The run to draw: the first with the label set and variant of the focus, or the closest."""
    rows = rates
    if (rates["label_set"] == focus.label_set).any():
        rows = rates[rates["label_set"] == focus.label_set]
        if (rows["variant"] == focus.variant).any():
            rows = rows[rows["variant"] == focus.variant]
    return str(rows["run_id"].iloc[0])
