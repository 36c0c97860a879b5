"""An interval and a p value that only the claims need.

k label sets
"""

import itertools

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
