"""Whether two results folders hold the same rows: `python -m boss.results.compare A B`.

Every study and table is compared row by row, as the package reads it: values must be equal to the
last bit (empty equals empty, nan equals nan).
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from boss.results.read import Store
from boss.results.schema import TABLES

# Of a run on the same machine, what may differ from one training of it to the next.
CIRCUMSTANCES = (
    *("seconds", "processor_seconds", "start_processor_seconds", "first_step_seconds"),
    *("commit", "finished_at", "versions", "study"),
)


def differences(one: pa.Table, other: pa.Table, ignored: Sequence[str] = ()) -> list[str]:
    """What differs between two tables, a line each."""
    runs, theirs = one.column("run_id").to_pylist(), other.column("run_id").to_pylist()
    if runs != theirs:
        only = ", ".join(sorted({*runs} ^ {*theirs})[:5]) or "the same runs"
        return [f"{len(one)} rows and {len(other)} rows; only in one of them: {only}"]
    lines = []
    for name in one.column_names:
        if name in ignored or one.column(name).equals(other.column(name)):
            continue
        pairs = zip(one.column(name).to_pylist(), other.column(name).to_pylist(), strict=True)
        unequal = [run for run, (a, b) in zip(runs, pairs, strict=True) if repr(a) != repr(b)]
        if unequal:
            lines.append(
                f"{name}: {len(unequal)} values of {len({*unequal})} runs, {unequal[0]} ..."
            )
    return lines


def main(arguments: Sequence[str]) -> int:
    """Print what differs; returns 1 if anything does, 2 if there is nothing to compare."""
    flags = [word for word in arguments if word.startswith("--")]
    folders = [Path(word) for word in arguments if not word.startswith("--")]
    if len(folders) != 2 or set(flags) - {"--same-machine"}:
        print("usage: python -m boss.results.compare A B [--same-machine]", file=sys.stderr)
        return 2
    ignored = CIRCUMSTANCES if flags else ()
    found = 0
    for folder in folders:
        if not any(folder.glob("*/runs/*.parquet")):
            print(f"no results in {folder}", file=sys.stderr)
            return 2
    for study in sorted({p.parent.name for folder in folders for p in folder.glob("*/runs")}):
        stores = [Store(folder, study) for folder in folders]
        for table in TABLES:
            one, other = (store.rows(table) for store in stores)
            lines = differences(one, other, ignored)
            lines += [f"cannot read {p} ({why})" for s in stores for p, why in s.unreadable.items()]
            found += len(lines)
            print(f"{study}/{table}: {len(one):,} rows, {'equal' if not lines else 'DIFFERENT'}")
            for line in lines:
                print(f"    {line}")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
