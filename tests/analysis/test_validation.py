"""Runs that are not whole are named, with the reason, and take part in nothing."""

import math
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import load
from analysis.validation.runs import INHERITED
from analysis.validation.tables import Tables
from analysis.validation.validate import validate
from boss.errors import InputError
from boss.results.publish import FILE
from boss.results.read import Store
from boss.results.schema import REQUIRED, TABLES
from tests.analysis.damage import Change, edit, part_of, with_cell, without_rows
from tests.analysis.data import child_of, grid_of_runs, make_run, method_run, rows, write_store

STUDY = "synthetic"
PARENT = method_run(4, num_evaluations=4)
CHILD = child_of(PARENT, 5, num_evaluations=4)
OTHERS = grid_of_runs(("supervised", "fixmatch"), 2, 2, num_evaluations=4)
RUNS = [*OTHERS, PARENT, CHILD]
BAD = OTHERS[5]  # fixmatch fixmatch:0@10 #1
NAME = f"fixmatch fixmatch:0@10 #1 ({BAD.id})"
LAST = BAD.num_steps
TEACHER = {"step": -1, "network": "teacher"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder in which all is well."""
    folder = tmp_path_factory.mktemp("whole")
    write_store(folder, RUNS)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(whole / STUDY, tmp_path / STUDY)
    return tmp_path


def assert_as_if_never_there(found: load.Results, whole: Path, *run_ids: str) -> None:
    """Everything is as in a store without these runs."""
    folder = whole / "without" / "-".join(sorted(run_ids) or ["none"])
    if not folder.exists():
        write_store(folder, [run for run in RUNS if run.id not in run_ids])
    clean = load.load(folder, STUDY)
    pd.testing.assert_frame_equal(load.metrics(found), load.metrics(clean))
    for name in ("runs", *load.COLUMNS):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(clean, name))


def cell(table: str, column: str, value: Any, **where: Any) -> tuple[str, Change]:
    return table, with_cell(column, value, **where)


WRONG = {
    # One value
    "last_accuracy is missing": cell("runs", "last_accuracy", math.nan),
    "last_accuracy is 7.5, not in [0, 1]": cell("runs", "last_accuracy", 7.5),
    "best_test_accuracy is inf, not in [0, 1]": cell("runs", "best_test_accuracy", math.inf),
    "repeat is -1, not in [0, inf)": cell("runs", "repeat", -1),
    "learning_rate is inf, not in (0, inf)": cell("runs", "learning_rate", math.inf),
    "seconds is -3, not in [0, inf)": cell("runs", "seconds", -3.0),
    "budget is 'x', none of smoke, laptop, short, paper": cell("runs", "budget", "x"),
    "label_set is missing": cell("runs", "label_set", None),
    "options is '[1]', no JSON object": cell("runs", "options", "[1]"),
    "options is '{', no JSON object": cell("runs", "options", "{"),
    "versions is '{\"a\": NaN}', no JSON object": cell("runs", "versions", '{"a": NaN}'),
    f"test_accuracy is missing (step {LAST}, student)": cell(
        "evaluations", "test_accuracy", None, step=-1, network="student"
    ),
    f"test_accuracy is -0.25, not in [0, 1] (step {LAST}, teacher)": cell(
        "evaluations", "test_accuracy", -0.25, **TEACHER
    ),
    f"used_share is 2, not in [0, 1] (step {LAST}, teacher)": cell(
        "evaluations", "used_share", 2.0, **TEACHER
    ),
    f"network is 'x', none of teacher, student (step {LAST}, x)": cell(
        "evaluations", "network", "x", **TEACHER
    ),
    "step is 0, not in [1, inf) (step 0, teacher)": cell("evaluations", "step", 0, **TEACHER),
    f"test_accuracy is inf, not in [0, 1] (step {LAST}, class 3)": cell(
        "class_evaluations", "test_accuracy", math.inf, class_index=3, **TEACHER
    ),
    f"test_count is -1, not in [0, inf) (step {LAST}, class 3)": cell(
        "class_evaluations", "test_count", -1, class_index=3, **TEACHER
    ),
    f"class_name is missing (step {LAST}, class 3)": cell(
        "class_evaluations", "class_name", None, class_index=3, **TEACHER
    ),
    # Rows of runs
    "num_steps is not num_images / batch_size": cell("runs", "num_images", 640),
    "labels are not as many as num_labels": cell("runs", "num_labels", 11),
    "num_picks is larger than num_labels": cell("runs", "num_picks", 11),
    "round and parent contradict each other": cell("runs", "round", 1),
    "last_accuracy is larger than best_test_accuracy": cell("runs", "best_test_accuracy", 0.0),
    "last_accuracy is 0, not what its evaluations say": cell("runs", "last_accuracy", 0.0),
    "median_last_20_accuracy is 1, not what its evaluations say": cell(
        "runs", "median_last_20_accuracy", 1.0
    ),
    "best_test_accuracy is 1, not what its evaluations say": cell(
        "runs", "best_test_accuracy", 1.0
    ),
    # Evaluations
    f"the evaluation after its last step ({LAST}) is missing": (
        "evaluations", without_rows(**TEACHER)
    ),
    "its evaluations are not as many as num_evaluations": (
        "evaluations", without_rows(step=1, network="teacher")
    ),
    f"an evaluation is after the last step (step {LAST + 1}, student)": cell(
        "evaluations", "step", LAST + 1, step=-1, network="student"
    ),
    f"images_seen is 7, not step x batch_size (step {LAST}, teacher)": cell(
        "evaluations", "images_seen", 7, **TEACHER
    ),
    "validation_accuracy is missing in rows of evaluations": cell("runs", "num_validation", 100),
    "used_share is missing in rows of evaluations": cell(
        "evaluations", "used_share", None, **TEACHER
    ),
    f"rows of evaluations contradict each other (step {LAST}, teacher)": (
        "evaluations",
        lambda table: pd.concat([table, with_cell("used_share", 0.5)(table.iloc[[-2]].copy())]),
    ),
    # Classes
    f"the row of a class is missing (step {LAST})": (
        "class_evaluations", without_rows(class_index=9, **TEACHER)
    ),
    f"the row of a class is missing (step {round(LAST / 4)})": (
        "class_evaluations", without_rows(class_index=9, network="teacher")
    ),
    f"the row of a class is missing (step {round(LAST / 2)})": cell(
        "class_evaluations", "class_index", 12, step=1, class_index=4, network="teacher"
    ),
    f"the rows of classes are missing (step {LAST}, teacher)": (
        "class_evaluations", without_rows(**TEACHER)
    ),
    f"rows of classes without an evaluation (step {LAST - 1})": (
        "class_evaluations",
        lambda table: pd.concat([table, table.tail(20).assign(step=LAST - 1)]),
    ),
    f"class_name is not the same after all steps (step {round(LAST / 4)}, class 3)": cell(
        "class_evaluations", "class_name", "x", class_index=3, **TEACHER
    ),
    "class names are not those of most runs on this data": cell(
        "class_evaluations", "class_name", "x", class_index=3
    ),
    f"test_accuracy is missing (step {LAST}, class 3)": cell(
        "class_evaluations", "test_accuracy", None, class_index=3, **TEACHER
    ),
    f"class accuracies do not add up to the accuracy of all (step {LAST})": cell(
        "class_evaluations", "test_accuracy", 0.5, class_index=3, **TEACHER
    ),
    "predicted_count is missing in rows of class_evaluations": cell(
        "class_evaluations", "predicted_count", None, class_index=3, **TEACHER
    ),
    f"pseudo_label_count is larger than predicted_count (step {LAST}, class 3)": cell(
        "class_evaluations", "pseudo_label_count", 10**6, class_index=3, **TEACHER
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", WRONG)
def test_what_is_wrong_with_a_run_is_said(folder: Path, whole: Path, reason: str) -> None:
    table, change = WRONG[reason]
    edit(folder / STUDY, table, BAD.id, change)
    found = load.load(folder, STUDY)
    [row] = found.left_out.to_dict("records")
    assert (row["run_id"], row["reason"]) == (BAD.id, reason)
    assert found.warnings == [f"left out: {row['name']}: {reason}"]
    assert_as_if_never_there(found, whole, BAD.id)


def compact(folder: Path) -> None:
    """Put all rows of each table into one file, as published stores have them."""
    for table in TABLES:
        paths = sorted((folder / STUDY / table).glob("*.parquet"))
        if paths:
            parts = [pq.read_table(path, partitioning=None) for path in paths]
            for path in paths:
                path.unlink()
            pq.write_table(pa.concat_tables(parts), folder / STUDY / table / FILE)


@pytest.mark.parametrize(
    "reason",
    [
        "label_set is missing",
        "options is '{', no JSON object",
        f"class_name is missing (step {LAST}, class 3)",
    ],
)
def test_of_a_published_store_damage_costs_one_run(folder: Path, whole: Path, reason: str) -> None:
    table, change = WRONG[reason]
    compact(folder)
    edit(folder / STUDY, table, BAD.id, change)
    found = load.load(folder, STUDY)
    assert list(found.left_out["reason"]) == [reason]
    assert_as_if_never_there(found, whole, BAD.id)


def test_rows_of_no_run_are_counted(folder: Path, whole: Path) -> None:
    compact(folder)
    for table in ("runs", "evaluations"):
        edit(folder / STUDY, table, BAD.id, with_cell("run_id", None))
    found = load.load(folder, STUDY)
    assert sorted(found.warnings) == [
        f"left out: rows of no run in evaluations/{FILE}: 8",
        f"left out: rows of no run in runs/{FILE}: 1",
    ]
    assert_as_if_never_there(found, whole, BAD.id)


def test_runs_without_evaluations(folder: Path, whole: Path) -> None:
    for table in load.COLUMNS:
        part_of(folder / STUDY, table, BAD.id).unlink()
        found = load.load(folder, STUDY)
        assert list(found.left_out["reason"]) == ["it has no rows in evaluations"]
    assert_as_if_never_there(found, whole, BAD.id)


def test_a_run_that_stands_twice(folder: Path, whole: Path) -> None:
    again = {"same": lambda rows: rows, "other": with_cell("seconds", 7.0)}
    for kind, change in again.items():
        edit(
            folder / STUDY,
            "runs",
            BAD.id,
            lambda rows, change=change: pd.concat([rows, change(rows.copy())]),
        )
        found = load.load(folder, STUDY)
        if kind == "same":
            assert found.warnings == [f"rows of runs that are stored twice count once: {BAD.id}"]
            assert_as_if_never_there(found, whole)
        else:
            assert list(found.left_out["reason"]) == ["rows of runs contradict each other"]
            assert_as_if_never_there(found, whole, BAD.id)


# Parents


def test_a_child_is_measured_without_the_evaluations_of_its_parent(folder: Path) -> None:
    """What it reached is its own, and the row of its parent says what it started from."""
    edit(folder / STUDY, "evaluations", PARENT.id, without_rows(**TEACHER))
    found = load.load(folder, STUDY)
    assert list(found.left_out["run_id"]) == [PARENT.id]
    child = found.runs.set_index("run_id").loc[CHILD.id]
    assert child["variant"] == "boss-4 -> fixmatch +5"
    assert len(found.warnings) == 1


def test_a_parent_with_a_damaged_row_gives_no_name(folder: Path) -> None:
    edit(folder / STUDY, "runs", PARENT.id, with_cell("learning_rate", math.nan))
    found = load.load(folder, STUDY)
    assert list(found.left_out["run_id"]) == [PARENT.id]
    child = found.runs.set_index("run_id").loc[CHILD.id]
    assert child["variant"] == "? -> fixmatch +5"
    assert CHILD.id in found.warnings[1] and "has a damaged row" in found.warnings[1]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("round", 2, "round is 2, which its parent rules out"),
        ("repeat", 3, "repeat is 3, which its parent rules out"),
        ("label_set", "boss:1", "label_set is 'boss:1', which its parent rules out"),
        ("parent", CHILD.id, "round is 1, which its parent rules out"),
    ],
)
def test_a_child_that_cannot_be_of_its_parent(
    folder: Path, whole: Path, column: str, value: object, reason: str
) -> None:
    edit(folder / STUDY, "runs", CHILD.id, with_cell(column, value))
    found = load.load(folder, STUDY)
    assert list(found.left_out["reason"]) == [reason]
    assert_as_if_never_there(found, whole, CHILD.id)


# Many runs


def test_classes_are_those_of_most_runs_and_of_the_first_if_as_many_have_others(
    tmp_path: Path,
) -> None:
    runs = [make_run(repeat=repeat, num_evaluations=2) for repeat in range(4)]
    for number, run in enumerate(runs):  # they finish in this order
        row, tables = rows(run, ("cat", "dog") if number in (1, 2) else ("cat", "wolf"))
        Store(tmp_path, STUDY).write(row, **tables)
    found = load.load(tmp_path, STUDY)
    assert set(found.left_out["run_id"]) == {runs[1].id, runs[2].id}
    for part in (tmp_path / STUDY / "runs").glob(f"{runs[0].id}*"):
        part.unlink()
    assert list(load.load(tmp_path, STUDY).left_out["run_id"]) == [runs[3].id]


def test_without_a_whole_run_the_error_says_why(folder: Path) -> None:
    for run in RUNS:
        edit(folder / STUDY, "runs", run.id, with_cell("last_accuracy", 7.5))
    with pytest.raises(InputError) as error:
        load.load(folder, STUDY)
    [line] = str(error.value).splitlines()
    assert "last_accuracy is 7.5, not in [0, 1]; and 9 more" in line


def test_of_many_runs_some_are_named_and_all_are_listed(tmp_path: Path) -> None:
    runs = grid_of_runs(num_label_sets=4, num_repeats=2, num_evaluations=2)
    write_store(tmp_path, runs)
    for run in runs[3:]:
        edit(tmp_path / STUDY, "runs", run.id, with_cell("seconds", math.inf))
    found = load.load(tmp_path, STUDY)
    assert set(found.left_out["run_id"]) == {run.id for run in runs[3:]}
    assert len(found.warnings) == load.MAX_NAMED_RUNS + 1
    assert found.warnings[-1] == "left out: 3 more runs"


def test_columns_that_came_later_may_be_missing(folder: Path, whole: Path) -> None:
    """Of a part from before a column the rows are empty there; that is no damage."""
    for table, names in load.COLUMNS.items():
        for column in {*names} - {"run_id", *REQUIRED[table]}:
            edit(folder / STUDY, table, BAD.id, with_cell(column, None))
    found = load.load(folder, STUDY)
    assert found.warnings == []
    pd.testing.assert_frame_equal(load.metrics(found), load.metrics(load.load(whole, STUDY)))


def cells() -> "st.SearchStrategy[tuple[str, str]]":
    """A column of what is read first."""
    columns = {"runs": TABLES["runs"].names, **load.COLUMNS}
    return st.sampled_from([(table, name) for table, names in columns.items() for name in names])


VALUES = [None, math.nan, math.inf, -math.inf, -1, 0, 1, 7.5, 2**62, "", "x", "<b>|$_%\n\x1b[31m"]


@given(data=st.data())
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_stands_in_a_cell_nothing_fails_and_every_run_counts_or_is_named(
    whole: Path, data: st.DataObject
) -> None:
    table, column = data.draw(cells())
    run = data.draw(st.sampled_from(RUNS))
    kind = TABLES[table].field(column).type
    values = [value for value in VALUES if can_be(value, kind)]
    value = data.draw(st.sampled_from(values))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(whole / STUDY, folder / STUDY)
        place = data.draw(st.integers(0, 3))

        def change(rows: pd.DataFrame) -> pd.DataFrame:
            rows.loc[len(rows) - 1 - place * (len(rows) > 3), column] = value
            return rows

        edit(folder / STUDY, table, run.id, change)
        found = load.load(folder, STUDY)
        ids = {run.id for run in RUNS}
        left_out = set(found.left_out["run_id"])
        rules_out_its_child = run == PARENT and column in ("round", *INHERITED)
        assert left_out <= {run.id, str(value), *[CHILD.id] * rules_out_its_child}
        if (table, column) == ("runs", "run_id"):
            assert len(found.runs) >= len(RUNS) - 1
        else:
            assert set(found.runs["run_id"]) == ids - left_out
        table_of_metrics = load.metrics(found)
        counts = table_of_metrics.groupby("run_id")["percent"].count()
        assert set(counts) == {13}  # three of all classes, and 10 classes


def can_be(value: object, kind: pa.DataType) -> bool:
    try:
        pa.array([value], kind)
    except (pa.ArrowException, TypeError, ValueError):
        return False
    return True


def test_validation_takes_seconds_for_ten_million_rows() -> None:
    """Of 10,000 runs with 100 evaluations of 10 classes; a tenth of that is measured."""
    row, parts = rows(make_run(num_images=6400, num_evaluations=100))
    num_runs = 1000
    ids = [f"{number:016x}" for number in range(num_runs)]
    runs = pd.DataFrame([row] * num_runs).assign(run_id=ids, options="{}")

    def repeated(name: str) -> pd.DataFrame:
        table = pd.DataFrame(parts[name], columns=[n for n in load.COLUMNS[name] if n != "run_id"])
        if name == "class_evaluations":
            table = table[pd.DataFrame(parts[name])["network"] == "teacher"]
        many = pd.concat([table] * num_runs, ignore_index=True)
        codes = np.repeat(np.arange(num_runs), len(table))
        texts = {c: many[c].astype("category") for c in ("network", "class_name") if c in many}
        return many.assign(run_id=pd.Categorical.from_codes(codes, ids), **texts)

    tables = Tables(runs, repeated("evaluations"), repeated("class_evaluations"))
    assert len(tables.class_evaluations) == 1_000_000
    started = time.process_time()
    found = validate(tables)
    assert time.process_time() - started < 2
    assert not found.reasons and len(found.tables.runs) == num_runs
