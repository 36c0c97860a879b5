"""STL-10: files in the format of its authors, but small, are found, checked, read and fetched."""

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import STL10

from boss import data
from boss.data import stl10
from boss.data.label_sets import LabelSet, resolve
from tests.data.test_data import refused

FOLDER = "stl10_binary"
SIZES = {"train": 30, "test": 20, "unlabeled": 13}
FOLD_SIZE = 12
BYTES = 3 * 96 * 96  # of an image


def labels(part: str) -> list[int]:
    """1 to 10, all of them, as they stand in the file."""
    rng = np.random.default_rng(SIZES[part])
    return [int(v) + 1 for v in rng.permutation(SIZES[part]) % 10]


def folds() -> list[list[int]]:
    """Ten folds with an image of each class, in no order."""
    ours = np.array(labels("train"))
    result = []
    for k in range(10):
        rng = np.random.default_rng(k)
        one_each = [int(rng.choice(np.flatnonzero(ours == c))) for c in range(1, 11)]
        others = [i for i in rng.permutation(30).tolist() if i not in one_each]
        result.append(rng.permutation([*one_each, *others[:2]]).tolist())
    return result


def write(folder: Path) -> None:
    """All files of STL-10; lines of the folds end in a space, as those of the authors do."""
    folder.mkdir(parents=True)
    for part, size in SIZES.items():
        rng = np.random.default_rng(size)
        (folder / f"{part}_X.bin").write_bytes(rng.bytes(size * BYTES))
        if part != "unlabeled":
            (folder / f"{part}_y.bin").write_bytes(bytes(labels(part)))
    text = "".join(" ".join(map(str, fold)) + " \n" for fold in folds())
    (folder / "fold_indices.txt").write_text(text)
    names = "airplane bird car cat deer dog horse monkey ship truck"
    (folder / "class_names.txt").write_text("\n".join(names.split()) + "\n")


def expect(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the files of a folder for the published ones, and puts their archive beside it."""
    for table in ("train_list", "test_list"):
        names = [name for name, _ in getattr(STL10, table)]
        sums = [hashlib.md5((folder / name).read_bytes()).hexdigest() for name in names]
        pairs = [list(pair) for pair in zip(names, sums, strict=True)]
        monkeypatch.setattr(STL10, table, pairs)
    archive = folder.parent / STL10.filename
    with tarfile.open(archive, "w:gz", compresslevel=1) as file:
        file.add(folder, arcname=folder.name)
    monkeypatch.setattr(STL10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small files, which count as the published ones, and their archive."""
    write(tmp_path / "made" / FOLDER)
    expect(tmp_path / "made" / FOLDER, monkeypatch)
    monkeypatch.setattr(stl10, "FOLD_SIZE", FOLD_SIZE)
    monkeypatch.setattr(stl10, "CHUNK", 8)  # so that all files have several, the last one short
    return tmp_path / "made"


# --- what is loaded -------------------------------------------------------------------------


def test_images_and_classes_by_hand(made: Path) -> None:
    """Image n, channel c: 96 columns of 96 pixels each."""
    loaded = data.load("stl10", made)
    assert loaded.name == "stl10"
    assert loaded.train.images.shape == (30, 3, 96, 96)
    assert loaded.test.images.shape == (20, 3, 96, 96)
    assert loaded.unlabeled is not None
    assert loaded.unlabeled.shape == (13, 3, 96, 96)
    assert loaded.class_names == (
        *("airplane", "bird", "car", "cat", "deer"),
        *("dog", "horse", "monkey", "ship", "truck"),
    )
    assert loaded.flip
    for part, images in (
        ("train", loaded.train.images),
        ("test", loaded.test.images),
        ("unlabeled", loaded.unlabeled),
    ):
        assert images.is_contiguous()
        content = (made / FOLDER / f"{part}_X.bin").read_bytes()
        for n in range(SIZES[part]):
            for c in range(3):
                for column in (0, 1, 50, 95):
                    start = n * BYTES + c * 9216 + column * 96
                    assert images[n, c, :, column].tolist() == list(content[start : start + 96])
    for name, images_of in (("train", loaded.train), ("test", loaded.test)):
        assert images_of.labels.tolist() == [label - 1 for label in labels(name)]


@pytest.mark.parametrize("chunk", [1, 5, 10, 13, 1000])
def test_pieces_do_not_matter(made: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    right = data.load("stl10", made).fingerprint
    monkeypatch.setattr(stl10, "CHUNK", chunk)
    assert data.load("stl10", made).fingerprint == right


def test_folds_are_label_sets(made: Path) -> None:
    loaded = data.load("stl10", made)
    assert loaded.folds == tuple(map(tuple, folds()))
    for k, fold in enumerate(folds()):
        true = tuple(labels("train")[i] - 1 for i in fold)
        assert resolve(f"fold:{k}", loaded) == LabelSet(f"fold:{k}", tuple(fold), true)
    choices = ", ".join(f"fold:{k}" for k in range(10))
    for name in ("fold:10", "fold:-1"):
        with refused(f"unknown label set of stl10 '{name}': choose from {choices}$"):
            resolve(name, loaded)


def test_unlabeled_images_are_part_of_the_fingerprint(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = data.load("stl10", made)
    file = made / FOLDER / "unlabeled_X.bin"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    expect(made / FOLDER, monkeypatch)
    after = data.load("stl10", made)
    assert after.train.fingerprint == before.train.fingerprint
    assert after.fingerprint != before.fingerprint


def test_check(made: Path) -> None:
    lines = data.check("stl10", made)
    assert lines[:2] == [
        f"stl10: {made / FOLDER}",
        "images: 30 train + 20 test + 13 unlabeled, 96 x 96 pixels, 3 channels",
    ]
    assert lines[2].startswith("classes: airplane 3 + 2, bird 3 + 2, car 3 + 2, ")
    assert lines[3] == "mirrored in training: yes"
    assert lines[4] == f"fingerprint: {data.load('stl10', made).fingerprint}"
    assert lines[5:] == [
        "all images and labels: as published (checksums)",
        "label sets fold:0 to fold:9: predefined folds",
    ]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_images_are_in_memory_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 50 MB, no more than the piece that is being transposed is there twice."""
    for part, size in (("train", 100), ("test", 100), ("unlabeled", 1600)):
        monkeypatch.setitem(SIZES, part, size)
    write(tmp_path / FOLDER)
    expect(tmp_path / FOLDER, monkeypatch)
    code = (
        "import pathlib, re, torch, torchvision.datasets, boss.data.imageset\n"
        "from boss.data import stl10\n"
        f"torchvision.datasets.STL10.train_list = {STL10.train_list!r}\n"
        f"torchvision.datasets.STL10.test_list = {STL10.test_list!r}\n"
        f"stl10.FOLD_SIZE, stl10.CHUNK = {FOLD_SIZE}, 20\n"
        "def memory(kind):\n"
        "    status = pathlib.Path('/proc/self/status').read_text()\n"
        "    return 1024 * int(re.search(kind + r':\\s*(\\d+)', status)[1])\n"
        "before = memory('VmRSS')\n"
        f"loaded = boss.data.load('stl10', pathlib.Path({str(tmp_path)!r}))\n"
        "loaded.fingerprint\n"
        "parts = (loaded.train.images, loaded.test.images, loaded.unlabeled)\n"
        "print((memory('VmHWM') - before) / sum(images.nbytes for images in parts))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.15


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:9],
        lambda lines: [*lines, lines[0]],
        lambda lines: [*lines[:9], " ".join(lines[9].split()[:-1])],  # one position less
        lambda lines: [*lines[:9], " ".join([*lines[9].split()[:-1], lines[9].split()[0]])],
        lambda lines: [" ".join([*lines[0].split()[:-1], "30"]), *lines[1:]],
        lambda lines: [" ".join([*lines[0].split()[:-1], "-1"]), *lines[1:]],
        lambda lines: [*lines[:9], ""],
    ],
    ids=["nine", "eleven", "short", "twice", "outside", "negative", "empty"],
)
def test_other_folds_are_refused(made: Path, change) -> None:  # type: ignore[no-untyped-def]
    file = made / FOLDER / "fold_indices.txt"
    file.write_text("\n".join(change(file.read_text().splitlines())) + "\n")
    with refused(f"{file} is damaged: run"):
        data.load("stl10", made)


def test_folds_have_a_thousand_images(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert (stl10.NUM_FOLDS, stl10.FOLD_SIZE) == (10, 1000)
    expect(made / FOLDER, monkeypatch)
    with refused("fold_indices.txt is damaged"):
        data.load("stl10", made)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("unlabeled_X.bin", bytes(BYTES + 7), "holds 1 images of 27,648 bytes and 7 bytes more"),
        ("test_X.bin", bytes(96), "holds 0 images of 27,648 bytes and 96 bytes more"),
        ("test_X.bin", bytes(3 * BYTES), "test_y.bin holds 20 labels for 3 images"),
        ("test_y.bin", bytes([1] * 19), "test_y.bin holds 19 labels for 20 images"),
        ("test_y.bin", bytes([1] * 19 + [0]), "test_y.bin has label 0, it must be 1 to 10"),
        ("train_y.bin", bytes([1] * 29 + [11]), "train_y.bin has label 11, it must be 1 to 10"),
        ("train_y.bin", bytes([1] * 30), "stl10 has no training image of class bird"),
    ],
)
def test_other_content_is_refused(
    made: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, message: str
) -> None:
    (made / FOLDER / name).write_bytes(content)
    expect(made / FOLDER, monkeypatch)  # past the checksums
    with refused(message):
        data.load("stl10", made)
