"""Time training steps in interleaved rounds: ours in every execution, and the baseline.

A round measures every candidate once. The machine may be busy for a while, but then it is busy for
all candidates of a round: ratios are taken within rounds.
"""

import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from boss import data
from boss.bench.baseline import Baseline
from boss.data import Dataset, ImageSet
from boss.data.label_sets import resolve
from boss.errors import InputError, choose
from boss.seeds import EpochOrder, stream
from boss.study.run import Run
from boss.training.config import EXECUTIONS
from boss.training.state import TrainingData
from boss.training.step import WARMUP_STEPS, Step
from boss.units import num_cores
from boss.workers.build import check, start_run, train_config, training_data
from boss.workers.runtime import Runtime, commit, configure_torch, device_name, versions

RANDOM = "random"  # uniform random pixels: a step takes as long on any images
REFERENCE, BASELINE = "eager fp32", "torchvision"
PRECISIONS = ("bf16", "fp32")
MAX_STEPS = 500  # of a candidate in a round

# The kinds of operations in the passes, by how torch's profiler names them, the first that fits.
OPERATIONS = {
    "convolution": ("conv",),
    "pooling": ("pool", "amax"),
    "batch norm": ("batch_norm",),
    "activation": ("gelu", "leaky_relu", "relu", "threshold"),
}

# The methods of a step, and the part that their time counts as.
PARTS = {
    "draw": "draw and augment",
    "make_batch": "draw and augment",
    "loss": "forward and loss",
    "backward": "backward",
    "update": "update",
    "average": "average",
    "learn_rates": "learn rates of CTAugment",
    "count": "sums for the log",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure; None: the default of the device."""

    device: str = "auto"  # or "cpu", "cuda", "cuda:1"
    network: str | None = None  # None: wrn-28-2 on GPUs, wrn-10-1 on CPUs
    batch_size: int | None = None  # None: 64 on GPUs, 16 on CPUs
    unlabeled_ratio: int = 7
    algorithm: str = "fixmatch"
    augmentation: str = "randaugment"
    dataset: str = RANDOM
    data: Path | None = None
    precision: str = "bf16"  # of all candidates but the reference, which is eager fp32
    executions: tuple[str, ...] = ()  # empty: all that the device has; quick: those that start fast
    threads: int | None = None  # None: 1 on CPUs, as runs of a study have; all cores on GPUs
    repeats: int | None = None  # rounds; None: 15, quick: 5
    quick: bool = False


class Trainer:
    """A training that makes its next step at each call."""

    def __init__(self, run: Run, dataset: Dataset, images: TrainingData, execution: str) -> None:
        self.device = images.labeled.images.device
        self.training = start_run(run, dataset, self.device)
        self.step = Step(self.training, images, train_config(run), execution)
        num_unlabeled = run.unlabeled_ratio * run.batch_size
        self.order = EpochOrder(len(images.unlabeled), num_unlabeled, "bench", device=self.device)

    def __call__(self) -> None:
        number = self.training.step
        self.step(number, self.order[number])
        self.training.step += 1

    def measure(self, num_steps: int, threads: int) -> float:
        """Seconds per step."""
        timer = Timer("step()", globals={"step": self}, num_threads=threads)
        return float(timer.timeit(num_steps).mean)


def bench(settings: Settings, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Measure, and return everything as JSON can hold it.

    Args:
        say: called with a line of progress.

    Raises:
        InputError: a setting that is unknown, unavailable here, or without effect.
    """
    device = _device(settings.device)
    gpu = device.type == "cuda"
    candidates = _candidates(settings, gpu)
    no_files = settings.dataset in (RANDOM, "digits") or data.is_own(settings.dataset)
    if settings.data is not None and no_files:
        raise InputError(f"--data has no effect with --dataset {settings.dataset}")
    dataset = _load(settings)
    run = _run(settings, dataset, gpu)
    threads = settings.threads or (num_cores() if gpu else 1)
    runtime = Runtime(
        results=Path(), study="bench", data=settings.data, device=str(device), threads=threads
    )
    if settings.dataset != RANDOM:
        check([run], runtime)
    configure_torch(run, runtime)
    images = training_data(run, dataset, resolve(run.label_set, dataset), device)

    measured: dict[str, Any] = {}
    for name, (execution, precision) in candidates.items():
        say(f"preparing: {name}")
        measured[name] = _started(replace(run, precision=precision), dataset, images, execution)
    eager = _started(run, dataset, images, "eager")
    images_per_step = run.batch_size * (
        1 + len(eager.training.algorithm.views) * run.unlabeled_ratio
    )
    if (run.algorithm, run.augmentation) == ("fixmatch", "randaugment"):
        say(f"preparing: {BASELINE}")
        candidates[BASELINE] = ("eager", run.precision)
        measured[BASELINE] = Baseline(
            run, eager.training, images, flip=dataset.flip, num_workers=num_cores()
        )
    seconds = _interleaved(measured, settings, threads, say)
    with FlopCounterMode(display=False) as counter:
        eager()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_name(device),
        "cores": num_cores(),
        "threads": threads,
        "versions": versions(),
        "commit": commit(),
        "settings": _settings_of(settings, run),
        "image_shape": list(dataset.train.images.shape[1:]),
        "images_per_step": images_per_step,
        "flops_per_step": counter.get_total_flops(),
        "steps": {
            name: {
                "execution": execution,
                "precision": precision,
                "milliseconds": spread([1e3 * s for s in seconds[name]]),
                "images_per_second": images_per_step / statistics.median(seconds[name]),
                **{
                    f"speed_relative_to_{other.replace(' ', '_')}": ratios(
                        seconds[other], seconds[name]
                    )
                    for other in (REFERENCE, BASELINE)
                    if other in seconds
                },
            }
            for name, (execution, precision) in candidates.items()
        },
        "parts_of": f"eager {run.precision}",
        "parts": shares_of_parts(eager, 3 if settings.quick else 20),
        "operations": shares_of_operations(eager, 3 if settings.quick else 20),
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, quartiles and all values, in the order of the rounds.

    >>> {k: v for k, v in spread([1.0, 2.0, 3.0, 4.0, 5.0]).items() if k != "rounds"}
    {'median': 3.0, 'lower': 2.0, 'upper': 4.0, 'n': 5}
    """
    lower, median, upper = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * [*values]
    )
    found = {"median": median, "lower": lower, "upper": upper}
    return found | {"n": len(values), "rounds": list(values)}


def ratios(slow: Sequence[float], fast: Sequence[float]) -> dict[str, Any]:
    """How many times as fast, within each round."""
    return spread([a / b for a, b in zip(slow, fast, strict=True)])


def shares_of_parts(trainer: Trainer, num_steps: int) -> dict[str, float]:
    """Share of the time of an eager step, by part; "rest" is the order of the images and Python.

    Changes the trainer: on a GPU each part then waits for the device, so that its time is its own.
    """

    def named(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any) -> Any:
            with record_function(part):
                result = function(*arguments)
                if trainer.device.type == "cuda":
                    torch.cuda.synchronize(trainer.device)
                return result

        return call

    for method, part in PARTS.items():
        setattr(trainer.step, method, named(part, getattr(trainer.step, method)))
    step = named("whole step", trainer)
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        for _ in range(num_steps):
            step()
    times = {event.key: event.cpu_time_total for event in trace.key_averages()}
    whole = times["whole step"]
    shares = {part: times[part] / whole for part in PARTS.values() if part in times}
    return shares | {"rest": 1 - sum(shares.values())}


def shares_of_operations(trainer: Trainer, num_steps: int) -> dict[str, float]:
    """Share of the processor time of an eager step, by `OPERATIONS`; on a CPU only.

    "other" is all else: augmentation, losses, optimizer, average, copies and Python.
    """
    if trainer.device.type != "cpu":
        return {}
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        for _ in range(num_steps):
            trainer()
    found = dict.fromkeys([*OPERATIONS, "other"], 0.0)
    for event in trace.key_averages():
        names = (kind for kind, texts in OPERATIONS.items() if any(t in event.key for t in texts))
        found[next(names, "other")] += event.self_cpu_time_total
    total = sum(found.values())
    return {kind: time / total for kind, time in found.items()}


# What is measured ---------------------------------------------------------------------------------


def _device(name: str) -> torch.device:
    available = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if name == "auto":
        return torch.device(available[0] if available else "cpu")
    if name == "cuda" and available:
        return torch.device(available[0])
    if name not in (*available, "cpu"):
        choices = ", ".join([*available, "cpu"])
        raise InputError(f"--device {name}: there is no such device here, choose from {choices}")
    return torch.device(name)


def _candidates(settings: Settings, gpu: bool) -> dict[str, tuple[str, str]]:
    """Execution and precision of our steps, by name; the reference comes first."""
    choose(settings.precision, dict.fromkeys(PRECISIONS), what="precision")
    available = [name for name in EXECUTIONS if gpu or "graph" not in name]
    for name in settings.executions:
        choose(name, dict.fromkeys(EXECUTIONS), what="execution")
        if name not in available:
            raise InputError(
                f"execution {name} needs a CUDA device: choose from {', '.join(available)}"
            )
    # Compiling takes longer than everything else in a quick run.
    quick = [name for name in available if "compiled" not in name]
    wanted = settings.executions or tuple(quick if settings.quick else available)
    named = {f"{name} {settings.precision}": (name, settings.precision) for name in wanted}
    return {REFERENCE: ("eager", "fp32")} | named


def _load(settings: Settings) -> Dataset:
    if settings.dataset != RANDOM:
        return data.load(settings.dataset, settings.data)
    shape = (10_000, 3, 32, 32)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=stream("random images"))
    names = tuple(str(k) for k in range(10))
    train = ImageSet(images, torch.arange(len(images)) % len(names), names)
    return Dataset(name=RANDOM, train=train, test=train.subset(range(100)), flip=True)


def _run(settings: Settings, dataset: Dataset, gpu: bool) -> Run:
    return Run(
        dataset=settings.dataset,
        algorithm=settings.algorithm,
        augmentation=settings.augmentation,
        label_set=f"fixmatch:0@{dataset.num_classes}",
        repeat=0,
        network=settings.network or ("wrn-28-2" if gpu else "wrn-10-1"),
        batch_size=settings.batch_size or (64 if gpu else 16),
        unlabeled_ratio=settings.unlabeled_ratio,
        precision=settings.precision,
        num_images=2**26,
        num_evaluations=1,
    )


def _started(run: Run, dataset: Dataset, images: TrainingData, execution: str) -> Trainer:
    """A training past its first steps, which load, compile and record.

    Raises:
        InputError: there is not enough memory for it.
    """
    try:
        trainer = Trainer(run, dataset, images, execution)
        for _ in range(WARMUP_STEPS + 2 if trainer.device.type == "cuda" else 1):
            trainer()
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
            raise
        raise InputError(
            f"not enough memory on {images.labeled.images.device} for network {run.network} with"
            f" batch size {run.batch_size} and unlabeled ratio {run.unlabeled_ratio}"
        ) from None
    return trainer


def _interleaved(
    measured: dict[str, Any], settings: Settings, threads: int, say: Callable[[str], None]
) -> dict[str, list[float]]:
    """Seconds per step of every candidate, by round; every other round goes backwards."""
    seconds = 0.5 if settings.quick else 3.0  # of a candidate in a round, about
    num_steps = {
        name: max(2, min(MAX_STEPS, round(seconds / candidate.measure(2, threads))))
        for name, candidate in measured.items()
    }
    found: dict[str, list[float]] = {name: [] for name in measured}
    rounds = settings.repeats or (5 if settings.quick else 15)
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for name in list(measured)[:: -1 if number % 2 else 1]:
            found[name].append(measured[name].measure(num_steps[name], threads))
    return found


def _settings_of(settings: Settings, run: Run) -> dict[str, Any]:
    """With the defaults filled in."""
    filled = asdict(settings) | {key: getattr(run, key) for key in ("network", "batch_size")}
    return {key: str(v) if isinstance(v, Path) else v for key, v in filled.items()}
