"""A folder of arrays that one process computes and others read, and what each cost.

N images, F features
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import numpy as np
from numpy.typing import NDArray

from boss.errors import InputError
from boss.results.write import write_atomically

WAITING_SECONDS = 5.0  # between two lines that say so

Features = NDArray[np.float32]  # (N, F)


@contextlib.contextmanager
def locked(path: Path, what: str, report: Callable[[str], None]) -> Iterator[None]:
    """One process computes something; others wait for it.

    Args:
        path: of the lock.
        what: is computed, for the line that says that we wait.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        patience = 0.0
        while not lock.is_locked:
            try:
                lock.acquire(timeout=patience)
            except filelock.Timeout:
                patience = WAITING_SECONDS
                report(f"{what}: waiting for another process that computes it")
    except OSError as error:
        raise InputError(f"cannot write embeddings to {path.parent}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def read(path: Path, num: int) -> Features | None:
    """An array from the cache, or None if it is missing or damaged."""
    try:
        features = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if features.dtype != np.float32 or features.ndim != 2 or len(features) != num:
        return None
    return features if np.isfinite(features).all() else None


def write(path: Path, features: Features, processor_seconds: float, encoders: str = "") -> None:
    """Write an array, so that nobody sees half of it, after what it cost.

    Args:
        encoders: identifies the trained encoders that it was computed with.
    """
    write_cost(path, processor_seconds, encoders)

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:  # given a path, numpy would append .npy to its name
            np.save(file, features)

    write_atomically(path, save)


def copy(published: Path, path: Path) -> None:
    """Copy a file that comes with the package into the cache."""
    write_atomically(path, lambda temporary: shutil.copyfile(published, temporary))


def write_cost(path: Path, processor_seconds: float, encoders: str = "") -> None:
    """Note beside a file how much processor time it took to compute, and with which encoders."""
    text = json.dumps({"processor_seconds": processor_seconds, "encoders": encoders})
    write_atomically(path.with_suffix(".json"), lambda temporary: temporary.write_text(text))


def cost_of(path: Path) -> float | None:
    """The processor seconds that a file of the cache took to compute, None if nobody noted them."""
    try:
        return float(json.loads(path.with_suffix(".json").read_text())["processor_seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def encoders_of(path: Path) -> str:
    """What identifies the trained encoders of an array of the cache, "" if it has none."""
    try:
        return str(json.loads(path.with_suffix(".json").read_text())["encoders"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
