"""Two results folders are equal, or what differs is named."""

import pyarrow as pa
import pyarrow.parquet as pq

from boss.results.compare import main
from boss.results.read import Store
from tests.results.test_read import run_row, write


def folders(tmp_path, **changes):
    for name in "ab":
        write(Store(tmp_path / name, "s"), "1")
        write(Store(tmp_path / name, "s"), "2")
    path = tmp_path / "b/s/runs/2.parquet"
    part = pq.read_table(path, partitioning=None)
    for column, value in changes.items():
        position = part.column_names.index(column)
        part = part.set_column(position, column, pa.array([value], part.schema.field(column).type))
    pq.write_table(part, path)
    return [str(tmp_path / "a"), str(tmp_path / "b")]


def test_equal_folders(tmp_path, capsys):
    assert main(folders(tmp_path)) == 0
    assert "DIFFERENT" not in capsys.readouterr().out


def test_a_last_bit_and_an_image_in_the_middle_of_many_are_seen(tmp_path, capsys):
    many = [*range(5000)]
    both = folders(tmp_path, last_accuracy=0.5 + 2**-53, labels=[*many[:2500], 0, *many[2501:]])
    for folder in both[:1]:
        write_labels = Store(tmp_path / "a", "s")
        write(write_labels, "2")
        path = tmp_path / "a/s/runs/2.parquet"
        row = run_row("2") | {"labels": many}
        pq.write_table(
            pa.Table.from_pylist([row], pq.read_table(path, partitioning=None).schema), path
        )
        assert folder
    assert main(both) == 1
    out = capsys.readouterr().out
    assert "labels: 1 values of 1 runs, 2" in out
    assert "last_accuracy: 1 values of 1 runs, 2" in out


def test_what_differs_on_one_machine_may_be_left_out(tmp_path):
    both = folders(tmp_path, seconds=7.0, commit="x")
    assert main(both) == 1
    assert main([*both, "--same-machine"]) == 0


def test_folders_without_results(tmp_path, capsys):
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "no results in" in capsys.readouterr().err
    assert main(["one"]) == 2
