"""Ours beside published numbers that are known by the settings of their runs, not by label set.

A file of published/ has a row per number: columns that name settings (an empty cell: any value),
then `NUMBERS`. A `boss.study.Comparison` says which setting runs along the axis, which are told
apart by color and which have panels of their own.

A setting is a column of the table of runs or an option of the algorithm. Wherever two values are
compared they are texts, numbers without their spelling ("0.5" for 0.50), "" if missing.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from boss.errors import InputError, choose
from boss.study.study import Comparison

from .. import statistics
from ..load import (
    EXPERIMENT,
    EXPERIMENT_IF_DIFFERENT,
    HYPERPARAMETERS,
    ORACLE_MARK,
    Results,
    is_missing,
    label_set_kinds,
    setting_text,
)
from ..tables import (
    column,
    number,
    plus_minus,
    published_file,
    signed,
    signed_interval,
)

NUMBERS = ["quantity", "percent", "sd_percent", "n", "known", "source", "note"]
QUANTITIES = ("error", "used", "wrong")
# How well a published number is known, and its mark in a table.
KNOWN = {"given": "", "confirmed": "'", "recalled": "?"}
KNOWN_TEXT = (
    "no mark: given in the documents that this project started from; ': confirmed by a second "
    "source; ?: recalled, and not confirmed"
)
# Columns of the table of runs that may be settings. Not `labels`: that is an option of FixMatch.
PLACES = [*EXPERIMENT, *EXPERIMENT_IF_DIFFERENT]
ALWAYS_APART = ["budget", "num_images", "max_eval_images"]  # of runs in different panels, too
COLUMNS = [*PLACES, "algorithm", "method", "label_set", *HYPERPARAMETERS]
BARE = ("algorithm", "method", "augmentation", "optimizer", "schedule", "dataset", "label_set")
LAST = ("num_labels", "labels")  # "40 labels", "hard labels"
DIGITS = 2  # as the publications print errors


# What is published


def read(name: str) -> pd.DataFrame:
    """A file of published/ by settings: those as texts, percent, sd_percent and n as numbers.

    `printed` is mean ± deviation with the digits of the file.

    Raises:
        InputError: there is no such file.
    """
    path = published_file(name, "quantity")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    texts = {name: [value_text(value) for value in table[name]] for name in settings_of(table)}
    numbers = {c: pd.to_numeric(table[c]) for c in ("percent", "sd_percent", "n")}
    printed = table["percent"].where(
        table["sd_percent"] == "", table["percent"] + " ± " + table["sd_percent"]
    )
    return table.assign(**texts, **numbers, printed=printed)


def settings_of(published: pd.DataFrame) -> list[str]:
    """The columns of a published table that name settings."""
    return [str(name) for name in published.columns if name not in (*NUMBERS, "printed")]


def value_text(value: object) -> str:
    """A value of a setting, so that equal ones are equal texts.

    >>> value_text(0.50), value_text("5e-4"), value_text(True), value_text("none"), value_text(None)
    ('0.5', '0.0005', 'True', 'none', '')
    """
    if is_missing(value) or value == "":
        return ""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    try:
        return f"{float(str(value)):.12g}"
    except ValueError:
        return str(value)


# What is ours


def settings_table(runs: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The named settings of every run as texts; an option goes before a column of that name."""
    options = [json.loads(text) for text in runs["options"]]
    known = {key for row in options for key in row}
    table = {}
    for name in names:
        if name in known or name not in COLUMNS:
            values = [row.get(name) for row in options]
        elif name == "label_sets":
            values = list(label_set_kinds(runs["label_set"]))
        else:
            values = list(runs[name])
        table[name] = [value_text(value) for value in values]
    return pd.DataFrame(table, index=runs.index)


def check(comparison: Comparison, published: pd.DataFrame, runs: pd.DataFrame) -> None:
    """Refuse a comparison that cannot be drawn.

    Raises:
        InputError: neither runs nor the published table have one of its settings, or its axis is to
            be one of numbers and is not.
    """
    options = {key for text in runs["options"].unique() for key in json.loads(text)}
    known = dict.fromkeys([*COLUMNS, *sorted(options), *settings_of(published)])
    what = f"comparison with {comparison.published}"
    for name in shown_settings(comparison):
        choose(name, known, what=f"setting of the {what}:")
    if comparison.scale == "category":
        return
    if len(comparison.axis) > 1:
        raise InputError(f"the {comparison.scale} axis of the {what} must be one setting")
    name = comparison.axis[0]
    values = {*settings_table(runs, [name])[name], *published.get(name, [])} - {""}
    for value in sorted(values):
        if not is_number(value):
            raise InputError(
                f"{name} of the {what} must be numbers on a {comparison.scale} axis, not {value!r}"
            )


def shown_settings(comparison: Comparison) -> list[str]:
    """The settings that a comparison is drawn by, in the order of the table's columns."""
    return [*dict.fromkeys([*comparison.panels, *comparison.by, *comparison.axis])]


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


def blocks(runs: pd.DataFrame, comparison: Comparison) -> "pd.Series[str]":
    """What else than the settings of the comparison the runs belong to: budget, network, ...

    Runs of one panel that differ in one of `PLACES` are of different blocks; what differs between
    panels only, but for `ALWAYS_APART`, is left to the panels. Oracles are named. A block is one
    figure.

    Returns:
        the name of the block of every run.
    """
    names = [name for name in PLACES if name not in shown_settings(comparison)]
    table = settings_table(runs, [*names, *comparison.panels])
    panel = table[[*comparison.panels]].agg("|".join, axis=1) if comparison.panels else None
    fixed = {name for name in names if table[name].nunique() == 1}
    varying = set(names) - fixed
    if panel is not None:
        varying = {
            name
            for name in varying
            if name in ALWAYS_APART or table[name].groupby(panel).nunique().max() > 1
        }
    if table["label_sets"].str.endswith(ORACLE_MARK).any():
        varying.add("label_sets")
    texts = []
    for row in records(table):
        parts = [str(row[n]) for n in EXPERIMENT if n in fixed | varying]
        parts += [setting_text(n, row[n] or None) for n in EXPERIMENT_IF_DIFFERENT if n in varying]
        texts.append(", ".join(parts))
    return pd.Series(texts, index=runs.index, dtype=object)


# Ours beside theirs


def beside(ours: pd.DataFrame, published: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """Every number of ours with the published one of the same settings, and those without one.

    Args:
        ours: `measure` of the runs of one block with their settings, variant, group and label_set.
        published: `read`.

    Returns:
        per settings, group and quantity: ours_percent and ours_last_percent (means over label
        sets), ours_sd_percent (of the means of the label sets; of one label set over its runs),
        ours_low and ours_high (Student's 95% interval over label sets; interval_over says over
        what), num_runs, num_label_sets; of the published number, of several that fit the one with
        the most settings, the columns `NUMBERS`; difference_points (ours - published) with Welch's
        interval, where both have the deviation over two label sets or more.
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
            guess = row | completed(other, ours, comparison)
            if i in fits(guess, theirs, settings_of(published)):  # no other row is meant for it
                row = guess
            rows.append(row | their_numbers({}, other))
    table = pd.DataFrame(rows).reindex(columns=[*names, *COMPARED])
    counts = {name: table[name].fillna(0).astype(int) for name in ("num_runs", "num_label_sets")}
    texts = {c: table[c].fillna("") for c in (*names, *TEXTS)}
    return in_order(table.assign(**counts, **texts), names, published)


TEXTS = ["group", "variant", "interval_over", "printed", "known", "source", "note"]
COMPARED = [
    *("group", "variant", "quantity", "num_runs", "num_label_sets"),
    *("ours_percent", "ours_sd_percent", "ours_low", "ours_high", "interval_over"),
    *("ours_last_percent", "published_percent", "published_sd_percent", "published_n", "known"),
    *("difference_points", "difference_low", "difference_high", "source", "note", "printed"),
]


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table by the names of its columns."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def our_numbers(group: pd.DataFrame) -> dict[str, Any]:
    """The columns of `beside` that are about the runs of one group, all of one quantity."""
    mean = statistics.cluster_mean(group, "percent")
    by_set = group.groupby("label_set", sort=False)["percent"].mean()
    values = by_set if len(by_set) > 1 else group["percent"]
    return {
        "num_runs": mean.num_runs,
        "num_label_sets": mean.num_label_sets,
        "ours_percent": mean.mean,
        "ours_sd_percent": statistics.summary(values.to_numpy(dtype=float)).sd,
        "ours_low": mean.interval.low,
        "ours_high": mean.interval.high,
        "interval_over": mean.interval_over,
        "ours_last_percent": statistics.cluster_mean(group, "last_percent").mean,
    }


def their_numbers(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of `beside` that are about a published number and the difference of ours to it.

    Args:
        ours: the columns that are about ours; empty if it was not run.
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
        difference, ends = statistics.welch_summary(mine, published_summary(theirs))
        row |= {"difference_points": difference}
        row |= {"difference_low": ends.low, "difference_high": ends.high}
    return row


def published_summary(theirs: Mapping[str, Any]) -> statistics.Summary:
    """A published number as the statistics want it; without a deviation it is a single value."""
    has_sd = not math.isnan(theirs["sd_percent"])
    return statistics.Summary(
        theirs["percent"], theirs["sd_percent"], int(theirs["n"]) if has_sd else 1
    )


def fits(
    ours: Mapping[str, Any], theirs: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> list[int]:
    """The positions of the published rows that a row of ours may stand beside.

    All settings that the published row gives are to be equal; of several such rows, those that give
    the most.
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
    """The settings of axis and color that a published row leaves open and that ours all share.

    So that Pi-Model, published without an augmentation, stands in the row of our Pi-Model also
    where we have none with that many labels. Ours are those with the settings that the row gives
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
    """The rows sorted by their settings: numbers by size, texts as published, then as they come."""
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
    """The place of every row in the order of these settings, whatever the others."""
    ordered = in_order(numbers.assign(position=range(len(numbers))), [*names], published)
    return pd.Series(range(len(ordered)), index=ordered["position"]).reindex(range(len(numbers)))


def value_order(name: str, table: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """All values of a setting in the order in which they are shown."""
    theirs = list(published[name]) if name in published else []
    values = [*dict.fromkeys([*theirs, *table[name]])]
    if all(is_number(value) for value in values if value):
        return sorted(values, key=lambda value: float(value) if value else -math.inf)
    return values


def is_number(text: str) -> bool:
    """Whether the value of a setting is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


# What they are called


def short_value(value: str) -> str:
    """The value of a setting to be read, a fraction with four digits."""
    return f"{float(value):.4g}" if "." in value and is_number(value) else value


def words(name: str, value: str) -> str:
    """A setting and its value as a person would say it.

    >>> words("num_labels", "40"), words("nesterov", "False"), words("schedule", "linear")
    ('40 labels', 'no nesterov', 'linear')
    """
    spoken, value = name.replace("_", " "), short_value(value)
    if name in LAST:
        return f"{value} labels"
    if value in ("True", "False"):
        return spoken if value == "True" else f"no {spoken}"
    return value if name in BARE else f"{spoken} {value}"


def short_names(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Each row by the first setting, and by those in which it differs from rows alike until there.

    Args:
        names: of settings; none give empty names.
    """
    texts: list[list[str]] = [[] for _ in range(len(table))]
    for i, name in enumerate(names):
        counts = pd.Series(2, index=table.index)  # the first is always named
        if i:
            counts = table.groupby(list(names[:i]), sort=False)[name].transform("nunique")
        for parts, value, count in zip(texts, table[name], counts, strict=True):
            if value and count > 1:
                parts.append(words(name, value))
    return [", ".join(parts) for parts in texts]


# Where a row is drawn: panel, place along the axis, color.
DRAWN = ["panel", "category", "series", "axis_order", "series_order"]


def with_names(
    numbers: pd.DataFrame, comparison: Comparison, published: pd.DataFrame
) -> pd.DataFrame:
    """`beside` with the columns `DRAWN`.

    A series of its own is what has a setting that no published number of the file has, where they
    all name one, and that is neither on the axis nor a color or panel: "other learning rate".
    """
    panel = [
        ", ".join(words(name, value) for name, value in row.items() if value)
        for row in records(numbers[[*comparison.panels]])
    ]
    if len(comparison.axis) == 1:
        category = [short_value(value) for value in numbers[comparison.axis[0]]]
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
        text[name] = numbers[name].map(short_value)
    text[axis_name(comparison)] = numbers["category"]
    for name in numbers.columns[: list(numbers.columns).index("group")]:
        if name not in shown_settings(comparison):
            text[str(name)] = numbers[name].map(short_value)
    constant = [c for c in text if text[c].nunique() <= 1 and c != axis_name(comparison)]
    text = text.drop(columns=constant).replace("", "-")
    is_ours = numbers["num_runs"] > 0
    rows = [*text.columns, "quantity"]
    rows_of_ours = pd.concat([text, numbers[["quantity", "group"]]], axis=1)[is_ours]
    if (rows_of_ours.groupby(rows)["group"].nunique() > 1).any():
        text["variant"] = numbers["variant"].replace("", "-")  # settings differ that are not here
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
    sources = set(numbers["source"]) - {""}
    if len(sources) > 1:
        text["source"] = numbers["source"].replace("", "-")
    if notes:
        text["note"] = [f"[{notes[note]}]" if note else "-" for note in numbers["note"]]
    return text


def axis_name(comparison: Comparison) -> str:
    """What the axis is called."""
    if comparison.axis[0] == "algorithm" or len(comparison.axis) == 1:
        return comparison.axis[0].replace("_", " ")
    return "setting"
