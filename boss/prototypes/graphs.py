"""The graph of nearest neighbors of an embedding, kept beside it in the cache.

Dimensions: N training images.
"""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import sparse

from boss.data import Dataset
from boss.prototypes.embeddings import embed
from boss.prototypes.propagation import NUM_NEIGHBORS, POWER, neighbor_graph
from boss.results.write import write_atomically

FORMAT = 1  # of the files: increase it whenever a graph of the same features changes


def graph_of(
    spec: str,
    dataset: Dataset,
    *,
    cache: Path,
    seed: int = 0,
    device: str = "cpu",
    report: Callable[[str], None] = lambda line: None,
) -> sparse.csr_array:
    """`neighbor_graph` of the training images in an embedding, computed once per cache.

    Args:
        as for `boss.prototypes.embeddings.embed`.

    Returns:
        (N, N).
    """
    [features] = embed(spec, dataset, cache=cache, seed=seed, device=device, report=report)
    key = hashlib.sha256(f"{FORMAT} {NUM_NEIGHBORS} {POWER}".encode())
    key.update(features.tobytes())
    path = cache / f"graph-{key.hexdigest()[:16]}.npz"
    try:
        kept = sparse.load_npz(path)
        if kept.shape == (len(features), len(features)) and np.isfinite(kept.data).all():
            return sparse.csr_array(kept)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    report(f"{spec}: graph of {NUM_NEIGHBORS} neighbors")
    graph = neighbor_graph(features)

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:  # given a path, scipy would append .npz to its name
            sparse.save_npz(file, graph)

    write_atomically(path, save)
    return graph
