"""CTAugment: learns, as the network trains, which strengths of an operation it still recognizes.

N images, C channels (1 or 3), H = W = size in pixels, P = H * W, K operations in a row,
M = N * K.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from boss.augment import pillow
from boss.augment.pixels import check_images, check_size
from boss.augment.randaugment import CPU_PIECE
from boss.errors import InputError, choose

# Operation -> into how many bins each of its parameters is divided.
BINS: dict[str, tuple[int, ...]] = {
    "autocontrast": (17,),
    "blur": (17,),
    "brightness": (17,),
    "color": (17,),
    "contrast": (17,),
    "cutout": (17,),
    "equalize": (17,),
    "invert": (17,),
    "identity": (),
    "posterize": (8,),
    "rescale": (17, 6),
    "rotate": (17,),
    "sharpness": (17,),
    "shear_x": (17,),
    "shear_y": (17,),
    "smooth": (17,),
    "solarize": (17,),
    "translate_x": (17,),
    "translate_y": (17,),
}
OPERATIONS = tuple(BINS)
NUM_PARAMETERS, NUM_BINS = 2, 17  # at most
MAX_ANGLE = 45
FILL = 127  # the gray of cutout
# Lookup tables: the identity, the inversion, then those of two operations by argument.
INVERT, POSTERIZE, SOLARIZE, AUTOCONTRAST = 1, 2, 10, 266


class CTADraws(NamedTuple):
    """What is random in an augmentation of N images with K operations in a row.

    Attributes:
        operation: int64 (N, K), positions in `OPERATIONS`.
        level: float64 (N, K, 2), in [0, 1], of both parameters; without meaning where an
            operation has fewer.
        center: int64 (N, K + 1, 2), row and column of the center of cutout: where it is an
            operation, and of the final one.
        final: bool (N,), whether there is a final cutout.
    """

    operation: Tensor
    level: Tensor
    center: Tensor
    final: Tensor


class CTAugment:
    """Random operations on each image, of strengths that are learned, then cutout.

    Introduced with ReMixMatch (Berthelot et al. 2020, section 3.2); this follows the code of
    FixMatch (Sohn et al. 2020; google-research/fixmatch, libml/ctaugment.py), which differs
    from the paper where said below.

    Each parameter of an operation has a level l from 0 to 1, cut into bins, and each bin has a
    rate, at first 1. Training images get `depth` operations, each drawn uniformly from the 19
    with replacement. Of each of its parameters, p = rate + (1 - decay), divided by the largest
    p of the parameter, is set to 0 below `threshold`; a bin i of the n is drawn in proportion
    to p, and l = (i + U) / n with U uniform in [0, 1). Finally a cutout with level 1 is applied.

    The rates are learned on probes: labeled images under `depth` operations with uniform
    levels, without the final cutout, that nothing is trained on. With the probability that the
    averaged network gives to the true class of a probe (its proximity),

        rate <- decay rate + (1 - decay) proximity

    for each parameter that was used, in the bin int(0.999 n l). (So the lowest levels of a bin,
    up to 1.6% of those of the 17th, count for the bin before.)

    With Pillow's names, a second parameter m, and Image.blend(x, operation(x), l) for five:

    ======================================  ==================================================
    color, contrast, brightness, sharpness  factor 0.1 + 1.9 l
    autocontrast, equalize, invert          blend
    blur, smooth                            blend
    posterize                               1 + int(7.999 l) bits
    solarize                                threshold int(255.999 l)
    rotate                                  round(45 (2l - 1)) degrees
    shear_x, shear_y                        0.3 (2l - 1)
    translate_x, translate_y                0.3 (2l - 1) pixels, or of the side: `translation`
    rescale                                 crop 0.25 l of the side at each border, resize with
                                            the filter int(5.99 m) of `pillow.RESAMPLING`
    cutout                                  a square of 2 (s // 2) pixels, s = 1 + int(0.499 l
                                            size), around a uniform center, clipped at the
                                            border, becomes 127
    identity                                no parameter
    ======================================  ==================================================

    Rotation, shear and translation take the nearest neighbor and fill with black. A single
    channel is treated as three equal ones; color is then the identity.

    Each operation, and the whole policy, equals Pillow on uint8 bit for bit where product and
    sum of a blend are rounded one after the other, as Pillow built for x86-64 and torch's
    operators do; where a compiler fuses the two, single pixels differ by one gray level. Levels
    and what is computed of them are float64, as in Python. Every image passes through every
    stage (maps, filters, lookup tables), with the identity where it drew something else: shapes
    are fixed and the host never waits for the device.

    Deviations from the reference:

    * Rates are current ones. The reference prepares batches ahead, so that its policies use
      rates of about 4 steps ago, and holds them in float32.
    * Images stay uint8. The reference takes them to [-1, 1] and back and rounds, which is the
      same.

    Attributes:
        rates: float64 (19, 2, 17), of operation, parameter and bin; 0 where there is no such
            parameter or bin. `update` changes it in place.

    Args:
        size: height and width of the images in pixels; only squares are supported.
        device: where images, draws and rates lie.
        depth: K, operations in a row.
        threshold: from 0 to 1; bins below it are not drawn.
        decay: how much of a rate one update keeps, from 0 to less than 1.
        cutout: whether training images get the final cutout, of 16 pixels at 32 and 48 at 96.
        translation: "reference", by up to 0.3 pixels, which moves nothing: the code passes a
            fraction where Pillow takes pixels. "paper", by up to 0.3 of the side (Table 13).

    Raises:
        InputError: a value is out of its range; the message states range or choices.
    """

    def __init__(
        self,
        size: int,
        *,
        device: torch.device | str,
        depth: int = 2,
        threshold: float = 0.80,
        decay: float = 0.99,
        cutout: bool = True,
        translation: str = "reference",
    ) -> None:
        check_size(size)
        if depth < 1:
            raise InputError(f"depth must be at least 1, got {depth}")
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold must be from 0 to 1, got {threshold}")
        if not 0 <= decay < 1:
            raise InputError(f"decay must be from 0 to less than 1, got {decay}")
        units = {"reference": 1, "paper": size}
        self.size = size
        self.device = torch.device(device)
        self.depth = depth
        self.threshold = threshold
        self.decay = decay
        self.cutout = cutout
        self.translation = translation
        self._unit = choose(translation, units, what="translation")  # of a shift, in pixels
        self._tables = _build_tables(size, self.device)
        self.rates = self._tables.exists.to(torch.float64)

    # Draws and rates ----------------------------------------------------------------------

    def draw(self, num: int, generator: torch.Generator) -> CTADraws:
        """Independent draws for `num` training images, with levels as the rates say.

        `generator` lives on the policy's device.
        """
        operation, uniform, center = self._draw(num, generator)
        rows = NUM_PARAMETERS * operation[:, :, None] + self._tables.parameters  # (N, K, 2)
        p = (self.rates + (1 - self.decay)).mul_(self._tables.exists)
        p = p / p.amax(2, keepdim=True).clamp(min=1 - self.decay)
        p = torch.where(p < self.threshold, 0.0, p).flatten(0, 1)
        # Whole numbers, so that sums are exact in whatever order a device adds: a bin that has
        # no share gets no ticket.
        tickets = (p * 2**32).round_().to(torch.int64).cumsum(1)
        tickets = tickets.index_select(0, rows.flatten())  # (2 M, 17)
        drawn = tickets[:, -1:] * self._uniform((rows.numel(), 1), generator)
        bins = (tickets <= drawn).sum(1).view_as(rows)
        count = self._tables.num_bins.index_select(0, rows.flatten()).view_as(rows)
        level = (bins * (count > 0) + uniform) / count.clamp(min=1)
        final = torch.full((num,), self.cutout, device=self.device)
        return CTADraws(operation, level, center, final)

    def draw_probe(self, num: int, generator: torch.Generator) -> CTADraws:
        """Independent draws for `num` probes: uniform levels, no final cutout."""
        operation, uniform, center = self._draw(num, generator)
        final = torch.zeros(num, dtype=torch.bool, device=self.device)
        return CTADraws(operation, uniform, center, final)

    def _draw(self, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Operation (N, K), a uniform number for each parameter (N, K, 2), center (N, K + 1, 2)."""

        def integers(high: int, *shape: int) -> Tensor:
            return torch.randint(high, shape, generator=generator, device=self.device)

        return (
            integers(len(OPERATIONS), num, self.depth),
            self._uniform((num, self.depth, NUM_PARAMETERS), generator),
            integers(self.size, num, self.depth + 1, 2),
        )

    def _uniform(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64, device=self.device)

    def update(self, draws: CTADraws, proximity: Tensor) -> None:
        """Learn from probes: what one after the other, image by image, would make of the rates.

        A bin that is hit several times keeps decay ** (number of hits) of its rate, and each hit
        counts decay ** (number of later hits of this bin).

        Args:
            draws: of N probes, from `draw_probe`.
            proximity: (N,), probability of the true class, in [0, 1].
        """
        assert proximity.shape == draws.operation.shape[:1], "one proximity per image"
        rows = NUM_PARAMETERS * draws.operation[:, :, None] + self._tables.parameters
        count = self._tables.num_bins.index_select(0, rows.flatten())  # (2 M,)
        bins = (draws.level.flatten() * count * 0.999).to(torch.int64)
        position = (NUM_BINS * rows.flatten() + bins)[:, None]
        places = torch.arange(self.rates.numel(), device=self.device)
        hit = (position == places) & (count > 0)[:, None]  # (2 M, bins)
        later = (hit.sum(0) - hit.cumsum(0)).gather(1, position)[:, 0]
        hits, later = hit.to(torch.float64), later.to(torch.float64)
        values = proximity.detach().to(torch.float64)[:, None, None].expand_as(rows).flatten()
        gain = (1 - self.decay) * self.decay**later * values
        # A product of matrices rather than atomic sums, whose order is up to the device.
        self.rates.mul_((self.decay ** hits.sum(0)).view_as(self.rates))
        self.rates.add_((gain @ hits).view_as(self.rates))

    def state_dict(self) -> dict[str, Tensor]:
        """What is learned: a copy of the rates."""
        return {"rates": self.rates.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue where `state_dict` was taken.

        Raises:
            InputError: `state` is not that of this class.
        """
        shapes = {key: tuple(value.shape) for key, value in state.items()}
        expected = {"rates": tuple(self.rates.shape)}
        if shapes != expected:
            raise InputError(f"expected the state of CTAugment, {expected}, got {shapes}")
        self.rates.copy_(state["rates"])

    def snapshot(self) -> list[dict[str, str | int | float]]:
        """The rates as rows for a table (`rate_rows`). Waits for the device."""
        return rate_rows(self.rates)

    # The transform ------------------------------------------------------------------------

    def __call__(self, images: Tensor, draws: CTADraws) -> Tensor:
        """Transform each image as drawn.

        Args:
            images: uint8 (N, C, size, size), left as they are.
            draws: for these N images.

        Returns:
            uint8 (N, C, size, size), a new tensor.

        Raises:
            InputError: type or shape of `images` does not fit.
        """
        check_images(images, self.size)
        assert draws.operation.shape == (len(images), self.depth), "one draw per image"
        piece = max(1, len(images))
        if images.device.type == "cpu":
            piece = max(1, CPU_PIECE // images.shape[1:].numel())
        arguments = [torch.split(argument, piece) for argument in self._arguments(draws)]
        pieces = zip(torch.split(images, piece), *arguments, strict=True)
        return torch.cat([self._operate(part, _Arguments(*rest)) for part, *rest in pieces])

    def _arguments(self, draws: CTADraws) -> "_Arguments":
        """From levels to what the stages take, as Python computes it."""
        tables, size = self._tables, self.size
        shape = draws.operation.shape
        operation = draws.operation.flatten()  # (M,)
        level, second = draws.level.flatten(0, 1).unbind(1)  # (M,) each
        signed = 2 * level - 1

        def is_(name: str) -> Tensor:
            return operation == OPERATIONS.index(name)

        angle = (signed * MAX_ANGLE).round_() * is_("rotate")
        rotation = tables.rotations.index_select(0, (angle + MAX_ANGLE).to(torch.int64))  # (M, 6)
        shear = signed * 0.3
        slope = (shear * 65536 + 0.5).floor_()
        start = ((0.5 + shear * 0.5) * 65536 + 0.5).floor_() - 32768
        # Pillow adds whole pixels to shift + 0.5 and drops the fraction of the sum.
        shift = (signed * 0.3 * self._unit + 0.5).floor_() * 65536
        shear_x, shear_y, none = is_("shear_x"), is_("shear_y"), torch.zeros_like(level)
        right = shear_x * start + is_("translate_x") * shift
        down = shear_y * start + is_("translate_y") * shift
        moves = torch.stack((none, shear_x * slope, right, shear_y * slope, none, down), 1)

        scale = level * 0.25 * is_("rescale")
        box = _box_row((scale * size).round_(), (size * (1 - scale)).round_(), size)
        box = box * len(pillow.RESAMPLING) + (second * 5.99).floor_()

        side = 1 + (level * size * 0.499).to(torch.int64)
        half = (side >> 1) * is_("cutout")
        final = (1 + int(size * 0.499) >> 1) * draws.final

        rows = tables.formulas.index_select(0, operation)
        lookup, lookup_slope, factor, factor_slope = rows.unbind(1)  # (M,) each
        lookup = lookup + (lookup_slope * level).floor_()
        factor = factor + factor_slope * level
        return _Arguments(
            operation=draws.operation,
            fixed=(rotation + moves.to(torch.int32)).view(*shape, 6),
            box=box.to(torch.int64).view(shape),
            lookup=lookup.to(torch.int64).view(shape),
            factor=factor.to(torch.float32).view(shape),
            center=draws.center,
            half=torch.cat([half.view(shape), final[:, None]], 1),
        )

    def _operate(self, images: Tensor, arguments: "_Arguments") -> Tensor:
        """All K operations and the final cutout; uint8 (N, C, H, W), a new tensor."""
        for k in range(self.depth):
            step = _Arguments(*(argument[:, k] for argument in arguments))
            images = _cut(self._apply(images, step), step)
        return _cut(images, _Arguments(*(argument[:, -1] for argument in arguments)))

    def _apply(self, images: Tensor, step: "_Arguments") -> Tensor:
        """One operation for each image, but for cutout; uint8 (N, C, H, W), a new tensor."""
        tables = self._tables
        shape = images.shape
        num, channels = shape[:2]
        factor = step.factor[:, None, None]
        weights = tables.weights.index_select(0, step.operation)[:, :, None, None]
        divide, is_gray, is_degenerate, is_value, is_mean = weights.unbind(1)  # (N, 1, 1) each

        # Each pixel from another place, or from several; in between, columns go before rows.
        index, inside = pillow.affine_source(step.fixed, self.size)
        x = images.flatten(2).gather(2, index.expand(-1, channels, -1)).mul_(inside)
        first, taps = tables.first.index_select(0, step.box), tables.taps.index_select(0, step.box)
        x = pillow.resample(x.view(shape).to(torch.float32), first, taps)  # (N, C, H, W)

        # Blended with another image: gray, smoothed or blurred.
        kernel = tables.kernels.index_select(0, step.operation)
        other = pillow.filtered(x, kernel, divide[:, 0, 0])
        x = x.flatten(2)
        gray = pillow.gray(x)  # (N, 1, P)
        mean = pillow.mean_level(gray)  # (N, 1, 1)
        difference = x - other.addcmul_(gray, is_gray)
        difference.mul_(tables.interior.index_select(0, step.operation)[:, None])
        # x + l (other - x), or other + f (x - other): rounded as in `pillow.blend`.
        x = x.addcmul_(difference, is_degenerate, value=-1).add_(difference.mul_(factor))
        x = x.to(torch.int16).clamp_(0, 255).to(torch.uint8)

        # Each gray level becomes another one.
        low, high = pillow.extremes(x)  # (N, C)
        levels = x.to(torch.int64)
        stretch = (step.operation == OPERATIONS.index("autocontrast"))[:, None]
        lookup = step.lookup[:, None] + stretch * pillow.autocontrast_row(low, high)
        target = tables.lookup.index_select(0, lookup.flatten()).view(num, channels, 256)
        equalize = (step.operation == OPERATIONS.index("equalize"))[:, None]
        target = pillow.equalize_tables(levels, high, equalize, target)
        degenerate = tables.value * is_value + mean * is_mean  # (N, 1, 256)
        table = pillow.blend(degenerate, target.to(torch.float32), factor)
        return table.gather(2, levels).view(shape)


def rate_rows(rates: Tensor) -> list[dict[str, str | int | float]]:
    """Rates as rows for a table: operation, parameter (0 or 1), bin, rate.

    Args:
        rates: (number of operations, 2, 17), as in `CTAugment.rates`, on the CPU.
    """
    values = rates.tolist()
    return [
        {"operation": name, "parameter": parameter, "bin": i, "rate": values[row][parameter][i]}
        for row, (name, counts) in enumerate(BINS.items())
        for parameter, count in enumerate(counts)
        for i in range(count)
    ]


class _Arguments(NamedTuple):
    """What the stages take, for each image and operation; indexed once more: for one operation.

    Attributes:
        operation: int64 (N, K).
        fixed: int32 (N, K, 6), as from `pillow.fixed_matrix`.
        box: int64 (N, K), rows of `_Tables.first` and `taps`.
        lookup: int64 (N, K), rows of `_Tables.lookup`; for autocontrast the first of them.
        factor: float32 (N, K), of the blend.
        center: int64 (N, K + 1, 2), of cutout, the final one included.
        half: int64 (N, K + 1), half of the side of cutout, 0 for none.
    """

    operation: Tensor
    fixed: Tensor
    box: Tensor
    lookup: Tensor
    factor: Tensor
    center: Tensor
    half: Tensor


class _Tables(NamedTuple):
    """What is the same for all images; O = 19 operations.

    Attributes:
        exists: bool (O, 2, 17), whether an operation has this bin of this parameter.
        num_bins: int64 (2 O,), bins of each parameter of each operation.
        parameters: int64 (2,), 0 and 1.
        rotations: int32 (91, 6), `pillow.fixed_matrix` of -45 to 45 degrees.
        first, taps: what `pillow.resample_tables` returns, for all crops.
        lookup: uint8 (T, 256), tables of gray levels; from AUTOCONTRAST on those of that.
        formulas: float64 (O, 4), as functions of the level, offset and slope: row of `lookup`,
            factor of the blend.
        kernels: int16 (O, 3), factors of `pillow.filtered`.
        weights: float32 (O, 5): `divide` of `pillow.filtered`; 1 if the other image of a blend
            is the gray one; 1 if the other is the degenerate one, to which factor 0 leads;
            how much of a degenerate gray level is the level itself, and the mean.
        interior: float32 (O, P), 0 on the border that the filter of an operation leaves alone.
        value: float32 (256,), the gray levels.
    """

    exists: Tensor
    num_bins: Tensor
    parameters: Tensor
    rotations: Tensor
    first: Tensor
    taps: Tensor
    lookup: Tensor
    formulas: Tensor
    kernels: Tensor
    weights: Tensor
    interior: Tensor
    value: Tensor


@functools.lru_cache(maxsize=4)  # one after another, a process serves many runs
def _build_tables(size: int, device: torch.device) -> _Tables:
    count = torch.zeros((len(OPERATIONS), NUM_PARAMETERS), dtype=torch.int64)
    formulas, kernels, weights, interiors = [], [], [], []
    for row, (name, counts) in enumerate(BINS.items()):
        count[row, : len(counts)] = torch.tensor(counts, dtype=torch.int64)
        lookup = {
            "autocontrast": (AUTOCONTRAST, 0.0),
            "invert": (INVERT, 0.0),
            "posterize": (POSTERIZE, 7.999),
            "solarize": (SOLARIZE, 255.999),
        }.get(name, (0, 0.0))
        factor = (1.0, 0.0)
        if name in ("brightness", "color", "contrast", "sharpness"):
            factor = (0.1, 1.9)
        elif name in ("autocontrast", "equalize", "invert"):
            factor = (0.0, 1.0)
        elif name in ("blur", "smooth"):
            factor = (0.0, -1.0)  # of the image minus the other, not the other minus the image
        formulas.append((*lookup, *factor))
        kernel, divide, border = (0, 0, 1), 1.0, 0
        if name in ("sharpness", "smooth"):
            kernel, divide, border = (1, 0, 4), 1 / 13, 1
        elif name == "blur":
            kernel, divide, border = (-1, 1, 0), 1 / 16, 2
        elif name == "color":
            kernel = (0, 0, 0)
        kernels.append(kernel)
        weights.append(
            (
                divide,
                name == "color",
                name in ("color", "sharpness"),
                name not in ("brightness", "contrast"),
                name == "contrast",
            )
        )
        interior = torch.zeros(size, size)
        interior[border : size - border, border : size - border] = 1
        interiors.append(interior.flatten())
    first, taps = pillow.resample_tables(_boxes(size), size)
    gray = torch.arange(256)
    lookups = [gray.to(torch.uint8), (255 - gray).to(torch.uint8)]
    lookups += [pillow.posterize_table(bits) for bits in range(1, 9)]
    lookups += [pillow.solarize_table(threshold) for threshold in range(256)]
    assert len(lookups) == AUTOCONTRAST
    rotations = [pillow.rotation(a, size) for a in range(-MAX_ANGLE, MAX_ANGLE + 1)]
    tables = _Tables(
        exists=torch.arange(NUM_BINS) < count[:, :, None],
        num_bins=count.flatten(),
        parameters=torch.arange(NUM_PARAMETERS),
        rotations=torch.tensor([pillow.fixed_matrix(m) for m in rotations], dtype=torch.int32),
        first=first,
        taps=taps,
        lookup=torch.cat([torch.stack(lookups), pillow.autocontrast_tables()]),
        formulas=torch.tensor(formulas, dtype=torch.float64),
        kernels=torch.tensor(kernels, dtype=torch.int16),
        weights=torch.tensor(weights, dtype=torch.float32),
        interior=torch.stack(interiors),
        value=gray.to(torch.float32),
    )
    return _Tables(*(table.to(device) for table in tables))


def _boxes(size: int) -> list[tuple[int, int]]:
    """All crops, low to high: rounding puts high up to 1 off size - low."""
    return [(low, size - low + d) for low in range(round(0.25 * size) + 1) for d in (-1, 0, 1)]


def _box_row(low: Tensor, high: Tensor, size: int) -> Tensor:
    """Where `_boxes` has the crop from low to high."""
    return 3 * low + (high - (size - low)) + 1


def _cut(images: Tensor, step: _Arguments) -> Tensor:
    """Cutout of uint8 (N, C, H, W), in place."""
    half = step.half[:, None, None]
    position = torch.arange(images.shape[3], device=images.device)
    distance = position - step.center[:, :, None]
    bands = ((distance >= -half) & (distance < half)).to(torch.uint8)
    top_to_bottom, left_to_right = bands[:, None].unbind(2)  # (N, 1, H), (N, 1, W)
    cut = top_to_bottom[:, :, :, None] * left_to_right[:, :, None, :]
    return images.mul_(1 - cut).add_(cut * FILL)
