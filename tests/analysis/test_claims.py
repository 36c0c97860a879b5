"""The claims: every statistic and rule by hand, every verdict, and what has no say in them."""

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import load, statistics
from analysis.claims import cases, catalog, claims, findings, intervals, published, verdicts
from analysis.naming import HYPERPARAMETERS, ORACLE_MARK, RANDOM
from analysis.sections.protocols import protocols_table
from analysis.sections.published import PUBLISHED, read_published
from analysis.sections.variance import variance_table
from analysis.statistics import NO_INTERVAL, Interval
from boss.study.run import Run
from tests.analysis.data import (
    child_of,
    full_run,
    make_run,
    method_run,
    run_rows,
    write_store,
)

T2 = 4.302653  # the 0.975 quantile of Student's t with 2 degrees of freedom
REFERENCE = Path(__file__).parents[2] / "results" / "reference"
SETS = [f"fixmatch:{seed}@10" for seed in range(6)]


def runs_of(percents: dict[str, list[float]], **columns: Any) -> pd.DataFrame:
    """Runs of FixMatch: their accuracies by label set, the repeats in order."""
    values = {
        ("fixmatch", label_set, repeat): percent
        for label_set, row in percents.items()
        for repeat, percent in enumerate(row)
    }
    table = run_rows(values, **columns)
    return table.assign(percent=100 * table["last_accuracy"])


def classes_of(percents: dict[str, list[list[float]]]) -> pd.DataFrame:
    """`load.metrics` of runs of FixMatch: by label set, for each repeat, of the classes."""
    rows = [
        {
            "experiment": "e",
            "variant": "fixmatch",
            "method": "fixmatch",
            "label_set": label_set,
            "repeat": repeat,
            "run_id": f"{label_set} {repeat}",
            "metric": name,
            "order": order,
            "percent": percent,
        }
        for label_set, runs in percents.items()
        for repeat, values in enumerate(runs)
        for name, order, percent in [
            ("All", 0, 1000.0),  # is no class
            *((f"class {i}", len(load.AGGREGATES) + i, value) for i, value in enumerate(values)),
        ]
    ]
    return pd.DataFrame(rows)


# Statistics


def test_share_interval_by_hand() -> None:
    # All k alike: low^k = 0.025, the probability of k successes.
    low, high = intervals.share_interval(np.ones(6))
    assert (low, high) == (pytest.approx(0.025 ** (1 / 6)), 1)
    low, high = intervals.share_interval(np.zeros(6))
    assert (low, high) == (0, pytest.approx(1 - 0.025 ** (1 / 6)))
    # Whole numbers: Clopper and Pearson's.
    for shares in ([1.0, 0, 0.5, 0.5, 0], [0.25, 0.75, 0, 0, 0]):
        found = stats.binomtest(int(sum(shares)), 5).proportion_ci(0.95, method="exact")
        assert intervals.share_interval(np.array(shares)) == pytest.approx((found.low, found.high))
    assert intervals.share_interval(np.array([])) is NO_INTERVAL
    # What the least number of label sets comes from.
    enough = findings.MIN_SETS_OF_SHARE
    assert (
        intervals.share_interval(np.ones(enough)).low
        > 0.5
        > intervals.share_interval(np.ones(enough - 1)).low
    )


def test_ratio_interval_by_hand() -> None:
    # 9 / 3; without each: 8 / 2, 6 / 2, 4 / 2. Logs: mean m, squared deviations summed, times 2/3.
    value, ends = statistics.ratio_interval(np.array([1.0, 3, 5]), np.array([1.0, 1, 1]))
    assert value == pytest.approx(3)
    logs = [math.log(4), math.log(3), math.log(2)]
    m = sum(logs) / 3
    spread = math.sqrt(2 / 3 * sum((x - m) ** 2 for x in logs))
    assert math.log(ends.high) == pytest.approx(math.log(3) + T2 * spread)
    assert math.log(ends.low) == pytest.approx(math.log(3) - T2 * spread)


def test_ratio_interval_where_it_is_undefined() -> None:
    one, zero, some = np.array([1.0, 1]), np.array([0.0, 0]), np.array([0.0, 2])
    assert all(
        math.isnan(x)
        for x in (
            statistics.ratio_interval(one, zero)[0],
            *statistics.ratio_interval(one, zero)[1],
        )
    )
    assert math.isnan(statistics.ratio_interval(zero, one)[0])
    assert math.isnan(statistics.ratio_interval(np.array([]), np.array([]))[0])
    assert statistics.ratio_interval(one, some) == (
        1,
        NO_INTERVAL,
    )  # without the second nothing is left
    assert statistics.ratio_interval(np.array([4.0]), np.array([2.0])) == (2, NO_INTERVAL)


@pytest.mark.parametrize("num_repeats", [2, 4])
@pytest.mark.slow
def test_ratio_interval_covers_the_truth(num_repeats: int) -> None:
    # Classes that are learned or lost, each label set with probabilities of its own: independent
    # classes, so the true ratio of the sums is K. 400 draws: binomial sd 1.1%.
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(400):
        p = rng.beta(0.6, 0.6, (8, 1, 10))
        accuracies = np.where(rng.random((8, num_repeats, 10)) < p, 95.0, 5.0)
        accuracies += rng.normal(0, 2, accuracies.shape)
        over = accuracies.var(axis=1, ddof=1).mean(axis=1)
        under = accuracies.mean(axis=2).var(axis=1, ddof=1)
        low, high = statistics.ratio_interval(over, under)[1]
        hits += low < 10 < high
    assert 0.90 <= hits / 400 <= 0.98


def test_permutation_p_by_hand() -> None:
    x = np.arange(3.0)
    # Of six orders two are monotone; 0, 2, 1 has rho 1/2, as have all but those two.
    assert intervals.permutation_p(x, np.array([1.0, 5, 7])) == pytest.approx(2 / 6)
    assert intervals.permutation_p(x, np.array([7.0, 5, 1])) == pytest.approx(2 / 6)
    assert intervals.permutation_p(x, np.array([1.0, 7, 5])) == 1
    # Ties: 1, 1, 2 in three orders, of which the first and last are as far from 0.
    assert intervals.permutation_p(x, np.array([1.0, 1, 2])) == pytest.approx(2 / 3)
    # What the least number of buckets comes from.
    best = [
        intervals.permutation_p(np.arange(n), np.arange(n))
        for n in (findings.MIN_BUCKETS - 1, findings.MIN_BUCKETS)
    ]
    assert best == [pytest.approx(2 / 24), pytest.approx(2 / 120)]
    assert best[0] > 0.05 > best[1]


def test_permutation_p_against_plain_loops() -> None:
    rng = np.random.default_rng(1)
    x = np.arange(6.0)
    for _ in range(3):
        y = rng.normal(size=6).round(1)
        found = abs(stats.spearmanr(x, y)[0])
        rhos = [abs(stats.spearmanr(x, order)[0]) for order in itertools.permutations(y)]
        assert intervals.permutation_p(x, y) == pytest.approx(
            np.mean(np.array(rhos) >= found - 1e-9)
        )


# What is asked of some runs


def test_unevenness_by_hand() -> None:
    # Two classes: sd = |difference| / sqrt(2). Sets: (80, 60: 70), 90, 50: mean 70, sd 20.
    root = math.sqrt(2)
    table = classes_of({"a": [[10, 90], [20, 80]], "b": [[5, 95]], "c": [[75, 25]]})
    found = findings.unevenness(table)
    assert found.value == pytest.approx(70 / root)
    half = T2 * 20 / root / math.sqrt(3)
    assert found.interval == pytest.approx((70 / root - half, 70 / root + half))
    assert (found.num_label_sets, found.num_runs, found.missing) == (3, 4, "")
    # The limit is the sd of the even distribution on 0 to 100%.
    assert found.limits == (pytest.approx(stats.uniform(0, 100).std()), math.inf)
    assert findings.unevenness(table[table["label_set"] != "c"]).missing == (
        "needs at least 3 label sets; there are 2"
    )
    assert findings.unevenness(table[table["label_set"] == "c"]).missing.endswith("there is 1")


def test_split_runs_by_hand() -> None:
    # 20 has not failed, 90 is not learned. Shares: 1/2, 1, 0, 0, 0, 1: x = 2.5 of 6.
    runs = {"a": [[19, 91, 50], [20, 91, 50]], "b": [[0, 100, 50]], "c": [[19, 90, 50]]}
    runs |= {"d": [[50, 50, 50]], "e": [[0, 0, 0]], "f": [[10, 95, 95]]}
    found = findings.split_runs(classes_of(runs))
    assert found.value == pytest.approx(2.5 / 6)
    assert found.interval == pytest.approx(
        (stats.beta.ppf(0.025, 2.5, 4.5), stats.beta.ppf(0.975, 3.5, 3.5))
    )
    assert (found.num_label_sets, found.num_runs, found.missing) == (6, 7, "")
    assert found.limits == (0.5, math.inf)
    few = findings.split_runs(classes_of({name: runs[name] for name in "abcde"}))
    assert few.missing == "needs at least 6 label sets; there are 5"


def test_class_variance_by_hand() -> None:
    # Two repeats: variance = difference^2 / 2. Differences of the two classes and of their mean:
    # a: 8, 0, 4; b: 6, -6, 0; c: 4, 4, 4. Class variances, mean: 16, 18, 8; of the mean: 8, 0, 8.
    runs = {"a": [[10, 5], [18, 5]], "b": [[10, 10], [16, 4]], "c": [[1, 1], [5, 5]]}
    found = findings.class_variance(classes_of(runs))
    assert found.value == pytest.approx(math.sqrt(42 / 16))
    without = [math.log(26 / 8), math.log(24 / 16), math.log(34 / 8)]
    m = sum(without) / 3
    half = T2 * math.sqrt(2 / 3 * sum((x - m) ** 2 for x in without)) / 2  # of the root
    assert math.log(found.interval.low) == pytest.approx(math.log(42 / 16) / 2 - half)
    assert math.log(found.interval.high) == pytest.approx(math.log(42 / 16) / 2 + half)
    assert (found.num_label_sets, found.num_runs, found.missing) == (3, 6, "")
    assert found.limits == (2, math.inf)
    assert found.remark == "classes that vary independently: 1.41"
    # A label set without repeats has no say.
    more = findings.class_variance(classes_of(runs | {"d": [[90, 10]]}))
    assert more == found


def test_class_variance_without_repeats() -> None:
    found = findings.class_variance(classes_of({name: [[1, 2]] for name in "abcdefghijkl"}))
    assert found.missing == "needs 2 repeats of at least 3 label sets; there are 1 repeat of 12"
    assert found.num_runs == 0 and math.isnan(found.value)
    two = {"a": [[1, 2], [3, 5]], "b": [[1, 2], [3, 5]], "c": [[1, 2]]}
    assert findings.class_variance(classes_of(two)).missing.endswith(
        "there are 2 or more repeats of 2 and 1 repeat of 1"
    )
    # Repeats that are alike: there is no ratio.
    same = findings.class_variance(classes_of({name: [[1, 2], [1, 2]] for name in "abc"}))
    assert math.isnan(same.value) and same.missing == ""


def test_repeat_spread_by_hand() -> None:
    # Within: a 2, b 8, c 0, each with 1 degree of freedom: MSW 10 / 3. Mean of p (1 - p):
    # 0.49 * 0.51, 0.51 * 0.49, 0.18 * 0.82, 0.22 * 0.78, 0.25 * 2; 400 images.
    runs = runs_of({"a": [49, 51], "b": [18, 22], "c": [50, 50]}, num_test=400)
    found = findings.repeat_spread(runs)
    assert found.value == pytest.approx(math.sqrt(10 / 3))
    # Without a set: 8 / 2, 2 / 2, 10 / 2.
    logs = np.log([4, 1, 5])
    half = T2 * math.sqrt(2 / 3 * ((logs - logs.mean()) ** 2).sum())
    assert found.interval.low == pytest.approx(math.sqrt(10 / 3 / math.exp(half)), rel=1e-6)
    mean = (2 * 0.2499 + 0.1476 + 0.1716 + 0.5) / 6
    assert found.limits == (pytest.approx(100 * math.sqrt(mean / 400)), math.inf)
    assert (found.num_label_sets, found.num_runs, found.missing) == (3, 6, "")
    assert found.remark == "the test set alone: at most 2.34"


def test_repeats_are_told_from_the_test_set() -> None:
    # Accuracies that are nothing but draws of 400 test images, and ones that are more.
    rng = np.random.default_rng(5)
    drawn = 100 * rng.binomial(400, 0.6, (6, 4)) / 400
    alike = runs_of(dict(zip("abcdef", drawn.tolist(), strict=True)), num_test=400)
    other = runs_of(
        dict(zip("abcdef", (drawn + rng.normal(0, 8, (6, 4))).tolist(), strict=True)), num_test=400
    )
    assert verdicts.decide(findings.repeat_spread(alike)) == catalog.OPEN
    assert verdicts.decide(findings.repeat_spread(other)) == catalog.HOLDS
    equal = runs_of({name: [60.0, 60] for name in "abc"}, num_test=400)
    assert verdicts.decide(findings.repeat_spread(equal)) == catalog.FAILS


def test_label_set_share_by_hand() -> None:
    # Means 1, 11, 21 (MSB 2 * 100), within 2 each: (200 - 2) / 2 = 99 of 101. F = 100; without a
    # set 50, 200, 50.
    found = findings.label_set_share(runs_of({"a": [0, 2], "b": [10, 12], "c": [20, 22]}))
    assert found.value == pytest.approx(99 / 101)
    logs = np.log([50, 200, 50])
    ratio = 100 / math.exp(T2 * math.sqrt(2 / 3 * ((logs - logs.mean()) ** 2).sum()))
    assert found.interval.low == pytest.approx(max(0, ratio - 1) / (max(0, ratio - 1) + 2))
    assert found.limits == (0.5, math.inf)
    many = {"a": [0, 2], "b": [10, 12], "c": [20, 22], "d": [31, 32], "e": [40, 43], "f": [6, 7]}
    assert verdicts.decide(findings.label_set_share(runs_of(many))) == catalog.HOLDS
    few = findings.label_set_share(runs_of({"a": [0, 2], "b": [1]}))
    assert few.missing.endswith("; there are 2 or more repeats of 1 and 1 repeat of 1")


def test_effect_by_hand() -> None:
    # Pairs: a 10 and 20 (15), b 10, c 20; mean 15, sd 5. Repeat 1 of b has no partner.
    fixmatch = runs_of({"a": [50, 50], "b": [50, 50], "c": [50]})
    boss = runs_of({"a": [60, 70], "b": [60], "c": [70]})
    found = findings.effect(boss, fixmatch, "percent", findings.ABOVE_ZERO)
    assert found.value == pytest.approx(15)
    assert found.interval.low == pytest.approx(15 - T2 * 5 / math.sqrt(3))
    assert (found.num_label_sets, found.num_runs, found.missing) == (3, 4, "")
    assert verdicts.decide(found) == catalog.HOLDS
    assert (
        verdicts.decide(findings.effect(fixmatch, boss, "percent", findings.ABOVE_ZERO))
        == catalog.FAILS
    )
    assert (
        verdicts.decide(findings.effect(fixmatch, boss, "percent", findings.BELOW_ZERO))
        == catalog.HOLDS
    )
    assert (
        verdicts.decide(findings.effect(boss, boss.iloc[::-1], "percent", findings.ABOVE_ZERO))
        == catalog.OPEN
    )
    # Only what has a partner counts.
    few = findings.effect(boss[boss["label_set"] != "c"], fixmatch, "percent", findings.ABOVE_ZERO)
    assert few.missing == "needs at least 3 label sets; there are 2"


def test_prototype_effect_by_hand() -> None:
    # Means of label sets: 80, 82, 84 against 60, 61, 62: 21; variances 4 and 1, over 3 each.
    iconic = runs_of({"a": [79, 81], "b": [82], "c": [84]})
    random = runs_of({"d": [60], "e": [60, 62], "f": [62]})
    found = findings.prototype_effect(iconic, random)
    assert found.value == pytest.approx(21)
    total = 5 / 3
    df = total**2 / ((4 / 3) ** 2 / 2 + (1 / 3) ** 2 / 2)
    assert found.interval.low == pytest.approx(21 - stats.t.ppf(0.975, df) * math.sqrt(total))
    assert (found.num_label_sets, found.num_runs, found.missing) == (3, 4, "")
    assert found.remark == "compared with 3 label sets, 4 runs"
    assert (
        verdicts.decide(found) == catalog.HOLDS
        and verdicts.decide(findings.prototype_effect(random, iconic)) == catalog.FAILS
    )
    one = findings.prototype_effect(iconic[:1], random)
    assert one.missing == "needs at least 3 label sets of each; there are 1 and 3"
    none = findings.prototype_effect(iconic, random[:0])
    assert none.missing.endswith("there are 3 and 0") and math.isnan(none.value)


def buckets(percents: Sequence[float]) -> pd.DataFrame:
    """A run for each bucket of prototypicality."""
    return runs_of({f"carlini:{i}": [percent] for i, percent in enumerate(percents)})


def test_bucket_trend_by_hand() -> None:
    found = findings.bucket_trend(buckets([10, 20, 30, 40, 50, 60, 70, 80]))
    assert (found.value, found.p_value) == (pytest.approx(1), pytest.approx(2 / 40_320))
    assert (found.num_label_sets, found.num_runs, found.missing) == (8, 8, "")
    assert verdicts.decide(found) == catalog.HOLDS
    assert (
        verdicts.decide(findings.bucket_trend(buckets([80, 70, 60, 50, 40, 30, 20, 10])))
        == catalog.FAILS
    )
    assert (
        verdicts.decide(findings.bucket_trend(buckets([80, 10, 60, 50, 40, 70, 20, 30])))
        == catalog.OPEN
    )
    four = findings.bucket_trend(buckets([10, 20, 30, 40]))
    assert four.missing == "needs at least 5 buckets of one experiment; there are 4"
    assert findings.bucket_trend(buckets([10])).missing.endswith("there are 1")
    assert math.isnan(findings.bucket_trend(buckets([50] * 8)).p_value)


def test_gain_by_hand() -> None:
    # Sets: 2 and 4 (3), 1, 5: mean 3, sd 2. A child without its parent has no gain.
    children = runs_of({"a": [0, 0, 0], "b": [0], "c": [0]}).assign(gain=[2, 4, math.nan, 1, 5])
    found = findings.gain(children)
    assert found.value == pytest.approx(3)
    assert found.interval.high == pytest.approx(3 + T2 * 2 / math.sqrt(3))
    assert (found.num_label_sets, found.num_runs, found.missing) == (3, 4, "")
    assert found.limits == (0, math.inf)


def full(mean: float, sd: float, n: int) -> "pd.Series[float]":
    return pd.Series({"mean": mean, "sd": sd, "n": n})


def test_to_full_by_hand() -> None:
    # Means of label sets 94, 95, 96 (variance 1, over 3); full 94.5 of 4 runs of variance 1/4.
    children = runs_of({"a": [93, 95], "b": [95], "c": [96]})
    found = findings.to_full(children, full(94.5, 0.5, 4))
    assert found.value == pytest.approx(0.5)
    parts = (1 / 3, 1 / 16)
    df = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 3)
    half = stats.t.ppf(0.975, df) * math.sqrt(sum(parts))
    assert found.interval == pytest.approx((0.5 - half, 0.5 + half))
    assert found.limits == (-1, math.inf)
    assert (found.num_label_sets, found.num_runs, found.missing) == (3, 4, "")
    assert found.remark == "fully supervised: 94.5, 4 runs"
    assert findings.to_full(children, None).missing == (
        "needs at least 2 fully supervised runs; there are 0"
    )
    one = findings.to_full(children, full(94.5, math.nan, 1))
    assert one.missing.endswith("there is 1")
    assert findings.to_full(children[:2], None).missing == "needs at least 3 label sets; there is 1"


def test_optimism_by_hand() -> None:
    # Best minus last by set: 2, 4, 6: mean 4, sd 2.
    runs = runs_of({"a": [50, 50], "b": [50], "c": [50]}, num_evaluations=20)
    runs = runs.assign(best_test_accuracy=[0.51, 0.53, 0.54, 0.56], median_last_20_accuracy=0.5)
    found = findings.optimism(runs, Interval(1.9, 10))
    assert found.value == pytest.approx(4)
    assert found.interval.low == pytest.approx(4 - T2 * 2 / math.sqrt(3))
    assert (found.num_label_sets, found.num_runs, found.missing) == (3, 4, "")
    assert found.limits == (1.9, 10)
    assert found.remark == (
        "best of 20 evaluations of teacher and student; published rows: 1.9 to 10.0"
    )


# Verdicts


@pytest.mark.parametrize(
    ("interval", "limits", "expected"),
    [
        ((1, 2), (0, math.inf), catalog.HOLDS),
        ((-2, -1), (0, math.inf), catalog.FAILS),
        ((-1, 1), (0, math.inf), catalog.OPEN),
        ((0, 1), (0, math.inf), catalog.OPEN),  # the end itself does not count
        ((-1, 0), (0, math.inf), catalog.OPEN),
        ((-2, -1), (-math.inf, 0), catalog.HOLDS),
        ((1, 2), (-math.inf, 0), catalog.FAILS),
        ((3, 4), (2, 10), catalog.HOLDS),
        ((0, 1), (2, 10), catalog.FAILS),
        ((11, 12), (2, 10), catalog.FAILS),
        ((1, 3), (2, 10), catalog.OPEN),
        ((9, 11), (2, 10), catalog.OPEN),
        ((1, 11), (2, 10), catalog.OPEN),
        (NO_INTERVAL, (0, math.inf), catalog.OPEN),
    ],
)
def test_rules(interval: tuple[float, float], limits: tuple[float, float], expected: str) -> None:
    assert (
        verdicts.decide(findings.Finding(0.0, Interval(*interval), limits=Interval(*limits)))
        == expected
    )


@pytest.mark.parametrize(
    ("value", "p_value", "expected"),
    [
        (0.8, 0.04, catalog.HOLDS),
        (0.8, 0.05, catalog.HOLDS),
        (0.8, 0.06, catalog.OPEN),
        (-0.8, 0.04, catalog.FAILS),
        (math.nan, math.nan, catalog.OPEN),
    ],
)
def test_rule_of_a_p_value(value: float, p_value: float, expected: str) -> None:
    assert verdicts.decide(findings.Finding(value, p_value=p_value)) == expected


CLEAR = findings.Finding(2.0, Interval(1, 3), 3, 6)
ABOVE = runs_of({"a": [50], "b": [51], "c": [52]})
AT_CHANCE = runs_of({"a": [9], "b": [10], "c": [12]})


def test_what_comes_before_the_interval() -> None:
    case = cases.Case(catalog.GAIN, CLEAR, basis=(ABOVE,))
    assert verdicts.verdict(case, "short", 10) == (catalog.HOLDS, "")
    assert verdicts.verdict(case, "smoke", 10) == (
        catalog.UNTESTABLE,
        "budget smoke trains too briefly to test claims",
    )
    few = case._replace(finding=CLEAR._replace(missing="needs more"))
    assert verdicts.verdict(few, "paper", 10) == (catalog.TOO_FEW, "needs more")
    assert verdicts.verdict(few, "smoke", 10)[0] == catalog.UNTESTABLE
    # Mean 10.33, sd 1.53: it holds 10.
    chance = case._replace(basis=(AT_CHANCE,))
    assert verdicts.verdict(chance, "short", 10) == (
        catalog.UNTESTABLE,
        "fixmatch: 10.3% [6.5, 14.1] is not above chance, 10.0%",
    )
    assert verdicts.verdict(chance, "short", 20)[0] == catalog.HOLDS  # of 20 classes it is above 5%
    assert verdicts.verdict(chance._replace(finding=few.finding), "short", 10)[0] == catalog.TOO_FEW
    undefined = case._replace(finding=CLEAR._replace(interval=NO_INTERVAL))
    assert verdicts.verdict(undefined, "short", 10) == (catalog.OPEN, "its interval is undefined")


def test_which_runs_must_be_above_chance() -> None:
    # One of those given; no runs and a single run say nothing.
    case = cases.Case(catalog.GAIN, CLEAR)
    assert verdicts.verdict(case, "short", 10)[0] == catalog.HOLDS
    for basis, expected in (
        ((ABOVE[:0],), catalog.HOLDS),
        ((ABOVE[:1],), catalog.HOLDS),
        ((AT_CHANCE, ABOVE[:1]), catalog.UNTESTABLE),
        ((AT_CHANCE, ABOVE), catalog.HOLDS),
        ((ABOVE, AT_CHANCE), catalog.HOLDS),
    ):
        assert verdicts.verdict(case._replace(basis=basis), "short", 10)[0] == expected
    both = case._replace(basis=(AT_CHANCE, AT_CHANCE))
    assert verdicts.verdict(both, "short", 10)[1] == (
        "fixmatch: 10.3% [6.5, 14.1] and fixmatch: 10.3% [6.5, 14.1] is not above chance, 10.0%"
    )


# What the publications' own numbers give


def test_published_numbers_by_hand() -> None:
    known = published.published("cifar10")
    assert set(known) == {"1a", "1b", "2", "3", "4", "6b", "7b", "8"}
    table2 = read_published(published.TABLE_2)
    wide = table2.pivot(index="run", columns="class_index", values="mean_percent").to_numpy()
    assert wide.shape == (4, 10)
    assert known["1a"].value == pytest.approx(wide.std(axis=1, ddof=1).mean())
    assert known["1b"].value == 1  # in each of the four runs
    over, under = wide.var(axis=0, ddof=1).mean(), wide.mean(axis=1).var(ddof=1)
    assert known["2"].value == pytest.approx(math.sqrt(over / under))
    # Table 1: means 63, 71, 65, 64, 45, 58, deviations 5, 5, 2, 5, 4, 6 of 4 runs each.
    msw = (25 + 25 + 4 + 25 + 16 + 36) / 6
    between = np.var([63, 71, 65, 64, 45, 58], ddof=1) - msw / 4
    assert known["3"].value == pytest.approx(math.sqrt(msw))
    variances = np.array([25, 25, 4, 25, 16, 36])
    logs = np.log((variances.sum() - variances) / 5)
    half = stats.t.ppf(0.975, 5) * math.sqrt(5 / 6 * ((logs - logs.mean()) ** 2).sum())
    assert known["3"].interval == pytest.approx(
        [math.sqrt(msw / math.exp(half)), math.sqrt(msw * math.exp(half))]
    )
    assert known["4"].value == pytest.approx(between / (between + msw))
    assert known["4"].interval.low < 0.5 < known["4"].value  # undecided by our own rule
    # 63 - 60.95, 71 - 66.265, 65 - 60.94, 64 - 58.98, 45 - 43.12, 58 - 48.03.
    gaps = np.array([2.05, 4.735, 4.06, 5.02, 1.88, 9.97])
    assert known["8"].value == pytest.approx(gaps.mean(), abs=0.01)
    half = stats.t.ppf(0.975, 5) * gaps.std(ddof=1) / math.sqrt(6)
    assert known["8"].interval == pytest.approx((gaps.mean() - half, gaps.mean() + half), abs=0.02)
    assert known["6b"].value == 1 and known["6b"].origin == "3 buckets: 10, 65, 78%, medians"
    assert known["7b"].value == pytest.approx(0.5)
    assert known["2"].origin.startswith("1 label set, 4 runs".join(("Table 2: ", ";")))
    assert known["4"].origin == "Table 1: 6 label sets, 24 runs"


def test_printed_runs_have_the_printed_moments() -> None:
    table = pd.DataFrame({"label_set": ["a", "b"], "mean": [10.0, 20], "sd": [2.0, 0], "n": [4, 3]})
    runs = published.printed_runs(table, 100).groupby("label_set")["percent"]
    assert runs.mean().tolist() == pytest.approx([10, 20])
    assert runs.std(ddof=1).tolist() == pytest.approx([2, 0])
    assert runs.size().tolist() == [4, 3]


def test_every_single_number_has_a_source_and_is_known_somehow() -> None:
    table = pd.read_csv(PUBLISHED / published.SINGLE)
    assert not table.duplicated(["name", "dataset"]).any()
    assert set(table["known"]) <= {"given", "confirmed", "recalled"}
    assert table["source"].notna().all() and table["value"].notna().all()
    # It is neither of the kinds that a study names.
    assert not {"class_index", "quantity"} & set(table.columns)


# Stores


def write(folder: Path, runs: dict[Run, float], **more: Any) -> load.Results:
    """A store of runs of about these accuracies."""
    write_store(
        folder, list(runs), accuracies={run.id: value for run, value in runs.items()}, **more
    )
    return load.load(folder, "synthetic")


def one(numbers: pd.DataFrame, claim: str, **where: str) -> "pd.Series[Any]":
    """The only row of a claim."""
    rows = numbers[numbers["claim"] == claim]
    for name, value in where.items():
        rows = rows[rows[name] == value]
    assert len(rows) == 1, rows
    return rows.iloc[0]


def boss_runs(
    fixmatch: float, boss: float, child: float, full: float, **fields: Any
) -> dict[Run, float]:
    """Three label sets x two repeats: FixMatch, method 4, its children, full supervision."""
    runs = {}
    for label_set, repeat in itertools.product(SETS[:3], range(2)):
        parent = method_run(4, label_set, repeat=repeat, **fields)
        runs[method_run(0, label_set, repeat=repeat, **fields)] = fixmatch
        runs[parent] = boss
        runs[child_of(parent, 5, **fields)] = 0.3  # fewer picks: not asked
        runs[child_of(parent, 40, **fields)] = child
        runs[child_of(child_of(parent, 40, **fields), 80, **fields)] = 0.3  # round 2: not asked
        runs[child_of(parent, 40, pick_labels="true", **fields)] = 1.0  # an oracle
    return runs | {full_run(repeat, **fields): full for repeat in range(2)}


def test_planted_effects_are_found(tmp_path: Path) -> None:
    found = write(tmp_path, boss_runs(0.15, 0.4, 0.95, 0.9, num_images=2**21))
    numbers = claims.claims(found)
    assert (numbers["about"] == "CIFAR-10, 1/16 of the published images").sum() == len(numbers) - 1
    for claim in ("5a", "5b", "7a", "7b"):
        assert one(numbers, claim)["verdict"] == catalog.HOLDS, claim
    row = one(numbers, "5a")
    assert row["runs"] == "boss-4 - fixmatch" and row["value"] == pytest.approx(25, abs=2)
    assert (row["num_label_sets"], row["num_runs"]) == (3, 6)
    assert row["remark"] == (
        "not only the balancing differs: "
        "also batch_size, unlabeled_ratio, learning_rate, weight_decay"
    )
    assert one(numbers, "5b")["value"] == pytest.approx(-10, abs=0.5)  # not below 20%, but poor
    row = one(numbers, "7a")
    assert row["runs"] == "boss-4 -> fixmatch +40 - boss-4"
    assert row["value"] == pytest.approx(55, abs=2)
    assert one(numbers, "7b")["remark"].startswith("fully supervised: ")


def test_balancing_is_asked_of_the_pair_that_is_nearest(tmp_path: Path) -> None:
    """Two settings of each method; the first of each method are not each other's nearest."""
    runs = {}
    for label_set, repeat in itertools.product(SETS[:3], range(2)):
        for method, changes, accuracy in (
            (0, {}, 0.5),  # FixMatch's settings
            (0, {"batch_size": 32, "weight_decay": 8e-4}, 0.2),
            (4, {"batch_size": 32, "weight_decay": 8e-4, "learning_rate": 0.05}, 0.6),
            (4, {"batch_size": 16, "weight_decay": 2e-4, "learning_rate": 0.02}, 0.9),
        ):
            run = method_run(method, label_set, repeat=repeat, **changes)
            runs[run] = accuracy
    row = one(claims.claims(write(tmp_path, runs)), "5a")
    assert row["value"] == pytest.approx(40, abs=2)  # 0.6 - 0.2
    assert "batch_size" not in row["remark"] and "weight_decay" not in row["remark"]
    assert "learning_rate" in row["remark"]


def test_a_nearer_variant_without_common_label_sets_is_not_asked(tmp_path: Path) -> None:
    runs = boss_runs(0.15, 0.4, 0.9, 0.9)
    settings = method_run(4).as_dict()
    alike = {name: settings[name] for name in ("batch_size", "unlabeled_ratio", "learning_rate")}
    stray = method_run(0, SETS[0], repeat=7, weight_decay=settings["weight_decay"], **alike)
    row = one(claims.claims(write(tmp_path, runs | {stray: 0.3})), "5a")
    assert (row["verdict"], row["num_label_sets"]) == (catalog.HOLDS, 3)


def test_children_are_not_the_fixmatch_that_has_learned(tmp_path: Path) -> None:
    """What self-training has spoiled is no reason not to test it."""
    runs = {
        run: 0.1 if run.parent and run.pick_labels == "pseudo" else accuracy
        for run, accuracy in boss_runs(0.6, 0.8, 0.1, 0.9).items()
        if run.parent or run.algorithm != "fixmatch"
    }
    row = one(claims.claims(write(tmp_path, runs)), "7a")
    assert row["verdict"] == catalog.FAILS
    assert row["value"] == pytest.approx(-70, abs=2)


def test_effects_that_are_not_there_are_not_found(tmp_path: Path) -> None:
    numbers = claims.claims(write(tmp_path, boss_runs(0.6, 0.6, 0.6, 0.9)))
    assert one(numbers, "5a")["verdict"] == catalog.OPEN
    assert one(numbers, "5b")["verdict"] == catalog.OPEN  # none fails in either
    assert one(numbers, "5b")["value"] == 0
    assert one(numbers, "7a")["verdict"] == catalog.OPEN
    assert one(numbers, "7b")["verdict"] == catalog.FAILS
    worse = claims.claims(write(tmp_path / "worse", boss_runs(0.6, 0.4, 0.3, 0.9)))
    assert [one(worse, claim)["verdict"] for claim in ("5a", "7a")] == [catalog.FAILS] * 2


def test_the_smoke_budget_is_never_tested(tmp_path: Path) -> None:
    numbers = claims.claims(write(tmp_path, boss_runs(0.15, 0.6, 0.9, 0.9, budget="smoke")))
    assert set(numbers["verdict"]) == {catalog.UNTESTABLE}
    assert set(numbers["reason"]) == {"budget smoke trains too briefly to test claims"}


def test_runs_at_chance_are_not_tested(tmp_path: Path) -> None:
    numbers = claims.claims(write(tmp_path, boss_runs(0.1, 0.6, 0.9, 0.9)))
    for claim in ("1a", "2", "3", "4", "5a", "5b", "7a", "7b", "8"):
        row = one(numbers, claim)
        assert row["verdict"] == catalog.UNTESTABLE, claim
        assert row["reason"].startswith("fixmatch: ") and "not above chance, 10.0%" in row["reason"]
    assert one(numbers, "1b")["verdict"] == catalog.TOO_FEW  # three label sets are not six


def test_one_label_set_is_not_enough(tmp_path: Path) -> None:
    runs = {make_run(repeat=repeat): 0.5 + 0.1 * repeat for repeat in range(4)}
    numbers = claims.claims(write(tmp_path, runs))
    assert set(numbers["verdict"]) == {catalog.TOO_FEW}
    assert one(numbers, "1a")["reason"] == "needs at least 3 label sets; there is 1"
    assert one(numbers, "1a")["num_runs"] == 4


def test_a_study_without_such_runs_has_no_section(tmp_path: Path) -> None:
    many = {make_run(label_set=f"fixmatch:{seed}@40"): 0.6 for seed in range(3)}
    assert claims.parts(write(tmp_path, many)) == []
    other = {make_run("supervised", label_set): 0.6 for label_set in SETS}
    assert claims.parts(write(tmp_path / "other", other)) == []


def test_who_takes_part(tmp_path: Path) -> None:
    runs = [make_run(label_set=name) for name in (*SETS[:2], "boss:2", "boss:6", "boss:8")]
    runs += [make_run(label_set=name) for name in ("carlini:7", "carlini:6")]
    left_out = [make_run(label_set="select:cifar10-refined"), make_run(label_set="fixmatch:0@40")]
    parent = method_run(4, SETS[0])
    children = [child_of(parent, 5), child_of(parent, 5, pick_labels="true")]
    write_store(tmp_path, [*runs, *left_out, parent, *children, full_run()])
    found = load.load(tmp_path, "synthetic")
    table = cases.taking_part(found).set_index("run_id")
    assert set(table.index) == {run.id for run in (*runs, parent, children[0])}
    families = {run.label_set: table.loc[run.id, "family"] for run in runs}
    assert families == {
        **dict.fromkeys(SETS[:2], "random splits"),
        **{"boss:2": "hand-picked", "boss:6": "", "boss:8": ""},
        **{"carlini:7": "most prototypical bucket", "carlini:6": "prototypicality buckets"},
    }
    assert set(table["num_classes"]) == {10} and set(table["num_test"]) == {2000}
    assert table.loc[parent.id, "percent"] == pytest.approx(
        100 * table.loc[parent.id, "last_accuracy"]
    )


def choice_runs(random: float, iconic: float, spread: float = 0.0) -> dict[Run, float]:
    """FixMatch on three random, hand-picked and class-centroid sets, and on all buckets."""
    names = {}
    for place, other in enumerate((-spread, 0, spread)):
        names[SETS[place]] = random + other
        names[f"boss:{place}"] = iconic + other
        names[f"select:cifar10-resnet-class-centroid-rank{place}"] = iconic + other
    names |= {"boss:6": 0.99, "boss:7": 0.99}  # made of the others
    names |= {f"carlini:{number}": 0.1 + 0.1 * number for number in range(8)}
    return {method_run(0, name): value for name, value in names.items()}


def test_prototypes_that_help_are_found(tmp_path: Path) -> None:
    numbers = claims.claims(write(tmp_path, choice_runs(0.5, 0.7)))
    hand = one(numbers, "6a", family="hand-picked")
    assert hand["verdict"] == catalog.HOLDS and hand["value"] == pytest.approx(20, abs=1)
    assert (hand["num_label_sets"], hand["num_runs"]) == (3, 3)  # not sets 6 and 7
    centroid = one(numbers, "6a", family="resnet-class-centroid")
    assert centroid["verdict"] == catalog.HOLDS
    assert "the labels of all training images" in centroid["remark"]
    top = one(numbers, "6a", family=published.MOST_PROTOTYPICAL)
    assert (top["verdict"], top["reason"]) == (
        catalog.TOO_FEW,
        "needs at least 3 label sets of each; there are 1 and 3",
    )
    assert top["published"] == pytest.approx(78 - 64.28)
    trend = one(numbers, "6b")
    assert (trend["verdict"], trend["value"]) == (catalog.HOLDS, pytest.approx(1))
    assert (trend["num_label_sets"], trend["num_runs"]) == (8, 8)
    # FixMatch's claims are asked of both populations, apart.
    assert list(numbers.loc[numbers["claim"] == "1a", "family"]) == list(cases.POPULATIONS)


@pytest.mark.slow
def test_prototypes_at_chance(tmp_path: Path) -> None:
    # It is enough that one of the two kinds of label sets is learned from.
    one_kind = claims.claims(write(tmp_path / "a", choice_runs(0.1, 0.7)))
    assert one(one_kind, "6a", family="hand-picked")["verdict"] == catalog.HOLDS
    assert one(one_kind, "1a", family=RANDOM)["verdict"] == catalog.UNTESTABLE
    neither = claims.claims(write(tmp_path / "b", choice_runs(0.1, 0.1)))
    assert one(neither, "6a", family="hand-picked")["verdict"] == catalog.UNTESTABLE
    assert one(neither, "6b")["verdict"] == catalog.HOLDS  # of other label sets


@pytest.mark.parametrize(
    ("above", "expected"),
    [
        (0.0, catalog.FAILS),
        (0.005, catalog.FAILS),
        (0.05, catalog.HOLDS),
        (0.08, catalog.HOLDS),
        (0.2, catalog.FAILS),
    ],
)
def test_which_gap_the_best_on_test_explains(tmp_path: Path, above: float, expected: str) -> None:
    # The published rows have 1.88 to 9.97 points.
    runs = {make_run(label_set=name): 0.6 for name in SETS}
    changes = {run.id: {"last_accuracy": 0.6, "best_test_accuracy": 0.6 + above} for run in runs}
    row = one(claims.claims(write(tmp_path, runs, changes=changes)), "8")
    assert row["value"] == pytest.approx(100 * above)
    limits = (row["limit_low"], row["limit_high"])
    assert limits == (pytest.approx(1.88), pytest.approx(9.97))
    assert row["verdict"] == expected


def test_other_settings_by_hand() -> None:
    settings = dict.fromkeys(HYPERPARAMETERS, 1)
    fixmatch = pd.DataFrame(
        [settings | {"options": json.dumps({"threshold": 0.95, "labels": "hard"})}]
    )
    options = {"threshold": 0.95, "max_drop": 0.25, "weigh_by": "used", "average_over": "all"}

    def boss(**changes: Any) -> pd.DataFrame:
        return pd.DataFrame([settings | {"options": json.dumps(options | changes)}])

    assert cases.other_settings(boss(), fixmatch) == ""
    assert (
        cases.other_settings(boss(threshold=0.9), fixmatch)
        == "not only the balancing differs: also threshold"
    )
    assert cases.other_settings(boss(average_over="used"), fixmatch).endswith(" average_over")
    both = boss(threshold=0.9).assign(momentum=2)
    assert (
        cases.other_settings(both, fixmatch)
        == "not only the balancing differs: also momentum, threshold"
    )
    soft = fixmatch.assign(options=json.dumps({"threshold": 0.95, "labels": "soft"}))
    assert cases.other_settings(boss(), soft) == "not only the balancing differs: also labels"


# The tables


@pytest.mark.slow
def test_rows_do_not_depend_on_the_order_of_the_store(tmp_path: Path) -> None:
    runs = boss_runs(0.15, 0.6, 0.9, 0.9) | choice_runs(0.5, 0.7)
    first = claims.claims(write(tmp_path / "a", runs))
    again = claims.claims(write(tmp_path / "b", dict(reversed(runs.items()))))
    pd.testing.assert_frame_equal(first, again)
    order = [claim.name for claim in catalog.CLAIMS]
    places = [order.index(name) for name in first["claim"]]
    assert places == sorted(places)


@pytest.mark.parametrize("study", ["oneshot_digits", "boss_digits", "algorithms_digits"])
@pytest.mark.slow
def test_committed_results(study: str) -> None:
    numbers = claims.claims(load.load(REFERENCE, study))
    assert set(numbers["about"]) == {verdicts.OTHER_DATA}
    assert numbers["scope"].nunique() == 1  # 40 labels are not one per class
    oracles = numbers["runs"].str.contains(ORACLE_MARK, regex=False)
    assert not oracles.any()
    words = {catalog.HOLDS, catalog.FAILS, catalog.OPEN, catalog.TOO_FEW, catalog.UNTESTABLE}
    assert set(numbers["verdict"]) <= words
    asked = numbers["verdict"].isin([catalog.HOLDS, catalog.FAILS, catalog.OPEN])
    inside = numbers.loc[asked & numbers["p_value"].isna()]
    assert ((inside["low"] <= inside["value"]) & (inside["value"] <= inside["high"])).all()
    assert (numbers["reason"] != "")[~asked].all()


@pytest.mark.slow
def test_claims_agree_with_the_other_sections() -> None:
    found = load.load(REFERENCE, "boss_digits")
    numbers = claims.claims(found)
    fixmatch = found.runs[(found.runs["method"] == "fixmatch") & (found.runs["round"] == 0)]
    fixmatch = fixmatch[fixmatch["family"] == RANDOM]
    table = load.metrics(found)
    table = table[table["run_id"].isin(fixmatch["run_id"])]
    variance = variance_table(table).set_index("metric").loc["All"]
    share = one(numbers, "4")
    assert share["value"] == pytest.approx(variance["share"])
    assert share["high"] == pytest.approx(variance["share_high"])
    assert one(numbers, "3")["value"] == pytest.approx(variance["repeat_sd"])
    assert one(numbers, "8")["value"] == pytest.approx(
        protocols_table(fixmatch).iloc[-1]["optimism_points"]
    )
    # Straight from the runs: method 4 and FixMatch, by label set.
    last = found.runs[found.runs["round"] == 0].pivot_table(
        index=["label_set", "repeat"], columns="variant", values="last_accuracy"
    )
    last = last.loc[last.index.get_level_values(0).str.startswith("fixmatch:")]
    differences = 100 * (last["boss-4"] - last["fixmatch"]).groupby("label_set").mean().dropna()
    row = one(numbers, "5a", runs="boss-4 - fixmatch")
    assert row["value"] == pytest.approx(differences.mean())
    assert row["low"] == pytest.approx(
        stats.ttest_1samp(differences, 0).confidence_interval(0.95).low
    )
