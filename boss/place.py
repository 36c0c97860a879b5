"""Where and on what runs are performed, and what to record about it. No torch here."""

import os
import platform
import subprocess
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

LIBRARIES = ("boss-ssl", "torch", "torchvision", "numpy", "pandas", "pyarrow", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Everything about performing a run that is not part of the run's identity."""

    results: Path
    study: str
    data: Path | None = None  # a folder of data sets, or one of your own
    device: str = "cpu"
    threads: int = 1
    checkpoint_seconds: float = 60.0
    keep_networks: bool = False  # store the last teacher of each run, for embeddings and the like
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # run from a checkout that is not installed
            continue
    return found


def commit() -> str:
    """The git commit this package runs from, "-dirty" if files differ; empty if no checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except OSError:  # git is not installed
        return ""
