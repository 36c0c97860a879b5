"""Figures written by other processes are those of this one."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from analysis.page import saving
from analysis.page.saving import Saver, save
from analysis.style import STYLE


def a_figure(number: int) -> Figure:
    figure = Figure(figsize=(3, 2), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1, number], [1, 2, 3])
    axis.set_xlabel("labeled images seen")
    axis.set_title(f"n = {number} ± 1")
    return figure


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


def test_processes_write_the_same_files_to_the_byte(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    with Saver(12) as saver:
        assert len(saver.processes) == 2
        for number in range(3):
            paths = saver.save(a_figure(number), there / f"1.5 {number}", STYLE)
            assert [path.name for path in paths] == [f"1.5 {number}.png", f"1.5 {number}.pdf"]
    assert all(process.poll() is not None for process in saver.processes)
    for number in range(3):
        save(a_figure(number), here / f"1.5 {number}", STYLE)
    names = sorted(path.name for path in here.iterdir())
    assert len(names) == 6
    assert names == sorted(path.name for path in there.iterdir())
    for name in names:
        assert (here / name).read_bytes() == (there / name).read_bytes()


def test_few_figures_or_one_core_need_no_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Saver(saving.FIGURES_PER_PROCESS - 1) as saver:
        assert not saver.processes
        saver.save(a_figure(2), tmp_path / "x", STYLE)
        assert (tmp_path / "x.pdf").exists()
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with Saver(100) as saver:
        assert not saver.processes


def test_a_figure_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), Saver(6) as saver:
        saver.save(a_figure(2), tmp_path / "missing" / "x", STYLE)
    broken = a_figure(2)
    broken.axes[0].set_title("$\\nonsense$")
    with pytest.raises(RuntimeError, match="nonsense"), Saver(6) as saver:
        saver.save(broken, tmp_path / "x", STYLE)


def killed_before_its_figure(folder: Path) -> None:
    with Saver(6) as saver:
        saver.processes[0].kill()
        saver.save(a_figure(2), folder / "x", STYLE)


def test_a_process_that_dies_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with -9"):
        killed_before_its_figure(tmp_path)


def test_after_an_error_no_process_is_left(tmp_path: Path) -> None:
    saver = Saver(12)
    with suppress(KeyError), saver:
        for number in range(6):
            saver.save(a_figure(number), tmp_path / str(number), STYLE)
        raise KeyError
    assert len(saver.processes) == 2
    assert all(process.poll() is not None for process in saver.processes)
