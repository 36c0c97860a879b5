"""Self-training: which images are selected, with which labels, and what is never looked at."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from boss.api import on_data
from boss.cli import main
from boss.data import Dataset
from boss.data.label_sets import resolve, validation_indices
from boss.errors import InputError
from boss.results.read import Store
from boss.seeds import stream
from boss.self_training import select_for, select_most_confident
from boss.training.evaluate import evaluate, predict
from boss.training.loop import train
from boss.workers import build as build_module
from boss.workers.build import labeled_images, start_run, train_config, training_data
from boss.workers.runtime import Runtime
from boss.workers.scheduler import Stop, execute
from boss.workers.worker import train_run
from tests.training.test_loop import RUN
from tests.workers.test_scheduler import LONG, Recorder, assert_equal_tables, tables

CHILD = dataclasses.replace(RUN, parent=RUN, picks_per_class=3)


@pytest.fixture
def place(tmp_path):
    return Runtime(results=tmp_path, study="s", checkpoint_seconds=0.5)


def test_selection_by_hand():
    picks = select_most_confident(
        indices=np.array([40, 10, 20, 30, 50, 60]),
        predictions=np.array([1, 0, 0, 0, 1, 0]),
        uncertainty=np.array([0.2, 0.3, 0.1, 0.1, 0.05, 0.4]),
        per_class=2,
        class_names=("cat", "dog", "eel"),
    )
    assert picks.indices.tolist() == [20, 30, 50, 40]  # equal confidence: by index
    assert picks.predictions.tolist() == [0, 0, 1, 1]
    assert picks.uncertainty.tolist() == [0.1, 0.1, 0.05, 0.2]
    assert picks.stop_reason == "too few: eel 0"


def test_equals_a_plain_loop():
    rng = np.random.default_rng(0)
    for per_class in (1, 5, 40):
        indices = rng.permutation(500)[:300]
        guesses, doubts = rng.integers(0, 7, 300), rng.integers(0, 50, 300) / 100
        names = tuple("abcdefg")
        expected = []
        for k in range(7):
            mine = [(d, i) for i, g, d in zip(indices, guesses, doubts, strict=True) if g == k]
            expected += [i for _, i in sorted(mine)[:per_class]]
        picks = select_most_confident(
            indices, guesses, doubts, per_class=per_class, class_names=names
        )
        assert picks.indices.tolist() == expected
        short = [names[k] for k in range(7) if (guesses == k).sum() < per_class]
        assert (picks.stop_reason == "enough") == (not short)
        for name in short:
            assert f"{name} " in picks.stop_reason


def test_predictions_by_hand():
    """1 - confidence is the sum of the other probabilities: it resolves what rounds to 1."""
    images = torch.zeros(3, 1, 1, 3, dtype=torch.uint8)
    logits = torch.tensor([[0.0, 40.0, 0.0], [0.0, 39.0, 0.0], [np.log(0.25), np.log(0.5), -9e9]])

    class Fixed(nn.Module):
        def forward(self, x):
            return logits[: len(x)]

    network = Fixed().train()
    guess, doubt = predict(network, images)
    assert network.training
    assert guess.tolist() == [1, 1, 1]
    assert doubt.tolist() == pytest.approx([2 * np.exp(-40), 2 * np.exp(-39), 1 / 3], rel=1e-5)


def test_predictions_agree_with_the_evaluation(digits, place):
    """The last teacher, on all training images, in order: as `evaluate` sees them."""
    train_run(RUN, place)
    table = Store(place.results, "s").read("predictions")
    num = RUN.max_eval_images
    assert len(table) == 2 * num  # the first images only, as in evaluation
    labels = resolve(RUN.label_set, digits)
    training = start_run(RUN, digits, torch.device("cpu"))
    data = training_data(RUN, digits, labels, torch.device("cpu"))
    train(training, data, train_config(RUN), key=RUN.stream_key)
    best = start_run(RUN, digits, torch.device("cpu")).student
    best.load_state_dict(training.best_weights)
    images = digits.train.subset(range(num))
    for name, network in (("last", training.teacher), ("best_test", best)):
        mine = table[table["network"] == name].sort_values("image_index")
        assert mine["image_index"].tolist() == list(range(num))
        right = mine["guess"].to_numpy() == images.labels.numpy()
        assert right.sum() == int(evaluate(network, images).correct.sum())
        assert mine["doubt"].between(0, 0.9).all()


def test_candidates_are_the_unlabeled_images(place, digits):
    """Neither prototypes nor held-out images are selected."""
    run = dataclasses.replace(RUN, num_validation=300, max_eval_images=None)
    train_run(run, place)
    child = dataclasses.replace(run, parent=run, picks_per_class=4)
    store = Store(place.results, "s")
    prototypes = resolve(run.label_set, digits)
    picks = select_for(child, digits, prototypes, store)
    assert not set(picks.indices.tolist()) & set(prototypes.indices)
    assert not set(picks.indices) & set(validation_indices(digits.train.labels.numpy(), 300))
    table = store.read("predictions")
    table = table[table["network"] == "last"].set_index("image_index")
    assert table.loc[picks.indices, "guess"].tolist() == picks.predictions.tolist()
    labels, _ = labeled_images(child, digits, store)
    data = training_data(child, digits, labels, torch.device("cpu"))
    assert data.labeled.labels.tolist() == [*prototypes.labels, *picks.predictions]
    assert len(data.unlabeled) == len(digits.train) - 300


def test_the_prototypes_keep_their_labels_whatever_the_network_thinks(place, digits, tmp_path):
    """Even labels that are wrong on purpose: they come from the label set alone."""
    picks = [int((digits.train.labels == k).nonzero()[0]) for k in range(10)]
    wrong = [(k + 1) % 10 for k in range(10)]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"indices": picks, "labels": wrong}))
    run = dataclasses.replace(RUN, label_set=f"file:{path}")
    train_run(run, place)
    child = dataclasses.replace(run, parent=run, picks_per_class=3)
    for c in (child, dataclasses.replace(child, pick_labels="true")):
        train_run(c, place)
        row = Store(place.results, "s").read("runs", [c.id]).iloc[0]
        assert row["labels"][:10].tolist() == picks
        assert row["label_classes"][:10].tolist() == wrong


def test_the_rows_of_a_child(place, digits):
    train_run(RUN, place)
    train_run(CHILD, place)
    store = Store(place.results, "s")
    row = store.read("runs", [CHILD.id]).iloc[0]
    labeled = store.read("labeled_images", [CHILD.id])
    prototypes, picks = labeled[~labeled["is_pick"]], labeled[labeled["is_pick"]]
    assert (row["parent"], row["round"], row["picks_per_class"]) == (RUN.id, 1, 3)
    assert row["num_labels"] == len(labeled) == 10 + row["num_picks"]
    assert row["num_wrong_picks"] == (picks["label"] != picks["true_label"]).sum() > 0
    assert row["stop_reason"].startswith("enough") == (len(picks) == 30)
    assert pd.isna(row["oracle"])
    assert row["labels"].tolist() == prototypes["image_index"].tolist()
    assert row["label_classes"].tolist() == prototypes["label"].tolist()
    truth = digits.train.labels[labeled["image_index"].tolist()].tolist()
    assert labeled["true_label"].tolist() == truth
    assert prototypes["image"].notna().all()
    assert picks["image"].isna().all()
    assert picks["doubt"].notna().all()
    parent = store.read("runs", [RUN.id]).iloc[0]
    assert (parent["round"], parent["num_picks"], parent["num_labels"]) == (0, 0, 10)


@pytest.mark.parametrize(("changes", "oracle"), [
    ({"pick_labels": "true"}, "true labels of the picks"),
    ({"rank_by": "best_test"}, "picks by the network of the best test accuracy"),
])  # fmt: skip
def test_the_leaks_are_diagnostics_and_say_so(place, changes, oracle):
    train_run(RUN, place)
    leaking = dataclasses.replace(CHILD, **changes)
    train_run(leaking, place)
    store = Store(place.results, "s")
    row = store.read("runs", [leaking.id]).iloc[0]
    assert row["oracle"] == oracle
    labeled = store.read("labeled_images", [leaking.id])
    if "pick_labels" in changes:
        assert (labeled["label"] == labeled["true_label"]).all()
        assert row["num_wrong_picks"] > 0  # what the guesses were
    else:
        table = store.read("predictions", [RUN.id])
        best = table[table["network"] == "best_test"].set_index("image_index")["guess"]
        picks = labeled[labeled["is_pick"]]
        assert (best[picks["image_index"]].to_numpy() == picks["label"].to_numpy()).all()
    heir = dataclasses.replace(CHILD, parent=leaking)
    train_run(heir, place)
    row = store.read("runs", [heir.id]).iloc[0]
    assert row["oracle"] == "an oracle in round 1"
    assert row["round"] == 2


def test_missing_predictions_are_one_line(place):
    train_run(RUN, place)
    store = Store(place.results, "s")
    (store.folder / "predictions" / f"{RUN.id}.parquet").unlink()
    with pytest.raises(InputError, match=r"predictions of fixmatch .* are missing"):
        train_run(CHILD, place)


def test_no_true_label_is_seen(tmp_path, digits, monkeypatch):
    """All hidden labels replaced by noise: the same selections and weights in both rounds."""
    prototypes = [int((digits.train.labels == k).nonzero()[3]) for k in range(10)]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"indices": prototypes, "labels": list(range(10))}))
    monkeypatch.chdir(tmp_path)  # the name of a label set seeds the streams
    run = dataclasses.replace(
        RUN, label_set="file:mine.json", max_eval_images=None, num_images=60 * 8, learning_rate=0.1
    )
    child = dataclasses.replace(run, parent=run, picks_per_class=5)
    grandchild = dataclasses.replace(child, parent=child)
    noise = torch.randint(10, digits.train.labels.shape, generator=stream("noise"))
    hidden = Dataset(digits.name, digits.train.relabel(noise), digits.test, flip=digits.flip)

    results = []
    for name, dataset in (("truth", digits), ("noise", hidden)):
        monkeypatch.setattr(build_module.data, "load", lambda *_, d=dataset: d)
        place = Runtime(results=tmp_path / name, study="s")
        for each in (run, child, grandchild):
            assert train_run(each, place) == "finished"
        results.append(Store(place.results, "s"))
    one, other = results
    for table, seen in (
        ("predictions", ["network", "image_index", "guess", "doubt"]),
        ("labeled_images", ["image_index", "label", "is_pick", "doubt"]),
        ("evaluations", ["test_accuracy", "test_loss", "supervised_loss", "unsupervised_loss"]),
        ("class_evaluations", ["test_accuracy", "predicted_count", "pseudo_label_count"]),
    ):
        pd.testing.assert_frame_equal(one.read(table)[seen], other.read(table)[seen])
    wrong = [store.read("runs")["num_wrong_picks"].sum() for store in results]
    assert wrong[0] < wrong[1]  # the logs do look at them

    leaking = dataclasses.replace(child, pick_labels="true")
    monkeypatch.setattr(build_module.data, "load", lambda *_: hidden)
    train_run(leaking, Runtime(results=tmp_path / "noise", study="s"))
    rows = [s.read("evaluations", [r.id])["supervised_loss"].tolist()
            for s, r in ((one, child), (other, leaking))]  # fmt: skip
    assert rows[0] != rows[1]


@pytest.mark.slow
def test_a_child_starts_when_its_parent_has_finished(place):
    """Listed before their parents and beside other runs, by two workers."""
    other = dataclasses.replace(RUN, repeat=1)
    leaking = dataclasses.replace(CHILD, pick_labels="true")
    grandchild = dataclasses.replace(CHILD, parent=CHILD)
    runs = [grandchild, leaking, CHILD, RUN, other]
    display = Recorder()
    outcomes = execute(runs, place, ["cpu", "cpu"], display, Stop())
    assert [o.run for o in outcomes] == runs
    assert {o.state for o in outcomes} == {"finished"}
    order = [(kind, run.id) for kind, run, *_ in display.events if kind in ("started", "ended")]
    for child in (grandchild, leaking, CHILD):
        assert order.index(("ended", child.parent.id)) < order.index(("started", child.id))


def test_the_child_of_a_finished_parent_needs_no_parent_in_the_list(place):
    train_run(RUN, place)
    finished = {RUN.id}
    [outcome] = execute([CHILD], place, ["cpu"], Recorder(), Stop(), finished)
    assert outcome.state == "finished"


def test_two_data_sets_on_one_file_are_refused(tmp_path):
    x, y = np.zeros((20, 8, 8, 1), np.uint8), np.arange(20) % 10
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(InputError, match="several runs of the study become one"):
        on_data([RUN, RUN.with_fields(dataset="cifar10")], tmp_path / "mine.npz")


def test_the_child_of_a_failed_parent_is_not_started(place):
    broken = dataclasses.replace(RUN, learning_rate=1e30)
    child = dataclasses.replace(broken, parent=broken, picks_per_class=3)
    grandchild = dataclasses.replace(child, parent=child)
    runs = [broken, child, grandchild, RUN]
    outcomes = execute(runs, place, ["cpu", "cpu"], Recorder(), Stop())
    assert [o.state for o in outcomes] == ["failed", "not started", "not started", "finished"]
    assert "its parent fixmatch" in outcomes[1].error
    [outcome] = execute([CHILD.with_fields(repeat=8)], place, ["cpu"], Recorder(), Stop())
    assert outcome.state == "not started"


def test_a_child_is_resumable(tmp_path):
    """Stopped in the middle and continued: the rows of an uninterrupted one."""
    child = dataclasses.replace(LONG, parent=RUN, picks_per_class=3)
    whole = Runtime(results=tmp_path / "whole", study="s", checkpoint_seconds=0.5)
    parts = Runtime(results=tmp_path / "parts", study="s", checkpoint_seconds=0.5)
    for place in (whole, parts):
        train_run(RUN, place)
    train_run(child, whole)
    stop = Stop()

    def interrupt(run, progress):
        if progress["step"] > 30:
            stop.signals = 1

    [outcome] = execute([child], parts, ["cpu"], Recorder(interrupt), stop, {RUN.id})
    assert outcome.state == "interrupted"
    resumed = []
    train_run(child, parts, report=lambda progress: resumed.append(progress.get("resumed_at")))
    assert resumed[0] > 0
    assert_equal_tables(tables(whole), tables(parts))


def test_other_picks_under_a_checkpoint_are_noticed(place, digits):
    child = dataclasses.replace(LONG, parent=RUN, picks_per_class=3)
    train_run(RUN, place)
    stop = Stop()
    display = Recorder(lambda run, progress: setattr(stop, "signals", 1))
    [outcome] = execute([child], place, ["cpu"], display, stop, {RUN.id})
    assert outcome.state == "interrupted"
    path = Store(place.results, "s").folder / "predictions" / f"{RUN.id}.parquet"
    table = pd.read_parquet(path)
    table.assign(doubt=table["doubt"].to_numpy()[::-1]).to_parquet(path)
    with pytest.raises(InputError, match=r"under other conditions \(labeled images\)"):
        train_run(child, place)


def test_networks_are_kept_on_request(place, digits):
    train_run(RUN, dataclasses.replace(place, keep_networks=True))
    store = Store(place.results, "s")
    saved = torch.load(store.folder / "networks" / f"{RUN.id}.pt", weights_only=True)
    assert saved["run"] == RUN.as_dict()
    network = start_run(RUN, digits, torch.device("cpu")).student
    network.load_state_dict(saved["teacher"])
    accuracy = evaluate(network, digits.test.subset(range(100))).accuracy
    assert accuracy == store.read("runs").iloc[0]["last_accuracy"]


STUDY = """
from boss.study import Run, Study

BASE = dict(dataset="digits", label_set="fixmatch:1@10", repeat=0, network="wrn-7-1",
            algorithm="fixmatch", num_images=80, batch_size=8, unlabeled_ratio=2,
            teacher_decay=0.9, norm_momentum=0.1, num_evaluations=1, learning_rate=RATE)

def runs(budget):
    parent = Run(**BASE)
    return [Run(**BASE, parent=parent, picks_per_class=3)]

STUDY = Study(reproduces="nothing", runs=runs, default_budget="short")
"""


def boss_study(*arguments):
    """The command, in this process; its workers are processes of their own."""
    return main([*arguments, "--device", "cpu", "--workers", "1"])


def test_the_command_trains_parents_that_are_not_listed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(STUDY.replace("RATE", "0.03"))
    assert boss_study("run", "mine.py", "--only", "round=1") == 0
    assert "2 of 2 runs finished" in capsys.readouterr().out
    assert boss_study("run", "mine.py", "--keep-networks") == 0
    assert "2 runs finished without --keep-networks" in capsys.readouterr().err

    [parent] = [r for r in Store(Path("results"), "mine").read("runs").to_dict("records")
                if r["round"] == 0]  # fmt: skip
    for table in ("runs", "predictions"):
        for path in Path("results/mine", table).glob("*.parquet"):
            if (path.stem == parent["run_id"]) == (table == "predictions"):
                path.write_bytes(b"spoilt") if table == "predictions" else path.unlink()
    assert boss_study("run", "mine.py") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"self-training needs the predictions of {RUN.title}" in error
    assert "missing" not in error  # it is there, and spoilt
    assert "6 bytes" in error


@pytest.mark.slow
def test_the_command_says_why_a_child_was_not_started(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(STUDY.replace("RATE", "1e30"))
    assert boss_study("run", "mine.py") == 1
    out = capsys.readouterr().out
    assert "not started: fixmatch fixmatch:1@10 #0 (round 1 of fixmatch, +3)" in out
    assert "its parent fixmatch fixmatch:1@10 #0 has not finished" in out
