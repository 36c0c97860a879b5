"""Holm's adjustment and verdicts of the tables that compare variants."""

import math

import pandas as pd
import pytest

from analysis.sections.algorithm_tables import algorithms_table, algorithms_text
from analysis.sections.differences import difference_to, with_verdicts
from tests.analysis.data import run_rows


def runs_of(differences: dict[str, list[float]]) -> pd.DataFrame:
    """Of each variant one run on each label set: the baseline has 50%, it so much more."""
    values = {}
    for variant, of_sets in differences.items():
        for i, points in enumerate(of_sets):
            values[variant, f"s{i}", 0] = 50 + points
    return run_rows(values)


# Over four label sets. Means 4, 2 and 2: t = 9.8, 4.9 and 3.5, p = 0.002, 0.016 and 0.041.
ABOVE, CLOSE, SMALL, NONE = [3.0, 5, 4, 4], [1.0, 3, 2, 2], [1.0, 3, 1, 3], [-1.0, 1, -2, 2]


def test_verdicts_of_a_table_are_adjusted_for_all_of_them() -> None:
    runs = runs_of({"supervised": [0.0] * 4, "a": ABOVE, "b": CLOSE, "c": NONE, "d": [9.0, 9]})
    table = algorithms_table(runs).set_index("variant")
    # d has two label sets and is not tested, so three are.
    holm, plain = table["difference_p_holm"], table["difference_p"]
    assert holm["a"] == pytest.approx(3 * plain["a"])
    assert holm["b"] == pytest.approx(2 * plain["b"])
    assert holm["c"] == pytest.approx(plain["c"])
    assert holm[["d", "supervised"]].isna().all()
    assert list(table["verdict"]) == ["", "better", "better", "undecided", "undecided"]
    # The same differences in two experiments are one table: twice as many tests.
    both = algorithms_table(pd.concat([runs, runs.assign(experiment="f")]))
    of_a = both.loc[both["variant"] == "a", "difference_p_holm"]
    assert list(of_a) == pytest.approx([6 * plain["a"]] * 2)


def test_a_difference_that_does_not_survive_is_undecided() -> None:
    # p = 0.041 of b alone; with five that show nothing it is 6 * 0.041.
    def verdict_of_b(**others: list[float]) -> str:
        numbers = algorithms_table(runs_of({"supervised": [0.0] * 4, "b": SMALL, **others}))
        return str(numbers.set_index("variant").loc["b", "verdict"])

    assert verdict_of_b() == "better"
    assert verdict_of_b(**{f"c{i}": NONE for i in range(5)}) == "undecided"


def test_below_is_worse_or_lower() -> None:
    runs = runs_of({"supervised": [0.0] * 4, "a": [-x for x in ABOVE]}).assign(percent=0.0)
    runs["percent"] = 100 * runs["last_accuracy"]
    group, against = (runs[runs["variant"] == name] for name in ("a", "supervised"))
    row = pd.DataFrame([difference_to(group, against, "supervised")])
    assert list(with_verdicts(row)["verdict"]) == ["worse"]
    assert list(with_verdicts(row, ("higher", "lower"))["verdict"]) == ["lower"]
    assert row["improvement_probability"][0] == 0


def test_the_algorithm_table_shows_robust_statistics() -> None:
    runs = runs_of({"supervised": [0.0] * 4, "a": [1.0, 2, 3, -90]})
    table = algorithms_table(runs).set_index("variant")
    assert table.loc["a", "iqm_percent"] == pytest.approx(51.5)  # of -40, 51, 52, 53
    assert table.loc["a", "iqm_low"] < 51.5 < table.loc["a", "iqm_high"]
    assert table.loc["a", "improvement_probability"] == pytest.approx(0.75)
    assert math.isnan(table.loc["supervised", "improvement_probability"])
    text = algorithms_text(algorithms_table(runs))
    assert list(text["IQM"]) == ["50.0", "51.5"]
    assert list(text["P(better)"]) == ["-", "0.75"]
