"""`boss-study report` of all studies: the overview, and pages that are filled."""

from boss.cli import main
from tests.analysis.data import make_run, write_store

PAGE = "# Mine\n\n<!-- results: overview -->\nold\n<!-- end of results -->\n\nbelow\n"


def write(results):
    runs = [make_run(label_set=f"fixmatch:{seed}@10", num_evaluations=3) for seed in range(2)]
    write_store(results, runs, study="oneshot_cifar10")


def test_all_studies_the_overview_and_a_page(tmp_path, capsys):
    write(tmp_path / "results")
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    command = ["report", "--results", str(tmp_path / "results"), "--fill", str(page)]
    assert main(command) == 0
    said = capsys.readouterr().out.splitlines()
    overview = tmp_path / "results/overview"
    assert {path.name for path in overview.iterdir()} == {
        "overview.csv", "overview.md", "overview.tex",
    }  # fmt: skip
    assert {str(path) for path in overview.iterdir()} <= set(said)
    assert said[-1] == f"{page}: overview"
    text = page.read_text()
    assert text.startswith("# Mine\n\n<!-- results: overview -->\n| CIFAR-10 |")
    assert text.endswith("<!-- end of results -->\n\nbelow\n")
    assert "\nold\n" not in text
    # Again: the overview is no study, and nothing changes.
    before = {path: path.read_bytes() for path in (page, *overview.iterdir())}
    assert main(command) == 0
    assert {path: path.read_bytes() for path in before} == before


def test_one_study_makes_no_overview_but_fills_a_page(tmp_path, capsys):
    write(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("overview", "nonsense"))
    command = ["report", "oneshot_cifar10", "--results", str(tmp_path)]
    assert main([*command, "--fill", str(page)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("boss-study: error: ")
    assert "nonsense" in error
    assert "nonsense" in page.read_text()
    assert not (tmp_path / "overview").exists()
