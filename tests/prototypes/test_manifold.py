"""The sparse manifold transform: by hand on toy dictionaries, as plain loops, through `embed`."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from boss.data import Dataset, ImageSet
from boss.errors import InputError
from boss.prototypes import manifold, patches, progress
from boss.prototypes.embeddings import embed
from boss.prototypes.manifold import Config, Manifold, Moments
from boss.prototypes.probe import linear_probe
from boss.prototypes.select import Request, make_label_sets

SPEC = "manifold:64x8"


def random_images(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, generator=generator).to(torch.uint8)


def random_dataset(channels, size, num=24, flip=True):
    labels = torch.arange(num) % 2
    train, test = (
        ImageSet(random_images(num, channels, size, size, seed=seed), labels, ("a", "b"))
        for seed in (1, 2)
    )
    return Dataset("random", train, test, flip=flip)


def random_manifold(channels, size, num_elements=40, dimension=5, mirrored=False):
    """Not learned: whatever its numbers are, they must be used in the same way."""
    side = patches.patch_side(size)
    width = channels * side * side
    generator = torch.Generator().manual_seed(1)
    whiten = torch.randn(width, width, generator=generator)
    dictionary = manifold.unit(torch.randn(num_elements, width, generator=generator))
    projection = torch.randn(num_elements, dimension, generator=generator)
    return Manifold(side, whiten, dictionary, projection, mirrored)


@pytest.fixture(scope="module")
def small(digits):
    return dataclasses.replace(
        digits, train=digits.train.subset(range(200)), test=digits.test.subset(range(50))
    )


@pytest.fixture(autouse=True)
def few_patches(monkeypatch):
    """What a whitening needs to be well formed, in no time."""
    monkeypatch.setattr(manifold, "NUM_PATCHES", 2000)


# Patches and their codes.


def test_centering_by_hand():
    # two channels of two pixels: means 127.5 and 51
    x = torch.tensor([[0.0, 255.0, 51.0, 51.0]])
    assert manifold.center(x, channels=2)[0].tolist() == pytest.approx([-0.5, 0.5, 0, 0])


def test_whitening_by_hand():
    # second moments diag(2, 8) of four points: each axis is divided by the root of it plus 0.001
    x = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 4.0], [0.0, -4.0]])
    expected = torch.diag(torch.tensor([1 / math.sqrt(2.001), 1 / math.sqrt(8.001)]))
    torch.testing.assert_close(manifold.whitening(x), expected)


def test_whitened_patches_have_unit_covariance():
    x = torch.randn(5000, 4, generator=torch.Generator().manual_seed(0)).cumsum(dim=1) * 10
    x -= x.mean(dim=0)
    whiten = manifold.whitening(x)
    torch.testing.assert_close(whiten, whiten.T)
    torch.testing.assert_close(torch.cov((x @ whiten).T), torch.eye(4), atol=1e-3, rtol=0)


def test_flat_patches_are_not_blown_up():
    lengths = manifold.unit(torch.tensor([[3.0, 4.0], [0.0, 0.0], [3e-7, 4e-7]])).norm(dim=1)
    assert lengths.tolist() == pytest.approx([1, 0, 5e-4])


def test_a_mirrored_patch_by_hand():
    x = torch.arange(8.0)[None]  # two channels of 2 x 2 pixels
    assert manifold.mirror(x, channels=2).tolist() == [[1, 0, 3, 2, 5, 4, 7, 6]]


def test_distinct_patches_by_hand():
    x = torch.tensor([[1.0, 0], [0, 0], [1, 0], [0, 1], [0, -1], [0.6, 0.8]])
    assert manifold.distinct(x, 3).tolist() == [[1, 0], [0, 1], [0, -1]]
    assert len(manifold.distinct(x, 4)) == 4
    with pytest.raises(InputError, match="dictionary of 5 patches: the images have too few"):
        manifold.distinct(x, 5)


def test_distinct_patches_are_distinct_across_pieces():
    x = manifold.unit(torch.randn(700, 3, generator=torch.Generator().manual_seed(0)))
    kept = manifold.distinct(torch.cat([x, x]), 300)
    assert (kept @ kept.T).triu(1).max() <= manifold.DUPLICATE
    with pytest.raises(InputError):
        manifold.distinct(torch.cat([x, x]), 701)


def test_codes_by_hand(monkeypatch):
    """At 0, 90 and 60 degrees: a patch at 0 degrees has the cosines 1, 0 and 0.5 with them."""
    monkeypatch.setattr(manifold, "PIECE", 6)  # two patches at a time
    angles = torch.tensor([0.0, math.pi / 2, math.pi / 3])
    dictionary = torch.stack([angles.cos(), angles.sin()], dim=1)
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    found = manifold.active(x, dictionary)
    assert found.elements.tolist() == [0, 2, 1, 2]
    assert found.offsets.tolist() == [0, 2, 2, 4, 4]


def test_the_embedding_of_a_patch_by_hand():
    projection = torch.tensor([[3.0, 0.0], [0.0, 4.0], [1.0, 1.0]])
    found = manifold.Codes(torch.tensor([0, 1, 2]), torch.tensor([0, 2, 2, 3]))
    root = math.sqrt(0.5)
    expected = torch.tensor([[0.6, 0.8], [0.0, 0.0], [root, root]])
    torch.testing.assert_close(manifold.project(found, projection), expected)


def test_no_active_element_at_all():
    found = manifold.active(torch.zeros(3, 2), torch.eye(2))
    assert manifold.project(found, torch.ones(2, 4)).tolist() == [[0, 0, 0, 0]] * 3


def test_cells_by_hand():
    means = manifold.cells(6) @ torch.arange(36.0)  # cells of rows 0-1, 1-2, 3-4 and 4-5
    along = [0.5, 1.5, 3.5, 4.5]
    assert means.tolist() == pytest.approx([6 * row + column for row in along for column in along])
    assert torch.equal(manifold.cells(2), torch.eye(4))  # clipped


# The projection.


def test_slow_and_fast_directions_by_hand():
    """Three elements, active in turn: of the first, cells share 0.9 of the mean square, of the
    second 0.1, of the third, which is twice as strong, 0.5."""
    total, shared = np.diag([1, 1, 4]), np.diag([0.9, 0.1, 2])
    moments = Moments(total.astype(np.float32), shared.astype(np.float32))
    ridge = manifold.RIDGE * 2
    expected = [[1 / math.sqrt(1 + ridge), 0], [0, 0], [0, 1 / math.sqrt(4 + ridge)]]
    projection = manifold.slow_directions(moments, 2).abs()
    torch.testing.assert_close(projection, torch.tensor(expected))


def test_slow_directions_of_images_by_hand():
    """Two kinds of images, each of its own patch and of a patch that both share.

    Within a cell, patches change between own and shared (fast); between cells, the kind (slow).
    Codes are (1, 0, 0), (0, 1, 0) and (0, 0, 1) for kind A, kind B and shared, each cell half and
    half: A = diag(1/4, 1/4, 1/2), means (1/2, 0, 1/2) and (0, 1/2, 1/2). Directions: the constant
    (1, 1, 1) with lambda = 1, the kind (1, -1, 0) with 1/2, own against shared (1, 1, -1) with 0.
    """
    codes = np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]])
    means = codes.reshape(2, 2, 3).mean(axis=1)
    moments = Moments(
        (codes.T @ codes / 4).astype(np.float32), (means.T @ means / 2).astype(np.float32)
    )
    np.testing.assert_array_equal(moments.patches, np.diag([0.25, 0.25, 0.5]))
    constant, kind, own = manifold.slow_directions(moments, 3).T.numpy()
    # Mean squares of 1: the constant is 1; the kind is +-r of half the patches, so r = sqrt(2).
    np.testing.assert_allclose(np.abs(constant), [1, 1, 1], rtol=2e-3)
    assert np.ptp(np.sign(constant)) == 0
    np.testing.assert_allclose(kind * np.sign(kind[0]), [2**0.5, -(2**0.5), 0], atol=3e-3)
    np.testing.assert_allclose(own * np.sign(own[0]), [1, 1, -1], atol=2e-3)


def codes_by_a_plain_loop(image, learned):
    """The codes of an image (C, S, S), as a dictionary from positions to arrays (K,)."""
    found = {}
    side = learned.side
    corners = range(image.shape[-1] - side + 1)
    for i, row in enumerate(corners):
        for j, column in enumerate(corners):
            patch = image[:, row : row + side, column : column + side] / 255
            patch = (patch - patch.mean(axis=(1, 2), keepdims=True)).flatten()
            x = patch @ learned.whiten.numpy()
            found[i, j] = learned.dictionary.numpy() @ x / np.linalg.norm(x) > 0.3
    return found


def cell_rows(positions):
    """The first and the last row of each of up to four cells."""
    num = min(4, positions)
    return [range(math.floor(g * positions / num), math.ceil((g + 1) * positions / num))
            for g in range(num)]  # fmt: skip


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 17)])
def test_statistics_equal_a_plain_loop(channels, size, monkeypatch):
    monkeypatch.setattr(manifold, "GROUP", 2)
    images, learned = random_images(5, channels, size, size), random_manifold(channels, size)
    shares = []
    moments = manifold.statistics(
        images, learned.side, learned.whiten, learned.dictionary, shares.append
    )
    of_patches, of_cells = [], []
    for image in images.numpy().astype(np.float64):
        found = codes_by_a_plain_loop(image, learned)
        of_patches += [np.outer(code, code) for code in found.values()]
        rows = cell_rows(math.isqrt(len(found)))
        for a in rows:
            for b in rows:
                mean = np.mean([found[i, j] for i in a for j in b], axis=0)
                of_cells.append(np.outer(mean, mean))
    np.testing.assert_allclose(moments.patches, np.mean(of_patches, axis=0), atol=1e-6)
    np.testing.assert_allclose(moments.cells, np.mean(of_cells, axis=0), atol=1e-6)
    assert shares == [0, 0.4, 0.8, 1]


# Images.


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 17), (1, 32)])
def test_encoding_equals_a_plain_loop(channels, size, mirrored):
    images = random_images(3, channels, size, size)
    learned = random_manifold(channels, size, mirrored=mirrored)
    features = manifold.encode(images, learned)
    projection = learned.projection.numpy()
    for image, encoded in zip(images.numpy().astype(np.float64), features, strict=True):
        found = codes_by_a_plain_loop(image, learned)
        rows = cell_rows(math.isqrt(len(found)))
        last = math.isqrt(len(found)) - 1
        expected = []
        for a in rows:
            for b in rows:
                where = [(i, j) for i in a for j in b]
                sums = [found[i, j] @ projection for i, j in where]
                if mirrored:  # elements 0 to 19 mirror elements 20 to 39
                    swapped = np.concatenate([projection[20:], projection[:20]])
                    sums += [found[i, last - j] @ swapped for i, j in where]
                lengths = np.linalg.norm(sums, axis=1, keepdims=True)
                expected.append((np.array(sums) / np.maximum(lengths, 1e-12)).mean(axis=0))
        np.testing.assert_allclose(encoded, np.concatenate(expected), atol=1e-5)


def test_encoding_depends_neither_on_pieces_nor_on_threads(small, monkeypatch):
    images = small.train.images
    learned = manifold.learn(images, Config(32, 4), seed=0)
    whole = manifold.encode(images, learned)
    np.testing.assert_allclose(manifold.encode(images, learned, piece=7), whole, atol=1e-5)
    by_threads = []
    torch.set_num_threads(2)
    for threads in (1, 3):
        monkeypatch.setattr(patches, "num_cores", lambda threads=threads: threads)
        by_threads.append(manifold.encode(images, learned, piece=7))
    assert np.array_equal(*by_threads)
    assert torch.get_num_threads() == 2


def test_a_mirrored_dictionary_and_its_embedding():
    images = random_images(12, 3, 32, 32)
    learned = manifold.learn(images, Config(41, 6), seed=0, mirrored=True)
    assert len(learned.dictionary) == 42
    first, second = learned.dictionary.chunk(2)
    assert torch.equal(manifold.mirror(first, channels=3), second)
    # Mirrored patches are whitened to the mirror image of whitened patches.
    x = torch.randn(5, 108, generator=torch.Generator().manual_seed(0))
    mirrored = manifold.mirror(x, channels=3) @ learned.whiten
    torch.testing.assert_close(
        mirrored, manifold.mirror(x @ learned.whiten, channels=3), atol=1e-4, rtol=1e-4
    )
    # As if learned from the mirror images, too: every direction is symmetric or antisymmetric.
    first, second = learned.projection.chunk(2)
    signs = (first * second).sum(dim=0).sign()
    torch.testing.assert_close(second, signs * first, atol=1e-3, rtol=1e-3)
    features = manifold.encode(images, learned)
    np.testing.assert_allclose(manifold.encode(images.flip(3), learned), features, atol=1e-4)
    plain = learned._replace(mirrored=False)
    assert not np.allclose(
        manifold.encode(images.flip(3), plain), manifold.encode(images, plain), atol=0.01
    )


def test_the_projection_finds_what_the_patches_of_a_cell_share():
    """Images of stripes along rows or along columns, at every shift: only their direction counts,
    though shifted patches have nothing in common."""
    line = torch.tensor([0, 0, 255], dtype=torch.uint8).repeat(11)
    shifts = torch.stack([line[k : k + 30] for k in range(3)])
    rows = shifts[:, None, :, None].expand(3, 1, 30, 30)
    images = torch.cat([rows, rows.transpose(2, 3)])
    learned = manifold.learn(images, Config(6, 2), seed=0)
    assert (learned.dictionary @ learned.dictionary.T).fill_diagonal_(0).max() < 0.3
    features = manifold.encode(images, learned)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    same_direction = np.kron(np.eye(2), np.ones((3, 3)))
    np.testing.assert_allclose(unit @ unit.T, same_direction, atol=0.05)


def test_balancing_by_hand():
    train = np.array([[1, 7], [3, 7], [-10, 7]], dtype=np.float32)
    test = np.array([[14, 8]], dtype=np.float32)
    manifold.balance(train, test)  # means -2 and 7
    np.testing.assert_allclose(train, [[3**0.5, 0], [5**0.5, 0], [-(8**0.5), 0]], rtol=1e-6)
    np.testing.assert_allclose(test, [[4, 1]], rtol=1e-6)


def test_balancing_in_pieces_equals_numpy():
    x = np.random.default_rng(0).normal(3, 2, (2500, 5)).astype(np.float32)
    centered = x - x.mean(axis=0, dtype=np.float64)
    manifold.balance(x)
    np.testing.assert_allclose(x * np.abs(x), centered, atol=1e-5)


# Through `embed`.


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 9), (2, 16), (1, 33), (3, 96)])
def test_every_size_and_number_of_channels(channels, size, flip):
    dataset = random_dataset(channels, size, flip=flip)
    train, test = embed("manifold:20x3", dataset, parts=("train", "test"))
    assert train.shape == test.shape == (24, 3 * 16)
    assert train.dtype == np.float32
    assert np.isfinite(train).all() and np.isfinite(test).all()
    assert np.ptp(train, axis=0).min() > 0


def test_equal_arguments_give_equal_arrays_and_another_seed_others(small):
    arrays = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002
        arrays.append(embed(SPEC, small, seed=seed)[0])
    assert np.array_equal(arrays[0], arrays[1])
    assert not np.allclose(arrays[0], arrays[2])


def test_labels_and_test_images_have_no_say(small):
    train, test = embed(SPEC, small, parts=("train", "test"))
    shuffled = small.train.labels[torch.randperm(200, generator=torch.Generator().manual_seed(0))]
    other = dataclasses.replace(
        small, train=small.train.relabel(shuffled), test=small.test.subset(range(10))
    )
    train_again, test_again = embed(SPEC, other, parts=("train", "test"))
    assert np.array_equal(train, train_again)
    np.testing.assert_allclose(test[:10], test_again, atol=1e-5)
    assert np.array_equal(embed(SPEC, small, parts=("test",))[0], test)


def test_the_projection_is_learned_from_some_images_only(small):
    learned = [
        manifold.learn(small.train.images, Config(32, 4), 0, num_images=num)
        for num in (50, 200, 300)
    ]
    assert not torch.allclose(learned[0].projection, learned[1].projection)
    assert torch.equal(learned[1].projection, learned[2].projection)


def test_what_the_name_in_the_cache_depends_on(small, tmp_path):
    def num_files(spec, dataset, **options):
        embed(spec, dataset, cache=tmp_path, **options)
        return len(list(tmp_path.glob("*.npy")))

    assert num_files(SPEC, small) == 1
    assert num_files("manifold:064x08", small) == 1
    assert num_files(SPEC, small, seed=1) == 2
    assert num_files("manifold:64x9", small) == 3
    assert num_files("manifold:63x8", small) == 4
    assert num_files("manifold:64", small) == 5
    assert num_files("manifold:64x64", small) == 5  # its default
    assert num_files(SPEC, dataclasses.replace(small, flip=not small.flip)) == 6
    assert num_files(SPEC, small, parts=("test",)) == 7


def test_progress_is_reported(small, monkeypatch):
    monkeypatch.setattr(progress, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(manifold, "PIECE", 36 * 64 * 50)  # 50 images
    monkeypatch.setattr(manifold, "GROUP", 100)
    lines = []
    embed(SPEC, small, report=lines.append)
    assert [line.partition("%")[0] for line in lines] == [
        f"{SPEC}: dictionary and projection",
        *(f"{SPEC}: dictionary and projection {share}" for share in (50, 100)),
        f"{SPEC}: train images",
        *(f"{SPEC}: train images {share}" for share in (25, 50, 75, 100)),
        lines[-1],
    ]
    assert lines[-1].startswith(f"{SPEC}: done in ")


def test_digits_end_to_end(digits):
    train, test = embed("manifold", digits, parts=("train", "test"))
    labels = [part.labels.numpy() for part in (digits.train, digits.test)]
    assert train.shape == (len(labels[0]), 16 * 64)
    accuracy = linear_probe(train, labels[0], test, labels[1])
    assert accuracy > 0.97  # 0.93 on the pixels
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test)]
    nearest = (unit[1] @ unit[0].T).argmax(axis=1)
    assert (labels[0][nearest] == labels[1]).mean() > 0.97


def test_prototypes_are_selected_with_it(tmp_path):
    request = Request(
        dataset="digits", embedding=SPEC, methods=("class-centroid",), results=tmp_path,
        out=tmp_path / "mine.json",
    )  # fmt: skip
    make_label_sets(request, lambda line: None)
    content = json.loads((tmp_path / "mine.json").read_text())
    assert content["embedding"] == SPEC


def test_too_few_distinct_patches():
    dataset = random_dataset(1, 8, num=2, flip=False)
    with pytest.raises(InputError, match="a dictionary of 73 patches: the images have too few"):
        embed("manifold:73x2", dataset)
    flat = dataclasses.replace(dataset.train, images=torch.zeros_like(dataset.train.images))
    with pytest.raises(InputError, match="too few"):
        embed("manifold:1", dataclasses.replace(dataset, train=flat))


def test_flat_images_are_embedded_as_zero(small):
    learned = manifold.learn(small.train.images, Config(32, 4), seed=0)
    assert not manifold.encode(torch.full((1, 1, 8, 8), 200, dtype=torch.uint8), learned).any()
