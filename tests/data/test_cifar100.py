"""CIFAR-100: files in the format of its authors, but small, are found, checked, read, fetched."""

import pickle
import pickletools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100

from boss import data
from boss.study.run import Run
from boss.workers.cost import IMAGE_SHAPES, gpu_hours, multiply_adds
from tests.data.test_data import OldArray, arrays, refused, serving, write_cifar

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


@pytest.fixture
def server(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serves the archive of `made` where torchvision expects it."""
    with serving(made) as address:
        monkeypatch.setattr(CIFAR100, "url", f"{address}/{CIFAR100.filename}")
        monkeypatch.setenv("no_proxy", "*")
        yield


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


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


def test_torchvision_reads_the_same(made: Path) -> None:
    loaded = data.load("cifar100", made)
    for part, is_train in ((loaded.train, True), (loaded.test, False)):
        with warnings.catch_warnings(action="ignore"):
            theirs = CIFAR100(made, train=is_train)
        assert np.array_equal(part.images.permute(0, 2, 3, 1).numpy(), theirs.data)
        assert part.labels.tolist() == theirs.targets
        assert list(part.class_names) == theirs.classes


def test_shape_and_cost_are_known_before_loading(made: Path) -> None:
    """By hand: the last matrix of WRN-28-8 has 512 x 100 weights in place of 512 x 10."""
    channels, size, num_classes = IMAGE_SHAPES["cifar100"]
    loaded = data.load("cifar100", made)
    assert loaded.train.images.shape[1:] == (channels, size, size)
    assert loaded.num_classes == num_classes
    runs = [
        Run(
            dataset=name,
            algorithm="fixmatch",
            label_set="fixmatch:1@400",
            repeat=0,
            network="wrn-28-8",
            num_images=64 * 1000,
        )
        for name in ("cifar10", "cifar100")
    ]
    ten, hundred = (multiply_adds("wrn-28-8", 3, 32, k) for k in (10, 100))
    assert hundred - ten == 512 * 90
    hours = [gpu_hours([run]) for run in runs]
    assert None not in hours
    assert hours[1] / hours[0] == pytest.approx(hundred / ten, rel=1e-12)  # type: ignore[operator]
    # 1,000 steps of 960 images: 20.6 ms for 214.4e6 multiply-adds each.
    assert hours[1] == pytest.approx(1000 * 20.6 * hundred / 214.4e6 / 3.6e6, rel=1e-9)


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


# --- what is refused ------------------------------------------------------------------------


def test_missing_cifar100_says_what_to_run(tmp_path: Path) -> None:
    advice = f"no CIFAR-100 in {tmp_path}: run `boss-study data fetch cifar100 --data {tmp_path}`"
    for function in (data.load, data.check):
        with refused(advice):
            function("cifar100", tmp_path)


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_damaged_file_is_refused(made: Path, name: str) -> None:
    file = made / FOLDER / name
    advice = f"run `boss-study data fetch cifar100 --data {made}`"
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 2] ^= 1
    for content in (bytes(changed), bytes(changed[:-1]), b""):
        file.write_bytes(content)
        with refused(f"{file} is damaged: {advice}"):
            data.load("cifar100", made)
    file.unlink()
    with refused(f"{file} is missing: {advice}"):
        data.check("cifar100", made)


def test_the_published_checksums_are_asked_for(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of torchvision, not of CIFAR-10."""
    sums = [md5 for _, md5 in (*CIFAR100.train_list, *CIFAR100.test_list)]
    monkeypatch.undo()
    real = [md5 for _, md5 in (*CIFAR100.train_list, *CIFAR100.test_list)]
    assert not set(sums) & set(real)
    assert real[0] == "16019d7e3df5f24257cddd939b257f8d"
    assert CIFAR100.meta["md5"] != CIFAR10.meta["md5"]
    with refused("train is damaged"):
        data.load("cifar100", made)


# --- fetching -------------------------------------------------------------------------------


@pytest.mark.usefixtures("server")
def test_fetch_downloads_checks_and_leaves_nothing_else(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new/data"
    data.fetch("cifar100", folder)
    assert names_in(folder) == [FOLDER, *(f"{FOLDER}/{name}" for name in ("meta", "test", "train"))]
    right = data.load("cifar100", made).fingerprint
    assert data.load("cifar100", folder).fingerprint == right
    for name in ("train", "meta"):
        (folder / FOLDER / name).write_bytes(b"half")  # is mended
        data.fetch("cifar100", folder)
        assert data.load("cifar100", folder).fingerprint == right
    assert data.load("cifar100", tmp_path / "other", download=True).fingerprint == right


def test_fetch_of_what_is_there_needs_no_network(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CIFAR100, "url", "http://127.0.0.1:9/none.tar.gz")
    before = names_in(made)
    data.fetch("cifar100", made)
    assert names_in(made) == before


@pytest.mark.usefixtures("server")
def test_failed_fetch_is_one_line_and_leaves_nothing(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new"
    archive = made / CIFAR100.filename
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-100])  # the connection broke
    with refused(f"cannot fetch CIFAR-100 into {folder}: .*corrupted"):
        data.fetch("cifar100", folder)
    assert names_in(folder) == []
    archive.write_bytes(whole)
    sums = [[name, "0" * 32] for name, _ in CIFAR100.train_list]
    monkeypatch.setattr(CIFAR100, "train_list", sums)  # the archive holds other files
    with refused(f"cannot fetch CIFAR-100 into {folder}: .*train is damaged"):
        data.fetch("cifar100", folder)
    assert names_in(folder) == []
    archive.unlink()
    with refused(f"cannot fetch CIFAR-100 into {folder}: .*404"):
        data.fetch("cifar100", folder)


def test_interrupted_fetch_leaves_nothing(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new"

    def interrupted(url: str, place: str, filename: str, md5: str) -> None:
        (Path(place) / FOLDER).mkdir()
        (Path(place) / FOLDER / "train").write_bytes((made / FOLDER / "train").read_bytes())
        raise KeyboardInterrupt

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.fetch("cifar100", folder)
    assert names_in(folder) == []
    with refused("run `boss-study data fetch cifar100"):
        data.load("cifar100", folder)
