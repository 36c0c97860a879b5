"""Where rows are kept: parquet tables, one immutable part per finished run and table.

    results/<study>/<table>/<run_id>.parquet      what a run wrote
    results/<study>/<table>/published.parquet     the rows of many runs (boss.results.publish)

The part of `runs` is written last and makes the run count as finished. No torch here.
"""

import functools
import json
import os
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from boss.errors import InputError
from boss.results.schema import EMPTY, OPTIONAL_TABLES, REQUIRED, SPARSE_TABLES, TABLES, TEXT
from boss.results.write import part_style, write_atomically
from boss.study.catalog import ALGORITHMS
from boss.study.run import Run

RUN_ID = re.compile(r"[0-9a-f]{16}")
FILE = "__filename"  # pyarrow's name for the column that says which file a row is from
ERRORS = (pa.ArrowException, OSError, KeyError, ValueError, TypeError)


class Store:
    """The tables of one study below a results folder.

    Reading never fails for a damaged part: its path and the reason are collected in `unreadable`,
    its run does not count as finished, and the others are read. `nameless` has the number of rows
    of no run in parts that were read with gaps.
    """

    def __init__(self, results: Path, study: str) -> None:
        self.results = Path(results)
        self.folder = self.results / study
        self.study = study
        self.unreadable: dict[Path, str] = {}
        self.nameless: dict[Path, int] = {}

    def state_folder(self, run_id: str) -> Path:
        """Where a run keeps its checkpoint, its lock and its last error until it has finished."""
        return self.folder / "state" / run_id

    def network(self, run_id: str) -> Path:
        """Where the last teacher of a run is kept, if it is."""
        return self.folder / "networks" / f"{run_id}.pt"

    def check_writable(self) -> None:
        """Create the folders.

        Raises:
            InputError: they cannot be created or written.
        """
        probe = self.folder / f".probe-{uuid.uuid4().hex}"
        try:
            for table in TABLES:
                (self.folder / table).mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise InputError(f"cannot write results to {self.folder}: {error.strerror}") from error

    def write(
        self, run: Mapping[str, Any], **tables: pd.DataFrame | Iterable[Mapping[str, Any]]
    ) -> None:
        """Store the rows of one finished run, replacing any it had.

        Args:
            run: a row of `runs`.
            tables: the rows of every other table (of `SPARSE_TABLES` where there are any), by its
                name; `run_id` is filled in.
        """
        missing = TABLES.keys() - tables.keys() - {"runs", *SPARSE_TABLES}
        assert not missing and tables.keys() <= TABLES.keys()
        run_id = run["run_id"]
        # `runs` comes last: its part is what makes the run count as finished.
        for table, rows in [*tables.items(), ("runs", [run])]:
            frame = rows if isinstance(rows, pd.DataFrame) else list(rows)
            part = _part(table, frame, run_id)
            if table in SPARSE_TABLES and not len(part):
                continue
            style = part_style(table)
            write_atomically(
                self.folder / table / f"{run_id}.parquet",
                lambda path, part=part, style=style: pq.write_table(part, path, **style),
            )

    def read(
        self,
        table: str,
        run_ids: Iterable[str] | None = None,
        *,
        columns: Sequence[str] | None = None,
        where: Mapping[str, str] | None = None,
        only_last: bool = False,
        as_categories: bool = False,
        with_gaps: bool = False,
    ) -> pd.DataFrame:
        """The rows of a table, of finished runs only, ordered by run and step.

        Args:
            run_ids: read only these (None: all finished runs).
            columns: read only these; damage to others is not noticed.
            where: only rows in which these columns have these values.
            only_last: of each run only the rows of its last step.
            as_categories: texts as categoricals, in the order in which they occur.
            with_gaps: read parts also if some of their rows lack values, are of no run or of a run
                that the part has twice, or have options that are no JSON: otherwise these are
                damaged.
        """
        rows = self.rows(
            table,
            run_ids,
            columns=columns,
            where=where,
            only_last=only_last,
            with_gaps=with_gaps,
        )
        texts = [field.name for field in rows.schema if field.type == TEXT] * as_categories
        frame: pd.DataFrame = rows.to_pandas(categories=texts)
        return frame

    def rows(
        self,
        table: str,
        run_ids: Iterable[str] | None = None,
        *,
        columns: Sequence[str] | None = None,
        where: Mapping[str, str] | None = None,
        only_last: bool = False,
        with_gaps: bool = False,
    ) -> pa.Table:
        """What `read` reads, as a table of Arrow: every value as it was stored."""
        names = [*(columns or TABLES[table].names)]
        wanted = None if run_ids is None else set(run_ids)
        if table != "runs":
            known = self._ids("runs", wanted, with_gaps)
            wanted = known if wanted is None else wanted & known
        read = [*dict.fromkeys([*names, "run_id", *["step"] * only_last])]
        rows = self._scan(table, wanted, read, where or {}, with_gaps)
        if only_last:
            rows = _largest(rows, "step")
        keys = [(name, "ascending") for name in ("run_id", "step") if name in rows.column_names]
        return rows.take(pc.sort_indices(rows, keys)).select(names)  # the sort is stable

    def finished(self) -> pd.DataFrame:
        """The table of runs, of those whose parts are all there and readable."""
        runs = self.read("runs")
        whole = set(runs["run_id"])
        for table in TABLES.keys() - {"runs", *OPTIONAL_TABLES}:
            whole = self.runs_in(table, whole)
        return runs[runs["run_id"].isin(whole)].reset_index(drop=True)

    def runs_in(self, table: str, run_ids: Iterable[str]) -> set[str]:
        """Those of the runs that have rows in parts of a table that can be read whole."""
        rows = self._scan(table, set(run_ids), TABLES[table].names, {})
        return set(pc.unique(rows.column("run_id")).to_pylist())

    def has_parts(self, run_id: str) -> bool:
        """Whether the parts of this run are there and readable. Reads no other file."""
        for table in TABLES:
            path = self.folder / table / f"{run_id}.parquet"
            if table in SPARSE_TABLES and not path.exists():
                continue
            if not path.exists() or run_id not in self.runs_in(table, [run_id]):
                return False
        return True

    def _ids(self, table: str, run_ids: set[str] | None, with_gaps: bool) -> set[str]:
        rows = self._scan(table, run_ids, ["run_id"], {}, with_gaps)
        return set(rows.column("run_id").to_pylist())

    def _scan(
        self,
        table: str,
        run_ids: set[str] | None,
        columns: list[str],
        where: Mapping[str, str],
        with_gaps: bool = False,
    ) -> pa.Table:
        """These columns of the rows of these runs, of each run from one file."""
        paths = parts_in(self.folder / table)
        if run_ids is not None:  # of many files those named after the runs, and those of many runs
            paths = [
                path for path in paths if path.stem in run_ids or not RUN_ID.fullmatch(path.stem)
            ]
        paths = [path for path in paths if path not in self.unreadable]
        try:
            rows = _read(paths, table, columns, where, with_gaps)
            _check(rows, table, None if where else paths, with_gaps)
        except ERRORS:
            paths = self._readable(paths, table, columns, with_gaps)
            rows = _read(paths, table, columns, where, with_gaps)
        if rows.column("run_id").null_count:
            files = rows.filter(pc.is_null(rows.column("run_id"))).column(FILE)
            counts = pc.value_counts(files).to_pylist()
            self.nameless |= {Path(found["values"]): found["counts"] for found in counts}
            rows = rows.filter(pc.is_valid(rows.column("run_id")))
        if run_ids is not None:
            rows = rows.filter(pc.is_in(rows.column("run_id"), pa.array(sorted(run_ids), TEXT)))
        # Of a run that stands in several files (a crash while publishing): the rows of the last.
        return _largest(rows, FILE).drop_columns([FILE])

    def _readable(
        self, paths: Sequence[Path], table: str, columns: list[str], with_gaps: bool
    ) -> list[Path]:
        """Those of the files that can be read; the others go to `unreadable`."""
        good = []
        for path in paths:
            try:
                rows = _read([path], table, columns, {}, with_gaps)
                _check(rows, table, [path], with_gaps)
                good.append(path)
            except ERRORS as error:
                # One of `runs` may go between listing and reading: then the run is done again.
                if table != "runs" or path.exists():
                    reason = (str(error).splitlines() or [type(error).__name__])[0]
                    self.unreadable[path] = reason
        return good


def parts_in(folder: Path) -> list[Path]:
    """The parts of a table, in order; none without the folder."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".parquet")]
    except OSError:
        return []
    return [folder / name for name in sorted(names) if not name.startswith((".", "_"))]


def labels_of(row: Mapping[Any, Any]) -> tuple[list[int], list[int]]:
    """The images of the label set of a run and their classes.

    In rows from before they had a table of their own, selected images come after them.
    """
    num = int(row["num_labels"] - row["num_picks"])
    return [*row["labels"]][:num], [*row["label_classes"]][:num]


def refuse_mixtures(
    folder: Path,
    runs: Iterable[Mapping[Any, Any]],
    fingerprints: Mapping[str, str],
    label_sets: Mapping[tuple[str, str], tuple[list[int], list[int]]],
    *,
    elsewhere: str = "now",
    remedy: str = "use another --results",
) -> None:
    """One store holds one version of a data set and of a label set.

    Args:
        folder: where the runs are.
        runs: rows of `runs`.
        fingerprints: of data sets, by name, as they are `elsewhere`.
        label_sets: images of label sets and the class of each, as they are elsewhere, by the names
            of data set and label set.

    Raises:
        InputError: a run has a data set or a label set of one of these names that is another.
    """
    for row in runs:
        dataset, label_set = row["dataset"], row["label_set"]
        before, now = row["dataset_fingerprint"], fingerprints.get(dataset)
        if now not in (None, before):
            raise InputError(
                f"{folder} holds runs on other data called {dataset} ({str(before)[:12]},"
                f" {elsewhere} {now[:12]}): {remedy}"
            )
        images = label_sets.get((dataset, label_set))
        if images is not None and labels_of(row) != images:
            raise InputError(
                f"{folder} holds runs on other images called {label_set}: {remedy}, or another name"
                " for the label set"
            )


def refuse_other_options(folder: Path, runs: Iterable[Run], rows: pd.DataFrame) -> None:
    """A run from before a default changed (`Algorithm.before`) is not the one of this id today.

    Args:
        rows: of `runs`, of finished runs in the store `folder`.

    Raises:
        InputError: one of the runs was finished with other options than it has now.
    """
    stored = dict(zip(rows["run_id"], rows["options"], strict=True))
    for run in runs:
        if run.id in stored and run.algorithm in ALGORITHMS:
            now = ALGORITHMS[run.algorithm].complete(run.options)
            before = json.loads(stored[run.id])
            if other := [f"{k}={v}" for k, v in before.items() if k in now and now[k] != v]:
                raise InputError(
                    f"{folder} holds {run.title} ({run.id}) trained with {', '.join(other)}, which"
                    " is not the default any more: use another --results, or remove it from runs/"
                )


def _part(table: str, rows: Any, run_id: str) -> pa.Table:
    if isinstance(rows, pd.DataFrame):
        frame = rows.assign(run_id=run_id)
        return pa.Table.from_pandas(frame, TABLES[table], preserve_index=False, safe=False)
    rows = [{**row, "run_id": run_id} for row in rows]
    unknown = {name for row in rows for name in row} - {*TABLES[table].names}
    assert not unknown, f"{table} has no columns {sorted(unknown)}: add them to boss.results.schema"
    return pa.Table.from_pylist(rows, schema=TABLES[table])


def _read(
    paths: Sequence[Path],
    table: str,
    columns: Sequence[str],
    where: Mapping[str, str],
    with_gaps: bool,
) -> pa.Table:
    """Rows of parquet files in the schema of today, with the name of their file.

    A file that lacks a column is empty there; what it has beside the columns of today is not read.

    Raises:
        one of `ERRORS`: a file cannot be read, or has other types.
    """
    schema = TABLES[table].remove_metadata()
    schema = pa.schema([pa.field(field.name, field.type) for field in schema])
    if not paths:
        return schema.empty_table().select(columns).append_column(FILE, pa.array([], TEXT))
    keep = None
    for name, value in where.items():
        equal = pc.field(name) == value
        keep = equal if keep is None else keep & equal
    found = ds.dataset([str(path) for path in paths], schema=schema, format="parquet")
    rows = found.to_table(columns=[*columns, FILE], filter=keep)
    for name in set(REQUIRED[table]) & set(columns):
        if rows.column(name).null_count and not with_gaps:
            raise ValueError(f"it lacks values of {name}")
    if table == "runs":
        for name in set(columns) & EMPTY.keys() - set(REQUIRED[table]):
            position = rows.column_names.index(name)
            filled = rows.column(name).fill_null(pa.scalar(EMPTY[name], schema.field(name).type))
            rows = rows.set_column(position, name, filled)
        if {"options", "algorithm"} <= set(columns):
            rows = _with_all_options(rows, with_gaps)
    return rows


def _check(rows: pa.Table, table: str, paths: Sequence[Path] | None, with_gaps: bool) -> None:
    """Raises ValueError if rows are of no run, a file of `runs` has a run twice, or one of these
    files has no rows."""
    if paths is not None and len(pc.unique(rows.column(FILE))) < len(paths):
        raise ValueError("it has no rows")
    if rows.column("run_id").null_count and not with_gaps:
        raise ValueError("it has rows of no run")
    if table == "runs" and not with_gaps:
        counts = rows.group_by(["run_id", FILE]).aggregate([([], "count_all")])
        if len(counts) < len(rows):
            raise ValueError("it has a run twice")


def _largest(rows: pa.Table, name: str) -> pa.Table:
    """Of each run the rows with the largest value of a column."""
    keys = rows.select(["run_id", name]).to_pandas(categories=["run_id"])
    largest = keys.groupby("run_id", observed=True)[name].transform("max")
    keep = (keys[name] == largest).to_numpy()
    return rows if keep.all() else rows.filter(pa.array(keep))


def _with_all_options(runs: pa.Table, with_gaps: bool) -> pa.Table:
    """Options that an algorithm got after a run: with the value they had before there was one."""
    algorithms, texts = runs.column("algorithm").to_pylist(), runs.column("options").to_pylist()
    options = [
        _completed(algorithm, text, with_gaps)
        for algorithm, text in zip(algorithms, texts, strict=True)
    ]
    position = runs.column_names.index("options")
    return runs.set_column(position, "options", pa.array(options, TEXT))


@functools.cache
def _completed(algorithm: str | None, text: str | None, with_gaps: bool) -> str | None:
    facts = ALGORITHMS.get(algorithm or "")
    if facts is None or text is None:
        return text
    try:
        options = json.loads(text)
        if not isinstance(options, dict):
            raise ValueError("its options are no JSON object")
    except ValueError:
        if with_gaps:
            return text
        raise
    return json.dumps(facts.complete_stored(options), sort_keys=True)
