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
    which now and then falls just short of an integer; looked up, that is the same on
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


def extremes(x: Tensor) -> tuple[Tensor, Tensor]:
    """The darkest and the lightest gray level of each channel.

    Args:
        x: uint8 (N, C, P).

    Returns:
        int64 (N, C), twice.
    """
    # Not of uint8, whose smallest value torch.compile gets wrong on CPUs (torch 2.15).
    wide = x.to(torch.int16)
    return wide.amin(2).to(torch.int64), wide.amax(2).to(torch.int64)


def equalize_tables(levels: Tensor, high: Tensor, where: Tensor, otherwise: Tensor) -> Tensor:
    """ImageOps.equalize for the channels to be equalized.

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
    # floor(a / b) of whole numbers as (a + 1/2) / b, which is at least 1 / 2b away from any whole
    # number: so the division need not be rounded correctly, which some compilers do not see to.
    table = darker.add_(step // 2).to(torch.float32).add_(0.5).div_(step.clamp(min=1))
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
    alone) mixes rows and images: it is an integer from 0 to 255 that means nothing.

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
    # (total + 6.5) / 13 is at least 1 / 26 away from an integer: safe to truncate.
    out = total.to(torch.float32).mul_(1 / 13).add_(0.5).floor_()
    return out.view(*images.shape[:2], -1)


def blend(degenerate: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    """Image.blend, of which all of ImageEnhance consists: truncated, clipped to 0..255.

    With factor 1 the result is x, exactly, whatever integer the degenerate holds.
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


def fixed_matrix(matrix: Matrix) -> tuple[int, ...]:
    """A matrix as Image.transform(..., AFFINE) walks it, in 16.16 fixed point.

    Returns:
        x per column, x per row, x at the center of the first pixel; and the same of y. The
        identity is (65536, 0, 32768, 0, 65536, 32768).
    """
    a, b, c, d, e, f = matrix
    values = (a, b, c + a * 0.5 + b * 0.5, d, e, f + d * 0.5 + e * 0.5)
    return tuple(math.floor(value * 65536 + 0.5) for value in values)


def affine_source(fixed: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """`affine_map` with a matrix of its own for each image, TRANSPOSED: column by column.

    Args:
        fixed: int32 (N, 6), as from `fixed_matrix`.

    Returns:
        int64 (N, 1, P), the source of pixel (column, row), or 0 where it is outside; uint8
        (N, 1, P), 1 inside.
    """
    position = torch.arange(size, dtype=torch.int32, device=fixed.device)
    by_column, by_row, start = fixed.view(-1, 2, 3, 1).unbind(2)  # (N, 2, 1), of x and y
    across, down = (by_column * position).add_(start), by_row * position  # (N, 2, size)
    source = across[:, :, :, None] + down[:, :, None, :]  # (N, 2, W, H)
    source = source.bitwise_right_shift_(16).flatten(2)
    # Negative if x, y, size - 1 - x or size - 1 - y is: the sign bit, spread, is -1 or 0.
    outside = (size - 1 - source).bitwise_or_(source)
    outside = (outside[:, :1] | outside[:, 1:]).bitwise_right_shift_(31)  # (N, 1, P)
    index = torch.add(source[:, :1], source[:, 1:], alpha=size)
    inside = (outside + 1).to(torch.uint8)
    return index.bitwise_and_(outside.bitwise_not_()).to(torch.int64), inside


RESAMPLING = ("lanczos", "bicubic", "bilinear", "box", "hamming", "nearest")


def _filter(name: str, x: float) -> float:
    """The weight that a filter of Image.resize gives to a pixel at distance x."""
    if name == "box":
        return 1.0 if -0.5 < x <= 0.5 else 0.0
    x = abs(x)
    if name == "bilinear":
        return 1.0 - x if x < 1 else 0.0
    if name == "hamming":
        if x == 0:
            return 1.0
        angle = x * math.pi
        return math.sin(angle) / angle * (0.54 + 0.46 * math.cos(angle)) if x < 1 else 0.0
    if name == "bicubic":
        if x < 1:
            return (1.5 * x - 2.5) * x * x + 1
        return (((x - 5) * x + 8) * x - 4) * -0.5 if x < 2 else 0.0
    assert name == "lanczos"
    if x == 0:
        return 1.0
    angle, third = x * math.pi, x / 3 * math.pi
    return math.sin(angle) / angle * (math.sin(third) / third) if x < 3 else 0.0


SUPPORT = {"lanczos": 3.0, "bicubic": 2.0, "bilinear": 1.0, "box": 0.5, "hamming": 1.0}


@functools.cache
def _taps(source: int, target: int, name: str) -> tuple[list[int], list[list[int]]]:
    """Image.resize of one dimension from `source` to `target` >= `source` pixels.

    Returns:
        For each pixel of the result the first pixel that it is made of, and the weights of this
        and the following ones, in fractions of 2^22.
    """
    assert source <= target, "filters widen where an image shrinks, which nothing here does"
    scale = source / target
    starts: list[int] = []
    weights: list[list[int]] = []
    if name == "nearest":
        position = scale * 0.5
        for _ in range(target):
            starts.append(int(position))
            weights.append([1 << 22])
            position += scale
        return starts, weights
    for pixel in range(target):
        center = (pixel + 0.5) * scale
        start = max(0, int(center - SUPPORT[name] + 0.5))
        stop = min(source, int(center + SUPPORT[name] + 0.5))
        row = [_filter(name, x - center + 0.5) for x in range(start, stop)]
        total = sum(row)
        starts.append(start)
        weights.append([math.trunc(w / total * (1 << 22) + math.copysign(0.5, w)) for w in row])
    return starts, weights


def resample_tables(boxes: list[tuple[int, int]], size: int) -> tuple[Tensor, Tensor]:
    """Image.crop(box).resize((size, size), filter) along one dimension, as `resample` takes it.

    Args:
        boxes: M times the first pixel inside of the box and the first after it. Where that is the
            whole image, or does not fit into it, the result is the image itself.

    Returns:
        For each box and, within, each filter of RESAMPLING: int64 (6 M, size), for each pixel of
        the result the first of the pixels that it is made of; float32 (6 M, 2, size, T), the
        weights of this one and the T - 1 following ones in fractions of 2^11, cut in two: an
        integer, and the rest, from 0 to 1 - 2^-11.
    """
    identity = list(range(size)), [[1 << 22]] * size
    found = []
    for low, high in boxes:
        inside = 0 <= low < high <= size and high - low < size
        for name in RESAMPLING:
            starts, weights = _taps(high - low, size, name) if inside else identity
            found.append(([low + s if inside else s for s in starts], weights))
    num_taps = max(len(row) for _, weights in found for row in weights)
    first = torch.empty((len(found), size), dtype=torch.int64)
    table = torch.empty((len(found), size, num_taps), dtype=torch.int64)
    for row, (starts, weights) in enumerate(found):
        # The T pixels must all lie in the image, so no check is needed.
        clipped = [min(start, size - num_taps) for start in starts]
        first[row] = torch.tensor(clipped)
        table[row] = torch.tensor(
            [
                ([0] * (start - clip) + taps + [0] * num_taps)[:num_taps]
                for start, clip, taps in zip(starts, clipped, weights, strict=True)
            ]
        )
    return first, torch.stack([table >> 11, (table & 2047) / 2**11], 1).to(torch.float32)


def resample(x: Tensor, first: Tensor, weights: Tensor) -> Tensor:
    """Image.crop(box).resize((size, size), filter) with a box and a filter for each image.

    Pillow sums in 32 bits, first across columns, then across rows, and rounds and clips after
    each. Here the weights are cut in two, so that every sum is one that float32 holds exactly.
    `embedding_bag` is torch's sum of weighted rows, in one go.

    Args:
        x: float32 (N, C, W, H), whole gray levels, TRANSPOSED.
        first: int64 (N, size), and weights: float32 (N, 2, size, T), from `resample_tables`.

    Returns:
        float32 (N, C, H, W), whole gray levels.
    """
    num, channels, size, _ = x.shape
    taps = torch.arange(weights.shape[3], device=x.device)
    lines = size * torch.arange(num * channels, device=x.device).view(num, channels, 1, 1)
    index = (lines + (first[:, :, None] + taps)[:, None]).flatten()  # (N C size T,)
    offset = torch.arange(0, index.numel(), len(taps), device=x.device)
    shape = (-1, -1, channels, -1, -1)
    upper, lower = weights[:, :, None].expand(shape).transpose(0, 1).reshape(2, -1)
    half = torch.full((), 0.5, device=x.device)

    def across(lines: Tensor) -> Tensor:
        """(N, C, size, M): lines of M pixels to as many others, each a sum of T weighted lines."""
        flat = lines.view(-1, size)
        high = torch.embedding_bag(flat, index, offset, per_sample_weights=upper)[0]
        low = torch.embedding_bag(flat, index, offset, per_sample_weights=lower)[0]
        # floor((2^11 high + low + 2^21) / 2^22), where low is a multiple of 2^-11 already.
        total = torch.add(half, low.floor_().add_(high), alpha=2**-11)
        return total.floor_().clamp_(0, 255).view_as(lines)

    return across(across(x).transpose(2, 3).contiguous())


def filtered(x: Tensor, kernel: Tensor, divide: Tensor) -> Tensor:
    """A filter of its own for each image, of the family to which SMOOTH and BLUR belong.

    The sum of the 3 x 3 pixels around each, of the 5 x 5 pixels, and the pixel, each times a
    factor; that divided, and rounded. The sums run over the flat batch, so those nearer to the
    border than 1 or 2 pixels, which Pillow leaves alone, mix rows and images: finite, but they
    mean nothing.

    Args:
        x: float32 (N, C, H, W), whole gray levels.
        kernel: int16 (N, 3), the factors: SMOOTH is (1, 0, 4), BLUR (-1, 1, 0).
        divide: float32 (N,), 1 by the sum of weights: 13 and 16.

    Returns:
        float32 (N, C, P).
    """
    num, channels, height, width = x.shape
    margin = 2 * width + 2
    padded = torch.zeros(x.numel() + 2 * margin, dtype=torch.int16, device=x.device)
    center = padded[margin:-margin]
    center.copy_(x.flatten())
    three = padded[1:-3] + padded[2:-2]
    three += padded[3:-1]
    five = three + padded[:-4]
    five += padded[4:]
    small = three[width : -3 * width] + three[2 * width : -2 * width]
    small += three[3 * width : -width]
    pairs = five[:-width] + five[width:]
    large = pairs[: -3 * width] + pairs[2 * width : -width]
    large += five[4 * width :]
    total, large, center = (t.view(num, channels, height * width) for t in (small, large, center))
    by_small, by_large, by_center = kernel[:, :, None, None].unbind(1)
    total.mul_(by_small).addcmul_(large, by_large).addcmul_(center, by_center)
    # As in `smooth`: a 13th is far enough from where rounding changes.
    return total.to(torch.float32).mul_(divide[:, None, None]).add_(0.5).floor_()
