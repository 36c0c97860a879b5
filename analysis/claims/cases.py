"""Which runs each claim is tested on.

Only runs from one labeled image per class take part, none marked as an oracle (claim 8 is about the
best accuracy on the test set, an oracle by itself). Of several variants of a method the first in
the order of every table is used (`load.sort_runs`): the one with the fewest departures from
FixMatch as published. For balancing it is the pair that differs least in other settings
(`nearest_variants`). Claims 1 to 5 and 8 are tested on both populations from which the publications
may have drawn their label sets: random splits, and the hand-picked sets that share no images.
"""

import itertools
import json
from typing import NamedTuple

import pandas as pd

from boss.study.catalog import ALGORITHMS

from ..load import Results, last_step
from ..naming import FAMILIES, HYPERPARAMETERS, ORACLE_MARK, RANDOM, is_plain
from ..sections import prototypes, self_training
from ..sections.balancing_runs import BASELINE
from ..sections.class_balance import class_measures
from ..statistics import MIN_SETS, NO_INTERVAL, PAIR_KEYS, Interval
from .catalog import (
    BALANCING,
    BEST,
    CLASS_WISE,
    FAILURES,
    FULL,
    GAIN,
    ICONIC,
    LABEL_SETS,
    PROTOTYPICALITY,
    REPEATS,
    SPLIT,
    UNEVEN,
    Claim,
)
from .findings import (
    ABOVE_ZERO,
    BELOW_ZERO,
    MIN_BUCKETS,
    Finding,
    bucket_trend,
    class_variance,
    effect,
    gain,
    label_set_share,
    optimism,
    prototype_effect,
    repeat_spread,
    split_runs,
    to_full,
    unevenness,
)
from .published import MOST_PROTOTYPICAL, TOP_BUCKET, Published, published_iconic

HAND_PICKED, BUCKETS = FAMILIES["boss"], FAMILIES["carlini"]
POPULATIONS = (RANDOM, HAND_PICKED)
OF_POPULATIONS = f"{RANDOM} or {HAND_PICKED} sets"
# Sets 6, 7 and 9 to 12 combine images of 0 to 5, some chosen by accuracy; 8 is random.
OWN_IMAGES = r"boss:[0-5]"
CENTROID = "class-centroid"  # ends the names of such families
KNOWLEDGE = {  # what the choice of such label sets uses
    CENTROID: "chosen with the labels of all training images; sets differ by rank, not by chance",
    MOST_PROTOTYPICAL: "chosen by a model trained with all labels",
}
HELD_OUT = (
    "some labeled images are held-out images and thus missing from the unlabeled ones; the two "
    "kinds of label sets differ in how many"
)

BOSS_METHODS = [f"boss-{number}" for number in range(1, 5)]
BALANCING_OPTIONS = ("max_drop", "weigh_by")


# Which runs are asked


class Case(NamedTuple):
    """A claim tested on some runs."""

    claim: Claim
    finding: Finding
    family: str = ""  # of their label sets
    runs: str = ""  # their name in tables
    basis: tuple[pd.DataFrame, ...] = ()  # of one of these, the mean must be above chance
    published: Published | None = None  # in place of the claim's


def taking_part(found: Results) -> pd.DataFrame:
    """The runs from one labeled image per class, without oracles.

    Returns:
        their columns; percent, num_classes and num_test (images); family, in which the most
        prototypical bucket stands by itself, and which is "" for sets made of others.
    """
    tested = last_step(found.class_evaluations).groupby("run_id", observed=True)
    classes = tested["class_index"].nunique().rename(index=str)
    images = tested["test_count"].sum().rename(index=str)
    runs = found.runs.assign(
        percent=100 * found.runs["last_accuracy"],
        num_classes=found.runs["run_id"].map(classes),
        num_test=found.runs["run_id"].map(images),
    )
    is_oracle = runs["is_oracle"] | runs["label_set"].str.endswith(ORACLE_MARK)
    runs = runs[~is_oracle & (runs["label_set_size"] == runs["num_classes"])]
    family = runs["family"].mask(runs["label_set"] == TOP_BUCKET, MOST_PROTOTYPICAL)
    is_made = (family == HAND_PICKED) & ~runs["label_set"].str.fullmatch(OWN_IMAGES)
    return runs.assign(family=family.mask(is_made, ""))


def of_family(runs: pd.DataFrame, *families: str) -> pd.DataFrame:
    """The runs on label sets of these families."""
    return runs[runs["family"].isin(families)]


def first_variant(runs: pd.DataFrame, method: str) -> pd.DataFrame:
    """The runs of the first variant of a method; none if it was not run."""
    rows = runs[runs["method"] == method]
    return rows[rows["variant"] == rows["variant"].iloc[0]] if len(rows) else rows


def fixmatch_or(runs: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """The runs of FixMatch, which show whether the study learned anything; otherwise `others`."""
    rows = first_variant(runs, BASELINE)
    return rows if len(rows) else others


def of_runs(table: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table that belong to these runs."""
    return table[table["run_id"].isin(runs["run_id"])]


def is_iconic(family: str) -> bool:
    """Whether its label sets are meant to show typical images of each class."""
    return family in (HAND_PICKED, MOST_PROTOTYPICAL) or family.endswith(CENTROID)


def without_runs(missing: str, *claims: Claim) -> list[Case]:
    """Claims without any runs."""
    return [Case(claim, Finding(limits=NO_INTERVAL, missing=missing)) for claim in claims]


def needs(what: str, there: list[str]) -> str:
    """The message that runs are missing, and which of them exist."""
    return f"needs {what}; found {'only ' + ' and '.join(there) if there else 'none'}"


def fixmatch_cases(runs: pd.DataFrame, table: pd.DataFrame, gap_range: Interval) -> list[Case]:
    """Claims 1 to 4 and 8.

    Args:
        runs: of round 0 of one scope.
        table: `load.metrics`.
        gap_range: of the published rows.
    """
    cases = []
    for family in POPULATIONS:
        rows = first_variant(of_family(runs, family), BASELINE)
        if not len(rows):
            continue
        classes = of_runs(table, rows)
        findings = (
            (UNEVEN, unevenness(classes)),
            (SPLIT, split_runs(classes)),
            (CLASS_WISE, class_variance(classes)),
            (REPEATS, repeat_spread(rows)),
            (LABEL_SETS, label_set_share(rows)),
            (BEST, optimism(rows, gap_range)),
        )
        name = str(rows["variant"].iloc[0])
        cases += [Case(claim, finding, family, name, (rows,)) for claim, finding in findings]
    missing = needs(f"{BASELINE} on {OF_POPULATIONS}", [])
    return cases or without_runs(missing, *(UNEVEN, SPLIT, CLASS_WISE, REPEATS, LABEL_SETS, BEST))


def balancing_cases(runs: pd.DataFrame, table: pd.DataFrame) -> list[Case]:
    """Claims 5a and 5b.

    Args:
        runs: of round 0 of one scope.
        table: `load.metrics`.
    """
    cases = []
    methods = [BASELINE, *BOSS_METHODS]
    for family, method in itertools.product(POPULATIONS, BOSS_METHODS):
        block = of_family(runs, family)
        pair = nearest_variants(block, method, BASELINE)
        if pair is None:
            continue
        rows, against = pair
        name = f"{rows['variant'].iloc[0]} - {against['variant'].iloc[0]}"
        ours, theirs = (class_measures(of_runs(table, part)) for part in (rows, against))
        remark = other_settings(rows, against)
        for claim, finding in (
            (BALANCING, effect(rows, against, "percent", ABOVE_ZERO)),
            (FAILURES, effect(ours, theirs, "num_failed", BELOW_ZERO)),
        ):
            asked = finding._replace(remark=remark)
            cases.append(Case(claim, asked, family, name, (against,)))
    there = [name for name in methods if (of_family(runs, *POPULATIONS)["method"] == name).any()]
    what = f"{methods[0]} and one of {methods[1]} to {methods[-1]} on the same {OF_POPULATIONS}"
    return cases or without_runs(needs(what, there), BALANCING, FAILURES)


def nearest_variants(
    runs: pd.DataFrame, method: str, baseline: str
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """The runs of one variant of each of two methods that differ least apart from the balancing.

    Selected by settings and available runs only, never by results: pairs with too few common label
    sets come last; among equally close pairs, the first in the order of every table. None if a
    method was not run.
    """

    def rank(pair: tuple[pd.DataFrame, pd.DataFrame]) -> tuple[bool, int]:
        common = pair[0][PAIR_KEYS].merge(pair[1][PAIR_KEYS])
        return common["label_set"].nunique() < MIN_SETS, len(differing(*pair))

    ours, theirs = (
        [rows for _, rows in runs[runs["method"] == name].groupby("variant", sort=False)]
        for name in (method, baseline)
    )
    pairs = itertools.product(ours, theirs)
    return min(pairs, key=rank, default=None)


def other_settings(rows: pd.DataFrame, against: pd.DataFrame) -> str:
    """A remark if a method of BOSS and FixMatch differ in more than the balancing."""
    names = differing(rows, against)
    return f"not only the balancing differs: also {', '.join(names)}" if names else ""


def differing(rows: pd.DataFrame, against: pd.DataFrame) -> list[str]:
    """The hyperparameters in which BOSS and FixMatch differ, apart from the balancing."""
    ours, theirs = rows.iloc[0], against.iloc[0]
    names = [name for name in HYPERPARAMETERS if ours[name] != theirs[name]]
    first, second = (json.loads(one["options"]) for one in (ours, theirs))
    # An option that only one of the two algorithms has: the other does what its default says.
    usual = {**ALGORITHMS["boss"].options, **ALGORITHMS[BASELINE].options}
    first, second = usual | first, usual | second
    names += [name for name in first if first[name] != second.get(name)]
    return [name for name in names if name not in BALANCING_OPTIONS]


def prototype_cases(runs: pd.DataFrame) -> list[Case]:
    """Claim 6a.

    Args:
        runs: of round 0 of one scope.
    """
    cases = []
    families = [name for name in runs["family"].unique() if is_iconic(name)]
    families.sort(key=prototypes.family_order)
    methods = [BASELINE, *BOSS_METHODS]
    for method, family in itertools.product(methods, families):
        both = of_family(runs, RANDOM, family)
        both = both[both.groupby("variant")["family"].transform("nunique") > 1]
        rows = first_variant(both, method)
        if not len(rows):
            continue
        finding = prototype_effect(of_family(rows, family), of_family(rows, RANDOM))
        known = [text for end, text in KNOWLEDGE.items() if family.endswith(end)]
        known += [HELD_OUT] * bool(rows["num_validation"].gt(0).any())
        finding = finding._replace(remark="; ".join([finding.remark, *known]))
        fixmatch = fixmatch_or(both, rows)
        basis = (of_family(fixmatch, family), of_family(fixmatch, RANDOM))
        name = str(rows["variant"].iloc[0])
        cases.append(Case(ICONIC, finding, family, name, basis, published_iconic(family)))
    there = [RANDOM] * bool((runs["family"] == RANDOM).any()) + families
    what = f"one method on {RANDOM} and on {HAND_PICKED}, {CENTROID} or {MOST_PROTOTYPICAL} sets"
    return cases or without_runs(needs(what, there), ICONIC)


def bucket_cases(runs: pd.DataFrame) -> list[Case]:
    """Claim 6b.

    Args:
        runs: of round 0 of one scope.
    """
    runs = of_family(runs, BUCKETS, MOST_PROTOTYPICAL)
    cases = []
    for method in (BASELINE, *BOSS_METHODS):
        rows = first_variant(runs, method)
        if len(rows):
            basis = (fixmatch_or(runs, rows),)
            name = str(rows["variant"].iloc[0])
            cases.append(Case(PROTOTYPICALITY, bucket_trend(rows), BUCKETS, name, basis))
    what = f"{BASELINE} or a method of BOSS on at least {MIN_BUCKETS} {BUCKETS}"
    return cases or without_runs(needs(what, []), PROTOTYPICALITY)


def self_training_cases(runs: pd.DataFrame, full: pd.DataFrame) -> list[Case]:
    """Claims 7a and 7b: the largest number of selected images, as in the authors' script.

    Args:
        runs: of one scope.
        full: `self_training.yardsticks`.
    """
    children = self_training.children(runs)
    children = children[(children["round"] == 1) & children["gain"].notna()]
    families = [name for name in children["family"].unique() if name == RANDOM or is_iconic(name)]
    families.sort(key=prototypes.family_order)
    cases = []
    for family in families:
        for parent, rows in of_family(children, family).groupby("parent_variant", sort=False):
            rows = rows[rows["picks_per_class"] == rows["picks_per_class"].max()]
            rows = rows[rows["variant"] == rows["variant"].iloc[0]]
            parents = runs[runs["run_id"].isin(rows["parent"])]
            basis = (fixmatch_or(of_family(runs[is_plain(runs)], family), parents),)
            name = str(rows["variant"].iloc[0])
            theirs = self_training.yardstick_of(rows, full)
            cases += [
                Case(GAIN, gain(rows), family, f"{name} - {parent}", basis),
                Case(FULL, to_full(rows, theirs), family, name, basis),
            ]
    what = f"round 1 of self-training by pseudo-labels, and its parents, on {RANDOM} or iconic sets"
    return cases or without_runs(needs(what, []), GAIN, FULL)
