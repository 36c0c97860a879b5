"""Muon by hand, against the singular value decomposition and against torch's own."""

import pytest
import torch
from torch import nn

from boss.training.muon import COEFFICIENTS, Muon, orthogonalized


def generator():
    return torch.Generator().manual_seed(0)


def muon(kernels=(), decayed=(), free=(), **settings):
    values = {"learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.0, "in_bf16": False}
    return Muon(kernels, decayed, free, **values | settings)


def quintic(x, times=5):
    a, b, c = COEFFICIENTS
    for _ in range(times):
        x = a * x + b * x**3 + c * x**5
    return x


def test_a_diagonal_by_hand():
    """Singular values 3 and 4 of length 5: each goes through the quintic by itself."""
    kernel = torch.diag(torch.tensor([3.0, -4.0], dtype=torch.float64))
    found = orthogonalized(kernel, torch.float64)  # in single precision the quintics round by 1e-6
    expected = torch.diag(torch.tensor([quintic(0.6), -quintic(0.8)], dtype=torch.float64))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (16, 4, 3, 3), (40, 2, 3, 3)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_singular_vectors_stay_and_values_come_near_one(shape, layout):
    kernel = torch.randn(shape, generator=generator(), dtype=torch.float64)
    if len(shape) == 4:
        kernel = kernel.contiguous(memory_format=layout)
    found = orthogonalized(kernel)
    assert found.shape == kernel.shape
    u, s, v = torch.linalg.svd(kernel.flatten(1), full_matrices=False)
    expected = u @ torch.diag(quintic(s / s.norm())) @ v
    torch.testing.assert_close(found.flatten(1), expected, atol=1e-5, rtol=0)
    values = torch.linalg.svdvals(found.flatten(1))
    assert 0.65 < values.min() <= values.max() < 1.25


@pytest.mark.parametrize("shape", [(8, 30), (30, 8)])
def test_equals_torch_on_matrices(shape):
    ours = nn.Parameter(torch.randn(*shape, 1, 1, generator=generator()))
    theirs = nn.Parameter(ours.detach().clone().flatten(1))
    optimizers = (
        muon([ours], momentum=0.9, weight_decay=0.1, in_bf16=True),
        torch.optim.Muon([theirs], lr=0.1, momentum=0.9, weight_decay=0.1),
    )
    for _ in range(3):
        gradient = torch.randn(shape, generator=generator())
        ours.grad, theirs.grad = gradient[:, :, None, None], gradient
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours.detach().flatten(1), theirs.detach(), atol=2e-3, rtol=0)


def test_two_steps_by_hand():
    """A kernel of one weight: every step is the rate times the quintic of 1, in its direction."""
    kernel = nn.Parameter(torch.full((1, 1, 1, 1), 2.0, dtype=torch.float64))
    optimizer = muon([kernel], weight_decay=0.5)
    kernel.grad = torch.full_like(kernel, 3.0)
    optimizer.step()
    first = 2 * (1 - 0.1 * 0.5) - 0.1 * quintic(1.0)
    assert kernel.item() == pytest.approx(first, abs=1e-6)
    # Velocity 1.5, then 0.75 - 0.5 = 0.25; ahead 0.5 * -1 + 0.5 * 0.25 < 0: upwards.
    kernel.grad = torch.full_like(kernel, -1.0)
    optimizer.step()
    second = first * (1 - 0.1 * 0.5) + 0.1 * quintic(1.0)
    assert kernel.item() == pytest.approx(second, abs=1e-6)


def test_other_parameters_as_sgd_at_ten_times_the_rate():
    start = [torch.randn(shape, generator=generator()) for shape in ((3, 4), (5,))]
    ours = [nn.Parameter(p.clone()) for p in start]
    theirs = [nn.Parameter(p.clone()) for p in start]
    optimizer = muon([], [ours[0]], [ours[1]], weight_decay=0.3)
    sgd = torch.optim.SGD(
        [{"params": [theirs[0]], "weight_decay": 0.3}, {"params": [theirs[1]]}],
        lr=1.0,
        momentum=0.5,
        nesterov=True,
    )
    for _ in range(3):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = other.grad = torch.randn(mine.shape, generator=generator())
        optimizer.step()
        sgd.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_wide_kernels_take_longer_steps():
    """More outputs than inputs: by the square root of the ratio."""
    steps = []
    for shape in ((4, 4, 1, 1), (16, 4, 1, 1)):
        kernel = nn.Parameter(torch.zeros(shape))
        kernel.grad = torch.randn(shape, generator=generator())
        muon([kernel]).step()
        steps.append(kernel.detach().flatten(1).norm() / orthogonalized(kernel.grad).norm())
    assert steps[1] / steps[0] == pytest.approx(2, rel=1e-4)


def test_rates_are_read_from_the_groups_and_state_is_restored():
    kernel = nn.Parameter(torch.randn(4, 2, 3, 3, generator=generator()))
    optimizer = muon([kernel])
    assert [group["lr"] for group in optimizer.param_groups] == [0.1]
    optimizer.param_groups[0]["lr"] = torch.tensor(0.0)
    before = kernel.detach().clone()
    kernel.grad = torch.ones_like(kernel)
    optimizer.step()
    assert torch.equal(kernel, before)
    other = muon([nn.Parameter(before.clone())], in_bf16=True)
    other.load_state_dict(optimizer.state_dict())
    assert not other.param_groups[0]["in_bf16"]  # a resumed training goes on as it began
    [velocity] = [state["momentum"] for state in other.state.values()]
    assert torch.equal(velocity, torch.full_like(kernel, 0.5))
