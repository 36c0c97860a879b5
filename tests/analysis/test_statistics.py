"""Every formula worked out by hand once, and against another way to compute it."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from analysis import statistics


def runs_frame(groups: dict[str, list[float]]) -> pd.DataFrame:
    """One row per run: label_set, repeat, percent."""
    rows = [
        {"label_set": name, "repeat": repeat, "percent": value}
        for name, values in groups.items()
        for repeat, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["label_set", "repeat", "percent"])


def random_frame(seed: int, counts: list[int], between: float = 3.0) -> pd.DataFrame:
    """Normal label set and repeat effects (standard deviations `between` and 1)."""
    rng = np.random.default_rng(seed)
    return runs_frame(
        {
            f"boss:{j}": list(50 + between * rng.normal() + rng.normal(size=n))
            for j, n in enumerate(counts)
        }
    )


def test_moments_by_hand() -> None:
    # 1, 2, 6: mean 3, squared deviations 4 + 1 + 9 = 14, over n - 1 = 2: 7.
    table = statistics.moments(
        runs_frame({"b": [1, 2, 6], "a": [5]}), by=["label_set"], value="percent"
    )
    assert list(table["label_set"]) == ["b", "a"]  # in their order, not the alphabet's
    assert list(table["mean"]) == [3, 5]
    assert table["sd"][0] == pytest.approx(math.sqrt(7))
    assert math.isnan(table["sd"][1])
    assert list(table["n"]) == [3, 1]


def test_t_interval_by_hand_and_against_scipy() -> None:
    # 1, 2, 6: 3 +- 4.302653 * sqrt(7) / sqrt(3), from a printed table of Student's t.
    interval = statistics.t_interval(np.array([1.0, 2.0, 6.0]))
    assert interval == pytest.approx((3 - 6.572411, 3 + 6.572411), abs=1e-5)
    values = np.random.default_rng(0).normal(size=9)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert statistics.t_interval(values) == pytest.approx((low, high))
    assert all(math.isnan(end) for end in statistics.t_interval(np.array([1.0])))


def test_cluster_mean_weighs_label_sets_equally() -> None:
    # Means 1, 2, 6 of label sets with 2, 1 and 3 runs: as `test_t_interval_by_hand`.
    mean = statistics.cluster_mean(
        runs_frame({"a": [0, 2], "b": [2], "c": [5, 6, 7]}), value="percent"
    )
    assert mean.mean == 3
    assert mean.interval == pytest.approx((3 - 6.572411, 3 + 6.572411), abs=1e-5)
    assert (mean.num_runs, mean.num_label_sets) == (6, 3)
    assert mean.interval_over == "label sets"


def test_cluster_mean_of_one_label_set_says_that_it_is_over_repeats() -> None:
    mean = statistics.cluster_mean(runs_frame({"a": [1, 2, 6]}), "percent")
    assert mean.interval_over == "repeats of one label set"
    assert mean.interval.high == pytest.approx(9.572411, abs=1e-5)
    single = statistics.cluster_mean(runs_frame({"a": [1]}), "percent")
    assert (single.mean, single.interval_over) == (1, "")
    assert math.isnan(single.interval.low)
    assert math.isnan(statistics.cluster_mean(runs_frame({}), "percent").mean)


def test_cluster_mean_covers_the_truth() -> None:
    # 95% of the intervals hold the true mean (binomial sd of 300 draws: 1.3%); treating runs as
    # independent would hold it far less often.
    hits = naive = 0
    for seed in range(300):
        frame = random_frame(seed, [4] * 5)
        interval = statistics.cluster_mean(frame, "percent").interval
        hits += interval.low <= 50 <= interval.high
        interval = statistics.t_interval(frame["percent"].to_numpy())
        naive += interval.low <= 50 <= interval.high
    assert 0.91 < hits / 300 < 0.99
    assert naive / 300 < 0.75


def test_pairs_meet_by_label_set_and_repeat_not_by_row() -> None:
    ours = runs_frame({"a": [10, 20], "b": [30, 40]})
    baseline = runs_frame({"a": [1, 2], "b": [3, 4], "c": [9, 9]}).iloc[::-1]
    both = statistics.pairs(ours, baseline, "percent")
    assert list(both["difference"]) == [9, 18, 27, 36]
    with pytest.raises(pd.errors.MergeError):
        statistics.pairs(ours, pd.concat([baseline, baseline]), "percent")


def test_compare_by_hand() -> None:
    # Differences a: 1, 3 (mean 2), b: 4, 0 (mean 2), c: -1 (mean -1): mean 1, sd of means
    # sqrt(3), half width 4.302653 * sqrt(3) / sqrt(3).
    ours = runs_frame({"a": [11, 23], "b": [34, 40], "c": [49]})
    baseline = runs_frame({"a": [10, 20], "b": [30, 40], "c": [50, 70]})
    result = statistics.compare(ours, baseline, "percent")
    assert result.difference.mean == pytest.approx(1)
    assert result.difference.interval == pytest.approx((1 - 4.302653, 1 + 4.302653), abs=1e-5)
    assert (result.num_pairs, result.num_wins, result.num_ties) == (5, 3, 1)


def test_pairing_removes_what_pairs_share() -> None:
    shared = random_frame(0, [4] * 6, between=20)
    result = statistics.compare(shared.assign(percent=shared["percent"] + 2), shared, "percent")
    assert result.difference.interval == pytest.approx((2, 2))


def test_welch_by_hand_and_against_scipy() -> None:
    # 1, 2, 6 (mean 3, variance 7) and 0, 2 (mean 1, variance 2): s2 = 7 / 3 + 1 = 10 / 3,
    # df = (100 / 9) / ((49 / 9) / 2 + 1 / 1) = 200 / 67 = 2.985; Student's t there lies between
    # those of 2 and 3 degrees, 4.3027 and 3.1824.
    ours, theirs = np.array([1.0, 2.0, 6.0]), np.array([0.0, 2.0])
    difference, interval, *_ = statistics.welch(ours, theirs)
    assert difference == 2
    half = stats.t.ppf(0.975, 200 / 67) * math.sqrt(10 / 3)
    assert 3.1824 < half / math.sqrt(10 / 3) < 3.25
    assert interval == pytest.approx((2 - half, 2 + half))
    test = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    assert interval == pytest.approx((test.low, test.high))


def test_welch_where_it_is_undefined() -> None:
    two, one, none = np.array([1.0, 3.0]), np.array([5.0]), np.array([])
    for ours, theirs, expected in ((two, one, -3), (one, two, 3), (one, one, 0)):
        difference, interval, *_ = statistics.welch(ours, theirs)
        assert difference == expected
        assert all(math.isnan(end) for end in interval)
    assert math.isnan(statistics.welch(two, none)[0])
    same = np.array([2.0, 2.0])
    assert statistics.welch(same, same + 1)[:3] == (-1, (-1, -1), 0)


def test_rank_correlation_by_hand_and_against_scipy() -> None:
    # Ranks 1, 2, 3, 4 and 1, 3, 2, 4: 1 - 6 * (0 + 1 + 1 + 0) / (4 * 15) = 0.8.
    x, y = np.array([0.0, 1.0, 2.0, 9.0]), np.array([10.0, 30.0, 20.0, 31.0])
    assert statistics.rank_correlation(x, y) == pytest.approx(0.8)
    assert statistics.rank_correlation(x, -y) == pytest.approx(-0.8)
    # Ranks 1, 2.5, 2.5, 4: deviations -1.5, 0, 0, 1.5 against -1.5, .5, -.5, 1.5.
    ties = np.array([0.0, 5.0, 5.0, 7.0])
    assert statistics.rank_correlation(ties, y) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert statistics.rank_correlation(ties, y) == pytest.approx(stats.spearmanr(ties, y).statistic)
    for undefined in (x[:0], x[:1], np.ones(4)):
        assert math.isnan(statistics.rank_correlation(undefined, y[: len(undefined)]))


def test_effective_number_by_hand() -> None:
    # Equal shares; one class; shares 1/2, 1/4, 1/4 (entropy 1.5 log 2, so 2^1.5); nothing.
    counts = [[5, 5, 5], [7, 0, 0], [20, 10, 10], [0, 0, 0], [math.nan] * 3]
    found = statistics.effective_number(np.array(counts, dtype=float))
    assert found[:3] == pytest.approx([3, 1, 2**1.5])
    assert all(np.isnan(found[3:]))
    assert statistics.effective_number(np.ones(4)) == pytest.approx(4)


def test_variance_components_by_hand_balanced() -> None:
    # Means 2, 6, 10 of two runs each: MSB = 2 * (16 + 0 + 16) / 2 = 32, MSW = (2 + 2 + 2) / 3 = 2,
    # between (32 - 2) / 2 = 15, share 15 / 17.
    parts = statistics.variance_components(
        runs_frame({"a": [1, 3], "b": [5, 7], "c": [9, 11]}), "percent"
    )
    assert (parts.label_set, parts.repeat) == pytest.approx((15, 2))
    assert parts.share == pytest.approx(15 / 17)
    assert (parts.num_runs, parts.num_label_sets, parts.is_clipped) == (6, 3, False)


def test_variance_components_by_hand_unbalanced() -> None:
    # a: 0, 2 (mean 1); b: 4, 6, 8 (mean 6): mean of all 4, MSB = 2 * 9 + 3 * 4 = 30,
    # MSW = (2 + 8) / 3, n_0 = 5 - 13 / 5 = 2.4, between (30 - 10 / 3) / 2.4 = 100 / 9.
    parts = statistics.variance_components(runs_frame({"a": [0, 2], "b": [4, 6, 8]}), "percent")
    assert (parts.label_set, parts.repeat) == pytest.approx((100 / 9, 10 / 3))


def test_variance_components_against_their_expectation() -> None:
    # Averaged over many draws they are unbiased, with equal and unequal numbers of repeats.
    for counts in ([4] * 6, [2, 7, 3, 5, 4, 2]):
        parts = [
            statistics.variance_components(random_frame(seed, counts), "percent")
            for seed in range(300)
        ]
        assert np.mean([p.label_set for p in parts]) == pytest.approx(9, rel=0.15)
        assert np.mean([p.repeat for p in parts]) == pytest.approx(1, rel=0.05)


def test_variance_components_clip_a_negative_estimate_and_say_so() -> None:
    parts = statistics.variance_components(runs_frame({"a": [0, 10], "b": [1, 9]}), "percent")
    assert (parts.label_set, parts.share, parts.is_clipped) == (0, 0, True)
    frame = runs_frame({"a": [0, 10], "b": [1, 9], "c": [2, 10]})
    assert statistics.variance_components(frame, "percent").share_interval.low == 0


def test_variance_components_where_they_are_undefined() -> None:
    one_set = statistics.variance_components(runs_frame({"a": [1, 3]}), "percent")
    assert one_set.repeat == 2
    assert math.isnan(one_set.label_set)
    assert math.isnan(one_set.share)
    no_repeats = statistics.variance_components(runs_frame({"a": [1], "b": [3]}), "percent")
    assert math.isnan(no_repeats.repeat)
    assert math.isnan(no_repeats.label_set)
    constant = statistics.variance_components(runs_frame({"a": [1, 1], "b": [1, 1]}), "percent")
    assert math.isnan(constant.share)
    assert math.isnan(constant.share_interval.low)


def test_share_interval_by_hand() -> None:
    # Label sets {0, 2}, {4, 6}, {11, 13}: means 1, 5, 12 about 6, each with squares 2. MSB =
    # 2 (25 + 1 + 36) / 2 = 62, MSW = 6 / 3 = 2. Without one: means 5, 12: MSB = 2 * 24.5 = 49, MSW
    # = 4 / 2 = 2; 1, 12: 121; 1, 5: 16.
    means = np.array([1.0, 5, 12])
    f = 2 * float(((means - 6) ** 2).sum()) / 2 / 2
    assert f == pytest.approx(31)
    logs = np.log([49 / 2, 121 / 2, 16 / 2])
    half = 4.302653 * math.sqrt(2 / 3 * ((logs - logs.mean()) ** 2).sum())
    ends = [max(0.0, end - 1) / 2 for end in (f / math.exp(half), f * math.exp(half))]
    expected = [theta / (1 + theta) for theta in ends]
    parts = statistics.variance_components(
        runs_frame({"a": [0, 2], "b": [4, 6], "c": [11, 13]}), "percent"
    )
    assert parts.share_interval == pytest.approx(expected, rel=1e-6)


def test_share_interval_equals_that_of_runs_left_out_one_label_set_at_a_time() -> None:
    frame = random_frame(1, [4, 2, 3, 4, 1, 5], between=1.5)

    def ratio(rows: pd.DataFrame) -> float:
        groups = [group.to_numpy() for _, group in rows.groupby("label_set")["percent"]]
        return float(stats.f_oneway(*groups).statistic)

    without = [ratio(frame[frame["label_set"] != name]) for name in frame["label_set"].unique()]
    ends = statistics.log_jackknife(ratio(frame), np.array(without))
    counts = np.array([4, 2, 3, 4, 1, 5])
    n0 = (19 - (counts**2).sum() / 19) / 5
    thetas = [max(0.0, end - 1) / n0 for end in ends]
    parts = statistics.variance_components(frame, "percent")
    assert parts.share_interval == pytest.approx([x / (1 + x) for x in thetas], rel=1e-9)


def test_share_interval_needs_three_label_sets() -> None:
    parts = statistics.variance_components(random_frame(0, [4, 4]), "percent")
    assert math.isnan(parts.share_interval.low)
    assert not math.isnan(parts.share)


def test_share_interval_covers_the_truth_for_unequal_numbers() -> None:
    # True share 4 / 5.
    hits = 0
    for seed in range(200):
        parts = statistics.variance_components(random_frame(seed, [2, 6, 3, 4], 2.0), "percent")
        hits += parts.share_interval.low <= 0.8 <= parts.share_interval.high
    assert 0.9 < hits / 200 < 0.99


def test_class_spread_by_hand() -> None:
    # Classes 0, 10 and 10, 0 over two runs: the mean never moves, each class by sqrt(50).
    spread = statistics.class_spread(np.array([[0.0, 10.0], [10.0, 0.0]]))
    assert spread.sd_of_mean == 0
    assert spread.mean_class_sd == pytest.approx(math.sqrt(50))
    assert spread.sd_of_mean_if_independent == pytest.approx(math.sqrt(100) / 2)
    assert spread.sd_within_run == pytest.approx(math.sqrt(50))


def test_class_spread_of_independent_classes() -> None:
    spread = statistics.class_spread(np.random.default_rng(0).normal(size=(20_000, 10)))
    assert spread.sd_of_mean == pytest.approx(spread.sd_of_mean_if_independent, rel=0.02)
    assert spread.sd_of_mean == pytest.approx(spread.mean_class_sd / math.sqrt(10), rel=0.02)
    assert math.isnan(statistics.class_spread(np.zeros((1, 3))).sd_of_mean)
    assert math.isnan(statistics.class_spread(np.zeros((3, 1))).sd_within_run)


def test_quantiles_are_those_of_the_densities() -> None:
    # Independent of scipy's inverse functions: integrate Student's density for 2 degrees.
    area, _ = integrate.quad(lambda t: (2 + t * t) ** -1.5, -4.302653, 4.302653)
    assert area == pytest.approx(0.95, abs=1e-6)


def test_welch_from_what_is_printed() -> None:
    ours, theirs = np.array([1.0, 2, 3, 6]), np.array([2.0, 4, 9])
    printed = statistics.Summary(5, math.sqrt(13), 3)
    assert statistics.summary(theirs) == pytest.approx(printed)
    both = statistics.welch_summary(statistics.summary(ours), printed)
    assert both[0] == pytest.approx(-2)
    assert both[1] == pytest.approx(statistics.welch(ours, theirs)[1])
    # s2 = 14/3 / 4 + 13 / 3 = 5.5; df = 5.5^2 / ((7/6)^2 / 3 + (13/3)^2 / 2) = 3.0734
    half = 3.139891 * math.sqrt(5.5)  # t(0.975; 3.0734)
    assert both[1].high == pytest.approx(-2 + half)
    single = statistics.Summary(5, math.nan, 1)
    difference, interval, *_ = statistics.welch_summary(statistics.summary(ours), single)
    assert difference == pytest.approx(-2)
    assert math.isnan(interval.low)
    assert math.isnan(statistics.t_summary(single).high)
    # 5 +- 4.302653 sqrt(13 / 3)
    assert statistics.t_summary(printed).high == pytest.approx(5 + 4.302653 * math.sqrt(13 / 3))


def test_p_values_agree_with_their_intervals() -> None:
    for seed in range(200):
        values = np.random.default_rng(seed).normal(1, 1, size=5)
        low, high = statistics.t_interval(values)
        p_value = statistics.t_p_value(statistics.summary(values))
        assert (p_value <= 0.05) == (not low <= 0 <= high)
        assert p_value == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    mean = statistics.cluster_mean(runs_frame({"a": [0, 2], "b": [2], "c": [5, 6, 7]}), "percent")
    # t = 3 / sqrt(7 / 3) with 2 degrees of freedom: P = 1 - t / sqrt(2 + t^2).
    t = 3 / math.sqrt(7 / 3)
    assert mean.p_value == pytest.approx(1 - t / math.sqrt(2 + t * t))
    assert mean.df == 2
    assert statistics.t_p_value(statistics.Summary(2, 0, 3)) == 0
    assert statistics.t_p_value(statistics.Summary(0, 0, 3)) == 1
    assert math.isnan(statistics.t_p_value(statistics.Summary(2, math.nan, 1)))


def test_welch_p_value_against_scipy() -> None:
    ours, theirs = np.array([1.0, 2, 3, 6]), np.array([2.0, 4, 9])
    expected = stats.ttest_ind(ours, theirs, equal_var=False)
    found = statistics.welch(ours, theirs)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.df == pytest.approx(expected.df)


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04, raised to 0.06.
    p_values = np.array([0.04, math.nan, 0.01, 0.03, 0.02])
    assert statistics.holm(p_values) == pytest.approx(
        [0.06, math.nan, 0.04, 0.06, 0.06], nan_ok=True
    )
    assert statistics.holm(np.array([0.9, 0.8])) == pytest.approx([1, 1])
    assert len(statistics.holm(np.array([]))) == 0


def test_holm_keeps_the_family_wise_rate() -> None:
    rng = np.random.default_rng(0)
    wrong = [statistics.holm(rng.random(10)).min() <= 0.05 for _ in range(2000)]
    assert np.mean(wrong) == pytest.approx(0.05, abs=0.015)


def test_equivalence_by_hand() -> None:
    # Half of the 95% interval with 2 degrees of freedom is 4.302653 standard errors, of the 90%
    # interval 2.919986: 0.678647 of it.
    def verdict(value: float, half: float, margin: float) -> str:
        interval = statistics.Interval(value - half, value + half)
        return statistics.equivalence(value, interval, 2, margin)

    assert verdict(0.2, 1, 0.88) == statistics.EQUIVALENT
    assert verdict(0.2, 1, 0.87) == statistics.UNDECIDED
    assert verdict(3, 1, 1) == statistics.HIGHER
    assert verdict(-3, 1, 1) == statistics.LOWER
    assert verdict(0.5, 0.4, 1) == statistics.EQUIVALENT  # although it is not 0
    none = statistics.equivalence(3, statistics.NO_INTERVAL, math.nan, 1)
    assert none == statistics.UNDECIDED


def test_interquartile_mean_by_hand() -> None:
    # Sorted 0, 1, 2, 3, 4, 5, 6, 90: the middle four are 2, 3, 4, 5.
    values = {"a": [0.0, 90, 3], "b": [1.0, 2], "c": [4.0, 5, 6]}
    frame = pd.DataFrame([(s, x) for s, v in values.items() for x in v], columns=["label_set", "x"])
    mean, ends = statistics.interquartile_mean(frame, "x")
    assert mean == pytest.approx(3.5)
    # Without a: 1, 2, 4, 5, 6 but 1 and 6: 11/3; without b: 0, 3, 4, 5, 6, 90: 3, 4, 5, 6: 18/4;
    # without c: 0, 1, 2, 3, 90: 2. Spread sqrt(2/3 * sum of squares), t(0.975; 2) = 4.302653.
    without = np.array([11 / 3, 4.5, 2])
    half = 4.302653 * math.sqrt(2 / 3 * ((without - without.mean()) ** 2).sum())
    assert tuple(ends) == pytest.approx((3.5 - half, 3.5 + half), rel=1e-6)
    two = frame[frame["label_set"] != "c"]
    mean, ends = statistics.interquartile_mean(two, "x")
    assert (mean, math.isnan(ends.low)) == (pytest.approx(2), True)
    mean, ends = statistics.interquartile_mean(frame[:0], "x")
    assert math.isnan(mean) and math.isnan(ends.low)


def test_improvement_probability_by_hand() -> None:
    # a: of 3, 5 against 4, 5: 3 < 4, 3 < 5, 5 > 4, 5 = 5: 1.5 of 4; b: 7 against 1: 1.
    names = ["label_set", "x"]
    ours = pd.DataFrame([("a", 3.0), ("a", 5.0), ("b", 7.0), ("c", 0.0)], columns=names)
    theirs = pd.DataFrame([("b", 1.0), ("a", 4.0), ("a", 5.0), ("d", 9.0)], columns=names)
    assert statistics.improvement_probability(ours, theirs, "x") == pytest.approx((0.375 + 1) / 2)
    assert statistics.improvement_probability(theirs, ours, "x") == pytest.approx((0.625 + 0) / 2)
    assert math.isnan(statistics.improvement_probability(ours, theirs[3:], "x"))


def test_improvement_probability_equals_a_loop_over_mann_whitney() -> None:
    rng = np.random.default_rng(0)
    frames = [
        pd.DataFrame({"label_set": rng.choice([*"abc"], 30), "x": rng.integers(0, 9, 30)})
        for _ in range(2)
    ]
    expected = []
    for name in "abc":
        x, y = (frame.loc[frame["label_set"] == name, "x"] for frame in frames)
        expected.append(stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)))
    found = statistics.improvement_probability(frames[0], frames[1], "x")
    assert found == pytest.approx(np.mean(expected))


def test_sd_interval_by_hand() -> None:
    # Variances 2, 8 and 18 of two repeats each; their means without one of them 13, 10, 5.
    squares, df = np.array([2.0, 8, 18]), np.ones(3)
    logs = np.log([13, 10, 5])
    half = 4.302653 * math.sqrt(2 / 3 * ((logs - logs.mean()) ** 2).sum())
    expected = [math.sqrt(28 / 3 / math.exp(half)), math.sqrt(28 / 3 * math.exp(half))]
    assert statistics.sd_interval(squares, df) == pytest.approx(expected)
    assert math.isnan(statistics.sd_interval(squares[:1], df[:1]).low)
    assert statistics.sd_interval(0 * squares, df) == (0, 0)
    assert math.isnan(statistics.sd_interval(0 * squares, 0 * df).low)
    assert statistics.sd_interval(np.array([1e-300, 1, 1]), df).high > 1
