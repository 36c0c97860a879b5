"""Classes that collapse: when, whether they recover, and which class takes their images.

One-shot runs are uneven in their classes: a class works, or its images are taken for another's.
Accuracies are the teacher's on the test images of the class.
"""

import math

import numpy as np
import pandas as pd

from ..load import Results, class_curves, last_step, unreadable
from ..naming import GROUP
from ..page.parts import Part, Table, Text
from ..tables import column, number, without_constant

COLLAPSED = 10  # percent: what guessing among ten classes reaches
NEVER, FELL, RECOVERED, WORKS = "never learned", "collapsed", "recovered", "works"
RULE = (
    f"Low: below {COLLAPSED}% of the test images of the class. Never learned: low at every "
    "evaluation. Collapsed: low at the last evaluation but not at every one; since the first "
    "evaluation from which on it is always low. Recovered: fell below that level after it had "
    "reached it, and is not low at the last evaluation; since the first evaluation from which on "
    "it is never low."
)


def collapses(found: Results) -> pd.DataFrame:
    """What became of each class of each run.

    Returns:
        per run and class: state, one of never learned, collapsed, recovered and works (`RULE`);
        percent after the last step; labeled images seen: fell_images, at the first evaluation of
        the last collapse (collapsed) or of the first (recovered), and recovered_images; NaN where
        there is none.
    """
    curves = class_curves(found)
    columns = ["run_id", "class_index", "step", "images_seen", "test_accuracy"]
    curves = curves[columns].assign(is_low=curves["test_accuracy"] < COLLAPSED / 100)
    keys = ["run_id", "class_index"]
    which = curves.groupby(keys, sort=False, observed=True).ngroup()  # class of a run

    def of_class(rows: "pd.Series[bool]", name: str, how: str) -> "pd.Series[float]":
        """A number of each class over some of its rows, NaN without any; in the rows of all."""
        return which.map(curves.loc[rows, name].groupby(which[rows]).agg(how)).astype(float)

    step, is_low = curves["step"], curves["is_low"]
    first_high = of_class(~is_low, "step", "min")
    last_high = of_class(~is_low, "step", "max")
    low_again = is_low & (step > first_high)
    last_low = of_class(low_again, "step", "max")
    table = curves.assign(
        never=first_high.isna(),
        fell_at_last=of_class(step > last_high, "images_seen", "min"),
        fell_first=of_class(low_again, "images_seen", "min"),
        recovered_images=of_class(step > last_low, "images_seen", "min"),
    )
    last = table[step == of_class(step.notna(), "step", "max")]
    state = np.select(
        [last["never"], last["is_low"], last["fell_first"].notna()],
        [NEVER, FELL, RECOVERED],
        WORKS,
    )
    is_fallen = state == FELL
    is_back = state == RECOVERED
    fell = np.where(is_fallen, last["fell_at_last"], last["fell_first"])
    result = pd.DataFrame(
        {
            "run_id": last["run_id"].astype(str),
            "class_index": last["class_index"],
            "state": state,
            "percent": 100 * last["test_accuracy"],
            "fell_images": np.where(is_fallen | is_back, fell, math.nan),
            "recovered_images": last["recovered_images"].where(is_back),
        }
    )
    names = found.runs[["run_id", *GROUP, "label_set", "repeat"]]
    ends = last_step(found.class_evaluations)[["run_id", "class_index", "class_name"]]
    ends = ends.astype({"run_id": str, "class_name": str})
    joined = names.merge(ends, on="run_id").merge(result, on=keys)
    columns = [*GROUP, "label_set", "repeat", "run_id", "class_index", "class_name"]
    return joined[[*columns, "state", "percent", "fell_images", "recovered_images"]]


def takers(found: Results, table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of `collapses` with the class that took most images of each low class.

    Returns:
        taken_by: its name, "" if it is not stored; taken_percent: of all test images of the low
        class. And a warning of every part that is damaged.
    """
    low = table["state"].isin((NEVER, FELL))
    names = ["run_id", "class_index", "test_count", "confused_with", "confused_count"]
    known = set(found.store.unreadable)
    rows = found.store.read(
        "class_evaluations",
        table.loc[low, "run_id"].unique(),
        columns=["step", *names],
        where={"network": "teacher"},
        only_last=True,
        with_gaps=True,
    )
    warnings = unreadable(found.store, known)
    rows = rows[names].drop_duplicates(["run_id", "class_index"])
    rows = table.loc[low, ["run_id", "class_index"]].merge(rows, on=["run_id", "class_index"])
    class_names = table[["run_id", "class_index", "class_name"]].rename(
        columns={"class_index": "confused_with", "class_name": "taken_by"}
    )
    rows = rows.merge(class_names.astype({"confused_with": "float"}), how="left",
                      on=["run_id", "confused_with"])  # fmt: skip
    share = 100 * rows["confused_count"].astype(float) / rows["test_count"].astype(float)
    rows = rows.assign(taken_percent=share.where(rows["taken_by"].notna()))
    merged = table.merge(
        rows[["run_id", "class_index", "taken_by", "taken_percent"]],
        how="left",
        on=["run_id", "class_index"],
    )
    return merged.assign(taken_by=merged["taken_by"].fillna("")), warnings


def by_class(table: pd.DataFrame) -> pd.DataFrame:
    """How often each class collapses.

    Args:
        table: `collapses`.

    Returns:
        per group and class: num_runs, and of these num_never, num_collapsed and num_recovered;
        medians over the runs that did: fell_images (of those that collapsed) and recovered_images.
    """
    rows = []
    names = [*GROUP, "class_index", "class_name"]
    for keys, group in table.groupby(names, sort=False):
        row: dict[str, object] = dict(zip(names, keys, strict=True)) | {"num_runs": len(group)}
        for state, name in ((NEVER, "never"), (FELL, "collapsed"), (RECOVERED, "recovered")):
            row |= {f"num_{name}": int((group["state"] == state).sum())}
        row |= {"fell_images": group.loc[group["state"] == FELL, "fell_images"].median()}
        rows.append(row | {"recovered_images": group["recovered_images"].median()})
    return pd.DataFrame(rows)


def by_class_text(numbers: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """One row per group and class that was low in any run.

    Args:
        numbers: `by_class` of the table.
        table: `takers`.
    """
    names = [*GROUP, "class_index"]
    low = table[table["taken_by"] != ""]
    taken: dict[object, str] = {}
    for key, group in low.groupby(names, sort=False):
        by_taker = group.groupby("taken_by", sort=False)["taken_percent"].agg(["size", "mean"])
        by_taker = by_taker.sort_values("size", ascending=False, kind="stable")
        taken[key] = ", ".join(
            f"{name} ({size} x {number(mean, 0)}%)" for name, size, mean in by_taker.itertuples()
        )
    kept = numbers[numbers[["num_never", "num_collapsed", "num_recovered"]].any(axis=1)]
    text = kept[[*GROUP]].copy()
    text["class"] = kept["class_name"]
    text["runs"] = kept["num_runs"]
    text[NEVER] = kept["num_never"]
    text[FELL] = kept["num_collapsed"]
    text["since images"] = column(kept, images, "fell_images")
    text[RECOVERED] = kept["num_recovered"]
    text["after images"] = column(kept, images, "recovered_images")
    keys = kept[names].itertuples(index=False, name=None)
    text["taken by"] = [taken.get(key, "-") for key in keys]
    return without_constant(text.reset_index(drop=True))


def images(count: float) -> str:
    """A number of images, - if there is none."""
    return "-" if math.isnan(count) else f"{count:,.0f}"


def parts(found: Results) -> tuple[list[Part], list[str]]:
    """The table, and warnings of parts that are damaged."""
    table = collapses(found)
    if (table["state"] == WORKS).all():
        return [Text(f"No class of any run is or was below {COLLAPSED}% after it was learned.")], []
    table, warnings = takers(found, table)
    numbers = by_class(table)
    return [
        Table(
            "collapsed_classes",
            "Classes that collapse",
            f"Runs by what became of the class. {RULE} Images: labeled images seen, median over "
            "these runs. Taken by: the class that most of the misclassified images of a class "
            "that ends low are taken for, in how many runs, and which share of all test images of "
            "the low class that is, on average over these runs (-: none, or not stored).",
            table[table["state"] != WORKS],
            by_class_text(numbers, table),
        )
    ], warnings
