"""Mean Teacher (Tarvainen and Valpola 2017, arXiv 1703.01780): the moving average is the target.

Dimensions: B labeled images, U unlabeled ones per view, K classes.
"""

from typing import final

import torch

from boss.algorithms.base import Algorithm, Batch, Context, StepLoss
from boss.errors import check_interval
from boss.forward import frozen_statistics
from boss.losses import at_least_single, cross_entropy, linear_rampup, squared_error


@final
class MeanTeacher(Algorithm):
    """The teacher's prediction on one weak view is the student's target on another.

        loss = mean CE(y, x) + ramp * unlabeled_weight * 1/(U K) sum (p2 - q1)^2

    with q1 = softmax of the teacher's logits on view 1, p2 = softmax of the student's on view 2,
    and ramp = min(1, progress / rampup). The run's `teacher_decay` sets the decay of the teacher.

    Three passes, each normalized by its own images: the student on the labeled images (it moves
    the running statistics), the teacher on view 1, the student on view 2. So the teacher predicts
    as in training. It shares its running statistics with the student and leaves them alone. In
    the reference one unlabeled image per labeled one.

    Deviations of the reference from the paper, followed here: the paper adds the squared error of
    the labeled images, ramps up along a Gaussian, and starts with a faster teacher.

    Args:
        unlabeled_weight: of the squared error after the ramp.
        rampup: share of the training over which the weight rises from 0, in (0, 1].
    """

    title = "Mean Teacher"
    summary = "consistency with the averaged network on another weak view"
    source = "Tarvainen and Valpola 2017, arXiv 1703.01780"
    views = ("weak", "weak")

    def __init__(self, unlabeled_weight: float = 50.0, rampup: float = 0.4) -> None:
        super().__init__()
        check_interval("[0, inf)", unlabeled_weight=unlabeled_weight)
        check_interval("(0, 1]", rampup=rampup)
        self.unlabeled_weight = unlabeled_weight
        self.rampup = rampup

    def loss(self, batch: Batch, context: Context) -> StepLoss:
        view1, view2 = batch.u
        logits_x = context.student(batch.x)
        with torch.no_grad(), frozen_statistics(context.teacher):
            target = at_least_single(context.teacher(view1)).softmax(dim=1)  # (U, K)
        with frozen_statistics(context.student):
            probs = at_least_single(context.student(view2)).softmax(dim=1)  # (U, K)
        values = squared_error(probs, target)  # (U,)
        weight = linear_rampup(context.progress, self.rampup) * self.unlabeled_weight
        return StepLoss(
            supervised=cross_entropy(logits_x, batch.y).mean(),
            unsupervised=weight * values.mean(),
            pseudo_label=target.argmax(dim=1),
            used=torch.ones_like(values),
        )
