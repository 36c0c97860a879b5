"""Losses, worked out by hand."""

import math

import pytest
import torch

from boss.losses import at_least_single, cross_entropy, masked_mean


def test_cross_entropy_by_hand():
    logits = torch.tensor([[math.log(1), math.log(3)], [math.log(9), math.log(1)]])
    # softmax: (1/4, 3/4) and (9/10, 1/10)
    loss = cross_entropy(logits, torch.tensor([1, 1]))
    assert loss.tolist() == pytest.approx([math.log(4 / 3), math.log(10)])


def test_cross_entropy_of_a_distribution_by_hand():
    logits = torch.tensor([[math.log(1), math.log(3)]])
    loss = cross_entropy(logits, torch.tensor([[0.5, 0.5]]))
    assert loss.tolist() == pytest.approx([0.5 * math.log(4) + 0.5 * math.log(4 / 3)])


def test_masked_mean_divides_by_all_examples():
    # (3 + 5) / 4, not / 2
    mean = masked_mean(torch.tensor([3.0, 100.0, 5.0, 7.0]), torch.tensor([1.0, 0.0, 1.0, 0.0]))
    assert mean.item() == 2.0


def test_half_precision_logits_give_single_precision_losses():
    assert at_least_single(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert at_least_single(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
    assert cross_entropy(torch.zeros(1, 2).bfloat16(), torch.tensor([0])).dtype == torch.float32
