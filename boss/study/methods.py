"""The five methods of BOSS as its authors ran them (Smith and Conovaloff 2020, arXiv 2006.09363).

They differ in how they keep the classes of the pseudo-labels in balance (`boss.balance`), and in
what they are trained with. The numbers are those of the authors' scripts for CIFAR-10; the scripts
use them for SVHN, too.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from boss.study.catalog import ALGORITHMS

# Labeled images seen in each training, repetitions counted: the batch size sets the steps.
PUBLISHED_NUM_IMAGES = 2**25


# What the algorithms use where a run has no such option: for "boss", the authors' method 4.
DEFAULTS: dict[str, dict[str, Any]] = {
    "fixmatch": {"threshold": ALGORITHMS["fixmatch"].options["threshold"]},
    "boss": {key: ALGORITHMS["boss"].options[key] for key in ("threshold", "max_drop", "weigh_by")},
}


@dataclass(frozen=True)
class Method:
    """How the authors trained with one way of balancing."""

    number: int  # what the authors' code calls the method: its `balance`
    max_drop: float  # Delta: by how much the threshold of a class may fall
    weigh_by: str  # which predictions are counted for the weights: "none", "predicted" or "used"
    threshold: float  # tau
    learning_rate: float
    weight_decay: float
    unlabeled_ratio: int  # unlabeled images per labeled one (mu)
    batch_size: int  # labeled images per step (B)
    momentum: float

    @property
    def algorithm(self) -> str:
        """A key of `boss.algorithms.ALGORITHMS`. Method 0 balances nothing: it is FixMatch."""
        return "fixmatch" if self.number == 0 else "boss"

    def options(self, threshold: float | None = None) -> dict[str, Any]:
        """The options of the algorithm that differ from its defaults, as a run lists them.

        Args:
            threshold: tau; None for the authors'.

        >>> METHODS[3].options()
        {'threshold': 0.9, 'max_drop': 0.0}
        """
        defaults = DEFAULTS[self.algorithm]
        values = {key: getattr(self, key) for key in defaults}
        if threshold is not None:
            values["threshold"] = threshold
        return {key: value for key, value in values.items() if value != defaults[key]}

    def fields(self) -> dict[str, Any]:
        """The fields of a `boss.study.run.Run` that a method sets."""
        names = ("learning_rate", "weight_decay", "unlabeled_ratio", "batch_size", "momentum")
        fields = {name: getattr(self, name) for name in names}
        return {"algorithm": self.algorithm, "options": self.options()} | fields


# fmt: off
METHODS: dict[int, Method] = {
    # Delta, weigh_by, tau, learning rate, weight decay, mu, B, momentum
    0: Method(0, 0.00, "none",      0.95, 0.03, 5e-4, 7, 64, 0.88),
    1: Method(1, 0.25, "none",      0.95, 0.06, 8e-4, 9, 30, 0.88),
    2: Method(2, 0.00, "predicted", 0.90, 0.06, 8e-4, 9, 30, 0.88),
    3: Method(3, 0.00, "used",      0.90, 0.04, 8e-4, 9, 30, 0.88),
    4: Method(4, 0.25, "used",      0.95, 0.06, 8e-4, 9, 30, 0.88),
}


# fmt: on

# A round of self-training: FixMatch from scratch on the label set and the images picked for it.
SELF_TRAINING = dataclasses.replace(METHODS[0], momentum=0.9)


def method_name(algorithm: str, options: Mapping[str, object]) -> str:
    """What a person calls the algorithm of a run.

    Args:
        options: those of the run, with or without the ones at their default.

    Returns:
        "boss-0" to "boss-4" where "boss" lowers thresholds and weighs as that method of the authors
        does, whatever the numbers; any other algorithm and setting goes by the algorithm's name.

    >>> method_name("boss", {}), method_name("boss", {"max_drop": 0.1, "weigh_by": "none"})
    ('boss-4', 'boss-1')
    >>> method_name("boss", {"weigh_by": "predicted"}), method_name("fixmatch", {"threshold": 0.9})
    ('boss', 'fixmatch')
    """
    if algorithm != "boss":
        return algorithm
    values = {**DEFAULTS["boss"], **options}
    setting = values["max_drop"] != 0, values["weigh_by"]
    for method in METHODS.values():
        if setting == (method.max_drop != 0, method.weigh_by):
            return f"boss-{method.number}"
    return algorithm
