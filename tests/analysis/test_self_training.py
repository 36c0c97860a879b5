"""Self-training: gains, leaks and yardsticks by hand."""

import math
from pathlib import Path
from typing import Any

import pytest

from analysis import load
from analysis.sections import self_training
from boss.study.run import Run
from tests.analysis.data import child_of, full_run, grid_of_runs, make_run, method_run, write_store

CHILD = "boss-4 -> fixmatch +40"


def store_of(folder: Path, accuracies: dict[Run, float], **fields: Any) -> load.Results:
    """A store of runs with these accuracies in percent.

    Args:
        fields: by the name of a column, values by run.
    """
    changes: dict[str, dict[str, Any]] = {
        run.id: {"last_accuracy": percent / 100} for run, percent in accuracies.items()
    }
    for name, values in fields.items():
        for run, value in values.items():
            changes[run.id][name] = value
    write_store(folder, list(accuracies), changes=changes)
    return load.load(folder, "synthetic")


def parent(label_set: str, repeat: int) -> Run:
    return method_run(4, label_set, repeat=repeat)


A, B = "fixmatch:0@10", "fixmatch:1@10"
PARENTS = {parent(A, 0): 50.0, parent(A, 1): 60.0, parent(B, 0): 70.0, parent(B, 1): 40.0}
CHILDREN = {child_of(run): percent for run, percent in zip(PARENTS, (60, 64, 70, 52), strict=True)}


def test_gains_by_hand(tmp_path: Path) -> None:
    # Gains a: 10, 4 (mean 7), b: 0, 12 (mean 6): mean 6.5, sd of the means sqrt(0.5), half width
    # 12.706 * 0.5. Repeats are not label sets: over the four gains it would be another interval.
    found = store_of(tmp_path, PARENTS | CHILDREN)
    [row] = self_training.gains(found.runs).to_dict("records")
    assert (row["variant"], row["started_from"]) == (CHILD, "boss-4")
    assert row["difference_points"] == pytest.approx(6.5)
    ends = (row["difference_low"], row["difference_high"])
    assert ends == pytest.approx((6.5 - 6.3531, 6.5 + 6.3531), abs=1e-4)
    assert row["verdict"] == "undecided"  # two label sets
    assert (row["num_pairs"], row["num_wins"], row["num_ties"]) == (4, 3, 1)
    assert (row["parent_percent"], row["child_percent"]) == pytest.approx((55, 61.5))
    assert (row["round"], row["picks_per_class"], row["is_oracle"]) == (1, 40, False)
    assert math.isnan(row["full_percent"])
    text = self_training.gains_text(self_training.gains(found.runs))
    assert text["gain"].tolist() == ["+6.5"]
    assert text["95% interval"].tolist() == ["[+0.1, +12.9]"]
    assert text["wins / pairs"].tolist() == ["3 / 4"]
    assert "fully supervised" not in text


def test_children_are_measured_by_their_own_parents(tmp_path: Path) -> None:
    # Same label sets and repeats, two kinds of parents.
    others = {method_run(0, A, repeat=0): 20.0}
    runs = PARENTS | CHILDREN | others | {child_of(run): 90.0 for run in others}
    found = store_of(tmp_path, runs)
    table = self_training.gains(found.runs).set_index("variant")
    assert table.loc["fixmatch -> fixmatch +40", "difference_points"] == pytest.approx(70)
    assert table.loc[CHILD, "difference_points"] == pytest.approx(6.5)


def test_a_second_round_is_measured_by_the_first(tmp_path: Path) -> None:
    runs = PARENTS | CHILDREN | {child_of(run): value + 3 for run, value in CHILDREN.items()}
    table = self_training.gains(store_of(tmp_path, runs).runs).set_index("variant")
    assert table.loc[f"{CHILD} x2", "difference_points"] == pytest.approx(3)
    assert table.loc[f"{CHILD} x2", "started_from"] == CHILD


def test_a_child_without_its_parent_counts_but_has_no_gain(tmp_path: Path) -> None:
    runs = PARENTS | CHILDREN
    del runs[parent(A, 1)]
    alone = child_of(parent(A, 1))
    found = store_of(tmp_path, runs)
    table = self_training.gains(found.runs).set_index("variant")
    assert table.loc[CHILD, "num_pairs"] == 3
    assert math.isnan(table.loc["? -> fixmatch +40", "difference_points"])
    assert table.loc["? -> fixmatch +40", ["num_runs", "num_pairs"]].tolist() == [1, 0]
    assert alone.id in found.warnings[0]
    text = self_training.gains_text(self_training.gains(found.runs)).set_index("variant")
    assert text.loc["? -> fixmatch +40", ["gain", "wins / pairs"]].tolist() == ["-", "-"]


def test_picks_by_hand(tmp_path: Path) -> None:
    # 400 + 390 + 400 + 10 = 1200 picks, 60 wrong: 5%. Shares averaged over runs would give others.
    runs = list(CHILDREN)
    counts = dict(zip(runs, (400, 390, 400, 10), strict=True))
    wrong = dict(zip(runs, (40, 13, 0, 7), strict=True))
    stops = {runs[1]: "too few: cat 30", runs[3]: "too few: cat 0, dog 10"}
    labels = {run: 10 + count for run, count in counts.items()}
    found = store_of(
        tmp_path,
        PARENTS | CHILDREN,
        num_picks=counts,
        num_wrong_picks=wrong,
        stop_reason=stops,
        num_labels=labels,
    )
    [row] = self_training.gains(found.runs).to_dict("records")
    assert row["picks_mean"] == 300
    assert row["wrong_picks_percent"] == pytest.approx(5)
    assert (row["num_too_few"], row["too_few"]) == (2, "cat (2), dog (1)")
    text = self_training.gains_text(self_training.gains(found.runs))
    assert text["runs with too few (classes)"].tolist() == ["2: cat (2), dog (1)"]


def test_the_yardstick_is_full_supervision_on_the_same_data_and_network(tmp_path: Path) -> None:
    full = {full_run(i): percent for i, percent in enumerate((94.0, 96.0))}
    # Some of these come before it in the order of all tables, some after.
    others = {full_run(network=name): 99.0 for name in ("wrn-4-1", "wrn-28-2")}
    others |= {full_run(dataset=name): 98.0 for name in ("a.npz", "digits")}
    long = {full_run(num_images=number): 10.0 for number in (64_000, 640_000)}
    supervised = dict.fromkeys(grid_of_runs(("supervised",), 2, 2), 30.0)
    found = store_of(tmp_path, PARENTS | CHILDREN | full | others | long | supervised)
    [row] = self_training.gains(found.runs).to_dict("records")
    assert row["full_percent"] == pytest.approx(95)
    assert row["full_sd_percent"] == pytest.approx(math.sqrt(2))
    assert row["full_n"] == 2
    text = self_training.gains_text(self_training.gains(found.runs))
    assert text["fully supervised"].tolist() == ["95.0 ± 1.4 (n = 2)"]


def test_a_yardstick_that_saw_other_numbers_of_images_will_do(tmp_path: Path) -> None:
    found = store_of(tmp_path, PARENTS | CHILDREN | {full_run(num_images=64_000): 91.0})
    [row] = self_training.gains(found.runs).to_dict("records")
    assert (row["full_percent"], row["full_n"]) == (91, 1)


# Leaks


def test_leaks_by_hand(tmp_path: Path) -> None:
    # True labels, a: 70 - 60, 64 - 64, b: 75 - 70: means 5 and 5. Best on test, a only: -1.
    runs = PARENTS | CHILDREN
    runs |= {
        child_of(parent(A, 0), pick_labels="true"): 70.0,
        child_of(parent(A, 1), pick_labels="true"): 64.0,
        child_of(parent(B, 0), pick_labels="true"): 75.0,
        child_of(parent(A, 0), rank_by="best_test"): 59.0,
        # No twins: other picks, another batch size, another kind of parent.
        child_of(parent(A, 0), 5, pick_labels="true"): 1.0,
        child_of(parent(A, 0), pick_labels="true", batch_size=32): 2.0,
        method_run(0, A): 0.0,
        child_of(method_run(0, A), pick_labels="true"): 3.0,
    }
    found = store_of(tmp_path, runs)
    table = self_training.leak_effects(found.runs)
    assert len(table) == 2
    by_leak = table.set_index("leak")
    row = by_leak.loc["true labels (oracle)"]
    assert row["difference_points"] == pytest.approx(5)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((5, 5))
    assert (row["num_pairs"], row["num_wins"], row["num_ties"]) == (3, 2, 1)
    assert row["num_difference_sets"] == 2
    assert row["variant"].endswith("(oracle)")
    row = by_leak.loc["ranked by the best on test (oracle)"]
    assert (row["difference_points"], row["num_pairs"]) == (pytest.approx(-1), 1)
    assert set(table["picks_per_class"]) == {40}


def test_an_honest_child_of_a_leaky_one_is_no_leak_of_its_own(tmp_path: Path) -> None:
    leaky = child_of(parent(A, 0), pick_labels="true")
    twice = child_of(leaky, pick_labels="true")
    runs = {parent(A, 0): 50.0, leaky: 60.0, child_of(leaky): 65.0, twice: 70.0}
    table = self_training.leak_effects(store_of(tmp_path, runs).runs)
    assert list(table["difference_points"]) == pytest.approx([5])
    assert list(table["round"]) == [2]


# The figure


def test_the_figure_starts_at_the_parents_and_marks_leaks(tmp_path: Path) -> None:
    runs = PARENTS | CHILDREN | {child_of(run, 5): value + 1 for run, value in PARENTS.items()}
    runs |= {child_of(parent(A, 0), pick_labels="true"): 99.0, full_run(): 95.0}
    found = store_of(tmp_path, runs)
    table = self_training.children(found.runs)
    figure = self_training.gains_figure(table, self_training.yardsticks(found.runs), "t")
    [axis] = figure.axes
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axis.get_lines()]
    thin = [line for line in lines if line[0] == [0, 5, 40]]
    assert thin[0][1] == pytest.approx([55, 56, 62])  # label set a
    assert thin[1][1] == pytest.approx([55, 56, 61])  # b
    assert thin[2][1] == pytest.approx([55, 56, 61.5])
    assert lines[-2][1] == pytest.approx([99])
    assert lines[-1][1] == pytest.approx([95, 95])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [
        "child: fixmatch",
        "child: fixmatch true labels (oracle)",
        "fully supervised: 95.0, n = 1",
    ]
    assert list(axis.get_xticks()) == [0, 5, 40]


def test_no_section_without_children(tmp_path: Path) -> None:
    write_store(tmp_path, [make_run()])
    found = load.load(tmp_path, "synthetic")
    assert self_training.parts(found, list(found.runs["experiment"].unique())) == []
