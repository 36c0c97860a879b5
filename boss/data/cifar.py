"""CIFAR-10 and CIFAR-100 as torchvision stores them, CIFAR-10 also as an .npz file.

N images, H x W pixels, C channels, K classes
"""

import hashlib
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boss.data import npz
from boss.data.arrays import Arrays
from boss.data.files import check_file, fetch_archive, how_to_fetch, reading
from boss.errors import InputError

TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
FOLDERS = {  # that torchvision unpacks
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
}
CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
# SHA-256 of the arrays of CIFAR-10 in the order of its files, uint8, images as (N, H, W, C).
CIFAR10_SHA256 = {
    "x_train": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "y_train": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "y_test": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}
# A copy in circulation: 20 of its 10,000 test images were recovered from JPEG files.
CIFAR10_X_TEST_COPY = "1249626010949d8f448e0faf792debbc3da0c50ed31bfff3678c99c37fbc7e48"
CIFAR10_SHAPE = (50_000, 32, 32, 3)


def find(folder: Path, name: str) -> Path:
    """Where CIFAR lies: torchvision's folder in `folder`.

    With "cifar10" before that `folder` itself if it ends in .npz, or cifar10.npz in it.

    Args:
        name: "cifar10" or "cifar100".

    Raises:
        InputError: it is not there; the message says how to fetch it.
    """
    if name == "cifar10" and folder.suffix == ".npz":
        return folder
    places = [folder / "cifar10.npz"] if name == "cifar10" else []
    for place in (*places, folder / FOLDERS[name]):
        if place.exists():
            return place
    raise InputError(f"no {TITLES[name]} in {folder}: {how_to_fetch(name, folder)}")


def read(place: Path, name: str) -> Arrays:
    """CIFAR-10 or, with its 100 fine classes, CIFAR-100 (Krizhevsky 2009).

    50,000 training and 10,000 test images, 32 x 32 pixels, 3 channels. In torchvision's folder
    every file is checked. In an .npz file of CIFAR-10 the training images and all labels are; the
    test images are not, because a copy is in use in which 20 of them differ slightly (see
    `describe_cifar10_test`).

    Args:
        place: a file or folder, as `find` returns it.
        name: "cifar10" or "cifar100".

    Raises:
        InputError: a file is missing or damaged, or holds something else.
    """
    if place.suffix == ".npz":
        return _cifar10_npz(place)
    _check(place, name)
    with warnings.catch_warnings():
        # The files were pickled in 2009: not for a user to mend, and the checksums are right.
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        train, test = (_published(name)(place.parent, train=part) for part in (True, False))
    y_train, y_test = (np.array(part.targets, dtype=np.int64) for part in (train, test))
    return Arrays(train.data, y_train, test.data, y_test, tuple(train.classes), flip=True)


def fetch(folder: Path, name: str) -> None:
    """Download CIFAR into `folder` (about 180 MB), as torchvision stores it, unless it is whole.

    Raises:
        InputError: the download failed, or there is an .npz file that is not CIFAR-10.
    """
    try:
        place = find(folder, name)
        if place.suffix == ".npz":
            read(place, name)
        else:
            _check(place, name)
    except InputError:
        if name == "cifar10" and (folder.suffix == ".npz" or (folder / "cifar10.npz").exists()):
            raise  # a file of the user's own is not replaced
        fetch_archive(_published(name), folder, TITLES[name], lambda place: _check(place, name))


def is_cifar10(path: Path) -> bool:
    """Whether an .npz file holds CIFAR-10: its x_train, and no further images.

    Reads x_train only if the size is right.

    Raises:
        InputError: the file is missing or damaged, or has no such array.
    """
    with reading(path), zipfile.ZipFile(path) as file:
        if "x_train.npy" not in file.namelist():
            needs = ", ".join(npz.REQUIRED)
            raise InputError(f"{path}: array x_train is missing, it needs {needs}")
        header = file.getinfo("x_train.npy").file_size - int(np.prod(CIFAR10_SHAPE))
        if not 0 < header < 4096 or "x_unlabeled.npy" in file.namelist():
            return False
    x_train = npz.read_arrays(path, only="x_train")["x_train"]
    right = x_train.dtype == np.uint8 and x_train.shape == CIFAR10_SHAPE
    return right and _sha256(x_train) == CIFAR10_SHA256["x_train"]


def describe_cifar10_test(x_test: NDArray[np.uint8]) -> str:
    """One line on the origin of the test images of CIFAR-10 in an .npz file, (N, H, W, C)."""
    found = _sha256(x_test)
    if found == CIFAR10_X_TEST_COPY:
        return "a known copy: 20 of the 10,000 images were recovered from JPEG files"
    return f"not verified, SHA-256 {found}"


def _cifar10_npz(path: Path) -> Arrays:
    arrays = npz.read(path)
    if arrays.x_unlabeled is not None:
        raise InputError(
            f"{path}: CIFAR-10 has no x_unlabeled: as a data set, name the file itself"
        )
    for name, expected in CIFAR10_SHA256.items():
        found = _sha256(getattr(arrays, name).astype(np.uint8, copy=False))
        if found != expected:
            raise InputError(
                f"{path}: {name} is not that of CIFAR-10, its SHA-256 is {found} "
                f"and should be {expected}"
            )
    return arrays._replace(class_names=CIFAR10_CLASSES, flip=True)


def _published(name: str) -> Any:
    """The class of torchvision that knows the files, their checksums and where they are."""
    from torchvision.datasets import CIFAR10, CIFAR100

    return {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]


def _check(place: Path, name: str) -> None:
    cifar = _published(name)
    meta = (cifar.meta["filename"], cifar.meta["md5"])
    for file, md5 in (*cifar.train_list, *cifar.test_list, meta):
        check_file(place / file, md5, name, place.parent)


def _sha256(array: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
