"""A small network for CPUs, in the manner of airbench (Jordan 2024, arXiv 2404.00498).

Dimensions: N images, C channels, H x W pixels, F features, K classes.

A frozen 2 x 2 convolution whitens the pixels; each stage of width W is

    3 x 3 convolution -> 2 x 2 max pooling -> batch norm, activation
    -> 3 x 3 convolution -> batch norm, activation

and a global maximum and a linear layer close it. A stage costs little because its first convolution
alone sees the larger images, and pooling replaces strides and shortcuts. What differs from
airbench94: widths are in the name, batch norm trains its scale and has the run's momentum, there is
no multi-crop at evaluation, and optimizer and schedule are those of the run.
"""

import math
import re
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from boss.models.base import Network, initialize_linear

EPSILON = 5e-4  # added to the variance of each whitened direction; pixels lie in [-1, 1]
SCALE = 1 / 9  # of what the classifier sees, as in airbench: logits start near 0


@final
class FastCNN(Network):
    """Whitening, stages, global maximum, linear.

    Args:
        channels: of the images (C).
        num_classes: K.
        widths: of the stages, the last of which is F. Each stage halves the resolution: two suit
            images of 8 pixels, three those of 32, four those of 64 to 96.
        norm_momentum: share of the batch in the running statistics of batch norm.
        generator: draws the initial weights, on the CPU.
    """

    grammar = "fast-WIDTH-WIDTH-..."
    example = "fast-8-16"
    summary = "airbench-like, a stage for each width; fast-32-128-128 suits 32 pixels on a CPU"

    @classmethod
    def parse(cls, name: str) -> dict[str, tuple[int, ...]] | None:
        """The widths of one to five stages.

        >>> FastCNN.parse("fast-32-128-128")
        {'widths': (32, 128, 128)}
        """
        match = re.fullmatch(r"fast((?:-[1-9]\d*){1,5})", name)
        return {"widths": tuple(map(int, match[1][1:].split("-")))} if match else None

    @classmethod
    def min_size(cls, **numbers: Any) -> int:
        """Whitening takes a pixel, every stage half of what is left.

        >>> FastCNN.min_size(widths=(32, 128, 128))
        9
        """
        num_stages = len(numbers["widths"])
        return int(2**num_stages + 1)

    def __init__(
        self,
        *,
        channels: int,
        num_classes: int,
        widths: tuple[int, ...],
        norm_momentum: float = 0.001,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        num_whitened = 8 * channels  # 4 C directions, each with both signs
        pixels = torch.eye(4 * channels).reshape(4 * channels, channels, 2, 2)
        self.register_buffer("whitening", torch.cat([pixels, -pixels]))  # until `prepare`
        self.whitening: Tensor
        self.shift = nn.Parameter(torch.zeros(num_whitened))
        stages = []
        before = num_whitened
        for width in widths:
            stages += [
                nn.Conv2d(before, width, 3, padding=1, bias=False),
                nn.MaxPool2d(2),
                nn.BatchNorm2d(width, momentum=norm_momentum),
                nn.GELU(),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width, momentum=norm_momentum),
                nn.GELU(),
            ]
            before = width
        self.stages = nn.Sequential(*stages)
        self.num_features = before
        self.classify = nn.Linear(before, num_classes)
        self._initialize(generator)

    def features(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> (N, F), the global maxima, scaled, before the classifier."""
        whitened = F.gelu(F.conv2d(images, self.whitening, self.shift))  # (N, 8 C, H - 1, W - 1)
        return self.stages(whitened).amax(dim=(2, 3)) * SCALE  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> logits (N, K)."""
        return self.classify(self.features(images))  # type: ignore[no-any-return]

    @torch.no_grad()
    def prepare(self, images: Tensor) -> None:
        """Whiten 2 x 2 patches: the eigenvectors of their covariance, scaled, with both signs.

        Source: airbench, after Page's DAWNBench entry; in double precision, signs fixed.
        """
        patches = F.unfold(images.double(), 2).transpose(1, 2).flatten(0, 1)  # (n, 4 C)
        covariance = (patches.T @ patches) / len(patches)  # about 0, as airbench has it
        variances, vectors = torch.linalg.eigh(covariance)  # columns of `vectors`, ascending
        largest = vectors.abs().argmax(dim=0, keepdim=True)
        vectors = vectors * vectors.gather(0, largest).sign()
        directions = (vectors / (variances + EPSILON).sqrt()).T.flip(0)  # (4 C, 4 C)
        filters = directions.reshape(-1, *self.whitening.shape[1:])
        self.whitening.copy_(torch.cat([filters, -filters]))

    @torch.no_grad()
    def _initialize(self, generator: torch.Generator) -> None:
        """Convolutions start as uniform draws, their first filters as the identity (airbench)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                bound = 1 / math.sqrt(9 * module.in_channels)
                module.weight.uniform_(-bound, bound, generator=generator)
                nn.init.dirac_(module.weight[: module.in_channels])
            elif isinstance(module, nn.Linear):
                initialize_linear(module, generator)
