"""Optimizers and schedules by hand."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn

from boss.errors import InputError
from boss.study.run import OPTIMIZERS, SCHEDULES, Run
from boss.training.config import learning_rate_at
from boss.training.loop import train
from boss.training.optim import make_optimizer
from boss.workers.build import train_config
from tests.training.test_loop import RUN, prepare, train_run

DEFAULTS = {"learning_rate": 0.1, "momentum": 0.0, "nesterov": True, "beta2": 0.999}


def kernel_after(gradients, name, **settings):
    """A kernel of one weight, 2 at first, after steps with these gradients; and a bias alike."""
    kernel = nn.Parameter(torch.tensor([[2.0]], dtype=torch.float64))
    bias = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    values = {"weight_decay": 0.0} | DEFAULTS | settings
    optimizer = make_optimizer(name, [kernel, bias], **values)
    for gradient in gradients:
        kernel.grad, bias.grad = torch.full_like(kernel, gradient), torch.full_like(bias, gradient)
        optimizer.step()
    return kernel.item(), bias.item(), optimizer


def test_sgd_with_and_without_nesterov():
    # Velocities 1 and 1.5; Nesterov's steps are gradient + 0.5 * velocity: 1.5 and 1.75.
    assert kernel_after([1, 1], "sgd", momentum=0.5)[0] == pytest.approx(2 - 0.1 * (1.5 + 1.75))
    plain = kernel_after([1, 1], "sgd", momentum=0.5, nesterov=False)[0]
    assert plain == pytest.approx(2 - 0.1 * (1 + 1.5))


def test_the_decay_of_kernels_and_of_nothing_else():
    # An L2 loss of 0.5 * 0.5 * 2^2 has gradient 1; Adam's first step is the rate, whatever it is.
    for name, kernel in (("sgd", 1.9), ("adam", 1.9), ("adamw", 2 - 0.1 * 0.5 * 2)):
        momentum = 0.9 if name != "sgd" else 0.0
        after = kernel_after([0], name, momentum=momentum, weight_decay=0.5)
        assert after[0] == pytest.approx(kernel, abs=1e-6), name
        assert after[1] == 2


def test_adam_without_a_second_moment_divides_by_the_gradient_and_a_larger_epsilon():
    after = kernel_after([1e-4], "adam", momentum=0.0, beta2=0.0)[0]
    assert after == pytest.approx(2 - 0.1 * 1e-4 / (1e-4 + 1e-4))
    assert kernel_after([1e-4], "adam", momentum=0.0)[0] == pytest.approx(1.9, abs=1e-4)


def test_adagrad():
    after = kernel_after([3, 4], "adagrad")[0]
    assert after == pytest.approx(2 - 0.1 * (3 / 3 + 4 / 5))


def test_schedules_by_hand():
    def at(schedule, progress):
        return learning_rate_at(schedule, progress, 0.03, 0.02)

    assert [at(name, 0.0) for name in SCHEDULES] == [0.03] * 3
    assert at("cosine", 1.0) == pytest.approx(0.03 * 0.19509, rel=1e-4)
    assert at("cosine", 0.5) == 0.03 * math.cos(7 * math.pi / 32)
    assert at("linear", 0.5) == pytest.approx(0.025)
    assert at("linear", 1.0) == pytest.approx(0.02)
    assert at("constant", 1.0) == 0.03


SETTINGS = {
    "sgd": {},
    "asgd": {"momentum": 0.0, "teacher_decay": 0.0},
    "adagrad": {"momentum": 0.0, "learning_rate": 0.01},
    "adam": {"learning_rate": 0.001},
    "adamw": {"learning_rate": 0.001, "schedule": "linear", "final_learning_rate": 0.0001},
    "muon": {"learning_rate": 0.02, "network": "fast-8-16"},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_trains_and_resumes_to_the_bit(name, digits):
    run = dataclasses.replace(RUN, optimizer=name, **SETTINGS[name])
    whole, _ = train_run(run, digits)
    half, data = prepare(run, digits)
    train(half, data, train_config(run), key=("k",), should_stop=lambda: half.step == 5)
    # Another start of the same run, to see that nothing is left over from its making.
    state = copy.deepcopy(half.state_dict())
    whole, data = prepare(run, digits)
    train(whole, data, train_config(run), key=("k",))
    second, data = prepare(run, digits)
    second.load_state_dict(state)
    train(second, data, train_config(run), key=("k",))
    for one, other in zip(
        [*whole.student.parameters(), *whole.teacher.parameters()],
        [*second.student.parameters(), *second.teacher.parameters()],
        strict=True,
    ):
        assert torch.equal(one, other)
    assert whole.evaluations == second.evaluations


def test_rates_relative_to_the_schedule(digits):
    """What is no kernel of a convolution learns ten times as fast with Muon."""
    run = dataclasses.replace(RUN, optimizer="muon", **SETTINGS["muon"])
    training, _ = train_run(run, digits)
    rates = [float(group["lr"]) for group in training.optimizer.param_groups]
    last = training.evaluations[-1]["learning_rate"]
    assert rates == pytest.approx([last, 10 * last, 10 * last])


def test_the_teacher_of_averaged_sgd_is_the_mean_of_all_steps(digits):
    run = dataclasses.replace(RUN, optimizer="asgd", **SETTINGS["asgd"])
    training, data = prepare(run, digits)
    seen = []

    def note(state):
        seen.append([p.detach().clone() for p in state.student.parameters()])

    train(training, data, train_config(run), key=("k",), report=note)
    for position, averaged in enumerate(training.teacher.parameters()):
        mean = torch.stack([weights[position] for weights in seen]).mean(0)
        torch.testing.assert_close(averaged, mean)


def test_the_learning_rate_of_the_schedule_reaches_the_optimizer(digits):
    run = dataclasses.replace(RUN, schedule="linear", final_learning_rate=0.001, num_evaluations=12)
    training, _ = train_run(run, digits)
    rates = [row["learning_rate"] for row in training.evaluations if row["network"] == "teacher"]
    assert rates == pytest.approx([0.03 + (0.001 - 0.03) * step / 12 for step in range(12)])
    assert training.optimizer.param_groups[0]["lr"] == rates[-1]


@pytest.mark.parametrize(("changes", "message"), [
    ({"optimizer": "lion"}, "unknown optimizer 'lion': choose from sgd, asgd, adagrad"),
    ({"schedule": "step"}, "unknown schedule 'step': choose from cosine, linear, constant"),
    ({"beta2": 0.9}, "beta2 has no effect on sgd"),
    ({"optimizer": "adam", "beta2": 1.0}, r"beta2 must lie in \[0, 1\)"),
    ({"optimizer": "adam", "nesterov": False}, "nesterov=False is for sgd with momentum"),
    ({"momentum": 0.0, "nesterov": False}, "nesterov=False is for sgd with momentum"),
    ({"optimizer": "adagrad"}, "adagrad has no momentum: set momentum=0"),
    ({"optimizer": "asgd", "momentum": 0.0}, "set teacher_decay=0"),
    ({"final_learning_rate": 0.01}, "has no effect on the cosine schedule"),
    ({"schedule": "linear", "final_learning_rate": -1.0}, "must not be negative"),
    ({"schedule": "linear", "final_learning_rate": 0.03}, "that is the constant schedule"),
    ({"augmentation": "trivial"}, "unknown augmentation 'trivial'"),
])  # fmt: skip
def test_settings_that_would_do_nothing_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(RUN, **changes)


def test_ids_of_runs_with_the_older_fields_alone_stay_what_they_were():
    fields = {"dataset": "digits", "algorithm": "fixmatch", "label_set": "fixmatch:0@10"}
    run = Run(**fields, repeat=0, network="wrn-7-1", num_images=64)
    assert run.id == "873d8860ba9aadf7"
    assert dataclasses.replace(run, augmentation="ctaugment").id != run.id
    assert dataclasses.replace(run, schedule="constant").id != run.id
