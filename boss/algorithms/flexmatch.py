"""FlexMatch (Zhang et al. 2021, arXiv 2110.08263): FixMatch with a threshold for each class.

Dimensions: B labeled images, U = mu * B unlabeled ones of M in all, K classes.
"""

import math
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from boss.algorithms.base import Algorithm, Batch, Context, Sizes, StepLoss
from boss.errors import check_interval, choose
from boss.forward import joint
from boss.losses import at_least_single, cross_entropy, masked_mean

# From how well a class is learned, in [0, 1], to its share of the threshold, in [0, 1].
MAPPINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "concave": lambda beta: beta.log1p() / math.log(2),
    "convex": lambda beta: beta / (2 - beta),
    "linear": lambda beta: beta,
}


@final
class FlexMatch(Algorithm):
    """Curriculum pseudo-labeling: the fewer images a class has got, the lower its threshold.

        loss = mean CE(y, x) + unlabeled_weight * 1/U sum 1[max q >= tau_c] CE(c, strong)
        tau_c = threshold * mapping(beta_c),  c = argmax q

    with q = softmax of the weak view's logits. beta_c says how well class c is learned: with
    sigma_c the number of images of the unlabeled set whose last confident pseudo-label is c (its
    equation 5),

        beta_c = sigma_c / max(max sigma, number of images without any)    with warmup
                 sigma_c / max sigma                                       without

    Confident means max q >= threshold itself, not tau_c. The pseudo-labels come from the student
    itself, in the same joint pass over all B + 2U images, which alone moves the running statistics.
    The mean is over ALL U images. A batch is masked by what was before it, then remembered. At
    first no image has a label, all beta are 0, and every image is used.

    Where an image is twice in a batch, which happens where the batch straddles epochs, its last
    confident pseudo-label in the order of the batch is remembered. In the authors' code (TorchSSL,
    and USB) that is left to chance. Other deviations:

    - That code leaves beta as it was while all images carry one class. Here it is 1 for that class
      and 0 for the others, as the equations say.
    - Its mappings are the paper's; the code has "convex" alone.

    Both codes run it with 7 unlabeled images per labeled one (unlabeled_ratio) and the settings of
    FixMatch.

    Args:
        threshold: tau, in (0, 1].
        unlabeled_weight: lambda_u.
        warmup: whether images without a label yet keep the thresholds low.
        mapping: "concave": log(1 + beta) / log 2; "convex": beta / (2 - beta); "linear": beta.
    """

    title = "FlexMatch"
    summary = "FixMatch with lower thresholds for classes that few images have reached"
    source = "Zhang et al. 2021, arXiv 2110.08263"
    balances = True
    views = ("weak", "strong")
    last_label: Tensor  # of every unlabeled image: a class, or K for none (M,)

    def __init__(
        self,
        threshold: float = 0.95,
        unlabeled_weight: float = 1.0,
        warmup: bool = True,
        mapping: str = "convex",
    ) -> None:
        super().__init__()
        check_interval("(0, 1]", threshold=threshold)
        check_interval("[0, inf)", unlabeled_weight=unlabeled_weight)
        self.threshold = threshold
        self.unlabeled_weight = unlabeled_weight
        self.warmup = warmup
        choose(mapping, MAPPINGS, what="mapping")
        self.mapping = mapping

    def allocate(self, sizes: Sizes, generator: torch.Generator) -> None:
        none = torch.full((sizes.num_unlabeled,), sizes.num_classes)
        self.register_buffer("last_label", none)

    def loss(self, batch: Batch, context: Context) -> StepLoss:
        weak, strong = batch.u
        logits_x, logits_weak, logits_strong = joint(context.student, (batch.x, weak, strong))
        probs = at_least_single(logits_weak.detach()).softmax(dim=1)  # (U, K)
        confidence, pseudo_label = probs.max(dim=1)  # (U,), (U,)
        beta = learned(self.last_label, probs.shape[1], warmup=self.warmup)  # (K,)
        thresholds = self.threshold * MAPPINGS[self.mapping](beta.to(probs.dtype))  # (K,)
        used = (confidence >= thresholds[pseudo_label]).to(probs.dtype)  # (U,)
        confident = confidence >= self.threshold  # (U,)
        self.last_label.copy_(remember(self.last_label, batch.u_index, pseudo_label, confident))
        values = cross_entropy(logits_strong, pseudo_label)  # (U,)
        return StepLoss(
            supervised=cross_entropy(logits_x, batch.y).mean(),
            unsupervised=self.unlabeled_weight * masked_mean(values, used),
            pseudo_label=pseudo_label,
            used=used,
        )


def learned(last_label: Tensor, num_classes: int, *, warmup: bool) -> Tensor:
    """beta: how many images have each class, over the most that have one.

    Args:
        last_label: classes, K for none (M,).
        num_classes: K.
        warmup: whether "none" competes for the most.

    Returns:
        (K,) in [0, 1], double precision; 0 where no image has a class.

    >>> learned(torch.tensor([0, 0, 1, 3, 3, 3, 3]), 3, warmup=True)
    tensor([0.5000, 0.2500, 0.0000], dtype=torch.float64)
    >>> learned(torch.tensor([0, 0, 1, 3, 3, 3, 3]), 3, warmup=False)
    tensor([1.0000, 0.5000, 0.0000], dtype=torch.float64)
    """
    # Whole numbers: the order in which a device adds them does not matter.
    count = last_label.new_zeros(num_classes + 1)
    count = count.scatter_add(0, last_label, torch.ones_like(last_label))  # (K + 1,)
    most = (count if warmup else count[:num_classes]).max()
    return count[:num_classes].double() / most.clamp(min=1)


def remember(last_label: Tensor, index: Tensor, pseudo_label: Tensor, confident: Tensor) -> Tensor:
    """`last_label` after a batch: its confident pseudo-labels written, the last of an image's.

    Args:
        last_label: (M,).
        index: positions in it, the same one any number of times (U,).
        pseudo_label: classes (U,).
        confident: which of them to write (U,).

    Returns:
        (M,).

    >>> yes = torch.tensor([True, True, False])
    >>> remember(torch.tensor([9, 9, 9]), torch.tensor([2, 2, 2]), torch.tensor([0, 1, 5]), yes)
    tensor([9, 9, 1])
    """
    # Different values written to one place have no order on a device: repeats write the same.
    position = torch.arange(len(index), device=index.device)
    same = (index[:, None] == index) & confident  # predictions for the image of a row (U, U)
    latest = torch.where(same, position, -1).amax(dim=1)  # (U,)
    label = torch.where(latest >= 0, pseudo_label[latest.clamp(min=0)], last_label[index])
    return last_label.scatter(0, index, label)
