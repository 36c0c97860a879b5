"""Color jitter: by hand, against torchvision where they agree, and as plain steps."""

import math

import pytest
import torch
from torchvision.transforms.v2 import functional

from boss.augment import ColorDraws, ColorJitter

CPU = torch.device("cpu")
LUMA = torch.tensor([0.299, 0.587, 0.114])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(num=1, *, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0):
    return ColorDraws(*(torch.full((num,), v) for v in (brightness, contrast, saturation, hue)))


@pytest.fixture
def images():
    """In the middle of the range, where nothing is clipped."""
    return torch.rand(5, 3, 8, 8, generator=generator()) * 0.6 - 0.3


def test_nothing_drawn_changes_nothing(images):
    same = ColorJitter(device=CPU)(images, drawn(5))
    torch.testing.assert_close(same, images, atol=1e-6, rtol=0)


def test_by_hand():
    """One image of two pixels: pure red and pure blue, in [-1, 1]."""
    jitter = ColorJitter(device=CPU)
    image = torch.tensor([[[1.0, -1]], [[-1, -1]], [[-1, 1]]])[None]  # (1, 3, 1, 2)
    gray = 2 * torch.tensor([0.299, 0.114]) - 1  # luma of red and of blue
    assert jitter(image, drawn(saturation=0.0))[0, 0, 0] == pytest.approx(gray.tolist())
    dark = jitter(image, drawn(brightness=0.5))[0, :, 0, 0]
    # (1, 0, 0) of [0, 1] at half brightness
    assert dark.tolist() == pytest.approx([0, -1, -1], abs=1e-7)
    flat = jitter(image, drawn(contrast=0.0))
    assert flat.flatten().tolist() == pytest.approx([gray.mean().item()] * 6)


@pytest.mark.parametrize(("name", "factor"), [("saturation", 0.6), ("brightness", 1.3)])
def test_equals_torchvision(name, factor, images):
    found = ColorJitter(device=CPU)(images, drawn(5, **{name: factor}))
    adjust = getattr(functional, f"adjust_{name}")
    expected = 2 * adjust((images + 1) / 2, factor) - 1
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)  # its luma is 0.2989, ...


def test_contrast_equals_torchvision(images):
    found = ColorJitter(device=CPU)(images, drawn(5, contrast=0.7))
    expected = 2 * functional.adjust_contrast((images + 1) / 2, 0.7) - 1
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


def test_hue_keeps_luma_and_gray_and_turns_back(images):
    jitter = ColorJitter(device=CPU)
    turned = jitter(images, drawn(5, hue=0.5))
    assert (turned - images).abs().max() > 0.05
    luma = [torch.einsum("nchw,c->nhw", x, LUMA) for x in (images, turned)]
    torch.testing.assert_close(*luma, atol=1e-3, rtol=0)
    torch.testing.assert_close(jitter(turned, drawn(5, hue=-0.5)), images, atol=1e-5, rtol=0)
    gray = torch.full((1, 3, 2, 2), 0.3)
    torch.testing.assert_close(jitter(gray, drawn(hue=1.0)), gray, atol=1e-5, rtol=0)
    opposite = jitter(images, drawn(5, hue=math.pi))  # a half turn mirrors colors at gray
    back = [torch.einsum("nchw,c->nhw", x, LUMA)[:, None] for x in (images, opposite)]
    torch.testing.assert_close(opposite - back[1], back[0] - images, atol=1e-3, rtol=0)


def test_all_at_once_equals_the_steps_in_their_order(images):
    jitter = ColorJitter(device=CPU)
    draws = jitter.draw(5, generator(3))
    one = {name: drawn(5)._replace(**{name: getattr(draws, name)}) for name in draws._fields}
    expected = images
    for name in ("hue", "saturation", "brightness", "contrast"):
        expected = jitter(expected, one[name])
    torch.testing.assert_close(jitter(images, draws), expected, atol=1e-5, rtol=0)


def test_values_are_clipped():
    white = torch.ones(1, 3, 2, 2)
    assert torch.equal(ColorJitter(device=CPU)(white, drawn(brightness=1.4)), white)


def test_draws():
    draws = ColorJitter(device=CPU).draw(5000, generator())
    untouched = (draws.brightness == 1) & (draws.contrast == 1) & (draws.hue == 0)
    assert 0.17 < untouched.float().mean() < 0.23
    assert 0.17 < (draws.saturation == 0).float().mean() < 0.23
    for factor in (draws.brightness, draws.contrast):
        assert 0.6 <= factor.min() < 0.61
        assert 1.39 < factor.max() <= 1.4
    assert 0.6 < draws.hue.abs().max() <= 0.2 * math.pi
    colored = draws.saturation[draws.saturation != 0]
    assert 0.6 <= colored.min() < 0.61
