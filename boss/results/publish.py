"""Finished runs of one or several stores -> a published one: small, checked, each run once.

    results/<study>/<table>/<run_id>.parquet
    -> results/reference/<study>/<table>/published.parquet

A published store is a store as any other (`boss.store`), with one file per table. What it has stays
as it is, runs that are new to it are added. Nothing is written unless others can check each of
them: it comes from a commit without changes, on a known device, libraries and data.

A crash at any moment leaves a store that reads as before or as afterwards. A file is written under
a temporary name and renamed. That of `runs` comes last: until then no new run counts. Files whose
rows are in the new ones are removed when all of these are in place: until then a run that stands in
two is read from one. No table loses rows of a run that had finished.
No torch here.
"""

import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from boss.errors import InputError, choose
from boss.results.read import Store, labels_of, parts_in, refuse_mixtures
from boss.results.schema import OPTIONAL_TABLES, TABLES, TEXT
from boss.results.write import write_atomically
from boss.study.run import BUDGETS
from boss.study.study import Study

FILE = "published.parquet"


# Which predictions are published with a run. On CIFAR-10 a network makes 50,000: 0.2 MB, against
# about 0.01 MB of everything else of a run; and git keeps every version of the file.
PREDICTIONS = {
    "needed": "those from which other runs of the study pick",
    "last": "also those of the last network of every run, which `refine` reads",
    "all": "those of both networks of every run",
}


NETWORKS = ("last", "best_test")  # in the order in which predictions are stored


CHECKED_BY = ("dataset_fingerprint", "device", "versions", "commit", "finished_at")


RUN_ID = re.compile(r"[0-9a-f]{16}")


LOCK_SECONDS = 60.0  # how long to wait for another process that publishes


MAX_ATTEMPTS = 100  # to make the file of the lock, which others remove


GROUP_ROWS = 2**20  # rows of a row group


LEVEL = 15  # of zstd: 19 saves another 2% and takes four times as long


_Row = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Where runs come from.

    Attributes:
        finished: number of its finished runs: new ones, taken from it; those already there, in the
            target; those that came from elsewhere, another source; and those left out.
    """

    folder: Path
    finished: int
    new: int
    there: int
    elsewhere: int

    def line(self) -> str:
        """For a person."""
        left_out = self.finished - self.new - self.there - self.elsewhere
        return (
            f"{self.folder}: {self.finished} finished, {self.new} new, {self.there} already there"
            + (f", {self.elsewhere} from another source" if self.elsewhere else "")
            + (f", {left_out} left out" if left_out else "")
        )


@dataclass(frozen=True)
class Published:
    """What a published store holds.

    Attributes:
        budgets: number of its runs by budget.
        bytes_before, bytes_after: of the files of its tables.
        warnings: what was left out or came out differently, one line each.
    """

    folder: Path
    sources: list[Source]
    budgets: dict[str, int]
    bytes_before: int
    bytes_after: int
    warnings: list[str]

    def lines(self) -> list[str]:
        """For a person."""
        runs = ", ".join(f"{count} {budget}" for budget, count in self.budgets.items())
        return [
            *(source.line() for source in self.sources),
            f"{self.folder}: {sum(self.budgets.values())} runs ({runs or 'none'}),"
            f" {self.bytes_before:,} -> {self.bytes_after:,} bytes",
        ]


def publish(
    study: Study,
    sources: Sequence[Path],
    to: Path,
    *,
    predictions: str = "needed",
    budget: str | None = None,
    dry_run: bool = False,
) -> Published:
    """Bring the finished runs of a study into a published store.

    A run that is there is not replaced. Of a run that several sources have, the one that finished
    first is taken. A round of self-training comes only with the very training that picked for it.
    Without sources the files of the target become one per table.

    Args:
        sources: results folders, each with a store of the study.
        to: the results folder with the published store.
        predictions: which come with a run, a key of PREDICTIONS. What the target has stays, what it
            lacks is added from where the same training is.
        budget: bring only runs of this one (None: of all).
        dry_run: write nothing.

    Raises:
        InputError: a source has no store of the study; new runs cannot be checked; several data
            sets or label sets have one name; a file of the target is damaged, missing beside the
            others, or cannot be written; or another process publishes there.
    """
    choose(predictions, PREDICTIONS, what="choice of predictions")
    target = Store(to, study.name)
    # Each folder once, by whatever name; and what is the target itself is no source.
    folders = {store.folder.resolve(): store for store in (Store(s, study.name) for s in sources)}
    folders.pop(target.folder.resolve(), None)
    stores = [*folders.values()]
    for store in stores:
        if not store.folder.is_dir():
            raise InputError(f"no results in {store.folder}")
    if budget is not None:
        choose(budget, dict.fromkeys(BUDGETS), what="budget")
    if dry_run:
        return _plan(study, target, stores, predictions, budget).published
    with _locked(target.folder):
        plan = _plan(study, target, stores, predictions, budget)
        try:
            _carry_out(plan, target.folder)
        except OSError as error:
            raise _unwritable(target.folder, error) from error
    return plan.published


@dataclass(frozen=True)
class _Plan:
    published: Published
    files: dict[str, pa.Buffer]  # by table, of those that change
    stale: list[Path]  # files of runs that had not finished and now come from elsewhere
    folded: list[Path]  # files whose rows are in the new ones


@dataclass(frozen=True)
class _Chosen:
    """The runs of the published store: what the target has, and what is new."""

    rows: dict[str, _Row]  # of `runs`, by run
    origins: dict[str, Store]  # by run
    by_store: dict[Store, dict[str, _Row]]  # all finished runs, the target first

    def runs_from(self, store: Store) -> set[str]:
        return {run_id for run_id, origin in self.origins.items() if origin is store}

    def copies_in(self, store: Store) -> set[str]:
        """The runs of which a store has the same training as the one that was chosen."""
        own = self.by_store[store]
        return {i for i in own.keys() & self.rows.keys() if _is_same(own[i], self.rows[i])}


def _plan(
    study: Study, target: Store, stores: Sequence[Store], predictions: str, budget: str | None
) -> _Plan:
    """All but the writing: what is refused is refused before anything is written."""
    chosen, apart = _choose(target, stores, budget)
    _refuse_unclean(chosen, target)
    _refuse_mixtures(chosen)
    contents: dict[str, pa.Buffer] = {}
    for table in TABLES:
        if table == "predictions":
            rows = _predictions(chosen, target, _wanted(study, chosen, predictions))
        else:
            rows = [_rows_from(store, table, chosen.runs_from(store)) for store in chosen.by_store]
        if any(map(len, rows)):
            contents[table] = _encoded(table, rows)

    runs_of = {
        path: _runs_in(path, target) for table in TABLES for path in parts_in(target.folder / table)
    }
    warnings = [*_differences(chosen), *apart, *_refuse_losses(chosen, target, runs_of)]
    for store in stores:
        warnings += _incomplete(store, chosen.by_store[store].keys())
        warnings += [f"left out: cannot read {p} ({why})" for p, why in store.unreadable.items()]
    had = chosen.by_store[target]
    new = chosen.rows.keys() - had.keys()
    before, left = 0, 0
    stale: list[Path] = []
    folded: list[Path] = []
    for path, runs in runs_of.items():
        before += path.stat().st_size
        if path.name == FILE and path.parent.name in contents:
            continue  # it is replaced
        if path.name == FILE or runs <= new:
            stale.append(path)
        elif runs & had.keys():
            folded.append(path)
        else:
            left += path.stat().st_size
            warnings.append(f"left as it is: {path}, of a run that has not finished")
    counts = Counter(str(row["budget"]) for row in chosen.rows.values())
    published = Published(
        folder=target.folder,
        sources=[_source(store, chosen, had) for store in stores],
        budgets={budget: counts[budget] for budget in BUDGETS if counts[budget]},
        bytes_before=before,
        bytes_after=left + sum(content.size for content in contents.values()),
        warnings=warnings,
    )
    changed = {
        table: content
        for table, content in contents.items()
        if not _holds(target.folder / table / FILE, content)
    }
    return _Plan(published, changed, stale, folded)


def _incomplete(store: Store, whole: Collection[str]) -> list[str]:
    """The runs of a source that lack rows, where no damaged file explains it, for a person."""
    lacking = set(store.read("runs", columns=["run_id"])["run_id"]) - set(whole)
    damaged = {path.stem for path in store.unreadable}
    if not all(map(RUN_ID.fullmatch, damaged)):  # a file of many runs
        return []
    return [
        f"left out: {run_id} in {store.folder}: it is named in runs/, but rows of it are missing"
        for run_id in sorted(lacking - damaged)
    ]


def _refuse_losses(chosen: _Chosen, target: Store, runs_of: Mapping[Path, set[str]]) -> list[str]:
    """What is dropped of the files of the target, for a person; refuse if it may be a loss.

    `runs` is written last: its file names no run that had not all of its rows, so if one lacks
    some, a file has gone. Where it is missing itself nothing tells a crash of the first publishing
    from a loss.
    """
    named = {path.parent.name: runs for path, runs in runs_of.items() if path.name == FILE}
    lost = named.get("runs", set()) - chosen.rows.keys()
    if lost:
        there = {table: target.runs_in(table, lost) for table in TABLES}
        tables = [t for t in TABLES if t not in OPTIONAL_TABLES and lost - there[t]]
        raise InputError(
            f"{target.folder / 'runs' / FILE} names {len(lost)} runs that lack rows in"
            f" {', '.join(tables)}: restore the files there, or publish sources that have them"
        )
    dropped = set[str]().union(*named.values()) - chosen.rows.keys()
    if dropped and "runs" not in named:
        raise InputError(
            f"{target.folder} has rows of {len(dropped)} runs that runs/{FILE} is to name, which is"
            f" missing: restore it, publish sources that have them, or remove"
            f" {', '.join(f'{table}/{FILE}' for table in named)}"
        )
    return [f"dropped: rows of {len(dropped)} runs that were never published whole"] * bool(dropped)


def _source(store: Store, chosen: _Chosen, had: Collection[str]) -> Source:
    found, new = chosen.by_store[store].keys(), chosen.runs_from(store)
    return Source(
        store.folder,
        finished=len(found),
        new=len(new),
        there=len(found & had),
        elsewhere=len((found & chosen.rows.keys()) - new - {*had}),
    )


def _choose(
    target: Store, stores: Sequence[Store], budget: str | None
) -> tuple[_Chosen, list[str]]:
    """The runs that are published; and which were left out since their parent is not the one that
    picked for them, or not there."""
    had = _by_run(target.rows("runs", target.finished()["run_id"]))
    by_store = {target: had} | {store: _whole_runs(store, had) for store in stores}
    rows, origins = dict(had), dict.fromkeys(had, target)
    candidates: dict[str, list[tuple[str, str, Store]]] = {}
    for store in stores:
        for run_id in by_store[store].keys() - had.keys():
            row = by_store[store][run_id]
            if budget not in (None, row["budget"]):
                continue
            # The rest of the row is for two that finished in the same second.
            candidates.setdefault(run_id, []).append((str(row["finished_at"]), repr(row), store))
    apart = []
    # Parents first: whether a child may come depends on the parent that was chosen.
    rounds = {i: int(by_store[found[0][2]][i]["round"]) for i, found in candidates.items()}
    for run_id in sorted(candidates, key=lambda run_id: (rounds[run_id], run_id)):
        found = sorted(candidates[run_id], key=lambda candidate: candidate[:2])
        fit = [store for _, _, store in found if _has_parent(by_store[store], run_id, rows)]
        if fit:
            origins[run_id], rows[run_id] = fit[0], by_store[fit[0]][run_id]
        else:
            apart.append(
                f"left out: {_name(by_store[found[0][2]][run_id])}: the run that picked for it is"
                " not there, or is another training than the one that is published"
            )
    return _Chosen(dict(sorted(rows.items())), origins, by_store), sorted(apart)


def _has_parent(store: Mapping[str, _Row], run_id: str, published: Mapping[str, _Row]) -> bool:
    """Whether a run has no parent, or that is published and, as far as the store tells, the very
    training that picked for it."""
    parent = store[run_id]["parent"]
    if not parent:
        return True
    return parent in published and (
        parent not in store or _is_same(store[parent], published[parent])
    )


def _is_same(one: _Row, other: _Row) -> bool:
    """Whether two rows of a run are of the same training. As text, in which NaN equals NaN."""
    return repr(one) == repr(other)


def _whole_runs(store: Store, had: Collection[str]) -> dict[str, _Row]:
    """The finished runs of a source, without new ones of which a part is damaged."""
    finished = set(store.finished()["run_id"])
    new = finished - set(had)
    for table in OPTIONAL_TABLES:  # `finished` does not look at these
        known = {*store.unreadable}
        missing = new - store.runs_in(table, new)
        for path in store.unreadable.keys() - known:
            # A file of many runs may have had rows of any of those that have none elsewhere.
            new -= missing & {path.stem} if RUN_ID.fullmatch(path.stem) else missing
    return _by_run(store.rows("runs", new | (finished & set(had))))


def _by_run(rows: pa.Table) -> dict[str, _Row]:
    return {row["run_id"]: row for row in rows.to_pylist()}


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['algorithm']} {row['label_set']} #{row['repeat']} ({row['run_id']})"


def _refuse_unclean(chosen: _Chosen, target: Store) -> None:
    """Refuse new runs that others cannot check."""
    new = [run_id for run_id in chosen.rows if chosen.origins[run_id] is not target]
    faults = {run_id: _fault(chosen.rows[run_id]) for run_id in new}
    unclean = [run_id for run_id in new if faults[run_id]]
    if unclean:
        first = unclean[0]
        raise InputError(
            f"{len(unclean)} of {len(new)} new runs cannot be checked by others:"
            f" {_name(chosen.rows[first])} in {chosen.origins[first].folder}, for one, has"
            f" {faults[first]}; train them again from a clean checkout, or publish the others with"
            " --budget"
        )


def _fault(row: Mapping[str, Any]) -> str:
    """Why others cannot check a run; empty if they can."""
    for name in CHECKED_BY:
        if row[name] in (None, "", "{}"):
            return f"no {name}"
    return f"commit {row['commit']}" if row["commit"].endswith("-dirty") else ""


def _refuse_mixtures(chosen: _Chosen) -> None:
    """Refuse two data sets, or two label sets, of one name."""
    fingerprints: dict[str, str] = {}
    label_sets: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
    for store in chosen.by_store:
        for run_id in sorted(chosen.runs_from(store)):
            row = chosen.rows[run_id]
            refuse_mixtures(
                store.folder, [row], fingerprints, label_sets,
                elsewhere="elsewhere", remedy="publish them with another --to",
            )  # fmt: skip
            fingerprints.setdefault(row["dataset"], row["dataset_fingerprint"])
            label_sets.setdefault((row["dataset"], row["label_set"]), labels_of(row))


def _differences(chosen: _Chosen) -> list[str]:
    """The runs that came out otherwise in another store, on another machine or version, say."""
    lines = []
    for run_id, row in chosen.rows.items():
        kept = chosen.origins[run_id]
        for store, rows in chosen.by_store.items():
            other = rows.get(run_id, row)
            if repr(other["last_accuracy"]) != repr(row["last_accuracy"]):
                lines.append(
                    f"left out: {_name(row)} has last_accuracy {other['last_accuracy']} in"
                    f" {store.folder}, {row['last_accuracy']} in {kept.folder}"
                )
    return lines


def _rows_from(store: Store, table: str, run_ids: set[str]) -> pa.Table:
    rows = store.rows(table, run_ids)
    if table not in OPTIONAL_TABLES and len(pc.unique(rows.column("run_id"))) < len(run_ids):
        raise InputError(f"{store.folder / table} changed while it was read: publish again")
    return rows


def _wanted(study: Study, chosen: _Chosen, predictions: str) -> Mapping[str, Collection[str]]:
    """By run: the networks whose predictions are published."""
    usual = {"needed": (), "last": ("last",), "all": NETWORKS}[predictions]
    wanted = {run_id: {*usual} for run_id in chosen.rows}
    datasets = {str(row["dataset"]) for row in chosen.rows.values()}
    for budget in BUDGETS:
        with contextlib.suppress(InputError):  # a study may lack a budget
            for run in study.enumerate(budget):
                # On data of one's own the runs of a study have other ids.
                for dataset in {run.dataset, *datasets} if run.parent else ():
                    parent = run.with_fields(dataset=dataset).parent
                    assert parent is not None
                    wanted.get(parent.id, set()).add(run.rank_by)
    return wanted


def _predictions(
    chosen: _Chosen, target: Store, wanted: Mapping[str, Collection[str]]
) -> list[pa.Table]:
    """The rows that the target has, and those that are wanted and are in some source."""
    tables = []
    for network in NETWORKS:
        lacking = {run_id for run_id in chosen.rows if network in wanted[run_id]}
        for store in chosen.by_store:
            run_ids = chosen.copies_in(store)
            if store is not target:
                run_ids &= lacking
            if run_ids:
                tables.append(store.rows("predictions", run_ids, where={"network": network}))
                lacking -= set(pc.unique(tables[-1].column("run_id")).to_pylist())
    return tables


def _encoded(table: str, parts: Sequence[pa.Table]) -> pa.Buffer:
    """A parquet file with these rows, ordered by run and step.

    Of the encodings these came out smallest under zstd: dictionaries of texts and of accuracies,
    which take few values; nothing for other numbers, but for those of predictions.
    """
    rows = pa.concat_tables(parts)
    keys = [(name, "ascending") for name in ("run_id", "step") if name in rows.column_names]
    rows = rows.take(pc.sort_indices(rows, keys)).combine_chunks()  # a stable sort
    is_few = [column.type == TEXT or column.name == "test_accuracy" for column in rows.schema]
    special = {"image_index": "DELTA_BINARY_PACKED", "doubt": "BYTE_STREAM_SPLIT"}
    buffer = pa.BufferOutputStream()
    pq.write_table(
        rows,
        buffer,
        row_group_size=GROUP_ROWS,
        compression="zstd",
        compression_level=LEVEL,
        use_dictionary=[n for n, few in zip(rows.column_names, is_few, strict=True) if few],
        column_encoding=special if table == "predictions" else None,
        write_statistics=False,
        store_schema=False,
    )
    return buffer.getvalue()


def _runs_in(path: Path, target: Store) -> set[str]:
    """The runs of which a file of the target has rows."""
    reason = target.unreadable.get(path)
    if reason is None:
        try:
            return set(pc.unique(pq.ParquetFile(path).read(["run_id"])["run_id"]).to_pylist())
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            reason = str(error).splitlines()[0]
    raise InputError(
        f"cannot read {path} ({reason}): restore it, or remove it and publish sources that"
        " have its runs"
    )


def _holds(path: Path, content: pa.Buffer) -> bool:
    try:
        return bool(pa.py_buffer(path.read_bytes()).equals(content))
    except OSError:
        return False


def _carry_out(plan: _Plan, folder: Path) -> None:
    for table in TABLES:
        for path in (folder / table).glob(f".{FILE}.*"):  # of a process that was killed
            path.unlink()
    for path in plan.stale:
        path.unlink()
    for table in sorted(plan.files, key=lambda table: table == "runs"):
        path, content = folder / table / FILE, plan.files[table]
        write_atomically(path, lambda temporary, content=content: temporary.write_bytes(content))
        _sync(path.parent)  # in this order also after a power cut
    for path in plan.folded:
        path.unlink()


def _sync(folder: Path) -> None:
    """Flush the names in a folder to disk, where the system can."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(f"cannot write results to {folder}: {error.strerror or error}")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Publish into a store alone.

    Raises:
        InputError: another process does for LOCK_SECONDS, or the folder cannot be written.
    """
    path = folder / "state" / "publish.lock"  # git ignores `state`
    made = [parent for parent in (path.parent, *path.parent.parents) if not parent.exists()]
    try:
        lock = _lock(path)
    except filelock.Timeout as error:
        raise InputError(f"another process publishes to {folder}: wait for it") from error
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield
    finally:
        try:
            path.unlink(missing_ok=True)
        finally:
            lock.release()
        for parent in dict.fromkeys([path.parent, *made]):
            with contextlib.suppress(OSError):  # it has something in it
                parent.rmdir()


def _lock(path: Path) -> filelock.BaseFileLock:
    """The lock, held on the file of this name: who had it before has removed its own."""
    deadline = time.monotonic() + LOCK_SECONDS
    attempts = 0
    while True:
        lock = filelock.FileLock(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            file = path.stat()
            lock.acquire(timeout=max(0.0, deadline - time.monotonic()), poll_interval=0.05)
        except FileNotFoundError:  # removed by who had the lock, or not to be made at all
            attempts += 1
            if attempts == MAX_ATTEMPTS:
                raise
            time.sleep(0.02)
            continue
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(file, path.stat()):
                return lock
        lock.release()
