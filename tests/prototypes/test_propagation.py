"""Label propagation: by hand, against dense algebra and scikit-learn; what it must hold."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.semi_supervised import LabelSpreading

from boss.data import Dataset
from boss.data.label_sets import resolve
from boss.errors import InputError
from boss.prototypes.propagation import most_certain, neighbor_graph, propagate


def flat(digits: Dataset) -> np.ndarray:
    return digits.train.images.flatten(1).numpy().astype(np.float32)


def first_of_each(labels: np.ndarray) -> np.ndarray:
    return np.array([np.flatnonzero(labels == k)[0] for k in range(10)])


def test_a_graph_by_hand():
    """Four unit vectors at 0, 30, 60 and 180 degrees, one neighbor each, cosines as weights.

    0 and 60 are nearest to 30; 30 to 0 or 60 (a tie, 0 by order); 180 to 60, with a cosine below 0.
    """
    angle = np.radians([0, 30, 60, 180])
    features = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    graph = neighbor_graph(features, num_neighbors=1, power=1).toarray()
    c = np.cos(np.pi / 6)
    weights = np.array([[0, 2 * c, 0, 0], [2 * c, 0, c, 0], [0, c, 0, 0], [0, 0, 0, 0]])
    if graph[1, 0] < graph[1, 2]:  # rounding decided the tie the other way
        weights = weights[[2, 1, 0, 3]][:, [2, 1, 0, 3]]
    degree = np.where(weights.sum(axis=0) > 0, weights.sum(axis=0), 1)
    np.testing.assert_allclose(graph, weights / np.sqrt(np.outer(degree, degree)), atol=1e-6)


def test_scores_by_hand():
    """Two labeled images and one between them, nearer to the first: S = [[0, a, 0], [a, 0, b], ..].

    (I - alpha S)^-1 has the column of image 0 in proportion to (1 - bb, a, ab), with a and b times
    alpha, that of image 2 to (ab, b, 1 - aa).
    """
    a, b = 0.8, 0.6
    graph = sparse.csr_array(np.array([[0, a, 0], [a, 0, b], [0, b, 0]]))
    found = propagate(graph, np.array([0, 2]), np.array([0, 1]), 2, alpha=0.5)
    a, b = 0.4, 0.3
    first = np.array([1 - b * b, a, a * b])
    second = np.array([a * b, b, 1 - a * a])
    scores = np.stack([first / first.sum(), second / second.sum()], axis=1)
    np.testing.assert_allclose(found.scores, scores / scores.sum(axis=1, keepdims=True), rtol=1e-5)
    assert found.predictions.tolist() == [0, 0, 1]
    np.testing.assert_allclose(found.certainty, found.scores.max(axis=1))


def test_the_prior_scales_the_classes():
    graph = sparse.csr_array(np.array([[0, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0]]))
    where, labels = np.array([0, 2]), np.array([0, 1])
    equal = propagate(graph, where, labels, 2, alpha=0.9)
    assert equal.scores[1].tolist() == pytest.approx([0.5, 0.5])
    skewed = propagate(graph, where, labels, 2, alpha=0.9, prior=np.array([0.8, 0.2]))
    assert skewed.scores[1].tolist() == pytest.approx([0.8, 0.2])


def affinities(features: np.ndarray, num_neighbors: int, power: float) -> np.ndarray:
    """W by a plain loop."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    found = np.zeros((len(unit), len(unit)))
    for i, image in enumerate(unit.astype(np.float64)):
        cosine = unit @ image
        cosine[i] = -2
        for j in np.argsort(-cosine)[:num_neighbors]:
            found[i, j] += max(0, cosine[j]) ** power
            found[j, i] += max(0, cosine[j]) ** power
    return found


def test_equals_scikit_learn_but_for_the_prior(digits):
    """LabelSpreading on the same affinities, run to convergence; ours before the class prior."""
    features, labels = flat(digits)[:300], digits.train.labels.numpy()[:300]
    weights = affinities(features, 10, power=3)
    graph = neighbor_graph(features, num_neighbors=10, power=3)
    indices = first_of_each(labels)
    ours = propagate(graph, indices, labels[indices], 10, alpha=0.9)
    mass = np.linalg.inv(np.eye(300) - 0.9 * graph.toarray())[:, indices].sum(axis=0)
    unscaled = ours.scores * mass[labels[indices].argsort()]
    unscaled /= unscaled.sum(axis=1, keepdims=True)

    y = np.full(300, -1)
    y[indices] = labels[indices]
    model = LabelSpreading(kernel=lambda one, _: weights, alpha=0.9, max_iter=5000, tol=1e-9)
    model.fit(features, y)
    np.testing.assert_allclose(unscaled, model.label_distributions_, atol=1e-4)


@pytest.mark.parametrize("label_set", ["fixmatch:1@10", "fixmatch:3@10"])
def test_ten_labels_reach_most_digits(digits, label_set):
    """More than by the nearest labeled image, and the most certain ones more often."""
    features, labels = flat(digits), digits.train.labels.numpy()
    indices = np.array(resolve(label_set, digits).indices)
    found = propagate(neighbor_graph(features), indices, labels[indices], 10)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    nearest = labels[indices][(unit @ unit[indices].T).argmax(axis=1)]
    accuracy = (found.predictions == labels).mean()
    assert accuracy > (nearest == labels).mean() + 0.1
    assert found.scores.sum(axis=1) == pytest.approx(1)
    chosen = most_certain(found, 20)
    assert len(chosen) == 200
    assert (found.predictions[chosen] == labels[chosen]).mean() > accuracy + 0.02
    for label in range(10):
        members = chosen[20 * label : 20 * (label + 1)]
        assert (found.predictions[members] == label).all()
        assert (np.diff(found.certainty[members]) <= 0).all()
        rest = np.setdiff1d(np.flatnonzero(found.predictions == label), members)
        assert found.certainty[rest].max() <= found.certainty[members].min()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_neighbors": 0}, "num_neighbors must be at least 1"),
        ({"num_neighbors": 300}, "num_neighbors must be below the number of images, 300"),
        ({"power": 0.0}, "power must be positive"),
    ],
)
def test_wrong_graphs_are_refused(digits, arguments, message):
    with pytest.raises(InputError, match=message):
        neighbor_graph(flat(digits)[:300], **arguments)


def test_wrong_labels_are_refused():
    graph = sparse.csr_array(np.eye(3))
    with pytest.raises(InputError, match=r"a label of every class, not of \[1\]"):
        propagate(graph, np.array([0]), np.array([0]), 2)
    with pytest.raises(InputError, match="alpha must lie in"):
        propagate(graph, np.array([0, 1]), np.array([0, 1]), 2, alpha=1.0)
