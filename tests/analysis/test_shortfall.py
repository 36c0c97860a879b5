"""When levels are reached, what is in the way of 90%: worked out by hand."""

import math
import statistics

import pandas as pd
import pytest

from analysis.load import chain_seconds, load
from analysis.page.parts import Table, Text
from analysis.sections import shortfall
from boss.results.read import Store
from tests.analysis.data import child_of, method_run, rows, write_store

CLASSES = ("cat", "dog")


def write(folder, run, curves, seconds=60.0):
    """A run of two classes with these accuracies at its evaluations: {class: values}."""
    row, tables = rows(run, CLASSES)
    teacher = [r for r in tables["evaluations"] if r["network"] == "teacher"]
    for number, evaluation in enumerate(teacher):
        evaluation["test_accuracy"] = sum(v[number] for v in curves.values()) / 2
    for network in ("teacher", "student"):
        of = [r for r in tables["class_evaluations"] if r["network"] == network]
        for number, r in enumerate(of):
            value = curves[r["class_name"]][number // 2]
            r["test_accuracy"] = value if network == "teacher" else 1.0
    accuracies = [r["test_accuracy"] for r in teacher]
    row |= {"seconds": seconds, "last_accuracy": accuracies[-1]}
    row["median_last_20_accuracy"] = statistics.median(accuracies)
    row["best_test_accuracy"] = max(r["test_accuracy"] for r in tables["evaluations"])
    Store(folder, "synthetic").write(row, **tables)


@pytest.fixture
def found(tmp_path):
    """A run and its child, 4 evaluations of 1,000 images each."""
    parent = method_run(4, num_images=4000, batch_size=10, num_evaluations=4)
    child = child_of(parent, num_images=4000, batch_size=10, num_evaluations=4)
    write(tmp_path, parent, {"cat": [0.1, 0.6, 0.8, 0.4], "dog": [0.1, 0.6, 0.9, 0.9]})
    write(tmp_path, child, {"cat": [0.1, 0.2, 0.2, 0.2], "dog": [0.9, 1.0, 1.0, 1.0]}, seconds=120)
    return load(tmp_path, "synthetic")


def test_a_chain_costs_all_its_runs():
    runs = pd.DataFrame({
        "run_id": ["c", "b", "a", "x"], "parent": ["b", "a", None, "gone"],
        "round": [2, 1, 0, 1], "seconds": [1.0, 10.0, 100.0, 5.0],
    })  # fmt: skip
    cost = chain_seconds(runs)
    assert (cost["a"], cost["b"], cost["c"]) == (100, 110, 111)
    assert math.isnan(cost["x"])  # its parent is not there: the cost is not known


def test_levels(found):
    numbers = shortfall.reached(found)
    first, second = (block for _, block in numbers.groupby("variant", sort=False))
    # Mean accuracies of the parent: 0.1, 0.6, 0.85, 0.65: 60 and 80 percent are reached.
    assert list(first["level_percent"]) == [50, 60, 70, 80]
    assert list(first["images_seen"]) == [2000, 2000, 3000, 3000]
    assert list(first["share"]) == [0.5, 0.5, 0.75, 0.75]
    assert list(first["minutes"]) == [0.5, 0.5, 0.75, 0.75]
    # The child: 0.5, 0.6, 0.6, 0.6, in 2 minutes after the parent's 1.
    assert list(second["level_percent"]) == [50, 60]
    assert list(second["minutes"]) == [1.5, 2.0]
    assert list(second["num_reached"]) == [1, 1]
    text = shortfall.reached_text(numbers)
    assert text["runs that reached it"].iloc[0] == "1 / 1"
    assert list(text["images seen"])[:3] == ["2,000", "2,000", "3,000"]


def test_classes_costly_classes(found):
    numbers = shortfall.costly_classes(found).set_index(["run_id", "class_name"])
    parent, child = found.runs["run_id"]
    cat = numbers.loc[(parent, "cat")]
    # At 40% a class of two costs 30 points. It was above 50% until the third evaluation.
    assert cat["points_lost"] == pytest.approx(30)
    assert cat["low_since_images"] == 4000
    assert cat["missing_points"] == pytest.approx(90 - 65)
    assert math.isnan(numbers.loc[(parent, "dog"), "low_since_images"])
    assert numbers.loc[(child, "cat"), "low_since_images"] == 0  # never above
    for _, block in numbers.groupby("run_id"):
        assert block["points_lost"].sum() == pytest.approx(100 - block["accuracy_percent"].iloc[0])
    text = shortfall.costly_classes_text(numbers.reset_index())
    assert list(text["which classes, and since when"]) == [
        "cat: 40% (-30.0, since 4,000 images)", "cat: 20% (-40.0, always)",
    ]  # fmt: skip
    assert list(text["classes below 50%"]) == [1, 1]
    assert list(text["points to 90"]) == ["25.0", "30.0"]


def test_which_classes_most_often(found):
    often = shortfall.frequent(shortfall.costly_classes(found))
    assert list(often["class_name"]) == ["cat", "dog", "cat", "dog"]
    assert list(often["num_low"]) == [1, 0, 1, 0]
    assert list(often["points_lost"]) == pytest.approx([30, 5, 40, 0])
    assert shortfall.frequent_text(often)["runs that end below 50%"].iloc[0] == "1 / 1"


def test_what_is_reached_has_nothing_missing(tmp_path):
    run = method_run(0, num_images=4000, batch_size=10, num_evaluations=4)
    write(tmp_path, run, {"cat": [0.2, 0.95, 0.95, 0.95], "dog": [0.2, 0.95, 0.95, 0.95]})
    text = shortfall.costly_classes_text(shortfall.costly_classes(load(tmp_path, "synthetic")))
    assert list(text["which classes, and since when"]) == ["-"]
    assert list(text["points to 90"]) == ["0.0"]


def test_the_section(found, tmp_path):
    parts = shortfall.parts(found)
    assert [part.name for part in parts if isinstance(part, Table)] == [
        "levels", "costly_classes", "cost_by_class",
    ]  # fmt: skip
    low = method_run(0, "boss:1", num_images=4000, batch_size=10, num_evaluations=4)
    write(tmp_path / "low", low, {"cat": [0.1] * 4, "dog": [0.3] * 4})
    first = shortfall.parts(load(tmp_path / "low", "synthetic"))[0]
    assert isinstance(first, Text)
    assert first.text == "No run reached 50% test accuracy."


def test_on_many_runs_errors_add_up(tmp_path):
    runs = [method_run(0, f"boss:{k}", repeat=r) for k in range(3) for r in range(2)]
    write_store(tmp_path, runs)
    found = load(tmp_path, "synthetic")
    numbers = shortfall.costly_classes(found)
    assert len(numbers) == len(runs) * 10
    total = numbers.groupby("run_id", sort=False)["points_lost"].sum()
    accuracy = 100 * found.runs.set_index("run_id")["last_accuracy"]
    pd.testing.assert_series_equal(total, 100 - accuracy[total.index], check_names=False)
    often = shortfall.frequent(numbers)
    assert set(often["num_runs"]) == {6}
    assert set(often["num_label_sets"]) == {3}
    assert set(often["interval_over"]) == {"label sets"}
