"""The README says what is: its commands work, its numbers are those of the committed results."""

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from analysis import readme
from boss.cli import _parser, main
from boss.study.study import load

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
REFERENCE = ROOT / "results" / "reference"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands():
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    lines += re.findall(r"`(boss-study [^`]*STUDY[^`]*)`", README)
    return [shlex.split(line, comments=True) for line in lines if line.startswith("boss-study")]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_is_understood(words, capsys):
    arguments = _parser().parse_args(words[1:])
    study = getattr(arguments, "study", None)
    if study:
        assert load(study, ROOT / "studies").enumerate(getattr(arguments, "budget", None))
    if words[1] in ("list", "run"):
        assert main([*words[1:], *(["--dry-run"] if words[1] == "run" else [])]) == 0


def test_the_makefile_has_the_two_commands():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_study_in_the_readme_is_a_study(tmp_path):
    [text] = [block for block in blocks("python") if "STUDY" in block]
    (tmp_path / "my_study.py").write_text(text)
    assert len(load(str(tmp_path / "my_study.py"), ROOT / "studies").enumerate()) == 4


def test_the_table_example_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    [text] = [block for block in blocks("python") if "read_parquet" in block]
    exec(compile(text, "README.md", "exec"), {})
    assert "fixmatch:0@10" in capsys.readouterr().out


def test_the_numbers_are_those_of_the_committed_results():
    """Computed here from the parquet files, without the code of the report."""
    table = README.split("<!-- results: oneshot_digits -->")[1].split("<!-- end of results -->")[0]
    folder = ROOT / "results" / "reference" / "oneshot_digits"
    runs = pd.read_parquet(folder / "runs")
    assert len(runs) == 48
    assert not runs["commit"].str.endswith("-dirty").any()
    percent = 100 * runs.pivot(
        index=["label_set", "repeat"], columns="algorithm", values="last_accuracy"
    )
    per_set = percent.groupby("label_set").mean()
    for algorithm, mine in percent.items():
        cells = [
            f"| {len(mine)} |",
            f"{mine.mean():.1f} ± {mine.std(ddof=1):.1f}",
            f"{per_set[algorithm].min():.1f} to {per_set[algorithm].max():.1f}",
        ]
        [row] = [line for line in table.splitlines() if line.lower().startswith(f"| {algorithm}")]
        for cell in cells:
            assert cell in row, (cell, row)

    difference = percent["fixmatch"] - percent["supervised"]
    of_sets = difference.groupby("label_set").mean()
    half = stats.t.ppf(0.975, len(of_sets) - 1) * of_sets.std(ddof=1) / len(of_sets) ** 0.5
    wins = (difference > 0).sum()
    expected = (
        f"{of_sets.mean():+.1f} [{of_sets.mean() - half:+.1f}, {of_sets.mean() + half:+.1f}],"
        f" better in {wins} of {len(difference)} pairs"
    )
    assert expected in table
    report = pd.read_csv(folder / "report" / "tables" / "algorithms.csv").set_index("variant")
    assert report.loc["fixmatch", "difference_points"] == pytest.approx(of_sets.mean())
    assert report.loc["fixmatch", "difference_low"] == pytest.approx(of_sets.mean() - half)


def test_the_numbers_of_boss_are_those_of_the_committed_results():
    """Computed here from the parquet files, without the code of the report."""
    table = README.split("<!-- results: boss_digits -->")[1].split("<!-- end of results -->")[0]
    runs = pd.read_parquet(ROOT / "results" / "reference" / "boss_digits" / "runs")
    assert not runs["commit"].str.endswith("-dirty").any()
    percent = 100 * runs["last_accuracy"]
    options = [json.loads(text) for text in runs["options"]]
    drop = pd.Series([o.get("max_drop", 0) > 0 for o in options])
    weigh = pd.Series([o.get("weigh_by", "none") for o in options])
    runs = runs.assign(percent=percent, drop=drop, weigh=weigh).set_index(["label_set", "repeat"])
    plain = runs[(runs["round"] == 0) & (runs["num_labels"] == 10)]
    methods = {
        0: plain[plain["algorithm"] == "fixmatch"],
        1: plain[plain["drop"] & (plain["weigh"] == "none")],
        2: plain[~plain["drop"] & (plain["weigh"] == "predicted")],
        3: plain[~plain["drop"] & (plain["weigh"] == "used")],
        4: plain[plain["drop"] & (plain["weigh"] == "used")],
    }
    kinds = {"random": "fixmatch:", "centroid": "select:digits-kmeans-patches-class-centroid"}

    def of(method, kind):
        mine = methods[method]["percent"]
        return mine[mine.index.get_level_values("label_set").str.startswith(kinds[kind])]

    def interval(values, write):
        mean, n = values.mean(), len(values)
        half = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5
        return f"{mean:{write}} [{mean - half:{write}}, {mean + half:{write}}]"

    def check(start, mine, difference):
        sets = mine.groupby("label_set").mean()
        [row] = [line for line in table.splitlines() if line.startswith(f"| {start} |")]
        assert f"| {len(sets)} | {len(mine)} | {interval(sets, '.1f')} | {difference}" in row

    check("FixMatch, random labels", of(0, "random"), "-")
    for k in (1, 2, 3, 4):
        pairs = (of(k, "random") - of(0, "random")).groupby("label_set").mean()
        check(f"BOSS balancing {k}", of(k, "random"), f"{interval(pairs, '+.1f')} to FixMatch")
    for name in ("FlexMatch", "FreeMatch"):
        rival = plain[plain["algorithm"] == name.lower()]["percent"]
        pairs = (rival - of(0, "random")).groupby("label_set").mean()
        check(f"{name}, random labels", rival, f"{interval(pairs, '+.1f')} to FixMatch")
        to_balancing = (rival - of(4, "random")).groupby("label_set").mean()
        assert interval(to_balancing, "+.1f") in " ".join(table.split())
    for start, k in (("FixMatch", 0), ("balancing 4", 4)):
        one, other = (of(k, kind).groupby("label_set").mean() for kind in ("centroid", "random"))
        welch = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
        text = f"{one.mean() - other.mean():+.1f} [{welch.low:+.1f}, {welch.high:+.1f}]"
        check(f"{start}, class-centroid prototypes", of(k, "centroid"), f"{text} to random labels")
    child = runs[(runs["round"] == 1) & (runs["picks_per_class"] == 20) & runs["oracle"].isna()]
    child = child["percent"][child.index.get_level_values("label_set").str.startswith("fixmatch:")]
    gain = interval(child - of(4, "random").reindex(child.index), "+.1f")
    check("balancing 4, then self-training, 20 per class", child, f"{gain} to its parents")
    full = percent[runs["num_labels"].to_numpy() == 1201]
    [row] = [line for line in table.splitlines() if line.startswith("| Fully supervised")]
    assert f"| 1 | {len(full)} | {full.mean():.1f} |" in row

    # What the README makes of it, in words.
    low, high = re.findall(r"[+-][\d.]+", gain)[1:]
    assert float(low) < 0 < float(high)
    best = max(of(k, "random").groupby("label_set").mean().mean() for k in (0, 1, 2, 3, 4))
    both = of(4, "centroid").groupby("label_set").mean().mean()
    assert both > max(best, of(0, "centroid").groupby("label_set").mean().mean())
    helped = [line for line in table.splitlines() if line.endswith(("FixMatch |", "labels |"))]
    assert len(helped) == 8 and all("[+" in line for line in helped)


ONE_LABEL = {"num_labels": 10, "algorithm": "fixmatch", "round": 0}
# The rows of the overview: study, published, label sets, settings, images published (of all
# trainings that a run needs).
OVERVIEW = {
    "FixMatch, one label per class, random images (Empirical Perspectives, Table 1, All)":
        ("oneshot_cifar10", "61.0 ± 9.3", "fixmatch:", ONE_LABEL, (2**25, 2**26)),
    "FixMatch, one label per class, hand-picked images (Empirical Perspectives, Table 1, All)":
        ("oneshot_cifar10", "61.0 ± 9.3", "boss:", ONE_LABEL, (2**25, 2**26)),
    "FixMatch, one random label per class (FixMatch, section 4.4)":
        ("prototypes_cifar10", "64.28 (48.58 to 85.32)'", "fixmatch:", ONE_LABEL, (2**26,)),
    "FixMatch, one label per class, most typical bucket of prototypicality (FixMatch, section 4.4)":
        ("prototypes_cifar10", "78 (up to 84)'", "carlini:7", ONE_LABEL, (2**26,)),
    "BOSS, balancing 4 on its prototypes, before self-training":
        ("boss_cifar10", "-", "boss:", ONE_LABEL | {"algorithm": "boss-4"}, ()),
    "BOSS: prototypes, balancing 4, self-training with 40 per class":
        ("boss_cifar10", "95.1'", "boss:", {"picks_per_class": 40, "round": 1}, (2**26,)),
    "Fully supervised (BOSS)":
        ("boss_cifar10", "94.5'", "fixmatch:", {"algorithm": "supervised"}, ()),
    "A recipe of our own from ten labels: balancing 4, then self-training":
        ("oneshot_cifar10_fast", "-", "boss:", {"round": 1}, ()),
    "FixMatch, 40 labels, CTAugment (FixMatch, Table 2)":
        ("fixmatch_table2", "88.61 ± 3.35", "fixmatch:",
         {"dataset": "cifar10", "num_labels": 40, "algorithm": "fixmatch",
          "augmentation": "ctaugment"}, (2**26,)),
}  # fmt: skip


def overview_rows():
    """The rows of the overview as dicts; a column that is left out says - in every row."""
    block = README.split("<!-- results: overview -->\n")[1].split("<!-- end of results -->")[0]
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]
    head, _, *rows = [[cell.strip() for cell in cells] for cells in lines]
    names = ["as published, %", "label sets", "runs", "budget", "minutes per run"]
    return [dict.fromkeys(names, "-") | dict(zip(head, row, strict=True)) for row in rows]


def runs_of(study, start, settings):
    """The runs of a row, without the code of the report: of the largest budget, no oracles."""
    if not (REFERENCE / study / "runs").is_dir():
        return pd.DataFrame()
    runs = pd.read_parquet(REFERENCE / study / "runs").set_index("run_id", drop=False)
    if "peak_device_bytes" not in runs:
        runs["peak_device_bytes"] = None
    options = [json.loads(text) for text in runs["options"]]
    is_4 = [o.get("max_drop", 0) > 0 and o.get("weigh_by") == "used" for o in options]
    runs["algorithm"] = runs["algorithm"].mask(is_4, "boss-4")
    refined = set(runs.loc[(runs["round"] == 0) & runs["oracle"].notna(), "label_set"])
    same = runs["label_set"].str.startswith(start) & ~runs["label_set"].isin(refined)
    same &= runs["oracle"].isna()
    for name, value in settings.items():
        same &= runs[name] == value
    # Of a run and those that picked images for it: minutes, images, and where.
    runs["minutes"], runs["kind"] = runs["seconds"] / 60, runs["peak_device_bytes"].notna()
    for run_id in runs.index[same & (runs["round"] == 1)]:
        parent = runs.loc[runs.loc[run_id, "parent"]]
        assert parent["algorithm"] == "boss-4"
        runs.loc[run_id, "minutes"] += parent["seconds"] / 60
        runs.loc[run_id, "num_images"] += parent["num_images"]
        assert runs.loc[run_id, "kind"] == parent["kind"]
    budgets = ("short", "smoke") if study.endswith("fast") else ("paper", "short", "smoke")
    for budget in budgets:
        if (same & (runs["budget"] == budget)).any():
            return runs[same & (runs["budget"] == budget)]
    return pd.DataFrame()


def mean_and_deviation(values):
    sd = f"{values.std(ddof=1):.1f}" if len(values) > 1 else "-"
    return f"{values.mean():.1f} ± {sd}"


def as_published(study, runs):
    """The numbers of the runs by the publication's protocol and statistic."""
    best, median = 100 * runs["best_test_accuracy"], 100 * runs["median_last_20_accuracy"]
    if study == "boss_cifar10":
        return f"{best.groupby(runs['label_set']).mean().max():.1f}, highest label set, best on"
    if study == "oneshot_cifar10":
        return f"{mean_and_deviation(best)}, best on test (oracle)"
    if study == "prototypes_cifar10":
        ends = f"({median.min():.1f} to {median.max():.1f})"
        return f"{median.median():.1f} {ends}, median over runs of the median of the last 20"
    return f"{mean_and_deviation(median)}, median of the last 20"


def test_the_overview_is_that_of_the_committed_results():
    """Whatever is committed; computed here from the parquet files, without the code of it."""
    rows = overview_rows()
    assert [row["CIFAR-10"] for row in rows] == list(OVERVIEW)
    for row, (study, published, start, settings, images) in zip(
        rows, OVERVIEW.values(), strict=True
    ):
        assert row["published, %"] == published
        runs = runs_of(study, start, settings)
        if not len(runs):
            assert [*row.values()].count("-") == 5 + (published == "-"), row
            assert row["ours, %"] == "not run yet"
            continue
        assert row["ours, %"] == mean_and_deviation(100 * runs["last_accuracy"])
        assert row["label sets"] == str(runs["label_set"].nunique())
        assert row["runs"] == str(len(runs))
        if images:
            assert row["as published, %"].startswith(as_published(study, runs))
        else:
            assert row["as published, %"] == "-"
        [budget], [seen] = runs["budget"].unique(), runs["num_images"].unique()
        is_smoke = budget == "smoke"
        name = "smoke: shows that it runs, no result" if is_smoke else budget
        assert row["budget"].startswith(f"{name}; {seen:,} images"), row
        for count in images:
            ratio = count / seen
            text = f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"
            assert ratio == 1 or f" {text} " in row["budget"].partition("published with")[2], row
        if not runs["kind"].any():
            assert row["minutes per run"].startswith("on a CPU (")
            continue
        assert "GPU minutes" in row["minutes per run"]
        minutes = float(row["minutes per run"].split()[0].replace(",", ""))
        assert minutes == pytest.approx(runs["minutes"].median(), abs=0.051, rel=0.005)


def test_every_table_is_as_the_committed_results_make_it(tmp_path):
    """`boss-study report --results results/reference --fill README.md` changes nothing."""
    page = tmp_path / "README.md"
    page.write_text(README)
    names = re.findall(r"^<!-- results: (\w+) -->$", README, re.MULTILINE)
    assert readme.fill(page, REFERENCE) == names == list(readme.BLOCKS)
    assert page.read_text() == README


def test_the_way_flexmatch_came_in_is_as_told():
    """Every line of code that CONTRIBUTING.md shows stands in the file it names."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.split("## A new algorithm")[1].split("\n## ")[0]
    shown = 0
    for step in re.split(r"\n\d\. ", section)[1:]:
        [path] = re.findall(r"^`([\w./]+)`", step)
        lines = [line.strip() for line in (ROOT / path).read_text().splitlines()]
        for block in re.findall(r"```python\n(.*?)```", step, re.DOTALL):
            for line in block.splitlines():
                assert line.strip() in lines, (path, line)
                shown += 1
    assert shown >= 6


def test_nothing_is_left_to_fill_in():
    for name in ("README.md", "CONTRIBUTING.md", "results/README.md"):
        for line in (ROOT / name).read_text().splitlines():
            assert not re.fullmatch(r"[A-Z][A-Z_]+", line.strip()), (name, line)
            assert not re.search(r"\b(TODO|FIXME|XXX)\b", line), (name, line)


def test_the_numbers_of_the_algorithms_are_those_of_the_committed_results():
    """Computed here from the parquet files, without the code of the report."""
    table = README.split("<!-- results: algorithms_digits -->")[1].split("<!-- end of")[0]
    runs = pd.read_parquet(ROOT / "results" / "reference" / "algorithms_digits" / "runs")
    assert not runs["commit"].str.endswith("-dirty").any()
    assert set(runs["num_steps"]) == {400}
    names = {
        "supervised": "Supervised (baseline)", "pi_model": "Pi-Model",
        "pseudo_label": "Pseudo-Label", "mean_teacher": "Mean Teacher", "vat": "VAT",
        "mixmatch": "MixMatch", "uda": "UDA", "remixmatch": "ReMixMatch, without CTAugment",
        "remixmatch ctaugment-without-cutout": "ReMixMatch", "fixmatch": "FixMatch",
        "fixmatch ctaugment": "FixMatch, CTAugment", "boss": "BOSS balancing 4",
        "flexmatch": "FlexMatch", "freematch": "FreeMatch",
    }  # fmt: skip
    augmentation = runs["augmentation"].map({"randaugment": "", "weak": ""})
    kind = runs["algorithm"] + augmentation.fillna(" " + runs["augmentation"])
    keys = [kind, runs["num_labels"], runs["label_set"], runs["repeat"]]
    percent = (100 * runs["last_accuracy"]).groupby(keys).agg(["mean", "count"])
    assert set(kind) == set(names)
    assert set(percent["count"]) == {1}
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == len(names)
    for (key, name), row in zip(names.items(), rows, strict=True):
        cells = [name]
        for size in (10, 40):
            mine, baseline = (percent.loc[(k, size), "mean"] for k in (key, "supervised"))
            cells.append(f"{mine.groupby('label_set').mean().mean():.1f}")
            sets = (mine - baseline).groupby("label_set").mean()
            assert len(sets) == 4
            half = stats.t.ppf(0.975, len(sets) - 1) * sets.std(ddof=1) / len(sets) ** 0.5
            mark = "**" if sets.mean() > half else ""
            text = f"{sets.mean():+.1f} [{sets.mean() - half:+.1f}, {sets.mean() + half:+.1f}]"
            cells.append("-" if key == "supervised" else f"{mark}{text}{mark}")
        assert row == f"| {' | '.join(cells)} |"
