"""The Pi-model's loss, worked out by hand."""

import math

import pytest
import torch
from torch import nn

from boss.algorithms import Batch, Context, build
from boss.errors import InputError


def logits_of(*probs):
    return torch.tensor(probs, dtype=torch.float64).log()


def loss_of(x, y, view1, view2, progress=1.0, student=None, **options):
    """The loss of a network that returns its input: images are the logits."""
    batch = Batch(x, torch.tensor(y), (view1, view2), torch.arange(len(view1)))
    network = student or nn.Identity()
    context = Context(network, nn.Identity(), torch.tensor(progress), ())
    return build("pi_model", options).loss(batch, context)


VIEWS = (logits_of([0.9, 0.1], [0.3, 0.7]), logits_of([0.6, 0.4], [0.5, 0.5]))
ARGUMENTS = (logits_of([0.5, 0.5], [0.2, 0.8]), [0, 1], *VIEWS)


def test_by_hand():
    losses = loss_of(*ARGUMENTS)
    assert losses.supervised.item() == pytest.approx((math.log(2) + math.log(1 / 0.8)) / 2)
    # Squared differences 0.3^2 twice and 0.2^2 twice, over two images and two classes.
    assert losses.unsupervised.item() == pytest.approx(10 * (2 * 0.09 + 2 * 0.04) / 4)
    assert losses.pseudo_label.tolist() == [0, 1]
    assert losses.used.tolist() == [1, 1]


def test_the_first_view_is_the_target_and_only_the_second_learns():
    view1, view2 = (view.clone().requires_grad_() for view in VIEWS)
    loss_of(*ARGUMENTS[:2], view1, view2).unsupervised.backward()
    assert view1.grad is None
    # 10 / 4 * 2 (p2 - q1) p (1 - p) (1, -1) (1, -1)^T: for the first, p2 - q1 = (-.3, .3).
    first = 10 / 4 * 2 * 2 * -0.3 * 0.6 * 0.4
    second = 10 / 4 * 2 * 2 * 0.2 * 0.5 * 0.5
    expected = [[first, -first], [second, -second]]
    torch.testing.assert_close(view2.grad, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("progress", "share"), [(0.0, 0), (0.1, 0.25), (0.2, 0.5), (0.4, 1), (0.9, 1)]
)
def test_the_weight_ramps_up(progress, share):
    losses, full = loss_of(*ARGUMENTS, progress=progress), loss_of(*ARGUMENTS)
    assert losses.unsupervised.item() == pytest.approx(
        share * full.unsupervised.item(), rel=1e-6, abs=0
    )
    assert losses.supervised == full.supervised


def test_options():
    full = loss_of(*ARGUMENTS)
    weighted = loss_of(*ARGUMENTS, unlabeled_weight=3.0)
    assert weighted.unsupervised.item() == pytest.approx(0.3 * full.unsupervised.item())
    assert weighted.supervised == full.supervised
    slow = loss_of(*ARGUMENTS, progress=0.5, rampup=1.0)
    assert slow.unsupervised.item() == pytest.approx(0.5 * full.unsupervised.item())


def test_each_view_is_normalized_by_itself():
    norm = nn.BatchNorm1d(1, eps=1e-12, affine=False).double().train()
    student = nn.Sequential(norm, nn.Linear(1, 2, bias=False).double())
    with torch.no_grad():
        student[1].weight.copy_(torch.tensor([[1.0], [0.0]]))

    def column(*values):
        return torch.tensor(values, dtype=torch.float64)[:, None]

    # Whatever the mean and spread of a pair, normalized it is (-1, 1): both views agree exactly.
    losses = loss_of(column(4, 6), [0, 0], column(1, 3), column(10, 20), student=student)
    assert losses.unsupervised.item() == pytest.approx(0, abs=1e-12)
    swapped = loss_of(column(4, 6), [0, 0], column(1, 3), column(20, 10), student=student)
    p = 1 / (1 + math.exp(-1))
    assert swapped.unsupervised.item() == pytest.approx(10 * (2 * p - 1) ** 2)


def test_half_precision_leaves_every_weight_its_gradient():
    """The pass without gradients must not cut off the others, whose casts autocast may share."""
    student = nn.Linear(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        losses = loss_of(*(v.float() if not isinstance(v, list) else v for v in ARGUMENTS),
                         student=student)  # fmt: skip
    gradients = torch.autograd.grad(losses.unsupervised, list(student.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize(
    "options",
    [
        {"unlabeled_weight": -1.0},
        {"unlabeled_weight": math.nan},
        {"rampup": 0.0},
        {"rampup": 1.1},
        {"rampup": math.nan},
    ],
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        build("pi_model", options)
