"""Data sets by name: `load`, `check`, `fetch`, `identify`, `stamp`.

A name is one of DATASETS, or it denotes the user's own images: the path of an .npz file, or
folder:PATH[@SIZE] (a folder of image files). To add a data set, write its loader file, which
declares a `boss.data.source.Source`, and add a line to DATASETS: everything that lists data sets
reads that table.

Importing this package does not import torch, scikit-learn, scipy or Pillow; loading does.
Which images are labeled is the business of `boss.data.label_sets`.
"""

import contextlib
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boss.data import cifar, digits, image_folder, npz, stl10, svhn
from boss.data.source import Arrays, Shape, Source
from boss.errors import InputError, choose

__all__ = [
    "DATASETS",
    "NAMES",
    "OWN",
    "Dataset",
    "ImageSet",
    "Shape",
    "Source",
    "check",
    "default_folder",
    "fetch",
    "identify",
    "is_own",
    "load",
    "stamp",
]

if TYPE_CHECKING:
    from boss.data.imageset import Dataset, ImageSet
else:

    def __getattr__(name: str) -> object:
        # These two need torch, which takes seconds to import; the rest of the package does not.
        if name in ("Dataset", "ImageSet"):
            from boss.data import imageset

            return getattr(imageset, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


DATASETS: dict[str, Source] = {
    source.name: source
    for source in (
        digits.DIGITS,
        cifar.CIFAR10,
        cifar.CIFAR100,
        svhn.SVHN,
        svhn.SVHN_NOEXTRA,
        stl10.STL10,
    )
}
NAMES = tuple(DATASETS)
OWN = (npz.FORM, image_folder.FORM)  # how the user's own data are named


def default_folder() -> Path:
    """Where data sets are looked for: the environment variable BOSS_DATA, else ./data."""
    return Path(os.environ.get("BOSS_DATA") or "data")


def is_own(name: str) -> bool:
    """Whether a name, or the value of `--data`, denotes the user's own data.

    >>> [is_own(name) for name in ("mine.npz", "folder:photos@96", "data", "cifar10")]
    [True, True, False, False]
    """
    return name.endswith(npz.SUFFIX) or name.startswith(image_folder.PREFIX)


def load(name: str, folder: Path | None = None, *, download: bool = False) -> "Dataset":
    """A data set, in memory, on the CPU.

    Args:
        name: one of DATASETS; or the path of an .npz file (`npz.read` says what it holds); or
            "folder:PATH" or "folder:PATH@SIZE" (`image_folder.read` says how it is laid out).
        folder: where published data sets are looked for; for CIFAR-10 it may also be the .npz file
            that holds it; `default_folder()` if None.
        download: fetch the data set first if it is missing.

    Raises:
        InputError: unknown name, or the data are missing or damaged.
    """
    if download and name in DATASETS:
        fetch(name, folder)
    path = _find(name, folder)
    return _as_tensors(name, _read(name, path))


def stamp(name: str, folder: Path | None = None) -> tuple[object, ...]:
    """A value that changes when `load` would read other files: paths, sizes, times. Quick.

    Args:
        name, folder: as for `load`.

    Raises:
        InputError: unknown name, or the data are missing.
    """
    path = _find(name, folder)
    if path is None:
        return ()
    if path.is_file():
        files = [str(path)]
    else:
        levels = os.walk(path) if is_own(name) else itertools.islice(os.walk(path), 1)
        files = [os.path.join(level, file) for level, _, names in levels for file in names]
    found = []
    for file in sorted(files):
        with contextlib.suppress(OSError):  # deleted since it was listed: that is a change, too
            status = os.stat(file)
            found.append((file, status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(found)


def identify(path: Path) -> str:
    """The name of the user's own data: always the same for the same file or folder.

    An .npz file is named by its path, except that it is called "cifar10" if its training images are
    those of CIFAR-10 (a checksum): `load("cifar10", path)` loads it, whatever the file is called.
    Paths are relative to the current folder if they lie below it. Quick, without torch.

    Args:
        path: FILE.npz or folder:PATH[@SIZE].

    Raises:
        InputError: the file or folder is missing, malformed or damaged, or has no training images.
    """

    def shortest(path: Path) -> Path:
        path = path.resolve()
        return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path

    name = str(path)
    if not name.startswith(image_folder.PREFIX):
        return cifar.CIFAR10.name if cifar.is_cifar10(path) else str(shortest(path))
    size = image_folder.parse(name).size
    ending = "" if size is None else f"@{size}"
    return f"{image_folder.PREFIX}{shortest(image_folder.find(name))}{ending}"


def check(name: str, folder: Path | None = None) -> list[str]:
    """Lines for a person: where a data set was found, its size, classes and fingerprint.

    Raises:
        InputError: as for `load`.
    """
    path = _find(name, folder)
    arrays = _read(name, path)
    dataset = _as_tensors(name, arrays)
    channels, height, width = dataset.train.images.shape[1:]
    train, test = (
        part.labels.bincount(minlength=dataset.num_classes).tolist()
        for part in (dataset.train, dataset.test)
    )
    counts = [f"{c} {n} + {m}" for c, n, m in zip(dataset.class_names, train, test, strict=True)]
    unlabeled = "" if dataset.unlabeled is None else f" + {len(dataset.unlabeled)} unlabeled"
    lines = [
        f"{name}: {path or DATASETS[name].library}",
        f"images: {len(dataset.train)} train + {len(dataset.test)} test{unlabeled}, "
        f"{height} x {width} pixels, {channels} channel{'s' if channels > 1 else ''}",
        f"classes: {', '.join(counts)}",
        f"mirrored in training: {'yes' if dataset.flip else 'no'}",
        f"fingerprint: {dataset.fingerprint}",
    ]
    if name in DATASETS and path is not None:
        lines += DATASETS[name].notes(path, arrays)
    if dataset.folds:
        lines.append(f"label sets fold:0 to fold:{len(dataset.folds) - 1}: predefined folds")
    if name.startswith(image_folder.PREFIX) and image_folder.parse(name).size is not None:
        lines.append("resized: the largest centered square of each image")
    return lines


def fetch(name: str, folder: Path | None = None) -> None:
    """Download a data set unless it is there and undamaged.

    Raises:
        InputError: unknown name, the user's own data, the download failed, or
            there is a damaged file that this function did not download.
    """
    if is_own(name):
        raise InputError(f"{name} is your own data: there is nothing to fetch")
    choose(name, DATASETS, what="data set").fetch(folder or default_folder())


def _find(name: str, folder: Path | None) -> Path | None:
    """The file or folder that holds a data set; None if it comes with a library."""
    if name.startswith(image_folder.PREFIX):
        return image_folder.find(name)
    if is_own(name):
        return Path(name)
    choose(name, dict.fromkeys((*DATASETS, *OWN)), what="data set")
    return DATASETS[name].find(folder or default_folder())


def _read(name: str, path: Path | None) -> Arrays:
    if name in DATASETS:
        return DATASETS[name].read(path)
    assert path is not None
    return image_folder.read(name) if name.startswith(image_folder.PREFIX) else npz.read(path)


def _as_tensors(name: str, arrays: Arrays) -> "Dataset":
    import torch

    from boss.data import imageset

    def tensor(x: NDArray[np.uint8]) -> torch.Tensor:  # (N, H, W, C) -> (N, C, H, W)
        return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()

    def part(which: str, x: NDArray[np.uint8], y: NDArray[np.int64]) -> "ImageSet":
        try:
            return imageset.ImageSet(tensor(x), torch.from_numpy(y), arrays.class_names)
        except InputError as error:
            raise InputError(f"{name}: x_{which} and y_{which}: {error}") from error

    return imageset.Dataset(
        name,
        train=part("train", arrays.x_train, arrays.y_train),
        test=part("test", arrays.x_test, arrays.y_test),
        flip=arrays.flip,
        unlabeled=None if arrays.x_unlabeled is None else tensor(arrays.x_unlabeled),
        folds=arrays.folds,
    )
