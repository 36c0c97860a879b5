"""What a comparison reads: published numbers, the settings of our runs, and their names."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from boss.errors import InputError, choose
from boss.study.study import Comparison

from ..naming import (
    EXPERIMENT,
    EXPERIMENT_IF_DIFFERENT,
    HYPERPARAMETERS,
    ORACLE_MARK,
    is_missing,
    label_set_kinds,
    setting_text,
)
from ..titles import is_number, words
from .published import published_file

NUMBERS = ["quantity", "percent", "sd_percent", "n", "known", "source", "note"]
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


# Published numbers


def read(name: str) -> pd.DataFrame:
    """A file of published/ by settings: those as strings, percent, sd_percent and n as numbers.

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
    """A value of a setting as a string; equal values give equal strings.

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


# Our runs


def settings_table(runs: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The named settings of each run as strings; an option precedes a column of that name."""
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


def blocks(runs: pd.DataFrame, comparison: Comparison) -> "pd.Series[str]":
    """The further settings by which runs are kept apart: budget, network, ...

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


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table by the names of its columns."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


# Names


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
