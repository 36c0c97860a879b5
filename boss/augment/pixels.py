"""From stored pixels to what a network sees.

N images, C channels (1 or 3), H = W = size in pixels.
"""

import torch
from torch import Tensor

from boss.errors import InputError


def to_float(
    images: Tensor, keep: Tensor | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Gray levels 0..255 to [-1, 1] by x * 2 / 255 - 1, as FixMatch's reference code does.

    Computed in float32 and then converted to `dtype`. (For strong views the reference takes
    (x / 255 - 0.5) / 0.5 in float64, which can differ in the last bit of a float32.)

    Args:
        images: uint8 (N, C, H, W).
        keep: bool (N, 1, H, W); where False the result is exactly 0 (mid gray) in all channels.

    Returns:
        (N, C, H, W) of type `dtype`.

    Raises:
        InputError: `images` is not uint8 (already scaled, perhaps).
    """
    if images.dtype != torch.uint8:
        raise InputError(f"expected uint8 images, got {images.dtype}")
    x = images.to(torch.float32)
    if keep is None:
        return x.mul_(2 / 255).sub_(1.0).to(dtype)
    kept = keep.to(torch.float32)
    # (x * 2 / 255 - 1) * kept, in the order that yields +0.0 and never -0.0.
    return x.mul_(kept * (2 / 255)).sub_(kept).to(dtype)


def check_images(images: Tensor, size: int) -> None:
    """Raise InputError unless `images` is uint8 (N, 1 or 3, size, size)."""
    if images.dtype != torch.uint8:
        raise InputError(f"expected uint8 images, got {images.dtype}")
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise InputError(f"expected images (N, 1 or 3, {size}, {size}), got {shape}")
    if shape[2] != shape[3]:
        raise InputError(f"expected square images, got {shape[2]} x {shape[3]} pixels")
    if shape[2] != size:
        raise InputError(f"this policy is for {size} x {size} pixels, got {shape[2]} x {shape[3]}")


def check_size(size: int) -> None:
    """Raise InputError unless squares of `size` pixels are supported: 8 to 256."""
    if not 8 <= size <= 256:
        raise InputError(f"size must be from 8 to 256 pixels, got {size}")
