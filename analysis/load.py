"""From a store to the DataFrames that tables and figures start from."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boss.errors import InputError
from boss.results.read import Store

from .naming import NAMES, describe, is_missing, natural, sort_runs
from .validation.tables import Reasons, Tables
from .validation.validate import validate

# What is measured once per run and stands before the classes in every table.
ALL, ORACLE, CLASS_MEAN = "All", "All, best on test (oracle)", "mean of classes"


AGGREGATES = [ALL, ORACLE, CLASS_MEAN]


# What is read of tables that have many rows for each run.
COLUMNS = {
    "evaluations": [
        *("run_id", "step", "images_seen", "network"),
        *("test_accuracy", "validation_accuracy", "used_share", "pseudo_label_accuracy"),
    ],
    "class_evaluations": [
        *("run_id", "step", "class_index", "class_name", "test_accuracy", "test_count"),
        *("predicted_count", "pseudo_label_count"),
    ],
}


MAX_NAMED_RUNS = 10  # in one warning


@dataclass(frozen=True)
class Results:
    """The finished runs of a study.

    Attributes:
        runs: one row per run: the columns of the store, label sets marked if they are oracles, and
            what `describe` adds.
        evaluations, class_evaluations: `COLUMNS` as stored, with `NAMES` of their run, in the order
            of the runs; texts are categoricals. Those by class are the teacher's.
        warnings: what was left out, and other doubts, one line each.
        left_out: run_id, name and reason of the runs of the store that are not whole and take part
            in nothing (`analysis.validation`).
        store: where the other tables are.
    """

    runs: pd.DataFrame
    evaluations: pd.DataFrame
    class_evaluations: pd.DataFrame
    warnings: list[str]
    left_out: pd.DataFrame
    store: Store


def load(results: Path, study: str) -> Results:
    """Read the finished runs of a study; those that are not whole are left out and named.

    Raises:
        InputError: there is no finished run, or none is whole.
    """
    store = Store(results, study)
    runs = store.read("runs", with_gaps=True)
    evaluations, class_evaluations = (
        store.read(
            name,
            columns=COLUMNS[name],
            where={"network": "teacher"} if name == "class_evaluations" else None,
            as_categories=True,
            with_gaps=True,
        )
        for name in COLUMNS
    )
    warnings = [f"left out: {line}" for line in unreadable(store)]
    warnings += [
        f"left out: rows of no run in {path.relative_to(store.folder)}: {count}"
        for path, count in store.nameless.items()
    ]
    names = dict(zip(runs["run_id"], map(run_name, runs.to_dict("records")), strict=True))
    validated = validate(Tables(runs, evaluations, class_evaluations))
    tables = validated.tables
    warnings += [
        f"rows of {table} that are stored twice count once: {listed(run_ids)}"
        for table, run_ids in validated.twice.items()
        if run_ids
    ]
    left_out = left_out_runs(validated.reasons, names)
    warnings += left_out_lines(left_out)
    if not len(tables.runs):
        others = f"; and {len(warnings) - 1} more" if len(warnings) > 1 else ""
        reason = f" ({warnings[0]}{others})" if warnings else ""
        raise InputError(f"no finished run in {store.folder}{reason}: boss-study run {study}")
    wanted = set(tables.runs["run_id"])
    runs, more = with_ancestors(validated.rows, wanted)
    warnings += more
    runs = describe(runs)
    runs, more = without_repeated_runs(runs[runs["run_id"].isin(wanted)])
    warnings += more
    runs = sort_runs(runs)
    return Results(
        runs,
        join(tables.evaluations, runs),
        join(tables.class_evaluations, runs),
        warnings,
        left_out,
        store,
    )


def unreadable(store: Store, known: Iterable[Path] = ()) -> list[str]:
    """A line for each part that cannot be read, but for those that are known."""
    return [
        f"cannot read {path.relative_to(store.folder)}: {reason}"
        for path, reason in store.unreadable.items()
        if path not in known
    ]


def run_name(row: dict[Any, Any]) -> str:
    """What a warning calls a run, whatever its row holds."""
    return f"{row['algorithm']} {row['label_set']} #{row['repeat']} ({row['run_id']})"


def left_out_runs(reasons: Reasons, names: dict[str, str]) -> pd.DataFrame:
    """The runs that take part in nothing: run_id, name and reason, in the order of the store."""
    rows = [(run_id, name, reasons[run_id]) for run_id, name in names.items() if run_id in reasons]
    return pd.DataFrame(rows, columns=["run_id", "name", "reason"], dtype=object)


def left_out_lines(left_out: pd.DataFrame) -> list[str]:
    """A line for each of the first runs, and how many more there are."""
    lines = [
        f"left out: {name}: {reason}"
        for name, reason in zip(left_out["name"], left_out["reason"], strict=True)
    ]
    more = (
        [f"left out: {len(lines) - MAX_NAMED_RUNS} more runs"]
        if len(lines) > MAX_NAMED_RUNS
        else []
    )
    return [*lines[:MAX_NAMED_RUNS], *more]


def with_ancestors(runs: pd.DataFrame, wanted: set[str]) -> tuple[pd.DataFrame, list[str]]:
    """The wanted runs and those that picked images for them, and a warning of those not there."""
    parents = dict(zip(runs["run_id"], runs["parent"], strict=True))
    found: set[str] = set()
    missing: set[str] = set()
    waiting = [*wanted]
    while waiting:
        run_id = waiting.pop()
        found.add(run_id)
        parent = parents[run_id]
        if is_missing(parent) or parent in found:
            continue
        if parent in parents:
            waiting.append(parent)
        else:
            missing.add(run_id)
    kept = runs[runs["run_id"].isin(found)].reset_index(drop=True)
    if not missing:
        return kept, []
    names = [*map(run_name, kept[kept["run_id"].isin(missing)].to_dict("records"))]
    warning = (
        "runs whose parent is not in the store, or has a damaged row there, named ? and averaged "
        f"as if their parents were alike: {listed(names)}"
    )
    return kept, [warning]


def listed(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = [f"and {len(names) - MAX_NAMED_RUNS} more"] if len(names) > MAX_NAMED_RUNS else []
    return ", ".join([*names[:MAX_NAMED_RUNS], *more])


def without_repeated_runs(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """One run per group, label set and repeat, the first that finished, and a warning of others.

    Settings that mean the same may be spelled differently and then give runs different ids.
    """
    keys = ["group", "label_set", "repeat"]
    runs = runs.sort_values(["finished_at", "run_id"], kind="stable", ignore_index=True)
    repeated = runs.duplicated(keys)
    if not repeated.any():
        return runs, []
    first = runs.groupby(keys, sort=False)["run_id"].transform("first")
    names = [
        f"{r.algorithm} {r.label_set} #{r.repeat} ({r.run_id}, as {kept})"
        for r, kept in zip(runs[repeated].itertuples(), first[repeated], strict=True)
    ]
    warning = f"left out: runs with the settings and repeat of another: {listed(names)}"
    return runs[~repeated].reset_index(drop=True), [warning]


def join(table: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of the given runs, in the order of the runs, with their names.

    Args:
        table: with run_id as a categorical.

    Returns:
        its rows and `NAMES`, texts as categoricals.
    """
    ids = table["run_id"].cat
    place = pd.Index(runs["run_id"]).get_indexer(ids.categories)[ids.codes]  # of its run, or -1
    order = np.lexsort((table["step"], place))
    order = order[np.searchsorted(place[order], 0) :]
    place = place[order]
    joined = table.drop(columns="run_id").take(order).reset_index(drop=True)
    for name in NAMES:
        values = runs[name].to_numpy()
        if runs[name].dtype.kind not in "if":
            codes, names = pd.factorize(runs[name])
            joined[name] = pd.Categorical.from_codes(codes[place], names)
        else:
            joined[name] = values[place]
    return joined


def chain_seconds(runs: pd.DataFrame, own: "pd.Series[float] | None" = None) -> dict[str, float]:
    """What every run cost by its id: its seconds and those of all runs that it started from.

    A run whose parent is not there costs an unknown time (NaN): less would be a lie.

    Args:
        own: seconds of each run by itself, with the index of `runs`; None: by the clock.
    """
    found: dict[str, float] = {}
    order = runs.assign(own=runs["seconds"] if own is None else own)
    order = order.sort_values("round", kind="stable")
    for run_id, parent, seconds in zip(order["run_id"], order["parent"], order["own"], strict=True):
        found[run_id] = seconds + (0.0 if is_missing(parent) else found.get(parent, math.nan))
    return found


def last_step(class_evaluations: pd.DataFrame) -> pd.DataFrame:
    """The rows after the last step of each run."""
    last = class_evaluations.groupby("run_id", observed=True)["step"].transform("max")
    return class_evaluations[class_evaluations["step"] == last]


def metrics(results: Results) -> pd.DataFrame:
    """What every run reached, in percent, long: the tables start from this.

    Returns:
        `NAMES`; metric ("All", "All, best on test (oracle)", "mean of classes" or the name of a
        class), order (0, 1, 2 for the first three, 3 + class index for a class) and percent. All
        but the oracle are of the teacher after the last step.
    """
    runs = results.runs
    # Texts of some hundred letters that most rows share.
    names = runs[NAMES].assign(group=runs["group"].astype("category"))
    classes = last_step(results.class_evaluations)
    place = pd.Index(runs["run_id"]).get_indexer(classes["run_id"].astype(str))
    per_class = names.take(place).assign(
        metric=classes["class_name"].astype(str).to_numpy(),
        order=classes["class_index"].to_numpy() + len(AGGREGATES),
        percent=100 * classes["test_accuracy"].to_numpy(),
    )
    class_mean = 100 * classes.groupby(classes["run_id"].astype(str))["test_accuracy"].mean()
    columns = {
        ALL: 100 * runs["last_accuracy"],
        ORACLE: 100 * runs["best_test_accuracy"],
        CLASS_MEAN: runs["run_id"].map(class_mean),
    }
    parts = [
        names.assign(metric=name, order=order, percent=percent)
        for order, (name, percent) in enumerate(columns.items())
    ]
    table = pd.concat([*parts, per_class], ignore_index=True)
    places = np.concatenate([*[np.arange(len(runs))] * len(parts), place])
    return table.take(np.lexsort((table["order"], places))).reset_index(drop=True)


def class_curves(results: Results, rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """The class evaluations with the column images_seen.

    Args:
        rows: some of them (None: all).
    """
    return with_images_seen(results.class_evaluations if rows is None else rows, results)


def with_images_seen(rows: pd.DataFrame, results: Results) -> pd.DataFrame:
    """The rows, of the given runs, with images_seen at their step: empty if there is none.

    Args:
        rows: with run_id as a categorical.
    """
    evaluations = results.evaluations
    largest = max(
        (int(table["step"].max()) for table in (rows, evaluations) if len(table)), default=0
    )

    def keys(table: pd.DataFrame) -> "NDArray[np.int64]":
        ids = table["run_id"].cat
        place = pd.Index(results.runs["run_id"]).get_indexer(ids.categories)[ids.codes]
        found: NDArray[np.int64] = place * (largest + 1) + table["step"].to_numpy(dtype=np.int64)
        return found

    known, first = np.unique(keys(evaluations), return_index=True)
    wanted = keys(rows)
    at = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    images = evaluations["images_seen"].to_numpy()[first][at]
    is_known = known[at] == wanted
    return rows.assign(images_seen=images if is_known.all() else np.where(is_known, images, np.nan))


def labeled_images(results: Results) -> tuple[pd.DataFrame, list[str]]:
    """The images of every label set, without selected ones, read now: from one run of each.

    Returns:
        dataset, label_set, position, image_index, class_name (what it was trained as) and image (a
        PNG file) of those stored with their pixels; and a warning of every part that is damaged.
    """
    keys = ["dataset", "label_set"]
    columns = ["position", "image_index", "class_name", "image"]
    waiting = results.runs[~results.runs["is_full"]].sort_values("round", kind="stable")
    warnings: list[str] = []
    tables = []
    # One run of each will do; where its rows are not there, any other.
    for candidates in (waiting.drop_duplicates(keys), waiting):
        candidates = candidates[candidates["run_id"].isin(waiting["run_id"])]
        known = set(results.store.unreadable)
        rows = results.store.read("labeled_images", candidates["run_id"])
        warnings += unreadable(results.store, known)
        found = rows[~rows["is_pick"].astype(bool)].merge(
            candidates[["run_id", *keys]], on="run_id"
        )
        tables.append(found[[*keys, *columns]].drop_duplicates([*keys, "position"]))
        done = pd.MultiIndex.from_frame(found[keys].drop_duplicates())
        waiting = waiting[~pd.MultiIndex.from_frame(waiting[keys]).isin(done)]
        if not len(waiting):
            break
    images = pd.concat(tables, ignore_index=True)
    images = images[images["image"].notna()]
    keys_of = [natural(name) for name in images["label_set"]]
    order = sorted(range(len(images)), key=keys_of.__getitem__)
    return images.iloc[order].reset_index(drop=True), warnings


def augmentation_rates(
    results: Results, run_ids: Iterable[str] | None = None, *, only_last: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """The rates that CTAugment learned, read now.

    Args:
        run_ids: of these runs (None: of all that have any).
        only_last: after the last step of each.

    Returns:
        the rows of the store with images_seen and the names of their run; and a warning of every
        part that is damaged.
    """
    if run_ids is None:
        runs = results.runs
        run_ids = runs.loc[runs["augmentation"].str.startswith("ctaugment"), "run_id"]
    known = set(results.store.unreadable)
    rows = results.store.read(
        "augmentation_rates", run_ids, only_last=only_last, as_categories=True
    )
    warnings = unreadable(results.store, known)
    rows = rows.drop_duplicates(["run_id", "step", "operation", "parameter", "bin"])
    rows = with_images_seen(join(rows, results.runs), results)
    return rows[rows["images_seen"].notna()].reset_index(drop=True), warnings
