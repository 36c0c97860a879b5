"""Writes the parts of a page: Markdown, LaTeX, CSV, figures."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
import pandas as pd
from matplotlib.figure import Figure

from boss.errors import InputError

from ..style import STYLE
from . import escape
from .parts import (
    Part,
    Picture,
    Table,
    Text,
    slug,
)
from .saving import paths_of

MAX_ROWS_SHOWN = 60  # of a table on the page; its own files hold more


MAX_ROWS_IN_TEXT = 1000  # of a table in Markdown and LaTeX; its CSV holds all


@dataclass(frozen=True)
class Report:
    """What was written."""

    folder: Path
    tables: list[Path]
    figures: list[Path]
    warnings: list[str]


def prepare(folder: Path) -> None:
    """Make the folders and remove the files of an earlier report."""
    try:
        for name, endings in (("tables", "csv md tex"), ("figures", "png pdf")):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for ending in endings.split():
                for path in (folder / name).glob(f"*.{ending}"):
                    path.unlink()
    except OSError as error:
        raise InputError(f"cannot write the report to {folder}: {error.strerror}") from error


def write_part(part: Part, study: str, written: Report, drawn: dict[Path, Figure]) -> str:
    """What stands on the page; a table is written, a figure is drawn into `drawn`, by stem."""
    if isinstance(part, Text):
        return part.text
    if isinstance(part, Table):
        written.tables.extend(write_table(part, study, written.folder / "tables"))
        return table_on_page(part)
    stem = written.folder / "figures" / part.name
    drawn[stem] = draw(part)
    written.figures.extend(paths_of(stem))
    return f"![{part.title}](figures/{part.name}.png)\n\n**{part.title}.** {part.caption}"


def table_on_page(part: Table) -> str:
    """Title, table and caption."""
    shown = part.text.head(MAX_ROWS_SHOWN)
    more = ""
    if len(shown) < len(part.text):
        ending = "md" if len(part.text) <= MAX_ROWS_IN_TEXT else "csv"
        more = f" Shown: {len(shown)} of {len(part.text)} rows, all are in"
        more += f" tables/{part.name}.{ending}."
    return f"**{part.title}.** {part.caption}{more}\n\n{markdown(shown)}"


def shortened(part: Table) -> Table:
    """A table with as many rows as one can read, which says so if it has more."""
    if len(part.text) <= MAX_ROWS_IN_TEXT:
        return part
    more = f" Shown: {MAX_ROWS_IN_TEXT} of {len(part.text)} rows, all are in {part.name}.csv."
    return dataclasses.replace(
        part, text=part.text.head(MAX_ROWS_IN_TEXT), caption=part.caption + more
    )


def markdown(text: pd.DataFrame) -> str:
    """A table in Markdown; numbers stay as they are written."""
    safe = text.astype(str).map(escape.markdown_cell)
    safe.columns = pd.Index([escape.markdown_cell(str(name)) for name in safe.columns])
    return str(safe.to_markdown(index=False, disable_numparse=True))


def latex(part: Table, study: str) -> str:
    """A table in LaTeX with caption and label; wide ones are scaled to the width of the text."""
    text = part.text.astype(str).map(escape.latex)
    text.columns = pd.Index([escape.latex(str(name)) for name in text.columns])
    table = text.to_latex(
        index=False,
        escape=False,  # done above: pandas leaves ± and the caption alone
        caption=escape.latex(f"{part.title}. {part.caption}"),
        label=f"tab:{slug(study)}-{slug(part.name)}",
        position="htbp",
    )
    if text.shape[1] > 7:
        table = table.replace(r"\begin{tabular}", "\\resizebox{\\textwidth}{!}{%\n\\begin{tabular}")
        table = table.replace(r"\end{tabular}", "\\end{tabular}}")
    return "% needs the packages booktabs and graphicx\n" + table


def write_table(part: Table, study: str, folder: Path) -> Iterator[Path]:
    """Write a table as CSV, Markdown and LaTeX."""
    yield write_text(folder / f"{part.name}.csv", part.numbers.to_csv(index=False))
    part = shortened(part)
    page = f"**{part.title}.** {part.caption}\n\n{markdown(part.text)}\n"
    yield write_text(folder / f"{part.name}.md", page)
    yield write_text(folder / f"{part.name}.tex", latex(part, study))


def write_text(path: Path, text: str) -> Path:
    """Write a text file with the same line ends everywhere."""
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def draw(part: Picture) -> Figure:
    """A figure in the style of the package."""
    with matplotlib.style.context(["default", STYLE]):
        return part.draw()
