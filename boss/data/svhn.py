"""Street View House Numbers as their authors and torchvision store them.

N images, H x W pixels, C channels
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boss.data.arrays import Arrays
from boss.data.files import check_file, describe, fetching, how_to_fetch, reading
from boss.errors import InputError

FILES = {  # name -> files of the training images in their order, then that of the test images
    "svhn": ("train_32x32.mat", "extra_32x32.mat", "test_32x32.mat"),
    "svhn_noextra": ("train_32x32.mat", "test_32x32.mat"),
}
CLASSES = (*"123456789", "0")


def find(folder: Path, name: str) -> Path:
    """The folder that holds SVHN: `folder` itself, or svhn in it if that has more of the files.

    Args:
        name: "svhn" or "svhn_noextra".

    Raises:
        InputError: neither holds any of the files; the message says how to fetch them.
    """

    def num_files(place: Path) -> int:
        return sum((place / file).exists() for file in FILES[name])

    place = max(folder, folder / "svhn", key=num_files)
    if num_files(place) == 0:
        raise InputError(f"no SVHN in {folder}: {how_to_fetch(name, folder)}")
    return place


def read(place: Path, name: str) -> Arrays:
    """Street View House Numbers (Netzer et al. 2011), cropped digits, 32 x 32 pixels, 3 channels.

    604,388 training images with "svhn", which are those of train and then of extra, or the 73,257
    of train with "svhn_noextra"; 26,032 test images. The classes are numbered as in FixMatch: the
    label in the file, 1 to 10, minus 1. So class 0 is digit 1 and class 9 is digit 0, whereas
    torchvision gives every digit its own number. The images are views of (N, C, H, W) in memory.

    With "svhn" this takes 3.3 GB at the peak and 1.9 GB in the end, beside torch itself.

    Args:
        place: a folder with these files, as `find` returns it.
        name: "svhn" or "svhn_noextra".

    Raises:
        InputError: a file is missing or damaged, or holds something else.
    """
    from torchvision.datasets import SVHN

    sums = {file: md5 for _, file, md5 in SVHN.split_list.values()}
    for file in FILES[name]:
        check_file(place / file, sums[file], name, place)
    *train, test = (place / file for file in FILES[name])
    x_train, y_train = _read_files(train)
    x_test, y_test = _read_files([test])
    return Arrays(x_train, y_train, x_test, y_test, CLASSES, flip=False)


def fetch(folder: Path, name: str) -> None:
    """Download the files of SVHN that are missing or damaged (1.6 GB, without extra 250 MB).

    They go where `find` finds others of them, else into svhn in `folder`, each when it is
    whole: after an interruption only the rest is downloaded.

    Raises:
        InputError: a download failed, was damaged, or cannot be written.
    """
    from torchvision.datasets import SVHN
    from torchvision.datasets.utils import check_integrity, download_url

    try:
        place = find(folder, name)
    except InputError:
        place = folder / "svhn"
    with fetching("SVHN", place):
        place.mkdir(parents=True, exist_ok=True)
        for url, file, md5 in SVHN.split_list.values():
            if file not in FILES[name] or check_integrity(place / file, md5):
                continue
            with tempfile.TemporaryDirectory(dir=place, prefix=".svhn-") as partial:
                download_url(url, partial, file, md5)
                os.replace(Path(partial, file), place / file)


def _read_files(paths: list[Path]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images (N, H, W, C) and classes (N,) of some files of SVHN, one file after the other."""
    labels = [_labels(path) for path in paths]  # first: they say how many images there are
    images = np.empty((sum(map(len, labels)), 3, 32, 32), dtype=np.uint8)
    stop = len(images)
    # From the last file, the largest, on: while its images are in memory twice, the place of those
    # before it has not been touched yet and takes no memory.
    for path, y in zip(reversed(paths), reversed(labels), strict=True):
        x = _array(path, "X")
        if x.dtype != np.uint8 or x.shape != (32, 32, 3, len(y)):
            form = f"uint8 (32, 32, 3, {len(y)})"
            raise InputError(f"{path}: X must be {form}, not {describe(x)}")
        images[stop - len(y) : stop] = x.transpose(3, 2, 0, 1)
        stop -= len(y)
        del x  # before the next file is read
    return images.transpose(0, 2, 3, 1), np.concatenate(labels)


def _labels(path: Path) -> NDArray[np.int64]:
    y = _array(path, "y")
    if y.ndim != 2 or y.shape[1] != 1:
        raise InputError(f"{path}: y must be (N, 1), not {describe(y)}")
    wrong = y[~np.isin(y, np.arange(1, 11))]
    if len(wrong):
        raise InputError(f"{path}: y has label {wrong[0]}, it must be 1 to 10 (which is digit 0)")
    labels: NDArray[np.int64] = y[:, 0].astype(np.int64) - 1
    return labels


def _array(path: Path, name: str) -> NDArray[Any]:
    """One array of a MATLAB file."""
    from scipy.io import loadmat  # type: ignore[import-untyped]

    with reading(path):
        arrays = loadmat(path, appendmat=False, variable_names=[name])
    if name not in arrays:
        raise InputError(f"{path}: array {name} is missing")
    array: NDArray[Any] = arrays[name]
    return array
