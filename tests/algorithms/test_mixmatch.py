"""MixMatch's loss, worked out by hand and against a plain loop.

Dimensions: B labeled images, U unlabeled ones, N = B + 2U, K classes.
"""

import copy
import math

import pytest
import torch
from torch import nn

from boss.algorithms import Batch, Context, build
from boss.errors import InputError
from boss.mixup import mixing_coefficients
from boss.seeds import stream
from tests.test_forward import interleaved_by_loop, normed_network

K = 3


def logits_of(*probs):
    return torch.tensor(probs, dtype=torch.float64).log()


def batch_of(num_labeled, ratio, seed=0):
    x, *u = torch.split(
        torch.randn((1 + 2 * ratio) * num_labeled, 4, generator=stream(seed), dtype=torch.float64),
        [num_labeled, ratio * num_labeled, ratio * num_labeled],
    )
    y = torch.arange(num_labeled) % K
    return Batch(x, y, tuple(u), torch.arange(ratio * num_labeled))


def loss_of(network, batch, progress=1.0, seed="algorithm", draws=None, **options):
    algorithm = build("mixmatch", options)
    draws = algorithm.draw(batch, stream(seed)) if draws is None else draws
    return algorithm.loss(batch, Context(network, network, torch.tensor(progress), draws))


def loss_by_loop(network, batch, coefficients, partners, temperature, weight):
    """The algorithm as printed, one image after the other; the network in training mode."""
    size, num = len(batch.x), len(batch.u[0])
    with torch.no_grad():
        guesses = [[row.exp() / row.exp().sum() for row in network(u)] for u in batch.u]
    targets = [torch.eye(K, dtype=torch.float64)[label] for label in batch.y]
    sharpened = []
    for one, other in zip(*guesses, strict=True):
        mean = (one + other) / 2
        sharpened.append(mean ** (1 / temperature) / (mean ** (1 / temperature)).sum())
    targets += sharpened + sharpened
    images = [*batch.x, *batch.u[0], *batch.u[1]]
    mixed = []
    for i, (share, j) in enumerate(zip(coefficients, partners, strict=True)):
        image = share * images[i] + (1 - share) * images[j]
        mixed.append((image, share * targets[i] + (1 - share) * targets[j]))
    parts = [mixed[start : start + size] for start in range(0, len(mixed), size)]
    logits = {}
    for rows in interleaved_by_loop(parts):
        out = network(torch.stack([parts[i][r][0] for i, r in rows]))
        logits |= dict(zip(rows, out, strict=True))
    supervised = unlabeled = 0.0
    for (i, r), out in logits.items():
        target = parts[i][r][1]
        probs = out.exp() / out.exp().sum()
        if i == 0:
            supervised = supervised - (target * probs.log()).sum() / size
        else:
            unlabeled = unlabeled + ((target - probs) ** 2).sum() / K / (2 * num)
    return supervised, weight * unlabeled, [q.argmax().item() for q in sharpened]


def test_by_hand():
    """One image each of x, u1 and u2; images are logits, so mixtures are geometric means."""
    shares = torch.tensor([0.75, 1.0, 0.5], dtype=torch.float64)
    draws = torch.tensor([1, 2, 0]), shares
    x, u1, u2 = logits_of([0.5, 0.5]), logits_of([0.8, 0.2]), logits_of([0.4, 0.6])
    batch = Batch(x, torch.tensor([0]), (u1, u2), torch.tensor([0]))
    losses = loss_of(nn.Identity(), batch, progress=1 / 128, draws=draws)  # half of the ramp
    q = 0.6**2 / (0.6**2 + 0.4**2)  # the mean guess is .6, .4
    # x' = .75 x + .25 u1: odds 4^.25; its target is .75 of class 0 and .25 of q.
    p = math.sqrt(2) / (1 + math.sqrt(2))
    target = 0.75 + 0.25 * q
    expected = -target * math.log(p) - (1 - target) * math.log(1 - p)
    assert losses.supervised.item() == pytest.approx(expected)
    # u1' = u1, and u2' = .5 u2 + .5 x: odds (2/3)^.5, target half of q and half of class 0.
    p = math.sqrt(2 / 3) / (1 + math.sqrt(2 / 3))
    squares = [(0.8 - q) ** 2, (0.2 - (1 - q)) ** 2, (p - (q + 1) / 2) ** 2]
    squares.append((1 - p - (1 - q) / 2) ** 2)
    assert losses.unsupervised.item() == pytest.approx(100 * 0.5 * sum(squares) / 4)
    assert losses.pseudo_label.tolist() == [0]
    assert losses.used.tolist() == [1]


@pytest.mark.parametrize(
    ("num_labeled", "ratio", "options"),
    [
        (3, 1, {}),
        (4, 1, {"temperature": 0.8, "alpha": 2.0}),
        (5, 2, {"unlabeled_weight": 7.0}),
        (8, 3, {}),
        (2, 7, {"temperature": 1.0}),  # more passes than rows in one
        (7, 1, {"alpha": 0.01}),
    ],
)
def test_equals_a_plain_loop(num_labeled, ratio, options):
    network, batch = normed_network(), batch_of(num_labeled, ratio)
    theirs = copy.deepcopy(network)
    losses = loss_of(network, batch, **options)
    generator, num = stream("algorithm"), (1 + 2 * ratio) * num_labeled
    partners = torch.randperm(num, generator=generator)
    coefficients = mixing_coefficients(num, options.get("alpha", 0.5), generator)
    supervised, unsupervised, guesses = loss_by_loop(
        theirs,
        batch,
        coefficients.tolist(),
        partners.tolist(),
        options.get("temperature", 0.5),
        options.get("unlabeled_weight", 100.0),
    )
    assert losses.supervised.item() == pytest.approx(supervised.item())
    assert losses.unsupervised.item() == pytest.approx(unsupervised.item())
    assert losses.pseudo_label.tolist() == guesses
    assert losses.used.tolist() == [1] * (ratio * num_labeled)
    (losses.supervised + losses.unsupervised).backward()
    (supervised + unsupervised).backward()
    for mine, other in zip(network.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_the_first_pass_of_mixtures_alone_moves_the_running_statistics():
    network, batch = normed_network(), batch_of(6, 2)
    passes = []
    network.register_forward_pre_hook(lambda module, inputs: passes.append(inputs[0].detach()))
    loss_of(network, batch)
    assert [len(images) for images in passes] == [12, 12] + [6] * 5
    assert torch.equal(passes[0], batch.u[0])
    assert torch.equal(passes[1], batch.u[1])
    expected = normed_network()
    expected(passes[2])
    torch.testing.assert_close(network[1].running_mean, expected[1].running_mean)
    torch.testing.assert_close(network[1].running_var, expected[1].running_var)
    assert network[1].num_batches_tracked == 1


def test_targets_carry_no_gradient():
    """Nothing mixed, the unlabeled images are known only by their guesses: no way back to them."""
    draws = torch.randperm(9, generator=stream("partners")), torch.ones(9, dtype=torch.float64)
    batch = batch_of(3, 1)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    network = Scaled(scale)
    loss_of(network, batch, draws=draws).unsupervised.backward()
    u = torch.cat(batch.u)[:, :K]
    mean = (batch.u[0][:, :K].softmax(1) + batch.u[1][:, :K].softmax(1)) / 2
    target = (mean**2 / (mean**2).sum(1, keepdim=True)).repeat(2, 1)
    free = torch.ones((), dtype=torch.float64, requires_grad=True)
    (100 * ((target - (free * u).softmax(1)) ** 2).mean()).backward()
    torch.testing.assert_close(scale.grad, free.grad)


class Scaled(nn.Module):
    """The first numbers of an image, times a weight, are the logits."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return self.scale * x[:, :K]


@pytest.mark.parametrize(
    ("rampup", "progress", "expected"),
    [(1 / 64, 0.0, 0.0), (1 / 64, 1 / 256, 0.25), (1 / 64, 0.5, 1.0), (1.0, 0.5, 0.5)],
)
def test_the_weight_rises_linearly(rampup, progress, expected):
    network, batch = normed_network(), batch_of(4, 1)
    full = loss_of(network, batch)
    part = loss_of(network, batch, progress, rampup=rampup)
    assert part.unsupervised.item() == pytest.approx(expected * full.unsupervised.item())
    assert part.supervised.item() == full.supervised.item()


def test_the_weight_scales_the_unlabeled_part_only():
    network, batch = normed_network(), batch_of(4, 1)
    one, three = (loss_of(network, batch, unlabeled_weight=w) for w in (1.0, 3.0))
    assert three.unsupervised.item() == pytest.approx(3 * one.unsupervised.item())
    assert three.supervised.item() == one.supervised.item()


def test_the_same_generator_gives_the_same_loss():
    results = []
    for seed, key in ((1, "a"), (2, "a"), (1, "b")):
        torch.manual_seed(seed)
        results.append(loss_of(normed_network(), batch_of(4, 1), seed=key).supervised.item())
    assert results[0] == results[1] != results[2]


def test_guesses_in_half_precision_do_not_cut_the_gradient_off():
    """Weights that are first cast where no gradient is recorded are cast again where one is."""
    network = normed_network().float()
    batch = batch_of(6, 1)
    batch = batch._replace(x=batch.x.float(), u=tuple(u.float() for u in batch.u))
    with torch.autocast("cpu", torch.bfloat16):
        losses = loss_of(network, batch)
    losses.unsupervised.backward()
    assert losses.unsupervised.dtype == torch.float32
    assert all(p.grad.abs().sum() > 0 for p in network.parameters() if p.ndim > 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"temperature": math.nan}, "temperature"),
        ({"alpha": 0.0}, "alpha must be positive"),
        ({"unlabeled_weight": -1.0}, "unlabeled_weight must not be negative"),
        ({"unlabeled_weight": math.nan}, "unlabeled_weight"),
        ({"rampup": 0.0}, r"rampup must lie in \(0, 1\]"),
        ({"rampup": 1.5}, r"rampup must lie in \(0, 1\]"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        build("mixmatch", options)


def test_values_at_the_ends_are_accepted():
    build("mixmatch", {"temperature": 1.0, "unlabeled_weight": 0.0, "rampup": 1.0})
