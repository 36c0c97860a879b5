"""Cutout: a square around a uniform center, clipped at the border (DeVries and Taylor 2017).

N images, S = size in pixels along a side.
"""

import torch
from torch import Tensor

from boss.errors import InputError


class Cutout:
    """Which pixels to cut out of square images.

    Args:
        size: height and width of the images in pixels.
        device: where the centers lie.
        side: of the square in pixels, even; 0 for none; None for min(16, size // 2) rounded down to
            an even number: 16 at 32 and at 96 pixels, as in the reference code of FixMatch.

    Raises:
        InputError: `side` is odd or not from 0 to 2 * size.
    """

    def __init__(self, size: int, *, device: torch.device | str, side: int | None = None) -> None:
        if side is None:
            side = min(16, size // 2) // 2 * 2
        if not (0 <= side <= 2 * size and side % 2 == 0):
            raise InputError(f"cutout must be even and from 0 to {2 * size}, got {side}")
        self.size = size
        self.side = side
        self.device = torch.device(device)
        position = torch.arange(size, device=self.device)
        distance = position - position[:, None]  # (center, position)
        cut = (distance >= -(side // 2)) & (distance < side // 2)
        self._cut = cut.to(torch.uint8)

    def draw(self, num: int, generator: torch.Generator) -> Tensor:
        """Row and column of the center for `num` images, int64 (N, 2)."""
        return torch.randint(self.size, (num, 2), generator=generator, device=self.device)

    def __call__(self, centers: Tensor) -> Tensor:
        """uint8 (N, S, S), 1 where a pixel is cut out."""
        bands = self._cut.index_select(0, centers.flatten()).view(-1, 2, self.size)
        top_to_bottom, left_to_right = bands.unbind(1)  # (N, S), (N, S)
        return top_to_bottom[:, :, None] * left_to_right[:, None, :]
