"""Means, standard deviations and Student's intervals.

k label sets (clusters), n_j repeats of label set j
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

LEVEL = 0.95  # of every interval
MIN_SETS = 3  # label sets, for a verdict on more than these


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
    p_value: float = math.nan  # two-sided, of a mean of 0, by the method of the interval
    df: float = math.nan  # of Student's t


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


def t_p_value(values: Summary) -> float:
    """Student's two-sided p value of a mean of 0: below 0.05 where `t_summary` excludes 0.

        p = 2 P(T > |mean| / (sd / sqrt(n)))        T: Student's t with n - 1 degrees of freedom

    Undefined for n < 2; 0 if all values are equal and not 0.
    """
    mean, sd, n = values
    if n < 2 or math.isnan(sd):
        return math.nan
    if sd == 0:
        return float(mean == 0)
    return float(2 * stats.t.sf(abs(mean) / (sd / math.sqrt(n)), n - 1))


def cluster_mean(frame: pd.DataFrame, value: str) -> ClusterMean:
    """The mean of the means of the label sets, with Student's interval over label sets.

        m_j = mean of label set j        mean = sum(m_j) / k
        mean +- t(0.975; k - 1) * sd(m_1, ..., m_k) / sqrt(k)

    The analysis of cluster summaries (Donner and Klar 2000, Design and Analysis of Cluster
    Randomization Trials): exact for normal values and equally many repeats, since the m_j are
    then independent with equal variance. What it covers otherwise, and why nothing else stands in
    for it, is in docs/statistics.md. With a single label set the interval is over its repeats and
    says nothing about other label sets.

    Args:
        frame: one row per run, with the columns `label_set` and `value`.
    """
    frame = frame[["label_set", value]].dropna(subset=[value])
    means = frame.groupby("label_set", sort=False)[value].mean().to_numpy(dtype=float)
    if len(means) == 0:
        return ClusterMean(math.nan, NO_INTERVAL, 0, 0, "")
    if len(means) == 1:
        values, over = frame[value].to_numpy(dtype=float), "repeats of one label set"
    else:
        values, over = means, "label sets"
    found = summary(values)
    counts = (len(frame), len(means))
    if found.n < 2:
        return ClusterMean(found.mean, NO_INTERVAL, *counts, "")
    return ClusterMean(
        found.mean, t_summary(found), *counts, over, t_p_value(found), float(found.n - 1)
    )


def interquartile_mean(frame: pd.DataFrame, value: str) -> tuple[float, Interval]:
    """The mean of the middle half of all runs, and its jackknife interval over label sets.

        M = mean of x without its floor(N / 4) lowest and as many highest values
        M +- t(0.975; k - 1) * sqrt((k - 1) / k * sum_j (M_j - mean(M_j))^2)

    M_j is that without label set j. A few failed runs move it less than the mean (Agarwal et al.
    2021, Deep Reinforcement Learning at the Edge of the Statistical Precipice, arXiv 2108.13264).
    No interval for fewer than 3 label sets.

    Args:
        frame: one row per run, with the columns `label_set` and `value`.
    """
    frame = frame[["label_set", value]].dropna(subset=[value])
    if not len(frame):
        return math.nan, NO_INTERVAL
    whole = trimmed_mean(frame[value])
    sets = list(frame["label_set"].unique())
    k = len(sets)
    if k < MIN_SETS:
        return whole, NO_INTERVAL
    without = np.array([trimmed_mean(frame.loc[frame["label_set"] != s, value]) for s in sets])
    spread = math.sqrt((k - 1) / k * float(((without - without.mean()) ** 2).sum()))
    half = float(stats.t.ppf((1 + LEVEL) / 2, k - 1)) * spread
    return whole, Interval(whole - half, whole + half)


def trimmed_mean(values: "pd.Series[float]") -> float:
    """The mean without the lowest and the highest quarter of the values."""
    return float(stats.trim_mean(values.to_numpy(dtype=float), 0.25))
