"""Balancing: every number by hand."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import load
from analysis.sections import balancing, balancing_runs, class_balance, pseudo_labels
from tests.analysis.data import boss_study, make_run, method_run, rows, run_rows, write_store

# Label set a: means 55 and 65, b: 42 and 47.5; repeat 1 of b has no partner.
RUNS = run_rows(
    {
        ("fixmatch", "a", 0): 50,
        ("fixmatch", "a", 1): 60,
        ("fixmatch", "b", 0): 40,
        ("fixmatch", "b", 1): 44,
        ("boss-4", "a", 0): 70,
        ("boss-4", "a", 1): 60,
        ("boss-4", "b", 0): 50,
        ("boss-4", "b", 2): 45,
    }
)


def classes(percents: dict[str, list[float]], variant: str = "fixmatch") -> pd.DataFrame:
    """The rows of `load.metrics` of the classes of some runs, each of a label set of its own."""
    parts = [
        {
            "experiment": "e",
            "variant": variant,
            "method": variant,
            "round": 0,
            "label_set": run,
            "repeat": 0,
            "run_id": f"{variant} {run}",
            "metric": f"class {i}",
            "order": len(load.AGGREGATES) + i,
            "percent": percent,
        }
        for run, values in percents.items()
        for i, percent in enumerate(values)
    ]
    aggregate = {**parts[0], "metric": "All", "order": 0, "percent": 1000.0}  # is no class
    return pd.DataFrame([aggregate, *parts])


def test_accuracy_by_hand() -> None:
    table = balancing.accuracy(RUNS).set_index(["variant", "label_set"])
    assert table.loc[("fixmatch", "a"), ["mean_percent", "n"]].tolist() == [55, 2]
    assert table.loc[("fixmatch", "a"), "sd_percent"] == pytest.approx(math.sqrt(50))
    # Of the means 55 and 42, not of the four runs.
    assert table.loc[("fixmatch", "mean"), ["mean_percent", "n"]].tolist() == [48.5, 2]
    assert table.loc[("fixmatch", "mean"), "sd_percent"] == pytest.approx(13 / math.sqrt(2))
    text = balancing.accuracy_text(balancing.accuracy(RUNS))
    assert list(text.columns) == ["label_set", "n", "fixmatch", "boss-4"]
    assert text.to_numpy().tolist() == [
        ["a", "2", "55.0 ± 7.1", "65.0 ± 7.1"],
        ["b", "2", "42.0 ± 2.8", "47.5 ± 3.5"],
        ["mean", "2", "48.5 ± 9.2", "56.2 ± 12.4"],
    ]


def test_accuracy_of_methods_with_different_label_sets() -> None:
    runs = RUNS[(RUNS["variant"] == "boss-4") | (RUNS["label_set"] == "b")]
    text = balancing.accuracy_text(balancing.accuracy(runs)).set_index("label_set")
    assert list(text.index) == ["a", "b", "mean"]
    assert list(text["fixmatch"]) == ["-", "42.0 ± 2.8", "-"]


def test_difference_by_hand() -> None:
    # Pairs: a: 20 and 0 (mean 10), b: 10 (repeat 2 has no partner): mean 10, no spread.
    [row] = balancing.difference(RUNS).to_dict("records")
    assert (row["variant"], row["baseline"]) == ("boss-4", "fixmatch")
    assert row["difference_points"] == pytest.approx(10)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((10, 10))
    assert (row["num_pairs"], row["num_wins"], row["num_ties"]) == (3, 2, 1)
    assert (row["num_difference_sets"], row["verdict"]) == (2, "undecided")
    # Repeat 1 of b: 44 and now 48, so b: 10 and 4 (mean 7); mean 8.5, half width t(1) * 1.5.
    more = pd.concat([RUNS, run_rows({("boss-4", "b", 1): 48})])
    [row] = balancing.difference(more).to_dict("records")
    assert row["difference_points"] == pytest.approx(8.5)
    assert row["difference_high"] == pytest.approx(8.5 + 12.706205 * 1.5)
    text = balancing.difference_text(balancing.difference(more))
    assert text["difference"].tolist() == ["+8.5"]
    assert text["wins / pairs"].tolist() == ["3 / 4"]


def test_without_fixmatch_there_is_no_difference() -> None:
    runs = RUNS.replace({"variant": {"fixmatch": "boss-1"}, "method": {"fixmatch": "boss-1"}})
    assert balancing.difference(runs).empty
    assert len(balancing.accuracy(runs)) == 6


def test_supervised_runs_and_rounds_are_no_methods() -> None:
    other = RUNS.assign(variant="supervised", method="supervised")
    child = RUNS.assign(variant="boss-4 -> fixmatch +5", method="fixmatch", round=1)
    runs = pd.concat([other, RUNS, child])
    assert set(balancing_runs.of_methods(runs)["variant"]) == {"fixmatch", "boss-4"}
    # Nothing to compare.
    alone = pd.concat([other, RUNS[RUNS["variant"] == "fixmatch"], child])
    assert balancing_runs.of_methods(alone).empty
    assert balancing_runs.baseline_of(child[child["round"] == 0]) == ""


def test_flexmatch_and_freematch_are_methods_and_others_are_not() -> None:
    others = ("flexmatch", "freematch", "pi_model", "mixmatch", "uda", "pseudo_label", "bossy")
    alone = RUNS[RUNS["variant"] == "fixmatch"]
    more = [alone.assign(variant=name, method=name) for name in others]
    runs = balancing_runs.of_methods(pd.concat([RUNS, *more]))
    assert set(runs["variant"]) == {"fixmatch", "boss-4", "flexmatch", "freematch"}
    differences = balancing.difference(runs)
    assert set(differences["variant"]) == {"boss-4", "flexmatch", "freematch"}
    # FixMatch beside algorithms without a rule for classes is no study of balancing.
    assert balancing_runs.of_methods(pd.concat([alone, *more[2:]])).empty


def test_class_measures_by_hand() -> None:
    # Mean 50, squared deviations 1600 + 400 + 2500 + 100 = 4600, over 3. The limits do not count.
    table = classes({"a": [10, 30, 100, 60], "b": [20, 50, 20, 50]})
    measures = class_balance.class_measures(table).set_index("label_set")
    assert measures.loc["a", "sd_over_classes"] == pytest.approx(math.sqrt(4600 / 3))
    names = ["lowest_class", "num_failed", "num_poor"]
    assert measures.loc["a", names].tolist() == [10, 1, 2]
    assert measures.loc["b", names].tolist() == [20, 0, 2]


def test_class_balance_by_hand() -> None:
    # Lowest: 10, 20 (mean 15) and 40, 30; paired differences 30 and 10.
    table = pd.concat(
        [
            classes({"a": [10, 90], "b": [20, 80]}),
            classes({"a": [40, 90], "b": [80, 30]}, "boss-4"),
        ]
    )
    numbers = class_balance.class_balance(class_balance.class_measures(table))
    assert list(numbers["measure"]) == [m for m in class_balance.MEASURES for _ in range(2)]
    lowest = numbers[numbers["measure"] == "lowest_class"].set_index("variant")
    assert list(lowest["mean"]) == [15, 35]
    assert lowest.loc["fixmatch", "high"] == pytest.approx(15 + 12.706205 * 5)
    assert lowest.loc["boss-4", "difference_points"] == 20
    assert lowest.loc["boss-4", "difference_low"] == pytest.approx(20 - 12.706205 * 10)
    assert list(lowest["num_pairs"]) == [0, 2]
    failed = numbers[numbers["measure"] == "num_failed"].set_index("variant")
    assert list(failed["mean"]) == [0.5, 0]
    text = class_balance.class_balance_text(numbers)
    assert list(text["difference to fixmatch"][:2]) == ["-", "-14.1"]
    assert text["pairs"].tolist() == ["-", "2"] * 4


def test_effective_classes_by_hand() -> None:
    # Predictions 8, 8: 2 classes; used 12, 4: shares 3/4 and 1/4. Then none was used.
    curves = pd.DataFrame(
        {
            "experiment": "e",
            "variant": "fixmatch",
            "run_id": "r",
            "label_set": "a",
            "repeat": 0,
            "images_seen": [10, 10, 20, 20],
            "class_index": [0, 1, 0, 1],
            "predicted_count": [8, 8, 5, 0],
            "pseudo_label_count": [12, 4, 0, 0],
        }
    )
    table = pseudo_labels.effective_classes(curves)
    assert list(table["images_seen"]) == [10, 20]
    assert list(table["predicted_count"]) == pytest.approx([2, 1])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert table["pseudo_label_count"][0] == pytest.approx(math.exp(entropy))
    assert math.isnan(table["pseudo_label_count"][1])


# What is drawn


def test_the_difference_figure_shows_label_sets_and_their_mean() -> None:
    more = pd.concat([RUNS, run_rows({("boss-4", "b", 1): 48})])
    axis = balancing.difference_figure(more, "t").axes[0]
    drawn = [sorted(np.atleast_1d(line.get_xdata()).tolist()) for line in axis.get_lines()]
    assert drawn[1] == pytest.approx([7, 10])
    assert drawn[2] == pytest.approx([8.5 - 12.706205 * 1.5, 8.5 + 12.706205 * 1.5])
    assert drawn[3] == pytest.approx([8.5])


def test_the_class_figure_sorts_within_runs() -> None:
    # Sorted 10, 90 and 20, 80: means 15 and 85; classes in their order would give 45 and 55.
    figure = class_balance.class_figure(classes({"a": [10, 90], "b": [80, 20]}), "t")
    left, right = figure.axes
    line = right.get_lines()[0]
    assert list(line.get_xdata()) == [1, 2]
    assert list(line.get_ydata()) == [15, 85]
    dots = next(line for line in left.get_lines() if line.get_marker() == "o")
    assert sorted(dots.get_ydata()) == [10, 20, 80, 90]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> load.Results:
    folder: Path = tmp_path_factory.mktemp("results")
    runs = boss_study(num_repeats=3)
    runs += [make_run("supervised", "fixmatch:0@10"), method_run(1, "boss:1")]
    write_store(folder, runs)
    return load.load(folder, "synthetic")


def test_curves_of_the_store_keep_the_order_of_the_methods(found: load.Results) -> None:
    curves = balancing_runs.of_methods(load.class_curves(found))
    table = pseudo_labels.effective_classes(curves)
    assert list(table["variant"].drop_duplicates()) == ["fixmatch", "boss-1", "boss-4"]
    run = method_run(1, "fixmatch:1@10", repeat=2)
    _, tables = rows(run)
    counts = [
        r["predicted_count"]
        for r in tables["class_evaluations"]
        if r["network"] == "teacher" and r["step"] == run.num_steps
    ]
    shares = np.array(counts) / sum(counts)
    mine = table[table["run_id"] == run.id].sort_values("images_seen").iloc[-1]
    assert mine["predicted_count"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_no_section_without_methods_to_compare(tmp_path: Path) -> None:
    write_store(tmp_path, [make_run("supervised"), make_run()])
    found = load.load(tmp_path, "synthetic")
    assert balancing.parts(found, load.metrics(found), [], []) == []
