"""FixMatch's loss, worked out by hand."""

import math

import pytest
import torch
from torch import nn

from boss.algorithms import Batch, Context, build
from boss.algorithms.fixmatch import pseudo_labels
from boss.errors import InputError


def logits_of(*probs):
    return torch.tensor(probs, dtype=torch.float64).log()


def loss_of(x, y, weak, strong, **options):
    """The loss of a network that returns its input: images are the logits."""
    batch = Batch(x, torch.tensor(y), (weak, strong), torch.arange(len(weak)))
    context = Context(nn.Identity(), nn.Identity(), torch.tensor(0.0), ())
    return build("fixmatch", options).loss(batch, context)


def test_by_hand():
    losses = loss_of(
        x=logits_of([0.5, 0.5], [0.2, 0.8]),
        y=[0, 1],
        weak=logits_of([0.96, 0.04], [0.94, 0.06], [0.01, 0.99], [0.5, 0.5]),
        strong=logits_of([0.25, 0.75], [0.1, 0.9], [0.5, 0.5], [0.3, 0.7]),
    )
    assert losses.supervised.item() == pytest.approx((math.log(2) + math.log(1 / 0.8)) / 2)
    # Rows 0 and 2 are confident; the sum is divided by all four.
    assert losses.unsupervised.item() == pytest.approx((math.log(4) + math.log(2)) / 4)
    assert losses.pseudo_label.tolist() == [0, 0, 1, 0]
    assert losses.used.tolist() == [1, 0, 1, 0]


def test_the_threshold_itself_counts_as_confident():
    logits = torch.zeros(1, 2)  # confidence exactly 0.5
    assert pseudo_labels(logits, 0.5)[1].tolist() == [1.0]
    assert pseudo_labels(logits, 0.5000001)[1].tolist() == [0.0]


def test_unlabeled_weight_scales_the_unlabeled_part_only():
    arguments = {
        "x": logits_of([0.5, 0.5]),
        "y": [0],
        "weak": logits_of([0.99, 0.01]),
        "strong": logits_of([0.5, 0.5]),
    }
    one, three = loss_of(**arguments), loss_of(**arguments, unlabeled_weight=3.0)
    assert three.unsupervised.item() == pytest.approx(3 * one.unsupervised.item())
    assert three.supervised.item() == one.supervised.item()


def test_nothing_confident_costs_nothing():
    losses = loss_of(
        logits_of([0.5, 0.5]), [0], weak=logits_of([0.6, 0.4]), strong=logits_of([0.1, 0.9])
    )
    assert losses.unsupervised.item() == 0


@pytest.mark.parametrize("options", [{"threshold": 1.5}, {"unlabeled_weight": -1.0}])
def test_values_out_of_range_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        build("fixmatch", options)


def test_soft_labels_are_sharpened_and_the_mask_is_not():
    weak = logits_of([0.96, 0.04], [0.6, 0.4])
    strong = logits_of([0.25, 0.75], [0.5, 0.5])
    losses = loss_of(logits_of([0.5, 0.5]), [0], weak, strong, labels="soft", temperature=0.5)
    # .96^2 and .04^2 of their sum; the second row is not confident before it is sharpened to .69.
    target = 0.9216 / (0.9216 + 0.0016)
    expected = -(target * math.log(0.25) + (1 - target) * math.log(0.75)) / 2
    assert losses.unsupervised.item() == pytest.approx(expected)
    assert losses.used.tolist() == [1, 0]


def test_hard_labels_are_sharpened_before_they_meet_the_threshold():
    weak = logits_of([0.9, 0.1], [0.6, 0.4])  # sharpened .9878 and .6923
    strong = logits_of([0.25, 0.75], [0.5, 0.5])
    losses = loss_of(logits_of([0.5, 0.5]), [0], weak, strong, temperature=0.5)
    assert losses.used.tolist() == [1, 0]
    assert losses.unsupervised.item() == pytest.approx(math.log(4) / 2)
    assert loss_of(logits_of([0.5, 0.5]), [0], weak, strong).used.tolist() == [0, 0]


def test_views_are_what_the_options_say():
    assert build("fixmatch", {}).views == ("weak", "strong")
    turned = {"label_view": "strong", "prediction_view": "none"}
    assert build("fixmatch", turned).views == ("strong", "none")


@pytest.mark.parametrize(("options", "message"), [
    ({"temperature": 0.0}, "temperature must be positive, not 0.0"),
    ({"labels": "firm"}, "unknown labels 'firm': choose from hard, soft"),
    ({"label_view": "flip"}, "unknown label_view 'flip': choose from none, weak, strong"),
    ({"prediction_view": ""}, "unknown prediction_view ''"),
    ({"threshold": 0.0, "temperature": 0.5}, "temperature has no effect on hard labels without"),
])  # fmt: skip
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        build("fixmatch", options)


def test_supervised_smoothing_by_hand():
    x = logits_of([0.5, 0.25, 0.25])
    batch = Batch(x, torch.tensor([0]), (), torch.arange(0))
    context = Context(nn.Identity(), nn.Identity(), torch.tensor(0.0), ())
    loss = build("supervised", {"smoothing": 0.3}).loss(batch, context).supervised
    # 0.3 is spread over three classes: .8, .1 and .1.
    assert loss.item() == pytest.approx(0.8 * math.log(2) + 0.2 * math.log(4))
    with pytest.raises(InputError, match=r"smoothing must lie in \[0, 1\), not 1.0"):
        build("supervised", {"smoothing": 1.0})
