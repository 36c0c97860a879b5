"""What every algorithm promises, tested on all of them alike.

A new algorithm is a row in CASES. Dimensions: B labeled, U unlabeled, K classes.
"""

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from boss import models
from boss.algorithms import ALGORITHMS, Batch, Context, build, hyperparameters
from boss.augment import to_float
from boss.errors import InputError
from boss.seeds import stream
from boss.train import make_teacher

B, MU = 4, 7  # so that classes are predicted and used unequally often

# name -> for every hyperparameter, a value that must change the loss or the gradient
CASES: dict[str, dict[str, object]] = {
    "boss": {
        "threshold": 0.999,
        "max_drop": 0.0,
        "weigh_by": "none",
        "unlabeled_weight": 0.5,
        "average_over": "used",
    },
    "fixmatch": {"threshold": 0.999, "unlabeled_weight": 0.5},
    "supervised": {},
}
SYNCHRONIZING = (
    *("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.unique"),
    *("aten._unique", "aten.bincount", "aten.equal", "aten.repeat_interleave.Tensor"),
)


class NoSynchronization(TorchDispatchMode):
    """Raises where an operation would wait for the device or have a shape that depends on data."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        assert not name.startswith(SYNCHRONIZING), f"{name} waits for the device"
        if name.startswith(("aten.index.", "aten.index_put")):
            indices = [i for i in args[1] if i is not None]
            masks = (torch.bool, torch.uint8)
            assert all(i.dtype not in masks for i in indices), f"{name} with a mask"
        return func(*args, **(kwargs or {}))


def network(seed=0, *, double=True):
    made = models.build(
        "wrn-7-1", channels=1, num_classes=10, norm_momentum=0.1, generator=stream(seed)
    )
    made = made.double() if double else made
    with torch.no_grad():
        made.classify.weight.mul_(30)  # so that some predictions are confident
    return made.train()


def batch_of(digits, algorithm, *, requires_grad=False):
    images, labels = digits.train.images, digits.train.labels
    pick = torch.randperm(len(images), generator=stream("pick"))
    u_index = pick[B : B + B * MU] if algorithm.views else pick[:0]
    views = []
    for i, _ in enumerate(algorithm.views):
        x = to_float(images[u_index], dtype=torch.float64)
        # Views differ, as augmented ones do.
        x = x + 0.2 * torch.randn(x.shape, generator=stream("view", i), dtype=x.dtype)
        views.append(x.requires_grad_(requires_grad))
    x = to_float(images[pick[:B]], dtype=torch.float64)
    return Batch(x, labels[pick[:B]], tuple(views), u_index)


def context_of(student, progress=0.5):
    return Context(student, make_teacher(student), torch.tensor(progress), stream("algorithm"))


def total(losses):
    return losses.supervised + losses.unsupervised


@pytest.fixture(params=list(ALGORITHMS))
def name(request):
    return request.param


def test_every_algorithm_has_a_row_here():
    assert CASES.keys() == ALGORITHMS.keys()
    for name, values in CASES.items():
        assert values.keys() == hyperparameters(name).keys()


def test_a_gradient_reaches_every_parameter(name, digits):
    algorithm, student = build(name, {}), network()
    total(algorithm.loss(batch_of(digits, algorithm), context_of(student))).backward()
    for key, parameter in [*student.named_parameters(), *algorithm.named_parameters()]:
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


def test_the_teacher_is_left_alone(name, digits):
    algorithm, student = build(name, {}), network()
    context = context_of(student)
    before = copy.deepcopy(list(context.teacher.parameters()))
    total(algorithm.loss(batch_of(digits, algorithm), context)).backward()
    for old, new in zip(before, context.teacher.parameters(), strict=True):
        assert torch.equal(old, new)
        assert new.grad is None
        assert not new.requires_grad


def test_targets_carry_no_gradient(name, digits):
    """Through a network without batch norm, whose rows do not see each other."""
    algorithm = build(name, {})
    if not algorithm.views:
        pytest.skip("no targets")
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, 10).double())
    with torch.no_grad():
        student[1].weight.normal_(0, 1, generator=stream("weights"))
    batch = batch_of(digits, algorithm, requires_grad=True)
    losses = algorithm.loss(batch, context_of(student))
    assert losses.used.sum() > 0
    total(losses).backward()
    weak, strong = batch.u
    assert weak.grad is None or not weak.grad.any()
    reached = strong.grad.flatten(1).abs().sum(1) > 0
    assert torch.equal(reached, losses.used > 0)


def test_the_global_random_state_has_no_say(name, digits):
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        algorithm = build(name, {})
        batch = batch_of(digits, algorithm)
        results.append(total(algorithm.loss(batch, context_of(network()))).item())
    assert results[0] == results[1]


def test_nothing_waits_for_the_device(name, digits):
    algorithm, student = build(name, {}), network()
    batch, context = batch_of(digits, algorithm), context_of(student)
    with NoSynchronization():
        total(algorithm.loss(batch, context)).backward()


def test_the_detector_of_synchronization_detects():
    ones = torch.ones(3, dtype=torch.int64)
    for offense in (
        lambda: ones[0].item(),
        lambda: ones.bincount(),
        lambda: ones.unique(),
        lambda: torch.equal(ones, ones),
        lambda: ones.nonzero(),
        lambda: ones.masked_select(ones > 0),
        lambda: torch.repeat_interleave(ones),
        lambda: ones[ones > 0],
    ):
        with pytest.raises(AssertionError, match=r"waits|mask"), NoSynchronization():
            offense()


def test_running_statistics_come_from_one_joint_pass(name, digits):
    algorithm, student, expected = build(name, {}), network(), network()
    batch = batch_of(digits, algorithm)
    algorithm.loss(batch, context_of(student))
    expected(torch.cat([batch.x, *batch.u]))
    for (key, mine), theirs in zip(student.named_buffers(), expected.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=key)
    assert student.norm.num_batches_tracked == 1


def test_every_hyperparameter_matters(name, digits):
    def gradient(options):
        algorithm, student = build(name, options), network()
        total(algorithm.loss(batch_of(digits, algorithm), context_of(student))).backward()
        return torch.cat([p.grad.flatten() for p in student.parameters()])

    default = gradient({})
    for key, value in CASES[name].items():
        assert not torch.equal(default, gradient({key: value})), key


def test_shapes_and_types(name, digits):
    algorithm = build(name, {})
    losses = algorithm.loss(batch_of(digits, algorithm), context_of(network()))
    num = B * MU if algorithm.views else 0
    assert losses.supervised.shape == losses.unsupervised.shape == ()
    assert losses.pseudo_label.shape == losses.used.shape == (num,)
    assert losses.pseudo_label.dtype == torch.int64
    assert set(losses.used.unique().tolist()) <= {0.0, 1.0}


def test_half_precision_logits_give_single_precision_losses(name, digits):
    algorithm, student = build(name, {}), network(double=False)
    batch = batch_of(digits, algorithm)
    batch = batch._replace(x=batch.x.float(), u=tuple(u.float() for u in batch.u))
    with torch.autocast("cpu", torch.bfloat16):
        losses = algorithm.loss(batch, context_of(student))
    assert losses.supervised.dtype == losses.unsupervised.dtype == torch.float32


def test_unknown_names_and_options_are_refused(name):
    names = ", ".join(ALGORITHMS)
    with pytest.raises(InputError, match=f"unknown algorithm 'x': choose from {names}$"):
        build("x", {})
    with pytest.raises(InputError, match=f"{name} has no option 'tau'"):
        build(name, {"tau": 0.9})
