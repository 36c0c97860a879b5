"""A step is the same however it is executed."""

import dataclasses
import sys

import pytest
import torch

from boss import checkpoint
from boss.algorithms import ALGORITHMS, build
from boss.perform import train_config
from boss.step import WARMUP_STEPS
from boss.train import train

from .tape import tape
from .test_train import RUN, prepare


def run_of(name, **changes):
    views = build(name, {}).views
    fields = {"algorithm": name, "options": {}, "unlabeled_ratio": 2 if views else 0}
    return dataclasses.replace(RUN, **(fields | changes))


def everything(training):
    """All that a training holds, but for the time."""
    return {k: v for k, v in training.state_dict().items() if k != "seconds"}


def assert_same(mine, theirs, path=""):
    """Bit for bit."""
    assert type(mine) is type(theirs), path
    if isinstance(mine, torch.Tensor):
        assert torch.equal(mine, theirs), path
    elif isinstance(mine, dict):
        assert mine.keys() == theirs.keys(), path
        for key, value in mine.items():
            assert_same(value, theirs[key], f"{path}/{key}")
    elif isinstance(mine, list | tuple):
        assert len(mine) == len(theirs), path
        for i, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            assert_same(one, other, f"{path}/{i}")
    else:
        assert mine == theirs or mine != mine, path


def both(run, dataset):
    """A training executed eagerly, and one recorded after three steps and then repeated."""
    states = []
    for execution in ("eager", "graph"):
        training, images = prepare(run, dataset)
        config = train_config(run)
        capture = tape if execution == "graph" else None
        assert train(
            training, images, config, key=run.stream_key, execution=execution, capture=capture
        )
        states.append(everything(training))
    return states


@pytest.mark.parametrize("augmentation", ["randaugment", "ctaugment"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_recorded_step_repeats_what_an_eager_one_does(digits, name, augmentation):
    """Twelve steps, three evaluations; weights, averages, statistics, tables, streams, sums."""
    algorithm = build(name, {})
    if augmentation == "ctaugment" and "strong" not in (*algorithm.views, algorithm.labeled_view):
        pytest.skip("no strong view")
    assert_same(*both(run_of(name, augmentation=augmentation), digits))


@pytest.mark.parametrize("changes", [
    {"optimizer": "adam", "learning_rate": 0.001}, {"optimizer": "adamw", "learning_rate": 0.001},
    {"optimizer": "asgd", "momentum": 0.0, "teacher_decay": 0.0},
    {"schedule": "linear", "final_learning_rate": 0.001}, {"schedule": "constant"},
    {"nesterov": False}, {"precision": "bf16"}, {"precision": "fp64"},
    {"augmentation": "cutout"}, {"augmentation": "flip"}, {"augmentation": "none"},
    {"num_validation": 100},
])  # fmt: skip
def test_other_settings_are_repeated_as_well(digits, changes):
    assert_same(*both(dataclasses.replace(RUN, **changes), digits))


def test_adagrad_is_repeated_as_well(digits, monkeypatch):
    # torch counts its steps on the host, for a decay of the learning rate that is 0 here.
    monkeypatch.setattr(sys.modules["torch.optim.adagrad"], "_get_value", lambda step: 1)
    assert_same(*both(dataclasses.replace(RUN, optimizer="adagrad", momentum=0.0), digits))


@pytest.mark.parametrize("stop_at", [2, 7])
def test_a_recorded_training_can_be_interrupted(digits, tmp_path, stop_at):
    """Recorded in between, resumed eagerly and recorded again: always the same."""
    run = run_of("flexmatch", augmentation="ctaugment")
    config, key = train_config(run), run.stream_key
    whole, images = prepare(run, digits)
    assert train(whole, images, config, key=key)
    for execution in ("eager", "graph"):
        first, images = prepare(run, digits)
        assert not train(
            first, images, config, key=key, execution="graph", capture=tape,
            should_stop=lambda first=first: first.step == stop_at,
        )  # fmt: skip
        checkpoint.save(tmp_path / "c.pt", {"training": first.state_dict()})
        second, images = prepare(run, digits)
        second.load_state_dict(checkpoint.load(tmp_path / "c.pt")["training"])
        assert train(second, images, config, key=key, execution=execution, capture=tape)
        assert_same(everything(whole), everything(second))


def test_a_tape_freezes_what_lives_on_the_host(digits):
    """The harness itself: a step that counts in Python is found out."""
    run = run_of("fixmatch")
    results = []
    for execution in ("eager", "graph"):
        training, images = prepare(run, digits)
        algorithm, seen = training.algorithm, []
        loss = algorithm.loss

        def counting(batch, context, loss=loss, seen=seen):
            seen.append(None)
            made = loss(batch, context)
            return made._replace(supervised=made.supervised * len(seen))

        algorithm.loss = counting
        assert train(
            training, images, train_config(run), key=run.stream_key, execution=execution,
            capture=tape,
        )  # fmt: skip
        results.append(everything(training)["evaluations"])
        assert len(seen) == (12 if execution == "eager" else WARMUP_STEPS + 1)
    assert results[0] != results[1]
