"""boss.augment against plain Pillow, one image at a time, and its promises on draws and purity.

Shapes: N images, C channels, size x size pixels, K operations in a row.
"""

import fractions

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from boss.augment import RandAugment, StrongDraws, Weak, WeakDraws, pillow, to_float
from boss.augment.randaugment import NUM_LEVELS, OPERATIONS
from boss.data import Dataset
from boss.errors import InputError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# What the batched code is compared with ---------------------------------------------------


def operate(image: Image.Image, name: str, level: int, negate: bool) -> Image.Image:
    """One operation on one RGBA image, written from the table in reference order."""
    opaque = {
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
        "solarize": lambda rgb: ImageOps.solarize(rgb, 256 - int(25.6 * level)),
        "posterize": lambda rgb: ImageOps.posterize(rgb, 4 - int(0.4 * level)),
    }
    if name == "identity":
        return image
    if name in opaque:
        return opaque[name](image.convert("RGB")).convert("RGBA")
    if name in ("color", "contrast", "brightness", "sharpness"):
        return getattr(ImageEnhance, name.capitalize())(image).enhance(level * 1.8 / 10 + 0.1)
    sign = -1 if negate else 1
    if name == "rotate":
        return image.rotate(sign * 3 * level)
    shear = sign * (level * 0.3 / 10)
    shift = sign * int(level * min(1, image.size[0] / 32))
    matrix = {
        "shear_x": (1, shear, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, shear, 1, 0),
        "translate_x": (1, 0, shift, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, shift),
    }[name]
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


def to_pillow(image: Tensor) -> Image.Image:
    """uint8 (C, H, W) -> RGBA; a single channel becomes three equal ones."""
    rgb = image.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(rgb).convert("RGBA")


def plain_strong(images: Tensor, draws: StrongDraws, cutout: int) -> tuple[Tensor, Tensor]:
    """RandAugment in a loop over images: colors (N, 3, H, W) and keep (N, 1, H, W)."""
    colors, keeps = [], []
    size = images.shape[-1]
    for n, image in enumerate(images):
        picture = to_pillow(image)
        for k in range(draws.operation.shape[1]):
            if draws.applied[n, k]:
                name = OPERATIONS[int(draws.operation[n, k])]
                level, negate = int(draws.level[n, k]), bool(draws.negate[n, k])
                picture = operate(picture, name, level, negate)
        rgba = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        keep = rgba[3:] > 0
        row, column = draws.center[n].tolist()
        half = cutout // 2
        top, left = max(0, row - half), max(0, column - half)
        keep[:, top : min(size, row + half), left : min(size, column + half)] = False
        colors.append(rgba[:3])
        keeps.append(keep)
    return torch.stack(colors), torch.stack(keeps)


def assert_equals_pillow(policy: RandAugment, images: Tensor, draws: StrongDraws) -> None:
    out, keep = policy(images, draws)
    colors, kept = plain_strong(images, draws, policy.cutout)
    assert out.shape == images.shape
    assert torch.equal(out.expand(-1, 3, -1, -1), colors)
    assert torch.equal(keep, kept)


def every(operation: str, level: int, negate: bool, num: int) -> StrongDraws:
    """The same operation for all `num` images, without cutout's say."""
    return StrongDraws(
        operation=torch.full((num, 1), OPERATIONS.index(operation)),
        level=torch.full((num, 1), level),
        applied=torch.ones((num, 1), dtype=torch.bool),
        negate=torch.full((num, 1), negate),
        center=torch.zeros((num, 2), dtype=torch.int64),
    )


# Images -----------------------------------------------------------------------------------


def photos(size: int, num: int) -> Tensor:
    """`num` tiles, spread over scikit-learn's two photographs; uint8 (num, 3, size, size)."""
    tiles = []
    for photo in load_sample_images().images:
        x = torch.from_numpy(np.array(photo)).permute(2, 0, 1)
        x = x.unfold(1, size, size).unfold(2, size, size)  # (3, rows, columns, size, size)
        tiles.append(x.permute(1, 2, 0, 3, 4).flatten(0, 1))
    x = torch.cat(tiles)
    return x[:: len(x) // num][:num].contiguous()


def digit_images(num: int) -> Tensor:
    """scikit-learn's digits at full contrast, uint8 (num, 1, 8, 8)."""
    x = torch.from_numpy(load_digits().images[:num])
    return (x * 255 / 16).to(torch.uint8)[:, None]


def synthetic(size: int, channels: int) -> Tensor:
    """Noise, and what lookup tables trip over: constant, two-level, narrow and sparse images."""
    g = generator()

    def noise(low: int, high: int, num: int) -> Tensor:
        return torch.randint(low, high, (num, channels, size, size), generator=g)

    x = torch.cat(
        [
            noise(0, 256, 6),
            torch.tensor([0, 77, 255]).view(3, 1, 1, 1).expand(3, channels, size, size),
            torch.tensor([13, 201])[noise(0, 2, 2)],
            torch.tensor([0, 255])[noise(0, 2, 2)],
            noise(100, 103, 2),
            noise(0, 256, 3) * (noise(0, 20, 3) == 0),
        ]
    )
    return x.to(torch.uint8)


@pytest.fixture(scope="module")
def batches() -> dict[tuple[int, int], Tensor]:
    """Images by (channels, size)."""
    noise = {(c, s): synthetic(s, c) for c in (1, 3) for s in (8, 9, 32, 96)}
    real = {
        (1, 8): digit_images(12),
        (3, 8): photos(8, 12),
        (3, 9): photos(9, 6),
        (3, 32): photos(32, 24),
        (1, 32): photos(32, 8)[:, :1],
        (3, 96): photos(96, 6),
    }
    return {key: torch.cat([x, real[key]]) if key in real else x for key, x in noise.items()}


# Parity with Pillow -----------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 8), (3, 9), (1, 32), (3, 32), (3, 96)])
def test_operation_equals_pillow_at_every_level_and_sign(
    operation: str, channels: int, size: int, batches: dict[tuple[int, int], Tensor]
) -> None:
    images = batches[channels, size]
    policy = RandAugment(size, device="cpu", num_ops=1, cutout=0)
    for level in range(1, NUM_LEVELS + 1):
        for negate in (False, True):
            assert_equals_pillow(policy, images, every(operation, level, negate, len(images)))


@pytest.mark.parametrize("num_ops", [2, 3])
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 8), (1, 32), (3, 32), (3, 96)])
def test_policy_equals_pillow(
    channels: int, size: int, num_ops: int, batches: dict[tuple[int, int], Tensor]
) -> None:
    images = batches[channels, size]
    policy = RandAugment(size, device="cpu", num_ops=num_ops, probability=0.8)
    g = generator()
    for _ in range(120 * 8 // size):
        assert_equals_pillow(policy, images, policy.draw(len(images), g))


@pytest.mark.parametrize("second", OPERATIONS)
def test_transparency_equals_pillow_after_a_rotation(
    second: str, batches: dict[tuple[int, int], Tensor]
) -> None:
    images = batches[3, 32]
    num = len(images)
    policy = RandAugment(32, device="cpu", cutout=0)
    for level in range(1, NUM_LEVELS + 1):
        pair = (every("rotate", 10 - level, True, num), every(second, level, False, num))
        draws = StrongDraws(*(torch.cat(both, 1) for both in zip(*pair, strict=True)))
        draws = draws._replace(center=draws.center[:, :2])
        assert_equals_pillow(policy, images, draws)


@pytest.mark.cifar10
def test_policy_equals_pillow_on_cifar10(cifar10: Dataset) -> None:
    images = cifar10.train.images[:1000]
    policy = RandAugment(32, device="cpu")
    assert_equals_pillow(policy, images, policy.draw(len(images), generator()))


def test_transparent_pixels_by_hand() -> None:
    # White, moved by 1 pixel: the new column is transparent black. Solarize at level 9
    # (threshold 26) turns white to black, leaves black, and makes all opaque.
    white = torch.full((2, 3, 32, 32), 255, dtype=torch.uint8)
    draws = StrongDraws(
        operation=torch.tensor(
            [
                [OPERATIONS.index("translate_x"), OPERATIONS.index(name)]
                for name in ("solarize", "brightness")
            ]
        ),
        level=torch.tensor([[1, 9], [1, 9]]),
        applied=torch.ones((2, 2), dtype=torch.bool),
        negate=torch.zeros((2, 2), dtype=torch.bool),
        center=torch.zeros((2, 2), dtype=torch.int64),
    )
    out, keep = RandAugment(32, device="cpu", cutout=0)(white, draws)
    x = to_float(out, keep)
    assert (x[0] == -1).all()
    assert (x[1, :, :, :-1] == 1).all()
    assert (x[1, :, :, -1] == 0).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    levels=st.lists(st.integers(0, 255), min_size=1, max_size=4),
    channels=st.sampled_from([1, 3]),
    size=st.sampled_from([8, 11, 17, 24, 32]),
)
def test_policy_equals_pillow_on_images_of_few_levels(
    seed: int, levels: list[int], channels: int, size: int
) -> None:
    g = generator(seed)
    shape = (14, channels, size, size)
    images = torch.tensor(levels)[torch.randint(len(levels), shape, generator=g)].to(torch.uint8)
    policy = RandAugment(size, device="cpu", probability=0.9)
    draws = policy.draw(14, g)
    draws.operation[:, 0] = torch.arange(14)  # each at least once
    assert_equals_pillow(policy, images, draws)


def test_color_is_the_identity_on_one_channel() -> None:
    images = synthetic(8, 1)
    policy = RandAugment(8, device="cpu", num_ops=1, cutout=0)
    for level in range(1, NUM_LEVELS + 1):
        out, keep = policy(images, every("color", level, False, len(images)))
        assert torch.equal(out, images)
        assert keep.all()


def test_autocontrast_table_for_every_range() -> None:
    tables = pillow.autocontrast_tables()
    wedge = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    for high in range(0, 256, 5):
        for low in range(high + 1):
            inside = wedge.crop((low, 0, high + 1, 1))
            expected = np.array(ImageOps.autocontrast(inside))[0]
            row = pillow.autocontrast_row(torch.tensor(low), torch.tensor(high))
            assert np.array_equal(tables[row, low : high + 1].numpy(), expected), (low, high)


def test_blend_for_every_pair_of_levels() -> None:
    gray = np.arange(256, dtype=np.uint8)
    first = np.repeat(gray[:, None], 256, 1)
    second = np.ascontiguousarray(first.T)
    for level in range(1, NUM_LEVELS + 1):
        factor = level * 1.8 / 10 + 0.1
        expected = np.array(Image.blend(Image.fromarray(first), Image.fromarray(second), factor))
        out = pillow.blend(
            torch.from_numpy(first).float()[None],
            torch.from_numpy(second).float()[None],
            torch.tensor(factor),
        )
        assert np.array_equal(out[0].numpy(), expected), level


def test_blend_differs_by_at_most_one_level_where_product_and_sum_are_fused() -> None:
    first, second = np.meshgrid(np.arange(256.0), np.arange(256.0), indexing="ij")
    num_different = {}
    for level in range(1, NUM_LEVELS + 1):
        factor = np.float32(level * 1.8 / 10 + 0.1)
        exact = first + np.float64(factor) * (second - first)  # exact: below 2^53
        fused = exact.astype(np.float32).clip(0, 255).astype(np.uint8)
        out = pillow.blend(
            torch.from_numpy(first).float()[None],
            torch.from_numpy(second).float()[None],
            torch.tensor(factor),
        )[0].numpy()
        different = out != fused
        assert (np.abs(out.astype(int) - fused) <= 1).all()
        if different.any():
            num_different[level] = int(different.sum())
    assert num_different == {7: 188, 9: 216}  # of 65,536


def test_smooth_rounds_by_hand() -> None:
    # Ones with a center of v: (8 + 5 v) / 13, rounded.
    for value in range(256):
        image = torch.ones((1, 1, 8, 8), dtype=torch.uint8)
        image[0, 0, 3, 4] = value
        out = pillow.smooth(image).view(8, 8)
        assert out[3, 4] == round(fractions.Fraction(8 + 5 * value, 13))
        assert out[3, 5] == round(fractions.Fraction(12 + value, 13))
    picture = Image.fromarray(synthetic(32, 1)[0, 0].numpy())
    expected = np.array(picture.filter(ImageFilter.SMOOTH))[1:-1, 1:-1]
    out = pillow.smooth(synthetic(32, 1))[0].view(32, 32)[1:-1, 1:-1]
    assert np.array_equal(out.numpy(), expected)


def test_equalize_by_hand() -> None:
    # 32 x 32 = 1024 pixels: half at 10, a quarter each at 20 and 30. step = 768 // 255 = 3;
    # 10 -> (1 + 0) // 3, 20 -> (1 + 512) // 3, 30 -> (1 + 768) // 3 = 256, clipped.
    image = torch.full((1, 1, 32, 32), 10, dtype=torch.uint8)
    image[..., 16:24, :] = 20
    image[..., 24:, :] = 30
    policy = RandAugment(32, device="cpu", num_ops=1, cutout=0)
    out, _ = policy(image, every("equalize", 1, False, 1))
    assert out[0, 0, ::8, 0].tolist() == [0, 0, 171, 255]


# Weak -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "size", "pad"), [(1, 8, 1), (3, 32, 4), (3, 96, 12)])
@pytest.mark.parametrize("flip", [False, True])
def test_weak_equals_numpy(channels: int, size: int, pad: int, flip: bool) -> None:
    images = photos(size, 20)[:, :channels]
    policy = Weak(size, flip=flip, device="cpu")
    assert policy.pad == pad
    draws = policy.draw(20, generator())
    assert flip == bool(draws.flip.any())
    out = policy(images, draws)
    for n, image in enumerate(images.numpy()):
        x = image[..., ::-1] if draws.flip[n] else image
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
        top, left = draws.offset[n].tolist()
        assert np.array_equal(out[n].numpy(), x[:, top : top + size, left : left + size])


def test_weak_covers_every_crop_and_flip() -> None:
    policy = Weak(8, flip=True, device="cpu")
    image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8)
    cases = torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(3))
    draws = WeakDraws(cases[:, 0].bool(), cases[:, 1:])
    out = policy(image.expand(18, -1, -1, -1), draws)
    assert len(out.flatten(1).unique(dim=0)) == 18
    middle = cases[:, 1:].eq(1).all(1)
    assert torch.equal(out[middle], torch.cat([image, image.flip(3)]))


# Scaling ----------------------------------------------------------------------------------


def test_to_float_by_hand() -> None:
    images = torch.tensor([0, 51, 204, 255], dtype=torch.uint8).view(1, 1, 2, 2)
    assert to_float(images).flatten().tolist() == pytest.approx([-1, -0.6, 0.6, 1], abs=1e-6)
    keep = torch.tensor([False, True, True, False]).view(1, 1, 2, 2)
    x = to_float(images.expand(-1, 3, -1, -1), keep)
    assert torch.equal(x == 0, ~keep.expand(-1, 3, -1, -1))
    assert not torch.signbit(x[0, 0, 0, 0])
    assert torch.equal(x[:, :1][keep], to_float(images)[keep])


def test_to_float_types() -> None:
    images = synthetic(8, 3)
    assert to_float(images).dtype == torch.float32
    half = to_float(images, dtype=torch.bfloat16)
    assert torch.equal(half, to_float(images).to(torch.bfloat16))
    with pytest.raises(InputError, match="uint8"):
        to_float(to_float(images))


def test_truncation_of_the_reference_lowers_47_levels() -> None:
    gray = np.arange(256)
    x = gray.astype(np.float32) * np.float32(2 / 255) - np.float32(1)
    entered = ((x * np.float32(0.5) + np.float32(0.5)) * np.float32(255)).astype(np.uint8)
    assert ((gray - entered) == 1).sum() == 47
    assert ((gray - entered) == 0).sum() == 256 - 47


# Draws ------------------------------------------------------------------------------------


def assert_uniform(values: Tensor, num_values: int) -> None:
    """Chi-square at p = 0.001, for a fixed seed: a deviation of 1% or so would show."""
    counts = torch.bincount(values.flatten(), minlength=num_values).double()
    assert len(counts) == num_values
    expected = values.numel() / num_values
    statistic = float(((counts - expected) ** 2 / expected).sum())
    # Wilson and Hilferty's approximation to the quantile of chi-square.
    freedom = num_values - 1
    spread = 2 / (9 * freedom)
    assert statistic < freedom * (1 - spread + 3.0902 * spread**0.5) ** 3


def test_strong_draws_are_uniform_and_independent() -> None:
    draws = RandAugment(32, device="cpu").draw(100_000, generator())
    assert draws.operation.shape == (100_000, 2)
    assert_uniform(draws.operation, 14)
    assert_uniform(draws.level - 1, 9)
    assert_uniform(draws.applied.long(), 2)
    assert_uniform(draws.negate.long(), 2)
    assert_uniform(draws.center[:, 0] * 32 + draws.center[:, 1], 1024)
    # Both operations of an image; operation and level; from one image to the next.
    assert_uniform(draws.operation[:, 0] * 14 + draws.operation[:, 1], 14 * 14)
    assert_uniform(draws.operation * 9 + draws.level - 1, 14 * 9)
    assert_uniform(draws.applied.long() * 2 + draws.negate, 4)
    assert_uniform(draws.operation[:-1, 0] * 14 + draws.operation[1:, 0], 14 * 14)


def test_probability_of_applying() -> None:
    draws = RandAugment(32, device="cpu", probability=0.2).draw(100_000, generator())
    assert float(draws.applied.double().mean()) == pytest.approx(0.2, abs=0.004)
    assert not RandAugment(8, device="cpu", probability=0).draw(100, generator()).applied.any()
    assert RandAugment(8, device="cpu", probability=1).draw(100, generator()).applied.all()


@pytest.mark.parametrize(("size", "num_offsets"), [(8, 3), (32, 9), (96, 25)])
def test_weak_draws_are_uniform(size: int, num_offsets: int) -> None:
    draws = Weak(size, flip=True, device="cpu").draw(100_000, generator())
    assert_uniform(draws.offset[:, 0] * num_offsets + draws.offset[:, 1], num_offsets**2)
    assert_uniform(draws.flip.long(), 2)


def test_images_of_a_batch_get_their_own_draws() -> None:
    image = photos(32, 1).expand(64, -1, -1, -1)
    weak, strong = Weak(32, flip=True, device="cpu"), RandAugment(32, device="cpu")
    views = weak(image, weak.draw(64, generator()))
    assert len(views.flatten(1).unique(dim=0)) > 40
    out, keep = strong(image, strong.draw(64, generator()))
    assert len(to_float(out, keep).flatten(1).unique(dim=0)) > 60


def test_an_image_is_transformed_alike_in_any_batch() -> None:
    images = photos(32, 64)
    policy = RandAugment(32, device="cpu", probability=1)
    draws = policy.draw(64, generator())
    out, keep = policy(images, draws)
    for part in (slice(0, 1), slice(5, 12), slice(63, 64)):
        some, kept = policy(images[part], StrongDraws(*(d[part] for d in draws)))
        assert torch.equal(some, out[part])
        assert torch.equal(kept, keep[part])


def test_pieces_on_the_cpu_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    images = photos(32, 50)
    policy = RandAugment(32, device="cpu", probability=1)
    draws = policy.draw(50, generator())
    out, keep = policy(images, draws)
    for piece in (1, 7 * 3 * 1024, 2**30):
        monkeypatch.setattr("boss.augment.randaugment.CPU_PIECE", piece)
        some, kept = policy(images, draws)
        assert torch.equal(some, out)
        assert torch.equal(kept, keep)


# Cutout -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "cutout"), [(8, 4), (9, 4), (28, 14), (32, 16), (64, 16), (96, 16)]
)
def test_default_cutout(size: int, cutout: int) -> None:
    policy = RandAugment(size, device="cpu", probability=0)
    assert policy.cutout == cutout
    images = torch.zeros((size, 1, size, size), dtype=torch.uint8)
    diagonal = torch.arange(size)[:, None].expand(-1, 2)
    draws = policy.draw(size, generator())._replace(center=diagonal)
    holes = (~policy(images, draws)[1]).sum((1, 2, 3))
    assert holes.max() == holes[size // 2] == cutout**2
    assert holes.min() == holes[0] == (cutout // 2) ** 2  # around a corner: a quarter is left


# Purity, determinism, no waiting for the device -------------------------------------------


def test_pure_and_blind_to_global_random_state() -> None:
    images = photos(32, 16)
    before = images.clone()
    weak, strong = Weak(32, flip=True, device="cpu"), RandAugment(32, device="cpu")
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the global state is what is tested
        state = torch.get_rng_state()
        g = generator()
        weak_draws, draws = weak.draw(16, g), strong.draw(16, g)
        copies = [d.clone() for d in (*weak_draws, *draws)]
        view = weak(images, weak_draws)
        strong(images, draws)
        results.append((view.clone(), *strong(view, draws), *strong(view, draws)))
        assert torch.equal(view, results[-1][0])
        assert all(map(torch.equal, copies, (*weak_draws, *draws)))
        assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(images, before)
    assert all(map(torch.equal, *results))
    assert torch.equal(results[0][1], results[0][3])
    g = generator()
    first, second = weak.draw(16, g), weak.draw(16, g)
    assert not torch.equal(first.offset, second.offset)


def test_identity_draws_return_a_new_tensor() -> None:
    images = photos(32, 4)
    policy = RandAugment(32, device="cpu", probability=0, cutout=0)
    out, keep = policy(images, policy.draw(4, generator()))
    assert torch.equal(out, images)
    assert keep.all()
    out.zero_()
    assert images.any()


class FixedShapes(TorchDispatchMode):
    """Fails on operators that wait for the device, or whose shapes depend on the data."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        tags = func.tags
        assert torch.Tag.data_dependent_output not in tags, func
        assert torch.Tag.dynamic_output_shape not in tags, func
        return func(*args, **(kwargs or {}))


def test_no_operator_waits_for_the_device() -> None:
    images = photos(32, 8)
    weak, strong = Weak(32, flip=True, device="cpu"), RandAugment(32, device="cpu")
    with FixedShapes():
        view = weak(images, weak.draw(8, generator()))
        to_float(*strong(view, strong.draw(8, generator())))
    for forbidden in (lambda x: x.sum().item(), lambda x: x[x > 0], torch.nonzero):
        with pytest.raises(AssertionError), FixedShapes():
            forbidden(images)


# torch's own compiler warns about itself.
@pytest.mark.filterwarnings("ignore")
def test_compiles_as_one_graph() -> None:
    images = photos(32, 8)
    weak, strong = Weak(32, flip=True, device="cpu"), RandAugment(32, device="cpu")

    def views(images: Tensor, weak_draws: WeakDraws, draws: StrongDraws) -> Tensor:
        return to_float(*strong(weak(images, weak_draws), draws))

    weak_draws, draws = weak.draw(8, generator()), strong.draw(8, generator())
    torch.compiler.reset()
    compiled = torch.compile(views, fullgraph=True, backend="eager")
    assert torch.equal(compiled(images, weak_draws, draws), views(images, weak_draws, draws))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_equals_cpu_and_is_captured_as_a_graph() -> None:
    images = torch.cat([photos(32, 64), synthetic(32, 3)])
    num = len(images)
    there = torch.device("cuda")
    weak, strong = Weak(32, flip=True, device="cpu"), RandAugment(32, device="cpu")
    weak_there, strong_there = Weak(32, flip=True, device=there), RandAugment(32, device=there)
    on_gpu = images.to(there)
    weak_draws, draws = weak.draw(num, generator()), strong.draw(num, generator())
    expected = to_float(*strong(weak(images, weak_draws), draws))
    moved = (
        WeakDraws(*(d.to(there) for d in weak_draws)),
        StrongDraws(*(d.to(there) for d in draws)),
    )

    def views() -> Tensor:
        return to_float(*strong_there(weak_there(on_gpu, moved[0]), moved[1]))

    torch.cuda.set_sync_debug_mode("error")
    try:
        out = views()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.allclose(out.cpu(), expected, rtol=0, atol=1e-6)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = views()
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(captured, out)


# What a user can get wrong ----------------------------------------------------------------


@pytest.mark.parametrize("size", [7, 257, 0])
def test_unsupported_sizes(size: int) -> None:
    with pytest.raises(InputError, match="8 to 256"):
        Weak(size, flip=True, device="cpu")
    with pytest.raises(InputError, match="8 to 256"):
        RandAugment(size, device="cpu")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_ops": 0}, "num_ops"),
        ({"probability": 1.5}, "probability"),
        ({"probability": -0.1}, "probability"),
        ({"cutout": 3}, "cutout"),
        ({"cutout": -2}, "cutout"),
        ({"cutout": 66}, "cutout"),
    ],
)
def test_wrong_hyperparameters(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RandAugment(32, device="cpu", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 32, 32), "uint8"),
        (torch.zeros((2, 3, 32, 28), dtype=torch.uint8), "square"),
        (torch.zeros((2, 3, 28, 28), dtype=torch.uint8), "32 x 32"),
        (torch.zeros((2, 4, 32, 32), dtype=torch.uint8), "1 or 3"),
        (torch.zeros((3, 32, 32), dtype=torch.uint8), "1 or 3"),
    ],
)
def test_wrong_images(images: Tensor, message: str) -> None:
    weak, strong = Weak(32, flip=True, device="cpu"), RandAugment(32, device="cpu")
    with pytest.raises(InputError, match=message):
        weak(images, weak.draw(2, generator()))
    with pytest.raises(InputError, match=message):
        strong(images, strong.draw(2, generator()))


@pytest.mark.parametrize(
    "changed", [{"num_ops": 1}, {"probability": 1.0}, {"cutout": 8}], ids=lambda c: next(iter(c))
)
def test_every_hyperparameter_matters(changed: dict[str, float]) -> None:
    images = photos(32, 32)
    results = []
    for options in ({}, changed):
        policy = RandAugment(32, device="cpu", **options)  # type: ignore[arg-type]
        results.append(to_float(*policy(images, policy.draw(32, generator()))))
    assert not torch.equal(*results)
