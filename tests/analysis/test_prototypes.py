"""Families of label sets and buckets by hand; contact sheets as they are drawn."""

import io
import math
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import load
from analysis.naming import RANDOM
from analysis.sections import labeled_images, prototypes
from tests.analysis.data import CIFAR10, full_run, make_run, method_run, run_rows, write_store

RANDOM = RANDOM


def in_families(percents: dict[str, dict[str, list[float]]], variant: str) -> pd.DataFrame:
    """Runs by family, label set and repeat."""
    parts = [
        run_rows(
            {
                (variant, label_set, repeat): percent
                for label_set, values in label_sets.items()
                for repeat, percent in enumerate(values)
            },
            family=family,
        )
        for family, label_sets in percents.items()
    ]
    return pd.concat(parts, ignore_index=True)


# Means of label sets 1, 2, 6 (one of two runs), 0 and 2, and 9 alone.
RUNS = in_families(
    {
        "hand-picked": {"boss:1": [0], "boss:2": [2]},
        RANDOM: {"fixmatch:0": [0, 2], "fixmatch:1": [2], "fixmatch:2": [6]},
        "kmeans (oracle)": {"select:a (oracle)": [9, 9]},
    },
    "fixmatch",
)


def test_families_by_hand() -> None:
    table = prototypes.families(prototypes.of_families(RUNS))
    assert list(table["family"]) == [RANDOM, "hand-picked", "kmeans (oracle)"]
    assert list(table["num_label_sets"]) == [3, 2, 1]
    assert list(table["num_runs"]) == [4, 2, 2]
    assert list(table["mean_percent"]) == pytest.approx([3, 1, 9])
    # Student's, of 1, 2, 6: see test_t_interval_by_hand; Welch's: see test_welch_by_hand.
    assert table["high"][0] == pytest.approx(3 + 6.572411, abs=1e-5)
    assert math.isnan(table["difference_points"][0])
    assert list(table["difference_points"][1:]) == pytest.approx([-2, 6])
    half = stats.t.ppf(0.975, 200 / 67) * math.sqrt(10 / 3)
    ends = table.loc[1, ["difference_low", "difference_high"]].tolist()
    assert ends == pytest.approx([-2 - half, -2 + half])
    assert math.isnan(table["difference_low"][2])
    assert list(table["num_difference_sets"][1:]) == [2, 1]
    assert list(table["verdict"]) == ["", "undecided", "undecided"]  # fewer than 3 label sets
    text = prototypes.families_text(table)
    assert list(text["difference to random splits"]) == ["-", "-2.0", "+6.0"]
    assert text["95% interval of the difference"].iloc[-1] == "-"


def test_a_family_alone_is_not_compared() -> None:
    others = in_families({RANDOM: {"fixmatch:0": [1]}}, "boss-4")
    both = prototypes.of_families(pd.concat([RUNS, others]))
    assert set(both["variant"]) == {"fixmatch"}


def test_families_without_random_splits() -> None:
    table = prototypes.families(RUNS[RUNS["family"] != RANDOM])
    assert table["difference_points"].isna().all()


def test_the_family_figure_shows_label_sets() -> None:
    [axis] = prototypes.families_figure(RUNS, "t").axes
    dots = [line for line in axis.get_lines() if line.get_marker() == "o"]
    assert [sorted(line.get_xdata()) for line in dots] == [
        pytest.approx([1, 2, 6]),
        pytest.approx([0, 2]),
        pytest.approx([9]),
    ]
    assert [text.get_text() for text in axis.texts] == ["3 / 4", "2 / 2", "1 / 2"]
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == [RANDOM, "hand-picked", "kmeans (oracle)"]


# Buckets

BUCKETS = run_rows(
    {
        ("fixmatch", "carlini:0", 0): 10,
        ("fixmatch", "carlini:0", 1): 14,
        ("fixmatch", "carlini:2", 0): 30,
        ("fixmatch", "carlini:10", 0): 20,
        ("fixmatch", "carlini:7", 0): 31,
        ("fixmatch", "boss:7", 0): 99,
        ("boss-4", "carlini:7", 0): 50,
    }
)


def test_buckets_by_hand() -> None:
    # Buckets 0, 2, 7, 10 with 12, 30, 31, 20: ranks 1, 2, 3, 4 and 1, 3, 4, 2:
    # 1 - 6 * (0 + 1 + 1 + 4) / (4 * 15) = 0.4.
    runs = prototypes.of_buckets(BUCKETS)
    assert set(runs["variant"]) == {"fixmatch"}  # one bucket alone is no order
    table = prototypes.buckets(runs)
    assert list(table["bucket"]) == [0, 2, 7, 10]
    assert list(table["mean_percent"]) == pytest.approx([12, 30, 31, 20])
    assert table["sd_percent"][0] == pytest.approx(math.sqrt(8))
    assert list(table["n"]) == [2, 1, 1, 1]
    assert list(table["rank_correlation"]) == pytest.approx([0.4] * 4)
    assert set(table["num_buckets"]) == {4}
    [row] = prototypes.buckets_text(table).to_dict("records")
    assert row == {
        "n": "1 to 2",
        "0 (outliers)": "12.0 ± 2.8",
        "2": "30.0",
        "7 (most prototypical)": "31.0",
        "10": "20.0",
        "rank correlation": "0.40",
        "buckets": "4",
    }


# Contact sheets


def labeled(label_sets: dict[str, list[str]]) -> pd.DataFrame:
    """The labeled images of label sets with images of these classes."""
    rows = [
        {"dataset": "d", "label_set": name, "position": i, "image_index": 10 * i, "class_name": c}
        for name, classes in label_sets.items()
        for i, c in enumerate(classes)
    ]
    return pd.DataFrame(rows).assign(image=b"")


def test_sheet_rows_by_hand() -> None:
    images = labeled({"a": ["cat", "dog", "cat"], "b": ["dog"], "c": ["cat"] * 6})
    table = labeled_images.sheet_rows(images)
    places = table[["label_set", "class_name", "image_index", "row"]].to_numpy().tolist()
    assert places == [
        ["a", "cat", 0, 0],
        ["a", "dog", 10, 0],
        ["a", "cat", 20, 1],
        ["b", "dog", 0, 2],
    ]


def test_no_label_set_is_torn_apart_by_a_page() -> None:
    sets = {f"s{i}": ["cat", "dog"] for i in range(15)}
    sets |= {"three rows": ["cat", "cat", "dog", "cat"], "one row": ["dog"]}
    rows = labeled_images.sheet_rows(labeled(sets))
    pages = labeled_images.sheet_pages(rows)
    found = {(name, page) for name, page in zip(rows["label_set"], pages, strict=True)}
    assert found == {(f"s{i}", 0) for i in range(15)} | {("three rows", 1), ("one row", 1)}


def test_the_sheet_shows_every_image_at_its_place(tmp_path: Path) -> None:
    label_sets = [*(f"fixmatch:{i}@10" for i in range(17)), "fixmatch:0@20", "fixmatch:0@90"]
    write_store(tmp_path, [make_run(label_set=s) for s in label_sets] + [full_run()])
    found = load.load(tmp_path, "synthetic")
    parts, warnings = labeled_images.sheet_parts(found)
    assert warnings == []
    assert [part.name for part in parts] == ["labeled_images", "labeled_images_2"]
    assert "Without pictures or too large: fixmatch:0@90, fixmatch:0@1201." in parts[0].caption
    assert "15 runs, 15 label sets" in parts[0].caption  # 16 rows, one label set has two
    [axis] = parts[1].draw().axes
    images, _ = load.labeled_images(found)
    names = [text.get_text() for text in axis.texts]
    assert names[:10] == list(CIFAR10)
    assert names[10:13] == ["fixmatch:14@10", "fixmatch:15@10", "fixmatch:16@10"]
    first = images[images["label_set"] == "fixmatch:14@10"]
    assert names[13:23] == [str(index) for index in first["image_index"]]
    assert len(axis.images) == 30
    drawn = {
        (round(x), round(y / 1.3065)): image.get_array()
        for image in axis.images
        for x, _, _, y in [image.get_extent()]
    }
    for number, class_name in enumerate(CIFAR10):
        stored = first.loc[first["class_name"] == class_name, "image"].iloc[0]
        pixels = matplotlib.image.imread(io.BytesIO(stored), format="png")
        assert np.array_equal(np.asarray(drawn[number, 0]), pixels)
    assert all(image.get_interpolation() == "none" for image in axis.images)


def test_oracles_are_marked_on_the_sheet_and_in_the_tables(tmp_path: Path) -> None:
    sets = ["fixmatch:0@10", "fixmatch:1@10", "select:cifar10-refined", "select:cifar10-kmeans"]
    write_store(tmp_path, [method_run(n, s) for n in (0, 4) for s in sets])
    found = load.load(tmp_path, "synthetic")
    [sheet], _ = labeled_images.sheet_parts(found)
    texts = [text.get_text().replace("\n", " ") for text in sheet.draw().axes[0].texts]
    assert "select:cifar10-refined (oracle)" in texts
    table = prototypes.parts(found)[0]
    assert set(table.numbers["family"]) == {RANDOM, "kmeans", "refined (oracle)"}


def test_no_section_without_two_families(tmp_path: Path) -> None:
    write_store(tmp_path, [make_run(), make_run(label_set="fixmatch:4@10")])
    assert prototypes.parts(load.load(tmp_path, "synthetic")) == []
