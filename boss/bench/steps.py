"""Our own training steps, prepared to be timed: whole, by parts, and by kernels."""

import re
from collections.abc import Callable
from dataclasses import replace

import torch

from boss.bench.clock import PartTimer, synchronize
from boss.data import Dataset
from boss.data.label_sets import resolve
from boss.seeds import EpochOrder
from boss.study.run import Run
from boss.training.state import TrainingData
from boss.training.step import Step
from boss.workers.build import start_run, train_config, training_data
from boss.workers.worker import NUM_FIRST_STEPS

# The methods of a step (`boss.training.step.Step.run`), by the part that their time is counted in.
PARTS = {
    "draw": "augmentation",
    "make_batch": "augmentation",
    "loss": "forward",
    "backward": "backward",
    "update": "update",
    "average": "averaging",
    "learn_rates": "probes",
    "count": "sums",
}

# What kernels on a GPU do, by their names; the first that fits.
KERNELS = (
    ("copies", r"memcpy|memset|copy_kernel|copy_device"),
    ("compiled", r"^triton_"),
    ("norms", r"batch_?norm|bn_|_bn|welford"),
    ("convolutions", r"conv|wgrad|dgrad|fprop|xmma|implicit|cutlass|gemm|nchw|nhwc"),
    ("updates", r"multi_tensor|foreach|fused_sgd|fused_adam"),
    ("sums", r"reduce"),
    ("by value", r"elementwise|vectorized"),
)


class Trainer:
    """A training that makes one step per call, as the loop of `boss.train` does between
    evaluations: the order of the unlabeled images is drawn, too.

    Args:
        execution: one of `boss.training.config.EXECUTIONS`.
    """

    def __init__(
        self, run: Run, dataset: Dataset, images: TrainingData, device: torch.device, execution: str
    ) -> None:
        self.training = start_run(run, dataset, device)
        self.step = Step(self.training, images, train_config(run), execution)
        num = run.unlabeled_ratio * run.batch_size
        self._order = EpochOrder(len(images.unlabeled), num, "bench", device=device)

    def __call__(self) -> None:
        number = self.training.step
        self.step(number, self._order[number])
        self.training.step += 1

    def warm_up(self) -> None:
        """The first steps, which load, compile and record."""
        for _ in range(NUM_FIRST_STEPS + 2 if self.step.device.type == "cuda" else 1):
            self()


def images_of(run: Run, dataset: Dataset, device: torch.device) -> TrainingData:
    """Labeled, unlabeled and test images on the device."""
    return training_data(run, dataset, resolve(run.label_set, dataset), device)


def with_parts(trainer: Trainer) -> Callable[[int], dict[str, float]]:
    """Put timers around the methods of a step that is neither recorded nor to be timed as a whole.

    Returns:
        A function that makes some steps and returns seconds per step by part, "rest" (the order of
        the images, Python) and "whole".
    """
    step = trainer.step
    timer = PartTimer(step.device)
    for method, part in PARTS.items():
        setattr(step, method, timer.wrap(part, getattr(step, method)))
    whole = timer.wrap("whole", trainer)

    def measure(num_steps: int) -> dict[str, float]:
        timer.take()  # what was spent in steps that nobody measured
        for _ in range(num_steps):
            whole()
        seconds = {part: value / num_steps for part, value in timer.take().items()}
        parts = sum(value for part, value in seconds.items() if part != "whole")
        return seconds | {"rest": seconds["whole"] - parts}

    return measure


def kind_of_kernel(name: str) -> str:
    """What a kernel of this name does: one of `KERNELS`, or "others".

    >>> kind_of_kernel("sm90_xmma_wgrad_implicit_gemm_bf16"), kind_of_kernel("triton_red_fused_3")
    ('convolutions', 'compiled')
    """
    for kind, pattern in KERNELS:
        if re.search(pattern, name, re.IGNORECASE):
            return kind
    return "others"


def kernel_seconds(trainer: Trainer, num_steps: int) -> dict[str, float]:
    """Seconds per step that a GPU spends in kernels, by kind, from a trace of torch's profiler.

    What is missing to the time of the step is the device waiting for launches.
    """
    device = trainer.step.device
    synchronize(device)
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(num_steps):
            trainer()
        synchronize(device)
    seconds: dict[str, float] = {}
    for event in profile.events():
        if event.device_type.name == "CUDA" and not event.is_user_annotation:
            kind = kind_of_kernel(event.name)
            spent = event.time_range.elapsed_us() / 1e6 / num_steps
            seconds[kind] = seconds.get(kind, 0.0) + spent
    return seconds


def of_precision(run: Run, precision: str) -> Run:
    """The same run in another precision."""
    return replace(run, precision=precision)
