"""What was run, on what, for how long."""

import json

import pandas as pd

from ..load import Results
from ..naming import GROUP, HYPERPARAMETERS, PICKING
from ..page.parts import (
    Part,
    Table,
)
from ..tables import without_constant

# What was run


CIRCUMSTANCES = ["device", "threads", "commit"]


PER_GROUP = ["num_runs", "num_label_sets", "seconds_sum", "seconds_median"]


TOTALS = ["num_runs", "seconds_sum"]  # those that add up over groups


def run_settings(runs: pd.DataFrame) -> pd.DataFrame:
    """Per group: every hyperparameter, what it ran on, and what it took.

    Returns:
        one row per group; several devices or versions of one group are joined with " | ".
        num_labels: of the label set, without selected images.
        seconds_sum and seconds_median are over runs.
    """
    rows = []
    picking = PICKING if runs["round"].any() else []
    for keys, group in runs.groupby(GROUP, sort=False):
        first = group.assign(num_labels=group["label_set_size"]).iloc[0]
        row = dict(zip(GROUP, keys, strict=True))
        row |= {"num_runs": len(group), "num_label_sets": group["label_set"].nunique()}
        names = ["budget", "dataset", "dataset_fingerprint", "network", "num_parameters"]
        names += ["num_labels", "num_images", "num_steps", "num_validation", "max_eval_images"]
        row |= {name: first[name] for name in [*names, *picking, "algorithm", *HYPERPARAMETERS]}
        row |= {f"options.{k}": v for k, v in json.loads(first["options"]).items()}
        row |= {name: joined(group[name]) for name in CIRCUMSTANCES}
        row |= versions(group["versions"])
        row |= {"seconds_sum": group["seconds"].sum(), "seconds_median": group["seconds"].median()}
        row |= {"first_finished": group["finished_at"].min()}
        row |= {"last_finished": group["finished_at"].max()}
        rows.append(row)
    return pd.DataFrame(rows)


def joined(values: "pd.Series[str]") -> str:
    """The different values of a column, joined."""
    return " | ".join(sorted({str(value) for value in values.dropna()}))


def versions(texts: "pd.Series[str]") -> dict[str, str]:
    """The versions of each library that a group was run with."""
    found: dict[str, set[str]] = {}
    for text in texts.dropna().unique():
        for name, version in json.loads(text).items():
            found.setdefault(f"version.{name}", set()).add(str(version))
    return {name: " | ".join(sorted(values)) for name, values in found.items()}


def setting(value: object) -> str:
    """A setting as text."""
    if value is None or value is pd.NA or value != value:
        return "-"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def settings_common_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """What all groups share, and totals over them: setting and value."""
    if len(numbers) > 1:
        totals = {name: numbers[name].sum() for name in TOTALS}
        numbers = numbers.drop(columns=[c for c in PER_GROUP if c not in TOTALS]).assign(**totals)
    text = numbers.map(setting).drop(columns=[*GROUP])
    same = [c for c in text if text[c].nunique() == 1]
    return pd.DataFrame({"setting": same, "value": [text[c].iloc[0] for c in same]})


def settings_different_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """What tells groups apart: a row per setting, a column per group (turned if there are many).

    What is counted or summed within a group is always there.
    """
    text = numbers.map(setting)
    different = [c for c in text if c in PER_GROUP or (c not in GROUP and text[c].nunique() > 1)]
    names = without_constant(text[[*GROUP]])
    titles = names.agg(", ".join, axis=1) if names.shape[1] else text["variant"]
    table = text[different].set_axis(pd.Index(titles), axis=0)
    if len(table) <= 6:
        table = table.T
        return table.rename_axis("setting", axis=0).rename_axis(None, axis=1).reset_index()
    return table.rename_axis("group", axis=0).reset_index()


def settings_parts(found: Results) -> list[Part]:
    """What was run, on what, for how long."""
    numbers = run_settings(found.runs)
    different = settings_different_text(numbers)
    parts: list[Part] = [
        Table(
            "settings",
            "Settings of all runs",
            "What all runs have in common; num_runs and seconds_sum are totals over all runs. "
            "Seconds are wall-clock time of training and evaluation. Versions of a library that "
            "differ are separated by a bar.",
            numbers,
            settings_common_text(numbers),
        )
    ]
    if len(numbers) > 1:
        caption = (
            "What differs between algorithms or experiments, - where it does not apply; and the "
            "runs and label sets of each, its seconds summed over runs, and their median."
        )
        parts.append(
            Table("settings_by_group", "Settings that differ", caption, different, different)
        )
    return parts
