"""Ours beside published numbers by settings: every number by hand, every rule of matching."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import load
from analysis.page.parts import Picture, Table
from analysis.sections import comparison as compare
from analysis.sections import comparison_page as page
from analysis.sections import comparison_settings
from analysis.sections.published import PUBLISHED, published_note
from boss.errors import InputError
from boss.study.run import Run
from boss.study.study import Comparison
from tests.analysis.data import child_of, make_run, write_store

TABLE_2 = "fixmatch_table2.csv"
# Reference, section A.9: error by algorithm and cell; r: recalled only.
PRINTED = """
pi_model      | -           | 54.26 3.97 | 14.01 .38 | -          | 57.25 .48 r | 37.88 .11 r | -             | 18.96 1.92 r | 7.54 .36 r | 26.23 .82
pseudo_label  | -           | 49.78 .43  | 16.09 .28 | -          | 57.38 .46 r | 36.21 .19 r | -             | 20.21 1.09 r | 9.94 .61 r | 27.99 .80
mean_teacher  | -           | 32.32 2.30 | 9.19 .19  | -          | 53.91 .57 r | 35.83 .24 r | -             | 3.57 .11 r   | 3.42 .07 r | 21.43 2.39
mixmatch      | 47.54 11.50 | 11.05 .86  | 6.42 .10  | 67.61 1.32 | 39.94 .37 r | 28.31 .33 r | 42.55 14.53 r | 3.98 .23 r   | 3.50 .28 r | 10.41 .61
uda           | 29.05 5.93  | 8.82 1.08  | 4.88 .18  | 59.28 .88  | 33.13 .22 r | 24.50 .25 r | 52.63 20.51 r | 5.69 2.76 r  | 2.46 .24   | 7.66 .56
remixmatch    | 19.10 9.64  | 5.44 .05   | 4.72 .13  | 44.28 2.06 | 27.43 .31   | 23.03 .56   | 3.34 .20      | 2.92 .48     | 2.65 .08   | 5.23 .45
randaugment   | 13.81 3.37  | 5.07 .65   | 4.26 .05  | 48.85 1.75 | 28.29 .11   | 22.60 .12   | 3.96 2.17     | 2.48 .38     | 2.28 .11   | 7.98 1.50
ctaugment     | 11.39 3.35  | 5.07 .33   | 4.31 .15  | 49.95 3.01 | 28.64 .24   | 23.18 .11   | 7.65 7.65     | 2.64 .64     | 2.36 .19   | 5.17 .63
"""  # noqa: E501
CELLS = [
    *(("cifar10", 40), ("cifar10", 250), ("cifar10", 4000)),
    *(("cifar100", 400), ("cifar100", 2500), ("cifar100", 10_000)),
    *(("svhn", 40), ("svhn", 250), ("svhn", 1000), ("stl10", 1000)),
]


# What is published


def test_the_main_tables_are_those_of_the_reference() -> None:
    table = pd.concat(
        [comparison_settings.read(TABLE_2), comparison_settings.read("fixmatch_stl10.csv")]
    )
    keys = ["dataset", "num_labels", "algorithm", "augmentation"]
    found = {tuple(row[k] for k in keys): row for row in comparison_settings.records(table)}
    assert len(found) == len(table)
    count = 0
    for line in PRINTED.strip().splitlines():
        name, *cells = (text.strip() for text in line.split("|"))
        algorithm = "fixmatch" if name.endswith("augment") else name
        augmentation = {"uda": "randaugment", "remixmatch": "ctaugment-without-cutout"}.get(
            name, ""
        )
        augmentation = name if algorithm == "fixmatch" else augmentation
        for (dataset, labels), cell in zip(CELLS, cells, strict=True):
            key = (dataset, str(labels), algorithm, augmentation)
            if cell == "-":
                assert key not in found
                continue
            count += 1
            row = found[key]
            assert [row["percent"], row["sd_percent"]] == [float(x) for x in cell.split()[:2]]
            given = dataset in ("cifar10", "stl10") or (dataset, labels) == ("cifar100", 400)
            known = "recalled" if cell.endswith("r") else "given" if given else "confirmed"
            assert (row["known"], row["n"], row["quantity"]) == (known, 5, "error"), key
    assert count == len(found)


def test_the_ablations_are_those_of_the_reference() -> None:
    threshold = comparison_settings.read("ablation_threshold.csv")
    rows = {
        name: threshold[threshold["quantity"] == name].set_index("threshold")
        for name in compare.QUANTITIES
    }
    order = ["0.25", "0.5", "0.75", "0.85", "0.9", "0.95", "0.97", "0.99"]
    printed = {
        "error": [6.40, 6.11, 4.91, 4.80, 4.94, 4.84, 5.00, 5.05],
        "used": [100, 100, 99.82, 99.31, 98.21, 98.13, 96.35, 92.14],
        "wrong": [6.39, 6.40, 5.35, 4.32, 3.85, 3.47, 2.30, 2.06],
    }
    for name, values in printed.items():
        assert list(rows[name].loc[order, "percent"]) == values
    known = {name: "".join(rows[name].loc[order, "known"].str[0]) for name in compare.QUANTITIES}
    assert known == {"error": "crrrrgcc", "used": "crrrrcrc", "wrong": "crrrrcrc"}
    assert rows["error"].loc["0.85", "note"] == rows["error"].loc["0.95", "note"] != ""
    assert set(threshold["labels"]) == {"hard"}

    optimizer = comparison_settings.read("ablation_optimizer.csv")
    names = ["optimizer", "nesterov", "momentum", "beta2", "learning_rate", "schedule"]
    names += ["final_learning_rate"]
    by = {tuple(row[name] for name in names): row for row in comparison_settings.records(optimizer)}
    sgd = {
        ("True", "0.9", "0.03"): 4.84, ("False", "0.9", "0.03"): 4.86, ("", "0.999", "0.03"): 84.33,
        ("", "0.99", "0.03"): 21.97, ("", "0.5", "0.03"): 5.79, ("", "0.25", "0.03"): 6.42,
        ("", "0", "0.03"): 6.76, ("", "0", "0.05"): 6.06, ("", "0", "0.1"): 5.27,
        ("", "0", "0.2"): 5.19, ("", "0", "0.5"): 5.74,
    }  # fmt: skip
    expected = {
        ("sgd", nesterov, momentum, "", rate, "cosine", ""): error
        for (nesterov, momentum, rate), error in sgd.items()
    }
    adam = {("0", "0.002"): 29.42, ("0.9", "0.002"): 14.42, ("0.99", "0.002"): 15.44}
    adam |= {("0.999", "0.002"): 13.93, ("0.999", "0.0008"): 7.35, ("0.999", "0.0006"): 6.12}
    adam |= {("0.999", "0.0005"): 5.95, ("0.999", "0.0004"): 5.44, ("0.999", "0.0003"): 5.37}
    adam |= {("0.999", "0.0002"): 5.57, ("0.999", "0.0001"): 7.90}
    for (beta2, rate), error in adam.items():
        expected["adam", "", "0.9", beta2, rate, "cosine", ""] = error
    for (schedule, final), error in {
        ("linear", "0.01"): 4.95, ("linear", "0.02"): 5.55, ("constant", ""): 5.70
    }.items():  # fmt: skip
        expected["sgd", "True", "0.9", "", "0.03", schedule, final] = error
    assert {key: row["percent"] for key, row in by.items()} == expected
    assert [row["percent"] for row in by.values() if row["known"] == "given"] == [4.84]

    for name in ("ablation_cutout.csv", "ablation_augmentation.csv"):
        errors = comparison_settings.read(name).set_index("augmentation")["percent"].to_dict()
        assert errors == {"ctaugment": 4.84, "cutout": 6.15, "ctaugment-without-cutout": 6.15}
    views = comparison_settings.read("ablation_weak_strong.csv").set_index(
        ["label_view", "prediction_view"]
    )
    assert views.loc[("weak", "weak"), ["percent", "known"]].tolist() == [88, "confirmed"]
    assert "45%" in views.loc[("weak", "weak"), "note"]
    assert views.loc[("weak", "strong"), "percent"] == 4.84
    assert views["percent"].isna().sum() == 2
    assert comparison_settings.read("ablation_unlabeled_ratio.csv")["unlabeled_ratio"].tolist() == [
        "7"
    ]
    assert comparison_settings.read("ablation_weight_decay.csv")["weight_decay"].tolist() == [
        "0.0005"
    ]


def test_published_files_by_settings_are_complete() -> None:
    files = [*PUBLISHED.glob("ablation_*.csv"), *PUBLISHED.glob("fixmatch_*.csv")]
    assert len(files) == 9
    for path in files:
        table = comparison_settings.read(path.name)
        assert set(table["known"]) <= set(comparison_settings.KNOWN) <= set(page.MARKERS)
        assert set(table["quantity"]) <= set(compare.QUANTITIES)
        assert (table["source"] != "").all()
        assert not table.duplicated([*comparison_settings.settings_of(table), "quantity"]).any()
        assert (table["percent"].notna() | (table["note"] != "")).all()
        assert "67,108,864" in published_note(path.name)
        if path.name.startswith("ablation_"):
            assert set(table["dataset"]) == {"cifar10"}
            assert set(table["num_labels"]) == {"250"}
            assert set(table.loc[table["percent"] == 4.84, "known"]) == {"given"}
            assert table["n"].dropna().eq(1).all()
    assert comparison_settings.read(TABLE_2)["printed"][0] == "54.26 ± 3.97"
    assert comparison_settings.read("ablation_threshold.csv")["printed"][0] == "6.40"  # not 6.4
    with pytest.raises(
        InputError, match=r"unknown published table 'empirical.*' ?: choose from abl"
    ):
        comparison_settings.read("empirical_perspectives_table1.csv")


def test_values_are_compared_as_texts() -> None:
    texts = [
        comparison_settings.value_text(v)
        for v in (0.50, "0.5", 5e-4, "0.00050", 10_000, "1e4", True, np.True_)
    ]
    assert texts == ["0.5", "0.5", "0.0005", "0.0005", "10000", "10000", "True", "True"]
    assert [comparison_settings.value_text(v) for v in ("none", None, math.nan, pd.NA, "")] == [
        "none",
        *[""] * 4,
    ]


# Which numbers stand beside which

THEIRS = pd.DataFrame(
    [
        ("cifar10", "fixmatch", "ctaugment", "error", 5.0, 1.0, 5, "given", ""),
        ("cifar10", "fixmatch", "", "error", 6.0, math.nan, 1, "recalled", "A note."),
        ("cifar10", "pi_model", "", "error", 50.0, 4.0, 5, "confirmed", ""),
        ("cifar10", "fixmatch", "ctaugment", "used", 90.0, math.nan, 1, "given", ""),
        ("cifar10", "uda", "randaugment", "error", math.nan, math.nan, math.nan, "given", "None."),
    ],
    columns=["dataset", "algorithm", "augmentation", "quantity", "percent", "sd_percent", "n",
             "known", "note"],
).assign(source="a paper")  # fmt: skip
THEIRS = THEIRS.assign(printed=["5.00 ± 1.00", "6.0", "50.0 ± 4.0", "90", ""])
ALGORITHMS = Comparison(published="x.csv", axis=("algorithm", "augmentation"))


def ours(values: dict[tuple[str, str, str, int], float], quantity: str = "error") -> pd.DataFrame:
    """What `beside` takes: percent by (algorithm, augmentation, label set, repeat)."""
    return pd.DataFrame(
        [
            {
                "run_id": f"{algorithm} {augmentation} {label_set} {repeat}",
                **{"dataset": "cifar10", "algorithm": algorithm, "augmentation": augmentation},
                **{"group": f"{algorithm} {augmentation}", "variant": algorithm},
                **{"label_set": label_set, "repeat": repeat, "quantity": quantity},
                **{"percent": percent, "last_percent": percent + 1, "labels_per_class": 25.0},
            }
            for (algorithm, augmentation, label_set, repeat), percent in values.items()
        ]
    )


def rows_of(table: pd.DataFrame, **settings: str) -> list[dict[str, object]]:
    for name, value in settings.items():
        table = table[table[name] == value]
    return comparison_settings.records(table)


def test_means_and_differences_by_hand() -> None:
    # Label set a: 6 and 8 (mean 7), b: 9: mean 8, sd sqrt(2), n = 2. Published 5 +- 1, n = 5.
    values = {("fixmatch", "ctaugment", "a", 0): 6.0, ("fixmatch", "ctaugment", "a", 1): 8.0}
    values |= {("fixmatch", "ctaugment", "b", 0): 9.0}
    table = compare.beside(ours(values), THEIRS, ALGORITHMS)
    [row] = rows_of(table, augmentation="ctaugment", quantity="error")
    assert (row["num_runs"], row["num_label_sets"]) == (3, 2)
    assert row["ours_percent"] == pytest.approx(8)
    assert row["ours_last_percent"] == pytest.approx(9)
    assert row["ours_sd_percent"] == pytest.approx(math.sqrt(2))
    assert row["ours_high"] == pytest.approx(8 + 12.706205 * 1)  # t(0.975; 1) sqrt(2) / sqrt(2)
    assert row["interval_over"] == "label sets"
    assert (row["published_percent"], row["published_n"], row["known"]) == (5, 5, "given")
    assert row["difference_points"] == pytest.approx(3)
    # s2 = 2 / 2 + 1 / 5 = 1.2; df = 1.44 / (1 / 1 + 0.04 / 4) = 1.4257; t = 6.47573.
    half = 6.47573 * math.sqrt(1.2)
    assert row["difference_low"] == pytest.approx(3 - half, rel=1e-5)
    assert row["difference_high"] == pytest.approx(3 + half, rel=1e-5)


def test_one_label_set_has_a_deviation_over_runs_but_no_interval_of_the_difference() -> None:
    values = {("fixmatch", "ctaugment", "a", i): 6.0 + 2 * i for i in range(2)}
    [row] = rows_of(compare.beside(ours(values), THEIRS, ALGORITHMS), augmentation="ctaugment",
                    quantity="error")  # fmt: skip
    assert (row["num_label_sets"], row["interval_over"]) == (1, "repeats of one label set")
    assert row["ours_sd_percent"] == pytest.approx(math.sqrt(2))
    assert row["difference_points"] == pytest.approx(2)
    assert math.isnan(row["difference_low"])  # type: ignore[arg-type]


def test_a_published_number_without_deviation_is_a_single_value() -> None:
    values = {("fixmatch", "randaugment", s, 0): x for s, x in (("a", 6.0), ("b", 9.0))}
    [row] = rows_of(compare.beside(ours(values), THEIRS, ALGORITHMS), augmentation="randaugment",
                    algorithm="fixmatch")  # fmt: skip
    assert (row["published_percent"], row["known"], row["note"]) == (6, "recalled", "A note.")
    assert row["difference_points"] == pytest.approx(1.5)
    assert math.isnan(row["difference_low"])  # type: ignore[arg-type]


def test_the_row_that_gives_most_settings_is_compared() -> None:
    theirs = comparison_settings.records(THEIRS)
    names = comparison_settings.settings_of(THEIRS)
    settings = {"dataset": "cifar10", "algorithm": "fixmatch", "quantity": "error"}
    assert compare.fits(settings | {"augmentation": "ctaugment"}, theirs, names) == [0]
    assert compare.fits(settings | {"augmentation": "cutout"}, theirs, names) == [1]  # any value
    assert (
        compare.fits(settings | {"augmentation": "cutout", "dataset": "svhn"}, theirs, names) == []
    )
    assert (
        compare.fits(settings | {"augmentation": "cutout", "quantity": "used"}, theirs, names) == []
    )


def test_what_one_side_lacks_is_kept() -> None:
    values = {("vat", "randaugment", "a", 0): 20.0, ("pi_model", "randaugment", "a", 0): 40.0}
    table = compare.beside(ours(values), THEIRS, ALGORITHMS)
    [vat] = rows_of(table, algorithm="vat")
    assert math.isnan(vat["published_percent"])  # type: ignore[arg-type]
    assert math.isnan(vat["difference_points"])  # type: ignore[arg-type]
    assert (vat["num_runs"], vat["known"], vat["source"]) == (1, "", "")
    [uda] = rows_of(table, algorithm="uda")
    assert math.isnan(uda["published_percent"])  # type: ignore[arg-type]
    assert (uda["num_runs"], uda["note"]) == (0, "None.")
    [fixmatch] = rows_of(table, algorithm="fixmatch", augmentation="ctaugment", quantity="error")
    assert (fixmatch["num_runs"], fixmatch["published_percent"]) == (0, 5)
    # Published without an augmentation, it stands beside ours, whatever that has.
    [pi] = rows_of(table, algorithm="pi_model")
    assert (pi["augmentation"], pi["published_percent"]) == ("randaugment", 50)
    assert list(table["algorithm"]) == ["fixmatch"] * 3 + ["pi_model", "uda", "vat"]
    # Ours have nothing but errors.
    assert set(table.loc[table["quantity"] == "used", "num_runs"]) == {0}


def test_what_was_not_run_joins_the_row_of_ours_elsewhere() -> None:
    # Pi-Model was run with 40 labels only; its published number with 250 is of the same category.
    published = THEIRS[2:3].assign(num_labels="250")
    mine = ours({("pi_model", "randaugment", "a", 0): 40.0}).assign(num_labels="40")
    comparison = dataclasses.replace(ALGORITHMS, panels=("num_labels",))
    table = compare.with_names(compare.beside(mine, published, comparison), comparison, published)
    assert list(table["augmentation"]) == ["randaugment"] * 2
    assert list(table["panel"]) == ["40 labels", "250 labels"]
    assert list(table["category"]) == ["Pi-Model"] * 2
    two = pd.concat([mine, mine.assign(augmentation="weak")])
    table = compare.beside(two, published, comparison)
    assert list(table["augmentation"]) == ["randaugment", "weak", ""]  # ours do not agree


def test_what_ours_share_completes_a_row_that_was_not_run() -> None:
    comparison = Comparison(published="x.csv", axis=("algorithm", "augmentation", "beta2", "rate"))
    mine = pd.concat(
        ours({("fixmatch", augmentation, "a", 0): 6.0}).assign(beta2=beta2, rate=rate)
        for augmentation, beta2, rate in (("ctaugment", "0.9", "1"), ("ctaugment", "0.9", "2"),
                                          ("cutout", "0.5", "1"))
    )  # fmt: skip
    row = {"algorithm": "fixmatch", "augmentation": "ctaugment", "beta2": "", "rate": "3"}
    assert compare.completed(row, mine, comparison) == {"beta2": "0.9"}  # those with another rate
    assert compare.completed(row | {"rate": "1", "augmentation": ""}, mine, comparison) == {}
    assert compare.completed(row | {"augmentation": "", "rate": "2"}, mine, comparison) == {
        "augmentation": "ctaugment", "beta2": "0.9"
    }  # fmt: skip
    assert compare.completed(row | {"algorithm": "uda", "augmentation": ""}, mine, comparison) == {}


def test_groups_with_equal_settings_are_not_averaged() -> None:
    mine = ours({("fixmatch", "ctaugment", "a", 0): 6.0})
    other = mine.assign(group="batch size 32", variant="fixmatch (batch_size = 32)", percent=9.0)
    table = compare.beside(pd.concat([mine, other]), THEIRS, ALGORITHMS)
    mine_only = table[table["num_runs"] > 0]
    assert sorted(mine_only["ours_percent"]) == [6, 9]
    named = compare.with_names(table, ALGORITHMS, THEIRS)
    text = compare.table_text(named, ALGORITHMS, {"A note.": 1, "None.": 2})
    assert "FixMatch (batch size 32)" in set(text["variant"])


# What they are called


# From a store


def found_in(folder: Path, runs: list[Run], **store: object) -> load.Results:
    write_store(folder, runs, **store)  # type: ignore[arg-type]
    return load.load(folder, "synthetic")


def made_by(found: load.Results, comparison: Comparison) -> tuple[list[Table], list[Picture]]:
    parts, warnings = page.parts(found, comparison)
    assert warnings == []
    return ([part for part in parts if isinstance(part, Table)],
            [part for part in parts if isinstance(part, Picture)])  # fmt: skip


THRESHOLD = Comparison(
    published="ablation_threshold.csv",
    axis=("threshold",),
    by=("labels", "temperature"),
    scale="linear",
)
BASE = {"augmentation": "ctaugment", "label_set": "fixmatch:3@250"}


def test_measures_of_a_run(tmp_path: Path) -> None:
    run = make_run(**BASE)
    found = found_in(tmp_path, [run, make_run("supervised", BASE["label_set"])])
    table = compare.measure(found, found.runs).set_index(["run_id", "quantity"])
    row = found.runs.set_index("run_id").loc[run.id]
    error = table.loc[(run.id, "error")]
    assert error["percent"] == pytest.approx(100 * (1 - row["median_last_20_accuracy"]))
    assert error["last_percent"] == pytest.approx(100 * (1 - row["last_accuracy"]))
    assert row["median_last_20_accuracy"] != row["last_accuracy"]
    # Of the last evaluation, whatever came before; right are as many as in the test set.
    assert table.loc[(run.id, "used"), "percent"] == pytest.approx(90)
    assert table.loc[(run.id, "wrong"), "percent"] == pytest.approx(error["last_percent"])
    assert len(table) == 3 + 1  # supervised runs have no pseudo-labels


def test_an_option_goes_before_a_column_of_its_name(tmp_path: Path) -> None:
    # The table of runs has a column `labels`, too: the positions of the labeled images.
    found = found_in(tmp_path, [make_run(**BASE), make_run("mixmatch", BASE["label_set"])])
    table = comparison_settings.settings_table(
        found.runs, ["labels", "max_eval_images", "label_sets", "num_labels"]
    )
    assert [tuple(row.values()) for row in comparison_settings.records(table)] == [
        ("hard", "", "fixmatch", "250"),
        ("", "", "fixmatch", "250"),
    ]
    found = found_in(tmp_path / "other", [make_run("mixmatch", BASE["label_set"])])
    assert list(comparison_settings.settings_table(found.runs, ["labels"])["labels"]) == [""]


def test_a_threshold_study(tmp_path: Path) -> None:
    options = [{"threshold": t} for t in (0.25, 0.95)]
    options += [{"labels": "soft", "temperature": 0.5}, {"temperature": 0.5}]
    runs = [make_run(**BASE, options=o) for o in options]
    runs += [child_of(runs[0], 5)]  # self-training has more labels
    found = found_in(tmp_path, runs)
    [table], [picture] = made_by(found, THRESHOLD)
    assert table.name == picture.name == "published_ablation_threshold"
    numbers = table.numbers
    mine = numbers[numbers["num_runs"] > 0]
    assert set(mine["num_runs"]) == {1}
    assert len(mine) == 4 * 3
    assert len(numbers) == 24 + 2 * 3  # 8 thresholds published, each once
    hard = numbers[(numbers["labels"] == "hard") & (numbers["temperature"] == "1")]
    error = hard[hard["quantity"] == "error"].set_index("threshold")
    assert list(error.index) == ["0.25", "0.5", "0.75", "0.85", "0.9", "0.95", "0.97", "0.99"]
    assert error.loc["0.95", "published_percent"] == 4.84
    assert error["num_runs"].tolist() == [1, 0, 0, 0, 0, 1, 0, 0]
    # With another temperature nothing is published, although the threshold is.
    other = numbers[(numbers["temperature"] == "0.5") & (numbers["quantity"] == "error")]
    assert other["published_percent"].isna().all()
    for text in ("67,108,864", "120,000", "recalled", "median", "fewer than 20", "[1] A second"):
        assert text in table.caption, text
    assert "4 runs, 1 label set, n = 1 repeat" in picture.caption
    figure = picture.draw()
    labels = [axis.get_ylabel() for axis in figure.axes]
    assert [label.split(" (")[0] for label in labels] == [
        "test error", "used pseudo-labels", "wrong, of used"
    ]  # fmt: skip


TABLE = Comparison(
    published=TABLE_2, axis=("algorithm", "augmentation"), panels=("dataset", "num_labels")
)


def table_runs(**fields: object) -> list[Run]:
    """Three algorithms on two folds of two cells, and full supervision of one data set."""
    kinds = [("fixmatch", "ctaugment"), ("fixmatch", "randaugment"), ("pi_model", "randaugment")]
    runs = [
        make_run(algorithm, f"fixmatch:{fold}@{size}", augmentation=augmentation, network=network,
                 dataset=dataset, **fields)
        for dataset, size, network in (("cifar10", 40, "wrn-10-1"), ("cifar100", 400, "wrn-10-2"))
        for algorithm, augmentation in kinds
        for fold in (1, 2)
    ]  # fmt: skip
    return [*runs, make_run("supervised", "fixmatch:0@50000", **fields)]


def test_panels_span_experiments(tmp_path: Path) -> None:
    found = found_in(tmp_path, table_runs())
    assert found.runs["experiment"].nunique() == 3
    made, [picture] = made_by(found, TABLE)
    assert [t.name for t in made] == [
        f"published_fixmatch_table2_{d}" for d in ("cifar10", "cifar100", "svhn")
    ]
    # Data sets differ in network, so that is not said of the whole.
    assert picture.title == "Published errors and ours by algorithm: short"
    numbers = pd.concat([t.numbers for t in made])
    assert numbers["num_runs"].sum() == 2 * 3 * 2  # without full supervision
    cell = numbers[(numbers["dataset"] == "cifar100") & (numbers["num_labels"] == "400")]
    row = cell[cell["augmentation"] == "ctaugment"].iloc[0]
    assert (row["published_percent"], row["num_label_sets"]) == (49.95, 2)
    assert row["difference_low"] < row["difference_points"] < row["difference_high"]
    assert set(made[2].numbers["num_runs"]) == {0}
    assert "SVHN" not in made[2].text.columns
    figure = picture.draw()
    assert [axis.get_title() for axis in figure.axes] == ["cifar10, 40 labels",
                                                          "cifar100, 400 labels"]  # fmt: skip
    subtitle = figure._suptitle.get_text()  # type: ignore[attr-defined]
    assert "7 panels without" in subtitle.replace("\n", " ")
    # Full supervision of CIFAR-10 is a line there, and only there.
    dotted = [[line for line in axis.get_lines() if line.get_ls() == ":"] for axis in figure.axes]
    assert [len(lines) for lines in dotted] == [1, 0]
    full = found.runs[found.runs["is_full"]]["median_last_20_accuracy"].mean()
    assert dotted[0][0].get_xdata()[0] == pytest.approx(100 * (1 - full))


def test_an_oracle_alone_is_marked(tmp_path: Path) -> None:
    run = make_run(augmentation="ctaugment", label_set="select:cifar10-refined")
    [table], [picture] = made_by(found_in(tmp_path, [run]), THRESHOLD)
    assert "(oracle)" in table.title
    assert "(oracle)" in picture.title


def test_another_data_set_is_not_compared(tmp_path: Path) -> None:
    found = found_in(tmp_path, [make_run(dataset="digits"), make_run(dataset="svhn")])
    assert page.parts(found, THRESHOLD) == (
        [], ["no comparison with ablation_threshold.csv: it needs runs on cifar10"]
    )  # fmt: skip
    [table] = made_by(found, dataclasses.replace(TABLE, panels=()))[0]
    assert set(table.numbers.loc[table.numbers["num_runs"] > 0, "dataset"]) == {"svhn"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"published": "x.csv"}, r"unknown published table 'x\.csv': choose from ablation_"),
        ({"by": ("tau",)}, r"unknown setting of the .*threshold\.csv: 'tau': choose from budget"),
        ({"axis": ("threshold", "labels")}, "linear axis of the .* must be one setting"),
        ({"axis": ("labels",)}, "labels of the .* must be numbers on a linear axis, not 'hard'"),
    ],
)
def test_what_a_study_can_get_wrong(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    found = found_in(tmp_path, [make_run(**BASE)])
    with pytest.raises(InputError, match=message):
        page.parts(found, dataclasses.replace(THRESHOLD, **changes))


# What is drawn


def figure_of(values: pd.DataFrame, comparison: Comparison = ALGORITHMS) -> Figure:
    numbers = compare.with_names(compare.beside(values, THEIRS, comparison), comparison, THEIRS)
    names = [
        *comparison_settings.shown_settings(comparison),
        *comparison_settings.settings_of(THEIRS),
        "group",
        "quantity",
    ]
    names = [*dict.fromkeys(names)]
    points = values.merge(numbers[[*names, "panel", "category", "series"]], on=names)
    return page.figure(numbers, points, {"": 3.0}, comparison, "t")


def drawn_with(figure: Figure, marker: str) -> list[tuple[float, float, bool]]:
    """x, y and whether it is filled, of every line of one point with this marker."""
    lines = [line for line in figure.axes[0].get_lines() if line.get_marker() == marker]
    return [
        (float(x), float(y), line.get_markerfacecolor() != "white")
        for line in lines
        for x, y in zip(*line.get_data(), strict=True)
        if not math.isnan(x)
    ]


def test_rows_hold_ours_above_theirs() -> None:
    values = {("fixmatch", "ctaugment", s, 0): x for s, x in (("a", 6.0), ("b", 9.0))}
    figure = figure_of(ours(values))
    axis = figure.axes[0]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["FixMatch, CTAugment", "FixMatch", "Pi-Model", "UDA"]
    circles = drawn_with(figure, "o")
    assert {x for x, *_ in circles} == {6, 9, 7.5}  # runs and their mean
    [(x, y, filled)] = drawn_with(figure, "D")  # given
    assert (x, filled) == (5, False)
    assert 0 < y < 0.5 and all(-0.5 < at < 0 and full for _, at, full in circles)
    assert [x for x, *_ in drawn_with(figure, "s")] == [50]  # confirmed
    assert [x for x, *_ in drawn_with(figure, "^")] == [6]  # recalled
    # Intervals: t(0.975; 1) 2.1213 / sqrt(2) = 19.06, cut at 0.1; t(0.975; 4) / sqrt(5) = 1.2417.
    ends = [sorted(line.get_xdata()) for line in axis.get_lines() if len(line.get_xdata()) == 2]
    assert [pytest.approx([0.1, 7.5 + 19.0593], abs=1e-3)] == [e for e in ends if e[0] == 0.1]
    assert any(e == pytest.approx([5 - 1.241664, 5 + 1.241664], abs=1e-5) for e in ends)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["ours", "published (given)", "published (confirmed)", "published (recalled)",
                      "ours, fully supervised"]  # fmt: skip


# In the report
