"""Choosing by held-out images: the reference, the differences, the signals; never a test number."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.load import load
from analysis.page.parts import Picture, Table
from analysis.sections import tuning as choosing
from boss.results.read import Store
from boss.study.study import load as load_study
from tests.analysis.data import child_of, make_run, method_run, rows, write_store
from tests.conftest import ROOT

SETS = ("boss:0", "boss:1", "boss:3")


def scored(values, scope="short, cifar10, wrn-28-2, num_images = 64", **columns):
    """Rows of `choosing.scores`: {(variant, label set, repeat): held-out percent}."""
    table = pd.DataFrame(
        {
            "variant": variant, "candidate": f"{scope}; {variant}", "scope": scope,
            "label_set": label_set, "repeat": repeat, "run_id": f"{variant}{label_set}{repeat}",
            "held_out_percent": percent, "used_percent": 50.0, "num_predicted_classes": 5.0,
            "minutes": 2.0, "round": 0, "options": "{}", **dict.fromkeys(choosing.CHANGED, 0),
        }
        for (variant, label_set, repeat), percent in values.items()
    )  # fmt: skip
    return table.assign(**columns)


RECIPE = {
    ("recipe", "boss:0", 0): 40.0,
    ("recipe", "boss:1", 0): 50.0,
    ("recipe", "boss:3", 0): 60.0,
}
LONGER = {
    ("longer", "boss:0", 0): 44.0,
    ("longer", "boss:1", 0): 53.0,
    ("longer", "boss:3", 0): 62.0,
}


def test_the_reference_is_what_was_tried_most():
    table = scored(LONGER | RECIPE | {("recipe", "fixmatch:1@10", 0): 10.0})
    assert choosing.reference_of(table).endswith("; recipe")
    # As often: the one without a round.
    table = scored(LONGER | RECIPE)
    rounds = np.where(table["variant"] == "longer", 1, 0)
    assert choosing.reference_of(table.assign(round=rounds)).endswith("; recipe")


def test_of_those_tried_as_often_the_reference_is_the_center():
    """Each candidate changes one thing of the recipe, an option or a setting; they come in any
    order."""
    names = ["lower", "longer", "recipe", "wider", "other"]
    table = scored({(name, "boss:0", 0): 50.0 for name in names})
    changes = {
        "lower": {"options": '{"threshold": 0.9}'}, "longer": {"num_images": 1},
        "wider": {"network": 1}, "other": {"algorithm": 1, "options": '{"warmup": true}'},
    }  # fmt: skip
    for name, fields in changes.items():
        for column, value in fields.items():
            table[column] = table[column].astype(object)
            table.loc[table["variant"] == name, column] = value
    table.loc[table["variant"] != "other", "options"] = [
        json.dumps({"threshold": 0.9 if name == "lower" else 0.95}) for name in names[:-1]
    ]
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [1, 0, 4, 2, 3]):
        assert choosing.reference_of(table.iloc[order]).endswith("; recipe")


def test_the_recipe_is_the_reference_after_one_label_set(tmp_path):
    study = load_study("tune_cifar10_fast", ROOT / "studies")
    store = Store(tmp_path, "tune")
    runs = [run for run in study.enumerate("short") if run.label_set == "boss:0"]
    for run in runs:
        row, tables = rows(dataclasses.replace(run, num_evaluations=2))
        for step in tables["evaluations"]:
            step["validation_accuracy"] = 0.5
        tables = {n: [r | {"run_id": run.id} for r in t] for n, t in tables.items()}
        parent = {"parent": run.parent and run.parent.id}
        store.write(row | {"run_id": run.id} | parent, **tables)
    table = choosing.scores(load(tmp_path, "tune"))
    assert len(table) == len(runs) == 20
    recipe = table.set_index("run_id").loc[runs[0].id, "candidate"]
    assert choosing.reference_of(table) == recipe


def test_differences_are_over_pairs_and_intervals_over_label_sets():
    alone = {("elsewhere", "fixmatch:9@10", 0): 99.0}
    table = scored(RECIPE | {("recipe", "carlini:6", 0): 90.0} | LONGER | alone)
    numbers = choosing.candidates(table).set_index("name")
    assert list(numbers.index) == ["longer", "recipe", "elsewhere"]  # what has no pair comes last
    longer = numbers.loc["longer"]
    # 4, 3, 2 points: mean 3, sd 1, t(0.975; 2) = 4.302653 over 3 label sets.
    assert longer["difference_points"] == pytest.approx(3)
    half = 4.302653 / math.sqrt(3)
    assert longer["difference_low"] == pytest.approx(3 - half, abs=1e-5)
    assert longer["difference_high"] == pytest.approx(3 + half, abs=1e-5)
    assert (longer["num_pairs"], longer["num_wins"]) == (3, 3)
    # The mean of the recipe is over all it was tried on, 90 included: no difference of means.
    assert numbers.loc["recipe", "held_out_percent"] == pytest.approx(60)
    assert numbers.loc["recipe", "is_reference"]
    assert numbers.loc["recipe", "num_pairs"] == 0
    assert math.isnan(numbers.loc["elsewhere", "difference_points"])


def test_repeats_of_one_label_set_are_one_value():
    more = {("longer", "boss:0", 1): 50.0, ("recipe", "boss:0", 1): 40.0}
    numbers = choosing.candidates(scored(RECIPE | LONGER | more | {("recipe", "x", 0): 1.0}))
    longer = numbers.set_index("name").loc["longer"]
    assert longer["difference_points"] == pytest.approx(((4 + 10) / 2 + 3 + 2) / 3)
    assert longer["num_pairs"] == 4


def test_what_a_signal_would_have_chosen():
    table = scored(RECIPE | LONGER | {("best", s, 0): 70.0 for s in SETS})
    used = table["variant"].map({"recipe": 10.0, "longer": 30.0, "best": 20.0})
    table = table.assign(used_percent=used, num_predicted_classes=math.nan)
    numbers = choosing.candidates(table)
    found = choosing.signals(table, numbers).set_index("signal")
    mine = found.loc["pseudo-labels used, %"]
    # Ranks by held-out accuracy: recipe, longer, best = 1, 2, 3; by the signal 1, 3, 2.
    assert mine["over_candidates"] == pytest.approx(0.5)
    assert mine["within_label_sets"] == pytest.approx(0.5)
    assert (mine["num_candidates"], mine["num_label_sets"]) == (3, 3)
    assert mine["its_choice"] == "longer"
    other = found.loc["classes predicted"]
    assert (other["num_candidates"], other["its_choice"]) == (0, "")
    text = choosing.signals_text(found.reset_index())
    assert list(text["rank correlation over candidates"]) == ["+0.50", "-"]


@pytest.fixture
def store(tmp_path):
    """Methods 0 and 4 and a child, on three label sets, with held-out accuracies; and a leak."""
    write_store(tmp_path, [make_run("fixmatch", "boss:0", repeat=7)])  # holds nothing out
    store = Store(tmp_path, "synthetic")
    for number, label_set in enumerate(SETS):
        parent = method_run(4, label_set, num_validation=5000)
        runs = [
            method_run(0, label_set, num_validation=5000), parent,
            child_of(parent, num_validation=5000),
            child_of(parent, num_validation=5000, pick_labels="true"),
        ]  # fmt: skip
        for kind, run in enumerate(runs):
            row, tables = rows(run)
            for step in tables["evaluations"]:
                last = step["step"] == run.num_steps and step["network"] == "teacher"
                step["validation_accuracy"] = (0.5 + 0.1 * kind + 0.01 * number) if last else 0.99
            store.write(row, **tables)
    return tmp_path


def test_scores_are_of_the_teacher_after_the_last_step_and_of_no_oracle(store):
    found = load(store, "synthetic")
    table = choosing.scores(found)
    assert len(table) == 9  # the leaks and the run that holds nothing out are not among them
    assert not table["candidate"].str.contains("oracle").any()
    of = table.groupby(["round", "method"])["held_out_percent"].apply(sorted)
    assert of[0, "fixmatch"] == pytest.approx([50, 51, 52])
    assert of[0, "boss-4"] == pytest.approx([60, 61, 62])
    assert of[1, "fixmatch"] == pytest.approx([70, 71, 72])
    child = table[table["round"] == 1].iloc[0]
    assert child["minutes"] == pytest.approx(2 * 30 / 60)  # its parent's 30 seconds included
    assert table["used_percent"].iloc[0] == pytest.approx(90)
    # The classes of all pseudo-labels of the last evaluation, exp of their entropy.
    run_id = table["run_id"].iloc[0]
    counts = found.class_evaluations
    counts = counts[counts["run_id"] == run_id]
    counts = counts[counts["step"] == counts["step"].max()]
    shares = counts["predicted_count"] / counts["predicted_count"].sum()
    by_hand = math.exp(-sum(p * math.log(p) for p in shares if p))
    assert table["num_predicted_classes"].iloc[0] == pytest.approx(by_hand)


def test_the_section(store):
    parts = choosing.parts(load(store, "synthetic"))
    assert [type(part) for part in parts] == [Table, Picture, Table]
    names = list(parts[0].numbers["name"])
    assert names[0].endswith("-> fixmatch +40")
    assert parts[0].numbers["is_reference"].sum() == 1
    assert isinstance(parts[1].draw(), Figure)
    for part in (parts[0], parts[2]):
        assert "test_accuracy" not in part.numbers.columns
        assert "last_accuracy" not in part.numbers.columns


def test_no_section_without_a_choice(tmp_path):
    write_store(tmp_path, [make_run(label_set=s) for s in SETS])
    assert choosing.parts(load(tmp_path, "synthetic")) == []
    # One candidate only, or two that never met on a label set:
    for name, runs in {
        "one": [make_run(label_set=s, num_validation=100) for s in SETS],
        "apart": [
            make_run(label_set="boss:0", num_validation=100),
            dataclasses.replace(
                make_run(label_set="boss:1", num_validation=100), options={"threshold": 0.5}
            ),
        ],
    }.items():
        store = Store(tmp_path, name)
        for run in runs:
            row, tables = rows(run)
            for step in tables["evaluations"]:
                step["validation_accuracy"] = 0.5
            store.write(row, **tables)
        assert choosing.parts(load(tmp_path, name)) == []
