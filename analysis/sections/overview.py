"""The headline numbers of the publications beside ours: one table over all studies.

A row of published/headlines.csv is one number (`headlines`). Where none is published, ours stands
alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from boss.errors import InputError

from ..naming import ORACLE_MARK
from ..page.parts import Table
from ..page.write import write_table
from ..tables import number, plural, plus_minus
from .comparison_settings import KNOWN, KNOWN_TEXT, records
from .headline_runs import (
    LARGEST_FIRST,
    OURS,
    matching,
    of_largest_budget,
    of_one_group,
    our_numbers,
    stores,
)
from .headlines import NUMBERS, headlines, settings

NOT_RUN = "not run yet"
SMOKE = "smoke: shows that it runs, no result"
CAPTION = (
    "Test accuracy in percent. Ours: the teacher after the last step, mean ± sample standard "
    "deviation over runs of the largest budget with finished runs. Runs that used hidden labels "
    "are excluded. As published: the same runs under the protocol and statistic of the "
    "publication, where these are known and differ. (oracle): selected by test accuracy, not a "
    "result. Median of the last 20: of the teacher's evaluations; runs with fewer use all. "
    "Published: mean ± standard deviation, or median (lowest to highest); -: no known number; "
    f"{KNOWN_TEXT}. Images: labeled images seen in all trainings that a run needs, repetitions "
    "counted. Minutes: wall-clock time of these trainings on a GPU including evaluation, median "
    "over runs; CPU times are in the CSV file. Rows marked smoke only show that the code runs."
)


@dataclass(frozen=True)
class Overview:
    """What was written."""

    paths: list[Path]
    warnings: list[str]


def write(results: Path, folder: Path) -> Overview:
    """Write the table as overview.csv, overview.md and overview.tex.

    Args:
        results: the folder of the stores, of which any may be missing.

    Raises:
        InputError: there is no result at all, or the folder cannot be written.
    """
    numbers, warnings = overview(results)
    part = Table(
        "overview",
        "Published beside ours",
        f"{CAPTION} {notes_text(numbers)}".strip(),
        numbers.drop(columns=["printed", "is_main"]),
        overview_text(numbers),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [*write_table(part, "all", folder)]
    except OSError as error:
        raise InputError(f"cannot write the overview to {folder}: {error.strerror}") from error
    return Overview(paths, warnings)


# What is ours


def overview(results: Path) -> tuple[pd.DataFrame, list[str]]:
    """Every headline with our runs of it.

    Returns:
        per headline its columns, published numbers with the prefix published_, and `OURS`:
        ours_percent and ours_sd_percent over runs; protocol_... the same by protocol and statistic
        of the publication (NaN where they do not differ or are not known; low and high with a
        median); num_images, num_trainings and minutes (median over runs) of a run and of those that
        selected its images; hardware: "CPU", "GPU" or both. And warnings.

    Raises:
        InputError: there is no result at all, or a study has runs that cannot be read.
    """
    if not any(results.glob("*/runs/*.parquet")):
        raise InputError(f"no results in {results}: start with `boss-study run STUDY`")
    table = headlines()
    found = stores(results, list(table["study"].unique()))
    warnings = []
    rows = []
    for headline in records(table):
        row = {"dataset": settings(headline["runs"])["dataset"][0], **headline, **OURS}
        if headline["study"] in found:
            runs = matching(found[headline["study"]], settings(headline["runs"]))
            budgets = headline["budgets"].split(", ") if headline["budgets"] else LARGEST_FIRST
            runs, num_other = of_one_group(of_largest_budget(runs, budgets))
            if num_other:
                other = f"{plural(num_other, 'run')} with other settings than the rest"
                warnings.append(f"overview, {headline['title']}: left out {other}")
            if len(runs):
                row |= our_numbers(runs, headline["protocol"], headline["statistic"])
        rows.append(row)
    names = {name: f"published_{name}" for name in NUMBERS}
    return pd.DataFrame(rows).rename(columns=names), warnings


# Text


def overview_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per headline.

    Args:
        numbers: `overview`, or some rows of it.
    """
    places = {note: i for i, note in enumerate(notes(numbers), 1)}
    rows = []
    for row in records(numbers):
        is_run = row["num_runs"] > 0
        known = KNOWN[row["known"]] if row["known"] else ""
        ours = plus_minus(row["ours_percent"], row["ours_sd_percent"])
        rows.append(
            {
                "data": row["dataset"],
                "what": row["title"],
                "published, %": row["printed"] + known if row["printed"] else "-",
                "ours, %": ours if is_run else NOT_RUN,
                "as published, %": protocol_text(row),
                "label sets": str(row["num_label_sets"]) if is_run else "-",
                "runs": str(row["num_runs"]) if is_run else "-",
                "budget": budget_text(row) if is_run else "-",
                "minutes per run": minutes_text(row),
                "note": f"[{places[row['note']]}]" if row["note"] else "-",
            }
        )
    return pd.DataFrame(rows)


def notes(numbers: pd.DataFrame) -> list[str]:
    """The different notes, in their order."""
    return [*dict.fromkeys(filter(None, numbers["note"]))]


def notes_text(numbers: pd.DataFrame) -> str:
    """The notes with their numbers."""
    return " ".join(f"[{i}] {note}" for i, note in enumerate(notes(numbers), 1))


def protocol_text(row: Mapping[str, Any]) -> str:
    """Ours as the publication measures it, and how that is, or -."""
    if math.isnan(row["protocol_percent"]):
        return "-"
    how = [row["protocol"]] * (row["protocol"] != "last")
    if row["statistic"] == "median":
        low, high = (number(row[f"protocol_{end}_percent"]) for end in ("low", "high"))
        text = f"{number(row['protocol_percent'])} ({low} to {high})"
        how = [" of the ".join(["median over runs", *how])]
    elif row["statistic"] == "mean":
        text = plus_minus(row["protocol_percent"], row["protocol_sd_percent"])
    else:
        text, how = number(row["protocol_percent"]), [row["statistic"], *how]
    return ", ".join([text, *how]) + ORACLE_MARK * bool(row["protocol_is_oracle"])


def budget_text(row: Mapping[str, Any]) -> str:
    """The budget, images seen, and how many more the publication used."""
    parts = [SMOKE if row["budget"] == "smoke" else str(row["budget"])]
    if not math.isnan(row["num_images"]):
        trainings = f" in {row['num_trainings']} trainings" * (row["num_trainings"] > 1)
        parts.append(f"{row['num_images']:,.0f} images{trainings}")
        if row["printed"]:
            theirs = filter(None, row["published_num_images"].split(" or "))
            parts.append(times_text([float(count) / row["num_images"] for count in theirs]))
    return "; ".join(parts)


def times_text(times: Sequence[float]) -> str:
    """How many times our images a publication used; several: it is one of these.

    >>> times_text([16.0]), times_text([1.0]), times_text([0.5, 1.0])
    ('published with 16 times our images', 'published with as many', 'published with 0.5 or 1 times our images')
    >>> times_text([])
    'published with an unknown number'
    """  # noqa: E501
    if not times:
        return "published with an unknown number"
    if set(times) == {1}:
        return "published with as many"
    texts = [f"{value:,.0f}" if value >= 10 else f"{value:.2g}" for value in times]
    return f"published with {' or '.join(texts)} times our images"


def minutes_text(row: Mapping[str, Any]) -> str:
    """GPU minutes and device of a run; for a CPU only the device (its times do not transfer)."""
    if math.isnan(row["minutes"]):
        return "-"
    if row["hardware"] == "CPU":
        return f"on a CPU ({row['devices']})"
    minutes = f"{row['minutes']:.1f}" if row["minutes"] < 100 else f"{row['minutes']:,.0f}"
    return f"{minutes} {row['hardware']} minutes ({row['devices']})"
