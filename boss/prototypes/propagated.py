"""What label propagation would label, shown and counted. Behind `boss-study select --propagate`.

The images are selected by `boss.prototypes.propagation.start_from`, without hidden labels. What
is counted here uses hidden labels: a diagnostic that no training reads.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from boss.data import Dataset
from boss.data.label_sets import FOLDER, LabelSet, resolve
from boss.errors import InputError, check_interval
from boss.prototypes import embeddings, inputs, propagation
from boss.prototypes.contact_sheet import Candidate, ClassRow, class_sheet
from boss.prototypes.graphs import kept_neighbors
from boss.prototypes.progress import StageProgress
from boss.prototypes.propagation import NUM_NEIGHBORS, NUM_START, Start
from boss.units import duration

NUM_SHOWN = 12  # images of each class on the sheet
NOTE = "* diagnostic: uses the hidden labels of the training images; nothing in training uses it"


@dataclass(frozen=True, kw_only=True)
class Request(inputs.Request):
    """What to propagate and where to show it.

    Raises:
        InputError: a value that is wrong for any data.
    """

    label_sets: Sequence[str]  # ids, see boss.data.label_sets.resolve
    num_start: int = NUM_START  # images of each class

    def __post_init__(self) -> None:
        check_interval("[1, inf)", num_start=self.num_start)
        if len(set(self.label_sets)) < len(self.label_sets):
            raise InputError(f"a label set is named twice: {', '.join(self.label_sets)}")
        if self.out is not None and self.out.suffix != ".png":
            raise InputError(f"--out {self.out}: the name of a contact sheet ends in .png")
        inputs.check_data(self.dataset, self.data)
        if len(set(self.sheets.values())) < len(self.label_sets):
            raise InputError("two contact sheets would have one name: preview one label set each")
        if not self.overwrite:
            inputs.check_absent(self.sheets.values())

    @property
    def sheets(self) -> dict[str, Path]:
        """Label set -> its contact sheet."""
        if self.out is not None and len(self.label_sets) == 1:
            return {self.label_sets[0]: self.out}
        return {label_set: self._sheet(label_set) for label_set in self.label_sets}

    def _sheet(self, label_set: str) -> Path:
        family, _, rest = label_set.partition(":")
        word = inputs.slug(Path(rest).stem if family == "file" else label_set)
        if self.out is not None:
            return self.out.with_name(f"{self.out.stem}-{word}.png")
        words = ("propagated", word)
        settings = (("start", self.num_start, NUM_START), ("seed", self.seed, 0))
        name = inputs.file_name(self.dataset, self.embedding, *words, settings=settings)
        return FOLDER / f"{name}.png"


def preview(request: Request, report: Callable[[str], None]) -> list[str]:
    """Write a contact sheet for each label set.

    Args:
        report: called with lines of progress.

    Returns:
        Lines for a person: a table for each label set, where its sheet is.

    Raises:
        InputError: the data set, a label set or the embedding is unavailable, there are too few
            images, or a file cannot be written.
    """
    dataset = inputs.load(request.dataset, request.data)
    label_sets = [resolve(label_set, dataset) for label_set in request.label_sets]
    embeddings.check(request.embedding, dataset)
    inputs.make_folders(request.sheets.values())
    features, lines = inputs.embed_images(request, dataset, report)
    if dataset.unlabeled is not None:
        lines.append(
            f"labels are propagated over the {len(dataset.train):,} training images only: not over"
            f" the {len(dataset.unlabeled):,} further images without a class"
        )
    began = time.monotonic()
    progress = StageProgress("label propagation", report)
    progress.begin("nearest neighbors")
    neighbors, _ = kept_neighbors(
        features, request.embedding, embeddings.cache_of(request.results), progress
    )
    graph = propagation.connect(neighbors)
    pure = propagation.purity(neighbors, dataset.train.labels.numpy())
    lines.append(
        f"of the {NUM_NEIGHBORS} nearest neighbors of an image, {100 * pure:.1f}% are of its class*"
    )
    for label_set in label_sets:
        progress.begin(label_set.id)
        start = propagation.start_from(graph, label_set, dataset.num_classes, request.num_start)
        sheet = request.sheets[label_set.id]
        _draw(request, dataset, label_set, start, sheet)
        lines += ["", *describe(dataset, label_set, start), f"contact sheet: {sheet}"]
    report(f"label propagation: done in {duration(time.monotonic() - began)}")
    return [*lines, "", NOTE]


def describe(dataset: Dataset, label_set: LabelSet, start: Start) -> list[str]:
    """The table of a label set, and lines on all its classes."""
    from tabulate import tabulate

    true, names = dataset.train.labels.numpy(), dataset.class_names
    rest = np.setdiff1d(np.arange(len(true)), label_set.indices)
    predictions = start.propagation.predictions
    is_right = start.labels == true[start.indices]
    rows = []
    for k, name in enumerate(names):
        mine = start.labels == k
        num = int(mine.sum())
        right = f"{is_right[mine].sum()} ({100 * is_right[mine].mean():.0f}%)" if num else "-"
        last = f"{start.certainty[mine][-1]:.3f}" if num else "-"
        rows.append([name, f"{(predictions[rest] == k).sum():,}", num, right, last])
    header = ["class", "images predicted", "selected", "right*", "certainty of the last"]
    table = tabulate(
        rows,
        header,
        tablefmt="pipe",
        colalign=["left"] + ["right"] * (len(header) - 1),
        disable_numparse=True,
    )
    unreached = int((predictions == -1).sum())
    unlabeled = ", ".join(names[k] for k in range(len(names)) if k not in label_set.labels)
    return [
        f"{label_set.id}: labels of {len(label_set):,} images propagated to {len(rest):,} others",
        *table.splitlines(),
        f"right*: {100 * (predictions == true)[rest].mean():.1f}% of the {len(rest):,} images,"
        f" {100 * is_right.mean():.1f}% of the {len(is_right):,} selected",
        *([f"images that no label reaches, counted as wrong: {unreached:,}"] if unreached else []),
        *(
            [f"classes without a labeled image, of which none gets the label: {unlabeled}"]
            if unlabeled
            else []
        ),
    ]


def _draw(
    request: Request, dataset: Dataset, label_set: LabelSet, start: Start, path: Path
) -> None:
    true, names = dataset.train.labels.numpy(), dataset.class_names

    def candidate(index: int, k: int, rank: int) -> Candidate:
        return Candidate(
            image=dataset.train.images[index].permute(1, 2, 0).numpy(),
            index=index,
            class_name=names[true[index]],
            score=float(start.propagation.scores[index, k]),
            rank=rank,
        )

    def row(k: int) -> ClassRow:
        mine = start.indices[start.labels == k]
        num_right = int((true[mine] == k).sum())
        labeled = [
            i for i, label in zip(label_set.indices, label_set.labels, strict=True) if label == k
        ]
        return ClassRow(
            class_name=names[k],
            notes=[f"{len(labeled):,} labeled", f"{len(mine):,} selected", f"{num_right:,} right*"],
            labeled=candidate(labeled[0], k, rank=0),
            selected=[candidate(int(i), k, r) for r, i in enumerate(mine[:NUM_SHOWN], start=1)],
        )

    title = (
        f"{Path(dataset.name).name}, {request.embedding}, seed {request.seed}: labels propagated"
        f" from {label_set.id}, the {request.num_start} most certain images of each class"
    )
    legend = (
        "Below an image: the certainty of this class and its position in the training set. Of the"
        f" selected images at most {NUM_SHOWN} are shown, of the labeled ones the first. Framed*:"
        f" the true class is another, named below the image. {NOTE}."
    )
    try:
        class_sheet([row(k) for k in sorted({*label_set.labels})], title, legend, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error}") from error
