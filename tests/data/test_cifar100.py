"""CIFAR-100: files in the format of its authors, but small, are found, checked, read, fetched."""

import pickle
import pickletools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import CIFAR100

from boss import data
from tests.data.test_data import OldArray, arrays, refused, write_cifar

FOLDER = "cifar-100-python"
# Not in the order of the alphabet: the file alone says which class has which number.
NAMES = [f"class {(37 * k) % 100}" for k in range(100)]
SIZES = {"train": 200, "test": 100}


def contents() -> dict[str, dict[str, Any]]:
    """Each class with two training images and one test image."""
    files: dict[str, dict[str, Any]] = {}
    for name, size in SIZES.items():
        rng = np.random.default_rng(size)
        fine = [int(v) for v in rng.permutation(size) % 100]
        files[name] = {
            "data": OldArray(rng.integers(0, 256, (size, 3072), dtype=np.uint8)),
            "fine_labels": fine,
            "coarse_labels": [v // 5 for v in fine],
            "filenames": [f"{k}.png" for k in range(size)],
            "batch_label": f"{name}ing batch 1 of 1",
        }
    coarse = [f"group {k}" for k in range(20)]
    return files | {"meta": {"fine_label_names": NAMES, "coarse_label_names": coarse}}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the three files, which count as the published ones, and their archive."""
    write_cifar(tmp_path / "made" / FOLDER, contents(), CIFAR100, monkeypatch)
    return tmp_path / "made"


# --- what is loaded -------------------------------------------------------------------------


def test_the_files_are_those_of_python_2(made: Path) -> None:
    """Otherwise the tests below would say little: keys are bytes, as the authors' site says."""
    content = (made / FOLDER / "train").read_bytes()
    codes = {code.name for code, _, _ in pickletools.genops(content)}
    assert {"SHORT_BINSTRING", "BINSTRING"} <= codes
    assert not {"BINUNICODE", "SHORT_BINBYTES", "BINBYTES"} & codes
    with warnings.catch_warnings(action="ignore"):
        keys = pickle.loads(content, encoding="bytes").keys()
    assert keys == {b"data", b"fine_labels", b"coarse_labels", b"filenames", b"batch_label"}


def test_images_and_fine_classes_by_hand(made: Path) -> None:
    loaded = data.load("cifar100", made)
    assert loaded.name == "cifar100"
    assert loaded.train.images.shape == (200, 3, 32, 32)
    assert loaded.test.images.shape == (100, 3, 32, 32)
    assert loaded.train.images.is_contiguous()
    assert loaded.num_classes == 100
    assert loaded.class_names == tuple(NAMES)
    assert loaded.flip
    assert loaded.unlabeled is None
    for part, name in ((loaded.train, "train"), (loaded.test, "test")):
        file = contents()[name]
        assert part.labels.tolist() == file["fine_labels"]
        for n in (0, 1, SIZES[name] - 1):
            for c in range(3):  # 1024 red, 1024 green, 1024 blue pixels, row by row
                for row in (0, 1, 31):
                    start = 1024 * c + 32 * row
                    expected = file["data"].array[n, start : start + 32].tolist()
                    assert part.images[n, c, row].tolist() == expected


def test_check(made: Path) -> None:
    lines = data.check("cifar100", made)
    assert lines[:2] == [
        f"cifar100: {made / FOLDER}",
        "images: 200 train + 100 test, 32 x 32 pixels, 3 channels",
    ]
    assert lines[2].startswith("classes: class 0 2 + 1, class 37 2 + 1, ")
    assert lines[2].count(", ") == 99
    assert lines[3] == "mirrored in training: yes"
    assert lines[4] == f"fingerprint: {data.load('cifar100', made).fingerprint}"
    assert lines[5:] == ["all images and labels: as published (checksums)"]


def test_the_two_cifars_stay_apart(made: Path, tmp_path: Path) -> None:
    np.savez(made / "cifar10.npz", **arrays())  # belongs to the other
    assert data.load("cifar100", made).num_classes == 100
    (made / FOLDER).rename(made / "cifar-10-batches-py")
    with refused(f"no CIFAR-100 in {made}: run `boss-study data fetch cifar100 --data {made}`"):
        data.load("cifar100", made)
    with refused("no CIFAR-100 in .*cifar10.npz: run"):
        data.load("cifar100", made / "cifar10.npz")


# --- fetching -------------------------------------------------------------------------------
