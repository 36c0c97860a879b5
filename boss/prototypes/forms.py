"""The names of embeddings: `simclr:2000@fast-32-128-256` and the like."""

import re
from typing import NamedTuple

from boss import models
from boss.errors import InputError
from boss.prototypes import patches, pretrained

FORMS = {
    "kmeans-patches": "kmeans-patches[:CENTROIDS]",
    "manifold": "manifold[:DICTIONARY[xDIMENSION]]",
    "teacher": "teacher:FILE",
    "simclr": "simclr[:STEPS][@NETWORK]",
    "torchvision": "torchvision:NAME",
}


JOINED = "joined"  # the name of several, which are the argument


class Form(NamedTuple):
    """The name of an embedding, its argument after the colon, or the default, and its network."""

    name: str
    argument: str
    network: str = ""

    @property
    def number(self) -> int | None:
        """The argument, where it is one number."""
        return int(self.argument) if self.argument else None

    def __str__(self) -> str:
        if self.name == JOINED:
            return self.argument
        colon, at = ":" * bool(self.argument), "@" * bool(self.network)
        return f"{self.name}{colon}{self.argument}{at}{self.network}"


def joined(spec: str) -> list[str]:
    """The names of the embeddings that stand side by side in one, or its own.

    >>> joined("simclr:6000@fast-8-16+manifold"), joined("teacher:a+b.pt")
    (['simclr:6000@fast-8-16', 'manifold'], ['teacher:a+b.pt'])
    """
    return [spec] if spec.startswith("teacher:") else spec.split("+")


def parse(spec: str) -> Form:
    """The form of a name, with its default argument; of several, side by side, `JOINED`.

    Raises:
        InputError: there is no such embedding, or its name is malformed.
    """
    if len(joined(spec)) > 1:
        if any(name.startswith("teacher:") for name in joined(spec)):
            raise InputError(f"{spec!r}: a teacher stands beside no other embedding")
        names = [str(parse(name)) for name in joined(spec)]
        if len({*names}) < len(names):
            raise InputError(f"{spec} names an embedding twice")
        return Form(JOINED, "+".join(names))
    rest, at, network = spec.partition("@") if spec.startswith("simclr") else (spec, "", "")
    name, colon, argument = rest.partition(":")
    if name not in FORMS:
        choices = ", ".join(FORMS.values())
        raise InputError(
            f"unknown embedding {spec!r}: choose from {choices}; or several, with + between them"
        )
    if at:
        models.check(network)
    if name in ("kmeans-patches", "simclr"):
        if colon and not (argument.isdecimal() and argument.isascii() and int(argument) > 0):
            raise InputError(f"{spec!r} must read {FORMS[name]}, with a number above 0")
        default = str(patches.NUM_CENTROIDS) if name == "kmeans-patches" else ""
        return Form(name, str(int(argument)) if colon else default, network)
    if name == "manifold":
        if colon and not re.fullmatch("0*[1-9][0-9]*(x0*[1-9][0-9]*)?", argument):
            raise InputError(f"{spec!r} must read {FORMS[name]}, with numbers above 0")
        return Form(name, "x".join(str(int(n)) for n in argument.split("x") if n))
    if not argument:
        raise InputError(f"{spec!r} must read {FORMS[name]}")
    if name == "torchvision":
        pretrained.newest_weights(argument)
    return Form(name, argument)
