"""What only a GPU can show. Run with `pytest -m gpu` where there is one."""

import dataclasses
import os
import time
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_map

from boss.algorithms import ALGORITHMS, build
from boss.augment import RandAugment, Weak, to_float
from boss.results.read import Store
from boss.seeds import stream
from boss.training.config import EXECUTIONS
from boss.training.step import WARMUP_STEPS
from boss.workers.process import in_child
from boss.workers.runtime import Runtime
from boss.workers.scheduler import Stop, execute
from tests.training.test_loop import RUN
from tests.training.test_step import assert_same, everything, run_of
from tests.workers.test_scheduler import Recorder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
GPU = torch.device("cuda:0")


def test_augmentation_on_the_gpu_equals_that_on_the_cpu(digits):
    images = digits.train.images[:256]
    for make in (lambda d: Weak(8, flip=True, device=d), lambda d: RandAugment(8, device=d)):
        draws = make("cpu").draw(256, stream("draws"))
        expected = make("cpu")(images, draws)
        found = make(GPU)(images.to(GPU), type(draws)(*(t.to(GPU) for t in draws)))
        if isinstance(expected, tuple):
            expected, found = to_float(*expected), to_float(*found)
        assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize("augmentation", ["randaugment", "ctaugment"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_step_of_every_algorithm_never_waits(digits, name, augmentation):
    views = build(name, {}).views
    run = dataclasses.replace(
        RUN,
        algorithm=name,
        options={},
        unlabeled_ratio=2 if views else 0,
        augmentation=augmentation if "strong" in views else "randaugment",
    )
    in_child(_steps_without_waiting, run)


def test_a_step_with_other_balancing_never_waits(digits):
    options = {"weigh_by": "predicted", "average_over": "used"}
    in_child(_steps_without_waiting, dataclasses.replace(RUN, algorithm="boss", options=options))


@pytest.mark.parametrize("changes", [
    {"optimizer": "adam", "learning_rate": 0.001}, {"optimizer": "adamw", "learning_rate": 0.001},
    {"optimizer": "adagrad", "momentum": 0.0},
    {"optimizer": "asgd", "momentum": 0.0, "teacher_decay": 0.0},
])  # fmt: skip
def test_a_step_of_other_optimizers_never_waits(digits, changes):
    in_child(_steps_without_waiting, dataclasses.replace(RUN, **changes))


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_no_way_of_executing_a_step_waits(digits, execution):
    in_child(_steps_without_waiting, dataclasses.replace(RUN, augmentation="ctaugment"), execution)


def _steps_without_waiting(run, execution="eager"):
    from boss import data
    from boss.training.loop import train
    from boss.workers.build import train_config
    from tests.training.test_loop import prepare_on

    training, images = prepare_on(run, data.load("digits"), GPU)

    def watch(t):
        # The first steps build tables, compile and record; the check before a stop may wait. 76
        # steps are an epoch.
        is_watched = WARMUP_STEPS < t.step < 80
        torch.cuda.set_sync_debug_mode("error" if is_watched else "default")

    config = dataclasses.replace(train_config(run), num_images=8 * 200, num_evaluations=1)
    stopped = not train(
        training, images, config, key=("k",), execution=execution,
        should_stop=lambda: training.step == 80, report=watch,
    )  # fmt: skip
    assert stopped


@pytest.mark.parametrize("augmentation", ["randaugment", "ctaugment"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_graph_repeats_what_an_eager_step_does(name, augmentation):
    """To the last bit, with the algorithms of cuDNN and atomic sums held fixed."""
    algorithm = build(name, {})
    if augmentation == "ctaugment" and "strong" not in (*algorithm.views, algorithm.labeled_view):
        pytest.skip("no strong view")
    run = run_of(name, augmentation=augmentation, deterministic=True)
    one, other = (in_child(_state_after, run, execution) for execution in ("eager", "graph"))
    assert_same(one, other)


@pytest.mark.parametrize("changes", [
    {"optimizer": "adam", "learning_rate": 0.001}, {"optimizer": "adamw", "learning_rate": 0.001},
    {"optimizer": "adagrad", "momentum": 0.0},
    {"optimizer": "asgd", "momentum": 0.0, "teacher_decay": 0.0}, {"precision": "bf16"},
])  # fmt: skip
def test_a_graph_repeats_other_settings_as_well(changes):
    run = dataclasses.replace(RUN, deterministic=True, **changes)
    one, other = (in_child(_state_after, run, execution) for execution in ("eager", "graph"))
    if run.optimizer == "adagrad":  # torch counts its steps on the host, where no graph goes
        for state in (one, other):
            for of_parameter in state["optimizer"]["state"].values():
                del of_parameter["step"]
    assert_same(one, other)


def _state_after(run, execution):
    """Everything that a training holds at its end, on the CPU."""
    from boss import data
    from boss.training.loop import train
    from boss.workers.build import train_config
    from boss.workers.runtime import configure_torch
    from tests.training.test_loop import prepare_on

    configure_torch(run, Runtime(results=Path("."), study="s", device="cuda:0"))
    training, images = prepare_on(run, data.load("digits"), GPU)
    assert train(training, images, train_config(run), key=run.stream_key, execution=execution)
    state = everything(training)
    return tree_map(lambda v: v.cpu() if isinstance(v, torch.Tensor) else v, state)


@pytest.mark.parametrize(("name", "execution"), [
    ("fixmatch", "compiled"), ("fixmatch", "compiled-graph"), ("remixmatch", "compiled-graph"),
    ("freematch", "compiled-graph"), ("vat", "compiled-graph"),
])  # fmt: skip
def test_what_is_compiled_learns_the_same(name, execution):
    """Losses of the first evaluation agree to 0.2%; those of two seeds differ by 0.5% or more."""
    run = run_of(name, num_images=50 * 8, num_evaluations=5, options={})
    states = [in_child(_state_after, run, how) for how in ("eager", execution)]
    for one, other in zip(*(s["evaluations"][:2] for s in states), strict=True):
        assert other["supervised_loss"] == pytest.approx(one["supervised_loss"], rel=0.002)


@pytest.mark.parametrize("augmentation", ["randaugment", "ctaugment"])
def test_compiled_augmentation_is_that_of_the_cpu_to_the_last_bit(augmentation):
    in_child(_compare_compiled_augmentation, augmentation)


def _compare_compiled_augmentation(augmentation):
    from torch.utils._pytree import tree_map_only

    from boss.augment import Views
    from boss.training.step import compiled
    from tests.training.test_step import _strong_view, colorful

    images = colorful(1024, 32)
    cpu = Views(augmentation, 32, flip=True, device="cpu")
    gpu = Views(augmentation, 32, flip=True, device=GPU)
    draws = cpu.draw("strong", 1024, stream("draws"))
    there = tree_map_only(torch.Tensor, lambda t: t.to(GPU), draws)
    expected = _strong_view(cpu, images, draws)
    assert torch.equal(_strong_view(gpu, images.to(GPU), there).cpu(), expected)
    found = compiled(_strong_view, exact=True)(gpu, images.to(GPU), there)
    assert torch.equal(found.cpu(), expected)


def test_evaluating_both_networks_takes_well_under_a_second():
    assert in_child(_seconds_of_evaluation) < 1


def _seconds_of_evaluation():
    from boss import models
    from boss.data import ImageSet
    from boss.training.evaluate import evaluate

    network = models.build(
        "wrn-28-2", channels=3, num_classes=10, norm_momentum=0.001, generator=stream("w")
    )
    network = network.to(GPU, memory_format=torch.channels_last)
    images = torch.randint(256, (10_000, 3, 32, 32), dtype=torch.uint8, device=GPU)
    labels = torch.randint(10, (10_000,), device=GPU)
    test = ImageSet(images=images, labels=labels, class_names=tuple("0123456789"))
    for _ in range(2):  # the first time loads kernels
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(2):  # teacher and student
            assert evaluate(network, test, precision="bf16").accuracy >= 0
        seconds = time.perf_counter() - began
    return seconds


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device only")
def test_every_device_records_its_own_graphs(tmp_path):
    runs = [dataclasses.replace(RUN, repeat=i) for i in range(4)]
    place = Runtime(results=tmp_path, study="s")
    outcomes = execute(runs, place, ["cuda:0", "cuda:1"], Recorder(), Stop())
    assert [o.state for o in outcomes] == ["finished"] * 4


def test_runs_on_the_gpu_repeat_bit_for_bit_when_deterministic(tmp_path):
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    run = dataclasses.replace(RUN, deterministic=True)
    # With a head, a ring of averages, CTAugment; with a table.
    remixmatch = dataclasses.replace(run, algorithm="remixmatch", options={}, unlabeled_ratio=1)
    flexmatch = dataclasses.replace(run, algorithm="flexmatch", options={})
    runs = [
        run,
        *(dataclasses.replace(r, augmentation="ctaugment") for r in (remixmatch, flexmatch)),
    ]
    rows = []
    for study in ("a", "b"):
        place = Runtime(results=tmp_path, study=study)
        outcomes = execute(runs, place, ["cuda:0"], Recorder(), Stop())
        for outcome in outcomes:
            assert outcome.state == "finished", outcome.traceback
        rows.append(Store(tmp_path, study).read("evaluations"))
    assert rows[0].equals(rows[1])
    assert "NVIDIA" in Store(tmp_path, "a").read("runs")["device"][0]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_gpu_learns_what_the_cpu_learns(tmp_path, precision):
    """Not the same draws, so the accuracies agree as repeats do."""
    run = dataclasses.replace(
        RUN, num_images=16 * 500, batch_size=16, unlabeled_ratio=7, learning_rate=0.2,
        options={}, max_eval_images=None, teacher_decay=0.99, norm_momentum=0.01,
    )  # fmt: skip
    runs = [dataclasses.replace(run, repeat=i) for i in range(3)]
    means = []
    for study, device in (("cpu", "cpu"), ("gpu", "cuda:0")):
        place = Runtime(results=tmp_path, study=study)
        mine = [
            dataclasses.replace(r, precision=precision if device != "cpu" else "fp32") for r in runs
        ]
        assert {o.state for o in execute(mine, place, [device] * 3, Recorder(), Stop())} == {
            "finished"
        }
        means.append(Store(tmp_path, study).read("runs")["median_last_20_accuracy"].mean())
    assert means[1] == pytest.approx(means[0], abs=0.12)


def test_self_training_on_the_gpu(tmp_path):
    parent = dataclasses.replace(RUN, algorithm="boss", options={})
    children = [
        dataclasses.replace(RUN, options={}, parent=parent, picks_per_class=3, rank_by=rank_by)
        for rank_by in ("last", "best_test")
    ]
    place = Runtime(results=tmp_path, study="s", keep_networks=True)
    runs = [parent, *children]
    outcomes = execute(runs, place, ["cuda:0", "cuda:0"], Recorder(), Stop())
    assert [o.state for o in outcomes] == ["finished"] * 3
    table = Store(tmp_path, "s").read("predictions", [parent.id])
    assert table["doubt"].between(0, 0.9).all()
    assert len(table) == 2 * RUN.max_eval_images
    assert len(list((tmp_path / "s" / "networks").glob("*.pt"))) == 3
