"""What a training is: its configuration, its data, and everything that changes while it goes on.

Dimensions: B labeled images per step, U = unlabeled_ratio * B unlabeled ones, K classes.
"""

import copy
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from boss.algorithms import Algorithm, StepLoss
from boss.augment import Views
from boss.data import ImageSet
from boss.seeds import Streams
from boss.training.config import TrainConfig
from boss.training.optim import make_optimizer
from boss.training.probe import memory_format


@dataclass(frozen=True, eq=False)
class UnlabeledImages:
    """What a network learns from without labels."""

    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) true classes, -1 unknown: for the logs only, no algorithm sees them

    def __len__(self) -> int:
        return len(self.labels)


class TrainingData(NamedTuple):
    """Images on the device of the networks."""

    labeled: ImageSet
    unlabeled: UnlabeledImages
    test: ImageSet
    validation: ImageSet | None  # held-out training images, in neither of the first two


class NonFiniteLossError(RuntimeError):
    """The loss became infinite or not a number; the message names the step."""


@dataclass
class Totals:
    """Sums over the steps since the last evaluation, on the device."""

    losses: Tensor  # supervised, unsupervised (2,)
    pseudo_labels: Tensor  # predicted, used, of these of known class, right; per class (4, K)
    first_bad_step: Tensor  # the first step of a non-finite loss, or inf
    steps: int = 0
    unlabeled: int = 0  # unlabeled images seen

    @classmethod
    def zero(cls, num_classes: int, device: torch.device) -> "Totals":
        return cls(
            losses=torch.zeros(2, dtype=torch.float64, device=device),
            pseudo_labels=torch.zeros(4, num_classes, dtype=torch.float64, device=device),
            first_bad_step=torch.full((), math.inf, dtype=torch.float64, device=device),
        )

    def reset(self) -> None:
        """Back to zero, in place: a recorded step goes on adding to the same tensors."""
        self.losses.zero_()
        self.pseudo_labels.zero_()
        self.first_bad_step.fill_(math.inf)
        self.steps = self.unlabeled = 0

    def add(self, losses: StepLoss, truth: Tensor, classes: Tensor, number: Tensor) -> None:
        """Add one step; the host counts `steps` and `unlabeled`.

        Args:
            truth: the true classes of the unlabeled images, -1 unknown (U,).
            classes: 0 to K - 1 (K,).
            number: of the step, from 0, a float64 scalar.
        """
        pair = torch.stack([losses.supervised, losses.unsupervised]).detach().double()
        self.losses += pair
        bad = torch.where(pair.isfinite().all(), math.inf, number + 1)
        self.first_bad_step.copy_(torch.minimum(self.first_bad_step, bad))
        if len(losses.pseudo_label):
            used, right = losses.used.double(), losses.pseudo_label == truth
            # A product with the one-hot matrix, not a scatter: exact and in a fixed order.
            one_hot = (losses.pseudo_label[:, None] == classes).double()  # (U, K)
            rows = [torch.ones_like(used), used, used * (truth >= 0), used * right]
            self.pseudo_labels += torch.stack(rows) @ one_hot

    def check_finite(self) -> None:
        """Raises NonFiniteLossError if a loss was not finite. Waits for the device."""
        if math.isfinite(step := float(self.first_bad_step)):
            raise NonFiniteLossError(f"the loss is not finite at step {int(step)}")


@dataclass
class Training:
    """Everything that changes while training, and nothing else: what a checkpoint holds."""

    _STATEFUL: ClassVar[tuple[str, ...]] = (
        *("student", "teacher", "algorithm", "optimizer"),
        *("views", "streams"),
    )
    _PLAIN: ClassVar[tuple[str, ...]] = (
        *("step", "seconds", "processor_seconds", "evaluations", "class_evaluations", "rates"),
        *("best_accuracy", "best_weights", "executions", "first_step_seconds"),
    )
    # What checkpoints from before lack: not known.
    _LATER: ClassVar[dict[str, Any]] = {"processor_seconds": math.nan}
    student: nn.Module
    teacher: nn.Module
    algorithm: Algorithm
    optimizer: torch.optim.Optimizer
    views: Views
    streams: Streams
    totals: Totals
    step: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0  # over all threads
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    class_evaluations: list[dict[str, Any]] = field(default_factory=list)
    rates: list[tuple[int, Tensor]] = field(default_factory=list)  # of CTAugment, by step
    # The weights of the highest test accuracy so far, of either network: an oracle, which nothing
    # uses but the runs that are to show its effect.
    best_accuracy: float = -1.0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    executions: list[str] = field(default_factory=list)  # how its steps were, in order
    first_step_seconds: float | None = None  # see `boss.training.loop.train`

    def state_dict(self) -> dict[str, Any]:
        """A copy-free view of the state, of plain types and tensors."""
        state = {name: getattr(self, name).state_dict() for name in self._STATEFUL}
        state["totals"] = dict(vars(self.totals))
        return state | {name: getattr(self, name) for name in self._PLAIN}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become exactly what `state_dict` was taken of."""
        for name in self._STATEFUL:
            getattr(self, name).load_state_dict(state[name])
        for name, value in state["totals"].items():
            if isinstance(value, Tensor):
                getattr(self.totals, name).copy_(value)
            else:
                setattr(self.totals, name, value)
        for name in self._PLAIN:
            setattr(self, name, (self._LATER | state)[name])


def start(
    student: nn.Module,
    algorithm: Algorithm,
    views: Views,
    config: TrainConfig,
    streams: Streams,
    num_classes: int,
    device: torch.device,
    layout: str,
) -> Training:
    """Step 0: the teacher equals the student, the optimizer knows which weights decay.

    Args:
        algorithm: its state allocated.
        layout: of memory, one of `boss.training.config.LAYOUTS`.
    """
    student = student.to(device, memory_format=memory_format(layout))  # type: ignore[call-overload]
    algorithm = algorithm.to(device)
    return Training(
        student=student.train(),
        teacher=make_teacher(student),
        algorithm=algorithm.train(),
        optimizer=make_optimizer(
            config.optimizer,
            [*student.parameters(), *algorithm.parameters()],
            learning_rate=config.learning_rate,
            momentum=config.momentum,
            nesterov=config.nesterov,
            beta2=config.beta2,
            weight_decay=config.weight_decay,
            in_bf16=config.precision == "bf16",
        ),
        views=views,
        streams=streams,
        totals=Totals.zero(num_classes, device),
    )


def make_teacher(student: nn.Module) -> nn.Module:
    """A copy of the student without gradients that shares its running statistics.

    The moving average covers trainable weights only: the averaged network runs on the live
    statistics of batch norm (google-research/fixmatch, utils.getter_ema).
    """
    teacher = copy.deepcopy(student).eval().requires_grad_(False)
    for mine, theirs in zip(teacher.modules(), student.modules(), strict=True):
        for name, buffer in theirs.named_buffers(recurse=False):
            mine.register_buffer(name, buffer)
    return teacher
