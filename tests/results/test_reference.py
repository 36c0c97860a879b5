"""results/reference: every row can be checked, every number comes out of the parquet again."""

import json
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from analysis.page import report as reports
from boss.results.read import Store
from boss.study.study import load
from tests.conftest import ROOT

REFERENCE = ROOT / "results/reference"
STUDIES = sorted(path.parent.name for path in REFERENCE.glob("*/runs"))


def is_smoke(study):
    return set(Store(REFERENCE, study).read("runs")["budget"]) == {"smoke"}


REPORTED = [study for study in STUDIES if not is_smoke(study)]


def test_there_are_results():
    assert {"oneshot_digits", "boss_digits", "algorithms_digits"} <= set(STUDIES)


def test_studies_that_mean_something_have_a_report():
    """The accuracies of smoke runs mean nothing, nor would their figures."""
    assert {path.parent.name for path in REFERENCE.glob("*/report")} == set(REPORTED)


@pytest.mark.parametrize("study", STUDIES)
def test_every_row_says_what_a_reviewer_needs(study):
    store = Store(REFERENCE, study)
    runs = store.read("runs")
    assert store.unreadable == {}
    assert len(store.finished()) == len(runs) > 0
    assert runs["commit"].str.fullmatch(r"[0-9a-f]{40}").all()  # and not -dirty
    assert runs["dataset_fingerprint"].str.fullmatch(r"[0-9a-f]{64}").all()
    assert runs["device"].str.len().gt(2).all()
    assert runs["budget"].isin(["smoke", "laptop", "short", "paper"]).all()
    for text in runs["versions"].unique():
        assert {"python", "torch", "torchvision", "numpy"} <= json.loads(text).keys()
    assert (runs["seconds"] > 0).all()
    assert pd.to_datetime(runs["finished_at"]).notna().all()


@pytest.mark.parametrize("study", STUDIES)
def test_the_runs_are_those_of_the_study(study):
    """The id of every committed run is one that the study lists today."""
    runs = Store(REFERENCE, study).read("runs")
    listed = {
        run.id
        for budget in runs["budget"].unique()
        for run in load(study, ROOT / "studies").enumerate(budget)
    }
    assert set(runs["run_id"]) <= listed


@pytest.mark.slow
@pytest.mark.parametrize("study", REPORTED)
def test_the_report_is_made_from_the_committed_parquet(study, tmp_path, monkeypatch):
    """Pages and tables, remade from nothing but the parquet, are the committed ones.

    Text is equal to the letter; numbers of the CSV files, which have all digits, to nine.
    """
    monkeypatch.setattr(reports, "save_all", lambda drawn, style: None)
    (tmp_path / study).mkdir()
    for folder in (REFERENCE / study).iterdir():
        if folder.name != "report":
            (tmp_path / study / folder.name).symlink_to(folder)
    told = load(study, ROOT / "studies")
    made = reports.report(
        study,
        tmp_path,
        reference=None,
        published=told.published,
        comparisons=told.comparisons,
        reproduces=told.reproduces,
        description=told.description,
        shows_test=told.shows_test,
    )
    committed = REFERENCE / study / "report"
    page = (committed / "report.md").read_text("utf-8")
    assert (made.folder / "report.md").read_text("utf-8") == page
    files = {path.name for path in (committed / "tables").iterdir()}
    assert {path.name for path in made.tables} == files
    for path in made.tables:
        other = committed / "tables" / path.name
        if path.suffix == ".csv":
            one, two = pd.read_csv(path), pd.read_csv(other)
            pd.testing.assert_frame_equal(one, two, rtol=1e-9, atol=1e-9)
        else:
            assert path.read_text("utf-8") == other.read_text("utf-8"), path.name
    pictures = re.findall(r"\(figures/(.+?)\.png\)", page)
    assert {f"{name}.{end}" for name in pictures for end in ("png", "pdf")} == {
        path.name for path in (committed / "figures").iterdir()
    }


def test_nothing_large_or_unfinished_is_committed():
    done = subprocess.run(
        ["git", "ls-files", "-z", "results"], cwd=ROOT, capture_output=True, check=True
    )
    paths = [Path(name) for name in done.stdout.decode().split("\0") if name]
    if not paths:
        pytest.skip("not a git checkout")
    encoders = {p for p in paths if p.parts[2:3] == ("embeddings",) and p.suffix == ".pt"}
    others = {*paths} - encoders
    assert not [p for p in others if p.suffix in (".pt", ".lock") or "state" in p.parts]
    sizes = {p: (ROOT / p).stat().st_size for p in paths if (ROOT / p).exists()}
    # 3,000 selected images of each class, in each of many runs, are the most.
    assert max(sizes[p] for p in others if p in sizes) < 12 * 2**20
    assert max(sizes[p] for p in encoders) < 5 * 2**20  # hours of training
    assert sum(sizes.values()) < 64 * 2**20
