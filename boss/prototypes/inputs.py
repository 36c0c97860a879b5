"""What `boss-study select` does before it selects: load, embed, name the files it will write."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from boss import data
from boss.data import Dataset
from boss.errors import InputError
from boss.prototypes import embeddings, probe
from boss.prototypes.cache import Features


@dataclass(frozen=True, kw_only=True)
class Request:
    """What every request of `boss-study select` says."""

    dataset: str  # of boss.data.DATASETS, or the user's own data
    embedding: str  # see boss.prototypes.forms.FORMS
    data: Path | None = None  # folder of data sets, or the .npz file that holds CIFAR-10
    out: Path | None = None  # None: named after the request, in label_sets/
    seed: int = 0  # of the embedding, and of a selection
    device: str = "cpu"
    results: Path = Path("results")  # embeddings are cached in a folder of it
    with_probe: bool = False  # also say how well a linear classifier does on the embedding
    overwrite: bool = False


def load(dataset: str, path: Path | None) -> Dataset:
    """A data set by its name or file.

    Args:
        path: folder of data sets, or the .npz file that holds CIFAR-10.

    Raises:
        InputError: it is unavailable.
    """
    if Path(dataset).suffix == ".npz" and data.identify(Path(dataset)) == "cifar10":
        return data.load("cifar10", Path(dataset))  # identified by its checksum, as in a study
    return data.load(dataset, path)


def check_data(dataset: str, path: Path | None) -> None:
    """Raise InputError if --data names a custom data set, and so would not be used."""
    if path is not None and data.is_own(str(path)) and dataset != "cifar10":
        raise InputError(f"--data {path} would not be used: `select {path}` selects from it")


def check_absent(paths: Iterable[Path]) -> None:
    """Raise InputError if one of the files exists."""
    for path in paths:
        if path.exists():
            raise InputError(f"{path} exists: --force replaces it, --out names another file")


def make_folders(paths: Iterable[Path]) -> None:
    """Make the folders of these files; raises InputError."""
    for path in paths:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error


def file_name(
    dataset: str, embedding: str, *words: str, settings: Iterable[tuple[str, float, float]]
) -> str:
    """A name of files, without suffix, that is also one of `select:NAME`.

    Args:
        settings: name, value, default: those that are not the defaults are named.

    >>> file_name("my set.npz", "simclr:200", "random", settings=[("rank", 1, 1), ("seed", 7, 0)])
    'my-set-simclr-200-random-seed7'
    """
    kind, _, detail = embedding.partition(":")
    changed = [f"{key}{value:g}" for key, value, default in settings if value != default]
    parts = [Path(dataset).stem, kind, Path(detail).stem, *words, *changed]
    return "-".join(filter(None, map(slug, parts)))


def slug(text: str) -> str:
    """A part of the name of a file."""
    return re.sub("[^A-Za-z0-9._]+", "-", text).strip("-.")


def embed_images(
    request: Request, dataset: Dataset, report: Callable[[str], None]
) -> tuple[Features, list[str]]:
    """The features of the training images (N, F), and lines about them.

    Raises:
        InputError: as `boss.prototypes.embeddings.embed`.
    """
    x_train, *x_test = embeddings.embed(
        request.embedding,
        dataset,
        parts=("train", "test") if request.with_probe else ("train",),
        cache=embeddings.cache_of(request.results),
        seed=request.seed,
        device=request.device,
        report=report,
    )
    lines = [f"{request.embedding}: {len(x_train):,} images x {x_train.shape[1]:,} features"]
    if x_test:
        accuracy = probe.linear_probe(
            x_train, dataset.train.labels.numpy(), x_test[0], dataset.test.labels.numpy()
        )
        lines.append(
            f"linear probe: {100 * accuracy:.2f}% of the test images (a diagnostic on the test"
            " labels; it does not change the selection)"
        )
    return x_train, lines
