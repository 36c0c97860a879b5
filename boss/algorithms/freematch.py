"""FreeMatch (Wang et al. 2023, arXiv 2205.07246): FixMatch with thresholds that set themselves.

Dimensions: B labeled images, U = mu * B unlabeled ones, K classes.
"""

from typing import final

import torch
from torch import Tensor

from boss.algorithms.base import Algorithm, Batch, Context, Sizes, StepLoss
from boss.errors import InputError, check_interval
from boss.forward import joint
from boss.losses import at_least_single, cross_entropy, masked_mean, one_hot

TINY = 1e-12


@final
class FreeMatch(Algorithm):
    """The threshold is the student's mean confidence, lower for classes that it predicts rarely.

        loss  = mean CE(y, x) + unlabeled_weight * 1/U sum 1[max q >= tau_c] CE(c, strong)
                + fairness_weight * fairness
        tau_c = clip(t * p_c / max p),  c = argmax q

    with q = softmax of the weak view's logits. t, p and h are moving averages over batches, each
    entry at first 1 / K: of the mean of max q, of the mean of q, and of the share of each class
    among the predictions. A batch is counted first, then masked (self-adaptive thresholding). Then,
    over the strong views used, with pbar the mean of their softmax and hbar the share of each class
    among their predictions,

        fairness = sum_c norm(p / h)_c * log(norm(pbar / hbar)_c + 1e-12)

    where norm divides by the sum and quotients by 0 count as 0; it is 0 where nothing is used. The
    gradient flows through pbar alone.

    Its sign: it is MINUS the cross entropy of the two vectors, so never positive, and minimizing it
    drives them apart. That is the sign in the paper (equation 11) and in both codes of its authors
    (TorchSSL and USB), and it is kept so that results are comparable. The authors' reason is that
    it maximizes the entropy of the mean prediction (USB, issue 182).

    The pseudo-labels come from the student itself, in the same joint pass over all B + 2U images,
    which alone moves the running statistics. The mean is over ALL U images. Both codes run it with
    7 unlabeled images per labeled one (unlabeled_ratio) and the settings of FixMatch.

    Defaults are those of USB for CIFAR-10 with 40 labels; TorchSSL weighs fairness by 0.01. On SVHN
    TorchSSL clips the thresholds to [0.9, 0.95], as threshold_min and threshold_max do; USB clips t
    to at most 0.95 there, which has no option here. Nor have soft labels and, in USB, a quantile in
    place of the mean of max q, both off by default.

    Args:
        unlabeled_weight: of the pseudo-labels.
        fairness_weight: of the fairness.
        decay: of the moving averages, in [0, 1).
        threshold_min: the lowest that a threshold may be, in [0, 1].
        threshold_max: the highest, in [threshold_min, 1].
    """

    title = "FreeMatch"
    summary = "FixMatch with thresholds that follow the mean confidence, overall and per class"
    source = "Wang et al. 2023, arXiv 2205.07246"
    balances = True
    views = ("weak", "strong")
    mean_confidence: Tensor  # t (1,)
    mean_probs: Tensor  # p (K,)
    mean_share: Tensor  # h (K,)

    def __init__(
        self,
        unlabeled_weight: float = 1.0,
        fairness_weight: float = 0.001,
        decay: float = 0.999,
        threshold_min: float = 0.0,
        threshold_max: float = 1.0,
    ) -> None:
        super().__init__()
        check_interval(
            "[0, inf)", unlabeled_weight=unlabeled_weight, fairness_weight=fairness_weight
        )
        check_interval("[0, 1)", decay=decay)
        if not 0 <= threshold_min <= threshold_max <= 1:
            raise InputError(
                f"threshold_min and threshold_max must be in order in [0, 1], not {threshold_min}"
                f" and {threshold_max}"
            )
        self.unlabeled_weight = unlabeled_weight
        self.fairness_weight = fairness_weight
        self.decay = decay
        self.threshold_min = threshold_min
        self.threshold_max = threshold_max

    def allocate(self, sizes: Sizes, generator: torch.Generator) -> None:
        share = 1 / sizes.num_classes
        # Of one entry, not a scalar: what compiled code of torch 2.11 writes to a scalar of double
        # precision on the CPU is lost.
        self.register_buffer("mean_confidence", torch.full((1,), share))
        self.register_buffer("mean_probs", torch.full((sizes.num_classes,), share))
        self.register_buffer("mean_share", torch.full((sizes.num_classes,), share))

    def loss(self, batch: Batch, context: Context) -> StepLoss:
        weak, strong = batch.u
        logits_x, logits_weak, logits_strong = joint(context.student, (batch.x, weak, strong))
        probs = at_least_single(logits_weak.detach()).softmax(dim=1)  # (U, K)
        confidence, pseudo_label = probs.max(dim=1)  # (U,), (U,)
        self._count(confidence, probs, one_hot(pseudo_label, probs.shape[1], probs.dtype))

        relative = self.mean_probs / self.mean_probs.max()
        thresholds = (self.mean_confidence * relative).clamp(self.threshold_min, self.threshold_max)
        used = (confidence >= thresholds[pseudo_label]).to(probs.dtype)  # (U,)
        values = cross_entropy(logits_strong, pseudo_label)  # (U,)
        unfair = fairness(logits_strong, used, self.mean_probs, self.mean_share)
        return StepLoss(
            supervised=cross_entropy(logits_x, batch.y).mean(),
            unsupervised=self.unlabeled_weight * masked_mean(values, used)
            + self.fairness_weight * unfair,
            pseudo_label=pseudo_label,
            used=used,
        )

    def _count(self, confidence: Tensor, probs: Tensor, predicted: Tensor) -> None:
        """Move the averages by a batch: (U,), (U, K) and, one-hot, (U, K)."""
        for average, now in (
            (self.mean_confidence, confidence.mean()),
            (self.mean_probs, probs.mean(dim=0)),
            (self.mean_share, predicted.mean(dim=0)),
        ):
            average.lerp_(now.to(average.dtype), 1 - self.decay)


def fairness(logits: Tensor, used: Tensor, mean_probs: Tensor, mean_share: Tensor) -> Tensor:
    """sum norm(p / h) * log norm(pbar / hbar), a scalar below or at 0 (equation 11).

    Args:
        logits: of the strong views (U, K).
        used: 0/1, over which of them pbar and hbar are taken (U,).
        mean_probs: p (K,).
        mean_share: h (K,).

    Returns:
        0 where nothing is used. The gradient flows through pbar alone.

    >>> logits = torch.tensor([[0.8, 0.2], [0.4, 0.6]]).log()  # pbar = .6, .4; hbar = .5, .5
    >>> p, h = torch.tensor([0.5, 0.5]), torch.tensor([0.2, 0.8])  # norm(p / h) = .8, .2
    >>> fairness(logits, torch.ones(2), p, h)  # .8 log .6 + .2 log .4
    tensor(-0.5919)
    """
    probs = at_least_single(logits).softmax(dim=1)  # (U, K)
    predicted = one_hot(probs.argmax(dim=1), probs.shape[1], probs.dtype)  # (U, K)
    # Means over the views used are these sums over their number, which norm cancels.
    target = norm(quotient(mean_probs, mean_share).to(probs.dtype))
    with torch.autocast(logits.device.type, enabled=False):  # it would take products in bf16
        found = norm(quotient(used @ probs, used @ predicted))
    return (target * (found + TINY).log()).sum() * (used.sum() > 0)


def quotient(a: Tensor, b: Tensor) -> Tensor:
    """a / b, or 0 where 1 / b is infinite."""
    inverse = 1 / b
    return a * torch.where(inverse.isinf(), 0, inverse)


def norm(a: Tensor) -> Tensor:
    """a / sum of a, or 0 where that sum is 0. Entries are not negative."""
    return a / a.sum().clamp(min=torch.finfo(a.dtype).tiny)
