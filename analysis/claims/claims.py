"""What the publications claim, and what these runs say to it: one row per claim.

Every claim has a statistic, and a range that was fixed before `RULES_SINCE`. It holds if the 95%
interval of the statistic lies within the range, does not hold if it lies wholly outside, and is
undecided otherwise. Published numbers go through the same functions as ours.

Only runs from one labeled image per class take part, none marked as an oracle (claim 8 is about the
best accuracy on the test set, an oracle by itself). Of several variants of a method the first is
asked (`load.sort_runs`): that with the fewest departures from FixMatch as published; of balancing,
the pair that differs least beside it (`nearest_variants`). Claims 1 to 5 and 8 are
asked of the two populations that the publications may have drawn their label sets from:
random splits, and the hand-picked sets that have their images for themselves.

k label sets, n repeats of each, K classes
"""

import itertools
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from boss.study.catalog import ALGORITHMS
from boss.study.methods import PUBLISHED_NUM_IMAGES
from boss.study.run import BUDGETS

from .. import statistics, tables
from ..load import (
    AGGREGATES,
    ALL,
    CLASS_MEAN,
    FAMILIES,
    HYPERPARAMETERS,
    ORACLE_MARK,
    RANDOM,
    Results,
    last_step,
    metrics,
)
from ..page.parts import Part, Table
from ..sections import balancing, prototypes, self_training
from ..statistics import LEVEL, NO_INTERVAL, PAIR_KEYS, Interval
from ..tables import interval, number, plural, signed, without_constant

Floats = NDArray[np.float64]

HOLDS, FAILS, OPEN = "holds", "does not hold", "undecided"
TOO_FEW, UNTESTABLE = "not enough runs", "not testable here"

SMOKE = BUDGETS[0]
# Runs that finished before were known when the rules were written.
RULES_SINCE = "2026-11-29"

HAND_PICKED, BUCKETS = FAMILIES["boss"], FAMILIES["carlini"]
POPULATIONS = (RANDOM, HAND_PICKED)
OF_POPULATIONS = f"{RANDOM} or {HAND_PICKED} sets"
# Sets 6, 7 and 9 to 12 are made of images of 0 to 5, some after a look at accuracies; 8 is random.
OWN_IMAGES = r"boss:[0-5]"
TOP_BUCKET, MOST_PROTOTYPICAL = "carlini:7", "most prototypical bucket"
CENTROID = "class-centroid"  # ends the names of such families
KNOWLEDGE = {  # what it takes to choose such label sets
    CENTROID: "chosen with the labels of all training images; sets differ by rank, not by chance",
    MOST_PROTOTYPICAL: "chosen by a model trained with all labels",
}
HELD_OUT = (
    "images are held out: a labeled one among them is no unlabeled one, which is so for more "
    "images of one kind of sets than of the other"
)

BOSS_METHODS = [f"boss-{number}" for number in range(1, 5)]
BALANCING_OPTIONS = ("max_drop", "weigh_by")
SAME_LOSS = {"average_over": "all"}  # options of BOSS that FixMatch has not, where both do the same

LEARNED = 90  # percent: a class above is learned; `balancing.FAILED`: below it has failed
EVEN_SD = 100 / math.sqrt(12)  # of accuracies that are spread evenly from 0 to 100%
FAR_LARGER = 2.0  # times the standard deviation, so four times the variance
MOST = 0.5  # of the runs, or of the variance
REACHED = -1.0  # points from full supervision; the publication is 0.5 above
MIN_SETS = 3  # for an interval over label sets
MIN_SETS_OF_SHARE = 6  # fewer can never put the interval of a share above 1/2
MIN_BUCKETS = 5  # of fewer the best p value is above 0.05
MIN_REPEATS = MIN_FULL = 2
ABOVE_ZERO, BELOW_ZERO = Interval(0.0, math.inf), Interval(-math.inf, 0.0)

TABLE_1 = "empirical_perspectives_table1.csv"
TABLE_2 = "empirical_perspectives_table2.csv"
SINGLE = "claims.csv"  # numbers that stand in no table
OTHER_DATA = "another data set than the publication's"
DATA_NAMES = {"cifar10": "CIFAR-10", "svhn": "SVHN"}
EMPIRICAL = "Empirical Perspectives (arXiv 2004.04141)"
BOSS = "BOSS (arXiv 2006.09363)"
FIXMATCH = "FixMatch (arXiv 2001.07685)"


class Claim(NamedTuple):
    """A claim, and how it is put to the test."""

    name: str
    sentence: str
    source: str
    statistic: str
    rule: str
    over: str = "label sets"  # what the interval is over
    write: Callable[[float], str] = number
    unit: str = "run"  # what is counted beside label sets
    datasets: tuple[str, ...] = ("cifar10",)  # those of the publication


def ratio(value: float) -> str:
    """A share or a ratio, with two digits."""
    return number(value, 2)


def signed_ratio(value: float) -> str:
    """A small difference, with two digits."""
    return signed(value, 2)


UNEVEN = Claim(
    "1a",
    "Within one FixMatch run the class accuracies are very uneven.",
    f"{EMPIRICAL}, abstract, Tables 1 and 2",
    "standard deviation over the classes of a run in points, mean over label sets",
    f"above {EVEN_SD:.1f}, that of accuracies spread evenly from 0 to 100%",
)
SPLIT = Claim(
    "1b",
    f"Most FixMatch runs have a class below {balancing.FAILED}% and another above {LEARNED}%.",
    f"{EMPIRICAL}, Table 2",
    "share of such runs, mean over label sets",
    f"above {MOST}",
    write=ratio,
)
CLASS_WISE = Claim(
    "2",
    "From repeat to repeat, class-wise variance is far larger than total variance.",
    f"{EMPIRICAL}, Table 1",
    "root of the variance over repeats of a class (mean over classes) by that of the mean of the "
    "classes, both summed over label sets",
    f"above {FAR_LARGER:g}, that is {FAR_LARGER**2:g} times the variance",
    write=ratio,
)
REPEATS = Claim(
    "3",
    "The same labeled images give different outcomes.",
    f"{EMPIRICAL}, Table 1",
    "standard deviation between repeats of a label set in points",
    "above that of accuracies that differ only by which test images were drawn: the root of the "
    "mean of p(1 - p) / N",
    over="repeats",
)
LABEL_SETS = Claim(
    "4",
    "Which images are labeled matters more than the repeat.",
    f"{EMPIRICAL}, Table 1; {FIXMATCH}, section 4.4",
    "share of the variance of runs that is between label sets",
    f"above {MOST}",
    write=ratio,
)
BALANCING = Claim(
    "5a",
    "Class balancing raises the accuracy.",
    BOSS,
    "difference to FixMatch in points, mean over label sets, over pairs with the same repeat",
    "above 0",
    write=signed,
    unit="pair",
    datasets=("cifar10", "svhn"),
)
FAILURES = BALANCING._replace(
    name="5b",
    sentence=f"Class balancing lowers the number of failed classes (below {balancing.FAILED}%).",
    statistic="difference to FixMatch in failed classes per run, else as 5a",
    rule="below 0",
    write=signed_ratio,
)
ICONIC = Claim(
    "6a",
    "Iconic labeled images give a higher accuracy than random ones.",
    f"{BOSS}; {EMPIRICAL}; {FIXMATCH}, section 4.4",
    "difference to the random splits in points, between means of label sets",
    "above 0",
    write=signed,
    datasets=("cifar10", "svhn"),
)
PROTOTYPICALITY = Claim(
    "6b",
    "Accuracy rises with the prototypicality of the labeled images.",
    f"{FIXMATCH}, section 4.4",
    "Spearman's rank correlation between the number of a bucket and its mean accuracy",
    f"above 0, with a two-sided exact permutation p of at most {1 - LEVEL:.2f}",
    over="orders of the buckets",
    write=ratio,
)
GAIN = Claim(
    "7a",
    "Self-training improves on the runs that it starts from.",
    BOSS,
    "round 1 with the most picks minus its parent in points, mean over label sets",
    "above 0",
    write=signed,
    unit="pair",
    datasets=("cifar10", "svhn"),
)
FULL = Claim(
    "7b",
    "Self-training reaches full supervision.",
    f"{BOSS}, abstract",
    "round 1 with the most picks (means of label sets) minus fully supervised runs in points",
    f"above {REACHED:g}: at most {-REACHED:g} point below",
    write=signed,
    datasets=("cifar10", "svhn"),
)
BEST = Claim(
    "8",
    "Choosing on the test set adds what All of Table 1 exceeds the mean of its classes by.",
    f"inferred from {EMPIRICAL}, Table 1, where All is above the mean of the classes",
    "best accuracy on the test set (an oracle) minus the last in points, mean over label sets",
    "within what All exceeds the mean of the classes by in the published rows",
    write=signed,
)
CLAIMS = (
    *(UNEVEN, SPLIT, CLASS_WISE, REPEATS, LABEL_SETS, BALANCING, FAILURES),
    *(ICONIC, PROTOTYPICALITY, GAIN, FULL, BEST),
)


class Finding(NamedTuple):
    """A statistic of some runs, and the range that it is held against."""

    value: float = math.nan
    interval: Interval = NO_INTERVAL
    num_label_sets: int = 0
    num_runs: int = 0
    limits: Interval = ABOVE_ZERO
    p_value: float = math.nan  # in place of an interval
    missing: str = ""  # which runs it takes that are not there
    remark: str = ""


class Published(NamedTuple):
    """The same statistic of a publication's own numbers."""

    value: float = math.nan
    interval: Interval = NO_INTERVAL
    origin: str = "no number is known"


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


# What is asked of some runs


def few_sets(found: int, least: int = MIN_SETS) -> str:
    """What is missing if there are fewer label sets than it takes."""
    be = "is" if found == 1 else "are"
    return "" if found >= least else f"needs at least {least} label sets; there {be} {found}"


def few_repeats(frame: pd.DataFrame) -> str:
    """What is missing if there are fewer label sets with repeats than it takes."""
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
    measures = balancing.class_measures(classes)
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
    is_split = (of_runs.min() < balancing.FAILED) & (of_runs.max() > LEARNED)
    shares: Floats = np.array(is_split.groupby("label_set", sort=False).mean(), np.float64)
    counts = (len(shares), len(is_split))
    missing = few_sets(len(shares), MIN_SETS_OF_SHARE)
    limits = Interval(MOST, math.inf)
    return Finding(float(shares.mean()), share_interval(shares), *counts, limits, missing=missing)


def class_variance(classes: pd.DataFrame) -> Finding:
    """Claim 2: how much more a class varies over repeats than the mean of the classes.

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
    spread = tables.spread(classes)
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
    """Claim 3: repeats of a label set against what a finite test set brings about.

        sd = sqrt(MSW), N - k degrees of freedom (`statistics.variance_components`, `sd_interval`)
        limit = sqrt(mean over runs of p (1 - p) / num_test)

    The limit is that of networks tested on images of their own. Ours share their test images, on
    which networks of equal skill differ less, so the limit is generous to chance.

    Args:
        runs: with label_set, run_id, percent and num_test.
    """
    parts = statistics.variance_components(runs, "percent")
    p = runs["percent"] / 100
    limit = 100 * math.sqrt(float((p * (1 - p) / runs["num_test"]).mean()))
    ends = sd_interval(parts.repeat, parts.num_runs - parts.num_label_sets)
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
    difference, ends = statistics.welch(prototypes.set_means(iconic), prototypes.set_means(random))
    counts = [frame["label_set"].nunique() for frame in (iconic, random)]
    missing = f"needs at least {MIN_SETS} label sets of each; there are {counts[0]} and {counts[1]}"
    return Finding(
        difference,
        ends,
        counts[0],
        len(iconic),
        missing=missing * (min(counts) < MIN_SETS),
        remark=f"against {counts_of(random)}",
    )


def bucket_trend(runs: pd.DataFrame) -> Finding:
    """Claim 6b: `statistics.rank_correlation` over buckets, with `permutation_p`.

    A bucket is one label set, so how far another draw from it would lead is not in this.

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
    difference, ends = statistics.welch_summary(ours, theirs)
    remark = f"fully supervised: {number(theirs.mean)}, {plural(there, 'run')}"
    return Finding(difference, ends, *counts, limits, missing=missing, remark=remark)


def optimism(runs: pd.DataFrame, limits: Interval) -> Finding:
    """Claim 8: best on the test set minus last, as `tables.protocols` has it."""
    row = tables.protocols(runs).iloc[-1]
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


# What the publications' own numbers give


def printed_classes(name: str) -> pd.DataFrame:
    """Published runs, as `load.metrics` has ours."""
    table = tables.read_published(name)
    names = {"experiment": name, "variant": "fixmatch", "method": "fixmatch"}
    return table.assign(**names, run_id=table["run"], repeat=table["run"]).rename(
        columns={"mean_percent": "percent"}
    )


def printed_runs(table: pd.DataFrame, num_test: int) -> pd.DataFrame:
    """Runs that have the printed means and deviations: variance components need no more of them.

    Args:
        table: label_set, mean, sd and n per row.
    """
    parts = []
    for label_set, mean, sd, n in zip(
        *(table[name] for name in ("label_set", "mean", "sd", "n")), strict=True
    ):
        steps = np.arange(n) - (n - 1) / 2
        percent = mean + sd * steps / np.std(steps, ddof=1)
        parts.append(
            pd.DataFrame({"label_set": label_set, "repeat": np.arange(n), "percent": percent})
        )
    runs = pd.concat(parts, ignore_index=True)
    run_id = runs["label_set"] + " " + runs["repeat"].astype(str)
    return runs.assign(run_id=run_id, num_test=num_test)


def single_numbers() -> "pd.Series[float]":
    """Published numbers that stand in no table, by (name, data set)."""
    table = pd.read_csv(tables.PUBLISHED / SINGLE)
    values: pd.Series[float] = table.set_index(["name", "dataset"])["value"]
    return values


def published_gaps(table1: pd.DataFrame) -> pd.DataFrame:
    """All minus the mean of the classes by row, as label_set and gap.

    Args:
        table1: `tables.published_moments`.
    """
    means = table1.pivot(index="label_set", columns="metric", values="mean")
    return (means[ALL] - means[CLASS_MEAN]).rename("gap").reset_index()


def published_spread(table1: pd.DataFrame) -> str:
    """The nearest that Table 1 comes to claim 2: its All is probably not the mean of its classes.

    Args:
        table1: `tables.published_moments`.
    """
    squares = table1.assign(square=table1["sd"] ** 2)
    of_all = squares[squares["metric"] == ALL].set_index("label_set")["square"]
    of_class = squares[squares["order"] >= len(AGGREGATES)].groupby("label_set")["square"].mean()
    over, under = (values.reindex(of_all.index).to_numpy(float) for values in (of_class, of_all))
    value, ends = ratio_interval(over, under)
    ends_text = interval(math.sqrt(ends.low), math.sqrt(ends.high), ratio)
    text = f"{ratio(math.sqrt(value))} {ends_text}"
    return f"{text} by the deviations of Table 1, if its All were the mean of the classes"


def published(dataset: str) -> dict[str, Published]:
    """By name of the claim. Intervals only where they are over label sets, as ours.

    Args:
        dataset: its numbers, where the publication has several; otherwise those of CIFAR-10.
    """
    single = single_numbers()
    table1 = tables.published_moments(tables.read_published(TABLE_1))
    runs = printed_runs(table1[table1["metric"] == ALL], int(single["test_images", "cifar10"]))
    classes = printed_classes(TABLE_2)
    of_table1 = f"Table 1: {counts_of(runs)}"
    of_table2 = f"Table 2: {counts_of(classes)}"
    repeats, share = repeat_spread(runs), label_set_share(runs)
    gaps = statistics.cluster_mean(published_gaps(table1), "gap")
    spread = f"{of_table2}; {published_spread(table1)}"
    numbers = [0, 3, 7]
    buckets = [float(single[f"bucket_percent_{n}", "cifar10"]) for n in numbers]
    trend = statistics.rank_correlation(np.array(numbers, dtype=float), np.array(buckets))
    medians = ", ".join(f"{value:g}" for value in buckets)
    where = dataset if ("self_training_percent", dataset) in single.index else "cifar10"
    reached = float(single["self_training_percent", where])
    full = float(single["fully_supervised_percent", where])
    headline = f"{DATA_NAMES[where]}: {reached:g}%, fully supervised {full:g}%"
    return {
        UNEVEN.name: Published(unevenness(classes).value, origin=of_table2),
        SPLIT.name: Published(split_runs(classes).value, origin=of_table2),
        CLASS_WISE.name: Published(class_variance(classes).value, origin=spread),
        REPEATS.name: Published(repeats.value, repeats.interval, f"{of_table1}; {repeats.remark}"),
        LABEL_SETS.name: Published(share.value, share.interval, of_table1),
        PROTOTYPICALITY.name: Published(trend, origin=f"3 buckets: {medians}%, medians"),
        FULL.name: Published(reached - full, origin=headline),
        BEST.name: Published(gaps.mean, gaps.interval, of_table1),
    }


def counts_of(runs: pd.DataFrame) -> str:
    """How many label sets and runs."""
    sets = plural(runs["label_set"].nunique(), "label set")
    return f"{sets}, {plural(runs['run_id'].nunique(), 'run')}"


def published_iconic(family: str) -> Published:
    """Claim 6a: only medians of the most prototypical bucket and of random label sets are known."""
    if family != MOST_PROTOTYPICAL:
        return Published()
    single = single_numbers()
    top, random = (
        float(single[name, "cifar10"]) for name in ("bucket_percent_7", "random_percent")
    )
    return Published(top - random, origin=f"{top:g}% and {random:g}%, medians")


# Which runs are asked


class Case(NamedTuple):
    """A claim, put to some runs."""

    claim: Claim
    finding: Finding
    family: str = ""  # of their label sets
    runs: str = ""  # what a person calls them
    basis: tuple[pd.DataFrame, ...] = ()  # of one of these, the mean must be above chance
    published: Published | None = None  # in place of the claim's


def taking_part(found: Results) -> pd.DataFrame:
    """The runs from one labeled image per class, without oracles.

    Returns:
        their columns; percent, num_classes and num_test (images); family, in which the most
        prototypical bucket stands by itself, and which is "" for sets made of others.
    """
    tested = last_step(found.class_evaluations).groupby("run_id", observed=True)
    classes = tested["class_index"].nunique().rename(index=str)
    images = tested["test_count"].sum().rename(index=str)
    runs = found.runs.assign(
        percent=100 * found.runs["last_accuracy"],
        num_classes=found.runs["run_id"].map(classes),
        num_test=found.runs["run_id"].map(images),
    )
    is_oracle = runs["is_oracle"] | runs["label_set"].str.endswith(ORACLE_MARK)
    runs = runs[~is_oracle & (runs["label_set_size"] == runs["num_classes"])]
    family = runs["family"].mask(runs["label_set"] == TOP_BUCKET, MOST_PROTOTYPICAL)
    is_made = (family == HAND_PICKED) & ~runs["label_set"].str.fullmatch(OWN_IMAGES)
    return runs.assign(family=family.mask(is_made, ""))


def of_family(runs: pd.DataFrame, *families: str) -> pd.DataFrame:
    """The runs on label sets of these families."""
    return runs[runs["family"].isin(families)]


def first_variant(runs: pd.DataFrame, method: str) -> pd.DataFrame:
    """The runs of the first variant of a method; none if it was not run."""
    rows = runs[runs["method"] == method]
    return rows[rows["variant"] == rows["variant"].iloc[0]] if len(rows) else rows


def fixmatch_or(runs: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """The runs of FixMatch, by which it is told whether a study has learned; or others."""
    rows = first_variant(runs, balancing.BASELINE)
    return rows if len(rows) else others


def of_runs(table: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table that are about these runs."""
    return table[table["run_id"].isin(runs["run_id"])]


def is_iconic(family: str) -> bool:
    """Whether its label sets are meant to show every class at its clearest."""
    return family in (HAND_PICKED, MOST_PROTOTYPICAL) or family.endswith(CENTROID)


def without_runs(missing: str, *claims: Claim) -> list[Case]:
    """Claims that nothing is known of."""
    return [Case(claim, Finding(limits=NO_INTERVAL, missing=missing)) for claim in claims]


def needs(what: str, there: list[str]) -> str:
    """What is missing, and which of it there is."""
    return f"needs {what}; found {'only ' + ' and '.join(there) if there else 'none'}"


def fixmatch_cases(runs: pd.DataFrame, table: pd.DataFrame, gap_range: Interval) -> list[Case]:
    """Claims 1 to 4 and 8.

    Args:
        runs: of round 0 of one scope.
        table: `load.metrics`.
        gap_range: of the published rows.
    """
    cases = []
    for family in POPULATIONS:
        rows = first_variant(of_family(runs, family), balancing.BASELINE)
        if not len(rows):
            continue
        classes = of_runs(table, rows)
        findings = (
            (UNEVEN, unevenness(classes)),
            (SPLIT, split_runs(classes)),
            (CLASS_WISE, class_variance(classes)),
            (REPEATS, repeat_spread(rows)),
            (LABEL_SETS, label_set_share(rows)),
            (BEST, optimism(rows, gap_range)),
        )
        name = str(rows["variant"].iloc[0])
        cases += [Case(claim, finding, family, name, (rows,)) for claim, finding in findings]
    missing = needs(f"{balancing.BASELINE} on {OF_POPULATIONS}", [])
    return cases or without_runs(missing, *(UNEVEN, SPLIT, CLASS_WISE, REPEATS, LABEL_SETS, BEST))


def balancing_cases(runs: pd.DataFrame, table: pd.DataFrame) -> list[Case]:
    """Claims 5a and 5b.

    Args:
        runs: of round 0 of one scope.
        table: `load.metrics`.
    """
    cases = []
    methods = [balancing.BASELINE, *BOSS_METHODS]
    for family, method in itertools.product(POPULATIONS, BOSS_METHODS):
        block = of_family(runs, family)
        pair = nearest_variants(block, method, balancing.BASELINE)
        if pair is None:
            continue
        rows, against = pair
        name = f"{rows['variant'].iloc[0]} - {against['variant'].iloc[0]}"
        ours, theirs = (balancing.class_measures(of_runs(table, part)) for part in (rows, against))
        remark = other_settings(rows, against)
        for claim, finding in (
            (BALANCING, effect(rows, against, "percent", ABOVE_ZERO)),
            (FAILURES, effect(ours, theirs, "num_failed", BELOW_ZERO)),
        ):
            asked = finding._replace(remark=remark)
            cases.append(Case(claim, asked, family, name, (against,)))
    there = [name for name in methods if (of_family(runs, *POPULATIONS)["method"] == name).any()]
    what = f"{methods[0]} and one of {methods[1]} to {methods[-1]} on the same {OF_POPULATIONS}"
    return cases or without_runs(needs(what, there), BALANCING, FAILURES)


def nearest_variants(
    runs: pd.DataFrame, method: str, baseline: str
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """The runs of one variant of each of two methods, as alike beside the balancing as can be.

    Chosen by settings and by which runs there are alone, so that no result has a say in what is
    compared: pairs with too few label sets in common come after all others; of those that are
    equally near, the first in the order of every table. None if a method was not run.
    """

    def rank(pair: tuple[pd.DataFrame, pd.DataFrame]) -> tuple[bool, int]:
        common = pair[0][PAIR_KEYS].merge(pair[1][PAIR_KEYS])
        return common["label_set"].nunique() < MIN_SETS, len(differing(*pair))

    ours, theirs = (
        [rows for _, rows in runs[runs["method"] == name].groupby("variant", sort=False)]
        for name in (method, baseline)
    )
    pairs = itertools.product(ours, theirs)
    return min(pairs, key=rank, default=None)


def other_settings(rows: pd.DataFrame, against: pd.DataFrame) -> str:
    """What a comparison of a method of BOSS with FixMatch is of, beside the balancing."""
    names = differing(rows, against)
    return f"not the balancing alone: also {', '.join(names)}" if names else ""


def differing(rows: pd.DataFrame, against: pd.DataFrame) -> list[str]:
    """In which hyperparameters a variant of BOSS differs from one of FixMatch, balancing aside."""
    ours, theirs = rows.iloc[0], against.iloc[0]
    names = [name for name in HYPERPARAMETERS if ours[name] != theirs[name]]
    first, second = (json.loads(one["options"]) for one in (ours, theirs))
    names += [name for name in first if first[name] != second.get(name, SAME_LOSS.get(name))]
    # What FixMatch has alone, BOSS does as FixMatch does by default.
    usual = dict(ALGORITHMS[balancing.BASELINE].options)
    del usual["threshold"], usual["unlabeled_weight"]  # which both have
    names += [name for name in usual if second.get(name, usual[name]) != usual[name]]
    return [name for name in names if name not in BALANCING_OPTIONS]


def prototype_cases(runs: pd.DataFrame) -> list[Case]:
    """Claim 6a.

    Args:
        runs: of round 0 of one scope.
    """
    cases = []
    families = [name for name in runs["family"].unique() if is_iconic(name)]
    families.sort(key=prototypes.family_order)
    methods = [balancing.BASELINE, *BOSS_METHODS]
    for method, family in itertools.product(methods, families):
        both = of_family(runs, RANDOM, family)
        both = both[both.groupby("variant")["family"].transform("nunique") > 1]
        rows = first_variant(both, method)
        if not len(rows):
            continue
        finding = prototype_effect(of_family(rows, family), of_family(rows, RANDOM))
        known = [text for end, text in KNOWLEDGE.items() if family.endswith(end)]
        known += [HELD_OUT] * bool(rows["num_validation"].gt(0).any())
        finding = finding._replace(remark="; ".join([finding.remark, *known]))
        fixmatch = fixmatch_or(both, rows)
        basis = (of_family(fixmatch, family), of_family(fixmatch, RANDOM))
        name = str(rows["variant"].iloc[0])
        cases.append(Case(ICONIC, finding, family, name, basis, published_iconic(family)))
    there = [RANDOM] * bool((runs["family"] == RANDOM).any()) + families
    what = f"one method on {RANDOM} and on {HAND_PICKED}, {CENTROID} or {MOST_PROTOTYPICAL} sets"
    return cases or without_runs(needs(what, there), ICONIC)


def bucket_cases(runs: pd.DataFrame) -> list[Case]:
    """Claim 6b.

    Args:
        runs: of round 0 of one scope.
    """
    runs = of_family(runs, BUCKETS, MOST_PROTOTYPICAL)
    cases = []
    for method in (balancing.BASELINE, *BOSS_METHODS):
        rows = first_variant(runs, method)
        if len(rows):
            basis = (fixmatch_or(runs, rows),)
            name = str(rows["variant"].iloc[0])
            cases.append(Case(PROTOTYPICALITY, bucket_trend(rows), BUCKETS, name, basis))
    what = f"{balancing.BASELINE} or a method of BOSS on at least {MIN_BUCKETS} {BUCKETS}"
    return cases or without_runs(needs(what, []), PROTOTYPICALITY)


def self_training_cases(runs: pd.DataFrame, full: pd.DataFrame) -> list[Case]:
    """Claims 7a and 7b: of all numbers of picks the largest, as the authors' script has it.

    Args:
        runs: of one scope.
        full: `self_training.yardsticks`.
    """
    children = self_training.children(runs)
    children = children[(children["round"] == 1) & children["gain"].notna()]
    families = [name for name in children["family"].unique() if name == RANDOM or is_iconic(name)]
    families.sort(key=prototypes.family_order)
    cases = []
    for family in families:
        for parent, rows in of_family(children, family).groupby("parent_variant", sort=False):
            rows = rows[rows["picks_per_class"] == rows["picks_per_class"].max()]
            rows = rows[rows["variant"] == rows["variant"].iloc[0]]
            parents = runs[runs["run_id"].isin(rows["parent"])]
            basis = (fixmatch_or(of_family(runs[runs["round"] == 0], family), parents),)
            name = str(rows["variant"].iloc[0])
            theirs = self_training.yardstick_of(rows, full)
            cases += [
                Case(GAIN, gain(rows), family, f"{name} - {parent}", basis),
                Case(FULL, to_full(rows, theirs), family, name, basis),
            ]
    what = f"round 1 of self-training by pseudo-labels, and its parents, on {RANDOM} or iconic sets"
    return cases or without_runs(needs(what, []), GAIN, FULL)


# Verdicts


def decide(finding: Finding) -> str:
    """Whether the interval lies within the limits, wholly outside, or neither.

    A p value stands for an interval that holds nothing of the other sign if it is small, and
    everything if it is not.
    """
    low, high = finding.interval
    least, most = finding.limits
    if finding.p_value <= 1 - LEVEL:
        low = high = finding.value
    if low > least and high < most:
        return HOLDS
    return FAILS if high < least or low > most else OPEN


def below_chance(basis: tuple[pd.DataFrame, ...], num_classes: int) -> str:
    """What there is to say if runs cannot be told from guessing, "" if they can.

    Args:
        basis: runs, of which one mean (`statistics.cluster_mean`) is to be above chance by its
            interval; those without an interval have no say.
    """
    chance = 100 / num_classes
    found = []
    for runs in basis:
        mean = statistics.cluster_mean(runs, "percent")
        if mean.interval.low > chance:
            return ""
        if not math.isnan(mean.interval.low):
            name = runs["variant"].iloc[0]
            found.append(f"{name}: {number(mean.mean)}% {interval(*mean.interval)}")
    if not found:
        return ""
    return f"{' and '.join(found)} is not above chance, {number(chance)}%"


def verdict(case: Case, budget: str, num_classes: int) -> tuple[str, str]:
    """The verdict, and why where the interval has no say."""
    if budget == SMOKE:
        return UNTESTABLE, f"budget {SMOKE} trains too short to mean anything"
    if case.finding.missing:
        return TOO_FEW, case.finding.missing
    reason = below_chance(case.basis, num_classes)
    if reason:
        return UNTESTABLE, reason
    finding = case.finding
    is_undefined = math.isnan(finding.interval.low) and math.isnan(finding.p_value)
    return decide(finding), "its interval is undefined" * is_undefined


def about(claim: Claim, dataset: str, num_images: int) -> str:
    """What a verdict is about.

    >>> about(UNEVEN, "cifar10", 2**21), about(UNEVEN, "svhn", 2**25)
    ('CIFAR-10, 1/16 of the published images', "another data set than the publication's")
    """
    if dataset not in claim.datasets:
        return OTHER_DATA
    images = PUBLISHED_NUM_IMAGES
    if claim is PROTOTYPICALITY:
        images = int(single_numbers()["num_images", "cifar10"])
    share = f"{num_images / images:.2g} times the published images"
    if images % num_images == 0:
        share = f"1/{images // num_images} of the published images"
    if num_images == images:
        share = "as many images as published"
    return f"{DATA_NAMES[dataset]}, {share}"


# The tables


def claims(found: Results) -> pd.DataFrame:
    """Every claim, put to the runs of every scope that has any to put it to.

    Returns:
        scope, claim, sentence, source, family and runs (which), statistic; value, low, high (of its
        95% interval; interval_over says over what) or p_value; num_label_sets, num_runs (pairs, if
        it is a difference of pairs); published, published_low, published_high, published_origin;
        rule, limit_low, limit_high; verdict, reason, remark, about.
    """
    runs = taking_part(found)
    table = metrics(found)
    full = self_training.yardsticks(found.runs)
    gaps = published_gaps(tables.published_moments(tables.read_published(TABLE_1)))["gap"]
    gap_range = Interval(float(gaps.min()), float(gaps.max()))
    order = [claim.name for claim in CLAIMS]
    rows = []
    for scope, block in runs.groupby("scope", sort=False):
        first = block[block["round"] == 0]
        cases = fixmatch_cases(first, table, gap_range)
        cases += balancing_cases(first, table) + prototype_cases(first) + bucket_cases(first)
        cases += self_training_cases(block, full)
        if not any(case.finding.num_runs for case in cases):
            continue
        cases.sort(key=lambda case: order.index(case.claim.name))
        dataset = str(block["dataset"].iloc[0])
        theirs = published(dataset)
        for case in cases:
            said = verdict(case, str(block["budget"].iloc[0]), int(block["num_classes"].iloc[0]))
            known = case.published or theirs.get(case.claim.name, Published())
            place = about(case.claim, dataset, int(block["num_images"].iloc[0]))
            rows.append({"scope": scope} | record(case, known, *said) | {"about": place})
    return pd.DataFrame(rows)


def record(case: Case, known: Published, said: str, reason: str) -> dict[str, Any]:
    """One row of `claims`."""
    claim, finding = case.claim, case.finding
    limits = [end if math.isfinite(end) else math.nan for end in finding.limits]
    return {
        **{"claim": claim.name, "sentence": claim.sentence, "source": claim.source},
        **{"family": case.family, "runs": case.runs, "statistic": claim.statistic},
        **{"value": finding.value, "low": finding.interval.low, "high": finding.interval.high},
        **{"p_value": finding.p_value, "interval_over": claim.over},
        **{"num_label_sets": finding.num_label_sets, "num_runs": finding.num_runs},
        **{"published": known.value, "published_low": known.interval.low},
        **{"published_high": known.interval.high, "published_origin": known.origin},
        **{"rule": claim.rule, "limit_low": limits[0], "limit_high": limits[1]},
        **{"verdict": said, "reason": reason, "remark": finding.remark},
    }


def claims_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per row of `claims`, without what `rules` says."""
    by_name = {claim.name: claim for claim in CLAIMS}
    rows = []
    for row in numbers.to_dict("records"):
        claim = by_name[row["claim"]]
        ends = interval(row["low"], row["high"], claim.write)
        if not math.isnan(row["p_value"]):
            ends = f"p = {row['p_value']:.2g}"
        theirs = interval(row["published_low"], row["published_high"], claim.write)
        known = [claim.write(row["published"])] * (not math.isnan(row["published"]))
        known += [theirs] * (theirs != "-") + [f"({row['published_origin']})"]
        counts = f"{plural(row['num_label_sets'], 'label set')}, "
        counts += plural(row["num_runs"], claim.unit)
        rows.append(
            {
                "experiment": row["scope"],
                "claim": f"{row['claim']}. {row['sentence']}",
                "runs": ", ".join(filter(None, (row["runs"], row["family"]))) or "-",
                "value": claim.write(row["value"]),
                "95% interval": ends,
                "n": counts if row["num_runs"] else "-",
                "published": " ".join(known),
                "verdict": row["verdict"],
                "remarks": "; ".join(filter(None, (row["reason"], row["remark"]))) or "-",
                "about": row["about"],
            }
        )
    return without_constant(pd.DataFrame(rows), ("experiment",))


def rules(numbers: pd.DataFrame) -> pd.DataFrame:
    """What the claims of a table are tested by: claim, sentence, source, statistic, rule.

    Args:
        numbers: `claims`.
    """
    columns = ["claim", "sentence", "source", "statistic", "interval_over", "rule"]
    table = numbers.drop_duplicates("claim")[columns]
    order = [claim.name for claim in CLAIMS]
    return table.sort_values("claim", key=lambda names: names.map(order.index), ignore_index=True)


def rules_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per claim."""
    claim = numbers["claim"] + ". " + numbers["sentence"]
    text = numbers.assign(claim=claim).drop(columns="sentence")
    return text.rename(columns={"interval_over": "interval over", "rule": "holds if it lies"})


def rules_since(runs: pd.DataFrame) -> str:
    """Whether the rules were fixed before the runs."""
    known = int((runs["finished_at"] < RULES_SINCE).sum())
    if known == len(runs):
        return "these runs had finished when they were written"
    count = f"{known} of these {len(runs)} runs" if known else "none of these runs"
    return f"{count} had finished when they were written"


def parts(found: Results) -> list[Part]:
    """The claims and how they are tested."""
    numbers = claims(found)
    if not len(numbers):
        return []
    num_tests = int(numbers["verdict"].isin((HOLDS, FAILS, OPEN)).sum())
    asked = rules(numbers)
    caption = (
        "Of runs from one labeled image per class, without oracles, teacher after the last step. "
        f"The rules are in the next table; {rules_since(found.runs)}. Holds: the 95% interval lies "
        "within the range of the rule; does not hold: wholly outside; undecided: neither. A "
        "verdict is about these runs, on the data of the last column. Each is for itself: of "
        f"{num_tests} intervals {(1 - LEVEL) * num_tests:.1f} would miss the true value by chance, "
        "on average (a p value counts as one). Published: the same statistic of the publication's "
        f"own numbers. {tables.published_note(SINGLE)} Hand-picked sets: boss:0 to boss:5, which "
        "share no more than single images; the others are made of these, or random."
    )
    return [
        Table("claims", "Claims of the publications", caption, numbers, claims_text(numbers)),
        Table(
            "claims_rules",
            "How the claims are tested",
            "One statistic and one range per claim. Accuracies are in percent. Label sets are the "
            "unit wherever the interval is over them; claims without that many are not tested.",
            asked,
            rules_text(asked),
        ),
    ]
