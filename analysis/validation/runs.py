"""Rows of `runs`: what settings and counts imply, and what a run has from its parent."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from ..naming import is_missing
from .tables import Reasons, against

# What a run and its parent have in common (`boss.study.run.Run`).
INHERITED = ("dataset", "label_set", "repeat", "budget", "num_validation")


def contradictions(runs: pd.DataFrame) -> Iterator[Reasons]:
    """Numbers of a row that exclude each other."""
    num_steps = np.ceil(runs["num_images"] / runs["batch_size"])  # boss.study.run.Run.num_steps
    num_listed = runs["labels"].map(len)
    # Older rows list the selected images as well.
    is_own = (num_listed == runs["num_labels"] - runs["num_picks"]) & (num_listed > 0)
    checks = {
        "num_steps is not num_images / batch_size": runs["num_steps"] != num_steps,
        "round and parent contradict each other": (runs["round"] == 0)
        != runs["parent"].map(is_missing),
        "num_picks is larger than num_labels": runs["num_picks"] > runs["num_labels"],
        "num_wrong_picks is larger than num_picks": runs["num_wrong_picks"] > runs["num_picks"],
        "labels are not as many as num_labels": ~is_own & (num_listed != runs["num_labels"]),
        "label_classes are not as many as labels": num_listed != runs["label_classes"].map(len),
        "labels has no number or a negative one": ~are_indices(runs["labels"]),
        "label_classes has no number or a negative one": ~are_indices(runs["label_classes"]),
        "last_accuracy is larger than best_test_accuracy": runs["last_accuracy"]
        > runs["best_test_accuracy"],
    }
    for what, wrong in checks.items():
        yield against(runs, wrong, what)


def are_indices(lists: "pd.Series[Any]") -> "pd.Series[bool]":
    """Whether each list has numbers, none of them missing or negative."""
    return lists.map(lambda numbers: len(numbers) > 0 and bool(np.min(numbers) >= 0)).astype(bool)


def wrong_parents(runs: pd.DataFrame) -> Iterator[Reasons]:
    """Runs that cannot have come from the run that they name, where that one is known."""
    columns = ["round", *INHERITED]
    known = runs.set_index("run_id")[columns]
    children = runs[runs["parent"].isin(known.index)]
    parents = (
        known.loc[children["parent"]].reset_index(drop=True).assign(round=lambda t: t["round"] + 1)
    )
    for column in columns:
        wrong = children[column].to_numpy() != parents[column].to_numpy()
        yield against(children, wrong, f"{column} is {{}}, which its parent rules out", column)
