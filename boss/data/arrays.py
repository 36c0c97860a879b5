"""A data set as numpy arrays: what every source of images returns.

N images, H x W pixels, C channels, K classes
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Arrays(NamedTuple):
    """A data set as numpy arrays.

    Images may be views of (N, C, H, W) in memory: then turning them into tensors copies nothing.
    """

    x_train: NDArray[np.uint8]  # (N, H, W, C)
    y_train: NDArray[np.int64]  # (N,)
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    class_names: tuple[str, ...]  # (K,)
    flip: bool  # whether a mirrored image is still one of its class
    x_unlabeled: NDArray[np.uint8] | None = None  # further training images, without a class
    folds: tuple[tuple[int, ...], ...] = ()  # predefined label sets: positions in x_train
