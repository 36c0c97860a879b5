"""How the choice of the labeled images changes the accuracy: families of label sets.

Label sets of one family differ by chance only, or by a number (`load.family`). They do not pair
with those of another family, so two families are compared by Welch's interval.
"""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import statistics
from ..load import Results
from ..naming import RANDOM, natural
from ..page.parts import Part, Picture, Table, has_picture, suffixes, without_rounds
from ..statistics import Floats
from ..style import ACCURACY, GRAY, MAX_PANELS, color, how_many, set_title
from ..tables import (
    column,
    counts_text,
    interval,
    number,
    p_value,
    plus_minus,
    signed,
    signed_interval,
    without_constant,
)
from .differences import HOLM, with_verdicts

BUCKETS = r"carlini:(\d+)"  # 0: outliers ... 7: most prototypical


# Families


def of_families(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of scopes and variants with two families of label sets or more."""
    return runs[runs.groupby(["scope", "variant"])["family"].transform("nunique") > 1]


def family_order(family: str) -> tuple[bool, tuple[tuple[float, str], ...]]:
    """A sort key: the random splits, then the alphabet."""
    return (family != RANDOM, natural(family))


def set_means(runs: pd.DataFrame) -> Floats:
    """The mean accuracy of every label set, in percent."""
    means: Floats = runs.groupby("label_set", sort=False)["last_accuracy"].mean().to_numpy(float)
    return 100 * means


def families(runs: pd.DataFrame) -> pd.DataFrame:
    """Each family of label sets against the random splits.

    Args:
        runs: `of_families`.

    Returns:
        per scope, variant and family: num_label_sets, num_runs; mean_percent over label sets with
        low, high (Student's 95% interval over label sets; interval_over says over what);
        difference_points to the random splits with Welch's 95% interval between means of label
        sets, in the columns of `differences.difference_columns` (num_difference_sets: of the side
        with fewer) and `differences.with_verdicts`.
    """
    runs = runs.assign(percent=100 * runs["last_accuracy"])
    rows = []
    for (scope, variant), block in runs.groupby(["scope", "variant"], sort=False):
        random = set_means(block[block["family"] == RANDOM])
        for name in sorted(block["family"].unique(), key=family_order):
            group = block[block["family"] == name]
            mean = statistics.cluster_mean(group, "percent")
            found = statistics.Difference(float("nan"))
            if name != RANDOM:
                found = statistics.welch(set_means(group), random)
            row = {"scope": scope, "variant": variant, "family": name}
            row |= {"num_label_sets": mean.num_label_sets, "num_runs": mean.num_runs}
            row |= {"mean_percent": mean.mean, "low": mean.interval.low}
            row |= {"high": mean.interval.high, "interval_over": mean.interval_over}
            row |= {"difference_points": found.value, "difference_p": found.p_value}
            row |= {"difference_low": found.interval.low}
            row |= {"difference_high": found.interval.high}
            row |= {"difference_interval_over": "label sets"}
            row |= {"num_difference_sets": min(mean.num_label_sets, len(random))}
            rows.append(row)
    return with_verdicts(pd.DataFrame(rows))


def families_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per scope, variant and family."""
    text = numbers[["scope", "variant", "family"]].rename(columns={"scope": "experiment"})
    text["label sets"] = numbers["num_label_sets"]
    text["runs"] = numbers["num_runs"]
    text["mean"] = column(numbers, number, "mean_percent")
    text["95% interval"] = column(numbers, interval, "low", "high")
    text[f"difference to {RANDOM}"] = column(numbers, signed, "difference_points")
    text["95% interval of the difference"] = column(
        numbers, signed_interval, "difference_low", "difference_high"
    )
    text["p (Holm)"] = column(numbers, p_value, "difference_p_holm")
    text["verdict"] = numbers["verdict"].replace("", "-")
    return without_constant(text)


def families_figure(runs: pd.DataFrame, title: str) -> Figure:
    """Every label set by family, one panel per variant.

    Args:
        runs: `of_families` of one scope.
    """
    variants = list(runs["variant"].drop_duplicates())
    more = f" Shown: the first {MAX_PANELS} of {len(variants)} variants."
    more *= len(variants) > MAX_PANELS
    variants = variants[:MAX_PANELS]
    names = sorted(runs["family"].unique(), key=family_order)
    across = min(2, len(variants))
    down = -(-len(variants) // across)
    size = (4.6 * across + 1.0, down * (0.3 * len(names) + 0.75) + 1.0)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    axes = [axis for row in grid for axis in row]
    for unused in axes[len(variants) :]:
        unused.remove()
    set_title(
        figure,
        title,
        "Dots: label sets, mean over repeats; bar: their mean and its 95% t interval over label "
        "sets; right: label sets / runs. Shaded: the interval of the random splits. "
        f"{how_many(runs)}{more}",
    )
    for axis, variant in zip(axes, variants, strict=False):
        part = runs[runs["variant"] == variant]
        for row, name in enumerate(names):
            group = part[part["family"] == name]
            means = set_means(group)
            if not len(means):
                continue
            ink = color(row)
            axis.plot(
                means, np.full(len(means), row + 0.14), "o", ms=4, mew=0, alpha=0.6, color=ink
            )
            ends = np.clip(statistics.t_interval(means), 0, 100)
            if name == RANDOM and len(means) > 1:
                axis.axvspan(*ends, color="0.93", zorder=0, lw=0)
            axis.plot(ends, [row - 0.18] * 2, color=ink, lw=1.5, solid_capstyle="butt")
            axis.plot(means.mean(), row - 0.18, "|", ms=8, mew=2.2, color=ink)
            axis.annotate(
                f"{len(means)} / {len(group)}",
                xy=(1.01, row),
                xycoords=axis.get_yaxis_transform(),
                fontsize=7.5,
                va="center",
                color=GRAY,
                annotation_clip=False,
            )
        axis.set_title(textwrap.fill(variant, 55))
        axis.grid(visible=False, axis="y")
    axes[0].set_yticks(range(len(names)), [textwrap.shorten(name, 48) for name in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    axes[0].set_xlim(0, 100)
    for axis in axes[max(0, len(variants) - across) : len(variants)]:
        axis.tick_params(labelbottom=True)
        axis.set_xlabel(ACCURACY)
    return figure


# Buckets of prototypicality


def of_buckets(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of experiments and variants with two buckets or more, with the column bucket."""
    bucket = runs["label_set"].str.extract(f"^{BUCKETS}$", expand=False)
    runs = runs[bucket.notna()].assign(bucket=bucket.dropna().astype(int))
    return runs[runs.groupby(["experiment", "variant"])["bucket"].transform("nunique") > 1]


def buckets(runs: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by bucket.

    Args:
        runs: `of_buckets`.

    Returns:
        per experiment, variant and bucket: mean_percent, sd_percent, n (repeats); and the same in
        every row of a variant, rank_correlation (Spearman's, between the number of a bucket and its
        mean accuracy) and num_buckets.
    """
    runs = runs.assign(percent=100 * runs["last_accuracy"])
    names = ["experiment", "variant"]
    table = statistics.moments(runs, [*names, "bucket"], "percent")
    table = table.rename(columns={"mean": "mean_percent", "sd": "sd_percent"})
    parts = []
    for _, part in table.groupby(names, sort=False):
        part = part.sort_values("bucket")
        found = statistics.rank_correlation(
            part["bucket"].to_numpy(dtype=float), part["mean_percent"].to_numpy(dtype=float)
        )
        parts.append(part.assign(rank_correlation=found, num_buckets=len(part)))
    return pd.concat(parts, ignore_index=True)


def buckets_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per experiment and variant, one column per bucket."""
    titles = {0: "0 (outliers)", 7: "7 (most prototypical)"}
    present = sorted(numbers["bucket"].unique())
    rows = []
    for (experiment, variant), part in numbers.groupby(["experiment", "variant"], sort=False):
        low, high = int(part["n"].min()), int(part["n"].max())
        row = {"experiment": experiment, "variant": variant}
        row |= {"n": str(low) if low == high else f"{low} to {high}"}
        cells = column(part, plus_minus, "mean_percent", "sd_percent")
        by_bucket = dict(zip(part["bucket"], cells, strict=True))
        row |= {titles.get(bucket, str(bucket)): by_bucket.get(bucket, "-") for bucket in present}
        row |= {"rank correlation": number(part["rank_correlation"].iloc[0], 2)}
        row |= {"buckets": str(part["num_buckets"].iloc[0])}
        rows.append(row)
    return without_constant(pd.DataFrame(rows))


def buckets_figure(runs: pd.DataFrame, title: str) -> Figure:
    """Accuracy by bucket, one panel per variant.

    Args:
        runs: `of_buckets` of one experiment.
    """
    variants = list(runs["variant"].drop_duplicates())
    more = f" Shown: the first {MAX_PANELS} of {len(variants)} variants."
    more *= len(variants) > MAX_PANELS
    variants = variants[:MAX_PANELS]
    numbers = buckets(runs)
    across = min(3, len(variants))
    down = -(-len(variants) // across)
    figure = Figure(figsize=(max(2.7 * across, 6.0), 2.3 * down + 1.0), layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    axes = [axis for row in grid for axis in row]
    for unused in axes[len(variants) :]:
        unused.remove()
    set_title(
        figure,
        title,
        "Buckets of prototypicality, from 0 (outliers) to 7 (most prototypical). Dots: runs; line: "
        f"mean over repeats. Rank correlation: Spearman's, over n buckets. {how_many(runs)}{more}",
    )
    for axis, variant in zip(axes, variants, strict=False):
        part = runs[runs["variant"] == variant]
        means = numbers[numbers["variant"] == variant]
        ink = color(variants.index(variant))
        axis.plot(
            part["bucket"], 100 * part["last_accuracy"], "o", ms=3.5, mew=0, alpha=0.6, color=ink
        )
        axis.plot(means["bucket"], means["mean_percent"], color=ink, lw=1.6)
        rho = number(means["rank_correlation"].iloc[0], 2)
        axis.set_title(textwrap.fill(f"{variant}: rank correlation {rho} (n = {len(means)})", 42))
    axes[0].set_ylim(0, 100)
    axes[0].set_xticks(sorted(runs["bucket"].unique()))
    for axis in axes[: len(variants) : across]:
        axis.set_ylabel(ACCURACY)
    for axis in axes[max(0, len(variants) - across) : len(variants)]:
        axis.tick_params(labelbottom=True)
        axis.set_xlabel("bucket")
    return figure


# The sections


def parts(found: Results) -> list[Part]:
    """Families of label sets, and buckets of prototypicality."""
    made: list[Part] = []
    runs = of_families(found.runs)
    if len(runs):
        numbers = families(runs)
        made.append(
            Table(
                "prototypes",
                "Test accuracy by family of label sets",
                "Accuracy of the teacher after the last step, in percent: mean over label sets of "
                "the mean over repeats, with Student's 95% interval over label sets. With only one "
                "label set the interval is over repeats and does not extend to other label sets. "
                "Differences to the random splits are between means over label sets, in points, "
                "with Welch's 95% t interval. This needs two label sets on each side (-: "
                f"undefined). {HOLM} Verdict: better or worse where it is at most 0.05.",
                numbers,
                families_text(numbers),
            )
        )
        for scope, end in suffixes(list(found.runs["scope"].unique())).items():
            block, note = without_rounds(runs[runs["scope"] == scope])
            if not len(block):
                continue
            title = f"Test accuracy by family of label sets: {scope}"
            made.append(
                Picture(
                    f"prototypes{end}",
                    title,
                    "Dots: label sets, mean over repeats. Bar: mean of the label sets and its 95% "
                    "t interval (cut off at 0 and 100). Right: numbers of label sets and of runs. "
                    f"{counts_text(block)}. {note}".strip(),
                    lambda block=block, title=title: (  # type: ignore[misc]
                        families_figure(block, title)
                    ),
                    is_main=not has_picture(made),
                )
            )
    return made + bucket_parts(found)


def bucket_parts(found: Results) -> list[Part]:
    """Accuracy by prototypicality of the labeled images."""
    runs = of_buckets(found.runs)
    if not len(runs):
        return []
    numbers = buckets(runs)
    made: list[Part] = [
        Table(
            "buckets",
            "Test accuracy by prototypicality",
            "Accuracy in percent, mean ± sample standard deviation over n repeats, by bucket from "
            "0 (outliers) to 7 (most prototypical). Rank correlation: Spearman's between the "
            "number of a bucket and its mean accuracy; at 1 every more prototypical bucket is "
            "better. With so few buckets it is descriptive, not a test.",
            numbers,
            buckets_text(numbers),
        )
    ]
    for experiment, end in suffixes(list(found.runs["experiment"].unique())).items():
        block, note = without_rounds(runs[runs["experiment"] == experiment])
        if not len(block):
            continue
        title = f"Test accuracy by prototypicality: {experiment}"
        made.append(
            Picture(
                f"buckets{end}",
                title,
                "Dots: runs. Line: mean over repeats. Titles: Spearman's rank correlation between "
                "the number of a bucket and its mean accuracy. "
                f"{counts_text(block)}. {note}".strip(),
                lambda block=block, title=title: buckets_figure(block, title),  # type: ignore[misc]
            )
        )
    return made
