"""Label propagation: by hand, against dense algebra and scikit-learn; what it must hold."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.semi_supervised import LabelSpreading

from boss.data import Dataset
from boss.data.label_sets import LabelSet, resolve, validation_indices
from boss.errors import InputError
from boss.prototypes import embeddings, propagation
from boss.prototypes.embeddings import embed
from boss.prototypes.propagation import (
    Neighbors,
    half_whitened,
    most_certain,
    nearest_neighbors,
    neighbor_graph,
    propagate,
    purity,
    smooth,
    start_from,
)


def flat(digits: Dataset) -> np.ndarray:
    return digits.train.images.flatten(1).numpy().astype(np.float32)


def first_of_each(labels: np.ndarray) -> np.ndarray:
    return np.array([np.flatnonzero(labels == k)[0] for k in range(10)])


def test_the_constants_that_no_run_names():
    """A change of any of them changes what a run computes, but not its id."""
    assert (propagation.NUM_NEIGHBORS, propagation.POWER) == (20, 3)
    assert (propagation.ALPHA, propagation.SMOOTHING_ALPHA) == (0.99, 0.9)
    assert (embeddings.STRONGEST, embeddings.WEIGHT_OF_OTHERS) == (256, 0.5)


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


def test_neighbors_equal_a_plain_loop(digits):
    """In several pieces; of equal cosines any may be taken."""
    features, shares = flat(digits), []
    found = nearest_neighbors(features, 7, shares.append)
    assert shares[0] == 0 and shares[-1] == 1 and len(shares) > 2
    unit = features.astype(np.float64) / np.linalg.norm(features, axis=1, keepdims=True)
    for i, image in enumerate(unit):
        cosine = unit @ image
        cosine[i] = -2
        best = np.sort(cosine)[::-1][:7]
        np.testing.assert_allclose(found.cosines[i], best, atol=1e-6)
        np.testing.assert_allclose(cosine[found.indices[i]], best, atol=1e-6)
        assert len(set(found.indices[i])) == 7


def test_confident_neighbors_outvote_a_prediction():
    """Three images in a row, and a labeled one of each class apart, by hand.

    Both classes have predictions of 2.5 in all before one is tripled, which balancing undoes.

    S of a path of three has 1 / sqrt(2) between neighbors: (I - 0.9 S)^-1 has a row
    (1 + r, s, r) / d for an end and (s, 1, s) / d for the middle, with s = 0.9 / sqrt(2), r = s^2
    and d = 1 - 2 s^2 (r: to the other end); all else is 0.
    """
    s = 0.9 / np.sqrt(2)
    path = np.zeros((5, 5))
    path[0, 1] = path[1, 0] = path[1, 2] = path[2, 1] = 1 / np.sqrt(2)
    label_set = LabelSet("mine", (3, 4), (0, 1))
    first = np.array([0.9, 0.4, 0.8, 0.2, 0.2])
    found = smooth(sparse.csr_array(path), label_set, np.stack([3 * first, 1 - first], axis=1))
    d = 1 - 2 * s**2
    inverse = np.array([[1 - s**2, s, s**2], [s, 1, s], [s**2, s, 1 - s**2]]) / d
    zero, one = inverse @ first[:3], inverse @ (1 - first[:3])
    share = zero / (zero.sum() + 1), one / (one.sum() + 1)  # of their class, with the labeled image
    assert found.scores[:3, 0] == pytest.approx(share[0] / (share[0] + share[1]), rel=1e-5)
    assert found.predictions.tolist()[3:] == [0, 1]


def test_half_whitening():
    """Variances become their square roots, no variance stays none; a cosine by hand."""
    generator = np.random.default_rng(0)
    mixed = generator.normal(size=(500, 3)) @ np.array([[8.0, 0, 0], [1, 2, 0], [0, 0, 0.5]])
    features = np.hstack([mixed, mixed[:, :1], np.ones((500, 1))]) + 7
    covariance = np.cov(half_whitened(features).T, bias=True)
    values = np.linalg.eigvalsh(np.cov(features.T, bias=True))
    assert np.diag(covariance)[2:] == pytest.approx(np.sqrt(values[2:]), rel=1e-4)
    assert covariance - np.diag(np.diag(covariance)) == pytest.approx(0, abs=1e-4)
    assert np.diag(covariance)[:2] == pytest.approx(0, abs=1e-12)
    # A long and a short axis: (16, 1) becomes (4, 1), and its cosine with (-16, 1) -15 / 17.
    square = half_whitened(np.array([[16.0, 1], [-16, 1], [16, -1], [-16, -1]]))
    unit = square / np.linalg.norm(square, axis=1, keepdims=True)
    assert unit[0] @ unit[1] == pytest.approx(-15 / 17)


def test_purity_by_hand():
    """Neighbors of 0: one of two of its class; of 1: none; of 2, 3: both."""
    indices = np.array([[1, 2], [2, 3], [3, 0], [0, 2]])
    neighbors = Neighbors(indices, np.zeros((4, 2), np.float32))
    assert purity(neighbors, np.array([5, 6, 5, 5])) == pytest.approx((1 + 0 + 2 + 2) / 8)


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


def chains() -> sparse.csr_array:
    """Two chains, 0-1-2 and 3-4-5, and 6 on its own."""
    graph = np.zeros((7, 7))
    for i, j in ((0, 1), (1, 2), (3, 4), (4, 5)):
        graph[i, j] = graph[j, i] = 0.5
    return sparse.csr_array(graph)


def test_a_start_by_hand():
    """A label reaches its chain only, with certainty 1; no image that none reaches is selected."""
    label_set = LabelSet("file:mine", (3, 0), (0, 1))
    start = start_from(chains(), label_set, 2)
    assert start.indices.tolist() == [4, 5, 1, 2]
    assert start.labels.tolist() == [0, 0, 1, 1]
    assert start.certainty.tolist() == [1, 1, 1, 1]
    assert start.propagation.predictions.tolist() == [1, 1, 1, 0, 0, 0, -1]
    assert start.propagation.certainty[6] == 0
    assert start_from(chains(), label_set, 2, 1).indices.tolist() == [4, 1]
    allowed = np.array([True, False, True, True, True, False, True])
    before = allowed.copy()
    assert start_from(chains(), label_set, 2, allowed=allowed).indices.tolist() == [4, 2]
    assert start_from(chains(), label_set, 2, 1, allowed).indices.tolist() == [4, 2]
    assert (allowed == before).all()


def test_an_image_of_zeros_has_no_label():
    features = np.array([[1, 0], [0, 1], [1, 0.1], [0.1, 1], [0, 0]])
    label_set = LabelSet("file:mine", (0, 1), (0, 1))
    start = start_from(neighbor_graph(features, num_neighbors=1), label_set, 2)
    assert start.propagation.predictions.tolist() == [0, 1, 0, 1, -1]
    assert start.indices.tolist() == [2, 3]


def test_hidden_labels_have_no_say(digits, tmp_path):
    """With noise for all labels but those of the label set, the same images are selected."""
    true = digits.train.labels
    labeled = resolve("fixmatch:1@10", digits)
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps({"indices": labeled.indices, "labels": labeled.labels}))
    noise = true[torch.randperm(len(true), generator=torch.Generator().manual_seed(0))]
    found = []
    for labels in (true, noise):
        dataset = dataclasses.replace(digits, train=digits.train.relabel(labels))
        [features] = embed("kmeans-patches:16", dataset)
        found.append(start_from(neighbor_graph(features), resolve(f"file:{mine}", dataset), 10))
    assert found[0].indices.tolist() == found[1].indices.tolist()
    assert found[0].labels.tolist() == found[1].labels.tolist()
    assert found[0].certainty.tolist() == found[1].certainty.tolist()
    assert len(found[0].indices) > 500


def test_held_out_and_labeled_images_are_not_selected(digits):
    label_set = resolve("fixmatch:3@10", digits)
    graph = neighbor_graph(flat(digits))
    allowed = np.ones(len(digits.train), dtype=bool)
    allowed[validation_indices(digits.train.labels.numpy(), 200)] = False
    every, some = (
        start_from(graph, label_set, 10, 20),
        start_from(graph, label_set, 10, 20, allowed),
    )
    assert len(every.indices) == len(some.indices) == 200
    assert not set(every.indices) & set(label_set.indices)
    assert not allowed[every.indices].all()
    assert allowed[some.indices].all()
    assert (np.diff(some.labels) >= 0).all()


def test_a_class_without_a_label_gets_no_image():
    """The others are as if it did not exist, whatever a network says of it."""
    label_set = LabelSet("file:mine", (0, 3), (0, 2))
    without = LabelSet("file:mine", (0, 3), (0, 1))
    found, expected = start_from(chains(), label_set, 3), start_from(chains(), without, 2)
    assert found.propagation.scores[:, [0, 2]].tolist() == expected.propagation.scores.tolist()
    assert not found.propagation.scores[:, 1].any()
    assert found.indices.tolist() == expected.indices.tolist()
    probs = np.random.default_rng(0).dirichlet(np.ones(3), len(found.propagation.scores))
    smoothed = smooth(chains(), label_set, probs)
    assert not smoothed.scores[:, 1].any()
    others = smooth(chains(), without, probs[:, [0, 2]])
    assert smoothed.scores[:, [0, 2]] == pytest.approx(others.scores)


def test_wrong_starts_are_refused():
    label_set = LabelSet("file:mine", (0, 3), (0, 1))
    with pytest.raises(InputError, match="num_per_class must be at least 1"):
        start_from(chains(), label_set, 2, 0)
    with pytest.raises(InputError, match=r"file:mine leaves no image .* could label"):
        start_from(chains(), label_set, 2, allowed=np.zeros(7, dtype=bool))


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
    with pytest.raises(InputError, match="alpha must lie in"):
        propagate(graph, np.array([0, 1]), np.array([0, 1]), 2, alpha=1.0)
