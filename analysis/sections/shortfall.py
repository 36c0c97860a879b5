"""When each level of accuracy was first reached, and which classes keep the run below 90%.

Accuracies are the teacher's on the test images. They describe runs and select none.
"""

import math

import numpy as np
import pandas as pd

from .. import statistics
from ..load import Results, chain_seconds, class_curves, last_step
from ..naming import GROUP
from ..page.parts import Part, Table, Text
from ..tables import column, interval, number, without_constant

LEVELS = (50, 60, 70, 80, 90, 95)  # percent
TARGET = 90  # percent
LOW = 50  # percent: a class below this at the end keeps the run below the target
MAX_CLASSES = 5  # named per run


def reached(found: Results) -> pd.DataFrame:
    """When each group of runs first reached each of `LEVELS`.

    Returns:
        one row per group and level that any of its runs reached: num_runs, num_reached, and
        medians over the runs that reached it: images_seen, share (of the training, in [0, 1]) and
        minutes. Minutes assume that all steps of a run take equally long; evaluations and the runs
        from which it started are included.
    """
    runs = found.runs.set_index("run_id")
    whole = pd.Series(chain_seconds(found.runs)) / 60
    own = runs["seconds"] / 60
    curves = found.evaluations[found.evaluations["network"] == "teacher"]
    curves = curves.assign(run_id=curves["run_id"].astype(str)).sort_values("step", kind="stable")
    rows = []
    for level in LEVELS:
        first = curves[curves["test_accuracy"] >= level / 100].drop_duplicates("run_id")
        if not len(first):
            continue
        ids = first["run_id"]
        share = first["step"] / ids.map(runs["num_steps"])
        minutes = ids.map(whole) - ids.map(own) * (1 - share)
        rows.append(
            pd.DataFrame(
                {
                    "run_id": ids,
                    "level_percent": level,
                    "images_seen": first["images_seen"],
                    "share": share,
                    "minutes": minutes,
                }
            )
        )
    if not rows:
        return pd.DataFrame()
    table = pd.concat(rows, ignore_index=True).merge(found.runs[["run_id", *GROUP]], on="run_id")
    totals = found.runs.groupby(GROUP, sort=False)["run_id"].count().rename("num_runs")
    grouped = table.groupby([*GROUP, "level_percent"], sort=False)
    numbers = grouped[["images_seen", "share", "minutes"]].median()
    numbers.insert(0, "num_reached", grouped["run_id"].count())
    numbers = numbers.reset_index().merge(totals.reset_index(), on=GROUP)
    place = {key: i for i, key in enumerate(totals.index)}
    order = [place[key] for key in zip(*(numbers[name] for name in GROUP), strict=True)]
    numbers = numbers.iloc[np.lexsort((numbers["level_percent"].to_numpy(), np.array(order)))]
    columns = [*GROUP, "level_percent", "num_runs", "num_reached", "images_seen", "share"]
    return numbers[[*columns, "minutes"]].reset_index(drop=True)


def reached_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group and level."""
    text = numbers[[*GROUP]].copy()
    text["level, %"] = numbers["level_percent"]
    text["runs that reached it"] = [
        f"{row.num_reached} / {row.num_runs}" for row in numbers.itertuples()
    ]
    text["images seen"] = [f"{images:,.0f}" for images in numbers["images_seen"]]
    text["of the training, %"] = [number(100 * share, 0) for share in numbers["share"]]
    text["minutes"] = column(numbers, number, "minutes")
    return without_constant(text, ("experiment",))


def costly_classes(found: Results) -> pd.DataFrame:
    """How much each class lowers the accuracy of each run.

    With K classes of equally many test images, a class at accuracy a costs (1 - a) / K of the
    accuracy, so these add up to the whole error.

    Returns:
        per run and class: class_index, class_name, percent after the last step; points_lost;
        low_since_images: labeled images seen at the first evaluation after which the class stayed
        below `LOW` (0: it was never above; NaN: it is above at the end). For the run:
        accuracy_percent and missing_points (distance to `TARGET`, 0 if it is reached).
    """
    curves = class_curves(found)
    curves = curves.assign(run_id=curves["run_id"].astype(str))
    curves = curves.sort_values(["run_id", "step"], kind="stable")
    last = last_step(curves).set_index(["run_id", "class_index"])
    above = curves[curves["test_accuracy"] >= LOW / 100]
    last_above = above.groupby(["run_id", "class_index"], observed=True)["step"].max()
    below = curves.merge(
        last_above.rename("last_above").reset_index(), on=["run_id", "class_index"], how="left"
    )
    after = below[below["step"] > below["last_above"]]
    since = after.groupby(["run_id", "class_index"], observed=True)["images_seen"].min()
    never = ~last.index.isin(last_above.index)
    is_low = last["test_accuracy"] < LOW / 100
    low_since = since.reindex(last.index).where(~never, 0.0).where(is_low, math.nan)
    count = last.groupby(level="run_id")["test_count"].transform("sum")
    table = pd.DataFrame(
        {
            "class_name": last["class_name"].astype(str),
            "percent": 100 * last["test_accuracy"],
            "points_lost": 100 * (1 - last["test_accuracy"]) * last["test_count"] / count,
            "low_since_images": low_since,
        }
    ).reset_index()
    accuracy = 100 * found.runs.set_index("run_id")["last_accuracy"]
    table = table.assign(accuracy_percent=table["run_id"].map(accuracy))
    table = table.assign(missing_points=(TARGET - table["accuracy_percent"]).clip(lower=0))
    names = found.runs[["run_id", *GROUP, "label_set", "repeat"]]
    joined = names.merge(table, on="run_id", how="inner", sort=False)
    return joined[
        [
            *(*GROUP, "label_set", "repeat", "run_id", "accuracy_percent", "missing_points"),
            *("class_index", "class_name", "percent", "points_lost", "low_since_images"),
        ]
    ]


def costly_classes_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per run: its costliest classes, and since when they have been low."""
    low = numbers[numbers["low_since_images"].notna()]
    low = low.sort_values("points_lost", ascending=False, kind="stable")
    columns = ["run_id", "class_name", "percent", "points_lost", "low_since_images"]
    texts: dict[str, list[str]] = {}
    for run_id, name, percent, lost, since in low[columns].to_numpy().tolist():
        when = f"since {since:,.0f} images" if since else "always"
        cost = f"{name}: {number(percent, 0)}% (-{number(lost)}, {when})"
        texts.setdefault(run_id, []).append(cost)
    runs = numbers.drop_duplicates("run_id").reset_index(drop=True)
    found = [texts.get(run_id, []) for run_id in runs["run_id"]]
    text = runs[[*GROUP, "label_set", "repeat"]].copy()
    text["accuracy, %"] = column(runs, number, "accuracy_percent")
    text[f"points to {TARGET}"] = column(runs, number, "missing_points")
    text[f"classes below {LOW}%"] = [len(of_run) for of_run in found]
    text["which classes, and since when"] = [
        "; ".join([*of_run[:MAX_CLASSES], *[f"and {len(of_run) - MAX_CLASSES} more"] * more]) or "-"
        for of_run in found
        for more in [len(of_run) > MAX_CLASSES]
    ]
    return without_constant(text, (*GROUP,))


def frequent(numbers: pd.DataFrame) -> pd.DataFrame:
    """Which classes most often keep runs below the target.

    Args:
        numbers: `costly_classes`.

    Returns:
        per group and class: num_runs, num_low (runs that end with it below `LOW`), and points_lost,
        the mean over label sets with low, high (Student's 95% interval over label sets, cut at 0).
    """
    rows = []
    names = [*GROUP, "class_index", "class_name"]
    for keys, group in numbers.groupby(names, sort=False):
        mean = statistics.cluster_mean(group, "points_lost")
        row: dict[str, object] = dict(zip(names, keys, strict=True))
        row |= {"num_runs": mean.num_runs, "num_label_sets": mean.num_label_sets}
        row |= {"num_low": int(group["low_since_images"].notna().sum())}
        row |= {"points_lost": mean.mean, "low": max(mean.interval.low, 0.0)}
        row |= {"high": mean.interval.high, "interval_over": mean.interval_over}
        rows.append(row)
    return pd.DataFrame(rows)


def frequent_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per group and class."""
    text = numbers[[*GROUP]].copy()
    text["class"] = numbers["class_name"]
    text[f"runs that end below {LOW}%"] = [
        f"{row.num_low} / {row.num_runs}" for row in numbers.itertuples()
    ]
    text["points lost"] = column(numbers, number, "points_lost")
    text["95% interval"] = column(numbers, interval, "low", "high")
    return without_constant(text)


def parts(found: Results) -> list[Part]:
    """The section."""
    levels, classes = reached(found), costly_classes(found)
    often = frequent(classes)
    least = f"{LEVELS[0]}%"
    made: list[Part] = []
    if len(levels):
        made.append(
            Table(
                "levels",
                "When a level of accuracy was first reached",
                "First evaluation at which the teacher reached the level on the test images. Its "
                "accuracy may have fallen below it afterwards. Values are medians over the runs "
                "that reached the level: labeled images seen, share of the training, and minutes "
                "on the device given in section Settings. Minutes include the runs from which a "
                "run started. No run was stopped or selected by these accuracies.",
                levels,
                reached_text(levels),
            )
        )
    else:
        made.append(Text(f"No run reached {least} test accuracy."))
    made += [
        Table(
            "costly_classes",
            f"Which classes keep the run below {TARGET}%",
            f"For each run, the classes that end below {LOW}%, costliest first (at most "
            f"{MAX_CLASSES}). In brackets: points of accuracy lost to the class, and labeled "
            "images seen when it last fell below that level.",
            classes,
            costly_classes_text(classes),
        ),
        Table(
            "cost_by_class",
            "Classes that cost the most accuracy",
            "Points of accuracy lost to each class: the mean over label sets of the mean over "
            "repeats. The 95% interval is Student's over label sets (over repeats if there is only "
            "one label set), cut off at 0.",
            often,
            frequent_text(often),
        ),
    ]
    return made
