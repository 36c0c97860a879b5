"""Networks: `build` makes one from its name."""

import torch

from boss.models.grammar import parse_network
from boss.models.wide_resnet import WideResNet

__all__ = ["WideResNet", "build"]


def build(
    name: str,
    *,
    channels: int,
    num_classes: int,
    norm_momentum: float,
    generator: torch.Generator,
) -> WideResNet:
    """The network called `name` (`wrn-DEPTH-WIDTH`), freshly initialized from `generator`.

    Raises:
        InputError: there is no such network.
    """
    return WideResNet(
        channels=channels,
        num_classes=num_classes,
        norm_momentum=norm_momentum,
        generator=generator,
        **parse_network(name),
    )
