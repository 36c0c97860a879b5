"""From a finished study to a refined label set on disk. Behind `boss-study refine`."""

import json
from dataclasses import dataclass
from pathlib import Path

from boss import data
from boss.data.label_sets import FOLDER, PACKAGE_FOLDER, consulted_labels
from boss.errors import InputError
from boss.prototypes.contact_sheet import Candidate, Row, contact_sheet
from boss.prototypes.refine import RULES, Refined, refine
from boss.results.read import Store
from boss.results.write import write_atomically

FORMAT = 1  # of the files


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to refine and where to write it; other fields as in `boss.prototypes.refine.refine`."""

    study: str
    results: Path
    data: Path | None = None  # folder of data sets, or the .npz file that holds CIFAR-10
    out: Path | None = None  # FILE.json; None: label_sets/STUDY-METHOD-refined.json
    method: str = "fixmatch"
    rule: str = "label-free"
    base: str | None = None
    failed_below: float = 0.5
    budget: str | None = None
    label_sets: tuple[str, ...] = ()
    overwrite: bool = False

    @property
    def file(self) -> Path:
        """The file of the label set; the contact sheet has the same name and ends in .png."""
        if self.out is not None:
            return self.out
        rule = "" if self.rule == "label-free" else f"-by-{self.rule}"
        return FOLDER / f"{self.study}-{self.method}-refined{rule}.json"


def make_refined(request: Request) -> list[str]:
    """Refine, write the label set and the contact sheet of the base and of what it became.

    Returns:
        Lines for a person.

    Raises:
        InputError: as `refine`; the file exists; or the data set is not the one of the runs.
    """
    path = request.file
    if path.suffix != ".json":
        raise InputError(f"--out {path}: the name of a label set file ends in .json")
    if request.out is None and (PACKAGE_FOLDER / path.name).exists():
        raise InputError(
            f"{path.stem} is a selection of this package: name another file with --out"
        )
    for there in (path, path.with_suffix(".png")):
        if there.exists() and not request.overwrite:
            raise InputError(f"{there} exists: --force replaces it, --out names another file")
    store = Store(request.results, request.study)
    refined = refine(
        store,
        method=request.method,
        rule=request.rule,
        base=request.base,
        failed_below=request.failed_below,
        budget=request.budget,
        label_sets=request.label_sets,
        leave_out=(f"select:{path.stem}",),
    )
    dataset = data.load(refined.dataset, request.data)
    if dataset.fingerprint != refined.fingerprint:
        raise InputError(
            f"the runs in {store.folder} are on other data called {refined.dataset}"
            f" ({refined.fingerprint[:12]}, here {dataset.fingerprint[:12]})"
        )
    content = {
        "format": FORMAT,
        "dataset": refined.dataset,
        "fingerprint": dataset.train.fingerprint,
        "method": "refined",
        "rule": refined.rule,
        "study": request.study,
        "runs": request.method,
        "base": refined.base,
        "failed_below": request.failed_below,
        "consulted_labels": any(map(consulted_labels, refined.sources)),
        "oracle": refined.oracle,
        "indices": list(refined.indices),
        "labels": list(refined.labels),
        "classes": [refined.class_names[label] for label in refined.labels],
        "sources": dict(zip(refined.class_names, refined.sources, strict=True)),
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    try:
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        sheet = path.with_suffix(".png")
        title = f"{refined.dataset}, {request.study}: {refined.base} refined by {request.method}"
        contact_sheet([_row(refined, dataset)], title, sheet)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    name = f"select:{path.stem}" if path.parent == FOLDER else f"file:{path}"
    return [
        f"rule: {refined.rule}, {RULES[refined.rule]}",
        *refined.lines(),
        *([f"oracle: {refined.oracle}"] if refined.oracle else []),
        f"{path}: use it as label_set={name!r}",
        f"contact sheet: {sheet}",
    ]


def _row(refined: Refined, dataset: data.Dataset) -> Row:
    """The refined label set, each image with the score that its class had in its source."""
    position = {str(name): i for i, name in enumerate(refined.scores.index)}
    values = refined.scores.to_numpy(dtype=float)  # (label sets, K)
    groups = [
        [
            Candidate(
                image=dataset.train.images[index].permute(1, 2, 0).numpy(),
                index=index,
                class_name=refined.class_names[label],
                score=float(values[position[refined.sources[label]], label]),
                rank=1,
            )
        ]
        for index, label in zip(refined.indices, refined.labels, strict=True)
    ]
    replaced = [
        f"{name} from {source}"
        for name, source in zip(refined.class_names, refined.sources, strict=True)
        if source != refined.base
    ]
    return Row(
        method=f"{refined.base}, with {', '.join(replaced) or 'nothing replaced'}",
        consulted_labels=any(map(consulted_labels, refined.sources)),
        uncovered=(),
        score_name=f"{refined.rule} score of the class where the image comes from",
        groups=groups,
        groups_are="images",
    )
