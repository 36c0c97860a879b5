"""How the pseudo-labels are distributed over the classes during training."""

import textwrap

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from .. import statistics
from ..load import Results, class_curves
from ..naming import GROUP
from ..page.parts import Focus, Part, Picture, by_experiment
from ..style import GRAY, class_order, color, dash, how_many, images_axis, panels, set_title
from ..tables import counts_text
from .balancing_runs import of_methods
from .class_balance import method_legend

COUNTS = {"predicted_count": "all pseudo-labels", "pseudo_label_count": "used pseudo-labels"}
MAX_REPEATS = 4  # panels beside each other


# Pseudo-labels


def effective_classes(curves: pd.DataFrame) -> pd.DataFrame:
    """Effective number of classes of the pseudo-labels of each run during training.

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
        f"without weights; an even share is {even:.3g}%. White: none used. {how_many(curves)}"
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


def pseudo_label_parts(found: Results, focuses: list[Focus], experiments: list[str]) -> list[Part]:
    """Figures of the class distribution of the pseudo-labels."""
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
                    f"Effective number of the {num_classes} classes: the exponential of the "
                    "entropy of their shares in the pseudo-labels since the last evaluation. Mean "
                    "over all runs of a method; band: ± one sample standard deviation over runs. "
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
                "Share of each class in the pseudo-labels used since the last evaluation. One row "
                "of panels per method, one column per repeat. The color scale ends at 2.5 times "
                f"the even share. {counts_text(rows)}.",
                lambda rows=rows, name=name: share_figure(  # type: ignore[misc]
                    rows, f"Classes of the pseudo-labels used, label set {name}"
                ),
            )
        )
    return made
