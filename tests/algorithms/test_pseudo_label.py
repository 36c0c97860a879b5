"""Pseudo-Label's loss, worked out by hand."""

import math

import pytest
import torch
from torch import nn

from boss.algorithms import Batch, Context, build
from boss.errors import InputError


def logits_of(*probs):
    return torch.tensor(probs, dtype=torch.float64).log()


def loss_of(x, y, u, progress=1.0, student=None, **options):
    """The loss of a network that returns its input: images are the logits."""
    batch = Batch(x, torch.tensor(y), (u,), torch.arange(len(u)))
    network = student or nn.Identity()
    context = Context(network, nn.Identity(), torch.tensor(progress), ())
    return build("pseudo_label", options).loss(batch, context)


UNLABELED = logits_of([0.96, 0.04], [0.94, 0.06], [0.01, 0.99], [0.5, 0.5])
ARGUMENTS = (logits_of([0.5, 0.5], [0.2, 0.8]), [0, 1], UNLABELED)


def test_the_reference_by_hand():
    """logits [[0, 4], [0, 0]]: confidences .982 and .5, so half of the batch is confident."""
    u = torch.tensor([[0.0, 4.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    losses = loss_of(*ARGUMENTS[:2], u)
    assert losses.supervised.item() == pytest.approx((math.log(2) + math.log(1 / 0.8)) / 2)
    # The mean cross entropy of both images, times the share of confident ones.
    expected = (math.log(1 + math.exp(-4)) + math.log(2)) / 2 / 2
    assert losses.unsupervised.item() == pytest.approx(expected)
    assert expected == pytest.approx(0.17782, abs=5e-6)
    assert losses.used.tolist() == [1, 0]
    losses.unsupervised.backward()
    # The unconfident image trains on its own prediction: (p - one-hot) / 2 / 2.
    assert u.grad[1].tolist() == [-0.125, 0.125]


def test_the_intended_rule_by_hand():
    u = torch.tensor([[0.0, 4.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    losses = loss_of(*ARGUMENTS[:2], u, mask="example")
    expected = math.log(1 + math.exp(-4)) / 2
    assert losses.unsupervised.item() == pytest.approx(expected)
    assert expected == pytest.approx(0.00907, abs=5e-6)
    losses.unsupervised.backward()
    assert u.grad[1].tolist() == [0, 0]


def test_by_hand():
    losses = loss_of(*ARGUMENTS, mask="example")
    # Rows 0 and 2 are confident; the sum is divided by all four.
    assert losses.unsupervised.item() == pytest.approx(-(math.log(0.96) + math.log(0.99)) / 4)
    assert losses.pseudo_label.tolist() == [0, 0, 1, 0]
    assert losses.used.tolist() == [1, 0, 1, 0]


def test_the_same_pass_learns():
    u = UNLABELED.clone().requires_grad_()
    loss_of(*ARGUMENTS[:2], u, mask="example").unsupervised.backward()
    expected = torch.zeros(4, 2, dtype=torch.float64)
    expected[0] = torch.tensor([-0.04, 0.04]) / 4  # p - one-hot
    expected[2] = torch.tensor([0.01, -0.01]) / 4
    torch.testing.assert_close(u.grad, expected)


def test_the_threshold_itself_is_not_confident():
    u = torch.zeros(1, 2)  # confidence exactly 0.5
    assert loss_of(torch.zeros(1, 2), [0], u, threshold=0.5).used.tolist() == [0.0]
    assert loss_of(torch.zeros(1, 2), [0], u, threshold=0.4999999).used.tolist() == [1.0]


def test_nothing_confident_costs_nothing():
    assert loss_of(*ARGUMENTS, threshold=0.995).unsupervised.item() == 0


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
    assert weighted.unsupervised.item() == pytest.approx(3 * full.unsupervised.item())
    assert weighted.supervised == full.supervised
    slow = loss_of(*ARGUMENTS, progress=0.5, rampup=1.0)
    assert slow.unsupervised.item() == pytest.approx(0.5 * full.unsupervised.item())
    lower = loss_of(*ARGUMENTS, threshold=0.9, mask="example")
    expected = -(math.log(0.96) + math.log(0.94) + math.log(0.99)) / 4
    assert lower.unsupervised.item() == pytest.approx(expected)
    assert lower.used.tolist() == [1, 1, 1, 0]


def test_the_unlabeled_images_are_normalized_by_themselves():
    norm = nn.BatchNorm1d(1, eps=1e-12, affine=False).double().train()
    student = nn.Sequential(norm, nn.Linear(1, 2, bias=False).double())
    with torch.no_grad():
        student[1].weight.copy_(torch.tensor([[1.0], [0.0]]))
    x, u = (torch.tensor(v, dtype=torch.float64)[:, None] for v in ([4, 6], [1000, 3000]))
    losses = loss_of(x, [0, 0], u, student=student, threshold=0.7)
    # Normalized, a pair is (-1, 1): confidence 0.731 in class 1, then in class 0.
    assert losses.unsupervised.item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert losses.pseudo_label.tolist() == [1, 0]


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 1.0},
        {"threshold": -0.1},
        {"unlabeled_weight": -1.0},
        {"rampup": 0.0},
        {"rampup": 1.1},
        {"rampup": math.nan},
    ],
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        build("pseudo_label", options)


def test_an_unknown_mask_is_refused():
    with pytest.raises(InputError, match="unknown mask 'image': choose from batch, example"):
        build("pseudo_label", {"mask": "image"})
