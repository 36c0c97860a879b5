"""FixMatch (Sohn et al. 2020, arXiv 2001.07685).

Dimensions: B labeled images, U = mu * B unlabeled ones, K classes.
"""

from typing import ClassVar, final

from torch import Tensor

from boss.algorithms.base import Algorithm, Batch, Context, StepLoss
from boss.errors import InputError
from boss.forward import joint
from boss.losses import at_least_single, cross_entropy, masked_mean


@final
class FixMatch(Algorithm):
    """The prediction on a weak view, where it is confident, is the label of the strong view.

        loss = mean CE(y, x) + unlabeled_weight * 1/U sum 1[max q >= threshold] CE(argmax q, strong)

    with q = softmax of the weak view's logits (equations 3 to 5). The pseudo-labels come from the
    student itself, in the same joint pass over all B + 2U images. The mean is over ALL U images.

    Deviation from the paper's equation 4, which prints ">": the reference code uses ">=".

    Args:
        threshold: tau, in [0, 1].
        unlabeled_weight: lambda_u.
    """

    views: ClassVar[tuple[str, ...]] = ("weak", "strong")

    def __init__(self, threshold: float = 0.95, unlabeled_weight: float = 1.0) -> None:
        super().__init__()
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold must lie in [0, 1], not {threshold}")
        if not unlabeled_weight >= 0:
            raise InputError(f"unlabeled_weight must not be negative, not {unlabeled_weight}")
        self.threshold = threshold
        self.unlabeled_weight = unlabeled_weight

    def loss(self, batch: Batch, context: Context) -> StepLoss:
        weak, strong = batch.u
        logits_x, logits_weak, logits_strong = joint(context.student, (batch.x, weak, strong))
        pseudo_label, used = pseudo_labels(logits_weak, self.threshold)
        unlabeled = masked_mean(cross_entropy(logits_strong, pseudo_label), used)
        return StepLoss(
            supervised=cross_entropy(logits_x, batch.y).mean(),
            unsupervised=self.unlabeled_weight * unlabeled,
            pseudo_label=pseudo_label,
            used=used,
        )


def pseudo_labels(logits_weak: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """argmax q (U,) and 1[max q >= threshold] (U,) for q = softmax(logits), without gradients.

    >>> pseudo_labels(torch.tensor([[0.0, 3.0], [0.0, 2.0]]), threshold=0.95)  # q = .953, .881
    (tensor([1, 1]), tensor([1., 0.]))
    """
    probs = at_least_single(logits_weak.detach()).softmax(dim=1)  # (U, K)
    confidence, pseudo_label = probs.max(dim=1)  # (U,), (U,)
    return pseudo_label, (confidence >= threshold).to(probs.dtype)
