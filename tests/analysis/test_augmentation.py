"""What CTAugment learned: every number by hand."""

import inspect
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import load
from analysis.page.parts import Focus
from analysis.sections import augmentation
from boss.augment.ctaugment import CTAugment
from tests.analysis.data import BINS, make_run, rate_rows, write_store


def rates(runs: dict[str, list[list[float]]], operation: str = "rotate") -> pd.DataFrame:
    """The rows of `load.augmentation_rates`: by run, the rates of all bins at each step."""
    return pd.DataFrame(
        [
            {
                **{"experiment": "e", "variant": "fixmatch", "label_set": "a", "repeat": 0},
                **{"run_id": run, "operation": operation, "parameter": 0},
                **{"step": 10 * step, "images_seen": 640 * step, "bin": i, "rate": rate},
            }
            for run, steps in runs.items()
            for step, values in enumerate(steps, start=1)
            for i, rate in enumerate(values)
        ]
    )


def test_the_constants_are_those_of_the_policy() -> None:
    defaults = inspect.signature(CTAugment).parameters
    assert defaults["threshold"].default == augmentation.THRESHOLD
    assert defaults["decay"].default == augmentation.DECAY


def test_which_bins_are_drawn_by_hand() -> None:
    # 0.99 + 0.01 is the largest; (0.79 + 0.01) / 1 = 0.8 just passes, 0.789 does not. Without the
    # 0.01 the bin of 0.79 would fail: 0.79 / 0.99 = 0.798.
    drawn = augmentation.is_drawn(np.array([0.99, 0.79, 0.789, 0.1]))
    assert drawn.tolist() == [True, True, False, False]
    # Each column has a largest rate of its own.
    both = augmentation.is_drawn(np.array([[0.99, 0.4], [0.5, 0.39]]))
    assert both.tolist() == [[True, True], [False, True]]


def test_final_rates_by_hand() -> None:
    # After the last step: means 0.75 and 0.65, shares drawn 1/2 and 1 of the bins.
    table = rates({"r": [[1, 1], [1.0, 0.5]], "s": [[0.7, 0.6]]})
    [row] = augmentation.final_rates(table).to_dict("records")
    assert (row["operation"], row["parameter"], row["n"]) == ("rotate", 0, 2)
    assert row["mean"] == pytest.approx(0.7)
    assert row["sd"] == pytest.approx(0.1 / math.sqrt(2))
    assert row["drawn_share"] == pytest.approx(0.75)
    text = augmentation.final_rates_text(augmentation.final_rates(table))
    assert text.to_dict("records") == [{"variant": "fixmatch", "n": "2", "rotate": "0.70 ± 0.07"}]


def test_the_figure_shows_rates_and_the_edge_of_what_is_drawn() -> None:
    # At step 1 both bins are drawn, at step 2 only the lower one.
    figure = augmentation.rates_figure(rates({"r": [[1.0, 0.9], [0.9, 0.4]]}), "t")
    axis = figure.axes[0]
    mesh, lines = axis.collections
    assert mesh.get_array().tolist() == [[1.0, 0.9], [0.9, 0.4]]
    assert mesh.get_clim() == (0, 1)
    assert axis.get_title() == "rotate"
    coordinates = mesh.get_coordinates()  # type: ignore[attr-defined]
    assert coordinates[0, :, 0].tolist() == [0, 640, 1280]
    assert coordinates[:, 0, 1].tolist() == [0, 0.5, 1]
    segments = sorted(np.asarray(segment).tolist() for segment in lines.get_segments())
    assert segments == [[[640, 0.5], [640, 1]], [[640, 0.5], [1280, 0.5]]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    runs = [make_run(repeat=i, augmentation="ctaugment") for i in range(2)]
    write_store(tmp_path, [*runs, make_run(), make_run(label_set="fixmatch:1@10")])
    return tmp_path


def test_rates_are_read_with_the_names_of_their_runs(folder: Path) -> None:
    found = load.load(folder, "synthetic")
    table, warnings = load.augmentation_rates(found)
    assert warnings == []
    run = make_run(repeat=1, augmentation="ctaugment")
    mine = table[table["run_id"] == run.id]
    assert len(table) == 2 * len(mine) == 2 * len(rate_rows(run))
    assert set(table["variant"]) == {"fixmatch (augmentation = ctaugment)"}
    last = mine[mine["step"] == run.num_steps]
    assert set(last["images_seen"]) == {run.num_images}
    top = last[(last["operation"] == "posterize") & (last["bin"] == 7)]
    assert top["rate"].item() == pytest.approx(1 - 0.6 * (7 / 8) ** 2)


def test_the_section(folder: Path) -> None:
    found = load.load(folder, "synthetic")
    experiment = found.runs["experiment"].iloc[0]
    focus = Focus(experiment, "fixmatch (augmentation = randaugment)", "fixmatch:3@10", "x")
    made, warnings = augmentation.parts(found, [focus], [experiment])
    assert [part.name for part in made] == ["augmentation_rates", "augmentation_rates"]
    assert warnings == []
    assert "fixmatch (augmentation = ctaugment), label set fixmatch:3@10, repeat 0" in made[1].title
    names = [axis.get_title() for axis in made[1].draw().axes]
    assert names == ["autocontrast", "posterize", "rescale (1)", "rescale (2)", ""]
    assert len(names) == sum(map(len, BINS.values())) + 1  # and the scale
    [row] = made[0].text.to_dict("records")
    assert row["n"] == "2"


def test_without_rates_there_is_no_section(tmp_path: Path) -> None:
    write_store(tmp_path, [make_run()])
    assert augmentation.parts(load.load(tmp_path, "synthetic"), [], []) == ([], [])


def test_a_damaged_part_is_named(folder: Path) -> None:
    run = make_run(augmentation="ctaugment")
    (folder / "synthetic/augmentation_rates" / f"{run.id}.parquet").write_bytes(b"half a file")
    table, [warning] = load.augmentation_rates(load.load(folder, "synthetic"))
    assert table["run_id"].nunique() == 1
    assert f"augmentation_rates/{run.id}.parquet" in warning
