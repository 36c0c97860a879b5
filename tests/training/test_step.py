"""A step is the same however it is executed."""

import dataclasses
import sys

import pytest
import torch

from boss.algorithms import ALGORITHMS, build
from boss.augment import Views
from boss.seeds import EpochOrder, stream
from boss.training import checkpoint
from boss.training.loop import train
from boss.training.step import WARMUP_STEPS, Step, compiled
from boss.workers.build import train_config
from tests.tape import tape
from tests.training.test_loop import CPU, RUN, prepare, weights


def run_of(name, **changes):
    views = build(name, {}).views
    fields = {"algorithm": name, "options": {}, "unlabeled_ratio": 2 if views else 0}
    return dataclasses.replace(RUN, **(fields | changes))


def everything(training):
    """All that a training holds, but for how it came about."""
    left_out = ("seconds", "processor_seconds", "first_step_seconds", "executions")
    return {k: v for k, v in training.state_dict().items() if k not in left_out}


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
    {"optimizer": "muon", "learning_rate": 0.02},
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


@pytest.mark.slow
def test_a_compiled_step_computes_what_an_eager_one_does(digits):
    """Fifty steps side by side from the same weights: batches to the last bit, losses and weights
    to 1e-12. Whole functions are compiled, or torch.compile would refuse."""
    run = run_of("fixmatch", augmentation="ctaugment", options={"threshold": 0.3})
    run = dataclasses.replace(run, num_images=50 * 8, learning_rate=0.2, precision="fp64")
    config = train_config(run)
    steps, batches, losses = [], [[], []], [[], []]
    for i, execution in enumerate(("eager", "compiled")):
        training, images = prepare(run, digits)
        step = Step(training, images, config, execution)
        step.make_batch = _kept(step.make_batch, batches[i])
        step.loss = _kept(step.loss, losses[i])
        steps.append(step)
    eager, quick = (step.training for step in steps)
    order = EpochOrder(len(images.unlabeled), 16, *run.stream_key, "unlabeled order", device=CPU)
    for number in range(50):
        for step in steps:
            step(number, order[number])
        (expected, probe), (found, same_probe) = (made[-1] for made in batches)
        for one, other in zip((expected.x, *expected.u), (found.x, *found.u), strict=True):
            assert torch.equal(one, other), number
        assert torch.equal(probe, same_probe), number
        for name in ("supervised", "unsupervised"):
            values = [getattr(made[-1], name).detach() for made in losses]
            torch.testing.assert_close(*values, rtol=1e-12, atol=1e-12)
        assert torch.equal(losses[0][-1].used, losses[1][-1].used), number
        for network in ("student", "teacher"):
            one, other = (getattr(training, network) for training in (eager, quick))
            torch.testing.assert_close(weights(other), weights(one), rtol=0, atol=1e-12)
        torch.testing.assert_close(quick.views.ctaugment.rates, eager.views.ctaugment.rates)
        # From the same weights again: what differs by rounding grows apart in the long run.
        with torch.no_grad():
            for kind in ("student", "teacher"):
                tensors = (getattr(training, kind).state_dict() for training in (quick, eager))
                for mine, theirs in zip(*(t.values() for t in tensors), strict=True):
                    mine.copy_(theirs)
            for mine, theirs in zip(
                quick.optimizer.state.values(), eager.optimizer.state.values(), strict=True
            ):
                mine["momentum_buffer"].copy_(theirs["momentum_buffer"])
            quick.views.ctaugment.rates.copy_(eager.views.ctaugment.rates)
    shares = torch.stack([made.used.mean() for made in losses[0]])
    assert 0 < shares.mean() < 1


def _kept(function, kept):
    def keep(*arguments):
        kept.append(function(*arguments))
        return kept[-1]

    return keep


@pytest.mark.slow
@pytest.mark.parametrize("augmentation", ["randaugment", "ctaugment"])
def test_compiled_augmentation_is_the_same_to_the_last_bit(augmentation):
    """A thousand images in colors of all ranges, every operation among the draws."""
    images = colorful(1024, 16)
    views = Views(augmentation, 16, flip=True, device="cpu")
    draws = views.draw("strong", 1024, stream("draws"))
    found = compiled(_strong_view, exact=True)(views, images, draws)
    assert torch.equal(found, _strong_view(views, images, draws))


def colorful(num, size):
    """Random images, each channel of another range of gray levels."""
    generator = stream("images")
    low = torch.randint(128, (num, 3, 1, 1), generator=generator)
    span = torch.randint(1, 129, (num, 3, 1, 1), generator=generator)
    return (low + span * torch.rand((num, 3, size, size), generator=generator)).to(torch.uint8)


def _strong_view(views, images, draws):
    return views.view("strong", images, draws)
