"""Accuracy against processor time, for runs on processors.

A run costs what it started from, its own training, and what the runs cost that selected images for
it. An encoder that a run and its ancestor started from counts once.
"""

import math
import textwrap
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import statistics
from ..load import Results, chain_seconds
from ..naming import GROUP, is_missing
from ..page.parts import Part, Picture, Table, has_picture, suffixes
from ..style import (
    ACCURACY,
    MAX_PANELS,
    Color,
    color,
    how_many,
    legend_columns,
    lowest_and_highest,
    panels,
    set_title,
)
from ..tables import column, number, plural, plus_minus, without_constant


def chain_minutes(runs: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Of every run by its id: the processor minutes before its first step, and with its last.

    NaN where a part of them was not noted, or a parent is not there.

    Args:
        runs: parents among them.
    """
    starts_plain = (runs["start"] == "labels") & (runs["encoder"] == "")
    starts_plain &= runs["parent"].map(is_missing)
    starts = runs["start_processor_seconds"].astype(float).mask(starts_plain, 0.0)
    own = runs["processor_seconds"].astype(float)
    ends = chain_seconds(runs, starts + own)
    return {
        run_id: ((ends[run_id] - seconds) / 60, ends[run_id] / 60)
        for run_id, seconds in zip(runs["run_id"], own, strict=True)
    }


def curves(found: Results) -> pd.DataFrame:
    """The teacher's test accuracy against processor time.

    Returns:
        per run and evaluation: the names of the run, its parent, step, minutes (processor minutes
        so far; all steps of a run are taken to cost the same), paid (those of them before the first
        step of the first training) and test_accuracy; runs without a known cost and those on GPUs
        left out.
    """
    runs = found.runs[found.runs["peak_device_bytes"].isna()]
    costs = chain_minutes(runs)
    known = [run_id for run_id, (_, end) in costs.items() if not math.isnan(end)]
    if not known:
        return pd.DataFrame()
    table = found.evaluations[found.evaluations["network"] == "teacher"]
    table = table.assign(run_id=table["run_id"].astype(str))
    table = table[table["run_id"].isin(known)]
    before, end = (table["run_id"].map({k: v[i] for k, v in costs.items()}) for i in (0, 1))
    share = table["step"] / table.groupby("run_id")["step"].transform("max")
    parents = {k: v for k, v in zip(runs["run_id"], runs["parent"], strict=True) if k in known}
    paid = {run_id: costs[eldest(run_id, parents)][0] for run_id in known}
    return table.assign(
        minutes=before + (end - before) * share,
        paid=table["run_id"].map(paid),
        parent=table["run_id"].map(parents),
    )


def eldest(run_id: str, parents: Mapping[str, object]) -> str:
    """The run at the beginning of a chain.

    >>> eldest("c", {"a": None, "b": "a", "c": "b"})
    'a'
    """
    while not is_missing(parent := parents[run_id]):
        run_id = str(parent)
    return run_id


def ends(table: pd.DataFrame) -> pd.DataFrame:
    """Cost and final accuracy of every variant.

    Args:
        table: `curves`.

    Returns:
        per group: num_runs, num_label_sets, minutes (mean over runs), percent (mean over label
        sets of the mean over repeats, after the last step) with its 95% interval, and sd_percent
        over runs.
    """
    last = table.groupby("run_id", sort=False).tail(1)
    last = last.assign(percent=100 * last["test_accuracy"])
    rows = []
    for keys, group in last.groupby(GROUP, sort=False, observed=True):
        mean = statistics.cluster_mean(group, "percent")
        row: dict[str, object] = dict(zip(GROUP, keys, strict=True))
        row |= {"num_runs": mean.num_runs, "num_label_sets": mean.num_label_sets}
        row |= {"minutes": group["minutes"].mean(), "percent": mean.mean}
        row |= {"sd_percent": statistics.summary(group["percent"].to_numpy(dtype=float)).sd}
        row |= {"low": mean.interval.low, "high": mean.interval.high}
        row |= {"interval_over": mean.interval_over}
        rows.append(row)
    return pd.DataFrame(rows)


def ends_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group."""
    text = numbers[[*GROUP]].copy()
    text["runs"] = numbers["num_runs"]
    text["label sets"] = numbers["num_label_sets"]
    text["processor minutes"] = column(numbers, number, "minutes")
    text["accuracy, %"] = column(numbers, plus_minus, "percent", "sd_percent")
    return without_constant(text, ("experiment",))


def kinds(variants: "pd.Series[str]") -> "pd.Series[str]":
    """The last training of each variant, however often its kind came before.

    >>> kinds(pd.Series(["boss-4 -> fixmatch +40 x2 (num_images = 9)", "fixmatch"])).tolist()
    ['fixmatch +40', 'fixmatch']
    """
    last = variants.astype(str).str.split(" -> ").str[-1]
    return last.str.replace(r"( x\d+)?( \(.*\))?$", "", regex=True)


def draw_runs(axis: Axes, table: pd.DataFrame, inks: dict[str, Color]) -> None:
    """A curve for each run, from where its parent's ends; a dot at its last step.

    Args:
        table: `curves` with the columns kind and x, the minutes that are shown.
        inks: the color of each kind.
    """
    points = table.assign(percent=100 * table["test_accuracy"])
    last = points.groupby("run_id", sort=False).tail(1).set_index("run_id")
    for _, own in points.groupby("run_id", sort=False):
        before = last.loc[last.index == own["parent"].iloc[0]]
        curve = pd.concat([before, own])
        ink = inks[own["kind"].iloc[0]]
        axis.plot(curve["x"], curve["percent"], lw=1.0, alpha=0.7, color=ink)
        axis.plot(curve["x"].iloc[-1:], curve["percent"].iloc[-1:], "o", ms=3, color=ink)


def add_legend(figure: Figure, table: pd.DataFrame, inks: dict[str, Color]) -> None:
    """The color of each kind, and how many runs it has."""
    counts = table.groupby("kind")["run_id"].nunique()
    handles = [
        Line2D([], [], lw=1.8, label=f"{kind} ({counts[kind]})", color=ink)
        for kind, ink in inks.items()
    ]
    columns = legend_columns([str(handle.get_label()) for handle in handles])
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def total_figure(table: pd.DataFrame, title: str) -> Figure:
    """Accuracy against processor minutes, embeddings and encoders among them.

    Args:
        table: `curves`.
    """
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axis = figure.subplots()
    table = table.assign(kind=kinds(table["variant"]), x=table["minutes"])
    inks = {kind: color(position) for position, kind in enumerate(table["kind"].unique())}
    draw_runs(axis, table, inks)
    axis.set(xlabel="processor minutes, over all cores", ylabel=ACCURACY, ylim=(0, 100))
    axis.set_xlim(0, 1.05 * table["x"].max())
    set_title(figure, title, "Dots: last steps; in brackets: runs. " + how_many(table))
    add_legend(figure, table, inks)
    return figure


def trainings_figure(table: pd.DataFrame, title: str) -> Figure:
    """The same for each label set, without the minutes of embeddings and encoders.

    Args:
        table: `curves`.
    """
    table = table.assign(kind=kinds(table["variant"]), x=table["minutes"] - table["paid"])
    inks = {kind: color(position) for position, kind in enumerate(table["kind"].unique())}
    last = table.groupby("run_id", sort=False).tail(1)
    best = last.groupby("label_set", sort=False, observed=True)["test_accuracy"].max()
    shown = lowest_and_highest(best, MAX_PANELS)
    figure, axes = panels(len(shown), ACCURACY, across=3, width=2.6, height=2.0, extra=1.2)
    for axis, label_set in zip(axes, shown, strict=True):
        draw_runs(axis, table[table["label_set"].astype(str) == label_set], inks)
        axis.set_title(textwrap.fill(label_set, 34), fontsize=8)
        axis.set(ylim=(0, 100), xlim=(0, 1.05 * table["x"].max()))
        if axis.get_xlabel():
            axis.set_xlabel("processor minutes")
    subtitle = "Dots: last steps; in brackets: runs. " + how_many(table)
    if len(shown) < len(best):
        subtitle += f" The {len(shown)} label sets with the lowest and highest accuracies."
    set_title(figure, title, subtitle)
    add_legend(figure, table, inks)
    return figure


def parts(found: Results) -> list[Part]:
    """The section; empty for runs on GPUs, and for those from before costs were noted."""
    table = curves(found)
    if not len(table):
        return []
    numbers = ends(table)
    num_left_out = len(found.runs) - table["run_id"].nunique()
    left_out = f" Left out, their cost being unknown or a GPU's: {plural(num_left_out, 'run')}."
    made: list[Part] = [
        Table(
            "cost",
            "Cost and final accuracy of each variant",
            "Processor time summed over threads, mean over runs: of embeddings and encoders, of "
            "the trainings that selected images, and of the last training with its evaluations; "
            "not of choosing the label set, nor of the predictions on all training images after "
            "the last step. Beside other work on the machine it is longer. Accuracy: the teacher's "
            "after the last step, mean over label sets ± sample standard deviation over runs."
            + left_out
            * bool(num_left_out),
            numbers,
            ends_text(numbers),
        )
    ]
    # How long runs train is what is compared: experiments that differ in it share a figure.
    places = table["run_id"].map(found.runs.set_index("run_id").apply(place_text, axis=1))
    for place, end in suffixes(list(places.unique())).items():
        rows = table[places == place]
        made.append(
            Picture(
                f"cost{end}",
                f"Accuracy against processor time: {place}",
                "The teacher's test accuracy against the processor time spent so far, a curve for "
                "each run. It begins where the embedding, the encoder and the trainings before it "
                "are paid.",
                lambda rows=rows, place=place: total_figure(rows, place),  # type: ignore[misc]
                is_main=not has_picture(made),
            )
        )
        if rows["paid"].any():
            paid = rows.loc[rows["paid"] > 0, "paid"]
            spent = " to ".join(dict.fromkeys([number(paid.min(), 0), number(paid.max(), 0)]))
            made.append(
                Picture(
                    f"cost_of_trainings{end}",
                    f"Accuracy against processor time, once the embedding is there: {place}",
                    "The same without what embeddings and encoders took, "
                    f"{spent} minutes, paid once for all runs. Of a run without any nothing is "
                    "left out.",
                    lambda rows=rows, place=place: trainings_figure(rows, place),  # type: ignore[misc]
                )
            )
    return made


def place_text(run: "pd.Series[Any]") -> str:
    """What the runs of a figure share.

    >>> run = pd.Series({"budget": "laptop", "dataset": "cifar10", "network": "n"})
    >>> place_text(pd.concat([run, pd.Series({"num_validation": 5000})]))
    'laptop, cifar10, n, 5,000 images held out'
    """
    text = ", ".join(str(run[name]) for name in ("budget", "dataset", "network"))
    held_out = int(run["num_validation"])
    return text + f", {held_out:,} images held out" * bool(held_out)
