"""The tables: DataFrame -> DataFrame.

Each comes twice: `NAME(...)` holds numbers in full precision, one statistic per column (the CSV),
`NAME_text(...)` the same for human eyes ("63.1 ± 5.0": mean and SAMPLE standard deviation over
repeats, in percent). Accuracies are in percent, differences in percentage points.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from boss.errors import choose

from . import statistics
from .load import AGGREGATES, ALL, CLASS_MEAN, GROUP, HYPERPARAMETERS, ORACLE, ORACLE_MARK, PICKING

PUBLISHED = Path(__file__).parent / "published"
MAX_CLASSES_ACROSS = 12  # more do not fit on a page: the lowest and highest are shown
MAX_CLASSES_DOWN = 20

NUM_RESAMPLES = 10_000  # of the bootstrap
BOOTSTRAP_SEED = 0
BASELINES = (
    "supervised",
    "fixmatch",
)  # the first one that was run is what others are compared with

METRIC = ["metric", "order"]
PROTOCOLS = {
    "last_accuracy": "last",
    "median_last_20_accuracy": "median of the last 20",
    "best_test_accuracy": "best on test (oracle)",
}


# How numbers are written


def number(value: float, digits: int = 1) -> str:
    """A number with fixed digits, or - if undefined; never minus zero."""
    if math.isnan(value):
        return "-"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def plus_minus(mean: float, sd: float, digits: int = 1) -> str:
    """Mean ± standard deviation; a single value has none: 63.1 ± -."""
    return "-" if math.isnan(mean) else f"{number(mean, digits)} ± {number(sd, digits)}"


def signed(value: float, digits: int = 1) -> str:
    """A difference with its sign."""
    text = number(value, digits)
    return f"+{text}" if value > 0 and float(text) > 0 else text


def interval(low: float, high: float, write: Callable[[float], str] = number) -> str:
    """An interval in brackets."""
    return "-" if math.isnan(low) else f"[{write(low)}, {write(high)}]"


def signed_interval(low: float, high: float, digits: int = 1) -> str:
    """An interval of a difference, with its signs."""
    return interval(low, high, lambda value: signed(value, digits))


def wins(num_wins: int, num_pairs: int) -> str:
    """How many of the pairs were won."""
    return f"{num_wins} / {num_pairs}" if num_pairs else "-"


def column(table: pd.DataFrame, write: Callable[..., str], *names: str) -> list[str]:
    """One text per row, written from the named columns."""
    return [write(*row) for row in zip(*(table[name] for name in names), strict=True)]


def plural(count: int, name: str) -> str:
    """A count and its noun."""
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def counts_text(table: pd.DataFrame) -> str:
    """How many runs, label sets and repeats a table is of: "24 runs, 6 label sets, n = 4 repeats".

    Args:
        table: any rows of the runs, with variant, label_set, repeat and run_id.
    """
    runs = table[["variant", "label_set", "repeat", "run_id"]].drop_duplicates()
    by_set = runs.groupby(["variant", "label_set"], sort=False, observed=True)
    counts = by_set["repeat"].nunique()
    low, high = int(counts.min()), int(counts.max())
    n = plural(high, "repeat") if low == high else f"{low} to {high} repeats"
    sets = runs["label_set"].nunique()
    each = " of each" if len(counts) > 1 else ""
    return f"{plural(len(runs), 'run')}, {plural(sets, 'label set')}, n = {n}{each}"


def without_constant(text: pd.DataFrame, names: tuple[str, ...] = (*GROUP,)) -> pd.DataFrame:
    """Drop those of the naming columns that say the same in every row, but no mark of an oracle."""
    same = [c for c in names if c in text and text[c].nunique(dropna=False) <= 1]
    same = [c for c in same if not text[c].str.contains(ORACLE_MARK, regex=False).any()]
    return text.drop(columns=same)


def across(table: pd.DataFrame, rows: list[str], cell: str) -> pd.DataFrame:
    """Metrics side by side: one row per `rows`, one column per metric, both in their order."""
    keys = pd.MultiIndex.from_frame(table[rows].drop_duplicates())
    metrics = table[METRIC].drop_duplicates().sort_values("order", kind="stable")["metric"].unique()
    wide = table.pivot_table(
        index=rows, columns="metric", values=cell, aggfunc="first", dropna=False, observed=True
    )
    wide = wide.reindex(index=keys, columns=list(metrics)).fillna("-")
    wide.columns.name = None
    return wide.reset_index()


def extreme_classes(table: pd.DataFrame, value: str, most: int) -> pd.DataFrame:
    """The rows of all metrics if there are at most `most` classes, else of the lowest and highest.

    Half of the classes that are kept have the lowest mean of `value`, half the highest; they
    stay in class order.
    """
    is_class = table["order"] >= len(AGGREGATES)
    means = table[is_class].groupby("order")[value].mean().sort_values(kind="stable")
    if len(means) <= most:
        return table
    kept = [*means.index[: most // 2], *means.index[len(means) - most // 2 :]]
    return table[~is_class | table["order"].isin(kept)]


# Accuracy by class (Table 1 of Empirical Perspectives) and of every run (Table 2)


def class_accuracy(metrics: pd.DataFrame) -> pd.DataFrame:
    """Per group, label set and metric: mean_percent, sd_percent, n (repeats)."""
    table = statistics.moments(metrics, [*GROUP, "label_set", *METRIC], "percent")
    return table.rename(columns={"mean": "mean_percent", "sd": "sd_percent"})


def class_accuracy_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group and label set, one column per metric."""
    shown = extreme_classes(numbers, "mean_percent", MAX_CLASSES_ACROSS)
    shown = shown.assign(cell=column(shown, plus_minus, "mean_percent", "sd_percent"))
    rows = [*GROUP, "label_set"]
    counts = numbers[numbers["metric"] == ALL].set_index(rows)["n"]
    text = across(shown, rows, "cell")
    n = counts.reindex(pd.MultiIndex.from_frame(text[rows])).to_numpy()
    text.insert(len(rows), "n", n)
    return without_constant(text)


def runs(metrics: pd.DataFrame) -> pd.DataFrame:
    """Every number of every run."""
    return metrics[[*GROUP, "label_set", "repeat", "run_id", *METRIC, "percent"]]


def runs_text(metrics: pd.DataFrame) -> pd.DataFrame:
    """One row per run, one column per metric; below them mean ± sample standard deviation."""
    shown = extreme_classes(metrics, "percent", MAX_CLASSES_ACROSS)
    shown = shown.assign(cell=column(shown, number, "percent"))
    text = across(shown, [*GROUP, "label_set", "repeat"], "cell")
    total = statistics.moments(shown, [*GROUP, "label_set", *METRIC], "percent")
    total = total.assign(cell=column(total, plus_minus, "mean", "sd"), repeat="mean ± sd")
    below = across(total, [*GROUP, "label_set", "repeat"], "cell")
    text = pd.concat([text.astype(object), below.astype(object)], ignore_index=True)
    return without_constant(text, (*GROUP, "label_set"))


def widest_spread(numbers: pd.DataFrame) -> tuple[str, str]:
    """Variant and label set with the largest deviation of All over repeats; without any: the first.

    A supervised baseline is chosen only if there is nothing else.

    Args:
        numbers: `class_accuracy` of one experiment.
    """
    table = numbers[numbers["metric"] == ALL]
    others = table[~table["variant"].str.startswith("supervised")]
    table = others if len(others) else table
    row = table.iloc[int(np.argmax(table["sd_percent"].fillna(-1).to_numpy()))]
    return str(row["variant"]), str(row["label_set"])


# Which checkpoint is reported


def protocols(runs: pd.DataFrame) -> pd.DataFrame:
    """Per group and label set ("all" = every run of the group): the three ways to report a run.

    Returns:
        for each of last, median_last_20 and best_test: mean_percent and sd_percent over runs;
        optimism = best on test minus last, its mean and 95% interval (`statistics.cluster_mean`;
        interval_over says over what).
    """
    optimism = 100 * (runs["best_test_accuracy"] - runs["last_accuracy"])
    runs = runs[[*GROUP, "label_set", *PROTOCOLS]].assign(optimism=optimism)
    rows = []
    for (experiment, variant), group in runs.groupby(GROUP, sort=False):
        parts = [*group.groupby("label_set", sort=False)]
        for label_set, part in [*parts, *([("all", group)] if len(parts) > 1 else [])]:
            row = {"experiment": experiment, "variant": variant, "label_set": label_set}
            row |= {"n": len(part), "num_label_sets": part["label_set"].nunique()}
            for name in PROTOCOLS:
                short = name.removesuffix("_accuracy")
                row[f"{short}_mean_percent"] = 100 * part[name].mean()
                row[f"{short}_sd_percent"] = 100 * part[name].std(ddof=1)
            mean = statistics.cluster_mean(part, "optimism")
            row |= {"optimism_points": mean.mean, "optimism_low": mean.interval.low}
            row |= {"optimism_high": mean.interval.high, "interval_over": mean.interval_over}
            rows.append(row)
    return pd.DataFrame(rows)


def protocols_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group and label set, one column per protocol."""
    text = numbers[[*GROUP, "label_set", "n"]].copy()
    for name, title in PROTOCOLS.items():
        short = name.removesuffix("_accuracy")
        text[title] = column(
            numbers, plus_minus, f"{short}_mean_percent", f"{short}_sd_percent"
        )  # fmt: skip
    text["best - last"] = column(numbers, signed, "optimism_points")
    text["95% interval"] = column(numbers, signed_interval, "optimism_low", "optimism_high")
    return without_constant(text)


# Algorithms


def baseline_of(experiment: pd.DataFrame) -> str:
    """The variant that the others of an experiment are compared with; none of self-training."""
    for method in BASELINES:
        runs = experiment[(experiment["method"] == method) & (experiment["round"] == 0)]
        if len(runs):
            return str(runs["variant"].iloc[0])
    return str(experiment["variant"].iloc[0])


def algorithms(runs: pd.DataFrame) -> pd.DataFrame:
    """Per group: mean of last accuracies over label sets, intervals, difference to the baseline.

    Returns:
        mean_percent: mean over label sets of their means; sd_percent: over all runs; low, high:
        Student's 95% interval over label sets; bootstrap_low, bootstrap_high: two-stage percentile
        bootstrap; baseline, difference_points with low and high, num_pairs, num_wins, num_ties:
        `statistics.compare`, over runs with the same label set and repeat.
    """
    runs = runs.assign(percent=100 * runs["last_accuracy"])
    rows = []
    for experiment, block in runs.groupby("experiment", sort=False):
        baseline = baseline_of(block)
        against = block[block["variant"] == baseline]
        for variant, group in block.groupby("variant", sort=False):
            mean = statistics.cluster_mean(group, "percent")
            boot = statistics.cluster_bootstrap(
                group,
                "percent",
                num_resamples=NUM_RESAMPLES,
                rng=np.random.default_rng(BOOTSTRAP_SEED),  # anew: no row depends on the others
            )
            row = {"experiment": experiment, "variant": variant, "num_runs": mean.num_runs}
            row |= {"num_label_sets": mean.num_label_sets, "mean_percent": mean.mean}
            row |= {"sd_percent": group["percent"].std(ddof=1)}
            row |= {"low": mean.interval.low, "high": mean.interval.high}
            row |= {"interval_over": mean.interval_over}
            row |= {"bootstrap_low": boot.low, "bootstrap_high": boot.high}
            rows.append(
                row | difference_to(group, against, "" if variant == baseline else baseline)
            )
    return pd.DataFrame(rows)


def difference_to(
    group: pd.DataFrame, against: pd.DataFrame, baseline: str
) -> dict[str, float | str]:
    """The columns of `algorithms` that compare a group with the baseline (empty for itself)."""
    comparison = statistics.compare(group, against if baseline else against[:0], "percent")
    difference = comparison.difference
    return {
        "baseline": baseline,
        "difference_points": difference.mean,
        "difference_low": difference.interval.low,
        "difference_high": difference.interval.high,
        "difference_interval_over": difference.interval_over,
        "num_pairs": comparison.num_pairs,
        "num_wins": comparison.num_wins,
        "num_ties": comparison.num_ties,
    }


def algorithms_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group."""
    text = numbers[[*GROUP]].copy()
    text["runs"] = numbers["num_runs"]
    text["label sets"] = numbers["num_label_sets"]
    text["mean"] = column(numbers, number, "mean_percent")
    text["sd of runs"] = column(numbers, number, "sd_percent")
    text["95% interval"] = column(numbers, interval, "low", "high")
    text["bootstrap"] = column(numbers, interval, "bootstrap_low", "bootstrap_high")
    text["compared with"] = numbers["baseline"].replace("", "-")
    text["difference"] = column(numbers, signed, "difference_points")
    text["95% interval of the difference"] = column(
        numbers, signed_interval, "difference_low", "difference_high"
    )
    text["wins / pairs"] = column(numbers, wins, "num_wins", "num_pairs")
    return without_constant(text, ("experiment",))


def verdicts(numbers: pd.DataFrame) -> pd.DataFrame:
    """Which variants beat the one that they are compared with.

    Args:
        numbers: `algorithms`.

    Returns:
        per experiment with several variants and label sets to compare: baseline; better, worse and
        undecided: the variants whose interval of the difference, over label sets, lies above 0,
        below 0, or neither; separated by "; ".
    """
    rows = []
    for experiment, block in numbers.groupby("experiment", sort=False):
        compared = block[block["num_pairs"] > 0]
        over_sets = compared["difference_interval_over"] == "label sets"
        if len(compared) < 2 or not over_sets.any():
            continue
        better = over_sets & (compared["difference_low"] > 0)
        worse = over_sets & (compared["difference_high"] < 0)
        row = {"experiment": experiment, "baseline": compared["baseline"].iloc[0]}
        for name, chosen in (
            ("better", better),
            ("worse", worse),
            ("undecided", ~better & ~worse),
        ):
            row[name] = "; ".join(compared.loc[chosen, "variant"])
        rows.append(row)
    return pd.DataFrame(rows)


def verdicts_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per experiment."""
    text = numbers.rename(columns={"baseline": "compared with"}).replace("", "-")
    return without_constant(text, ("experiment",))


# Where the variance comes from


def variance(metrics: pd.DataFrame) -> pd.DataFrame:
    """Per group and metric: the variance between label sets and between repeats of one.

    Returns:
        label_set_variance, repeat_variance (squared points) and their roots ..._sd; share of the
        label sets in [0, 1] with its 95% interval; is_clipped; num_runs, num_label_sets.
        See `statistics.variance_components`.
    """
    metrics = metrics[metrics["metric"] != CLASS_MEAN]
    rows = []
    for keys, group in metrics.groupby([*GROUP, *METRIC], sort=False):
        parts = statistics.variance_components(group, "percent")
        row: dict[str, object] = dict(zip([*GROUP, *METRIC], keys, strict=True))
        row |= {"num_runs": parts.num_runs, "num_label_sets": parts.num_label_sets}
        row |= {"label_set_variance": parts.label_set, "repeat_variance": parts.repeat}
        row |= {"label_set_sd": parts.label_set**0.5, "repeat_sd": parts.repeat**0.5}
        row |= {"share": parts.share, "share_low": parts.share_interval.low}
        row |= {"share_high": parts.share_interval.high, "is_clipped": parts.is_clipped}
        rows.append(row)
    return pd.DataFrame(rows)


def variance_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group and metric; * marks a negative estimate that was set to 0.

    Of a group without repeats, of which nothing is known, only the row of All.
    """
    is_known = numbers["repeat_variance"].notna() | (numbers["metric"] == ALL)
    shown = extreme_classes(numbers[is_known], "repeat_variance", MAX_CLASSES_DOWN)
    text = shown[[*GROUP, "metric"]].copy()
    text["runs"] = shown["num_runs"]
    text["label sets"] = shown["num_label_sets"]
    text["sd between label sets"] = column(
        shown, lambda sd, clipped: number(sd) + "*" * clipped, "label_set_sd", "is_clipped"
    )
    text["sd between repeats"] = column(shown, number, "repeat_sd")
    text["share of label sets, %"] = column(shown, lambda x: number(100 * x, 0), "share")
    text["95% interval, %"] = column(
        shown, lambda a, b: interval(a, b, lambda x: number(100 * x, 0)), "share_low", "share_high"
    )
    return without_constant(text)


def spread(metrics: pd.DataFrame) -> pd.DataFrame:
    """Per group and label set, and their mean: class-wise spread against total spread.

    Returns:
        the fields of `statistics.ClassSpread` in points, n and ratio = mean_class_sd / sd_of_mean.
        In the row "mean" the fields are means over label sets, n is the number of runs, and the
        ratio is that of the means.
    """
    classes = metrics[metrics["order"] >= len(AGGREGATES)]
    rows = []
    for (experiment, variant), group in classes.groupby(GROUP, sort=False):
        names: dict[str, object] = {"experiment": experiment, "variant": variant}
        parts: list[dict[str, object]] = []
        for label_set, part in group.groupby("label_set", sort=False):
            wide = part.pivot(index="run_id", columns="order", values="percent")
            result = statistics.class_spread(wide.to_numpy(dtype=float))
            parts.append(names | {"label_set": label_set, "n": len(wide)} | result._asdict())
        rows += parts
        if len(parts) > 1:
            mean = pd.DataFrame(parts)[list(statistics.ClassSpread._fields)].mean()
            total = {"label_set": "mean", "n": group["run_id"].nunique()}
            rows.append(names | total | {str(name): value for name, value in mean.items()})
    table = pd.DataFrame(rows)
    ratio = table["mean_class_sd"] / table["sd_of_mean"].replace(0, math.nan)
    return table.assign(ratio=ratio)


def spread_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group and label set."""
    text = numbers[[*GROUP, "label_set", "n"]].copy()
    text["sd of the mean"] = column(numbers, number, "sd_of_mean")
    text["mean sd of a class"] = column(numbers, number, "mean_class_sd")
    text["ratio"] = column(numbers, number, "ratio")
    text["sd of the mean, if classes were independent"] = column(
        numbers, number, "sd_of_mean_if_independent"
    )
    text["sd over classes within a run"] = column(numbers, number, "sd_within_run")
    return without_constant(text)


# Beside other people's numbers


def published_file(name: str, kind: str) -> Path:
    """The file of published/ with this name.

    Args:
        kind: a column that files of its kind have: "class_index" (by label set and class) or
            "quantity" (by settings of the runs).

    Raises:
        InputError: there is no such file of this kind.
    """
    files = {}
    for path in sorted(PUBLISHED.glob("*.csv")):
        with path.open(encoding="utf-8") as file:
            if kind in file.readline().strip().split(","):
                files[path.name] = path
    return choose(name, files, what="published table")


def read_published(name: str) -> pd.DataFrame:
    """A file of published/ by label set and class, with `metric` and `order` as in `load.metrics`.

    Raises:
        InputError: no such file.
    """
    table = pd.read_csv(published_file(name, "class_index"))
    order = table["class_index"].fillna(-len(AGGREGATES)).astype(int) + len(AGGREGATES)
    return table.assign(metric=table["class_name"], order=order)


def published_note(name: str) -> str:
    """What to know when comparing with this published table, "" if nothing is noted."""
    path = (PUBLISHED / name).with_suffix(".txt")
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def published_moments(published: pd.DataFrame) -> pd.DataFrame:
    """Mean, sample standard deviation and n per published row and metric.

    They are as printed, or computed where single runs are printed. Where all classes are given
    "mean of classes" is added; a published All is also set beside our oracle (see the caption).
    """
    names = ["row", "label_set", "label_set_known", "alternative_label_set", "dataset", "algorithm"]
    single = published["run"].notna()
    printed = published[~single].rename(columns={"mean_percent": "mean", "sd_percent": "sd"})
    of_runs = published[single]
    if len(of_runs):
        is_class = of_runs["order"] >= len(AGGREGATES)
        by_run = of_runs[is_class].groupby([*names, "run"], as_index=False)["mean_percent"].mean()
        extra = by_run.assign(metric=CLASS_MEAN, order=AGGREGATES.index(CLASS_MEAN))
        computed = statistics.moments(
            pd.concat([of_runs, extra], ignore_index=True), [*names, *METRIC], "mean_percent"
        )
        return computed.sort_values(["row", "order"], ignore_index=True)
    is_class = printed["order"] >= len(AGGREGATES)
    class_mean = printed[is_class].groupby(names, as_index=False).agg({"mean": "mean", "n": "min"})
    parts = [
        printed,
        printed[printed["order"] == 0].assign(metric=ORACLE, order=AGGREGATES.index(ORACLE)),
        class_mean.assign(metric=CLASS_MEAN, order=AGGREGATES.index(CLASS_MEAN), sd=math.nan),
    ]
    table = pd.concat(parts, ignore_index=True)[[*names, *METRIC, "mean", "sd", "n"]]
    return table.sort_values(["row", "order"], kind="stable", ignore_index=True)


def comparable(metrics: pd.DataFrame, runs: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """The metrics of the runs that a publication may be compared with: same data and algorithm.

    Rounds of self-training are left out: they have more labels.
    """
    same = pd.Series(False, index=runs.index)
    for dataset, algorithm in published[["dataset", "algorithm"]].drop_duplicates().to_numpy():
        same |= (runs["dataset"] == dataset) & (runs["algorithm"] == algorithm)
    same &= runs["round"] == 0
    return metrics[metrics["run_id"].isin(runs.loc[same, "run_id"])]


def published(
    published: pd.DataFrame, ours: pd.DataFrame, reference: pd.DataFrame | None
) -> pd.DataFrame:
    """Published numbers beside ours and those of the reference store.

    Args:
        published: `read_published`.
        ours, reference: `comparable` metrics.

    Returns:
        per group, published row, label set of ours and metric: mean_percent, sd_percent and n with
        the prefixes published_, ours_ and reference_, and difference_points (ours - published).
        label_set_known: "inferred" or "given" for the label set that the row is taken for,
        "alternative" for the other candidate.
    """
    theirs = published_moments(published)
    known = theirs.assign(compared=theirs["label_set"])
    other = theirs.dropna(subset=["alternative_label_set"])
    other = other.assign(compared=other["alternative_label_set"], label_set_known="alternative")
    theirs = pd.concat([known, other], ignore_index=True).drop(columns=["label_set"])
    theirs = theirs.rename(columns={"compared": "label_set"})
    keys = [*GROUP, "group", "label_set", "order"]
    table = statistics.moments(ours, keys, "percent").merge(
        theirs, on=["label_set", "order"], suffixes=("_ours", "_published")
    )
    if reference is not None and len(reference):
        base = statistics.moments(reference, ["group", "label_set", "order"], "percent")
    else:
        base = pd.DataFrame(columns=["group", "label_set", "order", "mean", "sd", "n"])
    base = base.rename(columns={c: f"{c}_reference" for c in ("mean", "sd", "n")})
    table = table.merge(base, on=["group", "label_set", "order"], how="left")
    columns: dict[str, str] = {}
    for who in ("published", "ours", "reference"):
        columns |= {f"mean_{who}": f"{who}_mean_percent", f"sd_{who}": f"{who}_sd_percent"}
        columns |= {f"n_{who}": f"{who}_n"}
    table = table.rename(columns=columns)
    table["difference_points"] = table["ours_mean_percent"] - table["published_mean_percent"]
    names = [*GROUP, "row", "label_set", "label_set_known", *METRIC]
    table = table[[*names, *columns.values(), "difference_points"]]
    first_seen = {name: i for i, name in enumerate(ours["experiment"].unique())}
    order = table.assign(e=table["experiment"].map(first_seen))
    index = order.sort_values(["e", "variant", "row", "label_set_known", "order"]).index
    return table.loc[index].reset_index(drop=True)


def published_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """Three lines per published row: published, ours, difference; a fourth for the reference."""
    shown = extreme_classes(numbers, "published_mean_percent", MAX_CLASSES_ACROSS)
    names = [*GROUP, "row", "label_set", "label_set_known"]
    parts = []
    for place, (title, prefix) in enumerate(
        {"published": "published", "ours": "ours", "reference": "reference"}.items()
    ):
        mean, sd = f"{prefix}_mean_percent", f"{prefix}_sd_percent"
        if shown[mean].notna().any():
            write = as_printed if prefix == "published" else plus_minus
            cells = column(shown, write, mean, sd)
            parts.append(shown.assign(whose=title, place=place, cell=cells, n=shown[f"{prefix}_n"]))
    cells = column(shown, signed, "difference_points")
    parts.append(shown.assign(whose="ours - published", place=9, cell=cells, n=math.nan))
    lines = pd.concat(parts, ignore_index=True)
    position = {
        name: i for i, name in enumerate(map(tuple, shown[names].drop_duplicates().to_numpy()))
    }
    lines["position"] = [position[key] for key in map(tuple, lines[names].to_numpy())]
    lines = lines.sort_values(["position", "place", "order"], kind="stable")
    text = across(lines, [*names, "whose"], "cell")
    counts = lines.groupby([*names, "whose"])["n"].max()
    n = counts.reindex(pd.MultiIndex.from_frame(text[[*names, "whose"]]))
    text.insert(len(names) + 1, "n", ["-" if math.isnan(x) else str(int(x)) for x in n])
    return without_constant(text).rename(columns={"label_set_known": "label set is"})


def as_printed(mean: float, sd: float) -> str:
    """Published digits are kept: 17 ± 32, 0.05 ± 0.06."""
    if math.isnan(mean):
        return "-"
    return f"{round(mean, 2):g}" + ("" if math.isnan(sd) else f" ± {round(sd, 2):g}")


def reference(ours: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Our runs beside those of the reference store with the same settings.

    Args:
        ours, reference: tables of runs as `load.describe` returns them.

    Returns:
        per group and label set of ours that the reference has too, last accuracy: mean_percent,
        sd_percent and n, over all runs, with the prefixes ours_ and reference_; common_n: runs
        with the same id in both; common_difference_points: mean over these of ours - reference,
        NaN if there are none; num_identical: those of them with an equal last accuracy, to the
        last bit.
    """
    keys = ["group", "label_set"]
    tables = []
    for runs, columns in ((ours, [*GROUP, *keys]), (reference, keys)):
        percent = runs.assign(percent=100 * runs["last_accuracy"])
        tables.append(statistics.moments(percent, columns, "percent"))
    table = tables[0].merge(tables[1], on=keys, suffixes=("_ours", "_reference"))
    accuracy = [*keys, "run_id", "last_accuracy"]
    common = ours[accuracy].merge(
        reference[accuracy], on=[*keys, "run_id"], suffixes=("", "_reference")
    )
    common["difference"] = 100 * (common["last_accuracy"] - common["last_accuracy_reference"])
    common["identical"] = common["last_accuracy"] == common["last_accuracy_reference"]
    groups = common.groupby(keys)
    rows = pd.MultiIndex.from_frame(table[keys])
    result = table[[*GROUP, "label_set"]].copy()
    for who in ("ours", "reference"):
        result[f"{who}_mean_percent"] = table[f"mean_{who}"]
        result[f"{who}_sd_percent"] = table[f"sd_{who}"]
        result[f"{who}_n"] = table[f"n_{who}"]
    result["common_n"] = groups.size().reindex(rows, fill_value=0).to_numpy(dtype=int)
    difference = groups["difference"].mean().reindex(rows)
    result["common_difference_points"] = difference.to_numpy(dtype=float)
    identical = groups["identical"].sum().reindex(rows, fill_value=0)
    result["num_identical"] = identical.to_numpy(dtype=int)
    return result


def reference_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group and label set."""
    text = numbers[[*GROUP, "label_set"]].copy()
    for who in ("ours", "reference"):
        text[who] = column(numbers, plus_minus, f"{who}_mean_percent", f"{who}_sd_percent")
        text["n" if who == "ours" else "n of the reference"] = numbers[f"{who}_n"]
    text["runs in both"] = numbers["common_n"]
    text["difference over these"] = column(numbers, signed, "common_difference_points")
    text["identical"] = numbers["num_identical"]
    return without_constant(text)


# What was run


CIRCUMSTANCES = ["device", "threads", "commit"]
PER_GROUP = ["num_runs", "num_label_sets", "seconds_sum", "seconds_median"]
TOTALS = ["num_runs", "seconds_sum"]  # those that add up over groups


def settings(runs: pd.DataFrame) -> pd.DataFrame:
    """Per group: every hyperparameter, what it ran on, and what it took.

    Returns:
        one row per group; several devices or versions of one group are joined with " | ".
        num_labels: of the label set, without picks. seconds_sum and seconds_median are over runs.
    """
    rows = []
    picking = PICKING if runs["round"].any() else []
    for keys, group in runs.groupby(GROUP, sort=False):
        first = group.assign(num_labels=group["label_set_size"]).iloc[0]
        row = dict(zip(GROUP, keys, strict=True))
        row |= {"num_runs": len(group), "num_label_sets": group["label_set"].nunique()}
        names = ["budget", "dataset", "dataset_fingerprint", "network", "num_parameters"]
        names += ["num_labels", "num_images", "num_steps", "num_validation", "max_eval_images"]
        row |= {name: first[name] for name in [*names, *picking, "algorithm", *HYPERPARAMETERS]}
        row |= {f"options.{k}": v for k, v in json.loads(first["options"]).items()}
        row |= {name: joined(group[name]) for name in CIRCUMSTANCES}
        row |= versions(group["versions"])
        row |= {"seconds_sum": group["seconds"].sum(), "seconds_median": group["seconds"].median()}
        row |= {"first_finished": group["finished_at"].min()}
        row |= {"last_finished": group["finished_at"].max()}
        rows.append(row)
    return pd.DataFrame(rows)


def joined(values: "pd.Series[str]") -> str:
    """The different values of a column, joined."""
    return " | ".join(sorted({str(value) for value in values.dropna()}))


def versions(texts: "pd.Series[str]") -> dict[str, str]:
    """The versions of each library that a group was run with."""
    found: dict[str, set[str]] = {}
    for text in texts.dropna().unique():
        for name, version in json.loads(text).items():
            found.setdefault(f"version.{name}", set()).add(str(version))
    return {name: " | ".join(sorted(values)) for name, values in found.items()}


def setting(value: object) -> str:
    """A setting as text."""
    if value is None or value is pd.NA or value != value:
        return "-"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def settings_common_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """What all groups share, and totals over them: setting and value."""
    if len(numbers) > 1:
        totals = {name: numbers[name].sum() for name in TOTALS}
        numbers = numbers.drop(columns=[c for c in PER_GROUP if c not in TOTALS]).assign(**totals)
    text = numbers.map(setting).drop(columns=[*GROUP])
    same = [c for c in text if text[c].nunique() == 1]
    return pd.DataFrame({"setting": same, "value": [text[c].iloc[0] for c in same]})


def settings_different_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """What tells groups apart: a row per setting, a column per group (turned if there are many).

    What is counted or summed within a group is always there.
    """
    text = numbers.map(setting)
    different = [c for c in text if c in PER_GROUP or (c not in GROUP and text[c].nunique() > 1)]
    names = without_constant(text[[*GROUP]])
    titles = names.agg(", ".join, axis=1) if names.shape[1] else text["variant"]
    table = text[different].set_axis(pd.Index(titles), axis=0)
    if len(table) <= 6:
        table = table.T
        return table.rename_axis("setting", axis=0).rename_axis(None, axis=1).reset_index()
    return table.rename_axis("group", axis=0).reset_index()


def published_means(published: pd.DataFrame) -> Mapping[str, float]:
    """Published All by label set, candidates included: the marks in a figure."""
    table = published_moments(published)
    table = table[table["order"] == 0]
    pairs = [*zip(table["alternative_label_set"], table["mean"], strict=True)]
    pairs += [*zip(table["label_set"], table["mean"], strict=True)]
    return {name: float(mean) for name, mean in pairs if isinstance(name, str)}
