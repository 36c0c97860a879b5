"""Writes the report of a study: tables, figures, and one page that puts them in reading order."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from boss.study.catalog import ALGORITHMS
from boss.study.run import BY_GRAPH
from boss.study.study import Comparison

from .. import tables
from ..claims import claims
from ..load import Results, load, metrics
from ..naming import GROUP, ORACLE_MARK
from ..sections import (
    augmentation,
    balancing,
    class_effects,
    collapse,
    comparison_page,
    cost,
    labeled_images,
    prototypes,
    self_training,
    shortfall,
)
from ..sections import tuning as choosing
from ..sections.algorithms import algorithm_parts
from ..sections.label_sets import (
    class_accuracy,
    class_parts,
    focus_parts,
    runs_table,
    widest_spread,
)
from ..sections.protocols import protocol_parts
from ..sections.pseudo_label_curves import pseudo_label_parts
from ..sections.published import published_parts, read_published
from ..sections.reference import load_reference, reference_parts
from ..sections.settings import settings_parts
from ..sections.variance import variance_parts
from ..style import STYLE
from .parts import (
    MAX_IN_DETAIL,
    Focus,
    Part,
    slug,
    suffixes,
    without_rounds,
)
from .saving import save_all
from .titled import titled, titles_in
from .write import Report, prepare, write_part, write_text

MAX_GROUPS_LISTED = 20  # at the head of the page; of more, how many there are


CHOOSING, LABELED, SETTINGS = "Tuning on held-out images", "Labeled images", "Settings"


WITHOUT_TEST = (CHOOSING, LABELED, SETTINGS)  # sections of a study by which something is chosen


READING = """\
Accuracies are in percent, differences and standard deviations in percentage points. "a ± b" is
the mean and the SAMPLE standard deviation (n - 1) over n repeats: same labeled images, other random
streams; a single value (n = 1) stands alone. If not said otherwise a number is of the teacher (the
moving average of the weights) after the last step, on the test images. Only runs with equal
settings are averaged. Intervals are 95%, and each caption says which. Repeats of one label set
share their labeled images and are not independent, so intervals are over label sets wherever there
are several. Where there are too many classes for a page, those with the lowest and the highest
values are shown; the CSV files in tables/ have all, in full precision."""


READING_METHODS = """\
BOSS-1 to BOSS-4 are the class balancing methods of BOSS, as its authors number them: 1 lowers the
thresholds of rare classes, 2 weighs by the counts of all predictions, 3 by those that are used, 4
does 1 and 3; method 0 balances nothing and is called FixMatch. The authors train each with
hyperparameters of its own; section Settings has them. CSV files have the names in code: boss-1."""


READING_NAMES = """\
In brackets after a name: the settings in which groups of this name differ; of three or more such
settings, only those that depart from the most frequent value of each. Section Settings has all."""


READING_ROUNDS = """\
"BOSS-4 -> FixMatch +40" is self-training: the network of a BOSS-4 run selected the 40 images of
each predicted class on which it was most confident, and a new network was trained by FixMatch on
the labeled images and the selected ones with their pseudo-labels; x2: two such rounds,
each selecting anew; ?: the run that selected is not in the store."""


READING_GRAPH = """\
"+100 by propagation": before training, the labels of the label set were propagated over the graph
of nearest neighbors in an embedding that was made without labels (that of the encoder; "with": and
another), and the 100 most certain images of each class joined the labeled ones with these
pseudo-labels. "by graph": a round of self-training selected its images in this way, in the features
of the last network and, beside them, that embedding ("by itself": alone); "by graph and
confidence": by the product of that and the network's confidence; "smoothed": by the network's class
probabilities of all images, averaged over that graph. "from simclr:6000": the network starts from
the weights of that encoder, also in the rounds that follow."""


READING_ORACLES = """\
What is marked (oracle) used hidden labels, true classes of selected images or accuracies on the
test set: it is a diagnostic, not a result."""


def report(
    study: str,
    results: Path,
    *,
    reference: Path | None,
    published: Sequence[str],
    reproduces: str,
    description: str = "",
    comparisons: Sequence[Comparison] = (),
    shows_test: bool = True,
) -> Report:
    """Write tables, figures and report.md of the finished runs to results/<study>/report.

    Files of an earlier report in its folders tables and figures are removed. Written twice from
    the same results, every file is the same to the byte.

    Args:
        results: the folder that holds the study's store.
        reference: a folder of such stores to compare with, if there is one.
        published: files of analysis/published by label set to compare with.
        reproduces, description: of the study, for the head of the page.
        comparisons: with files of analysis/published by settings of the runs.
        shows_test: if not, only the sections `WITHOUT_TEST`, and no table of the runs.

    Raises:
        InputError: no finished run, no such published table or setting of a comparison, or the
            folder cannot be written.
    """
    found = load(results, study)
    warnings = list(found.warnings)
    base, base_warnings = load_reference(reference, study)
    warnings += base_warnings
    theirs = {name: read_published(name) for name in published}
    sections, section_warnings = contents(found, base, theirs, comparisons)
    warnings += section_warnings
    titles = titles_in(found.runs)
    if not shows_test:
        sections = [section for section in sections if section[0] in WITHOUT_TEST]
    folder = Path(results) / study / "report"
    prepare(folder)
    written = Report(folder, [], [], warnings)
    page = [head(study, found, reproduces, description, warnings)]
    drawn: dict[Path, Figure] = {}
    for number, (heading, parts) in enumerate(sections, start=1):
        page.append(f"## {number}. {heading}")
        page.extend(write_part(titled(part, titles), study, written, drawn) for part in parts)
    save_all(drawn, STYLE)
    if shows_test:
        everything = runs_table(metrics(found)).to_csv(index=False)
        written.tables.append(write_text(folder / "tables" / "runs.csv", everything))
    write_text(folder / "report.md", "\n\n".join(page) + "\n")
    return written


def contents(
    found: Results,
    base: Results | None,
    theirs: dict[str, pd.DataFrame],
    comparisons: Sequence[Comparison] = (),
) -> tuple[list[tuple[str, list[Part]]], list[str]]:
    """The sections of the page, empty ones left out, and warnings.

    Args:
        theirs: the published tables by label set, by name.
        comparisons: with published tables by settings.
    """
    table = metrics(found)
    experiments = list(table["experiment"].unique())
    full = set(found.runs.loc[found.runs["is_full"], "run_id"])
    partly = table[~table["run_id"].isin(full)]
    focuses = in_detail(choose_focuses(partly, theirs, experiments), found.runs)
    beside: list[Part] = []
    sheets, warnings = labeled_images.sheet_parts(found)
    for name, published in theirs.items():
        parts, more = published_parts(table, found, base, published, name)
        beside += parts
        warnings += more
    collapsed, more = collapse.parts(found)
    warnings += more
    by_class = [*class_parts(found, table, experiments), *class_effects.parts(table), *collapsed]
    rate_parts, more = augmentation.parts(found, focuses, experiments)
    warnings += more
    for one in comparisons:
        parts, more = comparison_page.parts(found, one)
        beside += parts
        warnings += more
    sections: list[tuple[str, list[Part]]] = [
        ("Claims of the publications", claims.parts(found)),
        (CHOOSING, choosing.parts(found)),
        ("Algorithms", algorithm_parts(found, table, theirs, experiments)),
        ("Balancing", balancing.parts(found, table, focuses, experiments)),
        ("Self-training", self_training.parts(found, experiments)),
        ("Accuracy for its cost", cost.parts(found)),
        ("Prototypes", prototypes.parts(found)),
        (LABELED, sheets),
        ("Label sets and classes", by_class),
        ("One label set, run by run", focus_parts(table, found, focuses)),
        ("Which classes keep the run below 90%", shortfall.parts(found)),
        ("Where the variance comes from", variance_parts(table, experiments)),
        ("Which checkpoint is reported", protocol_parts(found)),
        ("Pseudo-labels", pseudo_label_parts(found, focuses, experiments)),
        ("Augmentation", rate_parts),
        ("Beside the publication", beside),
        ("Beside the reference results", reference_parts(found, base)),
        (SETTINGS, settings_parts(found)),
    ]
    return [(heading, parts) for heading, parts in sections if parts], warnings


def choose_focuses(
    table: pd.DataFrame, theirs: dict[str, pd.DataFrame], experiments: list[str]
) -> list[Focus]:
    """Per experiment: the label set of a publication that is about one, else the widest spread.

    Of round 0, if there is one.

    Args:
        table: `metrics`, without fully supervised runs.
        experiments: all there are.
    """
    ends = suffixes(experiments)
    wanted: list[str] = []
    for published in theirs.values():
        if published["label_set"].nunique() == 1:
            names = [published[c].iloc[0] for c in ("label_set", "alternative_label_set")]
            wanted += [name for name in names if isinstance(name, str)]
    focuses = []
    for experiment, block in table.groupby("experiment", sort=False):
        numbers = class_accuracy(without_rounds(block)[0])
        for name in wanted:
            if (numbers["label_set"] == name).any():
                numbers = numbers[numbers["label_set"] == name]
                break
        variant, label_set = widest_spread(numbers)
        suffix = f"{slug(label_set)}{ends[str(experiment)]}"
        focuses.append(Focus(str(experiment), variant, label_set, suffix))
    return focuses


def in_detail(focuses: list[Focus], runs: pd.DataFrame) -> list[Focus]:
    """Those of many experiments that are looked at in detail: of each data set the first.

    That is the one with the fewest labels.
    """
    if len(focuses) <= MAX_IN_DETAIL:
        return focuses
    datasets = runs.drop_duplicates("experiment").set_index("experiment")["dataset"]
    first: dict[str, Focus] = {}
    for focus in focuses:
        first.setdefault(str(datasets[focus.experiment]), focus)
    return list(first.values())


# The page


def head(study: str, found: Results, reproduces: str, description: str, warnings: list[str]) -> str:
    """Title, purpose, what there is, warnings, how to read it."""
    lines = [f"# {study}", f"Reproduces: {reproduces}", description.strip()]
    counts = found.runs.groupby(GROUP, sort=False)["run_id"].count()
    names = counts.reset_index().itertuples(index=False)
    titles = titles_in(found.runs)
    listed = [
        f"- {experiment}: {titles[variant]}, {count} runs" for experiment, variant, count in names
    ]
    if len(counts) > MAX_GROUPS_LISTED:
        groups = counts.reset_index().groupby("experiment", sort=False)
        listed = [
            f"- {name}: {tables.plural(int(group['run_id'].sum()), 'run')} of "
            f"{tables.plural(len(group), 'variant')}"
            for name, group in groups
        ]
    lines += ["Finished runs:", "\n".join(listed)]
    if warnings:
        lines += ["**Warnings**", "\n".join(f"- {warning}" for warning in warnings)]
    lines += ["How to read the numbers:", READING]
    present = [name for name in ALGORITHMS if (found.runs["algorithm"] == name).any()]
    if {*present} - {"supervised", "fixmatch"}:
        texts = [f"- {ALGORITHMS[name].title}: {ALGORITHMS[name].summary}" for name in present]
        lines += ["What the algorithms do:", "\n".join(texts)]
    lines += [READING_NAMES] * bool(found.runs["step"].str.contains(" = ", regex=False).any())
    lines += [READING_METHODS] * bool(found.runs["algorithm"].eq("boss").any())
    lines += [READING_ROUNDS] * bool(found.runs["round"].any())
    by_graph = found.runs["start"].eq("propagation") | found.runs["rank_by"].isin(BY_GRAPH)
    lines += [READING_GRAPH] * bool(by_graph.any())
    names = found.runs["variant"] + found.runs["label_set"]
    lines += [READING_ORACLES] * bool(names.str.contains(ORACLE_MARK, regex=False).any())
    return "\n\n".join(line for line in lines if line)
