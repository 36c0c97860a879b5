"""The one exception that means: the input is wrong, and this line says how to mend it."""

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
