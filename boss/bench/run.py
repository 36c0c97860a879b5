"""One run of the benchmark: prepare everything, measure it in alternation, count the rest."""

import functools
import gc
import json
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from boss.bench.baseline import PREFETCH, Baseline, measure
from boss.bench.clock import (
    MAX_STEPS,
    Sample,
    Spread,
    alternate,
    calls_for,
    sample,
    seconds_per_call,
    synchronize,
)
from boss.bench.dataset import RANDOM, load
from boss.bench.machine import copy_rate, matrix_rate
from boss.bench.scaling import Job, rates
from boss.bench.steps import Trainer, images_of, kernel_seconds, of_precision, with_parts
from boss.data import Dataset
from boss.errors import InputError, choose
from boss.study.run import Run
from boss.training.config import EXECUTIONS
from boss.training.state import TrainingData
from boss.units import num_cores
from boss.workers import cost
from boss.workers.build import check
from boss.workers.runtime import Runtime, commit, configure_torch, device_name, versions

SCHEMA = 1  # of the JSON
PUBLISHED_IMAGES = 2**26  # of FixMatch's trainings: what "runs per hour" counts
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
BASELINE = "torchvision"
COPY, MATRIX = "copy", "matrix"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure; None: whatever suits the device."""

    device: str = "cpu"  # or "cuda:0", "cuda:1" ...
    network: str | None = None  # None: wrn-28-2 on GPUs, wrn-10-1 on CPUs
    batch_size: int | None = None  # None: 64 on GPUs, 16 on CPUs
    unlabeled_ratio: int = 7
    algorithm: str = "fixmatch"
    augmentation: str = "randaugment"
    dataset: str = RANDOM
    data: Path | None = None
    precision: str = "bf16"  # of all steps but the first, which is eager and in single precision
    executions: tuple[str, ...] = ()  # empty: all that the device has; with `quick`, the extremes
    threads: int | None = None  # None: 1 on CPUs, as runs of a study have, all cores on GPUs
    repeats: int | None = None  # None: 15; with `quick` 5
    seconds: float | None = None  # of our steps in a repeat; None: 3; with `quick` 0.5
    quick: bool = False
    scaling: bool = False


def bench(settings: Settings, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Measure, and return all of it as JSON can hold it (`boss.bench.report` prints it).

    Args:
        say: told what is going on, a line at a time.

    Raises:
        InputError: a setting that this machine, or this package, does not have.
    """
    device = torch.device(settings.device)
    gpu = device.type == "cuda"
    modes = _modes(settings, gpu)
    threads = settings.threads or (num_cores() if gpu else 1)
    if settings.data is not None and settings.dataset == RANDOM:
        raise InputError("--data has no effect on random images: name a --dataset")
    if settings.data is not None and settings.dataset == "digits":
        raise InputError("--data has no effect on digits, which come with scikit-learn")
    dataset = load(settings.dataset, settings.data)
    run = _run(settings, dataset, gpu)
    runtime = Runtime(
        results=Path(), study="bench", data=settings.data, device=str(device), threads=threads
    )
    _check(run, dataset, runtime)
    configure_torch(run, runtime)
    result = _measure_all(settings, run, dataset, runtime, modes, say)
    if settings.scaling:
        gc.collect()  # room for the processes to come: trainings hold each other in circles
        if gpu:
            torch.cuda.empty_cache()
        result["scaling"] = _scaling(settings, run, runtime, modes[_last(modes)], say)
    return result


def _measure_all(
    settings: Settings,
    run: Run,
    dataset: Dataset,
    runtime: Runtime,
    modes: dict[str, tuple[str, str]],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """All but "scaling", which is None. Nothing on the device outlives this function."""
    device = torch.device(runtime.device)
    gpu = device.type == "cuda"
    repeats = settings.repeats or (5 if settings.quick else 15)
    seconds = settings.seconds or (0.5 if settings.quick else 3.0)
    images = images_of(run, dataset, device)

    # Ours: one training for each mode, and one more whose parts are timed.
    trainers: dict[str, Trainer] = {}
    peaks: dict[str, int] = {}
    for name, (execution, precision) in modes.items():
        say(f"preparing: {name}")
        trainers[name], peaks[name] = _prepare(
            of_precision(run, precision), dataset, images, device, execution
        )
    in_parts, _ = _prepare(of_precision(run, settings.precision), dataset, images, device, "eager")
    time_parts = with_parts(in_parts)

    measurements: dict[str, Callable[[], Any]] = {}
    num_steps: dict[str, int] = {}
    for name, trainer in trainers.items():
        num_steps[name] = calls_for(trainer, seconds, device)
        measurements[name] = _measured(trainer, num_steps[name], device)
    num_parts = max(2, calls_for(in_parts, seconds / 2, device))
    measurements["parts"] = lambda: time_parts(num_parts)

    # Theirs.
    baseline, trial = None, None
    if (run.algorithm, run.augmentation) == ("fixmatch", "randaugment") and run.unlabeled_ratio:
        say(f"preparing: {BASELINE}")
        baseline, trial = _start_baseline(run, images, dataset.flip, device)
        once = measure(baseline, 2).seconds
        num = num_steps[BASELINE] = max(3, min(MAX_STEPS, round(seconds / once)))
        measurements[BASELINE] = functools.partial(measure, baseline, num)

    # The machine.
    measurements[COPY] = copy_rate(device, 0.1)
    for precision, dtype in DTYPES.items():
        measurements[f"{MATRIX} {precision}"] = matrix_rate(device, dtype, 0.1)

    began = time.perf_counter()
    found = alternate(
        measurements,
        repeats,
        lambda n: say(f"repeat {n + 1} of {repeats} ({time.perf_counter() - began:.0f} s)"),
    )
    if baseline is not None:
        baseline.close()
    kernels = kernel_seconds(trainers[_last(modes)], 10) if gpu else None

    images_seen = cost.passes_per_step(run).forward
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_name(device),
        "kind": device.type,
        "cores": num_cores(),
        "threads": runtime.threads,
        "versions": versions(),
        "commit": commit(),
        "settings": _plain(settings),
        "run": {
            key: getattr(run, key)
            for key in (
                *("dataset", "algorithm", "augmentation", "network"),
                *("batch_size", "unlabeled_ratio"),
            )
        },
        "image_shape": list(_shape(dataset)),
        "steps": {},
        "machine": {},
    }
    for name, (execution, precision) in modes.items():
        result["steps"][name] = {
            "execution": execution,
            "precision": precision,
            "steps_per_repeat": num_steps[name],
            **_times(found[name], images_seen),
            "peak_bytes": peaks[name] if gpu else None,
        }
    medians = {name: result["steps"][name]["milliseconds"]["median"] for name in modes}
    result["fastest"] = min(medians, key=lambda name: medians[name])
    result["parts_of"] = f"eager {settings.precision}"
    result["parts"] = _shares(found["parts"])
    result["kernels"] = kernels
    for name in (COPY, *(f"{MATRIX} {precision}" for precision in DTYPES)):
        result["machine"][name] = Spread.of(found[name]).as_dict(found[name])
    result["baseline"] = None
    if baseline is not None:
        result["baseline"] = {
            "autocast": baseline.autocast,
            "trial_milliseconds": trial,
            "worker_processes": baseline.num_workers,
            "steps_per_repeat": num_steps[BASELINE],
            **_times(found[BASELINE], images_seen),
        }
        result["ratios"] = {name: _ratios(found[name], found[BASELINE]) for name in modes}
    result["counts"] = _counts(run, _shape(dataset), result["machine"])
    num_images = len(dataset.train) + len(dataset.test)
    num_images += 0 if dataset.unlabeled is None else len(dataset.unlabeled)
    result["memory"] = {
        precision: cost.gpu_memory(of_precision(run, precision), _shape(dataset), num_images)
        for precision in DTYPES
    }
    result["scaling"] = None
    return result


def write_json(result: dict[str, Any], path: Path) -> None:
    """The whole result, readable."""
    path.write_text(json.dumps(result, indent=1) + "\n")


def check_writable(path: Path) -> None:
    """Before minutes are spent on it. Leaves nothing behind, and a file that is there as it is.

    Raises:
        InputError: a file cannot be written there.
    """
    target = path.resolve()  # of a link what it points to
    existed = target.exists()
    try:
        with target.open("a"):
            pass
        if not existed:
            target.unlink()
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


# What is measured ---------------------------------------------------------------------------------


def _modes(settings: Settings, gpu: bool) -> dict[str, tuple[str, str]]:
    """By name: execution and precision. The first is eager and in single precision."""
    choose(settings.precision, DTYPES, what="precision")
    available = [e for e in EXECUTIONS if gpu or not e.endswith("graph")]
    for name in settings.executions:
        choose(name, dict.fromkeys(EXECUTIONS), what="--step")
        if name not in available:
            raise InputError(
                f"--step {name} needs a CUDA device: choose from {', '.join(available)}"
            )
    # Compiling takes longer than all the rest of a quick run.
    quick = ["eager", "graph"] if gpu else ["eager"]
    wanted = settings.executions or tuple(quick if settings.quick else available)
    modes = {"eager fp32": ("eager", "fp32")}
    modes |= {f"{e} {settings.precision}": (e, settings.precision) for e in wanted}
    return modes


def _last(modes: dict[str, tuple[str, str]]) -> str:
    """The mode that users would run: the last one asked for."""
    return list(modes)[-1]


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
        num_images=PUBLISHED_IMAGES,
        num_evaluations=1,
    )


def _check(run: Run, dataset: Dataset, runtime: Runtime) -> None:
    """As a study's runs are checked; random images have no loader of their own."""
    if run.dataset == RANDOM:
        check([replace(run, dataset="digits")], runtime)
    else:
        check([run], runtime)


def _shape(dataset: Dataset) -> tuple[int, int, int]:
    """Channels, pixels along a side, classes."""
    return dataset.train.images.shape[1], dataset.train.images.shape[-1], dataset.num_classes


def _prepare(
    run: Run, dataset: Dataset, images: TrainingData, device: torch.device, execution: str
) -> tuple[Trainer, int]:
    """A training that has made some steps, and the bytes that it had at most on a GPU.

    Raises:
        InputError: there is not enough memory for it.
    """
    try:
        return _started(run, dataset, images, device, execution)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
            raise
        raise InputError(
            f"not enough memory on {device} for network {run.network} with batch size"
            f" {run.batch_size} and unlabeled ratio {run.unlabeled_ratio}"
        ) from None


def _started(
    run: Run, dataset: Dataset, images: TrainingData, device: torch.device, execution: str
) -> tuple[Trainer, int]:
    before = 0
    if device.type == "cuda":
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    trainer = Trainer(run, dataset, images, device, execution)
    trainer.warm_up()
    if device.type != "cuda":
        return trainer, 0
    synchronize(device)
    return trainer, torch.cuda.max_memory_allocated(device) - before


def _measured(trainer: Trainer, num: int, device: torch.device) -> Callable[[], Sample]:
    return lambda: sample(trainer, num, device)


# The baseline -------------------------------------------------------------------------------------


def _start_baseline(
    run: Run, images: TrainingData, flip: bool, device: torch.device
) -> tuple[Baseline, dict[str, float] | None]:
    """With as many workers as cores; on a CPU with autocast only if that is faster there.

    Returns:
        On a CPU also the milliseconds of a step on a batch that is there, by which it was chosen.
    """
    workers = num_cores()
    shared = Path("/dev/shm")
    if shared.exists():  # where workers hand over batches
        view = images.unlabeled.images[0].numel() * 4
        size = 2 * view * run.batch_size * run.unlabeled_ratio
        workers = max(1, min(workers, shutil.disk_usage(shared).free // (2 * size * PREFETCH)))

    def make(autocast: bool, num_workers: int) -> Baseline:
        return Baseline(
            run, images, flip=flip, device=device, num_workers=num_workers, autocast=autocast
        )

    if device.type == "cuda":
        return make(True, workers), None
    rivals = {"fp32": make(False, 0), "autocast": make(True, 0)}
    [batch] = rivals["fp32"].batches(1)
    calls = {
        name: functools.partial(seconds_per_call, functools.partial(b.learn, batch), 1, device)
        for name, b in rivals.items()
    }
    alternate(calls, 1)
    found = alternate(calls, 3)
    trial = {name: 1e3 * min(seconds) for name, seconds in found.items()}
    return make(trial["autocast"] < trial["fp32"], workers), trial


# What is made of it -------------------------------------------------------------------------------


def _times(samples: Sequence[Sample], num_images: int) -> dict[str, Any]:
    """Of a kind of step. num_images: that pass through the network in one."""
    wall = [1e3 * s.seconds for s in samples]
    processor = [1e3 * s.processor_seconds for s in samples]
    waiting = statistics.median(s.waiting_seconds / s.seconds for s in samples)
    return {
        "milliseconds": Spread.of(wall).as_dict(wall),
        "processor_milliseconds": Spread.of(processor).as_dict(processor),
        "images_per_second": 1e3 * num_images / statistics.median(wall),
        "waiting_share": waiting,
    }


def _ratios(ours: Sequence[Sample], theirs: Sequence[Sample]) -> dict[str, Any]:
    """How many times as many steps we make, by pairs of the same repeat."""
    wall = [b.seconds / a.seconds for a, b in zip(ours, theirs, strict=True)]
    processor = [
        b.processor_seconds / a.processor_seconds for a, b in zip(ours, theirs, strict=True)
    ]
    return {
        "steps_per_second": Spread.of(wall).as_dict(wall),
        "steps_per_processor_second": Spread.of(processor).as_dict(processor),
    }


def _shares(parts: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Milliseconds and share of each part."""
    return {
        part: {
            "milliseconds": Spread.of([1e3 * p[part] for p in parts])._asdict(),
            "share": statistics.median(p[part] / p["whole"] for p in parts),
        }
        for part in parts[0]
    }


def _counts(
    run: Run, shape: tuple[int, int, int], machine: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """What a step has to compute and to move, and the time that takes at the measured rates."""
    passes = cost.passes_per_step(run)
    work = cost.step_multiply_adds(run.network, shape, passes)
    precisions = {}
    for precision in DTYPES:
        value = cost.VALUE_BYTES[precision]
        moved = cost.step_bytes(run.network, shape, passes, value)
        compute = 2e3 * sum(work.values()) / machine[f"{MATRIX} {precision}"]["median"]
        memory = 1e3 * sum(moved.values()) / machine[COPY]["median"]
        precisions[precision] = {
            "bytes": moved,
            "compute_floor_milliseconds": compute,
            "memory_floor_milliseconds": memory,
            "floor_milliseconds": max(compute, memory),
        }
    return {"images": passes._asdict(), "multiply_adds": work, "precisions": precisions}


def _scaling(
    settings: Settings,
    run: Run,
    runtime: Runtime,
    mode: tuple[str, str],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Steps per second against batch, unlabeled ratio, width and number of processes."""
    execution, precision = mode
    run = of_precision(run, precision)
    seconds = 1.0 if settings.quick else 5.0
    depth, width = run.network.split("-")[1:]
    changes: list[dict[str, Any]] = [{}]
    changes += [{"batch_size": run.batch_size * factor} for factor in (2, 4)]
    if run.unlabeled_ratio:
        ratios = [ratio for ratio in (1, 3, 7, 14) if ratio != run.unlabeled_ratio]
        changes += [{"unlabeled_ratio": ratio} for ratio in ratios]
    changes += [{"network": f"wrn-{depth}-{int(width) * factor}"} for factor in (2, 4)]
    gpu = runtime.device != "cpu"
    cores = num_cores()
    most = 8 if gpu else max(1, cores // runtime.threads)
    some = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, most}
    numbers = sorted(num for num in some if num <= most)
    jobs: dict[str, list[Job]] = {}
    points: dict[str, dict[str, Any]] = {}
    for change in changes:
        changed, name = replace(run, **change), _spell(change)
        jobs[name] = [Job(changed, runtime, execution, seconds)]
        points[name] = {
            key: getattr(changed, key) for key in ("network", "batch_size", "unlabeled_ratio")
        }
        points[name] |= {
            "threads": runtime.threads,
            "images": cost.passes_per_step(changed).forward,
        }
    processes: dict[str, dict[str, Any]] = {}
    for num in numbers:
        name = f"{num} processes"
        threads = max(1, cores // num) if gpu else runtime.threads
        jobs[name] = [Job(run, replace(runtime, threads=threads), execution, seconds)] * num
        processes[name] = {"processes": num, "threads": threads}

    errors: dict[str, str] = {}

    def measured(name: str) -> Callable[[], float]:
        def together() -> float:
            if name in errors:  # as it would again
                return 0.0
            say(f"scaling: {name}")
            found, error = rates(jobs[name])
            if error:
                errors[name] = error
            return sum(found)

        return together

    found = alternate({name: measured(name) for name in jobs}, 1 if settings.quick else 3)

    def spread(name: str, of: Callable[[float], float]) -> dict[str, Any] | None:
        if name in errors:
            return None
        values = [of(value) for value in found[name]]
        return Spread.of(values).as_dict(values)

    for name, point in points.items():
        point["milliseconds"] = spread(name, lambda rate: 1e3 / rate)
        point["error"] = errors.get(name)
    for name, point in processes.items():
        point["steps_per_second"] = spread(name, lambda rate: rate)
        point["runs_per_hour"] = spread(name, lambda rate: 3600 * rate / run.num_steps)
        point["error"] = errors.get(name)
    return {
        "execution": execution,
        "precision": precision,
        "points": list(points.values()),
        "processes": list(processes.values()),
    }


def _spell(change: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in change.items()) or "as it is"


def _plain(settings: Settings) -> dict[str, Any]:
    """As JSON can hold it, without the reader's folders."""
    fields = asdict(settings)
    return fields | {"data": None if settings.data is None else settings.data.name}
