"""Writes the report of a study: tables, figures, and one page that puts them in reading order."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
import pandas as pd

from boss.errors import InputError
from boss.results.read import Store
from boss.study.study import Comparison

from .. import figures, tables
from ..claims import claims
from ..load import ALL, GROUP, ORACLE_MARK, Results, class_curves, load, metrics
from ..page.parts import (
    Focus,
    Part,
    Picture,
    Table,
    Text,
    of_experiment,
    slug,
    suffixes,
    without_rounds,
)
from ..page.saving import Saver
from ..sections import (
    augmentation,
    balancing,
    comparison_page,
    labeled_images,
    prototypes,
    self_training,
    shortfall,
)
from ..sections import tuning as choosing

MAX_ROWS_SHOWN = 60  # of a table on the page; its own files hold more
MAX_ROWS_IN_TEXT = 1000  # of a table in Markdown and LaTeX; its CSV holds all
MAX_IN_DETAIL = 4  # experiments; of more, one of each data set
MAX_GROUPS_LISTED = 20  # at the head of the page; of more, how many there are
MAX_VARIANTS_DRAWN = 8  # variance figures of one experiment; of more variants, one of all

CHOOSING, LABELED, SETTINGS = "Choosing by held-out images", "Labeled images", "Settings"
WITHOUT_TEST = (CHOOSING, LABELED, SETTINGS)  # sections of a study by which something is chosen

READING = """\
Accuracies are in percent, differences and standard deviations in percentage points. "a ± b" is
the mean and the SAMPLE standard deviation (n - 1) over n repeats: same labeled images, other random
streams; with n = 1 there is none ("-"). If not said otherwise a number is of the teacher (the
moving average of the weights) after the last step, on the test images. Only runs with equal
settings are averaged. Intervals are 95%, and each caption says which. Repeats of one label set
share their labeled images and are not independent, so intervals are over label sets wherever there
are several. Where there are too many classes for a page, those with the lowest and the highest
values are shown; the CSV files in tables/ have all, in full precision."""
READING_METHODS = """\
boss-1 to boss-4 are the class balancing methods of BOSS, as its authors number them: 1 lowers the
thresholds of rare classes, 2 weighs by the counts of all predictions, 3 by those that are used, 4
does 1 and 3; method 0 balances nothing and is called fixmatch. The authors train each with
hyperparameters of its own; section Settings has them."""
READING_NAMES = """\
In brackets after a name: the settings in which groups of this name differ; of three or more such
settings, only those that depart from the most frequent value of each. Section Settings has all."""
ALGORITHMS = {
    "supervised": "learns from the labeled images alone",
    "pi_model": "two weak views of an image are to be predicted alike",
    "pseudo_label": "a confident prediction is the label of the very view it is made on",
    "mean_teacher": "the averaged network, on another weak view, says what to predict",
    "vat": "the prediction is to withstand the small change of an image that alters it most",
    "mixmatch": "sharpened guesses, averaged over weak views; images and labels are mixed",
    "remixmatch": "mixmatch with guesses aligned to the class frequencies, and strong views",
    "uda": "fixmatch with the whole distribution in place of the most probable class",
    "fixmatch": "a confident prediction on a weak view is the label of a strong view",
    "flexmatch": "fixmatch with lower thresholds for classes that few images have reached",
    "freematch": "fixmatch with thresholds that follow the mean confidence, of all and by class",
}
READING_ROUNDS = """\
"boss-4 -> fixmatch +40" is self-training: the network of a boss-4 run picked the 40 images of each
class of which it was surest, and a new network was trained by FixMatch on the labeled images and
these picks with their guessed classes; x2: two such rounds, each with all picks anew; ?: the run
that picked is not in the store."""
READING_ORACLES = """\
What is marked (oracle) profited from hidden labels, true classes of picks or accuracies on the test
set: it is a diagnostic, no result."""


@dataclass(frozen=True)
class Report:
    """What was written."""

    folder: Path
    tables: list[Path]
    figures: list[Path]
    warnings: list[str]


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
    theirs = {name: tables.read_published(name) for name in published}
    sections, section_warnings = contents(found, base, theirs, comparisons)
    warnings += section_warnings
    if not shows_test:
        sections = [section for section in sections if section[0] in WITHOUT_TEST]
    folder = Path(results) / study / "report"
    prepare(folder)
    written = Report(folder, [], [], warnings)
    page = [head(study, found, reproduces, description, warnings)]
    num_figures = sum(isinstance(part, Picture) for _, parts in sections for part in parts)
    with Saver(num_figures) as saver:
        for number, (heading, parts) in enumerate(sections, start=1):
            page.append(f"## {number}. {heading}")
            page.extend(write_part(part, study, written, saver) for part in parts)
        if shows_test:
            everything = tables.runs(metrics(found)).to_csv(index=False)
            written.tables.append(write_text(folder / "tables" / "runs.csv", everything))
    write_text(folder / "report.md", "\n\n".join(page) + "\n")
    return written


def load_reference(reference: Path | None, study: str) -> tuple[Results | None, list[str]]:
    """The reference store, if it has this study, and what is wrong with it."""
    if reference is None or not Store(reference, study).folder.is_dir():
        return None, []
    try:
        found = load(reference, study)
    except InputError as error:
        return None, [f"no comparison with the reference: {error}"]
    return found, [f"reference: {warning}" for warning in found.warnings]


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
        ("Prototypes", prototypes.parts(found)),
        (LABELED, sheets),
        ("Label sets and classes", class_parts(found, table, experiments)),
        ("One label set, run by run", focus_parts(table, found, focuses)),
        ("What is in the way of 90%", shortfall.parts(found)),
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
        numbers = tables.class_accuracy(without_rounds(block)[0])
        for name in wanted:
            if (numbers["label_set"] == name).any():
                numbers = numbers[numbers["label_set"] == name]
                break
        variant, label_set = tables.widest_spread(numbers)
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


def with_figures(found: Results, experiments: list[str]) -> list[tuple[str, str]]:
    """Name and ending of file names of the experiments that have figures.

    Of many, those that hold nothing but full supervision have none.
    """
    ends = [*suffixes(experiments).items()]
    if len(experiments) <= MAX_IN_DETAIL:
        return ends
    full = found.runs.groupby("experiment")["is_full"].all()
    return [(name, end) for name, end in ends if not full[name]]


# The sections


def algorithm_parts(
    found: Results, table: pd.DataFrame, theirs: dict[str, pd.DataFrame], experiments: list[str]
) -> list[Part]:
    """Every algorithm over all label sets."""
    numbers = tables.algorithms(found.runs)
    verdicts = tables.verdicts(numbers)
    parts: list[Part] = [
        Table(
            "algorithms",
            "Algorithms",
            "Mean over label sets of the mean over repeats, in percent; sd over all runs. "
            "95% interval: Student's t over the means of the label sets (over repeats if there is "
            "one label set: then it says nothing about others). Bootstrap: percentile interval of "
            f"{tables.NUM_RESAMPLES:,} resamples of label sets, then of repeats within them (seed "
            f"{tables.BOOTSTRAP_SEED}); with few label sets it is too narrow. Difference: over "
            "pairs of runs with the same label set and repeat, which share their random streams, "
            "with Student's t interval over label sets, since repeats of one label set are not "
            "independent; wins: pairs in which the algorithm is better.",
            numbers,
            tables.algorithms_text(numbers),
        )
    ]
    if len(verdicts):
        parts.append(
            Table(
                "verdicts",
                "Which are better than the one they are compared with",
                "Better: the 95% interval of the difference in the table above, over label sets, "
                "lies above 0; worse: below; undecided: neither, or there are fewer than two label "
                "sets. Each for itself: of 20 that are no better and no worse, one would be called "
                "either.",
                verdicts,
                tables.verdicts_text(verdicts),
            )
        )
    for experiment, end in with_figures(found, experiments):
        block, note = without_rounds(of_experiment(table, experiment))
        curves, _ = without_rounds(of_experiment(found.evaluations, experiment))
        marks = published_marks(found, experiment, theirs)
        caption = (
            "Every run is a dot; the bar is the mean over repeats and its 95% t interval (cut at 0 "
            f"and 100). {tables.counts_text(block)}. {note}".strip()
        )
        if marks:
            caption += (
                " Diamonds: the published All, which is probably the best on the test set; which "
                "label sets the publication used is inferred."
            )
        accuracy = Picture(
            f"accuracy_by_label_set{end}",
            f"Test accuracy by label set: {experiment}",
            caption,
            lambda block=block, marks=marks, experiment=experiment: (  # type: ignore[misc]
                figures.accuracy_by_label_set(
                    block, f"Test accuracy by label set: {experiment}", marks
                )
            ),
        )
        if block["variant"].nunique() > figures.MAX_COLORED:
            title = f"Test accuracy by variant: {experiment}"
            accuracy = Picture(
                f"accuracy_by_variant{end}",
                title,
                "Every run is a dot; the bar is the mean over label sets and its 95% t interval "
                "over label sets (over repeats if there is one label set), cut at 0 and 100; the "
                f"vertical line is the baseline. {tables.counts_text(block)}. {note}".strip(),
                lambda block=block, title=title: (  # type: ignore[misc]
                    figures.accuracy_by_variant(block, title)
                ),
            )
        parts += [
            accuracy,
            Picture(
                f"convergence{end}",
                f"Test accuracy during training: {experiment}",
                "Mean over all runs of each algorithm. Band: one sample standard deviation over "
                f"runs on each side (teacher). {tables.counts_text(block)}. {note}".strip(),
                lambda curves=curves, experiment=experiment: figures.convergence(  # type: ignore[misc]
                    curves, f"Test accuracy during training: {experiment}"
                ),
            ),
        ]
    return parts


def published_marks(
    found: Results, experiment: str, theirs: dict[str, pd.DataFrame]
) -> dict[str, float]:
    """Published All by label set, if this experiment is on the published data."""
    runs = of_experiment(found.runs, experiment)
    marks: dict[str, float] = {}
    for published in theirs.values():
        if runs["dataset"].isin(published["dataset"]).any():
            marks |= dict(tables.published_means(published))
    return marks


def class_parts(found: Results, table: pd.DataFrame, experiments: list[str]) -> list[Part]:
    """Every label set and class; data sets with other classes have tables of their own."""
    parts: list[Part] = []
    datasets = table["run_id"].map(found.runs.set_index("run_id")["dataset"])
    for dataset, rows in table.groupby(datasets, sort=False):
        numbers = tables.class_accuracy(rows)
        own = Path(str(dataset)).stem if datasets.nunique() > 1 else ""
        parts.append(
            Table(
                f"class_accuracy_{slug(own)}" if own else "class_accuracy",
                "Test accuracy by label set and class" + f": {own}" * bool(own),
                "Percent, mean ± sample standard deviation over n repeats. All and the classes: "
                "the teacher after the last step. Oracle: maximum over all evaluations of teacher "
                "and student, chosen on the test set; no result, but what some publications call "
                "All. Mean of classes equals All if the test set has equally many images of each "
                "class.",
                numbers,
                tables.class_accuracy_text(numbers),
            )
        )
    for experiment, end in with_figures(found, experiments):
        block, note = without_rounds(of_experiment(table, experiment))
        is_many = block["variant"].nunique() > figures.MAX_PANELS
        what = "variant" if is_many else "label set"
        title = f"Test accuracy by {what} and class: {experiment}"
        parts.append(
            Picture(
                f"class_accuracy_heatmap{end}",
                title,
                f"Mean over {'label sets' if is_many else 'repeats'}, teacher after the last step. "
                f"{tables.counts_text(block)}. "
                f"{note}".strip(),
                lambda block=block, title=title: (  # type: ignore[misc]
                    figures.class_accuracy_heatmap(block, title)
                ),
            )
        )
    return parts


def focus_parts(table: pd.DataFrame, found: Results, focuses: list[Focus]) -> list[Part]:
    """One label set of each experiment, run by run; the CSV has all of them."""
    parts: list[Part] = []
    if len(focuses) > 0 and table["experiment"].nunique() > MAX_IN_DETAIL:
        parts.append(
            Text(
                "Of many experiments one of each data set, that with the fewest labels, is looked "
                "at in detail, here and in the figures of other sections; the tables have all."
            )
        )
    for focus in focuses:
        runs = focus.of(table)
        n = runs["repeat"].nunique()
        parts.append(
            Table(
                f"runs_of_{focus.suffix}",
                f"Runs of {focus.title}",
                "Percent, one row per repeat: the same labeled images, other initial weights and "
                f"order. Teacher after the last step; n = {n}. Last row: mean ± sample standard "
                "deviation. The runs of every label set are in tables/runs.csv.",
                tables.runs(runs),
                tables.runs_text(runs),
            )
        )
        curves = class_curves(found, focus.of(found.class_evaluations))
        title = f"{focus.title}. Test accuracy of each class during training"
        parts += [
            Picture(
                f"convergence_{focus.suffix}",
                title,
                f"One panel per repeat, n = {n}; teacher, on all test images of the class.",
                lambda curves=curves, title=title: (  # type: ignore[misc]
                    figures.run_convergence(curves, title)
                ),
            ),
            Picture(
                f"convergence_{focus.suffix}_by_class",
                title,
                f"The same curves, one panel per class, one curve per repeat (n = {n}).",
                lambda curves=curves, title=title: (  # type: ignore[misc]
                    figures.class_convergence(curves, title)
                ),
            ),
        ]
    return parts


def variance_parts(table: pd.DataFrame, experiments: list[str]) -> list[Part]:
    """Label sets against repeats, classes against their mean."""
    numbers = tables.variance(table)
    spread = tables.spread(table)
    drawn = set(without_rounds(table)[0][GROUP].itertuples(index=False, name=None))
    parts: list[Part] = [
        Table(
            "variance",
            "Variance between label sets and between repeats",
            "One-way random effects over runs, analysis-of-variance estimates, in percentage "
            "points (their squares add up). Share: variance between label sets of the total, with "
            "Wald's 95% interval (exact for normal effects; accuracies of single classes are "
            "rather two-humped, so read it as a guide). *: the estimate between label sets was "
            "negative and is set to 0. -: undefined (needs two label sets, and repeats of one).",
            numbers,
            tables.variance_text(numbers),
        )
    ]
    for experiment, end in suffixes(experiments).items():
        block = of_experiment(numbers, experiment)
        block = block[block["label_set_variance"].notna()]
        block = block[pd.MultiIndex.from_frame(block[GROUP]).isin(drawn)]
        names = list(block["variant"].drop_duplicates())
        if len(names) > MAX_VARIANTS_DRAWN:
            parts.append(variance_of_variants(block, table, experiment, end))
            continue
        for variant, ending in suffixes(names).items() if names else ():
            part = tables.extreme_classes(
                block[block["variant"] == variant], "repeat_variance", tables.MAX_CLASSES_DOWN
            )
            title = f"Variance of {variant}: {experiment}"
            of_variant = table["variant"] == variant
            counts = tables.counts_text(of_experiment(table[of_variant], experiment))
            parts.append(
                Picture(
                    f"variance{ending}{end}",
                    title,
                    f"{counts}. Components as in the table above; share of the label sets with "
                    "Wald's 95% interval.",
                    lambda part=part, title=title, counts=counts: (  # type: ignore[misc]
                        figures.variance(part, title, counts)
                    ),
                )
            )
    parts.append(
        Table(
            "spread",
            "Class-wise spread against total spread",
            "Percentage points. Over the n repeats of a label set: standard deviation of the mean "
            "of the classes, mean of the standard deviations of the classes, their ratio. A mean "
            "of K classes varies less than a class in any case (K equal, independent classes: by "
            "the root of K), so compare with the column for independent classes: a larger "
            "deviation of the mean says that classes rise and fall together, a smaller one that "
            "they gain at each other's cost. Last column: standard deviation over classes, mean "
            "over runs.",
            spread,
            tables.spread_text(spread),
        )
    )
    return parts


def variance_of_variants(
    block: pd.DataFrame, table: pd.DataFrame, experiment: str, end: str
) -> Picture:
    """The variance of All of many variants, in one figure.

    Args:
        block: `tables.variance` of one experiment.
        table: `load.metrics`.
    """
    part = block[block["metric"] == ALL]
    part = part.assign(metric=part["variant"])
    title = f"Variance by variant: {experiment}"
    drawn = of_experiment(table, experiment)
    counts = tables.counts_text(drawn[drawn["variant"].isin(part["variant"])])
    return Picture(
        f"variance{end}",
        title,
        f"Of All. {counts}. Components as in the table above; share of the label sets with Wald's "
        "95% interval.",
        lambda: figures.variance(part, title, counts, rows="variant"),
    )


def protocol_parts(found: Results) -> list[Part]:
    """Three ways to report the same runs."""
    numbers = tables.protocols(found.runs)
    fewest = int(found.runs["num_evaluations"].min())
    short = f" Runs with fewer than 20 evaluations (here from {fewest}) use all." * (fewest < 20)
    return [
        Table(
            "protocols",
            "Which checkpoint is reported",
            "Percent, mean ± sample standard deviation over n runs. Last: teacher after the last "
            "step. Median: of the teacher's last 20 evaluations (the number of evaluations is in "
            "the settings: 20 of 40 are the second half of the training; FixMatch's own protocol, "
            f"20 of 1,024, is its last 2%).{short} Best on test: maximum over all evaluations of "
            "teacher and student, an oracle. Best - last: what choosing on the test set adds, with "
            "the 95% t interval over repeats (rows of one label set) or over label sets (row "
            '"all", where it is the mean over label sets and the other columns are over runs: '
            "these differ if label sets have different numbers of repeats).",
            numbers,
            tables.protocols_text(numbers),
        )
    ]


def pseudo_label_parts(found: Results, focuses: list[Focus], experiments: list[str]) -> list[Part]:
    """How many pseudo-labels are used, how many are right, which classes they belong to."""
    parts: list[Part] = []
    ends = suffixes(experiments)
    for focus in focuses:
        rows, note = without_rounds(of_experiment(found.evaluations, focus.experiment))
        rows = rows[rows["variant"].isin(rows.loc[rows["used_share"].notna(), "variant"].unique())]
        if not len(rows):
            continue
        title = f"Pseudo-labels during training: {focus.experiment}"
        parts.append(
            Picture(
                f"pseudo_labels{ends[focus.experiment]}",
                title,
                "Share of the unlabeled images whose pseudo-label is used, and share of those used "
                "that is right. Mean over all runs and band of one sample standard deviation on "
                f"each side; {rows['run_id'].nunique()} runs. {note}".strip(),
                lambda rows=rows, title=title: (  # type: ignore[misc]
                    figures.pseudo_labels(rows, title)
                ),
            )
        )
        curves = class_curves(found, focus.of(found.class_evaluations))
        if not curves["pseudo_label_count"].notna().any():
            continue
        parts.append(
            Picture(
                f"pseudo_labels_{focus.suffix}",
                f"Classes of the pseudo-labels used: {focus.title}",
                "Share of each class in the pseudo-labels used since the last evaluation; the "
                "color scale ends at 2.5 times the even share. One panel per repeat.",
                lambda curves=curves, title=focus.title: (  # type: ignore[misc]
                    figures.pseudo_label_classes(curves, title)
                ),
            )
        )
    return parts


def published_parts(
    table: pd.DataFrame,
    found: Results,
    base: Results | None,
    theirs: pd.DataFrame,
    name: str,
) -> tuple[list[Part], list[str]]:
    """Our numbers beside the published ones."""
    ours = tables.comparable(table, found.runs, theirs)
    reference = None
    if base is not None:
        reference = tables.comparable(metrics(base), base.runs, theirs)
    numbers = tables.published(theirs, ours, reference)
    if not len(numbers):
        what = " and ".join(str(name) for name in theirs["dataset"].unique())
        names = ", ".join(str(name) for name in theirs["label_set"].unique())
        return [], [f"no comparison with the publication: it needs runs on {what} with {names}"]
    images = sorted(int(x) for x in found.runs["num_images"].unique())
    sources = "; ".join(sorted(theirs["source"].unique()))
    known = ", ".join(sorted(theirs["known"].unique()))
    caption = (
        f"Published: {sources} (numbers {known}). Percent, mean ± sample standard deviation over n "
        f"repeats on each side; difference in points. {tables.published_note(name)} Ours saw "
        f"{' or '.join(f'{x:,}' for x in images)} labeled images in training, repetitions counted."
    )
    title = f"Published numbers and ours: {sources}"
    stem = f"published_{Path(name).stem}"
    return [Table(stem, title, caption, numbers, tables.published_text(numbers))], []


def reference_parts(found: Results, base: Results | None) -> list[Part]:
    """Our runs beside the committed ones."""
    if base is None:
        return []
    numbers = tables.reference(found.runs, base.runs)
    if not len(numbers):
        return [
            Text(
                "The reference results have this study, but no runs with these settings and label "
                "sets: there is nothing to compare."
            )
        ]
    return [
        Table(
            "reference",
            "These results and the reference results",
            "Last accuracy in percent, mean ± sample standard deviation over all n repeats of each "
            "side, for groups and label sets that both have. Runs in both: those with the same "
            "id; difference: mean over these of ours - reference, in points, - if there are none. "
            "Identical: those of them whose accuracy is equal to the last bit; other devices or "
            "library versions need not give that.",
            numbers,
            tables.reference_text(numbers),
        )
    ]


def settings_parts(found: Results) -> list[Part]:
    """What was run, on what, for how long."""
    numbers = tables.settings(found.runs)
    different = tables.settings_different_text(numbers)
    parts: list[Part] = [
        Table(
            "settings",
            "Settings of all runs",
            "What all runs have in common; num_runs and seconds_sum are totals over all runs. "
            "Seconds are wall-clock time of training and evaluation. Versions of a library that "
            "differ are separated by a bar.",
            numbers,
            tables.settings_common_text(numbers),
        )
    ]
    if len(numbers) > 1:
        caption = (
            "What differs between algorithms or experiments, - where it does not apply; and the "
            "runs and label sets of each, its seconds summed over runs, and their median."
        )
        parts.append(
            Table("settings_by_group", "Settings that differ", caption, different, different)
        )
    return parts


# The page


def head(study: str, found: Results, reproduces: str, description: str, warnings: list[str]) -> str:
    """Title, purpose, what there is, warnings, how to read it."""
    lines = [f"# {study}", f"Reproduces: {reproduces}", description.strip()]
    counts = found.runs.groupby(GROUP, sort=False)["run_id"].count()
    names = counts.reset_index().itertuples(index=False)
    listed = [f"- {experiment}: {variant}, {count} runs" for experiment, variant, count in names]
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
        texts = [f"- {name}: {ALGORITHMS[name]}" for name in present]
        lines += ["What the algorithms do:", "\n".join(texts)]
    lines += [READING_NAMES] * bool(found.runs["step"].str.contains(" = ", regex=False).any())
    lines += [READING_METHODS] * bool(found.runs["algorithm"].eq("boss").any())
    lines += [READING_ROUNDS] * bool(found.runs["round"].any())
    names = found.runs["variant"] + found.runs["label_set"]
    lines += [READING_ORACLES] * bool(names.str.contains(ORACLE_MARK, regex=False).any())
    return "\n\n".join(line for line in lines if line)


def prepare(folder: Path) -> None:
    """Make the folders and remove the files of an earlier report."""
    try:
        for name, endings in (("tables", "csv md tex"), ("figures", "png pdf")):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for ending in endings.split():
                for path in (folder / name).glob(f"*.{ending}"):
                    path.unlink()
    except OSError as error:
        raise InputError(f"cannot write the report to {folder}: {error.strerror}") from error


def write_part(part: Part, study: str, written: Report, saver: Saver) -> str:
    """Write the files of a part and return its place on the page."""
    if isinstance(part, Text):
        return part.text
    if isinstance(part, Table):
        written.tables.extend(write_table(part, study, written.folder / "tables"))
        return table_on_page(part)
    written.figures.extend(write_picture(part, written.folder / "figures", saver))
    return f"![{part.title}](figures/{part.name}.png)\n\n**{part.title}.** {part.caption}"


def table_on_page(part: Table) -> str:
    """Title, table and caption."""
    shown = part.text.head(MAX_ROWS_SHOWN)
    more = ""
    if len(shown) < len(part.text):
        ending = "md" if len(part.text) <= MAX_ROWS_IN_TEXT else "csv"
        more = f" Shown: {len(shown)} of {len(part.text)} rows, all are in"
        more += f" tables/{part.name}.{ending}."
    return f"**{part.title}.** {part.caption}{more}\n\n{markdown(shown)}"


def shortened(part: Table) -> Table:
    """A table with as many rows as one can read, which says so if it has more."""
    if len(part.text) <= MAX_ROWS_IN_TEXT:
        return part
    more = f" Shown: {MAX_ROWS_IN_TEXT} of {len(part.text)} rows, all are in {part.name}.csv."
    return dataclasses.replace(
        part, text=part.text.head(MAX_ROWS_IN_TEXT), caption=part.caption + more
    )


def markdown(text: pd.DataFrame) -> str:
    """A table in Markdown; numbers stay as they are written."""
    safe = text.astype(str).map(lambda cell: cell.replace("|", "\\|"))
    return str(safe.to_markdown(index=False, disable_numparse=True))


def escape(text: str) -> str:
    """A text for LaTeX."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    special |= {"±": r"$\pm$", "²": r"$^2$", "<": r"$<$", ">": r"$>$", "|": r"$|$"}
    return "".join(special.get(sign, sign) for sign in text).replace("-$>$", r"$\to$")


def latex(part: Table, study: str) -> str:
    """A table in LaTeX with caption and label; wide ones are scaled to the width of the text."""
    text = part.text.astype(str).map(escape)
    text.columns = pd.Index([escape(str(name)) for name in text.columns])
    table = text.to_latex(
        index=False,
        escape=False,  # done above: pandas leaves ± and the caption alone
        caption=escape(f"{part.title}. {part.caption}"),
        label=f"tab:{slug(study)}-{slug(part.name)}",
        position="htbp",
    )
    if text.shape[1] > 7:
        table = table.replace(r"\begin{tabular}", "\\resizebox{\\textwidth}{!}{%\n\\begin{tabular}")
        table = table.replace(r"\end{tabular}", "\\end{tabular}}")
    return "% needs the packages booktabs and graphicx\n" + table


def write_table(part: Table, study: str, folder: Path) -> Iterator[Path]:
    """Write a table as CSV, Markdown and LaTeX."""
    yield write_text(folder / f"{part.name}.csv", part.numbers.to_csv(index=False))
    part = shortened(part)
    page = f"**{part.title}.** {part.caption}\n\n{markdown(part.text)}\n"
    yield write_text(folder / f"{part.name}.md", page)
    yield write_text(folder / f"{part.name}.tex", latex(part, study))


def write_text(path: Path, text: str) -> Path:
    """Write a text file with the same line ends everywhere."""
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def write_picture(part: Picture, folder: Path, saver: Saver) -> list[Path]:
    """Draw a figure and have it written, as PNG and PDF."""
    with matplotlib.style.context(["default", figures.STYLE]):
        figure = part.draw()
    return saver.save(figure, folder / part.name, figures.STYLE)
