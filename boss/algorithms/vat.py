"""VAT, virtual adversarial training (Miyato et al. 2018, arXiv 1704.03976), with low entropy.

Dimensions: B labeled images, U unlabeled ones (U, C, H, W), K classes.
"""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from boss.algorithms.base import Algorithm, Batch, Context, StepLoss
from boss.errors import InputError, check_interval
from boss.forward import frozen_statistics
from boss.losses import at_least_single, cross_entropy, entropy, kl_divergence, linear_rampup


@final
class VAT(Algorithm):
    """Consistency under the small perturbation of the image that changes the prediction most.

        loss = mean CE(y, x)
               + ramp * unlabeled_weight * mean KL(p(u + r) || q(u)) + entropy_weight * mean H(p(u))
        r    = epsilon * unit(g),  g = gradient at d of mean KL(q(u) || p(u + d)),  |d| = xi

    with p = softmax of the logits, q the same without gradient, u a weak view, r without gradient,
    d at first drawn from a normal distribution, in further iterations along g, and
    ramp = min(1, progress / rampup). The entropy is not ramped. The lengths are Euclidean, of
    pixels in [-1, 1].

    Passes, each normalized by its own images: the labeled images (it moves the running
    statistics), u, u + d once per iteration, u + r. In the reference one unlabeled image per
    labeled one; it trains VAT by Adam at a constant rate.

    Deviations of the reference from the paper, followed here: the divergence of the loss is
    KL(p(u + r) || q(u)); the paper's is KL(q(u) || p(u + r)), the one that r is searched with, and
    its mean covers the labeled images, too.

    xi = 1e-6 is that of the reference and of the authors' code, and single precision is too coarse
    for it: six pixels in ten do not change, and g consists of the rounding errors of the
    predictions, backpropagated through the network. These depend little on d, so neither its draw
    nor xi matters much. The direction is adversarial nevertheless, so the default stays.
    Measured on CIFAR-10 (WRN-28-2, 300 supervised steps, 96 images, epsilon = 6): KL(q || p(u + r))
    is 0.75 nats; 0.58 with the r of double precision, to which the cosine is 0.06; 0.008 with a
    random r of that length. For the direction that the paper derives, set xi from 1e-3 to 0.1 in
    single precision (cosine above 0.99); 0.1 with TF32 convolutions, PyTorch's default on GPUs
    (0.96 and more, emulated); 1 in bfloat16 (0.77 to 0.93).

    Args:
        unlabeled_weight: of the divergence after the ramp.
        epsilon: length of r, positive.
        xi: length of d, positive: the step of the difference quotient.
        num_iterations: of the power iteration that g approximates, at least 1.
        entropy_weight: of the mean entropy of the predictions on u.
        rampup: share of the training over which unlabeled_weight rises from 0, in (0, 1].
    """

    title = "VAT"
    summary = "consistency under the small perturbation that changes the prediction most"
    source = "Miyato et al. 2018, arXiv 1704.03976"
    views = ("weak",)

    def __init__(
        self,
        unlabeled_weight: float = 0.3,
        epsilon: float = 6.0,
        xi: float = 1e-6,
        num_iterations: int = 1,
        entropy_weight: float = 0.06,
        rampup: float = 0.4,
    ) -> None:
        super().__init__()
        check_interval("[0, inf)", unlabeled_weight=unlabeled_weight)
        check_interval("(0, inf)", epsilon=epsilon, xi=xi)
        if not num_iterations >= 1:
            raise InputError(f"num_iterations must be at least 1, not {num_iterations}")
        check_interval("[0, inf)", entropy_weight=entropy_weight)
        check_interval("(0, 1]", rampup=rampup)
        self.unlabeled_weight = unlabeled_weight
        self.epsilon = epsilon
        self.xi = xi
        self.num_iterations = num_iterations
        self.entropy_weight = entropy_weight
        self.rampup = rampup

    def draw(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """What the search of r starts from, of the shape of the unlabeled images."""
        [u] = batch.u
        return (torch.randn(u.shape, generator=generator, dtype=u.dtype, device=u.device),)

    def loss(self, batch: Batch, context: Context) -> StepLoss:
        [u], [start] = batch.u, context.draws
        logits_x = context.student(batch.x)
        with frozen_statistics(context.student):
            logits_u = context.student(u)
            direction = adversarial_direction(
                context.student,
                u.detach(),
                at_least_single(logits_u.detach()).softmax(dim=1),
                start,
                xi=self.xi,
                num_iterations=self.num_iterations,
            )
            logits_moved = context.student(u + self.epsilon * direction)
        values = kl_between(logits_moved, logits_u.detach())  # (U,)
        weight = linear_rampup(context.progress, self.rampup) * self.unlabeled_weight
        low_entropy = self.entropy_weight * entropy(logits_u).mean()
        return StepLoss(
            supervised=cross_entropy(logits_x, batch.y).mean(),
            unsupervised=weight * values.mean() + low_entropy,
            pseudo_label=logits_u.detach().argmax(dim=1),
            used=torch.ones_like(values),
        )


def adversarial_direction(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    probs: Tensor,
    start: Tensor,
    *,
    xi: float,
    num_iterations: int,
) -> Tensor:
    """Of unit length for each image: where KL(probs || prediction) grows fastest, near enough.

    The divergence is 0 at the image itself, where it has its minimum, so that this is the dominant
    eigenvector of its Hessian. The gradient a little off, at xi * direction, is xi times the
    Hessian applied to the direction: one power iteration. No gradient is left anywhere.

    Args:
        network: images -> logits (U, K).
        images: (U, ...).
        probs: what the network predicts for them (U, K), without gradients.
        start: a random direction per image, of any length, as the images in shape.
    """

    def divergence(change: Tensor) -> Tensor:
        return kl_divergence(probs, network(images + change)).mean()

    direction = start
    with torch.no_grad():  # of what is outside `divergence`, whose own gradient it does not stop
        for _ in range(num_iterations):
            direction = torch.func.grad(divergence)(xi * unit(direction))
        return unit(direction)


def unit(x: Tensor) -> Tensor:
    """Each example scaled to Euclidean length 1; shorter where it is all but 0, which stays 0.

    By its largest entry first, whose square might underflow: gradients are tiny here. The two
    small constants are the reference's.

    Args:
        x: (N, ...).

    >>> unit(torch.tensor([[3e-9, 4e-9], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    axes = tuple(range(1, x.ndim))
    x = x / (1e-12 + x.abs().amax(axes, keepdim=True))
    return x / (1e-6 + x.square().sum(axes, keepdim=True)).sqrt()


def kl_between(logits: Tensor, other: Tensor) -> Tensor:
    """KL(softmax(logits) || softmax(other)) in nats (N,), in single precision at least.

    Gradients flow into both, and are finite also where a probability underflows.

    >>> kl_between(torch.tensor([[0.0, -200.0]]), torch.tensor([[0.0, 0.0]]))  # log 2
    tensor([0.6931])
    """
    log_probs = at_least_single(logits).log_softmax(dim=1)
    others = at_least_single(other).log_softmax(dim=1)
    return (log_probs.exp() * (log_probs - others)).sum(dim=1)
