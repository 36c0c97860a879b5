"""The contract of a network, and what several networks share.

Dimensions: N images, C channels, H x W pixels, F features, K classes.
"""

import abc
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Network(nn.Module, abc.ABC):
    """Images to logits. Subclasses are final; their arguments are those of `boss.models.build`
    (without the name) and the numbers that `parse` reads from the name.

    Initial weights come from the generator alone. Batch norm, if there is any, takes its momentum
    from `norm_momentum`. Layers whose weights decay have parameters of two dimensions or more.
    """

    grammar: str  # how its names look: "wrn-DEPTH-WIDTH"
    example: str  # a small one: "wrn-7-1"
    summary: str  # one line: what it is, and which of its names to choose
    num_features: int  # F
    classify: nn.Linear  # the last layer: features (N, F) -> (N, K)

    @classmethod
    @abc.abstractmethod
    def parse(cls, name: str) -> Mapping[str, Any] | None:
        """The numbers that a name stands for, as arguments of __init__; None for other names."""

    @classmethod
    def min_size(cls, **numbers: Any) -> int:
        """The smallest images that it can see, in pixels.

        Args:
            numbers: as `parse` returns them.
        """
        return 1

    def prepare(self, images: Tensor) -> None:
        """Set what depends on the unlabeled images, before the first step. Most networks need none.

        Args:
            images: some of the unlabeled images of the run, in [-1, 1] (n, C, H, W).
        """

    @abc.abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> (N, F), what the classifier takes."""

    @abc.abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> logits (N, K)."""


@torch.no_grad()
def initialize_linear(layer: nn.Linear, generator: torch.Generator) -> None:
    """Glorot normal, truncated at two standard deviations; biases 0. For classifiers and heads.

    Args:
        generator: draws the weights; on the device of the layer.
    """
    scale = math.sqrt(2 / (layer.in_features + layer.out_features))
    # Truncation at two standard deviations shrinks the standard deviation by this factor.
    std = scale / 0.87962566103423978
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
    layer.bias.zero_()
