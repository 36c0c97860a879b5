"""Selection of a variant by held-out training images; no test accuracy is used.

A candidate is a group of runs with the same settings, rounds of self-training and starting points,
over any label sets. Each candidate is compared with the reference over pairs of runs with the same
label set and repeat. The reference is the candidate tried on the most of these; among several, the
one from which the others differ least. In a study that changes one setting at a time this is its
base recipe.

Two signals that need no labels are reported beside the held-out accuracy, with how well they would
have selected in its place.
"""

import json
import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from boss.study.run import BUDGETS

from .. import statistics
from ..load import Results, chain_seconds
from ..naming import HYPERPARAMETERS, START
from ..page.parts import Part, Picture, Table, has_picture, suffixes
from ..statistics import PAIR_KEYS, Floats
from ..style import GRAY, MAX_ROWS, color, difference_marks, how_many, row_names, set_title
from ..tables import column, interval, number, plural, signed, signed_interval, wins

# Candidates are compared only among runs that agree in these.
CONTEXT = ["budget", "dataset_fingerprint", "num_validation", "label_set_size", "max_eval_images"]
HELD_OUT = "held_out_percent"
# Settings in which candidates may differ, besides the options of the algorithm.
CHANGED = ("algorithm", "network", "num_images", *HYPERPARAMETERS, *START)
SMOKE = "Smoke runs only show that the code works; do not select by them. "
SIGNALS = {
    "used_percent": "pseudo-labels used, %",
    "num_predicted_classes": "classes predicted",
}


def scores(found: Results) -> pd.DataFrame:
    """What is known of each run with held-out images without any test image.

    Returns:
        one row per run, its columns as in `found.runs` and:
        candidate: what was trained alike; context: what it can be compared within.
        held_out_percent: the teacher's accuracy on the held-out images after the last step.
        used_percent: share of the unlabeled images whose pseudo-label was used since the evaluation
        before; num_predicted_classes: `statistics.effective_number` of the classes of all
        pseudo-labels since then. Empty where there are none.
        minutes: of training and evaluation, those of the runs it started from included.
    """
    keys = ["run_id", "step"]
    last = found.evaluations[found.evaluations["network"] == "teacher"]
    last = last.sort_values("step", kind="stable").drop_duplicates("run_id", keep="last")
    last = last[last["validation_accuracy"].notna()]
    counts = found.class_evaluations.merge(last[keys], on=keys)
    predicted = counts.pivot(index="run_id", columns="class_index", values="predicted_count")
    effective = pd.Series(
        statistics.effective_number(predicted.to_numpy(dtype=float)),
        index=predicted.index.astype(str),
    )
    last = last.set_index(last["run_id"].astype(str))
    runs = found.runs[found.runs["run_id"].isin(last.index) & ~found.runs["is_oracle"]]

    def of_runs(values: "pd.Series[float]") -> Floats:
        return np.asarray(values.reindex(runs["run_id"]), dtype=np.float64)

    context = [", ".join(map(str, row)) for row in runs[CONTEXT].to_numpy()]
    return runs.assign(
        context=context,
        candidate=runs["scope"] + "; " + runs["variant"],
        held_out_percent=100 * of_runs(last["validation_accuracy"]),
        used_percent=100 * of_runs(last["used_share"]),
        num_predicted_classes=of_runs(effective),
        minutes=of_runs(pd.Series(chain_seconds(found.runs))) / 60,
    )


def reference_of(table: pd.DataFrame) -> str:
    """The candidate that was tried on the most label sets and repeats.

    Among several, the one with the fewest rounds; among those, the one whose settings differ least
    from the others in total.

    Args:
        table: `scores` of one context.
    """
    found = table.groupby("candidate", sort=False).agg(
        count=("run_id", "count"), round=("round", "first")
    )
    found = found[found["count"] == found["count"].max()]
    found = found[found["round"] == found["round"].min()]
    if len(found) == 1:
        return str(found.index[0])
    first = table[table["round"] == found["round"].iloc[0]].drop_duplicates("candidate")
    options = pd.DataFrame([json.loads(text) for text in first["options"]], index=first.index)
    settings = pd.concat([first[[*CHANGED]], options], axis=1).astype(str)
    settings.index = pd.Index(first["candidate"])
    distance = sum((settings != row).sum(axis=1) for _, row in settings.iterrows())
    assert isinstance(distance, pd.Series)
    return str(distance[found.index].idxmin())


def candidates(table: pd.DataFrame) -> pd.DataFrame:
    """Each candidate against the reference, best first.

    Args:
        table: `scores` of one context.

    Returns:
        per candidate: name, is_reference, num_runs, num_label_sets; held_out_percent (mean over
        label sets of the means over repeats) with low, high (Student's 95% interval over label
        sets; interval_over says over what); over pairs with the reference: difference_points with
        difference_low, difference_high, num_pairs, num_wins; minutes (median over runs), the means
        of `SIGNALS` over label sets. Ordered by difference_points, of the reference 0; candidates
        without a pair come last.
    """
    reference = reference_of(table)
    against = table[table["candidate"] == reference]
    names = candidate_names(table, reference)
    rows = []
    for candidate, group in table.groupby("candidate", sort=False):
        mean = statistics.cluster_mean(group, HELD_OUT)
        paired = statistics.compare(group, against, HELD_OUT)
        is_reference = candidate == reference
        change = paired.difference
        row = {"name": names[str(candidate)], "is_reference": is_reference}
        row |= {"num_runs": mean.num_runs, "num_label_sets": mean.num_label_sets}
        row |= {HELD_OUT: mean.mean, "low": mean.interval.low, "high": mean.interval.high}
        row |= {"interval_over": mean.interval_over, "difference_points": change.mean}
        ends = statistics.NO_INTERVAL if is_reference else change.interval
        row |= {"difference_low": ends.low, "difference_high": ends.high}
        row |= {"num_pairs": 0 if is_reference else paired.num_pairs}
        row |= {"num_wins": 0 if is_reference else paired.num_wins}
        row |= {"minutes": group["minutes"].median()}
        row |= {name: statistics.cluster_mean(group, name).mean for name in SIGNALS}
        rows.append(row)
    numbers = pd.DataFrame(rows)
    return numbers.sort_values(
        "difference_points", ascending=False, kind="stable", ignore_index=True, na_position="last"
    )


def candidate_names(table: pd.DataFrame, reference: str) -> dict[str, str]:
    """The variant of each candidate, and in brackets where its scope is not the reference's."""
    first = table.drop_duplicates("candidate").set_index("candidate")
    usual = set(str(first["scope"][reference]).split(", "))
    names = {}
    for candidate, row in first.iterrows():
        other = [part for part in str(row["scope"]).split(", ") if part not in usual]
        names[str(candidate)] = str(row["variant"]) + (f" [{', '.join(other)}]" if other else "")
    return names


def candidates_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per candidate."""
    text = numbers[["name"]].rename(columns={"name": "candidate"})
    text["label sets"] = numbers["num_label_sets"]
    text["runs"] = numbers["num_runs"]
    text["held-out accuracy, %"] = column(numbers, number, HELD_OUT)
    text["95% interval"] = column(numbers, interval, "low", "high")
    difference = pd.Series(column(numbers, signed, "difference_points"), index=numbers.index)
    text["to the reference"] = difference.mask(numbers["is_reference"], "reference")
    text["95% interval of the difference"] = column(
        numbers, signed_interval, "difference_low", "difference_high"
    )
    text["wins / pairs"] = column(numbers, wins, "num_wins", "num_pairs")
    text["minutes"] = column(numbers, number, "minutes")
    for name, title in SIGNALS.items():
        text[title] = column(numbers, number, name)
    return text


def signals(table: pd.DataFrame, numbers: pd.DataFrame) -> pd.DataFrame:
    """How well label-free signals agree with the held-out accuracy.

    Args:
        table: `scores` of one context. numbers: `candidates` of it.

    Returns:
        per signal: over_candidates, Spearman's rank correlation of its mean with the held-out
        accuracy over the num_candidates that have both; within_label_sets: the same over runs,
        mean over the label sets with three runs or more; its_choice: the candidate of its highest
        mean.
    """
    rows = []
    for signal, title in SIGNALS.items():
        known = numbers.dropna(subset=[signal, HELD_OUT])
        within = [
            statistics.rank_correlation(
                part[signal].to_numpy(dtype=float), part[HELD_OUT].to_numpy(dtype=float)
            )
            for _, part in table.dropna(subset=[signal, HELD_OUT]).groupby("label_set", sort=False)
            if len(part) > 2
        ]
        defined = [value for value in within if not np.isnan(value)]
        rows.append(
            {
                "signal": title,
                "num_candidates": len(known),
                "over_candidates": statistics.rank_correlation(
                    known[signal].to_numpy(dtype=float), known[HELD_OUT].to_numpy(dtype=float)
                ),
                "num_label_sets": len(defined),
                "within_label_sets": float(np.mean(defined)) if defined else np.nan,
                "its_choice": known["name"].iloc[int(known[signal].argmax())] if len(known) else "",
            }
        )
    return pd.DataFrame(rows)


def signals_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per signal."""
    text = numbers[["signal"]].copy()
    text["candidates"] = numbers["num_candidates"]
    text["rank correlation over candidates"] = [
        signed(value, 2) for value in numbers["over_candidates"]
    ]
    text["the same within label sets"] = [
        signed(value, 2) for value in numbers["within_label_sets"]
    ]
    text["label sets"] = numbers["num_label_sets"]
    text["best candidate by it"] = numbers["its_choice"].replace("", "-")
    return text


def differences_figure(table: pd.DataFrame, numbers: pd.DataFrame, title: str) -> Figure:
    """The held-out accuracy of every candidate minus that of the reference, in points.

    Args:
        table: `scores` of one context. numbers: `candidates` of it.
    """
    reference = reference_of(table)
    against = table[table["candidate"] == reference]
    shown = numbers[(numbers["num_pairs"] > 0)].head(MAX_ROWS)
    names = {name: key for key, name in candidate_names(table, reference).items()}
    texts, more_width = row_names(list(shown["name"]), 60)
    height = max(0.3 * len(shown), 0.16 * sum(text.count("\n") + 1 for text in texts))
    figure = Figure(figsize=(6.5 + more_width, height + 1.6), layout="constrained")
    axis = figure.subplots()
    beside = f"Reference: {numbers.loc[numbers['is_reference'], 'name'].iloc[0]}."
    set_title(
        figure,
        title,
        "Dots: label sets, mean over pairs of runs with the same repeat; bar: their mean and its "
        f"95% t interval over label sets. {beside} {how_many(table)}",
    )
    axis.axvline(0, color=GRAY, lw=1)
    for row, name in enumerate(shown["name"]):
        group = table[table["candidate"] == names[name]]
        both = statistics.pairs(group, against, HELD_OUT)
        means = both.groupby("label_set", sort=False)["difference"].mean()
        difference_marks(axis, row, means.to_numpy(dtype=float), color(0))
    axis.set_yticks(range(len(shown)), texts)
    axis.set_ylim(len(shown) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    axis.set_xlabel(textwrap.fill("difference in held-out accuracy to the reference (points)", 55))
    return figure


def parts(found: Results) -> list[Part]:
    """The section, for each context with two candidates or more."""
    if not found.evaluations["validation_accuracy"].notna().any():
        return []
    table = scores(found)
    contexts = [name for name, block in table.groupby("context", sort=False) if _is_a_choice(block)]
    made: list[Part] = []
    ends = suffixes([str(name) for name in contexts]) if contexts else {}
    for context, end in ends.items():
        block = table[table["context"] == context]
        numbers = candidates(block)
        num_images = int(block["num_validation"].iloc[0])
        most = block["max_eval_images"].iloc[0]
        cut = "" if pd.isna(most) else f" (at most the first {most:,} of them)"
        smoke = SMOKE if block["budget"].iloc[0] == BUDGETS[0] else ""
        title = f"Candidates by held-out images: {block['experiment'].iloc[0]}"
        made += [
            Table(
                f"choosing{end}",
                "Candidates by held-out images",
                f"{smoke}Accuracy of the teacher after the last step on {num_images:,} held-out "
                f"training images{cut}, without those that are labeled. Mean over label sets of "
                "the mean over repeats; compare only candidates tried on the same label sets. "
                "Selection here uses the labels of the held-out images. Differences are over pairs "
                "of runs with the same label set and repeat; rows are sorted by them. Intervals "
                "are Student's 95% over label sets (over repeats if there is only one). The best "
                "of many candidates is partly lucky, so its lead shrinks on new label sets; final "
                "results are therefore reported on other label sets. The share of pseudo-labels "
                "used and the effective number of predicted classes (exponential of the entropy) "
                "need no labels. Minutes: median over runs, including the runs from which they "
                "started, on the device given in section Settings.",
                numbers,
                candidates_text(numbers),
            )
        ]
        if (numbers["num_pairs"] > 0).any():
            made.append(
                Picture(
                    f"choosing{end}",
                    title,
                    "Difference in held-out accuracy to the reference, by label set and on "
                    f"average. {plural(len(block), 'run')}.",
                    lambda block=block, numbers=numbers, title=title: (  # type: ignore[misc]
                        differences_figure(block, numbers, title)
                    ),
                    is_main=not has_picture(made),
                )
            )
        found_signals = signals(block, numbers)
        made.append(
            Table(
                f"choosing_without_labels{end}",
                "Agreement of label-free signals with held-out accuracy",
                "Spearman's rank correlation between a signal and the held-out accuracy: over the "
                "means of candidates, and over the runs of a label set (mean over label sets with "
                "at least three runs). 1: same order; 0: no relation.",
                found_signals,
                signals_text(found_signals),
            )
        )
    return made


def _is_a_choice(block: pd.DataFrame) -> bool:
    """Whether two candidates share a label set and repeat."""
    return bool(block.groupby(PAIR_KEYS)["candidate"].nunique().gt(1).any())
