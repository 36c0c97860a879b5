"""Figures written by other processes are those of this one."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from analysis.page.saving import FIGURES_PER_PROCESS, save_all
from analysis.style import STYLE


def a_figure(number: int) -> Figure:
    figure = Figure(figsize=(3, 2), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1, number], [1, 2, 3])
    axis.set_xlabel("labeled images seen")
    axis.set_title(f"n = {number} ± 1")
    return figure


def test_processes_write_the_same_files_to_the_byte(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    numbers = range(2 * FIGURES_PER_PROCESS)  # enough for two processes
    save_all({there / f"1.5 {number}": a_figure(number) for number in numbers}, STYLE)
    for number in numbers:
        save_all({here / f"1.5 {number}": a_figure(number)}, STYLE)  # in this process
    names = sorted(path.name for path in here.iterdir())
    assert names[:2] == ["1.5 0.pdf", "1.5 0.png"] and len(names) == 2 * len(numbers)
    assert names == sorted(path.name for path in there.iterdir())
    for name in names:
        assert (here / name).read_bytes() == (there / name).read_bytes()


@pytest.mark.parametrize("number", [1, 2 * FIGURES_PER_PROCESS])
def test_a_figure_that_cannot_be_written_is_an_error(tmp_path: Path, number: int) -> None:
    figures = {tmp_path / "missing" / str(i): a_figure(i) for i in range(number)}
    with pytest.raises(FileNotFoundError):
        save_all(figures, STYLE)


def test_a_process_that_dies_is_an_error(tmp_path: Path) -> None:
    figures = {tmp_path / str(i): a_figure(i) for i in range(2 * FIGURES_PER_PROCESS)}
    figures[tmp_path / "last"] = Deadly()
    with pytest.raises(RuntimeError, match="terminated"):
        save_all(figures, STYLE)


class Deadly(Figure):
    """Kills the process that writes it."""

    def savefig(self, *args: object, **kwargs: object) -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)
