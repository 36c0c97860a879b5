"""Where the variance of runs comes from: label sets, repeats, classes.

k label sets, n_j repeats of label set j, N = sum of n_j runs
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from .jackknife import log_jackknife
from .summaries import NO_INTERVAL, Floats, Interval

# Variances below this share of the mean square are rounding errors.
ROUNDING = 1e-20


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


def variance_components(frame: pd.DataFrame, value: str) -> Components:
    """One-way random effects: x_ji = mu + label set effect a_j + repeat effect e_ji.

        MSB = sum_j n_j (m_j - m)^2 / (k - 1)        MSW = sum_ji (x_ji - m_j)^2 / (N - k)
        n_0 = (N - sum_j n_j^2 / N) / (k - 1)
        repeat = MSW        label_set = max(0, (MSB - MSW) / n_0)

    The analysis-of-variance estimator for unequal n_j (Searle, Casella and McCulloch 1992,
    Variance Components, section 3.6; m is the mean of all runs); n_0 = n if all n_j = n. The
    estimate of `label_set` may be negative: it is set to 0 and `is_clipped` says so. The interval
    of the share is `share_interval`. With one label set only `repeat` is defined, without
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
    within = (frame[value] - groups.transform("mean")) ** 2
    squares = within.groupby(frame["label_set"], sort=False).sum().to_numpy(dtype=float)
    msw = float(squares.sum()) / (total - k)
    if msw < ROUNDING * float((frame[value] ** 2).mean()):
        # Repeats that are equal but for the rounding of their mean.
        msw, squares = 0.0, np.zeros(k)
    if k == 1:
        return undefined._replace(repeat=msw)
    grand = float(frame[value].mean())
    msb = float((counts * (means - grand) ** 2).sum()) / (k - 1)
    n0 = (total - float((counts**2).sum()) / total) / (k - 1)
    estimate = (msb - msw) / n0
    label_set = max(0.0, estimate)
    share = label_set / (label_set + msw) if label_set + msw > 0 else math.nan
    return Components(
        label_set, msw, share, share_interval(means, counts, squares), estimate < 0, total, k
    )


def share_interval(means: Floats, counts: Floats, squares: Floats) -> Interval:
    """An interval for the share of the variance that lies between label sets, by the jackknife.

        F = MSB / MSW        F_j: without label set j        `log_jackknife` of F
        theta = max(0, F - 1) / n_0        share = theta / (1 + theta)        at both ends

    No normality is assumed: one-shot accuracies are two-humped, and label sets differ in how much
    their repeats vary. Wald's interval, exact for normal effects, covers less there
    (docs/statistics.md). Undefined for fewer than 3 label sets, or without variance.

    Args:
        means, counts: of the label sets (k,).
        squares: of each, the sum of the squared deviations from its mean (k,).
    """
    k, total = len(means), float(counts.sum())
    if k < 3:
        return NO_INTERVAL
    # Sums without each label set, from those of all.
    centered = means - float((counts * means).sum()) / total
    n, nm, nm2 = (
        values.sum() - np.array([0.0, *values])
        for values in (counts, counts * centered, counts * centered**2)
    )
    number = np.array([k, *[k - 1] * k], dtype=float)
    within = squares.sum() - np.array([0.0, *squares])
    free = n - number
    if not ((free > 0).all() and (within > 0).all()):
        return NO_INTERVAL
    ratios = (nm2 - nm**2 / n) / (number - 1) / (within / free)
    ends = log_jackknife(float(ratios[0]), ratios[1:])
    if math.isnan(ends.low):
        return NO_INTERVAL
    n0 = (total - float((counts**2).sum()) / total) / (k - 1)
    thetas = [max(0.0, end - 1) / n0 for end in ends]
    return Interval(*(1.0 if math.isinf(theta) else theta / (1 + theta) for theta in thetas))


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
