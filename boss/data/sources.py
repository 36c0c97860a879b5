"""Where images come from: scikit-learn, .npz files, CIFAR-10 and SVHN as torchvision stores them.

Arrays in, arrays out: only what reads or fetches torchvision's format imports torch.

N images, H x W pixels, C channels, K classes
"""

import contextlib
import hashlib
import os
import shutil
import socket
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from boss.errors import InputError

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
BATCHES = "cifar-10-batches-py"  # the folder that torchvision unpacks

SVHN_FILES = {  # name -> files of the training images in their order, then that of the test images
    "svhn": ("train_32x32.mat", "extra_32x32.mat", "test_32x32.mat"),
    "svhn_noextra": ("train_32x32.mat", "test_32x32.mat"),
}
SVHN_CLASSES = (*"123456789", "0")

REQUIRED = ("x_train", "y_train", "x_test", "y_test")
OPTIONAL = ("class_names", "flip")


class Arrays(NamedTuple):
    """A data set as numpy arrays."""

    x_train: NDArray[np.uint8]  # (N, H, W, C)
    y_train: NDArray[np.int64]  # (N,)
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    class_names: tuple[str, ...]  # (K,)
    flip: bool


def digits() -> Arrays:
    """The 1797 handwritten digits of scikit-learn, 8 x 8 gray pixels: 1201 train, 596 test.

    The pixels count 0 to 16 dots; they are scaled to 0 to 255 and rounded (half to even).
    Of every class, in the order of the file, the third, sixth, ... image is a test image. The
    file groups its 13 writers, so each of them is in both parts: the test asks for new
    images of known writers, as that of CIFAR-10 asks for new images from one source. (The nearest
    training image in pixels has the right class for 99.0% of these test images; for 96.5%
    if the last 599 were the test images, who are other people.)

    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, test part.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]  # (1797, 8, 8, 1)
    y = bunch.target.astype(np.int64)
    position = np.empty(len(y), dtype=np.int64)  # within the class
    for label in range(10):
        position[y == label] = np.arange(np.count_nonzero(y == label))
    test = position % 3 == 2
    return Arrays(x[~test], y[~test], x[test], y[test], tuple("0123456789"), flip=False)


def npz(path: Path) -> Arrays:
    """A data set in the form that Keras uses for its .npz files.

    The file holds x_train and x_test, uint8 (N, H, W, C) with C = 1 or 3 or (N, H, W), and
    y_train and y_test, integers (N,) or (N, 1). It may hold class_names, text (K,), by default
    "0", "1", ..., and flip, a single boolean, by default true: whether images may be mirrored.

    Raises:
        InputError: the file is missing or damaged, or an array is missing, unknown or wrong.
    """
    arrays = _read_npz(path)
    for name in REQUIRED:
        if name not in arrays:
            raise InputError(f"{path}: array {name} is missing, it needs {', '.join(REQUIRED)}")
    x_train, x_test = (_images(path, n, arrays[n]) for n in ("x_train", "x_test"))
    y_train, y_test = (_labels(path, n, arrays[n]) for n in ("y_train", "y_test"))
    if "class_names" in arrays:
        names = _class_names(path, arrays["class_names"])
    elif y_train.max() >= len(y_train):  # before that many names are made
        raise InputError(f"{path}: y_train has label {y_train.max()}, but lacks classes below it")
    else:
        names = tuple(map(str, range(int(y_train.max()) + 1)))
    flip = arrays.get("flip", np.array(True))
    if flip.dtype != np.bool_ or flip.size != 1:
        raise InputError(f"{path}: flip must be one boolean, not {_describe(flip)}")
    return Arrays(x_train, y_train, x_test, y_test, names, bool(flip.item()))


def find_cifar10(folder: Path) -> Path:
    """Where CIFAR-10 lies: `folder` itself if it ends in .npz, else cifar10.npz or torchvision's
    folder in it, in this order.

    Raises:
        InputError: it is not there; the message says how to fetch it.
    """
    if folder.suffix == ".npz":
        return folder
    for place in (folder / "cifar10.npz", folder / BATCHES):
        if place.exists():
            return place
    raise InputError(
        f"no CIFAR-10 in {folder}: run `boss-study data fetch cifar10 --data {folder}`"
    )


def cifar10(place: Path) -> Arrays:
    """CIFAR-10 (Krizhevsky 2009) from one of the places that `find_cifar10` knows.

    In an .npz file the training images and all labels are checked; the test images are not,
    because a copy is in use in which 20 of them differ slightly (see `describe_cifar10_test`).
    In torchvision's folder every file is checked.

    Raises:
        InputError: a file is missing or damaged, or these are not the images of CIFAR-10.
    """
    if place.suffix != ".npz":
        return _torchvision_cifar10(place)
    arrays = npz(place)
    for name, expected in CIFAR10_SHA256.items():
        found = _sha256(getattr(arrays, name).astype(np.uint8, copy=False))
        if found != expected:
            raise InputError(
                f"{place}: {name} is not that of CIFAR-10, its SHA-256 is {found} "
                f"and should be {expected}"
            )
    return arrays._replace(class_names=CIFAR10_CLASSES, flip=True)


def describe_cifar10_test(x_test: NDArray[np.uint8]) -> str:
    """One line on the origin of the test images of CIFAR-10 in an .npz file, (N, H, W, C)."""
    found = _sha256(x_test)
    if found == CIFAR10_X_TEST_COPY:
        return "a known copy: 20 of the 10,000 images were recovered from JPEG files"
    return f"not verified, SHA-256 {found}"


def is_cifar10(path: Path) -> bool:
    """Whether x_train of an .npz file is that of CIFAR-10. Reads it only if the size is right.

    Raises:
        InputError: the file is missing or damaged, or has no such array.
    """
    with _reading(path), zipfile.ZipFile(path) as file:
        if "x_train.npy" not in file.namelist():
            raise InputError(f"{path}: array x_train is missing, it needs {', '.join(REQUIRED)}")
        header = file.getinfo("x_train.npy").file_size - int(np.prod(CIFAR10_SHAPE))
    if not 0 < header < 4096:
        return False
    x_train = _read_npz(path, only="x_train")["x_train"]
    right = x_train.dtype == np.uint8 and x_train.shape == CIFAR10_SHAPE
    return right and _sha256(x_train) == CIFAR10_SHA256["x_train"]


def fetch_cifar10(folder: Path) -> None:
    """Download CIFAR-10 into `folder`, as torchvision stores it (about 180 MB).

    It is unpacked and checked in a temporary folder beside its place and then renamed, so
    an interrupted download leaves nothing that looks whole. Replaces a damaged copy.

    Raises:
        InputError: the download failed, was damaged, or cannot be written.
    """
    from torchvision.datasets import CIFAR10

    target = folder / BATCHES
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".cifar10-") as partial:
            with _timeout(seconds=60), warnings.catch_warnings():
                _ignore_known_warnings()
                CIFAR10(partial, download=True)
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(Path(partial, BATCHES), target)
    # RuntimeError is what torchvision raises for a wrong checksum.
    except (OSError, HTTPException, EOFError, tarfile.TarError, zlib.error, RuntimeError) as error:
        raise InputError(f"cannot fetch CIFAR-10 into {folder}: {_one_line(error)}") from error


def find_svhn(folder: Path, name: str) -> Path:
    """The folder that holds SVHN: `folder` itself, or svhn in it if that has more of the files.

    Args:
        name: "svhn" or "svhn_noextra".

    Raises:
        InputError: neither holds any of the files; the message says how to fetch them.
    """

    def num_files(place: Path) -> int:
        return sum((place / file).exists() for file in SVHN_FILES[name])

    place = max(folder, folder / "svhn", key=num_files)
    if num_files(place) == 0:
        raise InputError(f"no SVHN in {folder}: run `boss-study data fetch {name} --data {folder}`")
    return place


def svhn(place: Path, name: str) -> Arrays:
    """Street View House Numbers (Netzer et al. 2011), cropped digits, as its authors store them.

    604,388 training images with "svhn", which are those of train and then of extra, or the 73,257
    of train with "svhn_noextra"; 26,032 test images. The classes are numbered as in FixMatch: the
    label in the file, 1 to 10, minus 1. So class 0 is digit 1 and class 9 is digit 0, whereas
    torchvision gives every digit its own number. The images are views of (N, C, H, W) in memory.

    With "svhn" this takes 3.3 GB at the peak and 1.9 GB in the end.

    Args:
        place: a folder with these files, as `find_svhn` returns it.
        name: "svhn" or "svhn_noextra".

    Raises:
        InputError: a file is missing or damaged, or holds something else.
    """
    from torchvision.datasets import SVHN

    sums = {file: md5 for _, file, md5 in SVHN.split_list.values()}
    for file in SVHN_FILES[name]:
        _check_file(place / file, sums[file], name, place)
    *train, test = (place / file for file in SVHN_FILES[name])
    x_train, y_train = _read_svhn(train)
    x_test, y_test = _read_svhn([test])
    return Arrays(x_train, y_train, x_test, y_test, SVHN_CLASSES, flip=False)


def fetch_svhn(folder: Path, name: str) -> None:
    """Download the files of SVHN that are missing or damaged (1.6 GB, without extra 250 MB).

    They go where `find_svhn` finds others of them, else into svhn in `folder`, each when it is
    whole: after an interruption only the rest is downloaded.

    Raises:
        InputError: a download failed, was damaged, or cannot be written.
    """
    from torchvision.datasets import SVHN
    from torchvision.datasets.utils import check_integrity, download_url

    try:
        place = find_svhn(folder, name)
    except InputError:
        place = folder / "svhn"
    try:
        place.mkdir(parents=True, exist_ok=True)
        for url, file, md5 in SVHN.split_list.values():
            if file not in SVHN_FILES[name] or check_integrity(place / file, md5):
                continue
            with tempfile.TemporaryDirectory(dir=place, prefix=".svhn-") as partial:
                with _timeout(seconds=60):
                    download_url(url, partial, file, md5)
                os.replace(Path(partial, file), place / file)
    # RuntimeError is what torchvision raises for a wrong checksum.
    except (OSError, HTTPException, RuntimeError) as error:
        raise InputError(f"cannot fetch SVHN into {place}: {_one_line(error)}") from error


def _torchvision_cifar10(place: Path) -> Arrays:
    from torchvision.datasets import CIFAR10

    for name, md5 in [*CIFAR10.train_list, *CIFAR10.test_list, tuple(CIFAR10.meta.values())[::2]]:
        _check_file(place / name, md5, "cifar10", place.parent)
    with warnings.catch_warnings():
        _ignore_known_warnings()
        train, test = (CIFAR10(place.parent, train=is_train) for is_train in (True, False))
    y_train, y_test = (np.array(part.targets, dtype=np.int64) for part in (train, test))
    return Arrays(train.data, y_train, test.data, y_test, CIFAR10_CLASSES, flip=True)


def _read_svhn(paths: list[Path]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images (N, H, W, C) and classes (N,) of some files of SVHN, one file after the other."""
    labels = [_svhn_labels(path) for path in paths]  # first: they say how many images there are
    images = np.empty((sum(map(len, labels)), 3, 32, 32), dtype=np.uint8)
    stop = len(images)
    # From the last file, the largest, on: while its images are in memory twice, the place of those
    # before it has not been touched yet and takes no memory.
    for path, y in zip(reversed(paths), reversed(labels), strict=True):
        x = _read_mat(path, "X")
        if x.dtype != np.uint8 or x.shape != (32, 32, 3, len(y)):
            form = f"uint8 (32, 32, 3, {len(y)})"
            raise InputError(f"{path}: X must be {form}, not {_describe(x)}")
        images[stop - len(y) : stop] = x.transpose(3, 2, 0, 1)
        stop -= len(y)
        del x  # before the next file is read
    return images.transpose(0, 2, 3, 1), np.concatenate(labels)


def _svhn_labels(path: Path) -> NDArray[np.int64]:
    y = _read_mat(path, "y")
    if y.ndim != 2 or y.shape[1] != 1:
        raise InputError(f"{path}: y must be (N, 1), not {_describe(y)}")
    wrong = y[~np.isin(y, np.arange(1, 11))]
    if len(wrong):
        raise InputError(f"{path}: y has label {wrong[0]}, it must be 1 to 10 (which is digit 0)")
    labels: NDArray[np.int64] = y[:, 0].astype(np.int64) - 1
    return labels


def _read_mat(path: Path, name: str) -> NDArray[Any]:
    """One array of a MATLAB file."""
    from scipy.io import loadmat  # type: ignore[import-untyped]

    with _reading(path):
        arrays = loadmat(path, appendmat=False, variable_names=[name])
    if name not in arrays:
        raise InputError(f"{path}: array {name} is missing")
    array: NDArray[Any] = arrays[name]
    return array


def _check_file(path: Path, md5: str, dataset: str, folder: Path) -> None:
    """Refuses a file that is not the published one and says how to fetch that."""
    from torchvision.datasets.utils import check_integrity

    if not check_integrity(path, md5):
        fault = "damaged" if path.exists() else "missing"
        raise InputError(
            f"{path} is {fault}: run `boss-study data fetch {dataset} --data {folder}`"
        )


def _ignore_known_warnings() -> None:
    # The files of CIFAR-10 were pickled in 2009 and torchvision does not tell tarfile which
    # members it trusts; neither is for a user to mend, and the checksums are right.
    warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
    warnings.simplefilter("ignore", DeprecationWarning)


@contextlib.contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """No connection may be silent for longer; torchvision itself would wait forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns whatever a missing or damaged file raises into one line."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"no file {path}") from error
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is truncated or not an .npz file: {_one_line(error)}") from error
    except (OSError, ValueError, EOFError, RuntimeError, MemoryError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {_one_line(error)}") from error


def _read_npz(path: Path, only: str | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name: all of them, or only one."""
    with _reading(path):
        zipfile.ZipFile(path).close()  # numpy takes what is no zip file for a pickle
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
        raise InputError(f"{path}: {name} must be {form}, not {_describe(array)}")
    images: NDArray[np.uint8] = array if array.ndim == 4 else array[..., None]
    if len(images) == 0:
        raise InputError(f"{path}: {name} is empty")
    if images.shape[3] not in (1, 3) or images.shape[1] != images.shape[2]:
        form = "square (N, H, W, C) with 1 or 3 channels"
        raise InputError(f"{path}: {name} must be {form}, not {_describe(array)}")
    return images


def _labels(path: Path, name: str, array: NDArray[Any]) -> NDArray[np.int64]:
    """(N,) from that or from (N, 1)."""
    labels = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        form = "integers (N,) or (N, 1)"
        raise InputError(f"{path}: {name} must be {form}, not {_describe(array)}")
    if len(labels) == 0:
        raise InputError(f"{path}: {name} is empty")
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest > np.iinfo(np.int64).max:
        wrong = lowest if lowest < 0 else highest
        raise InputError(f"{path}: {name} has label {wrong}: classes count from 0")
    return labels.astype(np.int64)


def _class_names(path: Path, array: NDArray[Any]) -> tuple[str, ...]:
    if array.dtype.kind != "U" or array.ndim != 1:
        raise InputError(f"{path}: class_names must be text (K,), not {_describe(array)}")
    return tuple(map(str, array))


def _describe(array: NDArray[Any]) -> str:
    return f"{array.dtype} {array.shape}"


def _sha256(array: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
