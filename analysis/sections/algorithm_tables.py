"""Every algorithm over all label sets, and which differ from the one they are compared with."""

import pandas as pd

from .. import statistics
from ..naming import GROUP
from ..tables import (
    baseline_of,
    column,
    interval,
    number,
    p_value,
    signed,
    signed_interval,
    wins,
    without_constant,
)
from .differences import BETTER, UNDECIDED, WORSE, difference_to, with_verdicts


def algorithms_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Per group: mean of last accuracies over label sets, intervals, difference to the baseline.

    Returns:
        mean_percent: mean over label sets of their means; sd_percent: over all runs; low, high:
        Student's 95% interval over label sets; iqm_percent, iqm_low, iqm_high:
        `statistics.interquartile_mean`; the columns of `difference_to` the baseline of the
        experiment, over runs with the same label set and repeat, and of `with_verdicts`.
    """
    runs = runs.assign(percent=100 * runs["last_accuracy"])
    rows = []
    for experiment, block in runs.groupby("experiment", sort=False):
        baseline = baseline_of(block)
        against = block[block["variant"] == baseline]
        for variant, group in block.groupby("variant", sort=False):
            mean = statistics.cluster_mean(group, "percent")
            row = {"experiment": experiment, "variant": variant, "num_runs": mean.num_runs}
            row |= {"num_label_sets": mean.num_label_sets, "mean_percent": mean.mean}
            row |= {"sd_percent": group["percent"].std(ddof=1)}
            row |= {"low": mean.interval.low, "high": mean.interval.high}
            row |= {"interval_over": mean.interval_over}
            iqm, ends = statistics.interquartile_mean(group, "percent")
            row |= {"iqm_percent": iqm, "iqm_low": ends.low, "iqm_high": ends.high}
            rows.append(
                row | difference_to(group, against, "" if variant == baseline else baseline)
            )
    return with_verdicts(pd.DataFrame(rows))


def algorithms_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group."""
    text = numbers[[*GROUP]].copy()
    text["runs"] = numbers["num_runs"]
    text["label sets"] = numbers["num_label_sets"]
    text["mean"] = column(numbers, number, "mean_percent")
    text["sd of runs"] = column(numbers, number, "sd_percent")
    text["95% interval"] = column(numbers, interval, "low", "high")
    text["IQM"] = column(numbers, number, "iqm_percent")
    text["compared with"] = numbers["baseline"].replace("", "-")
    text["difference"] = column(numbers, signed, "difference_points")
    text["95% interval of the difference"] = column(
        numbers, signed_interval, "difference_low", "difference_high"
    )
    text["p (Holm)"] = column(numbers, p_value, "difference_p_holm")
    text["wins / pairs"] = column(numbers, wins, "num_wins", "num_pairs")
    text["P(better)"] = column(numbers, lambda p: number(p, 2), "improvement_probability")
    return without_constant(text, ("experiment",))


def verdicts_table(numbers: pd.DataFrame) -> pd.DataFrame:
    """Which variants beat the one that they are compared with.

    Args:
        numbers: `algorithms`.

    Returns:
        per experiment with several variants and `statistics.MIN_SETS` label sets or more to
        compare: baseline; better, worse and undecided: the variants whose difference is above 0 or
        below it by Holm's adjusted p value, or neither; separated by "; ".
    """
    rows = []
    for experiment, block in numbers.groupby("experiment", sort=False):
        compared = block[block["num_pairs"] > 0]
        if len(compared) < 2 or not compared["difference_p_holm"].notna().any():
            continue
        row = {"experiment": experiment, "baseline": compared["baseline"].iloc[0]}
        for name in (BETTER, WORSE, UNDECIDED):
            row[name] = "; ".join(compared.loc[compared["verdict"] == name, "variant"])
        rows.append(row)
    return pd.DataFrame(rows)


def verdicts_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per experiment."""
    text = numbers.rename(columns={"baseline": "compared with"}).replace("", "-")
    return without_constant(text, ("experiment",))
