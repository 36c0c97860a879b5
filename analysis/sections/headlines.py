"""The headline numbers of the publications: published/headlines.csv.

A row is one number: the study and the settings of our runs of it, the number or the published table
that it is computed from, how it was measured and how well it is known.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from .. import statistics, tables
from ..naming import ORACLE_MARK
from ..tables import plus_minus
from .comparison_settings import KNOWN, read, records, value_text
from .published import PUBLISHED, published_moments, read_published

HEADLINES = PUBLISHED / "headlines.csv"
NUMBERS = ["percent", "sd_percent", "low_percent", "high_percent", "n"]
# A protocol and the column of runs that follows it.
PROTOCOLS = {title.removesuffix(ORACLE_MARK): name for name, title in tables.PROTOCOLS.items()}
UNKNOWN = "unknown"
STATISTICS = ("mean", "median", "highest label set")


# What is published


def headlines() -> pd.DataFrame:
    """The file of headlines: strings, with `NUMBERS` as numbers.

    A number with a column computed_from is computed from that published table. `printed` is the
    number with its known digits, "" if there is none.
    """
    rows = []
    by_settings: dict[str, list[dict[str, Any]]] = {}  # published tables, each read once
    for row in records(pd.read_csv(HEADLINES, dtype=str, keep_default_na=False)):
        name = row["computed_from"]
        if row["metric"]:
            row |= of_classes(read_published(name), row["metric"])
        elif name:
            by_settings.setdefault(name, records(read(name)))
            row |= of_settings(by_settings[name], settings(row["runs"]), row["note"])
        else:
            row["printed"] = printed(row)
        assert row["protocol"] in (*PROTOCOLS, UNKNOWN, "") and row["known"] in (*KNOWN, ""), row
        assert row["statistic"] in (*STATISTICS, ""), row
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.assign(**{name: pd.to_numeric(table[name]) for name in NUMBERS})


def printed(row: Mapping[str, str]) -> str:
    """A number as the file has it.

    >>> none = {"percent": "", "sd_percent": "", "low_percent": "", "high_percent": ""}
    >>> printed(none | {"percent": "78", "high_percent": "84"})
    '78 (up to 84)'
    """
    text = row["percent"]
    text += f" ± {row['sd_percent']}" * bool(row["sd_percent"])
    if row["high_percent"]:
        text += f" ({row['low_percent'] or 'up'} to {row['high_percent']})"
    return text


def of_classes(table: pd.DataFrame, metric: str) -> dict[str, Any]:
    """A number over all rows of a published table by label set and class, and what is known of it.

    Args:
        table: `read_published`.
        metric: "All" or "mean of classes".
    """
    moments = published_moments(table)
    mean, sd, n = combined(moments[moments["metric"] == metric])
    first = {name: table[name].iloc[0] for name in ("known", "source")}
    return {"percent": mean, "sd_percent": sd, "n": n, "printed": plus_minus(mean, sd)} | first


def of_settings(
    table: Sequence[Mapping[str, Any]], wanted: Mapping[str, Sequence[str]], note: str
) -> dict[str, Any]:
    """The accuracy of the one row of a published table that fits, and what is known of it.

    Args:
        table: the rows of `comparison_settings.read`; a cell that is empty fits any value.
        wanted: `settings`; those that the table does not have are left to it.
        note: goes before that of the row.
    """
    [row] = [
        row
        for row in table
        if row["quantity"] == "error"
        and all(row.get(name, "") in ("", *values) for name, values in wanted.items())
    ]
    error, _, sd_text = row["printed"].partition(" ± ")
    accuracy = f"{100 - float(error):.{len(error.partition('.')[2])}f}"
    return {
        "percent": float(accuracy),
        **{name: row[name] for name in ("sd_percent", "n", "known", "source")},
        "note": " ".join(filter(None, (note, row["note"]))),
        "printed": f"{accuracy} ± {sd_text}" if sd_text else accuracy,
    }


def combined(rows: pd.DataFrame) -> statistics.Summary:
    """Mean and sample standard deviation over the runs of several published rows.

        m = sum_i n_i m_i / N        sd^2 = sum_i ((n_i - 1) sd_i^2 + n_i (m_i - m)^2) / (N - 1)

    Equal to those of the runs themselves, apart from rounding in print. NaN if a row has no
    deviation.

    Args:
        rows: mean, sd (of the sample) and n of each row, N runs in all.
    """
    mean, sd, n = (rows[name].to_numpy(dtype=float) for name in ("mean", "sd", "n"))
    center = float((n * mean).sum() / n.sum())
    squares = float(((n - 1) * sd**2 + n * (mean - center) ** 2).sum())
    return statistics.Summary(center, math.sqrt(squares / (n.sum() - 1)), int(n.sum()))


def settings(text: str) -> dict[str, tuple[str, ...]]:
    """Parse the settings of runs; values as `comparison_settings.value_text` writes them.

    >>> settings("label_set=carlini:3|carlini:4; threshold=0.50")
    {'label_set': ('carlini:3', 'carlini:4'), 'threshold': ('0.5',)}
    """
    pairs = [part.split("=") for part in text.split("; ")]
    return {name: tuple(value_text(value) for value in either.split("|")) for name, either in pairs}
