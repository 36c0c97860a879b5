"""Losses, worked out by hand."""

import math

import pytest
import torch

from boss.losses import (
    at_least_single,
    cross_entropy,
    kl_divergence,
    linear_rampup,
    masked_mean,
    sharpen,
    squared_error,
)


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


def test_squared_error_is_a_mean_over_classes():
    probs = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    target = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    values = squared_error(probs, target)
    assert values.tolist() == pytest.approx([(0.64 + 0.09 + 0.25) / 3, 0])


def test_kl_divergence_by_hand():
    target = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    logits = torch.tensor([[0.9, 0.1], [0.8, 0.2]]).log()
    expected = [0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1), math.log(1 / 0.8)]
    assert kl_divergence(target, logits).tolist() == pytest.approx(expected, rel=1e-5)
    assert kl_divergence(target, target.clamp(min=1e-30).log()).tolist() == pytest.approx([0, 0])
    assert kl_divergence(target, logits.bfloat16()).dtype == torch.float32


def test_sharpening_by_hand():
    probs = torch.tensor([[0.5, 0.3, 0.2]])
    squares = [0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38]
    assert sharpen(probs, 0.5).flatten().tolist() == pytest.approx(squares)
    assert torch.equal(sharpen(probs, 1.0), probs / probs.sum())
    sharpest = sharpen(torch.tensor([[0.11, *[0.1] * 8, 0.09]]), 0.01)
    assert sharpest.argmax() == 0 and sharpest.max() > 0.999


def test_ramp_up():
    values = [linear_rampup(torch.tensor(p), 0.4).item() for p in (0.0, 0.1, 0.4, 0.9)]
    assert values == pytest.approx([0, 0.25, 1, 1])
