"""Parquet tables: whole or absent, nothing lost, nothing counted twice."""

import json
import os

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from boss.algorithms import hyperparameters
from boss.errors import InputError
from boss.results import read as store_module
from boss.results.read import Store
from boss.results.schema import (
    EMPTY,
    OPTIONAL_TABLES,
    REQUIRED,
    SPARSE_TABLES,
    TABLES,
    data_dictionary,
)
from boss.results.write import write_atomically
from boss.study.run import SETTINGS, Run
from tests.conftest import ROOT

MEASURED = ("first_step_seconds", "execution", "peak_device_bytes")


VALUES = {pa.string(): "x", pa.int64(): 1, pa.int32(): 1, pa.int16(): 1, pa.float64(): 0.5,
          pa.float32(): 0.5, pa.bool_(): False, pa.list_(pa.int64()): [1, 2]}  # fmt: skip


def a_row(table, **values):
    """A row with some value in every column that a part must have."""
    schema = TABLES[table]
    return {name: VALUES[schema.field(name).type] for name in REQUIRED[table]} | values


def run_row(run_id, accuracy=0.5):
    return a_row("runs", run_id=run_id, study="s", options="{}", last_accuracy=accuracy)


def write(store, run_id, accuracy=0.5):
    evaluations = [
        a_row("evaluations", step=i, network="teacher", test_accuracy=accuracy) for i in (1, 2)
    ]
    classes = [a_row("class_evaluations", step=2, class_index=k, network="teacher") for k in (0, 1)]
    store.write(
        run_row(run_id, accuracy),
        evaluations=evaluations,
        class_evaluations=classes,
        labeled_images=[a_row("labeled_images", position=0, image=b"x")],
        predictions=[a_row("predictions", network="last")],
        augmentation_rates=[a_row("augmentation_rates", operation="blur")],
    )


def test_rows_come_back_and_plain_pandas_reads_them(tmp_path):
    store = Store(tmp_path, "s")
    write(store, "b", 0.25)
    write(store, "a", 0.75)
    for frame in (store.read("runs"), pd.read_parquet(tmp_path / "s" / "runs")):
        assert frame["run_id"].tolist() == ["a", "b"]
        assert frame["last_accuracy"].tolist() == [0.75, 0.25]
        assert list(frame.columns) == TABLES["runs"].names
        assert frame["labels"][0].tolist() == [1, 2]
    assert len(store.read("evaluations")) == 4
    assert len(pd.read_parquet(tmp_path / "s" / "class_evaluations")) == 4
    assert store.read("evaluations", ["a"])["run_id"].unique().tolist() == ["a"]
    assert store.finished()["run_id"].tolist() == ["a", "b"]


LATER = [name for name, found in SETTINGS.items() if found.in_id != "always"]
LATER += ["round", "num_picks", "num_wrong_picks", "stop_reason", "oracle", *MEASURED]


def test_runs_from_before_self_training_are_read(tmp_path):
    """Without the younger columns and tables: they were of round 0."""
    store = Store(tmp_path, "s")
    write(store, "a")
    path = tmp_path / "s" / "runs" / "a.parquet"
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns(LATER), path)
    for table in OPTIONAL_TABLES:
        (tmp_path / "s" / table / "a.parquet").unlink()
    [row] = store.finished().to_dict("records")
    assert (row["round"], row["num_picks"], row["pick_labels"]) == (0, 0, "pseudo")
    assert (row["augmentation"], row["optimizer"], row["nesterov"]) == ("randaugment", "sgd", True)
    assert pd.isna(row["parent"])
    assert all(pd.isna(row[name]) for name in MEASURED)
    assert not store.unreadable


def test_what_was_measured_is_stored_and_may_be_left_out(tmp_path):
    store = Store(tmp_path, "s")
    tables = {t: [a_row(t)] for t in TABLES if t not in ("runs", *SPARSE_TABLES)}
    measured = dict(zip(MEASURED, (1.5, "compiled+eager", 2**33 + 1), strict=True))
    store.write(run_row("a") | measured, **tables)
    store.write(run_row("b"), **tables)
    first, second = store.read("runs").to_dict("records")
    assert {name: first[name] for name in MEASURED} == measured
    assert all(pd.isna(second[name]) for name in MEASURED)
    assert not store.unreadable


def test_options_that_came_later_are_filled_in(tmp_path):
    """So that older and newer runs of one setting are one group."""
    store = Store(tmp_path, "s")
    tables = {t: [a_row(t)] for t in TABLES if t not in ("runs", *SPARSE_TABLES)}
    for name, options in (("a", '{"threshold": 0.9}'), ("b", '{"labels": "soft"}')):
        row = run_row(name) | {"algorithm": "fixmatch", "options": options}
        store.write(row, **tables)
    store.write(run_row("c") | {"algorithm": "boss", "options": '{"threshold": 0.9}'}, **tables)
    first, second, third = (json.loads(text) for text in store.read("runs")["options"])
    assert first == hyperparameters("fixmatch") | {"threshold": 0.9}
    assert second == hyperparameters("fixmatch") | {"labels": "soft"}
    assert third == hyperparameters("boss") | {"threshold": 0.9}


def test_a_run_without_rows_of_a_sparse_table_has_no_part_of_it(tmp_path):
    store = Store(tmp_path, "s")
    tables = {t: [a_row(t)] for t in TABLES if t not in ("runs", *SPARSE_TABLES)}
    store.write(run_row("a"), **tables)
    store.write(run_row("b"), **tables, augmentation_rates=[])
    assert store.has_parts("a") and store.has_parts("b")
    assert store.finished()["run_id"].tolist() == ["a", "b"]
    assert not list((tmp_path / "s").glob("augmentation_rates/*"))
    assert store.read("augmentation_rates").empty
    assert not store.unreadable
    with pytest.raises(AssertionError):
        store.write(run_row("c"), **{t: rows for t, rows in tables.items() if t != "predictions"})


def test_frames_are_written_as_rows_are(tmp_path):
    store = Store(tmp_path, "s")
    rows = [{"network": "last", "image_index": i, "guess": i % 3, "doubt": i / 7} for i in range(5)]
    for name, content in (("a", rows), ("b", pd.DataFrame(rows))):
        others = {t: [a_row(t)] for t in TABLES if t not in ("runs", "predictions")}
        store.write(run_row(name), predictions=content, **others)
    one, other = (store.read("predictions", [n]).drop(columns="run_id") for n in "ab")
    pd.testing.assert_frame_equal(one, other)


def test_writing_again_replaces(tmp_path):
    store = Store(tmp_path, "s")
    write(store, "a", 0.25)
    write(store, "a", 0.75)
    assert store.read("runs")["last_accuracy"].tolist() == [0.75]
    assert len(store.read("evaluations")) == 2


def test_a_crash_between_the_parts_leaves_the_run_unfinished(tmp_path, monkeypatch):
    store = Store(tmp_path, "s")
    written = []

    def crash_at_runs(path, write):
        if path.parent.name == "runs":
            raise KeyboardInterrupt
        written.append(path.parent.name)
        write_atomically(path, write)

    monkeypatch.setattr(store_module, "write_atomically", crash_at_runs)
    with pytest.raises(KeyboardInterrupt):
        write(store, "a")
    assert written == [table for table in TABLES if table != "runs"]
    assert store.finished().empty
    assert store.read("evaluations").empty  # rows of a run that did not finish do not count
    assert not store.has_parts("a")


def test_a_crash_while_writing_leaves_nothing_behind(tmp_path):
    def crash(path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "x", crash)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "damage", ["truncated", "empty", "text", "other columns", "no rows", "no id"]
)
def test_an_unreadable_part_is_named_and_costs_its_run_only(tmp_path, table, damage):
    store = Store(tmp_path, "s")
    write(store, "a")
    write(store, "b")
    part = tmp_path / "s" / table / "a.parquet"
    if damage == "truncated":
        part.write_bytes(part.read_bytes()[:-20])
    elif damage == "no rows":
        pq.write_table(TABLES[table].empty_table(), part)
    elif damage == "no id":
        rows = pq.read_table(part, partitioning=None).to_pylist()
        rows = [row | {"run_id": None} for row in rows]
        pq.write_table(pa.Table.from_pylist(rows, schema=TABLES[table]), part)
    elif damage == "other columns":
        pq.write_table(pa.table({"x": [1]}), part)
    else:
        part.write_bytes(b"" if damage == "empty" else b"no parquet at all")
    if table in OPTIONAL_TABLES:  # read where it is needed only: the run has its results
        assert store.finished()["run_id"].tolist() == ["a", "b"]
        assert store.read(table)["run_id"].unique().tolist() == ["b"]
    else:
        assert store.finished()["run_id"].tolist() == ["b"]
    assert list(store.unreadable) == [part]
    assert not store.has_parts("a")
    assert store.has_parts("b")
    write(store, "a")  # the run is done again
    again = Store(tmp_path, "s")
    assert again.finished()["run_id"].tolist() == ["a", "b"]
    assert not again.unreadable


def test_a_compacted_part_holds_several_runs(tmp_path):
    store = Store(tmp_path, "s")
    write(store, "a", 0.25)
    write(store, "b", 0.75)
    for table in TABLES:
        folder = tmp_path / "s" / table
        parts = [pq.read_table(folder / f"{i}.parquet", partitioning=None) for i in "ab"]
        for i in "ab":
            (folder / f"{i}.parquet").unlink()
        pq.write_table(pa.concat_tables(parts), folder / "compacted.parquet")
    assert store.read("runs")["last_accuracy"].tolist() == [0.25, 0.75]
    assert len(store.read("evaluations")) == 4


def test_a_run_in_its_own_part_and_in_a_compacted_one_is_counted_once(tmp_path):
    """As after a crash while a folder was being compacted; and its rows may lie apart."""
    store = Store(tmp_path, "s")
    for run_id, accuracy in (("c", 0.75), ("a", 0.25), ("b", 0.5)):
        write(store, run_id, accuracy)
    for table in ("runs", "evaluations"):
        folder = tmp_path / "s" / table
        rows = pa.concat_tables(
            pq.read_table(folder / f"{i}.parquet", partitioning=None) for i in "cab"
        )
        rows = rows.take([*range(0, len(rows), 2), *range(1, len(rows), 2)])
        pq.write_table(rows, folder / "compacted.parquet", row_group_size=2)
        (folder / "c.parquet").unlink()
    assert store.read("runs")["run_id"].tolist() == ["a", "b", "c"]
    evaluations = store.read("evaluations")
    assert evaluations["run_id"].tolist() == ["a", "a", "b", "b", "c", "c"]
    assert evaluations["step"].tolist() == [1, 2] * 3
    assert evaluations["test_accuracy"].tolist() == [0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    [last, other] = store.read("evaluations", ["c", "a"], only_last=True).to_dict("records")
    assert (last["run_id"], last["step"], other["run_id"], other["step"]) == ("a", 2, "c", 2)
    assert store.finished()["run_id"].tolist() == ["a", "b", "c"]
    assert not store.unreadable
    for table in ("runs", "evaluations"):  # now the compacted ones alone, whose order is another
        for run_id in "ab":
            (tmp_path / "s" / table / f"{run_id}.parquet").unlink()
    pd.testing.assert_frame_equal(Store(tmp_path, "s").read("evaluations"), evaluations)
    assert Store(tmp_path, "s").read("runs")["last_accuracy"].tolist() == [0.25, 0.5, 0.75]


@pytest.mark.parametrize("is_compacted", [False, True])
def test_a_selection_of_rows_and_columns_equals_that_of_the_whole_table(tmp_path, is_compacted):
    store = Store(tmp_path, "s")
    tables = {t: [a_row(t)] for t in TABLES if t not in ("runs", "evaluations", *SPARSE_TABLES)}
    for number, run_id in enumerate("cab"):
        rows = [
            a_row("evaluations", step=step, network=network, test_accuracy=number + step / 10)
            for step in range(1, 3 + number)
            for network in ("teacher", "student")
        ]
        store.write(run_row(run_id), **tables, evaluations=rows[: len(rows) - (number == 2)])
    store.write(run_row("d"), **tables, evaluations=[a_row("evaluations", network="student")])
    if is_compacted:
        folder = tmp_path / "s" / "evaluations"
        parts = [pq.read_table(path, partitioning=None) for path in sorted(folder.iterdir())]
        for path in folder.iterdir():
            path.unlink()
        pq.write_table(pa.concat_tables(parts), folder / "compacted.parquet", row_group_size=5)
    whole = store.read("evaluations")
    assert whole["run_id"].drop_duplicates().tolist() == ["a", "b", "c", "d"]
    names = ["test_accuracy", "step"]
    picked = store.read("evaluations", columns=names, where={"network": "student"})
    expected = whole.loc[whole["network"] == "student", names].reset_index(drop=True)
    pd.testing.assert_frame_equal(picked, expected)
    last = store.read("evaluations", only_last=True)
    is_last = whole["step"] == whole.groupby("run_id")["step"].transform("max")
    pd.testing.assert_frame_equal(last, whole[is_last].reset_index(drop=True))
    categories = store.read("evaluations", as_categories=True)
    assert isinstance(categories["network"].dtype, pd.CategoricalDtype)
    assert categories["network"].tolist() == whole["network"].tolist()
    assert categories["run_id"].cat.categories.tolist() == ["a", "b", "c", "d"]
    # What was picked of `runs` is not taken for all there is.
    assert store.read("runs", where={"study": "other"}).empty
    assert len(store.read("evaluations")) == len(whole)


class _With:
    """A module with some of its names replaced."""

    def __init__(self, module, **names):
        self.module, self.names = module, names

    def __getattr__(self, name):
        return self.names.get(name) or getattr(self.module, name)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "s").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="cannot write results to"):
        Store(tmp_path, "s").check_writable()
    Store(tmp_path, "t").check_writable()
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == sorted(TABLES)


def test_an_empty_folder_has_empty_tables(tmp_path):
    store = Store(tmp_path, "s")
    assert store.finished().empty
    assert list(store.read("evaluations").columns) == TABLES["evaluations"].names


def test_the_data_dictionary_is_the_schema(pytestconfig):
    committed = (pytestconfig.rootpath / "results" / "README.md").read_text()
    renew = "renew it: python -m boss.results.schema > results/README.md"
    assert committed == data_dictionary(), renew


def test_a_file_is_replaced_never_written_into(tmp_path):
    """Who has the old file open goes on reading the old content."""
    path, same = tmp_path / "x", tmp_path / "hard link"
    path.write_text("old")
    same.hardlink_to(path)
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new"
    assert same.read_text() == "old"


def test_a_part_of_another_run_is_not_this_run(tmp_path):
    store = Store(tmp_path, "s")
    write(store, "a")
    write(store, "b")
    for table in TABLES:
        folder = tmp_path / "s" / table
        (folder / "a.parquet").write_bytes((folder / "b.parquet").read_bytes())
        assert not store.has_parts("a")
    assert store.finished()["run_id"].tolist() == ["b"]


def test_a_run_that_stands_twice_in_a_part_is_not_counted_twice(tmp_path):
    store = Store(tmp_path, "s")
    write(store, "a")
    part = tmp_path / "s" / "runs" / "a.parquet"
    rows = pq.read_table(part, partitioning=None)
    pq.write_table(pa.concat_tables([rows, rows]), part)
    assert store.finished().empty
    assert "twice" in store.unreadable[part]


def test_a_file_is_flushed_before_it_gets_its_name(tmp_path, monkeypatch):
    """Else a power cut may leave the name without the content."""
    events, replace = [], os.replace

    def flushed(file):
        size = os.fstat(file).st_size
        events.append(("flush", os.fstat(file).st_ino, size))

    def renamed(old, new):
        events.append(("rename", os.stat(old).st_ino, os.stat(old).st_size))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    path = tmp_path / "file"
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    number = path.stat().st_ino
    assert events == [("flush", number, 3), ("rename", number, 3)]


OPTIONAL_COLUMNS = {
    table: [name for name in schema.names if name not in ("run_id", *REQUIRED[table], *EMPTY)]
    for table, schema in TABLES.items()
}


@pytest.mark.parametrize("table", [table for table, names in OPTIONAL_COLUMNS.items() if names])
def test_a_part_that_lacks_a_column_is_empty_there_and_its_run_stays_finished(table, tmp_path):
    store = Store(tmp_path, "s")
    write(store, "a")
    path = tmp_path / "s" / table / "a.parquet"
    column = OPTIONAL_COLUMNS[table][-1]
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns([column]), path)
    assert store.read(table)[column].isna().all()
    assert store.finished()["run_id"].tolist() == ["a"] and store.has_parts("a")
    assert not store.unreadable


@pytest.mark.parametrize("table", [*TABLES])
def test_a_part_that_lacks_what_every_part_has_is_damaged(table, tmp_path):
    store = Store(tmp_path, "s")
    write(store, "a")
    write(store, "b")
    path = tmp_path / "s" / table / "a.parquet"
    column = REQUIRED[table][-1]
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns([column]), path)
    assert store.read(table)["run_id"].unique().tolist() == ["b"]
    assert store.unreadable == {path: f"it lacks values of {column}"}
    assert not store.has_parts("a") and store.has_parts("b")


@pytest.mark.parametrize("table", [*TABLES])
def test_a_part_of_a_newer_version_is_read_without_what_is_unknown(table, tmp_path):
    store = Store(tmp_path, "s")
    write(store, "a")
    before = store.read(table)
    path = tmp_path / "s" / table / "a.parquet"
    part = pq.read_table(path, partitioning=None)
    pq.write_table(part.append_column("novelty", pa.array(["x"] * len(part))), path)
    pd.testing.assert_frame_equal(store.read(table), before)
    assert store.finished()["run_id"].tolist() == ["a"]
    assert not store.unreadable


def test_all_committed_runs_keep_their_ids():
    """Every row of results/reference hashes to the id it is stored under."""
    found = {}
    for folder in sorted((ROOT / "results/reference").glob("*/runs")):
        store = Store(folder.parents[1], folder.parent.name)
        for row in store.read("runs").to_dict("records"):
            found[row["run_id"]] = row

    def run_of(row):
        fields = {}
        for name in SETTINGS:
            value = row[name]
            fields[name] = None if value is None or value != value else value
        options, defaults = json.loads(row["options"]), hyperparameters(row["algorithm"])
        fields["options"] = {k: v for k, v in options.items() if v != defaults[k]}
        if fields["parent"]:
            if fields["parent"] not in found:
                return None
            fields["parent"] = run_of(found[fields["parent"]])
        return Run.from_dict({**fields, "parent": fields["parent"] and fields["parent"].as_dict()})

    checked = 0
    for run_id, row in found.items():
        run = run_of(row)
        if run is not None and row["algorithm"] != "pseudo_label":
            assert run.id == run_id, row
            checked += 1
    assert checked > 500
