"""Pseudo-Label (Lee 2013, ICML workshop on challenges in representation learning).

Dimensions: B labeled images, U unlabeled ones, K classes.
"""

from typing import final

from boss.algorithms.base import Algorithm, Batch, Context, StepLoss
from boss.errors import check_not_negative, check_share
from boss.forward import frozen_statistics
from boss.losses import at_least_single, cross_entropy, linear_rampup, masked_mean


@final
class PseudoLabel(Algorithm):
    """What the student predicts on a weak view, where it is confident, is the view's own label.

        loss = mean CE(y, x)
               + ramp * unlabeled_weight * 1/U sum 1[max q > threshold] CE(argmax q, u)

    with q = softmax of the logits on u, those of the same pass that learns, and
    ramp = min(1, progress / rampup). The mean is over ALL U images. Two passes, each normalized by
    its own images: the labeled images (it moves the running statistics), the unlabeled ones. In
    the reference one unlabeled image per labeled one.

    ">" is the reference's, unlike FixMatch's ">=". Deviations of the reference from the paper,
    followed here: the paper has no threshold, and its weight waits, rises to 3, and is then
    constant.

    Args:
        threshold: tau, in [0, 1): no probability exceeds 1.
        unlabeled_weight: of the unlabeled loss after the ramp.
        rampup: share of the training over which the weight rises from 0, in (0, 1].
    """

    title = "Pseudo-Label"
    summary = "a confident prediction becomes the label of the view it was made on"
    source = "Lee 2013, ICML workshop on challenges in representation learning"
    views = ("weak",)

    def __init__(
        self, threshold: float = 0.95, unlabeled_weight: float = 1.0, rampup: float = 0.4
    ) -> None:
        super().__init__()
        check_share("[0, 1)", threshold=threshold)
        check_not_negative(unlabeled_weight=unlabeled_weight)
        check_share("(0, 1]", rampup=rampup)
        self.threshold = threshold
        self.unlabeled_weight = unlabeled_weight
        self.rampup = rampup

    def loss(self, batch: Batch, context: Context) -> StepLoss:
        [u] = batch.u
        logits_x = context.student(batch.x)
        with frozen_statistics(context.student):
            logits_u = context.student(u)
        probs = at_least_single(logits_u.detach()).softmax(dim=1)  # (U, K)
        confidence, pseudo_label = probs.max(dim=1)  # (U,), (U,)
        used = (confidence > self.threshold).to(probs.dtype)
        values = cross_entropy(logits_u, pseudo_label)  # (U,)
        weight = linear_rampup(context.progress, self.rampup) * self.unlabeled_weight
        return StepLoss(
            supervised=cross_entropy(logits_x, batch.y).mean(),
            unsupervised=weight * masked_mean(values, used),
            pseudo_label=pseudo_label,
            used=used,
        )
