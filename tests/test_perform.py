"""A run from its settings to its rows, and what is refused before it starts."""

import dataclasses
import json
import statistics

import numpy as np
import pandas as pd
import pytest
import torch

from boss import checkpoint
from boss.algorithms import hyperparameters
from boss.data.label_sets import resolve
from boss.errors import InputError
from boss.execute import Stop, execute, in_child
from boss.perform import _run_row, check, configure_torch, perform
from boss.place import Place
from boss.store import Store

from .test_execute import LONG, Recorder
from .test_train import RUN, prepare


@pytest.fixture
def place(tmp_path):
    return Place(results=tmp_path, study="s", versions={"python": "3"}, commit="abc")


def test_the_row_of_a_run(place, digits):
    run = dataclasses.replace(RUN, num_images=26 * 8, num_evaluations=26)
    assert perform(run, place) == "finished"
    store = Store(place.results, "s")
    [row] = store.read("runs").to_dict("records")
    evaluations = store.read("evaluations")
    accuracies = {
        network: of.sort_values("step")["test_accuracy"].tolist()
        for network, of in evaluations.groupby("network")
    }
    assert len(accuracies["teacher"]) == len(accuracies["student"]) == 26
    assert accuracies["teacher"] != accuracies["student"]
    assert row["last_accuracy"] == accuracies["teacher"][-1]
    assert row["median_last_20_accuracy"] == statistics.median(accuracies["teacher"][6:])
    assert row["best_test_accuracy"] == max(accuracies["teacher"] + accuracies["student"])
    assert row["dataset_fingerprint"] == digits.fingerprint
    assert digits.train.labels[row["labels"].tolist()].tolist() == row["label_classes"].tolist()
    assert (row["num_labels"], row["num_steps"], row["num_parameters"]) == (10, 26, 19_786)
    assert (row["study"], row["commit"], row["versions"]) == ("s", "abc", '{"python": "3"}')
    for name, value in run.as_dict().items():
        if name == "options":
            value = json.dumps(hyperparameters("fixmatch") | {"threshold": 0.14}, sort_keys=True)
        if name == "parent":
            assert pd.isna(row["parent"])
            continue
        assert row[name] == value, name


@pytest.mark.parametrize("best", ["teacher", "student"])
def test_the_columns_of_accuracy_by_hand(place, digits, best):
    """24 evaluations: the median leaves the first four out; the best may be of either network."""
    training, _ = prepare(RUN, digits)
    accuracies = [0.9, 0.9, 0.9, 0.9, *(0.01 * i for i in range(20))]
    training.evaluations = [
        {"network": network, "test_accuracy": accuracy + (0.05 if network == best else 0.0)}
        for accuracy in accuracies
        for network in ("teacher", "student")
    ]
    row = _run_row(RUN, place, training, digits, resolve(RUN.label_set, digits), None)
    of_teacher = 0.05 if best == "teacher" else 0.0
    assert row["last_accuracy"] == pytest.approx(0.19 + of_teacher)
    assert row["median_last_20_accuracy"] == pytest.approx(0.095 + of_teacher)
    assert row["best_test_accuracy"] == pytest.approx(0.95)


def test_process_settings():
    assert in_child(_settings) == (2, True, "ieee")


def _settings():
    configure_torch(
        dataclasses.replace(RUN, deterministic=True), Place(results=None, study="s", threads=2)
    )
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.conv.fp32_precision,
    )


@pytest.mark.parametrize(("changes", "message"), [
    ({"label_set": "boss:3"}, "boss:3"),
    ({"network": "resnet"}, "unknown network"),
    ({"algorithm": "x"}, "unknown algorithm"),
    ({"options": {"threshold": 0.95}}, "is the default of fixmatch: leave it out"),
    ({"options": {"threshold": "high"}}, "must be a number"),
    ({"unlabeled_ratio": 0}, "unlabeled_ratio must not be 0"),
    ({"algorithm": "supervised", "options": {}}, "unlabeled_ratio must be 0"),
    ({"num_validation": 1201}, "leaves no unlabeled image"),
    ({"dataset": "mnist"}, "unknown data set"),
])  # fmt: skip
def test_what_cannot_be_performed_is_refused(place, changes, message):
    with pytest.raises(InputError, match=message):
        check([RUN, dataclasses.replace(RUN, **changes)], place)


def test_what_can_be_performed_is_not(place, digits):
    fingerprints, labels = check([RUN, dataclasses.replace(RUN, num_validation=1191)], place)
    assert fingerprints == {"digits": digits.fingerprint}
    assert labels == {("digits", "fixmatch:1@10"): resolve("fixmatch:1@10", digits)}


def test_images_that_are_too_small_are_refused(place, tmp_path):
    x, y = np.zeros((20, 4, 4, 1), np.uint8), np.arange(20) % 10
    np.savez(tmp_path / "tiny.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    run = dataclasses.replace(RUN, dataset=str(tmp_path / "tiny.npz"))
    with pytest.raises(InputError, match="size"):
        check([run], place)


def interrupted(run, place):
    """A run with a checkpoint, stopped."""
    stop = Stop()
    display = Recorder(lambda run, progress: setattr(stop, "signals", 1))
    [outcome] = execute([run], place, ["cpu"], display, stop)
    assert outcome.state == "interrupted"
    return Store(place.results, place.study).state_folder(run.id) / "checkpoint.pt"


@pytest.mark.parametrize(("name", "other"), [
    ("data", "0" * 64), ("labeled images", [[1], [1]]), ("kind of device", "cuda"),
])  # fmt: skip
def test_a_checkpoint_of_something_else_is_refused(place, name, other):
    path = interrupted(LONG, place)
    saved = checkpoint.load(path)
    checkpoint.save(path, saved | {"basis": saved["basis"] | {name: other}})
    with pytest.raises(InputError, match=f"was made with another {name}"):
        perform(LONG, place)


@pytest.mark.parametrize("content", [{}, {"basis": {}}, {"basis": None, "training": 3}, "empty"])
def test_a_checkpoint_without_sense_costs_its_steps_only(place, content):
    path = interrupted(LONG, place)
    if content == "empty":
        content = {"basis": checkpoint.load(path)["basis"], "training": {"step": 5}}
    checkpoint.save(path, content)
    steps = []
    assert perform(LONG, place, report=lambda p: steps.append(p.get("resumed_at"))) == "finished"
    assert steps[0] == 0


def test_a_label_file_that_changes_under_a_checkpoint_is_noticed(place, tmp_path, digits):
    path = tmp_path / "mine.json"
    picks = [int((digits.train.labels == k).nonzero()[0]) for k in range(10)]
    path.write_text(json.dumps({"indices": picks}))
    run = dataclasses.replace(LONG, label_set=f"file:{path}")
    interrupted(run, place)
    picks = [int((digits.train.labels == k).nonzero()[1]) for k in range(10)]
    path.write_text(json.dumps({"indices": picks}))
    with pytest.raises(InputError, match="another labeled images"):
        perform(run, place)
