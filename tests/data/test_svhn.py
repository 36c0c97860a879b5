"""SVHN: files in the format of its authors, but small, are found, checked, read and fetched."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from torchvision.datasets import SVHN

from boss import data
from boss.data.label_sets import published, resolve
from boss.errors import InputError
from tests.data.test_data import refused, serving

TRAIN, EXTRA, TEST = (f"{part}_32x32.mat" for part in ("train", "extra", "test"))
SIZES = {TRAIN: 30, EXTRA: 70, TEST: 20}


def write(path: Path, *, compressed: bool = True, **changes: Any) -> None:
    """A file of SVHN: X (32, 32, 3, N) and y (N, 1) with labels 1 to 10, all of them."""
    size, rng = SIZES[path.name], np.random.default_rng(SIZES[path.name])
    content: dict[str, Any] = {
        "X": rng.integers(0, 256, (32, 32, 3, size), dtype=np.uint8),
        "y": (rng.permutation(size) % 10 + 1).astype(np.uint8)[:, None],
    }
    savemat(
        path,
        {k: v for k, v in (content | changes).items() if v is not None},
        do_compression=compressed,
    )


def expect(folder: Path, monkeypatch: pytest.MonkeyPatch, address: str = "nowhere:") -> None:
    """Takes the files of a folder for the published ones: their checksums."""
    sums = {file: hashlib.md5((folder / file).read_bytes()).hexdigest() for file in SIZES}
    split_list = {
        file.split("_")[0]: [f"{address}/{file}", file, sums[file]] for file in (TRAIN, TEST, EXTRA)
    }
    assert split_list.keys() == SVHN.split_list.keys()
    monkeypatch.setattr(SVHN, "split_list", split_list)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the three files, which count as the published ones."""
    folder = tmp_path / "made"
    folder.mkdir()
    for file in SIZES:
        write(folder / file)
    expect(folder, monkeypatch)
    return folder


# --- what is loaded -------------------------------------------------------------------------


def test_images_and_classes_by_hand(made: Path) -> None:
    loaded = data.load("svhn", made)
    assert loaded.name == "svhn"
    assert loaded.train.images.shape == (100, 3, 32, 32)
    assert loaded.test.images.shape == (20, 3, 32, 32)
    assert loaded.class_names == ("1", "2", "3", "4", "5", "6", "7", "8", "9", "0")
    assert not loaded.flip
    assert loaded.train.images.is_contiguous()
    files = {file: loadmat(made / file) for file in SIZES}
    for part, file, first in (  # train comes first: published label sets are positions in it
        (loaded.train, TRAIN, 0),
        (loaded.train, EXTRA, 30),
        (loaded.test, TEST, 0),
    ):
        for n in range(SIZES[file]):
            label = int(files[file]["y"][n, 0])
            assert part.labels[first + n] == label - 1
            assert part.class_names[part.labels[first + n]] == str(label % 10)
            for c in range(3):
                expected = files[file]["X"][:, :, c, n]  # rows, columns
                assert np.array_equal(part.images[first + n, c].numpy(), expected)


def test_noextra_is_the_head_and_needs_no_file_extra(made: Path) -> None:
    whole = data.load("svhn", made)
    (made / EXTRA).unlink()
    loaded = data.load("svhn_noextra", made)
    assert loaded.name == "svhn_noextra"
    assert loaded.train.fingerprint == whole.train.subset(range(30)).fingerprint
    assert loaded.test.fingerprint == whole.test.fingerprint
    assert loaded.class_names == whole.class_names
    assert not loaded.flip
    with refused(f"{EXTRA} is missing: run `boss-study data fetch svhn --data {made}`"):
        data.load("svhn", made)


def test_files_of_any_compression_and_number_type_are_the_same(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = data.load("svhn", made).fingerprint
    for dtype in (np.uint8, np.int16, np.float64):
        for file in SIZES:
            y = loadmat(made / file)["y"].astype(dtype)
            write(made / file, compressed=dtype == np.int16, y=y)
        expect(made, monkeypatch)
        assert data.load("svhn", made).fingerprint == right


def test_published_label_sets_hold_with_extra_behind(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    indices = published()["svhn"]["boss:3"]
    monkeypatch.setitem(SIZES, TRAIN, 900)
    y = np.full((900, 1), 4, np.uint8)
    for c, index in enumerate(indices):
        y[index] = c + 1
    write(made / TRAIN, y=y)
    expect(made, monkeypatch)
    found = resolve("boss:3", data.load("svhn", made))
    assert (found.indices, found.labels) == (indices, tuple(range(10)))


def test_check(made: Path) -> None:
    lines = data.check("svhn", made)
    assert lines[:2] == [
        f"svhn: {made}",
        "images: 100 train + 20 test, 32 x 32 pixels, 3 channels",
    ]
    assert lines[2].startswith("classes: 1 10 + 2, 2 10 + 2, ")
    assert lines[2].endswith(", 9 10 + 2, 0 10 + 2")
    assert lines[3] == "mirrored in training: no"
    assert lines[4] == f"fingerprint: {data.load('svhn', made).fingerprint}"
    assert lines[5:] == ["all images and labels: as published (checksums)"]
    assert data.check("svhn_noextra", made)[1].startswith("images: 30 train + 20 test, ")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_only_extra_is_in_memory_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fiftieth of the real files.

    By hand: when extra is there twice there is nothing of train yet, 2 * 531,131 / 630,420 = 1.69.
    So the real images, 1.94 GB, take less than 3.5 GB beside torch itself.
    """
    for file, size in ((TRAIN, 73_257), (EXTRA, 531_131), (TEST, 26_032)):
        monkeypatch.setitem(SIZES, file, size // 50)
        write(tmp_path / file)
    expect(tmp_path, monkeypatch)
    code = (
        "import pathlib, re, scipy.io, torch, torchvision.datasets, boss.data.imageset\n"
        f"torchvision.datasets.SVHN.split_list = {SVHN.split_list!r}\n"
        "def memory(kind):\n"
        "    status = pathlib.Path('/proc/self/status').read_text()\n"
        "    return 1024 * int(re.search(kind + r':\\s*(\\d+)', status)[1])\n"
        "before = memory('VmRSS')\n"
        f"loaded = boss.data.load('svhn', pathlib.Path({str(tmp_path)!r}))\n"
        "loaded.fingerprint\n"
        "size = loaded.train.images.nbytes + loaded.test.images.nbytes\n"
        "print((memory('VmHWM') - before) / size)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.8


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize("file", SIZES)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": None}, "array X is missing"),
        ({"y": None}, "array y is missing"),
        ({"X": np.zeros((32, 32, 3, 9), np.uint8)}, r"not uint8 \(32, 32, 3, 9\)"),
        ({"X": np.zeros((32, 32, 1, 70), np.uint8)}, r"X must be uint8 \(32, 32, 3, [237]0\), not"),
        ({"X": np.zeros((70, 3, 32, 32), np.uint8)}, r"not uint8 \(70, 3, 32, 32\)"),
        ({"X": np.zeros((32, 32, 3, 70))}, r"not float64 \(32, 32, 3, 70\)"),
        ({"y": np.ones((1, 70), np.uint8)}, r"y must be \(N, 1\), not uint8 \(1, 70\)"),
        ({"y": np.full((70, 1), 11, np.uint8)}, "y has label 11, it must be 1 to 10"),
        ({"y": np.arange(70, dtype=np.uint8)[:, None] % 10}, "y has label 0, it must be 1 to 10"),
        ({"y": np.full((70, 1), -1)}, "y has label -1"),
        ({"y": np.full((70, 1), 1.5)}, "y has label 1.5"),
        ({"y": np.full((70, 1), np.nan)}, "y has label nan"),
        ({"y": "1234567890"}, "y must be"),
    ],
)
def test_other_content_is_refused(
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    write(made / file, **changes)
    expect(made, monkeypatch)  # past the checksums
    with refused(f"{made / file}: .*({message})"):
        data.load("svhn", made)


@pytest.mark.parametrize("content", [b"not a MATLAB file, " * 20, b"\x89HDF\r\n\x1a\n" * 80])
def test_files_of_another_format_are_refused(
    made: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    (made / EXTRA).write_bytes(content)
    expect(made, monkeypatch)
    with refused(f"{made / EXTRA} cannot be read: "):
        data.load("svhn", made)


def test_class_without_training_image_is_refused(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(made / TRAIN, y=np.arange(30, dtype=np.uint8)[:, None] % 9 + 1)
    expect(made, monkeypatch)
    with refused("svhn_noextra has no training image of class 0"):
        data.load("svhn_noextra", made)
    assert len(data.load("svhn", made).train) == 100  # extra has some


# --- where it is looked for -----------------------------------------------------------------


def test_folder_with_more_of_the_files_is_taken(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "svhn").mkdir(parents=True)
    for file in SIZES:
        (folder / "svhn" / file).write_bytes((made / file).read_bytes())
    assert data.check("svhn", folder)[0] == f"svhn: {folder / 'svhn'}"
    for file in (TRAIN, TEST):
        (folder / file).write_bytes((made / file).read_bytes())
    assert data.check("svhn_noextra", folder)[0] == f"svhn_noextra: {folder}"
    assert data.check("svhn", folder)[0] == f"svhn: {folder / 'svhn'}"
    assert data.check("svhn", folder / "svhn")[0] == f"svhn: {folder / 'svhn'}"


# --- fetching -------------------------------------------------------------------------------


@pytest.fixture
def server(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serves the files of `made` where torchvision expects them."""
    with serving(made) as address:
        expect(made, monkeypatch, address)
        monkeypatch.setenv("no_proxy", "*")
        yield


def contents(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.usefixtures("server")
def test_fetch_downloads_what_is_missing_or_damaged(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new/data"
    data.fetch("svhn_noextra", folder)
    assert contents(folder) == ["svhn", f"svhn/{TEST}", f"svhn/{TRAIN}"]
    times = {file: (folder / "svhn" / file).stat().st_mtime_ns for file in (TRAIN, TEST)}
    (folder / "svhn" / TRAIN).write_bytes(b"half")
    data.fetch("svhn", folder)
    assert contents(folder) == ["svhn", *(f"svhn/{file}" for file in sorted(SIZES))]
    right = data.load("svhn", made).fingerprint
    assert data.load("svhn", folder).fingerprint == right
    assert (folder / "svhn" / TEST).stat().st_mtime_ns == times[TEST]  # was not fetched again
    other = tmp_path / "other"
    assert data.load("svhn", other, download=True).fingerprint == right


@pytest.mark.usefixtures("server")
def test_fetch_joins_the_files_that_are_there(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "torchvision"
    folder.mkdir()
    (folder / TRAIN).write_bytes((made / TRAIN).read_bytes())
    data.fetch("svhn", folder)
    assert contents(folder) == sorted(SIZES)


@pytest.mark.usefixtures("server")
def test_failed_fetch_is_one_line_and_keeps_what_is_whole(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new"
    whole = (made / EXTRA).read_bytes()
    (made / EXTRA).write_bytes(whole[:-100])  # the connection broke
    with refused(f"cannot fetch SVHN into {folder / 'svhn'}: .*corrupted"):
        data.fetch("svhn", folder)
    assert contents(folder) == ["svhn", f"svhn/{TEST}", f"svhn/{TRAIN}"]
    with refused(f"{EXTRA} is missing: run `boss-study data fetch svhn --data {folder / 'svhn'}`"):
        data.load("svhn", folder)
    (made / EXTRA).unlink()
    with refused("cannot fetch SVHN into .*404"):
        data.fetch("svhn", folder)
    (made / EXTRA).write_bytes(whole)
    data.fetch("svhn", folder / "svhn")  # as the message said
    assert contents(folder / "svhn") == sorted(SIZES)

    expect(made, monkeypatch, "http://127.0.0.1:9")
    with refused("cannot fetch SVHN into .*refused"):
        data.fetch("svhn", tmp_path / "another")
    (tmp_path / "file").write_text("")
    with refused("cannot fetch SVHN into .*file"):
        data.fetch("svhn", tmp_path / "file")
    (folder / "svhn" / TEST).unlink()
    (folder / "svhn" / TEST).mkdir()
    expect(made, monkeypatch)
    with pytest.raises(InputError, match="cannot fetch SVHN"):
        data.fetch("svhn", folder)
