"""Street View House Numbers as their authors and torchvision store them.

N images, H x W pixels, C channels
"""

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boss.data.files import check_file, describe, fetching, how_to_fetch, reading
from boss.data.source import Arrays, Shape, Source
from boss.errors import InputError

FILES = {  # name -> files of training images, in order, then the file of test images
    "svhn": ("train_32x32.mat", "extra_32x32.mat", "test_32x32.mat"),
    "svhn_noextra": ("train_32x32.mat", "test_32x32.mat"),
}
CLASSES = (*"123456789", "0")


def find(name: str, folder: Path) -> Path:
    """The folder that holds SVHN: `folder` itself, or svhn in it if that has more of the files.

    Raises:
        InputError: neither holds any of the files; the message says how to fetch them.
    """

    def num_files(path: Path) -> int:
        return sum((path / file).exists() for file in FILES[name])

    found = max(folder, folder / "svhn", key=num_files)
    if num_files(found) == 0:
        raise InputError(f"no SVHN in {folder}: {how_to_fetch(name, folder)}")
    return found


def read(name: str, path: Path) -> Arrays:
    """Street View House Numbers (Netzer et al. 2011), cropped digits, 32 x 32 pixels, 3 channels.

    "svhn" has 604,388 training images, those of train followed by those of extra; "svhn_noextra"
    has the 73,257 of train. Both have 26,032 test images. Classes are numbered as in FixMatch: the
    label in the file, 1 to 10, minus 1. So class 0 is digit 1 and class 9 is digit 0, whereas
    torchvision numbers each class by its digit. The images are views of (N, C, H, W) in memory.

    "svhn" needs 3.3 GB at the peak and 1.9 GB afterwards, besides torch itself.

    Args:
        path: as `find` returns it.

    Raises:
        InputError: a file is missing or damaged, or holds something else.
    """
    from torchvision import datasets

    sums = {file: md5 for _, file, md5 in datasets.SVHN.split_list.values()}
    for file in FILES[name]:
        check_file(path / file, sums[file], name, path)
    *train, test = (path / file for file in FILES[name])
    x_train, y_train = _read_files(train)
    x_test, y_test = _read_files([test])
    return Arrays(x_train, y_train, x_test, y_test, CLASSES, flip=False)


def fetch(name: str, folder: Path) -> None:
    """Download the files of SVHN that are missing or damaged (1.6 GB, without extra 250 MB).

    They go where `find` finds others of them, else into svhn in `folder`. Each is moved there when
    it is complete: after an interruption only the others are downloaded.

    Raises:
        InputError: a download failed, was damaged, or cannot be written.
    """
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity, download_url

    try:
        target = find(name, folder)
    except InputError:
        target = folder / "svhn"
    with fetching("SVHN", target):
        target.mkdir(parents=True, exist_ok=True)
        for url, file, md5 in datasets.SVHN.split_list.values():
            if file not in FILES[name] or check_integrity(target / file, md5):
                continue
            with tempfile.TemporaryDirectory(dir=target, prefix=".svhn-") as temporary:
                download_url(url, temporary, file, md5)
                os.replace(Path(temporary, file), target / file)


def _read_files(paths: list[Path]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images (N, H, W, C) and classes (N,) of several files, one file after the other."""
    labels = [_labels(path) for path in paths]  # they are small and tell how many images there are
    images = np.empty((sum(map(len, labels)), 3, 32, 32), dtype=np.uint8)
    stop = len(images)
    # The last file is the largest and comes first: while its images are in memory twice, the pages
    # for the images of the others have not been touched and take no memory.
    for path, y in zip(reversed(paths), reversed(labels), strict=True):
        x = _array(path, "X")
        if x.dtype != np.uint8 or x.shape != (32, 32, 3, len(y)):
            form = f"uint8 (32, 32, 3, {len(y)})"
            raise InputError(f"{path}: X must be {form}, not {describe(x)}")
        images[stop - len(y) : stop] = x.transpose(3, 2, 0, 1)
        stop -= len(y)
        del x  # frees it before the next file is read
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
    from scipy.io import loadmat

    with reading(path):
        arrays = loadmat(path, appendmat=False, variable_names=[name])
    if name not in arrays:
        raise InputError(f"{path}: array {name} is missing")
    array: NDArray[Any] = arrays[name]
    return array


SVHN = Source(
    name="svhn",
    summary="Street View House Numbers, train and extra (Netzer et al. 2011)",
    shape=Shape(channels=3, size=32, num_classes=10),
    num_train=604_388,
    num_test=26_032,
    find=partial(find, "svhn"),
    read=partial(read, "svhn"),
    fetch=partial(fetch, "svhn"),
)
SVHN_NOEXTRA = Source(
    name="svhn_noextra",
    summary="Street View House Numbers, train only (Netzer et al. 2011)",
    shape=Shape(channels=3, size=32, num_classes=10),
    num_train=73_257,
    num_test=26_032,
    find=partial(find, "svhn_noextra"),
    read=partial(read, "svhn_noextra"),
    fetch=partial(fetch, "svhn_noextra"),
    label_sets="svhn",  # its training images are the first of those of svhn
)
