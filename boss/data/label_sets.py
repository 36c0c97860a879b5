"""Which training images carry a label: published sets, FixMatch splits, folds, selections, files.

The number of a label set decides which images are labeled; the seed of a run decides random draws.

N training images, K classes
"""

import functools
import importlib.resources
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from boss.data import DATASETS
from boss.errors import InputError, choose

if TYPE_CHECKING:
    from boss.data.imageset import Dataset

FORMS = {  # family -> form of its ids
    "boss": "boss:NUMBER",
    "carlini": "carlini:NUMBER",
    "fixmatch": "fixmatch:SEED@SIZE",
    "fold": "fold:NUMBER",
    "select": "select:NAME",
    "file": "file:PATH",
}
# Where selections are looked up: the user's, in the current directory, then the package's.
FOLDER, PACKAGE_FOLDER = Path("label_sets"), Path(__file__).parent / "selected"
SELECTION_NAME = "[A-Za-z0-9][A-Za-z0-9._-]*"  # name of a file there, without .json


@dataclass(frozen=True)
class LabelSet:
    """The labeled images of a run."""

    id: str  # "boss:3", "fixmatch:3@10", "fold:0", ...
    indices: tuple[int, ...]  # into the training set, all different
    labels: tuple[int, ...]  # the class of each: the true one unless a file says otherwise
    oracle: str = ""  # which hidden labels chose the images, if any did

    def __len__(self) -> int:
        return len(self.indices)


@functools.cache
def published() -> dict[str, dict[str, tuple[int, ...]]]:
    """The published label sets that are lists of images: data set -> id -> indices.

    One image of each class, in the order of the classes (label_sets.json names the sources). The
    FixMatch splits are not listed but computed, see `fixmatch_split`.
    """
    file = importlib.resources.files("boss.data").joinpath("label_sets.json")
    registry = json.loads(file.read_text(encoding="utf-8"))
    return {
        dataset: {
            f"{family}:{number}": tuple(indices)
            for family, entry in families.items()
            if family != "fixmatch"
            for number, indices in entry["sets"].items()
        }
        for dataset, families in registry.items()
        if dataset != "about"
    }


def resolve(label_set: str, dataset: "Dataset") -> LabelSet:
    """The labeled images that an id names in a data set.

    Args:
        label_set: one of
            boss:NUMBER          hand-picked prototypes (Smith and Conovaloff 2020), CIFAR-10, SVHN
            carlini:NUMBER       0 (outliers) to 7 (most prototypical), the buckets of
                                 Sohn et al. 2020, section 4.4, CIFAR-10
            fixmatch:SEED@SIZE   `fixmatch_split` of any data set
            fold:NUMBER          the predefined folds of a data set that has some: 0 to 9 of STL-10,
                                 1,000 labels each (Coates et al. 2011); FixMatch's split of STL-10
                                 of SIZE 1000 is the fold numbered by its SEED
            select:NAME          the file NAME.json that `boss-study select` wrote to label_sets/ in
                                 the current directory, or one that comes with this package
            file:PATH            one index per line, # starts a comment; or JSON
                                 {"indices": [...]} with any of these keys (others are ignored):
                                 "labels": [...], the class number of each, such as pseudo-labels,
                                 instead of the true ones;
                                 "fingerprint", that of the training set it was made for;
                                 "uncovered": [...], the names of the classes without an image;
                                 "oracle", which hidden labels chose the images

    Raises:
        InputError: unknown label set, or one of another data set; the file is missing or
            malformed; an index is repeated or outside the training set; a class has no image
            without being declared uncovered, or has one although it is.
    """
    family, colon, rest = label_set.partition(":")
    if not colon or not rest:
        raise InputError(f"malformed label set {label_set!r}: write {' or '.join(FORMS.values())}")
    choose(family, FORMS, what="kind of label set")
    true_labels = dataset.train.labels.cpu().numpy()
    if family == "file":
        file = _read(Path(rest))
    elif family == "select":
        file = _read(_selection(rest))
    elif family == "fixmatch":
        number = "(0|[1-9][0-9]{0,9})"
        match = re.fullmatch(f"{number}@{number}", rest)
        if match is None:
            example = "for instance fixmatch:3@10"
            raise InputError(f"malformed label set {label_set!r}: write {FORMS[family]}, {example}")
        seed, size = map(int, match.groups())
        if size < dataset.num_classes:
            raise InputError(
                f"label set {label_set} is smaller than the {dataset.num_classes} classes"
            )
        file = _File(fixmatch_split(true_labels, seed, size).tolist())
    elif family == "fold":
        file = _File(list(_fold(label_set, dataset)))
    else:
        file = _File(list(_published(label_set, family, dataset.name)))

    if file.fingerprint not in ("", dataset.train.fingerprint):
        raise InputError(
            f"label set {label_set} was made for other data than {dataset.name}: its fingerprint is"
            f" {file.fingerprint[:12]}, that of the training images here"
            f" {dataset.train.fingerprint[:12]}"
        )
    indices, labels = file.indices, file.labels
    if not indices:
        raise InputError(f"label set {label_set} has no image")
    _check_indices(label_set, indices, len(true_labels))
    if labels is None:
        labels = true_labels[indices].tolist()
    _check_labels(label_set, indices, labels, dataset.class_names, file.uncovered)
    return LabelSet(label_set, tuple(indices), tuple(labels), file.oracle)


def fixmatch_split(labels: NDArray[np.integer[Any]], seed: int, size: int) -> NDArray[np.int64]:
    """The images that FixMatch labels for `seed`, in its order.

    The images of each class are listed in order and, unless the seed is 0, shuffled, class after
    class, by one generator (numpy's legacy RandomState). Then images are taken one at a time, each
    from the class c with the greatest

        n_c / max n - t_c / max(1, max t)

    where n_c is the number of its images and t_c the number taken so far; of equal classes the
    first. So the first K images are one of each class, balanced classes take turns, and unbalanced
    ones keep their proportions. A class that is used up is never chosen: its value is negative
    while that of the largest class is not; once the largest class is used up, its value is 0 and
    those of classes with images left are positive.

    Source: google-research/fixmatch, scripts/create_split.py (Sohn et al. 2020). Deviation:
    classes without images are skipped.

    Args:
        labels: the class of every training image (N,).
        seed: 0 (not shuffled) to 2**32 - 1.
        size: how many images, 1 to N.

    Returns:
        Indices (size,) into the training set, all different.

    Raises:
        InputError: a seed or size outside its range.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"the seed of a split must be 0 to {2**32 - 1}, not {seed}")
    if not 1 <= size <= len(labels):
        raise InputError(f"cannot take {size} labels from {len(labels)} training images")
    counts = np.bincount(labels)  # (K,)
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    if seed != 0:
        generator = np.random.RandomState(seed)
        for positions in members:
            generator.shuffle(positions)

    share = counts / counts.max()
    share[counts == 0] = -np.inf
    taken = np.zeros(len(counts), dtype=np.int64)
    most_taken = 1
    split = np.empty(size, dtype=np.int64)
    for i in range(size):
        c = np.argmax(share - taken / most_taken)
        split[i] = members[c][taken[c]]
        taken[c] += 1
        most_taken = max(most_taken, taken[c])
    return split


def validation_indices(labels: NDArray[np.integer[Any]], num: int) -> NDArray[np.int64]:
    """The training images that FixMatch holds out for validation: the first `num` of seed 0.

    Labeled images may be among them, as in FixMatch: the 5,000 of its tuning runs on CIFAR-10
    contain all images of boss:0 to boss:7 and of fixmatch:0@10.

    Args:
        labels: the class of every training image (N,).
        num: 0 to N.

    Returns:
        Indices (num,) into the training set, classes in proportion.

    Raises:
        InputError: `num` is negative or greater than N.
    """
    if num == 0:
        return np.empty(0, dtype=np.int64)
    if not 0 < num <= len(labels):
        raise InputError(f"cannot hold out {num} of {len(labels)} training images for validation")
    return fixmatch_split(labels, seed=0, size=num)


def _published(label_set: str, family: str, dataset: str) -> tuple[int, ...]:
    choices = {
        name: {i: s for i, s in sets.items() if i.startswith(f"{family}:")}
        for name, sets in published().items()
    }
    owners = [name for name, sets in choices.items() if sets]
    if dataset in DATASETS:
        dataset = DATASETS[dataset].label_sets or dataset
    if dataset not in owners:
        raise InputError(
            f"label set {label_set} is for {' or '.join(owners)}, not for {dataset}: "
            f"choose {FORMS['fixmatch']} or {FORMS['file']}"
        )
    return choose(label_set, choices[dataset], what=f"label set of {dataset}")


def _fold(label_set: str, dataset: "Dataset") -> tuple[int, ...]:
    if not dataset.folds:
        raise InputError(
            f"label set {label_set}: {dataset.name} has no predefined folds:"
            f" choose {FORMS['fixmatch']} or {FORMS['file']}"
        )
    folds = {f"fold:{number}": positions for number, positions in enumerate(dataset.folds)}
    return choose(label_set, folds, what=f"label set of {dataset.name}")


class _File(NamedTuple):
    """The content of a label set; only JSON files have more than indices."""

    indices: list[int]
    labels: list[int] | None = None
    fingerprint: str = ""  # of the training set it is valid for; empty: any
    uncovered: tuple[str, ...] = ()
    oracle: str = ""


def _selection(name: str) -> Path:
    """The file of a selection: the user's if there is one, else the package's."""
    folders = [FOLDER, PACKAGE_FOLDER]
    if re.fullmatch(SELECTION_NAME, name):
        for folder in folders:
            if (folder / f"{name}.json").exists():
                return folder / f"{name}.json"
    known = dict.fromkeys(path.stem for folder in folders for path in sorted(folder.glob("*.json")))
    choices = f"choose from {', '.join(known)}" if known else "there is none yet"
    raise InputError(
        f"unknown selection {name!r}: {choices}; `boss-study select` writes them to {FOLDER}/"
    )


def consulted_labels(label_set: str) -> bool:
    """Whether a label set was chosen with the labels of further training images.

    True for all but the label-free selections: a split takes images of each class, a person or a
    model ranked the images of a class. True for a file that does not say.
    """
    family, _, rest = label_set.partition(":")
    if family not in ("select", "file"):
        return True
    try:
        path = _selection(rest) if family == "select" else Path(rest)
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (InputError, OSError, ValueError):
        return True
    return not isinstance(content, dict) or bool(content.get("consulted_labels", True))


def _read(path: Path) -> _File:
    """A text file with one index per line, or a JSON file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise InputError(f"cannot read label set {path}: {reason}") from error
    if text.lstrip().startswith(("{", "[")):
        return _read_json(path, text)
    indices = []
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.partition("#")[0].strip()
        if re.fullmatch("-?[0-9]{1,18}", entry):
            indices.append(int(entry))
        elif entry:
            raise InputError(f"label set {path}, line {number}: {entry!r} is not an integer")
    return _File(indices)


def _read_json(path: Path, text: str) -> _File:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"label set {path} is not valid JSON: {error}") from error
    if not isinstance(content, dict) or "indices" not in content:
        raise InputError(f'label set {path} must be {{"indices": [...]}}')
    for key in ("indices", "labels"):
        values = content.get(key, [])
        if not isinstance(values, list):
            raise InputError(f"label set {path}: {key} is not a list")
        wrong = [v for v in values if not isinstance(v, int) or isinstance(v, bool)]
        if wrong:
            raise InputError(f"label set {path}: {key}: {wrong[0]!r} is not an integer")
    indices, labels = content["indices"], content.get("labels")
    if labels is not None and len(labels) != len(indices):
        raise InputError(f"label set {path}: {len(indices)} indices, but {len(labels)} labels")
    fingerprint, oracle = (content.get(key, "") for key in ("fingerprint", "oracle"))
    for key, value in (("fingerprint", fingerprint), ("oracle", oracle)):
        if not isinstance(value, str):
            raise InputError(f"label set {path}: {key} is not a string")
    uncovered = content.get("uncovered", [])
    if not isinstance(uncovered, list) or not all(isinstance(name, str) for name in uncovered):
        raise InputError(f"label set {path}: uncovered is not a list of class names")
    return _File(indices, labels, fingerprint, tuple(uncovered), oracle)


def _check_indices(label_set: str, indices: list[int], num_images: int) -> None:
    seen: set[int] = set()
    for index in indices:
        if not 0 <= index < num_images:
            raise InputError(
                f"label set {label_set}: {index} is not among the training images, "
                f"0 to {num_images - 1}"
            )
        if index in seen:
            raise InputError(f"label set {label_set}: {index} is listed twice")
        seen.add(index)


def _check_labels(
    label_set: str,
    indices: list[int],
    labels: list[int],
    class_names: tuple[str, ...],
    uncovered: tuple[str, ...],
) -> None:
    for index, label in zip(indices, labels, strict=True):
        if not 0 <= label < len(class_names):
            raise InputError(
                f"label set {label_set}: label {label} of image {index} is none of the classes "
                f"0 to {len(class_names) - 1}"
            )
    present = {class_names[label] for label in labels}
    for name in uncovered:
        choose(
            name, dict.fromkeys(class_names), what=f"class in uncovered of label set {label_set}"
        )
        if name in present:
            raise InputError(
                f"label set {label_set} declares class {name} uncovered, but has an image of it"
            )
    # Classes left out on purpose are declared; any other was forgotten.
    missing = [name for name in class_names if name not in present and name not in uncovered]
    if missing:
        raise InputError(f"label set {label_set} has no image of class {', '.join(missing)}")
