"""The statistic of each claim, computed from runs. Published numbers go through the same functions.

k label sets, n repeats of each, K classes
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from .. import statistics
from ..load import AGGREGATES
from ..sections import prototypes
from ..sections.class_balance import FAILED, class_measures
from ..sections.protocols import protocols_table
from ..sections.variance import spread_table
from ..statistics import MIN_SETS, NO_INTERVAL, Floats, Interval, ratio_interval, sd_interval
from ..tables import number, plural
from .catalog import EVEN_SD, FAR_LARGER, LEARNED, MOST, REACHED
from .intervals import permutation_p, share_interval

MIN_SETS_OF_SHARE = 6  # fewer can never put the interval of a share above 1/2
MIN_BUCKETS = 5  # of fewer the best p value is above 0.05
MIN_REPEATS = MIN_FULL = 2
ABOVE_ZERO, BELOW_ZERO = Interval(0.0, math.inf), Interval(-math.inf, 0.0)


class Finding(NamedTuple):
    """A statistic of some runs, and the range to which it is compared."""

    value: float = math.nan
    interval: Interval = NO_INTERVAL
    num_label_sets: int = 0
    num_runs: int = 0
    limits: Interval = ABOVE_ZERO
    p_value: float = math.nan  # in place of an interval
    missing: str = ""  # the runs that are needed but missing
    remark: str = ""


def few_sets(found: int, least: int = MIN_SETS) -> str:
    """A message if there are fewer label sets than needed, otherwise ""."""
    be = "is" if found == 1 else "are"
    return "" if found >= least else f"needs at least {least} label sets; there {be} {found}"


def few_repeats(frame: pd.DataFrame) -> str:
    """A message if there are fewer label sets with repeats than needed, otherwise ""."""
    counts = frame.groupby("label_set")["run_id"].nunique()
    repeated = int((counts >= MIN_REPEATS).sum())
    if repeated >= MIN_SETS:
        return ""
    there = [f"{MIN_REPEATS} or more repeats of {repeated}"] * (repeated > 0)
    there += [f"1 repeat of {len(counts) - repeated}"] * (repeated < len(counts))
    return (
        f"needs {MIN_REPEATS} repeats of at least {MIN_SETS} label sets; there are "
        f"{' and '.join(there)}"
    )


def unevenness(classes: pd.DataFrame) -> Finding:
    """Claim 1a: the spread of the classes within a run.

        sd_i = standard deviation (K - 1) over the classes of run i; `statistics.cluster_mean`

    Args:
        classes: `load.metrics` of runs.
    """
    measures = class_measures(classes)
    mean = statistics.cluster_mean(measures, "sd_over_classes")
    counts = (mean.num_label_sets, mean.num_runs)
    limits = Interval(EVEN_SD, math.inf)
    return Finding(mean.mean, mean.interval, *counts, limits, missing=few_sets(counts[0]))


def split_runs(classes: pd.DataFrame) -> Finding:
    """Claim 1b: runs that have both a failed and a learned class; `share_interval`.

    Args:
        classes: `load.metrics` of runs.
    """
    classes = classes[classes["order"] >= len(AGGREGATES)]
    of_runs = classes.groupby(["label_set", "run_id"], sort=False)["percent"]
    is_split = (of_runs.min() < FAILED) & (of_runs.max() > LEARNED)
    shares: Floats = np.array(is_split.groupby("label_set", sort=False).mean(), np.float64)
    counts = (len(shares), len(is_split))
    missing = few_sets(len(shares), MIN_SETS_OF_SHARE)
    limits = Interval(MOST, math.inf)
    return Finding(float(shares.mean()), share_interval(shares), *counts, limits, missing=missing)


def class_variance(classes: pd.DataFrame) -> Finding:
    """Claim 2: variation of a class over repeats relative to the mean of the classes.

        R = sqrt(sum_j sum_k var_jk / K / sum_j var_j)        `ratio_interval` of R^2
        var_jk: of class k over the repeats of label set j; var_j: of the mean of its classes

    Sample variances, not deviations: they are unbiased however few the repeats, and classes that
    vary independently give exactly sqrt(K), whatever their variances (`statistics.class_spread`).
    R is at least 1 in any case: a mean never varies more than its parts.

    Args:
        classes: `load.metrics` of runs.
    """
    classes = classes[classes["order"] >= len(AGGREGATES)]
    missing = few_repeats(classes)
    repeated = classes.groupby("label_set")["run_id"].transform("nunique") >= MIN_REPEATS
    num_classes = classes["order"].nunique()
    classes = classes[repeated]
    if not len(classes):
        return Finding(missing=missing)
    spread = spread_table(classes)
    spread = spread[spread["label_set"] != "mean"]
    # This is sqrt(sum_k var_k) / K.
    independent = spread["sd_of_mean_if_independent"].to_numpy(dtype=float)
    total = spread["sd_of_mean"].to_numpy(dtype=float)
    value, ends = ratio_interval(num_classes * independent**2, total**2)
    return Finding(
        math.sqrt(value),
        Interval(math.sqrt(ends.low), math.sqrt(ends.high)),
        len(spread),
        classes["run_id"].nunique(),
        Interval(FAR_LARGER, math.inf),
        missing=missing,
        remark=f"classes that vary independently: {math.sqrt(num_classes):.2f}",
    )


def repeat_spread(runs: pd.DataFrame) -> Finding:
    """Claim 3: spread of repeats against the spread caused by a finite test set.

        sd = sqrt(MSW) (`statistics.variance_components`, `statistics.sd_interval`)
        limit = sqrt(mean over runs of p (1 - p) / num_test)

    The limit assumes that each network is tested on different images. Ours share their test images,
    on which networks of equal skill differ less, so the limit is conservative.

    Args:
        runs: with label_set, run_id, percent and num_test.
    """
    parts = statistics.variance_components(runs, "percent")
    p = runs["percent"] / 100
    limit = 100 * math.sqrt(float((p * (1 - p) / runs["num_test"]).mean()))
    groups = runs.groupby("label_set", sort=False)["percent"]
    df = np.array(groups.count() - 1, np.float64)
    ends = sd_interval(np.array(groups.var(ddof=1).fillna(0.0), np.float64) * df, df)
    return Finding(
        math.sqrt(parts.repeat),
        ends,
        parts.num_label_sets,
        parts.num_runs,
        Interval(limit, math.inf),
        missing=few_repeats(runs),
        remark=f"the test set alone: at most {limit:.2f}",
    )


def label_set_share(runs: pd.DataFrame) -> Finding:
    """Claim 4: the share of the variance between label sets; `statistics.variance_components`.

    Args:
        runs: with label_set, run_id and percent.
    """
    parts = statistics.variance_components(runs, "percent")
    return Finding(
        parts.share,
        parts.share_interval,
        parts.num_label_sets,
        parts.num_runs,
        Interval(MOST, math.inf),
        missing=few_repeats(runs),
    )


def effect(rows: pd.DataFrame, against: pd.DataFrame, value: str, limits: Interval) -> Finding:
    """Claims 5a and 5b: `statistics.compare`, over pairs with the same label set and repeat."""
    mean = statistics.compare(rows, against, value).difference
    counts = (mean.num_label_sets, mean.num_runs)
    return Finding(mean.mean, mean.interval, *counts, limits, missing=few_sets(counts[0]))


def prototype_effect(iconic: pd.DataFrame, random: pd.DataFrame) -> Finding:
    """Claim 6a: `statistics.welch` between the means of the label sets of two families."""
    found = statistics.welch(prototypes.set_means(iconic), prototypes.set_means(random))
    counts = [frame["label_set"].nunique() for frame in (iconic, random)]
    missing = f"needs at least {MIN_SETS} label sets of each; there are {counts[0]} and {counts[1]}"
    return Finding(
        found.value,
        found.interval,
        counts[0],
        len(iconic),
        missing=missing * (min(counts) < MIN_SETS),
        remark=f"compared with {counts_of(random)}",
    )


def bucket_trend(runs: pd.DataFrame) -> Finding:
    """Claim 6b: `statistics.rank_correlation` over buckets, with `permutation_p`.

    A bucket is one label set, so the variation over other draws from a bucket is not included.

    Args:
        runs: on buckets of prototypicality.
    """
    found = runs["label_set"].nunique()
    missing = f"needs at least {MIN_BUCKETS} buckets of one experiment; there are {found}"
    runs = prototypes.of_buckets(runs)
    if not len(runs):
        return Finding(missing=missing)
    numbers = prototypes.buckets(runs)
    x, y = (numbers[name].to_numpy(dtype=float) for name in ("bucket", "mean_percent"))
    value = float(numbers["rank_correlation"].iloc[0])
    return Finding(
        value,
        num_label_sets=found,
        num_runs=len(runs),
        p_value=math.nan if math.isnan(value) else permutation_p(x, y),
        missing=missing * (found < MIN_BUCKETS),
    )


def gain(children: pd.DataFrame) -> Finding:
    """Claim 7a: `statistics.cluster_mean` of child minus parent.

    Args:
        children: `self_training.children` of one variant.
    """
    mean = statistics.cluster_mean(children, "gain")
    counts = (mean.num_label_sets, mean.num_runs)
    return Finding(mean.mean, mean.interval, *counts, missing=few_sets(counts[0]))


def to_full(children: pd.DataFrame, full: "pd.Series[float] | None") -> Finding:
    """Claim 7b: `statistics.welch_summary` between label sets and fully supervised runs.

    All images are labeled in a fully supervised run: there is one such label set, so its repeats
    are independent, and the run is the unit.

    Args:
        children: `self_training.children` of one variant.
        full: `self_training.yardstick_of` it.
    """
    ours = statistics.summary(prototypes.set_means(children))
    counts = (ours.n, len(children))
    limits = Interval(REACHED, math.inf)
    there = 0 if full is None else int(full["n"])
    be = "is" if there == 1 else "are"
    missing = f"needs at least {MIN_FULL} fully supervised runs; there {be} {there}"
    missing = few_sets(ours.n) or missing * (there < MIN_FULL)
    if full is None:
        return Finding(num_label_sets=ours.n, num_runs=len(children), missing=missing)
    theirs = statistics.Summary(float(full["mean"]), float(full["sd"]), there)
    found = statistics.welch_summary(ours, theirs)
    remark = f"fully supervised: {number(theirs.mean)}, {plural(there, 'run')}"
    return Finding(found.value, found.interval, *counts, limits, missing=missing, remark=remark)


def optimism(runs: pd.DataFrame, limits: Interval) -> Finding:
    """Claim 8: best on the test set minus last, as `protocols_table` has it."""
    row = protocols_table(runs).iloc[-1]
    evaluations = int(runs["num_evaluations"].max())
    return Finding(
        float(row["optimism_points"]),
        Interval(float(row["optimism_low"]), float(row["optimism_high"])),
        int(row["num_label_sets"]),
        int(row["n"]),
        limits,
        missing=few_sets(int(row["num_label_sets"])),
        remark=f"best of {evaluations} evaluations of teacher and student; published rows: "
        f"{number(limits.low)} to {number(limits.high)}",
    )


def counts_of(runs: pd.DataFrame) -> str:
    """How many label sets and runs."""
    sets = plural(runs["label_set"].nunique(), "label set")
    return f"{sets}, {plural(runs['run_id'].nunique(), 'run')}"
