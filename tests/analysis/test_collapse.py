"""Classes that collapse, what takes them, and what label sets do to classes: by hand."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import load
from analysis.page.parts import Table, Text
from analysis.sections import class_effects, collapse
from boss.results.read import Store
from tests.analysis.data import make_run, rows, write_store

EVERY = 100  # labeled images from one evaluation to the next


def results_of(curves: dict[str, list[float]], store: Store | None = None) -> load.Results:
    """One run with these accuracies (percent) of each class at its evaluations."""
    names = {"experiment": "e", "variant": "fixmatch", "label_set": "s", "repeat": 0}
    steps = range(1, 1 + max(map(len, curves.values())))
    classes = pd.DataFrame(
        [
            {"run_id": "r", "step": i, "class_index": k, "class_name": name, "test_count": 50,
             "test_accuracy": percent / 100}
            for k, (name, values) in enumerate(curves.items())
            for i, percent in enumerate(values, 1)
        ]
    )  # fmt: skip
    classes = classes.astype({"run_id": "category", "class_name": "category"})
    evaluations = pd.DataFrame(
        [{"run_id": "r", "step": i, "images_seen": EVERY * i, "network": "teacher"} for i in steps]
    ).astype({"run_id": "category"})
    runs = pd.DataFrame([{"run_id": "r", **names}])
    nobody = pd.DataFrame(columns=["run_id", "name", "reason"])
    return load.Results(runs, evaluations, classes, [], nobody, store)  # type: ignore[arg-type]


def test_what_becomes_of_a_class_by_hand() -> None:
    found = results_of(
        {
            "works": [10, 40, 90, 90, 90],
            "late": [0, 5, 10, 90, 90],
            "never": [0, 9, 9, 0, 0],
            "fell": [50, 2, 60, 9, 9],
            "fell early": [10, 9, 9, 9, 9],
            "back": [50, 2, 1, 60, 60],
            "back twice": [20, 5, 20, 5, 20],
        }
    )
    table = collapse.collapses(found).set_index("class_name")
    assert table["state"].to_dict() == {
        "works": "works",
        "late": "works",  # not a collapse: it had not been learned before
        "never": "never learned",
        "fell": "collapsed",
        "fell early": "collapsed",
        "back": "recovered",
        "back twice": "recovered",
    }
    fell = table["fell_images"].dropna().to_dict()
    assert fell == {"fell": 400, "fell early": 200, "back": 200, "back twice": 200}
    back = table["recovered_images"].dropna().to_dict()
    assert back == {"back": 400, "back twice": 500}
    assert table.loc["fell", "percent"] == pytest.approx(9)


def test_states_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    curves = {f"c{k}": [float(x) for x in rng.choice([5, 50], 6)] for k in range(64)}
    table = collapse.collapses(results_of(curves)).set_index("class_name")
    for name, values in curves.items():
        low = [value < 10 for value in values]
        since = max((i for i in range(6) if low[i] != low[-1]), default=-1) + 1
        first_high = low.index(False) if False in low else 6
        again = [i for i in range(first_high, 6) if low[i]]
        expected: tuple[str, float, float] = ("works", math.nan, math.nan)
        if all(low):
            expected = ("never learned", math.nan, math.nan)
        elif low[-1]:
            expected = ("collapsed", EVERY * (since + 1), math.nan)
        elif again:
            expected = ("recovered", EVERY * (again[0] + 1), EVERY * (since + 1))
        columns = ["state", "fell_images", "recovered_images"]
        state, *numbers = table.loc[name, columns]
        assert state == expected[0], values
        assert numbers == pytest.approx(list(expected[1:]), nan_ok=True), values


def test_counts_by_class() -> None:
    def runs(*states: tuple[str, float, float]) -> pd.DataFrame:
        table = pd.DataFrame(states, columns=["state", "fell_images", "recovered_images"])
        return table.assign(
            experiment="e", variant="v", class_index=0, class_name="cat", taken_by="",
            taken_percent=math.nan,
        )  # fmt: skip

    nan = math.nan
    table = runs(
        ("collapsed", 100, nan), ("collapsed", 300, nan), ("recovered", 900, 1000),
        ("never learned", nan, nan), ("works", nan, nan),
    )  # fmt: skip
    table.loc[:2, "taken_by"] = ["dog", "dog", "deer"]
    table.loc[:2, "taken_percent"] = [60.0, 80.0, 50.0]
    numbers = collapse.by_class(table)
    [row] = numbers.to_dict("records")
    assert [row[f"num_{name}"] for name in ("runs", "never", "collapsed", "recovered")] == [
        5, 1, 2, 1
    ]  # fmt: skip
    assert (row["fell_images"], row["recovered_images"]) == (200, 1000)
    [text] = collapse.by_class_text(numbers, table).to_dict("records")
    assert text["taken by"] == "dog (2 x 70%), deer (1 x 50%)"
    assert (text["since images"], text["after images"]) == ("200", "1,000")


def store_with_takers(folder: Path, taker: int | None) -> load.Results:
    """Runs whose low classes lose a third of their images to one class."""
    store = Store(folder, "synthetic")
    for repeat in range(3):
        row, tables = rows(make_run(repeat=repeat))
        for line in tables["class_evaluations"]:
            line["confused_with"] = taker
            line["confused_count"] = line["test_count"] // 3 if taker is not None else None
        store.write(row, **tables)
    return load.load(folder, "synthetic")


def test_who_takes_the_images_of_a_low_class(tmp_path: Path) -> None:
    found = store_with_takers(tmp_path, 5)
    table, warnings = collapse.takers(found, collapse.collapses(found))
    assert warnings == []
    low = table[table["percent"] < 10]
    assert len(low) > 0
    assert set(low["taken_by"]) == {"dog"}
    count = int(found.class_evaluations["test_count"].iloc[0])
    assert list(low["taken_percent"]) == pytest.approx([100 * (count // 3) / count] * len(low))
    assert set(table.loc[table["percent"] >= 10, "taken_by"]) == {""}
    [part], _ = collapse.parts(found)
    assert isinstance(part, Table)
    assert part.text["taken by"].str.startswith("dog (").any()


def test_runs_that_do_not_store_who(tmp_path: Path) -> None:
    found = store_with_takers(tmp_path, None)
    [part], _ = collapse.parts(found)
    assert isinstance(part, Table)
    assert set(part.text["taken by"]) == {"-"}


def test_without_a_low_class_there_is_a_sentence(tmp_path: Path) -> None:
    run = make_run()
    write_store(tmp_path, [run], accuracies={run.id: 0.9})
    found = load.load(tmp_path, "synthetic")
    found.class_evaluations["test_accuracy"] = 0.9
    [part], _ = collapse.parts(found)
    assert isinstance(part, Text)


# What label sets do to a class


def class_runs(values: dict[str, list[float]]) -> pd.DataFrame:
    """One class on some label sets: percent of the repeats."""
    return pd.DataFrame(
        [
            {"experiment": "e", "variant": "v", "label_set": name, "repeat": i, "order": 3,
             "metric": "cat", "percent": percent}
            for name, of_set in values.items()
            for i, percent in enumerate(of_set)
        ]
    )  # fmt: skip


def test_class_effects_by_hand() -> None:
    # Means 2, 10 and 6, sd 4; squared deviations 2, 8 and none over 1 + 1 + 0 degrees of freedom.
    table = class_effects.class_effects(class_runs({"a": [1, 3], "b": [8, 12], "c": [6]}))
    [row] = table.to_dict("records")
    assert (row["num_label_sets"], row["num_runs"]) == (3, 5)
    assert row["mean_percent"] == pytest.approx(6)
    assert row["sd_of_sets"] == pytest.approx(4)
    assert row["sd_of_repeats"] == pytest.approx(math.sqrt(5))
    assert (row["lowest"], row["lowest_percent"]) == ("a", 2)
    assert (row["highest"], row["highest_percent"]) == ("b", 10)
    [text] = class_effects.class_effects_text(table).to_dict("records")
    assert text["lowest label set"] == "2.0 (a)"


def test_class_effects_need_two_label_sets_and_need_no_repeats() -> None:
    assert class_effects.parts(class_runs({"a": [1, 3]})) == []
    [row] = class_effects.class_effects(class_runs({"a": [1], "b": [3]})).to_dict("records")
    assert math.isnan(row["sd_of_repeats"])
    # The aggregates over classes are none.
    assert len(class_effects.class_effects(class_runs({"a": [1], "b": [3]}).assign(order=0))) == 0
