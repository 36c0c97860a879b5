"""What all figures share."""

from pathlib import Path

import matplotlib.style
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.load import load
from analysis.page.parts import MAX_MAIN, Picture
from analysis.page.report import contents
from analysis.page.write import draw
from boss.study.run import Run
from tests.analysis.data import grid_of_runs, make_run, method_run, write_store


def pictures(results: Path, runs: list[Run]) -> list[Picture]:
    write_store(results, runs)
    sections, _ = contents(load(results, "synthetic"), None, {})
    return [part for _, parts in sections for part in parts if isinstance(part, Picture)]


def test_a_dollar_or_underscore_in_a_name_is_drawn_as_it_is() -> None:
    """Two dollars would make mathematics of what is between them, and an error of bad syntax."""

    def figure() -> Figure:
        made = Figure()
        axis = made.subplots()
        axis.set_title(r"a$_{b$_c \frac{")
        axis.set_xticks([0], ["$x_1$"])
        return made

    made = draw(Picture("name", "title", "caption", figure))
    canvas = FigureCanvasAgg(made)
    canvas.draw()
    axis = made.axes[0]
    texts = (axis.title, *axis.get_xticklabels())
    assert not any(text.get_parse_math() for text in texts)
    with matplotlib.style.context("default"):
        plain = figure()
    assert plain.axes[0].title.get_parse_math()  # matplotlib's default


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (grid_of_runs(), ["accuracy_by_label_set", "class_accuracy_heatmap"]),
        (
            [
                method_run(number, f"{kind}:{i}{end}", num_images=num_images)
                for number in (0, 4)
                for kind, end in (("fixmatch", "@10"), ("boss", ""))
                for i in (1, 2, 3)
                for num_images in (64_000, 128_000)
            ],
            [
                *("accuracy_by_label_set", "balancing_difference", "prototypes"),
                "class_accuracy_heatmap",
            ],
        ),
        ([make_run()], ["accuracy_by_label_set", "class_accuracy_heatmap"]),
    ],
    ids=["one-shot", "many experiments", "one run"],
)
def test_a_page_opens_with_a_figure_of_each_kind(
    tmp_path: Path, runs: list[Run], expected: list[str]
) -> None:
    found = pictures(tmp_path, runs)
    main = [picture.name for picture in found if picture.is_main]
    assert len(main) == len(expected) <= MAX_MAIN < len(found)
    for name, kind in zip(main, expected, strict=True):
        assert name.startswith(kind)
