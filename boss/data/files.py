"""What all data sets on disk share: checksums, downloads, and one-line error messages."""

import contextlib
import os
import shutil
import socket
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from boss.errors import InputError

SILENCE_SECONDS = 60.0  # that a server may stay silent before a download counts as failed


def how_to_fetch(dataset: str, folder: Path) -> str:
    """The end of the message on a missing or damaged data set."""
    return f"run `boss-study data fetch {dataset} --data {folder}`"


def check_file(path: Path, md5: str | None, dataset: str, folder: Path) -> None:
    """Check that a file is the published one.

    Args:
        md5: checksum of the published file (32 hex digits); None if unknown: any file passes.
        dataset: its name, one of boss.data.DATASETS.
        folder: where `boss-study data fetch` should put it.

    Raises:
        InputError: the file is missing or has another checksum; the message says how to fetch it.
    """
    from torchvision.datasets.utils import check_integrity

    if not check_integrity(path, md5):
        fault = "damaged" if path.exists() else "missing"
        raise InputError(f"{path} is {fault}: {how_to_fetch(dataset, folder)}")


def fetch_archive(archive: Any, folder: Path, title: str, check: Callable[[Path], object]) -> None:
    """Download one of torchvision's archives and put its content into `folder`.

    The archive is unpacked and checked in a temporary folder, which is then renamed, so an
    interrupted download leaves nothing that looks complete. Replaces a damaged copy.

    Args:
        archive: a class of torchvision.datasets with url, filename, tgz_md5 and base_folder.
        title: name of the data set in messages.
        check: raises InputError if the unpacked folder, its argument, is damaged.

    Raises:
        InputError: the download failed, was damaged, or cannot be written.
    """
    from torchvision.datasets.utils import download_and_extract_archive

    target = folder / archive.base_folder
    with fetching(title, folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{target.name}-") as temporary:
            unpacked = Path(temporary, archive.base_folder)
            with warnings.catch_warnings():
                # torchvision passes no extraction filter to tarfile; the checksum is verified.
                warnings.simplefilter("ignore", DeprecationWarning)
                download_and_extract_archive(
                    archive.url, temporary, filename=archive.filename, md5=archive.tgz_md5
                )
            check(unpacked)
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(unpacked, target)


@contextlib.contextmanager
def fetching(title: str, folder: Path) -> Iterator[None]:
    """Around a download: a silent server times out; every failure becomes a one-line InputError."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_SECONDS)
    try:
        yield
    # RuntimeError is what torchvision raises for a wrong checksum.
    except (
        *(OSError, HTTPException, RuntimeError, InputError),
        *(EOFError, tarfile.TarError, zlib.error),
    ) as error:
        raise InputError(f"cannot fetch {title} into {folder}: {one_line(error)}") from error
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Around reading a file: every failure becomes a one-line InputError."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"no file {path}") from error
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is truncated or not an .npz file: {one_line(error)}") from error
    except (OSError, ValueError, EOFError, RuntimeError, MemoryError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {one_line(error)}") from error


def describe(array: NDArray[Any]) -> str:
    """Type and shape of an array, for messages."""
    return f"{array.dtype} {array.shape}"


def one_line(error: BaseException) -> str:
    """The message of an exception without line breaks; its type if there is no message."""
    return " ".join(str(error).split()) or type(error).__name__
