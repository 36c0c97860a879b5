"""Publishing: every finished run once, checked, and nothing lost."""

import dataclasses
import itertools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.load import load
from boss.cli import main
from boss.errors import InputError
from boss.results.publish import FILE, NETWORKS, PREDICTIONS, publish
from boss.results.read import Store
from boss.results.schema import OPTIONAL_TABLES, SPARSE_TABLES, TABLES
from boss.study.study import Study
from tests.analysis import data as made

ROOT = Path(__file__).parents[2]
PARENT, OTHER = (made.method_run(4, repeat=repeat, num_evaluations=3) for repeat in (0, 1))
RATED = made.make_run(label_set="fixmatch:5@10", augmentation="ctaugment", num_evaluations=2)
CHILD = made.child_of(PARENT, 2, num_evaluations=2)
LEAK = made.child_of(PARENT, 2, rank_by="best_test", num_evaluations=2)
RUNS = [PARENT, OTHER, RATED, CHILD, LEAK, made.child_of(OTHER, 2, num_evaluations=2)]
STUDY = Study(reproduces="nothing", runs=lambda budget: RUNS, name="s")
CHILDLESS = dataclasses.replace(STUDY, runs=lambda budget: [PARENT])
NEEDED = {(PARENT.id, "last"), (PARENT.id, "best_test"), (OTHER.id, "last")}


def write(results, runs, *, seed=0, **changes):
    """A store of these runs, whose rows have these values."""
    store = Store(results, "s")
    for run in runs:
        row, tables = made.rows(run)
        tables["evaluations"][0]["test_loss"] = float("nan")  # not the same as an empty value
        doubts = made.stream("doubts", run.id, seed).random(8)
        tables["predictions"] = [
            {"network": NETWORKS[i // 4], "image_index": i % 4, "guess": i % 3, "doubt": doubts[i]}
            for i in range(8)
        ]
        store.write(row | {"study": "s"} | changes, **tables)
    return store


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The parts of all runs: do not change them."""
    folder = tmp_path_factory.mktemp("parts")
    write(folder, RUNS)
    return folder


def copy(parts, results, runs, tables=tuple(TABLES)):
    for run, table in itertools.product(runs, tables):
        path = parts / "s" / table / f"{run.id}.parquet"
        (results / "s" / table).mkdir(parents=True, exist_ok=True)
        if path.exists():
            shutil.copy(path, results / "s" / table)


def content(results, run_ids=None):
    """The rows of every table of a store as text, in which NaN equals NaN."""
    store = Store(results, "s")
    found = {table: repr(store.rows(table, run_ids).to_pylist()) for table in TABLES}
    assert not store.unreadable
    return found


def ids(results):
    return set(Store(results, "s").read("runs")["run_id"])


def networks(results):
    """Whose predictions are there."""
    table = Store(results, "s").read("predictions")
    return set(zip(table["run_id"], table["network"], strict=True))


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "publish.lock"
    }


def test_a_published_store_reads_as_its_source(parts, tmp_path):
    source, to = tmp_path / "a", tmp_path / "to"
    copy(parts, source, RUNS)
    before = files(source)
    done = publish(STUDY, [source], to, predictions="all")
    assert files(source) == before
    assert content(to) == content(source)
    assert {*files(to)} == {f"s/{table}/{FILE}" for table in TABLES}
    one, other = load(source, "s"), load(to, "s")
    for name in ("runs", "evaluations", "class_evaluations"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name), check_exact=True)
    assert not one.warnings and not other.warnings and not done.warnings
    for table in TABLES:
        frame = pd.read_parquet(to / "s" / table)
        keys = frame[["run_id", "step"] if "step" in frame else ["run_id"]]
        pd.testing.assert_frame_equal(keys, keys.sort_values([*keys.columns], kind="stable"))


def test_publishing_again_changes_no_file(parts, tmp_path):
    copy(parts, tmp_path / "a", RUNS)
    publish(STUDY, [tmp_path / "a"], tmp_path / "to")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "to/s").glob("*/*.parquet")}
    publish(STUDY, [tmp_path / "a"], tmp_path / "to")
    publish(STUDY, [], tmp_path / "to")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "to/s").glob("*/*.parquet")} == before


def test_without_sources_the_parts_become_one_file_per_table(parts, tmp_path):
    copy(parts, tmp_path / "to", RUNS)
    expected = content(tmp_path / "to")
    publish(STUDY, [], tmp_path / "to")
    assert content(tmp_path / "to") == expected
    assert {*files(tmp_path / "to")} == {f"s/{table}/{FILE}" for table in TABLES}


def test_the_pixels_of_a_label_set_are_stored_once(tmp_path):
    """Here 100 images of 2 kB each, which all runs share."""
    sizes = []
    for count in (1, 30):
        runs = [made.make_run(label_set="fixmatch:3@100", repeat=number) for number in range(count)]
        results = tmp_path / str(count)
        for run in runs:
            row, tables = made.rows(run)
            for image in tables["labeled_images"]:
                image["image"] = made.stream("noise", image["image_index"]).bytes(2_000)
            tables["predictions"] = [
                {"network": "last", "image_index": 0, "guess": 0, "doubt": 0.5}
            ]
            Store(results, "s").write(row | {"study": "s"}, **tables)
        expected = content(results)
        publish(STUDY, [], results)
        assert content(results) == expected
        sizes.append((results / "s/labeled_images" / FILE).stat().st_size)
    assert 200_000 < sizes[0] < sizes[1] < 1.1 * sizes[0]


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.integers(0, 2), min_size=len(RUNS), max_size=len(RUNS)), st.permutations(range(3))
)
def test_any_split_and_order_of_sources_gives_the_same_files(parts, where, order):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(3):
            chosen = [run for run, at in zip(RUNS, where, strict=True) if at == number]
            (folder / str(number) / "s").mkdir(parents=True)
            copy(parts, folder / str(number), chosen)
        copy(parts, folder / "all", RUNS)
        publish(STUDY, [folder / "all"], folder / "once")
        publish(STUDY, [folder / str(number) for number in order], folder / "split")
        for number in order:
            publish(STUDY, [folder / str(number)], folder / "in turn")
        publish(STUDY, [folder / str(number) for number in order], folder / "in turn")
        assert files(folder / "split") == files(folder / "once")
        assert content(folder / "in turn") == content(folder / "once")


def test_the_first_that_finished_is_taken_and_never_replaced(tmp_path):
    for name, at in (("late", "2026-01-02"), ("early", "2026-01-01"), ("earliest", "2025-01-01")):
        seed = {"late": 0, "early": 1, "earliest": 2}[name]
        write(tmp_path / name, [OTHER], seed=seed, finished_at=at, last_accuracy=0.1 * seed)
    done = publish(CHILDLESS, [tmp_path / "late", tmp_path / "early"], tmp_path / "to")
    [row] = Store(tmp_path / "to", "s").read("runs").to_dict("records")
    assert row["finished_at"] == "2026-01-01"
    assert "last_accuracy" in done.warnings[0]
    before = files(tmp_path / "to")
    publish(CHILDLESS, [tmp_path / "earliest"], tmp_path / "to")
    assert files(tmp_path / "to") == before


@pytest.mark.parametrize("predictions", PREDICTIONS)
def test_which_predictions_come_along(parts, tmp_path, predictions):
    copy(parts, tmp_path / "a", RUNS)
    publish(STUDY, [tmp_path / "a"], tmp_path / "to", predictions=predictions)
    every = {(run.id, network) for run in RUNS for network in NETWORKS}
    last = {pair for pair in every if pair[1] == "last"}
    expected = {"needed": NEEDED, "last": last | NEEDED, "all": every}[predictions]
    assert networks(tmp_path / "to") == expected
    publish(STUDY, [tmp_path / "a"], tmp_path / "to", predictions="all")  # of the same training
    assert networks(tmp_path / "to") == every
    assert content(tmp_path / "to") == content(tmp_path / "a")


UNCLEAN = [
    ("commit", None, "no commit"), ("commit", "0123abc-dirty", "commit 0123abc-dirty"),
    ("device", "", "no device"), ("versions", "{}", "no versions"),
    ("dataset_fingerprint", "", "no dataset_fingerprint"), ("finished_at", None, "no finished_at"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value", "reason"), UNCLEAN)
def test_a_run_that_cannot_be_checked_is_refused(tmp_path, column, value, reason):
    write(tmp_path / "a", [OTHER])
    publish(CHILDLESS, [tmp_path / "a"], tmp_path / "to")
    before = files(tmp_path / "to")
    write(tmp_path / "b", [PARENT], **{column: value})
    for dry in (True, False):
        with pytest.raises(InputError, match=f"1 of 1 new runs .*{PARENT.id}.*{reason}"):
            publish(CHILDLESS, [tmp_path / "b"], tmp_path / "to", dry_run=dry)
    assert files(tmp_path / "to") == before


@pytest.mark.parametrize("where", ["target", "source"])
@pytest.mark.parametrize(("changes", "reason"), [
    ({"dataset_fingerprint": "0" * 64}, "other data called cifar10"),
    ({"labels": [5, 6, 7], "num_labels": 3}, "other images called fixmatch:3@10"),
])  # fmt: skip
def test_mixtures_are_refused(tmp_path, where, changes, reason):
    write(tmp_path / "a", [PARENT])
    write(tmp_path / "b", [OTHER], **changes)
    sources = [tmp_path / "a", tmp_path / "b"]
    if where == "target":
        publish(CHILDLESS, [sources.pop(0)], tmp_path / "to")
    with pytest.raises(InputError, match=f"holds runs on {reason}.* another --to"):
        publish(CHILDLESS, sources, tmp_path / "to")


@pytest.mark.parametrize("table", TABLES)
def test_a_run_with_a_damaged_part_is_left_out(parts, tmp_path, table):
    copy(parts, tmp_path / "a", [PARENT, OTHER, RATED])
    run = RATED if table in SPARSE_TABLES else OTHER
    (tmp_path / "a/s" / table / f"{run.id}.parquet").write_text("no parquet")
    done = publish(CHILDLESS, [tmp_path / "a"], tmp_path / "to")
    assert ids(tmp_path / "to") == {r.id for r in (PARENT, OTHER, RATED)} - {run.id}
    assert any(f"{run.id}.parquet" in line for line in done.warnings)


def test_a_run_that_lacks_rows_is_left_out_by_name(parts, tmp_path):
    copy(parts, tmp_path / "a", [PARENT, OTHER])
    (tmp_path / "a/s/evaluations" / f"{OTHER.id}.parquet").unlink()
    [warning] = publish(CHILDLESS, [tmp_path / "a"], tmp_path / "to").warnings
    assert OTHER.id in warning
    assert ids(tmp_path / "to") == {PARENT.id}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("damage", ["garbage", "missing"])
def test_nothing_is_written_over_a_target_that_lost_something(parts, tmp_path, table, damage):
    copy(parts, tmp_path / "a", [PARENT, RATED])
    publish(CHILDLESS, [tmp_path / "a"], tmp_path / "to", predictions="all")
    path = tmp_path / "to/s" / table / FILE
    if damage == "garbage":
        path.write_text("no parquet")
    elif table in OPTIONAL_TABLES:
        return  # may be left out by design
    else:
        path.unlink()
    before = files(tmp_path / "to")
    copy(parts, tmp_path / "b", [OTHER])
    with pytest.raises(InputError, match="restore"):
        publish(CHILDLESS, [tmp_path / "b"], tmp_path / "to")
    assert files(tmp_path / "to") == before


def test_a_run_without_the_optional_tables_is_published(parts, tmp_path):
    tables = [table for table in TABLES if table not in OPTIONAL_TABLES]
    copy(parts, tmp_path / "a", [PARENT], tables)
    publish(CHILDLESS, [tmp_path / "a"], tmp_path / "to")
    assert ids(tmp_path / "to") == {PARENT.id}


def test_a_child_comes_with_the_training_that_selected_its_images_or_not_at_all(parts, tmp_path):
    write(tmp_path / "a", [PARENT], finished_at="2026-01-01")
    write(tmp_path / "b", [PARENT, CHILD], finished_at="2026-01-02")
    copy(parts, tmp_path / "c", [CHILD])
    for name in "bc":  # another training of its parent is published; none is there
        to = tmp_path / f"to {name}"
        [warning] = publish(
            STUDY, [tmp_path / "a"] * (name == "b") + [tmp_path / name], to
        ).warnings
        assert "selected its images" in warning and CHILD.id in warning
        assert CHILD.id not in ids(to)
    publish(STUDY, [tmp_path / "b"], tmp_path / "to")
    assert ids(tmp_path / "to") == {PARENT.id, CHILD.id}


def test_only_one_budget(tmp_path):
    short = OTHER.with_fields(budget="smoke")
    write(tmp_path / "a", [PARENT, short])
    publish(CHILDLESS, [tmp_path / "a"], tmp_path / "to", budget="smoke")
    assert ids(tmp_path / "to") == {short.id}


def test_the_command(parts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    copy(parts, tmp_path / "a", [PARENT, OTHER])
    (tmp_path / "s.py").write_text(
        "from boss.study import Run, Study\n"
        "run = Run(dataset='digits', algorithm='fixmatch', label_set='fixmatch:0@10', repeat=0,"
        " network='wrn-7-1', num_images=64)\n"
        "STUDY = Study(reproduces='', runs=lambda budget: [run])\n"
    )
    words = ["publish", "s.py", "--results", "a", "--to", "to"]
    assert main([*words, "--dry-run"]) == 0
    assert "2 new runs" in capsys.readouterr().out
    assert not Path("to").exists()
    assert main(words) == 0
    assert "to/s: 2 runs" in capsys.readouterr().out
    assert ids(tmp_path / "to") == {PARENT.id, OTHER.id}
    for wrong in (["--results", "nowhere"], ["--predictions", "some"], ["--budget", "tiny"]):
        assert main(["publish", "s.py", *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_line(parts, tmp_path):
    copy(parts, tmp_path / "a", [PARENT])
    (tmp_path / "to").write_text("a file")
    with pytest.raises(InputError, match="cannot write results"):
        publish(CHILDLESS, [tmp_path / "a"], tmp_path / "to")


CRASHING = """
import os
from pathlib import Path
left = [{count}]
def counted(function):
    def call(*arguments, **options):
        left[0] -= 1
        if left[0] == 0: os._exit(9)
        return function(*arguments, **options)
    return call
os.replace, Path.unlink = counted(os.replace), counted(Path.unlink)
from tests.results.test_publish import STUDY, publish
publish(STUDY, [Path({source!r})], Path({to!r}))
"""


@pytest.mark.slow
def test_a_crash_at_any_moment_loses_nothing_and_counts_nothing_twice(parts, tmp_path):
    """A process that is gone at its first, second, ... change of a file, over a store of parts."""
    copy(parts, tmp_path / "a", RUNS[:3])
    copy(parts, tmp_path / "before", RUNS[3:] + RUNS[:1])
    expected = None
    for count in itertools.count(1):
        to = tmp_path / f"to{count}"
        shutil.copytree(tmp_path / "before", to)
        code = CRASHING.format(count=count, source=str(tmp_path / "a"), to=str(to))
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
        assert done.returncode in (0, 9), done.stderr
        found = Store(to, "s").finished()
        assert found["run_id"].is_unique
        assert {run.id for run in RUNS[3:] + RUNS[:1]} <= set(found["run_id"])
        publish(STUDY, [tmp_path / "a"], to)
        expected = expected or content(to)
        assert content(to) == expected
        if done.returncode == 0:
            assert count > 10
            break
