"""What every published data set must do: be found, checked, read, fetched, and declare its shape.

The files have the format of their authors, but few images. A new data set needs a line in FILES.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100, STL10, SVHN

from boss import data
from boss.data import Shape, Source, cifar, stl10
from boss.data.source import Arrays
from boss.errors import InputError
from tests.data import test_cifar100, test_stl10, test_svhn
from tests.data.test_data import refused, serving, write_cifar, write_cifar10

Monkey = pytest.MonkeyPatch


def make_cifar100(root: Path, monkeypatch: Monkey) -> None:
    folder = root / cifar.FOLDERS["cifar100"]
    write_cifar(folder, test_cifar100.contents(), CIFAR100, monkeypatch)


def make_stl10(root: Path, monkeypatch: Monkey) -> None:
    test_stl10.write(root / stl10.FOLDER)
    test_stl10.expect(root / stl10.FOLDER, monkeypatch)
    monkeypatch.setattr(stl10, "FOLD_SIZE", test_stl10.FOLD_SIZE)


def make_svhn(root: Path, monkeypatch: Monkey) -> None:
    root.mkdir()
    for file in test_svhn.SIZES:
        test_svhn.write(root / file)
    test_svhn.expect(root, monkeypatch)


def archive(kind: type) -> Callable[[Path, Monkey, str], None]:
    """Lets torchvision expect its archive at an address."""

    def publish(root: Path, monkeypatch: Monkey, address: str) -> None:
        monkeypatch.setattr(kind, "url", f"{address}/{kind.filename}")  # type: ignore[attr-defined]

    return publish


def publish_svhn(root: Path, monkeypatch: Monkey, address: str) -> None:
    split_list = {
        part: [f"{address}/{file}", file, md5] for part, (_, file, md5) in SVHN.split_list.items()
    }
    monkeypatch.setattr(SVHN, "split_list", split_list)


FILES = {  # name -> what writes small files in the published format, what gives their address
    "cifar10": (write_cifar10, archive(CIFAR10)),
    "cifar100": (make_cifar100, archive(CIFAR100)),
    "svhn": (make_svhn, publish_svhn),
    "svhn_noextra": (make_svhn, publish_svhn),
    "stl10": (make_stl10, archive(STL10)),
}


@dataclass
class Made:
    name: str
    folder: Path  # of data sets
    publish: Callable[[str], None]  # the files can be downloaded from this address

    @property
    def advice(self) -> str:
        return f"run `boss-study data fetch {self.name} --data {self.folder}`"


@pytest.fixture(params=FILES)
def made(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: Monkey) -> Made:
    """A data set in small files, which count as the published ones."""
    make, publish = FILES[request.param]
    root = tmp_path / "made"
    make(root, monkeypatch)
    return Made(request.param, root, lambda address: publish(root, monkeypatch, address))


@pytest.fixture
def served(made: Made, monkeypatch: Monkey) -> Iterator[Made]:
    with serving(made.folder) as address:
        made.publish(address)
        monkeypatch.setenv("no_proxy", "*")
        yield made


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_every_published_data_set_is_tested_here() -> None:
    assert set(FILES) == {name for name, source in data.DATASETS.items() if not source.library}
    for name, source in data.DATASETS.items():
        assert source.name == name
        assert source.summary
        assert not data.is_own(name)


def test_shape_is_declared_and_fingerprint_is_stable(made: Made, monkeypatch: Monkey) -> None:
    loaded = data.load(made.name, made.folder)
    channels, size, num_classes = data.DATASETS[made.name].shape
    assert loaded.name == made.name
    assert loaded.train.images.shape[1:] == (channels, size, size)
    assert loaded.num_classes == num_classes
    assert (loaded.unlabeled is not None) == bool(data.DATASETS[made.name].num_unlabeled)
    monkeypatch.setenv("BOSS_DATA", str(made.folder))
    assert data.load(made.name).fingerprint == loaded.fingerprint
    lines = data.check(made.name)
    assert lines[0].startswith(f"{made.name}: {made.folder}")
    assert f"fingerprint: {loaded.fingerprint}" in lines
    assert any("as published (checksums)" in line for line in lines)


def test_digits_declare_what_they_are(digits: data.Dataset) -> None:
    source = data.DATASETS["digits"]
    assert digits.train.images.shape == (source.num_train, 1, 8, 8)
    assert len(digits.test) == source.num_test
    assert source.shape == (1, 8, digits.num_classes)


def test_missing_says_what_to_run(made: Made, tmp_path: Path) -> None:
    for function in (data.load, data.check, data.stamp):
        with refused(f"run `boss-study data fetch {made.name} --data {tmp_path / 'none'}`"):
            function(made.name, tmp_path / "none")


def test_damaged_files_are_refused(made: Made) -> None:
    found = data.DATASETS[made.name].find(made.folder)
    assert found is not None
    unused = {test_svhn.EXTRA} if made.name == "svhn_noextra" else set()
    for file in files_in(found):
        if file.name in unused:
            continue
        stamp, whole = data.stamp(made.name, made.folder), file.read_bytes()
        changed = bytearray(whole)
        changed[len(whole) // 2] ^= 0x40
        for content in (bytes(changed), whole[: len(whole) // 2], b""):
            file.write_bytes(content)
            with refused(f"{file} is damaged: {made.advice}"):
                data.load(made.name, made.folder)
        assert data.stamp(made.name, made.folder) != stamp
        file.unlink()
        with refused(f"{file} is missing: {made.advice}"):
            data.check(made.name, made.folder)
        file.write_bytes(whole)


def test_the_checksums_are_those_of_the_published_files(made: Made, monkeypatch: Monkey) -> None:
    monkeypatch.undo()
    with refused(f"is damaged: {made.advice}"):
        data.load(made.name, made.folder)


def test_fetch_downloads_what_is_missing_or_damaged(
    served: Made, tmp_path: Path, monkeypatch: Monkey
) -> None:
    right = data.load(served.name, served.folder).fingerprint
    folder = tmp_path / "new/data"
    data.fetch(served.name, folder)
    assert data.load(served.name, folder).fingerprint == right
    files = files_in(folder)
    for file in files:
        file.write_bytes(b"half")
        data.fetch(served.name, folder)
        assert data.load(served.name, folder).fingerprint == right
    assert files_in(folder) == files  # and nothing temporary
    other = tmp_path / "other"
    assert data.load(served.name, other, download=True).fingerprint == right
    served.publish("http://127.0.0.1:9")
    data.fetch(served.name, folder)  # undamaged: needs no network


def test_failed_fetch_is_one_line_and_leaves_nothing(served: Made, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    for file in files_in(served.folder):
        file.write_bytes(file.read_bytes()[:-100])  # the connection broke
    with refused(f"cannot fetch .* into {folder}.*: .*corrupted"):
        data.fetch(served.name, folder)
    assert files_in(folder) == []
    for file in files_in(served.folder):
        file.unlink()
    with refused(f"cannot fetch .* into {folder}.*: .*404"):
        data.fetch(served.name, folder)
    served.publish("http://127.0.0.1:9")
    with refused(f"cannot fetch .* into {folder}.*: .*refused"):
        data.fetch(served.name, folder)
    (tmp_path / "file").write_text("")
    with refused("cannot fetch"):
        data.fetch(served.name, tmp_path / "file")


def test_a_new_data_set_is_its_source_and_a_line(tmp_path: Path, monkeypatch: Monkey) -> None:
    def find(folder: Path) -> Path:
        if not (folder / "toy.npy").exists():
            raise InputError(f"no toy in {folder}")
        return folder / "toy.npy"

    def read(path: Path) -> Arrays:
        x, y = np.load(path), np.arange(6) % 2
        return Arrays(x, y, x, y, ("a", "b"), flip=True)

    def fetch(folder: Path) -> None:
        np.save(folder / "toy.npy", np.zeros((6, 9, 9, 1), dtype=np.uint8))

    toy = Source(
        name="toy",
        summary="black squares",
        shape=Shape(channels=1, size=9, num_classes=2),
        num_train=6,
        num_test=6,
        find=find,
        read=read,
        fetch=fetch,
    )
    monkeypatch.setitem(data.DATASETS, "toy", toy)
    with refused("no toy in"):
        data.load("toy", tmp_path)
    assert data.load("toy", tmp_path, download=True).train.images.shape == (6, 1, 9, 9)
    assert data.check("toy", tmp_path)[-1] == "all images and labels: as published (checksums)"
    assert len(data.stamp("toy", tmp_path)) == 1
    with refused("unknown data set 'top': choose from digits, .*, toy, FILE.npz"):
        data.load("top")
