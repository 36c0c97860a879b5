"""Data sets: what is loaded, what is refused, and how it is fetched and checked."""

import contextlib
import functools
import hashlib
import http.server
import io
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10

from boss import data
from boss.data import Dataset, ImageSet, cifar
from boss.errors import InputError

DIGITS = "5752a026c70dc083eecd87f7ee4d00a582d4baef5572d4c848d4bb3e0f595679"
CIFAR10_TRAIN = "e72f89f4f5871b9afbf7679633f7d43016c557756b60d564c326819fa6ceabaf"


def image_set(**changes: Any) -> ImageSet:
    """Six images of 3 x 3 pixels and 2 channels, two of each of three classes."""
    fields: dict[str, Any] = {
        "images": torch.arange(6 * 2 * 3 * 3, dtype=torch.uint8).reshape(6, 2, 3, 3),
        "labels": torch.tensor([0, 1, 2, 0, 1, 2]),
        "class_names": ("a", "b", "c"),
    }
    return ImageSet(**(fields | changes))


def refused(message: str) -> Any:
    """Expects an InputError of one line that contains `message`."""
    return pytest.raises(InputError, match=rf"\A(?=.*{message})[^\n]*\Z")


# --- image sets -----------------------------------------------------------------------------


def test_subset_keeps_order_and_class_names() -> None:
    whole = image_set()
    part = whole.subset([4, 0])
    assert len(part) == 2
    assert part.labels.tolist() == [1, 0]
    assert torch.equal(part.images, torch.stack([whole.images[4], whole.images[0]]))
    assert part.num_classes == 3
    assert len(whole.subset([])) == 0
    assert whole.subset(torch.tensor([4, 0])).fingerprint == part.fingerprint


def test_relabel_changes_the_labels_only() -> None:
    whole = image_set()
    other = whole.relabel(torch.tensor([2, 2, 2, 0, 0, 0]))
    assert other.images is whole.images
    assert other.labels.tolist() == [2, 2, 2, 0, 0, 0]
    with refused("label 3 is none"):
        whole.relabel(torch.tensor([3, 2, 2, 0, 0, 0]))
    with refused("6 images, but 1 labels"):
        whole.relabel(torch.tensor([0]))


def test_fingerprint_by_hand() -> None:
    one = ImageSet(
        torch.tensor([[[[7]]], [[[9]]]], dtype=torch.uint8), torch.tensor([1, 0]), ("a", "b")
    )
    text = b"2,1,1,1;" + bytes([7, 9]) + bytes([1, *[0] * 7]) + bytes(8)
    assert one.fingerprint == hashlib.sha256(text).hexdigest()


def test_fingerprint_sees_every_pixel_label_and_the_shape() -> None:
    whole = image_set()
    assert image_set().fingerprint == whole.fingerprint
    pixels = whole.images.clone()
    pixels[5, 1, 2, 2] += 1
    labels = whole.labels.clone()
    labels[5] = 1
    changed = [
        image_set(images=pixels),
        image_set(labels=labels),
        image_set(images=whole.images.reshape(6, 2, 3, 3).flip(0)),
        ImageSet(
            torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64), ("a",)
        ),
        ImageSet(
            torch.zeros(4, 4, 1, 1, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64), ("a",)
        ),
    ]
    assert len({s.fingerprint for s in [whole, *changed]}) == 6


def test_fingerprint_is_of_the_values_not_of_the_memory() -> None:
    whole = image_set()
    channels_last = whole.images.contiguous(memory_format=torch.channels_last)
    assert image_set(images=channels_last).fingerprint == whole.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(6, 2, 3, 3)}, "uint8"),
        ({"images": torch.zeros(6, 3, 3, dtype=torch.uint8)}, "N, C, H, W"),
        ({"images": torch.zeros(6, 2, 3, 4, dtype=torch.uint8)}, "square, not 3 x 4"),
        ({"images": torch.zeros(6, 0, 3, 3, dtype=torch.uint8)}, "pixels"),
        ({"images": torch.zeros(5, 2, 3, 3, dtype=torch.uint8)}, "5 images, but 6 labels"),
        ({"labels": torch.zeros(6, dtype=torch.int32)}, "int64"),
        ({"labels": torch.zeros(6, 1, dtype=torch.int64)}, r"int64 \(N,\)"),
        ({"labels": torch.tensor([0, 1, 2, 0, 1, 3])}, "label 3 is none of the classes 0 to 2"),
        ({"labels": torch.tensor([0, 1, 2, 0, 1, -1])}, "label -1 is none"),
        ({"class_names": ("a", "b", "a")}, "differ"),
        ({"class_names": ()}, "one or more"),
    ],
)
def test_image_set_refuses(changes: dict[str, Any], message: str) -> None:
    with refused(message):
        image_set(**changes)


def test_dataset_refuses() -> None:
    whole = image_set()
    assert Dataset("mine", whole, whole.subset([0]), flip=True).num_classes == 3
    with refused("test part of mine is empty"):
        Dataset("mine", whole, whole.subset([]), flip=True)
    with refused("training part of mine is empty"):
        Dataset("mine", whole.subset([]), whole, flip=True)
    with refused("mine has no training image of class b"):
        Dataset("mine", whole.subset([0, 2]), whole, flip=True)
    with refused("differ in their classes"):
        Dataset("mine", whole, image_set(class_names=("a", "b", "d")), flip=True)
    with refused(r"\(2, 3, 3\).*\(1, 3, 3\)"):
        Dataset("mine", whole, image_set(images=whole.images[:, :1]), flip=True)


def test_dataset_fingerprint_sees_both_parts() -> None:
    whole, part = image_set(), image_set().subset([0])
    prints = {
        Dataset("mine", whole, part, flip=True).fingerprint,
        Dataset("mine", whole, image_set().subset([1]), flip=True).fingerprint,
        Dataset("mine", whole.subset([0, 1, 2]), part, flip=True).fingerprint,
    }
    assert len(prints) == 3
    assert Dataset("mine", whole, part, flip=True).to("cpu").fingerprint in prints


def test_unlabeled_images(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = image_set()
    more = torch.arange(2 * 18, dtype=torch.uint8).reshape(2, 2, 3, 3)
    mine = Dataset("mine", whole, whole.subset([0]), flip=True, unlabeled=more, folds=((0, 4),))
    moved = mine.to("cpu")
    assert moved.unlabeled is more
    assert moved.folds == ((0, 4),)
    plain = Dataset("mine", whole, whole.subset([0]), flip=True)
    assert plain.unlabeled is None
    assert plain.to("cpu").unlabeled is None
    for images, message in (
        (more.float(), r"\(2, 3, 3\) .*its unlabeled images float32 \(2, 2, 3, 3\)"),
        (more[:, :1], r"uint8 \(2, 3, 3\) .*its unlabeled images uint8 \(2, 1, 3, 3\)"),
        (more[0], r"its unlabeled images uint8 \(2, 3, 3\)"),
        (more[:0], "the unlabeled part of mine is empty"),
    ):
        with refused(message):
            Dataset("mine", whole, whole.subset([0]), flip=True, unlabeled=images)
    # "meta" is a device that every machine has; the labels of image sets cannot be checked on it.
    monkeypatch.setattr(ImageSet, "to", lambda self, device: self)
    elsewhere = mine.to("meta").unlabeled
    assert elsewhere is not None and elsewhere.device.type == "meta"


def test_dataset_fingerprint_by_hand() -> None:
    """Of the hexadecimal fingerprints of train and test, and of unlabeled images if there are any.

    Results that are kept know their data by it: without unlabeled images it never changes.
    """
    whole, part = image_set(), image_set().subset([0])
    both = whole.fingerprint + part.fingerprint
    plain = Dataset("mine", whole, part, flip=True)
    assert plain.fingerprint == hashlib.sha256(both.encode()).hexdigest()
    more = torch.full((2, 2, 3, 3), 7, dtype=torch.uint8)
    third = hashlib.sha256(b"2,2,3,3;" + bytes([7] * 36)).hexdigest()
    expected = hashlib.sha256((both + third).encode()).hexdigest()
    assert Dataset("mine", whole, part, flip=True, unlabeled=more).fingerprint == expected
    other = more.clone()
    other[1, 1, 2, 2] = 8
    assert Dataset("mine", whole, part, flip=True, unlabeled=other).fingerprint != expected
    folds = Dataset("mine", whole, part, flip=True, folds=((0, 1, 2),))
    assert folds.fingerprint == plain.fingerprint


# --- digits ---------------------------------------------------------------------------------


def test_digits_are_those_of_scikit_learn(digits: Dataset) -> None:
    assert digits.train.images.shape == (1201, 1, 8, 8)
    assert digits.test.images.shape == (596, 1, 8, 8)
    assert digits.class_names == tuple("0123456789")
    assert not digits.flip
    # Put back in the order of the file: of each class two images to train, one to test.
    bunch = load_digits()
    for label in range(10):
        train = digits.train.images[digits.train.labels == label].flatten(1).numpy()
        test = digits.test.images[digits.test.labels == label].flatten(1).numpy()
        whole = np.array(
            [[round(v * 255 / 16) for v in row] for row in bunch.data[bunch.target == label]]
        )
        assert np.array_equal(test, whole[2::3])
        assert np.array_equal(train[::2], whole[0::3])
        assert np.array_equal(train[1::2], whole[1::3])


def test_digits_fingerprint_is_golden(digits: Dataset) -> None:
    assert digits.fingerprint == DIGITS


# --- .npz files -----------------------------------------------------------------------------


def arrays(**changes: Any) -> dict[str, Any]:
    """Nine training and four test images, 4 x 4 pixels, three channels, three classes."""
    rng = np.random.default_rng(0)
    content: dict[str, Any] = {
        "x_train": rng.integers(0, 256, (9, 4, 4, 3), dtype=np.uint8),
        "y_train": np.array([0, 1, 2] * 3),
        "x_test": rng.integers(0, 256, (4, 4, 4, 3), dtype=np.uint8),
        "y_test": np.array([0, 1, 2, 0]),
    }
    return {k: v for k, v in (content | changes).items() if v is not None}


def test_npz_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    content = arrays()
    np.savez(path, **content)
    loaded = data.load(str(path))
    assert loaded.name == str(path)
    assert loaded.flip
    assert loaded.class_names == ("0", "1", "2")
    assert loaded.train.images.is_contiguous()
    for n in range(9):
        for c in range(3):
            expected = content["x_train"][n, :, :, c]
            assert np.array_equal(loaded.train.images[n, c].numpy(), expected)
    assert loaded.train.labels.tolist() == [0, 1, 2] * 3
    assert loaded.test.labels.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i8", ">i4", "u8"])
def test_npz_takes_labels_as_a_column_of_any_integers(tmp_path: Path, dtype: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays())
    columns = {k: arrays()[k].astype(dtype)[:, None] for k in ("y_train", "y_test")}
    np.savez_compressed(tmp_path / "b.npz", **arrays(**columns))
    a, b = (data.load(str(tmp_path / f"{n}.npz")) for n in "ab")
    assert a.fingerprint == b.fingerprint


def test_npz_takes_gray_images_names_and_flip(tmp_path: Path) -> None:
    content = arrays()
    gray = {k: content[k][..., 0] for k in ("x_train", "x_test")}
    names = np.array(["cat", "dog", "owl", "fox"][:3])
    np.savez(tmp_path / "a.npz", **arrays(**gray, class_names=names, flip=np.array(False)))
    column = {k: v[..., None] for k, v in gray.items()}
    np.savez(tmp_path / "b.npz", **arrays(**column, flip=np.array([True])))
    a, b = (data.load(str(tmp_path / f"{n}.npz")) for n in "ab")
    assert a.train.images.shape == (9, 1, 4, 4)
    assert a.fingerprint == b.fingerprint
    assert a.class_names == ("cat", "dog", "owl")
    assert (a.flip, b.flip) == (False, True)


def test_npz_takes_unlabeled_images(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays())
    plain = data.load(str(path))
    assert plain.unlabeled is None
    content = arrays(x_unlabeled=np.arange(5 * 48, dtype=np.uint8).reshape(5, 4, 4, 3))
    np.savez(path, **content)
    loaded = data.load(str(path))
    assert loaded.unlabeled is not None
    assert loaded.unlabeled.shape == (5, 3, 4, 4)
    assert loaded.unlabeled.is_contiguous()
    for n in range(5):
        for c in range(3):
            expected = content["x_unlabeled"][n, :, :, c]
            assert np.array_equal(loaded.unlabeled[n, c].numpy(), expected)
    assert loaded.train.fingerprint == plain.train.fingerprint
    assert loaded.fingerprint != plain.fingerprint
    assert data.identify(path) == str(path)
    lines = data.check(str(path))
    assert lines[1] == "images: 9 train + 4 test + 5 unlabeled, 4 x 4 pixels, 3 channels"
    gray = {k: v[..., 0] for k, v in content.items() if k.startswith("x_")}
    np.savez(path, **arrays(**gray))
    loaded = data.load(str(path))
    assert loaded.unlabeled is not None
    assert np.array_equal(loaded.unlabeled[:, 0].numpy(), gray["x_unlabeled"])


def test_npz_in_column_order_is_the_same(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays())
    np.savez(tmp_path / "b.npz", **{k: np.asfortranarray(v) for k, v in arrays().items()})
    a, b = (data.load(str(tmp_path / f"{n}.npz")) for n in "ab")
    assert a.fingerprint == b.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None}, "array x_test is missing"),
        ({"y_train": None}, "array y_train is missing"),
        ({"flips": np.array(True)}, "unknown array 'flips'"),
        (
            {"x_train": np.zeros((9, 4, 4, 3))},
            r"x_train must be uint8 .*not float64 \(9, 4, 4, 3\)",
        ),
        ({"x_train": np.zeros((9, 48), np.uint8)}, r"not uint8 \(9, 48\)"),
        ({"x_train": np.zeros((9, 3, 4, 4), np.uint8)}, r"square \(N, H, W, C\)"),
        ({"x_train": np.zeros((9, 4, 4, 2), np.uint8)}, "1 or 3 channels"),
        ({"x_train": np.zeros((9, 4, 5, 3), np.uint8)}, "square"),
        ({"x_train": np.zeros((9, 0, 0, 3), np.uint8)}, "x_train.*must have pixels"),
        (
            {"x_train": np.zeros((8, 4, 4, 3), np.uint8)},
            "x_train and y_train: 8 images, but 9 labels",
        ),
        ({"x_test": np.zeros((5, 4, 4, 3), np.uint8)}, "x_test and y_test: 5 images, but 4 labels"),
        ({"x_test": np.zeros((4, 4, 4, 1), np.uint8)}, r"\(3, 4, 4\).*\(1, 4, 4\)"),
        ({"x_test": np.zeros((0, 4, 4, 3), np.uint8)}, "x_test is empty"),
        ({"y_test": np.zeros(0, np.int64)}, "y_test is empty"),
        ({"y_train": np.zeros(9)}, "y_train must be integers .*not float64"),
        ({"y_train": np.zeros(9, bool)}, "y_train must be integers .*not bool"),
        ({"y_train": np.eye(9, 3, dtype=int)}, r"integers .*not int64 \(9, 3\)"),
        ({"y_train": np.array([0, 1, -2] * 3)}, "y_train has label -2"),
        (
            {"y_train": np.array([0, 1, 2**64 - 1] * 3, np.uint64)},
            "y_train has label 18446744073709551615",
        ),
        ({"y_train": np.array([0, 1, 10**12] * 3)}, "label 1000000000000, but lacks classes"),
        ({"y_train": np.array([0, 1, 3] * 3)}, "no training image of class 2"),
        ({"y_test": np.array([0, 1, 2, 3])}, "y_test: label 3 is none of the classes 0 to 2"),
        ({"class_names": np.array(["a", "b"])}, "label 2 is none of the classes 0 to 1"),
        ({"class_names": np.array(["a", "b", "c", "d"])}, "no training image of class d"),
        ({"class_names": np.array(["a", "b", "a"])}, "differ"),
        ({"class_names": np.array([1, 2, 3])}, "class_names must be strings"),
        ({"class_names": np.array(["a", "b", None])}, "class_names|allow_pickle"),
        ({"x_unlabeled": np.zeros((5, 4, 4, 3))}, "x_unlabeled must be uint8 .*not float64"),
        ({"x_unlabeled": np.zeros((0, 4, 4, 3), np.uint8)}, "x_unlabeled is empty"),
        ({"x_unlabeled": np.zeros((5, 4, 4), np.uint8)}, r"unlabeled .*\(5, 1, 4, 4\)"),
        ({"x_unlabeled": np.zeros((5, 5, 5, 3), np.uint8)}, r"unlabeled .*\(5, 3, 5, 5\)"),
        ({"flip": np.array("no")}, "flip must be one boolean"),
        ({"flip": np.array([True, False])}, "flip must be one boolean"),
    ],
)
def test_npz_refuses(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays(**changes))
    with refused(f"mine.npz.*({message})"):
        data.load(str(path))


def test_npz_refuses_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    with refused("no file .*mine.npz"):
        data.load(str(path))
    path.mkdir()
    with refused("mine.npz cannot be read: .*[Dd]irectory"):
        data.load(str(path))
    path.rmdir()
    for content in (b"", b"not a zip file", pickle.dumps({"x_train": 1})):
        path.write_bytes(content)
        with refused("mine.npz is truncated or not an .npz file"):
            data.load(str(path))
    np.savez(path, **arrays())
    whole = path.read_bytes()
    for length in range(1, len(whole), 97):
        path.write_bytes(whole[:length])
        with refused("mine.npz is truncated or not an .npz file"):
            data.load(str(path))
    with zipfile.ZipFile(path, "w") as file:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            file.writestr(f"{name}.npy", b"1, 2, 3")
    with refused("mine.npz: x_train is not an array"):
        data.load(str(path))


def test_npz_with_a_flipped_bit_is_refused_or_the_same(tmp_path: Path) -> None:
    """Whatever byte is wrong: one line or, outside the arrays, the right images."""
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays())
    whole, right = bytearray(path.read_bytes()), data.load(str(path)).fingerprint
    messages = []
    for position in range(0, len(whole), 7):
        changed = whole.copy()
        changed[position] ^= 0x40
        path.write_bytes(changed)
        try:
            assert data.load(str(path)).fingerprint == right
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > len(whole) / 7 / 2
    assert not any("\n" in message for message in messages)


# --- names and places -----------------------------------------------------------------------


def test_unknown_name_lists_the_choices() -> None:
    names = "digits, cifar10, cifar100, svhn, svhn_noextra, stl10"
    for function in (data.load, data.check):
        with refused(rf"'cifar': choose from {names}, FILE.npz, folder:PATH\[@SIZE\]$"):
            function("cifar")
    with refused(f"unknown data set 'cifar': choose from {names}$"):
        data.fetch("cifar")


def test_missing_cifar10_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    advice = f"run `boss-study data fetch cifar10 --data {tmp_path}`"
    with refused(advice):
        data.load("cifar10", tmp_path)
    with refused(advice):
        data.check("cifar10", tmp_path)
    monkeypatch.setenv("BOSS_DATA", str(tmp_path))
    with refused(advice):
        data.load("cifar10")
    monkeypatch.setenv("BOSS_DATA", "")
    monkeypatch.chdir(tmp_path)
    with refused("--data data`"):
        data.load("cifar10")
    with refused("no file .*other.npz"):
        data.load("cifar10", tmp_path / "other.npz")


def test_importing_and_identifying_needs_no_torch(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **arrays())
    code = (
        "import sys, pathlib, boss.data, boss.data.label_sets\n"
        f"print(boss.data.identify(pathlib.Path({str(tmp_path / 'mine.npz')!r})))\n"
        "assert 'torch' not in sys.modules\n"
        "assert boss.data.ImageSet.__name__ == 'ImageSet'\n"
        "assert not hasattr(boss.data, 'nothing')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "mine.npz")


def test_one_file_has_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    for place in ("here/mine.npz", "other.npz"):
        np.savez(tmp_path / place, **arrays())
    monkeypatch.chdir(tmp_path / "here")
    for path in ("mine.npz", "./mine.npz", "../here/mine.npz", tmp_path / "here/mine.npz"):
        assert data.identify(Path(path)) == "mine.npz"
    for path in ("../other.npz", tmp_path / "other.npz"):
        assert data.identify(Path(path)) == str((tmp_path / "other.npz").resolve())


def test_identify_refuses_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    with refused("no file"):
        data.identify(path)
    path.write_bytes(b"PK")
    with refused("truncated"):
        data.identify(path)
    np.savez(path, **arrays(x_train=None))
    with refused("x_train is missing"):
        data.identify(path)


def test_check_of_small_sets(tmp_path: Path) -> None:
    lines = data.check("digits")
    assert lines[0] == "digits: scikit-learn"
    assert lines[1] == "images: 1201 train + 596 test, 8 x 8 pixels, 1 channel"
    assert "3 122 + 61" in lines[2]
    assert lines[-1] == f"fingerprint: {DIGITS}"
    np.savez(tmp_path / "mine.npz", **arrays())
    lines = data.check(str(tmp_path / "mine.npz"))
    assert str(tmp_path / "mine.npz") in lines[0]
    assert "classes: 0 3 + 2, 1 3 + 1, 2 3 + 1" in lines


# --- CIFAR-10 as an .npz file ---------------------------------------------------------------


@pytest.mark.cifar10
def test_cifar10_npz(cifar10: Dataset, cifar10_folder: Path) -> None:
    assert cifar10.train.images.shape == (50_000, 3, 32, 32)
    assert cifar10.test.images.shape == (10_000, 3, 32, 32)
    assert cifar10.train.labels.bincount().tolist() == [5000] * 10
    assert cifar10.test.labels.bincount().tolist() == [1000] * 10
    assert cifar10.class_names[5:7] == ("dog", "frog")
    assert cifar10.flip
    assert cifar10.train.fingerprint == CIFAR10_TRAIN
    assert cifar10.train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    # The first training image is a frog on brown ground: the means of red, green and blue.
    means = cifar10.train.images[0].double().mean(dim=(1, 2))
    assert means.round().tolist() == [141.0, 105.0, 64.0]


@pytest.mark.slow
@pytest.mark.cifar10
def test_cifar10_npz_is_checked(cifar10_folder: Path, tmp_path: Path) -> None:
    with np.load(cifar10_folder / "cifar10.npz") as file:
        content = dict(file)
    path = tmp_path / "mine.npz"
    path.symlink_to(cifar10_folder / "cifar10.npz")
    assert data.identify(path) == "cifar10"
    lines = data.check("cifar10", path)
    assert lines[0] == f"cifar10: {path}"
    assert "training images and all labels: as published (checksums)" in lines
    path.unlink()

    content["x_test"][0, 0, 0, 0] ^= 1  # a test image may differ, and that is said
    np.savez(path, **content)
    assert data.identify(path) == "cifar10"
    assert "test images: not verified, SHA-256 " in data.check("cifar10", path)[-1]
    assert data.load("cifar10", path).class_names[0] == "airplane"

    content["y_train"][7] ^= 1
    np.savez(path, **content)
    with refused("mine.npz: y_train is not that of CIFAR-10"):
        data.load("cifar10", path)

    content["x_train"][49_999, 31, 31, 2] ^= 1
    (tmp_path / "folder").mkdir()
    np.savez(tmp_path / "folder/cifar10.npz", **content)
    with refused("cifar10.npz: x_train is not that of CIFAR-10"):
        data.check("cifar10", tmp_path / "folder")
    with refused("cifar10.npz: x_train is not that of CIFAR-10"):
        data.fetch("cifar10", tmp_path / "folder")  # the file of a user is not replaced
    assert data.identify(tmp_path / "folder/cifar10.npz") != "cifar10"


@pytest.mark.slow
@pytest.mark.cifar10
def test_cifar10_with_unlabeled_images_is_another_data_set(
    cifar10_folder: Path, tmp_path: Path
) -> None:
    with np.load(cifar10_folder / "cifar10.npz") as file:
        content = dict(file)
    path = tmp_path / "cifar10.npz"
    np.savez(path, **content, x_unlabeled=content["x_test"][:7])
    assert data.identify(path) == str(path)
    for place in (path, tmp_path):
        with refused("cifar10.npz: CIFAR-10 has no x_unlabeled: .* pass it as your own data"):
            data.load("cifar10", place)
    assert data.check(str(path))[1].startswith("images: 50000 train + 10000 test + 7 unlabeled, ")


@pytest.mark.slow
@pytest.mark.cifar10
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_cifar10_fits_in_memory(cifar10_folder: Path) -> None:
    code = (
        "import pathlib, boss.data\n"
        f"boss.data.load('cifar10', pathlib.Path({str(cifar10_folder)!r}))\n"
        "print(pathlib.Path('/proc/self/status').read_text())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    status = dict(line.split(":", 1) for line in done.stdout.splitlines() if line)
    assert int(status["VmHWM"].split()[0]) < 1.5e6  # kB at the peak, a third of it torch itself


# --- CIFAR-10 as torchvision stores it ------------------------------------------------------


class OldDtype:
    """Pickles like the dtype of old numpy: with integers where booleans belong."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (np.dtype, ("u1", 1, 1))


class OldArray:
    """Pickles like an array of old numpy."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __reduce__(self) -> tuple[Any, ...]:
        reconstruct, arguments, state = self.array.__reduce__()
        return (reconstruct, arguments, (*state[:2], OldDtype(), *state[3:]))


class OldPickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes text as Python 2 did, byte by byte, and numpy's modules by their old name."""

    dispatch = pickle._Pickler.dispatch.copy()  # type: ignore[attr-defined]

    def save_text(self, text: str | bytes) -> None:
        content = text if isinstance(text, bytes) else text.encode("latin-1")
        if len(content) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(content)]) + content)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_text


def old_pickle(content: object) -> bytes:
    """What Python 2 and numpy of 2009 wrote: the format of the files of CIFAR."""
    file = io.BytesIO()
    OldPickler(file, protocol=2).dump(content)
    return file.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")


def write_cifar(
    folder: Path, contents: dict[str, dict[str, Any]], kind: Any, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Files of CIFAR and their archive beside the folder, which count as the published ones.

    Args:
        contents: file -> what it holds.
        kind: the class of torchvision that is to expect them.

    Returns:
        The archive.
    """
    folder.mkdir(parents=True)
    sums = {}
    for name, content in contents.items():
        (folder / name).write_bytes(old_pickle(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    for table in ("train_list", "test_list"):
        names = [name for name, _ in getattr(kind, table)]
        monkeypatch.setattr(kind, table, [[name, sums[name]] for name in names])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": sums[kind.meta["filename"]]})
    archive = folder.parent / kind.filename
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, arcname=folder.name)
    monkeypatch.setattr(kind, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    return archive


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-10 in the format of its authors, but with 20 images per file."""
    folder = root / "cifar-10-batches-py"
    rng = np.random.default_rng(1)
    contents: dict[str, dict[str, Any]] = {
        name: {
            "data": OldArray(rng.integers(0, 256, (20, 3072), dtype=np.uint8)),
            "labels": [int(v) for v in rng.permutation(20) % 10],
        }
        for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    }
    contents["batches.meta"] = {"label_names": list(cifar.CIFAR10_CLASSES)}
    write_cifar(folder, contents, CIFAR10, monkeypatch)


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small files of CIFAR-10, which count as the published ones."""
    write_cifar10(tmp_path / "made", monkeypatch)
    return tmp_path / "made"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address under which the files of a folder can be downloaded."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{service.server_port}"
        service.shutdown()
        thread.join()


def test_torchvision_format_is_loaded(batches: Path) -> None:
    loaded = data.load("cifar10", batches)
    assert loaded.train.images.shape == (100, 3, 32, 32)
    assert loaded.test.images.shape == (20, 3, 32, 32)
    assert loaded.class_names == cifar.CIFAR10_CLASSES
    assert loaded.flip
    for position, name in ((0, "data_batch_1"), (99, "data_batch_5")):
        with warnings.catch_warnings(action="ignore"):
            content = (batches / "cifar-10-batches-py" / name).read_bytes()
            batch = pickle.loads(content, encoding="bytes")
        row = batch[b"data"][position % 20]  # 1024 red, 1024 green, 1024 blue pixels, row by row
        assert loaded.train.images[position].flatten().tolist() == row.tolist()
        assert loaded.train.labels[position] == batch[b"labels"][position % 20]
    lines = data.check("cifar10", batches)
    assert lines[0] == f"cifar10: {batches / 'cifar-10-batches-py'}"
    assert lines[-1] == "test images: as published (checksums)"


def test_npz_comes_first(batches: Path) -> None:
    np.savez(batches / "cifar10.npz", **arrays())
    with refused("cifar10.npz: x_train is not that of CIFAR-10"):
        data.load("cifar10", batches)


# --- fetching -------------------------------------------------------------------------------


def test_fetch_of_what_is_there_needs_no_network(
    batches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    data.fetch("cifar10", batches)
    data.fetch("digits")
    data.load("digits", download=True)
    for name in ("mine.npz", "folder:photos"):
        with refused(f"{name} is your own data: there is nothing to fetch"):
            data.fetch(name)
