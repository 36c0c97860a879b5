"""Pseudo-labels during training: how many are used, how many are right, of which classes."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from ..load import Results, class_curves
from ..page.parts import (
    Focus,
    Part,
    Picture,
    of_experiment,
    suffixes,
    without_rounds,
)
from ..style import (
    DASHES,
    MAX_PANELS,
    band,
    class_order,
    color,
    few_variants,
    how_many,
    images_axis,
    over_runs,
    panels,
    set_title,
    set_variant_title,
)

PSEUDO_LABELS = {"used_share": "used", "pseudo_label_accuracy": "right, of those used"}


def pseudo_labels_figure(evaluations: pd.DataFrame, title: str) -> Figure:
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


def pseudo_label_parts(found: Results, focuses: list[Focus], experiments: list[str]) -> list[Part]:
    """How many pseudo-labels are used, how many are right, which classes they belong to."""
    parts: list[Part] = []
    ends = suffixes(experiments)
    for focus in focuses:
        rows, note = without_rounds(of_experiment(found.evaluations, focus.experiment))
        rows = rows[rows["variant"].isin(rows.loc[rows["used_share"].notna(), "variant"].unique())]
        if not len(rows):
            continue
        title = f"Pseudo-labels during training: {focus.experiment}"
        parts.append(
            Picture(
                f"pseudo_labels{ends[focus.experiment]}",
                title,
                "Share of the unlabeled images whose pseudo-label is used, and share of those used "
                "that is right. Mean over all runs and band of one sample standard deviation on "
                f"each side; {rows['run_id'].nunique()} runs. {note}".strip(),
                lambda rows=rows, title=title: (  # type: ignore[misc]
                    pseudo_labels_figure(rows, title)
                ),
            )
        )
        curves = class_curves(found, focus.of(found.class_evaluations))
        if not curves["pseudo_label_count"].notna().any():
            continue
        parts.append(
            Picture(
                f"pseudo_labels_{focus.suffix}",
                f"Classes of the pseudo-labels used: {focus.title}",
                "Share of each class in the pseudo-labels used since the last evaluation; the "
                "color scale ends at 2.5 times the even share. One panel per repeat.",
                lambda curves=curves, title=focus.title: (  # type: ignore[misc]
                    pseudo_label_classes(curves, title)
                ),
            )
        )
    return parts
