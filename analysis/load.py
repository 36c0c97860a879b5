"""From a store to the DataFrames that the tables and figures start from.

Runs are averaged only within a group: equal in every setting but the label set and the repeat, and
so are the runs that picked images for them (self-training). Two texts name a group wherever it is
shown: its `experiment` (budget, data, network, schedule, kind of label sets: comparing across these
makes no sense) and within that its `variant` (the method, what it started from, and the
hyperparameters in which it differs from a variant that has the same name otherwise; of three or
more such hyperparameters, those in which it departs from the most frequent value).

What profited from hidden labels carries the mark "(oracle)" in its name: the variant if the picks
did, the label set if its choice did. So no table or figure can show it without.
"""

import collections
import dataclasses
import itertools
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boss.errors import InputError
from boss.results.read import Store
from boss.study.catalog import ALGORITHMS
from boss.study.methods import method_name
from boss.study.run import HYPERPARAMETERS as HYPERPARAMETERS
from boss.study.run import Run

# Always part of the name of an experiment; the others are named only where they differ.
EXPERIMENT = ["budget", "dataset", "network"]
EXPERIMENT_IF_DIFFERENT = [
    "dataset_fingerprint",
    "num_images",
    "num_labels",  # of the label set: rounds of self-training stand beside their parents
    "num_validation",
    "max_eval_images",
    "label_sets",  # hand-picked and random ones are different populations
]
MAX_NAMED_SETTINGS = 2  # of more that differ, a name leaves out the most frequent value of each
PICKING = ["round", "picks_per_class", "pick_labels", "rank_by"]
SETTINGS = [
    *(*EXPERIMENT, *EXPERIMENT_IF_DIFFERENT, "algorithm", *HYPERPARAMETERS, "options", *PICKING),
    "parent",  # as a setting: all settings of the parent
]
# In these a run and its parent may differ although both are of one budget and data set.
PLACE = ["dataset_fingerprint", "network", "num_images", "max_eval_images"]
GROUP = ["experiment", "variant"]
# What every table of rows says about the run.
NAMES = [*GROUP, "group", "algorithm", "method", "round", "label_set", "repeat", "run_id"]

ORACLE_MARK = " (oracle)"
RANDOM = "random splits"
# Ends of the names of selections that were made alike: the second candidates, another seed.
ALIKE = r"(-(r|rank|s|seed)\d+)+$"
FAMILIES = {"fixmatch": RANDOM, "boss": "hand-picked", "carlini": "prototypicality buckets"}

# What is measured once per run and stands before the classes in every table.
ALL, ORACLE, CLASS_MEAN = "All", "All, best on test (oracle)", "mean of classes"
AGGREGATES = [ALL, ORACLE, CLASS_MEAN]

KEYS = {  # what tells the rows of a table of the store apart
    "runs": ["run_id"],
    "evaluations": ["run_id", "step", "network"],
    "class_evaluations": ["run_id", "step", "class_index"],
}
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
        warnings: what was left out, one line each.
        store: where the other tables are.
    """

    runs: pd.DataFrame
    evaluations: pd.DataFrame
    class_evaluations: pd.DataFrame
    warnings: list[str]
    store: Store


def load(results: Path, study: str) -> Results:
    """Read the finished runs of a study; what is damaged or incomplete becomes a warning.

    Raises:
        InputError: there is no finished run.
    """
    store = Store(results, study)
    tables = {
        "runs": store.read("runs"),
        "evaluations": store.read(
            "evaluations", columns=COLUMNS["evaluations"], as_categories=True
        ),
        "class_evaluations": store.read(
            "class_evaluations",
            columns=COLUMNS["class_evaluations"],
            where={"network": "teacher"},
            as_categories=True,
        ),
    }
    warnings = [
        f"left out: cannot read {path.relative_to(store.folder)}: {reason}"
        for path, reason in store.unreadable.items()
    ]
    for name, keys in KEYS.items():
        tables[name], more = without_repeated_rows(tables[name], keys, name)
        warnings += more
    runs = tables["runs"]
    whole = runs["run_id"].isin(tables["evaluations"]["run_id"].cat.categories)
    whole &= runs["run_id"].isin(tables["class_evaluations"]["run_id"].cat.categories)
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
    wanted = set(runs.loc[whole, "run_id"])
    runs, more = with_ancestors(runs, wanted)
    warnings += more
    runs = describe(runs)
    runs, more = without_repeated_runs(runs[runs["run_id"].isin(wanted)])
    warnings += more
    runs = sort_runs(runs)
    evaluations = join(tables.pop("evaluations"), runs)
    class_evaluations = join(tables.pop("class_evaluations"), runs)
    warnings += check_accuracies(runs, class_evaluations)
    return Results(runs, evaluations, class_evaluations, warnings, store)


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
    names = [
        f"{r.algorithm} {r.label_set} #{r.repeat} ({r.run_id})"
        for r in kept[kept["run_id"].isin(missing)].itertuples()
    ]
    warning = (
        f"runs whose parent is not in the store, named ? and averaged as if their parents were "
        f"alike: {listed(names)}"
    )
    return kept, [warning]


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


def describe(runs: pd.DataFrame) -> pd.DataFrame:
    """Name every run. All runs that picked images for others are to be among them.

    Returns:
        The runs with the label sets marked that are oracles, and:
        departures: in how many settings it departs from FixMatch as published, see `departures`.
        method: "fixmatch", "boss-4", ...
        label_set_size: number of labeled images without picks.
        family: kind of label set, of which several are alike: "random splits".
        is_full: supervised on the whole training set.
        is_oracle: hidden labels had a say in its picks or in those of a run that it started from.
        group: all settings as JSON. experiment, variant: names.
        scope: the name of the experiment, but for the kind of label sets. In a scope runs of one
        variant differ in nothing but their label sets and repeats.
        step: of the variant, what its own round adds.
    """
    runs = mark_label_sets(runs)
    runs = runs.assign(
        departures=departures(runs),
        method=[
            method_name(algorithm, json.loads(options))
            for algorithm, options in zip(runs["algorithm"], runs["options"], strict=True)
        ],
        label_set_size=runs["num_labels"] - runs["num_picks"],
        family=[
            family(label_set, dataset)
            for label_set, dataset in zip(runs["label_set"], runs["dataset"], strict=True)
        ],
        is_full=is_full(runs),
        max_eval_images=runs["max_eval_images"].astype("Int64"),  # a gap would make it a float
    )
    runs = runs.assign(is_oracle=leaks(runs), group=groups(runs))
    first = runs.drop_duplicates("group").set_index("group")
    first["parent_group"] = first["parent"].map(runs.set_index("run_id")["group"])
    first["num_labels"] = first["label_set_size"]
    first["label_sets"] = label_set_kinds(first["label_set"])
    first["is_oracle"] = runs.groupby("group")["is_oracle"].any()
    scopes = experiment_names(first, is_scope=True)
    chains = variant_chains(first, scopes)
    marks = first["is_oracle"].map({True: ORACLE_MARK, False: ""})
    return runs.assign(
        experiment=runs["group"].map(experiment_names(first)),
        variant=runs["group"].map(chains.map(chain_text) + marks),
        scope=runs["group"].map(scopes),
        step=runs["group"].map(chains.str[-1]),
    )


def departures(runs: pd.DataFrame) -> list[int]:
    """How far each run is from the settings that FixMatch is published with.

    Returns:
        the number of hyperparameters that differ, and 100 for each option of the algorithm: of
        several variants of a method the one with the fewest is what others are compared with.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(Run)}
    found = []
    for row in runs[["algorithm", "options", *HYPERPARAMETERS]].to_dict("records"):
        usual = ALGORITHMS[row["algorithm"]].options if row["algorithm"] in ALGORITHMS else {}
        options = json.loads(row["options"])
        count = sum(row[name] != defaults[name] for name in HYPERPARAMETERS)
        found.append(
            count + 100 * sum(options.get(key, value) != value for key, value in usual.items())
        )
    return found


def mark_label_sets(runs: pd.DataFrame) -> pd.DataFrame:
    """Mark the label sets whose images were chosen with the help of hidden labels.

    A run of round 0 has no picks: if it is an oracle then its label set is one.
    """
    keys = pd.Series(list(zip(runs["dataset"], runs["label_set"], strict=True)), index=runs.index)
    marked = set(keys[has_oracle(runs) & (runs["round"] == 0)])
    return runs.assign(
        label_set=[
            f"{label_set}{ORACLE_MARK}" if key in marked else label_set
            for key, label_set in zip(keys, runs["label_set"], strict=True)
        ]
    )


def has_oracle(runs: pd.DataFrame) -> "pd.Series[bool]":
    """Whether a run names hidden labels that it profited from."""
    return runs["oracle"].fillna("").ne("")


def leaks(runs: pd.DataFrame) -> "pd.Series[bool]":
    """Whether hidden labels had a say in the picks of a run, or of one that it started from."""
    own = (runs["pick_labels"] != "pseudo") | (runs["rank_by"] != "last")
    # What its label set does not account for, an ancestor that is not there must have done.
    own |= has_oracle(runs) & ~runs["label_set"].str.endswith(ORACLE_MARK)
    found: dict[str | None, bool] = {}
    order = runs.assign(own=own).sort_values("round", kind="stable")
    for run_id, parent, is_leaky in zip(
        order["run_id"], order["parent"], order["own"], strict=True
    ):
        found[run_id] = is_leaky or found.get(parent, False)
    return runs["run_id"].map(found).astype(bool)


def is_full(runs: pd.DataFrame) -> "pd.Series[bool]":
    """Whether a run is supervised on the whole training set.

    The size of the training set is not stored; it is taken for the smallest that holds all images
    labeled in any run.
    """
    size = runs["labels"].map(max) + 1
    size = size.groupby(runs["dataset_fingerprint"]).transform("max")
    return (runs["algorithm"] == "supervised") & (runs["num_labels"] == size)


def family(label_set: str, dataset: str) -> str:
    """Label sets of one family differ by chance, or by a number only.

    >>> family("fixmatch:3@10", "digits"), family("select:digits-kmeans-rank2", "digits")
    ('random splits', 'kmeans')
    """
    name, mark = label_set.removesuffix(ORACLE_MARK), ""
    if name != label_set:
        mark = ORACLE_MARK
    kind, _, rest = name.partition(":")
    if kind == "select":
        rest = rest.removeprefix(f"{Path(dataset).stem}-")
        return re.sub(ALIKE, "", rest) + mark
    return FAMILIES.get(kind, name) + mark


def label_set_kinds(label_sets: "pd.Series[str]") -> "pd.Series[str]":
    """What stands before the colon, oracles apart."""
    is_oracle = label_sets.str.endswith(ORACLE_MARK)
    return label_sets.str.split(":").str[0] + is_oracle.map({True: ORACLE_MARK, False: ""})


def groups(runs: pd.DataFrame) -> list[str]:
    """All settings of each run as JSON, for a round of self-training those of its parent, too."""
    keys = runs.assign(
        num_labels=runs["label_set_size"],
        label_sets=label_set_kinds(runs["label_set"]),
        options=runs["options"].map(plain_options),
    )[SETTINGS]
    keys = keys.astype(object).where(keys.notna(), None).assign(run_id=runs["run_id"])
    found: dict[str, list[object]] = {}
    for row in keys.sort_values("round", kind="stable").to_dict("records"):
        run_id, parent = row.pop("run_id"), row.pop("parent")
        found[run_id] = [*row.values(), parent and found.get(parent, "?")]
    return [json.dumps(found[run_id], default=str) for run_id in runs["run_id"]]


def plain_options(text: str) -> str:
    """Options in one spelling: sorted, and 1 as 1.0."""
    return json.dumps(json.loads(text, parse_int=float), sort_keys=True)


def experiment_names(settings: pd.DataFrame, *, is_scope: bool = False) -> "pd.Series[str]":
    """The name of the experiment of each row of settings.

    Args:
        is_scope: leave out the kind of label sets.
    """
    paths = settings["dataset"].unique()
    short = {path: Path(path).stem for path in paths}
    if len(set(short.values())) < len(short):
        short = {path: path for path in paths}
    shown = [c for c in EXPERIMENT_IF_DIFFERENT if settings[c].nunique(dropna=False) > 1]
    if (settings.groupby("dataset")["dataset_fingerprint"].nunique() <= 1).all():
        shown = [c for c in shown if c != "dataset_fingerprint"]  # the name of the data says it
    if settings["label_sets"].str.endswith(ORACLE_MARK).any():
        shown = [*dict.fromkeys([*shown, "label_sets"])]
    if is_scope:
        shown = [c for c in shown if c != "label_sets"]
    names = []
    for row in settings.to_dict("records"):
        parts = [row["budget"], short[row["dataset"]], row["network"]]
        parts += [setting_text(name, row[name]) for name in shown]
        names.append(", ".join(parts))
    return pd.Series(names, index=settings.index, dtype=object)


def variant_chains(settings: pd.DataFrame, scopes: "pd.Series[str]") -> "pd.Series[Any]":
    """A tuple for each row of settings: the method of round 0, then the step of each round.

    Where rows of one scope would have the same name, it says in what they differ.

    Args:
        settings: one row per group, with `parent_group`.
    """
    chains: dict[str, tuple[str, ...]] = {}
    for _, generation in settings.groupby("round", sort=True):
        base = pd.Series(
            [(*ancestry(row, settings, chains), step(row)) for _, row in generation.iterrows()],
            index=generation.index,
            dtype=object,
        )
        for _, block in generation.groupby([scopes[generation.index], base], sort=False):
            for key, difference in zip(block.index, differences(block), strict=True):
                chains[key] = (*base[key][:-1], base[key][-1] + difference)
    return pd.Series([chains[key] for key in settings.index], index=settings.index, dtype=object)


def ancestry(
    row: "pd.Series[Any]", settings: pd.DataFrame, chains: dict[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """What a row of settings started from, () in round 0."""
    if row["round"] == 0:
        return ()
    if is_missing(row["parent_group"]):
        return ("?" if row["round"] == 1 else f"? of round {row['round'] - 1}",)
    parent = settings.loc[row["parent_group"]]
    texts = [(setting_text(c, parent[c]), setting_text(c, row[c])) for c in PLACE]
    other = [theirs for theirs, ours in texts if theirs != ours]
    chain = chains[row["parent_group"]]
    return (*chain[:-1], f"{chain[-1]} ({', '.join(other)})") if other else chain


def step(row: "pd.Series[Any]") -> str:
    """The method of a row of settings, and the picks that it was given."""
    if row["round"] == 0:
        return str(row["method"])
    leaks = " true labels" * (row["pick_labels"] == "true")
    leaks += " best on test" * (row["rank_by"] == "best_test")
    return f"{row['method']} +{row['picks_per_class']}{leaks}"


def differences(block: pd.DataFrame) -> list[str]:
    """What tells rows of settings from each other, in brackets; nothing for a row alone.

    Of more than `MAX_NAMED_SETTINGS` settings that differ, each is named only where it departs from
    its most frequent value, if there is one such value and every row has the setting.
    """
    options = pd.DataFrame([json.loads(text) for text in block["options"]], index=block.index)
    table = pd.concat([block[HYPERPARAMETERS], options], axis=1).astype(object)
    texts = {str(name): value_texts(list(table.iloc[:, i])) for i, name in enumerate(table.columns)}
    different = {name: values for name, values in texts.items() if len(set(values)) > 1}
    is_long = len(different) > MAX_NAMED_SETTINGS
    usual = {name: most_frequent(v) if is_long else None for name, v in different.items()}
    found = []
    for position in range(len(block)):
        parts = [
            f"{name} = {values[position]}"
            for name, values in different.items()
            if values[position] not in ("", usual[name])
        ]
        found.append(f" ({', '.join(parts)})" if parts else "")
    return found


def value_texts(values: list[object]) -> list[str]:
    """Values of a setting as text, "" if missing: short numbers, unless two would look alike."""
    full = ["" if is_missing(value) else str(value) for value in values]
    short = [
        f"{v:g}" if isinstance(v, float) and t else t for v, t in zip(values, full, strict=True)
    ]
    return short if len(set(short)) == len(set(full)) else full


def most_frequent(values: list[str]) -> str | None:
    """The value that is there most often; None if another is as frequent or one is missing.

    >>> most_frequent(["a", "b", "a"]), most_frequent(["a", "b"]), most_frequent(["a", "a", ""])
    ('a', None, None)
    """
    ordered = collections.Counter(values).most_common(2)
    if "" in values or (len(ordered) > 1 and ordered[0][1] == ordered[1][1]):
        return None
    return ordered[0][0]


def chain_text(chain: tuple[str, ...]) -> str:
    """The rounds of self-training in one line, equal ones together.

    >>> chain_text(("boss-4", "fixmatch +40", "fixmatch +40"))
    'boss-4 -> fixmatch +40 x2'
    """
    parts = []
    for text, same in itertools.groupby(chain[1:]):
        count = len(list(same))
        parts.append(f"{text} x{count}" if count > 1 else text)
    return " -> ".join([chain[0], *parts])


def setting_text(name: str, value: object) -> str:
    """One setting as it stands in the name of a group."""
    if name == "dataset_fingerprint":
        return f"data {str(value)[:12]}"
    if name == "label_sets":
        return f"{value} label sets"
    return f"{name} = {'all' if is_missing(value) else value}"


def is_missing(value: object) -> bool:
    """Whether a cell is empty."""
    return value is None or value is pd.NA or value != value


def chain_seconds(runs: pd.DataFrame) -> dict[str, float]:
    """What every run cost by its id: its seconds and those of all runs that it started from.

    A run whose parent is not there costs an unknown time (NaN): less would be a lie.
    """
    found: dict[str, float] = {}
    order = runs.sort_values("round", kind="stable")
    for run_id, parent, seconds in zip(
        order["run_id"], order["parent"], order["seconds"], strict=True
    ):
        found[run_id] = seconds + (0.0 if is_missing(parent) else found.get(parent, math.nan))
    return found


def natural(text: str) -> tuple[tuple[float, str], ...]:
    """A sort key that puts boss:10 after boss:2 and 5e-05 before 0.001."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", text)
    return tuple((float(part), "") if part[:1].isdigit() else (-1.0, part) for part in parts)


def variant_order(variant: str) -> tuple[int, tuple[tuple[float, str], ...]]:
    """A sort key: supervised, fixmatch, then the alphabet."""
    first = [variant.startswith(name) for name in ("supervised", "fixmatch")]
    return (first.index(True) if any(first) else len(first), natural(variant))


def sort_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs in the order of every table: experiment, round, variant, label set, repeat.

    Of the variants of one method, those with the fewest departures come first.
    """
    names = ["experiment", "round", "method", "departures", "variant", "label_set", "repeat"]
    keys = [
        (
            *(natural(experiment), number, variant_order(method), departed),
            *(variant_order(variant), natural(label_set), repeat),
        )
        for experiment, number, method, departed, variant, label_set, repeat in zip(
            *(runs[name] for name in names), strict=True
        )
    ]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return runs.iloc[order].reset_index(drop=True)


def last_step(class_evaluations: pd.DataFrame) -> pd.DataFrame:
    """The rows after the last step of each run."""
    last = class_evaluations.groupby("run_id", observed=True)["step"].transform("max")
    return class_evaluations[class_evaluations["step"] == last]


def check_accuracies(runs: pd.DataFrame, class_evaluations: pd.DataFrame) -> list[str]:
    """A warning if the class accuracies of a run do not add up to its accuracy."""
    last = last_step(class_evaluations)
    right = last["test_accuracy"].fillna(0) * last["test_count"]
    sums = last.assign(right=right).groupby("run_id", observed=True)[["right", "test_count"]].sum()
    share = (sums["right"] / sums["test_count"]).rename(index=str)
    stored = runs.set_index("run_id")["last_accuracy"]
    wrong = (share.reindex(stored.index) - stored).abs() > 1e-6
    if not wrong.any():
        return []
    names = ", ".join(stored.index[wrong][:MAX_NAMED_RUNS])
    return [f"class accuracies do not add up to the accuracy of {int(wrong.sum())} runs: {names}"]


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
    """The images of every label set, without picks, read now: from one run of each.

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
        warnings += [
            f"cannot read {path.relative_to(results.store.folder)}: {reason}"
            for path, reason in results.store.unreadable.items()
            if path not in known
        ]
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
    warnings = [
        f"cannot read {path.relative_to(results.store.folder)}: {reason}"
        for path, reason in results.store.unreadable.items()
        if path not in known
    ]
    rows = rows.drop_duplicates(["run_id", "step", "operation", "parameter", "bin"])
    rows = with_images_seen(join(rows, results.runs), results)
    return rows[rows["images_seen"].notna()].reset_index(drop=True), warnings
