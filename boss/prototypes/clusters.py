"""Clusters of images: embeddings (N, F), K -> the number of the cluster of each image (N,).

N images, F dimensions of the embedding, K clusters

scikit-learn has k-means; k-medoids is written here because scikit-learn has none.
"""

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from boss.prototypes.scores import Floats, centrality

Ints = NDArray[np.int64]

NUM_RESTARTS = 10  # of k-means
NUM_SUBSAMPLES = 5  # in the search for medoids
SUBSAMPLE = 4000  # images; the distances between them take 128 MB


def k_means(x: Floats, num_groups: int, random: RandomState) -> Ints:
    """The clusters of the best of 10 runs of k-means (Lloyd), each started by k-means++."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    model = KMeans(num_groups, n_init=NUM_RESTARTS, random_state=random)
    # Several threads sum the members of a cluster in varying order: the last bits of its mean,
    # and so some clusters, would differ from call to call.
    with threadpool_limits(1):
        return np.asarray(model.fit_predict(x), dtype=np.int64)


def k_medoids(x: Floats, num_groups: int, random: RandomState) -> Ints:
    """The clusters whose images are nearest to one of K images, chosen to lie near all others.

    Minimizes the sum over all images of the distance to the nearest medoid. `swap_medoids` finds
    medoids of 5 random subsamples of 4000 images (of all, from 5 random starts, if there are
    no more); the best of them for all images are then improved by turns: every image joins its
    nearest medoid, every cluster takes the image that is nearest to its others.

    Sources: Kaufman and Rousseeuw 1990 (CLARA), Schubert and Rousseeuw 2021 (FasterPAM), Park and
    Jun 2009 (the alternation).
    """
    from sklearn.metrics import euclidean_distances

    best, lowest = np.empty(0, dtype=np.int64), np.inf
    for _ in range(NUM_SUBSAMPLES):
        sample = random.permutation(len(x))[: max(SUBSAMPLE, num_groups)]
        start = np.arange(num_groups)  # of a random order
        medoids = sample[swap_medoids(euclidean_distances(x[sample]), start)]
        cost = _nearest(x, medoids)[1]
        if cost < lowest:
            best, lowest = medoids, cost
    while True:
        assigned, lowest = _nearest(x, best)
        medoids = best.copy()
        for k in range(num_groups):
            members = np.flatnonzero(assigned == k)
            if len(members):
                medoids[k] = members[np.argmax(centrality(x[members], random))]
        # Rounding must not let two sets of equal cost alternate forever.
        if _nearest(x, medoids)[1] >= lowest * (1 - 1e-12):
            return assigned
        best = medoids


def swap_medoids(distances: Floats, medoids: Ints) -> Ints:
    """Exchange medoids for other images as long as that lowers the cost.

    The cost is the sum over the images of the distance to the nearest medoid. Each image in turn
    is the candidate; it replaces the medoid whose removal costs least, immediately if that lowers
    the cost. An image at distance d1 from its nearest medoid i, d2 from the second nearest and d
    from the candidate costs min(d1, d) after the exchange, or min(d2, d) if i is removed.

    Source: Schubert and Rousseeuw 2021, Fast and eager k-medoids clustering (FasterPAM).

    Args:
        distances: between all images (N, N).
        medoids: indices to start from (K,), all different.

    Returns:
        Indices (K,) such that no single exchange lowers the cost.
    """
    medoids = medoids.copy()
    num_images, num_medoids = len(distances), len(medoids)
    nearest, first, second = _two_nearest(distances, medoids)
    unchanged = 0
    candidate = -1
    while unchanged < num_images:
        candidate = (candidate + 1) % num_images
        d = distances[candidate]
        kept = np.minimum(first, d)
        lost = np.bincount(nearest, np.minimum(second, d) - kept, minlength=num_medoids)
        out = int(np.argmin(lost))
        # A medoid as its own candidate gains nothing, and rounding must not look like a gain.
        if kept.sum() + lost[out] < first.sum() * (1 - 1e-12):
            medoids[out] = candidate
            nearest, first, second = _two_nearest(distances, medoids)
            unchanged = 0
        else:
            unchanged += 1
    return medoids


def _nearest(x: Floats, medoids: Ints) -> tuple[Ints, float]:
    """The number of the nearest medoid of each image (N,), and the sum of the distances to them."""
    from sklearn.metrics import euclidean_distances

    distances = euclidean_distances(x, x[medoids])  # (N, K)
    return distances.argmin(axis=1), float(distances.min(axis=1).sum())


def _two_nearest(distances: Floats, medoids: Ints) -> tuple[Ints, Floats, Floats]:
    """The number of the nearest medoid (N,), the distance to it, and to the second nearest."""
    to_medoids = distances[:, medoids]  # (N, K)
    nearest = to_medoids.argmin(axis=1)
    rows = np.arange(len(distances))
    first = to_medoids[rows, nearest]
    to_medoids[rows, nearest] = np.inf
    return nearest, first, to_medoids.min(axis=1)
