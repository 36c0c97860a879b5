"""One algorithm against another, and our results against published ones."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from .summaries import (
    LEVEL,
    NO_INTERVAL,
    ClusterMean,
    Floats,
    Interval,
    Summary,
    cluster_mean,
    summary,
)

PAIR_KEYS = ["label_set", "repeat"]  # runs that agree in these share their random streams


EQUIVALENT, HIGHER, LOWER, UNDECIDED = "equivalent", "higher", "lower", "undecided"


class Difference(NamedTuple):
    """The difference of two means of independent values, by Welch."""

    value: float
    interval: Interval = NO_INTERVAL
    p_value: float = math.nan  # two-sided, of a difference of 0
    df: float = math.nan  # of Student's t


class Comparison(NamedTuple):
    """One algorithm against another over the runs that form a pair."""

    difference: ClusterMean
    num_pairs: int
    num_wins: int  # pairs in which the first is better
    num_ties: int


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


def improvement_probability(frame: pd.DataFrame, baseline: pd.DataFrame, value: str) -> float:
    """The probability that a run of the first is better than one of the second on its label set.

        P_j = mean over all pairs of runs on label set j of (1 if x > y, 1/2 if x = y, else 0)
        P = sum_j P_j / k        over the k label sets of both

    Agarwal et al. 2021, arXiv 2108.13264, with label sets in place of tasks. Student's interval
    over label sets does not cover it (docs/statistics.md), so there is none. NaN without a label
    set of both.
    """
    shares = []
    theirs = dict([*baseline.dropna(subset=[value]).groupby("label_set", sort=False)[value]])
    for name, runs in frame.dropna(subset=[value]).groupby("label_set", sort=False)[value]:
        if name in theirs:
            differences = runs.to_numpy(dtype=float)[:, None] - theirs[name].to_numpy(dtype=float)
            shares.append(((differences > 0) + 0.5 * (differences == 0)).mean())
    return float(np.mean(shares)) if shares else math.nan


def welch(ours: Floats, theirs: Floats) -> Difference:
    """`welch_summary` of the values themselves."""
    return welch_summary(summary(ours), summary(theirs))


def welch_summary(ours: Summary, theirs: Summary) -> Difference:
    """The difference of two means of independent values, and Welch's interval for it.

        s2 = var(x) / n + var(y) / m        mean(x) - mean(y) +- t(0.975; df) * sqrt(s2)
        df = s2^2 / ((var(x) / n)^2 / (n - 1) + (var(y) / m)^2 / (m - 1))

    The variances may differ (Welch 1947, Biometrika 34); approximate, and rough for very few
    values. Without two values on each side there is no interval, without one no difference.
    """
    if not (ours.n and theirs.n):
        return Difference(math.nan)
    difference = ours.mean - theirs.mean
    if min(ours.n, theirs.n) < 2:
        return Difference(difference)
    parts = [side.sd**2 / side.n for side in (ours, theirs)]
    total = sum(parts)
    if total == 0:
        least = float(min(ours.n, theirs.n) - 1)
        return Difference(
            difference, Interval(difference, difference), float(difference == 0), least
        )
    df = total**2 / (parts[0] ** 2 / (ours.n - 1) + parts[1] ** 2 / (theirs.n - 1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, df)) * math.sqrt(total)
    p_value = float(2 * stats.t.sf(abs(difference) / math.sqrt(total), df))
    return Difference(difference, Interval(difference - half, difference + half), p_value, df)


def holm(p_values: Floats) -> Floats:
    """Holm's adjusted p values of m tests: those at most 0.05 are wrong together in 5% of cases.

        p_(1) <= ... <= p_(m)        adjusted_(i) = max over j <= i of min(1, (m - j + 1) p_(j))

    Whatever the dependence of the tests (Holm 1979, Scandinavian Journal of Statistics 6).
    Undefined ones (NaN) stay undefined and do not count.
    """
    adjusted = np.full(len(p_values), math.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def equivalence(value: float, interval: Interval, df: float, margin: float) -> str:
    """Whether a difference is smaller than a margin, by two one-sided tests.

        EQUIVALENT: its 90% interval lies within -margin to margin (both tests at 5%)
        HIGHER, LOWER: otherwise, if its 95% interval excludes 0
        UNDECIDED: otherwise, or without an interval

    Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15.

    Args:
        value, interval: the difference and its 95% interval, symmetric, by Student's t.
        df: its degrees of freedom.
        margin: in the unit of the difference, above 0.
    """
    if math.isnan(interval.low):
        return UNDECIDED
    shrink = float(stats.t.ppf(LEVEL, df) / stats.t.ppf((1 + LEVEL) / 2, df))
    half = (interval.high - interval.low) / 2 * shrink
    if abs(value) + half < margin:
        return EQUIVALENT
    if interval.low <= 0 <= interval.high:
        return UNDECIDED
    return HIGHER if value > 0 else LOWER
