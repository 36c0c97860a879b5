"""The claims put to the runs of a study: the table and its section of the report."""

import math
from typing import Any

import pandas as pd

from ..load import Results, metrics
from ..naming import is_plain
from ..page.parts import Part, Table
from ..sections import self_training
from ..sections.published import published_moments, published_note, read_published
from ..statistics import LEVEL, Interval
from ..tables import interval, plural, without_constant
from .cases import (
    Case,
    balancing_cases,
    bucket_cases,
    fixmatch_cases,
    prototype_cases,
    self_training_cases,
    taking_part,
)
from .catalog import CLAIMS, FAILS, HOLDS, OPEN, RULES_SINCE
from .published import SINGLE, TABLE_1, Published, published, published_gaps
from .verdicts import about, verdict

# The tables


def claims(found: Results) -> pd.DataFrame:
    """Each claim tested on the runs of each scope that has suitable runs.

    Returns:
        scope, claim, sentence, source, family and runs (which), statistic; value, low, high (of its
        95% interval; interval_over says over what) or p_value; num_label_sets, num_runs (pairs, if
        it is a difference of pairs); published, published_low, published_high, published_origin;
        rule, limit_low, limit_high; verdict, reason, remark, about.
    """
    runs = taking_part(found)
    table = metrics(found)
    full = self_training.yardsticks(found.runs)
    gaps = published_gaps(published_moments(read_published(TABLE_1)))["gap"]
    gap_range = Interval(float(gaps.min()), float(gaps.max()))
    order = [claim.name for claim in CLAIMS]
    rows = []
    for scope, block in runs.groupby("scope", sort=False):
        first = block[is_plain(block)]
        cases = fixmatch_cases(first, table, gap_range)
        cases += balancing_cases(first, table) + prototype_cases(first) + bucket_cases(first)
        cases += self_training_cases(block, full)
        if not any(case.finding.num_runs for case in cases):
            continue
        cases.sort(key=lambda case: order.index(case.claim.name))
        dataset = str(block["dataset"].iloc[0])
        theirs = published(dataset)
        for case in cases:
            said = verdict(case, str(block["budget"].iloc[0]), int(block["num_classes"].iloc[0]))
            known = case.published or theirs.get(case.claim.name, Published())
            place = about(case.claim, dataset, int(block["num_images"].iloc[0]))
            rows.append({"scope": scope} | record(case, known, *said) | {"about": place})
    return pd.DataFrame(rows)


def record(case: Case, known: Published, said: str, reason: str) -> dict[str, Any]:
    """One row of `claims`."""
    claim, finding = case.claim, case.finding
    limits = [end if math.isfinite(end) else math.nan for end in finding.limits]
    return {
        **{"claim": claim.name, "sentence": claim.sentence, "source": claim.source},
        **{"family": case.family, "runs": case.runs, "statistic": claim.statistic},
        **{"value": finding.value, "low": finding.interval.low, "high": finding.interval.high},
        **{"p_value": finding.p_value, "interval_over": claim.over},
        **{"num_label_sets": finding.num_label_sets, "num_runs": finding.num_runs},
        **{"published": known.value, "published_low": known.interval.low},
        **{"published_high": known.interval.high, "published_origin": known.origin},
        **{"rule": claim.rule, "limit_low": limits[0], "limit_high": limits[1]},
        **{"verdict": said, "reason": reason, "remark": finding.remark},
    }


def claims_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per row of `claims`, without the columns of `rules`."""
    by_name = {claim.name: claim for claim in CLAIMS}
    rows = []
    for row in numbers.to_dict("records"):
        claim = by_name[row["claim"]]
        ends = interval(row["low"], row["high"], claim.write)
        if not math.isnan(row["p_value"]):
            ends = f"p = {row['p_value']:.2g}"
        theirs = interval(row["published_low"], row["published_high"], claim.write)
        known = [claim.write(row["published"])] * (not math.isnan(row["published"]))
        known += [theirs] * (theirs != "-") + [f"({row['published_origin']})"]
        counts = f"{plural(row['num_label_sets'], 'label set')}, "
        counts += plural(row["num_runs"], claim.unit)
        rows.append(
            {
                "experiment": row["scope"],
                "claim": f"{row['claim']}. {row['sentence']}",
                "runs": ", ".join(filter(None, (row["runs"], row["family"]))) or "-",
                "value": claim.write(row["value"]),
                "95% interval": ends,
                "n": counts if row["num_runs"] else "-",
                "published": " ".join(known),
                "verdict": row["verdict"],
                "remarks": "; ".join(filter(None, (row["reason"], row["remark"]))) or "-",
                "about": row["about"],
            }
        )
    return without_constant(pd.DataFrame(rows), ("experiment",))


def rules(numbers: pd.DataFrame) -> pd.DataFrame:
    """How the claims of a table are tested: claim, sentence, source, statistic, rule.

    Args:
        numbers: `claims`.
    """
    columns = ["claim", "sentence", "source", "statistic", "interval_over", "rule"]
    table = numbers.drop_duplicates("claim")[columns]
    order = [claim.name for claim in CLAIMS]
    return table.sort_values("claim", key=lambda names: names.map(order.index), ignore_index=True)


def rules_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row per claim."""
    claim = numbers["claim"] + ". " + numbers["sentence"]
    text = numbers.assign(claim=claim).drop(columns="sentence")
    return text.rename(columns={"interval_over": "interval over", "rule": "holds if it lies"})


def rules_since(runs: pd.DataFrame) -> str:
    """Whether the rules were fixed before the runs."""
    known = int((runs["finished_at"] < RULES_SINCE).sum())
    if known == len(runs):
        return "all of these runs had finished when the rules were written"
    count = f"{known} of these {len(runs)} runs" if known else "none of these runs"
    return f"{count} had finished when the rules were written"


def parts(found: Results) -> list[Part]:
    """The claims and how they are tested."""
    numbers = claims(found)
    if not len(numbers):
        return []
    num_tests = int(numbers["verdict"].isin((HOLDS, FAILS, OPEN)).sum())
    asked = rules(numbers)
    caption = (
        "Runs from one labeled image per class, without oracles; accuracy of the teacher after "
        f"the last step. The next table gives the rules; {rules_since(found.runs)}. A claim holds "
        "if the 95% interval lies within the range of its rule, does not hold if it lies wholly "
        "outside, and is undecided otherwise. A verdict applies to these runs, on the data in the "
        "last column. There is no correction for multiple tests: on average "
        f"{(1 - LEVEL) * num_tests:.1f} of {num_tests} intervals miss the true value by chance (a "
        "p value counts as an interval). Published: the same statistic of the publication's own "
        f"numbers. {published_note(SINGLE)} Hand-picked sets are boss:0 to boss:5, which "
        "share at most single images; the other sets combine these or are random."
    )
    return [
        Table("claims", "Claims of the publications", caption, numbers, claims_text(numbers)),
        Table(
            "claims_rules",
            "How the claims are tested",
            "One statistic and one range per claim. Accuracies are in percent. Intervals over "
            "label sets treat the label set as the unit; a claim with too few of them is not "
            "tested.",
            asked,
            rules_text(asked),
        ),
    ]
