"""The one exception that means: the input is wrong, and this line says how to mend it."""

import math
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


class InputError(ValueError):
    """Something that a user can correct: a name, a value, a file, a folder.

    The message is one line that names the culprit and, where there are any,
    the choices. The command prints it and exits with 2; everything else that is
    raised is a defect of this package and keeps its traceback.
    """


def choose(name: str, choices: Mapping[str, T], *, what: str) -> T:
    """The member of `choices` called `name`.

    Args:
        what: the kind of thing that is chosen, as it stands in the message ("algorithm").

    Raises:
        InputError: there is no such member; the message lists those there are.
    """
    if name not in choices:
        raise InputError(f"unknown {what} {name!r}: choose from {', '.join(choices)}")
    return choices[name]


def check_interval(interval: str, **values: float) -> None:
    """Raises InputError, which names it, unless every value lies in the interval.

    Args:
        interval: "[0, 1]", "(0, 1]", "(0, inf)", ...: a bracket includes its end.

    >>> check_interval("[0, 1)", momentum=0.9)
    """
    low, high = ends(interval)
    for name, value in values.items():
        above = value >= low if interval.startswith("[") else value > low
        below = value <= high if interval.endswith("]") else value < high
        if above and (below or high == math.inf):  # a nan is neither
            continue
        if interval == "[0, inf)":
            raise InputError(f"{name} must not be negative, not {value}")
        if interval == "(0, inf)":
            raise InputError(f"{name} must be positive, not {value}")
        if high == math.inf:
            raise InputError(f"{name} must be at least {low:g}, not {value}")
        raise InputError(f"{name} must lie in {interval}, not {value}")


def ends(interval: str) -> tuple[float, float]:
    """Where an interval starts and where it ends.

    >>> ends("(0, inf)")
    (0.0, inf)
    """
    low, high = (float(end) for end in interval[1:-1].split(","))
    return low, high
