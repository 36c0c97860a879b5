"""The nearest neighbors of an embedding, half whitened, kept beside it in the cache.

N images, F features, R neighbors of an image
"""

import hashlib
import time
import zipfile
from pathlib import Path

import numpy as np

from boss.prototypes.cache import Features, cost_of, locked, write_cost
from boss.prototypes.forms import joined
from boss.prototypes.progress import StageProgress
from boss.prototypes.propagation import (
    NUM_NEIGHBORS,
    Neighbors,
    half_whitened,
    nearest_neighbors,
)
from boss.results.write import write_atomically

FORMAT = 2  # of the files: increase it whenever the neighbors of the same features change


def comparable(features: Features, spec: str) -> Features:
    """What cosines are taken of: half whitened features (N, F).

    Those of several embeddings side by side are that already, and once more would be too much
    (docs/laptop.md).

    Args:
        spec: the name of their embedding.
    """
    return features if len(joined(spec)) > 1 else half_whitened(features)


def kept_neighbors(
    features: Features, spec: str, cache: Path, progress: StageProgress
) -> tuple[Neighbors, float | None]:
    """`nearest_neighbors` of `comparable` features, read from the cache if they are there.

    Args:
        features: (N, F); spec: the name of their embedding.
        cache: folder.

    Returns:
        They, and the processor seconds they took, whenever that was; None: not noted.
    """
    key = hashlib.sha256(f"{FORMAT} {NUM_NEIGHBORS} {features.shape}".encode())
    key.update(features.tobytes())
    key.update(b"joined" * (len(joined(spec)) > 1))
    path = cache / f"neighbors-{key.hexdigest()[:16]}.npz"
    with locked(path.with_suffix(".lock"), progress.title, progress.report):
        kept = _read(path, len(features))
        if kept is not None:
            return kept, cost_of(path)
        began = time.process_time()
        found = nearest_neighbors(comparable(features, spec), progress=progress)
        processor_seconds = time.process_time() - began

        def save(temporary: Path) -> None:
            with temporary.open("wb") as file:  # given a path, numpy would append .npz to its name
                np.savez(file, indices=found.indices.astype(np.int32), cosines=found.cosines)

        write_cost(path, processor_seconds)
        write_atomically(path, save)
    return found, processor_seconds


def _read(path: Path, num: int) -> Neighbors | None:
    """The neighbors of so many images, or None if the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            kept = Neighbors(file["indices"].astype(np.int64), file["cosines"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return kept if kept.indices.shape == kept.cosines.shape == (num, NUM_NEIGHBORS) else None
