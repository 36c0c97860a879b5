"""Weak augmentation: flip, reflect-pad, crop.

N images, C channels (1 or 3), H = W = size in pixels, p the padding.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from boss.augment.pixels import check_images, check_size
from boss.errors import InputError


class WeakDraws(NamedTuple):
    """What is random in a weak augmentation of N images.

    Attributes:
        flip: bool (N,), mirror left and right before padding.
        offset: int64 (N, 2), top and left corner of the crop in the padded image, 0..2p.
    """

    flip: Tensor
    offset: Tensor


class Weak:
    """Mirror with probability 0.5, pad by reflection, crop back to the same size.

    The padding is size // 8: 4 at 32 pixels and 12 at 96, as in FixMatch (Sohn et al. 2020;
    reference implementation google-research/fixmatch, libml/augment.py), and 1 at 8. All
    (2p + 1)^2 crops are equally likely.

    The whole transform is one gather: row and column of a source pixel are independent, so
    two small tables, of 2p + 1 rows and of 2(2p + 1) (offset and flip) columns, add up to it.

    Args:
        size: height and width of the images in pixels; only squares are supported.
        flip: whether mirroring is part of the policy (not for SVHN: digits are not symmetric).
        device: where images and draws lie.
        pad: by how many pixels, 0 to size - 1; None for size // 8.

    Raises:
        InputError: `size` is not from 8 to 256, or `pad` out of its range.
    """

    def __init__(
        self, size: int, *, flip: bool, device: torch.device | str, pad: int | None = None
    ) -> None:
        check_size(size)
        if pad is not None and not 0 <= pad < size:
            raise InputError(f"pad must be from 0 to {size - 1}, got {pad}")
        self.size = size
        self.flip = flip
        self.pad = size // 8 if pad is None else pad
        self.device = torch.device(device)
        shift = torch.arange(2 * self.pad + 1)[:, None]
        source = (torch.arange(size) + shift - self.pad).abs()  # (2p + 1, size)
        source = torch.minimum(source, 2 * (size - 1) - source)
        self._rows = (source * size).to(self.device)
        self._columns = torch.cat([source, size - 1 - source]).to(self.device)

    def draw(self, num: int, generator: torch.Generator) -> WeakDraws:
        """Independent draws for `num` images; `generator` lives on the policy's device."""
        offset = torch.randint(2 * self.pad + 1, (num, 2), generator=generator, device=self.device)
        if not self.flip:
            return WeakDraws(torch.zeros(num, dtype=torch.bool, device=self.device), offset)
        coin = torch.randint(2, (num,), generator=generator, device=self.device)
        return WeakDraws(coin.to(torch.bool), offset)

    def __call__(self, images: Tensor, draws: WeakDraws) -> Tensor:
        """uint8 (N, C, size, size) -> the same shape and type, a new tensor.

        Raises:
            InputError: type or shape of `images` does not fit.
        """
        check_images(images, self.size)
        assert draws.flip.shape == images.shape[:1], "one draw per image"
        num, channels = images.shape[:2]
        top, left = draws.offset.unbind(1)
        rows = self._rows.index_select(0, top)  # (N, H)
        columns = self._columns.index_select(0, left + draws.flip * (2 * self.pad + 1))
        index = (rows[:, :, None] + columns[:, None, :]).view(num, 1, -1)  # (N, 1, H * W)
        out = images.flatten(2).gather(2, index.expand(-1, channels, -1))
        return out.view_as(images)
