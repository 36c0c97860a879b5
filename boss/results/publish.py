"""Finished runs of one or several stores -> one file per table, each run once.

    results/<study>/<table>/<run_id>.parquet
    -> results/reference/<study>/<table>/published.parquet

A published store is a store like any other. What it has stays as it is; runs that are new to it are
added, if others can check them. The file of `runs` is written last and files whose rows are in the
new ones are removed after that, so a crash leaves a store that reads as before or as afterwards.
"""

import contextlib
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
from boss.study.run import BUDGETS, BY_GRAPH
from boss.study.study import Study

FILE = "published.parquet"
# On CIFAR-10 a network makes 50,000 predictions, 0.2 MB, against 0.01 MB of the rest of a run.
PREDICTIONS = {
    "needed": "those from which other runs of the study select images",
    "last": "also those of the last network of every run, which `refine` reads",
    "all": "those of both networks of every run",
}
NETWORKS = ("last", "best_test")  # in the order in which predictions are stored
CHECKED_BY = ("dataset_fingerprint", "device", "versions", "commit", "finished_at")
LOCK_SECONDS = 60.0
LEVEL = 15  # of zstd: 19 saves another 2% and takes four times as long
DICTIONARY_BYTES = 2**26  # beyond it, values are stored as often as they occur
Row = dict[str, Any]


@dataclass(frozen=True)
class Published:
    """What came of it: lines for a person, and what was left out, one line each."""

    lines: list[str]
    warnings: list[str]


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
    first is taken. A round of self-training comes only with the very training that selected its
    images. Without sources the files of the target become one per table.

    Args:
        sources: results folders, each with a store of the study.
        to: the results folder with the published store.
        predictions: which come with a run, a key of PREDICTIONS.
        budget: bring only runs of this one (None: of all).
        dry_run: write nothing.

    Raises:
        InputError: a source has no store of the study; new runs cannot be checked; several data
            sets or label sets have one name; a file of the target is damaged or missing beside the
            others, or cannot be written; or another process publishes there.
    """
    choose(predictions, PREDICTIONS, what="choice of predictions")
    if budget is not None:
        choose(budget, dict.fromkeys(BUDGETS), what="budget")
    target = Store(to, study.name)
    folders = {store.folder.resolve(): store for store in (Store(s, study.name) for s in sources)}
    folders.pop(target.folder.resolve(), None)
    stores = [*folders.values()]
    for store in stores:
        if not store.folder.is_dir():
            raise InputError(f"no results in {store.folder}")
    with contextlib.nullcontext() if dry_run else _locked(target.folder):
        merged, warnings = _merge(target, stores, budget)
        tables = {table: merged.rows_of(table) for table in TABLES if table != "predictions"}
        tables["predictions"] = merged.predictions(_wanted(study, merged.runs, predictions))
        if not dry_run:
            _write(target.folder, tables)
    counts = Counter(str(row["budget"]) for row in merged.runs.values())
    budgets = ", ".join(f"{counts[name]} {name}" for name in BUDGETS if counts[name])
    lines = [f"{store.folder}: {len(merged.of(store))} new runs" for store in stores]
    lines.append(f"{target.folder}: {len(merged.runs)} runs ({budgets or 'none'})")
    return Published(lines, warnings)


@dataclass(frozen=True)
class Merged:
    """The runs of the published store: their rows of `runs`, and where their other rows are."""

    runs: dict[str, Row]
    origin: dict[str, Store]
    stores: list[Store]  # the target first
    finished: dict[Store, dict[str, Row]]

    def of(self, store: Store) -> set[str]:
        return {run_id for run_id, origin in self.origin.items() if origin is store}

    def rows_of(self, table: str) -> pa.Table:
        """All rows of a table, ordered by run and step."""
        parts = [store.rows(table, self.of(store)) for store in self.stores]
        rows = pa.concat_tables(parts)
        missing = self.runs.keys() - set(pc.unique(rows.column("run_id")).to_pylist())
        if missing and table not in OPTIONAL_TABLES:
            raise InputError(f"rows of {len(missing)} runs are missing in {table}: publish again")
        return _ordered(rows)

    def predictions(self, wanted: Mapping[str, Collection[str]]) -> pa.Table:
        """Those that the target has, and the wanted ones, of the very same training."""
        parts = [self.stores[0].rows("predictions", self.of(self.stores[0]))]
        for network in NETWORKS:
            have = pc.unique(parts[0].filter(pc.field("network") == network).column("run_id"))
            lacking = {i for i in self.runs if network in wanted[i]} - set(have.to_pylist())
            for store in self.stores[1:]:
                own = self.finished[store]
                same = {i for i in lacking & own.keys() if _equal(own[i], self.runs[i])}
                parts.append(store.rows("predictions", same, where={"network": network}))
                lacking -= set(pc.unique(parts[-1].column("run_id")).to_pylist())
        rows = pa.concat_tables(parts)
        place = pc.index_in(rows.column("network"), pa.array(NETWORKS, TEXT))
        order = pa.table({"run_id": rows.column("run_id"), "network": place})
        keys = [("run_id", "ascending"), ("network", "ascending")]
        return rows.take(pc.sort_indices(order, keys))


def _merge(target: Store, stores: list[Store], budget: str | None) -> tuple[Merged, list[str]]:
    """All that is refused is refused here, before anything is written."""
    finished = {store: _finished(store) for store in [target, *stores]}
    _refuse_losses(target, finished[target], set().union(*finished.values()))
    runs, origin = dict(finished[target]), dict.fromkeys(finished[target], target)
    candidates: dict[str, list[tuple[str, int, Store]]] = {}
    for number, store in enumerate(stores):
        for run_id, row in finished[store].items():
            if run_id not in runs and budget in (None, row["budget"]):
                found = (str(row["finished_at"]), number, store)
                candidates.setdefault(run_id, []).append(found)
    rounds = {
        run_id: finished[found[0][2]][run_id]["round"] for run_id, found in candidates.items()
    }
    warnings = []
    # Parents first: whether a child may come depends on the parent that was chosen.
    for run_id in sorted(candidates, key=lambda run_id: (rounds[run_id], run_id)):
        for _, _, store in sorted(candidates[run_id], key=lambda found: found[:2]):
            row = finished[store][run_id]
            if _has_its_parent(row, finished[store], runs):
                runs.setdefault(run_id, row)
                origin.setdefault(run_id, store)
            elif run_id not in runs:
                warnings.append(
                    f"left out: {_name(row)}: the run that selected its images is not there, or is"
                    " another training than the published one"
                )
    new = {run_id: row for run_id, row in runs.items() if origin[run_id] is not target}
    _refuse_unclean(new)
    _refuse_mixtures(runs, {i: store.folder for i, store in origin.items()})
    for store in stores:
        warnings += [f"left out: cannot read {p} ({why})" for p, why in store.unreadable.items()]
        lacking = set(store.read("runs", columns=["run_id"])["run_id"]) - finished[store].keys()
        warnings += [
            f"left out: {i} in {store.folder}: not all of its rows are there"
            for i in sorted(lacking)
        ]
        for run_id in finished[store].keys() & runs.keys():
            one, other = finished[store][run_id]["last_accuracy"], runs[run_id]["last_accuracy"]
            if repr(one) != repr(other):
                warnings.append(
                    f"left out: {_name(runs[run_id])} has last_accuracy {one} in {store.folder},"
                    f" {other} in {origin[run_id].folder}"
                )
    return Merged(dict(sorted(runs.items())), origin, [target, *stores], finished), warnings


def _finished(store: Store) -> dict[str, Row]:
    ids = store.finished()["run_id"]
    damaged = {path.stem for path in store.unreadable}
    for table in OPTIONAL_TABLES:  # `finished` does not look at these
        store.runs_in(table, ids)
        damaged |= {path.stem for path in store.unreadable}
    rows = store.rows("runs", ids).to_pylist()
    return {row["run_id"]: row for row in rows if row["run_id"] not in damaged}


def _equal(one: Row, other: Row) -> bool:
    """Whether two rows are of the same training; as text, in which NaN equals NaN."""
    return repr(one) == repr(other)


def _has_its_parent(row: Row, own: Mapping[str, Row], published: Mapping[str, Row]) -> bool:
    parent = row["parent"]
    if not parent:
        return True
    return parent in published and (parent not in own or _equal(own[parent], published[parent]))


def _name(row: Row) -> str:
    return f"{row['algorithm']} {row['label_set']} #{row['repeat']} ({row['run_id']})"


def _refuse_losses(target: Store, finished: Mapping[str, Row], everywhere: set[str]) -> None:
    """A damaged or missing file of the target is restored by a person, not written over.

    Args:
        finished: the runs of the target.
        everywhere: ids of the runs of target and sources.
    """
    for path, reason in target.unreadable.items():
        raise InputError(
            f"cannot read {path} ({reason}): restore it, or remove it and publish sources that"
            " have its runs"
        )
    named = {table: _runs_in(target.folder / table / FILE) for table in TABLES}
    lost = named["runs"] - finished.keys()
    if lost:
        raise InputError(
            f"{target.folder / 'runs' / FILE} names {len(lost)} runs whose rows are missing in"
            " other tables: restore the files there, or publish sources that have them"
        )
    # What a crash has left is there once more in the sources.
    if not named["runs"] and set().union(*named.values()) - everywhere:
        raise InputError(
            f"{target.folder} has tables but no runs/{FILE}: restore it, or remove the others"
        )


def _runs_in(path: Path) -> set[str]:
    if not path.exists():
        return set()
    return set(pc.unique(pq.read_table(path, columns=["run_id"])["run_id"]).to_pylist())


def _refuse_unclean(new: Mapping[str, Row]) -> None:
    """Refuse runs that others cannot check."""
    faults = {run_id: _fault(row) for run_id, row in new.items()}
    unclean = [run_id for run_id in new if faults[run_id]]
    if unclean:
        raise InputError(
            f"{len(unclean)} of {len(new)} new runs cannot be checked by others:"
            f" {_name(new[unclean[0]])}, for one, has {faults[unclean[0]]}; train them again from a"
            " clean checkout, or publish the others with --budget"
        )


def _fault(row: Row) -> str:
    for name in CHECKED_BY:
        if row[name] in (None, "", "{}"):
            return f"no {name}"
    return f"commit {row['commit']}" if row["commit"].endswith("-dirty") else ""


def _refuse_mixtures(runs: Mapping[str, Row], folders: Mapping[str, Path]) -> None:
    """Refuse two data sets, or two label sets, of one name."""
    fingerprints: dict[str, str] = {}
    label_sets: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
    for run_id, row in runs.items():
        refuse_mixtures(
            folders[run_id], [row], fingerprints, label_sets,
            elsewhere="elsewhere", remedy="publish them with another --to",
        )  # fmt: skip
        fingerprints.setdefault(row["dataset"], row["dataset_fingerprint"])
        label_sets.setdefault((row["dataset"], row["label_set"]), labels_of(row))


def _wanted(study: Study, runs: Mapping[str, Row], choice: str) -> dict[str, set[str]]:
    """By run: the networks whose predictions are published."""
    usual = {"needed": (), "last": ("last",), "all": NETWORKS}[choice]
    wanted = {run_id: {*usual} for run_id in runs}
    datasets = {str(row["dataset"]) for row in runs.values()}
    for budget in BUDGETS:
        with contextlib.suppress(InputError):  # a study may lack a budget
            for run in study.enumerate(budget):
                # On custom data the runs of a study have other ids.
                reads = run.parent is not None and run.rank_by not in BY_GRAPH
                for dataset in {run.dataset, *datasets} if reads else ():
                    parent = run.with_fields(dataset=dataset).parent
                    assert parent is not None
                    wanted.get(parent.id, set()).add(run.rank_by)
    return wanted


def _ordered(rows: pa.Table) -> pa.Table:
    keys = [(name, "ascending") for name in ("run_id", "step") if name in rows.column_names]
    return rows.take(pc.sort_indices(rows, keys))


def _write(folder: Path, tables: Mapping[str, pa.Table]) -> None:
    """One file per table, `runs` last; then remove the files whose rows are in them."""
    try:
        for table in sorted(tables, key=lambda table: table == "runs"):
            if len(tables[table]):
                _replace(folder / table / FILE, _encoded(table, tables[table]))
        published = set(tables["runs"].column("run_id").to_pylist())
        for table in TABLES:
            for path in parts_in(folder / table):
                if path.name != FILE and _runs_in(path) <= published:
                    path.unlink()
    except OSError as error:
        raise InputError(f"cannot write results to {folder}: {error.strerror or error}") from error


def _replace(path: Path, content: bytes) -> None:
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, lambda temporary: temporary.write_bytes(content))


def _encoded(table: str, rows: pa.Table) -> bytes:
    """A parquet file with these rows.

    Of the encodings these came out smallest under zstd: dictionaries of texts, accuracies, rounded
    doubts and the pixels of labeled images, which all runs on a label set share; nothing for other
    numbers, except for those of the tables that have a row for each of many images.
    """
    few = [c.name for c in rows.schema if c.type == TEXT or c.name == "test_accuracy"]
    few += ["doubt", "image"] if table == "labeled_images" else []
    special = {
        "predictions": {"image_index": "DELTA_BINARY_PACKED", "doubt": "BYTE_STREAM_SPLIT"},
        "labeled_images": dict.fromkeys(("position", "image_index"), "DELTA_BINARY_PACKED"),
    }
    buffer = pa.BufferOutputStream()
    pq.write_table(
        rows.combine_chunks(), buffer, row_group_size=2**20, compression="zstd",
        compression_level=LEVEL, use_dictionary=few, write_statistics=False, store_schema=False,
        column_encoding=special.get(table), dictionary_pagesize_limit=DICTIONARY_BYTES,
    )  # fmt: skip
    return bytes(buffer.getvalue())


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Publish into a store alone.

    Raises:
        InputError: another process does, or the folder cannot be written.
    """
    path = folder / "state" / "publish.lock"  # git ignores `state`
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path).acquire(timeout=LOCK_SECONDS)
    except filelock.Timeout as error:
        raise InputError(f"another process publishes to {folder}: wait for it") from error
    except OSError as error:
        raise InputError(f"cannot write results to {folder}: {error.strerror or error}") from error
    with lock:
        yield
