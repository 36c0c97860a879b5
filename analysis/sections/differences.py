"""Differences between variants in tables: their columns, Holm's adjustment, verdicts."""

from collections.abc import Sequence

import pandas as pd

from .. import statistics

BETTER, WORSE, UNDECIDED = "better", "worse", "undecided"
HOLM = (
    "p: of no difference, by the same t, adjusted by Holm's method for all differences of this "
    f"table over at least {statistics.MIN_SETS} label sets."
)


def difference_to(
    group: pd.DataFrame, against: pd.DataFrame, baseline: str, value: str = "percent"
) -> dict[str, float | str]:
    """The columns that compare a group of runs with the baseline, empty for itself.

    Returns:
        baseline; of `statistics.compare`: difference_points with difference_low, difference_high,
        difference_p, difference_interval_over and num_difference_sets, num_pairs, num_wins,
        num_ties; improvement_probability: `statistics.improvement_probability`.

    Args:
        baseline: the name of the variant of `against`, "" if `group` is it.
    """
    against = against if baseline else against[:0]
    comparison = statistics.compare(group, against, value)
    return {
        "baseline": baseline,
        **difference_columns(comparison.difference),
        "num_pairs": comparison.num_pairs,
        "num_wins": comparison.num_wins,
        "num_ties": comparison.num_ties,
        "improvement_probability": statistics.improvement_probability(group, against, value),
    }


def difference_columns(mean: statistics.ClusterMean) -> dict[str, float | str]:
    """A mean difference in the columns that `with_verdicts` reads."""
    return {
        "difference_points": mean.mean,
        "difference_low": mean.interval.low,
        "difference_high": mean.interval.high,
        "difference_interval_over": mean.interval_over,
        "difference_p": mean.p_value,
        "num_difference_sets": mean.num_label_sets,
    }


def with_verdicts(table: pd.DataFrame, words: tuple[str, str] = (BETTER, WORSE)) -> pd.DataFrame:
    """The rows with difference_p_holm and verdict; all of them are one family of tests.

    difference_p_holm: of the differences over `statistics.MIN_SETS` label sets or more. verdict:
    better or worse where it is at most 0.05, else undecided; "" where nothing is compared.

    Args:
        table: with the columns of `difference_columns`.
        words: for differences above and below 0.
    """
    is_tested = table["difference_interval_over"] == "label sets"
    is_tested &= table["num_difference_sets"] >= statistics.MIN_SETS
    p_values = table["difference_p"].where(is_tested)
    adjusted = statistics.holm(p_values.to_numpy(dtype=float))
    verdicts = [
        verdict(value, p, words)
        for value, p in zip(table["difference_points"], adjusted, strict=True)
    ]
    return table.assign(difference_p_holm=adjusted, verdict=verdicts)


def verdict(value: float, p_value: float, words: Sequence[str] = (BETTER, WORSE)) -> str:
    """What a difference and its adjusted p value say.

    >>> nan = float("nan")
    >>> verdict(2, 0.01), verdict(-2, 0.05), verdict(2, 0.06), verdict(2, nan), verdict(nan, nan)
    ('better', 'worse', 'undecided', 'undecided', '')
    """
    if value != value:
        return ""
    if not p_value <= 1 - statistics.LEVEL:
        return UNDECIDED
    return words[0] if value > 0 else words[1]
