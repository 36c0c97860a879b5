"""Muon: momentum whose steps are orthogonal matrices.

R x C, a kernel as a matrix: output channels x everything else.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the optimizer of the
fastest airbench. torch.optim.Muon takes matrices only and always computes in bf16, in which many
processors crawl.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic a x + b x^3 + c x^5
NUM_ITERATIONS = 5
EPSILON = 1e-7  # added to a norm


class Muon(torch.optim.Optimizer):
    """Muon for kernels of convolutions, SGD for all other parameters.

    Of a kernel W with gradient G, momentum m and Nesterov's look-ahead:

        M <- m M + (1 - m) G
        W <- (1 - learning rate * decay) W
             - learning rate * sqrt(max(1, R / C)) * orthogonalized((1 - m) G + m M)

    as torch.optim.Muon has it. The others take SGD steps with Nesterov momentum m, and the decay as
    an L2 loss, at `OTHERS` times the learning rate.

    Args:
        kernels: parameters of four dimensions.
        decayed, free: all others, with and without decay.
        learning_rate: of the kernels; a group's "lr", which may be a tensor, is the one in force.
        momentum: m.
        weight_decay: of kernels and of `decayed`.
        in_bf16: whether steps are orthogonalized in bf16, as torch.optim.Muon always does, or in
            the precision of the parameters.
    """

    OTHERS = 10.0  # their learning rate relative to that of the kernels

    def __init__(
        self,
        kernels: Iterable[nn.Parameter],
        decayed: Iterable[nn.Parameter],
        free: Iterable[nn.Parameter],
        *,
        learning_rate: float,
        momentum: float,
        weight_decay: float,
        in_bf16: bool,
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(kernels), "weight_decay": weight_decay, "scale": 1.0},
            {"params": list(decayed), "weight_decay": weight_decay, "scale": self.OTHERS},
            {"params": list(free), "weight_decay": 0.0, "scale": self.OTHERS},
        ]
        super().__init__(
            [group for group in groups if group["params"]],
            {"lr": learning_rate, "momentum": momentum, "in_bf16": in_bf16},
        )
        for group in self.param_groups:
            group["lr"] = learning_rate * group["scale"]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step, by the gradients of the parameters."""
        for group in self.param_groups:
            rate, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                velocity = state["momentum"]
                dtype = torch.bfloat16 if group["in_bf16"] else p.dtype
                if p.ndim == 4:
                    velocity.lerp_(p.grad, 1 - momentum)
                    ahead = p.grad.lerp(velocity, momentum)
                    p.mul_(1 - rate * decay)
                    stretch = max(1.0, len(p) / p[0].numel()) ** 0.5
                    p.sub_(orthogonalized(ahead, dtype) * (rate * stretch))
                else:
                    gradient = p.grad + decay * p
                    velocity.mul_(momentum).add_(gradient)
                    p.sub_((gradient + momentum * velocity) * rate)


def orthogonalized(kernel: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Nearly U V^T of the singular value decomposition U S V^T of a kernel as a matrix.

    Newton-Schulz iterations of a quintic that takes singular values to between 0.7 and 1.2. Columns
    may be permuted at will, so a kernel is read in the order in which it lies in memory.

    Args:
        kernel: (R, ...), of any float type.
        dtype: of the matrix products.

    Returns:
        The shape, type and layout of `kernel`.
    """
    a, b, c = COEFFICIENTS
    in_memory = kernel.permute(0, 2, 3, 1) if kernel.ndim == 4 else kernel
    x = in_memory.reshape(len(kernel), -1).to(dtype)  # (R, C)
    is_tall = x.shape[0] > x.shape[1]
    x = x.mT.contiguous() if is_tall else x
    x = x / (x.norm() + EPSILON)
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.mT if is_tall else x
    out = x.to(kernel.dtype).reshape(in_memory.shape)
    return out.permute(0, 3, 1, 2) if kernel.ndim == 4 else out
