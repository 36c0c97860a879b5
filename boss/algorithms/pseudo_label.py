"""Pseudo-Label (Lee 2013, ICML workshop on challenges in representation learning).

Dimensions: B labeled images, U unlabeled ones, K classes.
"""

from typing import ClassVar, final

from boss.algorithms.base import Algorithm, Batch, Context, StepLoss
from boss.errors import check_interval, choose
from boss.forward import frozen_statistics
from boss.losses import at_least_single, cross_entropy, linear_rampup, masked_mean

# Whom the threshold concerns: the batch as a whole, or each image by itself.
MASKS = ("batch", "example")


@final
class PseudoLabel(Algorithm):
    """The student's confident prediction on a weak view becomes the label of that same view.

        mask="batch"    loss = mean CE(y, x) + w * (1/U sum CE(argmax q, u)) * (1/U sum m)
        mask="example"  loss = mean CE(y, x) + w * 1/U sum m CE(argmax q, u)

    with q = softmax of the logits on u, m = 1[max q > threshold], and
    w = unlabeled_weight * min(1, progress / rampup). The pass that predicts q is the one that
    learns. All means are over ALL U images. Two passes, each normalized by its own batch
    statistics: the labeled images (this pass updates the running statistics), then the unlabeled
    ones. The reference uses one unlabeled image per labeled one.

    The rule that is meant is mask="example". The reference code (google-research/fixmatch,
    pseudo_label.py) multiplies a loss of shape (U,) by a mask of shape (U, 1), which broadcasts to
    (U, U), so that its mean is the product of the two means: the share of confident images scales
    the loss of all images, and unconfident ones train on their own predictions as well. Published
    numbers come from that code, so mask="batch" is the default.

    The threshold is strict (">") as in the reference, unlike FixMatch's ">=". The reference differs
    from the paper, and this follows the reference: the paper has no threshold, and its weight is 0
    at first, then rises to 3 and stays there.

    The step's `used` marks the confident images (m) with either mask.

    Args:
        threshold: tau, in [0, 1): no probability exceeds 1.
        unlabeled_weight: of the unlabeled loss after the ramp-up.
        rampup: share of the training over which the weight rises from 0, in (0, 1].
        mask: "batch" as in the reference, or "example", the intended rule.
    """

    title = "Pseudo-Label"
    summary = "a confident prediction becomes the label of the view it was made on"
    source = "Lee 2013, ICML workshop on challenges in representation learning"
    views = ("weak",)
    before: ClassVar = {"mask": "example"}

    def __init__(
        self,
        threshold: float = 0.95,
        unlabeled_weight: float = 1.0,
        rampup: float = 0.4,
        mask: str = "batch",
    ) -> None:
        super().__init__()
        check_interval("[0, 1)", threshold=threshold)
        check_interval("[0, inf)", unlabeled_weight=unlabeled_weight)
        check_interval("(0, 1]", rampup=rampup)
        choose(mask, dict.fromkeys(MASKS), what="mask")
        self.threshold = threshold
        self.unlabeled_weight = unlabeled_weight
        self.rampup = rampup
        self.mask = mask

    def loss(self, batch: Batch, context: Context) -> StepLoss:
        [u] = batch.u
        logits_x = context.student(batch.x)
        with frozen_statistics(context.student):
            logits_u = context.student(u)
        probs = at_least_single(logits_u.detach()).softmax(dim=1)  # (U, K)
        confidence, pseudo_label = probs.max(dim=1)  # (U,), (U,)
        used = (confidence > self.threshold).to(probs.dtype)
        values = cross_entropy(logits_u, pseudo_label)  # (U,)
        if self.mask == "batch":
            unlabeled = values.mean() * used.mean()
        else:
            unlabeled = masked_mean(values, used)
        weight = linear_rampup(context.progress, self.rampup) * self.unlabeled_weight
        return StepLoss(
            supervised=cross_entropy(logits_x, batch.y).mean(),
            unsupervised=weight * unlabeled,
            pseudo_label=pseudo_label,
            used=used,
        )
