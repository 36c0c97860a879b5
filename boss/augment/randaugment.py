"""RandAugment as FixMatch coded it, on batches of uint8 images.

N images, C channels (1 or 3), H = W = size in pixels, P = H * W, K operations in a row.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from boss.augment import pillow
from boss.augment.cutout import Cutout
from boss.augment.pixels import check_images, check_size
from boss.errors import InputError

OPERATIONS = (
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "translate_x",
    "translate_y",
    "posterize",
    "shear_y",
)
NUM_LEVELS = 9
# Values (C * H * W for each image) that a CPU handles at a time. Four times as many fit no
# cache, and their temporaries go back to the operating system each time: 1.5 to 3 times slower.
CPU_PIECE = 2**18
ENHANCERS = ("color", "contrast", "brightness", "sharpness")
OPAQUE = ("autocontrast", "equalize", "solarize", "posterize")  # lose the transparency


class StrongDraws(NamedTuple):
    """What is random in a strong augmentation of N images with K operations in a row.

    Attributes:
        operation: int64 (N, K), positions in `OPERATIONS`.
        level: int64 (N, K), 1..9.
        applied: bool (N, K); where False the operation is skipped.
        negate: bool (N, K), the sign of a rotation, shear or translation.
        center: int64 (N, 2), row and column of the center of cutout.
    """

    operation: Tensor
    level: Tensor
    applied: Tensor
    negate: Tensor
    center: Tensor


class RandAugment:
    """Two random operations on each image, then cutout.

    Follows the code of FixMatch (Sohn et al. 2020; reference implementation
    google-research/fixmatch, `--augment d.d.rac`), not the paper's Table 12, which states
    other ranges. For each image, `num_ops` operations are drawn from the 14 with
    replacement, each with a level l from 1 to 9 and applied with probability 0.5. With
    Pillow's names and a random sign s:

    ======================================  ==============================================
    rotate                                  3 l s degrees
    shear_x, shear_y                        0.03 l s
    translate_x, translate_y                int(l min(1, size / 32)) s pixels
    color, contrast, brightness, sharpness  factor 0.18 l + 0.1
    solarize                                threshold 256 - int(25.6 l)
    posterize                               4 - int(0.4 l) bits
    autocontrast, equalize, identity        no argument
    ======================================  ==============================================

    The image travels as RGBA: a rotation, shear or translation (nearest neighbor) fills
    with transparent black; autocontrast, equalize, solarize and posterize see that black
    as part of the image and make it opaque for good; the four enhancers see it and leave
    the transparency. What is transparent in the end becomes exactly 0 in [-1, 1], as does
    a square of `cutout` pixels around a uniform center, clipped at the border.

    A single channel is treated as three equal ones; color is then the identity.

    Each operation, and the whole policy, equals Pillow on uint8 bit for bit. Every image
    passes through every stage (map, lookup table, blend), with the identity where it drew
    something else: shapes are fixed and the host never waits for the device.

    Deviations from the reference:

    * Images stay uint8. The reference takes them to [-1, 1] and back and truncates, which
      lowers 47 of the 256 gray levels by one on entry.
    * The rules for sizes other than 32 and 96: translations shrink below 32 pixels and
      cutout is min(16, size // 2). At 32 and 96 pixels both give the reference's numbers,
      l pixels and 16.

    Args:
        size: height and width of the images in pixels; only squares are supported.
        device: where images and draws lie.
        num_ops: K, operations in a row.
        probability: with which each of them is applied.
        cutout: side of the square in pixels, even; 0 for none; None for min(16, size // 2)
            rounded down to an even number.

    Raises:
        InputError: a value is out of its range; the message states the range.
    """

    def __init__(
        self,
        size: int,
        *,
        device: torch.device | str,
        num_ops: int = 2,
        probability: float = 0.5,
        cutout: int | None = None,
    ) -> None:
        check_size(size)
        if num_ops < 1:
            raise InputError(f"num_ops must be at least 1, got {num_ops}")
        if not 0 <= probability <= 1:
            raise InputError(f"probability must be from 0 to 1, got {probability}")
        cut = Cutout(size, device=device, side=cutout)
        self.size = size
        self.device = torch.device(device)
        self.num_ops = num_ops
        self.probability = probability
        self.cutout = cut.side
        self._tables = _build_tables(size, self.device)
        self._cutout = cut

    def draw(self, num: int, generator: torch.Generator) -> StrongDraws:
        """Independent draws for `num` images; `generator` lives on the policy's device."""
        shape = (num, self.num_ops)

        def integers(low: int, high: int, shape: tuple[int, int]) -> Tensor:
            return torch.randint(low, high, shape, generator=generator, device=self.device)

        return StrongDraws(
            operation=integers(0, len(OPERATIONS), shape),
            level=integers(1, NUM_LEVELS + 1, shape),
            applied=torch.rand(shape, generator=generator, device=self.device) < self.probability,
            negate=integers(0, 2, shape).to(torch.bool),
            center=self._cutout.draw(num, generator),
        )

    def __call__(self, images: Tensor, draws: StrongDraws) -> tuple[Tensor, Tensor]:
        """Transform each image as drawn.

        Args:
            images: uint8 (N, C, size, size), left as they are.
            draws: for these N images.

        Returns:
            uint8 (N, C, size, size), and keep, bool (N, 1, size, size): False where the
            pixel is to become 0 in [-1, 1], which `to_float` sees to.

        Raises:
            InputError: type or shape of `images` does not fit.
        """
        check_images(images, self.size)
        assert draws.operation.shape == (len(images), self.num_ops), "one draw per image"
        code = draws.level + NUM_LEVELS * draws.operation - 1
        code = (2 * code + draws.negate) * draws.applied  # (N, K); code 0 is the identity
        piece = max(1, len(images))
        if images.device.type == "cpu":
            piece = max(1, CPU_PIECE // images.shape[1:].numel())
        parts = [
            self._operate(*part)
            for part in zip(torch.split(images, piece), torch.split(code, piece), strict=True)
        ]
        images = torch.cat([part for part, _ in parts])
        alpha = torch.cat([part for _, part in parts])
        cut = self._cutout(draws.center)  # (N, H, W)
        keep = (alpha.view_as(cut) > cut)[:, None]
        return images, keep

    def _operate(self, images: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """All K operations; code (N, K); images and alpha as in `_apply`."""
        alpha = None
        for step in code.unbind(1):
            images, alpha = self._apply(images, alpha, step)
        assert alpha is not None, "there is at least one operation"
        return images, alpha

    def _apply(self, images: Tensor, alpha: Tensor | None, code: Tensor) -> tuple[Tensor, Tensor]:
        """One operation for each image.

        Args:
            images: uint8 (N, C, H, W).
            alpha: uint8 (N, 1, P), 1 opaque, 0 transparent; None if all is opaque.
            code: int64 (N,), operation, level and sign, as in `_Tables`.
        """
        tables = self._tables
        shape = images.shape
        num, channels = shape[:2]
        rows = tables.rows.index_select(0, code)  # (N, 5)
        source, lookup, factor, is_autocontrast, is_equalize = rows.unbind(1)
        weights = tables.weights.index_select(0, code)[:, :, None, None]  # (N, 4, 1, 1)
        by_gray, by_mean, by_smooth, opaque = weights.unbind(1)

        index = tables.source.index_select(0, source)[:, None]  # (N, 1, P)
        inside = tables.inside.index_select(0, source)[:, None]
        x = images.flatten(2).gather(2, index.expand(-1, channels, -1)).mul_(inside)  # (N, C, P)
        alpha = inside if alpha is None else alpha.gather(2, index).mul_(inside)
        alpha.bitwise_or_(opaque.to(torch.uint8))

        low, high = pillow.extremes(x)  # (N, C)
        lookup = lookup[:, None] + is_autocontrast[:, None] * pillow.autocontrast_row(low, high)
        table = tables.lookup.index_select(0, lookup.flatten()).view(num, channels, 256)
        levels = x.to(torch.int64)
        table = pillow.equalize_tables(levels, high, is_equalize[:, None] > 0, table)
        x = table.gather(2, levels)

        smooth = pillow.smooth(x.view(shape))
        x_float = x.to(torch.float32)
        gray = pillow.gray(x_float)  # (N, 1, P)
        mean = pillow.mean_level(gray)  # (N, 1, 1)
        degenerate = smooth.mul_(by_smooth).add_(gray * by_gray + mean * by_mean)
        x = pillow.blend(degenerate, x_float, tables.factor.index_select(0, factor)[:, None])
        return x.view(shape), alpha


class _Tables(NamedTuple):
    """What each of the 252 codes means; code = 2 (9 operation + level - 1) + negate.

    Attributes:
        source: int64 (M, P), M maps from a pixel to its source; map 0 is the identity.
        inside: uint8 (M, P), 0 where the source lies outside of the image.
        lookup: uint8 (T, 256), tables that depend on nothing but the code, 0 being the
            identity; then those of autocontrast.
        factor: float32 (B, P), factors of a blend for each pixel; 0 is the identity.
        rows: int64 (252, 5), rows of `source`, `lookup` and `factor`; 1 if autocontrast;
            1 if equalize.
        weights: float32 (252, 4), how much of the degenerate image is the gray image, the
            mean and the smoothed image; 1 if the operation makes the image opaque.
    """

    source: Tensor
    inside: Tensor
    lookup: Tensor
    factor: Tensor
    rows: Tensor
    weights: Tensor


@functools.lru_cache(maxsize=4)  # one after another, a process serves many runs
def _build_tables(size: int, device: torch.device) -> _Tables:
    maps = [pillow.affine_map((1, 0, 0, 0, 1, 0), size)]
    lookups = [torch.arange(256).to(torch.uint8)]
    factors = [torch.ones(size, size)]
    rows, weights = [], []
    num_static = 1 + 2 * 2 * NUM_LEVELS  # identity; solarize and posterize
    for name in OPERATIONS:
        for level in range(1, NUM_LEVELS + 1):
            for sign in (1, -1):
                source = lookup = factor = 0
                matrix = _matrix(name, level, sign, size)
                if matrix is not None:
                    source = len(maps)
                    maps.append(pillow.affine_map(matrix, size))
                if name == "solarize":
                    lookup = len(lookups)
                    lookups.append(pillow.solarize_table(256 - int(level * 256 / 10)))
                elif name == "posterize":
                    lookup = len(lookups)
                    lookups.append(pillow.posterize_table(4 - int(level * 4 / 10)))
                elif name == "autocontrast":
                    lookup = num_static
                elif name in ENHANCERS:
                    factor = len(factors)
                    factors.append(_factors(name, level, size))
                rows.append([source, lookup, factor, name == "autocontrast", name == "equalize"])
                weights.append(
                    [name == "color", name == "contrast", name == "sharpness", name in OPAQUE]
                )
    assert len(lookups) == num_static
    return _Tables(
        source=torch.stack([source for source, _ in maps]).to(device),
        inside=torch.stack([inside for _, inside in maps]).to(torch.uint8).to(device),
        lookup=torch.cat([torch.stack(lookups), pillow.autocontrast_tables()]).to(device),
        factor=torch.stack(factors).flatten(1).to(device),
        rows=torch.tensor(rows, dtype=torch.int64).to(device),
        weights=torch.tensor(weights, dtype=torch.float32).to(device),
    )


def _matrix(name: str, level: int, sign: int, size: int) -> pillow.Matrix | None:
    """The affine matrix of an operation, None if it moves no pixels."""
    shear = sign * (level * 0.3 / 10)
    shift = sign * int(level * min(1, size / 32))
    match name:
        case "rotate":
            return pillow.rotation(sign * int(level * 30 / 10), size)
        case "shear_x":
            return (1, shear, 0, 0, 1, 0)
        case "shear_y":
            return (1, 0, 0, shear, 1, 0)
        case "translate_x":
            return (1, 0, shift, 0, 1, 0)
        case "translate_y":
            return (1, 0, 0, 0, 1, shift)
        case _:
            return None


def _factors(name: str, level: int, size: int) -> Tensor:
    """The factor of a blend for each pixel, float32 (H, W)."""
    factors = torch.full((size, size), level * 1.8 / 10 + 0.1)
    if name == "sharpness":
        # Pillow's filters leave the border alone.
        border = torch.ones(size, size)
        border[1:-1, 1:-1] = factors[1:-1, 1:-1]
        return border
    return factors
