"""The training loop, written out in full, in reading order.

Dimensions: B labeled images per step, U = unlabeled_ratio * B unlabeled ones, K classes.

One step, whatever the algorithm: draw indices, augment on the device, ask the algorithm for its
loss, backward, let the optimizer move the student, move the teacher after it. Nothing inside a step
waits for the device; the sums behind the logs stay there until an evaluation copies them once.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from boss.algorithms import Algorithm, Batch, Context, StepLoss
from boss.augment import CTAugment, Views, to_float
from boss.data import ImageSet
from boss.evaluate import Evaluation, evaluate, forward_in
from boss.losses import at_least_single
from boss.optimization import learning_rate_at, make_optimizer
from boss.seeds import EpochOrder, Streams


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What the loop needs to know; the fields mean what they mean in `boss.study.Run`."""

    num_images: int
    batch_size: int
    unlabeled_ratio: int
    optimizer: str
    learning_rate: float
    schedule: str
    final_learning_rate: float
    momentum: float
    nesterov: bool
    beta2: float
    weight_decay: float
    teacher_decay: float
    num_evaluations: int
    precision: str

    @property
    def num_steps(self) -> int:
        return math.ceil(self.num_images / self.batch_size)

    def progress(self, step: int) -> float:
        """Share of the training done before step `step`, counted in labeled images."""
        return min(step * self.batch_size / self.num_images, 1.0)

    def learning_rate_at(self, step: int) -> float:
        """Of step `step`, by the schedule."""
        return learning_rate_at(
            self.schedule, self.progress(step), self.learning_rate, self.final_learning_rate
        )

    def evaluation_steps(self) -> frozenset[int]:
        """The numbers of steps done after which to evaluate: evenly spaced, the last included."""
        num = min(self.num_evaluations, self.num_steps)
        return frozenset(round(i * self.num_steps / num) for i in range(1, num + 1))


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

    def add(self, losses: StepLoss, truth: Tensor, classes: Tensor, step: int) -> None:
        """Count one step. truth: the true classes of the unlabeled images, -1 unknown (U,)."""
        pair = torch.stack([losses.supervised, losses.unsupervised]).detach().double()
        self.losses += pair
        bad = torch.where(pair.isfinite().all(), math.inf, float(step + 1))
        self.first_bad_step = torch.minimum(self.first_bad_step, bad)
        if len(losses.pseudo_label):
            used, right = losses.used.double(), losses.pseudo_label == truth
            # A product with the one-hot matrix, not a scatter: exact and in a fixed order.
            one_hot = (losses.pseudo_label[:, None] == classes).double()  # (U, K)
            rows = [torch.ones_like(used), used, used * (truth >= 0), used * right]
            self.pseudo_labels += torch.stack(rows) @ one_hot
            self.unlabeled += len(truth)
        self.steps += 1

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
        *("step", "seconds", "evaluations", "class_evaluations", "rates"),
        *("best_accuracy", "best_weights"),
    )
    student: nn.Module
    teacher: nn.Module
    algorithm: Algorithm
    optimizer: torch.optim.Optimizer
    views: Views
    streams: Streams
    totals: Totals
    step: int = 0
    seconds: float = 0.0
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    class_evaluations: list[dict[str, Any]] = field(default_factory=list)
    rates: list[tuple[int, Tensor]] = field(default_factory=list)  # of CTAugment, by step
    # The weights of the highest test accuracy so far, of either network: an oracle, which nothing
    # uses but the runs that are to show its effect.
    best_accuracy: float = -1.0
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """A copy-free view of the state, of plain types and tensors."""
        state = {name: getattr(self, name).state_dict() for name in self._STATEFUL}
        state["totals"] = dict(vars(self.totals))
        return state | {name: getattr(self, name) for name in self._PLAIN}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become exactly what `state_dict` was taken of."""
        for name in self._STATEFUL:
            getattr(self, name).load_state_dict(state[name])
        device = self.totals.losses.device
        totals: dict[str, Any] = state["totals"]
        for name, value in totals.items():
            setattr(self.totals, name, value.to(device) if isinstance(value, Tensor) else value)
        for name in self._PLAIN:
            setattr(self, name, state[name])


def start(
    student: nn.Module,
    algorithm: Algorithm,
    views: Views,
    config: TrainConfig,
    streams: Streams,
    num_classes: int,
    device: torch.device,
) -> Training:
    """Step 0: the teacher equals the student, the optimizer knows which weights decay.

    Args:
        algorithm: its state allocated.
    """
    # channels_last is the layout that convolutions are fast in, on CPUs and GPUs alike.
    student = student.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
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


def train(
    training: Training,
    data: TrainingData,
    config: TrainConfig,
    *,
    key: tuple[object, ...],
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[Training], None] = lambda training: None,
) -> bool:
    """Train from `training.step` to the last step.

    Args:
        training: changed in place.
        key: of the order of the unlabeled images, `Run.stream_key`.
        should_stop: asked before every step.
        report: called after every step (progress, checkpoints). It must leave `training` alone.

    Returns:
        Whether the last step was reached; otherwise `should_stop` said so.

    Raises:
        NonFiniteLossError: found at the next evaluation, report or stop; the step is the exact one.
    """
    device, num_classes = data.labeled.images.device, data.labeled.num_classes
    num_unlabeled = config.unlabeled_ratio * config.batch_size
    order = EpochOrder(len(data.unlabeled), num_unlabeled, *key, "unlabeled order", device=device)
    classes = torch.arange(num_classes, device=device)
    evaluation_steps = config.evaluation_steps()
    student, teacher, streams = training.student, training.teacher, training.streams
    algorithm, views, optimizer = training.algorithm, training.views, training.optimizer
    averaged, trained = list(teacher.parameters()), list(student.parameters())
    # By the number of steps before: only the mean of all of them asks for it.
    move_average = (
        get_swa_multi_avg_fn()  # type: ignore[no-untyped-call]
        if config.optimizer == "asgd"
        else get_ema_multi_avg_fn(config.teacher_decay)  # type: ignore[no-untyped-call]
    )

    began = time.perf_counter() - training.seconds
    while training.step < config.num_steps:
        if should_stop():
            training.totals.check_finite()
            training.seconds = time.perf_counter() - began
            return False
        step = training.step

        # 1. The batch. Labeled images are drawn with replacement: with ten of them, the
        # reference's shuffled, repeated file comes to the same.
        generator = streams["labeled order"]
        picks = torch.randint(
            len(data.labeled), (config.batch_size,), generator=generator, device=device
        )
        weak_x = views.weak(data.labeled.images[picks], streams["labeled augmentation"])
        if algorithm.labeled_view == "weak":
            x = to_float(weak_x, dtype=views.dtype)
        else:
            x = views.distort(weak_x, streams["labeled augmentation"])
        y = data.labeled.labels[picks]
        u_index = order[step] if num_unlabeled else picks[:0]  # (U,)
        u = data.unlabeled.images[u_index]  # (U, C, H, W) uint8
        batch = Batch(
            x=x,
            y=y,
            # Every view starts from a weak draw of its own.
            u=tuple(
                views.view(kind, u, streams["unlabeled augmentation"]) for kind in algorithm.views
            ),
            u_index=u_index,
        )

        # 2. The loss.
        context = Context(
            student=student,
            teacher=teacher,
            progress=torch.full((), config.progress(step), device=device),
            generator=streams["algorithm"],
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            losses = algorithm.loss(batch, context)

        # 3. The update: the student, then the teacher.
        optimizer.zero_grad(set_to_none=True)
        (losses.supervised + losses.unsupervised).backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step)
        optimizer.step()
        with torch.no_grad():
            move_average(averaged, trained, step)

        # 4. CTAugment: how well does the teacher recognize what is labeled, distorted at random?
        if views.ctaugment is not None:
            _probe(views.ctaugment, teacher, weak_x, y, streams["probes"], config.precision)

        # 5. The logs.
        training.totals.add(losses, data.unlabeled.labels[u_index], classes, step)
        training.step += 1
        if training.step in evaluation_steps:
            training.totals.check_finite()
            _record(training, data, config)
            training.totals = Totals.zero(num_classes, device)
        # Of the wall clock: a GPU that is behind catches up at the next evaluation or report.
        training.seconds = time.perf_counter() - began
        report(training)
    return True


@torch.no_grad()
def _probe(
    policy: CTAugment,
    teacher: nn.Module,
    images: Tensor,
    y: Tensor,
    generator: torch.Generator,
    precision: str,
) -> None:
    """Move the rates of the operations that distort these images, by the teacher's probability of
    their class: 1 - |p - y|_1 / 2 of the reference is p_y.

    Args:
        images: weakly augmented uint8 (B, C, H, W); nothing is trained on what is made of them.
        y: their classes (B,).
    """
    draws = policy.draw_probe(len(images), generator)
    logits = forward_in(precision, teacher, policy(images, draws))
    probs = at_least_single(logits).softmax(dim=1)  # (B, K)
    policy.update(draws, probs.gather(1, y[:, None]).squeeze(1))


def _record(training: Training, data: TrainingData, config: TrainConfig) -> None:
    """Evaluate both networks and append their rows (`boss.store.TABLES` says what they mean)."""
    totals = training.totals
    losses = (totals.losses / totals.steps).tolist()
    _, used, known, right = totals.pseudo_labels.tolist()  # each per class (K,)
    if training.views.ctaugment is not None:
        training.rates.append((training.step, training.views.ctaugment.rates.cpu().clone()))
    for name, network in (("teacher", training.teacher), ("student", training.student)):
        test = evaluate(network, data.test, precision=config.precision)
        if not math.isfinite(test.mean_loss):  # the last step's update can spoil it as well
            raise NonFiniteLossError(
                f"the {name}'s test loss is not finite after step {training.step}"
            )
        if test.accuracy > training.best_accuracy:
            training.best_accuracy = test.accuracy
            training.best_weights = {k: v.clone() for k, v in network.state_dict().items()}
        validation = None
        if data.validation is not None:
            validation = evaluate(network, data.validation, precision=config.precision)
        training.evaluations.append(
            {
                "step": training.step,
                "images_seen": training.step * config.batch_size,
                "network": name,
                "test_accuracy": test.accuracy,
                "test_loss": test.mean_loss,
                "validation_accuracy": validation.accuracy if validation else None,
                "supervised_loss": losses[0],
                "unsupervised_loss": losses[1] if totals.unlabeled else None,
                "used_share": _ratio(sum(used), totals.unlabeled),
                "pseudo_label_accuracy": _ratio(sum(right), sum(known)),
                "learning_rate": config.learning_rate_at(training.step - 1),
            }
        )
        training.class_evaluations += _class_rows(training, name, test, data.test.class_names)


def _class_rows(
    training: Training, network: str, test: Evaluation, class_names: tuple[str, ...]
) -> list[dict[str, Any]]:
    predicted, used, known, right = training.totals.pseudo_labels.tolist()
    guesses = training.totals.unlabeled > 0
    return [
        {
            "step": training.step,
            "network": network,
            "class_index": k,
            "class_name": class_names[k],
            "test_accuracy": _ratio(int(test.correct[k]), int(test.total[k])),
            "test_count": int(test.total[k]),
            "predicted_count": int(predicted[k]) if guesses else None,
            "pseudo_label_count": int(used[k]) if guesses else None,
            "pseudo_label_accuracy": _ratio(right[k], known[k]),
        }
        for k in range(len(class_names))
    ]


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
