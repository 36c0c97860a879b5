"""Random crops, mirrored and resized, as two matrix products.

N images, C channels, S x S pixels, Z x Z pixels of the result.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from boss.errors import check_interval


class CropDraws(NamedTuple):
    """What is random in the crops of N images, in pixels of the source.

    Attributes:
        start: (N, 2), top and left edge.
        length: (N, 2), height and width.
        flip: bool (N,), mirror left and right.
    """

    start: Tensor
    length: Tensor
    flip: Tensor


class ResizedCrop:
    """A rectangle of random area and shape, resized by bilinear interpolation.

    The area is uniform in [min_area, 1] of the image and the logarithm of the aspect ratio uniform
    in +-log(4 / 3), as in the Inception crops of SimCLR (Chen et al. 2020, appendix A); sides that
    would exceed the image are cut to it. Interpolation of rows and of columns is a product with a
    matrix each, which takes a CPU less time than a sampler: rows @ image @ columns.

    Deviations from torchvision's RandomResizedCrop: edges are not rounded to pixels, and rectangles
    that do not fit are not drawn again. No antialiasing, as there.

    Args:
        size: height and width of the images in pixels (S).
        out: of the result (Z).
        min_area: share of the image, in (0, 1].
        flip: whether half of the crops are mirrored.
        device: where images and draws lie.

    Raises:
        InputError: `min_area` is out of range.
    """

    def __init__(
        self,
        size: int,
        *,
        out: int,
        min_area: float = 0.2,
        flip: bool = True,
        device: torch.device | str,
    ) -> None:
        check_interval("(0, 1]", min_area=min_area)
        self.size, self.out, self.min_area, self.flip = size, out, min_area, flip
        self.device = torch.device(device)
        self._source = torch.arange(size, dtype=torch.float32, device=self.device)
        self._target = torch.arange(out, dtype=torch.float32, device=self.device) + 0.5

    def draw(self, num: int, generator: torch.Generator) -> CropDraws:
        """Independent draws for `num` images; `generator` lives on the policy's device."""
        area, shape, top, left = torch.rand(4, num, generator=generator, device=self.device)
        coin = torch.randint(2, (num,), generator=generator, device=self.device)
        area = (self.min_area + (1 - self.min_area) * area) * self.size**2
        shape = ((2 * shape - 1) * math.log(4 / 3)).exp()  # width / height
        length = torch.stack([(area / shape).sqrt(), (area * shape).sqrt()], dim=1)
        length = length.clamp(max=self.size)
        start = torch.stack([top, left], dim=1) * (self.size - length)
        return CropDraws(start, length, coin.bool() if self.flip else torch.zeros_like(coin).bool())

    def __call__(self, images: Tensor, draws: CropDraws) -> Tensor:
        """Floating (N, C, S, S) -> (N, C, Z, Z)."""
        rows, columns = self._weights(draws.start, draws.length).unbind(1)  # each (N, Z, S)
        columns = torch.where(draws.flip[:, None, None], columns.flip(1), columns)
        return rows[:, None] @ images @ columns.mT[:, None]

    def _weights(self, start: Tensor, length: Tensor) -> Tensor:
        """How much each source pixel counts for each target pixel: (N, 2) -> (N, 2, Z, S)."""
        position = start[..., None] + length[..., None] * self._target / self.out - 0.5
        position = position.clamp(0, self.size - 1)  # (N, 2, Z), in pixels of the source
        return (1 - (position[..., None] - self._source).abs()).clamp(min=0)
