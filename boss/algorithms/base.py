"""The contract between an algorithm and the trainer.

Dimensions: B labeled images, U unlabeled images per view, C channels, H x W pixels, K classes.

An algorithm is given the networks and owns its forward passes; the trainer owns everything else:
the loop, the optimizer, the data, the logs, the checkpoints. State that an algorithm keeps between
steps is a buffer, changed in place, a head that it trains beside the student a submodule: both are
saved and resumed.

A step is drawn first and computed then. So the computing can be compiled, which no generator can,
and captured as a CUDA graph, which repeats it on the same memory and never asks the host again.
"""

import abc
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

# How an image is augmented before an algorithm sees it: not at all; mirrored and shifted; that, and
# then distorted by the policy of the run (`Run.augmentation`).
VIEWS = ("none", "weak", "strong")


class Batch(NamedTuple):
    """The images of one step. No true class of an unlabeled image is among them."""

    x: Tensor  # labeled images, augmented as `Algorithm.labeled_view` (B, C, H, W) in [-1, 1]
    y: Tensor  # their classes (B,)
    u: tuple[Tensor, ...]  # the unlabeled images once per view, each (U, C, H, W) in [-1, 1]
    u_index: Tensor  # their positions in the unlabeled set (U,)


class Context(NamedTuple):
    """Everything else that a loss may look at."""

    student: nn.Module  # images -> logits, in training mode
    teacher: nn.Module  # moving average of the student, in evaluation mode, without gradients
    progress: Tensor  # share of the training done, in [0, 1), a scalar on the device
    draws: tuple[Tensor, ...]  # what `Algorithm.draw` returned for this step


class StepLoss(NamedTuple):
    """The losses of a step: the trainer minimizes supervised + unsupervised."""

    supervised: Tensor  # a scalar
    unsupervised: Tensor  # a scalar, already weighted; 0 where there is none
    pseudo_label: Tensor  # classes (U,), for the logs; (0,) where there are none
    used: Tensor  # 0/1, which of them count in the loss, with any weight (U,)


class Sizes(NamedTuple):
    """What the state of an algorithm may depend on."""

    num_classes: int  # K
    num_features: int  # of `student.features(images)`
    num_unlabeled: int  # images in the unlabeled set


class Algorithm(nn.Module, abc.ABC):
    """A loss and what it needs. Subclasses are final; hyperparameters are arguments of __init__.

    title, summary, source, balances: how plans and reports describe it; literals, since
        `boss.study.catalog` reads them from the file. So is `before`: of a hyperparameter that was
        added later, the value that earlier runs had, where it is not the default.
    views: how the unlabeled images are augmented, one of `VIEWS` for each view.
    labeled_view: how the labeled ones are.
    """

    title: str
    summary: str
    source: str
    balances: bool = False  # whether it sets thresholds or weights by class
    before: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    views: tuple[str, ...]
    labeled_view: str = "weak"

    def allocate(self, sizes: Sizes, generator: torch.Generator) -> None:
        """Make the buffers and heads, once, before the first step. Most algorithms have none.

        Args:
            generator: draws initial weights, on the CPU.
        """

    def draw(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The algorithm's own draws for a step. Most have none.

        Args:
            generator: draws, on the device.

        Returns:
            Of shapes that depend on those of the batch alone.
        """
        return ()

    @abc.abstractmethod
    def loss(self, batch: Batch, context: Context) -> StepLoss:
        """The losses of one step: fixed shapes, nothing that waits for the device.

        A function of the batch, the context, the parameters and the buffers. From step to step only
        buffers change, and in place: at the same addresses, and nothing on the host.
        """
