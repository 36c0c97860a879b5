"""The Pi-model (Laine and Aila 2017, arXiv 1610.02242): consistency between two weak views.

Dimensions: B labeled images, U unlabeled ones per view, K classes.
"""

from typing import final

import torch

from boss.algorithms.base import Algorithm, Batch, Context, StepLoss
from boss.errors import check_interval
from boss.forward import frozen_statistics
from boss.losses import at_least_single, cross_entropy, linear_rampup, squared_error


@final
class PiModel(Algorithm):
    """The prediction on one weak view is the target of another, by squared error.

        loss = mean CE(y, x) + ramp * unlabeled_weight * 1/(U K) sum (p2 - q1)^2

    with q1 and p2 = softmax of the logits of the two views, q1 without gradient, and
    ramp = min(1, progress / rampup). Three passes, each normalized by its own images: the labeled
    images (it moves the running statistics), view 1, view 2. In the reference one unlabeled image
    per labeled one.

    Deviations of the reference from the paper, followed here: the paper lets both views learn,
    adds the squared error of the labeled images, and ramps up along a Gaussian.

    Args:
        unlabeled_weight: of the squared error after the ramp.
        rampup: share of the training over which the weight rises from 0, in (0, 1].
    """

    title = "Pi-Model"
    summary = "consistency between two weakly augmented views"
    source = "Laine and Aila 2017, arXiv 1610.02242"
    views = ("weak", "weak")

    def __init__(self, unlabeled_weight: float = 10.0, rampup: float = 0.4) -> None:
        super().__init__()
        check_interval("[0, inf)", unlabeled_weight=unlabeled_weight)
        check_interval("(0, 1]", rampup=rampup)
        self.unlabeled_weight = unlabeled_weight
        self.rampup = rampup

    def loss(self, batch: Batch, context: Context) -> StepLoss:
        view1, view2 = batch.u
        logits_x = context.student(batch.x)
        with frozen_statistics(context.student):
            with torch.no_grad():
                target = at_least_single(context.student(view1)).softmax(dim=1)  # (U, K)
            probs = at_least_single(context.student(view2)).softmax(dim=1)  # (U, K)
        values = squared_error(probs, target)  # (U,)
        weight = linear_rampup(context.progress, self.rampup) * self.unlabeled_weight
        return StepLoss(
            supervised=cross_entropy(logits_x, batch.y).mean(),
            unsupervised=weight * values.mean(),
            pseudo_label=target.argmax(dim=1),
            used=torch.ones_like(values),
        )
