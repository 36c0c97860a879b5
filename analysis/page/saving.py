"""Writes figures to files, several at a time: laying out and writing takes most of a report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib
import matplotlib.style
from matplotlib.figure import Figure

from boss.units import num_cores

# Metadata of each kind of file: the time of day is in none.
ENDINGS: dict[str, dict[str, None]] = {"png": {"Software": None}, "pdf": {"CreationDate": None}}
FIGURES_PER_PROCESS = 6  # fewer are written sooner than a further process has started
MAX_PROCESSES = 4


def paths_of(stem: Path) -> list[Path]:
    """The files of a figure."""
    return [stem.with_name(f"{stem.name}.{ending}") for ending in ENDINGS]


def save_all(figures: Mapping[Path, Figure], style: Mapping[str, Any]) -> None:
    """Write the files of figures, by stem, in the style that they were drawn with.

    In several processes, as matplotlib cannot do it in threads.

    Raises:
        OSError: a figure cannot be written.
    """

    # Defined here, joblib sends it as code: an installed `boss-study` loads this package from a
    # folder that other processes do not know.
    def save(figure: Figure, files: dict[Path, Any], style: dict[str, Any]) -> None:
        with matplotlib.style.context(["default", style]):
            for path, metadata in files.items():
                figure.savefig(path, metadata=metadata)
                figure.set_layout_engine("none")  # laid out once: the second file need not be

    num_processes = min(num_cores(), len(figures) // FIGURES_PER_PROCESS, MAX_PROCESSES)
    # max_nbytes: figures are pickled whole, none of their arrays goes through a file.
    joblib.Parallel(n_jobs=max(1, num_processes), max_nbytes=None)(
        joblib.delayed(save)(
            figure, dict(zip(paths_of(stem), ENDINGS.values(), strict=True)), dict(style)
        )
        for stem, figure in figures.items()
    )
