"""STL-10 as its authors and torchvision store it.

N images, H x W pixels, C channels
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boss.data.arrays import Arrays
from boss.data.files import check_file, fetch_archive, how_to_fetch, reading
from boss.errors import InputError

FOLDER = "stl10_binary"  # that torchvision unpacks
CLASSES = (
    *("airplane", "bird", "car", "cat", "deer"),
    *("dog", "horse", "monkey", "ship", "truck"),
)
SHAPE = (3, 96, 96)  # C, H, W
NUM_FOLDS, FOLD_SIZE = 10, 1000
CHUNK = 1000  # images that are in memory twice while they are read


def find(folder: Path, name: str) -> Path:
    """Where STL-10 lies: torchvision's folder in `folder`.

    Raises:
        InputError: it is not there; the message says how to fetch it.
    """
    if not (folder / FOLDER).exists():
        raise InputError(f"no STL-10 in {folder}: {how_to_fetch(name, folder)}")
    return folder / FOLDER


def read(place: Path, name: str) -> Arrays:
    """STL-10 (Coates et al. 2011), 96 x 96 pixels, 3 channels.

    5,000 training images, 8,000 test images, and 100,000 unlabeled ones from a wider distribution.
    The classes are the labels in the files, 1 to 10, minus 1. There are ten predefined folds of
    1,000 training images each: positions, in the order of the file.

    Images and labels are checked by torchvision's checksums. There are none for the folds and the
    class names: the folds must have their form, the names must be the published ones.

    The images are views of (N, C, H, W) in memory. They take 3.1 GB, at the peak 28 MB more: the
    files hold them column by column, and they are transposed piece by piece.

    Args:
        place: a folder with these files, as `find` returns it.

    Raises:
        InputError: a file is missing or damaged, or holds something else.
    """
    folds = _check(place, name)
    x_train, x_test, x_unlabeled = (
        _images(place / f"{part}_X.bin") for part in ("train", "test", "unlabeled")
    )
    y_train = _labels(place / "train_y.bin", len(x_train))
    y_test = _labels(place / "test_y.bin", len(x_test))
    return Arrays(x_train, y_train, x_test, y_test, CLASSES, True, x_unlabeled, folds)


def fetch(folder: Path, name: str) -> None:
    """Download STL-10 into `folder` unless it is there and whole.

    That is 2.6 GB, unpacked 3.1 GB: it needs room for both.

    Raises:
        InputError: the download failed, was damaged, or cannot be written.
    """
    from torchvision.datasets import STL10

    try:
        _check(find(folder, name), name)
    except InputError:
        fetch_archive(STL10, folder, "STL-10", lambda place: _check(place, name))


def _check(place: Path, name: str) -> tuple[tuple[int, ...], ...]:
    """See that every file is the published one; returns the folds."""
    from torchvision.datasets import STL10

    for file, md5 in (*STL10.train_list, *STL10.test_list):
        check_file(place / file, md5, name, place.parent)
    texts = {}
    for file in ("fold_indices.txt", "class_names.txt"):
        check_file(place / file, None, name, place.parent)
        with reading(place / file):
            texts[file] = (place / file).read_text(encoding="utf-8")
    num_train = (place / "train_y.bin").stat().st_size
    folds = _folds(texts["fold_indices.txt"], num_train)
    for file, right in (
        ("fold_indices.txt", folds is not None),
        ("class_names.txt", tuple(texts["class_names.txt"].split()) == CLASSES),
    ):
        if not right:
            raise InputError(f"{place / file} is damaged: {how_to_fetch(name, place.parent)}")
    assert folds is not None
    return folds


def _folds(text: str, num_train: int) -> tuple[tuple[int, ...], ...] | None:
    """A line of positions in the training images for each fold; None if the text is another."""
    if not re.fullmatch(r"[0-9 \r\n]*", text):
        return None
    folds = tuple(tuple(map(int, line.split())) for line in text.splitlines())
    right = len(folds) == NUM_FOLDS and all(
        len(fold) == len(set(fold)) == FOLD_SIZE and max(fold) < num_train for fold in folds
    )
    return folds if right else None


def _images(path: Path) -> NDArray[np.uint8]:
    """The images of a file, (N, H, W, C)."""
    size = int(np.prod(SHAPE))
    with reading(path), path.open("rb") as file:
        num, rest = divmod(path.stat().st_size, size)
        if num == 0 or rest:
            raise InputError(f"{path} holds {num} images of {size:,} bytes and {rest} bytes more")
        images = np.empty((num, *SHAPE), dtype=np.uint8)
        chunk = np.empty((min(CHUNK, num), 3, 96, 96), dtype=np.uint8)  # (N, C, W, H): columns
        for start in range(0, num, CHUNK):
            columns = chunk[: num - start]
            if file.readinto(columns.data) != columns.nbytes:
                raise InputError(f"{path} became shorter while it was read")
            images[start : start + CHUNK] = columns.transpose(0, 1, 3, 2)
    return images.transpose(0, 2, 3, 1)


def _labels(path: Path, num_images: int) -> NDArray[np.int64]:
    with reading(path):
        labels = np.fromfile(path, dtype=np.uint8)
    if len(labels) != num_images:
        raise InputError(f"{path} holds {len(labels)} labels for {num_images} images")
    wrong = labels[(labels < 1) | (labels > len(CLASSES))]
    if len(wrong):
        raise InputError(f"{path} has label {wrong[0]}, it must be 1 to {len(CLASSES)}")
    return labels.astype(np.int64) - 1
