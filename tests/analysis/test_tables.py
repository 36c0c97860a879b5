"""The published tables agree with each other by our functions; ours with plain loops."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import load, tables
from analysis.naming import SETTINGS
from analysis.sections.algorithm_tables import algorithms_table, verdicts_table, verdicts_text
from analysis.sections.label_sets import class_accuracy, class_accuracy_text, runs_text
from analysis.sections.protocols import protocols_table, protocols_text
from analysis.sections.published import (
    PUBLISHED,
    as_printed,
    comparable,
    published_moments,
    published_note,
    published_table,
    published_text,
    read_published,
)
from analysis.sections.reference import reference_table, reference_text
from analysis.sections.settings import (
    PER_GROUP,
    run_settings,
    settings_common_text,
    settings_different_text,
)
from analysis.sections.variance import spread_table, variance_table, variance_text
from boss.errors import InputError
from boss.study.catalog import ALGORITHMS
from boss.study.run import Run
from tests.analysis.data import CIFAR10, child_of, grid_of_runs, make_run, rows, write_store

TABLE_1 = "empirical_perspectives_table1.csv"
TABLE_2 = "empirical_perspectives_table2.csv"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> load.Results:
    """2 algorithms x 6 label sets x 4 repeats, 10 classes."""
    folder = tmp_path_factory.mktemp("results")
    write_store(folder, grid_of_runs())
    return load.load(folder, "synthetic")


@pytest.fixture(scope="module")
def metrics(found: load.Results) -> pd.DataFrame:
    return load.metrics(found)


# What is published


def test_published_runs_give_row_4_of_published_means() -> None:
    means = read_published(TABLE_1)
    row_4 = means[(means["row"] == 4) & (means["class_name"] != "All")].set_index("class_name")
    runs = published_moments(read_published(TABLE_2)).set_index("metric")
    for name in CIFAR10:
        digits = 1 if name == "automobile" else 0  # as printed
        sd = row_4.loc[name, "sd_percent"]
        assert round(runs.loc[name, "sd"], digits) == pytest.approx(sd), name
        mean = row_4.loc[name, "mean_percent"]
        if name == "airplane":  # 96.65, printed as 96
            assert math.floor(runs.loc[name, "mean"]) == mean
        else:
            assert abs(runs.loc[name, "mean"] - mean) <= 0.5 * 10**-digits + 1e-9, name
    assert list(runs["n"]) == [4] * 11


def test_published_deviations_are_sample_deviations() -> None:
    # With n instead of n - 1 the deviation of dog would be 47 and of cat 40: printed are 54 and 47.
    runs = read_published(TABLE_2)
    for name, printed in (("dog", 54), ("cat", 47), ("truck", 47)):
        values = runs.loc[runs["class_name"] == name, "mean_percent"]
        assert round(values.std(ddof=1)) == printed
        assert round(values.std(ddof=0)) < printed - 5


def test_published_all_is_above_the_mean_of_the_published_classes() -> None:
    table = published_moments(read_published(TABLE_1))
    wide = table.pivot(index="row", columns="metric", values="mean")
    assert list(wide["mean of classes"].round(2)) == pytest.approx(
        [60.95, 66.26, 60.94, 58.98, 43.12, 48.03], abs=0.011
    )
    above = wide["All"] - wide["mean of classes"]
    assert list(above.round(2)) == pytest.approx([2.05, 4.73, 4.06, 5.02, 1.88, 9.97], abs=0.011)


def test_published_runs_do_not_give_the_published_all() -> None:
    runs = published_moments(read_published(TABLE_2)).set_index("metric")
    mean, sd = runs.loc["mean of classes", ["mean", "sd"]]
    assert (round(mean, 1), round(sd, 1)) == (58.9, 8.1)  # printed: 64 +- 5


def test_published_files_are_complete() -> None:
    for path in PUBLISHED.glob("empirical_*.csv"):
        table = read_published(path.name)
        assert set(table["known"]) <= {"given", "confirmed", "recalled"}
        assert set(table["label_set_known"]) <= {"given", "inferred"}
        assert table["source"].notna().all()
        assert published_note(path.name)
    assert len(read_published(TABLE_1)) == 66
    assert len(read_published(TABLE_2)) == 40
    with pytest.raises(InputError, match=r"unknown published table 'x\.csv': choose from"):
        read_published("x.csv")
    with pytest.raises(InputError, match=r"choose from empirical_\w+1.csv, empirical_\w+2.csv$"):
        read_published("fixmatch_table2.csv")  # of the other kind


# Groups


def test_settings_cover_every_field_of_a_run() -> None:
    fields = {field.name for field in dataclasses.fields(Run)} - {"label_set", "repeat"}
    assert fields <= set(SETTINGS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("budget", "smoke"),
        ("dataset", "digits"),
        ("network", "wrn-16-2"),
        ("num_images", 64_000),
        ("max_eval_images", 100),
        ("num_validation", 5),
        ("batch_size", 32),
        ("learning_rate", 0.1),
        ("teacher_decay", 0.5),
        ("deterministic", True),
        ("options", {"threshold": 0.5}),
    ],
)
def test_runs_with_different_settings_are_never_averaged(
    tmp_path: Path, field: str, value: object
) -> None:
    runs = [make_run(repeat=i, **extra) for i in range(3) for extra in ({}, {field: value})]
    write_store(tmp_path, runs)
    found = load.load(tmp_path, "synthetic")
    table = class_accuracy(load.metrics(found))
    assert set(table["n"]) == {3}
    assert found.runs["group"].nunique() == 2
    assert len(found.runs[["experiment", "variant"]].drop_duplicates()) == 2
    text = found.runs["experiment"] + found.runs["variant"]
    assert text.str.contains(str(getattr(value, "get", lambda _: value)("threshold"))).any()


def test_hand_picked_and_random_label_sets_are_never_averaged(tmp_path: Path) -> None:
    write_store(tmp_path, [make_run(label_set=s) for s in ("boss:0", "boss:1", "fixmatch:0@10")])
    found = load.load(tmp_path, "synthetic")
    assert sorted(algorithms_table(found.runs)["num_label_sets"]) == [1, 2]


def test_label_sets_are_in_natural_order(tmp_path: Path) -> None:
    write_store(tmp_path, [make_run(label_set=f"boss:{i}") for i in (10, 2, 1)])
    found = load.load(tmp_path, "synthetic")
    assert list(found.runs["label_set"]) == ["boss:1", "boss:2", "boss:10"]


def test_a_chain_names_its_encoder_once(tmp_path: Path) -> None:
    """What serves throughout is said at first, what differs from it where it does."""
    encoder = "simclr:9@wrn-10-1"
    shared = {"encoder": encoder, "embedding": f"{encoder}+manifold:9x9"}
    first = make_run("supervised", start="propagation", num_start=30, unlabeled_ratio=0, **shared)
    by_patches = make_run(start="propagation", num_start=30, embedding="kmeans-patches:9")
    alone = make_run(start="propagation", num_start=30, embedding=encoder, encoder=encoder)
    second = child_of(first, 30, rank_by="smoothed", **shared)
    rounds = [
        second,
        child_of(second, 30, rank_by="smoothed", **shared),
        child_of(first, 30, rank_by="graph", encoder=encoder),
        child_of(first, 30, rank_by="both", encoder=encoder, embedding=encoder),
        child_of(first, 30, rank_by="last"),
        child_of(by_patches, 30, rank_by="both", embedding="kmeans-patches:9"),
    ]
    write_store(tmp_path, [first, by_patches, alone, *rounds])
    runs = load.load(tmp_path, "synthetic").runs.set_index("run_id")
    start = "supervised from simclr:9 +30 by propagation with manifold:9x9"
    patches = "fixmatch +30 by kmeans-patches:9"
    assert [runs.loc[run.id, "variant"] for run in (first, by_patches, alone, *rounds)] == [
        start,
        patches,
        "fixmatch from simclr:9 +30 by propagation",
        f"{start} -> fixmatch +30 smoothed",
        f"{start} -> fixmatch +30 smoothed x2",
        f"{start} -> fixmatch +30 by graph by itself",
        f"{start} -> fixmatch +30 by graph and confidence with simclr:9",
        f"{start} -> fixmatch from random weights +30",
        f"{patches} -> fixmatch +30 by graph and confidence",
    ]


# The same training twice


@pytest.mark.parametrize(
    "other",
    [{}, {"options": '{"a": 1, "threshold": 0.95}'}],
    ids=["equal rows", "options in another order and notation"],
)
def test_the_same_training_under_two_ids_counts_once(
    tmp_path: Path, other: dict[str, object]
) -> None:
    runs = grid_of_runs(num_label_sets=2, num_repeats=2)
    store = write_store(tmp_path, runs)
    ids = []
    for day, run_id in ((8, "a" * 16), (7, "c" * 16), (7, "b" * 16)):
        row, parts = rows(make_run(label_set="fixmatch:0@10", repeat=9))
        row |= {"run_id": run_id, "finished_at": f"2020-04-0{day}T12:00:00+00:00"}
        row |= {"options": '{"threshold": 0.95, "a": 1.0}'} if "options" in other else {}
        store.write(row | (other if run_id[0] == "a" else {}), **parts)
        ids.append(run_id)
    found = load.load(tmp_path, "synthetic")
    assert len(found.runs) == len(runs) + 1
    assert set(found.runs["run_id"]) == {*(run.id for run in runs), "b" * 16}
    assert set(found.evaluations["run_id"]) == set(found.runs["run_id"])
    assert len(found.warnings) == 1
    assert all(f"{run_id}, as {'b' * 16}" in found.warnings[0] for run_id in ids[:2])
    table = algorithms_table(found.runs)
    assert table["num_runs"].sum() == len(runs) + 1
    accuracy = class_accuracy(load.metrics(found))
    assert accuracy["n"].max() == (2 if "options" in other else 3)


@pytest.mark.parametrize("name", load.COLUMNS)
def test_a_row_that_is_stored_twice_counts_once(tmp_path: Path, name: str) -> None:
    runs = grid_of_runs(num_label_sets=2, num_repeats=2)
    write_store(tmp_path, runs)
    once = load.load(tmp_path, "synthetic")
    path = tmp_path / "synthetic" / name / f"{runs[1].id}.parquet"
    table = pd.read_parquet(path)
    pd.concat([table, table.iloc[[-20]]]).to_parquet(path)
    twice = load.load(tmp_path, "synthetic")
    pd.testing.assert_frame_equal(getattr(twice, name), getattr(once, name))
    assert twice.warnings == [f"rows of {name} that are stored twice count once: {runs[1].id}"]


# Numbers against plain loops over what was stored


def test_metrics_are_those_of_the_teacher_after_the_last_step(metrics: pd.DataFrame) -> None:
    run = make_run(label_set="fixmatch:2@10", repeat=1)
    row, parts = rows(run)
    table = metrics[metrics["run_id"] == run.id].set_index("metric")["percent"]
    assert table["All"] == 100 * row["last_accuracy"]
    assert table["All, best on test (oracle)"] == 100 * row["best_test_accuracy"]
    last = [
        r
        for r in parts["class_evaluations"]
        if r["network"] == "teacher" and r["step"] == run.num_steps
    ]
    assert list(table[3:]) == [100 * r["test_accuracy"] for r in last]
    assert table["mean of classes"] == pytest.approx(np.mean(table[3:]))


def test_class_accuracy_against_a_loop(metrics: pd.DataFrame) -> None:
    table = class_accuracy(metrics)
    assert len(table) == 2 * 6 * 13
    for run in grid_of_runs(num_repeats=1):
        same = [dataclasses.replace(run, repeat=i) for i in range(4)]
        values = [100 * rows(r)[0]["last_accuracy"] for r in same]
        mine = table[
            (table["variant"] == run.algorithm)
            & (table["label_set"] == run.label_set)
            & (table["metric"] == "All")
        ].iloc[0]
        assert mine["mean_percent"] == pytest.approx(sum(values) / 4)
        squares = sum((v - sum(values) / 4) ** 2 for v in values)
        assert mine["sd_percent"] == pytest.approx(math.sqrt(squares / 3))
        assert mine["n"] == 4


def test_class_accuracy_text(metrics: pd.DataFrame) -> None:
    text = class_accuracy_text(class_accuracy(metrics))
    assert list(text.columns[:4]) == ["variant", "label_set", "n", "All"]
    assert list(text.columns[-10:]) == list(CIFAR10)
    numbers = class_accuracy(metrics).iloc[0]
    expected = f"{numbers['mean_percent']:.1f} ± {numbers['sd_percent']:.1f}"
    assert text["All"][0] == expected


def test_runs_text_ends_with_mean_and_deviation(metrics: pd.DataFrame) -> None:
    focus = metrics[(metrics["variant"] == "fixmatch") & (metrics["label_set"] == "fixmatch:1@10")]
    text = runs_text(focus)
    assert list(text["repeat"]) == [0, 1, 2, 3, "mean ± sd"]
    values = [float(x) for x in text["dog"][:4]]
    assert text["dog"][4] == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


def test_protocols(found: load.Results) -> None:
    table = protocols_table(found.runs)
    assert list(table["label_set"][:7]) == [*(f"fixmatch:{i}@10" for i in range(6)), "all"]
    fixmatch = found.runs[found.runs["variant"] == "fixmatch"]
    total = table[(table["variant"] == "fixmatch") & (table["label_set"] == "all")].iloc[0]
    best, last = fixmatch["best_test_accuracy"], fixmatch["last_accuracy"]
    assert total["optimism_points"] == pytest.approx(100 * (best - last).mean())
    assert total["optimism_low"] < total["optimism_points"] < total["optimism_high"]
    assert total["interval_over"] == "label sets"
    assert table["interval_over"][0] == "repeats of one label set"
    assert list(protocols_text(table)["n"][:7]) == [4] * 6 + [24]


def test_algorithms_compare_pairs_with_supervised(found: load.Results) -> None:
    table = algorithms_table(found.runs).set_index("variant")
    assert table.loc["fixmatch", "baseline"] == "supervised"
    assert table.loc["supervised", "baseline"] == ""
    assert table.loc["supervised", "num_pairs"] == 0
    differences = []
    for run in grid_of_runs(("fixmatch",)):
        other = make_run("supervised", run.label_set, repeat=run.repeat)
        differences.append(rows(run)[0]["last_accuracy"] - rows(other)[0]["last_accuracy"])
    row = table.loc["fixmatch"]
    assert row["difference_points"] == pytest.approx(100 * np.mean(differences))
    assert row["num_pairs"] == 24
    assert row["num_wins"] == sum(d > 0 for d in differences)
    assert row["low"] < row["mean_percent"] < row["high"]
    assert row["difference_p"] == row["difference_p_holm"]  # the only difference
    assert math.isnan(table.loc["supervised", "difference_p_holm"])


def test_differences_over_few_label_sets_have_no_adjusted_p_value(tmp_path: Path) -> None:
    write_store(tmp_path, grid_of_runs(("supervised", "fixmatch"), 2, 2))
    table = algorithms_table(load.load(tmp_path, "synthetic").runs).set_index("variant")
    assert 0 <= table.loc["fixmatch", "difference_p"] <= 1
    assert math.isnan(table.loc["fixmatch", "difference_p_holm"])


def test_algorithms_without_supervised_compare_with_fixmatch(tmp_path: Path) -> None:
    write_store(tmp_path, grid_of_runs(("boss", "fixmatch"), 2, 2))
    table = algorithms_table(load.load(tmp_path, "synthetic").runs).set_index("variant")
    assert table.loc["boss-4", "baseline"] == "fixmatch"
    assert list(table.index) == ["fixmatch", "boss-4"]


def test_verdicts_by_hand() -> None:
    numbers = pd.DataFrame(
        [
            ("e", "supervised", "", 0, math.nan, ""),
            ("e", "above", "supervised", 4, 0.04, "better"),
            ("e", "below", "supervised", 4, 0.05, "worse"),
            ("e", "unclear", "supervised", 4, 0.06, "undecided"),
            ("e", "few sets", "supervised", 4, math.nan, "undecided"),
            ("e", "no pairs", "supervised", 0, math.nan, ""),
            ("few sets only", "a", "supervised", 4, math.nan, "undecided"),
            ("few sets only", "b", "supervised", 4, math.nan, "undecided"),
            ("two", "fixmatch", "supervised", 4, 0.01, "better"),
        ],
        columns=["experiment", "variant", "baseline", "num_pairs", "difference_p_holm", "verdict"],
    )
    [row] = verdicts_table(numbers).to_dict("records")
    assert (row["experiment"], row["baseline"]) == ("e", "supervised")
    assert (row["better"], row["worse"]) == ("above", "below")
    assert row["undecided"] == "unclear; few sets"
    text = verdicts_text(verdicts_table(numbers))
    assert list(text.columns) == ["compared with", "better", "worse", "undecided"]


def test_variance_without_repeats_has_one_line_per_group(tmp_path: Path) -> None:
    write_store(tmp_path, grid_of_runs(num_label_sets=3, num_repeats=1))
    numbers = variance_table(load.metrics(load.load(tmp_path, "synthetic")))
    assert len(numbers) == 2 * 12
    assert list(variance_text(numbers)["metric"]) == ["All", "All"]


def test_budgets_are_compared_within_themselves(tmp_path: Path) -> None:
    runs = grid_of_runs(num_label_sets=2, num_repeats=2)
    runs += grid_of_runs(num_label_sets=2, num_repeats=1, budget="smoke", num_images=640)
    write_store(tmp_path, runs)
    table = algorithms_table(load.load(tmp_path, "synthetic").runs)
    assert sorted(table["num_runs"]) == [2, 2, 4, 4]
    assert sorted(table["num_pairs"]) == [0, 0, 2, 4]
    for _, block in table.groupby("experiment"):  # balanced: the difference of the means
        means = block.set_index("variant")["mean_percent"]
        difference = block.set_index("variant").loc["fixmatch", "difference_points"]
        assert difference == pytest.approx(means["fixmatch"] - means["supervised"])


def test_variance_against_a_loop(metrics: pd.DataFrame) -> None:
    table = variance_table(metrics)
    assert len(table) == 2 * 12  # All, its oracle and the classes
    groups = [
        [100 * rows(make_run(label_set=f"fixmatch:{s}@10", repeat=r))[0]["last_accuracy"]
         for r in range(4)]
        for s in range(6)
    ]  # fmt: skip
    within = np.mean([np.var(g, ddof=1) for g in groups])
    between = np.var([np.mean(g) for g in groups], ddof=1) - within / 4
    row = table[(table["variant"] == "fixmatch") & (table["metric"] == "All")].iloc[0]
    assert row["repeat_variance"] == pytest.approx(within)
    assert row["label_set_variance"] == pytest.approx(between)
    assert row["share"] == pytest.approx(between / (between + within))
    assert row["repeat_sd"] == pytest.approx(math.sqrt(within))
    text = variance_text(table)
    clipped = table["is_clipped"].to_numpy()
    assert clipped.any()
    assert (text["sd between label sets"].str.endswith("*").to_numpy() == clipped).all()


def test_spread_rows(metrics: pd.DataFrame) -> None:
    table = spread_table(metrics)
    mean = table[(table["variant"] == "fixmatch") & (table["label_set"] == "mean")].iloc[0]
    parts = table[(table["variant"] == "fixmatch") & (table["label_set"] != "mean")]
    assert mean["mean_class_sd"] == pytest.approx(parts["mean_class_sd"].mean())
    assert mean["ratio"] == pytest.approx(mean["mean_class_sd"] / mean["sd_of_mean"])
    assert mean["n"] == 24


def test_published_beside_ours(found: load.Results, metrics: pd.DataFrame) -> None:
    theirs = read_published(TABLE_1)
    ours = comparable(metrics, found.runs, theirs)
    assert set(ours["algorithm"]) == {"fixmatch"}
    table = published_table(theirs, ours, ours[ours["repeat"] < 2])
    assert len(table) == 6 * 13
    cat = table[(table["row"] == 1) & (table["metric"] == "cat")].iloc[0]
    assert (cat["label_set"], cat["label_set_known"]) == ("fixmatch:0@10", "inferred")
    assert (cat["published_mean_percent"], cat["published_sd_percent"]) == (67, 45)
    mine = class_accuracy(metrics)
    mine = mine[
        (mine["variant"] == "fixmatch")
        & (mine["label_set"] == "fixmatch:0@10")
        & (mine["metric"] == "cat")
    ].iloc[0]
    assert cat["ours_mean_percent"] == mine["mean_percent"]
    assert cat["difference_points"] == pytest.approx(mine["mean_percent"] - 67)
    assert (cat["published_n"], cat["ours_n"], cat["reference_n"]) == (4, 4, 2)
    oracle = table[(table["row"] == 1) & table["metric"].str.contains("oracle")].iloc[0]
    assert oracle["published_mean_percent"] == 63
    text = published_text(table)
    assert list(text["whose"][:4]) == ["published", "ours", "reference", "ours - published"]
    assert text["cat"][0] == "67 ± 45"


def test_published_rows_are_compared_with_hand_picked_sets_too(tmp_path: Path) -> None:
    write_store(tmp_path, [make_run(label_set=s) for s in ("boss:3", "fixmatch:3@10", "boss:9")])
    found = load.load(tmp_path, "synthetic")
    theirs = read_published(TABLE_2)
    table = published_table(theirs, load.metrics(found), None)
    pairs = set(zip(table["label_set"], table["label_set_known"], strict=True))
    assert pairs == {("boss:3", "alternative"), ("fixmatch:3@10", "inferred")}
    assert "reference" not in set(published_text(table)["whose"])


def test_reference_counts_runs_that_are_equal_to_the_last_bit(
    found: load.Results, tmp_path: Path
) -> None:
    write_store(tmp_path, grid_of_runs(num_repeats=2))
    base = load.load(tmp_path, "synthetic").runs
    changed = base["last_accuracy"].to_numpy(copy=True)
    changed[0] = np.nextafter(changed[0], 1)
    table = reference_table(found.runs, base.assign(last_accuracy=changed))
    assert len(table) == 12
    assert list(table["common_n"]) == [2] * 12
    assert list(table["num_identical"]) == [1] + [2] * 11
    assert set(table["ours_n"]) == {4}
    assert set(table["reference_n"]) == {2}


def test_the_difference_to_the_reference_is_over_common_runs(
    found: load.Results, tmp_path: Path
) -> None:
    # Of label set 0 the reference has repeats 2 to 5, ours has 0 to 3; of label set 1 none of ours.
    runs = [make_run(label_set="fixmatch:0@10", repeat=i) for i in (2, 3, 4, 5)]
    runs += [make_run(label_set="fixmatch:1@10", repeat=i) for i in (7, 8)]
    write_store(tmp_path, runs)
    base = load.load(tmp_path, "synthetic").runs
    base["last_accuracy"] -= 0.01 * base["repeat"]
    table = reference_table(found.runs, base)
    assert list(table["label_set"]) == ["fixmatch:0@10", "fixmatch:1@10"]
    assert list(table["ours_n"]) == [4, 4]
    assert list(table["reference_n"]) == [4, 2]
    assert list(table["common_n"]) == [2, 0]
    assert list(table["num_identical"]) == [0, 0]
    assert table["common_difference_points"][0] == pytest.approx(2.5)
    assert math.isnan(table["common_difference_points"][1])
    ours = [100 * rows(make_run(label_set="fixmatch:0@10", repeat=i))[0]["last_accuracy"]
            for i in range(4)]  # fmt: skip
    assert table["ours_mean_percent"][0] == pytest.approx(np.mean(ours))
    text = reference_text(table)
    assert list(text["runs in both"]) == [2, 0]
    assert list(text["difference over these"]) == ["+2.5", "-"]


def test_settings(found: load.Results) -> None:
    table = run_settings(found.runs).set_index("variant")
    assert table.loc["fixmatch", "options.threshold"] == 0.95
    assert table.loc["fixmatch", "seconds_sum"] == 6 * (30 + 31 + 32 + 33)
    assert table.loc["fixmatch", "seconds_median"] == 31.5
    assert table.loc["fixmatch", "version.torch"] == "2.11"
    common = settings_common_text(run_settings(found.runs)).set_index("setting")
    assert common.loc["learning_rate", "value"] == "0.03"
    different = settings_different_text(run_settings(found.runs))
    options = {"smoothing", *ALGORITHMS["fixmatch"].options}
    assert set(different["setting"]) == {
        *("algorithm", *PER_GROUP),
        *(f"options.{name}" for name in options),
    }


def test_counts_and_seconds_of_one_group_do_not_pass_for_those_of_all(found: load.Results) -> None:
    numbers = run_settings(found.runs)
    common = settings_common_text(numbers).set_index("setting")["value"]
    assert common["num_runs"] == "48"
    assert float(common["seconds_sum"]) == 12 * (30 + 31 + 32 + 33)
    assert not {"num_label_sets", "seconds_median"} & set(common.index)
    different = settings_different_text(numbers).set_index("setting")
    assert list(different.loc["num_runs"]) == ["24", "24"]
    assert list(different.loc["num_label_sets"]) == ["6", "6"]
    alone = run_settings(found.runs[found.runs["variant"] == "fixmatch"])
    common = settings_common_text(alone).set_index("setting")["value"]
    assert (common["num_runs"], common["num_label_sets"]) == ("24", "6")


def test_several_versions_are_all_named(found: load.Results) -> None:
    versions = found.runs["versions"].to_numpy(copy=True)
    versions[-1] = json.dumps({"torch": "2.12"})
    table = run_settings(found.runs.assign(versions=versions)).set_index("variant")
    assert table.loc["fixmatch", "version.torch"] == "2.11 | 2.12"


# How numbers are written


def test_counts(metrics: pd.DataFrame) -> None:
    assert tables.counts_text(metrics) == "48 runs, 6 label sets, n = 4 repeats of each"
    one = metrics[(metrics["variant"] == "fixmatch") & (metrics["label_set"] == "fixmatch:1@10")]
    assert tables.counts_text(one) == "4 runs, 1 label set, n = 4 repeats"
    assert tables.counts_text(one[one["repeat"] == 2]) == "1 run, 1 label set, n = 1 repeat"
    fewer = metrics[(metrics["repeat"] < 3) | (metrics["label_set"] == "fixmatch:1@10")]
    assert tables.counts_text(fewer) == "38 runs, 6 label sets, n = 3 to 4 repeats of each"


def test_numbers_as_text() -> None:
    assert tables.plus_minus(63.05, 5.0) == "63.0 ± 5.0"  # 63.05 lies below its decimal
    assert tables.plus_minus(63.1, math.nan) == "63.1"
    assert tables.plus_minus(math.nan, math.nan) == "-"
    assert tables.number(-0.04) == "0.0"
    assert tables.signed(0.04) == "0.0"
    assert tables.signed(1.25) == "+1.2"
    assert tables.signed(-1.25) == "-1.2"
    assert tables.interval(math.nan, math.nan) == "-"
    assert tables.interval(1, 2.26) == "[1.0, 2.3]"
    assert as_printed(0.05, 0.06) == "0.05 ± 0.06"


def test_many_classes_leave_the_lowest_and_highest() -> None:
    table = pd.DataFrame(
        {"order": range(3, 103), "metric": [f"c{i}" for i in range(100)], "percent": range(100)}
    )
    kept = tables.extreme_classes(table, "percent", 4)
    assert list(kept["metric"]) == ["c0", "c1", "c98", "c99"]
    assert len(tables.extreme_classes(table, "percent", 100)) == 100
