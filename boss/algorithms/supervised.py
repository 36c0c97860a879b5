"""The baseline that every semi-supervised method has to beat: the labeled images alone."""

from typing import ClassVar, final

from boss.algorithms.base import Algorithm, Batch, Context, StepLoss
from boss.losses import cross_entropy


@final
class Supervised(Algorithm):
    """Mean cross entropy on the weakly augmented labeled images; unlabeled ones are never seen."""

    views: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()

    def loss(self, batch: Batch, context: Context) -> StepLoss:
        logits = context.student(batch.x)
        supervised = cross_entropy(logits, batch.y).mean()
        return StepLoss(
            supervised=supervised,
            unsupervised=supervised.new_zeros(()),
            pseudo_label=batch.y.new_zeros(0),
            used=supervised.new_zeros(0),
        )
