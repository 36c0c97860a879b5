"""How runs are grouped and named.

Runs are averaged only within a group: equal in every setting but the label set and the repeat, and
so are the runs that selected images for them (self-training). Two texts name a group wherever it is
shown: its `experiment` (budget, data, network, schedule, kind of label sets: comparing across these
makes no sense) and within that its `variant` (the method, what it started from, and the
hyperparameters in which it differs from a variant that has the same name otherwise; of three or
more such hyperparameters, those in which it departs from the most frequent value).

What profited from hidden labels carries the mark "(oracle)" in its name: the variant if the
selected images did, the label set if its choice did. So no table or figure shows it without.
"""

import collections
import dataclasses
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

from boss.study import run as settings_of_runs
from boss.study.catalog import ALGORITHMS
from boss.study.methods import method_name
from boss.study.run import BY_GRAPH, RANKED, Run

HYPERPARAMETERS = [*settings_of_runs.HYPERPARAMETERS]  # pandas takes a list for columns

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


START = ["start", "embedding", "num_start", "encoder", "embedding_seed"]


PICKING = ["round", "picks_per_class", "pick_labels", "rank_by"]


SETTINGS = [
    *(*EXPERIMENT, *EXPERIMENT_IF_DIFFERENT, "algorithm", *HYPERPARAMETERS, "options"),
    *(*START, *PICKING),
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


def describe(runs: pd.DataFrame) -> pd.DataFrame:
    """Name every run. Runs that selected images for others must be among them.

    Returns:
        The runs with the label sets marked that are oracles, and:
        departures: in how many settings it departs from FixMatch as published, see `departures`.
        method: "fixmatch", "boss-4", ...
        label_set_size: number of labeled images without selected ones.
        family: kind of label set, of which several are alike: "random splits".
        is_full: supervised on the whole training set.
        is_oracle: hidden labels influenced its selected images, or those of an ancestor.
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
        the number of hyperparameters that differ, 100 for each option of the algorithm, and 1,000
        for a start from an embedding: of
        several variants of a method the one with the fewest is what others are compared with.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(Run)}
    found = []
    columns = ["algorithm", "options", *HYPERPARAMETERS, *START]
    for row in runs[columns].to_dict("records"):
        usual = ALGORITHMS[row["algorithm"]].options if row["algorithm"] in ALGORITHMS else {}
        options = json.loads(row["options"])
        count = sum(row[name] != defaults[name] for name in HYPERPARAMETERS)
        count += 1000 * any(row[name] != defaults[name] for name in START)
        found.append(
            count + 100 * sum(options.get(key, value) != value for key, value in usual.items())
        )
    return found


def mark_label_sets(runs: pd.DataFrame) -> pd.DataFrame:
    """Mark the label sets whose images were chosen with the help of hidden labels.

    In round 0 no selection uses hidden labels: if a run is an oracle then its label set is one.
    """
    keys = pd.Series(list(zip(runs["dataset"], runs["label_set"], strict=True)), index=runs.index)
    marked = set(keys[has_oracle(runs) & (runs["round"] == 0)])
    return runs.assign(
        label_set=[
            f"{label_set}{ORACLE_MARK}" if key in marked else label_set
            for key, label_set in zip(keys, runs["label_set"], strict=True)
        ]
    )


def is_plain(runs: pd.DataFrame) -> "pd.Series[bool]":
    """Whether a run starts from its label set alone, as published ones do: no selected images, no
    encoder."""
    return (runs["round"] == 0) & (runs["start"] == "labels") & (runs["encoder"] == "")


def has_oracle(runs: pd.DataFrame) -> "pd.Series[bool]":
    """Whether a run names hidden labels that it profited from."""
    return runs["oracle"].fillna("").ne("")


def leaks(runs: pd.DataFrame) -> "pd.Series[bool]":
    """Whether hidden labels influenced the selected images of a run or of an ancestor."""
    own = (runs["pick_labels"] != "pseudo") | (runs["rank_by"] == "best_test")
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
        parents = {key: settings.loc[key] for key in generation["parent_group"].dropna()}
        base = pd.Series(
            [
                (*ancestry(row, chains), step(row, parents.get(row["parent_group"])))
                for _, row in generation.iterrows()
            ],
            index=generation.index,
            dtype=object,
        )
        for _, block in generation.groupby([scopes[generation.index], base], sort=False):
            for key, difference in zip(block.index, differences(block), strict=True):
                chains[key] = (*base[key][:-1], base[key][-1] + difference)
    return pd.Series([chains[key] for key in settings.index], index=settings.index, dtype=object)


def ancestry(row: "pd.Series[Any]", chains: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """What a row of settings started from, () in round 0."""
    if row["round"] == 0:
        return ()
    if is_missing(row["parent_group"]):
        return ("?" if row["round"] == 1 else f"? of round {row['round'] - 1}",)
    return chains[row["parent_group"]]


def step(row: "pd.Series[Any]", parent: "pd.Series[Any] | None" = None) -> str:
    """The method of a row of settings, and the selected images that it was given.

    Where one encoder, or one embedding, serves throughout, only the first name of a chain has it.
    """
    name = str(row["method"])
    encoder, embedding = row["encoder"], row["embedding"]
    if encoder != ("" if parent is None else parent["encoder"]):
        name += f" from {short_embedding(row, encoder) or 'random weights'}"
    if row["start"] == "propagation":
        name += f" +{row['num_start']} by "
        names = embedding.split("+")
        if encoder and encoder in names:
            others = [other for other in names if other != encoder]
            name += " with ".join(filter(None, ["propagation", "+".join(others)]))
            name += " first" * (names[0] != encoder)
        else:
            name += short_embedding(row, embedding)
    seed = row["embedding_seed"]
    if seed != (0 if parent is None else parent["embedding_seed"]):
        name += f" (embedding {seed})"
    if row["round"] == 0:
        return name
    parts = [name, f"+{row['picks_per_class']}"]
    parts += ["true labels"] * (row["pick_labels"] == "true")
    parts.append(RANKED[row["rank_by"]])
    if row["rank_by"] in BY_GRAPH and embedding != ("" if parent is None else parent["embedding"]):
        parts.append(f"with {short_embedding(row, embedding)}" if embedding else "by itself")
    if parent is not None:
        moved = [setting_text(c, row[c]) for c in PLACE if str(row[c]) != str(parent[c])]
        parts.append(f"({', '.join(moved)})" if moved else "")
    return " ".join(filter(None, parts))


def short_embedding(row: "pd.Series[Any]", embedding: str) -> str:
    """An embedding, without the network of its encoder if it is that of the row of settings."""
    names = embedding.split("+")
    return "+".join(name.removesuffix(f"@{row['network']}") for name in names)


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
