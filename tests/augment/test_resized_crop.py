"""Resized crops: by hand, as a plain loop, and against torchvision."""

import math

import pytest
import torch
from torchvision.transforms.v2.functional import resize

from boss.augment import CropDraws, ResizedCrop, to_float
from boss.errors import InputError

CPU = torch.device("cpu")


def draws(*rows):
    """From (top, left, height, width, flip) of each image."""
    table = torch.tensor(rows, dtype=torch.float32)
    return CropDraws(table[:, :2], table[:, 2:4], table[:, 4].bool())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_by_hand():
    """A row 0, 4, 8, 12 cut to its middle half and enlarged: pixel centers at 0.75 to 2.25."""
    crop = ResizedCrop(4, out=4, device=CPU)
    image = torch.tensor([0.0, 4, 8, 12]).expand(1, 1, 4, 4)
    expected = torch.tensor([3.0, 5, 7, 9]).expand(1, 1, 4, 4)
    assert torch.equal(crop(image, draws((0, 1, 4, 2, False))), expected)
    assert torch.equal(crop(image, draws((0, 1, 4, 2, True))), expected.flip(3))
    # The same along columns; beyond the outermost centers pixels are repeated.
    expected = torch.tensor([0.0, 1, 3, 5])[:, None].expand(1, 1, 4, 4)
    assert torch.equal(crop(image.mT, draws((0, 0, 2, 4, False))), expected)


def test_the_whole_image_is_itself(digits):
    images = to_float(digits.train.images[:5])
    crop = ResizedCrop(8, out=8, device=CPU)
    same = crop(images, draws(*[(0, 0, 8, 8, False)] * 5))
    torch.testing.assert_close(same, images, atol=1e-6, rtol=0)


def test_equals_a_plain_loop():
    images = torch.randn(6, 3, 16, 16, generator=generator(), dtype=torch.float64)
    crop = ResizedCrop(16, out=8, min_area=0.1, device=CPU)
    drawn = crop.draw(6, generator(1))
    found = crop(images.float(), drawn)
    for n, image in enumerate(images):
        (top, left), (height, width) = drawn.start[n].tolist(), drawn.length[n].tolist()
        for i in range(8):
            for j in range(8):
                column = 7 - j if drawn.flip[n] else j
                y = min(max(top + height * (i + 0.5) / 8 - 0.5, 0), 15)
                x = min(max(left + width * (column + 0.5) / 8 - 0.5, 0), 15)
                y0, x0 = int(y), int(x)
                y1, x1 = min(y0 + 1, 15), min(x0 + 1, 15)
                a, b = y - y0, x - x0
                expected = (1 - a) * ((1 - b) * image[:, y0, x0] + b * image[:, y0, x1])
                expected += a * ((1 - b) * image[:, y1, x0] + b * image[:, y1, x1])
                torch.testing.assert_close(
                    found[n, :, i, j], expected.float(), atol=1e-5, rtol=1e-5
                )


@pytest.mark.parametrize("out", [8, 12, 24])
def test_equals_torchvision_on_whole_pixels(out, digits):
    """Inside the image its interpolation sees no pixel beyond the crop, ours does: so compare where
    the crop ends at the border of the image, or pixels coincide."""
    images = to_float(digits.train.images[:4])
    whole = ResizedCrop(8, out=out, device=CPU)(images, draws(*[(0, 0, 8, 8, False)] * 4))
    expected = resize(images, [out, out], antialias=False)
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=0)


def test_draws():
    crop = ResizedCrop(32, out=24, min_area=0.2, device=CPU)
    start, length, flip = crop.draw(4000, generator())
    area = length.prod(dim=1) / 32**2
    shape = length[:, 1] / length[:, 0]
    assert 0.2 - 1e-4 < area.min() < 0.22
    assert 0.98 < area.max() <= 1
    assert 0.58 < area.mean() < 0.61  # 0.6, less what is cut where a side exceeds the image
    assert shape.min() >= 3 / 4 - 1e-5
    assert shape.max() <= 4 / 3 + 1e-5
    assert abs(shape.log().mean()) < 0.01  # neither wide nor tall
    assert start.min() >= 0
    assert (start + length).max() <= 32 + 1e-4
    assert 0.47 < flip.float().mean() < 0.53
    assert not ResizedCrop(32, out=24, flip=False, device=CPU).draw(100, generator()).flip.any()
    small = ResizedCrop(32, out=24, min_area=0.9, device=CPU).draw(1000, generator())
    assert small.length.prod(dim=1).min() / 32**2 > math.sqrt(3 / 4 * 0.9)


def test_an_area_out_of_range():
    for area in (0.0, 1.5, -1.0):
        with pytest.raises(InputError, match="min_area"):
            ResizedCrop(8, out=8, min_area=area, device=CPU)
