"""Intervals and p values that only the claims need.

k label sets
"""

import itertools
import math

import numpy as np
from scipy import stats

from ..statistics import LEVEL, NO_INTERVAL, Floats, Interval

# Statistics


def share_interval(shares: Floats) -> Interval:
    """An interval for the mean of shares of k label sets that is never too narrow.

        x = sum_j share_j
        low = the 0.025 quantile of Beta(x, k - x + 1), high = the 0.975 of Beta(x + 1, k - x)

    Clopper and Pearson's interval with as many trials as there are label sets, as if repeats of one
    set were all alike: that of Korn and Graubard (1998, Survey Methodology 24) with the smallest
    effective number that repeats can bring about. Student's would have no width if all are equal.
    """
    k, x = len(shares), float(shares.sum())
    if k == 0:
        return NO_INTERVAL
    low = float(stats.beta.ppf((1 - LEVEL) / 2, x, k - x + 1)) if x > 0 else 0.0
    high = float(stats.beta.ppf((1 + LEVEL) / 2, x + 1, k - x)) if x < k else 1.0
    return Interval(low, high)


def ratio_interval(over: Floats, under: Floats) -> tuple[float, Interval]:
    """The ratio of two sums over label sets, and its jackknife interval on the log scale.

        log R = log(sum(over) / sum(under))        log R_j: without label set j
        log R +- t(0.975; k - 1) * sqrt((k - 1) / k * sum_j (log R_j - mean(log R_j))^2)

    Tukey's jackknife (Efron and Stein 1981, Annals of Statistics 9). The sums come before the
    ratio, so few repeats do not bias it as they do the mean of single log ratios. Undefined where a
    sum is 0.
    """
    k = len(over)
    sums = [values.sum() - np.array([0.0, *values]) for values in (over, under)]
    if not (k and sums[0][0] > 0 and sums[1][0] > 0):
        return math.nan, NO_INTERVAL
    value = float(sums[0][0] / sums[1][0])
    if k < 2 or not all((total[1:] > 0).all() for total in sums):
        return value, NO_INTERVAL
    without = np.log(sums[0][1:] / sums[1][1:])
    spread = math.sqrt((k - 1) / k * float(((without - without.mean()) ** 2).sum()))
    factor = math.exp(float(stats.t.ppf((1 + LEVEL) / 2, k - 1)) * spread)
    return value, Interval(value / factor, value * factor)


def sd_interval(variance: float, df: int) -> Interval:
    """The interval of a standard deviation from a variance of df degrees of freedom.

        sqrt(df * variance / chi2(0.975; df)) to sqrt(df * variance / chi2(0.025; df))

    Exact for normal values of one variance; undefined for df < 1.
    """
    if df < 1 or math.isnan(variance):
        return NO_INTERVAL
    ends = [df * variance / stats.chi2.ppf((1 + sign * LEVEL) / 2, df) for sign in (1, -1)]
    return Interval(math.sqrt(ends[0]), math.sqrt(ends[1]))


def permutation_p(x: Floats, y: Floats) -> float:
    """Two-sided exact p value of Spearman's rank correlation, over all n! orders.

        p = share of the orders of y with |rho| at least as large as the one found

    If y has nothing to do with x, every order is as likely; no distribution is assumed. n! orders
    are gone through: 40,320 for the 8 buckets.
    """
    # Twice the centered ranks are whole numbers: equal correlations compare as equal.
    ranks = [2 * stats.rankdata(values) - len(x) - 1 for values in (x, y)]
    orders = np.array(list(itertools.permutations(ranks[1])))
    found = np.abs(orders @ ranks[0])
    return float((found >= abs(float(ranks[0] @ ranks[1]))).mean())
