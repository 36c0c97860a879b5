"""The section that compares our runs with published numbers: a figure and tables each."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from boss.study.study import Comparison

from .. import statistics
from ..load import Results
from ..page.parts import Part, Picture, Table, Text, has_picture, slug, suffixes
from ..style import GRAY, Color, color, how_many, legend_columns, set_title
from ..tables import counts_text, plural
from .agreement import how_decided, labels_per_class, without_smoke
from .comparison import (
    DRAWN,
    axis_name,
    beside,
    measure,
    published_summary,
    table_text,
    with_names,
)
from .comparison_settings import (
    KNOWN_TEXT,
    blocks,
    check,
    read,
    records,
    settings_of,
    settings_table,
    shown_settings,
)
from .published import published_note
from .self_training import SAME_TEST

QUANTITIES = {
    "error": "test error (%)",
    "used": "used pseudo-labels (%)",
    "wrong": "wrong, of used (%)",
}
MARKERS = {"given": "D", "confirmed": "s", "recalled": "^"}  # hollow; ours are filled circles
KNOWN_WORDS = "given: in the documents of this project; confirmed by a second source; recalled"
DOT: dict[str, Any] = {"marker": "o", "ls": "", "ms": 2.6, "mew": 0, "alpha": 0.5}  # a run
DASHED: dict[str, Any] = {"ls": (0, (3, 1.5)), "lw": 1.0}  # what is published
BOUND: dict[str, Any] = {"ls": ":", "lw": 1.0, "color": "black"}  # full supervision
ROW_NAME = 32  # letters in a line, twice as many beside a single panel
LOWEST = 0.1  # percent, of a logarithmic axis: what is below is drawn there
LOG_FROM = 4  # values further apart than by this factor have a logarithmic axis

# The figure


def figure(
    numbers: pd.DataFrame,
    points: pd.DataFrame,
    bounds: Mapping[str, float],
    comparison: Comparison,
    title: str,
) -> Figure:
    """Ours and theirs along the axis of the comparison: a row of panels per quantity.

    Args:
        numbers: `with_names` of one block; panels without any of ours are not drawn.
        points: every run of it: panel, category, series, quantity, percent, the settings, and the
            columns of which `tables.counts_text` counts.
        bounds: the error of full supervision by panel, where it was run.
    """
    names = list(numbers.loc[numbers["num_runs"] > 0, "panel"].drop_duplicates())
    shown = numbers[numbers["panel"].isin(names)]
    has_value = shown[["ours_percent", "published_percent"]].notna().any(axis=1)
    quantities = [name for name in QUANTITIES if (shown.loc[has_value, "quantity"] == name).any()]
    series = series_in_order(shown)
    cells = [(quantity, name) for quantity in quantities for name in names]
    across = len(names) if len(quantities) > 1 else min(3, len(names))
    is_category = comparison.scale == "category"
    categories = list(shown.sort_values("axis_order", kind="stable")["category"].unique())
    letters = ROW_NAME if across > 1 else 2 * ROW_NAME
    row_texts = [textwrap.fill(text, letters) for text in categories]
    is_single = len(quantities) == 1
    drawn, axes = panels(
        len(cells), across, row_texts if is_category else None, len(series), is_single=is_single
    )
    left = f" Not drawn: {plural(numbers['panel'].nunique() - len(names), 'panel')} without ours."
    left *= numbers["panel"].nunique() > len(names)
    set_title(
        drawn,
        title,
        "Filled: ours, mean and 95% t interval over label sets (over repeats if there is only "
        "one). Dots: runs. Hollow: published, interval from its standard deviation. "
        f"{how_many(points)}{left}",
    )
    for i, (axis, (quantity, name)) in enumerate(zip(axes, cells, strict=True)):
        of_quantity = shown[shown["quantity"] == quantity]
        part = of_quantity[of_quantity["panel"] == name]
        all_runs = points[(points["quantity"] == quantity) & points["panel"].isin(names)]
        runs = all_runs[all_runs["panel"] == name]
        in_panel = bounds if quantity == "error" else {}
        values = [*of_quantity["ours_percent"], *of_quantity["published_percent"]]
        values += [*all_runs["percent"], *in_panel.values()]
        axis.set_title(textwrap.fill(name, 40))
        is_left, is_lowest = i % across == 0, i >= len(cells) - across
        if is_category:
            draw_rows(axis, part, runs, categories, series)
            label = value_axis(axis, "x", quantity, values)
            axis.set_yticks(range(len(categories)), row_texts)
            axis.set_ylim(len(categories) - 0.5, -0.5)
            axis.grid(visible=False, axis="y")
            axis.set_ylabel(axis_name(comparison) if is_left else "")
            if is_lowest or not is_single:
                axis.tick_params(labelbottom=True)
                axis.set_xlabel(label)
        else:
            axis.set_xscale(comparison.scale)
            if comparison.scale == "log":
                axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            draw_curves(axis, part, runs, comparison, series)
            axis.set_ylabel(value_axis(axis, "y", quantity, values) if is_left else "")
            axis.set_xlabel(axis_name(comparison) if is_lowest else "")
        if name in in_panel:
            (axis.axvline if is_category else axis.axhline)(in_panel[name], **BOUND)
    drawn.legend(
        handles=legend(shown, series, bool(bounds), is_category),
        loc="outside lower center",
        ncols=min(4, legend_columns([*series, "published (confirmed)"])),
    )
    return drawn


def series_in_order(shown: pd.DataFrame) -> list[str]:
    """The names of the colors: those with published numbers first, then as their settings go."""
    published = set(shown.loc[shown["published_percent"].notna(), "series"])
    names = shown.sort_values("series_order", kind="stable")["series"].unique()
    return sorted((str(name) for name in names), key=lambda name: name not in published)


def panels(
    count: int, across: int, row_texts: list[str] | None, num_series: int, *, is_single: bool
) -> tuple[Figure, list[Axes]]:
    """A figure with so many equal panels.

    Args:
        row_texts: the names of the rows of each, None if its axis is one of numbers.
        is_single: all are of one quantity and share the axis of percents; else those in a row do.
    """
    down = -(-count // across)
    if row_texts is None:
        height, width, more = 2.4, 3.4 if across > 1 else 6.4, 0.6
    else:
        lines = [line for text in row_texts for line in text.split("\n")]
        height = max(len(row_texts), 0.62 * len(lines)) * max(0.25, 0.2 * num_series) + 0.5
        width = 2.5 if across > 1 else 4.6
        more = 0.075 * max(len(line) for line in lines)
    size = (max(width * across + more, 6.4), height * down + 1.35)
    drawn = Figure(figsize=size, layout="constrained")
    percents: bool | Literal["row"] = True if is_single else "row"
    shared = (percents, True) if row_texts is not None else (True, percents)
    grid = drawn.subplots(down, across, sharex=shared[0], sharey=shared[1], squeeze=False)
    axes = [axis for row in grid for axis in row]
    for unused in axes[count:]:
        unused.remove()
    return drawn, axes[:count]


def value_axis(axis: Axes, which: str, quantity: str, values: Sequence[float]) -> str:
    """Set limits and scale of the axis of percents, logarithmic where they are far apart.

    Returns:
        its name.
    """
    found = np.array([value for value in values if not math.isnan(value)])
    low, high = max(float(found.min()), LOWEST), float(found.max())
    label = QUANTITIES[quantity]
    if quantity != "used" and high > LOG_FROM * low:
        axis.set(**{f"{which}scale": "log"})
        limits = (low / 1.3, min(high * 1.3, 110.0))
        ticks = axis.xaxis if which == "x" else axis.yaxis
        ticks.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ticks.set_minor_locator(NullLocator())
        ticks.set_major_formatter(StrMethodFormatter("{x:g}"))
        label += ", log scale"
    else:
        space = max(0.15 * (high - low), 0.05 * high)
        limits = (max(low - space, -3.0), min(high + space, 103.0))
    axis.set(**{f"{which}lim": limits})
    return label


def draw_rows(
    axis: Axes, part: pd.DataFrame, runs: pd.DataFrame, categories: list[str], series: list[str]
) -> None:
    """One panel with a row per category: ours above, theirs below its middle."""
    step = 0.84 / len(series)
    for row in range(1, len(categories), 2):
        axis.axhspan(row - 0.5, row + 0.5, color="0.965", zorder=0, lw=0)
    for position, name in enumerate(series):
        ink = color(position)
        offset = (position - (len(series) - 1) / 2) * step
        above, below = offset - step / 5, offset + step / 5
        mine = runs[runs["series"] == name]
        y = np.array([categories.index(text) for text in mine["category"]]) + above
        axis.plot(mine["percent"].clip(LOWEST), y, color=ink, **DOT)
        for line in records(part[part["series"] == name]):
            row = categories.index(line["category"])
            ends = np.clip([line["ours_low"], line["ours_high"]], LOWEST, 100)
            axis.plot(ends, [row + above] * 2, color=ink, lw=1.4, solid_capstyle="butt")
            axis.plot(max(line["ours_percent"], LOWEST), row + above, "o", ms=5, color=ink)
            axis.plot(published_ends(line), [row + below] * 2, color=ink, **DASHED)
            axis.plot(line["published_percent"], row + below, **hollow(line["known"], ink))


def draw_curves(
    axis: Axes, part: pd.DataFrame, runs: pd.DataFrame, comparison: Comparison, series: list[str]
) -> None:
    """One panel with an axis of numbers: ours joined by lines, theirs by dashes.

    Ours are shifted slightly to the right and left in turn, so that they do not overlap.
    """
    setting = comparison.axis[0]
    part = part.assign(x=pd.to_numeric(part[setting])).sort_values("x", kind="stable")
    span = float(part["x"].max() - part["x"].min()) or 1.0
    for position, name in enumerate(series):
        ink = color(position)
        aside = (position + 1) // 2 * (-1 if position % 2 else 1)
        factor, shift = (1.03**aside, 0) if comparison.scale == "log" else (1, 0.005 * aside * span)
        rows = part[(part["series"] == name) & (part["num_runs"] > 0)]
        x = factor * rows["x"] + shift
        axis.plot(x, rows["ours_percent"].clip(LOWEST), "o-", ms=5, lw=1.4, color=ink)
        low, high = (rows[c].clip(LOWEST, 100) for c in ("ours_low", "ours_high"))
        axis.vlines(x, low, high, color=ink, lw=1.4)
        mine = runs[runs["series"] == name]
        x = factor * pd.to_numeric(mine[setting]) + shift
        axis.plot(x, mine["percent"].clip(LOWEST), color=ink, **DOT)
        theirs = part[(part["series"] == name) & part["published_percent"].notna()]
        axis.plot(theirs["x"], theirs["published_percent"], color=ink, **DASHED)
        for row in records(theirs):
            axis.plot([row["x"]] * 2, published_ends(row), color=ink, **DASHED)
            axis.plot(row["x"], row["published_percent"], **hollow(row["known"], ink))


def hollow(known: str, ink: Color | str) -> dict[str, Any]:
    """How a published number is drawn."""
    style = {"ms": 6, "mfc": "white", "mec": ink, "mew": 1.3, "ls": "", "zorder": 4}
    return {"marker": MARKERS.get(known, ""), **style}


def published_ends(row: Mapping[str, Any]) -> list[float]:
    """The 95% t interval of a published number within the axis, NaN without a deviation."""
    theirs = {name: row[f"published_{name}"] for name in ("percent", "sd_percent", "n")}
    ends = statistics.t_summary(published_summary(theirs))
    return [float(end) for end in np.clip(ends, LOWEST, 100)]


def legend(
    shown: pd.DataFrame, series: list[str], has_bound: bool, is_category: bool
) -> list[Line2D]:
    """The colors if there are several, then the marks."""
    handles = []
    ink: Color | str = color(0)
    if len(series) > 1:
        ink = GRAY
        handles += [
            Line2D([], [], color=color(i), lw=2.4, label=name or "as published")
            for i, name in enumerate(series)
        ]
    line = "" if is_category else "-"
    handles.append(Line2D([], [], color=ink, marker="o", ms=5, ls=line, lw=1.4, label="ours"))
    drawn = set(shown.loc[shown["published_percent"].notna(), "known"])
    for known in MARKERS:
        if known in drawn:
            style = hollow(known, ink) | ({} if is_category else DASHED)
            handles.append(Line2D([], [], color=ink, label=f"published ({known})", **style))
    if has_bound:
        handles.append(Line2D([], [], **BOUND, label="ours, fully supervised"))
    return handles


# The section


def parts(found: Results, comparison: Comparison) -> tuple[list[Part], list[str]]:
    """The tables and figures of one comparison, and a warning if there is nothing to compare.

    Raises:
        InputError: no such file, or no such setting.
    """
    published = read(comparison.published)
    check(comparison, published, found.runs)
    runs = found.runs[(found.runs["round"] == 0) & ~found.runs["is_full"]]
    if "dataset" in published:
        datasets = list(published["dataset"].unique())
        runs = runs[runs["dataset"].isin(datasets) | ("" in datasets)]
        if not len(runs):
            needs = f"it needs runs on {' or '.join(datasets)}"
            return [], [f"no comparison with {comparison.published}: {needs}"]
    runs, sentence = without_smoke(runs, published_title(published))
    made: list[Part] = [Text(sentence)] if sentence else []
    if not len(runs):
        return made, []
    names = [*dict.fromkeys([*shown_settings(comparison), *settings_of(published)])]
    columns = ["run_id", "group", "variant", "label_set", "repeat"]
    table = runs[[name for name in columns if name not in names]]
    table = table.assign(labels_per_class=labels_per_class(runs))
    table = table.join(settings_table(runs, names))
    block_of = blocks(runs, comparison)
    for block, end in suffixes(list(block_of.unique())).items():
        mine = runs[block_of == block]
        ours = measure(found, mine).merge(table, on="run_id")
        numbers = with_names(beside(ours, published, comparison), comparison, published)
        is_main = not has_picture(made)
        made += block_parts(found, mine, ours, numbers, comparison, block, end, is_main=is_main)
    return made, []


def published_title(published: pd.DataFrame) -> str:
    """The sources of a published table."""
    return "; ".join(dict.fromkeys(published["source"]))


def full_errors(found: Results, runs: pd.DataFrame, panel_of: "pd.Series[str]") -> dict[str, float]:
    """By panel: the mean error of the fully supervised runs that were tested alike, if any.

    Of several groups of such runs the first.

    Args:
        panel_of: the panel of each of `runs`.
    """
    full = found.runs[found.runs["is_full"]]
    errors = {}
    for name, group in runs.groupby(panel_of, sort=False):
        place = group[SAME_TEST].drop_duplicates()
        same = full.merge(place.astype(full[SAME_TEST].dtypes), on=SAME_TEST)
        same = same[same["group"] == same["group"].min()]
        if len(same):
            errors[str(name)] = float(100 * (1 - same["median_last_20_accuracy"].mean()))
    return errors


def block_parts(
    found: Results,
    runs: pd.DataFrame,
    ours: pd.DataFrame,
    numbers: pd.DataFrame,
    comparison: Comparison,
    block: str,
    end: str,
    *,
    is_main: bool,
) -> list[Part]:
    """The tables of one block, one for each value of the first panel setting, and its figure."""
    stem = f"published_{comparison.published.removesuffix('.csv')}{end}"
    title = f"Published errors and ours by {axis_name(comparison)}" + f": {block}" * bool(block)
    images = " or ".join(f"{int(x):,}" for x in sorted(runs["num_images"].unique()))
    fewest = int(runs["num_evaluations"].min())
    short = f" Runs with fewer than 20 evaluations (here from {fewest}) use all." * (fewest < 20)
    caption = (
        f"Percent. {published_note(comparison.published)} Our runs saw {images} labeled images, "
        "repetitions counted. Ours: error of the median of the teacher's last 20 evaluations, as "
        f"published. Last: after the last step.{short} Mean over label sets ± sample standard "
        "deviation of their means (with one label set: over its runs). Published: mean ± standard "
        f"deviation over n folds, as printed; {KNOWN_TEXT}. Differences are in points, with "
        "Welch's 95% interval where both have at least two label sets. If the label sets are the "
        "same, the interval is too wide because it ignores the pairing. -: not run or not "
        "published."
    )
    made: list[Part] = []
    first = comparison.panels[0] if comparison.panels else None
    tables = [(v, g) for v, g in numbers.groupby(first, sort=False)] if first else [("", numbers)]
    for value, part in tables:
        part = part.reset_index(drop=True)
        notes = {note: i for i, note in enumerate(dict.fromkeys(filter(None, part["note"])), 1)}
        listed = " ".join(f"[{i}] {note}" for note, i in notes.items())
        sources = "; ".join(sorted(set(part["source"]) - {""}))
        own = slug(str(value)) if len(tables) > 1 else ""
        made.append(
            Table(
                f"{stem}_{own}" if own else stem,
                f"{title}, {value}" if own else title,
                f"Source: {sources or 'none for these runs'}. {caption} "
                f"{how_decided(part['margin_points'], 'label sets')} {listed}".strip(),
                part.drop(columns=[*DRAWN, "printed"]),
                table_text(part, comparison, notes),
            )
        )
    keys = [*numbers.columns[: list(numbers.columns).index("group")], "group", "quantity"]
    names = numbers[[*keys, "panel", "category", "series"]].drop_duplicates()
    points = ours.merge(names, on=keys)
    panel = points.drop_duplicates("run_id").set_index("run_id")["panel"]
    bounds = full_errors(found, runs, runs["run_id"].map(panel))
    dotted = " Dotted: the same network, fully supervised." * bool(bounds)
    made.append(
        Picture(
            stem,
            title,
            "Filled: ours, error of the median of the teacher's last 20 evaluations. Mean over "
            "label sets with its 95% t interval (over repeats if there is only one), one dot per "
            "run. Hollow: published, interval from the standard deviation over n folds; the shape "
            f"shows how well it is known ({KNOWN_WORDS}). Intervals are cut off at the "
            f"edges.{dotted} Our runs saw {images} labeled images. {counts_text(points)}.",
            lambda: figure(numbers, points, bounds, comparison, title),
            is_main=is_main,
        )
    )
    return made
