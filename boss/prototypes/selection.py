"""Which image of each class to label, from an embedding of all training images.

Every method forms K groups of images, the classes or K clusters (`boss.prototypes.clusters`), and
ranks the images of each group by a score (`boss.prototypes.scores`), the best first. The images of
rank 1 are labeled; those of rank R form another label set, built in the same way. METHODS and every
selection say whether the method used the labels of all images, which are hidden in one-shot
learning.

Embeddings are scaled to length 1, so distances are between directions. Distances between images are
Euclidean, in float64, computed in the 128 leading principal components if there are more dimensions
(randomized SVD, seeded); the mean direction of a class uses all dimensions. No array is N x N.

N images, F dimensions of the embedding, K classes, R ranked images of a group
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from boss.errors import InputError, choose
from boss.prototypes.clusters import Ints, k_means, k_medoids
from boss.prototypes.scores import (
    Floats,
    centrality,
    chance,
    near_the_mean,
    toward_the_mean,
    typicality,
)

NUM_COMPONENTS = 128


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
        """Whether it uses the class of every image to choose."""
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
        "a random image of each class: the control, like FixMatch's random splits",
        groups=None,
        score=chance,
        score_name="a random draw",
        reduces=False,
    ),
}


@dataclass(frozen=True, eq=False)
class Group:
    """The candidates of one class or cluster, the best first."""

    indices: Ints  # into the training set (R,)
    labels: Ints  # their classes (R,)
    scores: Floats  # in descending order (R,)

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True, eq=False)
class Selection:
    """Ranked candidates; those of one rank are selected.

    Raises:
        InputError: a group has no candidate of this rank.
    """

    method: str
    consulted_labels: bool  # of all images, not only of the selected ones
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
        """The same candidates, of which those of another rank are selected."""
        return dataclasses.replace(self, rank=rank)

    @property
    def indices(self) -> Ints:
        """The selected images: one of each group, indices into the training set, all different."""
        return np.array([group.indices[self.rank - 1] for group in self.groups])

    @property
    def labels(self) -> Ints:
        """The class of each selected image, as a person would label it (K,)."""
        return np.array([group.labels[self.rank - 1] for group in self.groups])

    @property
    def uncovered(self) -> tuple[int, ...]:
        """The classes without a selected image."""
        return tuple(sorted(set(range(self.num_classes)) - set(self.labels.tolist())))


def check(method: str, *, seed: int = 0, candidates: int = 1, trim: float = 0.0) -> None:
    """Check the arguments of `select`.

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

    Equal input gives equal selections. Of equal scores the lowest index comes first. Empty clusters
    are left out, so there may be fewer groups than classes; a group of fewer than `candidates`
    images has fewer candidates.

    Args:
        embeddings: of all training images (N, F).
        labels: their classes (N,), each in [0, num_classes). If the method uses no labels, they
            only name the classes of its candidates.
        method: one of METHODS.
        seed: of everything random: SVD, k-means, subsamples, draws; 0 to 2**32 - 1.
        candidates: ranked images of each group.
        trim: leave out this share of each class, the images of lowest `typicality`, and rank the
            others by `centrality`: the best is the medoid of the densest part. 0: rank by
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

    # The legacy generator: numpy guarantees its draws in all future versions.
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
    """What the scores of a selection mean, for a person."""
    if trim:
        return f"minus the mean distance to the densest {1 - trim:.0%} of the class"
    return METHODS[method].score_name


def _densest(x: Floats, trim: float) -> Ints:
    """The indices in a group that remain when a share of it is left out (at least one)."""
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
