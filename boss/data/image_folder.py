"""A user's own images as a folder of image files.

N images, S x S pixels, C channels, K classes

torchvision's ImageFolder is not used: it skips files that it does not know, takes hidden folders
for classes, ignores the EXIF orientation and cuts 16-bit pixels off at 255. Here each of these is
handled or refused. Decoding, turning, resizing and cropping are Pillow's, as they are there.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from boss.data.files import one_line, reading
from boss.data.source import Arrays
from boss.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

PREFIX = "folder:"
FORM = "folder:PATH[@SIZE]"
MIN_SIZE, MAX_SIZE = 8, 256  # pixels along a side: what boss.augment supports
PARTS = ("train", "test", "unlabeled")
NO_FLIP = "no-flip"
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
HIDDEN = ("Thumbs.db", "desktop.ini")  # of file managers; so are names with a leading dot
GRAY = ("1", "L", "LA")  # Pillow's modes of at most 8 bits per channel
COLOR = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


class Folder(NamedTuple):
    """The parts of the name of a data set."""

    path: Path
    size: int | None  # to resize images to: pixels along a side


class Files(NamedTuple):
    """The image files of a folder, in the order of their indices."""

    train: list[Path]  # (N,)
    train_classes: list[int]
    test: list[Path]
    test_classes: list[int]
    unlabeled: list[Path]
    class_names: tuple[str, ...]  # (K,)


def parse(name: str) -> Folder:
    """Split `folder:PATH` or `folder:PATH@SIZE`; a leading ~ is the home folder.

    >>> parse("folder:photos@96")
    Folder(path=PosixPath('photos'), size=96)

    Raises:
        InputError: another form, or the size is not supported.
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
    """The folder PATH of a name; it must contain train and test.

    Raises:
        InputError: the name is malformed, or there is no such folder.
    """
    root = parse(name).path
    for folder in (root, root / "train", root / "test"):
        if not folder.is_dir():
            raise InputError(f"no folder {folder}: {FORM} needs PATH/train and PATH/test")
    return root


def read(name: str) -> Arrays:
    """The data set in a folder of image files.

    ====================  ==================================================================
    PATH/train/CLASS/*    training images; the folders are the classes, numbered by name
    PATH/test/CLASS/*     test images of the same classes; a class may be missing here
    PATH/unlabeled/**/*   optional: further training images without a class, at any depth
    PATH/no-flip          optional: if this file exists, images are not mirrored in training
    ====================  ==================================================================

    Classes and images are ordered by name, character by character (capitals before small letters,
    10 before 2), with accented letters in one spelling (Unicode NFC): the same order on all
    systems. Names with a leading dot, Thumbs.db and desktop.ini are ignored, and so are files
    directly in PATH. Any other file or folder is refused, so nothing is left out by mistake.

    The images have one channel if all of them are gray, else three. Photos are turned as their EXIF
    orientation says, transparency is dropped, of an animation the first frame is taken. More than 8
    bits per channel are refused.

    Without SIZE all images must be squares of one size, 8 to 256 pixels along a side. With SIZE the
    largest centered square of each image is resized to SIZE x SIZE pixels, bilinear with
    antialiasing; smaller images are enlarged. torchvision's Resize and CenterCrop give the same
    pixels but for rounding and the edges.

    Every training process decodes all files: for many photos, make an .npz file. The fingerprint
    of JPEG images may differ between versions of Pillow, whose decoders differ in the last bit.

    Args:
        name: "folder:PATH" or "folder:PATH@SIZE".

    Raises:
        InputError: a folder is missing or has no image, an unexpected file or folder, or
            an image that cannot be read or has another size.
    """
    from PIL import Image

    Image.init()  # load the plugins of all formats before threads use them
    root, size = find(name), parse(name).size
    files = list_files(root)
    paths = [*files.train, *files.test, *files.unlabeled]
    headers = _map(_header, paths)
    if size is None:
        size = _common_size(paths, [header.size for header in headers], root)
    channels = 1 if all(header.mode in GRAY for header in headers) else 3

    def pixels(part: list[Path]) -> NDArray[np.uint8]:
        images = np.empty((len(part), channels, size, size), dtype=np.uint8)

        def fill(index: int) -> None:
            images[index] = _pixels(part[index], channels, size)

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
    """The image files in PATH, in the order of their indices.

    Raises:
        InputError: as for `read`, except for the content of the files.
    """
    for entry in _entries(root):
        if entry.is_dir() and entry.name not in PARTS:
            raise InputError(f"{entry} is none of {', '.join(PARTS)}: rename it or move it away")
        if entry.name != NO_FLIP and re.fullmatch(r"no.?flip(\..*)?", entry.name.lower()):
            raise InputError(f"{entry} must be called {NO_FLIP}, if images may not be mirrored")
    class_names = tuple(_name(folder) for folder in _class_folders(root / "train"))
    if not class_names:
        raise InputError(f"{root / 'train'} has no folder: there must be one for each class")
    train, train_classes = _labeled(root / "train", class_names)
    test, test_classes = _labeled(root / "test", class_names)
    unlabeled = _images(root / "unlabeled") if (root / "unlabeled").exists() else []
    return Files(train, train_classes, test, test_classes, unlabeled, class_names)


def _name(path: Path) -> str:
    """The name in one spelling (NFC): some systems store accents apart from their letters."""
    return unicodedata.normalize("NFC", path.name)


def _entries(folder: Path) -> list[Path]:
    """The content of a folder, sorted by name, without hidden files."""
    with reading(folder):
        entries = [e for e in folder.iterdir() if not e.name.startswith(".")]
    return sorted((e for e in entries if e.name not in HIDDEN), key=_name)


def _class_folders(part: Path) -> list[Path]:
    """The folders in train or test, which must contain nothing else."""
    folders = _entries(part)
    for entry in folders:
        if not entry.is_dir():
            raise InputError(f"{entry} is not in the folder of a class")
    return folders


def _labeled(part: Path, class_names: tuple[str, ...]) -> tuple[list[Path], list[int]]:
    """The images in train or test, class by class, and the class of each."""
    paths: list[Path] = []
    classes: list[int] = []
    for folder in _class_folders(part):
        if _name(folder) not in class_names:
            raise InputError(f"{folder} is no class: {part.parent / 'train'} has no such folder")
        for entry in _entries(folder):
            if entry.is_dir():
                raise InputError(f"{entry} is a folder: put the images of a class side by side")
        found = _images(folder)
        paths += found
        classes += [class_names.index(_name(folder))] * len(found)
    return paths, classes


def _images(folder: Path) -> list[Path]:
    """The images in a folder and the folders in it, in one order by name at each level."""

    def below(folder: Path) -> Iterator[Path]:
        for entry in _entries(folder):
            if entry.is_dir():
                yield from below(entry)
            elif entry.suffix.lower() in SUFFIXES:
                yield entry
            else:
                formats = ", ".join(suffix[1:] for suffix in SUFFIXES)
                raise InputError(f"{entry} is no image ({formats}): move it away")

    paths = list(below(folder))
    if not paths:
        raise InputError(f"{folder} has no image")
    return paths


class _Header(NamedTuple):
    mode: str  # of Pillow
    size: tuple[int, int]  # width, height


def _header(path: Path) -> _Header:
    """What an image file says before any pixel is decoded."""
    from PIL import Image

    with _decoding(path), Image.open(path) as image:
        if image.mode not in (*GRAY, *COLOR):
            raise InputError(
                f"{path} has pixels of Pillow's mode {image.mode}: save it with 8 bits per channel"
            )
        return _Header(image.mode, image.size)


def _common_size(paths: list[Path], sizes: list[tuple[int, int]], root: Path) -> int:
    """The size that all images have, in pixels along a side."""
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
    """Around decoding an image: every failure becomes a one-line InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        raise InputError(f"{path} cannot be read as an image: {one_line(error)}") from error


def _map(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """`map` on all cores: Pillow releases the interpreter lock while it decodes."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))
