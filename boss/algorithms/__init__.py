"""Algorithms under one contract: `ALGORITHMS` is all there are, `build` makes one.

A new algorithm is a file in this folder, a line in the table and a row in
tests/algorithms/test_contract.py.
"""

import inspect
from collections.abc import Mapping

from boss.algorithms.base import VIEWS, Algorithm, Batch, Context, Sizes, StepLoss
from boss.algorithms.boss import BOSS
from boss.algorithms.fixmatch import FixMatch
from boss.algorithms.flexmatch import FlexMatch
from boss.algorithms.freematch import FreeMatch
from boss.algorithms.mean_teacher import MeanTeacher
from boss.algorithms.mixmatch import MixMatch
from boss.algorithms.pi_model import PiModel
from boss.algorithms.pseudo_label import PseudoLabel
from boss.algorithms.remixmatch import ReMixMatch
from boss.algorithms.supervised import Supervised
from boss.algorithms.uda import UDA
from boss.algorithms.vat import VAT
from boss.errors import InputError, choose
from boss.study.run import Scalar, of_type

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
    "flexmatch": FlexMatch,
    "freematch": FreeMatch,
    "mean_teacher": MeanTeacher,
    "mixmatch": MixMatch,
    "pi_model": PiModel,
    "pseudo_label": PseudoLabel,
    "remixmatch": ReMixMatch,
    "supervised": Supervised,
    "uda": UDA,
    "vat": VAT,
}


for _name, _algorithm in ALGORITHMS.items():  # `boss.study.catalog` finds its facts by that
    assert _algorithm.__module__ == f"{__name__}.{_name}", f"{_name} must be in {_name}.py"


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
