"""Data sets by name: `load`, `stamp`, `check`, `fetch`, `identify`.

A name is one of NAMES or one of a data set of the user's own: the path of an .npz file, or
folder:PATH[@SIZE] of image files. Importing this package does not import torch; loading does.
Which images are labeled is the business of `boss.data.label_sets`.
"""

import contextlib
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from boss.data import cifar, digits, image_folder, npz, stl10, svhn
from boss.data.arrays import Arrays
from boss.errors import InputError, choose

__all__ = [
    "NAMES",
    "OWN",
    "Dataset",
    "ImageSet",
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


class Source(NamedTuple):
    """Where a published data set comes from."""

    find: Callable[[Path, str], Path]  # folder of data sets, name -> the place in it
    read: Callable[[Path, str], Arrays]  # that place, name -> images and labels
    fetch: Callable[[Path, str], None]  # folder of data sets, name: download what is not whole


SOURCES = {
    "cifar10": Source(cifar.find, cifar.read, cifar.fetch),
    "cifar100": Source(cifar.find, cifar.read, cifar.fetch),
    "svhn": Source(svhn.find, svhn.read, svhn.fetch),
    "svhn_noextra": Source(svhn.find, svhn.read, svhn.fetch),
    "stl10": Source(stl10.find, stl10.read, stl10.fetch),
}
NAMES = ("digits", *SOURCES)
OWN = ("FILE.npz", image_folder.FORM)  # how data sets of the user's own are named


def default_folder() -> Path:
    """Where data sets are looked for: the environment variable BOSS_DATA, else ./data."""
    return Path(os.environ.get("BOSS_DATA") or "data")


def is_own(name: str) -> bool:
    """Whether a name, or what `--data` gives, is that of a data set of the user's own.

    >>> [is_own(name) for name in ("mine.npz", "folder:photos@96", "data", "cifar10")]
    [True, True, False, False]
    """
    return name.endswith(".npz") or name.startswith(image_folder.PREFIX)


def load(name: str, folder: Path | None = None, *, download: bool = False) -> "Dataset":
    """A data set, in memory, on the CPU.

    Args:
        name: "digits" (comes with scikit-learn), "cifar10", "cifar100", "svhn" (train and extra),
            "svhn_noextra", "stl10"; or the path of an .npz file (`npz.read` says what it holds);
            or "folder:PATH" or "folder:PATH@SIZE", image files in PATH/train/CLASS,
            PATH/test/CLASS and, without classes, PATH/unlabeled, of one size or resized to squares
            of SIZE pixels (`image_folder.read` says how).
        folder: where the published data sets are looked for; with CIFAR-10, also the .npz file that
            holds it; `default_folder()` if None.
        download: fetch it first if it is missing.

    Raises:
        InputError: no such data set, or it is missing or damaged.
    """
    if download and name in NAMES:
        fetch(name, folder)
    return _load(name, _read(name, _locate(name, folder)))


def stamp(name: str, folder: Path | None = None) -> tuple[object, ...]:
    """What differs once `load` would read other files: their paths, sizes and times. Quick.

    Args:
        name, folder: as for `load`.

    Raises:
        InputError: no such data set, or it is missing.
    """
    place = _locate(name, folder)
    if place is None:
        return ()
    if place.is_file():
        paths = [str(place)]
    else:
        levels = os.walk(place) if is_own(name) else itertools.islice(os.walk(place), 1)
        paths = [os.path.join(level, file) for level, _, files in levels for file in files]
    found = []
    for path in sorted(paths):
        with contextlib.suppress(OSError):  # gone since it was listed: that is a change, too
            status = os.stat(path)
            found.append((path, status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(found)


def identify(path: Path) -> str:
    """The name of the data set of the user's own that `--data` gives: one name for one place.

    An .npz file is named by its path, but "cifar10" if it holds CIFAR-10, by a checksum of the
    training images: that is loaded by `load("cifar10", path)`, whatever the file is called. A path
    is relative to the current folder if it lies below that. Quick, without torch.

    Args:
        path: FILE.npz or folder:PATH[@SIZE].

    Raises:
        InputError: the file or folder is missing, malformed or damaged, or has no training images.
    """

    def spelling(place: Path) -> Path:
        place = place.resolve()
        return place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place

    name = str(path)
    if not name.startswith(image_folder.PREFIX):
        return "cifar10" if cifar.is_cifar10(path) else str(spelling(path))
    size = image_folder.parse(name).size
    ending = "" if size is None else f"@{size}"
    return f"{image_folder.PREFIX}{spelling(image_folder.find(name))}{ending}"


def check(name: str, folder: Path | None = None) -> list[str]:
    """Lines for a person: where a data set was found, its size, classes and fingerprint.

    Raises:
        InputError: as for `load`.
    """
    place = _locate(name, folder)
    arrays = _read(name, place)
    dataset = _load(name, arrays)
    channels, height, width = dataset.train.images.shape[1:]
    train, test = (
        part.labels.bincount(minlength=dataset.num_classes).tolist()
        for part in (dataset.train, dataset.test)
    )
    counts = [f"{c} {n} + {m}" for c, n, m in zip(dataset.class_names, train, test, strict=True)]
    unlabeled = "" if dataset.unlabeled is None else f" + {len(dataset.unlabeled)} unlabeled"
    lines = [
        f"{name}: {place or 'scikit-learn'}",
        f"images: {len(dataset.train)} train + {len(dataset.test)} test{unlabeled}, "
        f"{height} x {width} pixels, {channels} channel{'s' if channels > 1 else ''}",
        f"classes: {', '.join(counts)}",
        f"mirrored in training: {'yes' if dataset.flip else 'no'}",
        f"fingerprint: {dataset.fingerprint}",
    ]
    if name == "cifar10":
        assert place is not None
        lines.append("training images and all labels: as published (checksums)")
        is_npz = place.suffix == ".npz"
        origin = (
            cifar.describe_cifar10_test(arrays.x_test) if is_npz else "as published (checksums)"
        )
        lines.append(f"test images: {origin}")
    elif name in SOURCES:
        lines.append("all images and labels: as published (checksums)")
    if dataset.folds:
        lines.append(f"label sets fold:0 to fold:{len(dataset.folds) - 1}: predefined folds")
    if name.startswith(image_folder.PREFIX) and image_folder.parse(name).size is not None:
        lines.append("resized: of each image the largest centered square")
    return lines


def fetch(name: str, folder: Path | None = None) -> None:
    """Download a data set unless it is there and whole.

    Raises:
        InputError: nothing can be downloaded under this name, the network failed, or
            a damaged file that was not downloaded by this command stands in the way.
    """
    if is_own(name):
        raise InputError(f"{name} is a data set of your own: there is nothing to fetch")
    choose(name, dict.fromkeys(NAMES), what="data set")
    if name in SOURCES:
        SOURCES[name].fetch(folder or default_folder(), name)


def _locate(name: str, folder: Path | None) -> Path | None:
    """The file or folder that holds a data set; None if it comes with scikit-learn."""
    if name.startswith(image_folder.PREFIX):
        return image_folder.find(name)
    if is_own(name):
        return Path(name)
    choose(name, dict.fromkeys((*NAMES, *OWN)), what="data set")
    if name not in SOURCES:
        return None
    return SOURCES[name].find(folder or default_folder(), name)


def _read(name: str, place: Path | None) -> Arrays:
    if place is None:
        return digits.read()
    if name in SOURCES:
        return SOURCES[name].read(place, name)
    return image_folder.read(name) if name.startswith(image_folder.PREFIX) else npz.read(place)


def _load(name: str, arrays: Arrays) -> "Dataset":
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
