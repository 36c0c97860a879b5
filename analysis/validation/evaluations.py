"""Rows of `evaluations`: none missing or beyond the last step, as `runs` sums them up."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from .tables import Reasons, against, positions

# In these all rows of a run have a value or none has: there are no unlabeled images, say, or the
# column came later.
ALL_OR_NONE = {
    "evaluations": ("used_share", "validation_accuracy"),
    "class_evaluations": ("test_count", "predicted_count", "pseudo_label_count"),
}


TOLERANCE = 1e-6  # between accuracies that should be the same number


NUM_LAST = 20  # evaluations of which `median_last_20_accuracy` is the median


def without_rows(runs: pd.DataFrame, table: pd.DataFrame, name: str) -> Reasons:
    """Runs that have no rows in a table."""
    there = table["run_id"].cat.categories
    return against(runs, ~runs["run_id"].isin(there), f"it has no rows in {name}")


def wrong_steps(runs: pd.DataFrame, evaluations: pd.DataFrame) -> Iterator[Reasons]:
    """Evaluations that cannot be or that are missing, the last one above all.

    An earlier evaluation must not pass for the one after the last step.
    """
    run, steps = positions(evaluations, runs), evaluations["step"].to_numpy()
    beyond = steps > runs["num_steps"].to_numpy()[run]
    yield against(evaluations, beyond, "an evaluation is after the last step")
    wrong = evaluations["images_seen"].to_numpy() != steps * runs["batch_size"].to_numpy()[run]
    yield against(evaluations, wrong, "images_seen is {}, not step x batch_size", "images_seen")
    is_teacher = (evaluations["network"] == "teacher").to_numpy()
    last = np.zeros(len(runs), dtype=np.int64)
    np.maximum.at(last, run[is_teacher], steps[is_teacher])
    lacks_last = last < runs["num_steps"].to_numpy()
    missing = "the evaluation after its last step ({}) is missing"
    yield against(runs, lacks_last, missing, "num_steps")
    # boss.training.config.TrainConfig.evaluation_steps
    planned = np.minimum(runs["num_evaluations"], runs["num_steps"])
    of_teacher = np.bincount(run[is_teacher], minlength=len(runs))
    of_student = np.bincount(run[~is_teacher], minlength=len(runs))
    wrong = (of_teacher != planned) | ((of_student != planned) & (of_student > 0))
    yield against(runs, wrong, "its evaluations are not as many as num_evaluations")


def partly_missing(runs: pd.DataFrame, table: pd.DataFrame, name: str) -> Iterator[Reasons]:
    """Runs of which some rows have a value of a column and others have none; and those without
    accuracies on images that were held out."""
    run = positions(table, runs)
    num_rows = np.bincount(run, minlength=len(runs))
    for column in ALL_OR_NONE[name]:
        is_there = table[column].notna().to_numpy()
        num_there = np.bincount(run[is_there], minlength=len(runs))
        wanted = (num_there > 0) | (
            (column == "validation_accuracy") & (runs["num_validation"] > 0)
        )
        partly = wanted & (num_there < num_rows)
        yield against(runs, partly, f"{column} is missing in rows of {name}")


def wrong_summaries(runs: pd.DataFrame, evaluations: pd.DataFrame) -> Iterator[Reasons]:
    """Accuracies in `runs` that are not those of the evaluations that they sum up.

    Args:
        evaluations: complete, in the order of their keys.
    """
    run = positions(evaluations, runs)
    accuracy = evaluations["test_accuracy"].reset_index(drop=True)
    is_teacher = (evaluations["network"] == "teacher").to_numpy()
    teacher = accuracy[is_teacher].groupby(run[is_teacher])
    last_20 = teacher.tail(NUM_LAST)
    stored = {
        "last_accuracy": teacher.last(),
        "median_last_20_accuracy": last_20.groupby(run[last_20.index]).median(),
        "best_test_accuracy": accuracy.groupby(run).max(),
    }
    for column, values in stored.items():  # by the position of the run
        wrong = np.abs(runs[column].to_numpy() - values.to_numpy()) > TOLERANCE
        yield against(runs, wrong, f"{column} is {{}}, not what its evaluations say", column)
