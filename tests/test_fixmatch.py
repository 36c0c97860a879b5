"""FixMatch's loss, worked out by hand."""

import math

import pytest
import torch
from torch import nn

from boss.algorithms import Batch, Context, build
from boss.algorithms.fixmatch import pseudo_labels
from boss.errors import InputError
from boss.seeds import stream


def logits_of(*probs):
    return torch.tensor(probs, dtype=torch.float64).log()


def loss_of(x, y, weak, strong, **options):
    """The loss of a network that returns its input: images are the logits."""
    batch = Batch(x, torch.tensor(y), (weak, strong), torch.arange(len(weak)))
    context = Context(nn.Identity(), nn.Identity(), torch.tensor(0.0), stream(0))
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
