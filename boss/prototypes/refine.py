"""Prototype refining: a failed class gets the labeled image of a label set in which it did well.

BOSS (Smith and Conovaloff 2020, arXiv 2006.09363) refines a label set after its runs: a class of
low accuracy gets the prototype of another label set in which that class did well. The authors made
their sets 6 and 7 from sets 2 and 4 in this way. Their rule reads class accuracies on the TEST set.
Here that is a diagnostic (`rule="test-accuracy"`), whose label sets are marked as oracles. The
default rule reads only predictions on the training images and no hidden labels.

Reads the stored results of a study only: needs no network, no data set and no torch.

Dimensions: N training images, K classes, R repeats of a label set.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from boss.errors import InputError, choose
from boss.results.read import Store
from boss.study.methods import method_name
from boss.study.run import Run

RULES = {
    "label-free": "agreement between repeats, balance and confidence on the unlabeled images",
    "test-accuracy": "class accuracy on the test set: an oracle",
}
MAX_LABELS = 1000  # larger label sets are not prototypes
ORACLE = "prototypes refined by class accuracies on the test set"


@dataclass(frozen=True)
class Refined:
    """A label set made from others.

    Attributes:
        dataset, fingerprint: the data set of the runs, and the fingerprint of both its parts.
        base: the label set that was refined.
        sources: the label set that each class comes from (K,).
        indices, labels: the labeled images, ordered by class.
        scores: per label set (rows) and class (columns), in [0, 1].
        oracle: empty, or which hidden labels the rule read.
    """

    dataset: str
    fingerprint: str
    base: str
    sources: tuple[str, ...]
    indices: tuple[int, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    scores: pd.DataFrame
    rule: str
    oracle: str

    def lines(self) -> list[str]:
        """Lines for a person: which classes were replaced."""
        scores = {
            str(name): row
            for name, row in zip(self.scores.index, self.scores.to_numpy(dtype=float), strict=True)
        }
        own = scores[self.base]
        lines = [f"base: {self.base}, mean score {own.mean():.2f}"]
        for k, (name, source) in enumerate(zip(self.class_names, self.sources, strict=True)):
            if source != self.base:
                lines.append(
                    f"{name}: score {own[k]:.2f} -> {scores[source][k]:.2f}, from {source}"
                )
        return lines if len(lines) > 1 else [*lines, "no class failed: nothing is replaced"]


def refine(
    store: Store,
    *,
    method: str = "fixmatch",
    rule: str = "label-free",
    base: str | None = None,
    failed_below: float = 0.5,
    budget: str | None = None,
    label_sets: Sequence[str] = (),
    leave_out: Sequence[str] = (),
) -> Refined:
    """Replace the prototypes of the failed classes of a label set by those of others.

    A class has failed if its score is below `failed_below`. It gets the labeled images of the label
    set in which its score is highest, if that score is higher.

    Args:
        store: of a study whose runs of round 0 trained several label sets.
        method: which runs to read, by `Run.method`: "fixmatch", "boss-4", ...
        rule: what a score is, a key of RULES; see `label_free_scores`.
        base: the label set to refine; the one of the highest mean score if None.
        budget: of the runs; needed if the study was run at several.
        label_sets: those to choose from; all that were run if empty, but for those in leave_out.

    Raises:
        InputError: no such runs or label set, fewer than two label sets, runs that cannot be
            compared, or predictions that are missing.
    """
    choose(rule, dict.fromkeys(RULES), what="rule")
    if not 0 <= failed_below <= 1:
        raise InputError(f"failed_below must lie in [0, 1], not {failed_below}")
    runs = comparable_runs(
        store, method=method, budget=budget, label_sets=label_sets, leave_out=leave_out
    )
    images = store.read("labeled_images", runs["run_id"])
    names = class_names_of(store, runs)
    if rule == "label-free":
        scores = label_free_scores(store, runs, names)
    else:
        scores = oracle_scores(store, runs, names)
    if base is None:
        base = str(scores.mean(axis=1).idxmax())
    choose(base, dict.fromkeys(scores.index), what="base")

    values = scores.to_numpy(dtype=float)  # (label sets, K)
    own = values[list(scores.index).index(base)]  # (K,)
    best = values.argmax(axis=0)  # (K,)
    better = (own < failed_below) & (values.max(axis=0) > own)
    sources = [
        str(scores.index[best[k]]) if replaced else base for k, replaced in enumerate(better)
    ]
    indices, labels = _images_of(sources, runs, images, names)
    oracles = runs.loc[runs["label_set"].isin(sources), "oracle"].dropna().unique().tolist()
    return Refined(
        dataset=str(runs["dataset"].iloc[0]),
        fingerprint=str(runs["dataset_fingerprint"].iloc[0]),
        base=base,
        sources=tuple(sources),
        indices=tuple(indices),
        labels=tuple(labels),
        class_names=names,
        scores=scores,
        rule=rule,
        # A label set made from oracles is one.
        oracle="; ".join(dict.fromkeys([ORACLE] * (rule == "test-accuracy") + oracles)),
    )


def _images_of(
    sources: Sequence[str], runs: pd.DataFrame, images: pd.DataFrame, class_names: tuple[str, ...]
) -> tuple[list[int], list[int]]:
    """The labeled images of each class in its source (K,), and their classes."""
    indices: list[int] = []
    labels: list[int] = []
    for label, source in enumerate(sources):
        first = runs.loc[runs["label_set"] == source, "run_id"].iloc[0]
        mine = images[(images["run_id"] == first) & ~images["is_pick"]]
        found = mine.loc[mine["label"] == label].sort_values("position")["image_index"].tolist()
        if not found:
            raise InputError(f"label set {source} has no image of class {class_names[label]}")
        if set(found) & set(indices):
            raise InputError(
                f"an image of {class_names[label]} in {source} has another class elsewhere"
            )
        indices += found
        labels += [label] * len(found)
    return indices, labels


def label_free_scores(
    store: Store, runs: pd.DataFrame, class_names: tuple[str, ...]
) -> pd.DataFrame:
    """How well each class of each label set was learned, judged by unlabeled images.

    The geometric mean of three numbers in [0, 1], computed from the predictions of the last
    teachers on the training images; S_r is the set of images that repeat r predicts as the class:

        agreement   mean over pairs of repeats of |S_r and S_q| / |S_r or S_q|; left out if R = 1
        balance     mean over repeats of min(|S_r| K / N, N / (|S_r| K)): classes are expected to be
                    equally frequent
        confidence  mean over repeats of the mean confidence over S_r

    An empty S_r counts as 0 in each.

    Args:
        runs: rows of the store, one per label set and repeat.

    Returns:
        One row per label set, one column per class name.
    """
    predictions = store.read("predictions", runs["run_id"])
    predictions = predictions[predictions["network"] == "last"]
    by_run = {str(run_id): table for run_id, table in predictions.groupby("run_id")}
    missing = runs[~runs["run_id"].isin(by_run.keys())]
    if len(missing):
        run = missing.iloc[0]
        raise InputError(
            f"the predictions of {len(missing)} runs are missing in {store.folder}"
            f" ({run['label_set']} #{run['repeat']}, for one): train them again, or publish"
            " them with --predictions last from where they are"
        )
    rows: dict[str, list[float]] = {}
    for label_set, group in runs.groupby("label_set", sort=False):
        tables = [by_run[run_id] for run_id in group["run_id"]]
        rows[str(label_set)] = [
            class_score(tables, k, len(class_names)) for k in range(len(class_names))
        ]
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(class_names))


def class_score(tables: list[pd.DataFrame], label: int, num_classes: int) -> float:
    """The score of one class, see `label_free_scores`.

    Args:
        tables: the predictions of each repeat on the same images, with the columns image_index,
            guess (the predicted class) and doubt (1 - confidence).
    """
    mine = [table[table["guess"] == label] for table in tables]
    sets = [set(table["image_index"]) for table in mine]
    shares = [
        len(found) * num_classes / len(table) for found, table in zip(mine, tables, strict=True)
    ]
    balance = [min(share, 1 / share) if share else 0.0 for share in shares]
    confidence = [1 - table["doubt"].mean() if len(table) else 0.0 for table in mine]
    parts = [float(np.mean(balance)), float(np.mean(confidence))]
    if len(tables) > 1:
        overlaps = [
            len(one & other) / len(one | other) if one | other else 0.0
            for one, other in itertools.combinations(sets, 2)
        ]
        parts.append(float(np.mean(overlaps)))
    return float(np.prod(parts) ** (1 / len(parts)))


def oracle_scores(store: Store, runs: pd.DataFrame, class_names: tuple[str, ...]) -> pd.DataFrame:
    """Mean over repeats of the last teacher's class accuracies on the TEST set: an oracle.

    Returns:
        As `label_free_scores`.
    """
    table = store.read("class_evaluations", runs["run_id"])
    table = table[table["network"] == "teacher"]
    table = table[table["step"] == table.groupby("run_id")["step"].transform("max")]
    table = table.merge(runs[["run_id", "label_set"]], on="run_id")
    wide = table.pivot_table(index="label_set", columns="class_index", values="test_accuracy")
    wide = wide.loc[list(runs["label_set"].unique()), list(range(len(class_names)))]
    return pd.DataFrame(wide.to_numpy(), index=wide.index, columns=list(class_names))


def comparable_runs(
    store: Store,
    *,
    method: str,
    budget: str | None,
    label_sets: Sequence[str],
    leave_out: Sequence[str] = (),
) -> pd.DataFrame:
    """The runs of round 0 of a method, one row each, that differ in label set and repeat only.

    Raises:
        InputError: there are none, they differ in something else, or there is one label set only.
    """
    runs = store.finished()
    runs = runs[(runs["round"] == 0) & (runs["num_labels"] < MAX_LABELS)]
    methods = [
        method_name(algorithm, json.loads(options))
        for algorithm, options in zip(runs["algorithm"], runs["options"], strict=True)
    ]
    if not methods:
        raise InputError(f"no finished run in {store.folder}")
    choose(method, dict.fromkeys(sorted(set(methods))), what=f"method in {store.folder}")
    runs = runs[np.array(methods) == method]
    if budget is not None:
        choose(budget, dict.fromkeys(runs["budget"].unique()), what="budget with results")
        runs = runs[runs["budget"] == budget]
    for name in label_sets:
        choose(name, dict.fromkeys(runs["label_set"].unique()), what="label set with results")
    if label_sets:
        runs = runs[runs["label_set"].isin(label_sets)]
    else:
        runs = runs[~runs["label_set"].isin(leave_out)]
    own = {"label_set", "repeat", "parent", "picks_per_class", "pick_labels", "rank_by"}
    settings = [f.name for f in fields(Run) if f.name not in own and f.name in runs]
    for name in ["dataset_fingerprint", *settings]:
        values = runs[name].drop_duplicates().tolist()
        if len(values) > 1:
            raise InputError(
                f"runs of {method} in {store.folder} differ in {name}:"
                f" {', '.join(map(str, values))}: choose with --budget or --label-set"
            )
    if runs["label_set"].nunique() < 2:
        raise InputError(f"refining needs runs of {method} on two label sets or more")
    ordered: pd.DataFrame = runs.sort_values(["label_set", "repeat"], kind="stable")
    # Agreement falls with the number of repeats: compare the same repeats of every label set.
    repeats = set.intersection(*(set(r) for _, r in ordered.groupby("label_set")["repeat"]))
    if not repeats:
        raise InputError(f"no repeat of {method} has finished on every label set: use --label-set")
    return ordered[ordered["repeat"].isin(repeats)].reset_index(drop=True)


def class_names_of(store: Store, runs: pd.DataFrame) -> tuple[str, ...]:
    """The names of the classes, in order."""
    table = store.read("class_evaluations", runs["run_id"].iloc[:1])
    names = table.drop_duplicates("class_index").sort_values("class_index")["class_name"]
    return tuple(str(name) for name in names)
