"""FlexMatch's loss and memory, worked out by hand and against a Python dictionary.

Dimensions: B labeled images, U unlabeled ones of M in all, K classes.
"""

import math
import random

import pytest
import torch
from torch import nn

from boss.algorithms import Batch, Context, Sizes, build
from boss.algorithms.flexmatch import MAPPINGS, learned, remember
from boss.errors import InputError
from boss.seeds import stream
from tests.algorithms.test_contract import NoSynchronization

M = 40


def logits_of(*probs):
    return torch.tensor(probs, dtype=torch.float64).log()


def made(num_classes=2, num_unlabeled=M, **options):
    algorithm = build("flexmatch", options)
    algorithm.allocate(Sizes(num_classes, 8, num_unlabeled), stream("allocate"))
    return algorithm


def context_of():
    """Of a network that returns its input: images are the logits."""
    return Context(nn.Identity(), nn.Identity(), torch.tensor(0.0), ())


def step(algorithm, weak, strong=None, index=None, x=None, y=(0,)):
    """The loss of a batch, in which every other thing is uniform."""
    uniform = torch.zeros_like(weak)
    index = torch.arange(len(weak)) if index is None else torch.tensor(index)
    batch = Batch(
        uniform[:1] if x is None else x,
        torch.tensor(y),
        (weak, uniform if strong is None else strong),
        index,
    )
    return algorithm.loss(batch, context_of())


def test_by_hand():
    """Ten images: three have class 0, one has class 1, six none. beta = 3/6 and 1/6."""
    algorithm = made(num_unlabeled=10)
    algorithm.last_label[:4] = torch.tensor([0, 0, 0, 1])
    # Thresholds: .95 * (1/2) / (3/2) = .3167 and .95 * (1/6) / (11/6) = .0864: all are used.
    weak = logits_of([0.51, 0.49], [0.97, 0.03], [0.4, 0.6], [0.02, 0.98])
    strong = logits_of([0.25, 0.75], [0.1, 0.9], [0.5, 0.5], [0.3, 0.7])
    x = logits_of([0.5, 0.5], [0.2, 0.8])
    losses = step(algorithm, weak, strong, [0, 4, 5, 3], x, [0, 1])
    assert losses.supervised.item() == pytest.approx((math.log(2) + math.log(1 / 0.8)) / 2)
    entropies = [math.log(4), math.log(10), math.log(2), math.log(1 / 0.7)]
    assert losses.unsupervised.item() == pytest.approx(sum(entropies) / 4)
    assert losses.pseudo_label.tolist() == [0, 0, 1, 1]
    assert losses.used.tolist() == [1, 1, 1, 1]
    # Images 4 and 3 were confident by the full threshold, the others by the lowered alone.
    assert algorithm.last_label.tolist() == [0, 0, 0, 1, 0, 2, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("mapping", "threshold"),
    [("convex", 0.95 / 3), ("linear", 0.95 / 2), ("concave", 0.95 * math.log2(1.5))],
)
def test_thresholds_by_hand(mapping, threshold):
    """Four images of class 0, two of class 1, none left: beta = 1 and 1/2."""
    for share, expected in ((threshold - 1e-6, 0.0), (threshold + 1e-6, 1.0)):
        algorithm = made(5, num_unlabeled=6, mapping=mapping)
        algorithm.last_label.copy_(torch.tensor([0, 0, 0, 0, 1, 1]))
        rest = [(1 - share) / 4] * 3
        weak = [[0.94, *[0.015] * 4], [rest[0], share, *rest], [0.96, *[0.01] * 4]]
        losses = step(algorithm, logits_of(*weak))
        assert losses.pseudo_label.tolist() == [0, 1, 0]
        assert losses.used.tolist() == [0, expected, 1]


def test_mappings_by_hand():
    beta = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert MAPPINGS["convex"](beta).tolist() == pytest.approx([0, 1 / 3, 1])
    assert MAPPINGS["linear"](beta).tolist() == [0, 0.5, 1]
    assert MAPPINGS["concave"](beta).tolist() == pytest.approx([0, math.log2(1.5), 1])


@pytest.mark.parametrize(
    ("table", "warm", "cold"),
    [
        ([2, 2, 2, 2], [0, 0], [0, 0]),  # nothing known
        ([0, 0, 1, 2], [1, 0.5], [1, 0.5]),  # a class has more images than have none
        ([0, 2, 2, 2], [1 / 3, 0], [1, 0]),
        ([0, 0, 1, 1], [1, 1], [1, 1]),  # all known
        ([1, 1, 1, 1], [0, 1], [0, 1]),
        ([0, 1, 1, 2, 2, 2, 2, 2], [0.2, 0.4], [0.5, 1]),
    ],
)
def test_how_well_a_class_is_learned_by_hand(table, warm, cold):
    table = torch.tensor(table)
    assert learned(table, 2, warmup=True).tolist() == pytest.approx(warm)
    assert learned(table, 2, warmup=False).tolist() == pytest.approx(cold)


def test_at_first_every_image_is_used():
    weak = logits_of([0.5, 0.5], [0.6, 0.4], [0.01, 0.99])
    for warmup in (True, False):
        assert step(made(warmup=warmup), weak).used.tolist() == [1, 1, 1]


def test_a_batch_is_masked_by_what_was_before_it():
    algorithm = made(num_unlabeled=2, warmup=False)
    weak = logits_of([0.99, 0.01], [0.9, 0.1])
    assert step(algorithm, weak).used.tolist() == [1, 1]
    assert algorithm.last_label.tolist() == [0, 2]
    assert step(algorithm, weak).used.tolist() == [1, 0]  # now class 0 is learned best


def test_the_last_confident_guess_of_a_repeated_image_is_remembered():
    algorithm = made(3)
    sure, unsure = 0.98, 0.9
    rows = [(0, sure), (1, sure), (0, sure), (2, unsure), (1, sure), (2, sure), (0, unsure)]
    index = [5, 5, 7, 5, 8, 8, 8]
    weak = torch.full((7, 3), 0.0, dtype=torch.float64)
    for i, (label, share) in enumerate(rows):
        weak[i] = (1 - share) / 2
        weak[i, label] = share
    step(algorithm, weak.log(), index=index)
    assert algorithm.last_label[[5, 7, 8]].tolist() == [1, 0, 2]
    assert (algorithm.last_label == 3).sum() == M - 3


def test_an_unsure_guess_erases_nothing():
    algorithm = made()
    step(algorithm, logits_of([0.98, 0.02]), index=[3])
    step(algorithm, logits_of([0.3, 0.7]), index=[3])
    assert algorithm.last_label[3] == 0
    step(algorithm, logits_of([0.02, 0.98]), index=[3])
    assert algorithm.last_label[3] == 1


@pytest.mark.parametrize(("threshold", "passes"), [(0.5, 1), (0.5000001, 0)])
def test_a_confidence_on_the_threshold_is_used_and_remembered(threshold, passes):
    algorithm = made(num_unlabeled=3, threshold=threshold)
    algorithm.last_label.copy_(torch.tensor([2, 0, 1]))  # all as many: the thresholds are tau
    losses = step(algorithm, torch.zeros(1, 2), index=[0])  # exactly 0.5
    assert losses.used.tolist() == [passes]
    assert algorithm.last_label.tolist() == [0 if passes else 2, 0, 1]


@pytest.mark.parametrize("warmup", [True, False])
@pytest.mark.parametrize("mapping", list(MAPPINGS))
def test_equals_a_dictionary_over_several_batches(warmup, mapping):
    """Twelve of forty images at a time with repeats, so that the classes fill up unequally."""
    num_classes, threshold = 4, 0.9
    algorithm = made(num_classes, warmup=warmup, mapping=mapping, threshold=threshold)
    shape = {
        "convex": lambda b: b / (2 - b),
        "linear": lambda b: b,
        "concave": lambda b: math.log(1 + b) / math.log(2),
    }[mapping]
    table, draws = {}, random.Random(0)
    used_shares, repeats = set(), 0
    for t in range(30):
        index = [draws.randrange(M) for _ in range(12)]
        repeats += len(index) - len(set(index))
        logits = 3 * torch.randn(12, num_classes, generator=stream(t), dtype=torch.float64)
        logits += torch.tensor([2.0, 1.0, 0.0, -1.0])
        losses = step(algorithm, logits, index=index)
        counts = [list(table.values()).count(c) for c in range(num_classes)]
        most = max([*counts, M - len(table)] if warmup else [*counts, 1])
        used, updates = [], []
        for i, row in zip(index, logits.softmax(1).tolist(), strict=True):
            label = row.index(max(row))
            used.append(float(max(row) >= threshold * shape(counts[label] / most)))
            if max(row) >= threshold:
                updates.append((i, label))
        table.update(updates)
        assert losses.used.tolist() == used
        assert dict(enumerate(algorithm.last_label.tolist())) == {
            i: table.get(i, num_classes) for i in range(M)
        }
        used_shares.add(sum(used))
    assert len(used_shares) > 2
    assert repeats > 10


def test_classes_learned_equally_well_make_it_fixmatch():
    logits = 3 * torch.randn(64, 5, generator=stream("logits"))
    strong = torch.randn(64, 5, generator=stream("strong"))
    batch = Batch(torch.zeros(1, 5), torch.tensor([0]), (logits, strong), torch.arange(64))
    expected = build("fixmatch", {}).loss(batch, context_of())
    algorithm = made(5, num_unlabeled=64)
    algorithm.last_label.copy_(torch.arange(64) % 5)
    algorithm.last_label[60:] = 5  # twelve images of each class, four of none
    for mine, theirs in zip(algorithm.loss(batch, context_of()), expected, strict=True):
        assert torch.equal(mine, theirs)
    algorithm.last_label[:10] = 0
    assert algorithm.loss(batch, context_of()).used.sum() > expected.used.sum()


def test_unlabeled_weight_scales_the_unlabeled_part_only():
    weak, strong = logits_of([0.99, 0.01], [0.2, 0.8]), logits_of([0.5, 0.5], [0.3, 0.7])
    one, three = (step(made(unlabeled_weight=w), weak, strong) for w in (1.0, 3.0))
    assert three.unsupervised.item() == pytest.approx(3 * one.unsupervised.item())
    assert three.supervised.item() == one.supervised.item()


def test_only_used_strong_views_are_learned():
    algorithm = made(num_unlabeled=4, warmup=False)
    algorithm.last_label.copy_(torch.tensor([0, 0, 1, 2]))
    weak = logits_of([0.9, 0.1], [0.97, 0.03], [0.4, 0.6]).requires_grad_()
    strong = logits_of([0.5, 0.5], [0.5, 0.5], [0.5, 0.5]).requires_grad_()
    losses = step(algorithm, weak, strong)
    losses.unsupervised.backward()
    assert not weak.grad.any()
    assert strong.grad.any(1).tolist() == [False, True, True]


def test_state_is_saved_and_continued_in_place():
    algorithm = made()
    address = algorithm.last_label.data_ptr()
    weak = logits_of([0.99, 0.01], [0.2, 0.8], [0.03, 0.97])
    step(algorithm, weak, index=[4, 5, 6])
    assert algorithm.last_label.data_ptr() == address
    other = made()
    other.load_state_dict(algorithm.state_dict())
    assert torch.equal(other.last_label, algorithm.last_label)
    assert algorithm.state_dict().keys() == {"last_label"}
    assert other.double().last_label.dtype == torch.int64
    assert other.last_label.tolist() == [2, 2, 2, 2, 0, 2, 1] + [2] * (M - 7)


def test_nothing_waits_for_the_device():
    table, index = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 1, 3])
    with NoSynchronization():
        learned(table, 2, warmup=True)
        remember(table, index, torch.tensor([0, 1, 0]), torch.tensor([True, False, True]))
    assert table.tolist() == [0, 1, 2, 2]  # the functions are pure


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.0}, r"threshold must lie in \(0, 1\]"),
        ({"threshold": 1.5}, r"threshold must lie in \(0, 1\]"),
        ({"unlabeled_weight": -1.0}, "unlabeled_weight must not be negative"),
        ({"mapping": "cubic"}, "mapping 'cubic': choose from concave, convex, linear"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        build("flexmatch", options)


def test_values_at_the_ends_are_accepted():
    build("flexmatch", {"threshold": 1.0, "unlabeled_weight": 0.0})
