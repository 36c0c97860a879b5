"""Published numbers by label set beside ours."""

import math
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from boss.errors import choose

from .. import statistics
from ..load import AGGREGATES, CLASS_MEAN, ORACLE, Results, metrics
from ..naming import GROUP, is_plain
from ..page.parts import (
    Part,
    Table,
    Text,
)
from ..tables import (
    MAX_CLASSES_ACROSS,
    METRIC,
    across,
    column,
    extreme_classes,
    plus_minus,
    signed,
    signed_interval,
    without_constant,
)
from .agreement import (
    DIFFERENCE,
    MARGIN_FEW,
    VERDICT,
    difference,
    how_decided,
    labels_per_class,
    margin,
    with_verdicts,
    without_smoke,
)

PUBLISHED = Path(__file__).parents[1] / "published"
LAST, BEST = "last", "best on test"  # protocols


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
    "mean of classes" is added; an All that is the best on the test set also stands beside our
    oracle. protocol: "last" or "best on test".
    """
    names = ["row", "label_set", "label_set_known", "alternative_label_set", "dataset", "algorithm"]
    names += ["protocol"]
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
        printed[(printed["order"] == 0) & (printed["protocol"] == BEST)].assign(
            metric=ORACLE, order=AGGREGATES.index(ORACLE)
        ),
        class_mean.assign(metric=CLASS_MEAN, order=AGGREGATES.index(CLASS_MEAN), sd=math.nan),
    ]
    table = pd.concat(parts, ignore_index=True)[[*names, *METRIC, "mean", "sd", "n"]]
    return table.sort_values(["row", "order"], kind="stable", ignore_index=True)


def comparable(metrics: pd.DataFrame, runs: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """The metrics of the runs that a publication may be compared with: same data and algorithm.

    Rounds of self-training and starts from an embedding are left out: they know more.
    """
    same = pd.Series(False, index=runs.index)
    for dataset, algorithm in published[["dataset", "algorithm"]].drop_duplicates().to_numpy():
        same |= (runs["dataset"] == dataset) & (runs["algorithm"] == algorithm)
    same &= is_plain(runs)
    return metrics[metrics["run_id"].isin(runs.loc[same, "run_id"])]


def published_table(
    published: pd.DataFrame,
    ours: pd.DataFrame,
    reference: pd.DataFrame | None,
    margin_points: float = MARGIN_FEW,
) -> pd.DataFrame:
    """Published numbers beside ours and those of the reference store.

    Args:
        published: `read_published`.
        ours, reference: `comparable` metrics.
        margin_points: of the verdicts.

    Returns:
        per group, published row, label set of ours and metric: mean_percent, sd_percent and n with
        the prefixes published_, ours_ and reference_; published_protocol; where ours follow it,
        `agreement.DIFFERENCE`, over repeats of this label set, and `agreement.VERDICT`, adjusted
        for all of them. label_set_known: "inferred" or "given" for the label set that the row is
        taken for, "alternative" for the other candidate.
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
    table = table.rename(columns={**columns, "protocol": "published_protocol"})
    table = with_verdicts(table.join(differences(table, margin_points)))
    names = [*GROUP, "row", "label_set", "label_set_known", *METRIC]
    table = table[[*names, *columns.values(), "published_protocol", *DIFFERENCE, *VERDICT]]
    first_seen = {name: i for i, name in enumerate(ours["experiment"].unique())}
    order = table.assign(e=table["experiment"].map(first_seen))
    index = order.sort_values(["e", "variant", "row", "label_set_known", "order"]).index
    return table.loc[index].reset_index(drop=True)


def differences(table: pd.DataFrame, margin_points: float) -> pd.DataFrame:
    """`agreement.DIFFERENCE` of each row, NaN where ours and theirs follow different protocols."""
    rows = []
    for row in table.to_dict("records"):
        protocol = BEST if row["order"] == AGGREGATES.index(ORACLE) else LAST
        if row["published_protocol"] != protocol:
            rows.append(dict.fromkeys(DIFFERENCE, math.nan))
            continue
        ours, theirs = (printed_summary(row, who) for who in ("ours", "published"))
        rows.append(difference(ours, theirs, margin_points))
    return pd.DataFrame(rows, index=table.index, columns=DIFFERENCE)


def printed_summary(row: Mapping[Hashable, Any], who: str) -> statistics.Summary:
    """Ours or theirs in a row of `published_table`; without a deviation it is a single value."""
    mean, sd, n = (row[f"{who}_{name}"] for name in ("mean_percent", "sd_percent", "n"))
    return statistics.Summary(mean, sd, 1 if math.isnan(sd) else int(n))


def published_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """Lines per published row: published, ours, reference, difference, interval, verdict."""
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
    lines_of_difference = {
        "ours - published": column(shown, signed, "difference_points"),
        "95% interval": column(shown, signed_interval, "difference_low", "difference_high"),
        "verdict": list(shown["verdict"].replace("", "-")),
    }
    if not shown["difference_low"].notna().any():
        del lines_of_difference["95% interval"], lines_of_difference["verdict"]
    for place, (title, cells) in enumerate(lines_of_difference.items(), start=3):
        parts.append(shown.assign(whose=title, place=place, cell=cells, n=math.nan))
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


def published_means(published: pd.DataFrame) -> Mapping[str, float]:
    """Published All by label set, candidates included: the marks in a figure."""
    table = published_moments(published)
    table = table[table["order"] == 0]
    pairs = [*zip(table["alternative_label_set"], table["mean"], strict=True)]
    pairs += [*zip(table["label_set"], table["mean"], strict=True)]
    return {name: float(mean) for name, mean in pairs if isinstance(name, str)}


def published_parts(
    table: pd.DataFrame,
    found: Results,
    base: Results | None,
    theirs: pd.DataFrame,
    name: str,
) -> tuple[list[Part], list[str]]:
    """Our numbers beside the published ones."""
    sources = "; ".join(sorted(theirs["source"].unique()))
    runs, sentence = without_smoke(found.runs, sources)
    ours = comparable(table, runs, theirs)
    if sentence and not len(ours) and len(comparable(table, found.runs, theirs)):
        return [Text(sentence)], []
    reference = None
    if base is not None:
        reference = comparable(metrics(base), base.runs, theirs)
    compared = runs[runs["run_id"].isin(ours["run_id"])]
    few = float(labels_per_class(compared).min()) if len(compared) else 1.0
    numbers = published_table(theirs, ours, reference, margin(few))
    if not len(numbers):
        what = " and ".join(str(name) for name in theirs["dataset"].unique())
        names = ", ".join(str(name) for name in theirs["label_set"].unique())
        return [], [f"no comparison with the publication: it needs runs on {what} with {names}"]
    images = sorted(int(x) for x in compared["num_images"].unique())
    known = ", ".join(sorted(theirs["known"].unique()))
    caption = (
        f"Published: {sources} (numbers {known}). Percent, mean ± sample standard deviation over n "
        f"repeats on each side. {published_note(name)} Differences are in points, over repeats of "
        "the label set of the row, with Welch's 95% interval, where both sides are measured alike: "
        "both after the last step, or both as the best on the test set. "
        f"{how_decided(numbers['margin_points'], 'repeats')} Ours saw "
        f"{' or '.join(f'{x:,}' for x in images)} labeled images in training, repetitions counted."
    )
    title = f"Published numbers and ours: {sources}"
    stem = f"published_{Path(name).stem}"
    shown: list[Part] = [Table(stem, title, caption, numbers, published_text(numbers))]
    return ([Text(sentence), *shown] if sentence else shown), []
