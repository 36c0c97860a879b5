"""The README says what is: its commands work, its numbers are those of the committed results."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

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
    for algorithm, mine in runs.groupby("algorithm"):
        percent = 100 * mine["last_accuracy"]
        per_set = percent.groupby(mine["label_set"])
        assert per_set.size().tolist() == [4] * 6
        cells = [
            f"{percent.mean():.1f} ± {percent.std(ddof=1):.1f}",
            f"{per_set.mean().min():.1f} to {per_set.mean().max():.1f}",
        ]
        [row] = [line for line in table.splitlines() if line.lower().startswith(f"| {algorithm}")]
        for cell in cells:
            assert cell in row, (cell, row)
    report = (folder / "report" / "tables" / "algorithms.csv").read_text()
    assert "fixmatch" in report
