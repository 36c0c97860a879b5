"""Random brightness, contrast, saturation, hue and grayscale, as one matrix product.

N images, 3 channels, H x W pixels.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601
# Red, green and blue to luma and two axes of color, between which hue is an angle (NTSC).
YIQ = (LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


class ColorDraws(NamedTuple):
    """What is random in the colors of N images.

    Attributes:
        brightness, contrast, saturation: factors (N,); 1 changes nothing, saturation 0 is gray.
        hue: angle in radians (N,).
    """

    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor


class ColorJitter:
    """Each of the four is linear in the pixels, so together they are y = M x + b for each image.

    With probability 0.8 the factors are uniform in 1 +- 0.4 and the angle in +-0.1 of a turn; with
    probability 0.2 the image becomes gray: SimCLR's jitter at half strength, as its appendix B.9
    has it for CIFAR-10 (Chen et al. 2020). Values are clipped once, to [-1, 1].

    Deviations: SimCLR shuffles the order of the four and clips after each; hue turns in the YIQ
    plane instead of the HSV hexagon, which keeps luma.

    Args:
        device: where images and draws lie.
    """

    FACTOR, TURN = 0.4, 0.1
    JITTERED, GRAY = 0.8, 0.2  # probabilities

    def __init__(self, *, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._luma = torch.tensor(LUMA, device=self.device)
        yiq = torch.tensor(YIQ, dtype=torch.float64)
        # Rows of the color axes sum to 0: then gray has no color, exactly.
        yiq[1:] -= yiq[1:].mean(dim=1, keepdim=True)
        self._to_yiq = yiq.float().to(self.device)
        self._from_yiq = torch.linalg.inv(yiq).float().to(self.device)

    def draw(self, num: int, generator: torch.Generator) -> ColorDraws:
        """Independent draws for `num` images; `generator` lives on the policy's device."""
        uniform = torch.rand(6, num, generator=generator, device=self.device)
        jittered = uniform[0] < self.JITTERED
        offset = (2 * uniform[2:] - 1) * jittered  # (4, N) in [-1, 1]
        brightness, contrast, saturation = 1 + self.FACTOR * offset[:3]
        saturation = torch.where(uniform[1] < self.GRAY, 0.0, saturation)
        return ColorDraws(brightness, contrast, saturation, 2 * math.pi * self.TURN * offset[3])

    def __call__(self, images: Tensor, draws: ColorDraws) -> Tensor:
        """float32 (N, 3, H, W) in [-1, 1] -> the same shape.

        With gray = luma of a pixel and mean gray over the image, in this order: hue turns; lerp
        from gray by the saturation; multiply (of black = 0) by the brightness; lerp from the mean
        gray by the contrast.
        """
        pixels = images.flatten(2)  # (N, 3, H W)
        matrix = self._matrix(draws)  # (N, 3, 3)
        # Of black at -1: b (p + 1) - 1 = b p + (b - 1).
        offset = (draws.brightness - 1)[:, None].expand(-1, 3)  # (N, 3)
        mean = (matrix @ pixels.mean(dim=2, keepdim=True)).squeeze(2) + offset
        gray = (mean * self._luma).sum(dim=1, keepdim=True)  # (N, 1)
        contrast = draws.contrast[:, None]
        offset = contrast * offset + (1 - contrast) * gray
        out = torch.baddbmm(offset[:, :, None], contrast[:, :, None] * matrix, pixels)
        return out.clamp_(-1, 1).view_as(images)

    def _matrix(self, draws: ColorDraws) -> Tensor:
        """Hue, saturation and brightness (N, 3, 3)."""
        turn = torch.zeros(len(draws.hue), 3, 3, device=self.device)
        turn[:, 0, 0] = 1
        turn[:, 1, 1] = turn[:, 2, 2] = draws.hue.cos()
        turn[:, 2, 1] = draws.hue.sin()
        turn[:, 1, 2] = -turn[:, 2, 1]
        colored = self._from_yiq @ turn @ self._to_yiq
        gray = self._luma.expand(3, 3)
        saturation = draws.saturation[:, None, None]
        colored = saturation * colored + (1 - saturation) * gray
        matrix: Tensor = draws.brightness[:, None, None] * colored
        return matrix
