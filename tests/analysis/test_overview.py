"""The overview over all studies, and the tables of the README: every number by hand."""

import csv
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import load
from analysis.naming import ORACLE_MARK, family
from analysis.sections import headline_runs, headlines, overview
from analysis.tables import PROTOCOLS
from boss.errors import InputError
from boss.study.catalog import ALGORITHMS
from boss.study.run import BUDGETS, Run
from boss.study.study import find
from boss.study.study import load as load_study
from tests.analysis.data import child_of, make_run, method_run, write_store

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "studies"
# Reference, sections A.9, E and F.
PUBLISHED = {
    "perspectives_random": "61.0 ± 9.3",
    "perspectives_random_classes": "56.4",
    "perspectives_hand_picked": "61.0 ± 9.3",
    "perspectives_hand_picked_classes": "56.4",
    "fixmatch_random": "64.28 (48.58 to 85.32)'",
    "bucket_most": "78 (up to 84)'",
    "bucket_middle": "65'",
    "bucket_outliers": "10'",
    "boss_headline": "95.1'",
    "boss_supervised": "94.5'",
    "fixmatch_cifar10_40_ctaugment": "88.61 ± 3.35",
    "fixmatch_cifar10_40_randaugment": "86.19 ± 3.37",
    "fixmatch_cifar10_250_ctaugment": "94.93 ± 0.33",
    "fixmatch_cifar10_250_randaugment": "94.93 ± 0.65",
    "fixmatch_cifar10_4000_ctaugment": "95.69 ± 0.15",
    "fixmatch_cifar10_4000_randaugment": "95.74 ± 0.05",
    "fixmatch_cifar100_400_ctaugment": "50.05 ± 3.01",
    "fixmatch_cifar100_400_randaugment": "51.15 ± 1.75",
    "fixmatch_svhn_40_ctaugment": "92.35 ± 7.65'",
    "fixmatch_svhn_40_randaugment": "96.04 ± 2.17'",
    "fixmatch_stl10_1000_ctaugment": "94.83 ± 0.63",
    "fixmatch_stl10_1000_randaugment": "92.02 ± 1.50",
    "boss_headline_svhn": "97.8'",
    "boss_supervised_svhn": "98.27'",
    "ablation_cutout_both": "95.16",
    "ablation_cutout_without": "93.85",
    "ablation_cutout_alone": "93.85",
    "ablation_threshold": "93.60'",
    "ablation_views": "12'",
    "ablation_ratio": "95.16",
    "ablation_optimizer": "94.63?",
    "ablation_decay": "95.16",
}


def row_of(results: Path, key: str) -> dict[str, Any]:
    """The numbers and the text of one headline."""
    numbers, _ = overview.overview(results)
    text = overview.overview_text(numbers)
    place = [*numbers["key"]].index(key)
    return numbers.iloc[place].to_dict() | text.iloc[place].to_dict()


def finished(percents: Sequence[float], **columns: Any) -> list[dict[str, Any]]:
    """Changes to the rows of runs: the last accuracy of each."""
    return [{"last_accuracy": percent / 100, **columns} for percent in percents]


def with_changes(runs: Sequence[Run], changes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Those of a store that holds these runs."""
    return {run.id: change for run, change in zip(runs, changes, strict=True)}


# What is published


def test_the_published_numbers_are_those_of_the_reference() -> None:
    table = headlines.headlines().assign(note="", **headline_runs.OURS)
    text = overview.overview_text(table.assign(dataset=""))
    shown = dict(zip(table["key"], text["published, %"], strict=True))
    assert {key: value for key, value in shown.items() if value != "-"} == PUBLISHED
    for row in table.to_dict("records"):
        number = row["printed"].split(" ")[0]
        assert (
            math.isnan(row["percent"])
            if not number
            else (abs(row["percent"] - float(number)) < 0.051)
        ), row["key"]


def test_the_mean_of_table_1_by_hand() -> None:
    """Rows 63, 71, 65, 64, 45, 58 with deviations 5, 5, 2, 5, 4, 6 over 4 runs each:
    4 (4 + 100 + 16 + 9 + 256 + 9) between and 3 (25 + 25 + 4 + 25 + 16 + 36) within."""
    table = headlines.headlines().set_index("key")
    assert table.loc["perspectives_random", "percent"] == pytest.approx(61.0)
    expected = math.sqrt((4 * 394 + 3 * 131) / 23)
    assert table.loc["perspectives_random", "sd_percent"] == pytest.approx(expected)
    assert table.loc["perspectives_random", "n"] == 24
    classes = (60.95 + 66.26 + 60.94 + 58.98 + 43.12 + 48.03) / 6
    found = table.loc["perspectives_random_classes", "percent"]
    assert found == pytest.approx(classes, abs=0.01)


def test_the_deviation_of_several_rows_is_that_of_their_runs() -> None:
    runs = pd.DataFrame({"row": [1, 1, 1, 2, 2], "x": [1.0, 2.0, 6.0, 4.0, 9.0]})
    by_row = runs.groupby("row")["x"].agg(["mean", "std", "count"])
    rows = by_row.rename(columns={"std": "sd", "count": "n"})
    assert headlines.combined(rows) == pytest.approx((4.4, runs["x"].std(ddof=1), 5))


def test_the_file_of_headlines_is_complete() -> None:
    with headlines.HEADLINES.open(newline="") as file:
        rows = list(csv.DictReader(file))
    keys = [row["key"] for row in rows]
    assert len({*keys}) == len(keys)
    assert len({(row["title"], row["runs"]) for row in rows}) == len(rows)
    protocols = {title.removesuffix(ORACLE_MARK) for title in PROTOCOLS.values()}
    for row in headlines.headlines().to_dict("records"):
        assert row["is_main"] in ("", "yes")
        if row["printed"]:
            assert row["source"] and row["known"] and row["statistic"], row["key"]
            assert row["protocol"] in {*protocols, "unknown"}, row["key"]
        else:
            assert row["note"] and not row["known"], row["key"]
    main = headlines.headlines().query("is_main == 'yes'")
    assert all("dataset=cifar10;" in f"{runs};" for runs in main["runs"])


def test_every_study_of_published_numbers_has_a_headline() -> None:
    named = set(headlines.headlines()["study"])
    studies = {name: load_study(name, STUDIES) for name in find(STUDIES)}
    assert named <= set(studies)
    for name, study in studies.items():
        if study.published or study.comparisons:
            assert name in named


def described(run: Run) -> dict[str, Any]:
    """What the table of runs says of a run, as far as headlines ask for it."""
    _, at, size = run.label_set.partition("@")
    num_labels = int(size) if at else 1000 if run.label_set.startswith("fold:") else 10
    options = dict(ALGORITHMS[run.algorithm].options) | dict(run.options)
    own = (
        run
        if run.parent is None
        else dataclasses.replace(
            run, parent=None, picks_per_class=0, pick_labels="pseudo", rank_by="last"
        )
    )
    leaks = [(r.pick_labels, r.rank_by) != ("pseudo", "last") for r in (run, run.parent) if r]
    return run.as_dict() | {
        "run_id": run.id,
        "options": json.dumps(options),
        "num_labels": num_labels + 10 * run.picks_per_class,
        "method": own.method,
        "started_from": run.method,
        "round": run.round,
        "family": family(run.label_set, run.dataset),
        "is_oracle": any(leaks),
        "dataset_fingerprint": "",
    }  # fmt: skip


@pytest.mark.parametrize("budget", ["smoke", "short", "paper"])
def test_every_headline_has_runs_in_its_study_and_they_differ_in_nothing_else(budget: str) -> None:
    counts = {}
    for headline in headlines.headlines().to_dict("records"):
        runs = load_study(headline["study"], STUDIES).enumerate(budget)
        table = pd.DataFrame([described(run) for run in runs])
        found = headline_runs.matching(table, headlines.settings(headline["runs"]))
        assert len(found), headline["key"]
        by_id = {run.id: run for run in runs}
        rest = {
            dataclasses.replace(by_id[i], parent=None, picks_per_class=0, pick_labels="pseudo",
                                rank_by="last", label_set="boss:0", repeat=0).id
            for i in found["run_id"]
        }  # fmt: skip
        assert len(rest) == 1, headline["key"]
        counts[headline["key"]] = (found["label_set"].nunique(), len(found))
    if budget == "paper":
        assert counts["perspectives_random"] == counts["perspectives_hand_picked"] == (6, 24)
        assert counts["fixmatch_random"] == (8, 32)
        assert counts["bucket_most"] == (1, 4) and counts["bucket_middle"] == (2, 8)
        assert counts["boss_fixmatch"] == counts["boss_balancing"] == (8, 32)
        assert counts["boss_headline"] == (8, 32)
        assert counts["boss_supervised"] == counts["boss_supervised_svhn"] == (1, 4)
        assert counts["boss_headline_svhn"] == (4, 16)
        assert counts["fast"] == counts["fast_first"] == (2, 8)
        assert counts["fixmatch_cifar10_40_ctaugment"] == (5, 5)
        assert all(count == (1, 1) for key, count in counts.items() if "ablation" in key)


# What is ours


RANDOM = "perspectives_random"


def one_shot(budget: str = "short", seeds: Sequence[int] = (0, 1, 2), **fields: Any) -> list[Run]:
    return [make_run(label_set=f"fixmatch:{i}@10", budget=budget, **fields) for i in seeds]


def test_mean_and_sample_deviation_over_runs(tmp_path: Path) -> None:
    runs = [*one_shot(), *one_shot(seeds=[0], repeat=1)]
    changes = with_changes(runs, finished([50, 60, 70, 80], best_test_accuracy=0.9))
    write_store(tmp_path, runs, study="oneshot_cifar10", changes=changes)
    row = row_of(tmp_path, RANDOM)
    assert row["ours, %"] == "65.0 ± 12.9"  # sqrt((225 + 25 + 25 + 225) / 3)
    assert row["ours_sd_percent"] == pytest.approx(math.sqrt(500 / 3))
    assert (row["label sets"], row["runs"]) == ("3", "4")
    assert row["label_sets"] == "fixmatch:0@10 fixmatch:1@10 fixmatch:2@10"
    assert row["as published, %"] == "90.0 ± 0.0, best on test (oracle)"
    assert row["protocol_is_oracle"]
    # The mean of the classes is published of the last step: nothing differs from ours.
    row = row_of(tmp_path, "perspectives_random_classes")
    assert (row["ours, %"], row["as published, %"]) == ("65.0 ± 12.9", "-")
    assert not row["protocol_is_oracle"]


def test_other_label_sets_algorithms_data_and_studies_do_not_count(tmp_path: Path) -> None:
    right = one_shot(seeds=[0, 1])
    wrong = [
        make_run(label_set="boss:0"),
        make_run(label_set="fixmatch:0@40"),
        make_run(label_set="fixmatch:3@10", dataset="svhn"),
        make_run("supervised", "fixmatch:0@10"),
        child_of(right[0]),
    ]
    write_store(tmp_path, [*right, *wrong], study="oneshot_cifar10")
    write_store(tmp_path, one_shot(seeds=[5]), study="elsewhere")
    assert row_of(tmp_path, RANDOM)["label_sets"] == "fixmatch:0@10 fixmatch:1@10"
    assert row_of(tmp_path, "perspectives_hand_picked")["label_sets"] == "boss:0"


@pytest.mark.parametrize("budgets", [BUDGETS, BUDGETS[:2], BUDGETS[:1]])
def test_the_largest_budget_that_has_finished_runs(tmp_path: Path, budgets: list[str]) -> None:
    runs = [run for budget in budgets for run in one_shot(budget, seeds=range(len(budgets)))]
    write_store(tmp_path, runs, study="oneshot_cifar10")
    row = row_of(tmp_path, RANDOM)
    assert row["budget"].startswith(budgets[-1])
    assert row["runs"] == str(len(budgets))


def test_each_headline_has_its_own_budget(tmp_path: Path) -> None:
    runs = [*one_shot("paper", seeds=[0]), make_run(label_set="boss:0", budget="smoke")]
    write_store(tmp_path, runs, study="oneshot_cifar10")
    assert row_of(tmp_path, RANDOM)["budget"].startswith("paper; ")
    assert row_of(tmp_path, "perspectives_hand_picked")["budget"].startswith("smoke: ")


def test_median_and_range_over_runs(tmp_path: Path) -> None:
    runs = [make_run(label_set=f"fixmatch:{i}@10") for i in range(3)]
    medians = [{"median_last_20_accuracy": x} for x in (0.5, 0.9, 0.6)]
    changes = with_changes(runs, medians)
    write_store(tmp_path, runs, study="prototypes_cifar10", changes=changes)
    row = row_of(tmp_path, "fixmatch_random")
    expected = "60.0 (50.0 to 90.0), median over runs of the median of the last 20"
    assert row["as published, %"] == expected
    assert not row["protocol_is_oracle"]
    assert (row["protocol_low_percent"], row["protocol_high_percent"]) == (50, 90)
    assert math.isnan(row["protocol_sd_percent"])


def test_mean_of_the_median_of_the_last_20(tmp_path: Path) -> None:
    runs = [make_run(label_set=f"fixmatch:{i}@40", augmentation="ctaugment") for i in (1, 2)]
    changes = with_changes(runs, [{"median_last_20_accuracy": x} for x in (0.5, 0.6)])
    write_store(tmp_path, runs, study="fixmatch_table2", changes=changes)
    row = row_of(tmp_path, "fixmatch_cifar10_40_ctaugment")
    assert row["as published, %"] == "55.0 ± 7.1, median of the last 20"
    assert row_of(tmp_path, "fixmatch_cifar10_40_randaugment")["ours, %"] == overview.NOT_RUN


def self_trained(
    label_set: str, repeat: int = 0, budget: str = "short", **fields: Any
) -> tuple[Run, Run]:
    parent = method_run(4, label_set, repeat=repeat, budget=budget)
    return parent, child_of(parent, budget=budget, **fields)


@pytest.mark.slow
def test_the_highest_label_set_is_an_oracle(tmp_path: Path) -> None:
    """The means of the label sets count, not the highest run."""
    pairs = [self_trained(name, repeat) for name in ("boss:1", "boss:2") for repeat in (0, 1)]
    children = [child for _, child in pairs]
    best = [{"best_test_accuracy": x} for x in (0.5, 0.9, 0.75, 0.85)]
    write_store(
        tmp_path, [run for pair in pairs for run in pair], study="boss_cifar10",
        changes=with_changes(children, best),
    )  # fmt: skip
    row = row_of(tmp_path, "boss_headline")
    assert row["as published, %"] == "80.0, highest label set, best on test (oracle)"
    assert row_of(tmp_path, "boss_balancing")["as published, %"] == "-"


@pytest.mark.slow
def test_what_profited_from_hidden_labels_is_left_out(tmp_path: Path) -> None:
    parent, child = self_trained("boss:1")
    leaks = [child_of(parent, pick_labels="true"), child_of(parent, rank_by="best_test")]
    refined = [method_run(4, "boss:6", repeat=repeat) for repeat in (0, 1)]
    grandchild = child_of(leaks[0])
    others = [child_of(parent, 20), child_of(method_run(0, "boss:3")), grandchild]
    runs = [parent, child, *leaks, *refined, method_run(0, "boss:3"), *others]
    write_store(
        tmp_path, runs, study="boss_cifar10",
        changes={run.id: {"oracle": "refined by test accuracy"} for run in refined},
    )  # fmt: skip
    row = row_of(tmp_path, "boss_headline")
    assert (row["runs"], row["label_sets"]) == ("1", "boss:1")
    assert row["ours_percent"] == pytest.approx(100 * accuracy_of(tmp_path, child))
    assert row_of(tmp_path, "boss_balancing")["label_sets"] == "boss:1"
    numbers, _ = overview.overview(tmp_path)
    assert not numbers["label_sets"].str.contains("oracle").any()


def accuracy_of(results: Path, run: Run, study: str = "boss_cifar10") -> float:
    runs = pd.read_parquet(results / study / "runs").set_index("run_id")
    return float(runs.loc[run.id, "last_accuracy"])


def test_minutes_include_the_runs_before(tmp_path: Path) -> None:
    """Chains of 60 + 120, 60 + 240 and 60 + 720 seconds; the parents alone take 1 minute."""
    pairs = [self_trained(f"boss:{i}") for i in range(3)]
    changes = {parent.id: {"seconds": 60.0} for parent, _ in pairs}
    changes |= {
        child.id: {"seconds": seconds}
        for (_, child), seconds in zip(pairs, (120.0, 240.0, 720.0), strict=True)
    }
    write_store(
        tmp_path, [run for pair in pairs for run in pair], study="boss_cifar10", changes=changes
    )
    row = row_of(tmp_path, "boss_headline")
    assert (row["minutes"], row["num_trainings"], row["num_images"]) == (5.0, 2, 240_000)
    assert row["minutes per run"] == "on a CPU (cpu, 1 thread)"
    assert row_of(tmp_path, "boss_balancing")["minutes"] == 1.0


@pytest.mark.slow
def test_a_chain_that_is_not_whole_costs_nobody_knows_what(tmp_path: Path) -> None:
    """What it started from is not known either: it counts for no row that says so."""
    first = method_run(4, "boss:2")
    write_store(tmp_path, [child_of(first)], study="oneshot_cifar10_fast")
    row = row_of(tmp_path, "fast")
    assert (row["runs"], row["minutes per run"], row["budget"]) == ("1", "-", "short")
    runs = load.load(tmp_path, "oneshot_cifar10_fast").runs
    assert [*headline_runs.with_chains(runs)["started_from"]] == [""]
    write_store(tmp_path, [child_of(first)], study="boss_cifar10")
    assert row_of(tmp_path, "boss_headline")["ours, %"] == overview.NOT_RUN


GPU = {"peak_device_bytes": 10**9, "device": "NVIDIA H100"}


@pytest.mark.slow
def test_gpu_minutes_are_those_on_a_gpu(tmp_path: Path) -> None:
    parent, child = self_trained("boss:1")
    gpu = {run.id: GPU | {"seconds": 7000.0} for run in (parent, child)}
    write_store(tmp_path, [parent, child], study="boss_cifar10", changes=gpu)
    assert row_of(tmp_path, "boss_balancing")["minutes per run"] == (
        "117 GPU minutes (NVIDIA H100)"
    )
    assert row_of(tmp_path, "boss_headline")["minutes per run"] == "233 GPU minutes (NVIDIA H100)"
    gpu[parent.id] = {"seconds": 60.0, "device": "AMD EPYC", "threads": 2}
    write_store(tmp_path, [parent, child], study="boss_cifar10", changes=gpu)
    assert row_of(tmp_path, "boss_balancing")["minutes per run"] == (
        "on a CPU (AMD EPYC, 2 threads)"
    )
    mixed = row_of(tmp_path, "boss_headline")
    assert mixed["hardware"] == "CPU and GPU"
    assert mixed["minutes per run"] == (
        "118 CPU and GPU minutes (AMD EPYC, 2 threads; NVIDIA H100)"
    )


def test_only_runs_with_equal_settings_are_averaged(tmp_path: Path) -> None:
    """The larger group stays, although the other one is younger."""
    runs = [*one_shot(seeds=[0, 1]), *one_shot(seeds=[2], weight_decay=0.1)]
    changes = with_changes(runs, finished([50, 60, 90]))
    changes[runs[2].id] |= LATE
    write_store(tmp_path, runs, study="oneshot_cifar10", changes=changes)
    numbers, warnings = overview.overview(tmp_path)
    assert row_of(tmp_path, RANDOM)["ours_percent"] == pytest.approx(55)
    title = numbers.set_index("key").loc[RANDOM, "title"]
    left_out = "left out 1 run with other settings than the rest"
    assert f"overview, {title}: {left_out}" in warnings


LATE = {"finished_at": "2021-01-01T00:00:00+00:00"}


@pytest.mark.parametrize("late", [0, 1])
def test_of_groups_of_a_size_the_latest_stays(late: int, tmp_path: Path) -> None:
    runs = [*one_shot(seeds=[0]), *one_shot(seeds=[1], weight_decay=0.1)]
    write_store(tmp_path, runs, study="oneshot_cifar10", changes={runs[late].id: LATE})
    assert row_of(tmp_path, RANDOM)["label_sets"] == f"fixmatch:{late}@10"


def test_the_highest_of_several_is_an_oracle_by_any_protocol() -> None:
    runs = pd.DataFrame({"label_set": ["a", "a", "b"], "last_accuracy": [0.4, 0.9, 0.6]})
    found = headline_runs.by_protocol(runs, "last", "highest label set")
    assert found == {"protocol_percent": pytest.approx(65), "protocol_is_oracle": True}
    found = headline_runs.by_protocol(runs[2:], "last", "highest label set")
    assert found == {"protocol_percent": pytest.approx(60), "protocol_is_oracle": False}


def test_what_was_not_run_says_so(tmp_path: Path) -> None:
    write_store(tmp_path, [make_run(dataset="digits")], study="oneshot_digits")
    numbers, warnings = overview.overview(tmp_path)
    text = overview.overview_text(numbers)
    assert (text["ours, %"] == "not run yet").all()
    rest = ["as published, %", "label sets", "runs", "budget", "minutes per run"]
    assert (text[rest] == "-").all(axis=None)
    assert (numbers["num_runs"] == 0).all() and not warnings
    assert len(text) == len(headlines.headlines())


def test_without_any_result_there_is_no_overview(tmp_path: Path) -> None:
    (tmp_path / "oneshot_cifar10" / "runs").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"^no results in .*: start with `boss-study run"):
            overview.write(folder, tmp_path / "overview")
    assert not (tmp_path / "overview").exists()


def test_a_store_that_cannot_be_read_is_not_called_not_run(tmp_path: Path) -> None:
    (tmp_path / "boss_cifar10" / "runs").mkdir(parents=True)
    (tmp_path / "boss_cifar10" / "runs" / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"^no finished run in .*boss_cifar10"):
        overview.overview(tmp_path)


def test_the_files_hold_all_of_it(tmp_path: Path) -> None:
    runs = one_shot()
    changes = with_changes(runs, finished([50, 61, 72.3]))
    write_store(tmp_path, runs, study="oneshot_cifar10", changes=changes)
    folder = tmp_path / "new" / "overview"
    written = overview.write(tmp_path, folder)
    assert [path.name for path in written.paths] == [f"overview.{e}" for e in ("csv", "md", "tex")]
    numbers, _ = overview.overview(tmp_path)
    table = pd.read_csv(folder / "overview.csv").set_index("key")
    assert [*table.index] == [*numbers["key"]]
    assert table.loc[RANDOM, "ours_percent"] == (50 + 61 + 72.3) / 3  # to the last bit
    assert table.loc[RANDOM, "published_percent"] == 61.0
    page = (folder / "overview.md").read_text()
    for title in numbers["title"]:
        assert f"| {title} " in page
    assert "61.1 ± 11.2" in page and "not run yet" in page
    places = [page.index(f" [{i}] ") for i in range(1, len(overview.notes(numbers)) + 1)]
    assert places == sorted(places)
    assert r"61.1 $\pm$ 11.2" in (folder / "overview.tex").read_text()
    before = [path.read_bytes() for path in written.paths]
    assert [path.read_bytes() for path in overview.write(tmp_path, folder).paths] == before


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    write_store(tmp_path, one_shot(), study="oneshot_cifar10")
    (tmp_path / "overview").write_text("a file")
    with pytest.raises(InputError, match=r"^cannot write the overview to .*overview"):
        overview.write(tmp_path, tmp_path / "overview")
