"""Wide ResNet as the FixMatch reference coded it (its `ResNet`), which is not torchvision's.

Dimensions: N images, C channels, H x W pixels, F features, K classes.

What differs from most PyTorch versions, and changes the accuracy (Zagoruyko and Komodakis 2016 for
the architecture; google-research/fixmatch, libml/models.py for the details):

* convolutions have biases;
* kernels start as N(0, 2 / (k * k * filters out)), the final matrix as Glorot normal;
* batch norm has epsilon 1e-3, and its running statistics a momentum of 0.001;
* the activation is leaky ReLU with slope 0.1;
* padding is TensorFlow's SAME: at stride 2 one row and column at the bottom and right only;
* only the very first block activates before its residual, elsewhere the shortcut is taken from the
  raw input; it is a 1x1 convolution where the number of channels changes, the identity otherwise.

As in TensorFlow, Glorot normal is truncated at two standard deviations and rescaled to keep the
variance.
"""

import math
import re
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from boss.models.base import Network, initialize_linear

STEM_FILTERS = 16
SLOPE = 0.1
EPSILON = 1e-3


class Conv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: output size ceil(input / stride)."""

    def forward(self, input: Tensor) -> Tensor:
        size, kernel, stride = input.shape[-1], self.kernel_size[0], self.stride[0]
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        if total % 2 == 0:
            return F.conv2d(input, self.weight, self.bias, stride, total // 2)
        before, after = total // 2, total - total // 2
        padded = F.pad(input, (before, after, before, after))
        return F.conv2d(padded, self.weight, self.bias, stride)


class NormActivate(nn.BatchNorm2d):
    """Batch norm, then leaky ReLU."""

    def __init__(self, channels: int, norm_momentum: float) -> None:
        super().__init__(channels, eps=EPSILON, momentum=norm_momentum)

    def forward(self, input: Tensor) -> Tensor:
        return F.leaky_relu(super().forward(input), SLOPE, inplace=True)


class Block(nn.Module):
    """Two 3x3 convolutions, each after norm and activation, added to the shortcut."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int,
        norm_momentum: float,
        *,
        activate_before_residual: bool,
    ) -> None:
        super().__init__()
        self.activate_before_residual = activate_before_residual
        self.norm1 = NormActivate(channels_in, norm_momentum)
        self.conv1 = Conv(channels_in, channels_out, 3, stride)
        self.norm2 = NormActivate(channels_out, norm_momentum)
        self.conv2 = Conv(channels_out, channels_out, 3)
        self.shortcut = (
            nn.Identity()
            if channels_in == channels_out
            else Conv(channels_in, channels_out, 1, stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        activated = self.norm1(x)
        residual: Tensor = self.conv2(self.norm2(self.conv1(activated)))
        shortcut: Tensor = self.shortcut(activated if self.activate_before_residual else x)
        return shortcut + residual


@final
class WideResNet(Network):
    """Stem, `stages` stages of `blocks` blocks, norm, activation, global mean, linear.

    Stage s has `filters` * 2**s channels and, but for the first, halves the resolution.

    Args:
        channels: of the images (C).
        num_classes: K.
        blocks: per stage (4 in WRN-28).
        filters: of the first stage (32 in WRN-x-2: 16 times the width).
        stages: 3 for images of 32 pixels.
        norm_momentum: share of the batch in the running statistics of batch norm.
        generator: draws the initial weights, on the CPU.
    """

    grammar = "wrn-DEPTH-WIDTH"
    example = "wrn-7-1"
    summary = "Wide ResNet of depth 7, 10, 16, 22, 28, 37, ...; wrn-28-2 is FixMatch's"

    @classmethod
    def parse(cls, name: str) -> dict[str, int] | None:
        """Depth = 1 + stages * (2 * blocks + 1), filters = 16 * width.

        Three stages if the depth allows them (28: 4 blocks each; 10: one block each), else four
        (37, for STL-10), else two (7, for images of 8 pixels).

        >>> WideResNet.parse("wrn-28-2")
        {'blocks': 4, 'filters': 32, 'stages': 3}
        """
        match = re.fullmatch(r"wrn-([1-9]\d*)-([1-9]\d*)", name)
        if match is None:
            return None
        depth, width = int(match[1]), int(match[2])
        for stages in (3, 4, 2):
            per_stage, rest = divmod(depth - 1, stages)
            if rest == 0 and per_stage % 2 == 1 and per_stage >= 3:
                return {"blocks": per_stage // 2, "filters": 16 * width, "stages": stages}
        return None

    def __init__(
        self,
        *,
        channels: int,
        num_classes: int,
        blocks: int,
        filters: int,
        stages: int,
        norm_momentum: float = 0.001,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.stem = Conv(channels, STEM_FILTERS, 3)
        body: list[nn.Module] = []
        width = STEM_FILTERS
        for stage in range(stages):
            for block in range(blocks):
                first = stage == 0 and block == 0
                stride = 2 if stage > 0 and block == 0 else 1
                out = filters << stage
                body.append(
                    Block(width, out, stride, norm_momentum, activate_before_residual=first)
                )
                width = out
        self.body = nn.Sequential(*body)
        self.num_features = width
        self.norm = NormActivate(width, norm_momentum)
        self.classify = nn.Linear(width, num_classes)
        self._initialize(generator)

    def features(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> (N, F), the global means before the classifier."""
        x = self.norm(self.body(self.stem(images)))  # (N, F, H', W')
        means: Tensor = x.mean(dim=(2, 3))
        return means

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> logits (N, K)."""
        return self.classify(self.features(images))  # type: ignore[no-any-return]

    @torch.no_grad()
    def _initialize(self, generator: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, Conv):
                fan_out = module.kernel_size[0] ** 2 * module.out_channels
                module.weight.normal_(0, math.sqrt(2 / fan_out), generator=generator)
                assert module.bias is not None
                module.bias.zero_()
            elif isinstance(module, nn.Linear):
                initialize_linear(module, generator)
