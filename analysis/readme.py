"""The tables of the README, computed from stores and written between its marks.

    <!-- results: NAME -->
    what is between the two lines is replaced
    <!-- end of results -->

A block holds what is measured; what the numbers mean stands below it, written by hand.
"""

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from boss.errors import InputError, choose
from boss.results.write import write_atomically

from . import statistics
from .load import RANDOM, Results, load
from .sections.overview import of_largest_budget, of_one_group, overview, overview_text
from .sections.self_training import children
from .tables import interval, number, plus_minus, signed, signed_interval

START = re.compile(r"<!-- results: (.*?) -->")
END = "<!-- end of results -->"


def fill(page: Path, results: Path) -> list[str]:
    """Replace every block of a page; the file is written only if that changes it, with \\n ends.

    Args:
        results: the folder of the stores, `results/reference` for what is committed.

    Returns:
        the names of the blocks, in their order.

    Raises:
        InputError: the page cannot be read or written or has no block, a block is unknown or lacks
            its end, or its store lacks the runs; the file is as it was.
    """
    page = page.resolve()  # a link stays one
    try:
        before = page.read_bytes()
        lines = before.decode().replace("\r\n", "\n").split("\n")
    except OSError as error:
        raise InputError(f"cannot read {page}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {page}: it is no UTF-8 text") from error
    found = blocks(lines, page)
    text = {name: BLOCKS[name](results).split("\n") for name in dict.fromkeys(found.values())}
    for first in sorted(found, reverse=True):
        last = next(i for i in range(first, len(lines)) if lines[i].strip() == END)
        lines[first + 1 : last] = text[found[first]]
    after = "\n".join(lines).encode()
    if after != before:
        try:
            write_atomically(page, lambda path: _write_like(page, path, after))
        except OSError as error:
            raise InputError(f"cannot write {page}: {error.strerror}") from error
    return list(found.values())


def _write_like(page: Path, path: Path, content: bytes) -> None:
    """Write a file that may be read and written by those who may read and write the page."""
    path.touch(mode=0o600)
    shutil.copymode(page, path)
    path.write_bytes(content)


def blocks(lines: Sequence[str], page: Path) -> dict[int, str]:
    """The name of every block of a page, by the position of its first line.

    Raises:
        InputError: there is none, one is unknown or lacks its end, or an end lacks its block.
    """
    found: dict[int, str] = {}
    is_open = False
    for position, line in enumerate(lines):
        start = START.fullmatch(line.strip())
        if start and is_open:
            break
        if start:
            choose(start[1], BLOCKS, what=f"block of results in {page}:")
            found[position] = start[1]
            is_open = True
        elif line.strip() == END:
            if not is_open:
                raise InputError(f"{page}, line {position + 1}: {END} without a block before it")
            is_open = False
    if is_open:
        raise InputError(f"{page}: the block {[*found.values()][-1]} has no {END}")
    if not found:
        raise InputError(f"{page} has no block: a line <!-- results: NAME -->, then {END}")
    return found


# The blocks


def of_overview(results: Path) -> str:
    """The main rows of the overview, without the columns that are empty in all of them."""
    numbers, _ = overview(results)
    text = overview_text(numbers[numbers["is_main"] == "yes"])
    text = text.drop(columns=["data", "note"]).rename(columns={"what": "CIFAR-10"})
    text = text.loc[:, (text != "-").any()]
    return table(list(text.columns), text.to_numpy().tolist())


def of_oneshot_digits(results: Path) -> str:
    """FixMatch beside the supervised baseline: over runs, over label sets, and in pairs."""
    study = "oneshot_digits"
    found, runs = stored(results, study)
    baseline = part(runs, study, method="supervised", is_full=False)
    fixmatch = part(runs, study, method="fixmatch")
    compared = statistics.compare(fixmatch, baseline, "percent")
    difference = f"{interval_text(compared.difference, signed)}, better in {compared.num_wins}"
    difference += f" of {compared.num_pairs} pairs"
    sets = fixmatch["label_set"].nunique()
    rows = []
    for name, mine, last in (
        ("Supervised (the ten labels only)", baseline, "-"),
        (f"FixMatch (and {unlabeled(found, fixmatch)})", fixmatch, difference),
    ):
        means = mine.groupby("label_set")["percent"].mean()
        mean = statistics.summary(mine["percent"].to_numpy(dtype=float))
        spread = f"{number(means.min())} to {number(means.max())}"
        rows.append([name, str(len(mine)), plus_minus(mean.mean, mean.sd), spread, last])
    header = ["digits, one label per class", "runs", "test accuracy, %"]
    header += [f"means of the {sets} label sets", "difference, points"]
    return (
        f"{table(header, rows)}\n\n"
        f"{fixmatch['network'].iloc[0].upper()}, {steps(fixmatch)}, {where(fixmatch)}; "
        f"{design(fixmatch)}."
    )


def of_boss_digits(results: Path) -> str:
    """What each part of BOSS adds: balancing and its rivals, prototypes, self-training."""
    study = "boss_digits"
    _, runs = stored(results, study)
    plain = runs[(runs["round"] == 0) & ~runs["is_full"]]
    random = {
        name: part(plain, study, method=name, family=RANDOM)
        for name in ("fixmatch", "boss-1", "boss-2", "boss-3", "boss-4", "flexmatch", "freematch")
    }
    names = {"flexmatch": "FlexMatch, random labels", "freematch": "FreeMatch, random labels"}
    fixmatch, balanced = random["fixmatch"], random["boss-4"]
    rows = []

    def add(name: str, mine: pd.DataFrame, difference: str) -> None:
        mean = statistics.cluster_mean(mine, "percent")
        counts = [str(mean.num_label_sets), str(mean.num_runs)]
        rows.append([name, *counts, interval_text(mean, number), difference])

    add("FixMatch, random labels", fixmatch, "-")
    for method, mine in list(random.items())[1:]:
        name = names.get(method, f"BOSS balancing {method[-1]}")
        add(name, mine, f"{paired(mine, fixmatch)} to FixMatch")
    for name, method in (("FixMatch", "fixmatch"), ("balancing 4", "boss-4")):
        mine = part(plain, study, method=method, family="kmeans-patches-class-centroid")
        means, others = (
            of.groupby("label_set")["percent"].mean().to_numpy(dtype=float)
            for of in (mine, random[method])
        )
        difference, ends = statistics.welch(means, others)
        text = f"{signed(difference)} {signed_interval(*ends)}"
        add(f"{name}, class-centroid prototypes", mine, f"{text} to random labels")
    taught = children(runs[~runs["is_oracle"]])
    taught = taught[taught["picks_per_class"] == taught["picks_per_class"].max()]
    taught = part(taught, study, family=RANDOM, round=1, parent_variant="boss-4")
    gain = interval_text(statistics.cluster_mean(taught, "gain"), signed)
    picks = f"{taught['picks_per_class'].iloc[0]} per class"
    add(f"balancing 4, then self-training, {picks}", taught, f"{gain} to its parents")
    full = part(runs, study, is_full=True)
    labels = f"Fully supervised, all {full['num_labels'].iloc[0]:,} labels"
    counts = [str(full["label_set"].nunique()), str(len(full))]
    rows.append([labels, *counts, number(full["percent"].mean()), "-"])
    header = [f"digits, one label per class, {steps(fixmatch)}", "label sets", "runs"]
    header += ["test accuracy, %", "difference, points"]
    return (
        f"{table(header, rows)}\n\n"
        f"To balancing 4: FlexMatch {paired(random['flexmatch'], balanced)} points, FreeMatch "
        f"{paired(random['freematch'], balanced)}."
    )


# Names and settings (algorithm or method, augmentation) in the order of the designs.
ALGORITHMS = {
    "Supervised (baseline)": ("supervised", "randaugment"),
    "Pi-Model": ("pi_model", "randaugment"),
    "Pseudo-Label": ("pseudo_label", "randaugment"),
    "Mean Teacher": ("mean_teacher", "randaugment"),
    "VAT": ("vat", "randaugment"),
    "MixMatch": ("mixmatch", "randaugment"),
    "UDA": ("uda", "randaugment"),
    "ReMixMatch, without CTAugment": ("remixmatch", "weak"),
    "ReMixMatch": ("remixmatch", "ctaugment-without-cutout"),
    "FixMatch": ("fixmatch", "randaugment"),
    "FixMatch, CTAugment": ("fixmatch", "ctaugment"),
    "BOSS balancing 4": ("boss-4", "randaugment"),
    "FlexMatch": ("flexmatch", "randaugment"),
    "FreeMatch": ("freematch", "randaugment"),
}


def of_algorithms_digits(results: Path) -> str:
    """Every algorithm against the supervised baseline, by number of labels."""
    study = "algorithms_digits"
    _, runs = stored(results, study)
    runs = runs[~runs["is_full"]]
    header, rows, num_intervals = [f"digits, {steps(runs)}"], [[name] for name in ALGORITHMS], 0
    for size in sorted(runs["label_set_size"].unique()):
        header += [f"{size} labels, %", "to the baseline, points"]
        same_size = runs[runs["label_set_size"] == size]
        baseline = part(same_size, study, method="supervised")
        for row, (method, augmentation) in zip(rows, ALGORITHMS.values(), strict=True):
            mine = part(same_size, study, method=method, augmentation=augmentation)
            row.append(number(statistics.cluster_mean(mine, "percent").mean))
            if method == "supervised":
                row.append("-")
                continue
            compared = statistics.compare(mine, baseline, "percent").difference
            mark = "**" * (compared.interval.low > 0)
            row.append(f"{mark}{interval_text(compared, signed)}{mark}")
            num_intervals += 1
    return (
        f"{table(header, rows)}\n\n"
        f"{design(baseline)} each; of {num_intervals} intervals "
        f"{(1 - statistics.LEVEL) * num_intervals:.2g} are expected to miss their value by chance."
    )


BLOCKS: dict[str, Callable[[Path], str]] = {
    "overview": of_overview,
    "oneshot_digits": of_oneshot_digits,
    "boss_digits": of_boss_digits,
    "algorithms_digits": of_algorithms_digits,
}


# What they share


def stored(results: Path, study: str) -> tuple[Results, pd.DataFrame]:
    """A study and its runs of the largest budget, with percent (teacher after the last step)."""
    found = load(results, study)
    runs = of_largest_budget(found.runs)
    return found, runs.assign(percent=100 * runs["last_accuracy"])


def part(runs: pd.DataFrame, study: str, **values: object) -> pd.DataFrame:
    """The runs in whose columns these values stand, of one group.

    Raises:
        InputError: there are none.
    """
    same = pd.Series(True, index=runs.index)
    for name, value in values.items():
        same &= runs[name] == value
    if not same.any():
        text = ", ".join(f"{name} {value}" for name, value in values.items())
        raise InputError(f"block {study}: no finished run with {text}: boss-study run {study}")
    return of_one_group(runs[same])[0]


def unlabeled(found: Results, runs: pd.DataFrame) -> str:
    """The unlabeled images of a run: as many as its last network predicted, where that is kept."""
    one = runs["run_id"].iloc[0]
    count = len(found.store.read("predictions", [one], where={"network": "last"}))
    return f"{count:,} unlabeled images" if count else "the unlabeled images"


def paired(mine: pd.DataFrame, other: pd.DataFrame) -> str:
    """The difference over pairs with its interval over label sets."""
    return interval_text(statistics.compare(mine, other, "percent").difference, signed)


def interval_text(mean: statistics.ClusterMean, write: Callable[[float], str]) -> str:
    """A mean and its interval over label sets."""
    return f"{write(mean.mean)} {interval(*mean.interval, write)}"


def steps(runs: pd.DataFrame) -> str:
    """How long runs were trained."""
    return " or ".join(f"{count:,}" for count in sorted(runs["num_steps"].unique())) + " steps"


def where(runs: pd.DataFrame) -> str:
    """What runs were trained on."""
    if runs["peak_device_bytes"].notna().any():
        return "on a GPU"
    threads = sorted(runs["threads"].unique())
    return "on one CPU core per run" if threads == [1] else f"on up to {threads[-1]} CPU cores"


def design(runs: pd.DataFrame) -> str:
    """Label sets and repeats."""
    return f"{runs['label_set'].nunique()} label sets x {runs['repeat'].nunique()} repeats"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown without padding, so that a change of one cell changes one line."""
    marks = ["---", *["--:"] * (len(header) - 1)]
    lines = [header, marks, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
