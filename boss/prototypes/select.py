"""From a data set to label sets on disk: embed, select, write, show. Behind `boss-study select`."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boss.data import Dataset
from boss.data.label_sets import FOLDER, SELECTION_NAME
from boss.errors import InputError
from boss.prototypes import embeddings, inputs, selection
from boss.prototypes.contact_sheet import Candidate, Row, contact_sheet
from boss.prototypes.selection import Selection
from boss.results.write import write_atomically

FORMAT = 1  # of the files


@dataclass(frozen=True, kw_only=True)
class Request(inputs.Request):
    """What to select and where to write it.

    Raises:
        InputError: a value that is wrong for any data.
    """

    methods: Sequence[str]  # of boss.prototypes.selection.METHODS
    candidates: int = 5
    rank: int = 1  # of the candidate of each group that is selected
    trim: float = 0.0

    def __post_init__(self) -> None:
        for method in self.methods:
            selection.check(method, seed=self.seed, candidates=self.candidates, trim=self.trim)
        if len(set(self.methods)) < len(self.methods):
            raise InputError(f"a method is named twice: {', '.join(self.methods)}")
        if not 1 <= self.rank <= self.candidates:
            raise InputError(
                f"rank {self.rank} is none of the {self.candidates} candidates of each class:"
                " use a larger --candidates"
            )
        if self.out is not None and self.out.suffix != ".json":
            raise InputError(f"--out {self.out}: the name of a label set file ends in .json")
        inputs.check_data(self.dataset, self.data)
        if not self.overwrite:
            inputs.check_absent((*self.files.values(), self.sheet))

    @property
    def files(self) -> dict[str, Path]:
        """Method -> the file of its label set."""
        if self.out is None:
            return {m: FOLDER / f"{self._name(m)}.json" for m in self.methods}
        if len(self.methods) == 1:
            return {self.methods[0]: self.out}
        return {m: self.out.with_name(f"{self.out.stem}-{m}.json") for m in self.methods}

    @property
    def sheet(self) -> Path:
        """The contact sheet, one for all methods."""
        if self.out is not None:
            return self.out.with_suffix(".png")
        method = self.methods[0] if len(self.methods) == 1 else ""
        return FOLDER / f"{self._name(method)}.png"

    def _name(self, method: str) -> str:
        settings = (("trim", self.trim, 0), ("rank", self.rank, 1), ("seed", self.seed, 0))
        return inputs.file_name(self.dataset, self.embedding, method, settings=settings)


def make_label_sets(request: Request, report: Callable[[str], None]) -> list[str]:
    """Write a label set for each method, and one contact sheet for all of them.

    Args:
        report: called with lines of progress.

    Returns:
        Lines for a person: what was written where.

    Raises:
        InputError: the data set, the embedding or a selection is unavailable, or a file cannot be
            written.
    """
    dataset = inputs.load(request.dataset, request.data)
    embeddings.check(request.embedding, dataset)
    inputs.make_folders((*request.files.values(), request.sheet))
    x_train, lines = inputs.embed_images(request, dataset, report)
    labels = dataset.train.labels.numpy()

    selections = {}
    for method in request.methods:
        report(f"selecting by {method}")
        selections[method] = selection.select(
            x_train,
            labels,
            dataset.num_classes,
            method,
            seed=request.seed,
            candidates=request.candidates,
            trim=request.trim,
        ).at_rank(request.rank)

    try:
        for method, path in request.files.items():
            _write(path, _content(request, dataset, selections[method]))
        title = f"{Path(dataset.name).name}, {request.embedding}, seed {request.seed}"
        rows = [_row(request, dataset, chosen) for chosen in selections.values()]
        contact_sheet(rows, title, request.sheet)
    except OSError as error:
        raise InputError(f"cannot write label sets: {error}") from error
    for method, path in request.files.items():
        lines.append(f"{path}: {describe(selections[method], dataset.class_names)}")
        lines.append(f"    use it as label_set='{_id(path)}'")
    return [*lines, f"contact sheet: {request.sheet}"]


def describe(chosen: Selection, class_names: Sequence[str]) -> str:
    """One line on a selection."""
    counts = Counter(chosen.labels.tolist())
    selected = ", ".join(f"{name}: {counts[k]}" for k, name in enumerate(class_names) if counts[k])
    uncovered = ", ".join(class_names[k] for k in chosen.uncovered)
    return (
        f"{chosen.method}, training labels used: {'yes' if chosen.consulted_labels else 'no'};"
        f" selected images per class: {'1 each' if set(counts.values()) == {1} else selected};"
        f" uncovered classes: {uncovered or 'none'}"
    )


def _id(path: Path) -> str:
    """How a run names the label set of a file."""
    found_by_name = path.parent.resolve() == FOLDER.resolve()
    if found_by_name and re.fullmatch(SELECTION_NAME, path.stem):
        return f"select:{path.stem}"
    return f"file:{path}"


def _content(request: Request, dataset: Dataset, chosen: Selection) -> dict[str, Any]:
    """The content of the file of a label set."""
    names = dataset.class_names
    return {
        "format": FORMAT,
        "dataset": dataset.name,
        "fingerprint": dataset.train.fingerprint,
        "embedding": request.embedding,
        "method": chosen.method,
        "consulted_labels": chosen.consulted_labels,
        "seed": request.seed,
        "trim": request.trim,
        "rank": chosen.rank,
        "oracle": embeddings.oracle(request.embedding),
        "indices": chosen.indices.tolist(),
        "classes": [names[label] for label in chosen.labels.tolist()],
        "uncovered": [names[k] for k in chosen.uncovered],
        "score": selection.score_name(chosen.method, request.trim),
        "candidates": [
            [
                {"index": index, "class": names[label], "score": round(score, 6), "rank": rank}
                for rank, (index, label, score) in enumerate(
                    zip(
                        group.indices.tolist(),
                        group.labels.tolist(),
                        group.scores.tolist(),
                        strict=True,
                    ),
                    start=1,
                )
            ]
            for group in chosen.groups
        ],
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    """JSON with a line for each key and each group of candidates."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
    groups = ",\n".join(f"    {json.dumps(group)}" for group in content["candidates"])
    lines[-1] = f'  "candidates": [\n{groups}\n  ]'
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _row(request: Request, dataset: Dataset, chosen: Selection) -> Row:
    """The images of a selection."""

    def candidates(group: selection.Group) -> list[Candidate]:
        images = dataset.train.images[group.indices].permute(0, 2, 3, 1).numpy()  # (R, H, W, C)
        return [
            Candidate(
                image=images[i],
                index=int(group.indices[i]),
                class_name=dataset.class_names[group.labels[i]],
                score=float(group.scores[i]),
                rank=i + 1,
            )
            for i in range(len(group))
        ]

    return Row(
        method=chosen.method,
        consulted_labels=chosen.consulted_labels,
        uncovered=[dataset.class_names[k] for k in chosen.uncovered],
        score_name=selection.score_name(chosen.method, request.trim),
        groups=[candidates(group) for group in chosen.groups],
        rank=chosen.rank,
    )
