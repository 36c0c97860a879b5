"""Damage to the parts of a store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from boss.results.schema import TABLES

Change = Callable[[pd.DataFrame], pd.DataFrame]


def edit(folder: Path, table: str, run_id: str, change: Change) -> None:
    """Change the rows of a run in a table of the study in this folder.

    Args:
        change: of its rows, as objects with the index 0, 1, ...; None is a gap, nan is none.
    """
    path = part_of(folder, table, run_id)
    rows = pq.read_table(path, partitioning=None).to_pylist()
    others = [row for row in rows if row["run_id"] != run_id]
    own = [row for row in rows if row["run_id"] == run_id]
    changed = change(pd.DataFrame(own, dtype=object)).to_dict("records")
    pq.write_table(pa.Table.from_pylist([*others, *changed], TABLES[table]), path)


def part_of(folder: Path, table: str, run_id: str) -> Path:
    """The file that has the rows of a run."""
    own = folder / table / f"{run_id}.parquet"
    return own if own.exists() else folder / table / "published.parquet"


def with_cell(column: str, value: Any, **where: Any) -> Change:
    """Another value in a column of the rows with these values."""

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        rows.loc[matching(rows, where), column] = value
        return rows

    return change


def without_rows(**where: Any) -> Change:
    """No rows with these values."""
    return lambda rows: rows[~matching(rows, where)]


def matching(rows: pd.DataFrame, where: dict[str, Any]) -> "pd.Series[bool]":
    """Whether each row has these values; a negative step counts from the last."""
    found = pd.Series(True, index=rows.index)
    for name, value in where.items():
        if name == "step":
            value = sorted(rows["step"].unique())[value]
        found &= rows[name] == value
    return found
