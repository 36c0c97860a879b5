"""A run from its settings to its rows, and what is refused before it starts."""

import dataclasses
import json
import os
import shutil
import statistics

import numpy as np
import pandas as pd
import pytest
import torch

from boss import data
from boss.algorithms import hyperparameters
from boss.data.label_sets import resolve
from boss.errors import InputError
from boss.results.read import Store, refuse_other_options
from boss.training import checkpoint
from boss.training.evaluate import predict
from boss.training.probe import Arithmetic
from boss.workers import rows
from boss.workers.build import check
from boss.workers.process import in_child
from boss.workers.rows import run_row
from boss.workers.runtime import Runtime, configure_torch
from boss.workers.scheduler import Stop, execute
from boss.workers.worker import Workbench, train_run
from tests.training.test_loop import RUN, prepare
from tests.workers.test_scheduler import LONG, Recorder


@pytest.fixture
def place(tmp_path):
    return Runtime(results=tmp_path, study="s", versions={"python": "3"}, commit="abc")


def test_the_row_of_a_run(place, digits):
    run = dataclasses.replace(RUN, num_images=26 * 8, num_evaluations=26)
    assert train_run(run, place) == "finished"
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


@pytest.mark.parametrize("last_is_best", [True, False])
def test_predictions_are_those_of_both_networks(last_is_best, digits, monkeypatch):
    """Computed once where they are the same."""
    training, _ = prepare(RUN, digits)
    best = training.teacher if last_is_best else training.student
    training.best_weights = {name: w.clone() for name, w in best.state_dict().items()}
    if not last_is_best:
        training.best_weights["classify.bias"] += torch.arange(10.0)
        best.load_state_dict(training.best_weights)
    seen = []

    def counted(network, images, **options):
        seen.append(len(images))
        return predict(network, images, **options)

    monkeypatch.setattr(rows, "predict", counted)
    table = rows._prediction_rows(RUN, "fp32", training, digits, torch.device("cpu"))
    assert len(seen) == (1 if last_is_best else 2)
    for name, network in (("last", training.teacher), ("best_test", best)):
        labels, doubts = predict(network, digits.train.images[: seen[0]], precision="fp32")
        mine = table[table["network"] == name]
        assert mine["image_index"].tolist() == list(range(len(labels)))
        assert mine["guess"].tolist() == labels.tolist()
        assert mine["doubt"].tolist() == doubts.tolist()


@pytest.mark.parametrize("best", ["teacher", "student"])
def test_the_columns_of_accuracy_by_hand(place, digits, best):
    """24 evaluations: the median leaves the first four out; the best may be of either network."""
    training, _ = prepare(RUN, digits)
    arithmetic = Arithmetic("channels_last", "fp32")
    accuracies = [0.9, 0.9, 0.9, 0.9, *(0.01 * i for i in range(20))]
    training.evaluations = [
        {"network": network, "test_accuracy": accuracy + (0.05 if network == best else 0.0)}
        for accuracy in accuracies
        for network in ("teacher", "student")
    ]
    row = run_row(RUN, place, arithmetic, training, digits, resolve(RUN.label_set, digits), None)
    of_teacher = 0.05 if best == "teacher" else 0.0
    assert row["last_accuracy"] == pytest.approx(0.19 + of_teacher)
    assert row["median_last_20_accuracy"] == pytest.approx(0.095 + of_teacher)
    assert row["best_test_accuracy"] == pytest.approx(0.95)


def test_process_settings():
    assert in_child(_settings) == [
        (2, True, "ieee", torch.float32, ":4096:8"), (1, False, "ieee", torch.float32, ":4096:8")
    ]  # fmt: skip


def _settings():
    """Of a deterministic run, then of another in the same process, after something spoilt them."""
    found = []
    for deterministic, threads in ((True, 2), (False, 1)):
        torch.set_num_threads(3)
        torch.set_default_dtype(torch.float64)
        torch.backends.cudnn.conv.fp32_precision = "tf32"
        configure_torch(
            dataclasses.replace(RUN, deterministic=deterministic),
            Runtime(results=None, study="s", threads=threads),
        )
        settings = (
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.conv.fp32_precision,
            torch.get_default_dtype(),
            os.environ["CUBLAS_WORKSPACE_CONFIG"],
        )
        found.append(settings)
    return found


def make_npz(path, seed=0):
    """A data set of 40 images of 8 x 8 pixels."""
    x = np.random.default_rng(seed).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    y = np.arange(40) % 10
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)


def test_a_workbench_keeps_one_data_set_until_its_file_changes(tmp_path, monkeypatch):
    path = tmp_path / "own.npz"
    make_npz(path)
    workbench, loaded, load = Workbench(), [], data.load

    def count(name, folder):
        loaded.append(name)
        return load(name, folder)

    monkeypatch.setattr(data, "load", count)
    first = workbench.dataset(str(path), None)
    labels = workbench.labels("fixmatch:1@20", first)
    assert workbench.dataset(str(path), None) is first
    assert workbench.labels("fixmatch:1@20", first) is labels
    assert labels == resolve("fixmatch:1@20", first)
    assert workbench.dataset("digits", None) is workbench.dataset("digits", None)
    assert loaded == [str(path), "digits"]
    assert workbench.dataset(str(path), None) is workbench.dataset(str(path), None)
    assert workbench.labels("fixmatch:1@20", first) is not labels  # of what it no longer keeps
    # Of as many bytes, at the same time to the second.
    time_before = path.stat().st_mtime
    make_npz(path, seed=1)
    os.utime(path, ns=(0, int(time_before) * 10**9 + 1))
    second = workbench.dataset(str(path), None)
    assert second.fingerprint == load(str(path)).fingerprint != first.fingerprint
    assert loaded == [str(path), "digits", str(path), str(path)]
    path.unlink()
    with pytest.raises(InputError, match=r"own\.npz"):
        workbench.dataset(str(path), None)


def test_label_sets_in_files_are_read_again(tmp_path, digits, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workbench = Workbench()
    dataset = workbench.dataset("digits", None)
    path = tmp_path / "label_sets" / "mine.json"
    path.parent.mkdir()
    for offset in (0, 1):
        picks = [int((digits.train.labels == k).nonzero()[offset]) for k in range(10)]
        path.write_text(json.dumps({"indices": picks}))
        for label_set in (f"file:{path}", "select:mine"):
            assert workbench.labels(label_set, dataset).indices == tuple(picks)


def test_the_stamp_of_a_folder_of_images_tells_every_change(tmp_path, digits):
    from PIL import Image

    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / "own" / part / name).mkdir(parents=True)
            Image.new("L", (8, 8)).save(tmp_path / "own" / part / name / "1.png")
    name = f"folder:{tmp_path / 'own'}"
    stamps = [data.stamp(name)]
    assert data.stamp(name) == stamps[0]
    Image.new("L", (8, 8), 9).save(tmp_path / "own/train/b/1.png")
    stamps.append(data.stamp(name))
    shutil.copy(tmp_path / "own/train/b/1.png", tmp_path / "own/train/b/2.png")
    stamps.append(data.stamp(name))
    (tmp_path / "own/train/b/2.png").rename(tmp_path / "own/train/a/2.png")
    stamps.append(data.stamp(name))
    assert len(set(stamps)) == 4
    with pytest.raises(InputError, match="unknown data set"):
        data.stamp("mnist")


def test_a_run_leaves_the_workbench_as_it_was(place):
    workbench = Workbench()
    for algorithm, augmentation in (("fixmatch", "ctaugment"), ("vat", "randaugment")):
        run = dataclasses.replace(RUN, algorithm=algorithm, options={}, augmentation=augmentation)
        assert train_run(run, place, workbench=workbench) == "finished"
    kept, fresh = workbench.dataset("digits", None), data.load("digits")
    for mine, other in ((kept.train, fresh.train), (kept.test, fresh.test)):
        assert torch.equal(mine.images, other.images)
        assert torch.equal(mine.labels, other.labels)


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
    ("set of options", {"threshold": 0.5}),
])  # fmt: skip
def test_a_checkpoint_of_something_else_is_refused(place, name, other):
    path = interrupted(LONG, place)
    saved = checkpoint.load(path)
    checkpoint.save(path, saved | {"basis": saved["basis"] | {name: other}})
    with pytest.raises(InputError, match=rf"was made under other conditions \({name}\)"):
        train_run(LONG, place)


def test_a_checkpoint_from_before_a_default_changed_is_refused(place):
    """Pseudo-Label had no option `mask` then, and the rule of mask="example"."""
    run = dataclasses.replace(LONG, algorithm="pseudo_label", options={}, unlabeled_ratio=1)
    path = interrupted(run, place)
    saved = checkpoint.load(path)
    del saved["basis"]["set of options"]
    checkpoint.save(path, saved)
    with pytest.raises(InputError, match=r"under other conditions \(set of options\)"):
        train_run(run, place)


def test_a_checkpoint_from_before_costs_were_noted_goes_on(place):
    asked = iter([False, False, True])
    assert train_run(LONG, place, should_stop=lambda: next(asked)) == "interrupted"
    path = Store(place.results, place.study).state_folder(LONG.id) / "checkpoint.pt"
    saved = checkpoint.load(path)
    assert saved["training"].pop("processor_seconds") > 0
    checkpoint.save(path, saved)
    seen = []
    train_run(LONG, place, report=seen.append)
    assert seen[0]["resumed_at"] == saved["training"]["step"] > 0
    [row] = Store(place.results, place.study).read("runs").to_dict("records")
    assert pd.isna(row["processor_seconds"])  # less than all would be a lie


def test_a_run_finished_before_a_default_changed_is_not_taken_for_this_one(place, tmp_path):
    run = dataclasses.replace(RUN, algorithm="pseudo_label", options={}, unlabeled_ratio=1)
    train_run(run, place)
    rows = Store(place.results, place.study).read("runs")
    refuse_other_options(tmp_path, [run], rows)
    old = rows.assign(options=rows["options"].str.replace('"batch"', '"example"'))
    with pytest.raises(InputError, match=r"trained with mask=example, which is not the default"):
        refuse_other_options(tmp_path, [run], old)


@pytest.mark.parametrize("content", [{}, {"basis": {}}, {"basis": None, "training": 3}, "empty"])
def test_a_checkpoint_without_sense_costs_its_steps_only(place, content):
    path = interrupted(LONG, place)
    if content == "empty":
        content = {"basis": checkpoint.load(path)["basis"], "training": {"step": 5}}
    checkpoint.save(path, content)
    steps = []
    assert train_run(LONG, place, report=lambda p: steps.append(p.get("resumed_at"))) == "finished"
    assert steps[0] == 0


def test_a_label_file_that_changes_under_a_checkpoint_is_noticed(place, tmp_path, digits):
    path = tmp_path / "mine.json"
    picks = [int((digits.train.labels == k).nonzero()[0]) for k in range(10)]
    path.write_text(json.dumps({"indices": picks}))
    run = dataclasses.replace(LONG, label_set=f"file:{path}")
    interrupted(run, place)
    picks = [int((digits.train.labels == k).nonzero()[1]) for k in range(10)]
    path.write_text(json.dumps({"indices": picks}))
    with pytest.raises(InputError, match=r"under other conditions \(labeled images\)"):
        train_run(run, place)


def test_a_run_is_trained_on_the_data_that_the_study_was_started_with(tmp_path, digits):
    place = Runtime(results=tmp_path, study="s", fingerprints={"digits": digits.fingerprint})
    assert train_run(RUN, place) == "finished"
    other = dataclasses.replace(place, study="t", fingerprints={"digits": "0" * 64})
    with pytest.raises(InputError, match="the files of digits have changed since the study"):
        train_run(RUN, other)
