"""Rank correlation, and how many classes there effectively are."""

import math

import numpy as np
from scipy import stats

from .summaries import Floats


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
