"""These results beside the committed ones."""

from pathlib import Path

import pandas as pd

from boss.errors import InputError
from boss.results.read import Store

from .. import statistics
from ..load import Results, load
from ..naming import GROUP
from ..page.parts import (
    Part,
    Table,
    Text,
)
from ..tables import column, plus_minus, signed, without_constant


def reference_table(ours: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Our runs beside those of the reference store with the same settings.

    Args:
        ours, reference: tables of runs as `load.describe` returns them.

    Returns:
        per group and label set of ours that the reference has too, last accuracy: mean_percent,
        sd_percent and n, over all runs, with the prefixes ours_ and reference_; common_n: runs
        with the same id in both; common_difference_points: mean over these of ours - reference,
        NaN if there are none; num_identical: those of them with an equal last accuracy, to the
        last bit.
    """
    keys = ["group", "label_set"]
    tables = []
    for runs, columns in ((ours, [*GROUP, *keys]), (reference, keys)):
        percent = runs.assign(percent=100 * runs["last_accuracy"])
        tables.append(statistics.moments(percent, columns, "percent"))
    table = tables[0].merge(tables[1], on=keys, suffixes=("_ours", "_reference"))
    accuracy = [*keys, "run_id", "last_accuracy"]
    common = ours[accuracy].merge(
        reference[accuracy], on=[*keys, "run_id"], suffixes=("", "_reference")
    )
    common["difference"] = 100 * (common["last_accuracy"] - common["last_accuracy_reference"])
    common["identical"] = common["last_accuracy"] == common["last_accuracy_reference"]
    groups = common.groupby(keys)
    rows = pd.MultiIndex.from_frame(table[keys])
    result = table[[*GROUP, "label_set"]].copy()
    for who in ("ours", "reference"):
        result[f"{who}_mean_percent"] = table[f"mean_{who}"]
        result[f"{who}_sd_percent"] = table[f"sd_{who}"]
        result[f"{who}_n"] = table[f"n_{who}"]
    result["common_n"] = groups.size().reindex(rows, fill_value=0).to_numpy(dtype=int)
    difference = groups["difference"].mean().reindex(rows)
    result["common_difference_points"] = difference.to_numpy(dtype=float)
    identical = groups["identical"].sum().reindex(rows, fill_value=0)
    result["num_identical"] = identical.to_numpy(dtype=int)
    return result


def reference_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group and label set."""
    text = numbers[[*GROUP, "label_set"]].copy()
    for who in ("ours", "reference"):
        text[who] = column(numbers, plus_minus, f"{who}_mean_percent", f"{who}_sd_percent")
        text["n" if who == "ours" else "n of the reference"] = numbers[f"{who}_n"]
    text["runs in both"] = numbers["common_n"]
    text["difference over these"] = column(numbers, signed, "common_difference_points")
    text["identical"] = numbers["num_identical"]
    return without_constant(text)


def load_reference(reference: Path | None, study: str) -> tuple[Results | None, list[str]]:
    """The reference store, if it has this study, and what is wrong with it."""
    if reference is None or not Store(reference, study).folder.is_dir():
        return None, []
    try:
        found = load(reference, study)
    except InputError as error:
        return None, [f"no comparison with the reference: {error}"]
    return found, [f"reference: {warning}" for warning in found.warnings]


def reference_parts(found: Results, base: Results | None) -> list[Part]:
    """Our runs beside the committed ones."""
    if base is None:
        return []
    numbers = reference_table(found.runs, base.runs)
    if not len(numbers):
        return [
            Text(
                "The reference results have this study, but no runs with these settings and label "
                "sets: there is nothing to compare."
            )
        ]
    return [
        Table(
            "reference",
            "These results and the reference results",
            "Last accuracy in percent, mean ± sample standard deviation over all n repeats of each "
            "side, for groups and label sets that both have. Runs in both: those with the same "
            "id; difference: mean over these of ours - reference, in points, - if there are none. "
            "Identical: those of them whose accuracy is equal to the last bit; other devices or "
            "library versions need not give that.",
            numbers,
            reference_text(numbers),
        )
    ]
