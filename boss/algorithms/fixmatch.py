"""FixMatch (Sohn et al. 2020, arXiv 2001.07685).

Dimensions: B labeled images, U = mu * B unlabeled ones, K classes.
"""

from typing import final

from torch import Tensor

from boss.algorithms.base import VIEWS, Algorithm, Batch, Context, StepLoss
from boss.errors import InputError, check_interval, choose
from boss.forward import joint
from boss.losses import at_least_single, cross_entropy, masked_mean

LABELS = ("hard", "soft")


@final
class FixMatch(Algorithm):
    """The prediction on a weak view, where it is confident, is the label of the strong view.

        loss = mean CE(y, x) + unlabeled_weight * 1/U sum 1[max q >= threshold] CE(argmax q, strong)

    with q = softmax of the weak view's logits (equations 3 to 5). The pseudo-labels come from the
    student itself, in the same joint pass over all B + 2U images. The mean is over ALL U images.
    What a strong view is, is the run's `augmentation`.

    Deviation from the paper's equation 4, which prints ">": the reference code uses ">=".

    The options below unlabeled_weight are those of the paper's ablations (section 5); the defaults
    are FixMatch.

    Args:
        threshold: tau, in [0, 1].
        unlabeled_weight: lambda_u.
        temperature: T, positive: softmax(logits / T) in place of q. With hard labels it decides
            which are confident (the reference's ab_sharpen), with soft ones it sharpens the label,
            while the confidence is that of q (its ab_sharpen_conditional_consistency).
        labels: "hard": argmax; "soft": the distribution itself.
        label_view: of which augmentation q is the prediction: "none", "weak" or "strong".
        prediction_view: which augmentation has to predict the label.
    """

    title = "FixMatch"
    summary = "a confident prediction on a weak view becomes the label of a strong view"
    source = "Sohn et al. 2020, arXiv 2001.07685"

    def __init__(
        self,
        threshold: float = 0.95,
        unlabeled_weight: float = 1.0,
        temperature: float = 1.0,
        labels: str = "hard",
        label_view: str = "weak",
        prediction_view: str = "strong",
    ) -> None:
        super().__init__()
        check_interval("[0, 1]", threshold=threshold)
        check_interval("[0, inf)", unlabeled_weight=unlabeled_weight)
        check_interval("(0, inf)", temperature=temperature)
        choose(labels, dict.fromkeys(LABELS), what="labels")
        if labels == "hard" and temperature != 1 and threshold == 0:
            raise InputError("temperature has no effect on hard labels without a threshold")
        for name, view in (("label_view", label_view), ("prediction_view", prediction_view)):
            choose(view, dict.fromkeys(VIEWS), what=name)
        self.threshold = threshold
        self.unlabeled_weight = unlabeled_weight
        self.temperature = temperature
        self.labels = labels
        self.views = (label_view, prediction_view)

    def loss(self, batch: Batch, context: Context) -> StepLoss:
        weak, strong = batch.u
        logits_x, logits_weak, logits_strong = joint(context.student, (batch.x, weak, strong))
        if self.labels == "hard":
            pseudo_label, used = pseudo_labels(logits_weak, self.threshold, self.temperature)
            values = cross_entropy(logits_strong, pseudo_label)  # (U,)
        else:
            pseudo_label, used = pseudo_labels(logits_weak, self.threshold)
            sharpened = at_least_single(logits_weak.detach()) / self.temperature
            values = cross_entropy(logits_strong, sharpened.softmax(dim=1))
        return StepLoss(
            supervised=cross_entropy(logits_x, batch.y).mean(),
            unsupervised=self.unlabeled_weight * masked_mean(values, used),
            pseudo_label=pseudo_label,
            used=used,
        )


def pseudo_labels(
    logits_weak: Tensor, threshold: float, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """argmax q (U,) and 1[max q >= threshold] (U,) for q = softmax(logits / T), without gradients.

    >>> pseudo_labels(torch.tensor([[0.0, 3.0], [0.0, 2.0]]), threshold=0.95)  # q = .953, .881
    (tensor([1, 1]), tensor([1., 0.]))
    """
    probs = (at_least_single(logits_weak.detach()) / temperature).softmax(dim=1)  # (U, K)
    confidence, pseudo_label = probs.max(dim=1)  # (U,), (U,)
    return pseudo_label, (confidence >= threshold).to(probs.dtype)
