"""BOSS class balancing, worked out by hand and against a plain loop.

Dimensions: U unlabeled images, K classes.
"""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from boss.algorithms import Batch, Context, build
from boss.algorithms.fixmatch import pseudo_labels
from boss.balance import WEIGH_BY, balance, class_thresholds
from boss.errors import InputError
from boss.losses import at_least_single
from boss.seeds import stream
from boss.study.methods import METHODS
from tests.algorithms import test_contract
from tests.algorithms.test_contract import NoSynchronization, batch_of, network, total

# 12 images: their predicted classes, 6 + 3 + 2 + 1, and confidences
TOY_LABEL = [0] * 6 + [1] * 3 + [2] * 2 + [3]
TOY_CONFIDENCE = [0.99, 0.97, 0.96, 0.90, 0.80, 0.99, 0.96, 0.85, 0.75, 0.80, 0.70, 0.75]
SETTINGS = [(max_drop, weigh_by) for max_drop in (0.0, 0.125, 0.25) for weigh_by in WEIGH_BY]
DTYPES = [torch.float32, torch.float64]


def probs_of(label, confidence, num_classes, dtype=torch.float64):
    """Rows with the confidence at the label; the rest of the probability is shared evenly."""
    rows = []
    for n, top in zip(label, confidence, strict=True):
        row = [(1 - top) / (num_classes - 1)] * num_classes
        row[n] = top
        rows.append(row)
    return torch.tensor(rows, dtype=dtype)


def balance_by_loop(rows, threshold, max_drop, weigh_by):
    """The formulas as printed, one image after the other."""
    label = [row.index(max(row)) for row in rows]
    largest = max(label.count(n) for n in label)
    used = []
    for row, n in zip(rows, label, strict=True):
        used.append(max(row) >= threshold - max_drop * (1 - label.count(n) / largest))
    counted = {
        "none": dict.fromkeys(label, 1),
        "predicted": {n: label.count(n) for n in label},
        "used": {n: sum(u for u, m in zip(used, label, strict=True) if m == n) for n in label},
    }[weigh_by]
    raw = [1 / counted[n] if u else 0.0 for u, n in zip(used, label, strict=True)]
    weight = [w * sum(used) / sum(raw) if any(used) else 0.0 for w in raw]
    return label, [float(u) for u in used], weight


@st.composite
def batches(draw):
    """Probabilities of a batch. Confidences are binary fractions, so that many sit exactly on a
    threshold, and no rounding decides whether they pass it."""
    num_classes = draw(st.integers(2, 5))
    label = draw(st.lists(st.integers(0, num_classes - 1), min_size=1, max_size=24))
    confidence = draw(
        st.lists(st.integers(16, 32), min_size=len(label), max_size=len(label)),
    )
    dtype = draw(st.sampled_from(DTYPES))
    return probs_of(label, [c / 32 for c in confidence], num_classes, dtype)


thresholds = st.sampled_from([0.5, 0.75, 0.875, 0.9375, 1.0])
settings_of_balance = st.sampled_from(SETTINGS)
many = settings(max_examples=200, deadline=None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, [1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0]),
        (1, [1, 1, 1, 0, 0, 1, 1, 1, 0, 1, 0, 1]),
        (2, [5 / 6, 5 / 6, 5 / 6, 0, 0, 5 / 6, 5 / 3, 0, 0, 0, 0, 0]),
        (3, [0.625, 0.625, 0.625, 0, 0, 0.625, 2.5, 0, 0, 0, 0, 0]),
        (4, [0.5, 0.5, 0.5, 0, 0, 0.5, 1, 1, 0, 2, 0, 2]),
    ],
)
def test_the_five_methods_by_hand(number, expected, dtype):
    """Thresholds are .95 | .95 - .25 / 2 | .95 - .25 * 2/3 | .95 - .25 * 5/6 where they fall."""
    method = METHODS[number]
    probs = probs_of(TOY_LABEL, TOY_CONFIDENCE, 4, dtype)
    label, used, weight = balance(
        probs, threshold=0.95, max_drop=method.max_drop, weigh_by=method.weigh_by
    )
    assert label.tolist() == TOY_LABEL
    assert used.tolist() == [float(w > 0) for w in expected]
    tolerance = 0 if number != 2 else 1e-7  # all but sixths are exact
    assert weight.tolist() == pytest.approx(expected, rel=tolerance, abs=0)
    assert label.dtype == torch.int64
    assert used.dtype == weight.dtype == dtype


def test_class_thresholds_by_hand():
    count = torch.tensor([6.0, 3.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    fallen = class_thresholds(count, threshold=0.95, max_drop=0.25).tolist()
    # .25 * 0, 1/2, 2/3, 5/6 and, for a class that nobody predicts, all of .25
    assert fallen == pytest.approx([0.95, 0.825, 0.95 - 1 / 6, 0.95 - 5 / 24, 0.70])
    assert fallen[0] == 0.95


@many
@given(batches(), thresholds, settings_of_balance)
def test_equals_a_plain_loop(probs, threshold, setting):
    max_drop, weigh_by = setting
    label, used, weight = balance(probs, threshold=threshold, max_drop=max_drop, weigh_by=weigh_by)
    expected = balance_by_loop(probs.tolist(), threshold, max_drop, weigh_by)
    assert (label.tolist(), used.tolist()) == expected[:2]
    assert weight.tolist() == pytest.approx(expected[2], rel=1e-6)


def test_equals_a_plain_loop_on_a_batch_of_the_published_size():
    generator = stream("balance")
    logits = 4 * torch.randn(9 * 30, 10, generator=generator, dtype=torch.float64)
    probs = (logits + torch.linspace(0, 2, 10)).softmax(1)
    for max_drop, weigh_by in SETTINGS:
        label, used, weight = balance(probs, threshold=0.95, max_drop=max_drop, weigh_by=weigh_by)
        expected = balance_by_loop(probs.tolist(), 0.95, max_drop, weigh_by)
        assert 20 < used.sum() < 250
        assert (label.tolist(), used.tolist()) == expected[:2]
        assert weight.tolist() == pytest.approx(expected[2])


@many
@given(batches(), thresholds, settings_of_balance)
def test_weights_sum_to_the_number_used(probs, threshold, setting):
    max_drop, weigh_by = setting
    _, used, weight = balance(probs, threshold=threshold, max_drop=max_drop, weigh_by=weigh_by)
    assert weight.isfinite().all()
    assert torch.equal(weight > 0, used == 1)
    assert torch.equal(weight == 0, used == 0)
    assert weight.sum().item() == pytest.approx(used.sum().item(), rel=1e-6)


@many
@given(batches(), thresholds, st.sampled_from([0.0, 0.25]))
def test_by_used_every_class_present_gets_the_same(probs, threshold, max_drop):
    label, used, weight = balance(probs, threshold=threshold, max_drop=max_drop, weigh_by="used")
    present = label[used == 1].unique().tolist()
    for n in present:
        share = weight[label == n].sum().item()
        assert share == pytest.approx(used.sum().item() / len(present), rel=1e-6)


@many
@given(batches(), thresholds, settings_of_balance, st.randoms(use_true_random=False))
def test_a_permuted_batch_has_permuted_weights(probs, threshold, setting, random):
    arguments = {"threshold": threshold, "max_drop": setting[0], "weigh_by": setting[1]}
    order = list(range(len(probs)))
    random.shuffle(order)
    plain, permuted = balance(probs, **arguments), balance(probs[order], **arguments)
    for mine, theirs in zip(plain, permuted, strict=True):
        assert torch.equal(mine[order], theirs)  # exactly: all sums are of whole numbers or classes


@many
@given(batches(), thresholds, settings_of_balance)
def test_renamed_classes_have_the_same_weights(probs, threshold, setting):
    probs = probs[probs.max(dim=1).values > 0.5]  # without ties between classes
    arguments = {"threshold": threshold, "max_drop": setting[0], "weigh_by": setting[1]}
    if not len(probs):
        return
    plain, renamed = balance(probs, **arguments), balance(probs.flip(1), **arguments)
    assert torch.equal(plain.pseudo_label, probs.shape[1] - 1 - renamed.pseudo_label)
    assert torch.equal(plain.used, renamed.used)
    torch.testing.assert_close(plain.weight, renamed.weight)


@pytest.mark.parametrize(("max_drop", "weigh_by"), SETTINGS)
def test_a_class_that_nobody_predicts_changes_nothing(max_drop, weigh_by):
    probs = probs_of(TOY_LABEL, TOY_CONFIDENCE, 4)
    more = torch.cat([probs, torch.zeros(len(probs), 2, dtype=probs.dtype)], dim=1)
    arguments = {"threshold": 0.95, "max_drop": max_drop, "weigh_by": weigh_by}
    for mine, theirs in zip(balance(probs, **arguments), balance(more, **arguments), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("max_drop", "weigh_by"), SETTINGS)
def test_nothing_used(max_drop, weigh_by, dtype):
    probs = probs_of([0, 0, 1], [0.6, 0.6, 0.6], 4, dtype)
    _, used, weight = balance(probs, threshold=0.95, max_drop=max_drop, weigh_by=weigh_by)
    assert used.tolist() == weight.tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weigh_by", WEIGH_BY)
def test_a_confidence_on_the_threshold_is_used(weigh_by, dtype):
    """Four predictions of class 0 and two of class 1: thresholds .875 and .875 - .25 / 2."""
    probs = probs_of([0, 0, 0, 0, 1, 1], [0.875, 0.5, 0.5, 0.5, 0.75, 0.5], 4, dtype)
    arguments = {"threshold": 0.875, "max_drop": 0.25, "weigh_by": weigh_by}
    assert balance(probs, **arguments).used.tolist() == [1, 0, 0, 0, 1, 0]
    below = torch.nextafter(probs, torch.zeros_like(probs))
    assert balance(below, **arguments).used.tolist() == [0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, *DTYPES])
def test_method_0_is_fixmatch_bit_for_bit(dtype):
    logits = (3 * torch.randn(64, 10, generator=stream("logits"))).to(dtype)
    probs = at_least_single(logits).softmax(1)
    # Thresholds on, just below and just above confidences that occur, finer than single precision.
    on = probs.max(dim=1).values.tolist()
    near = [math.nextafter(t, end) for t in on for end in (0, 1)]
    single = [t * (1 + step) for t in on for step in (-5e-8, -3e-8, 3e-8, 5e-8)]
    for threshold in [0.95, 0.9, 0.1, *on, *near, *single]:
        mine = balance(probs, threshold=threshold, max_drop=0.0, weigh_by="none")
        label, used = pseudo_labels(logits, threshold)
        assert torch.equal(mine.pseudo_label, label)
        for theirs in (mine.used, mine.weight):
            assert theirs.dtype == used.dtype
            assert torch.equal(theirs, used)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_vanishing_drop_is_none(dtype):
    """Methods 1 and 4 turn into 0 and 3 as Delta goes to 0."""
    probs = probs_of(TOY_LABEL, TOY_CONFIDENCE, 4, dtype)
    for full, limit in ((METHODS[1], METHODS[0]), (METHODS[4], METHODS[3])):
        assert dataclasses.replace(full, max_drop=0.0).weigh_by == limit.weigh_by
        mine = balance(probs, threshold=0.95, max_drop=1e-9, weigh_by=full.weigh_by)
        theirs = balance(probs, threshold=0.95, max_drop=0.0, weigh_by=limit.weigh_by)
        for a, b in zip(mine, theirs, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(("max_drop", "weigh_by"), SETTINGS)
def test_nothing_waits_for_the_device_and_nothing_carries_a_gradient(max_drop, weigh_by):
    probs = probs_of(TOY_LABEL, TOY_CONFIDENCE, 4).requires_grad_()
    with NoSynchronization():
        result = balance(probs, threshold=0.95, max_drop=max_drop, weigh_by=weigh_by)
    assert not any(tensor.requires_grad for tensor in result)


def test_balance_refuses_what_it_does_not_know():
    probs = probs_of([0], [0.9], 2)
    with pytest.raises(InputError, match="'all': choose from none, predicted, used"):
        balance(probs, threshold=0.95, max_drop=0.0, weigh_by="all")
    with pytest.raises(AssertionError, match="half precision"):
        balance(probs.bfloat16(), threshold=0.95, max_drop=0.0, weigh_by="none")


# The algorithm


def loss_of(x, y, weak, strong, **options):
    """The loss of a network that returns its input: images are the logits."""
    batch = Batch(x, torch.tensor(y), (weak, strong), torch.arange(len(weak)))
    context = Context(nn.Identity(), nn.Identity(), torch.tensor(0.0), ())
    return build("boss", options).loss(batch, context)


def logits_of(*probs):
    return torch.tensor(probs, dtype=torch.float64).log()


BY_HAND = {
    "x": logits_of([0.5, 0.5], [0.2, 0.8]),
    "y": [0, 1],
    # Predictions 3 + 1: thresholds .95 and .95 - .25 * 2/3 = .783
    "weak": logits_of([0.96, 0.04], [0.97, 0.03], [0.2, 0.8], [0.6, 0.4]),
    "strong": logits_of([0.25, 0.75], [0.5, 0.5], [0.9, 0.1], [0.3, 0.7]),
}


@pytest.mark.parametrize(
    ("weigh_by", "weight"),
    [
        ("none", (1, 1, 1)),
        ("predicted", (0.6, 0.6, 1.8)),  # 1/3, 1/3, 1, times 3 / (5/3)
        ("used", (0.75, 0.75, 1.5)),  # 1/2, 1/2, 1, times 3 / 2
    ],
)
@pytest.mark.parametrize(("average_over", "number"), [("all", 4), ("used", 3)])
def test_the_loss_by_hand(weigh_by, weight, average_over, number):
    losses = loss_of(**BY_HAND, weigh_by=weigh_by, average_over=average_over)
    assert losses.supervised.item() == pytest.approx((math.log(2) + math.log(1 / 0.8)) / 2)
    entropies = (math.log(4), math.log(2), math.log(10))
    expected = sum(w * h for w, h in zip(weight, entropies, strict=True)) / number
    assert losses.unsupervised.item() == pytest.approx(expected)
    assert losses.pseudo_label.tolist() == [0, 0, 1, 0]
    assert losses.used.tolist() == [1, 1, 1, 0]
    tripled = loss_of(**BY_HAND, weigh_by=weigh_by, average_over=average_over, unlabeled_weight=3.0)
    assert tripled.unsupervised.item() == pytest.approx(3 * expected)
    assert tripled.supervised.item() == losses.supervised.item()


@pytest.mark.parametrize("average_over", ["all", "used"])
def test_nothing_confident_costs_nothing(average_over):
    strong = logits_of([0.1, 0.9], [0.5, 0.5]).requires_grad_()
    weak = logits_of([0.6, 0.4], [0.6, 0.4])
    losses = loss_of(BY_HAND["x"], [0, 1], weak, strong, average_over=average_over)
    losses.unsupervised.backward()
    assert losses.unsupervised.item() == 0
    assert not strong.grad.any()  # not a number would count as one


@pytest.mark.parametrize("average_over", ["all", "used"])
@pytest.mark.parametrize("threshold", [0.5, 0.95])
def test_without_balance_the_algorithm_is_fixmatch(digits, threshold, average_over):
    options = {"threshold": threshold, "unlabeled_weight": 0.7}
    plain = {"max_drop": 0.0, "weigh_by": "none", "average_over": average_over}
    results = []
    for algorithm in (build("fixmatch", options), build("boss", options | plain)):
        student = network()
        losses = test_contract.loss_of(algorithm, batch_of(digits, algorithm), student)
        if average_over == "used" and len(results) == 0:
            # FixMatch over those used alone is FixMatch with another weight.
            factor = losses.used.numel() / losses.used.sum()
            assert factor > 1
            losses = losses._replace(unsupervised=factor * losses.unsupervised)
        total(losses).backward()
        gradient = torch.cat([p.grad.flatten() for p in student.parameters()])
        results.append((*losses, gradient))
    for theirs, mine in zip(*results, strict=True):
        if average_over == "all":
            assert torch.equal(mine, theirs)
        else:
            torch.testing.assert_close(mine, theirs)


def test_every_kind_of_weight_is_another_gradient(digits):
    gradients = {}
    for weigh_by in WEIGH_BY:
        algorithm, student = build("boss", {"weigh_by": weigh_by}), network()
        batch = batch_of(digits, algorithm)
        total(test_contract.loss_of(algorithm, batch, student)).backward()
        gradients[weigh_by] = torch.cat([p.grad.flatten() for p in student.parameters()])
    assert len({tuple(g.tolist()) for g in gradients.values()}) == len(WEIGH_BY)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("weigh_by", WEIGH_BY)
def test_half_precision_logits_are_counted_in_single(dtype, weigh_by):
    """Counts past 256 and 2048 are not whole numbers of bfloat16 and float16."""
    weak, strong = 4 * torch.randn(2, 3000, 2, generator=stream("half"))
    weak[:, 0] += 6
    results = []
    for cast in (dtype, None):
        halves = [t.to(dtype) for t in (weak[:5], weak, strong)]
        x, u, v = (h if cast else h.float() for h in halves)
        results.append(loss_of(x, [0] * 5, u, v, weigh_by=weigh_by))
    assert results[0].unsupervised.dtype == torch.float32
    assert 0 < results[0].unsupervised < 10
    for mine, theirs in zip(*results, strict=True):
        assert torch.equal(mine, theirs)


def test_each_batch_counts_for_itself():
    other = BY_HAND | {"weak": BY_HAND["weak"].flip(1)}
    algorithm = build("boss", {})
    context = Context(nn.Identity(), nn.Identity(), torch.tensor(0.0), ())
    losses = []
    for case in (BY_HAND, other, BY_HAND):
        views = (case["weak"], case["strong"])
        batch = Batch(case["x"], torch.tensor(case["y"]), views, torch.arange(4))
        losses.append(algorithm.loss(batch, context).unsupervised.item())
    assert losses[0] == losses[2] != losses[1]
    assert algorithm.state_dict() == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": math.nan}, "threshold"),
        ({"max_drop": -0.1}, "max_drop"),
        ({"max_drop": 0.95}, "max_drop"),
        ({"threshold": 0.2}, "max_drop .* threshold 0.2, not 0.25"),
        ({"max_drop": math.nan}, "max_drop"),
        ({"unlabeled_weight": -1.0}, "unlabeled_weight"),
        ({"weigh_by": "all"}, "weigh_by 'all': choose from none, predicted, used"),
        ({"average_over": "none"}, "average_over 'none': choose from all, used"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        build("boss", options)


def test_values_at_the_ends_are_accepted():
    build("boss", {"threshold": 0.0, "max_drop": 0.0})
    build("boss", {"threshold": 1.0, "max_drop": 0.999, "unlabeled_weight": 0.0})
