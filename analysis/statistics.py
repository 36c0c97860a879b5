"""The statistics behind the tables and figures: pure functions, one formula each.

k label sets (clusters), n_j repeats of label set j, N = sum of n_j runs.
Repeats of one label set share their labeled images and so are not independent: whatever is said
about more than one label set takes the label set, not the run, as the unit.
Undefined values are NaN.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]

LEVEL = 0.95  # of every interval
PAIR_KEYS = ["label_set", "repeat"]  # runs that agree in these share their random streams


class Interval(NamedTuple):
    """The ends of a 95% interval."""

    low: float
    high: float


class Summary(NamedTuple):
    """What a publication prints of independent values."""

    mean: float
    sd: float  # of the sample (n - 1), NaN if n = 1
    n: int


class ClusterMean(NamedTuple):
    """A mean over label sets, every label set counting the same."""

    mean: float
    interval: Interval
    num_runs: int
    num_label_sets: int
    interval_over: str  # "label sets", "repeats of one label set" or "" (undefined)


class Comparison(NamedTuple):
    """One algorithm against another over the runs that form a pair."""

    difference: ClusterMean
    num_pairs: int
    num_wins: int  # pairs in which the first is better
    num_ties: int


class Components(NamedTuple):
    """Where the variance of runs comes from, in squared units of the values."""

    label_set: float  # variance between label sets, 0 if its estimate is negative
    repeat: float  # variance between repeats of one label set
    share: float  # label_set / (label_set + repeat)
    share_interval: Interval
    is_clipped: bool  # the estimate of `label_set` was negative
    num_runs: int
    num_label_sets: int


class ClassSpread(NamedTuple):
    """Spread of class accuracies against the spread of their mean, in the units of the values."""

    sd_of_mean: float  # over runs, of the mean of the classes
    mean_class_sd: float  # mean over classes of the standard deviation over runs
    sd_of_mean_if_independent: float  # what `sd_of_mean` would be if classes varied independently
    sd_within_run: float  # mean over runs of the standard deviation over classes


# Variances below this share of the mean square are rounding errors.
ROUNDING = 1e-20
NO_INTERVAL = Interval(math.nan, math.nan)


def moments(frame: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Mean, SAMPLE standard deviation and count of `value` per group, groups in order.

        mean = sum(x) / n        sd = sqrt(sum((x - mean)^2) / (n - 1))

    This is the deviation that the published Table 1 prints (its row 4 follows from the four runs
    of Table 2 with n - 1, not with n).

    Returns:
        one row per group: `by`, mean, sd (NaN where n = 1), n. NaN values do not count.
    """
    groups = frame.groupby(by, sort=False, dropna=False, observed=True)[value]
    table = pd.DataFrame({"mean": groups.mean(), "sd": groups.std(ddof=1), "n": groups.count()})
    return table.reset_index()


def summary(values: Floats) -> Summary:
    """Mean, sample standard deviation and number of values."""
    n = len(values)
    mean = float(np.mean(values)) if n else math.nan
    return Summary(mean, float(np.std(values, ddof=1)) if n > 1 else math.nan, n)


def t_interval(values: Floats) -> Interval:
    """`t_summary` of the values themselves."""
    return t_summary(summary(values))


def t_summary(values: Summary) -> Interval:
    """Student's interval for the mean of independent values.

        mean +- t(0.975; n - 1) * sd / sqrt(n)

    Exact for normal values (Student 1908). Undefined for n < 2.
    """
    mean, sd, n = values
    if n < 2:
        return NO_INTERVAL
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * sd / math.sqrt(n))
    return Interval(mean - half, mean + half)


def cluster_mean(frame: pd.DataFrame, value: str) -> ClusterMean:
    """The mean of the means of the label sets, with Student's interval over label sets.

        m_j = mean of label set j        mean = sum(m_j) / k
        mean +- t(0.975; k - 1) * sd(m_1, ..., m_k) / sqrt(k)

    The analysis of cluster summaries (Donner and Klar 2000, Design and Analysis of Cluster
    Randomization Trials): exact for normal values and equally many repeats, since the m_j are
    then independent with equal variance. Resampling label sets instead is too narrow when there
    are few: see `cluster_bootstrap`. With a single label set the interval is over its repeats and
    says nothing about other label sets.

    Args:
        frame: one row per run, with the columns `label_set` and `value`.
    """
    frame = frame[["label_set", value]].dropna(subset=[value])
    means = frame.groupby("label_set", sort=False)[value].mean().to_numpy(dtype=float)
    if len(means) == 0:
        return ClusterMean(math.nan, NO_INTERVAL, 0, 0, "")
    if len(means) == 1:
        interval = t_interval(frame[value].to_numpy(dtype=float))
        over = "repeats of one label set"
    else:
        interval, over = t_interval(means), "label sets"
    if math.isnan(interval.low):
        over = ""
    return ClusterMean(float(means.mean()), interval, len(frame), len(means), over)


def cluster_bootstrap(
    frame: pd.DataFrame, value: str, *, num_resamples: int, rng: np.random.Generator
) -> Interval:
    """Percentile interval for the mean of label sets by a two-stage bootstrap.

    Each of `num_resamples` resamples draws k label sets with replacement, then n_j of the n_j
    repeats of each with replacement, and takes the mean of the means (Davison and Hinkley 1997,
    Bootstrap Methods and their Application, section 3.8). No normality is assumed, but for few
    label sets it is too narrow: the variance between k label sets comes out (k - 1)/k too small
    and a normal quantile stands in for Student's. Undefined for fewer than 2 label sets.

    Args:
        frame: one row per run, with the columns `label_set` and `value`.
        rng: the stream that draws the resamples.
    """
    groups = [
        group.to_numpy(dtype=float)
        for _, group in frame[["label_set", value]]
        .dropna(subset=[value])
        .groupby("label_set", sort=True)[value]
    ]
    k = len(groups)
    if k < 2:
        return NO_INTERVAL
    counts = np.array([len(group) for group in groups])
    padded = np.zeros((k, counts.max()))
    for row, group in zip(padded, groups, strict=True):
        row[: len(group)] = group
    total = np.zeros(num_resamples)
    column = np.arange(counts.max())
    for _ in range(k):  # one drawn label set of every resample at a time: bounded memory
        drawn = rng.integers(k, size=num_resamples)
        size = counts[drawn][:, None]
        repeat = (rng.random((num_resamples, counts.max())) * size).astype(int)
        values = padded[drawn[:, None], repeat]
        total += np.where(column < size, values, 0.0).sum(axis=1) / size[:, 0]
    low, high = np.quantile(total / k, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def pairs(frame: pd.DataFrame, baseline: pd.DataFrame, value: str) -> pd.DataFrame:
    """The runs of two algorithms that share label set and repeat, side by side.

    Returns:
        label_set, repeat, `value`, `value`_baseline and difference (first minus baseline).
        A run without a partner is left out.
    """
    columns = [*PAIR_KEYS, value]
    both = frame[columns].merge(
        baseline[columns],
        on=PAIR_KEYS,
        suffixes=("", "_baseline"),
        validate="one_to_one",  # a run that is there twice would count twice
    )
    return both.assign(difference=both[value] - both[f"{value}_baseline"])


def compare(frame: pd.DataFrame, baseline: pd.DataFrame, value: str) -> Comparison:
    """The mean difference over pairs, its interval over label sets, and how often it is positive.

    The difference is taken within each pair first, so that what the two runs share (labeled
    images, initial weights, order) cancels; then `cluster_mean`.
    """
    both = pairs(frame, baseline, value).dropna(subset=["difference"])
    return Comparison(
        cluster_mean(both, "difference"),
        len(both),
        int((both["difference"] > 0).sum()),
        int((both["difference"] == 0).sum()),
    )


def welch(ours: Floats, theirs: Floats) -> tuple[float, Interval]:
    """`welch_summary` of the values themselves."""
    return welch_summary(summary(ours), summary(theirs))


def welch_summary(ours: Summary, theirs: Summary) -> tuple[float, Interval]:
    """The difference of two means of independent values, and Welch's interval for it.

        s2 = var(x) / n + var(y) / m        mean(x) - mean(y) +- t(0.975; df) * sqrt(s2)
        df = s2^2 / ((var(x) / n)^2 / (n - 1) + (var(y) / m)^2 / (m - 1))

    The variances may differ (Welch 1947, Biometrika 34); approximate, and rough for very few
    values. Without two values on each side there is no interval, without one no difference.
    """
    if not (ours.n and theirs.n):
        return math.nan, NO_INTERVAL
    difference = ours.mean - theirs.mean
    if min(ours.n, theirs.n) < 2:
        return difference, NO_INTERVAL
    parts = [side.sd**2 / side.n for side in (ours, theirs)]
    total = sum(parts)
    if total == 0:
        return difference, Interval(difference, difference)
    df = total**2 / (parts[0] ** 2 / (ours.n - 1) + parts[1] ** 2 / (theirs.n - 1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, df)) * math.sqrt(total)
    return difference, Interval(difference - half, difference + half)


def rank_correlation(x: Floats, y: Floats) -> float:
    """Spearman's rank correlation: the correlation of the ranks, those of equal values averaged.

    1: y rises with x throughout, -1: it falls, 0: neither. Undefined for fewer than 2 pairs, or if
    all x or all y are equal.
    """
    ranks = np.array([stats.rankdata(values) for values in (x, y)])
    deviations = ranks - ranks.mean(axis=1, keepdims=True) if len(x) else ranks
    squares = (deviations**2).sum(axis=1)
    if len(x) < 2 or not squares.all():
        return math.nan
    return float((deviations[0] * deviations[1]).sum() / math.sqrt(squares.prod()))


def effective_number(counts: Floats) -> Floats:
    """How many classes there are, weighed by their shares: exp of the entropy.

        p_k = counts_k / sum(counts)        exp(-sum_k p_k log p_k)

    K if all K are equally frequent, 1 if there is only one (Hill 1973, Ecology 54, of order 1).
    Undefined without any count.

    Args:
        counts: of the classes (..., K).

    Returns:
        (...)
    """
    total = counts.sum(axis=-1, keepdims=True)
    shares = counts / np.where(total > 0, total, math.nan)
    terms = shares * np.log(np.where(shares > 0, shares, 1.0))  # 0 log 0 = 0
    number: Floats = np.exp(-terms.sum(axis=-1))
    return number


def variance_components(frame: pd.DataFrame, value: str) -> Components:
    """One-way random effects: x_ji = mu + label set effect a_j + repeat effect e_ji.

        MSB = sum_j n_j (m_j - m)^2 / (k - 1)        MSW = sum_ji (x_ji - m_j)^2 / (N - k)
        n_0 = (N - sum_j n_j^2 / N) / (k - 1)
        repeat = MSW        label_set = max(0, (MSB - MSW) / n_0)

    The analysis-of-variance estimator for unequal n_j (Searle, Casella and McCulloch 1992,
    Variance Components, section 3.6; m is the mean of all runs); n_0 = n if all n_j = n. The
    estimate of `label_set` may be negative: it is set to 0 and `is_clipped` says so. The interval
    of the share is Wald's (`share_interval`). With one label set only `repeat` is defined, without
    repeats nothing is.

    Args:
        frame: one row per run, with the columns `label_set` and `value`.
    """
    frame = frame[["label_set", value]].dropna(subset=[value])
    groups = frame.groupby("label_set", sort=False)[value]
    counts: Floats = groups.count().to_numpy().astype(np.float64)
    means = groups.mean().to_numpy(dtype=float)
    k, total = len(counts), int(counts.sum())
    undefined = Components(math.nan, math.nan, math.nan, NO_INTERVAL, False, total, k)
    if k == 0 or total == k:
        return undefined
    within = frame[value] - groups.transform("mean")
    msw = float((within**2).sum()) / (total - k)
    if msw < ROUNDING * float((frame[value] ** 2).mean()):
        msw = 0.0  # repeats that are equal but for the rounding of their mean
    if k == 1:
        return undefined._replace(repeat=msw)
    grand = float(frame[value].mean())
    msb = float((counts * (means - grand) ** 2).sum()) / (k - 1)
    n0 = (total - float((counts**2).sum()) / total) / (k - 1)
    estimate = (msb - msw) / n0
    label_set = max(0.0, estimate)
    share = label_set / (label_set + msw) if label_set + msw > 0 else math.nan
    return Components(
        label_set, msw, share, share_interval(means, counts, msw), estimate < 0, total, k
    )


def share_interval(means: Floats, counts: Floats, msw: float) -> Interval:
    """Wald's interval for the share of the variance that lies between label sets.

        theta = label_set / repeat        w_j = n_j / (1 + n_j theta)
        H(theta) = sum_j w_j (m_j - sum(w m) / sum(w))^2 / ((k - 1) MSW)

    At the true theta, H follows F(k - 1, N - k) and it falls with theta: the ends are where it
    meets the 0.975 and 0.025 quantiles (0 if it never does), share = theta / (1 + theta). Exact
    for normal effects and any n_j (Wald 1940, Annals of Mathematical Statistics 11); for equal
    n_j it is the usual interval of the intraclass correlation. One-shot accuracies are often
    two-humped rather than normal, so read it as a guide.

    Args:
        means, counts: of the label sets (k,).
        msw: mean square within label sets; without any (0) there is no interval.
    """
    k, total = len(means), float(counts.sum())
    if not msw > 0:
        return NO_INTERVAL

    def h(share: float) -> float:
        theta = share / (1 - share)
        weights = counts / (1 + counts * theta)
        center = float((weights * means).sum() / weights.sum())
        return float((weights * (means - center) ** 2).sum()) / ((k - 1) * msw)

    def end(probability: float) -> float:
        quantile = float(stats.f.ppf(probability, k - 1, total - k))
        largest = 1 - 1e-12
        if h(0.0) <= quantile:
            return 0.0
        if h(largest) >= quantile:
            return 1.0
        return float(optimize.brentq(lambda share: h(share) - quantile, 0.0, largest, xtol=1e-14))

    return Interval(end((1 + LEVEL) / 2), end((1 - LEVEL) / 2))


def class_spread(accuracies: Floats) -> ClassSpread:
    """How much classes vary, from run to run and within a run, against their mean.

        sd_k = standard deviation over runs of class k
        mean_class_sd = sum_k sd_k / K        sd_of_mean_if_independent = sqrt(sum_k sd_k^2) / K

    A mean of K quantities varies less than each of them, whatever they are: independent classes of
    equal sd give sd_of_mean = mean_class_sd / sqrt(K). So the published comparison (class-wise
    spread against total spread) should be read against that: above it classes rise and fall
    together, below it they gain at each other's cost.

    Args:
        accuracies: (runs, classes).
    """
    num_runs, num_classes = accuracies.shape
    within = float(np.std(accuracies, axis=1, ddof=1).mean()) if num_classes > 1 else math.nan
    if num_runs < 2:
        return ClassSpread(math.nan, math.nan, math.nan, within)
    sd = np.std(accuracies, axis=0, ddof=1)
    return ClassSpread(
        float(np.std(accuracies.mean(axis=1), ddof=1)),
        float(sd.mean()),
        float(np.sqrt((sd**2).sum()) / num_classes),
        within,
    )
