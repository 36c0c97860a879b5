"""Where rows are kept: parquet tables, one immutable part per finished run and table.

    results/<study>/runs/<run_id>.parquet                one row: what was run, what came out
    results/<study>/evaluations/<run_id>.parquet         one row per evaluation and network
    results/<study>/class_evaluations/<run_id>.parquet   one row per evaluation, network and class
    results/<study>/labeled_images/<run_id>.parquet      one row per labeled image
    results/<study>/predictions/<run_id>.parquet         one row per network and training image
    results/<study>/augmentation_rates/<run_id>.parquet  one row per evaluation and distortion

A part is written under a temporary name, flushed to disk and renamed; the part of `runs` comes
last and makes the run count as finished. So a crash at any moment leaves either a finished run or
none, and writing a run again replaces its rows: nothing is lost, nothing counted twice.
No torch here.
"""

import functools
import itertools
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from boss.errors import InputError
from boss.results.schema import (
    OPTIONAL_TABLES,
    SPARSE_TABLES,
    TABLES,
    TEXT,
    YOUNGER,
    YOUNGER_OPTIONS,
)
from boss.results.write import part_style, write_atomically

NUM_THREADS = min(8, os.cpu_count() or 1)  # that read parts


BATCH = 64  # parts that a thread reads at a time


_Stat = tuple[Path, int, int]  # path, time of the last change, size


T = TypeVar("T")


class _Pick(NamedTuple):
    """What is read of a table, as in `Store.read`."""

    columns: Sequence[str]
    where: Mapping[str, str]
    only_last: bool


class _Block(NamedTuple):
    """Rows of one run, one after the other in a table with others."""

    rows: pa.Table
    start: int
    end: int


class Store:
    """The tables of one study below a results folder.

    Reading never fails for a damaged part: its path is collected in `unreadable`, its run does not
    count as finished, and the others are read.
    """

    def __init__(self, results: Path, study: str) -> None:
        self.folder = Path(results) / study
        self.study = study
        self.unreadable: dict[Path, str] = {}
        self._ids: dict[_Stat | None, list[str]] = {}  # runs in the parts of `runs` that were read

    def state_folder(self, run_id: str) -> Path:
        """Where a run keeps its checkpoint, its lock and its last error until it has finished."""
        return self.folder / "state" / run_id

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
            if isinstance(rows, pd.DataFrame):
                frame = rows.assign(run_id=run_id)
                part = pa.Table.from_pandas(frame, TABLES[table], preserve_index=False, safe=False)
            else:
                part = pa.Table.from_pylist(
                    [{**row, "run_id": run_id} for row in rows], schema=TABLES[table]
                )
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
    ) -> pd.DataFrame:
        """The rows of a table, of finished runs only, ordered by run and step.

        Args:
            run_ids: read only these (None: all finished runs).
            columns: read only these; damage to others goes unseen.
            where: only rows in which these columns have these values.
            only_last: of each run only the rows of its last step.
            as_categories: texts as categoricals, in the order in which they come: a row costs a
                small number instead of a text.
        """
        rows = self.rows(table, run_ids, columns=columns, where=where, only_last=only_last)
        texts = [field.name for field in rows.schema if field.type == TEXT] * as_categories
        frame: pd.DataFrame = rows.to_pandas(
            categories=texts, self_destruct=as_categories, split_blocks=as_categories
        )  # column by column: what is one after the other need not be there twice
        return frame

    def rows(
        self,
        table: str,
        run_ids: Iterable[str] | None = None,
        *,
        columns: Sequence[str] | None = None,
        where: Mapping[str, str] | None = None,
        only_last: bool = False,
    ) -> pa.Table:
        """What `read` reads, as a table of Arrow: every value as it was stored."""
        names = [*(columns or TABLES[table].names)]
        pick = _Pick(names, where or {}, only_last)

        def look(paths: Sequence[Path]) -> dict[str, list[_Block]]:
            return {
                run_id: blocks
                for found in self._readable(paths, table, pick)
                for run_id, blocks in found.items()
            }

        wanted = run_ids if table == "runs" else self._finished_ids(run_ids)
        rows = _in_order(self._scan(table, wanted, look))
        if rows is None:
            rows = _stored_schema(table).empty_table()
        return rows.select(names)

    def finished(self) -> pd.DataFrame:
        """The table of runs, of those whose parts are all there and readable."""
        runs = self.read("runs")
        whole = set(runs["run_id"])
        for table in TABLES.keys() - {"runs", *OPTIONAL_TABLES}:
            whole = self.runs_in(table, whole)
        return runs[runs["run_id"].isin(whole)].reset_index(drop=True)

    def runs_in(self, table: str, run_ids: Iterable[str]) -> set[str]:
        """Those of the runs that have rows in parts of a table that can be read whole."""
        look = functools.partial(self._read_ids, table)
        return set(self._scan(table, run_ids, look))

    def has_parts(self, run_id: str) -> bool:
        """Whether the parts of this run are there and readable. Looks at no other file."""
        for table in TABLES:
            path = self.folder / table / f"{run_id}.parquet"
            if table in SPARSE_TABLES and not path.exists():
                continue
            if not path.exists() or run_id not in self._read_ids(table, [path]):
                return False
        return True

    def _finished_ids(self, run_ids: Iterable[str] | None) -> set[str]:
        """The finished runs, of these or of all. Parts of `runs` that were read are not again."""

        def look(paths: Sequence[Path]) -> dict[str, None]:
            stats = {path: _stat(path) for path in paths}
            self._read_ids("runs", [path for path in paths if stats[path] not in self._ids])
            return {run_id: None for path in paths for run_id in self._ids.get(stats[path], ())}

        return set(self._scan("runs", run_ids, look))

    def _scan(
        self,
        table: str,
        run_ids: Iterable[str] | None,
        look: Callable[[Sequence[Path]], dict[str, T]],
    ) -> dict[str, T]:
        """What is found in the parts of a table by run, of these runs only or of all."""
        folder = self.folder / table
        if run_ids is None:
            return look(parts_in(folder))
        # Few of many: the files named after them, and the others if those do not have them all.
        wanted = set(run_ids)
        named = [folder / f"{run_id}.parquet" for run_id in sorted(wanted)]
        found = look([path for path in named if path.exists()])
        if wanted - found.keys():
            seen = set(named)
            found |= look([path for path in parts_in(folder) if path not in seen])
        return {run_id: value for run_id, value in found.items() if run_id in wanted}

    def _read_ids(self, table: str, paths: Sequence[Path]) -> dict[str, None]:
        """The runs of which there are rows in parts that can be read whole."""
        return {run_id: None for found in self._readable(paths, table, None) for run_id in found}

    def _readable(
        self, paths: Sequence[Path], table: str, pick: _Pick | None
    ) -> Iterator[dict[str, list[_Block]]]:
        """The rows by run of each part that can be read, in order; others go to `unreadable`."""
        size = max(1, min(BATCH, len(paths) // (4 * NUM_THREADS)))
        batches = [paths[start : start + size] for start in range(0, len(paths), size)]
        read = functools.partial(_read_batch, table=table, pick=pick)
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            for batch in pool.map(read, batches):
                for path, stat, found in batch:
                    if isinstance(found, str):
                        # One of `runs` may go between listing and reading: the run is done again.
                        if table != "runs" or path.exists():
                            self.unreadable[path] = found
                        continue
                    if table == "runs" and stat and not (pick and pick.where):
                        self._ids[stat] = [*found]
                    yield found


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


def labels_of(row: Mapping[Any, Any]) -> tuple[list[int], list[int]]:
    """The images of the label set of a run and their classes; what was picked comes after them."""
    num = int(row["num_labels"] - row["num_picks"])
    return [*row["labels"]][:num], [*row["label_classes"]][:num]


def parts_in(folder: Path) -> list[Path]:
    """The parts of a table, in order; none without the folder."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".parquet")]
    except OSError:
        return []
    return [folder / name for name in sorted(names) if not name.startswith((".", "_"))]


def _stat(path: Path) -> _Stat | None:
    """What changes when a file is replaced; None if it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return path, stat.st_mtime_ns, stat.st_size


@functools.cache
def _stored_schema(table: str) -> pa.Schema:
    """The schema of a table as a part has it: parquet renames the items of lists."""
    buffer = pa.BufferOutputStream()
    pq.write_table(TABLES[table].empty_table(), buffer, **part_style(table))
    return pq.read_schema(pa.BufferReader(buffer.getvalue()))


def _read_batch(
    paths: Sequence[Path], table: str, pick: _Pick | None
) -> list[tuple[Path, _Stat | None, dict[str, list[_Block]] | str]]:
    """The rows of parts by run (of `pick`, None: all), or why a part cannot be read.

    They are copied into one table: thousands of small ones take much more memory and time.
    """
    where = pick.where if pick else {}
    wanted = {"run_id", *pick.columns, *where} if pick else {*TABLES[table].names}
    usual = pa.schema([field for field in _stored_schema(table) if field.name in wanted])
    parts = [(path, _stat(path), _read_part(path, table, usual, where)) for path in paths]
    good = [part for _, _, part in parts if not isinstance(part, str)]
    if not good:
        return [(path, stat, str(reason)) for path, stat, reason in parts]
    rows = pa.concat_tables(good).combine_chunks() if len(good) > 1 else good[0]
    names, codes = _runs_of(rows)
    number = np.repeat(np.arange(len(good)), [len(part) for part in good])
    bad = _wrong_ids(table, number, codes, names)
    keep = np.ones(len(rows), dtype=bool)
    for name, value in where.items():
        keep &= pc.equal(rows.column(name), value).fill_null(False).to_numpy()
    if pick and pick.only_last:
        keep &= _is_last(rows.column("step").to_numpy(), number * len(names) + codes)
    if not keep.all():
        rows, codes, number = rows.filter(pa.array(keep)), codes[keep], number[keep]
    blocks: list[dict[str, list[_Block]]] = [{} for _ in good]
    starts = np.flatnonzero((np.diff(codes, prepend=-1) != 0) | (np.diff(number, prepend=-1) != 0))
    for start, end in itertools.pairwise([*starts.tolist(), len(rows)]):
        run_id = names[codes[start]]
        if run_id is not None:
            blocks[number[start]].setdefault(run_id, []).append(_Block(rows, start, end))
    found: list[tuple[Path, _Stat | None, dict[str, list[_Block]] | str]] = []
    position = 0
    for path, stat, part in parts:
        if isinstance(part, str):
            found.append((path, stat, part))
        else:
            found.append((path, stat, bad.get(position, blocks[position])))
            position += 1
    return found


def _read_part(
    path: Path, table: str, usual: pa.Schema, where: Mapping[str, str]
) -> pa.Table | str:
    """The rows of a part, of a large one those of `where` only, or why it cannot be read.

    Args:
        usual: the schema of the columns that are read.
    """
    groups = []
    try:
        with pa.OSFile(str(path)) as source, pq.ParquetFile(source) as file:
            for number in range(file.num_row_groups):
                group = file.read_row_group(number, usual.names, use_threads=False)
                if not group.schema.equals(usual):
                    group = _up_to_date(file.read_row_group(number, use_threads=False), table)
                    group = group.select(usual.names)
                if "options" in usual.names:
                    group = _with_younger_options(group)
                if file.num_row_groups > 1:  # a folder that has been compacted
                    for name, value in where.items():
                        group = group.filter(pc.equal(group.column(name), value))
                groups.append(group)
            if not file.metadata.num_rows:
                return "it has no rows"
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0]
    return pa.concat_tables(groups) if len(groups) > 1 else groups[0]


def _runs_of(rows: pa.Table) -> tuple[list[str | None], NDArray[np.int64]]:
    """The runs in a table, None if rows are of none, and for each row which of them it is of."""
    ids = rows.column("run_id").combine_chunks().dictionary_encode(null_encoding="encode")
    return ids.dictionary.to_pylist(), ids.indices.to_numpy().astype(np.int64)


def _wrong_ids(
    table: str, number: NDArray[np.int64], codes: NDArray[np.int64], names: Sequence[str | None]
) -> dict[int, str]:
    """By the number of a part: what is wrong with the ids of its rows."""
    bad: dict[int, str] = {}
    if table == "runs":
        keys, counts = np.unique(number * len(names) + codes, return_counts=True)
        bad |= {int(key) // len(names): "it has a run twice" for key in keys[counts > 1]}
    if None in names:
        without = np.unique(number[codes == names.index(None)])
        bad |= {int(key): "it has rows of no run" for key in without}
    return bad


def _is_last(step: NDArray[np.int64], run: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows are of the last step of their run.

    Args:
        run: numbers that tell the runs apart.
    """
    _, codes = np.unique(run, return_inverse=True)
    last = np.full(codes.max(initial=0) + 1, -1, dtype=np.int64)
    np.maximum.at(last, codes, step)
    found: NDArray[np.bool_] = step == last[codes]
    return found


def _up_to_date(part: pa.Table, table: str) -> pa.Table:
    """A part with the columns of today.

    Raises:
        KeyError, ValueError: it lacks some, or has other types.
    """
    if table == "runs" and "run_id" in part.column_names:
        for name in YOUNGER.keys() - set(part.column_names):
            kind = TABLES["runs"].field(name).type
            part = part.append_column(name, pa.array([YOUNGER[name]] * len(part), kind))
    return part.select(TABLES[table].names).cast(_stored_schema(table))


def _in_order(found: Mapping[str, list[_Block]]) -> pa.Table | None:
    """The rows of all runs, ordered by run; None if there are none."""
    merged: list[_Block] = []
    for run_id in sorted(found):
        for block in found[run_id]:
            if merged and merged[-1].rows is block.rows and merged[-1].end == block.start:
                block = merged.pop()._replace(end=block.end)
            merged.append(block)
    tables = [rows.slice(start, end - start) for rows, start, end in merged]
    return pa.concat_tables(tables) if tables else None


def _with_younger_options(runs: pa.Table) -> pa.Table:
    before = runs.column("options").to_pylist()
    options = [*map(_completed_options, runs.column("algorithm").to_pylist(), before)]
    if options == before:
        return runs
    position = runs.column_names.index("options")
    return runs.set_column(position, runs.schema.field("options"), pa.array(options, TEXT))


@functools.cache
def _completed_options(algorithm: str | None, text: str | None) -> str | None:
    """Options as JSON, with those that came later."""
    younger = YOUNGER_OPTIONS.get(algorithm or "", {})
    return text and json.dumps(younger | json.loads(text), sort_keys=True)
