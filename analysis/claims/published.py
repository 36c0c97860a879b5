"""The same statistics from the publications' own numbers."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from .. import statistics
from ..load import AGGREGATES, ALL, CLASS_MEAN
from ..sections.published import PUBLISHED, published_moments, read_published
from ..statistics import NO_INTERVAL, Interval, ratio_interval
from ..tables import interval
from .catalog import (
    BEST,
    CLASS_WISE,
    FULL,
    LABEL_SETS,
    PROTOTYPICALITY,
    REPEATS,
    SPLIT,
    UNEVEN,
    ratio,
)
from .findings import (
    class_variance,
    counts_of,
    label_set_share,
    repeat_spread,
    split_runs,
    unevenness,
)

TOP_BUCKET, MOST_PROTOTYPICAL = "carlini:7", "most prototypical bucket"

TABLE_1 = "empirical_perspectives_table1.csv"
TABLE_2 = "empirical_perspectives_table2.csv"
SINGLE = "claims.csv"  # numbers that stand in no table
DATA_NAMES = {"cifar10": "CIFAR-10", "svhn": "SVHN"}


class Published(NamedTuple):
    """The same statistic of a publication's own numbers."""

    value: float = math.nan
    interval: Interval = NO_INTERVAL
    origin: str = "no known number"


# What the publications' own numbers give


def printed_classes(name: str) -> pd.DataFrame:
    """Published runs in the form of `load.metrics`."""
    table = read_published(name)
    names = {"experiment": name, "variant": "fixmatch", "method": "fixmatch"}
    return table.assign(**names, run_id=table["run"], repeat=table["run"]).rename(
        columns={"mean_percent": "percent"}
    )


def printed_runs(table: pd.DataFrame, num_test: int) -> pd.DataFrame:
    """Runs with the printed means and deviations, which suffice for variance components.

    Args:
        table: label_set, mean, sd and n per row.
    """
    parts = []
    for label_set, mean, sd, n in zip(
        *(table[name] for name in ("label_set", "mean", "sd", "n")), strict=True
    ):
        steps = np.arange(n) - (n - 1) / 2
        percent = mean + sd * steps / np.std(steps, ddof=1)
        parts.append(
            pd.DataFrame({"label_set": label_set, "repeat": np.arange(n), "percent": percent})
        )
    runs = pd.concat(parts, ignore_index=True)
    run_id = runs["label_set"] + " " + runs["repeat"].astype(str)
    return runs.assign(run_id=run_id, num_test=num_test)


def single_numbers() -> "pd.Series[float]":
    """Published numbers outside the tables, by (name, data set)."""
    table = pd.read_csv(PUBLISHED / SINGLE)
    values: pd.Series[float] = table.set_index(["name", "dataset"])["value"]
    return values


def published_gaps(table1: pd.DataFrame) -> pd.DataFrame:
    """All minus the mean of the classes by row, as label_set and gap.

    Args:
        table1: `published_moments`.
    """
    means = table1.pivot(index="label_set", columns="metric", values="mean")
    return (means[ALL] - means[CLASS_MEAN]).rename("gap").reset_index()


def published_spread(table1: pd.DataFrame) -> str:
    """The closest Table 1 has to claim 2: its All is probably not the mean of its classes.

    Args:
        table1: `published_moments`.
    """
    squares = table1.assign(square=table1["sd"] ** 2)
    of_all = squares[squares["metric"] == ALL].set_index("label_set")["square"]
    of_class = squares[squares["order"] >= len(AGGREGATES)].groupby("label_set")["square"].mean()
    over, under = (values.reindex(of_all.index).to_numpy(float) for values in (of_class, of_all))
    value, ends = ratio_interval(over, under)
    ends_text = interval(math.sqrt(ends.low), math.sqrt(ends.high), ratio)
    text = f"{ratio(math.sqrt(value))} {ends_text}"
    return f"{text} from the deviations of Table 1, if its All were the mean of the classes"


def published(dataset: str) -> dict[str, Published]:
    """By name of the claim. Intervals only where they are over label sets, as ours.

    Args:
        dataset: its numbers, where the publication has several; otherwise those of CIFAR-10.
    """
    single = single_numbers()
    table1 = published_moments(read_published(TABLE_1))
    runs = printed_runs(table1[table1["metric"] == ALL], int(single["test_images", "cifar10"]))
    classes = printed_classes(TABLE_2)
    of_table1 = f"Table 1: {counts_of(runs)}"
    of_table2 = f"Table 2: {counts_of(classes)}"
    repeats, share = repeat_spread(runs), label_set_share(runs)
    gaps = statistics.cluster_mean(published_gaps(table1), "gap")
    spread = f"{of_table2}; {published_spread(table1)}"
    numbers = [0, 3, 7]
    buckets = [float(single[f"bucket_percent_{n}", "cifar10"]) for n in numbers]
    trend = statistics.rank_correlation(np.array(numbers, dtype=float), np.array(buckets))
    medians = ", ".join(f"{value:g}" for value in buckets)
    where = dataset if ("self_training_percent", dataset) in single.index else "cifar10"
    reached = float(single["self_training_percent", where])
    full = float(single["fully_supervised_percent", where])
    headline = f"{DATA_NAMES[where]}: {reached:g}%, fully supervised {full:g}%"
    return {
        UNEVEN.name: Published(unevenness(classes).value, origin=of_table2),
        SPLIT.name: Published(split_runs(classes).value, origin=of_table2),
        CLASS_WISE.name: Published(class_variance(classes).value, origin=spread),
        REPEATS.name: Published(repeats.value, repeats.interval, f"{of_table1}; {repeats.remark}"),
        LABEL_SETS.name: Published(share.value, share.interval, of_table1),
        PROTOTYPICALITY.name: Published(trend, origin=f"3 buckets: {medians}%, medians"),
        FULL.name: Published(reached - full, origin=headline),
        BEST.name: Published(gaps.mean, gaps.interval, of_table1),
    }


def published_iconic(family: str) -> Published:
    """Claim 6a: only medians of the most prototypical bucket and of random label sets are known."""
    if family != MOST_PROTOTYPICAL:
        return Published()
    single = single_numbers()
    top, random = (
        float(single[name, "cifar10"]) for name in ("bucket_percent_7", "random_percent")
    )
    return Published(top - random, origin=f"{top:g}% and {random:g}%, medians")
