"""The README says what is: its commands work, its numbers are those of the committed results."""

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from boss.cli import _parser, main
from boss.study import load

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


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
