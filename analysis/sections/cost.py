"""Accuracy against processor time, for runs on processors.

A run costs what it started from, its own training, and what the runs cost that selected images for
it. An encoder that a run and its ancestor started from counts once.
"""

import math

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import statistics
from ..load import Results, chain_seconds
from ..naming import GROUP, is_missing
from ..page.parts import Part, Picture, Table, suffixes
from ..style import ACCURACY, color, dash, how_many, legend_columns, set_title
from ..tables import column, number, plural, plus_minus, without_constant

PLACE = ["budget", "dataset", "network", "num_validation"]  # what the runs of a figure share


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
        per run and evaluation: the names of the run, step, minutes (processor minutes so far; all
        steps of a run are taken to cost the same) and test_accuracy; runs without a known cost and
        those on GPUs left out.
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
    return table.assign(minutes=before + (end - before) * share)


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


def cost_figure(table: pd.DataFrame, title: str) -> Figure:
    """Accuracy against processor minutes, a curve for each variant.

    Args:
        table: `curves`, each name of a variant of one group only.
    """
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axis = figure.subplots()
    handles = []
    for position, (variant, rows) in enumerate(table.groupby("variant", sort=False, observed=True)):
        ink, ls = color(position), dash(position)
        for _, one in rows.groupby("run_id", sort=False):
            axis.plot(
                one["minutes"], 100 * one["test_accuracy"], lw=0.6, alpha=0.35, color=ink, ls=ls
            )
        mean = rows.groupby("step")[["minutes", "test_accuracy"]].mean()
        axis.plot(mean["minutes"], 100 * mean["test_accuracy"], lw=1.8, color=ink, ls=ls)
        count = rows["run_id"].nunique()
        handles.append(Line2D([], [], lw=1.8, label=f"{variant} ({count})", color=ink, ls=ls))
    axis.set(xlabel="processor minutes, over all cores", ylabel=ACCURACY, ylim=(0, 100))
    axis.set_xlim(left=0)
    subtitle = "Thin: runs; thick: their mean at each evaluation; in brackets: how many. "
    set_title(figure, title, subtitle + how_many(table))
    columns = legend_columns([str(handle.get_label()) for handle in handles])
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
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
    runs = found.runs.set_index("run_id")[PLACE].astype(str).agg(", ".join, axis=1)
    places = table["run_id"].map(runs)
    for place, end in suffixes(list(places.unique())).items():
        rows = with_unique_names(table[places == place])
        made.append(
            Picture(
                f"cost{end}",
                f"Accuracy against processor time: {place}",
                "The teacher's test accuracy against the processor time spent so far. A curve "
                "begins where the embedding, the encoder and the trainings that it started from "
                "are paid.",
                lambda rows=rows, place=place: cost_figure(rows, place),  # type: ignore[misc]
            )
        )
    return made


def with_unique_names(table: pd.DataFrame) -> pd.DataFrame:
    """Variants of several experiments whose names are the same, told apart by the experiment."""
    texts = table[[*GROUP]].astype(str)
    groups = texts.drop_duplicates()
    shared = groups.loc[groups["variant"].duplicated(keep=False), "variant"]
    whole = texts["variant"] + ": " + texts["experiment"]
    return table.assign(variant=texts["variant"].where(~texts["variant"].isin(shared), whole))
