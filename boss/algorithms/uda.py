"""UDA, unsupervised data augmentation (Xie et al. 2020, arXiv 1904.12848).

Dimensions: B labeled images, U = mu * B unlabeled ones, K classes.
"""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from boss.algorithms.base import Algorithm, Batch, Context, StepLoss
from boss.errors import check_interval, choose
from boss.forward import joint
from boss.losses import at_least_single, cross_entropy, kl_divergence, masked_mean

# How far the bound on the labeled images has risen from 1/K to 1, by the share of training done.
ANNEALING: dict[str, Callable[[Tensor], Tensor]] = {
    "none": torch.ones_like,
    "linear": lambda progress: progress,
    "exp": lambda progress: torch.exp(5 * (progress - 1)),  # late: 0.007 at first, 0.08 halfway
    "log": lambda progress: 1 - torch.exp(-5 * progress),  # early: 0 at first, 0.92 halfway
}


@final
class UDA(Algorithm):
    """The prediction on a weak view, where it is confident, is the soft label of the strong view.

        loss = mean of those kept CE(y, x)
               + unlabeled_weight * 1/U sum 1[max q >= threshold] KL(softmax(logits / T) || strong)

    with the weak view's logits, without gradient, and q = softmax(logits), not sharpened (the
    paper's equation 1, and its confidence masking and sharpening). One joint pass over all
    B + 2U images, which moves the running statistics; the mean is over ALL U images. In the
    reference seven unlabeled images per labeled one. The run's `augmentation` sets what a strong
    view is.

    Training signal annealing keeps the few labeled images from being memorized: a labeled image
    whose true class has a probability p > eta is left out of the supervised mean, which is over
    those kept (0 if none), and eta = alpha (1 - 1/K) + 1/K rises from about 1/K to 1 with

        alpha = t (linear),  exp(5 (t - 1)) (exp),  1 - exp(-5 t) (log),  t = progress.

    The comparison is strict in both codes: p = eta is kept.

    Deviations: ">=" in the confidence as in the reference code, where UDA's own has ">". There
    alpha runs over all of the training, as it does here; the reference's is done after 2^22 images
    at the latest, a sixteenth of its training. Its entropy term, of weight 0, is left out.

    Args:
        threshold: tau, in [0, 1].
        unlabeled_weight: lambda_u.
        temperature: T, positive; 1 leaves the target as it is predicted, less sharpens it.
        annealing: "none" (every labeled image counts), "linear", "exp" or "log".
    """

    title = "UDA"
    summary = "FixMatch with the whole predicted distribution in place of the most probable class"
    source = "Xie et al. 2020, arXiv 1904.12848"
    views = ("weak", "strong")

    def __init__(
        self,
        threshold: float = 0.95,
        unlabeled_weight: float = 1.0,
        temperature: float = 1.0,
        annealing: str = "none",
    ) -> None:
        super().__init__()
        check_interval("[0, 1]", threshold=threshold)
        check_interval("[0, inf)", unlabeled_weight=unlabeled_weight)
        check_interval("(0, inf)", temperature=temperature)
        choose(annealing, ANNEALING, what="annealing")
        self.threshold = threshold
        self.unlabeled_weight = unlabeled_weight
        self.temperature = temperature
        self.annealing = annealing

    def loss(self, batch: Batch, context: Context) -> StepLoss:
        weak, strong = batch.u
        logits_x, logits_weak, logits_strong = joint(context.student, (batch.x, weak, strong))
        logits_weak = at_least_single(logits_weak.detach())
        confidence, pseudo_label = logits_weak.softmax(dim=1).max(dim=1)  # (U,), (U,)
        used = (confidence >= self.threshold).to(confidence.dtype)
        target = (logits_weak / self.temperature).softmax(dim=1)  # (U, K)
        values = kl_divergence(target, logits_strong)  # (U,)
        alpha = ANNEALING[self.annealing](context.progress)
        return StepLoss(
            supervised=annealed_mean(logits_x, batch.y, alpha),
            unsupervised=self.unlabeled_weight * masked_mean(values, used),
            pseudo_label=pseudo_label,
            used=used,
        )


def annealed_mean(logits: Tensor, y: Tensor, alpha: Tensor) -> Tensor:
    """The mean cross entropy of the images whose true class is not yet too probable; 0 if none.

    Args:
        logits: (B, K).
        y: (B,).
        alpha: 0: up to probability 1/K; 1: all count.

    >>> logits, y = torch.tensor([[0.0, 0.0], [9.0, 0.0]]), torch.tensor([0, 0])
    >>> annealed_mean(logits, y, torch.tensor(0.5))  # log 2: the second has .9999, more than .75
    tensor(0.6931)
    """
    probs = at_least_single(logits.detach()).softmax(dim=1).gather(1, y[:, None])[:, 0]  # (B,)
    # As alpha (1 - 1/K) + 1/K, but exactly 1 where alpha is.
    eta = 1 - (1 - alpha) * (1 - 1 / logits.shape[1])
    kept = (probs <= eta).to(probs.dtype)
    return (cross_entropy(logits, y) * kept).sum() / kept.sum().clamp(min=1)
