"""Label propagation: a few labels spread over the graph of nearest neighbors in an embedding.

N images, F dimensions, R neighbors of an image, L labeled images, K classes, M selected images

Zhou et al. 2003, "Learning with local and global consistency", on the graph of Iscen et al. 2019
(arXiv 1904.04717); class mass normalization after Zhu, Ghahramani and Lafferty 2003.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import cg

from boss.data.label_sets import LabelSet
from boss.errors import InputError, check_interval

NUM_START = 100  # images of each predicted class with which a training starts
NUM_NEIGHBORS = 20
POWER = 3.0  # of the cosine similarity: near neighbors count for more
ALPHA = 0.99  # how far labels spread: the weight of the neighbors against the label itself
SMOOTHING_ALPHA = 0.9  # the same where there is a prediction of every image
TOLERANCE = 1e-6  # of the residual, relative
TINY = 1e-10  # of the largest variance: below, a direction is rounding error
PIECE = 500  # images whose similarities to all others are in memory at a time


class Neighbors(NamedTuple):
    """The nearest neighbors of each image, without itself, by the cosine of their features."""

    indices: NDArray[np.int64]  # (N, R), the nearest first
    cosines: NDArray[np.float32]  # (N, R)


class Propagation(NamedTuple):
    """What a few labels say of all images."""

    scores: NDArray[np.float64]  # (N, K), rows sum to 1; 0 where no label reaches an image
    predictions: NDArray[np.int64]  # (N,), -1 where no label reaches an image
    certainty: NDArray[np.float64]  # the score of the prediction, in [0, 1] (N,)


class Start(NamedTuple):
    """The images that join the labeled ones: by class, the most certain first."""

    indices: NDArray[np.int64]  # (M,), none of them labeled
    labels: NDArray[np.int64]  # propagated (M,)
    certainty: NDArray[np.float64]  # (M,)
    propagation: Propagation  # of all images


def start_from(
    graph: sparse.csr_array,
    label_set: LabelSet,
    num_classes: int,
    num_per_class: int = NUM_START,
    allowed: NDArray[np.bool_] | None = None,
) -> Start:
    """The most certain images of each predicted class, with their propagated labels.

    Labels spread over all images of the graph. Only allowed ones are selected, and none that the
    label set labels. No hidden label is an input.

    Args:
        graph: of `neighbor_graph` (N, N).
        allowed: which images may be selected (N,), such as those not held out for validation; None
            for all.

    Raises:
        InputError: num_per_class is below 1, or no image can be selected.
    """
    check_interval("[1, inf)", num_per_class=num_per_class)
    labeled = np.array(label_set.indices, dtype=np.int64)
    found = propagate(graph, labeled, np.array(label_set.labels, dtype=np.int64), num_classes)
    free = np.ones(graph.shape[0], dtype=bool) if allowed is None else allowed.copy()
    free[labeled] = False
    chosen = most_certain(found, num_per_class, free)
    if len(chosen) == 0:
        raise InputError(f"{label_set.id} leaves no image that label propagation could label")
    return Start(chosen, found.predictions[chosen], found.certainty[chosen], found)


def nearest_neighbors(
    features: NDArray[np.floating],
    num_neighbors: int = NUM_NEIGHBORS,
    progress: Callable[[float], None] = lambda share: None,
) -> Neighbors:
    """The nearest neighbors of each image, by comparing all pairs on the CPU.

    Takes N^2 F multiply-adds: some two minutes on two cores for 50,000 images and F = 1,600.

    Args:
        features: (N, F). A row of zeros has cosine 0 to every other.
        progress: called with the share done in [0, 1].

    Raises:
        InputError: there are too few images, or num_neighbors is out of range.
    """
    check_interval("[1, inf)", num_neighbors=num_neighbors)
    num = len(features)
    if num_neighbors >= num:
        raise InputError(f"num_neighbors must be below the number of images, {num}")
    x = np.asarray(features, dtype=np.float32)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    unit = torch.from_numpy(x / np.where(length > 0, length, 1))
    indices = np.empty((num, num_neighbors), dtype=np.int64)
    cosines = np.empty((num, num_neighbors), dtype=np.float32)
    progress(0.0)
    for start in range(0, num, PIECE):
        similar = unit[start : start + PIECE] @ unit.T  # (n, N)
        similar.diagonal(start).fill_(-torch.inf)  # an image is no neighbor of itself
        piece = slice(start, start + len(similar))
        cosines[piece], indices[piece] = similar.topk(num_neighbors, dim=1)
        progress(piece.stop / num)
    return Neighbors(indices, cosines)


def half_whitened(features: NDArray[np.floating]) -> NDArray[np.float32]:
    """Features whose strongest directions count for less in a cosine: `half_whitening` of them.

    Args:
        features: (N, F).

    Returns:
        (N, F), in coordinates along the principal axes, whose signs mean nothing.

    >>> np.abs(half_whitened(np.array([[16.0, 1], [-16, 1], [16, -1], [-16, -1]]))).round(3)
    array([[1., 4.],
           [1., 4.],
           [1., 4.],
           [1., 4.]], dtype=float32)
    """
    return half_whitening(features)(features)


def half_whitening(
    features: NDArray[np.floating], num_directions: int | None = None
) -> Callable[[NDArray[np.floating]], NDArray[np.float32]]:
    """Half the way to whitening, by the statistics of these features.

    Centered, then every principal axis of standard deviation s is divided by sqrt(s). Of features
    learned without labels a few directions hold most of the variance, and whitening would raise
    noise to their level (docs/laptop.md compares).

    Args:
        features: (N, F).
        num_directions: so many principal axes at most, those of the largest variance; None for all.

    Returns:
        A function of features (n, F).
    """
    num, width = features.shape
    mean = features.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((width, width))
    for start in range(0, num, PIECE):  # a copy of all in double precision would be larger
        centered = features[start : start + PIECE] - mean
        covariance += centered.T @ centered
    variances, axes = np.linalg.eigh(covariance / num)  # ascending
    if num_directions is not None:
        variances, axes = variances[-num_directions:], axes[:, -num_directions:]
    is_noise = variances <= TINY * variances[-1]
    scale = np.where(is_noise, 0, np.where(is_noise, 1, variances) ** -0.25)

    def transform(others: NDArray[np.floating]) -> NDArray[np.float32]:
        whitened = np.empty((len(others), len(variances)), dtype=np.float32)
        for start in range(0, len(others), PIECE):
            piece = slice(start, start + PIECE)
            whitened[piece] = ((others[piece] - mean) @ axes) * scale
        return whitened

    return transform


def side_by_side(
    kinds: Sequence[Sequence[NDArray[np.float32]]], weights: Sequence[float]
) -> list[NDArray[np.float32]]:
    """Several kinds of features of the same images as one.

    Each is scaled to a mean squared length of its weight, which is what it counts for in a cosine.

    Args:
        kinds: each of them the features of the training images (N, F_i), by whose lengths this is
            done, and perhaps of other images (n, F_i).
        weights: of the kinds, positive.

    Returns:
        For the training images, and then for the others: (N, sum of F_i).
    """
    made = []
    for parts, weight in zip(kinds, weights, strict=True):
        length = np.square(parts[0]).sum(axis=1, dtype=np.float64).mean()
        scale = np.float32(np.sqrt(weight / length)) if length > 0 else np.float32(0)
        made.append([part * scale for part in parts])
    return [np.hstack(parts) for parts in zip(*made, strict=True)]


def purity(neighbors: Neighbors, labels: NDArray[np.int64]) -> float:
    """The share of neighbors that are of the same class as their image: a diagnostic.

    Args:
        labels: the true classes of all images (N,), hidden from training.
    """
    return float((labels[neighbors.indices] == labels[:, None]).mean())


def neighbor_graph(
    features: NDArray[np.floating], num_neighbors: int = NUM_NEIGHBORS, power: float = POWER
) -> sparse.csr_array:
    """The graph of the nearest neighbors: `connect` of `nearest_neighbors`."""
    return connect(nearest_neighbors(features, num_neighbors), power)


def connect(neighbors: Neighbors, power: float = POWER) -> sparse.csr_array:
    """S = D^-1/2 W D^-1/2 with W = A + A' and A the similarities of each image to its neighbors.

    A_ij = max(0, cosine of i and j)^power for the nearest neighbors j of i, 0 elsewhere and on the
    diagonal.

    Returns:
        (N, N), symmetric; its largest eigenvalue is 1.

    Raises:
        InputError: power is not positive.
    """
    check_interval("(0, inf)", power=power)
    num, num_neighbors = neighbors.indices.shape
    row = np.repeat(np.arange(num), num_neighbors)
    weights = np.maximum(neighbors.cosines.astype(np.float64), 0).ravel() ** power
    one_way = sparse.csr_array((weights, (row, neighbors.indices.ravel())), shape=(num, num))
    both_ways = (one_way + one_way.T).tocsr()
    degree = np.maximum(np.asarray(both_ways.sum(axis=0)).ravel(), np.finfo(np.float64).tiny)
    scale = sparse.diags_array(1 / np.sqrt(degree))
    return (scale @ both_ways @ scale).tocsr()


def propagate(
    graph: sparse.csr_array,
    indices: NDArray[np.int64],
    labels: NDArray[np.int64],
    num_classes: int,
    *,
    alpha: float = ALPHA,
    prior: NDArray[np.float64] | None = None,
) -> Propagation:
    """Spread labels over a graph.

    F = (I - alpha S)^-1 Y with Y one-hot at the labeled images; columns are scaled to the class
    prior, then rows to 1. A class without a label has score 0 everywhere.

    Args:
        graph: S (N, N), of `neighbor_graph`.
        indices: of the labeled images (L,); labels: of these (L,).
        prior: share of each class (K,); None for equal shares.

    Raises:
        InputError: alpha is out of range.
    """
    check_interval("[0, 1)", alpha=alpha)
    start = np.zeros((graph.shape[0], num_classes))
    start[indices, labels] = 1
    return of_scores(normalize_mass(_spread(graph, start, alpha), prior))


def smooth(graph: sparse.csr_array, label_set: LabelSet, probs: NDArray[np.float64]) -> Propagation:
    """What a network says of all images, averaged over their neighbors.

    F = (I - alpha S)^-1 Y as in `propagate`, with Y the class probabilities, classes in balance
    (`normalize_mass`), and the labels themselves where there are any. Where neighbors disagree the
    confident majority wins (the second step of Huang et al. 2020, "Combining label propagation and
    simple models out-performs graph neural networks"). A class without a label has score 0
    everywhere: balancing would make something of the nothing that a network says of it.

    Args:
        graph: S (N, N), of `neighbor_graph`.
        probs: of all images (N, K).
    """
    is_covered = np.isin(np.arange(probs.shape[1]), label_set.labels)
    start = normalize_mass(probs * is_covered)
    start[list(label_set.indices)] = np.eye(probs.shape[1])[list(label_set.labels)]
    return of_scores(normalize_mass(_spread(graph, start, SMOOTHING_ALPHA)))


def _spread(
    graph: sparse.csr_array, start: NDArray[np.float64], alpha: float
) -> NDArray[np.float64]:
    """(I - alpha S)^-1 start, by conjugate gradients (N, K)."""
    system = sparse.eye_array(graph.shape[0], format="csr") - alpha * graph
    scores = np.empty_like(start)
    for label in range(start.shape[1]):
        scores[:, label], failed = cg(system, start[:, label], rtol=TOLERANCE)
        assert failed == 0
    return np.maximum(scores, 0)


def normalize_mass(
    scores: NDArray[np.float64], prior: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Scale columns to the class prior, then rows to 1 (class mass normalization).

    Args:
        scores: not negative (N, K).
        prior: share of each class (K,); None for equal shares. Columns of zeros stay zeros.

    >>> normalize_mass(np.array([[0.8, 0.2], [0.8, 0.2], [0.4, 0.6]])).round(3)
    array([[0.667, 0.333],
           [0.667, 0.333],
           [0.25 , 0.75 ]])
    """
    share = 1 / scores.shape[1] if prior is None else prior
    total = scores.sum(axis=0)
    return normalize_rows(scores * (share / np.where(total > 0, total, 1)))


def normalize_rows(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale rows to 1, but those of zeros (N, K)."""
    total = scores.sum(axis=1, keepdims=True)
    scaled: NDArray[np.float64] = scores / np.where(total > 0, total, 1)
    return scaled


def of_scores(scores: NDArray[np.float64]) -> Propagation:
    """Predictions and certainty of scores (N, K) whose rows sum to 1 or are zeros."""
    certainty = scores.max(axis=1)
    return Propagation(scores, np.where(certainty > 0, scores.argmax(axis=1), -1), certainty)


def multiplied(found: Propagation, probs: NDArray[np.float64]) -> Propagation:
    """Where the graph and a network agree: the product of their scores, rows scaled to 1.

    Args:
        probs: of the network, with classes in balance (`normalize_mass`) (N, K).
    """
    return of_scores(normalize_rows(found.scores * probs))


def most_certain(
    found: Propagation, num_per_class: int, allowed: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Indices of the most certain images of each predicted class: by class, then by rank.

    Ties are broken by index; a class with fewer predictions gives fewer images.

    Args:
        allowed: which images may be selected (N,); None for all.
    """
    chosen = []
    for label in range(found.scores.shape[1]):
        is_member = found.predictions == label
        members = np.flatnonzero(is_member if allowed is None else is_member & allowed)
        order = np.argsort(-found.certainty[members], kind="stable")
        chosen.append(members[order[:num_per_class]])
    return np.concatenate(chosen)
