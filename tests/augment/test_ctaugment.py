"""CTAugment against plain Pillow, image by image, and what it draws and learns.

Shapes: N images, C channels, size x size pixels, K operations in a row.
"""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from boss.augment import pillow
from boss.augment.ctaugment import BINS, OPERATIONS, CTADraws, CTAugment
from boss.data import Dataset
from boss.errors import InputError
from tests.algorithms.test_contract import NoSynchronization
from tests.augment.test_augment import FixedShapes, generator, photos, synthetic

FILTERS = [Image.Resampling[name.upper()] for name in pillow.RESAMPLING]
ENHANCERS = ("brightness", "color", "contrast", "sharpness")
NO_CENTER = (0, 0)


# What the batched code is compared with ---------------------------------------------------


def operate(
    image: Image.Image,
    name: str,
    level: float,
    second: float = 0.0,
    center: Sequence[int] = NO_CENTER,
    translation: str = "reference",
) -> Image.Image:
    """One operation on one RGB image, written from the table in the class's docstring."""
    size = image.size[0]
    blended = {
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
        "invert": ImageOps.invert,
        "blur": lambda image: image.filter(ImageFilter.BLUR),
        "smooth": lambda image: image.filter(ImageFilter.SMOOTH),
    }
    signed = 2 * level - 1
    shift = signed * 0.3 * (size if translation == "paper" else 1)
    matrices = {
        "shear_x": (1, signed * 0.3, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, signed * 0.3, 1, 0),
        "translate_x": (1, 0, shift, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, shift),
    }
    if name in blended:
        return Image.blend(image, blended[name](image), level)
    if name in ENHANCERS:
        return getattr(ImageEnhance, name.capitalize())(image).enhance(0.1 + 1.9 * level)
    if name in matrices:
        return image.transform(image.size, Image.Transform.AFFINE, matrices[name])
    if name == "posterize":
        return ImageOps.posterize(image, 1 + int(level * 7.999))
    if name == "solarize":
        return ImageOps.solarize(image, int(level * 255.999))
    if name == "rotate":
        return image.rotate(int(np.round(signed * 45)))
    if name == "rescale":
        scale = level * 0.25
        box = (scale * size, scale * size, size * (1 - scale), size * (1 - scale))
        return image.crop(box).resize(image.size, FILTERS[int(second * 5.99)])
    if name == "cutout":
        half = (1 + int(level * size * 0.499)) // 2
        low = [max(0, c - half) for c in center]
        high = [min(size, c + half) for c in center]
        cut = np.array(image)
        cut[low[0] : high[0], low[1] : high[1]] = 127
        return Image.fromarray(cut)
    assert name == "identity"
    return image


def plain(images: Tensor, draws: CTADraws, translation: str = "reference") -> Tensor:
    """The whole policy in a loop over images: uint8 (N, 3, H, W)."""
    results = []
    for n, image in enumerate(images):
        picture = Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())
        for k, operation in enumerate(draws.operation[n].tolist()):
            level, second = draws.level[n, k].tolist()
            center = draws.center[n, k].tolist()
            picture = operate(picture, OPERATIONS[operation], level, second, center, translation)
        if draws.final[n]:
            picture = operate(picture, "cutout", 1.0, center=draws.center[n, -1].tolist())
        results.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
    return torch.stack(results)


def assert_equals_pillow(policy: CTAugment, images: Tensor, draws: CTADraws) -> None:
    out = policy(images, draws)
    expected = plain(images, draws, policy.translation)
    assert out.shape == images.shape
    assert out.dtype == torch.uint8
    wrong = (out.expand(-1, 3, -1, -1) != expected).flatten(1).any(1).nonzero()[:, 0].tolist()
    cases = [
        ([OPERATIONS[o] for o in draws.operation[n].tolist()], draws.level[n].tolist())
        for n in wrong[:5]
    ]
    assert not wrong, f"{len(wrong)} images differ, among them {cases}"


def every(operation: str, levels: Tensor, second: Tensor | float = 0.5) -> CTADraws:
    """The same operation for all images, each at a level of its own; no final cutout."""
    num = len(levels)
    level = torch.stack([levels, torch.zeros_like(levels) + second], 1)[:, None]
    center = torch.randint(8, (num, 2, 2), generator=generator())
    final = torch.zeros(num, dtype=torch.bool)
    return CTADraws(torch.full((num, 1), OPERATIONS.index(operation)), level, center, final)


def repeated(images: Tensor, num: int) -> Tensor:
    return images[torch.arange(num) % len(images)]


def edges(num_bins: int) -> Tensor:
    """Where levels change their bin, and the float64 numbers on both sides; in [0, 1]."""
    edge = np.arange(num_bins + 1) / num_bins
    near = np.concatenate([np.nextafter(edge, -1), edge, np.nextafter(edge, 2), [0.5]])
    return torch.from_numpy(near[(near >= 0) & (near <= 1)])


def some_levels(num: int) -> Tensor:
    random = torch.rand(num, dtype=torch.float64, generator=generator(1))
    return torch.cat([edges(17), edges(8), random])


@pytest.fixture(scope="module")
def batches() -> dict[tuple[int, int], Tensor]:
    """Images by (channels, size): noise, constant and sparse ones, and photographs."""
    return {
        (c, s): torch.cat([synthetic(s, c), photos(s, 12 if s < 96 else 4)[:, :c]])
        for c in (1, 3)
        for s in (8, 9, 32, 96)
    }


# Parity with Pillow -----------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 8), (1, 32), (3, 32), (3, 96)])
def test_operation_equals_pillow_at_many_levels(
    operation: str, channels: int, size: int, batches: dict[tuple[int, int], Tensor]
) -> None:
    levels = some_levels(240 if size < 96 else 40)
    images = repeated(batches[channels, size], len(levels))
    policy = CTAugment(size, device="cpu", depth=1, translation="paper")
    assert_equals_pillow(policy, images, every(operation, levels))


@pytest.mark.parametrize("size", [8, 9, 32])
def test_rescale_equals_pillow_with_every_box_and_filter(
    size: int, batches: dict[tuple[int, int], Tensor]
) -> None:
    """Margins of 2.5 pixels and the like are where Python rounds to even."""
    halves = torch.arange(0, size // 2, dtype=torch.float64) * 2 / size  # 0.25 l size = k / 2
    levels = torch.cat([halves, torch.nextafter(halves, halves + 1), some_levels(20)])
    levels = levels[(levels >= 0) & (levels <= 1)].repeat_interleave(6)
    second = ((torch.arange(len(levels)) % 6 + 0.5) / 6).to(torch.float64)
    policy = CTAugment(size, device="cpu", depth=1)
    for shift in (0, 5):
        images = repeated(batches[3, size].roll(shift, 0), len(levels))
        assert_equals_pillow(policy, images, every("rescale", levels, second))


def test_filter_is_chosen_as_python_truncates(batches: dict[tuple[int, int], Tensor]) -> None:
    second = torch.arange(7, dtype=torch.float64) / 5.99
    second = torch.cat([torch.nextafter(second, second - 1), second, edges(6)]).clamp(0, 1)
    images = batches[3, 32][-1:].expand(len(second), -1, -1, -1)
    draws = every("rescale", torch.full_like(second, 0.6), second)
    policy = CTAugment(32, device="cpu", depth=1)
    assert_equals_pillow(policy, images, draws)
    # Where an image grows, box and nearest are one and the same but for ties.
    assert len(policy(images, draws).flatten(1).unique(dim=0)) == 5


@pytest.mark.parametrize("size", [8, 32, 256])
def test_taps_add_up_to_one_and_lie_in_the_image(size: int) -> None:
    margin = size // 4
    boxes = [(0, size), (margin, size - margin), (margin, size - margin + 1), (0, size + 1)]
    first, weights = pillow.resample_tables(boxes, size)
    assert first.min() == 0
    assert first.max() + weights.shape[3] <= size
    whole = weights[:, 0] * 2**11 + weights[:, 1] * 2**11
    assert ((whole.sum(2) / 2**22 - 1).abs() < 1e-6).all()
    # What float32 holds exactly: sums of whole numbers, or of multiples of 2^-11.
    assert (weights[:, 0].abs().sum(2) * 255 < 2**24).all()
    assert (weights[:, 1].sum(2) * 255 < 2**13).all()


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 9), (1, 32), (3, 32), (3, 96)])
@pytest.mark.parametrize("depth", [2, 3])
def test_policy_equals_pillow(
    channels: int, size: int, depth: int, batches: dict[tuple[int, int], Tensor]
) -> None:
    images = repeated(batches[channels, size], 2400 // size)
    policy = CTAugment(size, device="cpu", depth=depth, translation="paper")
    g = generator()
    policy.rates.mul_(torch.rand(policy.rates.shape, dtype=torch.float64, generator=g))
    for draw in (policy.draw, policy.draw_probe):
        assert_equals_pillow(policy, images, draw(len(images), g))


@pytest.mark.parametrize("size", [13, 255, 256])
def test_policy_equals_pillow_at_other_sizes(size: int) -> None:
    images = photos(size, 2)
    images = torch.cat([images, torch.randint(256, images.shape, generator=generator())])
    images = repeated(images.to(torch.uint8), 8 if size > 100 else 200)
    policy = CTAugment(size, device="cpu", depth=4)
    assert_equals_pillow(policy, images, policy.draw(len(images), generator()))


def test_policy_equals_pillow_on_digits(digits: Dataset) -> None:
    images = digits.train.images[:400]
    assert images.shape == (400, 1, 8, 8)
    policy = CTAugment(8, device="cpu")
    assert_equals_pillow(policy, images, policy.draw(400, generator()))


@pytest.mark.cifar10
def test_policy_equals_pillow_on_cifar10(cifar10: Dataset) -> None:
    images = cifar10.train.images[:1000]
    policy = CTAugment(32, device="cpu")
    assert_equals_pillow(policy, images, policy.draw(1000, generator()))


def test_matrices_are_those_that_pillow_walks() -> None:
    """In 16.16 fixed point, where images of 32 pixels do not show the last bits."""
    levels = some_levels(3000)
    policy = CTAugment(32, device="cpu", depth=1, translation="paper")
    for name in ("shear_x", "shear_y", "rotate", "translate_x", "invert"):
        found = policy._arguments(every(name, levels)).fixed[:, 0].tolist()
        for level, matrix in zip(levels.tolist(), found, strict=True):
            signed = 2 * level - 1
            expected = {
                "shear_x": (1, signed * 0.3, 0, 0, 1, 0),
                "shear_y": (1, 0, 0, signed * 0.3, 1, 0),
                "rotate": pillow.rotation(int(np.round(signed * 45)), 32),
                "translate_x": (1, 0, np.floor(signed * 0.3 * 32 + 0.5), 0, 1, 0),
                "invert": (1, 0, 0, 0, 1, 0),
            }[name]
            assert tuple(matrix) == pillow.fixed_matrix(expected), (name, level)


def test_filters_for_every_gray_level_by_hand() -> None:
    """Around a center of v, ones: SMOOTH gives (8 + 5 v) / 13, BLUR 16 / 16, both rounded."""
    images = torch.ones((256, 1, 8, 8), dtype=torch.uint8)
    images[:, 0, 3, 4] = torch.arange(256)
    kernel = torch.tensor([[1, 0, 4], [-1, 1, 0], [0, 0, 1]], dtype=torch.int16)
    divide = torch.tensor([1 / 13, 1 / 16, 1])
    smooth, blur, same = (
        pillow.filtered(images.float(), k.expand(256, -1), d.expand(256)).view(256, 8, 8)
        for k, d in zip(kernel, divide, strict=True)
    )
    v = torch.arange(256.0, dtype=torch.float64)
    assert torch.equal(smooth[:, 3, 4].double(), ((8 + 5 * v) / 13).round())
    assert (blur[:, 3, 4] == 1).all()
    assert torch.equal(blur[:, 3, 2].double(), ((15 + v) / 16 + 0.5).floor())  # ties go up
    assert torch.equal(same, images.view(256, 8, 8).float())


def test_cutout_by_hand() -> None:
    # Level 1 at 32 pixels: 1 + int(15.968) = 16; at 8: 1 + int(3.992) = 4; at 96: 48; at 10:
    # 1 + int(4.99) = 5, of which half is 2 (of 6 it would be 3).
    for size, side in ((8, 4), (10, 4), (32, 16), (96, 48)):
        policy = CTAugment(size, device="cpu", depth=1)
        black = torch.zeros((size, 3, size, size), dtype=torch.uint8)
        diagonal = torch.arange(size)[:, None, None].expand(-1, 2, 2)
        draws = every("identity", torch.zeros(size, dtype=torch.float64))
        draws = draws._replace(center=diagonal, final=torch.ones(size, dtype=torch.bool))
        out = policy(black, draws)
        holes = (out == 127).all(1).sum((1, 2))
        assert ((out == 0) | (out == 127)).all()
        assert holes.max() == holes[size // 2] == side**2
        assert holes.min() == holes[0] == (side // 2) ** 2  # around a corner: a quarter is left
        # The center is (row, column), and its pixel is the lower right of the middle four.
        draws = draws._replace(center=torch.tensor([size // 2, 0]).expand(size, 2, 2))
        rows, columns = (policy(black, draws)[0, 0] == 127).nonzero().unbind(1)
        assert (rows.min(), rows.max()) == ((size - side) // 2, (size + side) // 2 - 1)
        assert (columns.min(), columns.max()) == (0, side // 2 - 1)


def test_translations() -> None:
    """Of the reference: none. Of the paper: level 0 by -0.3 of the side, to the right."""
    levels = some_levels(100)
    images = repeated(photos(32, 12), len(levels))
    for name in ("translate_x", "translate_y"):
        draws = every(name, levels)
        assert torch.equal(CTAugment(32, device="cpu", depth=1)(images, draws), images)
    white = torch.full((1, 1, 32, 32), 255, dtype=torch.uint8)
    policy = CTAugment(32, device="cpu", depth=1, translation="paper")
    out = policy(white, every("translate_x", torch.zeros(1, dtype=torch.float64)))
    assert (out[..., :10] == 0).all()  # 9.6 pixels
    assert (out[..., 10:] == 255).all()


def test_color_and_identity_leave_one_channel_alone() -> None:
    levels = some_levels(50)
    images = repeated(synthetic(8, 1), len(levels))
    policy = CTAugment(8, device="cpu", depth=1)
    for name in ("color", "identity"):
        assert torch.equal(policy(images, every(name, levels)), images)


def test_level_zero_of_a_blend_leaves_the_image_alone() -> None:
    images = torch.cat([photos(32, 12), synthetic(32, 3)])
    policy = CTAugment(32, device="cpu", depth=1)
    for name in ("autocontrast", "blur", "equalize", "invert", "smooth", "rescale", "cutout"):
        zero = torch.zeros(len(images), dtype=torch.float64)
        assert torch.equal(policy(images, every(name, zero)), images), name


# Draws ------------------------------------------------------------------------------------


def assert_frequencies(values: Tensor, shares: Tensor | int) -> None:
    """Chi-square at p = 0.001 for a fixed seed; what has no share must not occur.

    Args:
        values: whole numbers.
        shares: how often each is expected, up to a factor; or how many values are equally likely.
    """
    if isinstance(shares, int):
        shares = torch.ones(shares)
    counts = torch.bincount(values.flatten(), minlength=len(shares)).double()
    assert len(counts) == len(shares)
    assert not counts[shares == 0].any()
    counts, shares = counts[shares > 0], shares[shares > 0].double()
    expected = shares / shares.sum() * counts.sum()
    statistic = float(((counts - expected) ** 2 / expected).sum())
    # Wilson and Hilferty's approximation to the quantile of chi-square.
    freedom = len(counts) - 1
    spread = 2 / (9 * max(1, freedom))
    assert statistic <= freedom * (1 - spread + 3.0902 * spread**0.5) ** 3


def bins_of(draws: CTADraws, operation: str, parameter: int) -> Tensor:
    """Bins in which the levels of an operation lie."""
    levels = draws.level[draws.operation == OPERATIONS.index(operation)][:, parameter]
    return (levels * BINS[operation][parameter]).long()


def test_operations_and_numbers_of_bins() -> None:
    names = "autocontrast blur brightness color contrast cutout equalize invert identity posterize"
    names += " rescale rotate sharpness shear_x shear_y smooth solarize translate_x translate_y"
    assert tuple(names.split()) == OPERATIONS
    special = {"identity": (), "posterize": (8,), "rescale": (17, 6)}
    assert {name: special.get(name, (17,)) for name in OPERATIONS} == BINS


def test_draws_at_the_start_are_uniform_and_independent() -> None:
    num = 60_000
    draws = CTAugment(32, device="cpu").draw(num, generator())
    assert draws.operation.shape == (num, 2)
    assert draws.level.shape == (num, 2, 2)
    assert draws.level.dtype == torch.float64
    assert draws.center.shape == (num, 3, 2)
    assert draws.final.shape == (num,)
    assert draws.final.all()
    assert (draws.level >= 0).all()
    assert (draws.level < 1).all()
    assert_frequencies(draws.operation, 19)
    assert_frequencies(draws.operation[:, 0] * 19 + draws.operation[:, 1], 19 * 19)
    assert_frequencies(draws.operation[:-1, 0] * 19 + draws.operation[1:, 0], 19 * 19)
    for k in range(3):
        assert_frequencies(draws.center[:, k, 0] * 32 + draws.center[:, k, 1], 1024)
    assert_frequencies(draws.center[:, 0, 0] * 32 + draws.center[:, 1, 0], 1024)
    for name, counts in BINS.items():
        for parameter, count in enumerate(counts):
            assert_frequencies(bins_of(draws, name, parameter), count)
    rescale = bins_of(draws, "rescale", 0) * 6 + bins_of(draws, "rescale", 1)
    assert_frequencies(rescale, 17 * 6)
    both = (draws.operation == OPERATIONS.index("rotate")).all(1)
    assert both.sum() > 100
    assert_frequencies((draws.level[both, :, 0] * 3).long() @ torch.tensor([3, 1]), 9)
    # Uniform within a bin, whatever the bin.
    within = draws.level[draws.operation == OPERATIONS.index("posterize")][:, 0] * 8
    assert_frequencies(((within - within.floor()) * 10).long() + 10 * within.long(), 80)


def test_bins_are_drawn_as_the_rates_say() -> None:
    """p = rate + 0.01, of which those below 0.8 of the largest are left out."""
    policy = CTAugment(32, device="cpu")
    # 0.8 * 1.01 - 0.01 = 0.798: a rate of 0.7981 just passes, one of 0.7979 does not.
    rates = torch.tensor([0.9, 1, 0.7979, 0.7981, 0, 1, 0.1, 0.99, 0.85, 0.79, 1, 0.5, 0.8, 0.9])
    rates = torch.cat([rates, torch.tensor([0.3, 0.97, 0.2])]).double()
    p = (rates + 0.01) / 1.01
    p[p < 0.8] = 0
    assert (p > 0).tolist() == [r in (0, 1, 3, 5, 7, 8, 10, 12, 13, 15) for r in range(17)]
    policy.rates[OPERATIONS.index("rescale"), 0] = rates
    policy.rates[OPERATIONS.index("invert"), 0] = rates.flip(0)
    policy.rates[OPERATIONS.index("posterize"), 0, :8] = rates[:8]
    six = torch.tensor([0.02, 0.03, 0.01, 0.0, 0.03, 0.021]).double()  # p: 0.03 ... 0.04
    policy.rates[OPERATIONS.index("rescale"), 1, :6] = six
    draws = policy.draw(100_000, generator())
    assert_frequencies(bins_of(draws, "rescale", 0), p)
    assert_frequencies(bins_of(draws, "invert", 0), p.flip(0))
    assert_frequencies(bins_of(draws, "posterize", 0), p[:8])
    assert_frequencies(bins_of(draws, "rotate", 0), 17)
    assert_frequencies(bins_of(draws, "rescale", 1), torch.tensor([0, 0.04, 0, 0, 0.04, 0]))
    # The largest bin is left even where all rates are gone, and so is a single one.
    policy.rates.zero_()
    policy.rates[OPERATIONS.index("blur"), 0, 16] = 1e-300
    policy.rates[OPERATIONS.index("smooth"), 0, 16] = 1
    policy.rates[OPERATIONS.index("solarize"), 0, 0] = 1
    draws = policy.draw(20_000, generator())
    assert_frequencies(bins_of(draws, "blur", 0), 17)
    assert_frequencies(bins_of(draws, "posterize", 0), 8)
    assert (bins_of(draws, "smooth", 0) == 16).all()
    assert (bins_of(draws, "solarize", 0) == 0).all()
    assert torch.isfinite(draws.level).all()


@pytest.mark.parametrize(("uniform", "drawn"), [(0.0, 2), (1 - 2**-53, 14)])
def test_ends_of_the_uniform_numbers(
    uniform: float, drawn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a bin without a share: bins 2 to 14 have one here."""
    policy = CTAugment(8, device="cpu")
    policy.rates[:, :, :2] = policy.rates[:, :, 15:] = 0
    monkeypatch.setattr(
        policy, "_uniform", lambda shape, _: torch.full(shape, uniform, dtype=torch.float64)
    )
    draws = policy.draw(1000, generator())
    found = bins_of(draws._replace(level=draws.level - 1e-9 * (uniform > 0)), "rotate", 0)
    assert (found == drawn).all()


def test_threshold_and_decay_in_drawing() -> None:
    rates = torch.tensor([0.5, 0.3, 0.1]).double()
    cases = [
        ({"threshold": 0.0}, [0.51, 0.31, 0.11]),
        ({"threshold": 0.6}, [0.51, 0.31, 0]),
        ({"threshold": 1.0}, [0.51, 0, 0]),
        ({"threshold": 0.6, "decay": 0.5}, [1.0, 0.8, 0.6]),
    ]
    for options, shares in cases:
        policy = CTAugment(8, device="cpu", depth=1, **options)  # type: ignore[arg-type]
        policy.rates[OPERATIONS.index("cutout"), 0] = -10.0  # far below
        policy.rates[OPERATIONS.index("cutout"), 0, :3] = rates
        if options["threshold"] == 0.0:
            policy.rates[OPERATIONS.index("cutout"), 0, 3:] = -(1 - policy.decay)  # p = 0
        bins = bins_of(policy.draw(60_000, generator()), "cutout", 0)
        assert_frequencies(bins, torch.tensor(shares + [0.0] * 14))


def test_probes_ignore_the_rates() -> None:
    policy = CTAugment(32, device="cpu")
    before = policy.draw_probe(30_000, generator())
    policy.rates.zero_()
    policy.rates[:, :, 3] = 1
    draws = policy.draw_probe(30_000, generator())
    assert all(map(torch.equal, before, draws))
    assert not draws.final.any()
    assert draws.level.dtype == torch.float64
    assert_frequencies(draws.operation, 19)
    assert_frequencies((draws.level * 17).long(), 17)
    assert_frequencies((draws.level[:, 0] * 17).long() @ torch.tensor([17, 1]), 17 * 17)
    assert_frequencies((draws.level[:, :, 0] * 17).long() @ torch.tensor([17, 1]), 17 * 17)
    assert_frequencies(draws.center[:, 0, 0] * 32 + draws.center[:, 0, 1], 1024)


def test_images_of_a_batch_get_their_own_draws() -> None:
    image = photos(32, 1).expand(64, -1, -1, -1)
    policy = CTAugment(32, device="cpu")
    out = policy(image, policy.draw(64, generator()))
    assert len(out.flatten(1).unique(dim=0)) > 60


# Learning ---------------------------------------------------------------------------------


def learn_plainly(
    rates: Tensor, draws: CTADraws, proximity: Tensor, decay: float
) -> dict[tuple[str, int, int], float]:
    """The update of the reference, one image after the other, for the bins that exist."""
    found = {
        (name, parameter, i): float(rates[row, parameter, i])
        for row, (name, counts) in enumerate(BINS.items())
        for parameter, count in enumerate(counts)
        for i in range(count)
    }
    for n, operations in enumerate(draws.operation.tolist()):
        for k, operation in enumerate(operations):
            name = OPERATIONS[operation]
            for parameter, count in enumerate(BINS[name]):
                level = float(draws.level[n, k, parameter])
                key = (name, parameter, int(level * count * 0.999))
                found[key] = found[key] * decay + float(proximity[n]) * (1 - decay)
    return found


def as_table(policy: CTAugment) -> dict[tuple[str, int, int], float]:
    return {
        (row["operation"], row["parameter"], row["bin"]): row["rate"]  # type: ignore[misc]
        for row in policy.snapshot()
    }


def test_update_by_hand() -> None:
    """Rotate at 0.5 (bin int(8.4915) = 8) three times, the last two by one image."""
    policy = CTAugment(8, device="cpu")
    names = [["rotate", "posterize"], ["rotate", "rotate"], ["identity", "rescale"]]
    operation = torch.tensor([[OPERATIONS.index(name) for name in pair] for pair in names])
    level = torch.full((3, 2, 2), 0.5, dtype=torch.float64)
    level[2, 1] = torch.tensor([0.0, 0.999])
    draws = policy.draw_probe(3, generator())._replace(operation=operation, level=level)
    policy.update(draws, torch.tensor([1.0, 0.5, 0.0]))
    expected = dict.fromkeys(as_table(policy), 1.0)
    expected["rotate", 0, 8] = 0.99005  # 1 -> 1 -> 0.99 + 0.005 -> 0.98505 + 0.005
    expected["posterize", 0, 3] = 1.0  # int(3.996)
    expected["rescale", 0, 0] = 0.99
    expected["rescale", 1, 5] = 0.99  # int(5.988)
    assert as_table(policy) == pytest.approx(expected, rel=0, abs=1e-15)


@pytest.mark.parametrize(("depth", "decay"), [(1, 0.99), (2, 0.99), (3, 0.5), (2, 0.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_update_equals_a_loop(depth: int, decay: float, dtype: torch.dtype) -> None:
    policy = CTAugment(8, device="cpu", depth=depth, decay=decay)
    tensor = policy.rates
    padding = policy.rates == 0
    g = generator()
    for num in (64, 64, 7, 1):
        draws = policy.draw_probe(num, g)
        draws.operation[: num // 2] %= 3  # so that bins are hit several times
        # Bin edges, where 0.999 matters.
        draws.level[: num // 4] = (draws.level[: num // 4] * 17).floor() / 17
        proximity = torch.rand(num, dtype=dtype, generator=g)
        expected = learn_plainly(policy.rates, draws, proximity, decay)
        policy.update(draws, proximity)
        found = as_table(policy)
        assert len(set(found.values())) > 3
        assert found == pytest.approx(expected, rel=0, abs=1e-12)
    assert policy.rates is tensor
    assert not policy.rates[padding].any()


def test_update_with_one_bin_hit_by_all() -> None:
    policy = CTAugment(8, device="cpu")
    draws = policy.draw_probe(40, generator())
    draws.operation.fill_(OPERATIONS.index("rescale"))
    draws.level.fill_(0.7)
    proximity = torch.rand(40, generator=generator())
    expected = learn_plainly(policy.rates, draws, proximity, 0.99)
    policy.update(draws, proximity.requires_grad_())
    assert as_table(policy) == pytest.approx(expected, rel=0, abs=1e-12)
    assert sum(rate < 1 for rate in expected.values()) == 2
    assert not policy.rates.requires_grad


def test_levels_and_edges_may_fall_into_the_bin_before() -> None:
    """int(0.999 * 17 * 16 / 17) = 15: what was drawn from the lower 1.6% of bin 16."""
    policy = CTAugment(8, device="cpu", depth=1)
    for level, changed in ((16 / 17, 15), (16.01 / 17, 15), (16.02 / 17, 16), (1.0, 16), (0, 0)):
        policy.rates.fill_(1.0)
        policy.update(every("blur", torch.tensor([level]).double()), torch.zeros(1))
        below = (policy.rates < 1).nonzero().tolist()
        assert below == [[OPERATIONS.index("blur"), 0, changed]]


def test_identity_has_no_rate() -> None:
    policy = CTAugment(8, device="cpu", depth=1)
    before = policy.rates.clone()
    policy.update(every("identity", some_levels(10)), torch.zeros(len(some_levels(10))))
    assert torch.equal(policy.rates, before)
    row = OPERATIONS.index("identity")
    assert not policy.rates[row].any()


def test_rates_and_snapshot_at_the_start() -> None:
    policy = CTAugment(8, device="cpu")
    assert policy.rates.shape == (19, 2, 17)
    assert policy.rates.dtype == torch.float64
    assert policy.rates.sum() == 16 * 17 + 8 + 17 + 6
    policy.rates[OPERATIONS.index("rescale"), 1, 5] = 0.25
    policy.rates[OPERATIONS.index("posterize"), 0, 7] = 0.5
    rows = policy.snapshot()
    assert len(rows) == 303
    assert len(as_table(policy)) == 303
    assert {"operation": "rescale", "parameter": 1, "bin": 5, "rate": 0.25} in rows
    assert {"operation": "posterize", "parameter": 0, "bin": 7, "rate": 0.5} in rows
    assert sum(row["rate"] == 1 for row in rows) == 301
    assert type(rows[0]["rate"]) is float
    assert not any(row["operation"] == "identity" for row in rows)


def test_a_restored_policy_goes_on_alike() -> None:
    first, second = CTAugment(8, device="cpu"), CTAugment(8, device="cpu")
    g = generator()
    first.update(first.draw_probe(500, g), torch.rand(500, generator=g))
    state = first.state_dict()
    kept = state["rates"].clone()
    tensor = second.rates
    second.load_state_dict(state)
    assert second.rates is tensor
    for _ in range(3):
        seed = int(torch.randint(1000, (), generator=g))
        results = []
        for policy in (first, second):
            g_seed = generator(seed)
            probes = policy.draw_probe(300, g_seed)
            policy.update(probes, torch.rand(300, generator=g_seed))
            results.append((*policy.draw(300, g_seed), policy.rates.clone()))
        assert all(map(torch.equal, *results))
    assert torch.equal(state["rates"], kept)  # a copy, on both ways
    assert not torch.equal(first.rates, kept)


@pytest.mark.parametrize(
    "state",
    [{}, {"rates": torch.ones(19, 17)}, {"rates": torch.ones(19, 2, 17), "more": torch.ones(1)}],
)
def test_foreign_state_is_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(InputError, match="rates"):
        CTAugment(8, device="cpu").load_state_dict(state)


# Purity, determinism, no waiting for the device -------------------------------------------


def test_pure_and_blind_to_global_random_state() -> None:
    images = photos(32, 16)
    before = images.clone()
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the global state is what is tested
        state = torch.get_rng_state()
        policy, g = CTAugment(32, device="cpu"), generator()
        draws, probes = policy.draw(16, g), policy.draw_probe(16, g)
        rates = policy.rates.clone()
        copies = [d.clone() for d in (*draws, *probes)]
        out = policy(images, draws)
        results.append([*copies, out.clone(), policy(images, probes), policy(images, draws)])
        assert torch.equal(results[-1][-3], results[-1][-1])
        assert torch.equal(policy.rates, rates)
        policy.update(probes, torch.linspace(0, 1, 16))
        assert all(map(torch.equal, copies, (*draws, *probes)))
        assert torch.equal(policy(images, draws), out)  # rates are of no consequence here
        assert torch.equal(state, torch.get_rng_state())
        results[-1].append(policy.rates)
    assert torch.equal(images, before)
    assert all(map(torch.equal, *results))
    g = generator()
    assert not torch.equal(policy.draw(16, g).operation, policy.draw(16, g).operation)


def test_identity_returns_a_new_tensor() -> None:
    images = photos(32, 4)
    policy = CTAugment(32, device="cpu", depth=1)
    out = policy(images, every("identity", torch.zeros(4, dtype=torch.float64)))
    assert torch.equal(out, images)
    out.zero_()
    assert images.any()


def test_an_image_is_transformed_alike_in_any_batch() -> None:
    images = photos(32, 64)
    policy = CTAugment(32, device="cpu")
    draws = policy.draw(64, generator())
    out = policy(images, draws)
    for part in (slice(0, 1), slice(5, 12), slice(63, 64)):
        assert torch.equal(policy(images[part], CTADraws(*(d[part] for d in draws))), out[part])


def test_pieces_on_the_cpu_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    images = photos(32, 50)
    policy = CTAugment(32, device="cpu")
    draws = policy.draw(50, generator())
    out = policy(images, draws)
    for piece in (1, 7 * 3 * 1024, 2**30):
        monkeypatch.setattr("boss.augment.ctaugment.CPU_PIECE", piece)
        assert torch.equal(policy(images, draws), out)


@pytest.mark.parametrize("mode", [NoSynchronization, FixedShapes])
def test_no_operator_waits_for_the_device(mode: type) -> None:
    images = photos(32, 8)
    policy = CTAugment(32, device="cpu", translation="paper")
    g = generator()
    proximity = torch.rand(8, generator=g)
    with mode():
        policy(images, policy.draw(8, g))
        probes = policy.draw_probe(8, g)
        policy(images, probes)
        policy.update(probes, proximity)


# torch's own compiler warns about itself.
@pytest.mark.filterwarnings("ignore")
def test_compiles_as_one_graph() -> None:
    images = photos(32, 8)
    policy = CTAugment(32, device="cpu")
    draws = policy.draw(8, generator())
    torch.compiler.reset()
    compiled = torch.compile(policy.__call__, fullgraph=True, backend="eager")
    assert torch.equal(compiled(images, draws), policy(images, draws))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_equals_cpu_and_is_captured_as_a_graph() -> None:
    there = torch.device("cuda")
    images = torch.cat([photos(32, 300), synthetic(32, 3)])
    here, policy = CTAugment(32, device="cpu"), CTAugment(32, device=there)
    draws = here.draw_probe(len(images), generator())
    moved = CTADraws(*(d.to(there) for d in draws))
    proximity = torch.rand(len(images), generator=generator())
    on_gpu, near = images.to(there), proximity.to(there)
    g = torch.Generator(there).manual_seed(0)

    def step() -> Tensor:
        policy.update(moved, near)
        return policy(on_gpu, moved)

    step()  # builds tables
    policy.rates.copy_(here.rates)
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = step()
        drawn = policy.draw(1000, g)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    here.update(draws, proximity)
    assert torch.equal(out.cpu(), here(images, draws))
    torch.testing.assert_close(policy.rates.cpu(), here.rates, rtol=0, atol=1e-12)
    assert_frequencies(drawn.operation.cpu(), 19)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(captured, out)


# What a user can get wrong ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 7}, "8 to 256"),
        ({"size": 257}, "8 to 256"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"threshold": 1.5}, "threshold must be from 0 to 1"),
        ({"threshold": -0.1}, "threshold must be from 0 to 1"),
        ({"decay": 1.0}, "decay must be from 0 to less than 1"),
        ({"decay": -0.1}, "decay must be from 0 to less than 1"),
        ({"translation": "pixels"}, "'pixels': choose from reference, paper"),
    ],
)
def test_wrong_hyperparameters(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CTAugment(**({"size": 32, "device": "cpu"} | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 32, 32), "uint8"),
        (torch.zeros((2, 3, 32, 28), dtype=torch.uint8), "square"),
        (torch.zeros((2, 3, 28, 28), dtype=torch.uint8), "32 x 32"),
        (torch.zeros((2, 4, 32, 32), dtype=torch.uint8), "1 or 3"),
    ],
)
def test_wrong_images(images: Tensor, message: str) -> None:
    policy = CTAugment(32, device="cpu")
    with pytest.raises(InputError, match=message):
        policy(images, policy.draw(2, generator()))


@pytest.mark.parametrize(
    "changed",
    [
        {"depth": 1},
        {"threshold": 0.99},
        {"decay": 0.5},
        {"cutout": False},
        {"translation": "paper"},
    ],
    ids=lambda c: next(iter(c)),
)
def test_every_hyperparameter_matters(changed: dict[str, object]) -> None:
    images = photos(32, 64)
    results = []
    for options in ({}, changed):
        policy = CTAugment(32, device="cpu", **options)  # type: ignore[arg-type]
        g = generator()
        policy.update(policy.draw_probe(500, generator(3)), torch.rand(500, generator=g))
        results.append(policy(images, policy.draw(64, g)))
    assert not torch.equal(*results)


def test_cutout_false_changes_the_final_cutout_alone() -> None:
    first, second = (CTAugment(32, device="cpu", cutout=cutout) for cutout in (True, False))
    images = photos(32, 64)
    draws, others = first.draw(64, generator()), second.draw(64, generator())
    assert all(map(torch.equal, draws[:3], others[:3]))
    assert not others.final.any()
    out, uncut = first(images, draws), second(images, others)
    different = out != uncut
    assert (out[different] == 127).all()
    assert different.flatten(1).any(1).sum() > 55
