"""The simulation behind docs/statistics.md, in small; and that the page shows what it wrote."""

import math

import numpy as np
import pandas as pd
import pytest

from benchmarks import coverage


def test_the_page_shows_the_table_that_was_written() -> None:
    page = coverage.PAGE.read_text("utf-8")
    numbers = pd.read_csv(coverage.TABLE)
    assert coverage.with_table(page, coverage.page_table(numbers)) == page
    assert (numbers["num_studies"] >= 1000).all()
    assert set(numbers["world"]) == set(coverage.WORLDS)


def test_the_truth_by_hand() -> None:
    # Label sets: 6^2 + 8^2 / 10, repeats of them: 4^2 + 8^2 / 10; classes over repeats: 4^2 + 8^2.
    known = coverage.truth("bell-shaped")
    assert known["mean"] == pytest.approx(60, abs=0.1)
    assert known["sd"] == pytest.approx(math.sqrt(22.4), rel=0.01)
    assert known["share"] == pytest.approx(42.4 / (42.4 + 22.4), abs=0.01)
    assert known["ratio"] == pytest.approx(math.sqrt(80 / 22.4), rel=0.01)
    # Symmetric; runs with mean 75 and 60 and these variances: Phi(15 / sqrt(2 * 64.8)) = 0.9062.
    assert known["iqm"] == pytest.approx(60, abs=0.1)
    assert known["improvement"] == pytest.approx(0.9062, abs=0.002)
    assert coverage.truth("rare failure")["mean"] == pytest.approx(60 - 30 / 7, abs=0.2)
    # A quarter with nine times the variance: 3 times that of the others on average.
    assert coverage.truth("unequal variances")["sd"] == pytest.approx(math.sqrt(3 * 22.4), rel=0.01)


def test_a_small_simulation_finds_what_holds_and_what_does_not() -> None:
    numbers = coverage.simulate(150, (6,))
    cells = numbers.set_index(["interval", "method", "world", "missing"])["coverage"]
    mean = coverage.NAMES["mean"]
    assert cells[mean, "Student's t", "bell-shaped", False] > 0.9
    assert cells[mean, "percentile bootstrap", "bell-shaped", False] < 0.92
    sd = coverage.NAMES["sd"]
    assert cells[sd, "chi-squared", "unequal variances", False] < 0.75
    assert cells[sd, "jackknife", "bell-shaped", False] > 0.88
    iqm, improvement = coverage.NAMES["iqm"], coverage.NAMES["improvement"]
    assert cells[iqm, "jackknife", "bell-shaped", False] > 0.88
    assert cells[improvement, "Student's t over label sets", "bell-shaped", False] < 0.85
    assert numbers["coverage"].between(0, 1).all()


def test_methods_that_are_replaced_by_hand() -> None:
    squares, df = np.array([10.0, 8.0]), np.array([2.0, 2.0])
    # chi-squared with 4 degrees: 11.1433 and 0.484419.
    expected = (math.sqrt(18 / 11.1433), math.sqrt(18 / 0.484419))
    assert coverage.chi_squared(squares, df) == pytest.approx(expected, rel=1e-4)
    same = coverage.percentile(np.full(4, 3.0), np.random.default_rng(0))
    assert same == (3, 3)
    # MSB = 3 (25 + 25), MSW = 36 / 4; the 0.975 quantile of F(1, 4) is 12.2179.
    low, high = coverage.wald(np.array([0.0, 10.0]), np.array([3.0, 3.0]), np.array([18.0, 18.0]))
    ratio = 150 / 9
    assert low == pytest.approx((ratio / 12.21786 - 1) / (ratio / 12.21786 + 2), rel=1e-4)
    assert high > 0.99
