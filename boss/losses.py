"""Per-example losses and how they are averaged.

Dimensions: N examples, K classes. A loss returns one value per example, shape (N,); only the
algorithms average, through `masked_mean`.
"""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """-log softmax(logits)[target] in nats, in single precision at least.

    Args:
        logits: (N, K), any floating type.
        target: classes (N,), or a distribution over classes (N, K).

    Returns:
        (N,).

    >>> import torch
    >>> cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))  # log 2
    tensor([0.6931])
    """
    return F.cross_entropy(at_least_single(logits), target, reduction="none")


def masked_mean(values: Tensor, weight: Tensor) -> Tensor:
    """sum(values * weight) / N: an example of weight 0 still counts in the denominator.

    FixMatch divides by ALL mu*B unlabeled examples (Sohn et al. 2020, equation 4): few confident
    pseudo-labels then mean a small loss, which is the method's implicit curriculum. Dividing by
    the number used instead is another method (and what several reimplementations do).

    Args:
        values: (N,).
        weight: (N,), typically 0 or 1.

    Returns:
        A scalar.

    >>> import torch
    >>> masked_mean(torch.tensor([4.0, 8.0]), torch.tensor([1.0, 0.0]))  # 4 / 2
    tensor(2.)
    """
    return (values * weight).mean()


def at_least_single(x: Tensor) -> Tensor:
    """Half precision becomes single; single and double stay as they are."""
    return x.float() if x.element_size() < 4 else x
