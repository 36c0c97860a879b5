"""The pages say what is: commands parse, links resolve, numbers are those of the results."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from boss import api
from boss.cli import make_parser
from boss.study.designs import LAPTOP_SELECTED
from boss.study.study import load
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
REFERENCE = ROOT / "results" / "reference"


def blocks(page, *languages):
    found = re.findall(r"^ *```(\w+)\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language in languages]


def commands():
    lines = {
        line.removeprefix("$ ")
        for page in PAGES
        for block in blocks(page, "bash", "console")
        for line in block.splitlines()
    }
    return sorted(line for line in lines if line.startswith("boss-study"))


@pytest.mark.parametrize("line", commands())
def test_every_command_is_understood(line):
    words = shlex.split(line, comments=True)[1:]
    arguments = make_parser(words).parse_args(words)
    if words[0] == "run" and not arguments.study.endswith(".py"):
        assert api.list_runs(api.find_study(arguments.study), arguments.budget, arguments.only)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_make_has_the_targets_that_are_named():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"^make ([\w-]+)", page.read_text(), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("name", ["README.md", "docs/extending.md"])
def test_the_example_study_is_a_study(name, tmp_path):
    [text] = [block for block in blocks(ROOT / name, "python") if "STUDY" in block]
    (tmp_path / "my_study.py").write_text(text)
    assert len(load(str(tmp_path / "my_study.py"), ROOT / "studies").enumerate()) == 4


def test_the_example_of_reading_results_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for name in ("README.md", "docs/getting-started.md"):
        [text] = [block for block in blocks(ROOT / name, "python") if "read_results" in block]
        exec(compile(text, name, "exec"), {})
        assert "fixmatch:0@10" in capsys.readouterr().out


def test_the_table_of_the_readme_is_that_of_the_committed_results():
    """Computed from the parquet files, without the code of the report."""
    text = (ROOT / "README.md").read_text()
    table = text.split("<!-- table: oneshot_digits -->")[1].split("<!-- end of table -->")[0]
    runs = pd.read_parquet(REFERENCE / "oneshot_digits" / "runs")
    percent = 100 * runs.pivot(
        index=["label_set", "repeat"], columns="algorithm", values="last_accuracy"
    )
    sets = percent.groupby("label_set").mean()
    gain = sets["fixmatch"] - sets["supervised"]
    half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / len(gain) ** 0.5
    last = {
        "supervised": "",
        "fixmatch": f"{gain.mean():+.1f} [{gain.mean() - half:+.1f}, {gain.mean() + half:+.1f}]",
    }
    for algorithm, mine in percent.items():
        [row] = [line for line in table.splitlines() if line.lower().startswith(f"| {algorithm}")]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1:] == [
            str(len(mine)),
            f"{mine.mean():.1f} ± {mine.std(ddof=1):.1f}",
            f"{sets[algorithm].min():.1f} to {sets[algorithm].max():.1f}",
            last[str(algorithm)],
        ]


# Rows of the README's table of ten labels on CIFAR-10, and the label sets that they are means of.
ONESHOT_ROWS = {
    "Class centroids of the embedding": (f"{LAPTOP_SELECTED}-class-centroid",),
    "Hand-picked, set 6": ("boss:6",),
    "Class centroids of k-means patches": ("select:cifar10-kmeans-patches-class-centroid",),
    "Hand-picked, set 2": ("boss:2",),
    "Hand-picked, set 4": ("boss:4",),
    "Random, `fixmatch:2@10`": ("fixmatch:2@10",),
    "Random, `fixmatch:3@10`": ("fixmatch:3@10",),
}


def test_the_table_of_ten_labels_is_that_of_the_committed_results():
    """Computed from the parquet files, without the code of the report."""
    text = (ROOT / "README.md").read_text()
    table = text.split("<!-- table: oneshot_cifar10_laptop -->")[1]
    lines = table.split("<!-- end of table -->")[0].strip().splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == list(ONESHOT_ROWS)
    runs = pd.read_parquet(REFERENCE / "oneshot_cifar10_laptop" / "runs")
    runs = runs[runs["num_images"] <= 64 * 600]
    last, alone = runs["round"] == 3, (runs["round"] == 0) & (runs["start"] == "labels")
    fixmatch = runs["algorithm"] == "fixmatch"
    columns = {
        "recipe": last & fixmatch,
        "propagation": (runs["round"] == 0) & (runs["start"] == "propagation"),
        "ten images": alone & (runs["algorithm"] == "supervised"),
        "plain": alone & fixmatch,
    }
    for line, label_sets in zip(lines, ONESHOT_ROWS.values(), strict=True):
        here = runs["label_set"].isin(label_sets)
        counts, means = [], []
        for chosen in columns.values():
            percent = 100 * runs.loc[here & chosen, "last_accuracy"]
            assert set(runs.loc[here & chosen, "label_set"]) in (set(label_sets), set())
            counts.append(len(percent))
            means.append(f"{percent.mean():.1f}" if len(percent) else "-")
        percent = 100 * runs.loc[here & columns["recipe"], "last_accuracy"]
        means[0] += f" ({percent.min():.1f} to {percent.max():.1f})"
        assert [cell.strip() for cell in line.split("|")[2:-1]] == [str(counts[0]), *means]


def test_the_example_of_a_new_algorithm_stands_in_its_files():
    section = (ROOT / "CONTRIBUTING.md").read_text().split("## A new algorithm")[1]
    section = section.split("\n## ")[0]
    shown = 0
    for step in re.split(r"\n\d\. ", section)[1:]:
        path = re.findall(r"^`([\w./]+)`", step)[0]
        lines = {line.strip() for line in (ROOT / path).read_text().splitlines()}
        for block in re.findall(r"```python\n(.*?)```", step, re.DOTALL):
            for line in block.splitlines():
                assert line.strip() in lines, (path, line)
                shown += 1
    assert shown >= 6


def test_nothing_is_left_to_fill_in():
    code = [
        path for name in ("boss", "analysis", "studies") for path in (ROOT / name).rglob("*.py")
    ]
    for page in [*PAGES, ROOT / "results" / "README.md", *code]:
        assert not re.search(r"\b(TODO|FIXME|XXX)\b", page.read_text()), page


def test_every_bundled_study_is_on_the_page_of_studies():
    page = Path(ROOT / "docs" / "studies.md").read_text()
    for path in (ROOT / "studies").glob("*.py"):
        assert f"`{path.stem}`" in page, path.stem
