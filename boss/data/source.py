"""What each loader declares about a data set that is known by name, and what it returns.

N images, H x W pixels, C channels, K classes
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Arrays(NamedTuple):
    """A data set as numpy arrays.

    Images may be views of (N, C, H, W) in memory: then turning them into tensors copies nothing.
    """

    x_train: NDArray[np.uint8]  # (N, H, W, C), H = W
    y_train: NDArray[np.int64]  # (N,), each in [0, K)
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    class_names: tuple[str, ...]  # (K,)
    flip: bool  # whether a mirrored image still belongs to its class
    x_unlabeled: NDArray[np.uint8] | None = None  # further training images without a class
    folds: tuple[tuple[int, ...], ...] = ()  # predefined label sets: indices into x_train


class Shape(NamedTuple):
    """What a network must know about a data set."""

    channels: int
    size: int  # pixels along a side
    num_classes: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set that is known by name: what it holds, and how it is found, read and fetched.

    A loader file makes one for each of its data sets; `boss.data.DATASETS` lists them all.

    Attributes:
        summary: one line on what the images show.
        read: what `find` returned -> images and labels. Raises InputError if they are damaged.
        find: folder of data sets -> file or folder that holds this one. Raises InputError if it is
            missing; the message says how to fetch it.
        fetch: folder of data sets -> None: downloads whatever is missing or damaged.
        library: the Python package that the data set comes with, if any: then there is nothing to
            find (None) or to fetch.
        notes: what `find` and `read` returned -> lines on what was verified, for a person.
        label_sets: the data set whose published label sets are valid here; this one if empty.
    """

    name: str
    summary: str
    shape: Shape
    num_train: int
    num_test: int
    num_unlabeled: int = 0
    read: Callable[..., Arrays]
    find: Callable[[Path], Path | None] = lambda folder: None
    fetch: Callable[[Path], None] = lambda folder: None
    library: str = ""
    notes: Callable[[Path, Arrays], list[str]] = lambda path, arrays: [AS_PUBLISHED]
    label_sets: str = ""


AS_PUBLISHED = "all images and labels: as published (checksums)"
