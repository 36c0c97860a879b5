"""Algorithms under one contract: `ALGORITHMS` is all there are, `build` makes one.

A new algorithm is a file in this folder, a line in the table and a row in tests/test_contract.py.
"""

import inspect
from collections.abc import Mapping

from boss.algorithms.base import VIEWS, Algorithm, Batch, Context, Sizes, StepLoss
from boss.algorithms.boss import BOSS
from boss.algorithms.fixmatch import FixMatch
from boss.algorithms.supervised import Supervised
from boss.errors import InputError, choose
from boss.study import Scalar, of_type

__all__ = [
    "ALGORITHMS",
    "VIEWS",
    "Algorithm",
    "Batch",
    "Context",
    "Sizes",
    "StepLoss",
    "build",
    "hyperparameters",
]

ALGORITHMS: dict[str, type[Algorithm]] = {
    "boss": BOSS,
    "fixmatch": FixMatch,
    "supervised": Supervised,
}


def hyperparameters(name: str) -> dict[str, Scalar]:
    """The options of an algorithm with their defaults.

    Raises:
        InputError: there is no such algorithm.
    """
    parameters = inspect.signature(choose(name, ALGORITHMS, what="algorithm")).parameters
    return {key: parameter.default for key, parameter in parameters.items()}


def build(name: str, options: Mapping[str, Scalar]) -> Algorithm:
    """The algorithm called `name` with these hyperparameters, the others at their defaults.

    Raises:
        InputError: there is no such algorithm, it has no such option, or a value is out of range.
    """
    defaults = hyperparameters(name)
    values: dict[str, Scalar] = {}
    for key, value in options.items():
        if key not in defaults:
            have = ", ".join(defaults) or "none"
            raise InputError(f"{name} has no option {key!r}: its options are {have}")
        default = defaults[key]
        what = f"option {key} of {name}"
        values[key] = value if default is None else of_type(what, value, type(default))
    return ALGORITHMS[name](**values)
