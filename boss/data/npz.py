"""A user's own images in one .npz file.

N images, H x W pixels, C channels, K classes
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boss.data.files import describe, reading
from boss.data.source import Arrays
from boss.errors import InputError

SUFFIX = ".npz"
FORM = "FILE.npz"
REQUIRED = ("x_train", "y_train", "x_test", "y_test")
OPTIONAL = ("x_unlabeled", "class_names", "flip")


def read(path: Path) -> Arrays:
    """The data set in an .npz file, with arrays named as in the .npz files of Keras.

    ===========  ===============================================================================
    x_train      uint8 (N, H, W, C) with C = 1 or 3, or (N, H, W) for gray images; H = W
    y_train      integers (N,) or (N, 1): classes 0 to K - 1, each with at least one image
    x_test       like x_train, of the same size and number of channels
    y_test       like y_train; a class may have no test image
    x_unlabeled  optional: further training images without a class, like x_train
    class_names  optional: strings (K,); by default "0", "1", ...
    flip         optional: one boolean; whether images may be mirrored in training (default: true)
    ===========  ===============================================================================

    No other array may be in the file, and none may be pickled.

    Args:
        path: of a file that `numpy.savez` or `numpy.savez_compressed` wrote.

    Raises:
        InputError: the file is missing or damaged, or an array is missing, unknown or malformed.
    """
    arrays = read_arrays(path)
    for name in REQUIRED:
        if name not in arrays:
            raise InputError(f"{path}: array {name} is missing, it needs {', '.join(REQUIRED)}")
    x_train, x_test = (_images(path, n, arrays[n]) for n in ("x_train", "x_test"))
    y_train, y_test = (_labels(path, n, arrays[n]) for n in ("y_train", "y_test"))
    if "class_names" in arrays:
        names = _class_names(path, arrays["class_names"])
    elif y_train.max() >= len(y_train):  # would need that many class names
        raise InputError(f"{path}: y_train has label {y_train.max()}, but lacks classes below it")
    else:
        names = tuple(map(str, range(int(y_train.max()) + 1)))
    flip = arrays.get("flip", np.array(True))
    if flip.dtype != np.bool_ or flip.size != 1:
        raise InputError(f"{path}: flip must be one boolean, not {describe(flip)}")
    unlabeled = None
    if "x_unlabeled" in arrays:
        unlabeled = _images(path, "x_unlabeled", arrays["x_unlabeled"])
    return Arrays(x_train, y_train, x_test, y_test, names, bool(flip.item()), unlabeled)


def read_arrays(path: Path, only: str | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name: all of them, or only the one named.

    Raises:
        InputError: the file is missing or damaged, or holds something else.
    """
    with reading(path):
        zipfile.ZipFile(path).close()  # numpy takes any other file for a pickle
        with np.load(path, allow_pickle=False) as file:
            unknown = sorted(set(file.files) - {*REQUIRED, *OPTIONAL})
            if unknown:
                known = ", ".join((*REQUIRED, *OPTIONAL))
                raise InputError(f"{path}: unknown array {unknown[0]!r}, it may hold {known}")
            arrays = {name: file[name] for name in file.files if only in (None, name)}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # bytes: a member in another format
            raise InputError(f"{path}: {name} is not an array")
    return arrays


def _images(path: Path, name: str, array: NDArray[Any]) -> NDArray[np.uint8]:
    """(N, H, W, C) from that or from (N, H, W)."""
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        form = "uint8 (N, H, W, C) or (N, H, W)"
        raise InputError(f"{path}: {name} must be {form}, not {describe(array)}")
    images: NDArray[np.uint8] = array if array.ndim == 4 else array[..., None]
    if len(images) == 0:
        raise InputError(f"{path}: {name} is empty")
    if images.shape[3] not in (1, 3) or images.shape[1] != images.shape[2]:
        form = "square (N, H, W, C) with 1 or 3 channels"
        raise InputError(f"{path}: {name} must be {form}, not {describe(array)}")
    return images


def _labels(path: Path, name: str, array: NDArray[Any]) -> NDArray[np.int64]:
    """(N,) from that or from (N, 1)."""
    labels = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        form = "integers (N,) or (N, 1)"
        raise InputError(f"{path}: {name} must be {form}, not {describe(array)}")
    if len(labels) == 0:
        raise InputError(f"{path}: {name} is empty")
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest > np.iinfo(np.int64).max:
        wrong = lowest if lowest < 0 else highest
        raise InputError(f"{path}: {name} has label {wrong}: classes count from 0")
    return labels.astype(np.int64)


def _class_names(path: Path, array: NDArray[Any]) -> tuple[str, ...]:
    if array.dtype.kind != "U" or array.ndim != 1:
        raise InputError(f"{path}: class_names must be strings (K,), not {describe(array)}")
    return tuple(map(str, array))
