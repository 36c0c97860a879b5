"""Mixing coefficients have their distribution, and mixing is what it says, example by example."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from boss.errors import InputError
from boss.mixup import check_alpha, draw_mixing, mix, mixing_coefficients
from boss.seeds import stream


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.1, 0.5, 0.75, 1.0, 2.0, 16.0])
def test_coefficients_are_the_larger_part_of_a_beta_variable(alpha):
    found = mixing_coefficients(20_000, alpha, stream("mixup", alpha)).numpy()
    # Of l and 1 - l the larger is at most m where 1 - m <= l <= m. The distribution is symmetric.
    for m in (0.51, 0.55, 0.6, 0.75, 0.9, 0.99, 0.9999):
        expected = 2 * stats.beta.cdf(m, alpha, alpha) - 1
        assert (found <= m).mean() == pytest.approx(expected, abs=0.012)  # four standard errors
    # l times the density of Beta(a, a) is half that of Beta(a + 1, a).
    expected = stats.beta.sf(0.5, alpha + 1, alpha)
    assert found.mean() == pytest.approx(expected, abs=4 * found.std() / math.sqrt(20_000))


@pytest.mark.parametrize("alpha", [0.5, 0.75, 1.0, 4.0])
def test_coefficients_pass_a_test_of_their_distribution(alpha):
    found = mixing_coefficients(20_000, alpha, stream("mixup", alpha)).numpy()
    assert stats.kstest(found, lambda m: 2 * stats.beta.cdf(m, alpha, alpha) - 1).pvalue > 0.01


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [(5e-324, 1.0), (1e-300, 1.0), (1e-12, 1.0), (1e12, 0.5), (1e300, 0.5), (1.7e308, 0.5)],
)
def test_extreme_distributions_have_their_limits(alpha, expected):
    """Where the gamma variables themselves underflow, their shares are still known."""
    found = mixing_coefficients(1000, alpha, stream("extreme"))
    assert torch.equal(found.clamp(0.5, 1), found)  # a nan would not be equal
    assert found.min().item() == pytest.approx(expected, abs=1e-5)
    assert found.max().item() == pytest.approx(expected, abs=1e-5)


def test_coefficients_are_drawn_from_the_generator_alone():
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        results.append(mixing_coefficients(8, 0.5, stream("same")))
    assert torch.equal(*results)
    generator = stream("same")
    first, second = (mixing_coefficients(8, 0.5, generator) for _ in range(2))
    assert torch.equal(first, results[0])
    assert not torch.equal(first, second)
    assert len(first.unique()) == 8  # one for each example
    assert first.dtype == torch.float64


def test_partners_are_drawn_before_coefficients():
    partner, coefficient = draw_mixing(8, 0.5, stream("mixing"))
    generator = stream("mixing")
    assert torch.equal(partner, torch.randperm(8, generator=generator))
    assert torch.equal(coefficient, mixing_coefficients(8, 0.5, generator))


def test_examples_are_mixed_one_by_one():
    generator = torch.Generator().manual_seed(0)
    images, partners = torch.randn(2, 5, 3, 4, 4, generator=generator)
    coefficient = torch.tensor([0.5, 0.625, 0.75, 0.875, 1.0], dtype=torch.float64)
    both = torch.cat([images, partners])
    found = mix(both, torch.arange(10).roll(5), coefficient.repeat(2))[:5]
    for i, share in enumerate([0.5, 0.625, 0.75, 0.875, 1.0]):
        expected = (
            np.float32(share) * images[i].numpy() + np.float32(1 - share) * partners[i].numpy()
        )
        np.testing.assert_allclose(found[i].numpy(), expected, rtol=1e-6)
    assert torch.equal(found[4], images[4])
    assert found.dtype == torch.float32


def test_targets_are_mixed_by_hand():
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = mix(targets, torch.tensor([1, 0]), torch.tensor([0.75, 1.0]))
    assert found.tolist() == [[0.75, 0.25], [0.0, 1.0]]


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.nan, math.inf])
def test_alpha_out_of_range_is_refused(alpha):
    with pytest.raises(InputError, match="alpha must be positive and finite"):
        check_alpha(alpha)
