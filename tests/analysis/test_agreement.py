"""Ours against published numbers: differences, verdicts and their adjustment by hand."""

import math
from pathlib import Path

import pandas as pd
import pytest

from analysis import load, statistics
from analysis.page.parts import Table, Text
from analysis.sections import agreement, comparison_page
from analysis.sections.published import (
    comparable,
    published_parts,
    published_table,
    published_text,
    read_published,
)
from boss.study.study import Comparison
from tests.analysis.data import grid_of_runs, make_run, write_store

TABLE_1 = "empirical_perspectives_table1.csv"


def difference_of(value: float, sd: float, n: int, margin: float = 1.0) -> dict[str, object]:
    """Ours with this mean and deviation against 0 +- sd over as many values."""
    ours = statistics.Summary(value, sd, n)
    return agreement.difference(ours, statistics.Summary(0.0, sd, n), margin)


def test_a_difference_by_hand() -> None:
    # s2 = 4 / 4 + 4 / 4 = 2; df = 4 / (1 / 3 + 1 / 3) = 6; t(0.975; 6) = 2.446912.
    row = difference_of(10.0, 2.0, 4)
    half = 2.446912 * math.sqrt(2)
    assert row["difference_low"] == pytest.approx(10 - half, rel=1e-6)
    assert row["difference_high"] == pytest.approx(10 + half, rel=1e-6)
    assert (row["difference_df"], row["difference_n"], row["margin_points"]) == (6, 4, 1)


def verdicts(rows: list[dict[str, object]], **columns: list[str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=agreement.DIFFERENCE).assign(**columns)
    return agreement.with_verdicts(table, [*columns])


def test_verdicts_by_hand() -> None:
    # With sd 0.1 and n = 4 the interval is +- 0.173: equivalent within 1, higher, lower.
    rows = [difference_of(x, 0.1, 4) for x in (0.2, 3.0, -3.0)]
    rows += [difference_of(0.2, 2.0, 4), difference_of(0.2, math.nan, 1)]
    table = verdicts(rows)
    assert list(table["verdict"]) == ["equivalent", "higher", "lower", "undecided", ""]
    assert math.isnan(table["difference_p_holm"][4])


def test_verdicts_need_three_values_on_each_side() -> None:
    table = verdicts([difference_of(50.0, 0.001, 2), difference_of(50.0, 0.001, 3)])
    assert list(table["verdict"]) == ["undecided", "higher"]
    # The first is not tested, so that the second is adjusted for itself alone.
    assert table["difference_p_holm"][1] == table["difference_p"][1]
    assert math.isnan(table["difference_p_holm"][0])


def test_verdicts_are_adjusted_for_their_table() -> None:
    # One difference at p = 0.03, seven that are clearly none: 8 * 0.03 is above 0.05.
    rows = [difference_of(2.0, 1.0, 4, 0.1)] + [difference_of(0.0, 1.0, 4, 0.1)] * 7
    assert 0.02 < rows[0]["difference_p"] < 0.04  # type: ignore[operator]
    table = verdicts(rows)
    assert table["difference_p_holm"][0] == pytest.approx(8 * table["difference_p"][0])
    assert table["verdict"][0] == "undecided"
    apart = verdicts(rows, data=["a", *"bbbbbbb"])
    assert apart["difference_p_holm"][0] == table["difference_p"][0]
    assert apart["verdict"][0] == "higher"


def test_captions_name_the_margins() -> None:
    assert "within 5 points of 0 (two" in agreement.how_decided([5.0, math.nan], "repeats")
    both = agreement.how_decided([5.0, 1.0], "label sets")
    assert "within 1 or 5 points of 0 (1 with 25 labels per class or more, otherwise 5)" in both
    assert "fewer than 3 label sets" in both


def test_labels_per_class_are_those_of_the_data_set(tmp_path: Path) -> None:
    runs = [make_run(label_set="fixmatch:0@250"), make_run(label_set="fixmatch:0@10")]
    write_store(tmp_path, runs)
    found = load.load(tmp_path, "synthetic").runs
    assert sorted(agreement.labels_per_class(found)) == [1, 25]


# By label set and class


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> load.Results:
    """FixMatch x 6 label sets x 4 repeats."""
    folder = tmp_path_factory.mktemp("results")
    write_store(folder, grid_of_runs(("fixmatch",)))
    return load.load(folder, "synthetic")


def test_only_what_is_measured_alike_is_compared(found: load.Results) -> None:
    theirs = read_published(TABLE_1)
    metrics = load.metrics(found)
    table = published_table(theirs, comparable(metrics, found.runs, theirs), None)
    one = table[table["row"] == 1].set_index("metric")
    # The published All is the best on the test set: it is compared with ours of that kind alone.
    assert math.isnan(one.loc["All", "difference_points"])
    assert one.loc["All", "published_mean_percent"] == 63
    best = 100 * found.runs.loc[found.runs["label_set"] == "fixmatch:0@10", "best_test_accuracy"]
    oracle = one.loc["All, best on test (oracle)"]
    assert oracle["difference_points"] == pytest.approx(best.mean() - 63)
    half = oracle["difference_high"] - oracle["difference_points"]
    by_hand = statistics.welch_summary(
        statistics.Summary(best.mean(), best.std(ddof=1), 4), statistics.Summary(63.0, 5.0, 4)
    )
    assert half == pytest.approx(by_hand.interval.high - by_hand.value)
    # The mean of the published classes has no deviation: a difference without an interval.
    assert not math.isnan(one.loc["mean of classes", "difference_points"])
    assert math.isnan(one.loc["mean of classes", "difference_low"])
    assert one.loc["mean of classes", "verdict"] == ""
    tested = table["difference_p"].dropna()
    assert len(tested) == 6 * 11
    assert (table["difference_p_holm"] >= table["difference_p"] - 1e-12).sum() == len(tested)
    text = published_text(table)
    lines = ["published", "ours", "ours - published", "95% interval", "verdict"]
    assert list(text["whose"][:5]) == lines
    assert set(text.loc[text["whose"] == "verdict", "All"]) == {"-"}


def test_smoke_runs_are_not_compared(tmp_path: Path) -> None:
    runs = [make_run(budget="smoke", label_set=f"fixmatch:{i}@10") for i in range(3)]
    write_store(tmp_path, runs)
    found = load.load(tmp_path, "synthetic")
    parts, warnings = published_parts(
        load.metrics(found), found, None, read_published(TABLE_1), TABLE_1
    )
    assert warnings == []
    [text] = parts
    assert isinstance(text, Text)
    assert text.text.startswith("Runs of the budget smoke only show that the code runs")
    assert "Table 1" in text.text
    comparison = Comparison(published="fixmatch_table2.csv", axis=("algorithm",))
    [text], warnings = comparison_page.parts(found, comparison)
    assert isinstance(text, Text)
    assert warnings == []


def test_other_budgets_stand_beside_the_sentence_on_smoke(tmp_path: Path) -> None:
    runs = [make_run(budget=b, label_set=f"fixmatch:{i}@10") for b in ("smoke", "short")
            for i in range(3)]  # fmt: skip
    write_store(tmp_path, runs)
    found = load.load(tmp_path, "synthetic")
    parts, _ = published_parts(load.metrics(found), found, None, read_published(TABLE_1), TABLE_1)
    text, table = parts
    assert isinstance(text, Text)
    assert isinstance(table, Table)
    assert set(table.numbers["ours_n"]) == {1}
    assert not table.numbers["experiment"].str.contains("smoke").any()
