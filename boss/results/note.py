"""What a report says of a study, noted beside its results: its file may be elsewhere by then."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from boss.errors import InputError
from boss.results.write import write_atomically
from boss.study.run import Run
from boss.study.study import Comparison, Study

NOTE = "study.json"


def remember(study: Study, folder: Path) -> None:
    """Note the texts of a study in the folder with its results."""
    fields = dataclasses.asdict(dataclasses.replace(study, runs=_no_runs)) | {"runs": None}
    write_atomically(folder / NOTE, lambda path: path.write_text(json.dumps(fields, indent=1)))


def recall(folder: Path) -> Study:
    """The study with results in this folder as it was noted, without its runs."""
    try:
        fields = json.loads((folder / NOTE).read_text())
        comparisons = []
        for found in fields["comparisons"]:
            settings: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
            comparisons.append(Comparison(**settings))
        fields |= {"comparisons": tuple(comparisons), "published": tuple(fields["published"])}
        return Study(**fields | {"runs": _no_runs, "name": folder.name})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, InputError):
        return Study(reproduces="a custom study", runs=_no_runs, name=folder.name)


def _no_runs(budget: str) -> list[Run]:
    return []
