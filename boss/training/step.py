"""One training step on the device, from the draws to the sums, in reading order.

Dimensions: B labeled images, U = unlabeled_ratio * B unlabeled ones, K classes.

Everything in a step has a fixed shape, state changes in place, and nothing waits for the device. So
one step is a list of kernels on fixed addresses, and can be executed in four ways:

eager           operation by operation, as written: the reference
compiled        augmentation, losses with their gradients, and probes by torch.compile
graph           recorded once as a CUDA graph, then replayed by one launch per step
compiled-graph  both

None of them changes the algorithm. Augmentation is the same bit for bit; compiled losses differ by
rounding. What differs from step to step on the host (its number, the learning rate, the unlabeled
images) is written into tensors before a step begins.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from boss.algorithms import Algorithm, Batch, Context, StepLoss
from boss.augment import CTADraws, CTAugment, StrongDraws, ViewDraws, Views, WeakDraws, to_float
from boss.losses import at_least_single
from boss.training.config import EXECUTIONS, TrainConfig
from boss.training.evaluate import forward_in
from boss.training.state import Training, TrainingData

# Steps before a graph is recorded: they allocate the optimizer's state and compile.
WARMUP_STEPS = 3


F = TypeVar("F", bound=Callable[..., Any])


Capture = Callable[[Callable[[], None], Iterable[torch.Generator]], Callable[[], None]]


class Draws(NamedTuple):
    """All that is random in a batch."""

    labeled_index: Tensor  # positions among the labeled images (B,)
    weak: WeakDraws  # of the labeled images
    strong: StrongDraws | CTADraws | Tensor  # of these again, where they are distorted
    unlabeled: tuple[ViewDraws, ...]  # of each view
    probe: CTADraws | None  # of the labeled images once more, where CTAugment learns


class Images(NamedTuple):
    """What `augment` makes of the pixels of a batch."""

    x: Tensor  # (B, C, H, W) in [-1, 1]
    u: tuple[Tensor, ...]  # the same for each view (U, C, H, W)
    probe: Tensor | None  # uint8 (B, C, H, W)


class Step:
    """Trains by one step per call; changes `training`, whose `step` the caller counts.

    Args:
        training: at the step to go on from.
        data: on the device of the networks.
        execution: one of `boss.training.config.EXECUTIONS`; those with a graph need a CUDA device.
        capture: turns a function without arguments into one that does the same on the same
            addresses, given the generators that it draws from.
    """

    def __init__(
        self,
        training: Training,
        data: TrainingData,
        config: TrainConfig,
        execution: str = "eager",
        capture: Capture | None = None,
    ) -> None:
        assert execution in EXECUTIONS
        self.training, self.data, self.config = training, data, config
        self.captured = execution.endswith("graph")
        self._capture = cuda_graph if capture is None else capture
        self._replay: Callable[[], None] | None = None
        self._num_eager = 0
        self._num_pseudo_labels = 0  # of a step, for the logs
        device = data.labeled.images.device
        self.device = device
        compile_ = compiled if execution.startswith("compiled") else _as_is
        # Without fused multiply-adds: augmentation is the same on every device to the last bit.
        self._augment = compile_(augment, exact=True)
        self._losses = compile_(losses_of)
        self._learn_rates = compile_(learn_rates)

        # What changes from step to step, at fixed addresses.
        num_unlabeled = config.unlabeled_ratio * config.batch_size
        self._u_index = torch.zeros(num_unlabeled, dtype=torch.int64, device=device)
        self._number = torch.zeros((), dtype=torch.float64, device=device)
        self._progress = torch.zeros((), device=device)
        # The fused optimizers take single precision on GPUs, any on CPUs.
        exact = torch.float64 if device.type == "cpu" else torch.float32
        self._learning_rates = []
        for group in training.optimizer.param_groups:
            group["lr"] = torch.zeros((), dtype=exact, device=device)
            self._learning_rates.append((group["lr"], group.get("scale", 1.0)))
        self._trained: list[Tensor] = list(training.student.parameters())
        self._averaged: list[Tensor] = list(training.teacher.parameters())
        self._classes = torch.arange(data.labeled.num_classes, device=device)

    def __call__(self, number: int, u_index: Tensor) -> None:
        """Step `number`, counted from 0.

        Args:
            u_index: the unlabeled images to learn from, positions (U,).
        """
        self._number.fill_(number)
        self._progress.fill_(self.config.progress(number))
        for rate, scale in self._learning_rates:
            rate.fill_(scale * self.config.learning_rate_at(number))
        self._u_index.copy_(u_index)
        if self.captured and self._replay is None and self._num_eager == WARMUP_STEPS:
            self._replay = self._capture(self.run, self.training.streams)
        if self._replay is not None:
            self._replay()
        elif self.captured and self.device.type == "cuda":
            self._run_beside()
        else:
            self.run()
        self._num_eager += self._replay is None
        self.training.totals.steps += 1
        self.training.totals.unlabeled += self._num_pseudo_labels

    def _run_beside(self) -> None:
        # A graph must not depend on work of the default stream, which recording cannot see.
        side, current = side_stream(self.device), torch.cuda.current_stream(self.device)
        side.wait_stream(current)
        with torch.cuda.stream(side):
            self.run()
        current.wait_stream(side)

    # The step ----------------------------------------------------------------------------

    def run(self) -> None:
        """The whole step on whatever the tensors hold."""
        draws = self.draw()
        batch, probe = self.make_batch(draws)
        losses = self.loss(batch)
        self.backward(losses)
        self.update()
        self.average()
        if draws.probe is not None and probe is not None:
            self.learn_rates(probe, batch.y, draws.probe)
        self.count(losses)

    def draw(self) -> Draws:
        """Which labeled images, and how every image is augmented.

        Labeled images are drawn with replacement: with ten of them, the reference's shuffled,
        repeated file is equivalent. Every view starts from its own weak draw.
        """
        training, views, num = self.training, self.training.views, self.config.batch_size
        algorithm, streams = training.algorithm, training.streams
        generator = streams["labeled order"]
        num_labeled = len(self.data.labeled)
        labeled_index = torch.randint(
            num_labeled, (num,), generator=generator, device=self.device
        )  # (B,)
        generator = streams["labeled augmentation"]
        weak = views.draw_weak(num, generator)
        if algorithm.labeled_view == "strong":
            strong = views.draw_strong(num, generator)
        else:
            strong = labeled_index[:0]
        generator = streams["unlabeled augmentation"]
        num_unlabeled = len(self._u_index)
        unlabeled = tuple(views.draw(kind, num_unlabeled, generator) for kind in algorithm.views)
        probe = None
        if views.ctaugment is not None:
            probe = views.ctaugment.draw_probe(num, streams["probes"])
        return Draws(labeled_index, weak, strong, unlabeled, probe)

    def make_batch(self, draws: Draws) -> tuple[Batch, Tensor | None]:
        """Gather and augment."""
        data, algorithm = self.data, self.training.algorithm
        x = data.labeled.images[draws.labeled_index]  # (B, C, H, W) uint8
        y = data.labeled.labels[draws.labeled_index]  # (B,)
        u = data.unlabeled.images[self._u_index]  # (U, C, H, W) uint8
        made = self._augment(
            self.training.views, algorithm.labeled_view, algorithm.views, x, u, draws
        )
        return Batch(x=made.x, y=y, u=made.u, u_index=self._u_index), made.probe

    def loss(self, batch: Batch) -> StepLoss:
        """The forward passes and losses of the algorithm."""
        training = self.training
        context = Context(
            student=training.student,
            teacher=training.teacher,
            progress=self._progress,
            draws=training.algorithm.draw(batch, training.streams["algorithm"]),
        )
        return self._losses(training.algorithm, batch, context, self.config.precision)

    def backward(self, losses: StepLoss) -> None:
        """Gradients of supervised + unsupervised."""
        self.training.optimizer.zero_grad(set_to_none=True)
        (losses.supervised + losses.unsupervised).backward()  # type: ignore[no-untyped-call]

    def update(self) -> None:
        """The optimizer moves the student."""
        self.training.optimizer.step()

    @torch.no_grad()
    def average(self) -> None:
        """The teacher moves after the student: by 1 - decay of their difference, or, if it is the
        mean of the weights of all steps, by 1 / number of steps."""
        if self.config.optimizer == "asgd":
            weight = (1 / (self._number + 1)).to(self._averaged[0].dtype)
            for averaged, trained in zip(self._averaged, self._trained, strict=True):
                averaged.lerp_(trained, weight)
        else:
            torch._foreach_lerp_(self._averaged, self._trained, 1 - self.config.teacher_decay)

    @torch.no_grad()
    def learn_rates(self, probe: Tensor, y: Tensor, draws: CTADraws) -> None:
        """CTAugment updates its rates by the teacher's predictions on the probes."""
        training, policy = self.training, self.training.views.ctaugment
        assert policy is not None
        self._learn_rates(policy, training.teacher, probe, y, draws, self.config.precision)

    @torch.no_grad()
    def count(self, losses: StepLoss) -> None:
        """The sums behind the logs, which stay on the device."""
        truth = self.data.unlabeled.labels[self._u_index]
        self.training.totals.add(losses, truth, self._classes, self._number)
        self._num_pseudo_labels = len(losses.pseudo_label)


# What is compiled: functions of tensors, and of objects that hold nothing else that changes ------


@torch.no_grad()
def augment(
    views: Views, labeled_view: str, kinds: tuple[str, ...], x: Tensor, u: Tensor, draws: Draws
) -> Images:
    """Pixels as stored, (B, C, H, W) and (U, C, H, W) uint8, to what the algorithm asks for."""
    weak = views.weak(x, draws.weak)
    if labeled_view == "weak":
        x = to_float(weak, dtype=views.dtype)
    else:
        x = views.distort(weak, draws.strong)
    probe = None
    if draws.probe is not None and views.ctaugment is not None:
        probe = views.ctaugment(weak, draws.probe)
    views_of_u = tuple(
        views.view(kind, u, of_view) for kind, of_view in zip(kinds, draws.unlabeled, strict=True)
    )
    return Images(x, views_of_u, probe)


def losses_of(algorithm: Algorithm, batch: Batch, context: Context, precision: str) -> StepLoss:
    """The forward passes in the precision of the run, the losses in single at least."""
    with torch.autocast(batch.x.device.type, torch.bfloat16, enabled=precision == "bf16"):
        return algorithm.loss(batch, context)


def learn_rates(
    policy: CTAugment,
    teacher: nn.Module,
    images: Tensor,
    y: Tensor,
    draws: CTADraws,
    precision: str,
) -> None:
    """Move the rates of the operations that distorted these images, by the teacher's probability of
    their class: 1 - |p - y|_1 / 2 of the reference is p_y.

    Args:
        images: probes, uint8 (B, C, H, W); nothing is trained on them.
        y: their classes (B,).
    """
    logits = forward_in(precision, teacher, images)
    probs = at_least_single(logits).softmax(dim=1)  # (B, K)
    policy.update(draws, probs.gather(1, y[:, None]).squeeze(1))


# How it is executed -------------------------------------------------------------------------------


def _as_is(function: F, exact: bool = False) -> F:
    return function


@functools.cache
def compiled(function: F, exact: bool = False) -> F:
    """By torch.compile, for these very shapes, whole or not at all; once per process.

    Args:
        exact: round every operation as written.
    """
    # One process may serve runs of many algorithms, networks and shapes; a program each.
    torch._dynamo.config.recompile_limit = 1000
    torch._dynamo.config.accumulated_recompile_limit = 10_000
    return torch.compile(  # type: ignore[return-value]
        function,
        fullgraph=True,
        dynamic=False,
        options={"emulate_precision_casts": True} if exact else None,
    )


@functools.cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """A stream beside the default one; the same for all runs, since libraries keep memory for each
    stream that they have seen."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def cuda_graph(
    run: Callable[[], None], generators: Iterable[torch.Generator]
) -> Callable[[], None]:
    """Record `run`, which is not executed thereby, as a CUDA graph; returns what replays it.

    Each replay draws on from where the generators are, exactly as an execution would.
    """
    graph, generators = torch.cuda.CUDAGraph(), list(generators)
    for generator in generators:
        graph.register_generator_state(generator)
    device = generators[0].device
    # A stream of torch's own making would be one of whatever device was current at first.
    with torch.cuda.device(device), torch.cuda.graph(graph, stream=side_stream(device)):
        run()
    return graph.replay
