"""What only a GPU can show. Run with `pytest -m gpu` where there is one."""

import dataclasses
import os

import pytest
import torch

from boss.algorithms import ALGORITHMS, build
from boss.augment import RandAugment, Weak, to_float
from boss.execute import Stop, execute, in_child
from boss.place import Place
from boss.seeds import stream
from boss.store import Store

from .test_execute import Recorder
from .test_train import RUN

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


def _steps_without_waiting(run):
    from boss import data
    from boss.perform import train_config
    from boss.train import train
    from tests.test_train import prepare_on

    training, images = prepare_on(run, data.load("digits"), GPU)

    def watch(t):
        # The first step builds tables; the check before a stop may wait. 76 steps are an epoch.
        torch.cuda.set_sync_debug_mode("error" if t.step < 80 else "default")

    config = dataclasses.replace(train_config(run), num_images=8 * 200, num_evaluations=1)
    stopped = not train(
        training, images, config, key=("k",), should_stop=lambda: training.step == 80, report=watch
    )
    assert stopped


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
        place = Place(results=tmp_path, study=study)
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
        place = Place(results=tmp_path, study=study)
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
    place = Place(results=tmp_path, study="s", keep_networks=True)
    runs = [parent, *children]
    outcomes = execute(runs, place, ["cuda:0", "cuda:0"], Recorder(), Stop())
    assert [o.state for o in outcomes] == ["finished"] * 3
    table = Store(tmp_path, "s").read("predictions", [parent.id])
    assert table["doubt"].between(0, 0.9).all()
    assert len(table) == 2 * RUN.max_eval_images
    assert len(list((tmp_path / "s" / "networks").glob("*.pt"))) == 3
