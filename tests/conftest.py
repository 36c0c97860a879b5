"""What all tests share: one thread, and the data sets, loaded once per process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from boss import data
from boss.data import Dataset

ROOT = Path(__file__).parents[1]
UNPACK = ROOT.parent / "shared/data/unpack_cifar10.py"  # beside some checkouts: writes cifar10.npz


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Test processes run side by side; results of one thread do not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Power cuts are not tested, and waiting for the disk thousands of times takes minutes.

    That files are flushed before they get their names is a test in test_store.py.
    """
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return data.load("digits")


@pytest.fixture(scope="session")
def cifar10_folder() -> Path:
    """A folder with the real CIFAR-10 as cifar10.npz; the test is skipped where there is none."""
    given = os.environ.get("BOSS_DATA")
    if given and Path(given, "cifar10.npz").exists():
        return Path(given)
    folder = ROOT / ".cache/data"
    if not UNPACK.exists() and not (folder / "cifar10.npz").exists():
        pytest.skip("needs a folder with cifar10.npz, named by the environment variable BOSS_DATA")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "cifar10.lock"):
        if not (folder / "cifar10.npz").exists():
            subprocess.run([sys.executable, UNPACK, folder / "cifar10.npz"], check=True)
    return folder


@pytest.fixture(scope="session")
def cifar10(cifar10_folder: Path) -> Dataset:
    return data.load("cifar10", cifar10_folder)
