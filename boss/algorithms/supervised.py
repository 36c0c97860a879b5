"""The baseline that every semi-supervised method has to beat: the labeled images alone.

Dimensions: B labeled images, K classes.
"""

from typing import final

from boss.algorithms.base import Algorithm, Batch, Context, StepLoss
from boss.errors import check_interval
from boss.losses import cross_entropy


@final
class Supervised(Algorithm):
    """Mean cross entropy on the weakly augmented labeled images; unlabeled ones are never seen.

        loss = mean CE((1 - smoothing) y + smoothing / K, x)

    With a few labels it is the baseline, with all of them the fully supervised reference; then the
    reference code of FixMatch (its fs_baseline) smooths by 0.001 on CIFAR-10 and by 0.01 on SVHN,
    and trains by Adam. Deviation: that code subtracts smoothing * (label - 1 / K) from the one-hot
    label, which is the same.

    Args:
        smoothing: how much of the label is spread evenly over all classes, in [0, 1).
    """

    title = "Supervised"
    summary = "trains on the labeled images alone"
    source = "the baseline of every semi-supervised method"
    views = ()

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        check_interval("[0, 1)", smoothing=smoothing)
        self.smoothing = smoothing

    def loss(self, batch: Batch, context: Context) -> StepLoss:
        logits = context.student(batch.x)
        supervised = cross_entropy(logits, batch.y, smoothing=self.smoothing).mean()
        return StepLoss(
            supervised=supervised,
            unsupervised=supervised.new_zeros(()),
            pseudo_label=batch.y.new_zeros(0),
            used=supervised.new_zeros(0),
        )
