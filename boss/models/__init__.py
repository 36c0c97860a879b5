"""Networks: `build` makes one from its name.

A new network is a file in this folder and a line in `NETWORKS`. The file declares how its names
look, reads them, and describes the network in one line (`boss.models.base.Network`).
"""

import torch

from boss.errors import InputError
from boss.models.base import Network
from boss.models.fast_cnn import FastCNN
from boss.models.wide_resnet import WideResNet

__all__ = ["NETWORKS", "FastCNN", "Network", "WideResNet", "build", "check"]

NETWORKS: tuple[type[Network], ...] = (WideResNet, FastCNN)


def check(name: str, size: int | None = None) -> None:
    """Raises InputError unless there is a network of this name, for images of `size` pixels if
    given; the message lists all grammars, or says how large they have to be.
    """
    found = [(n, numbers) for n in NETWORKS if (numbers := n.parse(name)) is not None]
    if not found:
        choices = "; ".join(f"{n.grammar}, for example {n.example} ({n.summary})" for n in NETWORKS)
        raise InputError(f"unknown network {name!r}: use {choices}")
    [(network, numbers)] = found
    smallest = network.min_size(**numbers)
    if size is not None and size < smallest:
        raise InputError(
            f"{name} is too deep for images of {size} pixels: it needs {smallest} or more"
        )


def build(
    name: str,
    *,
    channels: int,
    num_classes: int,
    norm_momentum: float,
    generator: torch.Generator,
) -> Network:
    """The network called `name`, such as "wrn-28-2", freshly initialized.

    Args:
        channels: of the images (C).
        num_classes: K.
        norm_momentum: share of the batch in the running statistics of batch norm.
        generator: draws the initial weights, on the CPU.

    Raises:
        InputError: there is no such network.
    """
    check(name)
    [(network, numbers)] = [(n, found) for n in NETWORKS if (found := n.parse(name)) is not None]
    return network(
        channels=channels,
        num_classes=num_classes,
        norm_momentum=norm_momentum,
        generator=generator,
        **numbers,
    )
