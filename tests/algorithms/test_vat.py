"""VAT's loss and its adversarial direction, worked out by hand."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from boss import models
from boss.algorithms import Batch, Context, build, hyperparameters
from boss.algorithms.vat import adversarial_direction, kl_between, unit
from boss.augment import to_float
from boss.errors import InputError
from boss.forward import frozen_statistics
from boss.losses import entropy
from boss.seeds import stream

U, K, PIXELS = 6, 3, 5


def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def linear(*rows):
    """A network whose logits of class k are the images times row k."""
    network = nn.Linear(len(rows[0]), len(rows), bias=False).double()
    with torch.no_grad():
        network.weight.copy_(tensor(*rows))
    return network


def loss_of(x, y, u, student, progress=1.0, generator=None, **options):
    batch = Batch(x, torch.tensor(y), (u,), torch.arange(len(u)))
    algorithm = build("vat", options)
    draws = algorithm.draw(batch, generator or stream(0))
    context = Context(student, nn.Identity(), torch.tensor(progress), draws)
    return algorithm.loss(batch, context)


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def two(logit):
    """Probabilities of two classes whose logits differ by `logit`."""
    p = 1 / (1 + math.exp(-logit))
    return p, 1 - p


def binary_entropy(logit):
    return -sum(p * math.log(p) for p in two(logit))


# Of two classes, only w = w0 - w1 matters: here (3, 4) / 10, of length 0.5. The Hessian of the
# divergence is p0 p1 w w^T. So r points along w or against it, whichever is nearer to the draw.
STUDENT = linear([0.3, 0.1], [0.0, -0.3])
IMAGES = tensor([1.0, 2.0], [-3.0, 0.5], [0.4, -0.2])
LOGITS = (1.1, -0.7, 0.04)  # w times the image
ARGUMENTS = (tensor([0.0, 0.0], [1.0, 2.0]), [0, 1], IMAGES, STUDENT)


def signs(seed=0):
    draws = torch.randn(IMAGES.shape, generator=stream(seed), dtype=torch.float64)
    return (draws @ tensor(0.3, 0.4)).sign().tolist()


def expected_loss(epsilon=6.0, unlabeled_weight=0.3, entropy_weight=0.06, seed=0):
    pairs = zip(LOGITS, signs(seed), strict=True)
    # |w| = 0.5, so that r moves the logit by epsilon / 2. The moved prediction comes first.
    moved = [kl(two(s + 0.5 * epsilon * sign), two(s)) for s, sign in pairs]
    entropies = [binary_entropy(s) for s in LOGITS]
    return unlabeled_weight * np.mean(moved) + entropy_weight * np.mean(entropies)


def test_by_hand():
    losses = loss_of(*ARGUMENTS)
    assert set(signs()) == {-1, 1}
    assert losses.supervised.item() == pytest.approx((math.log(2) + math.log(1 + math.e**1.1)) / 2)
    assert losses.unsupervised.item() == pytest.approx(expected_loss())
    assert losses.pseudo_label.tolist() == [0, 1, 0]
    assert losses.used.tolist() == [1, 1, 1]


def test_the_defaults_are_those_of_the_reference():
    assert hyperparameters("vat") == {
        "unlabeled_weight": 0.3,
        "epsilon": 6.0,
        "xi": 1e-6,
        "num_iterations": 1,
        "entropy_weight": 0.06,
        "rampup": 0.4,
    }


def test_the_draws_come_from_the_generator():
    assert signs(0) != signs(1)
    losses = loss_of(*ARGUMENTS, generator=stream(1))
    assert losses.unsupervised.item() == pytest.approx(expected_loss(seed=1))
    generator = stream(0)
    first, second = (loss_of(*ARGUMENTS, generator=generator).unsupervised for _ in range(2))
    assert first != second


@pytest.mark.parametrize(
    "options", [{"epsilon": 2.0}, {"unlabeled_weight": 1.5}, {"entropy_weight": 0.5}]
)
def test_options(options):
    losses = loss_of(*ARGUMENTS, **options)
    assert losses.unsupervised.item() == pytest.approx(expected_loss(**options))
    assert losses.supervised == loss_of(*ARGUMENTS).supervised


@pytest.mark.parametrize(
    ("progress", "share"), [(0.0, 0), (0.1, 0.25), (0.2, 0.5), (0.4, 1), (0.9, 1)]
)
def test_the_divergence_ramps_up_and_the_entropy_does_not(progress, share):
    expected = expected_loss(unlabeled_weight=0.3 * share)
    assert loss_of(*ARGUMENTS, progress=progress).unsupervised.item() == pytest.approx(expected)
    alone = loss_of(*ARGUMENTS, progress=progress, entropy_weight=0.0).unsupervised.item()
    expected = expected_loss(unlabeled_weight=0.3 * share, entropy_weight=0.0)
    assert alone == pytest.approx(expected, rel=1e-6, abs=0)


def test_a_longer_ramp():
    losses = loss_of(*ARGUMENTS, progress=0.5, rampup=1.0)
    assert losses.unsupervised.item() == pytest.approx(expected_loss(unlabeled_weight=0.15))


def three_classes():
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(K, PIXELS))
    return weight, generator.normal(size=(U, PIXELS)), generator.normal(size=(U, PIXELS))


def directions_of(weight, images, start, **options):
    network = linear(*weight.tolist())
    probs = network(torch.tensor(images)).detach().softmax(1)
    found = adversarial_direction(
        network, torch.tensor(images), probs, torch.tensor(start), **options
    )
    assert not found.requires_grad
    assert network.weight.grad is None  # not even of this
    return found.numpy()


@pytest.mark.parametrize("num_iterations", [1, 2, 3, 50])
def test_the_direction_is_that_of_a_power_iteration(num_iterations):
    weight, images, start = three_classes()
    found = directions_of(weight, images, start, xi=1e-6, num_iterations=num_iterations)
    for x, d, direction in zip(images, start, found, strict=True):
        p = softmax(weight @ x)
        hessian = weight.T @ (np.diag(p) - np.outer(p, p)) @ weight
        for _ in range(num_iterations):
            d = hessian @ d
            d = d / np.linalg.norm(d)
        np.testing.assert_allclose(direction, d, atol=1e-4)
        if num_iterations == 50:
            values, vectors = np.linalg.eigh(hessian)
            assert abs(direction @ vectors[:, values.argmax()]) == pytest.approx(1, abs=1e-4)


def test_the_direction_a_large_step_away():
    """The gradient itself, of KL(p || softmax(W (x + d))): W^T (softmax(W (x + d)) - p)."""
    weight, images, start = three_classes()
    found = directions_of(weight, images, start, xi=2.0, num_iterations=2)
    for x, d, direction in zip(images, start, found, strict=True):
        p = softmax(weight @ x)
        for _ in range(2):
            d = weight.T @ (softmax(weight @ (x + 2 * d / np.linalg.norm(d))) - p)
        np.testing.assert_allclose(direction, d / np.linalg.norm(d), atol=1e-5)


@pytest.mark.parametrize("xi", [1e-3, 1e-2, 1e-1])
def test_steps_at_which_single_precision_finds_the_direction_of_double(digits, xi):
    double = models.build(
        "wrn-7-1", channels=1, num_classes=10, norm_momentum=0.1, generator=stream("weights")
    ).double()
    images = to_float(digits.train.images[:32], dtype=torch.float64)
    start = torch.randn(images.shape, generator=stream("start"), dtype=torch.float64)
    found = []
    for network, step in ((double, 1e-6), (copy.deepcopy(double).float(), xi)):
        dtype = network.classify.weight.dtype
        with frozen_statistics(network):
            probs = network(images.to(dtype)).detach().softmax(1)
            direction = adversarial_direction(
                network, images.to(dtype), probs, start.to(dtype), xi=step, num_iterations=1
            )
        assert direction.dtype == dtype
        found.append(direction.double().flatten(1))
    assert torch.cosine_similarity(*found).mean() > 0.95


def test_unit_is_a_loop_over_images():
    x = torch.randn(5, 3, 4, 4, generator=stream("x"), dtype=torch.float64)
    x = x * tensor(1.0, 1e-9, 1e9, 1e-200, 0.0)[:, None, None, None]
    assert x[3].any()  # though its squares underflow
    found = unit(x)
    for image, one in zip(x, found, strict=True):
        image = image.numpy() / (1e-12 + np.abs(image.numpy()).max())
        expected = image / math.sqrt(1e-6 + (image**2).sum())
        np.testing.assert_allclose(one.numpy(), expected, rtol=1e-12)
    lengths = found.square().sum((1, 2, 3)).sqrt()
    assert lengths.tolist() == pytest.approx([1, 1, 1, 0, 0], abs=1e-3)


def test_both_constants_of_unit_by_hand():
    # 3e-12 / (1e-12 + 3e-12) = 0.75, then 0.75 / sqrt(1e-6 + 0.75^2)
    assert unit(tensor([3e-12])).item() == pytest.approx(0.75 / math.sqrt(0.562501), rel=1e-9)
    # 1e-15 / 1.001e-12 = 0.000999, of which the square is no more than 1e-6
    small = 1e-15 / 1.001e-12
    assert unit(tensor([1e-15])).item() == pytest.approx(small / math.sqrt(1e-6 + small**2))


def test_divergence_and_entropy_by_hand():
    logits, other = tensor([0.2, 0.8]).log(), tensor([0.6, 0.4]).log()
    assert kl_between(logits, other).item() == pytest.approx(kl((0.2, 0.8), (0.6, 0.4)))
    values = entropy(tensor([0.2, 0.8], [0.5, 0.5]).log())
    by_hand = [-0.2 * math.log(0.2) - 0.8 * math.log(0.8), math.log(2)]
    assert values.tolist() == pytest.approx(by_hand)
    half = torch.zeros(1, 2, dtype=torch.bfloat16)
    assert kl_between(half, half).dtype == entropy(half).dtype == torch.float32


def test_certain_predictions_give_finite_gradients():
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)  # a probability of exactly 0
    value = kl_between(logits, torch.tensor([[0.0, 0.0]])) + entropy(logits)
    assert value.item() == pytest.approx(math.log(2))
    value.sum().backward()
    assert logits.grad.isfinite().all()


def test_what_learns():
    """The moved prediction and the entropy; the clean prediction, as a target, does not."""
    u = IMAGES.clone().requires_grad_()
    student = linear(*STUDENT.weight.tolist())
    loss_of(*ARGUMENTS[:2], u, student, entropy_weight=0.0).unsupervised.backward()
    expected = []
    for s, sign in zip(LOGITS, signs(), strict=True):
        moved = s + 3 * sign
        p, _ = two(moved)
        # d/ds KL(two(s') || two(s)) in s' alone is p (1 - p) (s' - s); s' moves by w per pixel.
        slope = 0.3 / 3 * p * (1 - p) * (moved - s)
        expected.append([slope * 0.3, slope * 0.4])
    torch.testing.assert_close(u.grad, tensor(*expected), rtol=1e-5, atol=1e-8)
    # With respect to the weights: slope times the moved image, and r itself is a constant.
    weights = torch.zeros(2, dtype=torch.float64)
    for image, s, sign in zip(IMAGES, LOGITS, signs(), strict=True):
        moved = s + 3 * sign
        p, _ = two(moved)
        r = 6 * sign * tensor(0.6, 0.8)
        weights += 0.3 / 3 * p * (1 - p) * (moved - s) * (image + r)
    torch.testing.assert_close(student.weight.grad[0], weights, rtol=1e-5, atol=1e-8)


def test_the_entropy_is_that_of_the_clean_view():
    u = IMAGES.clone().requires_grad_()
    loss_of(*ARGUMENTS[:2], u, STUDENT, progress=0.0).unsupervised.backward()
    slopes = [-0.06 / 3 * s * math.prod(two(s)) for s in LOGITS]  # dH/ds = -s p (1 - p)
    torch.testing.assert_close(u.grad, tensor(*([0.3 * k, 0.4 * k] for k in slopes)))


def test_half_precision():
    """Gradients of every weight, none of them from the search of the direction."""
    student = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.normal_(generator=stream(len(parameter)))
    arguments = (ARGUMENTS[0].float(), [0, 1], IMAGES.float(), student)
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses = loss_of(*arguments, xi=0.5, generator=stream(0))
        assert all(parameter.grad is None for parameter in student.parameters())
        assert losses.unsupervised.dtype == torch.float32
        found = torch.autograd.grad(losses.unsupervised, list(student.parameters()))
        gradients.append(torch.cat([gradient.flatten() for gradient in found]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99


@pytest.mark.parametrize(
    "options",
    [
        {"unlabeled_weight": -1.0},
        {"epsilon": 0.0},
        {"xi": 0.0},
        {"num_iterations": 0},
        {"entropy_weight": -1.0},
        {"rampup": 0.0},
        {"rampup": 1.1},
        {"rampup": math.nan},
    ],
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        build("vat", options)
