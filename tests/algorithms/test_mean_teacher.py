"""Mean Teacher's loss, worked out by hand."""

import math

import pytest
import torch
from torch import nn

from boss.algorithms import Batch, Context, build
from boss.errors import InputError
from boss.training.state import make_teacher


def logits_of(*probs):
    return torch.tensor(probs, dtype=torch.float64).log()


class Shift(nn.Module):
    """A network that returns its input plus a vector."""

    def __init__(self, *shift):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift, dtype=torch.float64))

    def forward(self, x):
        return x + self.shift


def loss_of(x, y, view1, view2, progress=1.0, student=None, teacher=None, **options):
    """The loss of networks that return their input: images are the logits."""
    batch = Batch(x, torch.tensor(y), (view1, view2), torch.arange(len(view1)))
    networks = student or nn.Identity(), teacher or nn.Identity()
    context = Context(*networks, torch.tensor(progress), ())
    return build("mean_teacher", options).loss(batch, context)


VIEWS = (logits_of([0.9, 0.1], [0.3, 0.7]), logits_of([0.6, 0.4], [0.5, 0.5]))
ARGUMENTS = (logits_of([0.5, 0.5], [0.2, 0.8]), [0, 1], *VIEWS)


def test_by_hand():
    losses = loss_of(*ARGUMENTS)
    assert losses.supervised.item() == pytest.approx((math.log(2) + math.log(1 / 0.8)) / 2)
    # Squared differences 0.3^2 twice and 0.2^2 twice, over two images and two classes.
    assert losses.unsupervised.item() == pytest.approx(50 * (2 * 0.09 + 2 * 0.04) / 4)
    assert losses.pseudo_label.tolist() == [0, 1]
    assert losses.used.tolist() == [1, 1]


def test_the_teacher_sees_the_first_view_and_the_student_the_second():
    # The teacher adds log 3 to the second class: (.9, .1) becomes (.75, .25), (.3, .7) (.125, .875)
    losses = loss_of(*ARGUMENTS, teacher=Shift(0.0, math.log(3)))
    expected = 50 * (2 * 0.15**2 + 2 * 0.375**2) / 4
    assert losses.unsupervised.item() == pytest.approx(expected)
    assert losses.pseudo_label.tolist() == [0, 1]
    assert losses.supervised == loss_of(*ARGUMENTS).supervised
    # The student: (.6, .4) becomes (1/3, 2/3), (.5, .5) (.25, .75), the labels' (.25, .75), (1, 12)
    losses = loss_of(*ARGUMENTS, student=Shift(0.0, math.log(3)))
    expected = 50 * (2 * (0.9 - 1 / 3) ** 2 + 2 * 0.05**2) / 4
    assert losses.unsupervised.item() == pytest.approx(expected)
    supervised = (math.log(4) + math.log(13 / 12)) / 2
    assert losses.supervised.item() == pytest.approx(supervised)


def test_nothing_flows_into_the_teacher_or_its_view():
    teacher, student = Shift(0.0, 0.0), Shift(0.0, 0.0)  # even a teacher that could learn
    view1, view2 = (view.clone().requires_grad_() for view in VIEWS)
    losses = loss_of(*ARGUMENTS[:2], view1, view2, student=student, teacher=teacher)
    losses.unsupervised.backward()
    assert view1.grad is None
    assert teacher.shift.grad is None
    # 50 / 4 * 2 (p2 - q1) p (1 - p) (1, -1) (1, -1)^T: for the first, p2 - q1 = (-.3, .3).
    first = 50 / 4 * 2 * 2 * -0.3 * 0.6 * 0.4
    second = 50 / 4 * 2 * 2 * 0.2 * 0.5 * 0.5
    expected = torch.tensor([[first, -first], [second, -second]], dtype=torch.float64)
    torch.testing.assert_close(view2.grad, expected)
    torch.testing.assert_close(student.shift.grad, expected.sum(0))


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
    assert weighted.unsupervised.item() == pytest.approx(0.06 * full.unsupervised.item())
    assert weighted.supervised == full.supervised
    slow = loss_of(*ARGUMENTS, progress=0.5, rampup=1.0)
    assert slow.unsupervised.item() == pytest.approx(0.5 * full.unsupervised.item())


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_the_teacher_normalizes_by_its_own_images_and_moves_nothing():
    norm = nn.BatchNorm1d(1, eps=1e-12, momentum=0.5).double()
    student = nn.Sequential(norm, nn.Linear(1, 2, bias=False).double()).train()
    with torch.no_grad():
        student[1].weight.copy_(torch.tensor([[1.0], [0.0]]))
    teacher = make_teacher(student)
    with torch.no_grad():
        teacher[0].weight.fill_(2.0)
    # Normalized, every pair is (-1, 1); the teacher's logits of the first class are (-2, 2). By the
    # running statistics (0 and 1) they would have been (200, 600).
    pairs = column(4, 6), [0, 0], column(100, 300), column(10, 20)
    losses = loss_of(*pairs, student=student, teacher=teacher)
    p, q = (1 / (1 + math.exp(-logit)) for logit in (1, 2))
    assert losses.unsupervised.item() == pytest.approx(50 * (q - p) ** 2)
    # Half of the labeled images' mean 5 and variance 2 (unbiased), half of what was there.
    for network in (student, teacher):
        assert network[0].running_mean.item() == pytest.approx(2.5)
        assert network[0].running_var.item() == pytest.approx(1.5)
        assert network[0].num_batches_tracked == 1
        assert network[0].track_running_stats
    assert student[0].training
    assert not teacher[0].training and not teacher.training


def test_half_precision_leaves_every_weight_its_gradient():
    student = nn.Linear(2, 2)
    batch = Batch(torch.ones(2, 2), torch.tensor([0, 1]), (torch.ones(2, 2), torch.eye(2)),
                  torch.arange(2))  # fmt: skip
    context = Context(student, make_teacher(student), torch.tensor(0.5), ())
    with torch.autocast("cpu", torch.bfloat16):
        losses = build("mean_teacher", {}).loss(batch, context)
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
        build("mean_teacher", options)
