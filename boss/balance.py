"""BOSS class balancing: which pseudo-labels count, and how much.

Dimensions: U unlabeled images, K classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from boss.errors import choose

# What the weights divide by: nothing, or how often the class is predicted in the batch, or how
# often a prediction of it is used.
WEIGH_BY = ("none", "predicted", "used")


class Balanced(NamedTuple):
    """The result of `balance`. Nothing here carries a gradient."""

    pseudo_label: Tensor  # classes (U,)
    used: Tensor  # 0/1, which of them are confident enough (U,)
    weight: Tensor  # of each in the loss, 0 where not used; they sum to the number used (U,)


def balance(probs: Tensor, *, threshold: float, max_drop: float, weigh_by: str) -> Balanced:
    """Pseudo-labels with thresholds and weights that keep the classes in balance.

    From BOSS (Smith and Conovaloff 2020, arXiv 2006.09363). With yhat_b = argmax q_b, and c_n the
    number of images of this batch, confident or not, that are predicted to be of class n:

        tau_n  = threshold - max_drop * (1 - c_n / max c)
        used_b = 1[max q_b >= tau_n],  n = yhat_b
        weight_b = used_b / (Z c_n)    for weigh_by "predicted"
                   used_b / (Z c'_n)   for weigh_by "used", c' counting the used images alone
                   used_b              for weigh_by "none"

    where Z makes the weights sum to the number of used images. With "used" every class of which an
    image is used gets the same total weight. A class that nobody predicts has the lowest threshold
    and no image that could profit from it. There is no state: each batch counts for itself. With
    max_drop 0 and "none" this is FixMatch.

    Where the paper says otherwise or nothing, this follows the authors' TensorFlow code: ">=", not
    ">"; where max_drop is 0, weights go with the one threshold tau (their methods 2 and 3).

    Args:
        probs: q of the weak views (U, K), rows sum to 1, single or double precision.
        threshold: tau.
        max_drop: Delta, by how much the threshold of a class may fall; 0 for one threshold.
        weigh_by: "none", "predicted" or "used".

    Raises:
        InputError: there is no such weigh_by.

    >>> probs = torch.tensor([[0.99, 0.01], [0.97, 0.03], [0.2, 0.8]])
    >>> balance(probs, threshold=0.95, max_drop=0.25, weigh_by="used")  # tau_n = .95, .825
    Balanced(pseudo_label=tensor([0, 0, 1]), used=tensor([1., 1., 0.]), weight=tensor([1., 1., 0.]))
    >>> balance(probs, threshold=0.95, max_drop=0.4, weigh_by="used").weight  # tau_n = .95, .75
    tensor([0.7500, 0.7500, 1.5000])
    """
    choose(weigh_by, dict.fromkeys(WEIGH_BY), what="weigh_by")
    assert probs.element_size() >= 4, "half precision cannot count a batch"
    confidence, pseudo_label = probs.max(dim=1)  # (U,), (U,)
    # Counts are sums of a one-hot matrix: of fixed shape, exact, in the same order every time.
    classes = torch.arange(probs.shape[1], device=probs.device)
    one_hot = (pseudo_label[:, None] == classes).to(probs.dtype)  # (U, K)
    num_predicted = one_hot.sum(dim=0)  # c (K,)
    thresholds = class_thresholds(num_predicted, threshold, max_drop)  # (K,)
    used = (confidence >= thresholds[pseudo_label]).to(probs.dtype)  # (U,)
    if weigh_by == "none":
        return Balanced(pseudo_label, used, used)
    num_used = (one_hot * used[:, None]).sum(dim=0)  # c' (K,)
    count = (num_predicted if weigh_by == "predicted" else num_used).clamp(min=1)  # (K,)
    # Z = sum_b (used_b / c_n) / sum_b used_b, summed over classes. Where nothing is used, both
    # sums are 0, and so are all weights.
    tiny = torch.finfo(probs.dtype).tiny
    class_weight = num_used.sum() / ((num_used / count).sum().clamp(min=tiny) * count)  # (K,)
    return Balanced(pseudo_label, used, used * class_weight[pseudo_label])


def class_thresholds(count: Tensor, threshold: float, max_drop: float) -> Tensor:
    """threshold - max_drop * (1 - count / max count): the rarer the class, the lower.

    Args:
        count: predictions of each class in the batch (K,), at least one in all.

    Returns:
        (K,), exactly `threshold` for the class predicted most often.

    >>> class_thresholds(torch.tensor([4.0, 1.0, 0.0]), threshold=0.95, max_drop=0.25)
    tensor([0.9500, 0.7625, 0.7000])
    """
    largest = count.max()
    return threshold - max_drop * ((largest - count) / largest)
