"""Runs, their ids, studies and how they are found."""

import dataclasses
import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from boss.errors import InputError
from boss.study.run import BUDGETS, DEFAULTS, SETTINGS, Run, titles
from boss.study.select import select
from boss.study.study import Study, find, grid, load, with_parents

STUDIES = Path(__file__).parents[2] / "studies"
FIELDS = {
    "dataset": "digits",
    "algorithm": "fixmatch",
    "label_set": "fixmatch:3@10",
    "repeat": 0,
    "network": "wrn-7-1",
    "num_images": 100,
}


def test_the_id_is_the_same_in_every_process_and_for_every_spelling_of_a_number():
    run = Run(**FIELDS, options={"threshold": 0.95})
    assert run.id == "9589d8c067a1751f"
    assert Run(**FIELDS, momentum=0.9, options={"threshold": 0.95}).id == run.id
    one = dataclasses.replace(run, teacher_decay=0)
    assert one.id == dataclasses.replace(run, teacher_decay=0.0).id
    code = f"from boss.study import Run; print(Run(**{FIELDS!r}, options={{'threshold': 0.95}}).id)"
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env=os.environ | {"PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert out.stdout.strip() == run.id


def test_every_field_is_part_of_the_id():
    run = Run(**FIELDS)
    other = {
        str: lambda v: {"fp32": "bf16", "paper": "short"}.get(v, v + "x"),
        int: lambda v: v + 1,
        float: lambda v: v / 2,
        bool: lambda v: not v,
    }
    of_self_training = {"parent", "picks_per_class", "pick_labels", "rank_by"}
    base = run
    started = {"start": "propagation", "embedding": "simclr", "num_start": 3}
    together = {
        "beta2": {"optimizer": "adam"},
        "final_learning_rate": {"schedule": "linear"},
        **dict.fromkeys(("embedding", "num_start", "embedding_seed"), started),
    }
    changes = {
        "augmentation": "cutout", "optimizer": "adam", "schedule": "constant",
        "final_learning_rate": 0.5,
    }  # fmt: skip
    assert dataclasses.replace(base, **started).id != base.id
    for field in dataclasses.fields(Run):
        run = dataclasses.replace(base, **together.get(field.name, {}))
        value = getattr(run, field.name)
        if field.name in of_self_training | {"start"}:
            continue
        if field.name == "options":
            changed = {"threshold": 0.5}
        elif field.name == "max_eval_images":
            changed = 7
        elif field.name in changes:
            changed = changes[field.name]
        else:
            changed = other[type(value)](value)
        assert dataclasses.replace(run, **{field.name: changed}).id != run.id, field.name
    run = base
    child = dataclasses.replace(run, parent=run, picks_per_class=5)
    others = [
        dataclasses.replace(child, picks_per_class=6),
        dataclasses.replace(child, pick_labels="true"),
        dataclasses.replace(child, rank_by="best_test"),
        dataclasses.replace(child, parent=dataclasses.replace(run, momentum=0.5)),
        dataclasses.replace(child, parent=child),
    ]
    assert len({r.id for r in [run, child, *others]}) == 7


def test_the_id_of_a_run_without_a_parent_is_that_of_its_other_fields():
    """A setting that is added later is no part of the id where it is at its default."""
    run = Run(**FIELDS)
    fields = {
        name: value
        for name, value in run.as_dict().items()
        if SETTINGS[name].in_id == "always" or value != DEFAULTS[name]
    }
    assert fields.keys() < run.as_dict().keys()
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    assert run.id == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_a_child_needs_what_its_parent_has():
    run = Run(**FIELDS)
    for changes, message in (
        ({"picks_per_class": 5}, "need a parent"),
        ({"pick_labels": "true"}, "need a parent"),
        ({"parent": run}, "needs picks_per_class"),
        ({"parent": "abc", "picks_per_class": 5}, "must be a Run"),
        ({"parent": run, "picks_per_class": 5, "rank_by": "best"}, "unknown rank_by"),
        ({"parent": run, "picks_per_class": 5, "pick_labels": "x"}, "unknown pick_labels"),
        ({"parent": run, "picks_per_class": 5, "repeat": 33}, "agree in repeat"),
        ({"parent": run, "picks_per_class": 5, "label_set": "boss:12"}, "agree in label_set"),
        ({"parent": run, "picks_per_class": 5, "dataset": "x.npz"}, "agree in dataset"),
        ({"parent": run, "picks_per_class": 5, "budget": "smoke"}, "agree in budget"),
    ):
        with pytest.raises(InputError, match=message):
            dataclasses.replace(run, **changes)


def test_rounds_streams_titles_and_shared_fields():
    run = Run(**FIELDS | {"algorithm": "boss"})
    child = dataclasses.replace(run, algorithm="fixmatch", parent=run, picks_per_class=5)
    grandchild = dataclasses.replace(child, parent=child, rank_by="best_test", pick_labels="true")
    assert [r.round for r in (run, child, grandchild)] == [0, 1, 2]
    base = (run.label_set, run.repeat)
    assert run.stream_key == base
    assert child.stream_key == (*base, "round", 1)
    assert grandchild.stream_key == (*base, "round", 2)
    assert run.title == f"boss-4 {run.label_set} #{run.repeat}"
    assert child.title == f"fixmatch {run.label_set} #{run.repeat} (round 1 of boss-4, +5)"
    assert grandchild.title.endswith("(round 2 of boss-4, +5, true labels, best on test)")
    assert {r.method for r in (run, child, grandchild)} == {"boss-4"}
    moved = grandchild.with_fields(dataset="other.npz", repeat=7)
    assert (moved.parent.parent.dataset, moved.parent.repeat) == ("other.npz", 7)
    assert pickle.loads(pickle.dumps(grandchild)) == grandchild
    assert Run.from_dict(json.loads(json.dumps(grandchild.as_dict()))) == grandchild


def test_parents_come_first_and_once():
    run = Run(**FIELDS)
    other = dataclasses.replace(run, repeat=9)
    child = dataclasses.replace(run, parent=run, picks_per_class=5)
    grandchild = dataclasses.replace(child, parent=child)
    sibling = dataclasses.replace(child, picks_per_class=6)
    assert with_parents([grandchild, other, sibling]) == [run, child, grandchild, other, sibling]
    assert with_parents([grandchild, run]) == [run, child, grandchild]
    study = Study(reproduces="x", runs=lambda budget: [grandchild], name="s")
    assert [r.round for r in study.enumerate("smoke")] == [0, 1, 2]
    assert {r.budget for r in study.enumerate("smoke")} == {"smoke"}
    assert study.enumerate("smoke")[2].parent.parent == study.enumerate("smoke")[0]
    twice = Study(reproduces="x", runs=lambda budget: [child, child], name="s")
    with pytest.raises(InputError, match="lists a run twice"):
        twice.enumerate("smoke")


def test_select_by_round_and_method():
    run = Run(**FIELDS | {"algorithm": "boss"})
    child = dataclasses.replace(run, algorithm="fixmatch", parent=run, picks_per_class=5)
    assert select([run, child], ["round=1"]) == [child]
    assert select([run, child], ["method=boss-4"]) == [run, child]
    assert select([run, child], ["algorithm=fixmatch"]) == [child]


def test_options_do_not_depend_on_their_order_and_cannot_be_changed():
    one = Run(**FIELDS, options={"a": 1, "b": 2})
    assert one == Run(**FIELDS, options={"b": 2, "a": 1})
    assert one.id == Run(**FIELDS, options={"b": 2, "a": 1}).id
    with pytest.raises(TypeError):
        one.options["a"] = 3


def test_runs_survive_pickling_and_dicts():
    run = Run(**FIELDS, options={"a": 1})
    assert pickle.loads(pickle.dumps(run)) == run
    assert Run.from_dict(run.as_dict()) == run
    assert len({run, Run.from_dict(run.as_dict())}) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1], {}])
def test_options_that_cannot_be_written_down_are_refused(value):
    with pytest.raises(InputError, match="option threshold must be"):
        Run(**FIELDS, options={"threshold": value})


def test_every_spelling_of_a_number_is_one_run():
    one = Run(**FIELDS, options={"threshold": 1})
    assert one.id == Run(**FIELDS | {"num_images": 1e2}, options={"threshold": 1.0}).id
    assert type(Run(**FIELDS | {"num_images": 1e2}).num_images) is int
    assert type(Run(**FIELDS, momentum=0).momentum) is float


@pytest.mark.parametrize("wrong", [
    {"repeat": 1.5}, {"repeat": True}, {"learning_rate": "0.1"}, {"label_set": 3},
    {"deterministic": 1}, {"options": None},
    {"learning_rate": float("inf")}, {"max_eval_images": 1.5},
    {"num_images": 0}, {"batch_size": 0}, {"unlabeled_ratio": -1}, {"learning_rate": 0.0},
    {"momentum": 1.0}, {"teacher_decay": -0.1}, {"norm_momentum": 0.0}, {"weight_decay": -1.0},
    {"precision": "fp16"}, {"budget": "huge"}, {"repeat": -1}, {"num_validation": -1},
    {"num_evaluations": 0}, {"max_eval_images": 0}, {"learning_rate": float("nan")},
])  # fmt: skip
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Run(**FIELDS | wrong)


def test_the_schedule_counts_images():
    assert Run(**FIELDS | {"num_images": 2**25}).num_steps == 524_288
    assert Run(**FIELDS | {"num_images": 2**25}, batch_size=30).num_steps == 1_118_482


def test_grid_is_the_product_with_the_last_axis_fastest():
    assert list(grid(a=[1, 2], b="x", c=(3, 4))) == [
        {"a": 1, "b": "x", "c": 3},
        {"a": 1, "b": "x", "c": 4},
        {"a": 2, "b": "x", "c": 3},
        {"a": 2, "b": "x", "c": 4},
    ]


def test_select():
    runs = [Run(**FIELDS | {"repeat": i}, options={"threshold": t}) for i in (0, 1) for t in (0, 1)]
    assert select(runs, []) == runs
    assert select(runs, ["repeat=1"]) == runs[2:]
    assert select(runs, ["repeat=1", "threshold=0"]) == runs[2:3]
    assert select(runs, ["repeat=1", "repeat=0"]) == runs
    with pytest.raises(InputError, match="no run has repeat=5: choose from 0, 1"):
        select(runs, ["repeat=5"])
    with pytest.raises(InputError, match="unknown key 'repeats'"):
        select(runs, ["repeats=5"])
    with pytest.raises(InputError, match="KEY=VALUE"):
        select(runs, ["repeat"])


@pytest.mark.parametrize("name", find(STUDIES))
@pytest.mark.parametrize("budget", BUDGETS)
def test_every_study_enumerates_its_runs(name, budget):
    study = load(name, STUDIES)
    assert study.default_budget in study.budgets
    if budget not in study.budgets:
        with pytest.raises(InputError, match=f"unknown budget of {name} '{budget}': choose from"):
            study.enumerate(budget)
        return
    runs = study.enumerate(budget)
    assert runs
    assert all(run.budget == budget for run in runs)
    assert len({run.id for run in runs}) == len(runs)


def test_oneshot_digits_is_paired_with_its_baseline():
    runs = load("oneshot_digits", STUDIES).enumerate()
    cells = {a: {(r.label_set, r.repeat) for r in runs if r.algorithm == a}
             for a in ("fixmatch", "supervised")}  # fmt: skip
    assert cells["fixmatch"] == cells["supervised"]
    assert len(cells["fixmatch"]) == 6 * 4


def test_oneshot_cifar10_is_the_table_of_the_paper():
    study = load("oneshot_cifar10", STUDIES)
    runs = study.enumerate("paper")
    expected = {f"fixmatch:{i}@10" for i in range(6)} | {f"boss:{i}" for i in range(6)}
    assert {r.label_set for r in runs} == expected
    assert {r.repeat for r in runs} == set(range(4))
    assert len(runs) == 48
    assert {(r.num_images, r.network, r.batch_size, r.unlabeled_ratio, r.num_validation)
            for r in runs} == {(2**25, "wrn-28-2", 64, 7, 5000)}  # fmt: skip
    assert study.enumerate("short")[0].num_images * 16 == 2**25
    assert all(r.network == "wrn-10-1" for r in study.enumerate("smoke"))


def test_a_users_study_is_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        '"""What it is."""\nfrom boss.study import Run, Study\n'
        f"STUDY = Study(reproduces='x', runs=lambda budget: [Run(**{FIELDS!r})])\n"
    )
    study = load(str(path), STUDIES)
    assert study.name == "mine"
    assert study.description == "What it is."
    assert study.enumerate()[0].label_set == "fixmatch:3@10"


@pytest.mark.parametrize(("text", "message"), [
    ("x = 1", "does not define STUDY"), ("import nonsense_", "ModuleNotFoundError"),
    ("1/0", "ZeroDivisionError"), ("def", "SyntaxError"), ("import sys; sys.exit()", "SystemExit"),
    ("raise ValueError('two\\nlines')", "two lines"),
])  # fmt: skip
def test_a_broken_study_file_is_one_line(tmp_path, text, message):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load(str(path), STUDIES)
    assert "\n" not in str(error.value)


def test_unknown_studies_and_missing_files_are_refused():
    with pytest.raises(
        InputError, match="unknown study 'x': choose from ablation_augmentation, abl"
    ):
        load("x", STUDIES)
    with pytest.raises(InputError, match="no study file"):
        load("x.py", STUDIES)


@pytest.mark.parametrize("runs", [
    lambda budget: [], lambda budget: [3], lambda budget: None, lambda budget: 1 / 0, [],
    lambda budget: [Run(**FIELDS, num_evals=3)],
])  # fmt: skip
def test_a_study_that_cannot_list_its_runs_is_one_line(runs):
    with pytest.raises(InputError, match="study mine") as error:
        Study(reproduces="", runs=runs, name="mine").enumerate()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["reference", "overview", "embeddings"])
def test_the_names_of_other_folders_of_results_are_taken(tmp_path, name):
    (tmp_path / f"{name}.py").write_text(
        "from boss.study import *\nSTUDY = Study(reproduces='', runs=[])"
    )
    with pytest.raises(InputError, match=f"cannot be called {name}: results/{name} holds"):
        load(str(tmp_path / f"{name}.py"), STUDIES)


def test_a_run_listed_twice_is_refused():
    study = Study(reproduces="", runs=lambda budget: [Run(**FIELDS)] * 2, name="twice")
    with pytest.raises(InputError, match="lists a run twice"):
        study.enumerate()


def test_titles_tell_runs_apart_by_what_is_not_at_its_default():
    run = Run(**FIELDS)
    runs = [
        run,
        dataclasses.replace(run, momentum=0.5),
        dataclasses.replace(run, momentum=0.5, options={"threshold": 0.5}),
        dataclasses.replace(run, dataset="cifar10", augmentation="ctaugment"),
        dataclasses.replace(run, repeat=1, momentum=0.5),
    ]
    assert list(titles(runs).values()) == [
        "fixmatch fixmatch:3@10 #0, dataset digits",
        "fixmatch fixmatch:3@10 #0, dataset digits, momentum 0.5",
        "fixmatch fixmatch:3@10 #0, dataset digits, momentum 0.5, threshold 0.5",
        "fixmatch fixmatch:3@10 #0, dataset cifar10, augmentation ctaugment",
        "fixmatch fixmatch:3@10 #1",
    ]
    assert titles([]) == {}
