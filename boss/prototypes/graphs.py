"""The nearest neighbors of an embedding, half whitened, kept beside it in the cache.

N images, F features, R neighbors of an image
"""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from boss.prototypes.cache import Features
from boss.prototypes.propagation import (
    NUM_NEIGHBORS,
    Neighbors,
    half_whitened,
    nearest_neighbors,
)
from boss.results.write import write_atomically

FORMAT = 2  # of the files: increase it whenever the neighbors of the same features change


def kept_neighbors(
    features: Features, cache: Path, progress: Callable[[float], None] = lambda share: None
) -> Neighbors:
    """`nearest_neighbors` of `half_whitened` features, read from the cache if they are there.

    Args:
        features: (N, F).
        cache: folder.
        progress: called with the share done in [0, 1].
    """
    key = hashlib.sha256(f"{FORMAT} {NUM_NEIGHBORS} {features.shape}".encode())
    key.update(features.tobytes())
    path = cache / f"neighbors-{key.hexdigest()[:16]}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            kept = Neighbors(file["indices"].astype(np.int64), file["cosines"])
        if kept.indices.shape == kept.cosines.shape == (len(features), NUM_NEIGHBORS):
            return kept
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # none, or damaged
        pass
    found = nearest_neighbors(half_whitened(features), progress=progress)

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:  # given a path, numpy would append .npz to its name
            np.savez(file, indices=found.indices.astype(np.int32), cosines=found.cosines)

    write_atomically(path, save)
    return found
