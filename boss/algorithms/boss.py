"""BOSS (Smith and Conovaloff 2020, arXiv 2006.09363): FixMatch with balanced classes.

Dimensions: B labeled images, U = mu * B unlabeled ones, K classes.
"""

from typing import final

from torch import Tensor

from boss.algorithms.base import Algorithm, Batch, Context, StepLoss
from boss.balance import WEIGH_BY, balance
from boss.errors import InputError, check_interval, choose
from boss.forward import joint
from boss.losses import at_least_single, cross_entropy, masked_mean

AVERAGE_OVER = ("all", "used")


@final
class BOSS(Algorithm):
    """FixMatch, with lower thresholds for classes rarely predicted and a weight per pseudo-label.

        loss = mean CE(y, x) + unlabeled_weight * 1/U sum weight CE(argmax q, strong)

    with q = softmax of the weak view's logits and the weights of `boss.balance.balance`. The
    pseudo-labels come from the student itself, in the same joint pass over all B + 2U images. The
    authors' methods 1 to 4 are settings of max_drop and weigh_by (`boss.study.methods`); the
    default is method 4. With max_drop=0 and weigh_by="none" this is FixMatch.

    Where the paper and the two codes that its authors released disagree, this follows the
    TensorFlow code:

    - The mean is over ALL U images. The PyTorch code divides by the number used, which acts as a
      weight of U / number used on the unlabeled loss: average_over="used".
    - The weights count in method 4. The PyTorch code computes them there and leaves them out of
      the loss, so that its method 4 is its method 1: weigh_by="none".
    - ">=" everywhere. The paper prints ">"; the PyTorch code has ">" for method 0.
    - One joint pass. The PyTorch code predicts the weak views in a pass of their own, then trains
      on the labeled images and those strong views that are used; there is no option for that.

    Args:
        threshold: tau, in [0, 1].
        max_drop: Delta, 0 or between 0 and tau: by how much the threshold of a class may fall.
        weigh_by: "none", "predicted" or "used": weights by nothing, by how often a class is
            predicted in the batch, by how often a prediction of it is used.
        unlabeled_weight: lambda_u.
        average_over: "all" unlabeled images of the batch or those "used" (0 if there are none).
    """

    title = "BOSS"
    summary = "FixMatch whose thresholds and weights keep the classes in balance"
    source = "Smith and Conovaloff 2020, arXiv 2006.09363"
    balances = True
    views = ("weak", "strong")

    def __init__(
        self,
        threshold: float = 0.95,
        max_drop: float = 0.25,
        weigh_by: str = "used",
        unlabeled_weight: float = 1.0,
        average_over: str = "all",
    ) -> None:
        super().__init__()
        check_interval("[0, 1]", threshold=threshold)
        if not (max_drop == 0 or 0 < max_drop < threshold):
            raise InputError(
                f"max_drop must be 0 or lie between 0 and the threshold {threshold}, not {max_drop}"
            )
        choose(weigh_by, dict.fromkeys(WEIGH_BY), what="weigh_by")
        check_interval("[0, inf)", unlabeled_weight=unlabeled_weight)
        choose(average_over, dict.fromkeys(AVERAGE_OVER), what="average_over")
        self.threshold = threshold
        self.max_drop = max_drop
        self.weigh_by = weigh_by
        self.unlabeled_weight = unlabeled_weight
        self.average_over = average_over

    def loss(self, batch: Batch, context: Context) -> StepLoss:
        weak, strong = batch.u
        logits_x, logits_weak, logits_strong = joint(context.student, (batch.x, weak, strong))
        pseudo_label, used, weight = balance(
            at_least_single(logits_weak.detach()).softmax(dim=1),
            threshold=self.threshold,
            max_drop=self.max_drop,
            weigh_by=self.weigh_by,
        )
        values = cross_entropy(logits_strong, pseudo_label)  # (U,)
        if self.average_over == "all":
            unlabeled = masked_mean(values, weight)
        else:
            unlabeled = used_mean(values, weight, used)
        return StepLoss(
            supervised=cross_entropy(logits_x, batch.y).mean(),
            unsupervised=self.unlabeled_weight * unlabeled,
            pseudo_label=pseudo_label,
            used=used,
        )


def used_mean(values: Tensor, weight: Tensor, used: Tensor) -> Tensor:
    """sum(values * weight) / sum(used), a scalar; 0 where nothing is used.

    Args:
        values: (U,).
        weight: (U,), 0 where not used.
        used: 0 or 1 (U,).

    >>> used_mean(torch.tensor([4.0, 8.0]), torch.tensor([1.5, 0.0]), torch.tensor([1.0, 0.0]))
    tensor(6.)
    """
    return (values * weight).sum() / used.sum().clamp(min=1)
