"""CIFAR-10 and CIFAR-100 as torchvision stores them, CIFAR-10 also as an .npz file.

N images, H x W pixels, C channels, K classes
"""

import hashlib
import warnings
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boss.data import npz
from boss.data.files import check_file, fetch_archive, how_to_fetch, reading
from boss.data.source import Arrays, Shape, Source
from boss.errors import InputError

TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
FOLDERS = {  # as torchvision unpacks them
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


def find(name: str, folder: Path) -> Path:
    """The file or folder that holds CIFAR: torchvision's folder in `folder`.

    For "cifar10", `folder` itself if it ends in .npz, or cifar10.npz in it, comes first.

    Raises:
        InputError: it is not there; the message says how to fetch it.
    """
    if name == "cifar10" and folder.suffix == npz.SUFFIX:
        return folder
    paths = [folder / "cifar10.npz"] if name == "cifar10" else []
    for path in (*paths, folder / FOLDERS[name]):
        if path.exists():
            return path
    raise InputError(f"no {TITLES[name]} in {folder}: {how_to_fetch(name, folder)}")


def read(name: str, path: Path) -> Arrays:
    """CIFAR-10 or, with its 100 fine classes, CIFAR-100 (Krizhevsky 2009).

    50,000 training and 10,000 test images, 32 x 32 pixels, 3 channels. In torchvision's folder the
    checksum of every file is verified. In an .npz file of CIFAR-10 those of the training images and
    of all labels are; that of the test images is not, because a copy is in use in which 20 of them
    differ slightly (see `describe_cifar10_test`).

    Args:
        path: as `find` returns it.

    Raises:
        InputError: a file is missing or damaged, or holds something else.
    """
    if path.suffix == npz.SUFFIX:
        return _read_cifar10_npz(path)
    _check(path, name)
    with warnings.catch_warnings():
        # The files were pickled in 2009; nothing that a user could fix.
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        train, test = (_torchvision_class(name)(path.parent, train=part) for part in (True, False))
    y_train, y_test = (np.array(part.targets, dtype=np.int64) for part in (train, test))
    return Arrays(train.data, y_train, test.data, y_test, tuple(train.classes), flip=True)


def fetch(name: str, folder: Path) -> None:
    """Download CIFAR into `folder` (about 180 MB), as torchvision stores it, unless it is there.

    Raises:
        InputError: the download failed, or there is an .npz file that is not CIFAR-10.
    """
    try:
        path = find(name, folder)
        if path.suffix == npz.SUFFIX:
            read(name, path)
        else:
            _check(path, name)
    except InputError:
        is_npz = folder.suffix == npz.SUFFIX or (folder / "cifar10.npz").exists()
        if name == "cifar10" and is_npz:
            raise  # never replace a user's file
        archive = _torchvision_class(name)
        fetch_archive(archive, folder, TITLES[name], lambda path: _check(path, name))


def is_cifar10(path: Path) -> bool:
    """Whether the x_train of an .npz file is that of CIFAR-10, and there is no x_unlabeled.

    Reads x_train only if its size is right.

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
    """One line on the origin of the test images (N, H, W, C) in an .npz file of CIFAR-10."""
    found = _sha256(x_test)
    if found == CIFAR10_X_TEST_COPY:
        return "a known copy: 20 of the 10,000 images were recovered from JPEG files"
    return f"not verified, SHA-256 {found}"


def _notes(path: Path, arrays: Arrays) -> list[str]:
    from_npz = path.suffix == npz.SUFFIX
    origin = describe_cifar10_test(arrays.x_test) if from_npz else "as published (checksums)"
    return [
        "training images and all labels: as published (checksums)",
        f"test images: {origin}",
    ]


def _read_cifar10_npz(path: Path) -> Arrays:
    arrays = npz.read(path)
    if arrays.x_unlabeled is not None:
        raise InputError(
            f"{path}: CIFAR-10 has no x_unlabeled: to use this file, pass it as your own data"
        )
    for name, expected in CIFAR10_SHA256.items():
        found = _sha256(getattr(arrays, name).astype(np.uint8, copy=False))
        if found != expected:
            raise InputError(
                f"{path}: {name} is not that of CIFAR-10, its SHA-256 is {found} "
                f"and should be {expected}"
            )
    return arrays._replace(class_names=CIFAR10_CLASSES, flip=True)


def _torchvision_class(name: str) -> Any:
    """The class of torchvision that knows the files, their checksums and their address."""
    from torchvision import datasets

    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]


def _check(path: Path, name: str) -> None:
    cifar = _torchvision_class(name)
    meta = (cifar.meta["filename"], cifar.meta["md5"])
    for file, md5 in (*cifar.train_list, *cifar.test_list, meta):
        check_file(path / file, md5, name, path.parent)


def _sha256(array: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


CIFAR10 = Source(
    name="cifar10",
    summary="CIFAR-10, small photographs (Krizhevsky 2009)",
    shape=Shape(channels=3, size=32, num_classes=10),
    num_train=50_000,
    num_test=10_000,
    find=partial(find, "cifar10"),
    read=partial(read, "cifar10"),
    fetch=partial(fetch, "cifar10"),
    notes=_notes,
)
CIFAR100 = Source(
    name="cifar100",
    summary="CIFAR-100, small photographs, the fine classes (Krizhevsky 2009)",
    shape=Shape(channels=3, size=32, num_classes=100),
    num_train=50_000,
    num_test=10_000,
    find=partial(find, "cifar100"),
    read=partial(read, "cifar100"),
    fetch=partial(fetch, "cifar100"),
)
