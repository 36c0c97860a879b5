"""The claims of the publications: what each says, where, and by which rule it is tested.

Every claim has a statistic and a range that was fixed before `RULES_SINCE`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from ..sections.class_balance import FAILED
from ..statistics import LEVEL
from ..tables import number, signed

HOLDS, FAILS, OPEN = "holds", "does not hold", "undecided"
TOO_FEW, UNTESTABLE = "not enough runs", "not testable here"
# Runs that finished before were known when the rules were written.
RULES_SINCE = "2026-11-29"

LEARNED = 90  # percent: a class above is learned; `class_balance.FAILED`: below it has failed
EVEN_SD = 100 / math.sqrt(12)  # of accuracies that are spread evenly from 0 to 100%
FAR_LARGER = 2.0  # times the standard deviation, so four times the variance
MOST = 0.5  # of the runs, or of the variance
REACHED = -1.0  # points from full supervision; the publication is 0.5 above
EMPIRICAL = "Empirical Perspectives (arXiv 2004.04141)"
BOSS = "BOSS (arXiv 2006.09363)"
FIXMATCH = "FixMatch (arXiv 2001.07685)"


class Claim(NamedTuple):
    """A claim and how it is tested."""

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
    f"Most FixMatch runs have a class below {FAILED}% and another above {LEARNED}%.",
    f"{EMPIRICAL}, Table 2",
    "share of such runs, mean over label sets",
    f"above {MOST}",
    write=ratio,
)
CLASS_WISE = Claim(
    "2",
    "From repeat to repeat, class-wise variance is far larger than total variance.",
    f"{EMPIRICAL}, Table 1",
    "ratio of standard deviations over repeats: of a class (mean variance over classes) to the "
    "mean of the classes, variances summed over label sets",
    f"above {FAR_LARGER:g}, that is {FAR_LARGER**2:g} times the variance",
    write=ratio,
)
REPEATS = Claim(
    "3",
    "The same labeled images give different outcomes.",
    f"{EMPIRICAL}, Table 1",
    "standard deviation between repeats of a label set in points",
    "above the standard deviation from drawing test images alone: the square root of the mean of "
    "p(1 - p) / N",
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
    sentence=f"Class balancing lowers the number of failed classes (below {FAILED}%).",
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
    "round 1 with the most selected images minus its parent in points, mean over label sets",
    "above 0",
    write=signed,
    unit="pair",
    datasets=("cifar10", "svhn"),
)
FULL = Claim(
    "7b",
    "Self-training reaches full supervision.",
    f"{BOSS}, abstract",
    "round 1 with the most selected images (means of label sets) minus fully supervised runs in "
    "points",
    f"above {REACHED:g}: at most {-REACHED:g} point below",
    write=signed,
    datasets=("cifar10", "svhn"),
)
BEST = Claim(
    "8",
    "Selection on the test set explains why All in Table 1 exceeds the mean of the classes.",
    f"inferred from {EMPIRICAL}, Table 1, where All is above the mean of the classes",
    "best accuracy on the test set (an oracle) minus the last in points, mean over label sets",
    "within the range of All minus the mean of the classes in the published rows",
    write=signed,
)
CLAIMS = (
    *(UNEVEN, SPLIT, CLASS_WISE, REPEATS, LABEL_SETS, BALANCING, FAILURES),
    *(ICONIC, PROTOTYPICALITY, GAIN, FULL, BEST),
)
