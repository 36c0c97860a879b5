"""Data sets by name: `load`, `check`, `fetch`, `identify`.

A name is one of NAMES or the path of an .npz file. Importing this package does not import
torch; loading does. Which images are labeled is the business of `boss.data.label_sets`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boss.data import sources
from boss.errors import InputError, choose

__all__ = ["NAMES", "Dataset", "ImageSet", "check", "default_folder", "fetch", "identify", "load"]

if TYPE_CHECKING:
    from boss.data.imageset import Dataset, ImageSet
else:

    def __getattr__(name: str) -> object:
        # These two need torch, which takes seconds to import; the rest of the package does not.
        if name in ("Dataset", "ImageSet"):
            from boss.data import imageset

            return getattr(imageset, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


NAMES = ("digits", "cifar10", "svhn", "svhn_noextra")


def default_folder() -> Path:
    """Where data sets are looked for: the environment variable BOSS_DATA, else ./data."""
    return Path(os.environ.get("BOSS_DATA") or "data")


def load(name: str, folder: Path | None = None, *, download: bool = False) -> "Dataset":
    """A data set, in memory, on the CPU.

    Args:
        name: "digits" (comes with scikit-learn), "cifar10", "svhn" (train and extra),
            "svhn_noextra" or the path of an .npz file (`sources.npz` says what it holds).
        folder: where CIFAR-10 and SVHN are looked for: a folder, or the .npz file that holds
            CIFAR-10; `default_folder()` if None.
        download: fetch it first if it is missing.

    Raises:
        InputError: no such data set, or it is missing or damaged.
    """
    if download and name in NAMES:
        fetch(name, folder)
    return _load(name, _read(name, _locate(name, folder)))


def identify(path: Path) -> str:
    """What an .npz file holds: "cifar10" if x_train is that of CIFAR-10, else its path.

    CIFAR-10 in a file of any name is loaded by `load("cifar10", path)`. Quick, without torch.

    Raises:
        InputError: the file is missing or damaged, or has no array x_train.
    """
    return "cifar10" if sources.is_cifar10(path) else str(path)


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
    lines = [
        f"{name}: {place or 'scikit-learn'}",
        f"images: {len(dataset.train)} train + {len(dataset.test)} test, "
        f"{height} x {width} pixels, {channels} channel{'s' if channels > 1 else ''}",
        f"classes: {', '.join(counts)}",
        f"mirrored in training: {'yes' if dataset.flip else 'no'}",
        f"fingerprint: {dataset.fingerprint}",
    ]
    if name == "cifar10":
        assert place is not None
        lines.append("training images and all labels: as published (checksums)")
        npz = place.suffix == ".npz"
        origin = sources.describe_cifar10_test(arrays.x_test) if npz else "as published (checksums)"
        lines.append(f"test images: {origin}")
    elif name in sources.SVHN_FILES:
        lines.append("all images and labels: as published (checksums)")
    return lines


def fetch(name: str, folder: Path | None = None) -> None:
    """Download a data set unless it is there and whole.

    Raises:
        InputError: nothing can be downloaded under this name, the network failed, or
            a damaged file that was not downloaded by this command stands in the way.
    """
    if name.endswith(".npz"):
        raise InputError(f"{name} is a file of your own: there is nothing to fetch")
    choose(name, dict.fromkeys(NAMES), what="data set")
    if name == "digits":
        return
    folder = folder or default_folder()
    if name in sources.SVHN_FILES:
        sources.fetch_svhn(folder, name)
        return
    try:
        sources.cifar10(sources.find_cifar10(folder))
    except InputError:
        if folder.suffix == ".npz" or (folder / "cifar10.npz").exists():
            raise
        sources.fetch_cifar10(folder)


def _locate(name: str, folder: Path | None) -> Path | None:
    """The file or folder that holds a data set; None if it comes with scikit-learn."""
    if name.endswith(".npz"):
        return Path(name)
    choose(name, dict.fromkeys((*NAMES, "FILE.npz")), what="data set")
    if name == "digits":
        return None
    folder = folder or default_folder()
    if name in sources.SVHN_FILES:
        return sources.find_svhn(folder, name)
    return sources.find_cifar10(folder)


def _read(name: str, place: Path | None) -> sources.Arrays:
    if place is None:
        return sources.digits()
    if name in sources.SVHN_FILES:
        return sources.svhn(place, name)
    return sources.cifar10(place) if name == "cifar10" else sources.npz(place)


def _load(name: str, arrays: sources.Arrays) -> "Dataset":
    import torch

    from boss.data import imageset

    def part(which: str, x: NDArray[np.uint8], y: NDArray[np.int64]) -> "ImageSet":
        images = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()
        try:
            return imageset.ImageSet(images, torch.from_numpy(y), arrays.class_names)
        except InputError as error:
            raise InputError(f"{name}: x_{which} and y_{which}: {error}") from error

    train = part("train", arrays.x_train, arrays.y_train)
    test = part("test", arrays.x_test, arrays.y_test)
    return imageset.Dataset(name, train, test, flip=arrays.flip)
