"""ReMixMatch's loss, worked out by hand and against a plain loop.

Dimensions: B labeled images, U unlabeled ones, S strong views, K classes. Images are 2 x 2.
"""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from boss.algorithms import Batch, Context, Sizes, build
from boss.algorithms.remixmatch import align, quarter_turns
from boss.errors import InputError
from boss.mixup import mixing_coefficients
from boss.models.base import initialize_linear
from boss.seeds import stream
from tests.test_forward import interleaved_by_loop

K = 4
SIZES = Sizes(num_classes=K, num_features=5, num_unlabeled=100)


class Network(nn.Module):
    """What it says of an image depends on the other images of the pass."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Linear(4, 5).double(), nn.BatchNorm1d(5).double()
        self.classify = nn.Linear(5, K).double()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(generator=stream("network"))

    def features(self, x):
        return self.norm(self.embed(x.flatten(1)))

    def forward(self, x):
        return self.classify(self.features(x))


class Pixels(nn.Module):
    """The four pixels of an image are its logits, and its features."""

    def features(self, x):
        return x.flatten(1)

    def forward(self, x):
        return self.features(x)


def images_of(*rows):
    return torch.tensor(rows, dtype=torch.float64).log().view(-1, 1, 2, 2)


def batch_of(num_labeled, ratio, num_views, seed=0):
    generator = stream("batch", seed)
    num = ratio * num_labeled
    shape = (num_labeled + num_views * num, 1, 2, 2)
    images = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    x, *u = torch.split(images, [num_labeled] + [num] * num_views)
    y = torch.randint(2, (num_labeled,), generator=generator)  # unequally frequent
    return Batch(x, y, tuple(u), torch.arange(num))


def made(sizes=SIZES, **options):
    algorithm = build("remixmatch", options)
    algorithm.allocate(sizes, stream("allocate"))
    return algorithm.double()


def loss_of(algorithm, batch, network, progress=1.0, generator=None, draws=None):
    draws = algorithm.draw(batch, generator or stream("algorithm")) if draws is None else draws
    return algorithm.loss(batch, Context(network, network, torch.tensor(progress), draws))


def softmax(row):
    return row.exp() / row.exp().sum()


def cross_entropy(target, logits):
    return -sum(t * p.log() for t, p in zip(target, softmax(logits), strict=True))


class Loop:
    """The algorithm as printed, one image after the other; the network in training mode."""

    def __init__(self, head, history, num_classes=K):
        self.head = head
        self.p_data = [1 / num_classes] * num_classes
        self.means = [[1 / num_classes] * num_classes for _ in range(history)]
        self.history = history

    def guesses(self, network, weak, y, temperature):
        with torch.no_grad():
            probs = [softmax(row) for row in network(weak)]
        found = []
        for row in probs:
            values = row.tolist()
            if self.history:
                p_model = [sum(column) / self.history for column in zip(*self.means, strict=True)]
                values = [
                    q * (1e-6 + data) / (1e-6 + model)
                    for q, data, model in zip(values, self.p_data, p_model, strict=True)
                ]
                values = [v / sum(values) for v in values]
            powers = [v ** (1 / temperature) for v in values]
            found.append(torch.tensor([v / sum(powers) for v in powers], dtype=torch.float64))
        shares = [y.tolist().count(c) / len(y) for c in range(K)]
        self.p_data = [0.999 * p + 0.001 * s for p, s in zip(self.p_data, shares, strict=True)]
        rows = [p.tolist() for p in probs]
        mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        if self.history:
            self.means = [*self.means[1:], mean]
        return found

    def loss(self, network, batch, turns, coefficients, partners, options):
        size, (weak, strong, *_) = len(batch.x), batch.u
        guesses = self.guesses(network, weak, batch.y, options["temperature"])
        targets = [torch.eye(K, dtype=torch.float64)[label] for label in batch.y]
        targets += guesses * len(batch.u)
        images = [image for view in (batch.x, *batch.u) for image in view]
        mixed = []
        for i, (share, j) in enumerate(zip(coefficients, partners, strict=True)):
            image = share * images[i] + (1 - share) * images[j]
            mixed.append((image, share * targets[i] + (1 - share) * targets[j]))
        parts = [mixed[start : start + size] for start in range(0, len(mixed), size)]
        labeled, unlabeled = [], []
        for rows in interleaved_by_loop(parts):
            out = network(torch.stack([parts[i][r][0] for i, r in rows]))
            for (i, r), logits in zip(rows, out, strict=True):
                (unlabeled if i else labeled).append(cross_entropy(parts[i][r][1], logits))
        plain = [cross_entropy(q, row) for q, row in zip(guesses, network(strong), strict=True)]
        turned = [
            torch.tensor(np.rot90(image.numpy(), k, axes=(1, 2)).copy())
            for image, k in zip(strong, turns, strict=True)
        ]
        outs = self.head(network.features(torch.stack(turned)))
        one_hot = torch.eye(4, dtype=torch.float64)
        rotations = [cross_entropy(one_hot[k], out) for k, out in zip(turns, outs, strict=True)]
        return (
            sum(labeled) / len(labeled),
            options["mixed_weight"] * sum(unlabeled) / len(unlabeled)
            + options["strong_weight"] * sum(plain) / len(plain)
            + options["rotation_weight"] * sum(rotations) / len(rotations),
            [q.argmax().item() for q in guesses],
        )


DEFAULTS = {
    "temperature": 0.5,
    "alpha": 0.75,
    "num_strong": 1,
    "mixed_weight": 1.5,
    "strong_weight": 0.5,
    "rotation_weight": 0.5,
    "history": 128,
}


@pytest.mark.parametrize(
    ("num_labeled", "ratio", "options"),
    [
        (5, 1, {}),
        (4, 2, {"history": 2}),
        (3, 1, {"num_strong": 3, "history": 3, "temperature": 0.8}),
        (2, 7, {"history": 1, "alpha": 2.0}),  # more passes than rows in one
        (4, 1, {"history": 0, "mixed_weight": 3.0, "strong_weight": 2.0, "rotation_weight": 1.0}),
    ],
)
def test_equals_a_plain_loop_over_several_batches(num_labeled, ratio, options):
    """Seven batches: more than most of these histories hold."""
    algorithm, network = made(**options), Network()
    theirs, head = copy.deepcopy(network), copy.deepcopy(algorithm.rotation)
    options = DEFAULTS | options
    loop = Loop(head, options["history"])
    generator, same = stream("algorithm"), stream("algorithm")
    num_views = 1 + options["num_strong"]
    for step in range(7):
        batch = batch_of(num_labeled, ratio, num_views, step)
        losses = loss_of(algorithm, batch, network, generator=generator)
        num = (1 + num_views * ratio) * num_labeled
        turns = torch.randint(4, (ratio * num_labeled,), generator=same).tolist()
        partners = torch.randperm(num, generator=same).tolist()
        coefficients = mixing_coefficients(num, options["alpha"], same).tolist()
        supervised, unsupervised, guesses = loop.loss(
            theirs, batch, turns, coefficients, partners, options
        )
        assert losses.supervised.item() == pytest.approx(supervised.item())
        assert losses.unsupervised.item() == pytest.approx(unsupervised.item())
        assert losses.pseudo_label.tolist() == guesses
        assert losses.used.tolist() == [1] * (ratio * num_labeled)
        (losses.supervised + losses.unsupervised).backward()
        (supervised + unsupervised).backward()
    if options["history"]:
        assert algorithm.p_data.tolist() == pytest.approx(loop.p_data)
        np.testing.assert_allclose(algorithm.predictions.numpy(), loop.means)
    mine = [*network.parameters(), *algorithm.parameters()]
    for a, b in zip(mine, [*theirs.parameters(), *head.parameters()], strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_by_hand():
    """One image each of x, weak and strong, 4 classes, nothing mixed, turned once."""
    draws = torch.tensor([1]), torch.tensor([1, 2, 0]), torch.ones(3, dtype=torch.float64)
    algorithm = made(Sizes(K, 4, 100))
    with torch.no_grad():
        algorithm.rotation.weight.copy_(torch.eye(4))  # the pixels are its logits, too
        algorithm.p_data.copy_(torch.tensor([0.5, 0.25, 0.125, 0.125]))
        algorithm.predictions.copy_(torch.tensor([0.25, 0.5, 0.125, 0.125]).repeat(128, 1))
    x, weak = images_of([0.25, 0.25, 0.25, 0.25]), images_of([0.2, 0.4, 0.2, 0.2])
    strong = images_of([0.1, 0.2, 0.3, 0.4])
    batch = Batch(x, torch.tensor([2]), (weak, strong), torch.tensor([0]))
    losses = loss_of(algorithm, batch, Pixels(), progress=1 / 128, draws=draws)  # half of the ramp
    # Aligned: .2 * 2, .4 / 2, .2, .2; sharpened: their squares, of .28.
    q = [0.16 / 0.28, 0.04 / 0.28, 0.04 / 0.28, 0.04 / 0.28]

    def entropy(probs):
        return -sum(a * math.log(b) for a, b in zip(q, probs, strict=True))

    of_weak, of_strong = entropy([0.2, 0.4, 0.2, 0.2]), entropy([0.1, 0.2, 0.3, 0.4])
    assert losses.supervised.item() == pytest.approx(math.log(4))
    # [[.1, .2], [.3, .4]] turned counterclockwise is [[.2, .4], [.1, .3]]; class 1 is "once".
    expected = 1.5 * 0.5 * (of_weak + of_strong) / 2 + 0.5 * 0.5 * of_strong
    assert losses.unsupervised.item() == pytest.approx(expected + 0.5 * -math.log(0.4), rel=1e-5)
    assert losses.pseudo_label.tolist() == [0]
    # Counted after it was used.
    assert algorithm.p_data.tolist() == pytest.approx([0.4995, 0.24975, 0.125875, 0.124875])
    assert algorithm.predictions[-1].tolist() == pytest.approx([0.2, 0.4, 0.2, 0.2])
    assert algorithm.predictions[-2].tolist() == pytest.approx([0.25, 0.5, 0.125, 0.125])


def test_alignment_by_hand():
    probs = torch.tensor([[0.6, 0.4], [0.1, 0.9]], dtype=torch.float64)
    p_data, p_model = torch.tensor([[0.5, 0.5], [0.75, 0.25]], dtype=torch.float64)
    found = align(probs, p_data, p_model)
    # .6 * 2/3 = .4 and .4 * 2 = .8, of 1.2; .1 * 2/3 and .9 * 2, of 28/15
    assert found[0].tolist() == pytest.approx([1 / 3, 2 / 3], rel=1e-5)
    assert found[1].tolist() == pytest.approx([1 / 28, 27 / 28], rel=1e-5)
    # A class that is never predicted: 1 + 10^-6 over 10^-6.
    never, always = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    found = align(torch.tensor([[0.5, 0.5]], dtype=torch.float64), always, never)
    ratio = (1 + 1e-6) / 1e-6
    assert found[0].tolist() == pytest.approx([ratio / (ratio + 1 / ratio), 1 / ratio**2], rel=1e-6)


def test_the_first_guess_is_the_sharpened_prediction():
    """All averages are uniform at first, and a batch does not correct itself."""
    algorithm, network = made(), Network()
    batch = batch_of(4, 2, 2)
    theirs = copy.deepcopy(network)
    labels = loss_of(algorithm, batch, network).pseudo_label
    expected = theirs(batch.u[0]).softmax(1)
    assert torch.equal(labels, expected.argmax(1))
    found = algorithm.predictions.mean(0)
    torch.testing.assert_close(found, (expected.mean(0) + 127 / 4) / 128)


def test_the_last_pass_alone_moves_the_running_statistics():
    algorithm, network = made(num_strong=2), Network()
    batch = batch_of(5, 2, 3)
    seen = []
    network.embed.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    loss_of(algorithm, batch, network)
    assert [len(images) for images in seen] == [10, 10, 10] + [5] * 7
    assert torch.equal(seen[0], batch.u[0].flatten(1))
    assert torch.equal(seen[1], batch.u[1].flatten(1))  # the first strong view, not the second
    assert torch.equal(seen[2].sort(1).values, batch.u[1].flatten(1).sort(1).values)  # turned
    assert not torch.equal(seen[2], batch.u[1].flatten(1))
    expected = Network()
    expected(seen[-1].view(-1, 1, 2, 2))
    torch.testing.assert_close(network.norm.running_mean, expected.norm.running_mean)
    torch.testing.assert_close(network.norm.running_var, expected.norm.running_var)
    assert network.norm.num_batches_tracked == 1


def test_quarter_turns_equal_numpys():
    images = torch.randn(40, 3, 5, 5, generator=stream("images"))
    turns = torch.arange(40) % 4
    found = quarter_turns(images, turns)
    for image, k, mine in zip(images, turns.tolist(), found, strict=True):
        assert np.array_equal(mine.numpy(), np.rot90(image.numpy(), k, axes=(1, 2)))


def test_images_are_turned_at_random_and_each_by_itself():
    algorithm, network = made(), Network()
    counts = torch.zeros(4)
    generator = stream("turns")
    seen = []
    network.embed.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    for step in range(20):
        batch = batch_of(4, 5, 2, step)
        loss_of(algorithm, batch, network, generator=generator)
        turned = [quarter_turns(batch.u[1], torch.full((20,), k)).flatten(1) for k in range(4)]
        counts += torch.stack([(t == seen[2]).all(1) for t in turned]).sum(1)
        seen.clear()
    assert counts.sum() == 400
    assert counts.min() > 70


def test_targets_carry_no_gradient():
    """Nothing mixed, the weak view is known only by its guesses."""
    algorithm, batch = made(Sizes(K, 4, 100), mixed_weight=0.0), batch_of(3, 1, 2)
    turns, partner, coefficient = algorithm.draw(batch, stream("algorithm"))
    draws = turns, partner, torch.ones_like(coefficient)
    weak, strong = (view.clone().requires_grad_() for view in batch.u)
    losses = loss_of(algorithm, batch._replace(u=(weak, strong)), Pixels(), draws=draws)
    losses.unsupervised.backward()
    assert not weak.grad.any()
    assert strong.grad.flatten(1).any(1).all()


def test_the_ramp_leaves_the_rotation_alone():
    network, batch = Network(), batch_of(4, 2, 2)

    def unsupervised(progress, **options):
        return loss_of(made(**options), batch, network, progress).unsupervised.item()

    rotation = unsupervised(1.0, mixed_weight=0.0, strong_weight=0.0)
    assert rotation > 0
    assert unsupervised(0.0) == rotation
    full, half = unsupervised(1.0), unsupervised(1 / 128)
    assert half - rotation == pytest.approx((full - rotation) / 2)
    assert unsupervised(0.5, rampup=1.0) == pytest.approx(half)
    doubled = unsupervised(1.0, mixed_weight=0.0, strong_weight=0.0, rotation_weight=1.0)
    assert doubled == pytest.approx(2 * rotation)


def test_the_head_starts_as_the_classifier_does():
    algorithm = build("remixmatch", {})
    torch.manual_seed(1)
    algorithm.allocate(Sizes(10, 128, 100), stream("head"))
    expected = nn.Linear(128, 4)
    initialize_linear(expected, stream("head"))
    assert torch.equal(algorithm.rotation.weight, expected.weight)
    assert not algorithm.rotation.bias.any()
    glorot = math.sqrt(2 / (128 + 4))
    assert algorithm.rotation.weight.std().item() == pytest.approx(glorot, rel=0.1)


def test_state_is_saved_and_continued_in_place():
    algorithm, network = made(history=3), Network()
    buffers = {name: buffer.data_ptr() for name, buffer in algorithm.named_buffers()}
    assert buffers.keys() == {"p_data", "predictions"}
    for step in range(2):
        loss_of(algorithm, batch_of(4, 1, 2, step), network)
    assert {name: b.data_ptr() for name, b in algorithm.named_buffers()} == buffers
    assert not any(b.requires_grad for b in algorithm.buffers())
    other = made(history=3)
    with torch.no_grad():
        other.rotation.weight.zero_()
    fresh = copy.deepcopy(other)
    other.load_state_dict(algorithm.state_dict())
    batch = batch_of(4, 1, 2, 9)
    results = [total(a, batch, network) for a in (algorithm, other, fresh)]
    assert results[0] == results[1] != results[2]


def total(algorithm, batch, network):
    losses = loss_of(algorithm, batch, network)
    return (losses.supervised + losses.unsupervised).item()


def test_the_same_generator_gives_the_same_loss():
    results = []
    for seed, key in ((1, "a"), (2, "a"), (1, "b")):
        torch.manual_seed(seed)
        losses = loss_of(made(), batch_of(4, 1, 2), Network(), generator=stream(key))
        results.append(losses.supervised.item())
    assert results[0] == results[1] != results[2]


def test_guesses_in_half_precision_do_not_cut_the_gradient_off():
    """Weights that are first cast where no gradient is recorded are cast again where one is."""
    algorithm, network = made().float(), Network().float()
    batch = batch_of(6, 1, 2)
    batch = batch._replace(x=batch.x.float(), u=tuple(u.float() for u in batch.u))
    with torch.autocast("cpu", torch.bfloat16):
        losses = loss_of(algorithm, batch, network)
    losses.unsupervised.backward()
    assert losses.unsupervised.dtype == torch.float32
    trained = [*network.parameters(), *algorithm.parameters()]
    assert all(p.grad.abs().sum() > 0 for p in trained if p.ndim > 1)
    assert algorithm.p_data.dtype == algorithm.predictions.dtype == torch.float32


def test_views():
    assert build("remixmatch", {}).views == ("weak", "strong")
    assert build("remixmatch", {"num_strong": 3}).views == ("weak", "strong", "strong", "strong")
    assert build("remixmatch", {}).labeled_view == "strong"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"alpha": -1.0}, "alpha must be positive"),
        ({"num_strong": 0}, "num_strong must be at least 1"),
        ({"mixed_weight": -1.0}, "mixed_weight must not be negative"),
        ({"strong_weight": -1.0}, "strong_weight must not be negative"),
        ({"rotation_weight": -1.0}, "rotation_weight must not be negative"),
        ({"rampup": 0.0}, r"rampup must lie in \(0, 1\]"),
        ({"rampup": 1.5}, r"rampup must lie in \(0, 1\]"),
        ({"history": -1}, "history must lie in"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        build("remixmatch", options)


def test_values_at_the_ends_are_accepted():
    weights = dict.fromkeys(("mixed_weight", "strong_weight", "rotation_weight"), 0.0)
    build("remixmatch", {"rampup": 1.0, "history": 1, **weights})
