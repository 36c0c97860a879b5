"""FreeMatch's thresholds, averages and fairness, worked out by hand and against a plain loop.

Dimensions: B labeled images, U unlabeled ones, K classes.
"""

import copy
import math

import pytest
import torch
from torch import nn

from boss.algorithms import Batch, Context, Sizes, build
from boss.algorithms.freematch import fairness
from boss.errors import InputError
from boss.seeds import stream

AVERAGES = {"mean_confidence", "mean_probs", "mean_share"}


def logits_of(*probs):
    return torch.tensor(probs, dtype=torch.float64).log()


def made(num_classes=2, **options):
    algorithm = build("freematch", options)
    algorithm.allocate(Sizes(num_classes, 8, 100), stream("allocate"))
    return algorithm.double()


def step(algorithm, weak, strong=None, x=None, y=(0,)):
    """The loss of a network that returns its input: images are the logits."""
    uniform = torch.zeros_like(weak)
    x, strong = uniform[:1] if x is None else x, uniform if strong is None else strong
    batch = Batch(x, torch.tensor(y), (weak, strong), torch.arange(len(weak)))
    return algorithm.loss(batch, Context(nn.Identity(), nn.Identity(), torch.tensor(0.0), ()))


def test_by_hand():
    algorithm = made(decay=0.5, fairness_weight=0.1)
    losses = step(
        algorithm,
        weak=logits_of([0.9, 0.1], [0.6, 0.4], [0.45, 0.55], [0.7, 0.3]),
        strong=logits_of([0.8, 0.2], [0.5, 0.5], [0.4, 0.6], [0.6, 0.4]),
        x=logits_of([0.5, 0.5], [0.2, 0.8]),
        y=[0, 1],
    )
    # Batch means: confidence .6875, probabilities .6625 and .3375, predictions 3/4 and 1/4.
    assert algorithm.mean_confidence.item() == pytest.approx(0.59375)
    assert algorithm.mean_probs.tolist() == pytest.approx([0.58125, 0.41875])
    assert algorithm.mean_share.tolist() == pytest.approx([0.625, 0.375])
    # Thresholds .59375 and .59375 * .41875 / .58125 = .42775: after the batch is counted.
    assert losses.pseudo_label.tolist() == [0, 0, 1, 0]
    assert losses.used.tolist() == [1, 1, 1, 1]
    entropy = -(math.log(0.8) + math.log(0.5) + math.log(0.6) + math.log(0.6)) / 4
    # norm of .58125 / .625 = .93 and .41875 / .375 = 1.11667; pbar = .575 and .425, and the
    # strong views' own predictions are 0, 0 (the first of a tie), 1, 0.
    target = [0.93 / (0.93 + 1.1166667), 1.1166667 / (0.93 + 1.1166667)]
    found = [0.575 / 0.75, 0.425 / 0.25]
    found = [f / sum(found) for f in found]
    unfair = sum(t * math.log(f) for t, f in zip(target, found, strict=True))
    assert losses.unsupervised.item() == pytest.approx(entropy + 0.1 * unfair)
    assert losses.supervised.item() == pytest.approx((math.log(2) + math.log(1 / 0.8)) / 2)


def test_averages_start_at_one_over_k():
    algorithm = made(4)
    assert algorithm.mean_confidence.item() == 0.25
    assert algorithm.mean_probs.tolist() == algorithm.mean_share.tolist() == [0.25] * 4


def test_a_threshold_rises_and_falls_with_its_class():
    """Class 0 is predicted twice as often as class 1: its threshold is twice as high."""
    algorithm = made(3, decay=0.999)
    algorithm.mean_confidence.fill_(0.8)
    algorithm.mean_probs.copy_(torch.tensor([0.6, 0.3, 0.1]))
    eps = 0.003  # the averages move by a thousandth
    weak = [[0.8 - eps, 0.1, 0.1 + eps], [0.8 + eps, 0.1, 0.1 - eps]]
    weak += [[0.3, 0.4 + eps, 0.3 - eps], [0.31 + eps, 0.4 - eps, 0.29]]
    assert step(algorithm, logits_of(*weak)).used.tolist() == [0, 1, 1, 0]


def test_a_confidence_on_the_threshold_is_used():
    algorithm = made(decay=0.0)
    # Both alike: t is their confidence itself, and class 0 the likelier.
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    assert step(algorithm, logits).used.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("limits", "used"),
    [
        ({}, [0, 1, 1, 1]),  # thresholds .7 and .35
        ({"threshold_min": 0.68}, [0, 1, 0, 1]),  # .7 and .68
        ({"threshold_max": 0.65}, [1, 1, 1, 1]),  # .65 and .35
        ({"threshold_min": 0.66, "threshold_max": 0.66}, [1, 1, 0, 1]),
        ({"threshold_min": 1.0}, [0, 0, 0, 0]),
    ],
)
def test_thresholds_are_clipped(limits, used):
    algorithm = made(decay=0.9999999, **limits)
    algorithm.mean_confidence.fill_(0.7)
    algorithm.mean_probs.copy_(torch.tensor([2 / 3, 1 / 3]))
    weak = logits_of([0.67, 0.33], [0.71, 0.29], [0.35, 0.65], [0.31, 0.69])
    assert step(algorithm, weak).used.tolist() == used


def fairness_by_loop(logits, used, p, h):
    """As printed: K by K, the used strong views one after the other."""
    num_classes, pbar, hbar, num = len(p), [0.0] * len(p), [0.0] * len(p), 0
    for row, use in zip(logits, used, strict=True):
        if use:
            probs = row.exp() / row.exp().sum()
            pbar = [a + b for a, b in zip(pbar, probs, strict=True)]
            hbar[probs.argmax().item()] += 1
            num += 1
    if num == 0:
        return torch.zeros((), dtype=logits.dtype)
    pbar, hbar = [a / num for a in pbar], [a / num for a in hbar]

    def norm(a, b):
        quotients = [x / y if y > 0 else 0.0 for x, y in zip(a, b, strict=True)]
        return [q / sum(quotients) for q in quotients]

    target, found = norm(p, h), norm(pbar, hbar)
    terms = [target[c] * torch.as_tensor(found[c] + 1e-12).log() for c in range(num_classes)]
    return sum(terms)


@pytest.mark.parametrize("seed", range(6))
def test_fairness_equals_a_plain_loop(seed):
    generator = stream("fairness", seed)
    logits = 2 * torch.randn(9, 5, generator=generator, dtype=torch.float64)
    used = (torch.rand(9, generator=generator) < 0.6).double()
    p, h = torch.rand(2, 5, generator=generator, dtype=torch.float64)
    if seed % 2:
        h[3] = 0.0  # a class never predicted
    mine, theirs = (logits.clone().requires_grad_() for _ in range(2))
    found = fairness(mine, used, p, h)
    expected = fairness_by_loop(theirs, used.tolist(), p.tolist(), h.tolist())
    assert found.item() == pytest.approx(expected.item())
    found.backward()
    expected.backward()
    torch.testing.assert_close(mine.grad, theirs.grad)
    assert mine.grad.any(1).tolist() == (used > 0).tolist()


def test_a_class_without_predictions_by_hand():
    """Both views are predicted 0: norm(pbar / hbar) = 1, 0; log(10^-12) weighs h's other class."""
    logits = logits_of([0.7, 0.3], [0.8, 0.2])
    p, h = torch.tensor([[0.5, 0.5], [0.2, 0.8]], dtype=torch.float64)
    found = fairness(logits, torch.ones(2, dtype=torch.float64), p, h)
    assert found.item() == pytest.approx(0.2 * math.log(1e-12), rel=1e-6)


def test_the_sign_is_that_of_minus_the_cross_entropy():
    logits = logits_of([0.8, 0.2], [0.4, 0.6])  # pbar .6, .4; hbar .5, .5
    p, h = torch.tensor([[0.5, 0.5], [0.2, 0.8]], dtype=torch.float64)  # .8, .2
    found = fairness(logits, torch.ones(2, dtype=torch.float64), p, h).item()
    assert found == pytest.approx(0.8 * math.log(0.6) + 0.2 * math.log(0.4))
    nearer = logits_of([0.95, 0.05], [0.49, 0.51])  # pbar .72, .28: closer to .8, .2
    assert fairness(nearer, torch.ones(2, dtype=torch.float64), p, h).item() > found


def test_infinite_quotients_count_as_nothing():
    """1e-40 is a number of single precision, but one over it is not."""
    logits = logits_of([0.8, 0.2], [0.4, 0.6]).float()
    p = torch.tensor([0.5, 0.5])
    for h in (torch.tensor([0.5, 1e-40]), torch.tensor([0.5, 0.0])):
        assert fairness(logits, torch.ones(2), p, h).item() == pytest.approx(math.log(0.6))


def test_nothing_used_costs_nothing():
    algorithm = made(threshold_min=1.0, fairness_weight=5.0)
    strong = logits_of([0.1, 0.9], [0.5, 0.5]).requires_grad_()
    losses = step(algorithm, logits_of([0.6, 0.4], [0.6, 0.4]), strong)
    losses.unsupervised.backward()
    assert losses.unsupervised.item() == 0
    assert not strong.grad.any()  # not a number would count as one
    assert losses.used.tolist() == [0, 0]


@pytest.mark.parametrize("decay", [0.0, 0.7, 0.999])
def test_equals_a_plain_loop_over_several_batches(decay):
    num_classes, weight, fairness_weight = 4, 0.8, 0.3
    algorithm = made(
        num_classes, decay=decay, unlabeled_weight=weight, fairness_weight=fairness_weight
    )
    t, p, h = 1 / num_classes, [1 / num_classes] * num_classes, [1 / num_classes] * num_classes
    counts = set()
    for number in range(12):
        generator = stream("batch", number)
        weak, strong = 2 * torch.randn(2, 10, 4, generator=generator, dtype=torch.float64)
        weak += torch.tensor([1.0, 0.5, 0.0, -1.0])
        losses = step(algorithm, weak, strong)
        rows = weak.softmax(1).tolist()
        labels = [row.index(max(row)) for row in rows]
        t = decay * t + (1 - decay) * sum(map(max, rows)) / 10
        p = [decay * p[c] + (1 - decay) * sum(row[c] for row in rows) / 10 for c in range(4)]
        h = [decay * h[c] + (1 - decay) * labels.count(c) / 10 for c in range(4)]
        used = [
            float(max(row) >= t * p[label] / max(p))
            for row, label in zip(rows, labels, strict=True)
        ]
        entropies = [-row.log_softmax(0)[c].item() for row, c in zip(strong, labels, strict=True)]
        masked = sum(u * e for u, e in zip(used, entropies, strict=True)) / 10
        unfair = fairness_by_loop(strong, used, p, h).item()
        assert losses.used.tolist() == used
        assert losses.pseudo_label.tolist() == labels
        expected = weight * masked + fairness_weight * unfair
        assert losses.unsupervised.item() == pytest.approx(expected)
        assert algorithm.mean_confidence.item() == pytest.approx(t)
        assert algorithm.mean_probs.tolist() == pytest.approx(p)
        assert algorithm.mean_share.tolist() == pytest.approx(h)
        counts.add(sum(used))
    assert len(counts) > (0 if decay > 0.9 else 2)  # at first every image is used


def test_weights_scale_their_parts_only():
    weak, strong = logits_of([0.9, 0.1], [0.2, 0.8]), logits_of([0.5, 0.5], [0.3, 0.7])

    def unsupervised(unlabeled_weight, fairness_weight):
        algorithm = made(unlabeled_weight=unlabeled_weight, fairness_weight=fairness_weight)
        return step(algorithm, weak, strong).unsupervised.item()

    assert unsupervised(0.0, 0.0) == 0
    one, two = unsupervised(1.0, 0.0), unsupervised(0.0, 1.0)
    assert one > 0 > two
    assert unsupervised(3.0, 2.0) == pytest.approx(3 * one + 2 * two)


def test_weak_views_and_averages_carry_no_gradient():
    algorithm = made(decay=0.5)
    weak = logits_of([0.9, 0.1], [0.2, 0.8]).requires_grad_()
    strong = logits_of([0.5, 0.5], [0.3, 0.7]).requires_grad_()
    step(algorithm, weak, strong).unsupervised.backward()
    assert not weak.grad.any()
    assert strong.grad.any(1).all()
    assert not any(buffer.requires_grad for buffer in algorithm.buffers())


def test_state_is_saved_and_continued_in_place():
    algorithm = made(decay=0.5)
    addresses = {name: buffer.data_ptr() for name, buffer in algorithm.named_buffers()}
    assert addresses.keys() == AVERAGES
    step(algorithm, logits_of([0.9, 0.1], [0.2, 0.8], [0.7, 0.3]))
    assert {name: b.data_ptr() for name, b in algorithm.named_buffers()} == addresses
    other, fresh = made(decay=0.5), made(decay=0.5)
    other.load_state_dict(copy.deepcopy(algorithm.state_dict()))
    weak = logits_of([0.6, 0.4], [0.55, 0.45])
    results = [step(a, weak).used.tolist() for a in (algorithm, other, fresh)]
    assert results[0] == results[1] != results[2]
    for mine, theirs in zip(algorithm.buffers(), other.buffers(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_counted_in_single(dtype):
    """Counts past 256 and 2048 are not whole numbers of bfloat16 and float16."""
    weak, strong = (4 * torch.randn(2, 3000, 2, generator=stream("half"))).to(dtype)
    results = []
    for cast in (dtype, torch.float32):
        algorithm = made().float()
        losses = step(algorithm, weak.to(cast), strong.to(cast))
        assert losses.unsupervised.dtype == torch.float32
        results.append([losses.unsupervised, losses.used, *algorithm.buffers()])
    for mine, theirs in zip(*results, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unlabeled_weight": -1.0}, "unlabeled_weight must not be negative"),
        ({"fairness_weight": -1.0}, "fairness_weight must not be negative"),
        ({"decay": 1.0}, r"decay must lie in \[0, 1\)"),
        ({"decay": -0.1}, r"decay must lie in \[0, 1\)"),
        ({"threshold_min": -0.1}, "threshold_min and threshold_max must be in order"),
        ({"threshold_max": 1.1}, "threshold_min and threshold_max must be in order"),
        ({"threshold_min": 0.9, "threshold_max": 0.8}, "not 0.9 and 0.8"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        build("freematch", options)


def test_values_at_the_ends_are_accepted():
    weights = {"unlabeled_weight": 0.0, "fairness_weight": 0.0, "decay": 0.0}
    build("freematch", {**weights, "threshold_min": 1.0})
    build("freematch", {"threshold_max": 0.0})
