"""Publishing: every finished run once, small, checked, and nothing lost in a crash."""

import dataclasses
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.load import load
from boss import cli
from boss.cli import main
from boss.errors import InputError
from boss.results.publish import FILE, NETWORKS, PREDICTIONS, publish
from boss.results.read import Store
from boss.results.schema import OPTIONAL_TABLES, TABLES
from boss.study.study import Study
from boss.workers import runtime as place
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
        if path.is_file()
    }


def compact(results, name, tables=tuple(TABLES)):
    """One file per table in place of its parts, as they come."""
    for table in tables:
        folder = results / "s" / table
        paths = sorted(folder.glob("*.parquet"))
        if paths:
            rows = pa.concat_tables(pq.ParquetFile(path).read() for path in paths)
            for path in paths:
                path.unlink()
            pq.write_table(rows, folder / name)


def test_a_published_store_reads_as_its_source(parts, tmp_path):
    source, to = tmp_path / "a", tmp_path / "to"
    copy(parts, source, RUNS)
    for name in ("state/x", "networks", "report"):
        (source / "s" / name).mkdir(parents=True)
        (source / "s" / name / "x.parquet").write_text("not for others")
    before = files(source)
    done = publish(STUDY, [source], to, predictions="all")
    assert files(source) == before
    assert content(to) == content(source)
    assert {*files(to)} == {f"s/{table}/{FILE}" for table in TABLES}
    assert sorted(os.listdir(to / "s")) == sorted(TABLES)
    one, other = load(source, "s"), load(to, "s")
    for name in ("runs", "evaluations", "class_evaluations"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name), check_exact=True)
    assert one.warnings == other.warnings == []
    for table in TABLES:
        frame = pd.read_parquet(to / "s" / table)
        assert list(frame.columns) == TABLES[table].names
        keys = frame[["run_id", "step"] if "step" in frame else ["run_id"]]
        pd.testing.assert_frame_equal(keys, keys.sort_values([*keys.columns], kind="stable"))
    assert done.warnings == []
    assert done.bytes_before == 0
    assert done.bytes_after == sum(map(len, files(to).values()))
    assert done.bytes_after < sum(len(x) for n, x in before.items() if n.split("/")[1] in TABLES)


def test_rows_that_lie_apart_are_brought_together(parts, tmp_path):
    copy(parts, tmp_path / "a", RUNS)
    compact(tmp_path / "a", "all.parquet")
    for table in TABLES:
        path = tmp_path / "a" / "s" / table / "all.parquet"
        rows = pq.read_table(path, partitioning=None)
        order = [*range(1, len(rows), 2), *range(0, len(rows), 2)]
        if "step" not in rows.column_names:  # only steps say in which order rows come
            order = [*range(len(rows))]
        else:  # the rows of one step stay in order
            steps = rows.column("step").to_numpy()
            order = np.argsort(-steps, kind="stable")
        pq.write_table(rows.take(order), path, row_group_size=3)
    publish(STUDY, [tmp_path / "a"], tmp_path / "to", predictions="all")
    assert content(tmp_path / "to") == content(parts)


def test_the_command_says_what_it_did(parts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("s.py").write_text(
        "from boss.study import Run, Study\n"
        f"RUNS = [Run.from_dict(fields) for fields in {[run.as_dict() for run in RUNS]!r}]\n"
        "STUDY = Study(reproduces='nothing', runs=lambda budget: RUNS)\n"
    )
    copy(parts, Path("results"), RUNS[:3])
    copy(parts, Path("more"), RUNS[1:])
    assert main(["publish", "s.py", "--dry-run"]) == 0
    planned = capsys.readouterr().out.splitlines()
    assert not Path("results/reference").exists()
    assert planned[-1] == "nothing was written (--dry-run)"
    assert main(["publish", "s.py"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == planned[:-1]
    size = sum(map(len, files(Path("results/reference")).values()))
    assert out == [
        "results/s: 3 finished, 3 new, 0 already there",
        f"results/reference/s: 3 runs (3 short), 0 -> {size:,} bytes",
    ]
    assert main(["publish", "s.py", "--results", "results", "--results", "more",
                 "--results", "more"]) == 0  # fmt: skip
    out, err = capsys.readouterr()
    after = sum(map(len, files(Path("results/reference")).values()))
    assert out.splitlines() == [
        "results/s: 3 finished, 0 new, 3 already there",
        "more/s: 5 finished, 3 new, 2 already there",
        f"results/reference/s: 6 runs (6 short), {size:,} -> {after:,} bytes",
    ]
    assert err == ""
    assert networks(Path("results/reference")) == NEEDED
    assert main(["publish", "s.py", "--results", "more", "--predictions", "all"]) == 0
    assert len(networks(Path("results/reference"))) == 2 * len(RUNS)


def test_one_folder_by_several_names_is_one_source(parts, tmp_path):
    copy(parts, tmp_path / "a", RUNS)
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "s").symlink_to("../a/s")
    sources = [tmp_path / name for name in ("a", "a", "link", "b")]
    [source] = publish(STUDY, sources, tmp_path / "to").sources
    assert (source.new, source.elsewhere) == (len(RUNS), 0)
    # Nor is the target one, by whatever name.
    assert publish(STUDY, [tmp_path / "b"], tmp_path / "link").sources == []


def test_the_command_names_the_choices():
    for choice in PREDICTIONS:
        arguments = cli._parser().parse_args(["publish", "s", "--predictions", choice])
        assert arguments.predictions == choice
    with pytest.raises(InputError, match="choose from needed, last, all"):
        publish(STUDY, [], Path("x"), predictions="some")


def test_publishing_again_changes_no_file(parts, tmp_path):
    copy(parts, tmp_path / "a", RUNS)
    publish(STUDY, [tmp_path / "a"], tmp_path / "to")
    before = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in tmp_path.rglob("*.parquet")}
    bytes_before = files(tmp_path / "to")
    for sources in ([tmp_path / "a"], [], [tmp_path / "to"]):
        done = publish(STUDY, sources, tmp_path / "to")
        assert done.bytes_before == done.bytes_after
        assert files(tmp_path / "to") == bytes_before
    after = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in tmp_path.rglob("*.parquet")}
    assert after == before


def test_without_sources_the_parts_become_one_file_per_table(parts, tmp_path):
    """With all their predictions: nothing that was published goes."""
    copy(parts, tmp_path, RUNS[:2])
    compact(tmp_path, "all.parquet")
    copy(parts, tmp_path, RUNS[2:])
    before, size = content(tmp_path), sum(map(len, files(tmp_path).values()))
    done = publish(CHILDLESS, [tmp_path], tmp_path)
    assert done.sources == []
    assert content(tmp_path) == before == content(parts)
    assert {*files(tmp_path)} == {f"s/{table}/{FILE}" for table in TABLES}
    assert done.bytes_before == size
    assert done.bytes_after == sum(map(len, files(tmp_path).values())) < size


# Splits: what comes in which source, and in which order


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 2), min_size=1), min_size=len(RUNS), max_size=len(RUNS)),
    st.permutations(range(3)),
    st.sets(st.integers(0, 2)),
    st.booleans(),
    st.sampled_from([*PREDICTIONS]),
)
def test_any_split_and_order_of_sources_gives_the_same_files(
    parts, where, order, compacted, at_once, predictions
):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        publish(STUDY, [parts], folder / "whole", predictions=predictions)
        for number in range(3):
            source = folder / str(number)
            copy(parts, source, [run for run, at in zip(RUNS, where, strict=True) if number in at])
            (source / "s").mkdir(parents=True, exist_ok=True)
            if number in compacted:
                compact(source, "some.parquet")
        sources = [folder / str(number) for number in order]
        # One by one, a child may come before its parent: it waits for that.
        for some in [sources] if at_once else [*([source] for source in sources), sources]:
            publish(STUDY, some, folder / "to", predictions=predictions)
        assert files(folder / "to") == files(folder / "whole")


def test_of_a_run_in_two_sources_the_first_that_finished_is_taken(tmp_path):
    write(tmp_path / "late", [PARENT, OTHER], seed=1, finished_at="2021-01-01T00:00:09+00:00",
          last_accuracy=0.25)  # fmt: skip
    write(tmp_path / "early", [PARENT], finished_at="2021-01-01T00:00:08+00:00", last_accuracy=0.5)
    expected = content(tmp_path / "early")
    for number, order in enumerate(itertools.permutations(["late", "early"])):
        to = tmp_path / str(number)
        done = publish(STUDY, [tmp_path / name for name in order], to, predictions="all")
        assert content(to, [PARENT.id]) == expected
        assert {source.folder.parent.name: source.new for source in done.sources} == {
            "late": 1, "early": 1,
        }  # fmt: skip
        [warning] = done.warnings
        assert warning == (
            f"left out: fixmatch fixmatch:3@10 #0 ({PARENT.id}) has last_accuracy 0.25 in"
            f" {tmp_path}/late/s, 0.5 in {tmp_path}/early/s"
        ).replace("fixmatch fixmatch", f"{PARENT.algorithm} fixmatch")


def test_what_the_target_has_is_not_replaced_by_what_finished_earlier(tmp_path):
    write(tmp_path / "to", [PARENT], last_accuracy=0.25)
    before = content(tmp_path / "to")
    write(tmp_path / "a", [PARENT, OTHER], seed=1, finished_at="2019-01-01T00:00:00+00:00",
          last_accuracy=0.5)  # fmt: skip
    done = publish(STUDY, [tmp_path / "a"], tmp_path / "to", predictions="all")
    assert content(tmp_path / "to", [PARENT.id]) == before
    assert ids(tmp_path / "to") == {PARENT.id, OTHER.id}
    [warning] = done.warnings
    assert "last_accuracy 0.5 in" in warning
    assert done.sources[0].line().endswith("s: 2 finished, 1 new, 1 already there")


# Predictions


@pytest.mark.parametrize("predictions", PREDICTIONS)
def test_which_predictions_come_along(parts, tmp_path, predictions):
    publish(STUDY, [parts], tmp_path, predictions=predictions)
    expected = {
        "needed": NEEDED,
        "last": NEEDED | {(run.id, "last") for run in RUNS},
        "all": {(run.id, network) for run in RUNS for network in NETWORKS},
    }
    assert networks(tmp_path) == expected[predictions]
    theirs = Store(parts, "s").read("predictions").set_index(["run_id", "network"])
    mine = Store(tmp_path, "s").read("predictions").set_index(["run_id", "network"])
    pd.testing.assert_frame_equal(mine, theirs[theirs.index.isin(expected[predictions])])


def test_predictions_may_follow_from_the_same_training(parts, tmp_path):
    publish(CHILDLESS, [parts], tmp_path / "to")
    assert networks(tmp_path / "to") == set()
    assert Store(tmp_path / "to", "s").finished()["run_id"].tolist() == sorted(r.id for r in RUNS)
    publish(STUDY, [parts], tmp_path / "to")
    assert networks(tmp_path / "to") == NEEDED
    write(tmp_path / "again", [CHILD], seed=1, seconds=1.0)  # another training
    publish(STUDY, [tmp_path / "again"], tmp_path / "to", predictions="all")
    assert networks(tmp_path / "to") == NEEDED
    publish(STUDY, [tmp_path / "again", parts], tmp_path / "to", predictions="all")
    assert content(tmp_path / "to") == content(parts)
    publish(CHILDLESS, [parts], tmp_path / "to")  # what is there stays
    assert content(tmp_path / "to") == content(parts)


def test_children_on_data_of_ones_own_have_their_parents_predictions(tmp_path):
    """There the runs of the study have other ids."""
    runs = [run.with_fields(dataset="own.npz") for run in RUNS]
    write(tmp_path / "a", runs)
    publish(STUDY, [tmp_path / "a"], tmp_path / "to")
    own = {run.id: moved.id for run, moved in zip(RUNS, runs, strict=True)}
    assert networks(tmp_path / "to") == {(own[run_id], network) for run_id, network in NEEDED}


def test_a_study_that_lacks_a_budget_is_published(parts, tmp_path):
    def runs(budget):
        return RUNS if budget == "short" else []

    publish(dataclasses.replace(STUDY, runs=runs), [parts], tmp_path)
    assert networks(tmp_path) == NEEDED


def test_a_child_needs_the_predictions_of_the_network_that_picks(parts, tmp_path):
    publish(STUDY, [parts], tmp_path / "to")
    store = Store(tmp_path / "to", "s")
    finished = {PARENT.id, OTHER.id}
    cli._check_parents(store, [CHILD, LEAK], finished)
    with pytest.raises(InputError, match=r"needs predictions of .*: publish it again from where"):
        cli._check_parents(store, [made.child_of(OTHER, 2, rank_by="best_test")], finished)


# Refusals


UNCLEAN = [
    ("commit", "", "has no commit"),
    ("commit", None, "has no commit"),
    ("commit", "0123abc-dirty", "has commit 0123abc-dirty"),
    ("device", "", "has no device"),
    ("versions", None, "has no versions"),
    ("versions", "{}", "has no versions"),
    ("dataset_fingerprint", "", "has no dataset_fingerprint"),
    ("finished_at", None, "has no finished_at"),
]


@pytest.mark.parametrize(("column", "value", "reason"), UNCLEAN)
@pytest.mark.parametrize("is_dry", [False, True])
def test_a_run_that_cannot_be_checked_is_refused(tmp_path, column, value, reason, is_dry):
    write(tmp_path / "a", [PARENT])
    write(tmp_path / "a", [OTHER, CHILD], **{column: value})
    write(tmp_path / "b", [RATED])
    with pytest.raises(InputError) as caught:
        publish(STUDY, [tmp_path / "b", tmp_path / "a"], tmp_path / "to", dry_run=is_dry)
    first = min(OTHER, CHILD, key=lambda run: run.id)
    message = str(caught.value)
    assert message.startswith("2 of 4 new runs cannot be checked by others: ")
    assert first.id in message and f"{tmp_path}/a/s" in message and reason in message
    assert "\n" not in message
    assert not (tmp_path / "to").exists()
    # Those that are published need no check, and are not touched.
    if column == "dataset_fingerprint":
        return  # no other data has none
    write(tmp_path / "to", [OTHER, CHILD], **{column: value})
    publish(STUDY, [tmp_path / "b", tmp_path / "a"], tmp_path / "to")
    assert ids(tmp_path / "to") == {PARENT.id, OTHER.id, CHILD.id, RATED.id}


def test_a_refusal_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = made.make_run()
    row, tables = made.rows(run)
    store = Store(Path("results"), "oneshot_digits")
    store.write(row | {"commit": "abc-dirty"}, **tables | {"predictions": [{"network": "last"}]})
    assert main(["publish", "oneshot_digits"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("boss-study: error: 1 of 1 new runs cannot be checked")
    assert "train them again from a clean checkout" in err
    assert err.count("\n") == 1
    assert main(["publish", "oneshot_digits", "--results", "nowhere"]) == 2
    assert capsys.readouterr().err == "boss-study: error: no results in nowhere/oneshot_digits\n"
    assert not Path("results/reference").exists()


@pytest.mark.parametrize("where", ["target", "source", "same"])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset_fingerprint": "f" * 64}, "other data called cifar10"),
        ({"labels": [*range(10)]}, "other images called fixmatch:3@10"),
        ({"label_classes": [*range(10)][::-1]}, "other images called fixmatch:3@10"),
    ],
)
def test_mixtures_are_refused(tmp_path, where, changes, reason):
    one = {"target": "to", "source": "a", "same": "b"}[where]
    write(tmp_path / one, [PARENT])
    write(tmp_path / "b", [OTHER], **changes)
    before = files(tmp_path)
    sources = [tmp_path / name for name in "ab" if (tmp_path / name).exists()]
    with pytest.raises(InputError, match=rf"b/s holds runs on {reason}.* another --to"):
        publish(STUDY, sources, tmp_path / "to")
    assert files(tmp_path) == before
    assert (tmp_path / "to").exists() == (where == "target")


def test_picks_are_no_other_label_set(parts, tmp_path):
    rows = Store(parts, "s").read("runs").set_index("run_id")
    assert len(rows.loc[CHILD.id, "labels"]) > len(rows.loc[PARENT.id, "labels"])
    publish(STUDY, [parts], tmp_path)


# Damage


@pytest.mark.parametrize("table", TABLES)
def test_a_run_with_a_damaged_part_is_left_out(parts, tmp_path, table):
    copy(parts, tmp_path / "a", RUNS)
    path = tmp_path / "a" / "s" / table / f"{RATED.id}.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    done = publish(STUDY, [tmp_path / "a"], tmp_path / "to", predictions="all")
    [warning] = done.warnings
    assert warning.startswith(f"left out: cannot read {path} (")
    others = {run.id for run in RUNS} - {RATED.id}
    assert ids(tmp_path / "to") == others
    assert content(tmp_path / "to") == content(parts, others)
    copy(parts, tmp_path / "b", RUNS)
    done = publish(STUDY, [tmp_path / "a", tmp_path / "b"], tmp_path / "to", predictions="all")
    assert content(tmp_path / "to") == content(parts)
    assert len(done.warnings) == 1


def test_a_run_without_the_younger_tables_is_published(parts, tmp_path):
    copy(parts, tmp_path / "a", RUNS)
    for table in OPTIONAL_TABLES:
        shutil.rmtree(tmp_path / "a" / "s" / table)
    publish(STUDY, [tmp_path / "a"], tmp_path / "to")
    assert content(tmp_path / "to") == content(tmp_path / "a")


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", [f"{PARENT.id}.parquet", FILE])
def test_nothing_is_written_over_a_damaged_file_of_the_target(parts, tmp_path, table, name):
    copy(parts, tmp_path / "a", RUNS)
    copy(parts, tmp_path / "to", [PARENT, RATED])
    if name == FILE:
        publish(STUDY, [], tmp_path / "to")
    (tmp_path / "to" / "s" / table / name).write_text("<<<<<<< two versions")
    before = files(tmp_path)
    with pytest.raises(InputError, match=rf"cannot read .*/{table}/{name} \(.*\): restore it"):
        publish(STUDY, [tmp_path / "a"], tmp_path / "to")
    assert files(tmp_path) == before


def assert_refused(attempts, to, message):
    """Publishing from these sources, one attempt after the other, says so and changes no file."""
    before = files(to)
    for sources in attempts:
        with pytest.raises(InputError, match=message):
            publish(STUDY, sources, to)
        assert files(to) == before


@pytest.mark.parametrize("table", ["evaluations", "class_evaluations", "labeled_images"])
def test_a_missing_file_of_the_target_is_no_reason_to_drop_its_runs(parts, tmp_path, table):
    copy(parts, tmp_path / "a", [PARENT, RATED])
    copy(parts, tmp_path / "b", [OTHER])
    to = tmp_path / "to"
    publish(STUDY, [tmp_path / "a"], to)
    whole = content(to)
    (to / "s" / table / FILE).unlink()
    if table in OPTIONAL_TABLES:  # stores without these are whole
        publish(STUDY, [], to)
        assert ids(to) == {PARENT.id, RATED.id}
        return
    message = f"names 2 runs that lack rows in {table}: restore"
    assert_refused([[], [tmp_path / "b"]], to, message)
    publish(STUDY, [tmp_path / "a"], to)
    assert content(to) == whole


def test_without_the_file_of_runs_the_other_files_stay(parts, tmp_path):
    copy(parts, tmp_path / "a", [PARENT, RATED])
    copy(parts, tmp_path / "b", [OTHER])
    to = tmp_path / "to"
    publish(STUDY, [tmp_path / "a"], to)
    result = files(to)
    (to / "s" / "runs" / FILE).unlink()
    message = r"rows of 2 runs that runs/.* is missing: restore it"
    assert_refused([[], [tmp_path / "b"]], to, message)
    publish(STUDY, [tmp_path / "a"], to)
    assert files(to) == result


def test_a_run_of_a_source_that_lacks_a_part_is_named(parts, tmp_path):
    copy(parts, tmp_path / "a", [PARENT, RATED])
    (tmp_path / "a" / "s" / "evaluations" / f"{RATED.id}.parquet").unlink()
    done = publish(STUDY, [tmp_path / "a"], tmp_path / "to")
    assert ids(tmp_path / "to") == {PARENT.id}
    assert done.warnings == [
        f"left out: {RATED.id} in {tmp_path}/a/s: it is named in runs/, but rows of it are missing"
    ]


def test_a_target_that_cannot_be_written_is_one_line(parts, tmp_path):
    (tmp_path / "to").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="cannot write results to"):
        publish(STUDY, [parts], tmp_path / "to")


# Crashes


class Crash(BaseException):
    """The process was killed: nothing that it still wanted to do is done."""


class Disk:
    """Operations on files, of which those after the first so many never come."""

    NAMES = ("replace", "rename", "unlink", "remove", "rmdir", "mkdir", "fsync")

    def __init__(self, patch, count):
        self.left = count
        self.names = []
        for name in self.NAMES:
            patch.setattr(os, name, self.counted(getattr(os, name), name))
        whole = Path.write_bytes
        patch.setattr(Path, "write_bytes", self.counted(whole, "write", self.half_of(whole)))

    def half_of(self, write):
        return lambda path, content: write(path, bytes(content)[: len(content) // 2])

    def counted(self, operation, name, crash=None):
        def call(*arguments, **named):
            self.left -= 1
            if self.left == 0 and crash:
                crash(*arguments)
            if self.left <= 0:
                raise Crash
            self.names.append(name)
            # A crash of the process, not of the machine, keeps what is not flushed.
            return None if name == "fsync" else operation(*arguments, **named)

        return call


def empty(parts, folder):
    """Nothing was published so far."""
    copy(parts, folder, [])
    (folder / "s").mkdir(parents=True)


def folded(parts, folder):
    """One file per table."""
    copy(parts, folder, [PARENT, RATED])
    publish(STUDY, [], folder)


def mixed(parts, folder):
    """Such files, files of another name, parts, and some of a run that had not finished."""
    copy(parts, folder, [RATED])
    publish(STUDY, [], folder)
    for table in TABLES:
        path = parts / "s" / table / f"{OTHER.id}.parquet"
        if path.exists():
            shutil.copy(path, folder / "s" / table / "all.parquet")
    copy(parts, folder, [PARENT])
    copy(parts, folder, [CHILD], tables=("evaluations", "predictions"))


def crash_at(count, sources, to):
    """Publish until so many operations have begun; returns the names of those that ended."""
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, count)
        try:
            publish(STUDY, sources, to)
        except Crash:
            return disk.names, True
        return disk.names, False


def assert_whole(to, expected, states):
    """The store has the runs of one of the states, and each with all of its rows, once."""
    store = Store(to, "s")
    found = set(store.read("runs")["run_id"])
    assert found in states
    assert set(store.finished()["run_id"]) == found
    for table in TABLES:
        rows = [row for row in expected[table] if row["run_id"] in found]
        assert repr(store.rows(table).to_pylist()) == repr(rows), table
    assert not store.unreadable


@pytest.mark.parametrize("before", [empty, folded, mixed])
def test_a_crash_at_any_moment_loses_nothing_and_counts_nothing_twice(parts, tmp_path, before):
    old, new, to = (tmp_path / name for name in ("old", "new", "to"))
    before(parts, old)
    shutil.copytree(old, new)
    publish(STUDY, [parts], new)
    store, result = Store(new, "s"), files(new)
    expected = {table: store.rows(table).to_pylist() for table in TABLES}
    states = (ids(old), ids(new))
    assert len(states[0]) < len(states[1]) == len(RUNS)
    for count in itertools.count(1):
        shutil.copytree(old, to)
        names, crashed = crash_at(count, [parts], to)
        if not crashed:
            break
        assert_whole(to, expected, states)
        if count % 5 == 0 and ids(to):
            assert load(to, "s").warnings == []
        if count % 3 == 0:  # another crash on the way of repairing it
            crash_at(1 + 7 * count % 20, [parts], to)
        elif count % 3 == 1:  # what is there needs no source
            found, left = ids(to), files(to)
            if any(name.endswith(FILE) for name in left) and f"s/runs/{FILE}" not in left:
                # Or has a file gone?
                with pytest.raises(InputError, match=f"runs/{FILE} is to name, which is missing"):
                    publish(STUDY, [], to)
                assert files(to) == {n: c for n, c in left.items() if "lock" not in n}
            else:
                publish(STUDY, [], to)
                assert ids(to) == found
        publish(STUDY, [parts], to)
        assert files(to) == result
        shutil.rmtree(to)
    changed = {name for name, found in result.items() if files(old).get(name) != found}
    assert names.count("replace") == len(changed)
    assert names.count("unlink") == len(files(old).keys() - result.keys()) + len(changed) + 1


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.results import test_publish as test

replace, left = os.replace, [3]

def replace_or_die(*names):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*names)

os.replace = replace_or_die
test.publish(test.STUDY, [Path(sys.argv[1])], Path(sys.argv[2]))
"""


def test_a_killed_process_leaves_no_lock(parts, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, parts, tmp_path / "to"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = {name.split("/")[-1] for name in files(tmp_path / "to")}
    assert "publish.lock" in left and any(name.startswith(f".{FILE}.") for name in left)
    assert ids(tmp_path / "to") == set()
    publish(STUDY, [parts], tmp_path / "to")
    publish(STUDY, [parts], tmp_path / "new")
    assert files(tmp_path / "to") == files(tmp_path / "new")
    assert not (tmp_path / "to" / "s" / "state").exists()


# Several at a time


# Going on from there


TRAINED = """
from boss.study import Run, Study

BASE = dict(dataset="digits", label_set="fixmatch:1@10", repeat=0, network="wrn-7-1",
            algorithm="fixmatch", num_images=80, batch_size=8, unlabeled_ratio=2,
            teacher_decay=0.9, norm_momentum=0.1, num_evaluations=1)
PARENT = Run(**BASE)
STUDY = Study(
    reproduces="nothing", default_budget="short",
    runs=lambda budget: [PARENT, Run(**BASE, parent=PARENT, picks_per_class=3)],
)
"""


def test_a_study_goes_on_from_what_was_published(tmp_path, monkeypatch, capsys):
    """Finished runs are not trained again, and children pick what they would have picked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(place, "commit", lambda: "0123456789ab")
    Path("mine.py").write_text(TRAINED)

    def run(*arguments):
        assert main(["run", "mine.py", "--device", "cpu", "--workers", "1", *arguments]) == 0
        return capsys.readouterr().out

    run("--only", "round=0")
    assert main(["publish", "mine.py"]) == 0
    run()
    [expected] = [row for row in Store(Path("results"), "mine").rows("runs").to_pylist()
                  if row["round"] == 1]  # fmt: skip
    assert "1 finished before, 1 to do" in run("--results", "results/reference")
    there = Store(Path("results/reference"), "mine")
    [found] = [row for row in there.rows("runs").to_pylist() if row["round"] == 1]
    for name in ("labels", "label_classes", "last_accuracy", "num_picks"):
        assert found[name] == expected[name]
    assert main(["publish", "mine.py", "--results", "results/reference"]) == 0
    assert "2 runs (2 short)" in capsys.readouterr().out
    assert [path.name for path in (there.folder / "runs").iterdir()] == [FILE]
    assert "2 finished before, 0 to do" in run("--results", "results/reference")


def test_refining_reads_what_was_published_with_the_last_predictions(tmp_path):
    from boss.prototypes.refine import refine

    runs = [made.make_run(label_set=f"fixmatch:{i}@10", repeat=r, num_evaluations=2)
            for i in (0, 1) for r in (0, 1)]  # fmt: skip
    write(tmp_path / "a", runs, options="{}")
    publish(CHILDLESS, [tmp_path / "a"], tmp_path / "last", predictions="last")
    publish(CHILDLESS, [tmp_path / "a"], tmp_path / "needed")
    expected = refine(Store(tmp_path / "a", "s")).lines()
    assert refine(Store(tmp_path / "last", "s")).lines() == expected
    with pytest.raises(InputError, match="predictions of 4 runs are missing"):
        refine(Store(tmp_path / "needed", "s"))
    oracle = refine(Store(tmp_path / "needed", "s"), rule="test-accuracy")
    assert oracle.lines() == refine(Store(tmp_path / "a", "s"), rule="test-accuracy").lines()


def test_a_child_comes_with_the_training_that_picked_for_it_or_not_at_all(tmp_path):
    """Store a has a parent, b another training of it and its child."""
    write(tmp_path / "a", [PARENT], finished_at="2026-01-01T00:00:00+00:00", last_accuracy=0.5)
    write(tmp_path / "b", [PARENT, CHILD], finished_at="2026-02-01T00:00:00+00:00")
    for order in (("a", "b"), ("b", "a")):
        to = tmp_path / "to" / order[0]
        done = publish(STUDY, [tmp_path / name for name in order], to)
        assert ids(to) == {PARENT.id}
        assert Store(to, "s").read("runs")["last_accuracy"].tolist() == [0.5]
        assert any(CHILD.id in line and "another training" in line for line in done.warnings)
        # Nor when the parent is already there.
        assert CHILD.id not in ids(to)
        publish(STUDY, [tmp_path / "b"], to)
        assert ids(to) == {PARENT.id}
    # With the parent that is its own it comes.
    publish(STUDY, [tmp_path / "b"], tmp_path / "own")
    assert ids(tmp_path / "own") == {PARENT.id, CHILD.id}


def test_a_child_without_any_parent_is_left_out_until_that_comes(tmp_path):
    grandchild = made.child_of(CHILD, 2, num_evaluations=2)
    write(tmp_path / "child", [CHILD, grandchild])
    done = publish(STUDY, [tmp_path / "child"], tmp_path / "to")
    assert ids(tmp_path / "to") == set()
    assert len([line for line in done.warnings if line.startswith("left out")]) == 2
    write(tmp_path / "parent", [PARENT])
    done = publish(STUDY, [tmp_path / name for name in ("child", "parent")], tmp_path / "to")
    assert ids(tmp_path / "to") == {PARENT.id, CHILD.id, grandchild.id}
    assert done.warnings == []


def test_only_one_budget(tmp_path):
    smoke = dataclasses.replace(OTHER, budget="smoke")
    write(tmp_path / "a", [PARENT])
    write(tmp_path / "a", [smoke], commit="abc-dirty")
    with pytest.raises(InputError, match="publish the others with --budget"):
        publish(STUDY, [tmp_path / "a"], tmp_path / "to")
    done = publish(STUDY, [tmp_path / "a"], tmp_path / "to", budget="short")
    assert ids(tmp_path / "to") == {PARENT.id}
    assert done.budgets == {"short": 1}
    assert done.sources[0].line().endswith("s: 2 finished, 1 new, 0 already there, 1 left out")
    with pytest.raises(InputError, match="budget"):
        publish(STUDY, [tmp_path / "a"], tmp_path / "to", budget="long")
