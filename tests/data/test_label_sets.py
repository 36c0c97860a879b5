"""Label sets: the published ones on the real images, the split algorithm, files, refusals."""

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boss.data import Dataset, ImageSet
from boss.data.label_sets import (
    PACKAGE_FOLDER,
    LabelSet,
    fixmatch_split,
    published,
    resolve,
    validation_indices,
)
from boss.errors import InputError

GOLDEN: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).parents[1].joinpath("test_label_sets_golden.json").read_text()
)
# Images of digits 1, 2, ..., 9, 0: the order in which the reference numbers the classes of SVHN.
SVHN_TRAIN = (13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659, 4948)
SVHN_EXTRA = (90560, 74740, 60765, 50633, 53490, 41582, 43997, 35358, 34456, 45550)
SVHN_BOTH = tuple(a + b for a, b in zip(SVHN_TRAIN, SVHN_EXTRA, strict=True))


def refused(message: str) -> Any:
    """Expects an InputError of one line that contains `message`."""
    return pytest.raises(InputError, match=rf"\A(?=.*{message})[^\n]*\Z")


def dataset(labels: Sequence[int], *, name: str = "mine") -> Dataset:
    """A data set of black images with these training labels; the classes are a, b, c, ..."""
    classes = tuple("abcdefghij"[: max(labels) + 1])
    images = torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8)
    train = ImageSet(images, torch.tensor(labels), classes)
    return Dataset(name, train, train.subset([0]), flip=True)


def plain_split(labels: Sequence[int], seed: int, size: int) -> list[int]:
    """`fixmatch_split` in plain Python, but for the shuffling."""
    num_classes = max(labels) + 1
    members = [[i for i, label in enumerate(labels) if label == c] for c in range(num_classes)]
    counts = [len(m) for m in members]
    if seed:
        generator = np.random.RandomState(seed)
        for m in members:
            generator.shuffle(m)
    taken = [0] * num_classes
    split = []
    for _ in range(size):
        best = None
        for c in range(num_classes):
            score = counts[c] / max(counts) - taken[c] / max(1, *taken)
            if taken[c] < counts[c] and (best is None or score > best[0]):
                best = (score, c)
        assert best is not None
        c = best[1]
        split.append(members[c][taken[c]])
        taken[c] += 1
    return split


# --- the published sets ---------------------------------------------------------------------


def test_registry_is_complete() -> None:
    cifar10 = [*(f"boss:{i}" for i in range(13)), *(f"carlini:{i}" for i in range(8))]
    assert list(published()["cifar10"]) == cifar10
    assert list(published()["svhn"]) == [f"boss:{i}" for i in range(1, 5)]
    assert published()["cifar10"]["boss:3"] == (213, 160, 138, 169, 34, 177, 210, 172, 190, 109)
    # Refined by their authors: 6 is 2 but for airplane and truck, 7 is 4 but for cat and dog.
    sets = {i: published()["cifar10"][f"boss:{i}"] for i in range(8)}
    for refined, original, classes in ((6, 2, [0, 9]), (7, 4, [3, 5])):
        changed = [c for c in range(10) if sets[refined][c] != sets[original][c]]
        assert changed == classes
    for sets_of_dataset in published().values():
        assert all(len(set(indices)) == 10 for indices in sets_of_dataset.values())


@pytest.mark.cifar10
def test_published_sets_hold_one_image_of_each_class(cifar10: Dataset) -> None:
    for name, indices in published()["cifar10"].items():
        assert resolve(name, cifar10) == LabelSet(name, indices, tuple(range(10)))


@pytest.mark.cifar10
@pytest.mark.parametrize("key", GOLDEN)
def test_fixmatch_splits_are_golden(cifar10: Dataset, key: str) -> None:
    """The seed and size of all 36 splits; up to 250 labels in order, beyond as a set."""
    found = resolve(f"fixmatch:{key}", cifar10)
    text = ",".join(map(str, sorted(found.indices)))
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN[key]["sha256_sorted_csv"]
    assert list(found.indices) == GOLDEN[key].get("order", list(found.indices))
    assert found.labels == tuple(range(10)) * (len(found) // 10)


def test_golden_splits_are_all_there() -> None:
    assert len(GOLDEN) == 36
    assert sum("order" in entry for entry in GOLDEN.values()) == 24


@pytest.mark.cifar10
def test_boss_8_is_the_split_of_seed_8(cifar10: Dataset) -> None:
    assert published()["cifar10"]["boss:8"] == resolve("fixmatch:8@10", cifar10).indices


@pytest.mark.cifar10
def test_validation_is_the_head_of_the_interleaved_order(cifar10: Dataset) -> None:
    labels = cifar10.train.labels.numpy()
    head = [29, 4, 6, 9, 3, 27, 0, 7, 8, 1, 30, 5, 13, 17, 10, 40, 19, 11, 62, 2]
    assert validation_indices(labels, 20).tolist() == head
    held_out = validation_indices(labels, 5000)
    assert np.bincount(labels[held_out]).tolist() == [500] * 10
    labeled = {i for n in range(8) for i in published()["cifar10"][f"boss:{n}"]}
    assert labeled <= set(held_out.tolist())
    start = time.perf_counter()
    assert sorted(validation_indices(labels, 50_000).tolist()) == list(range(50_000))
    assert time.perf_counter() - start < 2


# --- the split algorithm --------------------------------------------------------------------


def test_split_by_hand() -> None:
    """Six of class 0, three of 1, two of 2, so the shares are 1, 1/2 and 1/3.

    taken      share - taken / max(1, max taken)     class
    0 0 0       1      1/2    1/3                    0
    1 0 0       0      1/2    1/3                    1
    1 1 0       0     -1/2    1/3                    2
    1 1 1       0     -1/2   -2/3                    0
    2 1 1       0      0     -1/6                    0, the lowest of two
    3 1 1       0      1/6    0                      1
    3 2 1       0     -1/6    0                      0, the lowest of two
    4 2 1       0      0      1/12                   2
    4 2 2       0      0      (has run out)          0
    5 2 2       0      1/10                          1
    5 3 2       0                                    0
    """
    labels = np.array([2, 0, 1, 0, 0, 1, 0, 2, 0, 1, 0])
    split = fixmatch_split(labels, seed=0, size=11)
    assert labels[split].tolist() == [0, 1, 2, 0, 0, 1, 0, 2, 0, 1, 0]
    assert split.tolist() == [1, 2, 0, 3, 4, 5, 6, 7, 8, 9, 10]
    assert split.tolist() == plain_split(labels.tolist(), 0, 11)


def test_classes_are_shuffled_in_order_by_the_legacy_generator() -> None:
    labels = np.array([0, 1] * 20)
    generator = np.random.RandomState(7)
    evens, odds = list(range(0, 40, 2)), list(range(1, 40, 2))
    generator.shuffle(evens)
    generator.shuffle(odds)
    expected = [i for pair in zip(evens, odds, strict=True) for i in pair]
    assert fixmatch_split(labels, seed=7, size=40).tolist() == expected


@pytest.mark.parametrize(
    ("counts", "size", "expected"),
    [
        (SVHN_TRAIN, 40, [7, 6, 4, 4, 4, 3, 3, 3, 3, 3]),
        (SVHN_BOTH, 40, [7, 6, 4, 4, 4, 3, 3, 3, 3, 3]),
        (SVHN_BOTH, 250, [43, 35, 29, 24, 25, 20, 20, 17, 16, 21]),
    ],
    ids=["train", "train+extra", "train+extra"],
)
def test_uneven_classes_keep_their_proportions(
    counts: tuple[int, ...], size: int, expected: list[int]
) -> None:
    labels = np.repeat(np.arange(10), counts)
    split = fixmatch_split(labels, seed=1, size=size)
    assert np.bincount(labels[split]).tolist() == expected
    assert sorted(labels[split[:10]].tolist()) == list(range(10))


@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=80),
    seed=st.sampled_from([0, 1, 12345, 2**32 - 1]),
    share=st.floats(0, 1),
)
def test_split_equals_the_plain_loop(labels: list[int], seed: int, share: float) -> None:
    size = max(1, round(share * len(labels)))
    split = fixmatch_split(np.array(labels), seed, size).tolist()
    assert split == plain_split(labels, seed, size)
    assert len(set(split)) == size
    present = len(set(labels))
    assert len({labels[i] for i in split}) == min(size, present)


def test_split_leaves_global_random_state_and_labels_alone() -> None:
    labels = np.array([0, 1, 0, 1, 0, 0])
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    first = fixmatch_split(labels, seed=5, size=6).tolist()
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    assert labels.tolist() == [0, 1, 0, 1, 0, 0]
    assert fixmatch_split(labels, seed=5, size=6).tolist() == first


def test_smaller_split_is_the_head_of_a_larger_one() -> None:
    labels = np.random.default_rng(0).integers(0, 5, 200)
    large = fixmatch_split(labels, seed=3, size=200)
    assert fixmatch_split(labels, seed=3, size=30).tolist() == large[:30].tolist()
    unshuffled = fixmatch_split(labels, seed=0, size=40)
    assert validation_indices(labels, 40).tolist() == unshuffled.tolist()
    assert validation_indices(labels, 0).tolist() == []


def test_split_refuses() -> None:
    labels = np.array([0, 1, 0, 1])
    for size in (0, -1, 5):
        with refused(f"cannot take {size} labels from 4 training images"):
            fixmatch_split(labels, 0, size)
    for seed in (-1, 2**32):
        with refused(f"seed .* not {seed}"):
            fixmatch_split(labels, seed, 2)
    for num in (-1, 5):
        with refused(f"cannot hold out {num} of 4"):
            validation_indices(labels, num)


# --- ids and files --------------------------------------------------------------------------


def test_fixmatch_of_any_data_set(digits: Dataset) -> None:
    found = resolve("fixmatch:3@40", digits)
    assert found.id == "fixmatch:3@40"
    assert len(set(found.indices)) == len(found) == 40
    assert found.labels == tuple(digits.train.labels[list(found.indices)].tolist())
    assert set(np.bincount(found.labels)) == {4}
    assert found.indices != resolve("fixmatch:4@40", digits).indices
    assert len(resolve("fixmatch:3@1201", digits)) == 1201


def test_text_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("# hand-picked\n 3  # a fine one\n\n0\r\n4\n")
    found = resolve(f"file:{path}", dataset([0, 0, 0, 1, 2, 2]))
    assert found == LabelSet(f"file:{path}", (3, 0, 4), (1, 0, 2))


def test_json_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"indices": [3, 0, 4], "about": "hand-picked"}))
    mine = dataset([0, 0, 0, 1, 2, 2])
    assert resolve(f"file:{path}", mine).labels == (1, 0, 2)
    path.write_text(json.dumps({"indices": [3, 0, 4], "labels": [0, 1, 2]}), encoding="utf-8-sig")
    assert resolve(f"file:{path}", mine) == LabelSet(f"file:{path}", (3, 0, 4), (0, 1, 2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "mine.txt has no image"),
        ("0\n3\n", "mine.txt has no image of class c"),
        ("0\nthree\n", "mine.txt, line 2: 'three' is not an integer"),
        ("0\n3.0\n", "line 2: '3.0' is not an integer"),
        ("0 3\n", "'0 3' is not an integer"),
        ("0\n1_0\n", "'1_0' is not an integer"),
        ("٣\n", "is not an integer"),
        ("9" * 5000, "is not an integer"),
        ("0\n3\n6\n", "6 is not among the training images, 0 to 5"),
        ("-1\n", "-1 is not among"),
        ("0\n3\n4\n3\n", "3 is listed twice"),
        ("{", "mine.txt is not valid JSON"),
        ("[" * 100_000, "mine.txt is not valid JSON"),
        ("[0, 3, 4]", 'must be {"indices"'),
        ('{"index": [0, 3, 4]}', 'must be {"indices"'),
        ('{"indices": 3}', "indices is not a list"),
        ('{"indices": [0, 3.0]}', r"indices: 3\.0 is not an integer"),
        ('{"indices": [0, "3"]}', "'3' is not an integer"),
        ('{"indices": [0, true]}', "True is not an integer"),
        ('{"indices": [0, 3], "labels": [0, 1, 2]}', "2 indices, but 3 labels"),
        ('{"indices": [0, 3, 4], "labels": [0, 1, "c"]}', "labels: 'c' is not an integer"),
        ('{"indices": [0, 3, 4], "labels": [0, 1, 3]}', "label 3 of image 4 is none of .* 0 to 2"),
        ('{"indices": [0, 3, 4], "labels": [0, 1, -1]}', "label -1 of image 4"),
        ('{"indices": [0, 3, 4], "labels": [0, 1, 1]}', "no image of class c"),
        ('{"indices": [0, 3, 4], "labels": null}', "labels is not a list"),
        ('{"indices": [0, 3, 4], "fingerprint": null}', "fingerprint is not a string"),
        ('{"indices": [0, 3, 4], "oracle": 1}', "oracle is not a string"),
        ('{"indices": [0, 3, 4], "fingerprint": "00112233445566"}',
         "other data than mine: its fingerprint is 001122334455, that of .* here [0-9a-f]{12}$"),
        ('{"indices": [0, 3], "uncovered": "c"}', "uncovered is not a list of class names"),
        ('{"indices": [0, 3], "uncovered": [2]}', "uncovered is not a list of class names"),
        ('{"indices": [0, 3], "uncovered": ["d"]}',
         "unknown class in uncovered of .*mine.txt 'd': choose from a, b, c$"),
        ('{"indices": [0, 3, 4], "uncovered": ["c"]}',
         "declares class c uncovered, but has an image of it"),
        ('{"indices": [0, 4], "labels": [0, 1], "uncovered": ["b"]}',
         "declares class b uncovered, but has an image of it"),
        ('{"indices": [0], "uncovered": ["c"]}', "mine.txt has no image of class b$"),
        ('{"indices": [0, 3], "uncovered": []}', "mine.txt has no image of class c$"),
        (b"\xff\xfe\x00", "cannot read label set .*mine.txt: it is not a text file"),
    ],
)  # fmt: skip
def test_file_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with refused(message):
        resolve(f"file:{path}", dataset([0, 0, 0, 1, 2, 2]))


def test_json_file_of_a_selection(tmp_path: Path) -> None:
    mine = dataset([0, 0, 0, 1, 2, 2])
    path = tmp_path / "mine.json"
    content = {"indices": [3, 5, 4], "uncovered": ["a"], "fingerprint": mine.train.fingerprint}
    path.write_text(json.dumps(content | {"oracle": "test labels", "method": "by hand"}))
    found = resolve(f"file:{path}", mine)
    assert found == LabelSet(f"file:{path}", (3, 5, 4), (1, 2, 2), "test labels")
    for other in (dataset([0, 0, 0, 1, 2, 1]), dataset([0, 0, 0, 1, 2, 2, 2])):
        with refused("was made for other data than mine"):
            resolve(f"file:{path}", other)


def test_selections_are_looked_up_here_and_in_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """a-1 is the user's, c-1 the package's, b-1 is in both: then the user's counts."""
    here, package = tmp_path / "here", tmp_path / "package"
    for folder, name, indices in (
        (here / "label_sets", "a-1", [0, 1, 2]),
        (here / "label_sets", "b-1", [0, 2, 1]),
        (package, "b-1", [1, 0, 2]),
        (package, "c-1", [2, 1, 0]),
        (here, "outside", [0, 1, 2]),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps({"indices": indices}))
    monkeypatch.setattr("boss.data.label_sets.PACKAGE_FOLDER", package)
    monkeypatch.chdir(here)
    mine = dataset([0, 1, 2])
    for name, indices in (("a-1", (0, 1, 2)), ("b-1", (0, 2, 1)), ("c-1", (2, 1, 0))):
        assert resolve(f"select:{name}", mine) == LabelSet(f"select:{name}", indices, indices)
    for name in ("d-1", "../outside", "a-1.json", "./a-1", ".a"):
        with refused(f"unknown selection '{name}': choose from a-1, b-1, c-1; `boss-study select`"):
            resolve(f"select:{name}", mine)
    monkeypatch.chdir(tmp_path)
    with refused("unknown selection 'a-1': choose from b-1, c-1; "):
        resolve("select:a-1", mine)
    monkeypatch.setattr("boss.data.label_sets.PACKAGE_FOLDER", here / "none")
    with refused("unknown selection 'a-1': there is none yet; "):
        resolve("select:a-1", mine)


def test_every_selection_of_the_package_is_whole() -> None:
    assert (PACKAGE_FOLDER / "README.md").exists()
    for path in PACKAGE_FOLDER.glob("*.json"):
        content = json.loads(path.read_text())
        assert re.fullmatch("[0-9a-f]{64}", content["fingerprint"])
        assert len(set(content["indices"])) == len(content["indices"])


def test_folds_of_a_data_set() -> None:
    mine = dataclasses.replace(dataset([0, 0, 0, 1, 2, 2]), folds=((5, 3, 0), (1, 3, 4), (0, 1)))
    assert resolve("fold:0", mine) == LabelSet("fold:0", (5, 3, 0), (2, 1, 0))
    assert resolve("fold:1", mine) == LabelSet("fold:1", (1, 3, 4), (0, 1, 2))
    for name in ("fold:3", "fold:-1", "fold:01", "fold:one", "fold:0@3"):
        with refused(f"unknown label set of mine '{name}': choose from fold:0, fold:1, fold:2$"):
            resolve(name, mine)
    with refused("label set fold:2 has no image of class b, c"):
        resolve("fold:2", mine)
    with refused("malformed label set 'fold:': .* or fold:NUMBER or "):
        resolve("fold:", mine)
    with refused("label set fold:0: mine has no predefined folds: choose fixmatch:SEED@SIZE or"):
        resolve("fold:0", dataset([0, 0, 0, 1, 2, 2]))


def test_missing_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with refused(f"cannot read label set {path}: "):
            resolve(f"file:{path}", dataset([0, 1]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("boss", "malformed label set 'boss': write boss:NUMBER or carlini:NUMBER or"),
        ("", "malformed"),
        ("file:", "malformed"),
        (
            "bos:3",
            "unknown kind of label set 'bos': choose from boss, carlini, fixmatch, fold, select,"
            " file",
        ),
        ("fixmatch:3", "malformed label set 'fixmatch:3': write fixmatch:SEED@SIZE, for instance"),
        ("fixmatch:3@ten", "malformed"),
        ("fixmatch:-3@10", "malformed"),
        ("fixmatch:03@10", "malformed"),  # one split, one id
        ("fixmatch:3@10 ", "malformed"),
        ("fixmatch:٣@10", "malformed"),
        ("fixmatch:3@2", "fixmatch:3@2 is smaller than the 3 classes"),
        ("fixmatch:3@7", "cannot take 7 labels from 6 training images"),
        ("fixmatch:9999999999@4", "seed .* not 9999999999"),
        (
            "boss:3",
            "boss:3 is for cifar10 or svhn, not for mine: choose fixmatch:SEED@SIZE or file",
        ),
        ("carlini:7", "carlini:7 is for cifar10, not for mine"),
    ],
)
def test_id_is_refused(name: str, message: str) -> None:
    with refused(message):
        resolve(name, dataset([0, 0, 0, 1, 2, 2]))


def test_published_set_of_another_number_or_another_file_is_refused() -> None:
    fake = dataset(list(range(10)) * 25, name="cifar10")
    with refused("unknown label set of cifar10 'boss:13': choose from boss:0, boss:1, .*boss:12$"):
        resolve("boss:13", fake)
    with refused("'carlini:seven': choose from carlini:0"):
        resolve("carlini:seven", fake)
    with refused("label set boss:4: 289 is not among the training images, 0 to 249"):
        resolve("boss:4", fake)
    with refused("label set boss:3 has no image of class"):
        resolve("boss:3", fake)


def test_svhn_has_sets_of_its_own() -> None:
    labels = [0] * 400
    for c, index in enumerate(published()["svhn"]["boss:4"]):
        labels[index] = c
    found = resolve("boss:4", dataset(labels, name="svhn"))
    assert found.labels == tuple(range(10))
    with refused("unknown label set of svhn 'boss:0': choose from boss:1, boss:2, boss:3, boss:4"):
        resolve("boss:0", dataset(labels, name="svhn"))


def test_label_set_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        LabelSet("a", (1,), (0,)).id = "b"  # type: ignore[misc]


def test_svhn_without_extra_has_the_sets_of_svhn() -> None:
    labels = [k % 10 for k in range(1000)]
    for c, index in enumerate(published()["svhn"]["boss:4"]):
        labels[index] = c
    found = resolve("boss:4", dataset(labels, name="svhn_noextra"))
    assert found.indices == published()["svhn"]["boss:4"]


def test_a_label_set_without_images_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    path.write_text(json.dumps({"indices": [], "uncovered": ["0", "1"]}))
    with refused("has no image"):
        resolve(f"file:{path}", dataset([0, 1]))
