"""Rows of `class_evaluations`, of the teacher: every class once, adding up to the accuracy of all.

A block is the rows of one run after one step, one for each of K classes. The tables have the order
of their keys.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .evaluations import TOLERANCE
from .tables import Mask, Reasons, against, equal_to_the_row_before, positions

Integers = NDArray[np.int64]


class Blocks(NamedTuple):
    """Where the blocks of a table are."""

    start: Integers  # first row, by block
    size: Integers  # number of rows, by block
    run: Integers  # position of its run, by block
    of_row: Integers  # block, by row


def blocks_of(table: pd.DataFrame, runs: pd.DataFrame) -> Blocks:
    """The blocks of a table."""
    is_first = ~equal_to_the_row_before(table, ["run_id", "step"])
    start = np.flatnonzero(is_first)
    size = np.diff(start, append=len(table))
    return Blocks(start, size, positions(table, runs)[start], np.cumsum(is_first) - 1)


def missing_classes(
    runs: pd.DataFrame, evaluations: pd.DataFrame, table: pd.DataFrame
) -> Iterator[Reasons]:
    """Blocks that lack a class, and evaluations of the teacher without a block, or the reverse."""
    block = blocks_of(table, runs)
    heads = table[["run_id", "step"]].iloc[block.start]
    # The classes of a complete block are 0, 1, ..., in this order.
    place = np.arange(len(table)) - block.start[block.of_row]
    has_gap = np.zeros(len(block.start), dtype=bool)
    has_gap[block.of_row[table["class_index"].to_numpy() != place]] = True
    num_classes = np.array([np.max(classes) + 1 for classes in runs["label_classes"]])
    np.maximum.at(num_classes, block.run, block.size)
    has_gap |= block.size != num_classes[block.run]
    yield against(heads, has_gap, "the row of a class is missing")
    teacher = evaluations[evaluations["network"] == "teacher"]
    evaluated, stored = keys(
        (positions(teacher, runs), teacher["step"].to_numpy()),
        (block.run, heads["step"].to_numpy()),
    )
    yield against(teacher, ~np.isin(evaluated, stored), "the rows of classes are missing")
    yield against(heads, ~np.isin(stored, evaluated), "rows of classes without an evaluation")


def keys(*pairs: tuple[Integers, Integers]) -> list[Integers]:
    """A number for each run and step, the same for the same."""
    steps = np.concatenate([steps for _, steps in pairs])
    known, rank = np.unique(steps, return_inverse=True)
    parts = np.split(rank, np.cumsum([len(steps) for _, steps in pairs])[:-1])
    return [run * len(known) + part for (run, _), part in zip(pairs, parts, strict=True)]


def changed_classes(runs: pd.DataFrame, table: pd.DataFrame) -> Iterator[Reasons]:
    """Names and numbers of test images that change within a run.

    Args:
        table: blocks complete.
    """
    block = blocks_of(table, runs)
    index = table["class_index"].to_numpy()
    last = last_blocks(block, len(runs))
    like = block.start[last[block.run]][block.of_row] + index  # the row of the class in the last
    for column in ("class_name", "test_count"):
        values = comparable(table[column])
        changed = values != values[like]
        yield against(table, changed, f"{column} is not the same after all steps")
    accuracy = table["test_accuracy"].to_numpy()
    yield against(
        table,
        np.isnan(accuracy) & (table["test_count"] != 0).to_numpy(),
        "test_accuracy is missing",
    )


def last_blocks(block: Blocks, num_runs: int) -> Integers:
    """The last block of each run."""
    last = np.zeros(num_runs, dtype=np.int64)
    last[block.run] = np.arange(len(block.run))  # of several values the last one stays
    return last


def comparable(column: "pd.Series[Any]") -> NDArray[Any]:
    """Categories by their numbers; a missing number by one that no count has."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy()
    return column.fillna(-1).to_numpy()


def wrong_sums(
    runs: pd.DataFrame, evaluations: pd.DataFrame, table: pd.DataFrame
) -> Iterator[Reasons]:
    """Class accuracies that do not add up to that of all, and counts that exceed others.

    Args:
        evaluations, table: an evaluation of the teacher for each block and the reverse.
    """
    block = blocks_of(table, runs)
    count = table["test_count"].to_numpy(dtype=float)  # of older rows it may be missing
    right = np.nan_to_num(table["test_accuracy"].to_numpy()) * count
    total = np.add.reduceat(count, block.start)
    with np.errstate(invalid="ignore"):
        share = np.add.reduceat(right, block.start) / total
    teacher = evaluations[evaluations["network"] == "teacher"]
    heads = table[["run_id", "step"]].iloc[block.start]
    evaluated, stored = keys(
        (positions(teacher, runs), teacher["step"].to_numpy()),
        (block.run, heads["step"].to_numpy()),
    )
    order = np.argsort(evaluated)
    accuracy = teacher["test_accuracy"].to_numpy()[order[np.searchsorted(evaluated[order], stored)]]
    wrong = np.abs(share - accuracy) > TOLERANCE
    yield against(heads, wrong, "class accuracies do not add up to the accuracy of all")
    more = (table["pseudo_label_count"] > table["predicted_count"]).to_numpy()
    yield against(table, more, "pseudo_label_count is larger than predicted_count")


def other_classes(runs: pd.DataFrame, table: pd.DataFrame) -> Iterator[Reasons]:
    """Runs whose class names or numbers of test images are not those of most on the same data.

    Args:
        table: the same classes after all steps of a run.
    """
    block = blocks_of(table, runs)
    last = last_blocks(block, len(runs))
    lacks_counts = table["test_count"].isna().to_numpy()[block.start[last]]
    what = {
        "class_name": "class names are not those of most runs on this data",
        "test_count": "test_count is not that of most runs on this data",
    }
    for column, reason in what.items():
        values = comparable(table[column])
        versions = [
            values[start : start + size].tobytes()
            for start, size in zip(block.start[last], block.size[last], strict=True)
        ]
        rows = runs.assign(version=versions)[~(lacks_counts & (column == "test_count"))]
        yield against(rows, unlike_most(rows), reason)


def unlike_most(runs: pd.DataFrame) -> Mask:
    """Whether a run is of another version than most on its data.

    Of versions with equally many runs, that of the run that finished first counts.

    Args:
        runs: with the column version.
    """
    data = ["dataset_fingerprint", "max_eval_images"]
    counts = runs.groupby([*data, "version"], dropna=False)["run_id"].transform("count")
    ranked = runs.assign(count=counts).sort_values(
        ["count", "finished_at", "run_id"], ascending=[False, True, True]
    )
    main = ranked.groupby(data, dropna=False)["version"].transform("first")
    return (main.reindex(runs.index) != runs["version"]).to_numpy()
