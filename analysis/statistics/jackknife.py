"""Jackknife intervals over label sets, on the log scale: for ratios, which normal theory misses.

k label sets
"""

import math

import numpy as np
from scipy import stats

from .summaries import LEVEL, NO_INTERVAL, Floats, Interval


def log_jackknife(value: float, without: Floats) -> Interval:
    """Tukey's jackknife interval for the logarithm of a positive statistic of k label sets.

        log R +- t(0.975; k - 1) * sqrt((k - 1) / k * sum_j (log R_j - mean(log R_j))^2)

    R_j is the statistic without label set j (Efron and Stein 1981, Annals of Statistics 9).
    Undefined for fewer than 2 label sets, or where one of these numbers is not above 0.

    Args:
        value: R.
        without: R_j (k,).
    """
    k = len(without)
    if k < 2 or not (value > 0 and (without > 0).all()):
        return NO_INTERVAL
    logs = np.log(without)
    spread = math.sqrt((k - 1) / k * float(((logs - logs.mean()) ** 2).sum()))
    half = float(stats.t.ppf((1 + LEVEL) / 2, k - 1)) * spread
    if half > 700:  # beyond the range of numbers
        return Interval(0.0, math.inf)
    return Interval(value / math.exp(half), value * math.exp(half))


def ratio_interval(over: Floats, under: Floats) -> tuple[float, Interval]:
    """The ratio of two sums over label sets, and its `log_jackknife` interval.

        R = sum(over) / sum(under)

    The sums come before the ratio, so few repeats do not bias it as they do the mean of single
    ratios. Undefined where a sum is 0.
    """
    sums = [values.sum() - np.array([0.0, *values]) for values in (over, under)]
    if not (len(over) and sums[0][0] > 0 and sums[1][0] > 0):
        return math.nan, NO_INTERVAL
    value = float(sums[0][0] / sums[1][0])
    if not (sums[1][1:] > 0).all():
        return value, NO_INTERVAL
    return value, log_jackknife(value, sums[0][1:] / sums[1][1:])


def sd_interval(squares: Floats, df: Floats) -> Interval:
    """An interval for the standard deviation between repeats, over label sets.

        sqrt of `ratio_interval`: sum_j squares_j / sum_j df_j

    The interval from chi-squared, exact where all label sets have one variance and normal repeats,
    is far too narrow where they differ (docs/statistics.md). 0 to 0 if no repeat differs.

    Args:
        squares: of each label set, the sum of the squared deviations from its mean (k,).
        df: of each, the number of its repeats minus 1 (k,).
    """
    if not squares.any() and np.count_nonzero(df) > 1:
        return Interval(0.0, 0.0)
    _, ends = ratio_interval(squares, df)
    return Interval(math.sqrt(ends.low), math.sqrt(ends.high))
