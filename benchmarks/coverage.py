"""How often the intervals of `analysis.statistics` hold the true value: docs/statistics.md.

    python -m benchmarks.coverage --write      # some minutes on one core

Simulated studies, whose truth is known: k label sets, n repeats of each, K classes. The package's
own functions are given what they are given in reports. Beside them stand the methods that they
replace.
"""

import argparse
import functools
import itertools
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from analysis import statistics
from analysis.claims.intervals import share_interval as interval_of_shares
from analysis.statistics import LEVEL, NO_INTERVAL, Floats, Interval

ROOT = Path(__file__).resolve().parent.parent
TABLE, PAGE = ROOT / "docs/statistics/coverage.csv", ROOT / "docs/statistics.md"
BEGIN, END = "<!-- table: coverage -->", "<!-- end of table -->"

NUM_CLASSES, NUM_REPEATS = 10, 4
LABEL_SETS = (2, 3, 4, 6, 8, 12)
NUM_STUDIES = 1000
NUM_TRUTH = 100_000  # label sets that stand for all
NUM_RESAMPLES = 400  # of the percentile bootstrap
BETTER_BY = 15.0  # points, of the algorithm whose probability of improvement is asked

Rng = np.random.Generator


# Worlds: accuracies in percent of S label sets, n repeats, K classes


def bell(rng: Rng, num_sets: int, noise: Floats | float = 1.0) -> Floats:
    """Normal effects of label set (sd 6) and repeat (4), and of both for each class (8 and 8)."""
    shape = (num_sets, NUM_REPEATS, NUM_CLASSES)
    of_set = rng.normal(0, 6, (num_sets, 1, 1)) + rng.normal(0, 8, (num_sets, 1, NUM_CLASSES))
    of_run = rng.normal(0, 4, (*shape[:2], 1)) + rng.normal(0, 8, shape)
    return 60 + of_set + noise * of_run


def two_humped(rng: Rng, num_sets: int) -> Floats:
    """A class works (88 +- 4) or collapses (6 +- 3), by a chance that its label set decides."""
    shape = (num_sets, NUM_REPEATS, NUM_CLASSES)
    works = rng.random(shape) < rng.beta(1.2, 0.5, (num_sets, 1, NUM_CLASSES))
    return np.where(works, rng.normal(88, 4, shape), rng.normal(6, 3, shape))


def rare_failure(rng: Rng, num_sets: int) -> Floats:
    """As `bell`, but one label set in seven is 30 points worse."""
    fails = rng.random((num_sets, 1, 1)) < 1 / 7
    return bell(rng, num_sets) - 30 * fails


def unequal(rng: Rng, num_sets: int) -> Floats:
    """As `bell`, but the repeats of one label set in four vary three times as much."""
    return bell(rng, num_sets, np.where(rng.random((num_sets, 1, 1)) < 1 / 4, 3.0, 1.0))


WORLDS: dict[str, Callable[[Rng, int], Floats]] = {
    "bell-shaped": bell,
    "two-humped": two_humped,
    "rare failure": rare_failure,
    "unequal variances": unequal,
}


# What is asked


@functools.cache
def truth(name: str) -> dict[str, float]:
    """The true values of a world, from very many label sets."""
    draws = WORLDS[name](np.random.default_rng(0), NUM_TRUTH)
    runs = draws.mean(axis=2)
    within = float(runs.var(axis=1, ddof=1).mean())
    between = float(runs.mean(axis=1).var(ddof=1)) - within / NUM_REPEATS
    classes = float(draws.var(axis=1, ddof=1).mean())
    return {
        "mean": float(runs.mean()),
        "difference": float(runs.mean()) - 60,
        "welch": float(runs.mean()) - 60,
        "share": between / (between + within),
        "sd": math.sqrt(within),
        "ratio": math.sqrt(classes / within),
        "runs": float(is_split(draws).mean()),
        "iqm": float(stats.trim_mean(runs, 0.25, axis=None)),
        "improvement": improvement(runs + BETTER_BY, runs[::-1]),
    }


def is_split(draws: Floats) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    """Whether a run has a class below 20% and another above 85%."""
    split: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = (draws.min(axis=-1) < 20) & (
        draws.max(axis=-1) > 85
    )
    return split


def improvement(runs: Floats, others: Floats) -> float:
    """The true probability that a run is better than one of another algorithm on its label set."""
    return float((runs[:, :, None] > others[:, None]).mean())


NAMES = {
    "mean": "mean over label sets",
    "difference": "paired difference",
    "welch": "difference of unpaired label sets",
    "share": "share of variance between label sets",
    "sd": "sd between repeats",
    "ratio": "class-wise over total sd",
    "runs": "share of runs",
    "iqm": "interquartile mean",
    "improvement": "probability of improvement",
}


def study(
    name: str, num_sets: int, is_missing: bool, rng: Rng
) -> Iterator[tuple[str, str, Interval]]:
    """The intervals of one simulated study: what of, method, interval."""
    draws = WORLDS[name](rng, num_sets)
    there = np.ones(draws.shape[:2], dtype=bool)
    if is_missing:
        there = rng.random(draws.shape[:2]) > 1 / 3
        there[:, 0] |= ~there.any(axis=1)  # a label set without any run is not in the study
    groups = [rows[kept] for rows, kept in zip(draws, there, strict=True)]
    runs = [rows.mean(axis=1) for rows in groups]
    counts = np.array([len(rows) for rows in groups], dtype=float)
    means = np.array([values.mean() for values in runs])
    squares = np.array([((values - values.mean()) ** 2).sum() for values in runs])
    yield "mean", "Student's t", statistics.t_interval(means)
    yield "mean", "percentile bootstrap", percentile(means, rng)

    shared = rng.normal(0, 6, num_sets)  # of both algorithms
    paired = [
        (values + effect) - (effect + rng.normal(60, 4, len(values)))
        for values, effect in zip(runs, shared, strict=True)
    ]
    differences = np.array([values.mean() for values in paired])
    yield "difference", "Student's t", statistics.t_interval(differences)
    others = rng.normal(60, 7, num_sets)
    yield "welch", "Welch's t", statistics.welch(means, others).interval

    yield "share", "jackknife", statistics.share_interval(means, counts, squares)
    yield "share", "F (Wald)", wald(means, counts, squares)
    df = counts - 1
    yield "sd", "jackknife", statistics.sd_interval(squares, df)
    yield "sd", "chi-squared", chi_squared(squares, df)
    repeated = [rows for rows in groups if len(rows) > 1]
    over = np.array([rows.var(axis=0, ddof=1).mean() for rows in repeated])
    under = np.array([rows.mean(axis=1).var(ddof=1) for rows in repeated])
    _, ends = statistics.ratio_interval(over, under)
    yield "ratio", "jackknife", Interval(math.sqrt(ends.low), math.sqrt(ends.high))
    shares = np.array([is_split(rows).mean() for rows in groups])
    yield "runs", "Clopper-Pearson over label sets", interval_of_shares(shares)

    frame = labeled(runs)
    yield "iqm", "jackknife", statistics.interquartile_mean(frame, "x")[1]
    [apart] = rng.spawn(1)
    others = labeled([*WORLDS[name](apart, num_sets).mean(axis=2)])
    better = frame.assign(x=frame["x"] + BETTER_BY)
    by_set = [
        statistics.improvement_probability(rows, others, "x")
        for _, rows in better.groupby("label_set")
    ]
    yield "improvement", "Student's t over label sets", statistics.t_interval(np.array(by_set))


def labeled(runs: list[Floats]) -> pd.DataFrame:
    """The runs of each label set, x, in one table."""
    names = np.repeat(range(len(runs)), [len(values) for values in runs])
    return pd.DataFrame({"label_set": names, "x": np.concatenate(runs)})


# The methods that are replaced

REPLACED = ("percentile bootstrap", "F (Wald)", "chi-squared", "Student's t over label sets")


def percentile(means: Floats, rng: Rng) -> Interval:
    """Label sets are drawn anew, with replacement."""
    drawn = rng.choice(means, (NUM_RESAMPLES, len(means))).mean(axis=1)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def wald(means: Floats, counts: Floats, squares: Floats) -> Interval:
    """From the F distribution, with n_0 in place of unequal numbers of repeats."""
    k, total = len(means), counts.sum()
    within = squares.sum() / (total - k) if total > k else 0.0
    if k < 2 or not within:
        return NO_INTERVAL
    grand = (counts * means).sum() / total
    ratio = (counts * (means - grand) ** 2).sum() / (k - 1) / within
    n0 = (total - (counts**2).sum() / total) / (k - 1)
    quantiles = stats.f.ppf([(1 + LEVEL) / 2, (1 - LEVEL) / 2], k - 1, total - k)
    thetas = [max(0.0, ratio / quantile - 1) / n0 for quantile in quantiles]
    return Interval(*(theta / (1 + theta) for theta in thetas))


def chi_squared(squares: Floats, df: Floats) -> Interval:
    """Of one variance of all label sets."""
    total = df.sum()
    if total < 1:
        return NO_INTERVAL
    quantiles = stats.chi2.ppf([(1 + LEVEL) / 2, (1 - LEVEL) / 2], total)
    return Interval(*(math.sqrt(squares.sum() / quantile) for quantile in quantiles))


# The table


def simulate(num_studies: int, label_sets: tuple[int, ...]) -> pd.DataFrame:
    """Coverage of every interval in every world.

    Returns:
        interval, method, world, num_label_sets, missing (a third of the runs), num_studies; of
        those in which it is defined: coverage in [0, 1] and median_width; defined in [0, 1].
    """
    rows = []
    for world, is_missing, k in itertools.product(WORLDS, (False, True), label_sets):
        known = truth(world)
        rng = np.random.default_rng(zlib.crc32(f"{world} {is_missing} {k}".encode()))
        found: dict[tuple[str, str], list[Interval]] = {}
        for _ in range(num_studies):
            for name, method, interval in study(world, k, is_missing, rng):
                found.setdefault((name, method), []).append(interval)
        for (name, method), intervals in found.items():
            ends = np.array([i for i in intervals if not math.isnan(i.low)]).reshape(-1, 2)
            hits = (ends[:, 0] <= known[name]) & (known[name] <= ends[:, 1])
            row: dict[str, object] = {"interval": NAMES[name], "method": method, "world": world}
            row |= {"num_label_sets": k, "missing": is_missing, "num_studies": num_studies}
            row |= {"coverage": hits.mean() if len(ends) else math.nan}
            row |= {"median_width": np.median(ends[:, 1] - ends[:, 0]) if len(ends) else math.nan}
            rows.append(row | {"defined": len(ends) / num_studies})
    return pd.DataFrame(rows)


MIN_DEFINED = 0.5  # of the studies; below it a coverage says little


def page_table(numbers: pd.DataFrame) -> str:
    """Coverage in percent: with all runs / with a third missing.

    Of the methods that are replaced, only with 6 label sets.
    """
    is_shown = ~numbers["method"].isin(REPLACED) | (numbers["num_label_sets"] == 6)
    numbers = numbers[is_shown]
    numbers = numbers.assign(
        text=[
            f"{100 * coverage:.1f}" if defined >= MIN_DEFINED else "-"
            for coverage, defined in zip(numbers["coverage"], numbers["defined"], strict=True)
        ]
    )
    keys = ["interval", "method", "num_label_sets"]
    rows = []
    for (name, method, k), block in numbers.groupby(keys, sort=False):
        cells = []
        for world in WORLDS:
            texts = block[block["world"] == world].sort_values("missing")["text"]
            cells.append(" / ".join(texts))
        rows.append([name, method, k, *cells])
    rows.sort(key=lambda row: (list(NAMES.values()).index(row[0]), row[1] in REPLACED))
    table = pd.DataFrame(rows, columns=["interval of", "method", "label sets", *WORLDS])
    return str(table.to_markdown(index=False, disable_numparse=True))


def with_table(page: str, table: str) -> str:
    """The page with the table between its marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END, 1)[1]}"


def main() -> None:
    """Simulate, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--studies", type=int, default=NUM_STUDIES)
    parser.add_argument("--write", action="store_true", help="the table of docs/statistics.md")
    arguments = parser.parse_args()
    numbers = simulate(arguments.studies, LABEL_SETS).round(4)
    print(page_table(numbers))
    if arguments.write:
        TABLE.parent.mkdir(exist_ok=True)
        numbers.to_csv(TABLE, index=False)
        PAGE.write_text(with_table(PAGE.read_text("utf-8"), page_table(numbers)), "utf-8")


if __name__ == "__main__":
    main()
