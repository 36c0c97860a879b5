"""Costs: what one step takes, as torch counts it; kept in a cache, and never in the way."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from boss import algorithms
from boss.cli import main
from boss.study.run import Run
from boss.training.step import Step
from boss.workers import cost
from boss.workers.build import labeled_images, start_run, train_config, training_data
from tests.training.test_loop import RUN

FIXMATCH = Run(
    dataset="cifar10", algorithm="fixmatch", label_set="boss:6", repeat=0, network="wrn-28-2",
    num_images=2**26,
)  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "boss" / "costs.json"


def test_the_reference_step_by_hand():
    """960 images at 214.4 M multiply-adds: forward, input gradient, weight gradient.

    Nobody asks for the gradient of the images: 16 * 3 * 9 * 32^2 multiply-adds less of each.
    """
    flops, saved, num_parameters = cost.step_cost(FIXMATCH)
    per_image = 2 * (3 * 214.4e6 - 16 * 3 * 9 * 32**2)
    assert flops == pytest.approx(960 * per_image, rel=1e-3)
    assert flops == pytest.approx(cost.REFERENCE_FLOPS, rel=1e-3)
    assert num_parameters == 1_469_642
    assert 1e9 < saved < 20e9


@pytest.mark.parametrize("name", algorithms.ALGORITHMS)
def test_the_cost_of_a_step_is_what_torch_counts_of_a_real_one(name, digits, tmp_path):
    ratio = 0 if name == "supervised" else 2
    run = dataclasses.replace(RUN, algorithm=name, options={}, unlabeled_ratio=ratio)
    labels, _ = labeled_images(run, digits, None)
    device = torch.device("cpu")
    training = start_run(run, digits, device)
    step = Step(training, training_data(run, digits, labels, device), train_config(run))
    index = torch.arange(ratio * run.batch_size)
    with FlopCounterMode(display=False) as counter:
        step(0, index)
    flops, _, _ = cost.step_cost(run)
    # The real step also counts pseudo-labels by class, in one small matrix product.
    logs = 2 * 4 * len(index) * 10 * bool(algorithms.build(name, {}).views)
    assert 0 <= counter.get_total_flops() - flops <= logs
    assert flops > 0


def test_hours_by_hand_and_the_floor_of_launches():
    costs = {cost.key(FIXMATCH): cost.Cost(2 * cost.REFERENCE_FLOPS, 1e9, 10)}
    assert cost.gpu_hours([FIXMATCH], costs) == pytest.approx(2**20 * 41.2 / 3.6e6)
    costs = {cost.key(FIXMATCH): cost.Cost(1.0, 1e9, 10)}
    assert cost.gpu_hours([FIXMATCH], costs) == pytest.approx(2**20 * 5 / 3.6e6)
    assert cost.gpu_hours([FIXMATCH], {}) is None


def test_a_cost_is_measured_once_and_a_spoiled_cache_is_none(cache):
    run = dataclasses.replace(RUN, dataset="digits")
    assert cost.missing([run, run], cost.read_cache()) == [run]
    measured = cost.measure(run)
    assert cost.read_cache() == measured
    assert cost.missing([run], cost.read_cache()) == []
    for text in ("", "[]", '{"a": 1}', '{"a": {"flops": 1}}'):
        cache.write_text(text)
        assert cost.read_cache() == {}


def test_what_cannot_be_measured_is_unknown_and_no_obstacle(tmp_path, monkeypatch, capsys):
    assert cost.measure(dataclasses.replace(RUN, network="nothing")) == {}
    assert cost.missing([dataclasses.replace(RUN, dataset="mine.npz")], {}) == []
    monkeypatch.setattr(cost, "step_cost", None)
    assert main(["run", "oneshot_digits", "--budget", "smoke", "--dry-run"]) == 0
    assert "8 runs on digits" in capsys.readouterr().out
