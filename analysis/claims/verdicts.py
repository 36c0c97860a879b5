"""The verdict on a claim: does the interval of its statistic lie within the range of its rule?

It holds if the 95% interval lies within the range, does not hold if it lies wholly outside, and is
undecided otherwise.
"""

import math

import pandas as pd

from boss.study.methods import PUBLISHED_NUM_IMAGES
from boss.study.run import BUDGETS

from .. import statistics
from ..statistics import LEVEL
from ..tables import interval, number
from .cases import Case
from .catalog import FAILS, HOLDS, OPEN, PROTOTYPICALITY, TOO_FEW, UNTESTABLE, Claim
from .findings import Finding
from .published import DATA_NAMES, single_numbers

SMOKE = BUDGETS[0]
OTHER_DATA = "another data set than the publication's"


# Verdicts


def decide(finding: Finding) -> str:
    """Whether the interval lies within the limits, wholly outside, or neither.

    A small p value counts as an interval that excludes the other sign, a large one as an interval
    that contains everything.
    """
    low, high = finding.interval
    least, most = finding.limits
    if finding.p_value <= 1 - LEVEL:
        low = high = finding.value
    if low > least and high < most:
        return HOLDS
    return FAILS if high < least or low > most else OPEN


def below_chance(basis: tuple[pd.DataFrame, ...], num_classes: int) -> str:
    """A message if the runs are not above chance, otherwise "".

    Args:
        basis: groups of runs. At least one mean (`statistics.cluster_mean`) must be above chance by
            its interval; those without an interval are ignored.
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
    """The verdict, and the reason where it does not follow from the interval."""
    if budget == SMOKE:
        return UNTESTABLE, f"budget {SMOKE} trains too briefly to test claims"
    if case.finding.missing:
        return TOO_FEW, case.finding.missing
    reason = below_chance(case.basis, num_classes)
    if reason:
        return UNTESTABLE, reason
    finding = case.finding
    is_undefined = math.isnan(finding.interval.low) and math.isnan(finding.p_value)
    return decide(finding), "its interval is undefined" * is_undefined


def about(claim: Claim, dataset: str, num_images: int) -> str:
    """The data that a verdict applies to.

    >>> from analysis.claims.catalog import UNEVEN
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
