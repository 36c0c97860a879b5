"""MixMatch (Berthelot et al. 2019, arXiv 1905.02249).

Dimensions: B labeled images, U = mu * B unlabeled ones, N = B + 2U of all views, K classes.
"""

from typing import final

import torch
from torch import Tensor

from boss.algorithms.base import Algorithm, Batch, Context, StepLoss
from boss.errors import check_interval
from boss.forward import frozen_statistics, separate_passes
from boss.losses import (
    at_least_single,
    cross_entropy,
    linear_rampup,
    one_hot,
    sharpen,
    squared_error,
)
from boss.mixup import check_alpha, draw_mixing, mix


@final
class MixMatch(Algorithm):
    """Predict the labels of unlabeled images, then mix all images and labels.

        q    = (mean of softmax over both weak views)^(1 / temperature), normalized
        loss = mean CE(y', x') + unlabeled_weight * ramp * 1/2U 1/K sum |q' - softmax(u')|^2

    (equations 2 to 5) where x', y', u' and q' are mixtures (`boss.mixup`): each row of [x, u1, u2]
    with that of one random permutation of all N rows, at least half of it itself (algorithm 1; the
    reference's mode xxy.yxy). x' are the first B mixtures, u' the others. The gradient does not
    flow through q.

    Passes: one for each view to predict, then one for each B mixtures, interleaved so that every
    pass sees a mix. All normalize by the statistics of their own images; the first pass of mixtures
    alone moves the running ones. The reference has as many unlabeled images as labeled ones
    (unlabeled_ratio 1) and so three passes of mixtures; any ratio mu makes 1 + 2 mu.

    Defaults are those of the reference (google-research/fixmatch, mixmatch.py), which trains by SGD
    with learning rate 0.03 and weight decay 5e-4, as FixMatch. Deviations:

    - The reference ramps over 1,024 of its 65,536 thousand images; here it is that share of the
      training, however long it is.
    - The code of the paper trains by Adam with learning rate 0.002 and weight decay 0.02: settings
      of the run.

    Every prediction is used: `used` is 1 throughout.

    Args:
        temperature: T, positive; below 1 it sharpens the predictions.
        alpha: of Beta(alpha, alpha), positive.
        unlabeled_weight: lambda_U, after the ramp.
        rampup: share of the training over which the weight rises linearly from 0, in (0, 1].
    """

    title = "MixMatch"
    summary = "sharpened predictions, averaged over weak views; images and labels are mixed"
    source = "Berthelot et al. 2019, arXiv 1905.02249"
    views = ("weak", "weak")

    def __init__(
        self,
        temperature: float = 0.5,
        alpha: float = 0.5,
        unlabeled_weight: float = 100.0,
        rampup: float = 1 / 64,
    ) -> None:
        super().__init__()
        check_interval("(0, inf)", temperature=temperature)
        check_alpha(alpha)
        check_interval("[0, inf)", unlabeled_weight=unlabeled_weight)
        check_interval("(0, 1]", rampup=rampup)
        self.temperature = temperature
        self.alpha = alpha
        self.unlabeled_weight = unlabeled_weight
        self.rampup = rampup

    def draw(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Partners and coefficients of the mixtures, each (N,)."""
        num = len(batch.x) + sum(len(u) for u in batch.u)
        return draw_mixing(num, self.alpha, generator)

    def loss(self, batch: Batch, context: Context) -> StepLoss:
        student, num_labeled = context.student, len(batch.x)
        partner, coefficient = context.draws
        with torch.no_grad(), frozen_statistics(student):
            first, second = (at_least_single(student(u)).softmax(dim=1) for u in batch.u)
        soft_label = sharpen((first + second) / 2, self.temperature)  # (U, K)

        images = torch.cat([batch.x, *batch.u])  # (N, C, H, W)
        labels = one_hot(batch.y, soft_label.shape[1], soft_label.dtype)  # (B, K)
        targets = torch.cat([labels, soft_label, soft_label])  # (N, K)
        images = mix(images, partner, coefficient)
        targets = mix(targets, partner, coefficient)

        logits = at_least_single(separate_passes(student, images, num_labeled, moving=0))  # (N, K)
        supervised = cross_entropy(logits[:num_labeled], targets[:num_labeled]).mean()
        probs = logits[num_labeled:].softmax(dim=1)  # (2U, K)
        unlabeled = squared_error(probs, targets[num_labeled:]).mean()
        ramp = linear_rampup(context.progress, self.rampup)
        return StepLoss(
            supervised=supervised,
            unsupervised=self.unlabeled_weight * ramp * unlabeled,
            pseudo_label=soft_label.argmax(dim=1),
            used=torch.ones_like(soft_label[:, 0]),
        )
