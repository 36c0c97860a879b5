"""Our runs of a headline number: which they are, their accuracy, images and minutes."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from boss.study.run import BUDGETS

from .. import statistics
from ..load import chain_seconds, load
from ..naming import ORACLE_MARK, is_missing, natural
from ..tables import plural
from .comparison_settings import records, settings_table, value_text
from .headlines import PROTOCOLS, UNKNOWN

# Settings that are no columns of `comparison.COLUMNS`.
OWN_SETTINGS = ("family", "round", "picks_per_class", "started_from")
LARGEST_FIRST = tuple(reversed(BUDGETS))
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


def stores(results: Path, studies: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The runs, with their chains, of every study that has any.

    What `load` warns of is in the study's own report.

    Raises:
        InputError: a study has runs, but none that can be read.
    """
    have = [name for name in studies if any((results / name / "runs").glob("*.parquet"))]
    return {name: with_chains(load(results, name).runs) for name in have}


def with_chains(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with the cost of their whole chain of self-training.

    Returns:
        their columns and started_from (method of round 0), chain_images, chain_length,
        chain_minutes, hardware and devices (sets of strings). Where a run of the chain is missing,
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
    """The runs that have one of the values of each setting; none that used hidden labels.

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
    """The runs of the largest group (of equal ones the latest), and the number of other runs.

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
