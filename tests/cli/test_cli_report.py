"""`boss-study report` of all studies writes the overview as well."""

from boss.cli import main
from tests.analysis.data import make_run, write_store


def write(results):
    runs = [make_run(label_set=f"fixmatch:{seed}@10", num_evaluations=3) for seed in range(2)]
    write_store(results, runs, study="oneshot_cifar10")


def test_all_studies_and_the_overview(tmp_path, capsys):
    write(tmp_path / "results")
    command = ["report", "--results", str(tmp_path / "results")]
    assert main(command) == 0
    said = capsys.readouterr().out.splitlines()
    overview = tmp_path / "results/overview"
    assert {path.name for path in overview.iterdir()} == {
        "overview.csv", "overview.md", "overview.tex",
    }  # fmt: skip
    assert {str(path) for path in overview.iterdir()} <= set(said)
    # Again: the overview is no study, and nothing changes.
    before = {path: path.read_bytes() for path in overview.iterdir()}
    assert main(command) == 0
    assert {path: path.read_bytes() for path in before} == before


def test_one_study_makes_no_overview(tmp_path):
    write(tmp_path)
    assert main(["report", "oneshot_cifar10", "--results", str(tmp_path)]) == 0
    assert not (tmp_path / "overview").exists()
