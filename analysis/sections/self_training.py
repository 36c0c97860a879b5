"""What self-training adds: each round against the runs whose networks selected its images.

A child is a run with a parent. All differences are paired: child minus parent, or child minus
another child of the same parent.
"""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import statistics
from ..load import Results
from ..naming import GROUP, HYPERPARAMETERS, ORACLE_MARK, PICKING, plain_options
from ..page.parts import Part, Picture, Table, by_experiment, has_picture
from ..style import ACCURACY, LIGHT, color, dash, set_title, unbroken
from ..tables import (
    column,
    number,
    p_value,
    plural,
    plus_minus,
    signed,
    signed_interval,
    wins,
    without_constant,
)
from .differences import HOLM, difference_columns, with_verdicts

ENOUGH = "enough"  # stop reason of a run that got as many selected images as requested
HONEST = {"pick_labels": "pseudo", "rank_by": "last"}
# Runs that agree in these are tested alike and can be compared with full supervision.
SAME_TEST = ["budget", "dataset_fingerprint", "network", "max_eval_images"]
# A child and its twin differ only in the leak.
TWINS = [
    *("parent", "picks_per_class", "algorithm", "options", "network", "num_images"),
    *("max_eval_images", *HYPERPARAMETERS),
]


# Tables


def children(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with a parent.

    Returns:
        their columns, percent, and of the parent: parent_percent, parent_variant and
        parent_group (empty if it is not there), gain = percent - parent_percent.
    """
    runs = runs.assign(percent=100 * runs["last_accuracy"])
    parents = runs[["run_id", "percent", "variant", "group"]].add_prefix("parent_")
    table = runs[runs["round"] > 0].merge(
        parents, left_on="parent", right_on="parent_run_id", how="left", validate="many_to_one"
    )
    table = table.drop(columns="parent_run_id")
    return table.assign(gain=table["percent"] - table["parent_percent"])


def yardsticks(runs: pd.DataFrame) -> pd.DataFrame:
    """The fully supervised runs: mean, sd and n per group, in percent, with `SAME_TEST`."""
    full = runs[runs["is_full"]].assign(percent=100 * runs["last_accuracy"])
    names = [*GROUP, *SAME_TEST, "num_images"]
    return statistics.moments(full.astype({"max_eval_images": object}), names, "percent")


def yardstick_of(group: pd.DataFrame, full: pd.DataFrame) -> "pd.Series[float] | None":
    """The fully supervised group with which a group of runs is compared, if there is one.

    Among several, the first that saw as many images; otherwise the first.

    Args:
        full: `yardsticks`.
    """
    first = group.iloc[0]
    for name in SAME_TEST:
        full = full[full[name].isna() if pd.isna(first[name]) else full[name] == first[name]]
    if not len(full):
        return None
    as_long = full[full["num_images"] == first["num_images"]]
    found: pd.Series[float] = (as_long if len(as_long) else full).iloc[0]
    return found


def gains(runs: pd.DataFrame) -> pd.DataFrame:
    """Every variant of self-training against its parents.

    Returns:
        per group: started_from (the variant of the parents), round, picks_per_class, pick_labels,
        rank_by, is_oracle; num_runs and num_label_sets; over the pairs of child and parent:
        parent_percent and child_percent (mean over label sets), their difference in the columns of
        `differences.difference_columns` and `differences.with_verdicts`, num_pairs, num_wins,
        num_ties; over all runs: picks_mean (selected images), wrong_picks_percent (of them),
        num_too_few (runs that got fewer than requested) and too_few (which classes lacked images,
        and in how many runs); full_percent, full_sd_percent, full_n: the fully supervised runs.
    """
    table = children(runs)
    full = yardsticks(runs)
    rows = []
    for keys, group in table.groupby(GROUP, sort=False):
        first = group.iloc[0]
        pairs = group.dropna(subset=["gain"])
        gain = statistics.cluster_mean(pairs, "gain")
        row: dict[str, object] = dict(zip(GROUP, keys, strict=True))
        row |= {"started_from": started_from(first)}
        row |= {name: first[name] for name in [*PICKING, "is_oracle"]}
        row |= {"num_runs": len(group), "num_label_sets": group["label_set"].nunique()}
        row |= {"parent_percent": statistics.cluster_mean(pairs, "parent_percent").mean}
        row |= {"child_percent": statistics.cluster_mean(pairs, "percent").mean}
        row |= difference_columns(gain) | {"num_pairs": len(pairs)}
        row |= {"num_wins": int((pairs["gain"] > 0).sum())}
        row |= {"num_ties": int((pairs["gain"] == 0).sum())}
        row |= {"picks_mean": group["num_picks"].mean()}
        row |= {"wrong_picks_percent": wrong_share(group)}
        short = group.loc[group["stop_reason"] != ENOUGH, "stop_reason"].fillna("not said")
        row |= {"num_too_few": len(short), "too_few": which_classes(short)}
        theirs = yardstick_of(group, full)
        row |= {"full_percent": np.nan if theirs is None else theirs["mean"]}
        row |= {"full_sd_percent": np.nan if theirs is None else theirs["sd"]}
        row |= {"full_n": 0 if theirs is None else int(theirs["n"])}
        rows.append(row)
    return with_verdicts(pd.DataFrame(rows)) if rows else pd.DataFrame()


def started_from(child: "pd.Series[str]") -> str:
    """The variant of the parent.

    >>> started_from(pd.Series({"parent_variant": "boss-4", "variant": "boss-4 -> fixmatch +5"}))
    'boss-4'
    """
    parent = child["parent_variant"]
    return str(parent) if isinstance(parent, str) else "?"


def wrong_share(group: pd.DataFrame) -> float:
    """The share of all selected images whose pseudo-label is wrong, in percent."""
    total = int(group["num_picks"].sum())
    return 100 * int(group["num_wrong_picks"].sum()) / total if total else float("nan")


def which_classes(reasons: "pd.Series[str]") -> str:
    """Which classes lacked images, and in how many runs.

    >>> which_classes(pd.Series(["too few: cat 3, dog 0", "too few: cat 1"]))
    'cat (2), dog (1)'
    """
    counts: dict[str, int] = {}
    for reason in reasons:
        kind, colon, classes = reason.partition(": ")
        for name in [part.rpartition(" ")[0] for part in classes.split(", ")] if colon else [kind]:
            counts[name] = counts.get(name, 0) + 1
    order = sorted(counts, key=lambda name: -counts[name])
    return ", ".join(f"{name} ({counts[name]})" for name in order)


def gains_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group."""
    text = numbers[[*GROUP]].copy()
    text["label sets"] = numbers["num_label_sets"]
    text["parent's accuracy"] = column(numbers, number, "parent_percent")
    text["accuracy"] = column(numbers, number, "child_percent")
    text["gain"] = column(numbers, signed, "difference_points")
    text["95% interval"] = column(numbers, signed_interval, "difference_low", "difference_high")
    text["p (Holm)"] = column(numbers, p_value, "difference_p_holm")
    text["verdict"] = numbers["verdict"].replace("", "-")
    text["wins / pairs"] = column(numbers, wins, "num_wins", "num_pairs")
    text["selected images"] = column(numbers, number, "picks_mean")
    text["wrong pseudo-labels, %"] = column(numbers, number, "wrong_picks_percent")
    text["runs with too few (classes)"] = column(
        numbers, lambda n, which: f"{n}: {which}" if n else "0", "num_too_few", "too_few"
    )
    if numbers["full_n"].any():
        text["fully supervised"] = column(
            numbers,
            lambda mean, sd, n: f"{plus_minus(mean, sd)} (n = {n})" if n else "-",
            *("full_percent", "full_sd_percent", "full_n"),
        )
    return without_constant(text, ("experiment",))


def leak_effects(runs: pd.DataFrame) -> pd.DataFrame:
    """What each leak adds: a child that uses hidden labels minus one that does not.

    Both have the same parent, number of selected images and other settings.

    Returns:
        per group with a leak: started_from, round, picks_per_class, leak; the columns of
        `differences.difference_columns` and `differences.with_verdicts`; num_pairs, num_wins,
        num_ties.
    """
    table = children(runs)
    table = table.assign(options=table["options"].map(plain_options))
    is_honest = (table[list(HONEST)] == pd.Series(HONEST)).all(axis=1)
    twins = table.loc[is_honest, [*TWINS, "percent"]]
    rows = []
    is_leaky = table.apply(leak, axis=1) != ""
    for keys, group in table[is_leaky].groupby(GROUP, sort=False):
        both = group.merge(twins, on=TWINS, suffixes=("", "_honest"), validate="one_to_one")
        both = both.assign(difference=both["percent"] - both["percent_honest"])
        if not len(both):
            continue
        first = group.iloc[0]
        mean = statistics.cluster_mean(both, "difference")
        row: dict[str, object] = dict(zip(GROUP, keys, strict=True))
        row |= {"started_from": started_from(first), "round": first["round"]}
        row |= {"picks_per_class": first["picks_per_class"], "leak": leak(first)}
        row |= difference_columns(mean) | {"num_pairs": len(both)}
        row |= {"num_wins": int((both["difference"] > 0).sum())}
        row |= {"num_ties": int((both["difference"] == 0).sum())}
        rows.append(row)
    return with_verdicts(pd.DataFrame(rows)) if rows else pd.DataFrame()


def leak(child: "pd.Series[str]") -> str:
    """Which hidden labels the selected images of a run used, "" if none.

    >>> leak(pd.Series({"pick_labels": "true", "rank_by": "last"}))
    'true labels (oracle)'
    """
    texts = ["true labels"] * (child["pick_labels"] == "true")
    texts += ["ranked by the best on test"] * (child["rank_by"] == "best_test")
    return f"{', '.join(texts)}{ORACLE_MARK}" if texts else ""


def leak_effects_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group."""
    text = numbers[[*GROUP]].copy()
    text["label sets"] = numbers["num_difference_sets"]
    text["difference"] = column(numbers, signed, "difference_points")
    text["95% interval"] = column(numbers, signed_interval, "difference_low", "difference_high")
    text["p (Holm)"] = column(numbers, p_value, "difference_p_holm")
    text["verdict"] = numbers["verdict"].replace("", "-")
    text["wins / pairs"] = column(numbers, lambda w, n: f"{w} / {n}", "num_wins", "num_pairs")
    return without_constant(text, ("experiment",))


# The figure


def kinds(table: pd.DataFrame) -> "pd.Series[str]":
    """What distinguishes the children of one parent, apart from the number of selected images.

    Args:
        table: `children`.
    """
    marks = [ORACLE_MARK * bool(leak(row)) for _, row in table.iterrows()]
    return table["step"].str.replace(r" \+\d+", "", n=1, regex=True) + marks


def gains_figure(table: pd.DataFrame, full: pd.DataFrame, title: str) -> Figure:
    """Accuracy by selected images per class; 0 is the parent. One panel per parent variant.

    Args:
        table: `children` of one experiment that have their parents.
        full: `yardsticks` of all experiments.
    """
    panels = list(table["parent_variant"].drop_duplicates())
    table = table.assign(kind=kinds(table))
    names = sorted(table["kind"].unique(), key=lambda kind: kind.endswith(ORACLE_MARK))
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(max(2.9 * across, 6.2), 2.7 * down + 1.5), layout="constrained")
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    axes = [axis for row in grid for axis in row]
    for unused in axes[len(panels) :]:
        unused.remove()
    counts = f"{plural(len(table), 'run')} and {plural(table['parent'].nunique(), 'parent')}, "
    counts += plural(table["label_set"].nunique(), "label set")
    set_title(
        figure,
        title,
        "0: the parents. Thin: label sets (mean over repeats). Thick: their mean and 95% t "
        "interval over label sets (over repeats if there is only one), cut off at 0 and 100. "
        f"{unbroken(counts)}",
    )
    theirs = yardstick_of(table, full)
    for axis, name in zip(axes, panels, strict=False):
        rows = table[table["parent_variant"] == name]
        for position, kind in enumerate(names):
            if (rows["kind"] == kind).any():
                draw_gains(axis, rows[rows["kind"] == kind], position)
        if theirs is not None:
            axis.axhline(theirs["mean"], color="black", lw=1.1, ls="--")
        axis.set_title(textwrap.fill(f"from {name}: {plural(len(rows), 'run')}", 40))
        ticks = [0, *sorted(rows["picks_per_class"].unique())]
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set_xlabel("selected images per class")
    for axis in axes[: len(panels) : across]:
        axis.set_ylabel(ACCURACY)
    handles = [
        Line2D([], [], color=color(i), lw=1.8, marker="o", ms=4, label=f"child: {name}")
        for i, name in enumerate(names)
    ]
    if theirs is not None:
        text = f"fully supervised: {plus_minus(theirs['mean'], theirs['sd'])}, n = {theirs['n']}"
        handles.append(Line2D([], [], color="black", lw=1.1, ls="--", label=text))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(2, len(handles)))
    return figure


def draw_gains(axis: Axes, rows: pd.DataFrame, position: int) -> None:
    """Draw accuracy against selected images per class.

    Args:
        rows: `children` of one panel and kind.
        position: of the kind; the first also shows the parents and a thin line per label set.
    """
    points = rows
    if position == 0:
        before = rows.drop_duplicates("parent").assign(picks_per_class=0)
        before = before.assign(percent=before["parent_percent"])
        points = pd.concat([before, rows], ignore_index=True)
        for _, part in points.groupby("label_set", sort=False):
            line = part.groupby("picks_per_class")["percent"].mean()
            axis.plot(line.index, line, color=LIGHT, lw=0.9, zorder=1)
    found = [
        (picks, statistics.cluster_mean(part, "percent"))
        for picks, part in points.groupby("picks_per_class")
    ]
    # Shifted slightly, so that the intervals of several kinds do not overlap.
    x = [picks + 0.02 * position * max(rows["picks_per_class"]) for picks, _ in found]
    means = [mean.mean for _, mean in found]
    lows, highs = zip(*(mean.interval for _, mean in found), strict=True)
    ink = color(position)
    axis.plot(x, means, color=ink, ls=dash(position), lw=1.8, marker="o", ms=4.5, zorder=3)
    axis.vlines(x, *np.clip([lows, highs], 0, 100), color=ink, lw=1.2, zorder=2)


# The section


def parts(found: Results, experiments: list[str]) -> list[Part]:
    """Each round against its parents and full supervision; what leaks of hidden labels add."""
    table = children(found.runs)
    if not len(table):
        return []
    numbers = gains(found.runs)
    caption = (
        "Accuracies of the teacher after the last step, in percent. A child is a new network "
        "trained with images selected by the network of its parent. Gain: child minus parent, in "
        "points. It is the mean over label sets of the mean over repeats, with Student's 95% "
        "interval over label sets. With only one label set the interval is over repeats and does "
        "not extend to other label sets. Both accuracies are over the same pairs; wins are pairs "
        f"in which the child is better. {HOLM} Verdict: better or worse where it is at most 0.05. "
        "Selected images: mean over runs. Wrong pseudo-labels: "
        "selected images whose pseudo-label differs from the true class (evaluated only "
        "afterwards). Runs with too few: a class was predicted less often than images were "
        "requested (in brackets: in how many runs)."
    )
    if numbers["full_n"].any():
        caption += (
            " Fully supervised: the same network trained with all labels, mean ± sample standard "
            "deviation over n runs."
        )
    made: list[Part] = [
        Table("self_training", "Self-training", caption, numbers, gains_text(numbers))
    ]
    full = yardsticks(found.runs)
    for experiment, end, block in by_experiment(table.dropna(subset=["gain"]), experiments):
        title = f"Accuracy by number of selected images: {experiment}"
        counts = plural(block["label_set"].nunique(), "label set")
        made.append(
            Picture(
                f"self_training{end}",
                title,
                "0: the parents. Thin lines: label sets (mean over repeats). Thick line: their "
                "mean and 95% t interval over label sets (over repeats if there is only one), "
                "cut off at 0 and 100. "
                f"{plural(len(block), 'run')} and {plural(block['parent'].nunique(), 'parent')}, "
                f"{counts}.",
                lambda block=block, title=title: gains_figure(block, full, title),  # type: ignore[misc]
                is_main=not has_picture(made),
            )
        )
    leaks = leak_effects(found.runs)
    if len(leaks):
        made.append(
            Table(
                "leaks",
                "Effect of hidden labels on self-training",
                "In percentage points: a child whose selection uses hidden labels (an oracle) "
                "minus the child of the same parent with as many selected images that uses none. "
                "True labels: selected images keep their true classes. Best on test: the network "
                "that ranks the images is the best on the test set. Mean over label sets with its "
                f"95% t interval over label sets (over repeats if there is only one). {HOLM} "
                "Verdict: better or worse where it is at most 0.05. Wins: pairs in which the "
                "oracle is better.",
                leaks,
                leak_effects_text(leaks),
            )
        )
    return made
