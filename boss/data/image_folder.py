"""Folders of image files as data sets of the user's own.

N images, S x S pixels, C channels, K classes
"""

import os
import re
import struct
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from boss.data.arrays import Arrays
from boss.data.files import one_line, reading
from boss.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

PREFIX = "folder:"
FORM = "folder:PATH[@SIZE]"
MIN_SIZE, MAX_SIZE = 8, 256  # pixels along a side: what boss.augment supports
PARTS = ("train", "test", "unlabeled")
NO_FLIP = "no-flip"
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
CLUTTER = ("Thumbs.db", "desktop.ini")  # of file managers, like what a leading dot hides
GRAY = ("1", "L", "LA")  # Pillow's modes of 8 bits or less
COLOR = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


class Folder(NamedTuple):
    """What the name of a data set says."""

    path: Path
    size: int | None  # to resize images to: pixels along a side


class Files(NamedTuple):
    """The image files of a folder, in the order of their positions."""

    train: list[Path]  # (N,)
    train_classes: list[int]
    test: list[Path]
    test_classes: list[int]
    unlabeled: list[Path]
    class_names: tuple[str, ...]  # (K,)


def parse(name: str) -> Folder:
    """`folder:PATH` or `folder:PATH@SIZE`, with a home folder for ~.

    >>> parse("folder:photos@96")
    Folder(path=PosixPath('photos'), size=96)

    Raises:
        InputError: it has no such form, or the size is not supported.
    """
    match = re.fullmatch(rf"{PREFIX}(.+?)(?:@([0-9]+))?", name, flags=re.DOTALL)
    if match is None:
        raise InputError(
            f"malformed data set {name!r}: write {FORM}, for instance folder:photos@96"
        )
    size = None if match[2] is None else int(match[2][:9])
    if size is not None and not MIN_SIZE <= size <= MAX_SIZE:
        raise InputError(f"{name}: SIZE must be {MIN_SIZE} to {MAX_SIZE} pixels, not {match[2]}")
    return Folder(Path(match[1]).expanduser(), size)


def find(name: str) -> Path:
    """The folder with train/ and test/ that a name means.

    Raises:
        InputError: the name is malformed, or there is no such folder.
    """
    root = parse(name).path
    for folder in (root, root / "train", root / "test"):
        if not folder.is_dir():
            raise InputError(
                f"no folder {folder}: a data set {FORM} holds PATH/train and PATH/test"
            )
    return root


def read(name: str) -> Arrays:
    """Images in the folders PATH/train/CLASS, PATH/test/CLASS and, if there is one, PATH/unlabeled.

    The classes are the folders in train, and the images the files in them, sorted by name: in the
    order of the code points of the normalized (NFC) name, which is one order on every machine. So
    class 10 comes before class 2: name them 02 and 10. Unlabeled images are training images without
    a class; they may lie in folders of any depth. What begins with a dot is passed over, and so is
    the clutter of file managers; whatever else is no image (SUFFIXES), or not where images belong,
    is refused.

    Images are read by Pillow and turned as their EXIF data says. Transparency is dropped, only
    the first frame counts. They have one channel if all of them are stored as gray, else three.
    Without @SIZE all must be squares of one size, 8 to 256 pixels along a side. With it, the
    largest centered square of each is resized to SIZE x SIZE pixels, bilinear, with antialiasing
    (smaller images are enlarged): the shorter side becomes SIZE, and the center is cropped.

    Images may be mirrored in training unless there is a file no-flip in PATH.

    Every training process reads all files again: of many photos, make an .npz file. Decoders of
    JPEG may differ in their last bit, and with them the fingerprint.

    Args:
        name: "folder:PATH" or "folder:PATH@SIZE".

    Raises:
        InputError: a folder is missing or has no image; something lies where it does not belong;
            an image cannot be read or has another size.
    """
    from PIL import Image

    Image.init()  # all formats, before there are threads
    root, size = find(name), parse(name).size
    files = list_files(root)
    paths = [*files.train, *files.test, *files.unlabeled]
    headers = _map(_header, paths)
    if size is None:
        size = _common_size(paths, [header.size for header in headers], root)
    channels = 1 if all(header.mode in GRAY for header in headers) else 3

    def pixels(part: list[Path]) -> NDArray[np.uint8]:
        images = np.empty((len(part), channels, size, size), dtype=np.uint8)

        def fill(position: int) -> None:
            images[position] = _pixels(part[position], channels, size)

        _map(fill, range(len(part)))
        return images.transpose(0, 2, 3, 1)

    return Arrays(
        x_train=pixels(files.train),
        y_train=np.array(files.train_classes, dtype=np.int64),
        x_test=pixels(files.test),
        y_test=np.array(files.test_classes, dtype=np.int64),
        class_names=files.class_names,
        flip=not (root / NO_FLIP).exists(),
        x_unlabeled=pixels(files.unlabeled) if files.unlabeled else None,
    )


def list_files(root: Path) -> Files:
    """The image files below a folder with train and test in it, in the order of their positions.

    Raises:
        InputError: as for `read`, but for the images themselves.
    """
    for entry in _entries(root):
        if entry.is_dir() and entry.name not in PARTS:
            raise InputError(f"{entry} is none of {', '.join(PARTS)}: rename it or move it away")
        if entry.name != NO_FLIP and re.fullmatch(r"no.?flip(\..*)?", entry.name.lower()):
            raise InputError(f"{entry} must be called {NO_FLIP}, if images may not be mirrored")
    classes = [_name(folder) for folder in _folders(root / "train")]
    if not classes:
        raise InputError(f"{root / 'train'} has no folder: there must be one for each class")
    labels = {name: label for label, name in enumerate(classes)}
    parts: dict[str, tuple[list[Path], list[int]]] = {}
    for part in ("train", "test"):
        parts[part] = [], []
        for folder in _folders(root / part):
            if _name(folder) not in labels:
                raise InputError(f"{folder} is no class: {root / 'train'} has no such folder")
            paths = _images(folder, nested=False)
            if not paths:
                raise InputError(f"{folder} has no image")
            parts[part][0].extend(paths)
            parts[part][1].extend([labels[_name(folder)]] * len(paths))
    more = root / "unlabeled"
    unlabeled = _images(more, nested=True) if more.exists() else []
    if more.exists() and not unlabeled:
        raise InputError(f"{more} has no image")
    return Files(*parts["train"], *parts["test"], unlabeled, tuple(classes))


def _name(path: Path) -> str:
    """One spelling of a name for all systems: some take accents off their letters."""
    return unicodedata.normalize("NFC", path.name)


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted by name, but for what is hidden."""
    with reading(folder):
        entries = [e for e in folder.iterdir() if not e.name.startswith(".")]
    return sorted((e for e in entries if e.name not in CLUTTER), key=_name)


def _folders(part: Path) -> list[Path]:
    """The folders of the classes in train or test."""
    folders = _entries(part)
    for entry in folders:
        if not entry.is_dir():
            raise InputError(f"{entry} is in no folder of a class")
    return folders


def _images(folder: Path, *, nested: bool) -> list[Path]:
    """The image files in a folder, sorted by name, with those of its folders in their places."""
    paths = []
    for entry in _entries(folder):
        if entry.is_dir():
            if not nested:
                raise InputError(f"{entry} is a folder: the images of a class lie side by side")
            paths += _images(entry, nested=True)
        elif entry.suffix.lower() in SUFFIXES:
            paths.append(entry)
        else:
            kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
            raise InputError(f"{entry} is no image ({kinds}): move it away")
    return paths


class _Header(NamedTuple):
    mode: str  # of Pillow
    size: tuple[int, int]  # width, height


def _header(path: Path) -> _Header:
    """What a file says of its image before any pixel is read."""
    from PIL import Image

    with _decoding(path), Image.open(path) as image:
        if image.mode not in (*GRAY, *COLOR):
            raise InputError(f"{path} has pixels of kind {image.mode}: save it with 8 bits each")
        return _Header(image.mode, image.size)


def _common_size(paths: list[Path], sizes: list[tuple[int, int]], root: Path) -> int:
    """The one size of all images, pixels along a side."""
    hint = f"{PREFIX}{root}@{min(max(min(sizes[0]), MIN_SIZE), 96)} would resize them"
    for path, (width, height) in zip(paths, sizes, strict=True):
        seen = f"{path} is {width} pixels wide and {height} high"
        if width != height:
            raise InputError(f"{seen}, not square: {hint}")
        if not MIN_SIZE <= width <= MAX_SIZE:
            raise InputError(f"{seen}, not {MIN_SIZE} to {MAX_SIZE}: {hint}")
        if (width, height) != sizes[0]:
            raise InputError(f"{seen}, but {paths[0]} is {sizes[0][0]}: {hint}")
    return sizes[0][0]


def _pixels(path: Path, channels: int, size: int) -> NDArray[np.uint8]:
    """One image (C, S, S)."""
    from PIL import Image, ImageOps

    with _decoding(path), Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
        image.info.pop("transparency", None)
        image = image.convert("L" if channels == 1 else "RGB")
        if image.size != (size, size):
            image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
        return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turns whatever a damaged image raises into one line."""
    from PIL import Image

    try:
        yield
    except InputError:
        raise
    except (
        *(OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError),
        *(TypeError, KeyError, IndexError, OverflowError, struct.error, RuntimeError),
    ) as error:
        raise InputError(f"{path} cannot be read as an image: {one_line(error)}") from error


def _map(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """`map` on all cores: Pillow lets other threads run while it decodes."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))
