"""The images that steps are timed on."""

from pathlib import Path

import torch

from boss import data
from boss.data import Dataset, ImageSet
from boss.seeds import stream

RANDOM = "random"
NUM_RANDOM = 10_000


def load(name: str, folder: Path | None) -> Dataset:
    """A data set, or for "random" independent uniform pixels: 10,000 color images of 32 pixels in
    ten classes. No step takes longer or shorter for what is to be seen.

    Raises:
        InputError: it cannot be had.
    """
    if name != RANDOM:
        return data.load(name, folder)
    shape = (NUM_RANDOM, 3, 32, 32)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=stream("random images"))
    labels = torch.arange(NUM_RANDOM) % 10
    names = tuple(str(k) for k in range(10))
    train = ImageSet(images, labels, names)
    return Dataset(name=RANDOM, train=train, test=train.subset(range(100)), flip=True)
