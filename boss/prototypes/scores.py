"""Scores that rank the images of a group: embeddings (m, F) -> a score of each (m,), higher first.

m images of a group, F dimensions of the embedding
"""

from collections.abc import Callable

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NUM_NEIGHBORS = 20  # Hacohen et al. 2022, section 3.2
BLOCK_MIB = 64  # of distances in memory at a time


def toward_the_mean(x: Floats, random: RandomState) -> Floats:
    """Cosine similarity to the mean of the group (0 if the mean is the origin), in [-1, 1]."""
    mean = x.mean(axis=0)
    return np.asarray(np.clip(x @ (mean / max(float(np.linalg.norm(mean)), 1e-12)), -1, 1))


def near_the_mean(x: Floats, random: RandomState) -> Floats:
    """Minus the distance to the mean of the group."""
    return np.asarray(-np.linalg.norm(x - x.mean(axis=0), axis=1))


def typicality(x: Floats, random: RandomState) -> Floats:
    """1 / (mean distance to the min(20, m - 1) nearest others of the group + 1e-5).

    Source: Hacohen, Dekel and Weinshall 2022, equation 1. The small number is that of their
    code. Deviation: their code takes m // 2 neighbors in groups of fewer than 40.
    """
    num = min(NUM_NEIGHBORS, len(x) - 1)
    if num == 0:
        return np.full(len(x), 1e5)

    def mean_of_nearest(block: Floats) -> Floats:
        # The image itself is one of the num + 1 nearest, at distance 0.
        nearest = np.partition(block, num, axis=1)[:, : num + 1]
        return np.asarray(nearest.sum(axis=1) / num)

    return 1 / (_over_distances(x, mean_of_nearest) + 1e-5)


def centrality(x: Floats, random: RandomState) -> Floats:
    """Minus the mean distance to the other images of the group; the highest is its medoid."""
    return -_over_distances(x, lambda block: block.sum(axis=1)) / max(1, len(x) - 1)


def chance(x: Floats, random: RandomState) -> Floats:
    """A uniform draw of [0, 1) for each image."""
    return random.random_sample(len(x))


def _over_distances(x: Floats, summary: Callable[[Floats], Floats]) -> Floats:
    """`summary` of the distances from each row to all rows (m,): (b, m) -> (b,), in blocks."""
    from sklearn.metrics import pairwise_distances_chunked

    blocks = pairwise_distances_chunked(
        x, reduce_func=lambda block, start: summary(block), working_memory=BLOCK_MIB
    )
    return np.concatenate(list(blocks))
