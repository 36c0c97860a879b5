"""Ours beside published numbers, paired by the settings of the runs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from boss.study.study import Comparison

from .. import statistics
from ..load import Results
from ..tables import column, number, plus_minus, signed, signed_interval
from ..titles import is_number, value_title, variant_title, words
from .agreement import DIFFERENCE, VERDICT, difference, margin, with_verdicts
from .comparison_settings import (
    KNOWN,
    records,
    settings_of,
    short_names,
    shown_settings,
)

QUANTITIES = ("error", "used", "wrong")
DIGITS = 2  # as the publications print errors


def measure(found: Results, runs: pd.DataFrame) -> pd.DataFrame:
    """What every run came to, long: run_id, quantity, percent and last_percent.

    error: 100 minus the median of the teacher's last 20 accuracies, and minus the last one. used,
    wrong: between the last two evaluations, percent and last_percent alike.
    """
    teacher = found.evaluations[found.evaluations["network"] == "teacher"]
    last = teacher.drop_duplicates("run_id", keep="last")
    last = last.set_index(last["run_id"].astype(str))
    used = 100 * runs["run_id"].map(last["used_share"])
    wrong = 100 * (1 - runs["run_id"].map(last["pseudo_label_accuracy"]))
    values = {
        "error": (
            100 * (1 - runs["median_last_20_accuracy"]),
            100 * (1 - runs["last_accuracy"]),
        ),
        "used": (used, used),
        "wrong": (wrong, wrong),
    }
    parts = [
        runs[["run_id"]].assign(quantity=name, percent=percent, last_percent=last_percent)
        for name, (percent, last_percent) in values.items()
    ]
    return pd.concat(parts, ignore_index=True).dropna(subset=["percent"])


# Ours beside theirs


def beside(ours: pd.DataFrame, published: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """Our numbers with the published ones of the same settings, and those without a counterpart.

    Args:
        ours: `measure` of the runs of one block with their settings, variant, group, label_set and
            labels_per_class.
        published: `read`.

    Returns:
        per settings, group and quantity: ours_percent and ours_last_percent (means over label
        sets), ours_sd_percent (of the means of the label sets; of one label set over its runs),
        ours_low and ours_high (Student's 95% interval over label sets; interval_over says over
        what), num_runs, num_label_sets; of the published number, of several that fit the one with
        the most settings, the columns `NUMBERS`; `agreement.DIFFERENCE`, over label sets, and
        `agreement.VERDICT`, adjusted within each value of the first panel setting.
    """
    ours = ours[ours["quantity"].isin(published["quantity"])]
    names = [*dict.fromkeys([*shown_settings(comparison), *settings_of(published)])]
    theirs = records(published)
    found: set[int] = set()
    rows: list[dict[str, Any]] = []
    for keys, group in ours.groupby([*names, "group", "variant", "quantity"], sort=False):
        row: dict[str, Any] = dict(zip([*names, "group", "variant", "quantity"], keys, strict=True))
        row |= our_numbers(group)
        fitting = fits(row, theirs, settings_of(published))
        found.update(fitting)
        rows += [row | their_numbers(row, theirs[i]) for i in fitting] or [row]
    for i, other in enumerate(theirs):
        if i not in found:
            row = {name: other.get(name, "") for name in [*names, "quantity"]}
            candidate = row | completed(other, ours, comparison)
            if i in fits(candidate, theirs, settings_of(published)):  # no other row is meant for it
                row = candidate
            rows.append(row | their_numbers({}, other))
    table = pd.DataFrame(rows).reindex(columns=[*names, *COMPARED])
    table = with_verdicts(table, [*comparison.panels[:1]])
    counts = {name: table[name].fillna(0).astype(int) for name in ("num_runs", "num_label_sets")}
    texts = {c: table[c].fillna("") for c in (*names, *TEXTS)}
    return in_order(table.assign(**counts, **texts), names, published)


TEXTS = ["group", "variant", "interval_over", "printed", "known", "source", "note", "verdict"]
COMPARED = [
    *("group", "variant", "quantity", "num_runs", "num_label_sets"),
    *("ours_percent", "ours_sd_percent", "ours_low", "ours_high", "interval_over"),
    *("ours_last_percent", "published_percent", "published_sd_percent", "published_n", "known"),
    *DIFFERENCE,
    *VERDICT,
    *("source", "note", "printed"),
]


def our_numbers(group: pd.DataFrame) -> dict[str, Any]:
    """The columns of `beside` that describe the runs of one group, all of one quantity."""
    mean = statistics.cluster_mean(group, "percent")
    by_set = group.groupby("label_set", sort=False)["percent"].mean()
    values = by_set if len(by_set) > 1 else group["percent"]
    return {
        "num_runs": mean.num_runs,
        "num_label_sets": mean.num_label_sets,
        "labels_per_class": group["labels_per_class"].mean(),
        "ours_percent": mean.mean,
        "ours_sd_percent": statistics.summary(values.to_numpy(dtype=float)).sd,
        "ours_low": mean.interval.low,
        "ours_high": mean.interval.high,
        "interval_over": mean.interval_over,
        "ours_last_percent": statistics.cluster_mean(group, "last_percent").mean,
    }


def their_numbers(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of `beside` that describe a published number and our difference to it.

    Args:
        ours: the columns of our runs; empty if there are none.
    """
    row = {
        "published_percent": theirs["percent"],
        "published_sd_percent": theirs["sd_percent"],
        "published_n": theirs["n"],
        **{name: theirs[name] for name in ("printed", "known", "source", "note")},
    }
    if ours and theirs["percent"] == theirs["percent"]:
        # Repeats of one label set say nothing about others: without a second one no interval.
        sets = ours["num_label_sets"]
        mine = statistics.Summary(ours["ours_percent"], ours["ours_sd_percent"], sets)
        row |= difference(mine, published_summary(theirs), margin(ours["labels_per_class"]))
    return row


def published_summary(theirs: Mapping[str, Any]) -> statistics.Summary:
    """A published number as a `statistics.Summary`; without a deviation it is a single value."""
    has_sd = not math.isnan(theirs["sd_percent"])
    return statistics.Summary(
        theirs["percent"], theirs["sd_percent"], int(theirs["n"]) if has_sd else 1
    )


def fits(
    ours: Mapping[str, Any], theirs: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> list[int]:
    """The indices of the published rows that match a row of ours.

    All settings given by the published row must be equal. Among several such rows, those that give
    the most settings.
    """
    given = {
        i: sum(row[name] != "" for name in names)
        for i, row in enumerate(theirs)
        if row["quantity"] == ours["quantity"]
        and all(row[name] in ("", ours[name]) for name in names)
    }
    return [i for i, count in given.items() if count == max(given.values())]


def completed(
    theirs: Mapping[str, Any], ours: pd.DataFrame, comparison: Comparison
) -> dict[str, str]:
    """The settings of axis and color that a published row leaves open and all of ours share.

    Pi-Model, published without an augmentation, thus appears in the row of our Pi-Model even
    where we have no run with that many labels. Ours are those with the settings that the row gives
    or, if there are none, with all but the last of these, and so on.
    """
    names = [*dict.fromkeys([*comparison.axis, *comparison.by])]
    given = [name for name in names if theirs.get(name, "")]
    same = ours[:0]
    for count in range(len(given), 0, -1):
        same = ours[(ours[given[:count]] == [theirs[name] for name in given[:count]]).all(axis=1)]
        if len(same):
            break
    values = {name: same[name].unique() for name in names if name not in given}
    return {name: str(found[0]) for name, found in values.items() if len(found) == 1}


def in_order(table: pd.DataFrame, names: list[str], published: pd.DataFrame) -> pd.DataFrame:
    """The rows sorted by settings: numbers by size, names as published, then in given order."""
    ranks: dict[str, list[int]] = {}
    for name in names:
        place = {value: i for i, value in enumerate(value_order(name, table, published))}
        ranks[name] = [place[value] for value in table[name]]
    ranks["quantity"] = [QUANTITIES.index(value) for value in table["quantity"]]
    order = pd.DataFrame(ranks).sort_values([*names, "quantity"], kind="stable").index
    return table.loc[order].reset_index(drop=True)


def places(
    numbers: pd.DataFrame, names: Sequence[str], published: pd.DataFrame
) -> "pd.Series[int]":
    """The rank of each row in the order of these settings alone."""
    ordered = in_order(numbers.assign(position=range(len(numbers))), [*names], published)
    return pd.Series(range(len(ordered)), index=ordered["position"]).reindex(range(len(numbers)))


def value_order(name: str, table: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """All values of a setting in the order in which they are shown."""
    theirs = list(published[name]) if name in published else []
    values = [*dict.fromkeys([*theirs, *table[name]])]
    if all(is_number(value) for value in values if value):
        return sorted(values, key=lambda value: float(value) if value else -math.inf)
    return values


# Where a row is drawn: panel, position along the axis, color.
DRAWN = ["panel", "category", "series", "axis_order", "series_order"]


def with_names(
    numbers: pd.DataFrame, comparison: Comparison, published: pd.DataFrame
) -> pd.DataFrame:
    """`beside` with the columns `DRAWN`.

    Runs get a separate series, such as "other learning rate", if a setting that all published
    numbers of the file give has a value that none of these has, and is not shown otherwise.
    """
    panel = [
        ", ".join(words(name, value) for name, value in row.items() if value)
        for row in records(numbers[[*comparison.panels]])
    ]
    if len(comparison.axis) == 1:
        name = comparison.axis[0]
        category = [value_title(name, value) for value in numbers[name]]
    else:
        category = short_names(numbers, comparison.axis)
    series = [[name] if name else [] for name in short_names(numbers, comparison.by)]
    for name in settings_of(published):
        theirs = set(published[name])
        values = numbers.loc[numbers["num_runs"] > 0, name]
        if name in shown_settings(comparison) or "" in theirs or values.nunique() < 2:
            continue
        for parts, value, runs in zip(series, numbers[name], numbers["num_runs"], strict=True):
            if runs and value not in theirs:
                parts.append(f"other {name.replace('_', ' ')}")
    return numbers.assign(
        panel=panel,
        category=category,
        series=[", ".join(parts) for parts in series],
        axis_order=places(numbers, comparison.axis, published),
        series_order=places(numbers, comparison.by, published),
    )


# The table


def table_text(
    numbers: pd.DataFrame, comparison: Comparison, notes: Mapping[str, int]
) -> pd.DataFrame:
    """One row per settings and quantity.

    Args:
        numbers: `with_names`.
        notes: the number of each note.
    """
    text = pd.DataFrame(index=numbers.index)
    for name in (*comparison.panels, *comparison.by):
        text[name] = [value_title(name, value) for value in numbers[name]]
    text[axis_name(comparison)] = numbers["category"]
    for name in numbers.columns[: list(numbers.columns).index("group")]:
        if name not in shown_settings(comparison):
            text[str(name)] = [value_title(str(name), value) for value in numbers[name]]
    constant = [c for c in text if text[c].nunique() <= 1 and c != axis_name(comparison)]
    text = text.drop(columns=constant).replace("", "-")
    is_ours = numbers["num_runs"] > 0
    rows = [*text.columns, "quantity"]
    rows_of_ours = pd.concat([text, numbers[["quantity", "group"]]], axis=1)[is_ours]
    if (rows_of_ours.groupby(rows)["group"].nunique() > 1).any():
        # Settings differ that are not here.
        text["variant"] = numbers["variant"].map(variant_title).replace("", "-")
    if numbers["quantity"].nunique() > 1:
        text["quantity"] = numbers["quantity"]
    text["label sets"] = numbers["num_label_sets"].astype(str).where(is_ours, "-")
    text["runs"] = numbers["num_runs"].astype(str).where(is_ours, "-")
    text["ours"] = column(
        numbers, lambda a, b: plus_minus(a, b, DIGITS), "ours_percent", "ours_sd_percent"
    )
    text["ours, last"] = column(numbers, lambda x: number(x, DIGITS), "ours_last_percent")
    marks = numbers["known"].map(KNOWN)
    text["published"] = (numbers["printed"] + marks).where(numbers["printed"] != "", "-")
    text["n"] = column(numbers, lambda n: number(n, 0), "published_n")
    text["ours - published"] = column(numbers, lambda x: signed(x, DIGITS), "difference_points")
    text["95% interval"] = column(
        numbers, lambda a, b: signed_interval(a, b, DIGITS), "difference_low", "difference_high"
    )
    if numbers["verdict"].ne("").any():
        text["verdict"] = numbers["verdict"].replace("", "-")
    sources = set(numbers["source"]) - {""}
    if len(sources) > 1:
        text["source"] = numbers["source"].replace("", "-")
    if notes:
        text["note"] = [f"[{notes[note]}]" if note else "-" for note in numbers["note"]]
    return text


def axis_name(comparison: Comparison) -> str:
    """The label of the axis."""
    if comparison.axis[0] == "algorithm" or len(comparison.axis) == 1:
        return comparison.axis[0].replace("_", " ")
    return "setting"
