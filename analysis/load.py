"""From a store to the DataFrames that the tables and figures start from.

Runs are averaged only within a group: equal in every setting but the label set and the repeat.
Two texts name a group wherever it is shown: its `experiment` (budget, data, network, schedule,
kind of label sets: comparing across these makes no sense) and within that its `variant` (the
algorithm, and the hyperparameters in which its runs differ).
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from boss.errors import InputError
from boss.store import TABLES, Store

# Always part of the name of an experiment; the others are named only where they differ.
EXPERIMENT = ["budget", "dataset", "network"]
EXPERIMENT_IF_DIFFERENT = [
    "dataset_fingerprint",
    "num_images",
    "num_labels",
    "num_validation",
    "max_eval_images",
    "label_sets",  # hand-picked and random ones are different populations
]
HYPERPARAMETERS = [
    "batch_size",
    "unlabeled_ratio",
    "learning_rate",
    "momentum",
    "weight_decay",
    "teacher_decay",
    "norm_momentum",
    "num_evaluations",
    "precision",
    "deterministic",
]
SETTINGS = [*EXPERIMENT, *EXPERIMENT_IF_DIFFERENT, "algorithm", *HYPERPARAMETERS, "options"]
GROUP = ["experiment", "variant"]

# What is measured once per run and stands before the classes in every table.
ALL, ORACLE, CLASS_MEAN = "All", "All, best on test (oracle)", "mean of classes"
AGGREGATES = [ALL, ORACLE, CLASS_MEAN]

KEYS = {  # what tells the rows of a table of the store apart
    "runs": ["run_id"],
    "evaluations": ["run_id", "step", "network"],
    "class_evaluations": ["run_id", "step", "network", "class_index"],
}
MAX_NAMED_RUNS = 10  # in one warning


@dataclass(frozen=True)
class Results:
    """The finished runs of a study.

    Attributes:
        runs: one row per run: the columns of the store, and group, experiment, variant.
        evaluations, class_evaluations: as stored, with group, experiment, variant, label_set and
            repeat of their run.
        warnings: what was left out, one line each.
    """

    runs: pd.DataFrame
    evaluations: pd.DataFrame
    class_evaluations: pd.DataFrame
    warnings: list[str]


def load(results: Path, study: str) -> Results:
    """Read the finished runs of a study; what is damaged or incomplete becomes a warning.

    Raises:
        InputError: there is no finished run.
    """
    store = Store(results, study)
    tables = {name: store.read(name) for name in TABLES}
    warnings = [
        f"left out: cannot read {path.relative_to(store.folder)}: {reason}"
        for path, reason in store.unreadable.items()
    ]
    for name, keys in KEYS.items():
        tables[name], more = without_repeated_rows(tables[name], keys, name)
        warnings += more
    runs = tables["runs"]
    whole = runs["run_id"].isin(tables["evaluations"]["run_id"])
    whole &= runs["run_id"].isin(tables["class_evaluations"]["run_id"])
    if not whole.all():
        names = [
            f"{r.algorithm} {r.label_set} #{r.repeat} ({r.run_id})"
            for r in runs[~whole].itertuples()
        ]
        warnings.append(f"left out: runs without their evaluations: {listed(names)}")
    if not whole.any():
        others = f"; and {len(warnings) - 1} more" if len(warnings) > 1 else ""
        reason = f" ({warnings[0]}{others})" if warnings else ""
        raise InputError(f"no finished run in {store.folder}{reason}: boss-study run {study}")
    runs, more = without_repeated_runs(describe(runs[whole].reset_index(drop=True)))
    warnings += more
    runs = sort_runs(runs)
    evaluations = join(tables["evaluations"], runs)
    class_evaluations = join(tables["class_evaluations"], runs)
    warnings += check_accuracies(runs, class_evaluations)
    return Results(runs, evaluations, class_evaluations, warnings)


def listed(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = [f"and {len(names) - MAX_NAMED_RUNS} more"] if len(names) > MAX_NAMED_RUNS else []
    return ", ".join([*names[:MAX_NAMED_RUNS], *more])


def without_repeated_rows(
    table: pd.DataFrame, keys: list[str], name: str
) -> tuple[pd.DataFrame, list[str]]:
    """The first row of each key, and a warning if there was another."""
    repeated = table.duplicated(keys)
    if not repeated.any():
        return table, []
    ids = listed([str(run_id) for run_id in table.loc[repeated, "run_id"].unique()])
    return table[~repeated].reset_index(drop=True), [f"left out: repeated rows in {name} of: {ids}"]


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
    """The rows of a table of the given runs, in the order of the runs, with their names."""
    names = runs[["run_id", *GROUP, "group", "algorithm", "label_set", "repeat"]]
    names = names.assign(run_order=range(len(names)))
    joined = table.merge(names, on="run_id", how="inner", validate="many_to_one")
    return joined.sort_values(["run_order", "step"], kind="stable", ignore_index=True)


def describe(runs: pd.DataFrame) -> pd.DataFrame:
    """Add to each run its `group` (all settings as JSON), `experiment` and `variant`."""
    runs = runs.assign(
        label_sets=runs["label_set"].str.split(":").str[0],
        max_eval_images=runs["max_eval_images"].astype("Int64"),  # a gap would make it a float
    )
    keys = runs[SETTINGS].astype(object).where(runs[SETTINGS].notna(), None)
    plain = keys.assign(options=keys["options"].map(plain_options))
    groups = [
        json.dumps(row, default=str) for row in zip(*(plain[c] for c in SETTINGS), strict=True)
    ]
    runs = runs.assign(group=groups)
    unique = keys.assign(group=groups).drop_duplicates("group").set_index("group")
    experiments = experiment_names(unique)
    variants = variant_names(unique, experiments)
    return runs.assign(
        experiment=runs["group"].map(experiments), variant=runs["group"].map(variants)
    )


def plain_options(text: str) -> str:
    """Options in one spelling: sorted, and 1 as 1.0."""
    return json.dumps(json.loads(text, parse_int=float), sort_keys=True)


def experiment_names(settings: pd.DataFrame) -> "pd.Series[str]":
    """The name of the experiment of each row of settings."""
    paths = settings["dataset"].unique()
    short = {path: Path(path).stem for path in paths}
    if len(set(short.values())) < len(short):
        short = {path: path for path in paths}
    shown = [c for c in EXPERIMENT_IF_DIFFERENT if settings[c].nunique(dropna=False) > 1]
    names = []
    for row in settings.to_dict("records"):
        parts = [row["budget"], short[row["dataset"]], row["network"]]
        parts += [setting_text(name, row[name]) for name in shown]
        names.append(", ".join(parts))
    return pd.Series(names, index=settings.index, dtype=object)


def variant_names(settings: pd.DataFrame, experiments: "pd.Series[str]") -> "pd.Series[str]":
    """The algorithm of each row of settings, and what tells it from others of its algorithm."""
    names = pd.Series("", index=settings.index, dtype=object)
    for _, block in settings.groupby([experiments, settings["algorithm"]], sort=False):
        options = pd.DataFrame([json.loads(text) for text in block["options"]], index=block.index)
        table = pd.concat([block[HYPERPARAMETERS], options], axis=1).astype(object)
        text = table.map(lambda value: "" if is_missing(value) else str(value))
        different = [i for i in range(text.shape[1]) if text.iloc[:, i].nunique() > 1]
        for position, key in enumerate(block.index):
            parts = [
                setting_text(str(text.columns[i]), table.iloc[position, i])
                for i in different
                if text.iloc[position, i]
            ]
            algorithm = str(block["algorithm"].iloc[position])
            names[key] = f"{algorithm} ({', '.join(parts)})" if parts else algorithm
    return names


def setting_text(name: str, value: object) -> str:
    """One setting as it stands in the name of a group."""
    if name == "dataset_fingerprint":
        return f"data {str(value)[:12]}"
    if name == "label_sets":
        return f"{value} label sets"
    return f"{name} = {'all' if is_missing(value) else value}"


def is_missing(value: object) -> bool:
    """Whether a cell is empty."""
    return value is None or value != value


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """A sort key that puts boss:10 after boss:2."""
    parts = re.split(r"(\d+)", text)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)


def variant_order(variant: str) -> tuple[bool, tuple[tuple[int, str], ...]]:
    """A sort key: the supervised baseline, then the alphabet."""
    return (not variant.startswith("supervised"), natural(variant))


def sort_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs in the order of every table: experiment, variant, label set, repeat."""
    keys = [
        (natural(experiment), variant_order(variant), natural(label_set), repeat)
        for experiment, variant, label_set, repeat in zip(
            runs["experiment"], runs["variant"], runs["label_set"], runs["repeat"], strict=True
        )
    ]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return runs.iloc[order].reset_index(drop=True)


def last_step(class_evaluations: pd.DataFrame) -> pd.DataFrame:
    """The rows of the teacher after the last step of each run."""
    teacher = class_evaluations[class_evaluations["network"] == "teacher"]
    last = teacher.groupby("run_id")["step"].transform("max")
    return teacher[teacher["step"] == last]


def check_accuracies(runs: pd.DataFrame, class_evaluations: pd.DataFrame) -> list[str]:
    """A warning if the class accuracies of a run do not add up to its accuracy."""
    last = last_step(class_evaluations)
    right = (last["test_accuracy"].fillna(0) * last["test_count"]).groupby(last["run_id"]).sum()
    share = right / last.groupby("run_id")["test_count"].sum()
    stored = runs.set_index("run_id")["last_accuracy"]
    wrong = (share.reindex(stored.index) - stored).abs() > 1e-6
    if not wrong.any():
        return []
    names = ", ".join(stored.index[wrong][:MAX_NAMED_RUNS])
    return [f"class accuracies do not add up to the accuracy of {int(wrong.sum())} runs: {names}"]


def metrics(results: Results) -> pd.DataFrame:
    """What every run reached, in percent, long: the tables start from this.

    Returns:
        experiment, variant, group, algorithm, label_set, repeat, run_id; metric ("All", "All, best
        on test (oracle)", "mean of classes" or the name of a class), order (0, 1, 2 for the first
        three, 3 + class index for a class) and percent. All but the oracle are of the teacher
        after the last step.
    """
    runs = results.runs
    names = [*GROUP, "group", "algorithm", "label_set", "repeat", "run_id"]
    classes = last_step(results.class_evaluations)
    per_class = classes[names].assign(
        metric=classes["class_name"],
        order=classes["class_index"] + len(AGGREGATES),
        percent=100 * classes["test_accuracy"],
    )
    class_mean = 100 * classes.groupby("run_id")["test_accuracy"].mean()
    columns = {
        ALL: 100 * runs["last_accuracy"],
        ORACLE: 100 * runs["best_test_accuracy"],
        CLASS_MEAN: runs["run_id"].map(class_mean),
    }
    parts = [
        runs[names].assign(metric=name, order=order, percent=percent)
        for order, (name, percent) in enumerate(columns.items())
    ]
    table = pd.concat([*parts, per_class], ignore_index=True)
    position = table["run_id"].map(pd.Series(range(len(runs)), index=runs["run_id"]))
    order = pd.DataFrame({"run": position, "metric": table["order"]}).sort_values(["run", "metric"])
    return table.loc[order.index].reset_index(drop=True)
