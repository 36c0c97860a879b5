"""UDA's loss, worked out by hand."""

import math

import pytest
import torch
from torch import nn

from boss.algorithms import Batch, Context, build
from boss.algorithms.uda import ANNEALING, annealed_mean
from boss.errors import InputError


def logits_of(*probs):
    return torch.tensor(probs, dtype=torch.float64).log()


def loss_of(x, y, weak, strong, progress=0.0, **options):
    """The loss of a network that returns its input: images are the logits."""
    batch = Batch(x, torch.tensor(y), (weak, strong), torch.arange(len(weak)))
    context = Context(nn.Identity(), nn.Identity(), torch.tensor(progress), ())
    return build("uda", options).loss(batch, context)


ARGUMENTS = (
    logits_of([0.5, 0.5], [0.2, 0.8]),
    [0, 1],
    logits_of([0.96, 0.04], [0.94, 0.06], [0.01, 0.99], [0.5, 0.5]),
    logits_of([0.25, 0.75], [0.1, 0.9], [0.5, 0.5], [0.3, 0.7]),
)


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_by_hand():
    losses = loss_of(*ARGUMENTS)
    assert losses.supervised.item() == pytest.approx((math.log(2) + math.log(1 / 0.8)) / 2)
    # Rows 0 and 2 are confident; the sum is divided by all four. KL is target first.
    expected = (kl((0.96, 0.04), (0.25, 0.75)) + kl((0.01, 0.99), (0.5, 0.5))) / 4
    assert losses.unsupervised.item() == pytest.approx(expected)
    assert losses.pseudo_label.tolist() == [0, 0, 1, 0]
    assert losses.used.tolist() == [1, 0, 1, 0]


def test_only_the_strong_view_learns():
    weak, strong = (view.clone().requires_grad_() for view in ARGUMENTS[2:])
    loss_of(*ARGUMENTS[:2], weak, strong, temperature=0.5).unsupervised.backward()
    assert weak.grad is None or not weak.grad.any()
    expected = torch.zeros(4, 2, dtype=torch.float64)
    # strong - target, with targets of temperature 0.5: squares, normalized
    first, third = 0.04**2 / (0.96**2 + 0.04**2), 0.01**2 / (0.99**2 + 0.01**2)
    expected[0] = torch.tensor([0.25 - (1 - first), 0.75 - first]) / 4
    expected[2] = torch.tensor([0.5 - third, 0.5 - (1 - third)]) / 4
    torch.testing.assert_close(strong.grad, expected, rtol=1e-6, atol=1e-9)


def test_the_temperature_sharpens_the_target_and_not_the_confidence():
    losses = loss_of(*ARGUMENTS, temperature=0.5)
    # 0.94 would be 0.996, and confident, if it were sharpened first.
    assert losses.used.tolist() == [1, 0, 1, 0]
    first, third = 0.04**2 / (0.96**2 + 0.04**2), 0.01**2 / (0.99**2 + 0.01**2)
    expected = (kl((1 - first, first), (0.25, 0.75)) + kl((third, 1 - third), (0.5, 0.5))) / 4
    assert losses.unsupervised.item() == pytest.approx(expected)
    # And 0.96 would be 0.83, and not confident, if it were flattened first.
    assert loss_of(*ARGUMENTS, temperature=2.0).used.tolist() == [1, 0, 1, 0]


def test_the_threshold_itself_counts_as_confident():
    zeros = torch.zeros(1, 2)  # confidence exactly 0.5
    assert loss_of(zeros, [0], zeros, zeros, threshold=0.5).used.tolist() == [1.0]
    assert loss_of(zeros, [0], zeros, zeros, threshold=0.5000001).used.tolist() == [0.0]


def test_nothing_confident_costs_nothing():
    assert loss_of(*ARGUMENTS, threshold=0.995).unsupervised.item() == 0


def test_unlabeled_weight_scales_the_unlabeled_part_only():
    one, three = loss_of(*ARGUMENTS), loss_of(*ARGUMENTS, unlabeled_weight=3.0)
    assert three.unsupervised.item() == pytest.approx(3 * one.unsupervised.item())
    assert three.supervised == one.supervised


def test_certain_targets_cost_no_nan():
    certain = torch.tensor([[200.0, -200.0]])  # the other class has probability exactly 0
    strong = torch.zeros(1, 2, requires_grad=True)
    losses = loss_of(torch.zeros(1, 2), [0], certain, strong)
    assert losses.unsupervised.item() == pytest.approx(math.log(2))
    losses.unsupervised.backward()
    assert strong.grad.tolist() == [[-0.5, 0.5]]


@pytest.mark.parametrize(
    ("annealing", "at_0", "at_half", "at_1"),
    [
        ("none", 1, 1, 1),
        ("linear", 0, 0.5, 1),
        ("exp", 0.0067379, 0.0820850, 1),
        ("log", 0, 0.9179150, 0.9932621),
    ],
)
def test_the_schedules_of_annealing(annealing, at_0, at_half, at_1):
    alphas = [ANNEALING[annealing](torch.tensor(t, dtype=torch.float64)) for t in (0.0, 0.5, 1.0)]
    assert [alpha.item() for alpha in alphas] == pytest.approx([at_0, at_half, at_1], abs=1e-7)


LABELED = logits_of([0.7, 0.1, 0.1, 0.1], [0.9, 0.05, 0.03, 0.02], [0.2, 0.3, 0.4, 0.1])
TRUTH = [0, 0, 3]  # probabilities 0.7, 0.9, 0.1


@pytest.mark.parametrize(
    ("annealing", "progress", "kept"),
    [
        ("none", 0.0, (0.7, 0.9, 0.1)),
        ("linear", 0.0, (0.1,)),  # eta = 1/4
        ("linear", 0.59, (0.1,)),  # eta = 0.6925
        ("linear", 0.61, (0.7, 0.1)),  # eta = 0.7075
        ("linear", 0.87, (0.7, 0.9, 0.1)),  # eta = 0.9025
        ("exp", 0.89, (0.1,)),  # eta = 0.25 + 0.75 exp(-0.55) = 0.6827
        ("exp", 0.92, (0.7, 0.1)),  # eta = 0.7527
        ("log", 0.18, (0.1,)),  # eta = 1 - 0.75 exp(-0.9) = 0.6951
        ("log", 0.19, (0.7, 0.1)),  # eta = 0.7099
        ("log", 0.41, (0.7, 0.9, 0.1)),  # eta = 0.9034
    ],
)
def test_annealing_leaves_out_what_is_learned(annealing, progress, kept):
    u = torch.zeros(2, 4, dtype=torch.float64)
    losses = loss_of(LABELED, TRUTH, u, u, progress=progress, annealing=annealing)
    assert losses.supervised.item() == pytest.approx(-sum(map(math.log, kept)) / len(kept))


def test_annealing_with_none_left_costs_nothing():
    x = LABELED[:2].clone().requires_grad_()
    supervised = annealed_mean(x, torch.tensor([0, 0]), torch.tensor(0.0))
    assert supervised.item() == 0
    supervised.backward()
    assert not x.grad.any()


def test_annealing_keeps_what_meets_the_bound_exactly():
    logits, y = torch.zeros(1, 2), torch.tensor([0])  # probability 1/2 = 1/K
    assert annealed_mean(logits, y, torch.tensor(0.0)).item() == pytest.approx(math.log(2))
    more = torch.tensor([[1e-6, 0.0]])
    assert annealed_mean(more, y, torch.tensor(0.0)).item() == 0
    # At the end everything counts, certain or not.
    certain = torch.tensor([[200.0, -200.0], [0.0, 0.0]])
    mean = annealed_mean(certain, torch.tensor([0, 0]), torch.tensor(1.0))
    assert mean.item() == pytest.approx(math.log(2) / 2)


def test_annealing_has_no_gradient_of_its_own():
    x = LABELED.clone().requires_grad_()
    annealed_mean(x, torch.tensor(TRUTH), torch.tensor(0.0)).backward()
    expected = torch.zeros(3, 4, dtype=torch.float64)
    expected[2] = torch.tensor([0.2, 0.3, 0.4, 0.1 - 1])
    torch.testing.assert_close(x.grad, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 1.5},
        {"threshold": math.nan},
        {"unlabeled_weight": -1.0},
        {"temperature": 0.0},
    ],
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        build("uda", options)


def test_an_unknown_annealing_is_refused():
    with pytest.raises(InputError, match="annealing 'cosine': choose from none, linear, exp, log"):
        build("uda", {"annealing": "cosine"})
