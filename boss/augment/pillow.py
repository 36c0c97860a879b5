"""Pillow's 8-bit arithmetic on batches, bit for bit (Pillow 10 to 13; needs no Pillow).

N images, C channels (1 or 3), H = W = size in pixels, P = H * W; images are uint8 or hold
whole gray levels in float32, so that every sum below is exact.

A map is a source pixel for each pixel of the result (P,), with a flag that says whether it
lies inside the image. A lookup table is one new gray level for each of the 256 old ones.
"""

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

Matrix = tuple[float, float, float, float, float, float]


def rotation(degrees: int, size: int) -> Matrix:
    """The matrix of Image.rotate: from a pixel of the result to its source, about the center."""
    angle = -math.radians(degrees % 360)
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    center = size / 2
    dx = cos * -center + sin * -center + center
    dy = -sin * -center + cos * -center + center
    return (cos, sin, dx, -sin, cos, dy)


def affine_map(matrix: Matrix, size: int) -> tuple[Tensor, Tensor]:
    """The nearest-neighbor map of Image.transform(..., AFFINE, matrix), fill 0.

    Pillow walks the pixel centers in 16.16 fixed point.

    Returns:
        int64 (P,), the source pixel or 0 where it is outside; bool (P,), inside.
    """
    a, b, c, d, e, f = matrix

    def fixed(value: float) -> int:
        return math.floor(value * 65536 + 0.5)

    step = torch.arange(size)
    row, column = step[:, None], step[None, :]
    x = (fixed(c + a * 0.5 + b * 0.5) + fixed(a) * column + fixed(b) * row) >> 16
    y = (fixed(f + d * 0.5 + e * 0.5) + fixed(d) * column + fixed(e) * row) >> 16
    inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
    return torch.where(inside, y * size + x, 0).flatten(), inside.flatten()


def solarize_table(threshold: int) -> Tensor:
    """ImageOps.solarize: gray levels from `threshold` on are inverted; uint8 (256,)."""
    value = torch.arange(256)
    return torch.where(value < threshold, value, 255 - value).to(torch.uint8)


def posterize_table(bits: int) -> Tensor:
    """ImageOps.posterize: the upper `bits` bits are kept; uint8 (256,)."""
    return (torch.arange(256) & ~((1 << (8 - bits)) - 1)).to(torch.uint8)


@functools.cache
def autocontrast_tables() -> Tensor:
    """ImageOps.autocontrast for each darkest and lightest gray level that a channel can have.

    The table is fixed by these two levels. Pillow truncates a product in double precision,
    which now and then falls just short of a whole number; looked up, that is the same on
    every device.

    Returns:
        uint8 (32896, 256); the row of (low, high) is `autocontrast_row`. 8.4 MB.
    """
    value = torch.arange(256, dtype=torch.float64)
    white = torch.tensor(255.0, dtype=torch.float64)  # a number would be multiplied by 1 / range
    tables = []
    for high in range(256):
        low = torch.arange(high, dtype=torch.float64)[:, None]
        scale = white / (high - low)
        stretched = (value * scale + (-low * scale)).trunc().clamp(0, 255)
        tables += [stretched, value[None]]  # low == high: left alone
    return torch.cat(tables).to(torch.uint8)


def autocontrast_row(low: Tensor, high: Tensor) -> Tensor:
    """Where `autocontrast_tables` has the table for int64 levels low <= high, of any shape."""
    return high * (high + 1) // 2 + low


def equalize_tables(levels: Tensor, high: Tensor, where: Tensor, otherwise: Tensor) -> Tensor:
    """ImageOps.equalize for the channels that are to be equalized.

    Args:
        levels: int64 (N, C, P), the gray levels.
        high: int64 (N, C), the highest of them.
        where: bool (N, 1), the images to equalize.
        otherwise: uint8 (N, C, 256), the tables of the others. For those to equalize it must
            be the identity: Pillow leaves a channel alone that has too few pixels (under 255)
            below its highest level.

    Returns:
        uint8 (N, C, 256).
    """
    num, channels, pixels = levels.shape
    histogram = torch.zeros((num, channels, 256), dtype=torch.int32, device=levels.device)
    one = torch.ones((1, 1, 1), dtype=torch.int32, device=levels.device)
    histogram.scatter_add_(2, levels, one.expand_as(levels))
    step = (pixels - histogram.gather(2, high[:, :, None])) // 255  # (N, C, 1)
    darker = histogram.cumsum(2, dtype=torch.int32).sub_(histogram)
    # The quotient of whole numbers below 2^17 is never rounded up to a whole number.
    table = darker.add_(step // 2) / step.clamp(min=1)
    table = table.clamp_(max=255).to(torch.int16).to(torch.uint8)
    # torch.where, in uint8 arithmetic modulo 256, which is 4 times faster on a CPU.
    chosen = (where[:, :, None] & (step > 0)).to(torch.uint8)
    return table.sub_(otherwise).mul_(chosen).add_(otherwise)


def gray(x: Tensor) -> Tensor:
    """Image.convert("L"): float32 (N, C, P) -> float32 (N, 1, P); one channel is its own gray.

    Pillow's weights are fractions of 2^16, and 2^16 * 255.5 < 2^24: exact in float32.
    """
    if x.shape[1] == 1:
        return x
    red, green, blue = x[:, 0:1], x[:, 1:2], x[:, 2:3]
    total = (red * 19595).add_(green, alpha=38470).add_(blue, alpha=7471).add_(32768)
    return total.mul_(2**-16).floor_()


def mean_level(luminance: Tensor) -> Tensor:
    """The mean gray level as ImageEnhance.Contrast rounds it: (N, 1, P) -> (N, 1, 1), float32."""
    pixels = luminance.shape[2]
    total = luminance.sum(2, keepdim=True).to(torch.int64)
    return ((2 * total + pixels) // (2 * pixels)).to(torch.float32)


def smooth(images: Tensor) -> Tensor:
    """ImageFilter.SMOOTH inside of the border: weights 1 and 5 (center) out of 13, rounded.

    The sums run over the flat batch, so what they give ON the border (which Pillow leaves
    alone) mixes rows and images: it is a whole number from 0 to 255 that means nothing.

    Args:
        images: uint8 (N, C, H, W).

    Returns:
        float32 (N, C, P).
    """
    width = images.shape[3]
    x = images.flatten().to(torch.int16)
    padded = F.pad(x, (width + 1, width + 1))
    across = padded[:-2] + padded[1:-1]
    across += padded[2:]
    total = across[: -2 * width] + across[width:-width]
    total += across[2 * width :]
    total.add_(x, alpha=4)
    # (total + 6.5) / 13 is at least 1 / 26 away from a whole number: safe to truncate.
    out = total.to(torch.float32).mul_(1 / 13).add_(0.5).floor_()
    return out.view(*images.shape[:2], -1)


def blend(degenerate: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    """Image.blend, of which all of ImageEnhance consists: truncated, clipped to 0..255.

    With factor 1 the result is x, exactly, whatever whole number the degenerate holds.
    Product and sum are rounded one after the other, as in Pillow built for x86-64. Where a
    compiler fuses the two (Pillow on Arm; a fusing compiler here), 0.3% of all pairs of gray
    levels differ by 1 at the factors 1.36 and 1.72, and none at the other seven.

    Args:
        degenerate: float32 (N, C, P), whole gray levels.
        x: float32 (N, C, P), whole gray levels; overwritten.
        factor: float32 (N, 1, P).

    Returns:
        uint8 (N, C, P).
    """
    out = x.sub_(degenerate).mul_(factor).add_(degenerate)
    # By way of int16, because float32 to uint8 is 3 times slower than both steps on a CPU.
    return out.to(torch.int16).clamp_(0, 255).to(torch.uint8)
