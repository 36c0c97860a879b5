"""The headline numbers of the publications beside ours: one table over all studies.

A row of published/headlines.csv is one number: the study and the settings of the runs beside which
it stands, the number or the published table that it is computed from, how it was measured and how
well it is known. Where none is published, ours stands alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from boss.errors import InputError
from boss.study.run import BUDGETS

from .. import statistics, tables
from ..load import ORACLE_MARK, chain_seconds, is_missing, load, natural
from ..page.parts import Table
from ..page.report import write_table
from ..sections.comparison import KNOWN, KNOWN_TEXT, read, records, settings_table, value_text
from ..tables import number, plural, plus_minus

HEADLINES = tables.PUBLISHED / "headlines.csv"
NUMBERS = ["percent", "sd_percent", "low_percent", "high_percent", "n"]
# A protocol and the column of runs that follows it.
PROTOCOLS = {title.removesuffix(ORACLE_MARK): name for name, title in tables.PROTOCOLS.items()}
UNKNOWN = "unknown"
STATISTICS = ("mean", "median", "highest label set")
# Settings that are no columns of `comparison.COLUMNS`.
OWN_SETTINGS = ("family", "round", "picks_per_class", "started_from")
LARGEST_FIRST = tuple(reversed(BUDGETS))

NOT_RUN = "not run yet"
SMOKE = "smoke: shows that it runs, no result"
# What the table says of ours, with the value of a headline that was not run.
OURS: dict[str, Any] = {
    "num_runs": 0,
    "num_label_sets": 0,
    "label_sets": "",
    "budget": "",
    "network": "",
    "ours_percent": math.nan,
    "ours_sd_percent": math.nan,
    "protocol_percent": math.nan,
    "protocol_sd_percent": math.nan,
    "protocol_low_percent": math.nan,
    "protocol_high_percent": math.nan,
    "protocol_is_oracle": False,
    "num_images": math.nan,
    "num_trainings": 0,
    "minutes": math.nan,
    "hardware": "",
    "devices": "",
}
CAPTION = (
    "Test accuracy in percent. Ours: the teacher after the last step, mean ± sample standard "
    "deviation over runs, of the largest budget that has finished runs; runs that profited from "
    "hidden labels are left out. As published: the same runs by the protocol and the statistic of "
    "the publication, where these are known and differ. (oracle): chosen by test accuracy, no "
    "result. Median of the last 20: of the teacher's evaluations; runs with fewer use all. "
    "Published: mean ± deviation, or median (lowest to highest); -: no number is known; "
    f"{KNOWN_TEXT}. Images: labeled images seen, repetitions counted, in all trainings that a run "
    "needs. Minutes: wall-clock time of these trainings on a GPU, evaluation included, median over "
    "runs; those on a CPU are in the CSV file. "
    "What is marked smoke shows that it runs, and means nothing."
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


# What is published


def headlines() -> pd.DataFrame:
    """The file of headlines: texts, `NUMBERS` as numbers.

    What a row names a published table for is computed from that. `printed` is the number with the
    digits that it is known with, "" if there is none.
    """
    rows = []
    by_settings: dict[str, list[dict[str, Any]]] = {}  # published tables, each read once
    for row in records(pd.read_csv(HEADLINES, dtype=str, keep_default_na=False)):
        name = row["computed_from"]
        if row["metric"]:
            row |= of_classes(tables.read_published(name), row["metric"])
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
        table: `tables.read_published`.
        metric: "All" or "mean of classes".
    """
    moments = tables.published_moments(table)
    mean, sd, n = combined(moments[moments["metric"] == metric])
    text = number(mean) if math.isnan(sd) else plus_minus(mean, sd)
    first = {name: table[name].iloc[0] for name in ("known", "source")}
    return {"percent": mean, "sd_percent": sd, "n": n, "printed": text} | first


def of_settings(
    table: Sequence[Mapping[str, Any]], wanted: Mapping[str, Sequence[str]], note: str
) -> dict[str, Any]:
    """The accuracy of the one row of a published table that fits, and what is known of it.

    Args:
        table: the rows of `comparison.read`; a cell that is empty fits any value.
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
    """What the runs of several published rows have for mean and sample deviation together.

        m = sum_i n_i m_i / N        sd^2 = sum_i ((n_i - 1) sd_i^2 + n_i (m_i - m)^2) / (N - 1)

    The same as of the runs themselves, but for the rounding of what is printed. NaN if a row has no
    deviation.

    Args:
        rows: mean, sd (of the sample) and n of each row, N runs in all.
    """
    mean, sd, n = (rows[name].to_numpy(dtype=float) for name in ("mean", "sd", "n"))
    center = float((n * mean).sum() / n.sum())
    squares = float(((n - 1) * sd**2 + n * (mean - center) ** 2).sum())
    return statistics.Summary(center, math.sqrt(squares / (n.sum() - 1)), int(n.sum()))


def settings(text: str) -> dict[str, tuple[str, ...]]:
    """The settings of runs in one text: the values of each, as `comparison.value_text` writes them.

    >>> settings("label_set=carlini:3|carlini:4; threshold=0.50")
    {'label_set': ('carlini:3', 'carlini:4'), 'threshold': ('0.5',)}
    """
    pairs = [part.split("=") for part in text.split("; ")]
    return {name: tuple(value_text(value) for value in either.split("|")) for name, either in pairs}


# What is ours


def overview(results: Path) -> tuple[pd.DataFrame, list[str]]:
    """Every headline with our runs of it.

    Returns:
        per headline its columns, published numbers with the prefix published_, and `OURS`:
        ours_percent and ours_sd_percent over runs; protocol_... the same by protocol and statistic
        of the publication (NaN where they do not differ or are not known; low and high with a
        median); num_images, num_trainings and minutes (median over runs) of a run and those that
        picked its images; hardware: "CPU", "GPU" or both. And warnings.

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


def stores(results: Path, studies: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The runs, with their chains, of every study that has any.

    What `load` warns of is in the study's own report.

    Raises:
        InputError: a study has runs, but none that can be read.
    """
    have = [name for name in studies if any((results / name / "runs").glob("*.parquet"))]
    return {name: with_chains(load(results, name).runs) for name in have}


def with_chains(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with what they and the runs that picked images for them took together.

    Returns:
        their columns and started_from (method of round 0), chain_images, chain_length,
        chain_minutes, hardware and devices (sets of texts). Where one of the chain is not there,
        started_from is "" and images and minutes are NaN.
    """
    columns = ["run_id", "parent", "method", "num_images", "peak_device_bytes", "device", "threads"]
    by_id = {row["run_id"]: row for row in records(runs[columns])}
    seconds = chain_seconds(runs)
    rows = []
    for run_id in runs["run_id"]:
        chain = [by_id[run_id]]
        while chain[-1]["parent"] in by_id:
            chain.append(by_id[chain[-1]["parent"]])
        is_whole = is_missing(chain[-1]["parent"])
        kinds = ["CPU" if is_missing(one["peak_device_bytes"]) else "GPU" for one in chain]
        names = [
            one["device"]
            if kind == "GPU"
            else f"{one['device']}, {plural(one['threads'], 'thread')}"
            for one, kind in zip(chain, kinds, strict=True)
        ]
        rows.append(
            {
                "started_from": chain[-1]["method"] if is_whole else "",
                "chain_images": sum(o["num_images"] for o in chain) if is_whole else math.nan,
                "chain_length": len(chain),
                "chain_minutes": seconds[run_id] / 60,
                "hardware": {*kinds},
                "devices": {*names},
            }
        )
    return runs.assign(**pd.DataFrame(rows, index=runs.index))


def matching(runs: pd.DataFrame, wanted: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The runs that have one of the values of each setting; none that profited from hidden labels.

    Args:
        runs: `with_chains`.
        wanted: by name: columns or options as `comparison.settings_table` finds them, or
            `OWN_SETTINGS`.
    """
    own = {name: runs[name].map(value_text) for name in wanted if name in OWN_SETTINGS}
    table = settings_table(runs, [name for name in wanted if name not in own]).assign(**own)
    same = ~(runs["is_oracle"] | runs["label_set"].str.endswith(ORACLE_MARK))
    for name, values in wanted.items():
        same &= table[name].isin(list(values))
    return runs[same]


def of_largest_budget(runs: pd.DataFrame, budgets: Sequence[str] = LARGEST_FIRST) -> pd.DataFrame:
    """The runs of the first of the budgets that has any."""
    for budget in budgets:
        if (runs["budget"] == budget).any():
            return runs[runs["budget"] == budget]
    return runs[:0]


def of_one_group(runs: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The runs of the group that has most, of equal ones the latest; and how many others there are.

    Only runs with equal settings are averaged.
    """
    if not len(runs):
        return runs, 0
    groups = runs.groupby("group", sort=False).agg(n=("run_id", "size"), at=("finished_at", "max"))
    kept = runs[runs["group"] == groups.sort_values(["n", "at"]).index[-1]]
    return kept, len(runs) - len(kept)


def our_numbers(runs: pd.DataFrame, protocol: str, statistic: str) -> dict[str, Any]:
    """The columns `OURS` of runs of one group.

    Args:
        runs: `with_chains`.
        protocol, statistic: of the publication.
    """
    mean = statistics.summary(100 * runs["last_accuracy"].to_numpy(dtype=float))
    first = runs.iloc[0]
    return OURS | {
        "num_runs": len(runs),
        "num_label_sets": runs["label_set"].nunique(),
        "label_sets": " ".join(sorted(runs["label_set"].unique(), key=natural)),
        "budget": first["budget"],
        "network": first["network"],
        "ours_percent": mean.mean,
        "ours_sd_percent": mean.sd,
        "num_images": runs["chain_images"].max(),  # the same of all that are known
        "num_trainings": int(runs["chain_length"].max()),
        "minutes": runs["chain_minutes"].median(),
        "hardware": " and ".join(sorted(set().union(*runs["hardware"]))),
        "devices": "; ".join(sorted(set().union(*runs["devices"]))),
        **by_protocol(runs, protocol, statistic),
    }


def by_protocol(runs: pd.DataFrame, protocol: str, statistic: str) -> dict[str, Any]:
    """The protocol_ columns of `OURS`; none where nothing differs from the mean of the last."""
    if protocol in ("", UNKNOWN) or (protocol, statistic) == ("last", "mean"):
        return {}
    percent = 100 * runs[PROTOCOLS[protocol]]
    is_oracle = PROTOCOLS[protocol] == "best_test_accuracy"
    if statistic == "median":
        low, high = percent.min(), percent.max()
        found = {"percent": percent.median(), "low_percent": low, "high_percent": high}
    elif statistic == "highest label set":
        found = {"percent": percent.groupby(runs["label_set"]).mean().max()}
        is_oracle |= runs["label_set"].nunique() > 1
    else:
        found = {"percent": percent.mean(), "sd_percent": percent.std(ddof=1)}
    return {f"protocol_{name}": value for name, value in found.items()} | {
        "protocol_is_oracle": is_oracle
    }


# For people


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
    """What a run took, and on which GPU; of a CPU only which, since its time is of no use
    elsewhere."""
    if math.isnan(row["minutes"]):
        return "-"
    if row["hardware"] == "CPU":
        return f"on a CPU ({row['devices']})"
    minutes = f"{row['minutes']:.1f}" if row["minutes"] < 100 else f"{row['minutes']:,.0f}"
    return f"{minutes} {row['hardware']} minutes ({row['devices']})"
