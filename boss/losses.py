"""Per-example losses and how they are averaged.

Dimensions: N examples, K classes. A loss returns one value per example, shape (N,); only the
algorithms average, through `masked_mean`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """-log softmax(logits)[target] in nats, in single precision at least.

    Args:
        logits: (N, K), any floating type.
        target: classes (N,), or a distribution over classes (N, K).
        smoothing: s, in [0, 1): the target becomes (1 - s) target + s / K.

    Returns:
        (N,).

    >>> import torch
    >>> cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))  # log 2
    tensor([0.6931])
    """
    return F.cross_entropy(
        at_least_single(logits), target, reduction="none", label_smoothing=smoothing
    )


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


def squared_error(probs: Tensor, target: Tensor) -> Tensor:
    """The mean over classes of (probs - target)^2, the Brier score divided by K.

    Args:
        probs: (N, K).
        target: (N, K).

    Returns:
        (N,).

    >>> import torch
    >>> squared_error(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]]))
    tensor([0.2500])
    """
    return (probs - target).square().mean(dim=1)


def kl_divergence(target: Tensor, logits: Tensor) -> Tensor:
    """KL(target || softmax(logits)) in nats, in single precision at least.

    Args:
        target: distributions over classes (N, K), without gradient: that of a probability which
            underflows would not be finite. Terms of probability 0 count as 0.
        logits: (N, K), any floating type.

    Returns:
        (N,).

    >>> import torch
    >>> kl_divergence(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]]))  # log 2
    tensor([0.6931])
    """
    log_probs = at_least_single(logits).log_softmax(dim=1)
    return (target.xlogy(target) - target * log_probs).sum(dim=1)


def sharpen(probs: Tensor, temperature: float) -> Tensor:
    """probs^(1/T), normalized: below 1 the larger ones grow (Berthelot et al. 2019, equation 7).

    Args:
        probs: distributions over classes (N, K).
        temperature: T, positive; 1 changes nothing.

    Returns:
        (N, K).

    >>> import torch
    >>> sharpen(torch.tensor([[0.8, 0.2]]), temperature=0.5)  # .64 and .04, of .68
    tensor([[0.9412, 0.0588]])
    """
    # By the largest first: powers of small numbers vanish in single precision.
    powers = (probs / probs.amax(dim=1, keepdim=True)).pow(1 / temperature)
    return powers / powers.sum(dim=1, keepdim=True)


def linear_rampup(progress: Tensor, length: float) -> Tensor:
    """From 0 to 1 over the first `length` of the training, then 1.

    Args:
        progress: share of the training done, a scalar.
        length: share of the training, positive.

    >>> import torch
    >>> linear_rampup(torch.tensor(0.1), length=0.4), linear_rampup(torch.tensor(0.5), length=0.4)
    (tensor(0.2500), tensor(1.))
    """
    return (progress / length).clamp(max=1.0)


def one_hot(label: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """Classes as distributions. Unlike torch's own it never waits for the device.

    Args:
        label: classes (N,).
        num_classes: K.

    Returns:
        (N, K).

    >>> import torch
    >>> one_hot(torch.tensor([1, 0]), num_classes=3, dtype=torch.float32)
    tensor([[0., 1., 0.],
            [1., 0., 0.]])
    """
    return (label[:, None] == torch.arange(num_classes, device=label.device)).to(dtype)


def entropy(logits: Tensor) -> Tensor:
    """Of softmax(logits), in nats, in single precision at least.

    Args:
        logits: (N, K), any floating type.

    Returns:
        (N,).

    >>> import torch
    >>> entropy(torch.tensor([[0.0, 0.0]]))  # log 2
    tensor([0.6931])
    """
    log_probs = at_least_single(logits).log_softmax(dim=1)
    return -(log_probs.exp() * log_probs).sum(dim=1)
