"""Embeddings by name: forms, cache, what is fitted on what; k-means on patches, by hand and as a
plain loop; the teacher of a training; the linear probe."""

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor, wait

import filelock
import numpy as np
import pytest
import torch

from boss import models
from boss.augment import to_float
from boss.data import Dataset, ImageSet
from boss.errors import InputError
from boss.prototypes import embeddings, patches, progress
from boss.prototypes.embeddings import Used, check, embed
from boss.prototypes.probe import linear_probe
from boss.seeds import stream
from boss.study.run import Run
from boss.training import checkpoint

SPEC = "kmeans-patches:16"


def take(dataset, num_train, num_test):
    """The first images of each part."""
    return dataclasses.replace(
        dataset,
        train=dataset.train.subset(range(num_train)),
        test=dataset.test.subset(range(num_test)),
    )


def random_images(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, generator=generator).to(torch.uint8)


def random_dataset(channels, size, num=24, num_classes=2):
    names = tuple(f"class {k}" for k in range(num_classes))
    labels = torch.arange(num) % num_classes
    train, test = (
        ImageSet(random_images(num, channels, size, size, seed=seed), labels, names)
        for seed in (1, 2)
    )
    return Dataset("random", train, test, flip=True)


@pytest.fixture(scope="module")
def small(digits):
    return take(digits, 200, 50)


@pytest.fixture
def few_patches(monkeypatch):
    """What a dictionary needs to be well formed, in no time."""
    monkeypatch.setattr(patches, "NUM_PATCHES", 2000)


def threads_of_a_new_thread():
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(torch.get_num_threads).result()


# Patches: formulas by hand.


def test_normalization_by_hand():
    # mean 3, variance (4 + 0 + 0 + 4) / 3
    normalized = patches.normalize(torch.tensor([[1.0, 3.0, 3.0, 5.0], [9.0, 9.0, 9.0, 9.0]]))
    scale = math.sqrt(8 / 3 + 10)
    assert normalized[0].tolist() == pytest.approx([-2 / scale, 0, 0, 2 / scale])
    assert normalized[1].tolist() == [0, 0, 0, 0]


def test_whitening_by_hand():
    # covariance diag(2, 8) of four points: each axis is divided by the root of it plus 0.1
    x = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 6.0], [0.0, -6.0]]) / math.sqrt(3)
    mean, whiten = patches.whitening(x + 5)
    assert mean.tolist() == pytest.approx([5, 5])
    expected = torch.diag(torch.tensor([1 / math.sqrt(2.1), 1 / math.sqrt(8.1)]))
    torch.testing.assert_close(whiten, expected)


def test_whitening_is_symmetric_and_removes_correlation():
    x = torch.randn(5000, 4, generator=torch.Generator().manual_seed(0)).cumsum(dim=1) * 10
    mean, whiten = patches.whitening(x)
    torch.testing.assert_close(whiten, whiten.T)
    torch.testing.assert_close(torch.cov(((x - mean) @ whiten).T), torch.eye(4), atol=0.01, rtol=0)


def test_triangle_by_hand():
    z = torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]])  # means 3 and 5
    assert patches.triangle(z).tolist() == [[2, 1, 0], [0, 0, 0]]


def test_distances_by_hand():
    z = patches.distances(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[3.0, 4.0]]))
    assert z[:, 0].tolist() == [5, 0]


def test_quadrants_by_hand():
    # 3 x 3 positions: the middle row and column are of the upper and left halves
    means = patches.quadrants(3) @ torch.arange(9.0)
    assert means.tolist() == pytest.approx([(0 + 1 + 3 + 4) / 4, (2 + 5) / 2, (6 + 7) / 2, 8])


def test_standardization_by_hand():
    train = np.array([[1, 7], [3, 7]], dtype=np.float32)
    test = np.array([[5, 8]], dtype=np.float32)
    patches.standardize(train, test)  # mean 2, deviation 1; the constant says nothing
    assert train.tolist() == [[-1, 0], [1, 0]]
    assert test.tolist() == [[3, 0]]


def test_standardization_in_pieces_equals_numpy():
    x = np.random.default_rng(0).normal(3, 2, (2500, 5)).astype(np.float32)
    expected = (x - x.mean(axis=0, dtype=np.float64)) / x.std(axis=0, dtype=np.float64)
    patches.standardize(x)
    np.testing.assert_allclose(x, expected, atol=1e-5)


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 17), (1, 32)])
def test_encoding_equals_a_plain_loop(channels, size):
    images = random_images(5, channels, size, size)
    side, num_centroids = patches.patch_side(size), 7
    width = channels * side * side
    generator = torch.Generator().manual_seed(1)
    mean, whiten, centroids = (
        torch.randn(*shape, generator=generator) / 4
        for shape in ((width,), (width, width), (num_centroids, width))
    )
    features = patches.encode(images, patches.Dictionary(side, mean, whiten, centroids))
    positions = size - side + 1
    half = (positions + 1) // 2
    for image, encoded in zip(images.numpy().astype(np.float64), features, strict=True):
        sums, counts = np.zeros((2, 2, num_centroids)), np.zeros((2, 2, 1))
        for i in range(positions):
            for j in range(positions):
                patch = image[:, i : i + side, j : j + side].flatten()
                patch = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 10)
                whitened = (patch - mean.numpy()) @ whiten.numpy()
                z = np.sqrt(((whitened - centroids.numpy()) ** 2).sum(axis=1))
                where = int(i >= half), int(j >= half)
                sums[where] += np.maximum(0, z.mean() - z)
                counts[where] += 1
        np.testing.assert_allclose(encoded, (sums / counts).flatten(), atol=2e-5)


def test_encoding_depends_neither_on_pieces_nor_on_threads(small, few_patches, monkeypatch):
    images = small.train.images
    dictionary = patches.learn(images, 8, seed=0)
    whole = patches.encode(images, dictionary)
    np.testing.assert_allclose(patches.encode(images, dictionary, piece=7), whole, atol=1e-6)
    by_threads = []
    torch.set_num_threads(2)
    for threads in (1, 3):
        monkeypatch.setattr(patches, "num_cores", lambda threads=threads: threads)
        by_threads.append(patches.encode(images, dictionary, piece=7))
    assert np.array_equal(*by_threads)
    assert threads_of_a_new_thread() == 2  # what it was


def test_patches_are_those_of_the_images():
    images = torch.arange(2 * 3 * 8 * 8).view(2, 3, 8, 8) % 251
    first, second = (
        patches.draw(images.to(torch.uint8), 3, 500, stream("patches", seed)) for seed in (0, 1)
    )
    everything = {tuple(patch) for patch in patches.unfold(images.float(), 3).tolist()}
    assert len(everything) == 72
    assert {tuple(patch) for patch in first.tolist()} == everything  # each of 72 among 500
    assert not torch.equal(first, second)


def test_centroids_are_those_of_scattered_patches(few_patches):
    """Of images in three gray patterns, k-means finds three kinds of patches."""
    pattern = random_images(3, 1, 8, 8)[:, :, :3, :3].repeat(1, 1, 3, 3)[:, :, :8, :8]
    images = pattern.repeat(10, 1, 1, 1)
    dictionary = patches.learn(images, 27, seed=0)  # 9 shifts of 3 patterns
    whitened = (patches.normalize(patches.unfold(images.float(), 3)) - dictionary.mean).matmul(
        dictionary.whiten
    )
    nearest = patches.distances(whitened, dictionary.centroids).amin(dim=1)
    spread = (whitened - whitened.mean(dim=0)).norm(dim=1)
    assert nearest.square().mean() < 0.1 * spread.square().mean()


def test_large_images_are_averaged():
    images = random_images(2, 3, 64, 64)
    blocks = images.float().view(2, 3, 32, 2, 32, 2).mean(dim=(3, 5))
    assert torch.equal(patches.shrink(images), blocks.round().to(torch.uint8))
    assert patches.shrink(images[:, :, :32, :32]).shape == (2, 3, 32, 32)


@pytest.mark.parametrize(("channels", "size"), [(1, 9), (3, 16), (3, 40)])
def test_every_size_and_number_of_channels(channels, size, few_patches):
    dataset = random_dataset(channels, size)
    train, test = embed("kmeans-patches:5", dataset, parts=("train", "test"))
    assert train.shape == test.shape == (24, 20)
    assert np.isfinite(train).all() and np.isfinite(test).all()
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(axis=0), 1, atol=1e-4)


def test_flat_images_give_finite_features(few_patches):
    dataset = random_dataset(1, 8)
    flat = dataclasses.replace(dataset.train, images=torch.zeros_like(dataset.train.images))
    [features] = embed("kmeans-patches:3", dataclasses.replace(dataset, train=flat))
    assert not features.any()


def test_more_centroids_than_patches(few_patches):
    dataset = random_dataset(1, 8, num=2)
    with pytest.raises(InputError, match="only 72 patches"):
        embed("kmeans-patches:73", dataset)


# What an embedding depends on.


def test_equal_arguments_give_equal_arrays_and_another_seed_others(small, few_patches):
    arrays = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002
        arrays.append(embed(SPEC, small, seed=seed)[0])
    assert np.array_equal(arrays[0], arrays[1])
    assert not np.allclose(arrays[0], arrays[2])


@pytest.mark.parametrize("spec", [SPEC, "teacher:network.pt"])
def test_threads_are_as_many_as_before(spec, small, few_patches, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    save_network(tmp_path / "network.pt", make_network())
    torch.set_num_threads(2)
    embed(spec, small)
    assert torch.get_num_threads() == threads_of_a_new_thread() == 2


def test_labels_have_no_say(small, few_patches):
    shuffled = small.train.labels[torch.randperm(200, generator=torch.Generator().manual_seed(0))]
    other = dataclasses.replace(small, train=small.train.relabel(shuffled))
    assert np.array_equal(*embed(SPEC, small), *embed(SPEC, other))


def test_the_test_images_have_no_say_in_what_is_fitted(small, few_patches):
    train, test = embed(SPEC, small, parts=("train", "test"))
    fewer = dataclasses.replace(small, test=small.test.subset(range(10)))
    train_again, test_again = embed(SPEC, fewer, parts=("train", "test"))
    assert np.array_equal(train, train_again)
    np.testing.assert_allclose(test[:10], test_again, atol=1e-5)
    same = dataclasses.replace(small, test=small.train)
    np.testing.assert_allclose(embed(SPEC, same, parts=("test",))[0], train, atol=1e-5)


def test_parts_come_in_the_order_asked_for(small, few_patches, tmp_path):
    train, test = embed(SPEC, small, parts=("train", "test"))
    for cache in (None, tmp_path):
        assert [len(x) for x in embed(SPEC, small, parts=("test", "train"), cache=cache)] == [
            50,
            200,
        ]
    again = embed(SPEC, small, parts=("test", "train", "test"), cache=tmp_path)
    for features, expected in zip(again, (test, train, test), strict=True):
        assert np.array_equal(features, expected)
    with pytest.raises(InputError, match="unknown part 'validation'"):
        embed(SPEC, small, parts=("validation",))


def test_digits_end_to_end(digits):
    train, test = embed("kmeans-patches:64", digits, parts=("train", "test"))
    accuracy = linear_probe(train, digits.train.labels.numpy(), test, digits.test.labels.numpy())
    pixels = [part.images.flatten(1).float().numpy() for part in (digits.train, digits.test)]
    baseline = linear_probe(
        pixels[0], digits.train.labels.numpy(), pixels[1], digits.test.labels.numpy()
    )
    assert accuracy > 0.97 > 0.95 > baseline  # 0.98 and 0.93


@pytest.mark.slow
@pytest.mark.cifar10
def test_cifar10_end_to_end(cifar10, monkeypatch):
    monkeypatch.setattr(patches, "NUM_PATCHES", 20_000)
    part = take(cifar10, 2000, 1000)
    train, test = embed("kmeans-patches:100", part, parts=("train", "test"))
    accuracy = linear_probe(train, part.train.labels.numpy(), test, part.test.labels.numpy())
    pixels = [x.images.flatten(1).float().numpy() for x in (part.train, part.test)]
    baseline = linear_probe(
        pixels[0], part.train.labels.numpy(), pixels[1], part.test.labels.numpy()
    )
    assert accuracy > 0.5 > 0.35 > baseline


# The cache.


def forbid(monkeypatch, module, name):
    def fail(*args, **kwargs):
        raise AssertionError(f"{name} is called")

    monkeypatch.setattr(module, name, fail)


def test_the_cache_spares_the_computation(small, few_patches, monkeypatch, tmp_path):
    fresh = embed(SPEC, small, parts=("train", "test"), cache=tmp_path / "a/b")
    forbid(monkeypatch, patches, "learn")
    forbid(monkeypatch, patches, "encode")
    kept = embed("kmeans-patches:016", small, parts=("train", "test"), cache=tmp_path / "a/b")
    for a, b in zip(fresh, kept, strict=True):
        assert a.dtype == b.dtype == np.float32
        assert np.array_equal(a, b)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert {p.suffix for p in files} == {".npy", ".json", ".lock"}  # .json: what it cost


def test_a_part_that_is_missing_is_computed_as_if_both_were(small, few_patches, tmp_path):
    _, test = embed(SPEC, small, parts=("train", "test"))
    embed(SPEC, small, cache=tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 1
    assert np.array_equal(embed(SPEC, small, parts=("test",), cache=tmp_path)[0], test)
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_several_side_by_side(small, few_patches, tmp_path, monkeypatch):
    """The plain loop: axes by the training images; the second has half the mean squared length."""
    monkeypatch.setattr(embeddings, "STRONGEST", 20)  # SPEC has 64 features, some without variance
    names = [SPEC, "manifold:32x8"]
    kinds = [embed(name, small, parts=("train", "test")) for name in names]
    joined = embed("+".join(names), small, parts=("test", "train"), cache=tmp_path)
    for part, found in zip((1, 0), joined, strict=True):
        assert found.shape == (len(kinds[0][part]), 40) and found.dtype == np.float32
        for position, kind in enumerate(kinds):
            centered = kind[0] - kind[0].mean(axis=0, dtype=np.float64)
            variances, axes = np.linalg.eigh(centered.T @ centered / len(centered))
            used = [i for i in np.argsort(variances)[-20:] if variances[i] > 0]
            scale = variances[used] ** -0.25
            length = np.sqrt((((centered @ axes)[:, used] * scale) ** 2).sum(axis=1).mean())
            mine = found[:, 20 * position : 20 * (position + 1)]
            moved = (kind[part] - kind[0].mean(axis=0, dtype=np.float64)) @ axes[:, used]
            expected = moved * scale / length * (1, 0.5**0.5)[position]
            # Inner products: the signs of axes mean nothing.
            np.testing.assert_allclose(mine @ mine.T, expected @ expected.T, atol=1e-4)
    assert len(list(tmp_path.glob("joined-*.npy"))) == 2
    forbid(monkeypatch, patches, "learn")
    assert np.array_equal(embed("+".join(names), small, cache=tmp_path)[0], joined[1])
    whole, *single = [Used(name) for name in ("+".join(names), *names)]
    cost = embeddings.processor_seconds(whole, small, tmp_path)
    costs = [embeddings.processor_seconds(one, small, tmp_path) for one in single]
    assert cost > sum(costs) > 0
    rest = embeddings.processor_seconds(whole, small, tmp_path, paid=single[:1])
    assert rest == pytest.approx(cost - costs[0])
    assert embeddings.processor_seconds(single[1], small, tmp_path, paid=[whole]) == 0
    assert embeddings.spelled_out(f"{SPEC}+manifold:32", small) == f"{SPEC}+manifold:32x32"
    with pytest.raises(InputError, match="several embeddings: name the one whose encoder"):
        embeddings.encoder_network(f"{SPEC}+simclr:3@wrn-7-1", small)


@pytest.mark.parametrize("damage", ["truncated", "no array", "other shape", "nan", "objects"])
def test_a_damaged_file_is_computed_again(damage, small, few_patches, tmp_path):
    [fresh] = embed(SPEC, small, cache=tmp_path)
    [path] = tmp_path.glob("*.npy")
    sound = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(sound[:-10])
    elif damage == "no array":
        path.write_bytes(b"")
    elif damage == "other shape":
        np.save(path, fresh[1:])
    elif damage == "nan":
        np.save(path, fresh * np.float32(np.nan))
    else:
        np.save(path, np.array([{}]), allow_pickle=True)
    assert np.array_equal(embed(SPEC, small, cache=tmp_path)[0], fresh)
    assert path.read_bytes() == sound


def test_what_the_name_in_the_cache_depends_on(small, few_patches, monkeypatch, tmp_path):
    def num_files(spec, dataset, **options):
        embed(spec, dataset, cache=tmp_path, **options)
        return len(list(tmp_path.glob("*.npy")))

    assert num_files(SPEC, small) == 1
    assert num_files(SPEC, small) == 1
    assert num_files(SPEC, small, seed=1) == 2
    assert num_files("kmeans-patches:15", small) == 3
    assert num_files(SPEC, take(small, 199, 50)) == 4
    assert num_files(SPEC, take(small, 200, 49)) == 4  # the other part has no say
    assert num_files(SPEC, take(small, 200, 49), parts=("test",)) == 5
    assert num_files(SPEC, small, parts=("test",)) == 6
    assert num_files(SPEC, take(small, 199, 50), parts=("test",)) == 7
    monkeypatch.setattr(embeddings, "FORMAT", embeddings.FORMAT + 1)
    assert num_files(SPEC, small) == 8


def test_one_process_computes_and_the_other_waits(small, few_patches, tmp_path):
    embed(SPEC, small, cache=tmp_path)
    [path] = tmp_path.glob("*.lock")
    lines = []
    with ThreadPoolExecutor(1) as other, filelock.FileLock(path):
        result = other.submit(embed, SPEC, small, cache=tmp_path, report=lines.append)
        done, _ = wait([result], timeout=0.3)
        assert not done
        # The end of this block lets go of the lock, then waits for the other.
    assert len(result.result()) == 1
    assert lines == [f"{SPEC}: waiting for another process that computes it"]


def test_a_cache_that_cannot_be_written(small, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write embeddings to"):
        embed(SPEC, small, cache=tmp_path / "file")


def test_progress_is_told(small, few_patches, monkeypatch):
    monkeypatch.setattr(progress, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(patches, "PIECE", 36 * 16 * 50)  # 50 images
    lines = []
    embed(SPEC, small, report=lines.append)
    assert lines[0] == f"{SPEC}: k-means"
    assert lines[1] == f"{SPEC}: train images"
    assert [line.partition("%")[0] for line in lines[2:5]] == [
        f"{SPEC}: train images {share}" for share in (25, 50, 75)
    ]
    assert all(line.endswith("s left") for line in lines[2:6])
    assert lines[-1].startswith(f"{SPEC}: done in ")


# Names.


@pytest.mark.parametrize(("spec", "message"), [
    ("resnet", r"unknown embedding 'resnet': choose from kmeans-patches\[:CENTROIDS\], manifold"),
    ("", "unknown embedding ''"),
    ("kmeans-patches:", "must read .* with a number above 0"),
    ("kmeans-patches:0", "with a number above 0"),
    ("kmeans-patches:-3", "with a number above 0"),
    ("kmeans-patches:1e3", "with a number above 0"),
    ("kmeans-patches:²", "with a number above 0"),
    ("manifold:", r"must read manifold\[:DICTIONARY\[xDIMENSION\]\], with numbers above 0"),
    ("manifold:0", "with numbers above 0"),
    ("manifold:64x", "with numbers above 0"),
    ("manifold:x64", "with numbers above 0"),
    ("manifold:64x0", "with numbers above 0"),
    ("manifold:64x8x8", "with numbers above 0"),
    ("manifold:64X8", "with numbers above 0"),
    ("manifold:8x9", "manifold:8x9: the dimension must not exceed the size of the dictionary"),
    ("simclr:many", r"must read simclr\[:STEPS\]\[@NETWORK\]"),
    ("simclr@", "unknown network ''"),
    ("simclr:5@resnet", "unknown network 'resnet'"),
    ("simclrs", "unknown embedding 'simclrs'"),
    ("kmeans-patches+none", "unknown embedding 'none'"),
    ("kmeans-patches+", "unknown embedding ''"),
    ("kmeans-patches+kmeans-patches:400", "names an embedding twice"),
    ("kmeans-patches+teacher:a+b.pt", "a teacher stands beside no other embedding"),
    ("teacher", "must read teacher:FILE"),
    ("teacher:", "must read teacher:FILE"),
    ("teacher:no/such.pt", "there is no network file no/such.pt"),
    ("torchvision:", "must read torchvision:NAME"),
])  # fmt: skip
def test_a_wrong_name_says_so(spec, message, small):
    for use in (check, embed):
        with pytest.raises(InputError, match=message) as error:
            use(spec, small)
        assert "\n" not in str(error.value)


def test_images_that_cannot_be_embedded():
    with pytest.raises(InputError, match="size must be from 8 to 256 pixels, got 7"):
        check(SPEC, random_dataset(1, 7))
    check(SPEC, random_dataset(4, 8))
    with pytest.raises(InputError, match="simclr takes images of 1 or 3 channels, not of 4"):
        check("simclr", random_dataset(4, 8))


# The teacher of a training.

RUN = Run(
    dataset="digits",
    algorithm="fixmatch",
    label_set="fixmatch:1@10",
    repeat=0,
    network="wrn-7-1",
    num_images=64,
)


def make_network(channels=1, num_classes=10, network="wrn-7-1"):
    teacher = models.build(
        network,
        channels=channels,
        num_classes=num_classes,
        norm_momentum=0.5,
        generator=stream("test", "teacher"),
    )
    with torch.no_grad():  # running statistics that differ from the initial ones
        teacher.train()(torch.rand(16, channels, 8, 8, generator=torch.Generator().manual_seed(0)))
    return teacher.eval()


def save_network(path, network, *, name="wrn-7-1", **changes):
    run = RUN.as_dict() | {"a field of later versions": 1, "network": name}
    content = {"run": run, "teacher": network.state_dict()} | changes
    checkpoint.save(path, {key: value for key, value in content.items() if value is not None})
    return f"teacher:{path}"


@pytest.mark.parametrize("name", [network.example for network in models.NETWORKS])
def test_teacher_features_are_those_before_the_classifier(small, tmp_path, name):
    teacher = make_network(network=name)
    teacher.prepare(to_float(small.train.images))
    spec = save_network(tmp_path / "network.pt", teacher, name=name)
    training = {"student": {}, "teacher": teacher.state_dict(), "step": 3}
    half_done = save_network(
        tmp_path / "checkpoint.pt", teacher, name=name, teacher=None, basis={}, training=training
    )
    check(spec, small)
    features = embed(spec, small, parts=("train", "test"))
    for part, x in zip((small.train, small.test), features, strict=True):
        with torch.no_grad():
            expected = teacher.features(to_float(part.images)).numpy()
            logits = teacher(to_float(part.images)).numpy()
        assert x.dtype == np.float32
        np.testing.assert_allclose(x, expected, atol=1e-6)
        weight, bias = (p.detach().numpy() for p in teacher.classify.parameters())
        np.testing.assert_allclose(x @ weight.T + bias, logits, atol=1e-5)
    assert np.array_equal(embed(half_done, small)[0], features[0])


def test_teacher_of_double_precision(small, tmp_path):
    [single] = embed(save_network(tmp_path / "a.pt", make_network()), small)
    [double] = embed(save_network(tmp_path / "b.pt", make_network().double()), small)
    assert double.dtype == np.float32
    np.testing.assert_allclose(single, double, atol=1e-5)


def test_teacher_batches_do_not_matter(digits, tmp_path):
    spec = save_network(tmp_path / "network.pt", make_network())
    [features] = embed(spec, digits)  # 1,198 images: two batches and a part
    images = to_float(digits.train.images[990:1010])
    with torch.no_grad():
        expected = make_network().features(images).numpy()
    np.testing.assert_allclose(features[990:1010], expected, atol=1e-6)
    assert len(features) == len(digits.train)


def test_the_cache_knows_a_network_by_its_content(small, tmp_path):
    cache, path = tmp_path / "cache", tmp_path / "network.pt"
    spec = save_network(path, make_network())
    embed(spec, small, cache=cache)
    path.rename(tmp_path / "moved.pt")
    embed(f"teacher:{tmp_path / 'moved.pt'}", small, cache=cache, seed=5)  # draws nothing
    assert len(list(cache.glob("*.npy"))) == 1
    other = make_network()
    other.stem.weight.data *= 2
    [features] = embed(save_network(path, other), small, cache=cache)
    assert len(list(cache.glob("*.npy"))) == 2
    with torch.no_grad():
        expected = other.features(to_float(small.train.images)).numpy()
    np.testing.assert_allclose(features, expected, atol=1e-5)


@pytest.mark.parametrize(("change", "message"), [
    ({"run": None}, "is no network file of this package, or is damaged"),
    ({"teacher": None}, "is no network file"),
    ({"teacher": {}}, "is no network file"),
    ({"run": {"no": "network"}}, "is no network file"),
    ({"teacher": None, "training": {"student": {}}}, "is no network file"),
    ({"run": {"network": "wrn-10-1"}}, "its weights are not those of a wrn-10-1"),
    ({"run": {"network": "vgg"}}, "unknown network 'vgg'"),
    ({"teacher": make_network(channels=3).state_dict()},
     "is for 3 channels and 10 classes, digits has 1 and 10"),
    ({"teacher": make_network(num_classes=7).state_dict()}, "is for 1 channels and 7 classes"),
])  # fmt: skip
def test_files_that_hold_no_such_teacher(change, message, small, tmp_path):
    spec = save_network(tmp_path / "network.pt", make_network(), **change)
    with pytest.raises(InputError, match=message):
        check(spec, small)


def test_a_file_that_is_no_checkpoint(small, tmp_path):
    (tmp_path / "network.pt").write_text("not a network")
    with pytest.raises(InputError, match="is no network file of this package, or is damaged"):
        check(f"teacher:{tmp_path / 'network.pt'}", small)
    with pytest.raises(InputError, match="there is no network file"):
        check(f"teacher:{tmp_path}", small)


# The probe.


def test_the_probe_by_hand():
    """Two classes on a line, one test example on the wrong side of the middle."""
    train_x = np.array([[-3], [-1], [1], [3]] * 100, dtype=np.float32)
    train_y = np.array([0, 0, 1, 1] * 100)
    test_x = np.array([[-2], [-0.1], [0.1], [20]], dtype=np.float32)
    assert linear_probe(train_x, train_y, test_x, np.array([0, 1, 1, 1])) == 0.75


def test_the_probe_leaves_its_input_alone_and_ignores_scale():
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 600)
    x = generator.normal(size=(600, 5)).astype(np.float32)
    x[:, 0] += y
    before = x.copy()
    accuracy = linear_probe(x[:500], y[:500], x[500:], y[500:])
    assert np.array_equal(x, before)
    assert 0.45 < accuracy < 0.9
    scaled = x * np.float32(64) + np.float32(512)  # little is lost by rounding
    assert linear_probe(scaled[:500], y[:500], scaled[500:], y[500:]) == accuracy


def test_the_probe_equals_the_normal_equations():
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(300, 6)), (generator.random(300) < 0.3).astype(np.int64)
    x[:, 1] += y
    z = (x - x[:200].mean(axis=0)) / x[:200].std(axis=0)
    a, targets = z[:200], 2.0 * y[:200] - 1
    weights = np.linalg.solve(a.T @ a + 100 * np.eye(6), a.T @ (targets - targets.mean()))
    predicted = z[200:] @ weights + targets.mean() > 0
    accuracy = linear_probe(
        x[:200].astype(np.float32), y[:200], x[200:].astype(np.float32), y[200:]
    )
    assert accuracy == (predicted == y[200:]).mean()
