"""The rows that are validated, their keys, and rows that are stored more than once."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..naming import is_missing

Reasons = dict[str, str]  # by run_id: why the run is left out
Mask = NDArray[np.bool_]


KEYS = {  # what tells the rows of a table apart
    "runs": ["run_id"],
    "evaluations": ["run_id", "step", "network"],
    "class_evaluations": ["run_id", "step", "class_index"],
}


MAX_LETTERS = 40  # of a value in a reason


class Tables(NamedTuple):
    """What is read of a store first. All but the first have run_id as a categorical.

    Attributes:
        class_evaluations: of the teacher only.
    """

    runs: pd.DataFrame
    evaluations: pd.DataFrame
    class_evaluations: pd.DataFrame


def without(tables: Tables, run_ids: Iterable[str]) -> Tables:
    """The rows of all other runs."""
    gone = list(run_ids)
    return Tables(*(without_runs(table, gone) for table in tables)) if gone else tables


def without_runs(table: pd.DataFrame, run_ids: list[str]) -> pd.DataFrame:
    """The rows of a table that are of other runs, their categories in the order of occurrence."""
    rows = table[~table["run_id"].isin(run_ids)].reset_index(drop=True)
    categoricals = rows.select_dtypes("category")
    return rows.assign(
        **{
            str(name): cells.cat.set_categories([*cells.dropna().unique()])
            for name, cells in categoricals.items()
        }
    )


def positions(table: pd.DataFrame, runs: pd.DataFrame) -> NDArray[np.int64]:
    """The position in `runs` of the run of each row; all are there."""
    ids = table["run_id"].cat
    found: NDArray[np.int64] = pd.Index(runs["run_id"]).get_indexer(ids.categories)[ids.codes]
    return found


# Rows stored more than once


def without_repeats(table: pd.DataFrame, name: str) -> tuple[pd.DataFrame, list[str], Reasons]:
    """The rows in the order of their keys, one of each key.

    Returns:
        the rows; the runs some of whose rows are stored more than once; and the reasons against
        those of which rows with one key have different values.
    """
    table = in_order(table, KEYS[name])
    repeated = equal_to_the_row_before(table, KEYS[name])
    if not repeated.any():
        return table, [], {}
    after = np.flatnonzero(repeated)
    pairs = zip(
        table.iloc[after].to_dict("records"), table.iloc[after - 1].to_dict("records"), strict=True
    )
    reasons: Reasons = {}
    twice: dict[str, None] = {}
    for one, other in pairs:
        twice.setdefault(str(one["run_id"]))
        if not all(equal(one[column], other[column]) for column in table.columns):
            reasons[str(one["run_id"])] = f"rows of {name} contradict each other{place(one)}"
    kept = table[~repeated].reset_index(drop=True)
    return kept, [run_id for run_id in twice if run_id not in reasons], reasons


def equal(one: Any, other: Any) -> bool:
    """Whether two cells hold the same, or both nothing."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return (is_missing(one) and is_missing(other)) or bool(one == other)


def in_order(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The rows ordered by the keys: the table itself if they are, as most are in a store."""
    columns = comparable(table, keys)
    tied = np.ones(max(len(table) - 1, 0), dtype=bool)
    for column in columns:
        if (tied & ~(column[1:] >= column[:-1])).any():
            return table.take(np.lexsort(columns[::-1])).reset_index(drop=True)
        tied &= column[1:] == column[:-1]
    return table


def equal_to_the_row_before(table: pd.DataFrame, keys: list[str]) -> Mask:
    """Whether each row has the keys of the row before it."""
    tied = np.ones(len(table), dtype=bool)
    tied[:1] = False
    for column in comparable(table, keys):
        tied[1:] &= column[1:] == column[:-1]
    return tied


def comparable(table: pd.DataFrame, keys: list[str]) -> list[NDArray[Any]]:
    """The keys as arrays; categoricals by the numbers of their categories."""
    return [
        table[key].cat.codes.to_numpy()
        if isinstance(table[key].dtype, pd.CategoricalDtype)
        else table[key].to_numpy()
        for key in keys
    ]


# Reasons


def first(found: Iterable[Reasons]) -> Reasons:
    """Against each run the first reason."""
    reasons: Reasons = {}
    for more in found:
        reasons = more | reasons
    return reasons


def against(
    table: pd.DataFrame, wrong: "Mask | pd.Series[bool]", what: str, column: str | None = None
) -> Reasons:
    """A reason against each run that has a wrong row, and where the first one is.

    Args:
        what: the reason, in which {} stands for the value of `column` in that row.
    """
    wrong = np.asarray(wrong, dtype=bool)
    if not wrong.any():
        return {}
    rows = table[wrong].drop_duplicates("run_id").to_dict("records")
    return {
        str(row["run_id"]): (what if column is None else what.format(shown(row[column])))
        + place(row)
        for row in rows
    }


def place(row: dict[Any, Any]) -> str:
    """Of which evaluation and class a row is, in brackets; nothing for a row of `runs`."""
    if "num_steps" in row or is_missing(row.get("step")):
        return ""
    parts = [f"step {shown(row['step'])}"]
    parts += [str(row["network"])] if "network" in row else []
    parts += [] if is_missing(row.get("class_index")) else [f"class {shown(row['class_index'])}"]
    return f" ({', '.join(parts)})"


def shown(value: object) -> str:
    """A value in a reason: short, on one line.

    >>> shown(1048576.0), shown(7.5), shown("<b>")
    ('1048576', '7.5', "'<b>'")
    """
    if isinstance(value, int | float | np.number):
        number = float(value)
        text = str(int(number)) if number.is_integer() else f"{number:g}"
    else:
        text = repr(str(value))
    return text if len(text) <= MAX_LETTERS else f"{text[:MAX_LETTERS]}..."
