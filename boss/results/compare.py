"""Whether two results folders hold the same rows: `python -m boss.results.compare A B`.

Every study and table of A is compared with that of B row by row, in the columns that both have;
values must be equal to the last bit (empty equals empty).
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds

from boss.results.read import parts_in
from boss.results.schema import TABLES

# Of a run on the same machine, what may differ from one training of it to the next.
CIRCUMSTANCES = ("seconds", "first_step_seconds", "commit", "finished_at", "versions", "study")


def rows_of(folder: Path) -> pd.DataFrame:
    """The rows of a table, ordered by run; empty without the folder."""
    paths = [str(path) for path in parts_in(folder)]
    if not paths:
        return pd.DataFrame({"run_id": []})
    frame: pd.DataFrame = ds.dataset(paths, format="parquet").to_table().to_pandas()
    return frame.sort_values("run_id", kind="stable", ignore_index=True)


def differences(one: pd.DataFrame, other: pd.DataFrame, ignored: Sequence[str] = ()) -> list[str]:
    """What differs between two tables, a line each."""
    lines = []
    if list(one["run_id"]) != list(other["run_id"]):
        only = set(one["run_id"]) ^ set(other["run_id"])
        return [f"rows of other runs: {len(one)} and {len(other)}, {', '.join(sorted(only)[:5])}"]
    for name in one.columns.intersection(other.columns).difference([*ignored]):
        unequal = [str(a) != str(b) for a, b in zip(one[name], other[name], strict=True)]
        if any(unequal):
            runs = one.loc[unequal, "run_id"].unique()
            lines.append(f"{name}: {sum(unequal)} values of {len(runs)} runs ({runs[0]}, ...)")
    return lines


def main(arguments: Sequence[str]) -> int:
    """Compare two results folders and print what differs; returns 1 if anything does."""
    flags = [word for word in arguments if word.startswith("--")]
    folders = [Path(word) for word in arguments if not word.startswith("--")]
    if len(folders) != 2 or set(flags) - {"--same-machine"}:
        print("usage: python -m boss.results.compare A B [--same-machine]", file=sys.stderr)
        return 2
    ignored = CIRCUMSTANCES if flags else ()
    first, second = folders
    found = 0
    for study in sorted({p.parent.name for folder in folders for p in folder.glob("*/runs")}):
        for table in TABLES:
            one, other = (rows_of(folder / study / table) for folder in (first, second))
            lines = differences(one, other, ignored)
            found += len(lines)
            print(f"{study}/{table}: {len(one):,} rows, {'equal' if not lines else 'DIFFERENT'}")
            for line in lines:
                print(f"    {line}")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
