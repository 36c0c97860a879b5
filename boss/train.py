"""The training loop, written out in full, in reading order.

Dimensions: B labeled images per step, U = unlabeled_ratio * B unlabeled ones, K classes.

One step, whatever the algorithm: draw indices, augment on the device, ask the algorithm for its
loss, backward, SGD with Nesterov momentum, move the teacher. Nothing inside a step waits for the
device; the sums behind the logs stay there until an evaluation copies them once.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from boss.algorithms import Algorithm, Batch, Context, StepLoss
from boss.augment import RandAugment, Weak, to_float
from boss.data import ImageSet
from boss.evaluate import Evaluation, evaluate
from boss.seeds import EpochOrder, Streams


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What the loop needs to know; the fields mean what they mean in `boss.study.Run`."""

    num_images: int
    batch_size: int
    unlabeled_ratio: int
    learning_rate: float
    momentum: float
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
        """learning_rate * cos(7 pi k / 16 K), k of K images seen (Sohn et al. 2020, section 2.3).

        It ends at 0.195 of its start. There is no warm-up.
        """
        return self.learning_rate * math.cos(7 / 16 * math.pi * self.progress(step))

    def evaluation_steps(self) -> frozenset[int]:
        """The numbers of steps done after which to evaluate: evenly spaced, the last included."""
        num = min(self.num_evaluations, self.num_steps)
        return frozenset(round(i * self.num_steps / num) for i in range(1, num + 1))


class TrainingData(NamedTuple):
    """Images on the device of the networks."""

    labeled: ImageSet
    unlabeled: ImageSet  # the true classes are for the logs only: no algorithm sees them
    test: ImageSet
    validation: ImageSet | None  # held-out training images, in neither of the first two
    flip: bool  # whether a mirrored image is still one of its class


class NonFiniteLossError(RuntimeError):
    """The loss became infinite or not a number; the message names the step."""


@dataclass
class Totals:
    """Sums over the steps since the last evaluation, on the device."""

    losses: Tensor  # supervised, unsupervised (2,)
    pseudo_labels: Tensor  # predicted, used, used and right; per class (3, K)
    first_bad_step: Tensor  # the first step of a non-finite loss, or inf
    steps: int = 0
    unlabeled: int = 0  # unlabeled images seen

    @classmethod
    def zero(cls, num_classes: int, device: torch.device) -> "Totals":
        return cls(
            losses=torch.zeros(2, dtype=torch.float64, device=device),
            pseudo_labels=torch.zeros(3, num_classes, dtype=torch.float64, device=device),
            first_bad_step=torch.full((), math.inf, dtype=torch.float64, device=device),
        )

    def add(self, losses: StepLoss, truth: Tensor, classes: Tensor, step: int) -> None:
        """Count one step. truth: the true classes of the unlabeled images (U,)."""
        pair = torch.stack([losses.supervised, losses.unsupervised]).detach().double()
        self.losses += pair
        bad = torch.where(pair.isfinite().all(), math.inf, float(step + 1))
        self.first_bad_step = torch.minimum(self.first_bad_step, bad)
        if len(losses.pseudo_label):
            used, right = losses.used.double(), losses.pseudo_label == truth
            # A product with the one-hot matrix, not a scatter: exact and in a fixed order.
            one_hot = (losses.pseudo_label[:, None] == classes).double()  # (U, K)
            self.pseudo_labels += torch.stack([torch.ones_like(used), used, used * right]) @ one_hot
            self.unlabeled += len(truth)
        self.steps += 1

    def check_finite(self) -> None:
        """Raises NonFiniteLossError if a loss was not finite. Waits for the device."""
        if math.isfinite(step := float(self.first_bad_step)):
            raise NonFiniteLossError(f"the loss is not finite at step {int(step)}")


@dataclass
class Training:
    """Everything that changes while training, and nothing else: what a checkpoint holds."""

    _PLAIN: ClassVar[tuple[str, ...]] = (
        *("step", "seconds", "evaluations", "class_evaluations"),
        *("best_accuracy", "best_weights"),
    )
    student: nn.Module
    teacher: nn.Module
    algorithm: Algorithm
    optimizer: torch.optim.Optimizer
    streams: Streams
    totals: Totals
    step: int = 0
    seconds: float = 0.0
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    class_evaluations: list[dict[str, Any]] = field(default_factory=list)
    # The weights of the highest test accuracy so far, of either network: an oracle, which nothing
    # uses but the runs that are to show its effect.
    best_accuracy: float = -1.0
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """A copy-free view of the state, of plain types and tensors."""
        state = {
            name: getattr(self, name).state_dict()
            for name in ("student", "teacher", "algorithm", "optimizer", "streams")
        }
        state["totals"] = dict(vars(self.totals))
        return state | {name: getattr(self, name) for name in self._PLAIN}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become exactly what `state_dict` was taken of."""
        for name in ("student", "teacher", "algorithm", "optimizer", "streams"):
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
    config: TrainConfig,
    streams: Streams,
    num_classes: int,
    device: torch.device,
) -> Training:
    """Step 0: the teacher equals the student, the optimizer knows which weights decay."""
    # channels_last is the layout that convolutions are fast in, on CPUs and GPUs alike.
    student = student.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    algorithm = algorithm.to(device)
    trained = [*student.parameters(), *algorithm.parameters()]
    optimizer = torch.optim.SGD(
        [
            # The reference adds an L2 loss over kernels: no decay on biases and batch norm.
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        fused=True,
    )
    return Training(
        student=student.train(),
        teacher=make_teacher(student),
        algorithm=algorithm.train(),
        optimizer=optimizer,
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
    device = data.labeled.images.device
    size, num_classes = data.labeled.images.shape[-1], data.labeled.num_classes
    num_unlabeled = config.unlabeled_ratio * config.batch_size
    dtype = torch.float64 if config.precision == "fp64" else torch.float32
    weak = Weak(size, flip=data.flip, device=device)
    strong = RandAugment(size, device=device)
    order = EpochOrder(len(data.unlabeled), num_unlabeled, *key, "unlabeled order", device=device)
    classes = torch.arange(num_classes, device=device)
    evaluation_steps = config.evaluation_steps()
    student, teacher, streams = training.student, training.teacher, training.streams
    averaged, trained = list(teacher.parameters()), list(student.parameters())
    move_average = get_ema_multi_avg_fn(config.teacher_decay)  # type: ignore[no-untyped-call]

    def view(kind: str, images: Tensor) -> Tensor:  # (U, C, H, W) uint8 -> [-1, 1]
        # Every view starts from a weak draw of its own; "strong" goes on from there.
        generator = streams["unlabeled augmentation"]
        images = weak(images, weak.draw(len(images), generator))
        if kind == "weak":
            return to_float(images, dtype=dtype)
        return to_float(*strong(images, strong.draw(len(images), generator)), dtype=dtype)

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
        x = data.labeled.images[picks]  # (B, C, H, W) uint8
        x = weak(x, weak.draw(len(x), streams["labeled augmentation"]))
        u_index = order[step] if num_unlabeled else picks[:0]  # (U,)
        u = data.unlabeled.images[u_index]  # (U, C, H, W) uint8
        batch = Batch(
            x=to_float(x, dtype=dtype),
            y=data.labeled.labels[picks],
            u=tuple(view(kind, u) for kind in training.algorithm.views),
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
            losses = training.algorithm.loss(batch, context)

        # 3. The update: SGD on the student, then the moving average.
        training.optimizer.zero_grad(set_to_none=True)
        (losses.supervised + losses.unsupervised).backward()  # type: ignore[no-untyped-call]
        for group in training.optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step)
        training.optimizer.step()
        with torch.no_grad():
            move_average(averaged, trained, 0)

        # 4. The logs.
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


def _record(training: Training, data: TrainingData, config: TrainConfig) -> None:
    """Evaluate both networks and append their rows (`boss.store.TABLES` says what they mean)."""
    totals = training.totals
    losses = (totals.losses / totals.steps).tolist()
    _, used, right = totals.pseudo_labels.tolist()  # each per class (K,)
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
                "pseudo_label_accuracy": _ratio(sum(right), sum(used)),
                "learning_rate": config.learning_rate_at(training.step - 1),
            }
        )
        training.class_evaluations += _class_rows(training, name, test, data.test.class_names)


def _class_rows(
    training: Training, network: str, test: Evaluation, class_names: tuple[str, ...]
) -> list[dict[str, Any]]:
    predicted, used, right = training.totals.pseudo_labels.tolist()
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
            "pseudo_label_accuracy": _ratio(right[k], used[k]),
        }
        for k in range(len(class_names))
    ]


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
