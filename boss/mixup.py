"""MixUp: every example becomes a mixture of itself and a partner, and so does its target.

Dimensions: N examples, K classes.

Source: Zhang et al. 2018 (arXiv 1710.09412) for mixing; Berthelot et al. 2019 (MixMatch, arXiv
1905.02249, equations 8 to 11) for coefficients of at least one half, by which a mixture stays
nearer to itself than to its partner.
"""

import math

import torch
from torch import Tensor

from boss.errors import InputError


def check_alpha(alpha: float) -> None:
    """Raises InputError unless Beta(alpha, alpha) is a distribution."""
    if not 0 < alpha < math.inf:
        raise InputError(f"alpha must be positive and finite, not {alpha}")


def mixing_coefficients(num: int, alpha: float, generator: torch.Generator) -> Tensor:
    """max(l, 1 - l) for draws l of Beta(alpha, alpha), one for each example.

    A draw is G / (G + G') with gamma variables of shape alpha, here by their logarithms: l and
    1 - l are sigmoid(log G - log G') and sigmoid(log G' - log G). log G is that of a gamma variable
    of shape alpha + 1, less an exponential variable over alpha (Marsaglia and Tsang 2000). So
    nothing underflows, where for a small alpha both G and G' would, to 0 / 0.

    Args:
        num: N.
        alpha: positive, finite; below 1 most mixtures are nearly pure.
        generator: draws, where it is.

    Returns:
        (N,) in [1/2, 1], double precision, on the generator's device.
    """
    shape = torch.full((2, num), alpha + 1, dtype=torch.float64, device=generator.device)
    logs = torch._standard_gamma(shape, generator=generator).log()  # (2, N)
    less = torch.empty_like(logs).exponential_(generator=generator)
    # The difference before the division: the quotients alone may be infinite.
    difference = logs[0] - logs[1] - (less[0] - less[1]) / alpha
    return difference.abs().sigmoid()


def draw_mixing(num: int, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """How `mix` mixes the examples of a step: a random permutation, and coefficients.

    Args:
        num: N.
        alpha: of `mixing_coefficients`.
        generator: draws, where it is.

    Returns:
        The partner of each example (N,), its own share (N,).
    """
    partner = torch.randperm(num, generator=generator, device=generator.device)
    return partner, mixing_coefficients(num, alpha, generator)


def mix(values: Tensor, partner: Tensor, coefficient: Tensor) -> Tensor:
    """coefficient * values + (1 - coefficient) * values[partner], example by example.

    Args:
        values: images or distributions over classes (N, ...).
        partner: which example each is mixed with (N,).
        coefficient: in [0, 1] (N,).

    Returns:
        (N, ...), of the type of `values`.

    >>> mix(torch.tensor([[8.0], [0.0]]), torch.tensor([1, 0]), torch.tensor([0.75, 1.0]))
    tensor([[6.],
            [0.]])
    """
    weight = coefficient.to(values.dtype).view(-1, *[1] * (values.ndim - 1))
    return weight * values + (1 - weight) * values[partner]
