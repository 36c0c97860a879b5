"""Each value by itself: there if it must be, and where its column says."""

import json
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boss.errors import ends
from boss.results.schema import BOOL, EMPTY, INT, REQUIRED, TABLES, intervals
from boss.study.run import SETTINGS

from .tables import Mask, Reasons, against

CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "runs": {name: found.choices for name, found in SETTINGS.items() if found.choices},
    "evaluations": {"network": ("teacher", "student")},
}


JSON_COLUMNS = ("options", "versions")


def wrong_values(table: pd.DataFrame, name: str) -> Iterator[Reasons]:
    """Values that are missing where each row has one, infinite, or where their column has none.

    Args:
        name: of the table.
    """
    choices, bounds = CHOICES.get(name, {}), intervals(name)
    for column in required(table, name):
        yield against(table, table[column].isna(), f"{column} is missing")
    for column in map(str, table.columns):
        cells = table[column]
        if cells.dtype.kind in "iuf":
            interval = bounds.get(column, "")
            wrong = ~lies_in(cells.to_numpy(dtype=float), interval)
            wanted = f"not in {interval}" if interval else "not finite"
        elif column in choices:
            wrong = ~cells.isin(choices[column]).to_numpy()
            wanted = f"none of {', '.join(choices[column])}"
        else:
            continue
        wrong &= cells.notna().to_numpy()
        yield against(table, wrong, f"{column} is {{}}, {wanted}", column)


def required(table: pd.DataFrame, name: str) -> list[str]:
    """The columns of a table in which every row has a value."""
    names = {*REQUIRED[name], *(EMPTY if name == "runs" else ())}
    return [column for column in table.columns if column in names]


def lies_in(values: NDArray[np.float64], interval: str) -> Mask:
    """Whether each value is finite and lies in the interval (`boss.errors.check_interval`).

    >>> lies_in(np.array([0.0, 1.0, 7.5, np.inf, np.nan]), "(0, inf)").tolist()
    [False, True, True, False, False]
    """
    inside = np.isfinite(values)
    if interval:
        low, high = ends(interval)
        inside &= values >= low if interval.startswith("[") else values > low
        inside &= values <= high if interval.endswith("]") else values < high
    return inside


def wrong_texts(runs: pd.DataFrame) -> Iterator[Reasons]:
    """Options and versions that are no JSON objects of plain values."""
    for column in JSON_COLUMNS:
        texts = runs[column]
        known = {text: is_plain_object(text) for text in texts.dropna().unique()}
        wrong = ~texts.map(known).fillna(True).astype(bool)
        yield against(runs, wrong, f"{column} is {{}}, no JSON object", column)


def is_plain_object(text: str) -> bool:
    """Whether a text is a JSON object of texts, finite numbers, true, false and null.

    >>> is_plain_object('{"a": 0.95}'), is_plain_object("[1]"), is_plain_object('{"a": NaN}')
    (True, False, False)
    """
    try:
        values = json.loads(text).values()
    except (ValueError, AttributeError, RecursionError):
        return False
    return all(
        value is None
        or isinstance(value, str)
        or (isinstance(value, int | float) and math.isfinite(value))
        for value in values
    )


def restored(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Columns in which every row has a value, in the types they have without gaps."""
    kinds = {}
    for column in required(table, name):
        kind, dtype = TABLES[name].field(column).type, table[column].dtype.kind
        if (kind == INT and dtype != "i") or (kind == BOOL and dtype != "b"):
            kinds[column] = "int64" if kind == INT else "bool"
    return table.astype(kinds) if kinds else table
