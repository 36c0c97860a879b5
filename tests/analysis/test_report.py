"""The report as a whole: what is written, from whatever a store may hold."""

import hashlib
import itertools
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

import analysis
from analysis import load
from analysis.page import escape
from analysis.page.parts import Table
from analysis.page.report import report
from analysis.page.write import (
    MAX_ROWS_IN_TEXT,
    Report,
    shortened,
    table_on_page,
    write_table,
)
from analysis.sections.label_sets import class_convergence
from analysis.style import spread_out
from boss.errors import InputError
from boss.results.read import Store
from boss.results.schema import OPTIONAL_TABLES, TABLES
from boss.study.run import Run
from boss.study.study import Comparison
from tests.analysis.data import (
    CIFAR10,
    boss_study,
    full_run,
    grid_of_runs,
    make_run,
    method_run,
    rows,
    write_store,
)

ROOT = Path(analysis.__file__).parents[1]
ALWAYS = ["algorithms", "class_accuracy", "protocols", "variance", "spread", "settings", "runs"]


def make_report(results: Path, **arguments: object) -> Report:
    defaults = {"reference": None, "published": (), "reproduces": "Table 1 of a publication"}
    return report("synthetic", results, **(defaults | arguments))  # type: ignore[arg-type]


def report_on(results: Path, runs: list[Run], **store: object) -> tuple[Report, str]:
    write_store(results, runs, **store)  # type: ignore[arg-type]
    written = make_report(results)
    return written, (written.folder / "report.md").read_text(encoding="utf-8")


def names(paths: list[Path]) -> set[str]:
    return {path.name for path in paths}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A results folder and one of reference results."""
    results, reference = (tmp_path_factory.mktemp(name) for name in ("results", "reference"))
    write_store(results, grid_of_runs())
    write_store(reference, grid_of_runs(num_label_sets=2, num_repeats=2))
    return results, reference


@pytest.fixture(scope="module")
def written(folders: tuple[Path, Path]) -> Report:
    return make_report(
        folders[0],
        reference=folders[1],
        published=("empirical_perspectives_table1.csv",),
        description="What this study is for.",
    )


@pytest.fixture
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn, but not written, which takes most of the time."""
    monkeypatch.setattr("analysis.page.report.save_all", lambda figures, style: None)


def test_every_file_is_there_and_on_the_page(written: Report) -> None:
    page = (written.folder / "report.md").read_text(encoding="utf-8")
    assert written.warnings == []
    expected = {
        f"{name}.csv" for name in [*ALWAYS, "published_empirical_perspectives_table1", "reference"]
    }
    assert expected <= names(written.tables)
    for path in [*written.tables, *written.figures]:
        assert path.stat().st_size > 0
    on_disk = {p for p in written.folder.rglob("*.*") if p.name != "report.md"}
    assert on_disk == {*written.tables, *written.figures}
    shown = set(re.findall(r"\]\((figures/[^)]+\.png)\)", page))
    assert shown == {f"figures/{p.name}" for p in written.figures if p.suffix == ".png"}
    for text in (
        "Table 1 of a publication",
        "What this study is for.",
        "short, cifar10",
        "24 runs",
    ):
        assert text in page
    for section in ("Algorithms", "Beside the publication", "Beside the reference", "Settings"):
        assert re.search(rf"^## \d+\. {section}", page, re.MULTILINE)


def test_figures_of_the_study(written: Report) -> None:
    stems = {p.stem for p in written.figures}
    assert {"accuracy_by_label_set", "class_accuracy_heatmap", "convergence"} <= stems
    assert {"pseudo_labels", "variance_fixmatch"} <= stems
    assert sum(stem.startswith("convergence_fixmatch-") for stem in stems) == 2
    for path in written.figures:
        if path.suffix == ".png":
            image = imread(path)
            assert image.shape[1] > 800
            assert image.shape[0] < 2400
            assert image[..., :3].std() > 0.05  # something is drawn


def test_numeric_tables_hold_full_precision(written: Report) -> None:
    table = pd.read_csv(written.folder / "tables" / "class_accuracy.csv")
    assert {"mean_percent", "sd_percent", "n"} <= set(table.columns)
    wanted = [100 * rows(make_run(label_set="fixmatch:0@10", repeat=i))[0]["last_accuracy"]
              for i in range(4)]  # fmt: skip
    row = table[(table["variant"] == "fixmatch") & (table["metric"] == "All")].iloc[0]
    assert row["mean_percent"] == pytest.approx(np.mean(wanted), abs=1e-12)


def test_latex_is_escaped(written: Report) -> None:
    text = (written.folder / "tables" / "algorithms.tex").read_text(encoding="utf-8")
    body = text.split("\n", 1)[1].replace("{!}{%\n", "")
    assert "\\caption{" in body
    assert "\\label{tab:synthetic-algorithms}" in body
    assert "95\\% interval" in body
    assert not re.search(r"(?<!\\)[%#_]", body)
    assert "±" not in (written.folder / "tables" / "class_accuracy.tex").read_text("utf-8")
    assert escape.latex("50% a_b ± \\^{") == r"50\% a\_b $\pm$ \textbackslash{}\textasciicircum{}\{"
    assert escape.latex("boss-4 -> fixmatch +5 > 1") == r"boss-4 $\to$ fixmatch +5 $>$ 1"


@pytest.mark.slow
def test_written_twice_it_is_the_same_to_the_byte(tmp_path: Path) -> None:
    write_store(tmp_path, grid_of_runs(num_label_sets=2, num_repeats=2))
    digests = []
    for _ in range(2):
        again = make_report(tmp_path)
        files = sorted(path for path in again.folder.rglob("*.*"))
        digests.append({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files})
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_files_of_an_earlier_report_are_removed(tmp_path: Path) -> None:
    write_store(tmp_path, [make_run()])
    old = make_report(tmp_path).folder / "figures" / "old.png"
    old.touch()
    make_report(tmp_path)
    assert not old.exists()


def test_no_finished_run_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no finished run in .*: boss-study run synthetic$"):
        make_report(tmp_path)


@pytest.mark.usefixtures("unsaved")
def test_one_run_alone(tmp_path: Path) -> None:
    written, page = report_on(tmp_path, [make_run()])
    assert {f"{name}.csv" for name in ALWAYS} <= names(written.tables)
    assert not re.search(r"\d ±|± -", page)
    assert "nan" not in page.lower()
    assert not any(name.startswith("variance") for name in names(written.figures))


@pytest.mark.usefixtures("unsaved")
def test_one_label_set(tmp_path: Path) -> None:
    _, page = report_on(tmp_path, [make_run(repeat=i) for i in range(3)], has_student=False)
    assert "nan" not in page.lower()
    table = pd.read_csv(tmp_path / "synthetic/report/tables/variance.csv")
    assert table["repeat_variance"].notna().all()
    assert table["share"].isna().all()


@pytest.mark.usefixtures("unsaved")
def test_one_repeat(tmp_path: Path) -> None:
    _, page = report_on(tmp_path, grid_of_runs(num_label_sets=3, num_repeats=1))
    assert "nan" not in page.lower()


@pytest.mark.usefixtures("unsaved")
def test_no_pseudo_labels_no_such_figures(tmp_path: Path) -> None:
    written, page = report_on(tmp_path, grid_of_runs(("supervised",), 2, 2))
    assert not any("pseudo" in name for name in names(written.figures))
    assert "Pseudo-labels" not in page


@pytest.mark.usefixtures("unsaved")
def test_two_classes_named_by_numbers(tmp_path: Path) -> None:
    # The path of the data set is the user's own; its stem stands on the page.
    runs = grid_of_runs(num_label_sets=3, num_repeats=2, dataset="/data/two.npz")
    _, page = report_on(tmp_path, runs, classes=("0", "1"))
    assert "short, two, wrn-10-1" in page


@pytest.mark.slow
def test_a_hundred_classes(tmp_path: Path) -> None:
    classes = tuple(f"class_{i}" for i in range(100))
    runs = grid_of_runs(num_label_sets=2, num_repeats=2, dataset="cifar100")
    written, page = report_on(tmp_path, runs, classes=classes)
    header = next(line for line in page.splitlines() if "best on test (oracle)" in line)
    assert header.count("class_") == 12
    numbers = pd.read_csv(written.folder / "tables" / "class_accuracy.csv")
    assert numbers["metric"].nunique() == 103
    for path in written.figures:
        if path.suffix == ".png":
            assert imread(path).shape[0] < 2400


@pytest.mark.usefixtures("unsaved")
def test_several_budgets_stand_apart(tmp_path: Path) -> None:
    runs = grid_of_runs(num_label_sets=2, num_repeats=2)
    runs += grid_of_runs(num_label_sets=2, num_repeats=2, budget="smoke", num_images=6400)
    written, page = report_on(tmp_path, runs)
    stems = {p.stem for p in written.figures}
    assert {s for s in stems if s.startswith("accuracy_by_label_set_")} == {
        "accuracy_by_label_set_short-num-images-120000",
        "accuracy_by_label_set_smoke-num-images-6400",
    }
    assert "experiment" in page


@pytest.mark.usefixtures("unsaved")
def test_unreadable_parts_become_warnings(tmp_path: Path) -> None:
    runs = grid_of_runs(num_label_sets=2, num_repeats=2)
    write_store(tmp_path, runs)
    read = [table for table in TABLES if table not in OPTIONAL_TABLES]
    for table, run in zip(read, runs, strict=False):
        (tmp_path / "synthetic" / table / f"{run.id}.parquet").write_bytes(b"half a file")
    (tmp_path / "synthetic" / "evaluations" / f"{runs[4].id}.parquet").unlink()
    written = make_report(tmp_path)
    text = "\n".join(written.warnings)
    for table, run in zip(read, runs, strict=False):
        assert f"{table}/{run.id}.parquet" in text
    assert f"fixmatch fixmatch:0@10 #0 ({runs[4].id})" in text
    assert text in (written.folder / "report.md").read_text("utf-8").replace("\n- ", "\n")
    used = pd.read_csv(written.folder / "tables" / "runs.csv")["run_id"]
    assert set(used) == {run.id for run in (runs[3], *runs[5:])}  # it has all that is averaged


@pytest.mark.usefixtures("unsaved")
def test_runs_that_are_not_whole_are_named_and_left_out(tmp_path: Path) -> None:
    runs = grid_of_runs(num_label_sets=2, num_repeats=2)
    write_store(tmp_path, runs)
    path = tmp_path / "synthetic" / "runs" / f"{runs[3].id}.parquet"
    pd.read_parquet(path).assign(last_accuracy=math.nan).to_parquet(path)
    written = make_report(tmp_path)
    line = f"left out: supervised fixmatch:1@10 #1 ({runs[3].id}): last_accuracy is missing"
    assert written.warnings == [line]
    assert line in (written.folder / "report.md").read_text("utf-8")
    used = pd.read_csv(written.folder / "tables" / "runs.csv")["run_id"]
    assert set(used) == {run.id for run in runs} - {runs[3].id}


@pytest.mark.usefixtures("unsaved")
def test_a_publication_about_one_label_set_chooses_it(tmp_path: Path) -> None:
    write_store(tmp_path, grid_of_runs(("fixmatch",), 5, 2))
    written = make_report(tmp_path, published=("empirical_perspectives_table2.csv",))
    assert "runs_of_fixmatch-3-10.csv" in names(written.tables)
    assert "convergence_fixmatch-3-10.png" in names(written.figures)


@pytest.mark.usefixtures("unsaved")
def test_a_publication_on_other_data_is_not_compared(tmp_path: Path) -> None:
    write_store(tmp_path, [make_run(dataset="digits")])
    written = make_report(tmp_path, published=("empirical_perspectives_table1.csv",))
    assert len(written.warnings) == 1
    assert "needs runs on cifar10" in written.warnings[0]
    assert "published_empirical_perspectives_table1.csv" not in names(written.tables)


@pytest.mark.usefixtures("unsaved")
def test_a_reference_without_this_study(tmp_path: Path) -> None:
    write_store(tmp_path / "results", [make_run()])
    written = make_report(tmp_path / "results", reference=tmp_path / "reference")
    assert written.warnings == []


@pytest.mark.usefixtures("unsaved")
def test_a_reference_with_other_settings_says_so(tmp_path: Path) -> None:
    write_store(tmp_path / "results", [make_run()])
    write_store(tmp_path / "reference", [make_run(batch_size=32)])
    written = make_report(tmp_path / "results", reference=tmp_path / "reference")
    page = (written.folder / "report.md").read_text("utf-8")
    assert re.search(r"## \d+\. Beside the reference results\n\nThe .* nothing to compare\.", page)
    assert "reference.csv" not in names(written.tables)
    assert written.warnings == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="a superuser may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    write_store(tmp_path, [make_run()])
    (tmp_path / "synthetic").chmod(0o500)
    try:
        with pytest.raises(InputError, match="cannot write the report to"):
            make_report(tmp_path)
    finally:
        (tmp_path / "synthetic").chmod(0o700)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    write_store(tmp_path, [make_run()])
    (tmp_path / "synthetic" / "report").touch()
    with pytest.raises(InputError, match="cannot write the report to"):
        make_report(tmp_path)


def test_labels_of_curves_do_not_overlap() -> None:
    wanted = np.array([96.0, 97.0, 5.0, 96.5, 100.0])
    placed = spread_out(wanted, gap=5, low=0, high=100)
    assert np.diff(np.sort(placed)).min() >= 5 - 1e-9
    assert list(np.argsort(placed)) == list(np.argsort(wanted))
    assert placed.max() <= 100
    assert placed[2] == 5
    assert list(spread_out(np.array([10.0, 50.0]), 5, 0, 100)) == [10, 50]


def texts_of(figure: Figure) -> list[Text]:
    """Every text that is drawn."""
    found = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        found += [axes._left_title, *axes.texts]  # type: ignore[attr-defined]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            found += [axis.label, *(tick.label1 for tick in ticks)]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """Figures by name: reports draw them, but save none."""
    figures_by_name: dict[str, Figure] = {}

    def keep(figures: dict[Path, Figure], style: dict[str, object]) -> None:
        with matplotlib.style.context(["default", style]):
            for stem, figure in figures.items():
                FigureCanvasAgg(figure).draw()
                figures_by_name[stem.name] = figure

    monkeypatch.setattr("analysis.page.report.save_all", keep)
    return figures_by_name


def title_of(figure: Figure) -> str:
    return str(figure._suptitle.get_text()).replace("\N{NO-BREAK SPACE}", " ")  # type: ignore[attr-defined]


def check_that_no_texts_overlap(name: str, figure: Figure) -> None:
    boxes = [(t.get_text(), Text.get_window_extent(t)) for t in texts_of(figure)]
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across < 1 or down < 2, (name, one, other)
    for text, box in boxes:  # nor do any leave the figure
        assert box.x0 > -1 and box.x1 < figure.bbox.x1 + 1, (name, text)
        assert box.y0 > -1 and box.y1 < figure.bbox.y1 + 1, (name, text)


@pytest.mark.parametrize(
    "classes", [CIFAR10, tuple("0123456789")], ids=["named classes", "numbered classes"]
)
def test_figures_say_how_many_and_no_texts_overlap(
    tmp_path: Path, classes: tuple[str, ...], drawn: dict[str, Figure]
) -> None:
    write_store(tmp_path, grid_of_runs(), classes=classes)
    make_report(tmp_path, published=("empirical_perspectives_table1.csv",))
    assert len(drawn) >= 9
    for name, figure in drawn.items():
        assert re.search(r"\d+ runs, \d label sets?, n = 4 repeats", title_of(figure)), name
        check_that_no_texts_overlap(name, figure)
    by_class = next(figure for name, figure in drawn.items() if name.endswith("_by_class"))
    titles = [axes.get_title("left") for axes in by_class.axes]
    assert titles == [f"class {c}" if c.isdigit() else c for c in classes]
    styles = {line.get_linestyle() for line in by_class.axes[0].get_lines()}
    assert len(styles) == 4
    assert {line.get_linestyle() for line in by_class.legends[0].get_lines()} == styles
    for name in ("class_accuracy_heatmap", "variance_fixmatch"):
        axes = drawn[name].axes[0]
        assert "class" in axes.get_xlabel() + axes.get_ylabel()


ALGORITHMS = {  # as in the studies: an algorithm and its augmentation
    "supervised": "randaugment", "fixmatch": "randaugment", "flexmatch": "randaugment",
    "freematch": "randaugment", "mean_teacher": "randaugment", "mixmatch": "randaugment",
    "pi_model": "randaugment", "pseudo_label": "randaugment", "uda": "randaugment",
    "remixmatch": "ctaugment-without-cutout", "vat": "randaugment",
}  # fmt: skip


def all_algorithms(
    size: int = 10, num_label_sets: int = 2, num_repeats: int = 1, **fields: object
) -> list[Run]:
    """Every algorithm, FixMatch with two augmentations, on some label sets."""
    kinds = [*ALGORITHMS.items(), ("fixmatch", "ctaugment")]
    return [
        make_run(name, f"fixmatch:{fold}@{size}", repeat=repeat, augmentation=kind, **fields)
        for name, kind in kinds
        for fold in range(1, num_label_sets + 1)
        for repeat in range(num_repeats)
    ]


TABLE_OF_FIXMATCH = Comparison(
    published="fixmatch_table2.csv",
    axis=("algorithm", "augmentation"),
    panels=("dataset", "num_labels"),
)


def check_figures(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        assert re.search(r"\d+ runs?, \d+ label sets?, n = ", title_of(figure)), name
        check_that_no_texts_overlap(name, figure)
        assert figure.get_figheight() < 13, name


def test_a_study_of_many_algorithms(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    write_store(tmp_path, all_algorithms(40, num_label_sets=3, num_repeats=2))
    written = make_report(tmp_path, comparisons=(TABLE_OF_FIXMATCH,))
    assert written.warnings == []
    page = (written.folder / "report.md").read_text("utf-8")
    assert {"accuracy_by_variant", "augmentation_rates", "variance"} < set(drawn)
    assert "published_fixmatch_table2" in drawn
    drawn.pop("labeled_images")
    check_figures(drawn)
    # Every algorithm has its panel and row.
    assert len(drawn["convergence"].axes) == 12
    rows = [t.get_text() for t in drawn["accuracy_by_variant"].axes[0].get_yticklabels()]
    assert rows[:3] == [
        *("supervised", "fixmatch (augmentation = randaugment)"),
        "fixmatch (augmentation = ctaugment)",
    ]
    assert len(rows) == 12
    # Methods of balancing and no others.
    balancing = pd.read_csv(written.folder / "tables" / "balancing.csv")
    assert set(balancing["variant"].str.split(" ").str[0]) == {"fixmatch", "flexmatch", "freematch"}
    # Who is better than the baseline, and what the names mean.
    verdicts = pd.read_csv(written.folder / "tables" / "verdicts.csv", keep_default_na=False)
    assert list(verdicts["baseline"]) == ["supervised"]
    names = verdicts[["better", "worse", "undecided"]].agg("; ".join, axis=1)[0]
    assert len([name for name in names.split("; ") if name]) == 11
    for text in ("- Pi-Model: consistency", "- FreeMatch:", "In brackets after a name"):
        assert text in page


@pytest.mark.slow
def test_a_study_of_many_settings(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    fields: list[dict[str, object]] = [
        {"momentum": momentum, "nesterov": nesterov}
        for momentum in (0.25, 0.5, 0.9, 0.99, 0.999)
        for nesterov in (True, False)
    ]
    fields += [{"momentum": 0.0, "learning_rate": rate} for rate in (0.03, 0.05, 0.1)]
    fields += [{"optimizer": "adam", "learning_rate": rate} for rate in (0.002, 0.0004)]
    fields += [{"schedule": "linear", "final_learning_rate": rate} for rate in (0.01, 0.02)]
    fields += [{"optimizer": "asgd", "momentum": 0.0, "teacher_decay": 0.0}]
    base = {"label_set": "fixmatch:3@250", "augmentation": "ctaugment"}
    write_store(tmp_path, [make_run(**base, **setting) for setting in fields])
    axis = ("optimizer", "nesterov", "momentum", "beta2", "learning_rate", "schedule")
    optimizers = Comparison(published="ablation_optimizer.csv", axis=(*axis, "final_learning_rate"))
    written = make_report(tmp_path, comparisons=(optimizers,))
    assert written.warnings == []
    check_figures(drawn)
    assert len(drawn["convergence"].axes) == 14
    assert "Panels: the 14 lowest and highest of 18" in title_of(drawn["convergence"]).replace(
        "\n", " "
    )
    table = pd.read_csv(written.folder / "tables" / "algorithms.csv")
    assert set(table["baseline"].dropna()) == {"fixmatch"}
    assert "class_accuracy_heatmap" in drawn
    rows = [t.get_text() for t in drawn["class_accuracy_heatmap"].axes[0].get_yticklabels()]
    assert len(rows) == 18


@pytest.mark.slow
def test_of_many_experiments_one_of_each_data_set_is_looked_at(
    tmp_path: Path, drawn: dict[str, Figure]
) -> None:
    kinds = {"fixmatch": "randaugment", "flexmatch": "randaugment"}
    runs = [
        make_run(name, f"fixmatch:{fold}@{size}", dataset=dataset, augmentation=augmentation)
        for dataset, sizes in (("cifar10", (40, 250, 1000)), ("svhn", (40, 250)))
        for size in sizes
        for fold in (1, 2)
        for name, augmentation in kinds.items()
    ]
    runs += [make_run("supervised", "fixmatch:0@50000", dataset=d) for d in ("cifar10", "svhn")]
    written, page = report_on(tmp_path, runs)
    stems = set(drawn)
    ends = {f"{d}-num-labels-{n}" for d, n in [("cifar10", 40), ("svhn", 40)]}
    for name in ("balancing_difference", "class_balance", "effective_classes"):
        assert {s.removeprefix(f"{name}_") for s in stems if s.startswith(name)} == ends
    assert sum(stem.endswith("_by_class") for stem in stems) == 2
    convergence = {s for s in stems if re.fullmatch(r"convergence_\w+-num-labels-\d+", s)}
    assert len(convergence) == 5  # not of full supervision
    assert "Of many experiments one of each data set" in page
    assert {"class_accuracy_cifar10.csv", "class_accuracy_svhn.csv"} <= names(written.tables)
    classes = pd.read_csv(written.folder / "tables" / "class_accuracy_svhn.csv")["metric"]
    assert not set(classes) & set(CIFAR10)


REFINED = "select:cifar10-refined-by-test-accuracy"
SECTIONS = [
    *("Claims of the publications", "Algorithms", "Balancing", "Self-training", "Prototypes"),
    *("Labeled images", "Label sets and classes", "One label set, run by run"),
    *("Which classes keep the run below 90%", "Where the variance comes from"),
    *("Which checkpoint is reported", "Pseudo-labels", "Settings"),
]


@pytest.mark.slow
def test_a_study_of_boss(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    carlini = [f"carlini:{i}" for i in range(8)]
    selected = [f"select:cifar10-kmeans-patches-class-centroid{end}" for end in ("", "-r2")]
    runs = [*boss_study(), *boss_study((REFINED,)), full_run(0), full_run(1)]
    runs += [method_run(n, s) for n in (0, 4) for s in (*carlini, *selected)]
    write_store(tmp_path, runs)
    written = make_report(tmp_path)
    page = (written.folder / "report.md").read_text("utf-8")
    assert written.warnings == []
    assert re.findall(r"^## \d+\. (.*)$", page, re.MULTILINE) == SECTIONS
    assert "nan" not in page.lower()
    expected = ["balancing", "balancing_difference", "class_balance", "self_training", "leaks"]
    assert {f"{name}.csv" for name in [*expected, "prototypes", "buckets"]} <= names(written.tables)
    for text in ("BOSS-1 to BOSS-4 are", "is self-training", "What is marked (oracle)"):
        assert text in page
    # Nothing that knew hidden labels is shown without its mark.
    for path in [*written.tables, written.folder / "report.md"]:
        check_marks(path.name, path.read_text("utf-8").replace("\\", ""))
    for name, figure in drawn.items():
        check_marks(name, "\n\n".join(text.get_text() for text in texts_of(figure)))
    # Figures of the base methods show these alone; full supervision is looked at in tables.
    end = "_num-labels-10-fixmatch-label-sets"
    convergence = [axes.get_title("left") for axes in drawn[f"convergence{end}"].axes]
    assert convergence == ["fixmatch: 4 runs", "boss-1: 4 runs", "boss-4: 4 runs"]
    focused = [t.name for t in written.tables if t.name.startswith("runs_of_")]
    assert focused
    assert not any("1201" in name for name in focused)
    assert drawn.keys() >= {
        *(f"{name}{end}" for name in ("balancing_difference", "class_balance", "self_training")),
        *(f"effective_classes{end}", "buckets_num-labels-10-carlini-label-sets"),
        *("prototypes_num-labels-10", "labeled_images"),
    }
    assert any(name.startswith("pseudo_label_shares_fixmatch-") for name in drawn)
    for name, figure in drawn.items():
        assert re.search(r"\d+ runs?\b", title_of(figure)), name
        check_that_no_texts_overlap(name, figure)


def check_marks(name: str, text: str) -> None:
    """What was refined by test accuracy, or picked with hidden labels, is followed by its mark."""
    joined = re.sub(r"(?<!\n)\n(?!\n)", " ", text).replace("cifar10- ", "cifar10-")
    for shown in re.findall(r"refined-by-test-accuracy.{0,9}", joined):
        mark = r"refined-by-test-accuracy( \(oracle\)|-oracle)"  # the second in names of files
        assert re.match(mark, shown), (name, shown)
    for shown in re.findall(r"(?i:fixmatch) \+\d+(?: true| best).{0,25}", joined):
        assert "(oracle)" in shown, (name, shown)


def test_analysis_never_imports_torch() -> None:
    code = "import sys, analysis.page.report; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_analysis_works_under_another_name(tmp_path: Path) -> None:
    # As in the wheel, where it is a folder of data that the command loads by its path.
    write_store(tmp_path, [make_run()])
    code = f"""
import importlib.util, sys
from pathlib import Path
folder = Path({str(ROOT / "analysis")!r})
spec = importlib.util.spec_from_file_location(
    "elsewhere", folder / "__init__.py", submodule_search_locations=[str(folder)])
module = importlib.util.module_from_spec(spec)
sys.modules["elsewhere"] = module
spec.loader.exec_module(module)
report = importlib.import_module("elsewhere.page.report")
report.report("synthetic", Path({str(tmp_path)!r}), reference=None, reproduces="",
              published=("empirical_perspectives_table1.csv",))
print("analysis" in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_a_table_of_thousands_of_rows_is_shortened_but_in_its_csv(tmp_path: Path) -> None:
    num_rows = MAX_ROWS_IN_TEXT + 500
    table = pd.DataFrame({"x": range(num_rows)})
    part = Table("many", "Many", "A caption.", table, table)
    list(write_table(part, "s", tmp_path))
    assert len(pd.read_csv(tmp_path / "many.csv")) == num_rows
    for ending, first_cell in (("md", "| "), ("tex", "")):
        text = (tmp_path / f"many.{ending}").read_text()
        assert "Shown: 1000 of 1500 rows, all are in many.csv." in text
        assert re.search(rf"^{re.escape(first_cell)}999 ", text, re.M)
        assert not re.search(rf"^{re.escape(first_cell)}1000 ", text, re.M)
    assert "Shown: 60 of 1500 rows, all are in tables/many.csv." in table_on_page(part)
    part = Table("few", "Few", "A caption.", table[:100], table[:100])
    assert "all are in tables/few.md." in table_on_page(part)
    assert shortened(part) is part


def test_curves_of_many_repeats_are_one_artist(tmp_path: Path) -> None:
    write_store(tmp_path, [make_run(repeat=repeat) for repeat in range(12)])
    found = load.load(tmp_path, "synthetic")
    curves = load.class_curves(found)
    figure = class_convergence(curves, "title")
    for index, axis in enumerate(figure.axes):
        assert not axis.lines
        [collection] = axis.collections
        assert isinstance(collection, LineCollection)
        drawn = collection.get_segments()
        assert len(drawn) == 12
        rows = curves[(curves["class_index"] == index) & (curves["repeat"] == 11)]
        expected = np.column_stack([rows["images_seen"], 100 * rows["test_accuracy"]])
        np.testing.assert_allclose(drawn[11], expected)


def test_rows_hold_no_texts(tmp_path: Path) -> None:
    """Settings as JSON are a thousand letters: in a row of every class they fill the memory."""
    write_store(tmp_path, grid_of_runs(num_label_sets=3, num_repeats=3))
    found = load.load(tmp_path, "synthetic")
    assert found.runs["group"].str.len().min() > 300
    for table in (found.evaluations, found.class_evaluations):
        per_row = table.drop(columns="run_id").memory_usage(index=False).sum() / len(table)
        assert per_row < 100, per_row
    assert not any(
        pd.api.types.is_string_dtype(table[name].dtype)
        for table in (found.evaluations, found.class_evaluations)
        for name in table
    )
    assert isinstance(load.metrics(found)["group"].dtype, pd.CategoricalDtype)


def test_a_study_by_which_something_is_chosen_shows_no_test_accuracy(tmp_path: Path) -> None:
    store = Store(tmp_path, "synthetic")
    for number in (0, 4):
        for label_set in ("boss:0", "boss:1", "boss:3"):
            row, more = rows(method_run(number, label_set, num_validation=5000))
            for step in more["evaluations"]:
                step["validation_accuracy"] = 0.4321
            store.write(row, **more)
    written = make_report(tmp_path, shows_test=False)
    page = (written.folder / "report.md").read_text("utf-8")
    sections = ["Tuning on held-out images", "Labeled images", "Settings"]
    assert re.findall(r"^## \d+\. (.*)$", page, re.MULTILINE) == sections
    assert "43.2" in page
    percent = [f"{100 * value:.1f}" for value in store.read("runs")["last_accuracy"]]
    for path in [written.folder / "report.md", *written.tables]:
        text = path.read_text("utf-8")
        assert "test_accuracy" not in text
        assert "last_accuracy" not in text
        assert not [value for value in percent if value in text], path
    assert "runs.csv" not in names(written.tables)
