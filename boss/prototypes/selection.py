"""Which image of each class to label, from an embedding of all training images.

Every method forms K groups of images, the classes or K clusters, and ranks the images of each group
by a score, the best first. The first of every group are labeled; the R-th of every group are
another set, built in the same way. Whether a method consults the labels of all the images, which
are hidden in one-shot learning, is said by METHODS and by every selection.

Embeddings are scaled to length 1, so that distances are those of directions. Those between images
are Euclidean, in float64, and taken in the 128 leading principal components if there are more
dimensions (randomized SVD, seeded); the mean direction of a class needs none of them and
uses all dimensions. No array is ever N x N.

N images, F dimensions of the embedding, K classes, m images of a group
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from boss.errors import InputError, choose

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NUM_COMPONENTS = 128
NUM_NEIGHBORS = 20  # Hacohen et al. 2022, section 3.2
NUM_RESTARTS = 10  # of k-means
NUM_SUBSAMPLES = 5  # of the search for medoids
SUBSAMPLE = 4000  # images; their distances to each other take 128 MB
BLOCK_MIB = 64  # of distances held at a time


# --- scores: the embeddings of a group (m, F) -> a score of each (m,), the highest is best ----


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


# --- groups: embeddings (N, F), K -> the number of the group of each image (N,) ---------------


def k_means(x: Floats, num_groups: int, random: RandomState) -> Ints:
    """The clusters of the best of 10 runs of k-means (Lloyd), each started by k-means++."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    model = KMeans(num_groups, n_init=NUM_RESTARTS, random_state=random)
    # Several threads add up the members of a cluster in any order: the last bits of its mean,
    # and with them some clusters, would differ from call to call.
    with threadpool_limits(1):
        return np.asarray(model.fit_predict(x), dtype=np.int64)


def k_medoids(x: Floats, num_groups: int, random: RandomState) -> Ints:
    """The clusters whose images are nearest to one of K images, chosen to lie near all others.

    Minimizes the sum over all images of the distance to the nearest medoid. `swap_medoids` finds
    medoids of 5 random subsamples of 4000 images (of all, from 5 random starts, if there are
    no more); the best of them for all images are then improved by turns: every image joins its
    nearest medoid, every cluster takes the image that is nearest to its others.

    Sources: Kaufman and Rousseeuw 1990 (CLARA), Schubert and Rousseeuw 2021 (FasterPAM), Park and
    Jun 2009 (the turns).
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
        # Rounding must not let two sets of equal cost take turns for ever.
        if _nearest(x, medoids)[1] >= lowest * (1 - 1e-12):
            return assigned
        best = medoids


def swap_medoids(distances: Floats, medoids: Ints) -> Ints:
    """Exchange medoids for other images for as long as that lowers the cost.

    The cost is the sum over the images of the distance to the nearest medoid. The images take turns
    to be a candidate; it replaces the medoid for which the cost becomes lowest, at once if it
    is lower than now. If o is d1 from its nearest medoid i, d2 from the second nearest and d from
    the candidate, it costs min(d1, d) after the exchange, or min(d2, d) if i is what goes.

    Source: Schubert and Rousseeuw 2021, Fast and eager k-medoids clustering (FasterPAM).

    Args:
        distances: between all images (N, N).
        medoids: positions to start from (K,), no two the same.

    Returns:
        Positions (K,) of which no single one can be exchanged for a lower cost.
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


# --- methods ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """How the groups are formed and what ranks their images."""

    about: str  # one line
    groups: Callable[[Floats, int, RandomState], Ints] | None  # None: the classes
    score: Callable[[Floats, RandomState], Floats]
    score_name: str
    reduces: bool = True  # works in the principal components
    trims: bool = False  # accepts `trim`

    @property
    def consults_labels(self) -> bool:
        """Whether it knows the class of every image before it chooses."""
        return self.groups is None


METHODS = {
    "class-centroid": Method(
        "of each class the image nearest to its mean direction; with --trim the medoid of the"
        " densest part of the class",
        groups=None,
        score=toward_the_mean,
        score_name="cosine similarity to the mean of the class",
        reduces=False,
        trims=True,
    ),
    "kmeans-centroid": Method(
        "of each of K clusters (k-means) the image nearest to its mean",
        groups=k_means,
        score=near_the_mean,
        score_name="minus the distance to the mean of the cluster",
    ),
    "typiclust": Method(
        "of each of K clusters (k-means) the image in the densest place (TypiClust)",
        groups=k_means,
        score=typicality,
        score_name="typicality: 1 / mean distance to the 20 nearest of the cluster",
    ),
    "k-medoids": Method(
        "K images with the smallest sum of distances from every image to the nearest of them",
        groups=k_medoids,
        score=centrality,
        score_name="minus the mean distance to the other images of the cluster",
    ),
    "random": Method(
        "a random image of each class: the control, equal in kind to FixMatch's random splits",
        groups=None,
        score=chance,
        score_name="a random draw",
        reduces=False,
    ),
}


# --- selections -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Group:
    """The candidates of one class or cluster, the best first."""

    indices: Ints  # positions in the training set (R,)
    labels: Ints  # their classes (R,)
    scores: Floats  # never increasing (R,)

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True, eq=False)
class Selection:
    """Ranked candidates, and the picks: those of one rank.

    Raises:
        InputError: a group has no candidate of this rank.
    """

    method: str
    consulted_labels: bool  # of all the images, not only of the picks
    num_classes: int
    groups: tuple[Group, ...]  # ordered by the class of their best candidate, then its position
    rank: int = 1

    def __post_init__(self) -> None:
        fewest = min(map(len, self.groups))
        if not 1 <= self.rank <= fewest:
            raise InputError(
                f"{self.method} has no candidates of rank {self.rank}: one of its"
                f" {len(self.groups)} groups has only {fewest}"
            )

    def at_rank(self, rank: int) -> "Selection":
        """The same candidates, of which others are picked."""
        return dataclasses.replace(self, rank=rank)

    @property
    def indices(self) -> Ints:
        """The picks: positions in the training set, one of each group, no two the same."""
        return np.array([group.indices[self.rank - 1] for group in self.groups])

    @property
    def labels(self) -> Ints:
        """The class of each pick: what whoever labels the picks would say."""
        return np.array([group.labels[self.rank - 1] for group in self.groups])

    @property
    def uncovered(self) -> tuple[int, ...]:
        """The classes of which there is no pick."""
        return tuple(sorted(set(range(self.num_classes)) - set(self.labels.tolist())))


def check(method: str, *, seed: int = 0, candidates: int = 1, trim: float = 0.0) -> None:
    """See that `select` accepts these.

    Raises:
        InputError: an unknown method, a value outside its range, or `trim` for a method that
            does not trim.
    """
    chosen = choose(method, METHODS, what="method of selection")
    if not 0 <= seed < 2**32:
        raise InputError(f"the seed of a selection must be 0 to {2**32 - 1}, not {seed}")
    if candidates < 1:
        raise InputError(f"candidates must be 1 or more, not {candidates}")
    if not 0 <= trim < 1:
        raise InputError(f"trim must be a share from 0 to below 1, not {trim}")
    if trim and not chosen.trims:
        trimming = ", ".join(name for name, other in METHODS.items() if other.trims)
        raise InputError(f"{method} does not trim: trim is for {trimming}")


def select(
    embeddings: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    num_classes: int,
    method: str,
    *,
    seed: int = 0,
    candidates: int = 1,
    trim: float = 0.0,
) -> Selection:
    """Choose one image of each class or cluster.

    Equal input gives equal picks. Of equal scores the lowest position is best. An empty cluster is
    left out, so there may be fewer groups than classes; a group of fewer than `candidates` images
    has fewer candidates.

    Args:
        embeddings: of all training images (N, F).
        labels: their classes (N,), each in [0, num_classes). If the method consults no labels, they
            only name the classes of its candidates.
        method: one of METHODS.
        seed: of all that is random: SVD, k-means, subsamples, draws; 0 to 2**32 - 1.
        candidates: ranked images of each group.
        trim: leave out this share of each class, the images of lowest `typicality`, and
            rank the others by `centrality`: so the best is the medoid of the densest part. 0: by
            similarity to the mean of the whole class.

    Raises:
        InputError: as for `check`; embeddings that are not finite or not (N, F), a class without
            an image, or fewer different embeddings than clusters.
    """
    check(method, seed=seed, candidates=candidates, trim=trim)
    chosen = METHODS[method]
    classes: Ints = np.asarray(labels, dtype=np.int64)
    if embeddings.ndim != 2 or len(embeddings) != len(classes):
        raise InputError(
            f"embeddings must be (N, F) of {len(classes)} images, not {embeddings.shape}"
        )
    if not np.isfinite(embeddings).all():
        raise InputError("embeddings must be finite numbers")

    # The generator of numpy that promises equal draws in all versions to come.
    random = RandomState(seed)
    x = _unit_length(embeddings)
    if chosen.reduces or trim:
        x = _principal_components(x, random)
    if chosen.groups is None:
        groups = classes
        if len(np.unique(classes)) < num_classes:
            raise InputError(f"only {len(np.unique(classes))} of {num_classes} classes have images")
    else:
        different = len({row.tobytes() for row in x})
        if different < num_classes:
            raise InputError(f"{different} different embeddings cannot make {num_classes} clusters")
        groups = chosen.groups(x.astype(np.float64), num_classes, random)

    ranked = []
    for k in range(num_classes):
        members = np.flatnonzero(groups == k)
        if len(members) == 0:
            continue
        part = x[members].astype(np.float64)
        if trim:
            kept = _densest(part, trim)
            members, part = members[kept], part[kept]
        scores = (centrality if trim else chosen.score)(part, random)
        order = np.argsort(-scores, kind="stable")[:candidates]
        ranked.append(Group(members[order], classes[members[order]], scores[order]))
    ranked.sort(key=lambda group: (group.labels[0], group.indices[0]))
    return Selection(method, chosen.consults_labels, num_classes, tuple(ranked))


def score_name(method: str, trim: float) -> str:
    """What the scores of a selection are, for a person."""
    if trim:
        return f"minus the mean distance to the densest {1 - trim:.0%} of the class"
    return METHODS[method].score_name


def _densest(x: Floats, trim: float) -> Ints:
    """The positions in a group that are left when a share of it is left out (at least one)."""
    num_kept = len(x) - int(trim * len(x))
    order = np.argsort(-typicality(x, RandomState(0)), kind="stable")
    return np.sort(order[:num_kept])


def _unit_length(x: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """The rows scaled to length 1; rows of zeros stay so."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(lengths == 0, 1, lengths).astype(x.dtype)


def _principal_components(
    x: NDArray[np.floating[Any]], random: RandomState
) -> NDArray[np.floating[Any]]:
    """The coordinates in the leading principal components (N, 128); `x` if it has no more."""
    if min(x.shape) <= NUM_COMPONENTS:
        return x
    from sklearn.decomposition import PCA

    model = PCA(NUM_COMPONENTS, svd_solver="randomized", random_state=random)
    with np.errstate(invalid="ignore"):  # shares of the variance, 0 / 0 if all rows are equal
        return np.asarray(model.fit_transform(x))


def _over_distances(x: Floats, summary: Callable[[Floats], Floats]) -> Floats:
    """`summary` of the distances from each row to all rows (m,): (b, m) -> (b,), in blocks."""
    from sklearn.metrics import pairwise_distances_chunked

    blocks = pairwise_distances_chunked(
        x, reduce_func=lambda block, start: summary(block), working_memory=BLOCK_MIB
    )
    return np.concatenate(list(blocks))


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
