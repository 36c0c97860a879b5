"""STL-10 as its authors and torchvision store it.

N images, H x W pixels, C channels
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boss.data.files import check_file, fetch_archive, how_to_fetch, reading
from boss.data.source import Arrays, Shape, Source
from boss.errors import InputError

NAME = "stl10"
FOLDER = "stl10_binary"  # as torchvision unpacks it
CLASSES = (
    *("airplane", "bird", "car", "cat", "deer"),
    *("dog", "horse", "monkey", "ship", "truck"),
)
SHAPE = (3, 96, 96)  # of an image (C, H, W)
NUM_FOLDS, FOLD_SIZE = 10, 1000
CHUNK = 1000  # images that are transposed, and so are in memory twice, at a time


def find(folder: Path) -> Path:
    """The folder that holds STL-10: torchvision's folder in `folder`.

    Raises:
        InputError: it is not there; the message says how to fetch it.
    """
    if not (folder / FOLDER).exists():
        raise InputError(f"no STL-10 in {folder}: {how_to_fetch(NAME, folder)}")
    return folder / FOLDER


def read(path: Path) -> Arrays:
    """STL-10 (Coates et al. 2011), 96 x 96 pixels, 3 channels.

    5,000 training images, 8,000 test images, and 100,000 unlabeled ones from a wider distribution.
    The classes are the labels in the files, 1 to 10, minus 1. There are ten predefined folds:
    1,000 indices of training images each, in the order of the file.

    Images and labels are verified by torchvision's checksums. It has none for the folds and the
    class names: the folds are checked for their form, the names must be the published ones.

    The images are views of (N, C, H, W) in memory. They take 3.1 GB, and 28 MB more at the peak:
    the files hold them column by column, and they are transposed chunk by chunk.

    Args:
        path: as `find` returns it.

    Raises:
        InputError: a file is missing or damaged, or holds something else.
    """
    folds = _check(path)
    x_train, x_test, x_unlabeled = (
        _images(path / f"{part}_X.bin") for part in ("train", "test", "unlabeled")
    )
    y_train = _labels(path / "train_y.bin", len(x_train))
    y_test = _labels(path / "test_y.bin", len(x_test))
    return Arrays(x_train, y_train, x_test, y_test, CLASSES, True, x_unlabeled, folds)


def fetch(folder: Path) -> None:
    """Download STL-10 into `folder` unless it is there and undamaged.

    The archive has 2.6 GB, the unpacked files 3.1 GB: there must be room for both.

    Raises:
        InputError: the download failed, was damaged, or cannot be written.
    """
    from torchvision import datasets

    try:
        _check(find(folder))
    except InputError:
        fetch_archive(datasets.STL10, folder, "STL-10", _check)


def _check(path: Path) -> tuple[tuple[int, ...], ...]:
    """Check that every file is the published one; returns the folds."""
    from torchvision import datasets

    published = datasets.STL10
    for file, md5 in (*published.train_list, *published.test_list):
        check_file(path / file, md5, NAME, path.parent)
    texts = {}
    for file in ("fold_indices.txt", "class_names.txt"):
        check_file(path / file, None, NAME, path.parent)
        with reading(path / file):
            texts[file] = (path / file).read_text(encoding="utf-8")
    num_train = (path / "train_y.bin").stat().st_size
    folds = _folds(texts["fold_indices.txt"], num_train)
    if folds is None:
        raise InputError(_damaged(path / "fold_indices.txt"))
    if tuple(texts["class_names.txt"].split()) != CLASSES:
        raise InputError(_damaged(path / "class_names.txt"))
    return folds


def _damaged(path: Path) -> str:
    return f"{path} is damaged: {how_to_fetch(NAME, path.parents[1])}"


def _folds(text: str, num_train: int) -> tuple[tuple[int, ...], ...] | None:
    """The training indices on each line; None if the text does not have the form of the file."""
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


STL10 = Source(
    name=NAME,
    summary="STL-10, photographs, most of them unlabeled (Coates et al. 2011)",
    shape=Shape(channels=3, size=96, num_classes=10),
    num_train=5_000,
    num_test=8_000,
    num_unlabeled=100_000,
    find=find,
    read=read,
    fetch=fetch,
)
