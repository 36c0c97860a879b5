"""ReMixMatch (Berthelot et al. 2020, arXiv 1911.09785).

Dimensions: B labeled images, U = mu * B unlabeled ones, S strong views, N = B + (1 + S) U of all
views, F features, K classes.
"""

from typing import final

import torch
from torch import Tensor, nn

from boss.algorithms.base import Algorithm, Batch, Context, Sizes, StepLoss
from boss.errors import InputError, check_interval
from boss.forward import frozen_statistics, separate_passes
from boss.losses import at_least_single, cross_entropy, linear_rampup, one_hot, sharpen
from boss.mixup import check_alpha, draw_mixing, mix
from boss.models.base import initialize_linear

DATA_DECAY = 0.999
EPSILON = 1e-6

MAX_HISTORY = 10_000  # batches


@final
class ReMixMatch(Algorithm):
    """MixMatch with distribution alignment, consistency of strong views, and rotations.

        q    = softmax(weak) * (1e-6 + p_data) / (1e-6 + p_model), normalized, sharpened
        loss = mean CE(y', x')
               + mixed_weight * ramp * mean CE(q', u')
               + strong_weight * ramp * mean CE(q, strong_1)
               + rotation_weight * mean CE(r, rotation head(features(strong_1 turned r times)))

    x', y', u' and q' are mixtures (`boss.mixup`): each row of [x, weak, strong_1 to strong_S] with
    that of one random permutation of all N rows, at least half of it itself. x' are the first B
    mixtures, u' the others; q is the target of every view of an image. r is 0 to 3 quarter turns,
    drawn for each image. The gradient does not flow through q.

    Distribution alignment: p_model is the mean of the last `history` batches' mean predictions on
    the weak views, at first uniform; p_data a moving average (decay 0.999) of the shares of classes
    among the labeled images of a batch, at first uniform, too. A batch is aligned by what was
    before it, then counted, as in the reference: a batch does not correct itself.

    Passes: the weak views to predict, strong_1, strong_1 turned, then one for each B mixtures,
    interleaved so that every pass sees a mix. All normalize by the statistics of their own images;
    the last pass alone moves the running ones. The reference has as many unlabeled images as
    labeled ones (unlabeled_ratio 1).

    Labeled images are augmented strongly, as in the reference with CTAugment. The run's
    `augmentation` sets what a strong view is: with "ctaugment-without-cutout" it is the
    reference's, with "weak" that of the reference without CTAugment, where every view is weak.

    Defaults are those of the reference (google-research/fixmatch, cta/cta_remixmatch.py, which
    takes one strong view; the paper eight). That file's own learning rate of 0.002 and weight decay
    of 0.02 are left from the paper's Adam: with its SGD and L2 loss the ones to use are 0.03 and
    5e-4, as in remixmatch_no_cta.py. Deviations:

    - Its rotations are not drawn: each quarter of the batch gets one of the four. Here, as in the
      paper, each image gets any.
    - Without CTAugment its targets default to those of another view (redux "swap"); here they come
      from the weak view ("1st"), its default with CTAugment.
    - It ramps over 1,024 of its 65,536 thousand images; here it is that share of the training,
      however long it is.

    Every prediction is used: `used` is 1 throughout.

    Args:
        temperature: T, positive; below 1 it sharpens the predictions.
        alpha: of Beta(alpha, alpha), positive.
        num_strong: S, at least 1.
        mixed_weight: of the mixed unlabeled images, after the ramp.
        strong_weight: of the first strong view unmixed, after the ramp.
        rotation_weight: of the rotations, not ramped.
        rampup: share of the training over which two weights rise linearly from 0, in (0, 1].
        history: batches in p_model; 0 to leave predictions unaligned, an ablation of the paper.
    """

    title = "ReMixMatch"
    summary = "MixMatch with predictions aligned to the class frequencies, and strong views"
    source = "Berthelot et al. 2020, arXiv 1911.09785"
    labeled_view = "strong"
    p_data: Tensor  # (K,)
    predictions: Tensor  # the last batches' means, the latest last (history, K)
    rotation: nn.Linear  # F -> 4

    def __init__(
        self,
        temperature: float = 0.5,
        alpha: float = 0.75,
        num_strong: int = 1,
        mixed_weight: float = 1.5,
        strong_weight: float = 0.5,
        rotation_weight: float = 0.5,
        rampup: float = 1 / 64,
        history: int = 128,
    ) -> None:
        super().__init__()
        check_interval("(0, inf)", temperature=temperature)
        check_alpha(alpha)
        if not num_strong >= 1:
            raise InputError(f"num_strong must be at least 1, not {num_strong}")
        check_interval(
            "[0, inf)",
            mixed_weight=mixed_weight,
            strong_weight=strong_weight,
            rotation_weight=rotation_weight,
        )
        check_interval("(0, 1]", rampup=rampup)
        if not 0 <= history <= MAX_HISTORY:
            raise InputError(f"history must lie in [0, {MAX_HISTORY}], not {history}")
        self.views = ("weak", *["strong"] * num_strong)
        self.temperature = temperature
        self.alpha = alpha
        self.mixed_weight = mixed_weight
        self.strong_weight = strong_weight
        self.rotation_weight = rotation_weight
        self.rampup = rampup
        self.history = history

    def allocate(self, sizes: Sizes, generator: torch.Generator) -> None:
        uniform = torch.full((sizes.num_classes,), 1 / sizes.num_classes)
        self.register_buffer("p_data", uniform)
        self.register_buffer("predictions", uniform.repeat(self.history, 1))
        self.rotation = nn.Linear(sizes.num_features, 4)
        initialize_linear(self.rotation, generator)

    def draw(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Quarter turns (U,); partners and coefficients of the mixtures, each (N,)."""
        num_turned, num = len(batch.u[1]), len(batch.x) + sum(len(u) for u in batch.u)
        turns = torch.randint(4, (num_turned,), generator=generator, device=generator.device)
        return turns, *draw_mixing(num, self.alpha, generator)

    def loss(self, batch: Batch, context: Context) -> StepLoss:
        student, num_labeled = context.student, len(batch.x)
        turns, partner, coefficient = context.draws
        weak, strong, *_ = batch.u
        with frozen_statistics(student):
            with torch.no_grad():
                probs = at_least_single(student(weak)).softmax(dim=1)  # (U, K)
            logits_strong = student(strong)
            features = student.features(quarter_turns(strong, turns))  # type: ignore[operator]
            logits_rotation = self.rotation(features)  # (U, 4)
        labels = one_hot(batch.y, probs.shape[1], probs.dtype)  # (B, K)
        soft_label = self._soft_labels(probs, labels)  # (U, K)

        images = torch.cat([batch.x, *batch.u])  # (N, C, H, W)
        targets = torch.cat([labels, *[soft_label] * len(batch.u)])  # (N, K)
        images = mix(images, partner, coefficient)
        targets = mix(targets, partner, coefficient)

        logits = separate_passes(student, images, num_labeled, moving=-1)  # (N, K)
        mixed = cross_entropy(logits, targets)  # (N,)
        ramp = linear_rampup(context.progress, self.rampup)
        return StepLoss(
            supervised=mixed[:num_labeled].mean(),
            unsupervised=self.mixed_weight * ramp * mixed[num_labeled:].mean()
            + self.strong_weight * ramp * cross_entropy(logits_strong, soft_label).mean()
            + self.rotation_weight * cross_entropy(logits_rotation, turns).mean(),
            pseudo_label=soft_label.argmax(dim=1),
            used=torch.ones_like(soft_label[:, 0]),
        )

    def _soft_labels(self, probs: Tensor, labels: Tensor) -> Tensor:
        """The labels of the unlabeled images (U, K), and the batch's part in the averages.

        Args:
            probs: predictions on the weak views, without gradients (U, K).
            labels: of the labeled images (B, K).
        """
        if self.history == 0:
            return sharpen(probs, self.temperature)
        aligned = align(probs, self.p_data, self.predictions.mean(dim=0))
        self.p_data.lerp_(labels.mean(dim=0).to(self.p_data.dtype), 1 - DATA_DECAY)
        latest = probs.mean(dim=0, keepdim=True).to(self.predictions.dtype)  # (1, K)
        self.predictions.copy_(torch.cat([self.predictions[1:], latest]))
        return sharpen(aligned, self.temperature)


def align(probs: Tensor, p_data: Tensor, p_model: Tensor) -> Tensor:
    """probs * (1e-6 + p_data) / (1e-6 + p_model), normalized (section 3.1).

    Args:
        probs: (U, K).
        p_data: how frequent the classes are (K,).
        p_model: how frequently they are predicted (K,).

    Returns:
        (U, K).

    >>> align(torch.tensor([[0.6, 0.4]]), torch.tensor([0.5, 0.5]), torch.tensor([0.75, 0.25]))
    tensor([[0.3333, 0.6667]])
    """
    weighted = probs * ((EPSILON + p_data) / (EPSILON + p_model))
    return weighted / weighted.sum(dim=1, keepdim=True)


def quarter_turns(images: Tensor, turns: Tensor) -> Tensor:
    """Each image turned counterclockwise by as many right angles as it says.

    Args:
        images: square (U, C, H, H).
        turns: 0 to 3 (U,).

    Returns:
        (U, C, H, H).

    >>> quarter_turns(torch.tensor([[[[1, 2], [3, 4]]]]), torch.tensor([1]))
    tensor([[[[2, 4],
              [1, 3]]]])
    """
    every = torch.stack([images.rot90(k, dims=(2, 3)) for k in range(4)])  # (4, U, C, H, H)
    return every[turns, torch.arange(len(images), device=images.device)]
