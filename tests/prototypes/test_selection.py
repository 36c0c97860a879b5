"""Selections: every method against plain loops and by hand, what must hold for all, refusals.

N images, F dimensions, K classes
"""

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from boss.errors import InputError
from boss.prototypes import clusters, scores, selection
from boss.prototypes.clusters import swap_medoids
from boss.prototypes.selection import METHODS, Selection, check, score_name, select

Floats = NDArray[np.float64]
CASES = [(method, 0.0) for method in METHODS] + [("class-centroid", 0.3)]
CLUSTERING = [method for method in METHODS if not METHODS[method].consults_labels]


def refused(message: str) -> Any:
    return pytest.raises(InputError, match=rf"\A(?=.*{message})[^\n]*\Z")


def blobs(seed: int = 0, sizes: tuple[int, ...] = (40, 30, 25), num_features: int = 6) -> Any:
    """Clusters around perpendicular directions, one for each class, in a random order."""
    generator = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(sizes)), sizes)
    x = np.eye(len(sizes), num_features)[y] + 0.1 * generator.normal(size=(len(y), num_features))
    order = generator.permutation(len(y))
    return x[order] * generator.uniform(0.5, 2, size=(len(y), 1)), y[order]


def noise(seed: int, num: int = 60, num_features: int = 5, num_classes: int = 3) -> Any:
    """No clusters at all; the labels have nothing to do with the embeddings."""
    generator = np.random.default_rng(seed)
    y = np.concatenate([np.arange(num_classes), generator.integers(0, num_classes, num)])[:num]
    return generator.normal(size=(num, num_features)), y


def on_circle(*degrees: float) -> Floats:
    return np.array([[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in degrees])


def everything(x: Floats, y: Any, num_classes: int, method: str, **options: Any) -> Selection:
    """With all images of each group as candidates, so that the groups can be seen."""
    return select(x, y, num_classes, method, candidates=len(x), **options)


def members(found: Selection) -> set[frozenset[int]]:
    return {frozenset(group.indices.tolist()) for group in found.groups}


def same(one: Selection, other: Selection) -> bool:
    return len(one.groups) == len(other.groups) and all(
        a.indices.tolist() == b.indices.tolist() and a.scores.tolist() == b.scores.tolist()
        for a, b in zip(one.groups, other.groups, strict=True)
    )


# --- the formulas in plain Python -------------------------------------------------------------


def unit(x: Floats) -> list[list[float]]:
    return [[v / math.hypot(*row) for v in row] for row in x.tolist()]


def mean_of(rows: list[list[float]]) -> list[float]:
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]


def plain_cosine(rows: list[list[float]]) -> list[float]:
    mean = mean_of(rows)
    return [sum(a * b for a, b in zip(row, mean, strict=True)) / math.hypot(*mean) for row in rows]


def plain_typicality(rows: list[list[float]]) -> list[float]:
    scores = []
    for i, row in enumerate(rows):
        others = sorted(math.dist(row, other) for j, other in enumerate(rows) if j != i)
        nearest = others[:20]
        scores.append(1 / (sum(nearest) / len(nearest) + 1e-5) if nearest else 1e5)
    return scores


def plain_centrality(rows: list[list[float]]) -> list[float]:
    return [-sum(math.dist(row, other) for other in rows) / max(1, len(rows) - 1) for row in rows]


def plain_near_the_mean(rows: list[list[float]]) -> list[float]:
    mean = mean_of(rows)
    return [-math.dist(row, mean) for row in rows]


PLAIN = {
    "class-centroid": plain_cosine,
    "kmeans-centroid": plain_near_the_mean,
    "typiclust": plain_typicality,
    "k-medoids": plain_centrality,
}


def check_scores(found: Selection, x: Floats, plain: Any) -> None:
    """The scores of the groups are the plain ones, and rank the images."""
    rows = unit(x)
    for group in found.groups:
        indices = sorted(group.indices.tolist())
        expected = dict(zip(indices, plain([rows[i] for i in indices]), strict=True))
        assert group.scores == pytest.approx([expected[i] for i in group.indices], abs=1e-7)


@pytest.mark.parametrize("method", PLAIN)
@pytest.mark.parametrize("data", [blobs, noise])
def test_scores_equal_the_plain_loops(method: str, data: Any) -> None:
    for seed in range(3):
        x, y = data(seed)
        check_scores(everything(x, y, 3, method, seed=seed), x, PLAIN[method])


@given(seed=st.integers(0, 10**6), num=st.integers(3, 40), num_features=st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_class_centroid_equals_the_plain_loop(seed: int, num: int, num_features: int) -> None:
    x, y = noise(seed, num, num_features)
    found = everything(x, y, 3, "class-centroid")
    assert members(found) == {frozenset(np.flatnonzero(y == k).tolist()) for k in range(3)}
    check_scores(found, x, plain_cosine)
    assert found.labels.tolist() == [0, 1, 2]


@given(
    seed=st.integers(0, 10**6),
    num=st.integers(3, 90),
    trim=st.sampled_from([0.05, 0.3, 0.5, 0.9, 0.99]),
)
@settings(max_examples=30, deadline=None)
def test_trimmed_centroid_equals_the_plain_loop(seed: int, num: int, trim: float) -> None:
    x, y = noise(seed, num)
    rows = unit(x)
    found = everything(x, y, 3, "class-centroid", trim=trim)
    for k, group in enumerate(found.groups):
        indices = np.flatnonzero(y == k).tolist()
        density = plain_typicality([rows[i] for i in indices])
        num_kept = len(indices) - math.floor(trim * len(indices))
        kept = sorted(indices, key=lambda i: -density[indices.index(i)])[:num_kept]
        assert sorted(group.indices.tolist()) == sorted(kept)
    check_scores(found, x, plain_centrality)


def test_class_centroid_by_hand() -> None:
    """Directions 0, 10 and 50 degrees: their mean points to 19.7, so 10 is best, then 0, then 50.

    The means of cosines and sines are 0.8759 and 0.3132, so the direction is
    atan(0.3132 / 0.8759) = 19.68 degrees. Lengths have no say.
    """
    x = on_circle(0, 10, 50, 200) * np.array([[5.0], [0.1], [1.0], [3.0]])
    found = everything(x, np.array([0, 0, 0, 1]), 2, "class-centroid")
    assert found.groups[0].indices.tolist() == [1, 0, 2]
    expected = [math.cos(math.radians(a)) for a in (9.68, 19.68, 30.32)]
    assert found.groups[0].scores == pytest.approx(expected, abs=1e-4)
    assert found.groups[1].scores == pytest.approx([1])
    assert found.indices.tolist() == [1, 3]


def test_trim_by_hand() -> None:
    """Five directions near 0 degrees, three scattered ones that pull the mean to their side.

    Of eight images 3 = floor(0.4 * 8) go, the scattered ones: each has more distant neighbors
    on average. Of -2, -1, 0, 1, 2 the medoid is 0, whose neighbors are 1, 1, 2 and 2 degrees away.
    """
    x = on_circle(-2, -1, 0, 1, 2, 60, 75, 90)
    y = np.zeros(8, dtype=np.int64)
    assert everything(x, y, 1, "class-centroid").indices.tolist() != [2]
    found = everything(x, y, 1, "class-centroid", trim=0.4)
    assert found.indices.tolist() == [2]
    assert set(found.groups[0].indices.tolist()) == {0, 1, 2, 3, 4}
    chord = [2 * math.sin(math.radians(a) / 2) for a in (1, 1, 2, 2)]
    assert found.groups[0].scores[0] == pytest.approx(-sum(chord) / 4)


def test_typicality_by_hand() -> None:
    """Three images: at 0, 60 and 180 degrees. Chords: 1 (60 apart), 1.7321 (120), 2 (180)."""
    x = on_circle(0, 60, 180)
    found = everything(x, np.zeros(3, dtype=np.int64), 1, "typiclust")
    assert found.groups[0].indices.tolist() == [1, 0, 2]
    expected = [1 / (mean + 1e-5) for mean in (1.366025, 1.5, 1.866025)]
    assert found.groups[0].scores == pytest.approx(expected, abs=1e-6)


def test_typicality_looks_at_20_neighbors_only() -> None:
    """A dense cluster of 22 far from the middle of a thin one of 60: dense wins, not central."""
    thin = on_circle(*np.linspace(0, 90, 60))
    dense = on_circle(*np.linspace(95, 96, 22))
    x = np.concatenate([thin, dense])
    y = np.zeros(len(x), dtype=np.int64)
    assert select(x, y, 1, "typiclust").indices[0] >= 60
    assert select(x, y, 1, "k-medoids").indices[0] < 60
    assert select(x, y, 1, "kmeans-centroid").indices[0] < 60


@pytest.mark.parametrize("method", ["kmeans-centroid", "typiclust"])
def test_groups_of_k_means_are_nearest_to_their_own_mean(method: str) -> None:
    x, y = noise(4, num=200)
    rows = np.array(unit(x))
    found = everything(x, y, 3, method)
    groups = [sorted(group.indices.tolist()) for group in found.groups]
    assert sorted(itertools.chain(*groups)) == list(range(200))
    means = np.array([rows[group].mean(axis=0) for group in groups])
    for k, group in enumerate(groups):
        assert (np.linalg.norm(rows[group][:, None] - means, axis=2).argmin(axis=1) == k).all()


# --- k-medoids --------------------------------------------------------------------------------


def cost(x: Floats, medoids: Any) -> float:
    """The sum over the images of the distance to the nearest medoid."""
    rows = np.array(unit(x))
    return float(np.linalg.norm(rows[:, None] - rows[list(medoids)], axis=2).min(axis=1).sum())


def test_k_medoids_is_the_best_of_all_pairs() -> None:
    for seed in range(20):
        x, y = noise(seed, num=12, num_features=3, num_classes=2)
        lowest = min(cost(x, pair) for pair in itertools.combinations(range(12), 2))
        assert cost(x, select(x, y, 2, "k-medoids").indices) == pytest.approx(lowest)


@given(seed=st.integers(0, 10**6), num=st.integers(4, 25), num_medoids=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_no_exchange_of_one_medoid_is_an_improvement(seed: int, num: int, num_medoids: int) -> None:
    x, y = noise(seed, num, num_classes=num_medoids)
    found = select(x, y, num_medoids, "k-medoids").indices.tolist()
    lowest = cost(x, found)
    for out, candidate in itertools.product(range(num_medoids), set(range(num)) - set(found)):
        assert cost(x, [*found[:out], candidate, *found[out + 1 :]]) >= lowest - 1e-9


def test_exchanges_lower_the_cost_from_any_start() -> None:
    x, _ = noise(0, num=50)
    rows = np.array(unit(x))
    distances = np.linalg.norm(rows[:, None] - rows, axis=2)
    for start in ([0, 1, 2], [49, 3, 7], [10]):
        before = np.array(start)
        after = swap_medoids(distances, before)
        assert before.tolist() == start
        assert len(set(after.tolist())) == len(start)
        assert cost(x, after) < cost(x, start)
        assert swap_medoids(distances, after).tolist() == after.tolist()


@pytest.mark.parametrize("subsample", [4000, 30])
def test_k_medoids_finds_planted_medoids(monkeypatch: pytest.MonkeyPatch, subsample: int) -> None:
    """Rings of 40 images around one in the middle, which no subsample needs to contain."""
    monkeypatch.setattr(clusters, "SUBSAMPLE", subsample)
    generator = np.random.default_rng(0)
    x = []
    for k in range(4):
        ring = generator.normal(size=(40, 7))
        ring[:, :4] = 0
        ring /= 5 * np.linalg.norm(ring, axis=1, keepdims=True)
        x += [np.eye(7)[k], *(np.eye(7)[k] + ring), *(np.eye(7)[k] - ring)]
    y = np.repeat(np.arange(4), 81)
    assert select(np.array(x), y, 4, "k-medoids").indices.tolist() == [0, 81, 162, 243]


def test_subsamples_are_improved_on_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly as good as the search among all images, and each pick the medoid of its cluster."""
    x, y = noise(1, num=600)
    whole = cost(x, select(x, y, 3, "k-medoids").indices)
    monkeypatch.setattr(clusters, "SUBSAMPLE", 40)
    found = everything(x, y, 3, "k-medoids")
    assert cost(x, found.indices) < 1.02 * whole
    rows = np.array(unit(x))
    nearest = np.linalg.norm(rows[:, None] - rows[found.indices], axis=2).argmin(axis=1)
    for k, group in enumerate(found.groups):
        assert sorted(group.indices.tolist()) == np.flatnonzero(nearest == k).tolist()


# --- chance -----------------------------------------------------------------------------------


def test_random_images_are_uniform_within_their_class() -> None:
    y = np.array([0, 1, 0, 0, 1, 0])
    x = np.ones((6, 2))
    counts = Counter(
        i for seed in range(1200) for i in select(x, y, 2, "random", seed=seed).indices
    )
    for index, label in enumerate(y):
        expected = 1200 / np.count_nonzero(y == label)
        assert abs(counts[index] - expected) < 5 * math.sqrt(expected)


def test_embeddings_have_no_say_in_random_images() -> None:
    x, y = blobs()
    assert same(select(x, y, 3, "random", seed=3), select(x**2, y, 3, "random", seed=3))


# --- what holds for every method --------------------------------------------------------------


@pytest.mark.parametrize(("method", "trim"), CASES)
@pytest.mark.parametrize("data", [blobs, noise])
def test_every_selection(method: str, trim: float, data: Any) -> None:
    x, y = data(5)
    found = select(x, y, 3, method, seed=2, candidates=4, trim=trim)
    assert found.method == method
    assert len(found.groups) == 3
    assert found.consulted_labels == (method in ("class-centroid", "random"))
    every = np.concatenate([group.indices for group in found.groups])
    assert len(set(every.tolist())) == len(every) <= 12
    for group in found.groups:
        assert group.labels.tolist() == y[group.indices].tolist()
        assert len(group) == len(group.labels) == len(group.scores)
        assert (np.diff(group.scores) <= 0).all()
        assert np.isfinite(group.scores).all()
    assert found.indices.tolist() == [group.indices[0] for group in found.groups]
    assert found.labels.tolist() == sorted(y[found.indices].tolist())
    assert set(found.uncovered) == {0, 1, 2} - set(found.labels.tolist())
    if found.consulted_labels:
        assert found.labels.tolist() == [0, 1, 2]
    if method == "class-centroid" and not trim:
        assert all((np.abs(group.scores) <= 1).all() for group in found.groups)
    if method == "random":
        assert all(((group.scores >= 0) & (group.scores < 1)).all() for group in found.groups)
    # A selection of fewer candidates is the head of one of more.
    fewer = select(x, y, 3, method, seed=2, trim=trim)
    assert fewer.indices.tolist() == found.indices.tolist()
    assert all(len(group) == 1 for group in fewer.groups)
    assert score_name(method, trim)


@pytest.mark.parametrize(("method", "trim"), CASES)
def test_equal_seeds_choose_equal_images(method: str, trim: float) -> None:
    """Whatever the global generator has drawn, which is left alone."""
    x, y = noise(7, num=120)
    np.random.seed(1)  # noqa: NPY002
    first = select(x, y, 3, method, seed=9, candidates=5, trim=trim)
    np.random.seed(2)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    assert same(first, select(x, y, 3, method, seed=9, candidates=5, trim=trim))
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_the_seed_matters_where_there_is_chance() -> None:
    x, y = noise(7, num=400)
    for method in ("random", "kmeans-centroid"):
        picks = {tuple(select(x, y, 3, method, seed=seed).indices.tolist()) for seed in range(5)}
        assert len(picks) > 1


def test_the_input_is_left_alone() -> None:
    x, y = blobs()
    x = x.astype(np.float32)
    x_before, y_before = x.copy(), y.copy()
    for method, trim in CASES:
        select(x, y, 3, method, trim=trim)
    assert (x == x_before).all()
    assert (y == y_before).all()


@pytest.mark.parametrize("method", CLUSTERING)
@pytest.mark.parametrize("data", [blobs, noise])
def test_methods_that_consult_no_labels_do_not(method: str, data: Any) -> None:
    x, y = data(3)
    first = select(x, y, 3, method, candidates=5)
    for other in (np.random.default_rng(1).permutation(y), np.zeros_like(y)):
        found = select(x, other, 3, method, candidates=5)
        assert sorted(found.indices.tolist()) == sorted(first.indices.tolist())
        assert members(found) == members(first)


@pytest.mark.parametrize(("method", "trim"), [case for case in CASES if case[0] != "random"])
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_images_does_not_matter(method: str, trim: float, seed: int) -> None:
    """Where there are clusters to be found; those that are given need none."""
    x, y = noise(seed) if method == "class-centroid" else blobs(seed)
    order = np.random.default_rng(seed).permutation(len(x))
    found = select(x, y, 3, method, candidates=3, trim=trim)
    permuted = select(x[order], y[order], 3, method, candidates=3, trim=trim)
    groups = [group.indices.tolist() for group in found.groups]
    assert [order[group.indices].tolist() for group in permuted.groups] == groups


@pytest.mark.parametrize(("method", "trim"), CASES)
def test_lengths_of_embeddings_do_not_matter(method: str, trim: float) -> None:
    x, y = blobs(1)
    scale = np.exp(np.random.default_rng(0).normal(size=(len(x), 1)))
    found = select(x, y, 3, method, trim=trim)
    assert found.indices.tolist() == select(x * scale, y, 3, method, trim=trim).indices.tolist()


@pytest.mark.parametrize(("method", "trim"), CASES)
def test_blocks_make_no_difference(
    method: str, trim: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = blobs(2)
    whole = select(x, y, 3, method, candidates=5, trim=trim)
    monkeypatch.setattr(scores, "BLOCK_MIB", 0.005)  # 16 rows of 40 distances
    parts = select(x, y, 3, method, candidates=5, trim=trim)
    assert [g.indices.tolist() for g in parts.groups] == [g.indices.tolist() for g in whole.groups]


def many_dimensions() -> Any:
    """500 images in 300 dimensions, whose distances are nearly those in 20 of them."""
    generator = np.random.default_rng(0)
    y = np.arange(500) % 3
    inner = np.eye(3, 20)[y] + 0.15 * generator.normal(size=(500, 20))
    basis = np.linalg.qr(generator.normal(size=(300, 20)))[0]
    x = inner @ basis.T + 1e-4 * generator.normal(size=(500, 300))
    return x.astype(np.float32), y


@pytest.mark.slow
@pytest.mark.parametrize(("method", "trim"), CASES)
def test_principal_components_keep_the_picks(
    method: str, trim: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = many_dimensions()
    reduced = select(x, y, 3, method, candidates=3, trim=trim)
    monkeypatch.setattr(selection, "NUM_COMPONENTS", 1000)
    whole = select(x, y, 3, method, candidates=3, trim=trim)
    for one, other in zip(reduced.groups, whole.groups, strict=True):
        assert one.indices.tolist() == other.indices.tolist()
        # The noise that is left out is 2e-3 long.
        assert one.scores == pytest.approx(other.scores, rel=1e-3)


def test_clustering_works_in_128_dimensions(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    monkeypatch.setitem(
        METHODS,
        "spy",
        selection.Method(
            "",
            groups=lambda x, num, random: np.arange(len(x)) % num,
            score=lambda x, random: shapes.append(x.shape) or np.zeros(len(x)),  # type: ignore
            score_name="",
        ),
    )
    x, y = many_dimensions()
    select(x, y, 2, "spy")
    assert shapes == [(250, 128), (250, 128)]


# --- small and degenerate data ----------------------------------------------------------------


def test_uncovered_classes_are_reported() -> None:
    """Two clusters, but the classes share the first and are alone in none."""
    x = on_circle(0, 1, 2, 90, 91, 92)
    y = np.array([0, 2, 2, 0, 0, 0])
    for method in CLUSTERING:
        found = select(x, y, 3, method)
        assert len(found.groups) == 3
        assert 1 in found.uncovered
    found = select(x, np.array([1, 1, 1, 1, 1, 1]), 2, "k-medoids")
    assert found.labels.tolist() == [1, 1]
    assert found.uncovered == (0,)
    assert found.indices.tolist() == [1, 4]


@pytest.mark.parametrize(("method", "trim"), CASES)
def test_one_image_of_each_class(method: str, trim: float) -> None:
    found = select(np.eye(4), np.array([2, 0, 3, 1]), 4, method, candidates=5, trim=trim)
    assert found.indices.tolist() == [1, 3, 0, 2]
    assert found.labels.tolist() == [0, 1, 2, 3]
    assert [len(group) for group in found.groups] == [1, 1, 1, 1]
    assert np.isfinite([group.scores[0] for group in found.groups]).all()


@pytest.mark.parametrize(("method", "trim"), CASES)
def test_equal_and_empty_embeddings(method: str, trim: float) -> None:
    """Copies of three directions, one of them the origin: of equal images the first is picked."""
    x = np.repeat(np.array([[1.0, 0], [0, 1], [0, 0]]), 30, axis=0)
    y = np.repeat(np.arange(3), 30)
    found = select(x, y, 3, method, candidates=2, trim=trim)
    assert found.labels.tolist() == [0, 1, 2]
    if method != "random":
        assert found.indices.tolist() == [0, 30, 60]
    same_for_all = select(
        np.ones((9, 200)), np.arange(9) % 3, 3, "class-centroid", trim=trim and 0.3
    )
    assert same_for_all.indices.tolist() == [0, 1, 2]


def test_a_group_of_fewer_images_has_fewer_candidates() -> None:
    x = np.concatenate([on_circle(0, 1, 2, 3), on_circle(90)])
    y = np.array([0, 0, 0, 0, 1])
    for method in METHODS:
        found = select(x, y, 2, method, candidates=3)
        assert sorted(len(group) for group in found.groups) == [1, 3]


def test_other_ranks_are_other_picks() -> None:
    x, y = blobs()
    found = select(x, y, 3, "class-centroid", candidates=3)
    third = found.at_rank(3)
    assert third.indices.tolist() == [group.indices[2] for group in found.groups]
    assert third.labels.tolist() == y[third.indices].tolist()
    assert (found.rank, third.rank) == (1, 3)
    for rank in (0, 4):
        with refused(f"class-centroid has no candidates of rank {rank}: one of its 3 groups has"):
            found.at_rank(rank)


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "medoid"}, "unknown method of selection 'medoid': choose from class-centroid,"),
        ({"seed": -1}, "seed of a selection must be 0 to .* not -1"),
        ({"seed": 2**32}, "seed"),
        ({"candidates": 0}, "candidates must be 1 or more, not 0"),
        ({"trim": 1.0}, r"trim must be a share from 0 to below 1, not 1\.0"),
        ({"trim": -0.1}, "trim"),
        ({"trim": math.nan}, "trim"),
    ],
)
def test_wrong_options_are_refused(options: Any, message: str) -> None:
    x, y = blobs()
    options = {"method": "class-centroid"} | options
    with refused(message):
        check(**options)
    with refused(message):
        select(x, y, 3, **options)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "class-centroid"])
def test_trim_is_for_class_centroid_only(method: str) -> None:
    with refused(f"{method} does not trim: trim is for class-centroid$"):
        check(method, trim=0.3)


@pytest.mark.parametrize("method", METHODS)
def test_wrong_embeddings_are_refused(method: str) -> None:
    x, y = blobs()
    with refused(r"must be \(N, F\) of 95 images, not \(94, 6\)"):
        select(x[1:], y, 3, method)
    with refused(r"not \(95,\)"):
        select(x[:, 0], y, 3, method)
    for wrong in (math.nan, math.inf):
        x[3, 2] = wrong
        with refused("embeddings must be finite"):
            select(x, y, 3, method)


def test_too_few_images_are_refused() -> None:
    x, y = blobs()
    with refused("only 3 of 4 classes have images"):
        select(x, y, 4, "class-centroid")
    for method in CLUSTERING:
        with refused("2 different embeddings cannot make 3 clusters"):
            select(np.repeat(np.eye(2), 4, axis=0), np.arange(8) % 3, 3, method)
